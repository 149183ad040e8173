"""Kendall's tau-b of two columns, with the share of each row in it.

`O(n log² n)` by merging, in numpy: the share of each row is what the jackknife over prompts needs, and no library gives
it.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairwright.stats import Interval

Numbers = NDArray[np.float64]
Counts = NDArray[np.int64]
_Z = 1.959963984540054
"""The normal quantile of a two-sided 95% interval."""


class Shares(NamedTuple):
    """Of each row, over all other rows: `[n]` each.

    Attributes:
        agree: those that both columns order alike, less those that they order against each other.
        first: those that differ from it in the first column.
        second: those that differ from it in the second.
    """

    agree: Counts
    first: Counts
    second: Counts


def shares(x: Numbers, y: Numbers) -> Shares:
    """The share of each row in Kendall's tau-b.

    Args:
        x: the first column, finite, `[n]`.
        y: the second, of the same rows.
    """
    a, b = _ranks(x), _ranks(y)
    alike = _below(a, b) + _below(-a, -b)
    against = _below(a, -b) + _below(-a, b)
    return Shares(alike - against, _others(a), _others(b))


def tau(agree: float, first: float, second: float) -> float:
    """tau-b from sums of `Shares`; NaN where a column does not vary.

    Source: Kendall (1945), Biometrika 33:239-251 (the correction for ties).
    """
    return agree / math.sqrt(first * second) if first > 0 and second > 0 else math.nan


def kendall(x: Numbers, y: Numbers, groups: Counts) -> Interval:
    """tau-b over all rows, with an interval by the jackknife over groups.

    Each group is left out once; the spread of the estimates gives a standard error `s`, and the interval is
    `tanh(atanh(tau) ± 1.96 s / (1 - tau²))`. With fewer than three groups, and at tau = 1 or -1, the ends are NaN.

    Args:
        x: the first column, finite, `[n]`.
        y: the second.
        groups: the group of each row, numbered from 0 without gaps, `[n]`.

    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 11 (the jackknife).
    """
    whole = shares(x, y)
    value = tau(*(float(part.sum()) for part in whole))
    num_groups = int(groups.max()) + 1 if len(groups) else 0
    if num_groups < 3 or math.isnan(value) or abs(value) >= 1.0:
        return Interval(value, math.nan, math.nan, num_groups)
    inside = _inside(x, y, groups, num_groups)
    left = [
        float(total.sum()) - 2.0 * np.bincount(groups, weights=total, minlength=num_groups) + own
        for total, own in zip(whole, inside, strict=True)
    ]
    without = np.array([tau(*parts) for parts in zip(*left, strict=True)])
    without = without[~np.isnan(without)]
    count = len(without)
    error = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum())) if count else math.nan
    half = _Z * error / (1.0 - value * value)
    middle = math.atanh(value)
    return Interval(value, math.tanh(middle - half), math.tanh(middle + half), num_groups)


def _inside(x: Numbers, y: Numbers, groups: Counts, num_groups: int) -> tuple[Numbers, Numbers, Numbers]:
    """The sums of the shares within each group alone."""
    found = tuple(np.zeros(num_groups) for _ in range(3))
    order = np.argsort(groups, kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(groups, minlength=num_groups))[:-1]):
        dx, dy = (np.sign(one[rows][:, None] - one[rows][None, :]) for one in (x, y))
        for total, part in zip(found, (dx * dy, np.abs(dx), np.abs(dy)), strict=True):
            total[groups[rows[0]]] = part.sum()
    return found[0], found[1], found[2]


def _ranks(values: Numbers) -> Counts:
    """Whole numbers in the same order, equal ones equal."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _others(ranks: Counts) -> Counts:
    """How many rows differ from each."""
    _, group, size = np.unique(ranks, return_inverse=True, return_counts=True)
    return (len(ranks) - size[group]).astype(np.int64)


def _below(a: Counts, b: Counts) -> Counts:
    """Of each row, how many others lie strictly below it in both."""
    order = np.lexsort((-b, a))  # of rows equal in `a` the larger `b` comes first, so that none of them counts
    values = b[order]
    n = len(values)
    place = np.arange(n)
    counts = np.zeros(n, dtype=np.int64)
    width = 1
    while width < n:
        left = (place // width) % 2 == 0
        # Within two neighbouring runs by value, the right one's first where equal: who lies below comes before.
        merged = np.lexsort((left, values, place // (2 * width)))
        before = np.cumsum(left[merged])
        start = merged // (2 * width) * width  # rows of left runs in all the blocks before
        right = ~left[merged]
        counts[merged[right]] += before[right] - start[right]
        width *= 2
    found = np.empty(n, dtype=np.int64)
    found[order] = counts
    return found
