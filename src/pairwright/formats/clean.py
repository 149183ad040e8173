"""Many alike rows at once: the same reading as `mapping.pair_record`, a column at a time.

Most of a large file is rows of one shape: the same keys, sides that are texts or plain messages, prompts that agree,
scores that are finite numbers. Such rows need no `Record` each. `pairs` reads a batch of them, or says None when any
row is out of the ordinary; then the batch is read row by row. Both roads give the same tables, and a test says so.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

from pairwright.chat import Message, assistant, user
from pairwright.formats.hh import is_dialogue
from pairwright.formats.mapping import MODEL_NAMES, PROMPT_EXTRAS, SCORE_NAMES
from pairwright.formats.record import Columns

_ONE_BY_ONE = frozenset(
    {"margin", "preference", "weight", "goal", "messages", "copy", "source_pair", "prompt_mismatch", *PROMPT_EXTRAS}
)
"""Columns whose cells each need a decision."""

_SIDE_NAMES = frozenset(
    {name for names in SCORE_NAMES for name in names[:2]} | {n for names in MODEL_NAMES for n in names}
)

Row = dict[str, Any]
Cells = Sequence[Any]


class Clean(NamedTuple):
    """A batch of comparisons, each column in row order."""

    prompts: list[list[Message]]
    chosen: list[list[Message]]
    rejected: list[list[Message]]
    scores: tuple[Cells, Cells]
    models: tuple[Cells, Cells]
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
    if (
        not _ONE_BY_ONE.isdisjoint(names)
        or any(tuple(row) != names for row in rows)
        or not set(names).issuperset(found)
    ):
        return None
    cells: dict[str, Cells] = dict(zip(names, zip(*[row.values() for row in rows], strict=True), strict=True))
    chosen, rejected = cells.pop(str(columns.chosen)), cells.pop(str(columns.rejected))
    asked = cells.pop(columns.prompt) if columns.prompt else None
    splits = cells.pop("split", (None,) * len(rows))
    scores = _sides_of(cells, [(one, other) for one, other, _ in SCORE_NAMES])
    models = _sides_of(cells, MODEL_NAMES)
    left_over = [name for name in cells if name.startswith("score_") and name.endswith(("_chosen", "_rejected"))]
    if left_over or not _SIDE_NAMES.isdisjoint(cells):
        return None
    if not (_are_scores(scores) and _are_names(models) and _are_names((splits,))):
        return None
    sides = _texts(asked, chosen, rejected) if type(chosen[0]) is str else _conversations(asked, chosen, rejected)
    if sides is None:
        return None
    empty = (None,) * len(rows)
    return Clean(*sides, scores or (empty, empty), models or (empty, empty), splits, cells)


def _sides_of(cells: dict[str, Cells], names: Sequence[tuple[str, str]]) -> tuple[Cells, Cells] | None:
    """The first two columns of these names that are there."""
    for one, other in names:
        if one in cells and other in cells:
            return cells.pop(one), cells.pop(other)
    return None


def _are_scores(scores: tuple[Cells, Cells] | None) -> bool:
    try:
        return all(
            cell is None or (type(cell) in (float, int) and isfinite(cell)) for side in scores or () for cell in side
        )
    except OverflowError:  # an integer beyond all floats
        return False


def _are_names(columns: Sequence[Cells] | None) -> bool:
    return all(cell is None or (type(cell) is str and cell) for cells in columns or () for cell in cells)


def _texts(asked: Cells | None, chosen: Cells, rejected: Cells) -> tuple[list[Any], list[Any], list[Any]] | None:
    """Prompts and sides that are all text."""
    if asked is None or not all(type(cell) is str for cells in (asked, chosen, rejected) for cell in cells):
        return None
    if any(is_dialogue(cell) for cell in asked):
        return None
    return [[user(c)] for c in asked], [[assistant(c)] for c in chosen], [[assistant(c)] for c in rejected]


def _conversations(
    asked: Cells | None, chosen: Cells, rejected: Cells
) -> tuple[list[Any], list[Any], list[Any]] | None:
    """Whole conversations that differ in their last message only; a prompt of text must be one of the turns."""
    prompts, left, right = [], [], []
    for row, (one, other) in enumerate(zip(chosen, rejected, strict=True)):
        if type(one) is not list or type(other) is not list or len(one) < 2 or not _plain(one):
            return None
        head, end = one[:-1], other[-1:]
        if head != other[:-1] or not _plain(end) or not one[-1]["role"] == end[0]["role"] == "assistant":
            return None
        if asked is not None and not _says(head, asked[row]):
            return None
        prompts.append(head)
        left.append(one[-1:])
        right.append(end)
    return prompts, left, right


def _says(head: list[Message], asked: Any) -> bool:
    """Whether a conversation opens with a question and has a turn that is this text."""
    return type(asked) is str and head[0]["role"] != "assistant" and any(turn["content"] == asked for turn in head)


def _plain(conversation: list[Any]) -> bool:
    """Whether every message is a role and a content, both text."""
    for turn in conversation:
        if type(turn) is not dict or len(turn) != 2:
            return False
        if type(turn.get("content")) is not str or type(turn.get("role")) is not str:
            return False
    return True
