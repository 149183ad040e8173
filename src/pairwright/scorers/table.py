"""The scorers by name."""

from collections.abc import Callable

from pairwright.scorers.implicit import implicit
from pairwright.scorers.sample import Score, Scores
from pairwright.scorers.win_probability import win_probability

SCORERS: dict[str, Callable[..., list[Score] | Scores]] = {
    "implicit": implicit,
    "win_probability": win_probability,
}
