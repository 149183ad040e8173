"""The pages of docs/losses/: one for each loss, drawn from its docstring, its signature and what it says it uses."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from docstrings import Anatomy, anatomy, flat, is_formula
from loss_examples import call_lines, printed, recipe_lines, train_lines
from loss_figures import figure_of, fixed

from pairwright.cli.lists import asked_in_words, rows_of
from pairwright.losses import LOSSES, asks
from pairwright.losses.divergences import DIVERGENCES
from pairwright.losses.weightings import WEIGHTINGS
from pairwright.plug import settings_of, source
from pairwright.train.losses import kinds_of

Loss = Callable[..., Any]

NEEDS = {
    "ref": "`ref`: a reference, which is a frozen model, or columns of its log-probabilities",
    "length": "`length`: the number of tokens of each answer",
    "score": "`score`: a score of every answer",
    "scores": "`scores`: the named scores of every answer",
    "token_logp": "`token_logp`: the log-probability of each token",
    "token_ref": "`token_ref`: the same of the reference, which is therefore run at each step",
    "token_collision": "`token_collision`: how likely the policy is to say one token twice, at each token; the trainer "
    "computes it",
    "anchor": "`anchor`: pairs that ask for a goal (`relabel` them)",
}
KL = "an estimate of the KL between policy and reference, which the trainer makes of answers to other prompts"
BASELINES = {
    "mismatched_kl": f"a baseline: {KL}; without one it is 0",
    "running_mean": "a baseline: the running mean of implicit rewards, which the trainer keeps; without one it is 0",
}
RECORDS = {
    "pairs": "pairs",
    "groups": "groups of scored answers to one prompt (`examples: groups`)",
    "responses": "single answers, each wanted or unwanted (`examples: responses`)",
}


def loss_page(name: str) -> str:
    """The page of one loss.

    Args:
        name: of `LOSSES`.

    Raises:
        Fault: its docstring lacks a part.
    """
    loss = LOSSES[name]
    parts = anatomy(name, loss)
    lines = [
        f"# {name}",
        "",
        *_top(parts, name),
        f"![Loss and gradient of {name} along: {figure_of(name).move.along}]({name}.svg)",
        "",
        _caption(name),
        "",
        *_told(parts, name, "##"),
        "## What it needs",
        "",
        *_needs(loss),
        "",
        *_settings(loss, parts, "##"),
        "## What it gives",
        "",
        _gives(parts),
        "",
        "## Use it",
        "",
        "In a recipe:",
        "",
        "```yaml",
        *recipe_lines(name),
        "```",
        "",
        "In Python:",
        "",
        "```python",
        *train_lines(name),
        "```",
        "",
        "By itself, in any trainer; what is printed stands beside it:",
        "",
        "```python",
        *printed(call_lines(name)),
        "```",
        "",
        "## Source",
        "",
        source(loss),
        "",
        f"Written by `make docs` from the docstring of `{name}` in `{loss.__module__}`; change that, not this page.",
    ]
    return "\n".join(lines) + "\n"


def plugs_page(title: str, opening: str, table: Mapping[str, Loss], *, figure: str | None = None) -> str:
    """One page for the plugs of a small table, each with its parts."""
    lines = [f"# {title}", "", opening.strip(), ""]
    if figure:
        lines += [figure, ""]
    for name, plug in table.items():
        parts = anatomy(name, plug)
        needs = [name for name in NEEDS if name in asks(plug).needs]
        lines += [f"## {name}", "", *_top(parts, name), *_told(parts, name, "###")]
        if needs:
            lines += ["### What it needs", "", *(f"- {NEEDS[need]}" for need in needs), ""]
        lines += [*_settings(plug, parts, "###"), f"Source: {source(plug)}", ""]
    module = next(iter(table.values())).__module__
    lines.append(f"Written by `make docs` from the docstrings in `{module}`; change those, not this page.")
    return "\n".join(lines) + "\n"


def table_of_losses() -> str:
    """All losses in one table: name, what it does, what it needs, what it takes, source."""
    lines = ["| loss | what it does | needs | takes | source |", "|---|---|---|---|---|"]
    for row in rows_of("losses"):
        name, needs = row["name"], ", ".join(asked_in_words(row)) or "nothing"
        cells = (f"[`{name}`]({name}.md)", row["says"], needs, ", ".join(row["takes"]), row["source"])
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _begun(text: str) -> str:
    """The text with a capital letter, unless it begins with a symbol, such as `u = 0`."""
    return text[0].upper() + text[1:] if re.match(r"(a|[a-z]{2,})\b(?! (=|->))", text) else text


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def page_of(name: str) -> str | None:
    """The page where a loss, a divergence or a weighting stands; None where it is none of these."""
    pages = {f"{name}.md": LOSSES, f"divergences.md#{name}": DIVERGENCES, f"weightings.md#{name}": WEIGHTINGS}
    return next((page for page, table in pages.items() if name in table), None)


def _linked(text: str, own: str) -> str:
    """The text, in which each other loss, divergence or weighting leads to its page."""

    def link(match: re.Match[str]) -> str:
        page = None if match[1] == own else page_of(match[1])
        return f"[{match[0]}]({page})" if page else match[0]

    return re.sub(r"`(\w+)`", link, text)


def _top(parts: Anatomy, own: str) -> Iterator[str]:
    yield from (_linked(parts.summary, own), "")
    for block in parts.body:
        if is_formula(block):
            yield from ("```text", *(line.removeprefix("    ") for line in block.splitlines()), "```", "")
        else:
            yield from (_linked(flat(block), own), "")


def _told(parts: Anatomy, own: str, level: str) -> Iterator[str]:
    for title, text in (("Limits", parts.limits), ("Relations", parts.relations)):
        text = _linked(text, own)
        yield from (f"{level} {title}", "", _begun(text), "")


def _caption(name: str) -> str:
    """What the figure does not say itself."""
    figure = figure_of(name)
    shared = ", ".join(f"`{key}={value!r}`" for key, value in fixed(name).items())
    drawn = f"Drawn by our own function{f' with {shared}' if shared else ''}."
    return f"{drawn} {figure.move.how} {figure.note}".strip()


def _needs(loss: Loss) -> Iterator[str]:
    asked = asks(loss)
    yield f"It takes {', or '.join(RECORDS[kind] for kind in kinds_of(loss))}, and of each answer its `logp`. Besides:"
    yield ""
    rows = [NEEDS[name] for name in NEEDS if name in asked.needs]
    if asked.baseline:
        rows.append(BASELINES[asked.baseline])
    if asked.of_batch:
        rows.append("the whole batch: the value of a pair depends on the pairs that it is computed with")
    yield from (f"- {row}" for row in rows or ["nothing"])


def _settings(plug: Loss, parts: Anatomy, level: str) -> Iterator[str]:
    known = settings_of(plug)
    if not known:
        return
    yield from (f"{level} Settings", "", "| setting | default | meaning |", "|---|---|---|")
    for name, parameter in known.items():
        default = "required" if parameter.default is parameter.empty else f"`{parameter.default!r}`"
        yield f"| `{name}` | {default} | {_cell(parts.args[name])} |"
    yield ""


def _gives(parts: Anatomy) -> str:
    text = _begun(parts.returns)
    return f"{text} It refuses with `InputError` where {parts.raises}" if parts.raises else text
