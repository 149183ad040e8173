"""Probes as arrays: one row for each answer, one column for each step, what was not read as NaN."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pairwright.diagnose.finding import Level
from pairwright.errors import InputError
from pairwright.probes.store import Probes
from pairwright.stats import Interval, grouped_bootstrap

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

ASKED: Mapping[str, str] = {
    "none": "no goal asked",
    "top": "best score asked",
    "own": "the answer's own score asked",
}
"""What each way of asking is called on a page."""

ROUNDING = 1e-4
"""Nats: what float32 leaves of the sum of an answer's log-probabilities; a change below it is none."""

REMEDY = "train with probe_every, or give data to diagnose so that it probes the kept checkpoints"


@dataclass(frozen=True, eq=False)
class Readings:
    """What the model said of one side's answers under each way of asking, at each step.

    Attributes:
        answers: one row for each answer: `pair` (that it was first seen in), `prompt_id`, `response_id`, `score`.
        asked: the ways of asking.
        steps: optimiser steps, rising.
        logp: summed, in nats, [asked, answers, steps].
        start: the same of the model that training started from, [asked, answers].
        length: tokens, [asked, answers].
    """

    answers: pl.DataFrame
    asked: tuple[str, ...]
    steps: tuple[int, ...]
    logp: Floats
    start: Floats
    length: Floats

    @property
    def change(self) -> Floats:
        """Log-ratio log(pi / start) of the whole answer, in nats, [asked, answers, steps]."""
        return self.logp - self.start[..., None]

    @property
    def prompts(self) -> list[str]:
        """Of the answers, for a bootstrap over prompts."""
        return self.answers["prompt_id"].to_list()

    def only(self, mask: Mask) -> "Readings":
        """Of some answers."""
        return Readings(
            self.answers.filter(mask),
            self.asked,
            self.steps,
            self.logp[:, mask],
            self.start[:, mask],
            self.length[:, mask],
        )


def read(probes: Probes, side: str, *, key: Sequence[str]) -> Readings:
    """The readings of one side, a row for each different `key` (such as `pair`), in the order of the pairs.

    A log-probability that is not finite counts as not read. The start's is `start_logp`, or that of step 0.

    Raises:
        InputError: nothing was probed after step 0, nothing is finite at the last step, or the probes do not know what
            the start said.
    """
    rows = probes.rows.filter(pl.col("side") == side)
    if rows.filter(pl.col("step") > 0).is_empty():
        raise InputError(f"there is no probe of a step of training; {REMEDY}")
    keys = rows.sort("pair", maintain_order=True).unique(list(key), keep="first", maintain_order=True)
    answers = keys.select("pair", "prompt_id", "response_id", "score")
    asked = tuple(name for name in ASKED if name in rows["asked"].unique())
    steps = tuple(sorted(rows["step"].unique()))
    once = rows.unique(["step", "asked", *key], keep="first", maintain_order=True)
    numbered = once.join(keys.select(*key, number=pl.int_range(pl.len())), on=list(key), how="left")
    at = (
        np.array([asked.index(name) for name in numbered["asked"]], dtype=np.intp),
        numbered["number"].to_numpy(),
        np.searchsorted(np.array(steps), numbered["step"].to_numpy()),
    )
    logp, start, length = (np.full((len(asked), len(keys), len(steps)), np.nan) for _ in range(3))
    for matrix, column in ((logp, "logp"), (start, "start_logp"), (length, "length")):
        matrix[at] = numbered[column].cast(pl.Float64).fill_null(math.nan).to_numpy()
        matrix[~np.isfinite(matrix)] = np.nan
    if np.isnan(logp[0, :, -1]).all():
        raise InputError(
            f"at step {steps[-1]:,} no log-probability of the {side} answers is finite: training has diverged; train "
            "with a smaller learning rate"
        )
    first = _first(start)
    if steps[0] == 0:
        first = np.where(np.isnan(first), logp[..., 0], first)
    if np.isnan(first).all():
        raise InputError("the probes do not know what the model said before training; probe it with its start")
    return Readings(answers, asked, steps, logp, first, _first(length))


def _first(values: Floats) -> Floats:
    """The first number along the steps that is there, [asked, answers]."""
    at = np.isfinite(values).argmax(axis=2)
    found: Floats = np.take_along_axis(values, at[..., None], axis=2)[..., 0]
    return found


def unread_note(readings: Readings, what: str) -> list[str]:
    """A sentence about answers whose log-probability is not there at some step, as a list of none or one."""
    missing = int(np.isnan(readings.logp).any(axis=2).all(axis=0).sum())
    return (
        [f"{missing:,} {what} have no finite log-probability at some step and are left out there."] if missing else []
    )


def means(columns: Mapping[str, Floats], prompts: Sequence[str], *, draws: int, seed: int) -> dict[str, Any]:
    """Mean over answers of every column, with intervals over prompts; all columns share the draws.

    Args:
        columns: by name, arrays [..., answers, k]; NaN is left out.
        prompts: of the answers.
        draws: bootstrap samples.
        seed: of the draws.

    Returns:
        By name, object arrays [..., k] of `Interval`, whose `n` is the number of prompts that have a number.
    """
    wide = {name: np.moveaxis(values, -2, 0) for name, values in columns.items()}
    flat = np.concatenate([values.reshape(len(prompts), -1) for values in wide.values()], axis=1)
    known = np.isfinite(flat)
    filled = np.where(known, flat, 0.0)

    def average(rows: NDArray[np.intp]) -> Sequence[float]:
        counts = known[rows].sum(axis=0)
        sums = filled[rows].sum(axis=0)
        result: list[float] = np.divide(sums, counts, out=np.full(len(sums), math.nan), where=counts > 0).tolist()
        return result

    found = grouped_bootstrap(average, prompts, draws=draws, seed=seed)
    labels = np.unique(np.array(prompts, dtype=object), return_inverse=True)[1]
    cases = [len(np.unique(labels[column])) for column in known.T]
    found = [_of_cases(each, n) for each, n in zip(found, cases, strict=True)]
    shaped, begin = {}, 0
    for name, values in wide.items():
        size = math.prod(values.shape[1:])
        block = np.empty(size, dtype=object)
        block[:] = found[begin : begin + size]
        shaped[name] = block.reshape(values.shape[1:])
        begin += size
    return shaped


def _of_cases(interval: Interval, n: int) -> Interval:
    """An estimate with its own number of prompts; from one prompt there is no interval."""
    low, high = (interval.low, interval.high) if n > 1 else (math.nan, math.nan)
    return Interval(interval.value, low, high, n)


def fall(interval: Interval) -> Level:
    """How bad a fall in nats is: a warning when the whole interval is below zero, a note when the estimate is."""
    if not interval.value < -ROUNDING:
        return "fine"
    return "warning" if interval.high < 0 else "note"


def buckets(values: Floats, *, at_most: int = 10) -> list[tuple[str, Mask]]:
    """Values in groups, rising, with a label each.

    One group for each value where there are few, else one for each whole number where the values span 3 to 12, else
    fifths.

    Args:
        values: finite, [n].
        at_most: different values up to which each is a group of its own.
    """
    distinct = np.unique(values)
    if len(distinct) <= at_most:
        return [(label, values == value) for value, label in zip(distinct, _labels(distinct, 6), strict=True)]
    span = distinct[-1] - distinct[0]
    if 3 <= span <= 12:
        edges = np.arange(math.floor(distinct[0]), math.ceil(distinct[-1]) + 1.0)
    else:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, 6)))
    groups = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    said = _labels(edges, 3)
    return [(f"{said[i]} to {said[i + 1]}", groups == i) for i in range(len(edges) - 1) if (groups == i).any()]


def _labels(values: Floats, digits: int) -> list[str]:
    """Different numbers as different texts: with so many digits, or as many more as it takes."""
    for more in range(digits, 18):
        said = [f"{value:.{more}g}" for value in values]
        if len(set(said)) == len(values):
            break
    return said


def number(value: float) -> float | None:
    """A JSON value: null where it is not defined."""
    return float(value) if math.isfinite(value) else None


def ends(interval: Interval, name: str) -> dict[str, float | None]:
    """`name`, `name_low` and `name_high` for a row of a table."""
    return {
        name: number(interval.value),
        f"{name}_low": number(interval.low),
        f"{name}_high": number(interval.high),
    }


def within(interval: Interval) -> str:
    """The interval in words: `95% interval -3.1 to -2.2`."""
    if math.isnan(interval.low):
        return "no interval from one prompt"
    return f"95% interval {interval.low:.3g} to {interval.high:.3g}"
