"""Many alike rows at once: the same reading as `mapping.pair_record`, a column at a time.

Most of a large file is rows of one shape: the same keys, sides that are texts or plain messages, prompts that agree,
scores that are finite numbers. Such rows need no `Record` each. `pairs` reads a batch of them, or says None when any
row is out of the ordinary; then the batch is read row by row. Both roads give the same tables, and a test says so.

Nothing here looks at one cell at a time where a built-in can look at a column: `set(map(type, cells))` is the price of
a few machine instructions for a cell.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from math import isfinite
from typing import Any, NamedTuple

from pairwright.formats.hh import is_dialogue
from pairwright.formats.mapping import MODEL_NAMES, PROMPT_EXTRAS, SCORE_NAMES
from pairwright.formats.record import Columns

_ONE_BY_ONE = frozenset({"margin", "preference", "weight", "goal", "copy", "source_pair", "prompt_mismatch"}) | {
    *PROMPT_EXTRAS
}
"""Columns whose cells each need a decision."""

_MOVED = "source_"
"""What stands before the name of a column that would be taken for one of ours."""

_SIDE_NAMES = frozenset(
    {name for names in SCORE_NAMES for name in names[:2]} | {n for names in MODEL_NAMES for n in names}
)
_NAME = frozenset({str, type(None)})
_SCORE = frozenset({float, int, type(None)})

Row = dict[str, Any]
Cells = Sequence[Any]


class Turns(NamedTuple):
    """Conversations, laid flat."""

    roles: list[str]
    contents: list[str]
    sizes: list[int]
    """Messages of each conversation."""


class Clean(NamedTuple):
    """A batch of comparisons, each column in row order; of answers, the chosen and the rejected take turns."""

    prompts: Turns
    answers: Turns
    scores: list[Any]
    models: list[Any]
    splits: Cells
    extras: Mapping[str, Cells]


def pairs(rows: Sequence[Row], columns: Columns) -> Clean | None:
    """The comparisons of some rows; None when any of them must be read by itself.

    Args:
        rows: at least one.
        columns: the names of the prompt (or None) and of the two sides; others must be None.
    """
    names = tuple(rows[0])
    found = (columns.chosen, columns.rejected, columns.prompt or columns.chosen)
    if not set(names).issuperset(found) or set(map(tuple, rows)) != {names}:
        return None
    if any(f"{_MOVED}{name}" in names for name in names):  # one of the two may have to make room for the other
        return None
    cells: dict[str, Cells] = {name: [row[name] for row in rows] for name in names}
    chosen, rejected = cells.pop(str(columns.chosen)), cells.pop(str(columns.rejected))
    asked = cells.pop(columns.prompt) if columns.prompt else None
    splits = cells.pop("split", [None] * len(rows))
    if not (_without_empty(cells) and _without_copy(cells, asked, chosen)):
        return None
    scores = _sides_of(cells, [(one, other) for one, other, _ in SCORE_NAMES])
    models = _sides_of(cells, MODEL_NAMES)
    left_over = [name for name in cells if name.startswith("score_") and name.endswith(("_chosen", "_rejected"))]
    if left_over or not _SIDE_NAMES.isdisjoint(cells):
        return None
    if not (all(map(_are_scores, scores or ())) and all(map(_are_names, (*(models or ()), splits)))):
        return None
    read = _texts if type(chosen[0]) is str else _conversations
    said = read(asked, chosen, rejected)
    if said is None:
        return None
    empty = (None,) * len(rows)
    return Clean(*said, _turned(scores or (empty, empty)), _turned(models or (empty, empty)), splits, cells)


def _without_empty(cells: dict[str, Cells]) -> bool:
    """Take out the columns of decisions that are null in every row; False when another is there."""
    for name in _ONE_BY_ONE.intersection(cells):
        if cells[name].count(None) < len(cells[name]):
            return False
        del cells[name]
    return True


def _without_copy(cells: dict[str, Cells], asked: Cells | None, chosen: Cells) -> bool:
    """Take out a `messages` column that only says the chosen conversation again; False when it says something else."""
    said = cells.pop("messages", None)
    if said is None or said.count(None) == len(said):
        return True
    whole = asked is None or type(asked[0]) is not list
    return whole and type(chosen[0]) is list and said == chosen


def _sides_of(cells: dict[str, Cells], names: Sequence[tuple[str, str]]) -> tuple[Cells, Cells] | None:
    """The first two columns of these names that are there."""
    for one, other in names:
        if one in cells and other in cells:
            return cells.pop(one), cells.pop(other)
    return None


def _are_scores(cells: Cells) -> bool:
    kinds = set(map(type, cells))
    if not kinds <= _SCORE:
        return False
    try:
        return all(map(isfinite, cells if type(None) not in kinds else [cell for cell in cells if cell is not None]))
    except OverflowError:  # an integer beyond all floats
        return False


def _are_names(cells: Cells) -> bool:
    return _NAME.issuperset(map(type, cells)) and "" not in cells


def _turned(both: tuple[Cells, Cells]) -> list[Any]:
    """One of the first, one of the second, and so on."""
    cells: list[Any] = [None] * (2 * len(both[0]))
    cells[0::2], cells[1::2] = both
    return cells


def _texts(asked: Cells | None, chosen: Cells, rejected: Cells) -> tuple[Turns, Turns] | None:
    """Prompts and sides that are all text."""
    if asked is None or any({str} != set(map(type, cells)) for cells in (asked, chosen, rejected)):
        return None
    if any([cell[:2] == "\n\n" for cell in asked]) and any(map(is_dialogue, asked)):
        return None
    size = len(asked)
    prompts = Turns(["user"] * size, list(asked), [1] * size)
    return prompts, Turns(["assistant"] * (2 * size), _turned((chosen, rejected)), [1] * (2 * size))


def _conversations(asked: Cells | None, chosen: Cells, rejected: Cells) -> tuple[Turns, Turns] | None:
    """Whole conversations that differ in their last message only, or answers beside a prompt of messages."""
    if {list} != set(map(type, chain(chosen, rejected))) or not all(chosen) or not all(rejected):
        return None
    if asked is not None and type(asked[0]) is list:
        return _answers(asked, chosen, rejected)
    heads = [side[:-1] for side in chosen]
    if not all(heads) or heads != [side[:-1] for side in rejected]:
        return None
    prompts = _flat(heads)
    answers = _flat(_turned(([side[-1:] for side in chosen], [side[-1:] for side in rejected])))
    if prompts is None or answers is None or {"assistant"} != set(answers.roles):
        return None
    return (prompts, answers) if asked is None or _say(prompts, heads, asked) else None


def _answers(asked: Cells, chosen: Cells, rejected: Cells) -> tuple[Turns, Turns] | None:
    """Prompts of messages with answers of messages that the assistant begins."""
    if {list} != set(map(type, asked)) or not all(asked):
        return None
    said = _turned((chosen, rejected))
    prompts, answers = _flat(asked), _flat(said)
    if prompts is None or answers is None or any([turns[0]["role"] != "assistant" for turns in said]):
        return None
    return prompts, answers


def _say(prompts: Turns, heads: list[Any], asked: Cells) -> bool:
    """Whether each conversation opens with a question and has a turn that is the text that was asked."""
    if len(prompts.contents) == len(asked):
        return "assistant" not in prompts.roles and prompts.contents == asked
    return all(
        type(text) is str and head[0]["role"] != "assistant" and any([turn["content"] == text for turn in head])
        for head, text in zip(heads, asked, strict=True)
    )


def _flat(conversations: Iterable[list[Any]]) -> Turns | None:
    """Conversations laid flat; None when a message is something else than a role and a content, both text."""
    turns = list(chain.from_iterable(conversations))
    if {dict} != set(map(type, turns)) or {2} != set(map(len, turns)):
        return None
    try:
        roles, contents = [turn["role"] for turn in turns], [turn["content"] for turn in turns]
    except KeyError:
        return None
    if {str} != set(map(type, chain(roles, contents))):
        return None
    return Turns(roles, contents, list(map(len, conversations)))
