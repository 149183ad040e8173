"""The files of length control: difficulties of prompts, anchors, and published weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import AliasChoices, Field

from pairwright.errors import InputError
from pairwright.evaluate.alpaca_eval import FileRow, PromptNumber, read_rows
from pairwright.evaluate.length_controlled import Floats, Rows, Weights, anchors_of
from pairwright.plug import nearest

_ID = AliasChoices("instruction_id", "index", "")


class Difficulties(NamedTuple):
    """Difficulty of prompts, in log-odds; larger is easier to win."""

    source: str
    by_number: Mapping[str, float]
    """By the file's own number of the prompt."""
    in_order: Floats
    """As AlpacaEval looks them up: the prompt numbered i at place i."""

    def at_positions(self, positions: Sequence[int]) -> Floats:
        """The difficulties at these places, from 0.

        Raises:
            InputError: a place is beyond the last one.
        """
        if positions and max(positions) >= len(self.in_order):
            raise InputError(
                f"{self.source} has {len(self.in_order):,} difficulties, and there are {max(positions) + 1:,} rows; "
                "match them by id, or leave the difficulty out to have it fitted from several models"
            )
        return self.in_order[np.asarray(positions, dtype=np.intp)]

    def of_numbers(self, numbers: Sequence[str | None]) -> Floats:
        """The difficulties of the prompts with these numbers.

        Raises:
            InputError: a verdict has no number, or none that the file knows.
        """
        for row, number in enumerate(numbers, 1):
            if number is None or number not in self.by_number:
                what = "has no instruction_id" if number is None else f"is of prompt {number}"
                raise InputError(
                    f"row {row} {what}, and {self.source} has no difficulty for it; correct its instruction_id, or "
                    "look difficulties up by position: match position"
                )
        return np.array([self.by_number[number] for number in numbers if number is not None], dtype=np.float64)


class Anchors(NamedTuple):
    """Verdicts on a short and a long version of the opponent."""

    source: str
    numbers: tuple[str | None, ...]
    texts: tuple[str | None, ...]
    """What the prompts say, where the file has it."""
    std_delta: Floats
    win: Floats
    difficulties: Difficulties | None
    """Of the file, if it has them; the difficulty of each row is that of its number."""

    def rows(self, difficulties: Difficulties) -> Rows:
        """Their rows, with these difficulties."""
        return anchors_of(self.std_delta, difficulties.of_numbers(self.numbers), self.win)


class _Difficulty(FileRow):
    number: PromptNumber = Field(None, validation_alias=_ID)
    value: float = Field(validation_alias="instruction_difficulty", allow_inf_nan=False)


class _Anchor(FileRow):
    number: PromptNumber = Field(None, validation_alias=_ID)
    text: str | None = Field(None, validation_alias="instruction")
    std_delta: float = Field(validation_alias="std_delta_len", allow_inf_nan=False)
    difficulty: float | None = Field(None, validation_alias="instruction_difficulty", allow_inf_nan=False)
    win: float = Field(validation_alias=AliasChoices("preference", "surrogate_preference", "win"), ge=0, le=1)


class _Weights(FileRow):
    model: str = Field(validation_alias=AliasChoices("model", "generator", ""))
    w_len: float = Field(validation_alias=AliasChoices("w_len", "np.tanh(std_delta_len)"), allow_inf_nan=False)
    w_diff: float = Field(validation_alias=AliasChoices("w_diff", "instruction_difficulty"), allow_inf_nan=False)
    w_bias: float = Field(
        validation_alias=AliasChoices("w_bias", "not_gamed_baseline.astype(float)"), allow_inf_nan=False
    )


def read_difficulty(path: Path) -> Difficulties:
    """Difficulties from `instruction_difficulty.csv`: `instruction_id` (or `index`) and `instruction_difficulty`.

    Raises:
        InputError: the file cannot be read, or gives one prompt two difficulties.
    """
    rows = [row for _, row in read_rows(path, _Difficulty)]
    return difficulties_of(str(path), [row.number for row in rows], [row.value for row in rows])


def read_anchors(path: Path) -> Anchors:
    """Anchors from AlpacaEval's `df_gamed.csv`: `index` (or `instruction_id`), `std_delta_len`, `preference` (0 to 1).

    With `instruction_difficulty` the file has difficulties too, which is where AlpacaEval takes them from.

    Raises:
        InputError: the file cannot be read, or gives one prompt two difficulties.
    """
    rows = [row for _, row in read_rows(path, _Anchor)]
    known = [(row.number, row.difficulty) for row in rows if row.difficulty is not None]
    each = list(dict.fromkeys(known))  # both versions of the opponent have the difficulty of their prompt
    with_all = len(known) == len(rows) and all(number is not None for number, _ in known)
    found = difficulties_of(str(path), [number for number, _ in each], [at for _, at in each]) if with_all else None
    return Anchors(
        str(path),
        tuple(row.number for row in rows),
        tuple(row.text for row in rows),
        np.array([row.std_delta for row in rows], dtype=np.float64),
        np.array([row.win for row in rows], dtype=np.float64),
        found,
    )


def read_weights(path: Path, model: str) -> Weights:
    """The weights of a model from AlpacaEval's file of weights, or from a table `model, w_len, w_diff, w_bias`.

    Raises:
        InputError: the file cannot be read or has no such model.
    """
    found = {row.model: Weights(row.w_len, row.w_diff, row.w_bias) for _, row in read_rows(path, _Weights)}
    if model not in found:
        raise InputError(f"{path} has no weights of {model!r}{nearest(model, found)}; name a model of it as generator")
    return found[model]


def difficulties_of(source: str, numbers: Sequence[str | None], values: Sequence[float]) -> Difficulties:
    """Difficulties by number, and in the order of the numbers where these are 0, 1, 2 ..., else of the rows.

    Raises:
        InputError: one number has two difficulties.
    """
    by_number = {number: value for number, value in zip(numbers, values, strict=True) if number is not None}
    if 0 < len(by_number) < len([number for number in numbers if number is not None]):
        raise InputError(f"{source} gives one prompt several difficulties; keep one row for each")
    places = {str(place) for place in range(len(values))}
    order = [by_number[str(place)] for place in range(len(values))] if by_number.keys() == places else list(values)
    return Difficulties(source, by_number, np.array(order, dtype=np.float64))
