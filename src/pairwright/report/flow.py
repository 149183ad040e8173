"""The way of the data from the first row to the last: what each step kept and dropped, as widths of a drawing."""

from collections.abc import Sequence
from typing import Any

from pairwright.preferences import Step
from pairwright.report.views import RunView

WIDE = 100.0
"""The width of the drawing; the largest number of rows takes all of it."""


def flows(run: RunView) -> list[dict[str, Any]]:
    """For the data of each training and, without one, of the last data step; equal ways are drawn once."""
    by_name = {step.name: step for step in run.steps}
    found: dict[str, dict[str, Any]] = {}
    for training in run.of("metrics"):
        data = training if training.lineage else by_name.get(training.take or "")
        if data is not None and data.lineage:
            found.setdefault(data.name, {"names": [], "data": data.name, "rows": _rows(data.lineage)})
            found[data.name]["names"].append(training.name)
    if not found and run.of("lineage"):
        last = run.of("lineage")[-1]
        found[last.name] = {"names": [], "data": last.name, "rows": _rows(last.lineage)}
    return list(found.values())


def _rows(lineage: Sequence[Step]) -> list[dict[str, Any]]:
    most = max((max(step.rows_in or 0, step.rows_out or 0) for step in lineage), default=0) or 1
    rows: list[dict[str, Any]] = []
    last = 0
    for step in lineage:
        idle = not step.rows_in and not step.rows_out  # a split, say, before there are pairs
        after = last if idle else step.rows_out or 0
        before = after if idle or step.rows_in is None else step.rows_in
        other = bool(rows) and not idle and before != last
        last = after
        top, bottom = WIDE * before / most, WIDE * after / most
        rows.append(
            {
                "step": step,
                "idle": idle,
                "other": other,
                "kept": _shape((0, min(top, bottom)), (0, min(top, bottom))),
                "lost": _shape((bottom, top), (bottom, bottom)) if top > bottom else "",
                "made": _shape((top, top), (top, bottom)) if bottom > top else "",
            }
        )
    return rows


def _shape(above: tuple[float, float], below: tuple[float, float]) -> str:
    """Corners of a shape 10 high, from its left and right end above and below."""
    corners = ((above[0], 0), (above[1], 0), (below[1], 10), (below[0], 10))
    return " ".join(f"{x:.2f},{y}" for x, y in corners)
