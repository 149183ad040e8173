"""Metrics: one number for each pair, larger is sooner, null is "cannot say".

A metric is a plug: `metric(view, *, settings) -> pl.Expr` over `view`, a lazy frame of the pairs in order. It has the
pairs' own columns and, for every number column of the answers, `<name>_chosen` and `<name>_rejected`: `score`,
`score_<attribute>`, `logp_<model>` (summed, nats), `len_<tokenizer>` (tokens), and `chars` (characters). Where goals
are vectors there are also the lists `scores_chosen` and `scores_rejected`, in the goal's order. What a metric does not
use is never read.
"""

from pairwright.metrics.gaps import explicit_gap
from pairwright.metrics.lengths import length_gap
from pairwright.metrics.potential import alignment_potential, implicit_margin, signed_potential
from pairwright.metrics.table import METRICS, random

__all__ = [
    "METRICS",
    "alignment_potential",
    "explicit_gap",
    "implicit_margin",
    "length_gap",
    "random",
    "signed_potential",
]
