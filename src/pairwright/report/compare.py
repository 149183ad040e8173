"""Several runs beside each other: measures, settings that differ, findings, and what each lacks.

A number of one run stands beside that of another where the steps (or what was looked for) have the same name; a run
that is one training by itself has no names of steps, so it is called `training`.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from pairwright.report.lacking import WANTED
from pairwright.report.measures import METRIC, WORST, findings_of, last_logged, results
from pairwright.report.shown import plain
from pairwright.report.views import RunView, StepView

_RANK = {level: i for i, level in enumerate(WORST)}

_BETWEEN = " ·:/,"
"""What stands between the name of a run and the rest of a subject."""
OPEN = 20
"""So many findings of several runs stand open; of more, only the worst of each check."""

Key = tuple[str, str]
Row = tuple[Key, Any]


def compared(runs: Sequence[RunView]) -> dict[str, Any]:
    """The comparison of several runs: tables whose `cells` are one for each run, None where it has none."""
    named = [name for run in runs for name in {_name(run, step) for step in run.steps}]
    shared = {name for name in named if named.count(name) > 1}
    return {
        "runs": [run.name for run in runs],
        "measures": [_titled(key, cells, "evaluation", "measure") for key, cells in _beside(runs, _measures)],
        "diagnosed": [_titled(key, cells, "part", "measure") for key, cells in _beside(runs, _diagnosed)],
        "logged": [_titled(key, cells, "training", "measure") for key, cells in _beside(runs, _logged)],
        "settings": [
            _titled(key, cells, "step", "setting")
            for key, cells in _beside(runs, _settings)
            if key[0] in shared and any(cell != cells[0] for cell in cells)
        ],
        "only": _only(runs, shared),
        "findings": sorted(
            (_titled(key, cells, "check", "subject") for key, cells in _beside(runs, _findings)),
            key=lambda row: min(_RANK.get(cell["level"], 1) for cell in row["cells"] if cell),
        ),
        "parts": [
            {"part": part, "label": wanted.label, "remedy": wanted.remedy, "cells": [wanted.has(run) for run in runs]}
            for part, wanted in WANTED.items()
        ],
    }


def apart(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Rows that two runs share, and by the name of a run those that only it has."""
    counted = [(row, [i for i, cell in enumerate(row["cells"]) if cell is not None]) for row in rows]
    only = [{"run": name, "rows": [row for row, at in counted if at == [i]]} for i, name in enumerate(names)]
    return {"shared": [row for row, at in counted if len(at) > 1], "only": [each for each in only if each["rows"]]}


def checks(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Findings of several runs by check, the worst first; none where all of them can stand open.

    Returns:
        `check`; `rows`, its findings; `cells`, for each run its `levels` with their counts and its `worst` finding.
    """
    if len(rows) <= OPEN:
        return []
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["check"], []).append(row)
    return [
        {
            "check": check,
            "rows": own,
            "cells": [_summed(cells) for cells in zip(*(r["cells"] for r in own), strict=True)],
        }
        for check, own in found.items()
    ]


def _summed(cells: Sequence[dict[str, Any] | None]) -> dict[str, Any] | None:
    """The findings of one check in one run."""
    known = [cell for cell in cells if cell]
    levels = {level: sum(cell["level"] == level for cell in known) for level in WORST}
    worst = min(known, key=lambda cell: _RANK.get(cell["level"], 1), default=None)
    return worst and {"levels": {level: count for level, count in levels.items() if count}, "worst": worst}


def _only(runs: Sequence[RunView], shared: Collection[str]) -> list[dict[str, Any]]:
    """The steps that only one run has."""
    own = [[name for step in run.steps if (name := _name(run, step)) not in shared] for run in runs]
    return [{"run": run.name, "steps": steps} for run, steps in zip(runs, own, strict=True) if steps]


def apart_by_name(runs: Sequence[RunView]) -> list[RunView]:
    """Runs whose directories have one name, called by as much of the path as tells them apart."""
    parts = [run.folder.resolve().parts for run in runs]

    def called(i: int) -> str:
        alike = {parts[j] for j, run in enumerate(runs) if run.name == runs[i].name}
        depth = next((n for n in range(1, len(parts[i])) if len({own[-n:] for own in alike}) == len(alike)), 1)
        return plain("/".join(parts[i][-depth:]))

    return [run.model_copy(update={"name": called(i)}) for i, run in enumerate(runs)]


def _beside(runs: Sequence[RunView], of: Callable[[RunView], Iterable[Row]]) -> list[tuple[Key, list[Any]]]:
    """The rows of several runs by their keys, in the order in which the keys come."""
    found: dict[Key, list[Any]] = {}
    for i, run in enumerate(runs):
        for key, value in of(run):
            found.setdefault(key, [None] * len(runs))[i] = value
    return list(found.items())


def _titled(key: Key, cells: list[Any], first: str, second: str) -> dict[str, Any]:
    return {first: key[0], second: key[1], "cells": cells}


def _name(run: RunView, step: StepView) -> str:
    return "training" if len(run.steps) == 1 else step.name


def _subject(run: RunView, subject: str) -> str:
    """A subject without the name of its run's directory, so that it is the same in both."""
    name = run.name.rsplit("/", 1)[-1]
    rest = subject.removeprefix(name)
    is_named = rest != subject and (not rest or rest[0] in _BETWEEN)
    return (rest if is_named else subject).strip(_BETWEEN + "-") or "training"


def _measures(run: RunView) -> Iterable[Row]:
    for item in results(run):
        for metric in item["first"]:
            yield (_name(run, item["step"]), str(metric["name"])), {key: metric[key] for key in METRIC}


def _diagnosed(run: RunView) -> Iterable[Row]:
    for part in run.diagnosis.parts if run.diagnosis else ():
        for metric in part.result.metrics:
            named = f"{part.title}: {_subject(run, part.subject)}"
            yield (named, metric.name), metric.model_dump(mode="json")


def _logged(run: RunView) -> Iterable[Row]:
    """The last logged number of each kind; it is of one batch, and has no interval."""
    for step in run.of("metrics"):
        for title, last in last_logged(step):
            yield (_name(run, step), title), {"value": last}


def _settings(run: RunView) -> Iterable[Row]:
    for step in run.steps:
        for name, value in step.settings.items():
            yield (_name(run, step), name), value


def _findings(run: RunView) -> Iterable[Row]:
    for each in findings_of(run):
        yield (each.check, _subject(run, each.subject)), each.model_dump(mode="json")
