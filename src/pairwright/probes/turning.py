"""When does training turn? Two signals of likelihood over-optimisation, read from one probe after another.

Both smooth what they read and wait until it has stayed beyond a bound for several checks, so that no single probe fires
them. They look at nothing that comes later: a signal that fired stays the same, whatever is probed afterwards.

Source: arXiv 2410.11677 (entropy and mass of the most likely next tokens as indicators of over-optimisation). The
paper gives no thresholds; the smoothing, the bounds and the number of checks are ours.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pairwright.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Signal:
    """What one detector saw.

    Attributes:
        name: of the detector.
        fired_at: step of the check at which it fired; None where it did not.
        turned_at: step at which the smoothed curve was highest, up to the check that fired, or so far. None where the
            curve is highest at its last check, and for entropy also at its first: then nothing has turned.
        says: what was seen, in one sentence with the numbers.
    """

    name: str
    fired_at: int | None
    turned_at: int | None
    says: str


def smoothed(values: Sequence[float] | Floats, *, smoothing: float) -> Floats:
    """The exponential moving average of values, the weights before each value summing to one.

    `e_t = sum_i s^(t-i) x_i / sum_i s^(t-i)` over i <= t. Dividing by the sum keeps the first value, which has no past,
    from standing for all the past that there was none of: with few checks that would hide everything.

    Args:
        values: one for each check, `[n]`.
        smoothing: `s`, the weight of the past; 0 leaves the values as they are.

    Raises:
        InputError: `smoothing` is not in [0, 1).
    """
    if not 0.0 <= smoothing < 1.0:
        raise InputError(f"smoothing must be at least 0 and below 1, not {smoothing}")
    found, total, weight = [], 0.0, 0.0
    for value in np.asarray(values, dtype=np.float64):
        total, weight = smoothing * total + float(value), smoothing * weight + 1.0
        found.append(total / weight)
    return np.array(found, dtype=np.float64)


def entropy_reversal(
    steps: Sequence[int],
    values: Sequence[float] | Floats,
    *,
    smoothing: float = 0.9,
    drop: float = 0.02,
    checks: int = 2,
) -> Signal:
    """Signal 1: the entropy of the most likely next tokens rose, and now falls.

    It fires at the first check at which the smoothed entropy has been more than `drop` (a share) below its running
    maximum for `checks` checks in a row, after a rise: the first value lies more than `drop` below that maximum, too.
    A curve that only falls does not fire it.

    Source: arXiv 2410.11677 (the entropy of DPO and IPO rises, then reverses near the best win rate); bounds ours.

    Args:
        steps: optimiser steps of the checks, rising.
        values: mean entropy at each, in any unit, at least 0.
        smoothing: weight of the past in the moving average over checks.
        drop: share of the running maximum.
        checks: so many in a row.

    Raises:
        InputError: the numbers do not belong together, a value is not finite, or a setting is out of range.
    """
    _fits(steps, values, checks=checks, bound=drop, name="drop")
    curve = smoothed(values, smoothing=smoothing)
    highest = np.maximum.accumulate(curve) if len(curve) else curve
    beyond = (curve < (1 - drop) * highest) & (curve[:1] < (1 - drop) * highest)
    at = _first_run(beyond, checks)
    seen = curve if at is None else curve[: at + 1]
    peak = int(seen.argmax()) if len(seen) else 0
    turned = steps[peak] if 0 < peak < len(seen) - 1 else None
    return Signal("entropy_reversal", None if at is None else steps[at], turned, _on_entropy(steps, seen, at, drop))


def mass_leak(
    steps: Sequence[int],
    values: Sequence[float] | Floats,
    *,
    smoothing: float = 0.9,
    fall: float = 0.01,
    checks: int = 2,
) -> Signal:
    """Signal 2: the probability of the most likely next tokens leaks away to all the others.

    It fires at the first check at which the smoothed mass has been more than `fall` below its first value for `checks`
    checks in a row.

    Source: arXiv 2410.11677 (with hinge losses the entropy keeps rising while the mass falls); bounds ours.

    Args:
        steps: optimiser steps of the checks, rising.
        values: mean mass of the k most likely tokens at each, 0 to 1.
        smoothing: weight of the past in the moving average over checks.
        fall: in units of probability.
        checks: so many in a row.

    Raises:
        InputError: as `entropy_reversal`.
    """
    _fits(steps, values, checks=checks, bound=fall, name="fall")
    curve = smoothed(values, smoothing=smoothing)
    at = _first_run(curve < curve[:1] - fall, checks)
    seen = curve if at is None else curve[: at + 1]
    peak = int(seen.argmax()) if len(seen) else 0
    turned = steps[peak] if peak < len(seen) - 1 else None
    return Signal("mass_leak", None if at is None else steps[at], turned, _on_mass(steps, seen, at, fall))


class Detector(NamedTuple):
    """A signal and the column of `by_step` that it reads."""

    column: str
    read: Callable[..., Signal]


SIGNALS: Mapping[str, Detector] = {
    "entropy_reversal": Detector("top_entropy", entropy_reversal),
    "mass_leak": Detector("top_mass", mass_leak),
}
"""What may stop a training, by name."""


def by_step(rows: pl.DataFrame) -> pl.DataFrame:
    """How spread a model is at each step, on the chosen answers without a goal: what both signals read.

    The numbers of a row are means over the positions of its answer; here is their mean over answers.

    Args:
        rows: probes (`PROBE` and `step`).

    Returns:
        `step` (rising), `entropy` (nats), `top_entropy`, `raw_top_entropy` (bits), `top_mass`, `n` (answers). A step
        whose rows have no spread is left out.
    """
    spread = ("entropy", "top_entropy", "raw_top_entropy", "top_mass")
    chosen = rows.filter((pl.col("side") == "chosen") & (pl.col("asked") == "none")).drop_nulls(spread)
    return chosen.group_by("step").agg(pl.col(spread).mean(), pl.len().alias("n")).sort("step")


def _fits(steps: Sequence[int], values: Sequence[float] | Floats, *, checks: int, bound: float, name: str) -> None:
    if len(steps) != len(values):
        raise InputError(f"each check needs its step and its value; there are {len(steps)} and {len(values)}")
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise InputError("the steps of the checks must rise; sort the probes by step")
    if bad := int((~np.isfinite(np.asarray(values, dtype=np.float64))).sum()):
        raise InputError(f"{bad} of {len(values)} probed values are not finite; probe these steps again")
    if not 0.0 < bound < 1.0:
        raise InputError(f"{name} must be between 0 and 1, not {bound}")
    if checks < 1:
        raise InputError(f"checks must be at least 1, not {checks}")


def _first_run(beyond: NDArray[np.bool_], checks: int) -> int | None:
    """The first place at which so many in a row are true."""
    run = 0
    for place, each in enumerate(beyond.tolist()):
        run = run + 1 if each else 0
        if run == checks:
            return place
    return None


def _on_entropy(steps: Sequence[int], seen: Floats, at: int | None, drop: float) -> str:
    if len(seen) < 2:
        return f"There are {len(seen)} checks, too few to see a turn."
    peak, first, last = int(seen.argmax()), float(seen[0]), float(seen[-1])
    high = float(seen[peak])
    if at is not None:
        return (
            f"The smoothed entropy rose from {first:.3g} to {high:.3g} at step {steps[peak]} and fell to {last:.3g} "
            f"at step {steps[at]}, {1 - last / high:.1%} below its highest."
        )
    if first >= (1 - drop) * high:
        return f"The smoothed entropy never rose by more than {drop:g} of its highest ({first:.3g} to {high:.3g})."
    return (
        f"The smoothed entropy rose from {first:.3g} to {high:.3g} at step {steps[peak]} and has not stayed more than "
        f"{drop:g} of it below ({last:.3g} at step {steps[len(seen) - 1]})."
    )


def _on_mass(steps: Sequence[int], seen: Floats, at: int | None, fall: float) -> str:
    if len(seen) < 2:
        return f"There are {len(seen)} checks, too few to see a turn."
    first, last = float(seen[0]), float(seen[-1])
    if at is not None:
        return (
            f"The smoothed mass of the most likely tokens fell from {first:.4g} to {last:.4g} at step {steps[at]}, by "
            f"{first - last:.2g}."
        )
    return (
        f"The smoothed mass of the most likely tokens went from {first:.4g} to {last:.4g} at step "
        f"{steps[len(seen) - 1]} and has not stayed more than {fall:g} below its start."
    )
