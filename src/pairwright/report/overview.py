"""The parts of a diagnosis by name: of many subjects first together, in one table and one chart for each chart id."""

from collections.abc import Mapping, Sequence
from typing import Any

from pairwright.charts import Chart, Series
from pairwright.diagnose.finding import Part
from pairwright.report.measures import FIRST
from pairwright.report.sweeps import MANY, UNDRAWN, Sweep, coloured, pointed
from pairwright.report.views import RunView

COMPARE = ("budget",)
"""Parts that compare models; they stand first, and the first chart of the first of them in the headline."""


def by_name(parts: Sequence[Part]) -> list[list[tuple[int, Part]]]:
    """Parts of one name together, each with its number in the diagnosis; those that compare models first."""
    found: dict[str, list[tuple[int, Part]]] = {}
    for i, part in enumerate(parts):
        found.setdefault(part.name, []).append((i, part))
    return sorted(found.values(), key=lambda group: _rank(group[0][1].name))


def first_chart(run: RunView, sweep: Sweep) -> tuple[Part, Chart] | None:
    """What compares the models of a run, where there are many of them: quality against the distance from the start."""
    parts = [part for part in (run.diagnosis.parts if run.diagnosis else ()) if part.name in COMPARE and part.charts]
    for part in sorted(parts, key=lambda part: _rank(part.name)):
        chart = part.charts[0]
        if sum(len(series.x) for series in chart.series if not series.reference) > MANY:
            return part, pointed(chart, sweep)
    return None


def together(parts: Sequence[Part], sweep: Sweep) -> dict[str, Any] | None:
    """Parts of one name that are about many subjects as one table and one chart for each chart id; None of few.

    Returns:
        `subjects`, how many; `columns`, the first measures; `rows`, each a subject with its `cells` and `setting`;
        `charts`; `notes`, those that all have.
    """
    if len(parts) <= MANY:
        return None
    columns = list(dict.fromkeys(metric.name for part in parts for metric in part.result.metrics[:FIRST]))
    rows = []
    for part in parts:
        own = {metric.name: metric.model_dump(mode="json") for metric in part.result.metrics}
        cells = [own.get(name) for name in columns]
        rows.append({"subject": part.subject, "setting": sweep.find(part.subject), "cells": cells})
    says = {metric.name: metric.says for part in reversed(parts) for metric in part.result.metrics}
    idents = dict.fromkeys(chart.id for part in parts for chart in part.charts)
    found = [_merged({part.subject: chart for part in parts for chart in part.charts if chart.id == i}) for i in idents]
    return {
        "subjects": len(parts),
        "columns": [{"name": name, "says": says[name]} for name in columns],
        "rows": rows,
        "charts": [coloured(chart, sweep) for chart in found if chart],
        "notes": [note for note in parts[0].result.notes if all(note in part.result.notes for part in parts)],
    }


def _rank(name: str) -> int:
    return COMPARE.index(name) if name in COMPARE else len(COMPARE)


def _merged(charts: Mapping[str, Chart]) -> Chart | None:
    """One chart with the first line of each subject's; None where few have it, or where it is a cloud of points."""
    lines = {subject: [one for one in chart.series if not one.reference] for subject, chart in charts.items()}
    main = {subject: own[0] for subject, own in lines.items() if own}
    if len(main) <= MANY or _is_cloud(charts, main):
        return None
    first = next(iter(charts.values()))
    called = next(iter(main.values())).name
    others = list(dict.fromkeys(one.name for own in lines.values() for one in own[1:]))
    says = [first.says] if all(chart.says == first.says for chart in charts.values()) else []
    if others:
        says.append(f"Here '{called}' of each of {len(main)}; {', '.join(others)}: in the own chart of each, below.")
    if any(one.low for one in main.values()):
        says.append(UNDRAWN)
    series = [one.model_copy(update={"name": subject}) for subject, one in main.items()]
    same = [one for one in first.series if one.reference and all(one in chart.series for chart in charts.values())]
    return first.model_copy(
        update={"id": f"all-{first.id}", "kind": "line", "says": " ".join(says), "series": [*series, *same]}
    )


def _is_cloud(charts: Mapping[str, Chart], main: Mapping[str, Series]) -> bool:
    """Whether points lie wherever they lie: those of a few places that all share can be joined by lines."""
    points = any(chart.kind == "points" for chart in charts.values())
    places = [one.x for one in main.values()]
    return points and (any(own != places[0] for own in places) or len(set(places[0])) < len(places[0]))


def own_charts(part: Part, sweep: Sweep) -> list[Chart]:
    """The charts of one part; of one that compares models, with the points of each setting in one colour."""
    return [pointed(chart, sweep) for chart in part.charts] if part.name in COMPARE else list(part.charts)
