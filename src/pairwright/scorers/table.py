"""The scorers by name."""

from collections.abc import Callable

from pairwright.scorers.column import column
from pairwright.scorers.implicit import implicit
from pairwright.scorers.judge import judge
from pairwright.scorers.ranker import ranker
from pairwright.scorers.reward_model import reward_model
from pairwright.scorers.rules import rules
from pairwright.scorers.sample import Score, Scores
from pairwright.scorers.win_probability import win_probability

SCORERS: dict[str, Callable[..., list[Score] | Scores]] = {
    "column": column,
    "implicit": implicit,
    "judge": judge,
    "ranker": ranker,
    "reward_model": reward_model,
    "rules": rules,
    "win_probability": win_probability,
}
