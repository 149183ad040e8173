"""What a format makes of one row of a source: a prompt, its answers, and the comparisons that the source made.

A format is a function from a row (a dictionary) to a `Record`. It never strips or repairs text and never invents a
score. What it cannot read at all it refuses with `Unreadable`; that row then goes to the rejects, and the file goes on.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pairwright.chat import Message, system

Row = Mapping[str, Any]
_NOTHING: Mapping[str, Any] = {}


class Answer(NamedTuple):
    """One answer to a prompt."""

    response: Sequence[Message]
    """The continuation of the prompt, most often one assistant message; at least one message."""
    model: str | None = None
    """Who wrote it."""
    score: float | None = None
    """Higher is better; None is unscored."""
    scores: Mapping[str, float | None] = _NOTHING
    """Other scores by name; `helpfulness` becomes the column `score_helpfulness`."""
    extras: Mapping[str, Any] = _NOTHING
    """Further columns of `responses`; they do not keep two answers apart."""


class Pair(NamedTuple):
    """A comparison that the source made, by the positions of its answers in the record."""

    chosen: int
    rejected: int
    preference: float | None = None
    """How much the source prefers the chosen side, in the source's own unit."""


class Record(NamedTuple):
    """All that one row says."""

    prompt: Sequence[Message]
    answers: Sequence[Answer] = ()
    pairs: Sequence[Pair] = ()
    split: str | None = None
    weight: float | None = None
    goal: float | Sequence[float] | None = None
    """A goal that the prompt already says (a flat file that was relabelled before)."""
    prompt_extras: Mapping[str, Any] = _NOTHING
    """Further columns of `prompts`."""
    pair_extras: Mapping[str, Any] = _NOTHING
    """Further columns of `pairs`."""
    notes: Sequence[str] = ()
    """What was done to this row; equal sentences are counted over the source."""


class Unreadable(Exception):
    """A row that has no place in the three tables.

    Args:
        reason: a short name, under which such rows are counted.
        says: one sentence for the reader of the rejects file.
    """

    def __init__(self, reason: str, says: str) -> None:
        super().__init__(says)
        self.reason = reason
        self.says = says


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which column of a source says what; None is: the source does not say it."""

    prompt: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    score_chosen: str | None = None
    score_rejected: str | None = None
    model_chosen: str | None = None
    model_rejected: str | None = None
    response: str | None = None
    score: str | None = None
    model: str | None = None
    split: str | None = None
    system: str | None = None
    reference: str | None = None
    preference: str | None = None
    label: str | None = None


@dataclass(frozen=True, kw_only=True)
class Format:
    """One shape that preference data comes in."""

    name: str
    says: str
    """One line for `pairwright list formats`."""
    source: str
    """Where the shape is defined or met."""
    columns: tuple[str, ...]
    """The columns that a source must have to be of this shape."""
    rows: Callable[[Row], Record]
    fits: Callable[[Sequence[Row]], bool] | None = None
    """Looks at the first rows where the columns alone do not decide."""
    notes: tuple[str, ...] = ()
    """Sentences for the lineage of everything read in this format, above all what `score` is."""
    ordered: bool = False
    """Whether a row's two answers stand in an order of their own, which the label is about; else the better leads."""
    clean: Columns | None = None
    """The same columns as `rows` reads, where rows that are alike may be read many at a time (`clean.pairs`)."""

    def detect(self, columns: frozenset[str], rows: Sequence[Row]) -> bool:
        """Whether a source with these columns and first rows has this shape."""
        return columns.issuperset(self.columns) and (self.fits is None or self.fits(rows))


NON_FINITE = "a score that is not a finite number became null"
NOT_A_NUMBER = "a score that is not a number became null"
NA = "a score of 'N/A' became null"
LEFT_OUT = "keys of messages other than role and content were left out"
_ABSENT_SCORES = frozenset({"", "n/a", "na", "none", "null"})


def number(value: Any, notes: list[str]) -> float | None:
    """A score as a float: null for what is absent, not a number or not finite; never zero for unscored.

    Args:
        value: a number, a string of one, a boolean (a verifier's yes is 1.0), or nothing.
        notes: gets a sentence where something had to become null.
    """
    if type(value) is float and math.isfinite(value):
        return value
    if value is None:
        return None
    if isinstance(value, str) and value.strip().lower() in _ABSENT_SCORES:
        if value.strip():
            notes.append(NA)
        return None
    try:
        result = float(value)
    except OverflowError:  # an integer beyond all floats
        notes.append(NON_FINITE)
        return None
    except (TypeError, ValueError):
        notes.append(NOT_A_NUMBER)
        return None
    if not math.isfinite(result):
        notes.append(NON_FINITE)
        return None
    return result


def text(row: Row, column: str) -> str:
    """The text in a column.

    Raises:
        Unreadable: the column is missing, null, or not text.
    """
    if column not in row:
        raise Unreadable("missing_column", f"there is no {column!r} in this row")
    return as_text(row[column], column)


def as_text(value: Any, where: str) -> str:
    """`value` if it is text, and else `Unreadable`."""
    if type(value) is str:
        return value
    if value is None:
        raise Unreadable("null_text", f"{where!r} is null")
    raise Unreadable("not_text", f"{where!r} is {_kind(value)}, not text")


def optional_text(value: Any) -> str | None:
    """A name as text; None when there is none."""
    return None if value is None or value == "" else str(value)


SHAREGPT_ROLES: Mapping[str, str] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "observation": "tool",
    "tool": "tool",
    "function_call": "assistant",
}
"""LLaMA-Factory's default tags (src/llamafactory/data/parser.py)."""


def messages(value: Any, where: str, notes: list[str]) -> list[Message]:
    """A conversation from `role`/`content` or `from`/`value` messages, contents as text or as a list of text parts.

    Args:
        value: a list of messages, or one message.
        where: the column, for the sentence of a refusal.
        notes: gets a sentence when keys beyond the two were left out.

    Raises:
        Unreadable: it is no list of messages, or a content is not text.
    """
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list | tuple):
        reason = "null_text" if value is None else "not_text"
        raise Unreadable(reason, f"{where!r} is {_kind(value)}, not a list of messages")
    result: list[Message] = []
    for item in value:
        if not isinstance(item, dict):
            raise Unreadable("not_text", f"{where!r} holds {_kind(item)} where a message should be")
        if "role" in item and "content" in item:
            role, content = item["role"], item["content"]
            known = 2
        elif "from" in item and "value" in item:
            role, content = SHAREGPT_ROLES.get(item["from"], item["from"]), item["value"]
            known = 2
        else:
            raise Unreadable("missing_column", f"a message of {where!r} has no role and content")
        if type(content) is not str:
            content = _parts(content, where)
        if type(role) is not str:
            raise Unreadable("not_text", f"a role of {where!r} is {_kind(role)}, not text")
        if len(item) > known and any(value is not None for key, value in item.items() if key not in _MESSAGE_KEYS):
            notes.append(LEFT_OUT)
        result.append({"role": role, "content": content})
    return result


_MESSAGE_KEYS = frozenset({"role", "content", "from", "value"})


def _parts(content: Any, where: str) -> str:
    """The text of a list of content parts (`{"type": "text", "text" or "value": ...}`)."""
    if not isinstance(content, list):
        return as_text(content, f"{where} content")
    texts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type", "text") != "text":
            raise Unreadable("not_text", f"{where!r} has a content part that is not text")
        texts.append(as_text(part.get("text", part.get("value")), f"{where} content part"))
    return "".join(texts)


def with_system(prompt: list[Message], words: Any) -> list[Message]:
    """The prompt with a system message in front, when there are words for one."""
    return [system(words), *prompt] if isinstance(words, str) and words else prompt


def truth(value: Any, where: str) -> bool:
    """A label as a boolean.

    Raises:
        Unreadable: it is neither true nor false in any usual spelling.
    """
    if isinstance(value, bool):
        return value
    if value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in _TRUTHS:
        return _TRUTHS[value.strip().lower()]
    raise Unreadable("bad_label", f"{where!r} is {value!r:.40}, neither true nor false")


_TRUTHS = {"true": True, "false": False, "1": True, "0": False, "desirable": True, "undesirable": False}


def rest(row: Row, *used: str) -> dict[str, Any]:
    """The cells of a row that no one has read, without the null ones and `split`, which every row may have."""
    return {name: value for name, value in row.items() if value is not None and name not in used and name != "split"}


def _kind(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object", str: "text"}
    return "null" if value is None else names.get(type(value), f"a {type(value).__name__}")
