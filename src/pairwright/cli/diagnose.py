"""`diagnose`, and how findings stand in a terminal."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pairwright.cli.data import description
from pairwright.cli.flags import COLUMNS, DEBUG, FROM, JSON, STRICT, Flag, of_settings, out, parse, words
from pairwright.cli.out import keep_apart, read_in
from pairwright.errors import InputError
from pairwright.pipeline.signature import check
from pairwright.pipeline.steps import STEPS, settings_schema

_STYLES = {"warning": "bold red", "note": "yellow", "fine": "green"}
_SEEN = {"fine": "not seen"}
_MANY = 10
"""With more warnings than these, findings are told by check."""
_IN_A_LOG = 120
"""Columns where there is no terminal to ask."""
_DATA = Flag(
    "data",
    str | None,
    None,
    "Scored pairs with a held-out split: trainings that were not probed while they ran are probed on them.",
    metavar="IN",
)


def diagnose(verb: str, arguments: Sequence[str]) -> int:
    """`pairwright diagnose RUN... -o FILE --data IN`."""
    function, schema = settings_schema(STEPS["diagnose"])
    known = {name: setting for name, setting in schema.settings.items() if name != "data"}
    flags = [
        words("runs", "RUN", "Directories of runs, or of trainings, ours or TRL's.", kind=tuple[Path, ...]),
        out("The diagnosis; diagnosis.json in the first run when not given.", required=False),
        _DATA,
        *of_settings(known),
        FROM,
        COLUMNS,
        STRICT,
        JSON,
        DEBUG,
    ]
    given = parse(verb, description(function), flags, arguments)
    if not given["runs"]:
        raise InputError("diagnose needs the directory of a run or of a training: pairwright diagnose RUN")
    settings = check(known, {name: given[name] for name in known if name in given}, title=verb)
    if given["data"] is not None:
        if given["output"] is not None:
            keep_apart(given["data"], given["output"])
        settings["data"] = read_in(given, key="data")
    found = function(list(given["runs"]), output=given["output"], **settings)
    if given["json"]:
        print(found.to_json(), end="")
        return 0
    from pairwright.diagnose.verb import target_of

    print(findings_text([each.model_dump(mode="json") for each in found.findings]))
    if found.missing:
        print("\n" + missing_text([each.model_dump(mode="json") for each in found.missing]))
    print(f"\n{target_of(given['output'], given['runs'][0])}")
    return 0


def findings_text(findings: Iterable[Mapping[str, Any]]) -> str:
    """Findings as a table, in their order, each with what to try below it; by check where there are many warnings.

    Args:
        findings: as `Finding` has them in JSON.
    """
    findings = list(findings)
    if sum(each["level"] == "warning" for each in findings) > _MANY:
        return _by_check(findings)
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column, width in (("level", None), ("subject", 20), ("check", 24), ("what was seen", None)):
        shown.add_column(column, overflow="fold", max_width=width)
    for each in findings:
        level = str(each["level"])
        style = _STYLES.get(level, "")
        says = escape(str(each["says"])) + (
            f"\n[dim]try: {escape(str(each['remedy']))}[/dim]" if each["remedy"] else ""
        )
        shown.add_row(f"[{style}]{escape(level)}[/]" if style else escape(level),
                      escape(str(each["subject"])), escape(str(each["check"])), says)  # fmt: skip
    return _drawn(shown) if shown.row_count else "nothing was found, and nothing was looked for"


def _by_check(findings: Sequence[Mapping[str, Any]]) -> str:
    """One row for each check: how many subjects it is about, what was seen in the worst of them, what to try."""
    from pairwright.diagnose.checks import by_check
    from pairwright.diagnose.finding import Finding

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column, width in (("level", None), ("check", 24), ("seen in", 24), ("what was seen in the worst", None)):
        shown.add_column(column, overflow="fold", max_width=width)
    for one in by_check(Finding.model_validate(each) for each in findings):
        worst, style = one.findings[0], _STYLES[one.level]
        levels = ", ".join(f"{_SEEN.get(level, level)} {count}" for level, count in one.levels.items())
        tries = "".join(f"\n[dim]try: {escape(remedy)}[/dim]" for remedy in one.remedies)
        says = f"{escape(worst.subject)}: {escape(worst.says)}" + tries
        shown.add_row(f"[{style}]{one.level}[/]", escape(one.check), levels, says)
    return _drawn(shown)


def missing_text(missing: Iterable[Mapping[str, Any]]) -> str:
    """What could not be computed, parts with the same reason in one line, and below it how to get it.

    Args:
        missing: as `Missing` has them in JSON.
    """
    parts: dict[tuple[str, str], list[str]] = {}
    for each in missing:
        names = parts.setdefault((str(each["says"]), str(each["remedy"])), [])
        names += [] if each["part"] in names else [str(each["part"])]
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    shown.add_column("not computed", overflow="fold", max_width=36)
    shown.add_column("why", overflow="fold")
    for (says, remedy), names in parts.items():
        shown.add_row(escape(", ".join(names)), escape(says) + (f"\n[dim]{escape(remedy)}[/dim]" if remedy else ""))
    return _drawn(shown)


def measures_text(measures: Iterable[Mapping[str, Any]]) -> str:
    """Measures with their intervals and what each rests on.

    Args:
        measures: `evaluation`, `measure`, `value`, `low`, `high`, `n`, `says`, as a report's JSON has them.
    """
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("evaluation", "measure", "value", "95% interval", "n", "what it is"):
        shown.add_column(column, overflow="fold", no_wrap=column in ("value", "95% interval", "n"))
    for each in measures:
        around = "-" if each["low"] is None or each["high"] is None else f"{each['low']:.3g} to {each['high']:.3g}"
        value = "-" if each["value"] is None else f"{each['value']:.3g}"
        n = "-" if each["n"] is None else f"{each['n']:,}"
        cells = (each["evaluation"], each["measure"], value, around, n, each["says"] or "")
        shown.add_row(*(escape(str(cell)) for cell in cells))
    return _drawn(shown)


def _drawn(shown: Table) -> str:
    """A table as text: as wide as the terminal and in colour there, plain in a log."""
    on_terminal = sys.stdout.isatty()
    console = Console(width=None if on_terminal else _IN_A_LOG, force_terminal=on_terminal, highlight=False)
    with console.capture() as captured:
        console.print(shown)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
