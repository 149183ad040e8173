"""How quality depends on the distance from the start: the scaling law of over-optimisation, and a rival.

`d = sqrt(KL(policy || start))`, KL in nats for a whole answer; `w` is the quality at d. Both curves have two free
numbers besides `w0`, the quality of the start, and both are linear in them, so least squares has one solution:

- the law `w(d) = w0 + a d - b d log d` (arXiv 2406.02900, with `w0` for its win rate of the start). For b > 0 it is
  highest at `d* = exp(a / b - 1)`, where it is `b d*` above `w0`: the derivative `a - b - b log d` is 0 there;
- the quadratic in the divergence, `w(d) = w0 + a d^2 + b d^4`.

`w0` is the score of the start (`law`, `quadratic`) or free (`law_free`, `quadratic_free`). Points at d = 0 say nothing
about a and b; they are left out. Nothing is told of distances not measured: a peak counts only where its whole
interval lies between the smallest and the largest d.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pairwright.errors import InputError
from pairwright.stats import Interval

Floats = NDArray[np.float64]
Values = Sequence[float] | Floats
FEWEST = 4
"""Distinct distances that a curve needs."""
Reason = Literal["few", "no peak", "outside", "unsure", "unfit"]
"""Why a peak is not identified: too few distances; a law without one; one outside the distances measured; an interval
without ends, or with ends outside; models that score beyond doubt more than those at the law's peak."""


@dataclass(frozen=True)
class Fit:
    """A curve through points.

    Attributes:
        w0: quality at d = 0.
        a: of the first term.
        b: of the second term, in the signs of the module's formulas.
        rmse: root mean square of what the curve misses the points by.
        left_out: the same, each point missed by the curve through the others (leave-one-out); NaN where that is not
            defined.
        at: the curve: quality at distances, `[n]` to `[n]`.
        n: points.
    """

    w0: float
    a: float
    b: float
    rmse: float
    left_out: float
    at: Callable[[Floats], Floats]
    n: int


@dataclass(frozen=True)
class Peak:
    """Where the law is highest.

    Attributes:
        reason: why the points do not say; None where they do.
        why: the same in words, with the numbers; empty where they do.
        d: the distance of the peak, in sqrt(nats); NaN where it is not identified.
        gain: quality at the peak minus that of the start; NaN where it is not identified.
        fit: the law; None where there are too few points for one.
    """

    reason: Reason | None
    why: str
    d: Interval
    gain: Interval
    fit: Fit | None

    @property
    def identified(self) -> bool:
        """Whether the points say where."""
        return self.reason is None


def law(d: Values, w: Values, *, start: float) -> Fit:
    """`w0 + a d - b d log d` with `w0 = start`.

    Args:
        d: distances, at least 0, `[n]`.
        w: quality at each, `[n]`.
        start: quality of the start.

    Raises:
        InputError: there are fewer distinct distances above 0 than free numbers, or a number is not finite.
    """
    return _solve(*_points(d, w), _law, start)


def law_free(d: Values, w: Values) -> Fit:
    """`w0 + a d - b d log d` with `w0` free; see `law`."""
    return _solve_free(*_points(d, w), _law)


def quadratic(d: Values, w: Values, *, start: float) -> Fit:
    """`w0 + a d^2 + b d^4` with `w0 = start`: quadratic in the divergence; see `law`."""
    return _solve(*_points(d, w), _quadratic, start)


def quadratic_free(d: Values, w: Values) -> Fit:
    """`w0 + a d^2 + b d^4` with `w0` free; see `law`."""
    return _solve_free(*_points(d, w), _quadratic)


def peak(
    d: Values,
    w: Values,
    *,
    fit: Callable[[Floats, Floats], Fit],
    groups: Sequence[object] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Peak:
    """Where the law is highest, with 95% percentile bootstrap intervals, or why the points do not say.

    Points are drawn again; where they come in groups (the seeds of training), groups are drawn first and then points
    within each, which is rather too wide than too narrow. A draw without a peak (b <= 0, or too few distinct distances)
    counts on both ends, so an interval is bounded only if fewer than 2.5% of draws are so.

    Args:
        d: distances, `[n]`.
        w: quality, `[n]`.
        fit: `law_free`, or `law` with its `start` bound (`functools.partial(law, start=5.0)`).
        groups: of each point, `[n]`; equal labels are one group.
        draws: bootstrap samples.
        seed: of the draws.

    Raises:
        InputError: the numbers do not belong together, or are not finite.
    """
    at, quality = _points(d, w)
    keep = np.asarray(d, dtype=np.float64) > 0
    labels = None if groups is None else [label for label, kept in zip(groups, keep, strict=True) if kept]
    distinct = _distinct(at)
    if distinct < FEWEST:
        return _unknown("few", f"there are {distinct} distinct distances above 0, and a curve needs {FEWEST}", None)
    found = fit(at, quality)
    if found.b <= 0:
        return _unknown("no peak", f"the law has no highest point (b = {found.b:.3g})", found)
    best = _highest(found)
    low, high = float(at.min()), float(at.max())
    if not low <= best <= high:
        return _unknown(
            "outside",
            f"the law would be highest at d = {best:.3g}, outside the distances measured ({low:.3g} to {high:.3g})",
            found,
        )
    places, gains = _drawn(at, quality, fit, labels, draws, seed)
    at_peak, gain = _ends(best, places, len(at)), _ends(found.b * best, gains, len(at))
    if not (math.isfinite(at_peak.low) and math.isfinite(at_peak.high)):
        return _unknown(
            "unsure", f"its interval has no end: the points agree with curves without a peak (d = {best:.3g})", found
        )
    if at_peak.low < low or at_peak.high > high:
        return _unknown(
            "unsure",
            f"its interval ({at_peak.low:.3g} to {at_peak.high:.3g} around d = {best:.3g}) goes beyond the distances "
            f"measured ({low:.3g} to {high:.3g})",
            found,
        )
    return Peak(None, "", at_peak, gain, found)


def _law(d: Floats) -> Floats:
    return np.stack([d, -d * np.log(np.where(d > 0, d, 1.0))], axis=1)


def _quadratic(d: Floats) -> Floats:
    return np.stack([d**2, d**4], axis=1)


Basis = Callable[[Floats], Floats]


def _points(d: Values, w: Values) -> tuple[Floats, Floats]:
    """The points with d > 0."""
    at, quality = np.asarray(d, dtype=np.float64), np.asarray(w, dtype=np.float64)
    if at.shape != quality.shape or at.ndim != 1:
        raise InputError(
            f"a curve needs the distance and the quality of each point; there are {at.size} and {quality.size}"
        )
    if not (np.isfinite(at).all() and np.isfinite(quality).all()):
        raise InputError("a distance or a quality is not finite; leave such points out and count them first")
    if (at < 0).any():
        raise InputError("a distance is below 0; it is the root of a KL divergence: clamp the divergence at 0 first")
    return at[at > 0], quality[at > 0]


def _distinct(d: Floats) -> int:
    """Distances that differ by more than rounding."""
    rising = np.sort(d)
    return int(len(rising) > 0) + int((np.diff(rising) > 1e-9 * rising[1:]).sum())


def _solve(d: Floats, w: Floats, basis: Basis, start: float) -> Fit:
    if not math.isfinite(start):
        raise InputError("the quality of the start is not finite; score its answers, or leave w0 free")
    (a, b), rmse, left_out = _least_squares(basis(d), w - start, _distinct(d))
    return Fit(start, a, b, rmse, left_out, lambda at: start + basis(at) @ np.array([a, b]), len(d))


def _solve_free(d: Floats, w: Floats, basis: Basis) -> Fit:
    columns = np.concatenate([np.ones((len(d), 1)), basis(d)], axis=1)
    (w0, a, b), rmse, left_out = _least_squares(columns, w, _distinct(d))
    return Fit(w0, a, b, rmse, left_out, lambda at: w0 + basis(at) @ np.array([a, b]), len(d))


def _least_squares(columns: Floats, w: Floats, distinct: int) -> tuple[list[float], float, float]:
    """Coefficients, RMSE, leave-one-out RMSE.

    A point is missed by the curve through the others by `e / (1 - h)`, with `h` its diagonal element of the projection
    on the columns: the identity of Sherman and Morrison, so that nothing is fitted again.
    """
    n, free = columns.shape
    if distinct < free:
        raise InputError(
            f"there are {distinct} distinct distances above 0 for {free} free numbers; measure more models"
        )
    scale = np.abs(columns).max(axis=0)
    q, r = np.linalg.qr(columns / np.where(scale > 0, scale, 1.0))
    if np.abs(np.diag(r)).min() < 1e-12:
        raise InputError("the distances are too alike for a curve; measure models that lie further apart")
    found = np.linalg.solve(r, q.T @ w) / scale
    missed = w - columns @ found
    room = 1.0 - (q**2).sum(axis=1)
    left_out = missed / room if (room > 1e-9).all() else np.full(n, np.nan)
    return found.tolist(), float(np.sqrt((missed**2).mean())), float(np.sqrt((left_out**2).mean()))


def _highest(fit: Fit) -> float:
    exponent = fit.a / fit.b - 1.0
    return math.exp(exponent) if exponent < 700.0 else math.inf


def _drawn(
    d: Floats,
    w: Floats,
    fit: Callable[[Floats, Floats], Fit],
    labels: Sequence[object] | None,
    draws: int,
    seed: int,
) -> tuple[Floats, Floats]:
    """Peak and gain of each draw; NaN where it has no peak."""
    numbered = {label: i for i, label in enumerate(dict.fromkeys(labels or ()))}
    of = np.array([numbered[label] for label in labels] if labels else np.zeros(len(d)), dtype=np.intp)
    members = [np.flatnonzero(of == group) for group in range(int(of.max()) + 1)]
    random = np.random.default_rng(seed)
    places, gains = np.full(draws, np.nan), np.full(draws, np.nan)
    for draw in range(draws):
        chosen = random.integers(0, len(members), len(members)) if len(members) > 1 else [0]
        rows = np.concatenate([random.choice(members[group], len(members[group])) for group in chosen])
        try:
            found = fit(d[rows], w[rows])
        except InputError:
            continue
        if found.b > 0 and math.isfinite(best := _highest(found)):
            places[draw], gains[draw] = best, found.b * best
    return places, gains


def _ends(value: float, drawn: Floats, n: int) -> Interval:
    """The middle 95% of draws; a draw that is not defined lies beyond both ends."""
    low = np.quantile(np.where(np.isnan(drawn), -np.inf, drawn), 0.025, method="lower")
    high = np.quantile(np.where(np.isnan(drawn), np.inf, drawn), 0.975, method="higher")
    return Interval(value, float(low), float(high), n)


def _unknown(reason: Reason, why: str, fit: Fit | None) -> Peak:
    nothing = Interval(math.nan, math.nan, math.nan, fit.n if fit else 0)
    return Peak(reason, why, nothing, nothing, fit)
