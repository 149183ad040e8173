"""Two models on the same prompts: whose answers score higher?"""

from typing import Annotated, Literal, NamedTuple

import numpy as np
import polars as pl
from pydantic import Field

from pairwright.errors import InputError
from pairwright.evaluate.answers import scored_answers
from pairwright.evaluate.result import Metric, Result, as_json
from pairwright.preferences import Preferences
from pairwright.stats import grouped_bootstrap, paired_difference, wilson

Asked = float | Literal["none"]


class _Side(NamedTuple):
    by_prompt: pl.DataFrame
    """`prompt_id`, `score`: the mean over its answers."""
    models: list[str]
    goal: float | None
    answers: int
    notes: list[str]


def compare(
    a: Preferences,
    b: Preferences,
    *,
    score: str = "score",
    goal_a: Asked | None = None,
    goal_b: Asked | None = None,
    draws: Annotated[int, Field(gt=0)] = 2000,
    seed: int = 0,
) -> Result:
    """Mean score of one set of answers minus that of another, over the prompts that both answer.

    A prompt counts once: the mean over its answers on each side. Intervals are 95% percentile bootstrap intervals
    over prompts, drawn as pairs.

    Args:
        a: scored answers of the first model.
        b: scored answers of the second, by the same scorer.
        score: column with the score.
        goal_a: only the answers of `a` that were asked for this score; `none` is those that were asked for none.
            Needed only where answers to several goals are there.
        goal_b: the same for `b`.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        `difference` (positive: `a` scores higher), `mean/a`, `mean/b`, and the shares of prompts at which `a` scores
        higher, the same and lower: `win`, `tie`, `loss`, with Wilson intervals.

    Raises:
        InputError: no prompt is in both, a side has answers to several goals, or scores are missing.
    """
    one, two = _side(a, score, goal_a, "a"), _side(b, score, goal_b, "b")
    both = one.by_prompt.join(two.by_prompt, on="prompt_id", how="inner", maintain_order="left", suffix="_b")
    n = len(both)
    if n == 0:
        raise InputError("evaluate compare: a and b have no prompt in common; generate both from the same prompts")
    notes = [*one.notes, *two.notes]
    if alone := len(one.by_prompt) + len(two.by_prompt) - 2 * n:
        notes.append(f"{alone:,} prompts are answered on one side only and are left out.")
    first, second = both["score"].to_numpy(), both["score_b"].to_numpy()
    gaps = np.round(first - second, 9)  # means of equal scores may differ in their last bit
    labels = both["prompt_id"].to_list()
    means = grouped_bootstrap(
        lambda rows: [float(first[rows].mean()), float(second[rows].mean())], labels, draws=draws, seed=seed
    )
    counts = {"win": int((gaps > 0).sum()), "tie": int((gaps == 0).sum()), "loss": int((gaps < 0).sum())}
    words = {"win": "higher", "tie": "the same", "loss": "lower"}
    gap = paired_difference(first, second, draws=draws, seed=seed)
    metrics = [
        Metric.of("difference", gap, "mean score of a minus mean score of b; n are prompts"),
        Metric.of("mean/a", means[0], "mean score of a"),
        Metric.of("mean/b", means[1], "mean score of b"),
        *(Metric.of(k, wilson(c, n), f"share of prompts at which a scores {words[k]}") for k, c in counts.items()),
    ]
    table = [
        {"side": name, "models": side.models, "goal": side.goal, "answers": side.answers, **as_json(mean)}
        for name, side, mean in zip(("a", "b"), (one, two), means, strict=True)
    ]
    settings = {"score": score, "goal_a": goal_a, "goal_b": goal_b, "draws": draws, "seed": seed}
    return Result(
        name="compare", n=n, settings=settings, metrics=tuple(metrics), table=tuple(table), notes=tuple(notes)
    )


def _side(answers: Preferences, score: str, goal: Asked | None, name: str) -> _Side:
    """The answers of one side that were asked for one goal, or for none, by prompt."""
    frame, notes = scored_answers(answers, score, what=f"evaluate compare: {name}")
    if "goal" not in frame.columns:
        frame = frame.with_columns(goal=pl.lit(None, dtype=pl.Float64))
    goals = frame["goal"].unique(maintain_order=True).to_list()
    told = ", ".join("none" if each is None else f"{each:g}" for each in goals)
    if goal is None and len(goals) > 1:
        raise InputError(f"evaluate compare: {name} has answers to several goals ({told}); choose with goal_{name}")
    wanted = goals[0] if goal is None else None if goal == "none" else float(goal)
    frame = frame.filter(pl.col("goal").eq_missing(pl.lit(wanted, dtype=pl.Float64)))
    if frame.is_empty():
        raise InputError(f"evaluate compare: {name} has no answers to the goal {goal}; it has {told}")
    by_prompt = frame.group_by("prompt_id", maintain_order=True).agg(pl.col("score").mean())
    models = sorted(frame["model"].drop_nulls().unique().to_list())
    return _Side(by_prompt, models, wanted, len(frame), [f"{name}: {note}" for note in notes])
