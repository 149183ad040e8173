"""Cuts: how many or which of the ranked pairs are kept.

A cut is a plug: `cut(values, *, settings) -> mask`, where `values` are the metric's numbers (float64, finite, in row
order, none missing) of the pairs that can be selected. Equal numbers are told apart by row order.
"""

import math
from collections.abc import Callable
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
Share = Annotated[float, Field(ge=0, le=1)]


def top(values: Values, *, keep: Share) -> Mask:
    """The largest: floor(keep N) of them, the earlier row first where numbers are equal.

    Args:
        values: the metric.
        keep: share of the N pairs that can be selected.
    """
    return _largest(values, count_of(keep, len(values)))


def bottom(values: Values, *, keep: Share) -> Mask:
    """The smallest: floor(keep N) of them, the earlier row first where numbers are equal.

    Args:
        values: the metric.
        keep: share of the N pairs that can be selected.
    """
    return _largest(-values, count_of(keep, len(values)))


def band(values: Values, *, keep: Share, centre: Share = 0.5) -> Mask:
    """A run of floor(keep N) neighbours in the order from smallest to largest.

    Args:
        values: the metric.
        keep: share of the N pairs that can be selected.
        centre: where the run lies: 0 at the smallest, 0.5 in the middle, 1 at the largest.
    """
    count = count_of(keep, len(values))
    start = math.floor((len(values) - count) * centre + 1e-9)
    mask = np.zeros(len(values), dtype=np.bool_)
    mask[np.argsort(values, kind="stable")[start : start + count]] = True
    return mask


def above(values: Values, *, threshold: float) -> Mask:
    """All that are larger than a number, however many.

    Args:
        values: the metric.
        threshold: in the metric's units; equal is not above.
    """
    return np.asarray(values > threshold, dtype=np.bool_)


def sample(values: Values, *, keep: Share, temperature: Annotated[float, Field(gt=0)] = 1.0, seed: int = 0) -> Mask:
    """A weighted draw of floor(keep N) without replacement, each weight exp(value / temperature).

    Args:
        values: the metric.
        keep: share of the N pairs that can be selected.
        temperature: in the metric's units; large is an even draw, small is `top`.
        seed: of the draw.

    Source: Efraimidis and Spirakis, 2006, in its Gumbel form.
    """
    uniform = np.random.default_rng(seed).random(len(values))
    with np.errstate(divide="ignore"):  # a draw of exactly 0 is minus infinity: last
        return _largest(values / temperature - np.log(-np.log(uniform)), count_of(keep, len(values)))


CUTS: dict[str, Callable[..., Mask]] = {
    "top": top,
    "bottom": bottom,
    "band": band,
    "above": above,
    "sample": sample,
}


def count_of(keep: float, total: int) -> int:
    """floor(keep total): how many of `total` a share keeps; 0.29 of 100 is 29, whatever floating point says."""
    return math.floor(keep * total + 1e-6)


def _largest(values: Values, count: int) -> Mask:
    """A mask of the `count` largest; of equal ones the earlier. Linear in the number of values."""
    if count == 0 or count == len(values):
        return np.full(len(values), count > 0, dtype=np.bool_)
    bar = np.partition(values, len(values) - count)[len(values) - count]
    mask = np.asarray(values > bar, dtype=np.bool_)
    mask[np.flatnonzero(values == bar)[: count - int(mask.sum())]] = True
    return mask
