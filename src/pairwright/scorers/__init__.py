"""Scorers: numbers on answers from outside of the data.

A scorer is a plug: `scorer(samples, *, settings) -> list[Score]`, one `Score` for each `Sample`, in order. A scorer
that cannot score an answer gives `Score(None, why)`: the answer stays unscored, and the lineage counts why.
"""

from pairwright.scorers.columns import implicit
from pairwright.scorers.sample import Sample, Score
from pairwright.scorers.table import SCORERS
from pairwright.scorers.verb import score

__all__ = ["SCORERS", "Sample", "Score", "implicit", "score"]
