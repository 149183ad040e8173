"""Benchmarks, item by item: levels of one or two models with intervals that know which items both were given.

A benchmark has one or several parts (BBH has 24). Items are drawn again within their part, for both models the same
ones, so that an item's difficulty cancels in a difference and the parts keep their sizes.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairwright.stats import Interval, wilson

Floats = NDArray[np.float64]
_BLOCK = 1 << 22
"""Items drawn at a time, so that many draws of a large benchmark stay small."""


class Items(NamedTuple):
    """The values of one part's items, for each model in turn.

    Attributes:
        values: `[models, items]`.
        weight: of the part in its benchmark; the weights of a benchmark's parts sum to 1.
    """

    values: Floats
    weight: float


class Level(NamedTuple):
    """A benchmark's number for each model.

    Attributes:
        value: `[models]`.
        drawn: the same from items drawn again, `[models, draws]`; NaN where nothing can be drawn.
        n: items.
        num_right: items marked 1, `[models]`, where the number is the share of them among all items; else None.
    """

    value: Floats
    drawn: Floats
    n: int
    num_right: Floats | None = None


def paired(sides: Sequence[Mapping[str, float]]) -> tuple[Floats, int]:
    """The values of the items that all sides have, and how many items some side lacks.

    Args:
        sides: by item, each model's value.

    Returns:
        `[models, items]` in the order of the first side, and the count.
    """
    shared = [item for item in sides[0] if all(item in side for side in sides)]
    every = {item for side in sides for item in side}
    values = np.array([[side[item] for item in shared] for side in sides], dtype=np.float64)
    return values.reshape(len(sides), len(shared)), len(every) - len(shared)


def weights(sizes: Sequence[int], *, by_size: bool) -> list[float]:
    """What each part weighs in its benchmark: by its number of items, or all alike."""
    total = sum(sizes)
    return [size / total if by_size else 1.0 / len(sizes) for size in sizes]


def level(name: str, parts: Sequence[Items], *, draws: int, seed: int) -> Level:
    """A benchmark's number for each model: the weighted mean over its parts of the mean over a part's items.

    Items are drawn again within each part, the same ones for all models. A part of a single item has no spread that
    could be seen, so there is nothing to draw.

    Source: Davison and Hinkley (1997), Bootstrap Methods and their Application, section 3.2 (several samples).

    Args:
        name: of the benchmark; benchmarks of other names draw independently.
        parts: at least one, each with at least one item.
        draws: bootstrap samples.
        seed: of the draws.
    """
    value = sum((part.weight * part.values.mean(axis=1) for part in parts), np.zeros(len(parts[0].values)))
    n = sum(part.values.shape[1] for part in parts)
    right = _num_right(value, parts, n)
    if min(part.values.shape[1] for part in parts) < 2:
        return Level(value, np.full((len(value), draws), math.nan), n, right)
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    drawn = sum((part.weight * _means(part.values, draws, random) for part in parts), np.zeros((len(value), draws)))
    return Level(value, drawn, n, right)


def average(levels: Sequence[Level]) -> Level:
    """The unweighted mean over benchmarks, each as large as any other."""
    return Level(
        np.mean([each.value for each in levels], axis=0),
        np.mean([each.drawn for each in levels], axis=0),
        sum(each.n for each in levels),
    )


def interval(found: Level, *, of: int, minus: int | None = None) -> Interval:
    """One model's number, or the difference of two, with its 95% interval.

    Where all marks of one number are 0 or 1 it is Wilson's, which has a width also where all are right or all wrong;
    else it is made of percentiles. Draws that are all alike show no spread: then the ends are NaN.

    Args:
        found: the level.
        of: which model.
        minus: the model whose number is subtracted.
    """
    value, drawn = found.value[of], found.drawn[of]
    if minus is None and found.num_right is not None:
        return wilson(int(found.num_right[of]), found.n)
    if minus is not None:
        value, drawn = value - found.value[minus], drawn - found.drawn[minus]
    seen = len(drawn) > 0 and not np.isnan(drawn).any() and np.ptp(drawn) > 0
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist() if seen else (math.nan, math.nan)
    return Interval(float(value), low, high, found.n)


def _num_right(value: Floats, parts: Sequence[Items], n: int) -> Floats | None:
    """How many items each model has right, where the number is their share."""
    marks = np.concatenate([part.values for part in parts], axis=1)
    right: Floats = marks.sum(axis=1)
    whole = bool(np.isin(marks, (0.0, 1.0)).all()) and np.allclose(right / n, value, rtol=0, atol=1e-12)
    return right if whole else None


def _means(values: Floats, draws: int, random: np.random.Generator) -> Floats:
    """Means over items drawn with replacement, `[models, draws]`."""
    n = values.shape[1]
    step = max(1, _BLOCK // n)
    blocks = [random.integers(0, n, (min(step, draws - start), n)) for start in range(0, draws, step)]
    return np.concatenate([values[:, block].mean(axis=2) for block in blocks], axis=1)
