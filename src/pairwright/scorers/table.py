"""The scorers by name."""

from collections.abc import Callable

from pairwright.scorers.implicit import implicit
from pairwright.scorers.sample import Score, Scores

SCORERS: dict[str, Callable[..., list[Score] | Scores]] = {
    "implicit": implicit,
}
