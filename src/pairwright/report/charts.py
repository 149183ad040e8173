"""Which numbers of a run are drawn, and how: plain records that `page.js` hands to plotly.

A chart carries every number that it draws, and the page prints the same numbers in a table below it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pairwright.charts import Chart, Number, Series
from pairwright.report.files import dicts
from pairwright.report.shown import few, is_number
from pairwright.report.views import Bins, Relabelling, RunView, Selection, StepView

CURVES = {
    "loss": ("Loss", "loss"),
    "rewards/accuracies": ("Pairs ranked right by the implicit reward", "share of the batch"),
    "rewards/margins": ("Margin: implicit reward of chosen minus rejected", "nats × beta"),
    "logps/chosen": ("Log-probability of the chosen answer", "nats, summed over the answer"),
    "logps/rejected": ("Log-probability of the rejected answer", "nats, summed over the answer"),
    "kl": ("KL to the reference", "as logged"),
    "entropy": ("Entropy", "as logged"),
}
"""The logged numbers that are drawn: title and unit."""

PROBED = {
    "chosen_logp": ("Chosen answers, held-out", "mean log-probability, nats, summed over the answer"),
    "rejected_logp": ("Rejected answers, held-out", "mean log-probability, nats, summed over the answer"),
    "top_entropy": ("Entropy over the likeliest next tokens", "bits, mean over the tokens of chosen answers"),
    "top_mass": ("Probability of the likeliest next tokens", "sum, mean over the tokens of chosen answers"),
}
"""The means of probes that are drawn: title and unit."""

VALUE = ("value", "mean", "gold", "score")
"""Under which of these names a row of a goal table has its number."""

Named = Iterable[tuple[str, StepView]]
"""Steps, each with the name that its line has."""


def goal_chart(models: Named) -> Chart | None:
    """Mean score by goal asked, one line for each evaluated model; None where no evaluation has goals."""
    series = []
    for name, step in models:
        rows = sorted(goal_rows(step), key=lambda row: float(row["goal"]))
        if rows:
            series.append(
                Series(
                    name=name,
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


def training_charts(trainings: Named) -> list[Chart]:
    """The logged curves: one chart for each number, one line for each training that has it.

    Losses of different kinds have charts of their own: their numbers are not comparable.
    """
    charts: list[Chart] = []
    steps = list(trainings)
    for key, (title, unit) in CURVES.items():
        for kind, group in _kinds(steps, key).items():
            series = [one for name, step in group if (one := _logged(name, step, key))]
            if series:
                called = f"{title}: {kind}" if kind else title
                says = f"As logged on the batches of training, for {few([one.name for one in series])}."
                charts.append(
                    Chart(id=f"train-{len(charts)}", title=called, says=says, x="optimiser step", y=unit, series=series)
                )
    return charts


def probe_charts(trainings: Named) -> list[Chart]:
    """The curves on the same held-out pairs, one line for each probed training."""
    steps = [(name, step.probed) for name, step in trainings if step.probed]
    charts: list[Chart] = []
    for key, (title, unit) in PROBED.items():
        series = [Series(name=name, x=list(probed.steps), y=probed.means[key]) for name, probed in steps if probed]
        if series:
            says = "The same held-out pairs at every step, without a goal in the prompt; step 0 is before training."
            charts.append(
                Chart(id=f"probe-{len(charts)}", title=title, says=says, x="optimiser step", y=unit, series=series)
            )
    return charts


def score_charts(steps: Sequence[StepView]) -> list[Chart]:
    """Answers by score: a chart for the data of each step, and one together for the answers that models gave."""
    drawn = [step for step in steps if not _is_generated(step)]
    models = [step for step in steps if _is_generated(step)]
    charts = [_bars_of_scores(step) for step in drawn]
    series = [one for step in models if (one := _line_of_scores(step))]
    if len(series) < len(models):  # scores in ranges are of one step: their ends differ from those of another
        return [*charts, *map(_bars_of_scores, models)]
    if series:
        says = "How many of each model's answers have each score, whatever they were asked for."
        charts.append(
            Chart(
                id="scores-models",
                title="Scores of generated answers",
                says=says,
                x="score",
                y="answers",
                series=series,
            )
        )
    return charts


def pair_charts(step: StepView) -> list[Chart]:
    """Pairs of one step's data by gap and by the lengths of their sides."""
    if step.pairs is None:
        return []
    gap = (
        "score of chosen minus rejected; under a goal, how much nearer chosen is. Below 0 a label is against its score"
    )
    return _bars(
        (f"gaps-{step.number}", step.pairs.gaps, f"Pairs by gap: {step.name}", f"Gap: {gap}.", "gap, in score units"),
        (
            f"lengths-{step.number}",
            step.pairs.lengths,
            f"Length of both sides: {step.name}",
            "Where chosen answers are longer, a model can learn to be long in place of good.",
            "characters",
        ),
    )


def selection_charts(step: StepView, found: Selection) -> list[Chart]:
    """What a selection kept, by its metric and by gap."""
    says = f"The metric {found.metric} of the pairs that the cut {found.cut} kept."
    return _bars(
        (f"metric-{step.number}", found.values, f"Kept pairs by {found.metric}: {step.name}", says, found.metric),
        (
            f"kept-{step.number}",
            found.gaps,
            f"Pairs by gap, before and kept: {step.name}",
            "What the selection did to the gaps of scores.",
            "gap, in score units",
        ),
    )


def relabelling_charts(step: StepView, found: Relabelling) -> list[Chart]:
    """Pairs by the goal that they ask for."""
    says = "Positive copies ask for the score of the chosen answer, negative ones for that of the rejected answer."
    return _bars(
        (f"goals-{step.number}", found.goals, f"Pairs by goal asked: {step.name}", says, "goal, in score units")
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


def named(runs: Sequence[RunView], part: str) -> list[tuple[str, StepView]]:
    """The steps of runs that have a part, by the name of their line: of several runs, the run's name comes first."""
    label: Callable[[RunView, StepView], str] = _of_one if len(runs) == 1 else _of_several
    return [(label(run, step), step) for run in runs for step in run.of(part)]


def _of_one(run: RunView, step: StepView) -> str:
    return step.name


def _of_several(run: RunView, step: StepView) -> str:
    return run.name if len(run.steps) == 1 else f"{run.name} · {step.name}"


def _kinds(steps: Sequence[tuple[str, StepView]], key: str) -> dict[str, list[tuple[str, StepView]]]:
    """Trainings by the name of their loss where the number is the loss, or where they learn from no pairs.

    All others are together, under no name.
    """
    found: dict[str, list[tuple[str, StepView]]] = {}
    for name, step in steps:
        together = key != "loss" and any("logps/rejected" in row for row in step.metrics)
        found.setdefault("" if together else str(step.settings.get("loss") or ""), []).append((name, step))
    return found


def _logged(name: str, step: StepView, key: str) -> Series | None:
    rows = [row for row in step.metrics if key in row and is_number(row.get("step"))]
    values = [_first(row, [key]) for row in rows]  # what is no number (any more) is a gap in the line
    if not any(value is not None for value in values):
        return None
    return Series(name=name, x=[row["step"] for row in rows], y=values)


def _is_generated(step: StepView) -> bool:
    return any(each.name == "generate" for each in step.lineage)


def _bars_of_scores(step: StepView) -> Chart:
    return Chart(
        id=f"scores-{step.number}",
        title=f"Answers by score: {step.name}",
        says=f"How many answers of step {step.name} have each score; unscored ones have a bar of their own.",
        x="score",
        y="answers",
        kind="bar",
        series=[Series(name="answers", x=list(step.scores), y=list(step.scores.values()))],
    )


def _line_of_scores(step: StepView) -> Series | None:
    """Answers by score as a line; None where scores are in ranges."""
    known = {score: n for score, n in step.scores.items() if score != "unscored"}
    if any(" to " in score for score in known):
        return None
    return Series(name=step.name, x=[float(score) for score in known], y=list(known.values()))


def _bars(*given: tuple[str, Bins | None, str, str, str]) -> list[Chart]:
    """Bar charts of counts: id, counts, title, what one sees, horizontal axis; those without counts are left out."""
    charts = []
    for ident, counted, title, says, axis in given:
        if counted is not None:
            series = [Series(name=name, x=list(counted.labels), y=list(n)) for name, n in counted.counts.items()]
            charts.append(Chart(id=ident, title=title, says=says, x=axis, y="pairs", kind="bar", series=series))
    return charts


def _first(row: dict[str, Any], names: Sequence[str]) -> Number:
    return next((row[name] for name in names if is_number(row.get(name))), None)
