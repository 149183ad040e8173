"""Formats that only name their columns, and the user's own names (`columns=`).

Most published sources say the same things under other names. `Columns` is that list of names; `pair_record` and
`answer_record` read a row by it. A column that is not named lands among the extras, never in the bin.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from pairwright.errors import InputError
from pairwright.formats.record import (
    Answer,
    Columns,
    Pair,
    Record,
    Row,
    Unreadable,
    number,
    optional_text,
    rest,
    truth,
    with_system,
)
from pairwright.formats.sides import prompt_of, response_of, sides
from pairwright.plug import nearest

PROMPT_EXTRAS = ("reference", "tools", "images")
"""Columns that describe the prompt, whatever the shape of the row."""
GOAL_SAID = "the prompt already says a goal (the file was relabelled before); it is kept as a number and not said again"
DRAWN = ("goal", "sample", "stopped")
"""Columns of a file of `generate`, all of them: the goal stands beside the answer, and not in its prompt."""
NO_WEIGHT = "a weight that is not a finite number became 1"
SCORE_NAMES: tuple[tuple[str, str, str], ...] = (
    ("score_chosen", "score_rejected", ""),
    ("chosen_score", "rejected_score", "score"),
    ("chosen-rating", "rejected-rating", "rating"),
    ("chosen_rating", "rejected_rating", "rating"),
    ("chosen_avg_rating", "rejected_avg_rating", "avg_rating"),
    ("chosen_reward", "rejected_reward", "reward"),
    ("reward_chosen", "reward_rejected", "reward"),
)
"""Scores of the two sides: the first that a row has is `score`, a further one becomes `score_<name>`."""
MODEL_NAMES: tuple[tuple[str, str], ...] = (
    ("model_chosen", "model_rejected"),
    ("chosen_model", "rejected_model"),
    ("chosen-model", "rejected-model"),
)


def columns_of(names: Mapping[str, str], found: frozenset[str]) -> Columns:
    """The user's `columns=` checked against what there is to map and against the columns of the source.

    Raises:
        InputError: an unknown key, a column that the source lacks, or too few keys for a pair or an answer.
    """
    known = [field.name for field in fields(Columns)]
    for key, column in names.items():
        if key not in known:
            raise InputError(f"columns: there is no {key!r}{nearest(key, known)} (there are {', '.join(known)})")
        if column not in found:
            raise InputError(
                f"columns: the source has no column {column!r}{nearest(column, found)} "
                f"(it has {', '.join(sorted(found))})"
            )
    mapped = Columns(**names)
    if bool(mapped.chosen) != bool(mapped.rejected):
        raise InputError("columns: give both 'chosen' and 'rejected', or 'prompt' and 'response'")
    if not (mapped.chosen or mapped.prompt):
        raise InputError("columns: give 'chosen' and 'rejected' (and 'prompt'), or 'prompt' and 'response'")
    return mapped


def mapped(columns: Columns) -> Callable[[Row], Record]:
    """The row function of a source with these columns."""
    return partial(pair_record if columns.chosen else answer_record, columns=columns)


def pair_record(row: Row, *, columns: Columns) -> Record:
    """A row that is one comparison.

    Raises:
        Unreadable: a side is missing or is no text.
    """
    notes: list[str] = []
    chosen_name, rejected_name = str(columns.chosen), str(columns.rejected)
    for name in (columns.prompt, chosen_name, rejected_name):
        if name and name not in row:
            raise Unreadable("missing_column", f"there is no {name!r} in this row")
    question = row[columns.prompt] if columns.prompt else None
    if columns.prompt and question is None:
        raise Unreadable("null_text", f"{columns.prompt!r} is null")
    prompt, chosen, rejected, mismatch = sides(question, row[chosen_name], row[rejected_name], notes)
    extra = rest(row, *_named(columns))
    if columns.system and row.get(columns.system):
        prompt = with_system(prompt, row[columns.system])
    left, right = _scores(row, columns, extra, notes)
    models = _models(row, columns, extra)
    margin = extra.pop("margin", None) if columns.preference is None else row.get(columns.preference)
    preference = number(extra.pop("preference", None) if margin is None else margin, notes)
    common = _common(row, columns, extra, notes)
    if mismatch:
        extra["prompt_mismatch"] = True
    if extra.get("messages") is not None and _repeats(extra["messages"], prompt, chosen):
        del extra["messages"]
    return Record(
        prompt=prompt,
        answers=(
            Answer(chosen, models[0], left.pop("", None), left),
            Answer(rejected, models[1], right.pop("", None), right),
        ),
        pairs=(Pair(0, 1, preference),),
        pair_extras=extra,
        notes=notes,
        **common,
    )


def answer_record(row: Row, *, columns: Columns) -> Record:
    """A row that is a prompt, or a prompt with one answer.

    Raises:
        Unreadable: the prompt or the answer is missing or is no text.
    """
    notes: list[str] = []
    for name in (columns.prompt, columns.response):
        if name and row.get(name) is None:
            reason = "missing_column" if name not in row else "null_text"
            raise Unreadable(reason, f"there is no {name!r} in this row")
    prompt = prompt_of(row[str(columns.prompt)], notes, str(columns.prompt))
    if columns.system:
        prompt = with_system(prompt, row.get(columns.system))
    extra = rest(row, *_named(columns))
    asked = {"goal": _asked(extra.pop("goal"))} if columns.response and extra.keys() >= set(DRAWN) else {}
    common = _common(row, columns, extra, notes)
    if columns.response is None:
        return Record(prompt=prompt, notes=notes, **_all_of_prompt(common, extra))
    score = number(row.get(columns.score), notes) if columns.score else None
    scores = _named_scores(extra, notes)
    if columns.label:
        verdict = truth(row.get(columns.label), columns.label)
        if columns.score is None:
            score = float(verdict)
        else:
            scores["label"] = float(verdict)
    model = optional_text(row.get(columns.model) if columns.model else extra.pop("model", None))
    answer = Answer(response_of(row[columns.response], notes, columns.response), model, score, scores, extra | asked)
    return Record(prompt=prompt, answers=(answer,), notes=notes, **common)


def _asked(goal: Any) -> Any:
    """The goal of a generated answer: a number where it is one, so that whole ones are not of another type."""
    return float(goal) if _is_number(goal) and goal != "" else goal or None


def _named(columns: Columns) -> list[str]:
    return [name for name in vars(columns).values() if name]


def _scores(
    row: Row, columns: Columns, extra: dict[str, Any], notes: list[str]
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """The scores of both sides by name, `""` for the main one; what is read leaves `extra`."""
    left: dict[str, float | None] = {}
    right: dict[str, float | None] = {}
    if columns.score_chosen or columns.score_rejected:
        left[""] = number(row.get(columns.score_chosen or ""), notes)
        right[""] = number(row.get(columns.score_rejected or ""), notes)
    for one, other, name in SCORE_NAMES:
        if one in extra or other in extra:
            key = name or "score" if "" in left else ""
            left[key] = number(extra.pop(one, None), notes)
            right[key] = number(extra.pop(other, None), notes)
    for column in [name for name in extra if name.startswith("score_") and name.endswith("_chosen")]:
        name = column[len("score_") : -len("_chosen")]
        left[name] = number(extra.pop(column), notes)
        right[name] = number(extra.pop(f"score_{name}_rejected", None), notes)
    for column in [name for name in extra if name.startswith("score_") and name.endswith("_rejected")]:
        name = column[len("score_") : -len("_rejected")]
        left[name], right[name] = None, number(extra.pop(column), notes)
    return left, right


def _named_scores(extra: dict[str, Any], notes: list[str]) -> dict[str, float | None]:
    """The columns `score_<name>` of a row with one answer."""
    found = [name for name in extra if name.startswith("score_") and len(name) > len("score_")]
    return {name.removeprefix("score_"): number(extra.pop(name), notes) for name in found}


def _models(row: Row, columns: Columns, extra: dict[str, Any]) -> tuple[str | None, str | None]:
    if columns.model_chosen or columns.model_rejected:
        return (
            optional_text(row.get(columns.model_chosen or "")),
            optional_text(row.get(columns.model_rejected or "")),
        )
    for one, other in MODEL_NAMES:
        if one in extra or other in extra:
            return optional_text(extra.pop(one, None)), optional_text(extra.pop(other, None))
    return None, None


def _common(row: Row, columns: Columns, extra: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """What a row of any shape may say: split, weight, goal, and what belongs to the prompt."""
    about = {name: extra.pop(name) for name in PROMPT_EXTRAS if name in extra}
    if columns.reference and row.get(columns.reference) is not None:
        about["reference"] = row[columns.reference]
    common: dict[str, Any] = {"split": optional_text(row.get(columns.split or "split")), "prompt_extras": about}
    if "weight" in extra:
        weight = number(extra["weight"], []) if _is_number(extra["weight"]) else None
        if weight is None and extra["weight"] != "":
            notes.append(NO_WEIGHT)
        if weight is not None or _is_number(extra["weight"]):
            del extra["weight"]  # a word stays, as source_weight
        common["weight"] = weight
    goal = extra.get("goal")
    parts = goal if isinstance(goal, list) else [goal]
    if parts and all(_is_number(part) for part in parts):
        del extra["goal"]
        goals = [number(part, notes) for part in parts]
        if None not in goals:
            common["goal"] = goals if isinstance(goal, list) else goals[0]
            notes.append(GOAL_SAID)
    return common


def _is_number(cell: Any) -> bool:
    """Whether a cell is a number, or the text of one (CSV), or an empty cell of CSV."""
    if isinstance(cell, str):
        try:
            return not cell or isinstance(float(cell), float)
        except ValueError:
            return False
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _all_of_prompt(common: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    return common | {"prompt_extras": common["prompt_extras"] | extra}


def _repeats(conversation: Any, prompt: Any, chosen: Any) -> bool:
    """Whether a `messages` column only says the prompt and the chosen side again (ultrafeedback_binarized)."""
    return isinstance(conversation, list) and conversation == [*prompt, *chosen]
