"""The scorers by name."""

from collections.abc import Callable

from pairwright.scorers.columns import implicit
from pairwright.scorers.sample import Score

SCORERS: dict[str, Callable[..., list[Score]]] = {
    "implicit": implicit,
}
