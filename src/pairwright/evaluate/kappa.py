"""Agreement beyond chance: the kappa of two raters, and of several.

Both are `(observed - expected) / (1 - expected)`: 1 is full agreement, 0 what chance gives, below 0 less than that. NaN
where chance alone agrees always, such as when everybody only ever says one thing.
"""

import math

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64] | NDArray[np.float64]


def cohen(counts: Counts) -> float:
    """Cohen's kappa of two raters.

    Chance is both saying the same when each keeps its own shares of the classes.

    Args:
        counts: how many cases the first rater put into the class of the row and the second into that of the column,
            `[classes, classes]`.

    Source: Cohen (1960), Educational and Psychological Measurement 20:37-46.
    """
    total = float(counts.sum())
    if not total:
        return math.nan
    expected = float(counts.sum(axis=1) @ counts.sum(axis=0)) / (total * total)
    return _beyond(float(np.trace(counts)) / total, expected)


def cohen_either_order(counts: Counts) -> float:
    """Cohen's kappa of two raters of two answers, where which of the two is called the first means nothing.

    Every case counts in both orders, so that no rater has a share of first ones but one half. Without ties it is twice
    the agreement, minus one.

    Args:
        counts: as in `cohen`, with the classes in an order that turns round with the answers: second, tie, first.
    """
    return cohen(counts + counts[::-1, ::-1])


def fleiss(counts: Counts) -> float:
    """Fleiss' kappa of several raters.

    Args:
        counts: how many raters put the case of the row into the class of the column, `[cases, classes]`; every case has
            as many raters, two at least.

    Source: Fleiss (1971), Psychological Bulletin 76:378-382.
    """
    if not len(counts):
        return math.nan
    raters = float(counts[0].sum())
    alike = (counts * (counts - 1)).sum(axis=1) / (raters * (raters - 1))
    shares = counts.sum(axis=0) / (len(counts) * raters)
    return _beyond(float(alike.mean()), float(shares @ shares))


def _beyond(observed: float, expected: float) -> float:
    return (observed - expected) / (1.0 - expected) if expected < 1.0 - 1e-12 else math.nan
