r"""Files of judgments that other harnesses wrote, and what a judge's text says by the rules of those harnesses.

The rules are laxer than ours (`scorers/judge/readings.py`): they take a number in single brackets too, which code has
(`array[0]`), and the first or last of several. They stand here so that published numbers can be computed again.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from pairwright.errors import InputError
from pairwright.formats import files
from pairwright.plug import plain

Row = TypeVar("Row", bound=BaseModel)
_LABELS = (re.compile(r"\[\[([AB<>=]+)\]\]"), re.compile(r"\[([AB<>=]+)\]"))
_RATINGS = (re.compile(r"\[\[(\d+(?:\.\d*)?)\]\]"), re.compile(r"\[(\d+(?:\.\d*)?)\]"))


def number(value: Any) -> Any:
    """A value as it is, for pydantic to read, but for true and false, which it would read as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")
    return value


Figure = Annotated[float, BeforeValidator(number), Field(allow_inf_nan=False)]
"""A finite number of a file."""
Count = Annotated[float, BeforeValidator(number), Field(allow_inf_nan=False, ge=0)]
"""One that counts something."""


class Rated(NamedTuple):
    """A rating, and whether it stood in double brackets, as a judge is asked to write it."""

    value: float
    doubled: bool


def rows_of(paths: Sequence[Path], kind: type[Row], *, what: str) -> Iterator[tuple[str, Row]]:
    """The rows of files, checked, each with its place (`FILE, row 3`) for messages.

    Args:
        paths: JSON lines, a JSON list or parquet, also compressed.
        kind: what a row must be.
        what: who asks, for messages.

    Raises:
        InputError: a file cannot be read, or a row is not of this kind; the message names file and row.
    """
    if not paths:
        raise InputError(f"{what}: no file was given; name the files of judgments")
    for path in paths:
        for batch in files.of_path(Path(path)).batches:
            if batch.rejects:
                bad = batch.rejects[0]
                raise InputError(f"{what}: {path}, row {bad.line}: {bad.says}; correct the row or take it out")
            for line, row in zip(batch.lines, batch.rows, strict=True):
                place = f"{path}, row {line}"
                yield place, _checked(row, kind, f"{what}: {place}")


def verdict(text: str) -> str | None:
    """The verdict in a judge's text, such as `A>>B`: the last in double brackets, else the last in single ones.

    None where there is neither. What it gives need not be a verdict that counts: `[[A]]` is `A`.

    Source: Arena-Hard-Auto, gen_judgment.py, get_score.
    """
    raised = text.upper()
    return next((found[-1] for pattern in _LABELS if (found := pattern.findall(raised))), None)


def rating(text: str) -> Rated | None:
    """The rating in a judge's text: the first number in double brackets, else the first in single ones.

    None where there is neither, or where the number is beyond all floats.

    Source: arXiv 2306.05685 (MT-bench); FastChat, llm_judge/common.py.
    """
    for pattern in _RATINGS:
        if found := pattern.search(text):
            value = float(found[1])
            return Rated(value, pattern is _RATINGS[0]) if math.isfinite(value) else None
    return None


def listed(values: Iterable[object], *, most: int = 3) -> str:
    """Some values for a message, and how many more there are: `a, b, c and 4 more`."""
    known = list(dict.fromkeys(map(str, values)))
    more = len(known) - most
    return ", ".join(known[:most]) + (f" and {more:,} more" if more > 0 else "")


def _checked(row: dict[str, Any], kind: type[Row], place: str) -> Row:
    try:
        return kind.model_validate(row)
    except ValidationError as error:
        first = plain(error).split("; ")[0]
        raise InputError(f"{place}: {first}; correct the row or take it out") from error
