"""What a scorer gets and gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import polars as pl

from pairwright.chat import Conversation, is_absent, text_of
from pairwright.preferences import Preferences


def _no_columns() -> Mapping[str, pl.Series]:
    return MappingProxyType({})


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer to one prompt."""

    prompt: Conversation
    response: Conversation
    extras: Mapping[str, Any] = field(default_factory=_nothing)
    """What else the prompt has, such as `reference`."""
    numbers: Mapping[str, float | None] = field(default_factory=_nothing)
    """The answer's number columns, such as `score`, `logp_<model>` (summed, nats), `len_<tokenizer>` (tokens)."""

    @property
    def answer(self) -> str:
        """The text of the response."""
        return text_of(self.response)


@dataclass(frozen=True, slots=True)
class Score:
    """A number on an answer, higher is better; or None and the reason."""

    value: float | None
    why: str = ""
    """Why there is none, in one or two words: it is the name under which it is counted."""
    also: Mapping[str, Any] = field(default_factory=_nothing)
    """What else there is to keep about the answer, numbers or text; `name` goes to the column `<into>_<name>`."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The numbers on all answers at once, from a scorer that takes `prefs`."""

    values: pl.Series | None
    """One for each answer, in the order of `responses`; null where there is none. None: there is no overall score, only
    `columns`, and the column `into` stays as it is."""
    why: Mapping[str, int]
    """How many have none, by reason."""
    prefs: Preferences
    """The data with what was computed on the way: further columns of the answers, further steps."""
    found: Mapping[str, Any] = field(default_factory=_nothing)
    """What was measured on the way, for the lineage; JSON values."""
    notes: tuple[str, ...] = ()
    """The same in words."""
    into: str = "score"
    """The column that they go to where none is asked for."""
    columns: Mapping[str, pl.Series] = field(default_factory=_no_columns)
    """Further columns of the answers, one value for each, in order: `name` goes to `<into>_<name>`, such as
    `score_helpfulness` of the head `helpfulness`, or `score_text` of `text`. Floats are scores, higher is better, null
    where there is none; columns of other types (text, integers) are kept as they are."""


def missing_before(prompt: Conversation | None, answer: Conversation | None) -> str:
    """Why there is nothing to score: `missing_answer` or `missing_prompt`; an empty string where both are there."""
    if is_absent(answer):
        return "missing_answer"
    return "missing_prompt" if is_absent(prompt) else ""


def lost_before(prompt: Conversation | None, answer: Conversation | None) -> str:
    """Why a scorer that reads the text cannot score an answer: as `missing_before`, or `empty`, only white space."""
    missing = missing_before(prompt, answer)
    return missing or ("" if text_of(answer or []).strip() else "empty")
