"""Which numbers of a run are drawn, and how: plain records that `page.js` hands to plotly.

A chart carries every number that it draws, and the page prints the same numbers in a table below it.
"""

from collections.abc import Sequence
from typing import Any

from pairwright.charts import Chart, Number, Series
from pairwright.report.collect import RunView, StepView, dicts
from pairwright.report.shown import is_number

CURVES = {
    "loss": ("Loss", "loss"),
    "rewards/accuracies": ("Pairs ranked right by the implicit reward", "share of the batch"),
    "rewards/margins": ("Margin: implicit reward of chosen minus rejected", "nats × beta"),
    "logps/chosen": ("Log-probability of the chosen answer", "nats, summed over the answer"),
    "logps/rejected": ("Log-probability of the rejected answer", "nats, summed over the answer"),
}
"""The logged numbers that are drawn: title and unit."""

VALUE = ("value", "mean", "gold", "score")
"""Under which of these names a row of a goal table has its number."""


def goal_chart(run: RunView) -> Chart | None:
    """Mean score by goal asked, one line for each evaluated model; None where no evaluation has goals."""
    series = []
    for step in run.of("result"):
        rows = sorted(goal_rows(step), key=lambda row: float(row["goal"]))
        if rows:
            series.append(
                Series(
                    name=step.name,
                    x=[row["goal"] for row in rows],
                    y=[number_of(row) for row in rows],
                    low=[_first(row, ["low"]) for row in rows],
                    high=[_first(row, ["high"]) for row in rows],
                )
            )
    if not series:
        return None
    goals = sorted({x for one in series for x in one.x if isinstance(x, int | float)})
    ends: list[Number | str] = [goals[0], goals[-1]]
    series.append(Series(name="asked = given", x=ends, y=[goals[0], goals[-1]], reference=True))
    return Chart(
        id="by-goal",
        title="Score given by score asked",
        says="A model that does what it is asked lies on the dotted line; one that ignores the goal is level.",
        x="goal: the score asked for",
        y="mean score of the answers, with 95% interval",
        series=series,
    )


def training_charts(run: RunView) -> list[Chart]:
    """The training curves: one chart for each logged number, one line for each training that has it."""
    charts: list[Chart] = []
    for key, (title, unit) in CURVES.items():
        series = []
        for step in run.of("metrics"):
            rows = [row for row in step.metrics if key in row and is_number(row.get("step"))]
            values = [_first(row, [key]) for row in rows]  # what is no number (any more) is a gap in the line
            if any(value is not None for value in values):
                series.append(Series(name=step.name, x=[row["step"] for row in rows], y=values))
        if series:
            says = f"{title}, by optimiser step, for {', '.join(one.name for one in series)}."
            charts.append(
                Chart(id=f"train-{len(charts)}", title=title, says=says, x="optimiser step", y=unit, series=series)
            )
    return charts


def score_chart(step: StepView) -> Chart:
    """Answers by score, of one step's data."""
    return Chart(
        id=f"scores-{step.number}",
        title=f"Answers by score: {step.name}",
        says=f"How many answers of step {step.name} have each score; unscored ones have a bar of their own.",
        x="score",
        y="answers",
        kind="bar",
        series=[Series(name="answers", x=list(step.scores), y=list(step.scores.values()))],
    )


def table_of(step: StepView) -> Sequence[dict[str, Any]]:
    """The rows of an evaluation's table."""
    result = step.result or {}
    return dicts(result.get("table") or result.get("rows"))


def goal_rows(step: StepView) -> list[dict[str, Any]]:
    """The rows of a table by goal; none where the table is about something else, or about one goal."""
    rows = [row for row in table_of(step) if is_number(row.get("goal"))]
    return rows if len(rows) == len({row["goal"] for row in rows}) > 1 else []


def number_of(row: dict[str, Any]) -> Number:
    """The number of a row of a goal table."""
    return _first(row, VALUE)


def _first(row: dict[str, Any], names: Sequence[str]) -> Number:
    return next((row[name] for name in names if is_number(row.get(name))), None)
