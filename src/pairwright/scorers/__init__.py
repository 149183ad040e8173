"""Scorers: numbers on answers from outside of the data.

A scorer is a plug: `scorer(samples, *, settings) -> list[Score]`, one `Score` for each `Sample`, in order. A scorer
that cannot score an answer gives `Score(None, why)`: the answer stays unscored, and the lineage counts why.

A scorer that must see all answers at once, to run a model over them or to find a range, calls its first parameter
`prefs`: `scorer(prefs, *, settings) -> Scores`.
"""

from pairwright.scorers.column import column
from pairwright.scorers.implicit import implicit
from pairwright.scorers.judge import judge
from pairwright.scorers.ranker import ranker
from pairwright.scorers.reward_model import reward_model
from pairwright.scorers.rules import VERIFIERS, Unsaid, rules
from pairwright.scorers.sample import Sample, Score, Scores
from pairwright.scorers.table import SCORERS
from pairwright.scorers.verb import forget, score
from pairwright.scorers.win_probability import win_probability

__all__ = [
    "SCORERS",
    "VERIFIERS",
    "Sample",
    "Score",
    "Scores",
    "Unsaid",
    "column",
    "forget",
    "implicit",
    "judge",
    "ranker",
    "reward_model",
    "rules",
    "score",
    "win_probability",
]
