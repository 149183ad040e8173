"""The metrics by name."""

from collections.abc import Callable

import polars as pl

from pairwright.draws import draw_of_ids
from pairwright.metrics.gaps import explicit_gap
from pairwright.metrics.lengths import length_gap
from pairwright.metrics.potential import alignment_potential, implicit_margin, signed_potential


def random(view: pl.LazyFrame, *, seed: int = 0) -> pl.Expr:
    """A seeded uniform number for each pair of answers: the control of every selection.

    Args:
        view: pairs.
        seed: another seed is another order; row order and other pairs do not matter.
    """
    return draw_of_ids(pl.col("chosen_id"), pl.col("rejected_id"), seed=seed)


METRICS: dict[str, Callable[..., pl.Expr]] = {
    "explicit_gap": explicit_gap,
    "implicit_margin": implicit_margin,
    "alignment_potential": alignment_potential,
    "signed_potential": signed_potential,
    "length_gap": length_gap,
    "random": random,
}
