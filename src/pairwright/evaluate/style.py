"""How an answer looks, as Arena-Hard-Auto counts it, and how far two answers differ in it.

Source: Arena-Hard-Auto, utils/add_markdown_info.py (what counts), show_result.py (differences).
"""

import re
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Part = Literal["length", "markdown"]
FEATURES: dict[str, str] = {"length": "length", "headers": "markdown", "lists": "markdown", "bolds": "markdown"}
"""Columns of style, in order, and which part of the control each belongs to."""
_BLOCK = re.compile(r"```[^`]*```")
_COUNTED: dict[str, tuple[re.Pattern[str], ...]] = {
    "headers": (re.compile(r"^#{1,6}\s", re.MULTILINE),),
    "lists": (re.compile(r"^[^\S\n]*\d+\.\s", re.MULTILINE), re.compile(r"^[^\S\n]*[-*+]\s", re.MULTILINE)),
    "bolds": (re.compile(r"\*\*[^*\n]+\*\*"), re.compile(r"__[^_\n]+__")),
}
"""White space may stand before an item on its line. Upstream lets it reach over empty lines, which gives the same
count, but on many empty lines takes time that grows with their square."""


def markdown(text: str) -> dict[str, int]:
    """Headers, list items and bold spans outside of blocks of code.

    Upstream takes the words of a block out wherever they stand, so that a block of one space takes out every space;
    here the block itself goes.
    """
    prose = _BLOCK.sub("", text)
    return {name: sum(len(each.findall(prose)) for each in patterns) for name, patterns in _COUNTED.items()}


def columns_of(control: frozenset[str]) -> list[int]:
    """The columns of `FEATURES` that are controlled for."""
    return [number for number, part in enumerate(FEATURES.values()) if part in control]


def differences(first: Floats, second: Floats) -> Floats:
    """How far two answers differ in style; positive: the first has more.

    Lengths `a`, `b` give `(a - b) / (a + b)`. A count `c` gives a density `d = c / (length + 1)`, and two densities
    `(d - e) / (d + e + 1)`. Answers that are both empty do not differ.

    Args:
        first: length and counts, `[rows, 4]` in the order of `FEATURES`; lengths of both in one unit.
        second: the same of the other answer.

    Returns:
        `[rows, 4]`, each within -1 and 1.
    """
    a, b = first[:, :1], second[:, :1]
    d, e = first[:, 1:] / (a + 1.0), second[:, 1:] / (b + 1.0)
    return np.hstack([(a - b) / np.maximum(a + b, 1.0), (d - e) / (d + e + 1.0)])
