"""Estimates with their intervals: an `Interval` has a value, its two ends and the number of cases behind it.

Conventions: every function takes plain numbers and gives an `Interval` at 95% unless told otherwise. No cases give NaN
with `n = 0`, never zero; where there are too few cases for an interval the value stands and its ends are NaN. A value
that is not finite is refused: what is unscored has to be left out, and counted, before it comes here.

    >>> wilson(8, 10)
    Interval(value=0.8, low=0.490..., high=0.943..., n=10)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from pairwright.errors import InputError

Numbers = Sequence[float] | NDArray[np.floating] | NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, the ends of its confidence interval, and the number of cases it rests on."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """`0.80 [0.49, 0.94], n=10`."""
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}], n={self.n}"


def wilson(k: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Share of `k` in `n` cases, with Wilson's score interval.

    It stays inside 0 to 1 and has a width even at `k = 0` and `k = n`, which the textbook interval has not.

    Source: Wilson (1927), JASA 22:209-212; recommended by Brown, Cai and DasGupta (2001), Statistical Science 16(2).

    Raises:
        InputError: `k` is not between 0 and `n`.
    """
    _counts(k, n)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    z, share = _z(confidence), k / n
    scale = 1.0 / (1.0 + z * z / n)
    middle = scale * (share + z * z / (2 * n))
    half = scale * z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if k == 0 else middle - half
    high = 1.0 if k == n else middle + half
    return Interval(share, low, high, n)


def log_odds(k: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Natural logarithm of the odds of `k` in `n` cases; 0 is even, positive means more than half.

    Half a case is added on both sides, so that the value is finite at `k = 0` and `k = n`:
    `ln((k + 1/2) / (n - k + 1/2))` with standard error `sqrt(1/(k + 1/2) + 1/(n - k + 1/2))`.

    Source: Haldane (1956), Annals of Human Genetics 20:309-311; Gart and Zweifel (1967), Biometrika 54:181-187.

    Raises:
        InputError: `k` is not between 0 and `n`.
    """
    _counts(k, n)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    yes, no = k + 0.5, n - k + 0.5
    value = math.log(yes / no)
    half = _z(confidence) * math.sqrt(1 / yes + 1 / no)
    return Interval(value, value - half, value + half, n)


def mean_interval(values: Numbers, *, confidence: float = 0.95) -> Interval:
    """Mean of independent values, with Student's t interval: `mean ± t(n-1) · s / sqrt(n)`, `s` with n - 1.

    Source: Student (1908), Biometrika 6:1-25.

    Raises:
        InputError: a value is not finite.
    """
    data = _finite(values)
    n = len(data)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    value = float(data.mean())
    if n == 1:
        return Interval(value, math.nan, math.nan, 1)
    half = _t_quantile(0.5 + confidence / 2, n - 1) * float(data.std(ddof=1)) / math.sqrt(n)
    return Interval(value, value - half, value + half, n)


def paired_difference(
    first: Numbers, second: Numbers, *, confidence: float = 0.95, draws: int = 2000, seed: int = 0
) -> Interval:
    """Mean of `first - second` over the same cases, with a percentile bootstrap interval; positive: first is higher.

    Cases are drawn again as pairs, so what makes a case easy or hard for both sides cancels. The result is the same for
    the same seed.

    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, section 13.3.

    Args:
        first: one number for each case, `[n]`.
        second: the other number of the same cases in the same order, `[n]`.
        confidence: of the interval.
        draws: bootstrap samples.
        seed: of the draws.

    Raises:
        InputError: the two have different lengths, or a value is not finite.
    """
    one, two = _finite(first), _finite(second)
    if len(one) != len(two):
        raise InputError(f"a paired difference needs both numbers of each case; there are {len(one)} and {len(two)}")
    gaps = one - two
    n = len(gaps)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    value = float(gaps.mean())
    if n == 1:
        return Interval(value, math.nan, math.nan, 1)
    random = np.random.default_rng(seed)
    means = np.array([gaps[random.integers(0, n, n)].mean() for _ in range(draws)])
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(value, float(low), float(high), n)


def grouped_bootstrap(
    statistic: Callable[[NDArray[np.intp]], Sequence[float]],
    groups: Sequence[object],
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> list[Interval]:
    """Estimates from rows that come in groups, with percentile bootstrap intervals over the groups.

    Answers to one prompt are alike, so it is the prompts that are drawn again, each with all its rows. `n` is the
    number of groups: that many cases are independent. A draw in which a statistic is not defined (NaN) is left out of
    its interval.

    Source: Davison and Hinkley (1997), Bootstrap Methods and their Application, section 3.8 (cluster sampling).

    Args:
        statistic: gives its numbers for rows, by row numbers (a row may come several times).
        groups: the group of each row, `[rows]`; equal labels are one group.
        confidence: of the intervals.
        draws: bootstrap samples.
        seed: of the draws.

    Returns:
        An `Interval` for each number that `statistic` gives; its value is that of all rows.
    """
    _z(confidence)
    numbered = {label: i for i, label in enumerate(dict.fromkeys(groups))}
    labels = np.array([numbered[label] for label in groups], dtype=np.intp)
    n = len(numbered)
    values = statistic(np.arange(len(labels), dtype=np.intp))
    if n < 2:
        return [Interval(float(value), math.nan, math.nan, n) for value in values]
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
    random = np.random.default_rng(seed)
    drawn = np.array(
        [statistic(np.concatenate([members[i] for i in random.integers(0, n, n)])) for _ in range(draws)],
        dtype=np.float64,
    )
    found = []
    for value, column in zip(values, drawn.T, strict=True):
        defined = column[~np.isnan(column)]
        ends = [math.nan, math.nan]
        if len(defined) and not math.isnan(value):
            ends = np.quantile(defined, [0.5 - confidence / 2, 0.5 + confidence / 2]).tolist()
        found.append(Interval(float(value), ends[0], ends[1], n))
    return found


def spearman(x: Numbers, y: Numbers, *, confidence: float = 0.95) -> Interval:
    """Spearman's rank correlation, ties at their mean rank, with a Fisher z interval.

    The interval is `tanh(atanh(rho) ± z · sqrt((1 + rho²/2) / (n - 3)))`. It takes the rows as independent: for rows
    that share a prompt it is too narrow. A constant side has no correlation: NaN. Below four rows the ends are NaN. At
    rho = 1 or -1 the ends fall on the value.

    Source: Bonett and Wright (2000), Psychometrika 65:23-28 (the variance).

    Raises:
        InputError: the two have different lengths, or a value is not finite.
    """
    first, second = _finite(x), _finite(y)
    n = len(first)
    if n != len(second):
        raise InputError(f"a correlation needs both numbers of each row; there are {n} and {len(second)}")
    if n < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return Interval(math.nan, math.nan, math.nan, n)
    a, b = (ranks - ranks.mean() for ranks in (_ranks(first), _ranks(second)))
    rho = float((a @ b) / math.sqrt(float(a @ a) * float(b @ b)))
    rho = max(-1.0, min(1.0, rho))
    if n < 4:
        return Interval(rho, math.nan, math.nan, n)
    if abs(rho) == 1.0:
        return Interval(rho, rho, rho, n)
    half = _z(confidence) * math.sqrt((1 + rho * rho / 2) / (n - 3))
    middle = math.atanh(rho)
    return Interval(rho, math.tanh(middle - half), math.tanh(middle + half), n)


def _counts(k: int, n: int) -> None:
    if not 0 <= k <= n:
        raise InputError(f"{k} of {n} cases is no count; the first number must be between 0 and the second")


def _finite(values: Numbers) -> NDArray[np.float64]:
    data = np.asarray(values, dtype=np.float64).reshape(-1)
    if not np.isfinite(data).all():
        bad = int((~np.isfinite(data)).sum())
        raise InputError(f"{bad} of {len(data)} values are not finite; leave them out and count them first")
    return data


def _z(confidence: float) -> float:
    """The normal quantile of a two-sided interval: 1.96 at 0.95."""
    if not 0.0 < confidence < 1.0:
        raise InputError(f"confidence must be between 0 and 1, not {confidence}")
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of theirs."""
    _, group, size = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(size)
    return (last - (size - 1) / 2.0)[group]


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)


def _t_quantile(share: float, freedom: int) -> float:
    """The value that a Student t variable stays under with probability `share` (at least one half).

    With `t = sqrt(v) tan(a)` the distribution is `1/2 + c · ∫₀ᵃ cos^(v-1)`, `c = Γ((v+1)/2) / (Γ(v/2) sqrt(π))`: a
    smooth integrand, so 128 Gauss-Legendre nodes are exact to rounding and bisection on the angle does the rest.
    """
    if not 0.5 < share < 1.0:
        raise InputError(f"confidence must be between 0 and 1, not {2 * share - 1}")
    log_c = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - 0.5 * math.log(math.pi)
    low, high = 0.0, min(math.pi / 2, 40.0 / math.sqrt(freedom))
    for _ in range(80):
        angle = (low + high) / 2
        at = angle * (_NODES + 1) / 2
        area = float((_WEIGHTS * np.exp(log_c + (freedom - 1) * np.log(np.cos(at)))).sum()) * angle / 2
        low, high = (angle, high) if 0.5 + area < share else (low, angle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)
