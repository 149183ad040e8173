"""How far a model is from the start, and how good: one point of the KL budget."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from pairwright.diagnose.answers import Answers
from pairwright.diagnose.by_prompt import asked_for_most, asked_for_none, mean_over, means, wins
from pairwright.stats import Interval

Estimate = Literal["exact", "monte_carlo"]
NONE = Interval(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Point:
    """One model: how far it is from the start, and how good."""

    answers: Answers
    kl: Interval
    d: Interval
    score: Interval
    win: Interval
    both: Mapping[Estimate, Interval]
    """The divergence by each estimate that is there."""
    clamped: bool
    scored: pl.DataFrame
    """`prompt_id` and `score`, the mean over a prompt's answers."""
    length: Interval


def comparable(answers: Sequence[Answers]) -> tuple[list[Answers], list[str]]:
    """The answers of the one largest length that most models have, and why others are left out."""
    lengths = [each.settings.get("max_new_tokens") for each in answers]
    most = max(dict.fromkeys(lengths), key=lengths.count) if lengths else None
    kept = [each for each, length in zip(answers, lengths, strict=True) if length == most]
    told = "a length that is not known" if most is None else f"{most} tokens"
    notes = [
        f"{each.name} is left out: it could write other lengths of answers than {told}, so its divergence is no number "
        "to compare."
        for each, length in zip(answers, lengths, strict=True)
        if length != most
    ]
    if kept and most is None:
        notes.append("Nothing says how long answers could get; divergences are comparable only if it was the same.")
    return kept, notes


def _has(frame: pl.DataFrame) -> dict[Estimate, pl.DataFrame]:
    """The answers that have each estimate, with it in `kl_of`."""
    ratio = pl.col("logp") - pl.col("start_logp")
    found: dict[Estimate, pl.DataFrame] = {
        "exact": frame.with_columns(kl_of=pl.col("kl")).drop_nulls("kl_of"),
        "monte_carlo": frame.with_columns(kl_of=ratio).drop_nulls("kl_of"),
    }
    return {name: rows for name, rows in found.items() if len(rows)}


def estimate_of_most(answers: Sequence[Answers]) -> Estimate:
    """The estimate that most models have; the exact one where both are equal."""
    there = [_has(asked_for_most(each)) for each in answers]
    order: tuple[Estimate, ...] = ("exact", "monte_carlo")
    return max(order, key=lambda name: sum(name in each for each in there))


def point(answers: Answers, start: Answers | None, metric: Estimate, draws: int, seed: int) -> tuple[Point | None, str]:
    """One model, or why it cannot be placed."""
    for name in ("temperature", "top_p"):
        if answers.settings.get(name, 1.0) not in (1, None):
            return None, f"it was drawn with {name} {answers.settings[name]:g}, not from the policy itself; use 1"
    frame = asked_for_most(answers)
    there = _has(frame)
    if metric not in there:
        return None, f"its answers have no {'exact KL' if metric == 'exact' else 'log-probabilities of both models'}"
    scored = means(frame.drop_nulls("score"), "score")
    if scored.is_empty():
        return None, "its answers have no score; run score"
    both = {name: mean_over(means(rows, "kl_of"), "kl_of", draws=draws, seed=seed) for name, rows in there.items()}
    kl = both[metric]
    won = NONE
    if start is not None and len(first := means(asked_for_none(start).drop_nulls("score"), "score")):
        pairs = scored.join(first, on="prompt_id", how="inner", maintain_order="left", suffix="_start")
        won = mean_over(
            pairs.with_columns(win=wins(pl.col("score"), pl.col("score_start"))), "win", draws=draws, seed=seed
        )
    lengths = means(frame.drop_nulls("length"), "length")
    return Point(
        answers=answers,
        kl=kl,
        d=Interval(_root(kl.value), _root(kl.low), _root(kl.high), kl.n),
        score=mean_over(scored, "score", draws=draws, seed=seed),
        win=won,
        both=both,
        clamped=kl.value < 0,
        scored=scored,
        length=mean_over(lengths, "length", draws=draws, seed=seed),
    ), ""


def fall(beyond: Sequence[Point], near: Sequence[Point], draws: int, seed: int) -> Interval:
    """Mean score of some models minus that of others, over the prompts that all of them answered."""
    prompts = [set(each.scored["prompt_id"]) for each in (*beyond, *near)]
    sides = [
        pl.concat([each.scored for each in side])
        .filter(pl.col("prompt_id").is_in(sorted(set.intersection(*prompts))))
        .group_by("prompt_id", maintain_order=True)
        .agg(pl.col("score").mean())
        for side in (beyond, near)
    ]
    both = sides[0].join(sides[1], on="prompt_id", how="inner", maintain_order="left", suffix="_near")
    return mean_over(both.with_columns(gap=pl.col("score") - pl.col("score_near")), "gap", draws=draws, seed=seed)


def _root(kl: float) -> float:
    """The root is rising, so the ends of an interval of the divergence become those of its root."""
    return kl if math.isnan(kl) else math.sqrt(max(0.0, kl))
