"""Several runs beside each other: measures, settings that differ, findings, and what each lacks.

A number of one run stands beside that of another where the steps (or what was looked for) have the same name; a run
that is one training by itself has no names of steps, so it is called `training`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pairwright.report.charts import CURVES
from pairwright.report.lacking import WANTED
from pairwright.report.measures import METRIC, findings_of, results
from pairwright.report.shown import is_number
from pairwright.report.views import RunView, StepView

_RANK = {"warning": 0, "note": 1, "fine": 2}

Key = tuple[str, str]
Row = tuple[Key, Any]


def compared(runs: Sequence[RunView]) -> dict[str, Any]:
    """The comparison of several runs: tables whose `cells` are one for each run, None where it has none."""
    return {
        "runs": [run.name for run in runs],
        "measures": [_titled(key, cells, "evaluation", "measure") for key, cells in _beside(runs, _measures)],
        "diagnosed": [_titled(key, cells, "part", "measure") for key, cells in _beside(runs, _diagnosed)],
        "logged": [_titled(key, cells, "training", "measure") for key, cells in _beside(runs, _logged)],
        "settings": [
            _titled(key, cells, "step", "setting")
            for key, cells in _beside(runs, _settings)
            if any(cell != cells[0] for cell in cells)
        ],
        "findings": sorted(
            (_titled(key, cells, "check", "subject") for key, cells in _beside(runs, _findings)),
            key=lambda row: min(_RANK.get(cell["level"], 1) for cell in row["cells"] if cell),
        ),
        "parts": [
            {"part": part, "label": wanted.label, "remedy": wanted.remedy, "cells": [wanted.has(run) for run in runs]}
            for part, wanted in WANTED.items()
        ],
    }


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
    """A subject without the name of its run, so that it is the same in both."""
    return subject.removeprefix(run.name).strip(" ·:/-") or "training"


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
        for name, (title, _) in CURVES.items():
            last = next((row[name] for row in reversed(step.metrics) if is_number(row.get(name))), None)
            if last is not None:
                yield (_name(run, step), title), {"value": last}


def _settings(run: RunView) -> Iterable[Row]:
    for step in run.steps:
        for name, value in step.settings.items():
            yield (_name(run, step), name), value


def _findings(run: RunView) -> Iterable[Row]:
    for each in findings_of(run):
        yield (each.check, _subject(run, each.subject)), each.model_dump(mode="json")
