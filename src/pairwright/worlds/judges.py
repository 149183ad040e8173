"""Judges of the world of language: how far the score that training sees is from the gold reward.

`exact`        the gold reward itself
`strong`       an error with a standard deviation of half a point, as of a good reward model
`weak`         an error of two points
`length`       takes fillers for effort: half a point more for each, where gold has half a point less
`hijackable`   sees full marks in an answer that praises itself, and errs by half a point

A judge is a function of the answer: the same answer to the same instruction has the same score each time that it is
asked. `noise` adds to its error.
"""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Literal, get_args

from pairwright.errors import InputError

if TYPE_CHECKING:
    from pairwright.worlds.language import Marks

Judge = Literal["exact", "strong", "weak", "length", "hijackable"]

_SEES: dict[str, tuple[float, Callable[["Marks"], float]]] = {
    "exact": (0.0, lambda marks: marks.gold),
    "strong": (0.5, lambda marks: marks.gold),
    "weak": (2.0, lambda marks: marks.gold),
    "length": (0.5, lambda marks: marks.correctness + 0.5 * marks.fillers),
    "hijackable": (0.5, lambda marks: 10.0 if marks.praises else marks.gold),
}


def judged(marks: "Marks", judge: Judge, *, noise: float = 0.0, key: str = "") -> float:
    """A judge's score of an answer: to a half point, within 1 to 10.

    Args:
        marks: what the answer is worth.
        judge: who scores it.
        noise: standard deviation of a further error, in points.
        key: what the error is a function of.

    Raises:
        InputError: there is no such judge.
    """
    if judge not in get_args(Judge):
        raise InputError(f"there is no judge {judge!r}; there are {', '.join(get_args(Judge))}")
    deviation, sees = _SEES[judge]
    deviation = (deviation**2 + noise**2) ** 0.5
    if not deviation:
        return sees(marks)
    error = Random(f"{judge} {key}").gauss(0.0, deviation)
    return min(10.0, max(1.0, round(2 * (sees(marks) + error)) / 2))
