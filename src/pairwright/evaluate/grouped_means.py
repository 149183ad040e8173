"""Means of rows in groups, with bootstrap draws over the groups: from sums by group, so that many rows are fast.

What `pairwright.stats.grouped_bootstrap` gives for means, by the same draws.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairwright.stats import Interval

Floats = NDArray[np.float64]
_ENDS = (0.025, 0.975)


class Means(NamedTuple):
    """Means of some columns, and of every draw."""

    value: Floats
    """`[columns]`; NaN where no row has one."""
    drawn: Floats
    """`[draws, columns]`."""
    n: list[int]
    """Groups that have a value, `[columns]`."""

    def intervals(self) -> list[Interval]:
        """Each mean with its 95% percentile interval over the groups."""
        columns = zip(self.value.tolist(), self.drawn.T, self.n, strict=True)
        return [percentiles(value, drawn, n) for value, drawn, n in columns]


def grouped_means(values: Floats, groups: Sequence[object], *, draws: int, seed: int) -> Means:
    """Means of columns, drawn again by group, each group with all its rows.

    Args:
        values: `[rows, columns]`; NaN where a row has no part in the mean of a column.
        groups: the group of each row, `[rows]`; equal labels are one group.
        draws: bootstrap samples.
        seed: of the draws.

    Source: Davison and Hinkley (1997), Bootstrap Methods and their Application, section 3.8 (cluster sampling).
    """
    numbered = {label: i for i, label in enumerate(dict.fromkeys(groups))}
    labels = np.array([numbered[label] for label in groups], dtype=np.intp)
    count = len(numbered)
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    sums, sizes = (
        np.column_stack([np.bincount(labels, column, count) for column in each.T]) for each in (filled, known)
    )
    random = np.random.default_rng(seed)
    drawn = np.full((draws, values.shape[1]), math.nan)
    for at in range(draws if count else 0):
        times = np.bincount(random.integers(0, count, count), minlength=count).astype(np.float64)
        drawn[at] = _shares(times @ sums, times @ sizes)
    return Means(_shares(sums.sum(axis=0), sizes.sum(axis=0)), drawn, (sizes > 0).sum(axis=0).tolist())


def percentiles(value: float, drawn: Floats, n: int, *, cases: int | None = None) -> Interval:
    """A 95% percentile interval, without ends where it rests on fewer than two cases; NaN draws do not count.

    Args:
        value: the estimate.
        drawn: of every draw, `[draws]`.
        n: what the interval says as its number of cases.
        cases: on how many it rests, where that is not `n`.
    """
    defined = drawn[~np.isnan(drawn)]
    if math.isnan(value) or not len(defined) or (n if cases is None else cases) < 2:
        return Interval(value, math.nan, math.nan, n)
    low, high = np.quantile(defined, _ENDS).tolist()
    return Interval(value, low, high, n)


def _shares(sums: Floats, sizes: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = sums / sizes
    return found
