"""Measures of a model, from columns: no model is run here.

`pairs` on held-out pairs with log-probabilities, `control` on scored answers that were asked for scores, `compare` on
two sets of scored answers to the same prompts. Each gives a `Result`.
"""

from pairwright.evaluate.compare import compare
from pairwright.evaluate.control import control
from pairwright.evaluate.pairs import pairs
from pairwright.evaluate.result import Metric, Result
from pairwright.evaluate.table import EVALUATIONS

__all__ = ["EVALUATIONS", "Metric", "Result", "compare", "control", "pairs"]
