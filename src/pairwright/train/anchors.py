"""Anchors: each pair's better answer after its prompt with the goal that generation will ask for."""

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from pairwright.errors import InputError
from pairwright.goals import Goal
from pairwright.logprobs.columns import pair_texts
from pairwright.logprobs.tokenise import Texts
from pairwright.preferences import Preferences


def anchor_scores(prefs: Preferences, *, score: str | None) -> tuple[str, ...]:
    """The columns that say which answer of a pair is the better one: the attributes of the goals, else the main score.

    Raises:
        InputError: the pairs ask for no goal, or for one that is no score.
    """
    form = prefs.goal_format
    if form is None:
        raise InputError("this loss needs pairs that ask for a goal; relabel the data first")
    if form.asks != "scores":
        raise InputError(f"this loss needs pairs that ask for scores, and these ask for a {form.asks}; relabel them")
    return tuple(f"score_{name.removeprefix('score_')}" for name in form.attributes) or (score or "score",)


def anchor_texts(
    prefs: Preferences, tokenizer: Any, goal: Goal, numbers: pl.DataFrame, columns: Sequence[str]
) -> Iterator[Texts]:
    """The better answer of each pair after its prompt with the goal `goal` in place, in the order of `pairs`.

    The better one has the higher score, or mean of several; of two equal ones it is that with the smaller id, so that
    the copies of a pair that ask for different goals share it. The prompt is what generation makes for this goal.

    Args:
        prefs: pairs with goals.
        tokenizer: with a chat template.
        goal: in score units.
        numbers: of the pairs, in their order: `<column>_chosen` and `<column>_rejected` for each of `columns`.
        columns: of scores.

    Raises:
        InputError: the goal does not fit the goals of the data.
    """
    form = prefs.goal_format
    if form is not None:
        goal = form.canonical(goal)
    chosen, rejected = (pl.mean_horizontal(f"{name}_{side}" for name in columns) for side in ("chosen", "rejected"))
    ids = pl.col("chosen_id"), pl.col("rejected_id")
    first = ((chosen > rejected) | ((chosen == rejected) & (ids[0] < ids[1]))).fill_null(True)
    asked = pl.lit(goal, pl.Float64) if isinstance(goal, int | float) else pl.concat_list([pl.lit(g) for g in goal])
    pairs = numbers.select(
        "prompt_id",
        pl.when(first).then(ids[0]).otherwise(ids[1]).alias("chosen_id"),
        pl.when(first).then(ids[1]).otherwise(ids[0]).alias("rejected_id"),
        goal=asked,
    )
    for texts in pair_texts(Preferences.of(prefs.prompts, prefs.responses, pairs, prefs.lineage), tokenizer):
        yield texts._replace(answers=texts.answers[:1])
