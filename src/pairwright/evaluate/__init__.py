"""Measures of a model, from columns; only `harness` runs one on tasks.

`pairs` on held-out pairs with log-probabilities, `control` on scored answers that were asked for scores, `compare` on
two sets of scored answers to the same prompts, `rounds` on those of one model after another, `agreement` on several
score columns of the same answers. Each gives a `Result`.
`rewardbench2` and `accuracy` measure scores, a scorer, or the implicit rewards of a model, on labelled answers.
`arena` and `mtbench` read judgments that those harnesses wrote.
`humans` measures verdicts against labels of people.
`winrate` is AlpacaEval's, raw and length-controlled, from verdicts or scored answers of two models.
`harness` runs lm-eval's academic benchmarks, before and after a training.
`as_asked` puts the goal of generated answers into their prompts, so that `logprobs` reads what the model read.
"""

from pairwright.evaluate.accuracy import accuracy
from pairwright.evaluate.agreement import agreement
from pairwright.evaluate.arena import arena
from pairwright.evaluate.asked import as_asked
from pairwright.evaluate.compare import compare
from pairwright.evaluate.control import control
from pairwright.evaluate.harness import harness
from pairwright.evaluate.humans import humans
from pairwright.evaluate.mtbench import mtbench
from pairwright.evaluate.pairs import pairs
from pairwright.evaluate.result import Metric, Result
from pairwright.evaluate.rewardbench import rewardbench2, rewardbench2_data, rewardbench2_rows
from pairwright.evaluate.rounds import rounds
from pairwright.evaluate.table import EVALUATIONS
from pairwright.evaluate.winrate import winrate

__all__ = [
    "EVALUATIONS",
    "Metric",
    "Result",
    "accuracy",
    "agreement",
    "arena",
    "as_asked",
    "compare",
    "control",
    "harness",
    "humans",
    "mtbench",
    "pairs",
    "rewardbench2",
    "rewardbench2_data",
    "rewardbench2_rows",
    "rounds",
    "winrate",
]
