"""docs/reproduction.md, from outcomes: each claim, the paper's figure, ours, the verdict, seconds, the command."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence

from pairwright.evaluate.result import Metric
from pairwright.reproduce.claim import Claim, Outcome, Verdict

ABOUT = (
    "The papers' headline tables need models of 7 to 9 billion parameters and a judge behind a network. Their claims "
    "can be tested where every quantity is known. `holds` means that every part of the claim was found, `does not "
    "hold` that one was found to be otherwise, `not identified` that what was done cannot tell. Brackets are 95% "
    "intervals over seeds; a number without them is exact. Seconds are those of one run on one core, and say no more "
    "than the order of size: where the machine had other work to do, they are longer.",
    "The language models are small Llamas trained on the spot, in a world where every answer can be marked exactly. "
    "Every arm of a comparison has the same base, the same pairs, the same number of steps and the same budget of "
    "tuning (learning rate, strength of the loss, likelihood term, label smoothing) on validation instructions. Every "
    "seed has a base, pairs and an order of its own, and numbers are tuned with other ones (what had been seen before, "
    "and when, is in docs/log.md); all are asked the same test instructions, and intervals are over seeds and "
    "instructions. Trainings that two claims share "
    "are done once and kept in the store, so that a whole run takes less than its claims one by one: the seconds of a "
    "claim are those of all of its trainings.",
)
"""What a reader should know before the verdicts."""
FIRST_LOOK = (
    "Where the command says `--quick` this is a first look: three seeds unless told otherwise, one base model for all "
    "of them, a third of the steps, two tries of tuning, smaller worlds. It can miss what a whole run tells, and where "
    "the two differ the whole run is right."
)
"""The same of a quick run."""
_HEAD = """# Reproduction

This page is written, with `reproduction.html` beside it, which has the drawings too, by

    pairwright reproduce -o runs/reproduction
"""
WORLDS = {"tabular": "In a table of answers", "tree": "In trees of tokens", "language": "In language models"}
_MANY: dict[Verdict, str] = {"holds": "hold", "does not hold": "do not hold", "not identified": "are not identified"}
_ROWS = 24
"""Rows of a table that the page shows."""


def page(found: Mapping[str, tuple[Outcome, str]], claims: Mapping[str, Claim], *, says: Sequence[str] = ABOUT) -> str:
    """The page as text.

    Args:
        found: outcomes with the commands that give them, by claim.
        claims: every claim, in the order of the page; one without an outcome is named as not checked.
        says: paragraphs before the verdicts.
    """
    about = [line for text in says for line in ("", *textwrap.wrap(text, 120))]
    lines = [_HEAD.rstrip(), *about, "", summary(found, claims)]
    for world, title in WORLDS.items():
        lines += [
            "",
            f"**{title}**",
            "",
            "| claim | verdict | the number that decides first | seconds |",
            "|---|---|---|---|",
        ]
        lines += [_line(name, found.get(name)) for name, claim in claims.items() if claim.world == world]
    for name, claim in claims.items():
        lines += ["", *_section(claim, found.get(name))]
    return "\n".join(lines) + "\n"


def summary(found: Mapping[str, tuple[Outcome, str]], claims: Mapping[str, Claim]) -> str:
    """`74 claims: 42 hold, 17 do not hold, 15 are not identified.`"""
    counts = Counter(outcome.verdict for outcome, _ in found.values())
    parts = [f"{counts[verdict]} {plural}" for verdict, plural in _MANY.items() if counts[verdict]]
    if missing := len(claims) - len(found):
        parts.append(f"{missing} are not checked")
    return f"{len(claims)} claims: {', '.join(parts)}."


def _line(name: str, found: tuple[Outcome, str] | None) -> str:
    if found is None:
        return f"| [{name}](#{name}) | not checked | - | - |"
    outcome, _ = found
    first = "-" if not outcome.metrics else f"{outcome.metrics[0].name} {shown(outcome.metrics[0])}"
    seconds = "-" if outcome.seconds is None else f"{outcome.seconds:.1f}"
    return f"| [{name}](#{name}) | {outcome.verdict} | {_cell(first)} | {seconds} |"


def _section(claim: Claim, found: tuple[Outcome, str] | None) -> list[str]:
    lines = [f"## {claim.name}", "", claim.says, ""]
    lines += [f"- World: {claim.world}. Source: {claim.source}.", f"- The paper: {claim.paper}"]
    if found is None:
        return [*lines, "- Ours: not checked."]
    outcome, command = found
    lines += [f"- Ours: **{outcome.verdict}**. {outcome.says}"]
    lines += [f"- Command: `{command}`" + (f" ({outcome.seconds:.1f} s)" if outcome.seconds is not None else "")]
    lines += ["", "| number | value | n | what it is |", "|---|---|---|---|"]
    lines += [
        f"| {metric.name} | {shown(metric)} | {metric.n:,} | {_cell(metric.says)} |" for metric in outcome.metrics
    ]
    return lines + (_table(outcome) if claim.world == "language" else [])


def _table(outcome: Outcome) -> list[str]:
    """The numbers behind a claim about arms, as far as they fit on a page."""
    if not outcome.table:
        return []
    columns = list(dict.fromkeys(name for row in outcome.table for name in row))
    lines = ["", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in outcome.table[:_ROWS]:
        lines.append("| " + " | ".join(_value(row.get(name)) for name in columns) + " |")
    rest = len(outcome.table) - _ROWS
    return lines if rest <= 0 else [*lines, "", f"{rest} more rows are in the outcome's file."]


def _value(value: object) -> str:
    if value is None:
        return "-"
    return _cell(f"{value:.4g}" if isinstance(value, float) else str(value))


def shown(metric: Metric) -> str:
    """A number with its interval where it has one."""
    if metric.value is None:
        return "-"
    if metric.low is None or metric.high is None:
        return f"{metric.value:.3g}"
    return f"{metric.value:.3g} [{metric.low:.3g}, {metric.high:.3g}]"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
