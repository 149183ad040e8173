"""Calibration of goals: the numbers of `evaluate control`, as a part of a diagnosis."""

from collections.abc import Collection, Sequence

import polars as pl

from pairwright.charts import Chart, Series
from pairwright.diagnose.answers import Answers
from pairwright.diagnose.finding import Finding, Level, Part
from pairwright.errors import InputError
from pairwright.evaluate.control import control
from pairwright.evaluate.result import Metric, Result
from pairwright.preferences import Preferences

_SOURCE = "arXiv 2410.08067 (goal-conditioned training); the rule is pairwright's"


def goals(answers: Sequence[Answers], *, untaught: Collection[str] = (), draws: int = 2000, seed: int = 0) -> Part:
    """Score given by score asked for: mean by goal, rank correlation, distance of the mean from the goal.

    Args:
        answers: scored answers of one or several models, each asked for two goals or more; others are left out.
        untaught: names of those that were trained on pairs without goals: that a goal does not steer them is no fault,
            and is a note.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        What `evaluate control` gives, each number's name followed by the model's where there are several; a row for
        each model and goal.

    Raises:
        InputError: no model has scored answers to two goals, or two have the same name.
    """
    asked, notes = [], []
    for each in answers:
        several = each.frame.drop_nulls(["score", "goal"])["goal"].n_unique() > 1
        if several and each.settings.get("asks", "scores") == "scores":
            asked.append(each)
        elif several:
            notes.append(f"{each.name} was asked for a {each.settings['asks']}, which is no score to compare with.")
    if not asked:
        raise InputError(
            "no model has scored answers to two goals; generate with several goals (goal: [2, 4, 6, 8, 10]) and score"
        )
    if len({each.name for each in asked}) < len(asked):
        raise InputError("two sets of answers have the same name; name them apart")
    results = {each.name: control(_table(each), draws=draws, seed=seed) for each in asked}
    alone = len(results) == 1
    metrics = [
        metric if alone else metric.model_copy(update={"name": f"{metric.name}/{name}"})
        for name, result in results.items()
        for metric in result.metrics
    ]
    return Part(
        name="goals",
        subject=", ".join(results),
        title="Score given by score asked for",
        result=Result(
            name="goals",
            n=sum(result.n for result in results.values()),
            settings={"draws": draws, "seed": seed},
            metrics=tuple(metrics),
            table=tuple({"model": name, **row} for name, result in results.items() for row in result.table),
            notes=tuple([*notes, *(f"{name}: {note}" for name, result in results.items() for note in result.notes)]),
        ),
        findings=tuple(
            finding
            for name, result in results.items()
            for finding in _findings(name, result, taught=name not in untaught)
        ),
        charts=(_chart(results),),
    )


def _table(answers: Answers) -> Preferences:
    """The answers as an evaluation reads them."""
    frame = answers.frame.filter(pl.col("score").is_not_null())
    role = pl.struct(role=pl.lit("assistant"), content=pl.col("text").fill_null(""))
    responses = frame.select("prompt_id", "goal", "score", response=pl.concat_list(role), model=pl.lit(answers.name))
    prompts = frame.select("prompt_id").unique(maintain_order=True)
    none = pl.lit([], dtype=responses.schema["response"])
    return Preferences.of(prompts.with_columns(prompt=none), responses)


def _findings(name: str, result: Result, *, taught: bool) -> list[Finding]:
    rank, off = result.metric("spearman"), result.metric("calibration")
    low, high = rank.low, rank.high
    steers = low is not None and low > 0
    against = high is not None and high < 0
    known = rank.value is not None
    level: Level = "fine" if steers else "warning" if taught and (against or known) else "note"
    found = [
        Finding(
            check="goal_control",
            subject=name,
            level=level,
            says=f"Rank correlation of score asked and score given: {_told(rank)}.",
            value=rank.value,
            low=low,
            high=high,
            n=rank.n,
            means=(
                "The model follows the goal that it is asked for."
                if steers
                else "The model does the opposite of what it is asked."
                if against
                else "Nothing shows that the goal steers the model."
            )
            + ("" if taught else " It was trained on pairs without goals: what it makes of one, its start knew."),
            remedy=(
                ""
                if steers or not taught
                else "Look whether the goal was in the prompts of training as it is in those of generation, and "
                "whether training pairs have different goals (relabel)."
            ),
            source=_SOURCE,
        )
    ]
    goals_asked = [row for row in result.table if row["goal"] is not None]
    spread = max(row["goal"] for row in goals_asked) - min(row["goal"] for row in goals_asked)
    furthest = max(goals_asked, key=lambda row: abs((row["value"] or 0.0) - row["goal"]))
    found.append(
        Finding(
            check="goal_calibration",
            subject=name,
            level="note" if off.low is not None and off.low > 0.1 * spread else "fine",
            says=(
                f"The mean score lies {_told(off)} from the goal, on average over goals; furthest at "
                f"{furthest['goal']:g}, where it is {furthest['value']:.3g}."
            ),
            value=off.value,
            low=off.low,
            high=off.high,
            n=off.n,
            means="A model may follow the order of goals well and still miss their values.",
            remedy="",
            source="pairwright; more than a tenth of the range of goals is a note",
        )
    )
    return found


def _told(metric: Metric) -> str:
    if metric.value is None:
        return "not defined"
    if metric.low is None or metric.high is None:
        return f"{metric.value:.3g}"
    return f"{metric.value:.3g} [{metric.low:.3g}, {metric.high:.3g}]"


def _chart(results: dict[str, Result]) -> Chart:
    series = []
    for name, result in results.items():
        rows = [row for row in result.table if row["goal"] is not None]
        series.append(
            Series(
                name=name,
                x=[row["goal"] for row in rows],
                y=[row["value"] for row in rows],
                low=[row["low"] for row in rows],
                high=[row["high"] for row in rows],
                labels=[f"{row['n']} answers" for row in rows],
            )
        )
    goals_asked = [row["goal"] for result in results.values() for row in result.table if row["goal"] is not None]
    ends = [min(goals_asked), max(goals_asked)]
    series.append(Series(name="asked = given", x=[*ends], y=[*ends], reference=True))
    return Chart(
        id="by-goal",
        title="Score given by score asked for",
        says="A model that does what it is asked lies on the dotted line; one that ignores the goal is level.",
        x="goal: the score asked for",
        y="mean score of the answers, with 95% interval",
        series=series,
    )
