"""Relabel: a pair becomes the pairs that ask for a score.

A pair with scores r_w and r_l becomes "asked for r_w, y_w beats y_l" and "asked for r_l, y_l beats y_w". Everything
here is numbers: a copy of a pair is one more row of ids with a goal; `goals.place` writes the goal into the prompt when
the texts are made.

Modes of supervised training ask for each answer by itself; see `conditioned`.

Source: arXiv 2410.08067.
"""

from pairwright.relabel.conditioned import Answers
from pairwright.relabel.flips import copies
from pairwright.relabel.table import MODES
from pairwright.relabel.verb import REASONS, relabel

__all__ = ["MODES", "REASONS", "Answers", "copies", "relabel"]
