"""Scored answers as evaluations read them."""

import polars as pl

from pairwright.errors import InputError
from pairwright.plug import nearest
from pairwright.preferences import Preferences


def scored_answers(answers: Preferences, score: str, *, what: str) -> tuple[pl.DataFrame, list[str]]:
    """The answers that have a score, in order: `prompt_id`, `model`, `score`, and `goal` where there is one; and notes.

    Args:
        answers: whose `responses` are read.
        score: the column that becomes `score`.
        what: who asks, for messages.

    Raises:
        InputError: there is no such column, no answer has a score, or a score or goal is not finite.
    """
    schema = answers.responses.collect_schema()
    if score not in schema:
        known = [name for name in schema.names() if name.startswith("score")]
        hint = nearest(score, known) or f"; there are {', '.join(known)}"
        raise InputError(f"{what}: responses have no column {score!r}{hint}")
    goal = ["goal"] if "goal" in schema else []
    frame = answers.responses.select("prompt_id", "model", pl.col(score).cast(pl.Float64).alias("score"), *goal)
    rows = frame.collect()
    found = rows.filter(pl.col("score").is_not_null())
    if found.is_empty():
        raise InputError(f"{what}: none of the {len(rows):,} answers has a {score}; run score first")
    if bad := found.filter(~pl.col("score").is_finite()).height:
        raise InputError(f"{what}: {bad:,} values of {score} are not finite; score these answers again")
    if goal and found["goal"].dtype.is_float() and (bad := found.filter(~pl.col("goal").is_finite()).height):
        raise InputError(f"{what}: {bad:,} goals are not finite; an answer that was asked for no score has null there")
    left = len(rows) - len(found)
    return found, [f"{left:,} of {len(rows):,} answers have no {score} and are left out."] if left else []
