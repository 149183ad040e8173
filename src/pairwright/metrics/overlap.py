"""How far several metrics choose the same pairs."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pairwright.cuts import Values, count_of, top

COMPARED = ("explicit_gap", "implicit_margin", "alignment_potential", "random")
"""The metrics that are compared: the two margins, what is made of both, and chance."""


def overlap(values: Mapping[str, Values], *, keep: float) -> dict[str, Any]:
    """How many pairs any two metrics both put among the first, at the same share.

    Only pairs of which every metric can say something take part, so that all choose from the same ones. Where numbers
    are equal the earlier row is chosen, as in a selection; scores in whole points tie often, so a part of what
    `explicit_gap` chooses is the order of the rows. A metric that is the same for all chooses nothing and is left out.

    Args:
        values: each metric's numbers in row order, NaN where it cannot say.
        keep: the share that each would keep.

    Returns:
        JSON values: `pairs`, the N that take part; `kept`, k = floor(keep N) by each; `chance`, k / N, the share of its
        choice that a metric has in common with an independent one on average; `common[a][b]`, pairs that a and b both
        choose; `share[a][b]`, these over k. Empty when there is nothing to compare.
    """
    known = np.logical_and.reduce([np.isfinite(numbers) for numbers in values.values()])
    total = int(known.sum())
    kept = count_of(keep, total)
    if not kept:
        return {}
    compared = {name: numbers if total == len(known) else numbers[known] for name, numbers in values.items()}
    chosen = {name: top(numbers, keep=keep) for name, numbers in compared.items() if np.ptp(numbers)}
    common = {a: {b: int((chosen[a] & chosen[b]).sum()) for b in chosen} for a in chosen}
    share = {a: {b: count / kept for b, count in row.items()} for a, row in common.items()}
    return {"pairs": total, "kept": kept, "chance": kept / total, "common": common, "share": share}


def overlap_note(found: Mapping[str, Any], metric: str) -> str:
    """What `overlap` found for one metric, as a sentence; empty where it found nothing."""
    if metric not in found.get("common", {}):
        return ""
    common, share = found["common"][metric], found["share"][metric]
    others = ", ".join(f"{name} {count:,} ({share[name]:.1%})" for name, count in common.items() if name != metric)
    return (
        f"Among the {found['pairs']:,} pairs that every compared metric can judge, each would choose "
        f"{found['kept']:,}; of those of {metric}, others would choose {others}; by chance {found['chance']:.1%}."
    )
