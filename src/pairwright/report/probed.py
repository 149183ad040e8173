"""The curves of a training on the same held-out pairs: plain means of its probes. Intervals are the diagnosis's."""

from pathlib import Path

import polars as pl

from pairwright.charts import Number
from pairwright.probes.store import load_probes
from pairwright.report.shown import clean
from pairwright.report.views import Probed

MEANS = {
    "chosen_logp": ("chosen", "logp"),
    "rejected_logp": ("rejected", "logp"),
    "top_entropy": ("chosen", "top_entropy"),
    "top_mass": ("chosen", "top_mass"),
}
"""What is drawn: the side and the column of `PROBE` that it is the mean of, without a goal in the prompt."""


def probed_of(training: Path) -> Probed | None:
    """Means of the probes of the training in a directory; None where there are none.

    Raises:
        InputError: a file of them is damaged.
    """
    probes = load_probes(training)
    if probes is None or not probes.steps:
        return None
    rows = probes.rows.filter(pl.col("asked") == "none")
    found = rows.group_by("step").agg(
        pl.col(column).filter(pl.col("side") == side).mean().alias(name) for name, (side, column) in MEANS.items()
    )
    by_step = {row["step"]: row for row in found.iter_rows(named=True)}
    means: dict[str, list[Number]] = {
        name: [clean(by_step[step][name]) if step in by_step else None for step in probes.steps] for name in MEANS
    }
    return Probed(pairs=probes.about.pairs, top=probes.about.top, steps=list(probes.steps), means=means)
