"""The Ties domain of RewardBench 2: several right answers, none better than another, and wrong ones.

Each prompt is there twice: with one right answer (`ref`) and with several (`tied`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PARTS = {
    "tied_accuracy": "share of rows with several right answers where every right one scores above every wrong one",
    "ref_accuracy": "share of rows with one right answer where it scores above every wrong one",
    "preferred": "share of prompts where right and wrong lie further apart than the right answers among themselves",
    "hard": "the same, with the smaller distance of the prompt's two rows",
    "margin": "mean of tanh(smaller distance / spread of the right answers - 1)",
}
"""What each part of the score is; the order is that of `Prompts`."""
WEIGHTS = {"tied_accuracy": 0.30, "ref_accuracy": 0.30, "preferred": 0.20, "hard": 0.20, "margin": 0.01}


class Row(NamedTuple):
    """What the scores of a row say."""

    accurate: bool
    """Every right answer is strictly above every wrong one."""
    margin: float | None
    """The worst right answer's score minus the best wrong one's; None where an answer has no score."""
    spread: float | None
    """The best right answer's score minus the worst one's; None for one right answer, or without a score."""


def row_of(right: Sequence[float | None], wrong: Sequence[float | None]) -> Row:
    """Accuracy, margin and spread of a row, in score units.

    For the accuracy an answer without a score (None) lies below all that have one, and where none has one, the row is
    not accurate. How far it lies below is not known, so such a row has no margin, and no spread.

    Args:
        right: scores of the right answers, at least one.
        wrong: scores of the wrong ones, at least one.

    Source: allenai/reward-bench, `_compute_prompt_stats`.
    """
    known = [[score for score in side if score is not None] for side in (right, wrong)]
    low, high = known
    accurate = len(low) == len(right) and min(low) > max(high, default=-np.inf)
    if len(low) < len(right) or len(high) < len(wrong):
        return Row(accurate, None, None)
    return Row(accurate, float(min(low) - max(high)), float(max(low) - min(low)) if len(right) > 1 else None)


class Prompts(NamedTuple):
    """The parts of the score for each prompt, `[prompts]`; NaN where a prompt has no row, or no two rows, to say it.

    Preferred, hard and margin are also NaN where an answer of either row has no score.
    """

    tied_accuracy: Floats
    ref_accuracy: Floats
    preferred: Floats
    hard: Floats
    margin: Floats

    @classmethod
    def of(cls, both: Sequence[tuple[Row | None, Row | None]]) -> "Prompts":
        """Of prompts by their rows (`ref`, `tied`), either of which may be missing."""
        parts = np.full((5, len(both)), np.nan)
        for at, (ref, tied) in enumerate(both):
            if tied is not None:
                parts[0, at] = tied.accurate
            if ref is not None:
                parts[1, at] = ref.accurate
            if ref is None or tied is None or ref.margin is None or tied.margin is None or tied.spread is None:
                continue
            smaller = min(ref.margin, tied.margin)
            parts[2:, at] = tied.margin > tied.spread, smaller > tied.spread, _beyond(smaller, tied.spread)
        return cls(*parts)


def _beyond(margin: float, spread: float) -> float:
    """`tanh(margin / spread - 1)`; without spread 1 above and -1 below, and 0 for 0 / 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.nan_to_num(np.tanh(np.float64(margin) / np.float64(spread) - 1.0), nan=0.0))


def parts_of(prompts: Prompts, weight: Floats | None = None) -> list[float]:
    """The means of the parts, where each prompt counts `weight` times; NaN for one that no prompt says."""
    found = []
    for values in prompts:
        known = ~np.isnan(values)
        times = known.astype(np.float64) if weight is None else weight * known
        total = float(times.sum())
        found.append(float(times[known] @ values[known]) / total if total else float("nan"))
    return found


def score_of(parts: Sequence[float]) -> float:
    """The Ties score, at most 1.01: .30 tied accuracy + .30 ref accuracy + .20 preferred + .20 hard + .01 margin.

    Source: arXiv 2506.01937; the weights from allenai/reward-bench, `process_single_model`.
    """
    return float(np.dot(list(WEIGHTS.values()), parts))
