"""Goal control: does a model give what it is asked for?"""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from pairwright.errors import InputError
from pairwright.evaluate import extrapolation
from pairwright.evaluate.answers import scored_answers
from pairwright.evaluate.result import Metric, Result, as_json
from pairwright.preferences import Preferences, Step
from pairwright.stats import grouped_bootstrap, spearman

Floats = NDArray[np.float64]


def control(
    answers: Preferences,
    *,
    score: str = "score",
    best: Annotated[float, Field(allow_inf_nan=False)] | None = None,
    draws: Annotated[int, Field(gt=0)] = 2000,
    seed: int = 0,
) -> Result:
    """Scores given against scores asked for: mean by goal, rank correlation, calibration, monotonicity, extrapolation.

    Extrapolation is what a model gives when it is asked for more than the best score of its training data. That score
    is `best`, or the top of the range of the goal format with which the answers were generated. A goal format prints
    no number above its range: to ask for more, its range must reach further than the data, which a note says.

    All intervals are 95% percentile bootstrap intervals over prompts, since answers to one prompt are alike.

    Args:
        answers: scored answers with the column `goal` in the same units, as `generate` and then `score` give them.
            Answers without a goal (null) are a row of their own.
        score: column with the score given.
        best: best score of the training data; None takes the top of the range of the goal format.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        `spearman` (goal against score, over answers); `calibration` (mean over goals of |mean score - goal|, in score
        units, 0 is perfect); `monotone` (share of neighbouring goals at which the mean score rises); `mean/top` (mean
        score at the highest goal); with unconditioned answers also `mean/unconditioned` and `lift` (top minus
        unconditioned). With goals above the data's best score `extrapolation/above` (mean score there),
        `extrapolation/best` (mean at the highest goal within the data), `extrapolation/rise` (the first minus the
        second) and `extrapolation/reached` (share of the answers asked for more than the best that score more). The
        table has a row for each goal.

    Raises:
        InputError: there is no such column, no scored answer, a score that is not finite, or `best` is not given and
            the answers come from goal formats with several ranges.
    """
    frame, notes = scored_answers(answers, score, what="evaluate control")
    if "goal" not in frame.columns or frame["goal"].null_count() == len(frame):
        raise InputError("evaluate control: no answer was asked for a score; generate with goal first")
    if isinstance(frame["goal"].dtype, pl.List) and frame["goal"].list.len().max() == 1:
        frame = frame.with_columns(pl.col("goal").list.first())  # of one attribute, or of a class
    if frame["goal"].dtype != pl.Float64:
        raise InputError("evaluate control: the goals are vectors; measure one score against one goal at a time")
    if any(_asks(step) == "class" for step in answers.lineage):
        notes.append("The goals are classes and no scores, so calibration says nothing.")
    given = frame["score"].to_numpy()
    asked = frame["goal"].fill_null(float("nan")).to_numpy()
    goals = [float(goal) for goal in frame["goal"].drop_nulls().unique().sort()]
    plain = bool(np.isnan(asked).any())
    if len(goals) < 2:
        notes.append("Only one score was asked for, so nothing says whether the goal steers: ask for several.")
    groups = frame["prompt_id"].to_list()
    further, more = extrapolation.beyond(answers, goals, best)
    notes += more

    def numbers(rows: NDArray[np.intp]) -> list[float]:
        high = extrapolation.numbers(further, asked[rows], given[rows]) if further is not None else []
        return [*high, *_numbers(asked[rows], given[rows], goals, plain)]

    found = grouped_bootstrap(numbers, groups, draws=draws, seed=seed)
    high, found = (found[:4], found[4:]) if further is not None else ([], found)
    means, (rank, off, rise, *rest) = found[: len(goals)], found[len(goals) :]
    metrics = [
        Metric.of("spearman", rank, "rank correlation of score asked and score given, over answers; n are prompts"),
        Metric.of("calibration", off, "mean distance of the mean score given from the score asked; 0 is perfect"),
        Metric.of("monotone", rise, "share of neighbouring goals at which the mean score rises"),
        Metric.of("mean/top", means[-1], f"mean score when asked for {goals[-1]:g}"),
    ]
    sizes = {goal: int((asked == goal).sum()) for goal in goals}
    table: list[dict[str, Any]] = [
        {"goal": goal, **as_json(mean), "n": sizes[goal], **extrapolation.rows(further, goal)}
        for goal, mean in zip(goals, means, strict=True)
    ]
    if further is not None:
        metrics += extrapolation.metrics(further, high)
    if plain:
        metrics.append(Metric.of("mean/unconditioned", rest[0], "mean score when asked for no score"))
        metrics.append(Metric.of("lift", rest[1], f"mean score asked for {goals[-1]:g}, minus asked for none"))
        table.append({"goal": None, **as_json(rest[0]), "n": int(np.isnan(asked).sum())})
    settings = {"score": score, "best": best, "draws": draws, "seed": seed, "models": _models(frame)}
    return Result(
        name="control", n=len(frame), settings=settings, metrics=tuple(metrics), table=tuple(table), notes=tuple(notes)
    )


def _numbers(asked: Floats, given: Floats, goals: Sequence[float], plain: bool) -> list[float]:
    """Mean by goal, then rank correlation, calibration, monotonicity, then the unconditioned mean and the lift."""
    means = [_mean(given[asked == goal]) for goal in goals]
    with_goal = ~np.isnan(asked)
    rank = spearman(asked[with_goal], given[with_goal]).value
    off = float(np.mean([abs(mean - goal) for mean, goal in zip(means, goals, strict=True)]))
    steps = np.diff(means)
    rise = float(np.mean(steps > 0)) if len(steps) and not np.isnan(steps).any() else float("nan")
    numbers = [*means, rank, off, rise]
    if plain:
        without = _mean(given[~with_goal])
        numbers += [without, means[-1] - without]
    return numbers


def _asks(step: Step) -> str | None:
    """What the goals of answers are: `scores`, `class` or `direction`; None where a step asked for none."""
    form = step.settings.get("goal_format") if step.name == "generate" else None
    return None if form is None else str(form.get("asks"))


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _models(frame: pl.DataFrame) -> list[str]:
    return [str(name) for name in frame["model"].drop_nulls().unique().sort()]
