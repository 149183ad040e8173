"""Numbers by prompt. Answers to one prompt are alike, so it is prompts that are the cases, and that are drawn again."""

import math
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pairwright.diagnose.answers import Answers
from pairwright.errors import InputError
from pairwright.stats import Interval

Floats = NDArray[np.float64]
_AT_ONCE = 4_000_000
"""Numbers in memory while drawing."""


def drawn_sums(
    values: Floats, groups: Sequence[object], *, draws: int, seed: int
) -> tuple[Floats, NDArray[np.float64], int]:
    """Sums over rows, and the same sums over prompts drawn again with all their rows.

    Whatever is a function of sums (a mean, a slope, a share) has its bootstrap over prompts from these at once: how
    often each prompt is drawn is multinomial, so a draw is a product of counts with the sums of the prompts.

    Source: Davison and Hinkley (1997), Bootstrap Methods and their Application, section 3.8 (cluster sampling).

    Args:
        values: what is summed, `[rows, k]`.
        groups: prompt of each row, `[rows]`.
        draws: bootstrap samples.
        seed: of the draws.

    Returns:
        Sums `[k]`, drawn sums `[draws, k]`, and the number of prompts.
    """
    numbered = {label: i for i, label in enumerate(dict.fromkeys(groups))}
    n = len(numbered)
    sums = np.zeros((n, values.shape[1]), dtype=np.float64)
    np.add.at(sums, np.array([numbered[label] for label in groups], dtype=np.intp), values)
    total: Floats = sums.sum(axis=0)
    if n == 0:
        return total, np.zeros((0, values.shape[1])), 0
    random = np.random.default_rng(seed)
    at_once = max(1, _AT_ONCE // n)
    parts = [
        random.multinomial(n, np.full(n, 1.0 / n), size=min(at_once, draws - done)) @ sums
        for done in range(0, draws, at_once)
    ]
    return total, np.concatenate(parts), n


def interval(value: float, drawn: Floats, n: int, *, confidence: float = 0.95) -> Interval:
    """Percentile interval; draws in which the number is not defined (NaN) are left out; one prompt has no interval."""
    defined = drawn[~np.isnan(drawn)]
    if n < 2 or not len(defined) or math.isnan(value):
        return Interval(float(value), math.nan, math.nan, n)
    low, high = np.quantile(defined, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(float(value), float(low), float(high), n)


def told(estimate: Interval, form: str = "+.3g") -> str:
    """An estimate in a sentence: `+1.2 [+0.8, +1.5]`, without brackets where it has no interval."""
    if math.isnan(estimate.value):
        return "not defined"
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return f"{estimate.value:{form}}"
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def mean_over(frame: pl.DataFrame, column: str, *, draws: int, seed: int) -> Interval:
    """Mean of a column over rows, with a bootstrap interval over prompts. No rows give NaN with n = 0."""
    values = frame[column].to_numpy().astype(np.float64)
    columns = np.stack([values, np.ones(len(values))], axis=1)
    total, drawn, n = drawn_sums(columns, frame["prompt_id"].to_list(), draws=draws, seed=seed)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    return interval(total[0] / total[1], drawn[:, 0] / drawn[:, 1], n)


def asked_for_most(answers: Answers) -> pl.DataFrame:
    """The answers to the highest goal asked for, or all where none was: how such a model is meant to be used."""
    top = answers.frame["goal"].max()
    return answers.frame.filter(pl.col("goal").eq_missing(pl.lit(top, dtype=pl.Float64)))


def asked_for_none(answers: Answers) -> pl.DataFrame:
    """The answers that were asked for no goal; where there are none of these, those to the highest goal."""
    plain = answers.frame.filter(pl.col("goal").is_null())
    return asked_for_most(answers) if plain.is_empty() else plain


def means(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """`prompt_id` and the mean of each column over the answers to a prompt, in order; null where none has it.

    Raises:
        InputError: a value is not finite.
    """
    for name in columns:
        if bad := frame.filter(pl.col(name).is_not_null() & ~pl.col(name).is_finite()).height:
            raise InputError(f"{bad:,} values of {name} are not finite; score or read these answers again")
    return frame.group_by("prompt_id", maintain_order=True).agg(pl.col(columns).mean())


def shared(policy: pl.DataFrame, start: pl.DataFrame, *, what: str) -> pl.DataFrame:
    """Two tables by prompt side by side, for the prompts in both; the start's columns end in `_start`.

    Raises:
        InputError: they share no prompt.
    """
    both = policy.join(start, on="prompt_id", how="inner", maintain_order="left", suffix="_start")
    if both.is_empty():
        raise InputError(f"{what}: the two models answered no prompt in common; generate both from the same prompts")
    return both


def wins(policy: pl.Expr, start: pl.Expr) -> pl.Expr:
    """1 where the policy scores higher, 1/2 where both score the same, 0 where it scores lower."""
    gap = (policy - start).round(9)  # means of equal scores may differ in their last bit
    return (gap.sign() + 1) / 2
