"""The rows of RewardBench 2, scored and unscored, as a file has them and as preferences."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import polars as pl
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pairwright.chat import Conversation, Message, assistant, user
from pairwright.errors import InputError
from pairwright.evaluate.judgments import number
from pairwright.evaluate.result import Result
from pairwright.evaluate.ties import PARTS
from pairwright.formats import files, hub
from pairwright.formats.record import Unreadable
from pairwright.formats.sides import prompt_of, response_of
from pairwright.plug import nearest
from pairwright.preferences import MESSAGES, Preferences, Step

TIES = "Ties"
_SPELLED = {name.lower(): name for name in ("Factuality", "Precise IF", "Math", "Safety", "Focus", TIES)}
_TIES_ID = re.compile(r"(ref|tied):0*([0-9]+)")
_NEEDS = ("id", "subset", "num_correct")


TAKEN = frozenset(
    {*Result.model_fields, "average", "unscored", "average/mean", "average/sum", *(f"{TIES}/{part}" for part in PARTS)}
)
"""Names that a domain cannot have, since its measure would hide another."""


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _domain(value: Any) -> Any:
    """The domain's own spelling, so that `ties` is no other domain than `Ties`."""
    return _SPELLED.get(value.strip().lower().replace("_", " "), value) if isinstance(value, str) else value


class Case(BaseModel):
    """One scored row."""

    model_config = ConfigDict(frozen=True)

    id: Annotated[str, BeforeValidator(_text)]
    """Unique within its domain; in Ties `ref:N` or `tied:N`."""
    subset: Annotated[str, BeforeValidator(_domain)]
    """The domain."""
    num_correct: Annotated[int, BeforeValidator(number), Field(ge=1)]
    """How many of the answers are right; they come first."""
    scores: Annotated[tuple[Annotated[float, Field(allow_inf_nan=False, strict=True)] | None, ...], Field(min_length=1)]
    """One for each answer, higher is better; None is no score."""

    def ties_id(self) -> tuple[str, str]:
        """`ref` or `tied`, and the number of the prompt."""
        match = _TIES_ID.fullmatch(self.id)
        assert match is not None  # `_checked` has looked
        return match[1], match[2]

    def to_dict(self) -> dict[str, Any]:
        """The row as a file has it."""
        return self.model_dump(mode="json")


class Table(NamedTuple):
    """The rows of a file.

    Attributes:
        name: for messages.
        lines: where each row stands, from 1.
        rows: as found.
        scored: whether they have scores.
    """

    name: str
    lines: Sequence[int]
    rows: Sequence[Mapping[str, Any]]
    scored: bool


def read_rows(place: Path) -> Table:
    """The rows of a file, or of a hub dataset's split `test`.

    Raises:
        InputError: there is none, a line cannot be read, or the rows have neither form.
    """
    path, name = Path(place), str(place)
    if not path.exists() and hub.is_name(name):
        batches = hub.of_name(name, "test")
    elif path.is_dir() and hub.is_saved(path):
        batches = hub.of_directory(path, "test")
    else:
        batches = files.of_path(path).batches
    lines: list[int] = []
    rows: list[dict[str, Any]] = []
    for batch in batches:
        if batch.rejects:
            bad = batch.rejects[0]
            raise InputError(f"{name}, row {bad.line}: {bad.says}; correct the row or take it out")
        lines += batch.lines
        rows += batch.rows
    if not rows:
        raise InputError(f"{name} has no rows; give a file that has some")
    columns = {column for row in rows[:200] for column in row}
    scored = "scores" in columns
    needed = (*_NEEDS, "scores") if scored else (*_NEEDS, "prompt", "chosen", "rejected")
    if missing := [column for column in needed if column not in columns]:
        raise InputError(
            f"{name} has no column {missing[0]!r}{nearest(missing[0], columns)}; the rows of RewardBench 2 are "
            "id, subset, num_correct and either scores or prompt, chosen, rejected"
        )
    return Table(name, lines, rows, scored)


def scored_rows(table: Table) -> list[Case]:
    """The rows of a file with scores.

    Raises:
        InputError: a row is bad; the message says which.
    """
    found = []
    for line, row in zip(table.lines, table.rows, strict=True):
        scores = row.get("scores")
        where = f"{table.name}, row {line}"
        given = _list(scores, where) if isinstance(scores, str) and scores.startswith("[") else scores
        found.append(_checked({**row, "scores": given}, where))
    return _once(found, table)


def _list(cell: str, where: str) -> Any:
    """A list in a cell of CSV."""
    try:
        return json.loads(cell)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: scores: {cell!r:.40} is no list; write [1.5, 0.5, null]") from error


def data_of(table: Table) -> Preferences:
    """Unscored rows as preferences; see `rewardbench2_data`.

    Raises:
        InputError: the rows have no answers, or one is bad; the message says which.
    """
    if table.scored and "chosen" not in table.rows[0]:
        raise InputError(f"{table.name} has scores and no answers; give the rows with prompt, chosen, rejected")
    prompts: list[Conversation] = []
    answers: list[dict[str, Any]] = []
    pairs: list[tuple[str, int, int]] = []
    cases = []
    for at, (line, row) in enumerate(zip(table.lines, table.rows, strict=True)):
        where = f"{table.name}, row {line}"
        prompt, right, wrong = _texts(row, where)
        case = _checked({**row, "scores": [None] * (len(right) + len(wrong))}, where)
        if case.num_correct != len(right):
            raise InputError(f"{where}: num_correct is {case.num_correct}, but chosen has {len(right)} answers")
        first = len(answers)
        prompt_id = _prompt_id(case)
        prompts.append(prompt)
        beside = {"prompt_id": prompt_id, "case": at, **case.model_dump(exclude={"scores"})}
        answers += [{**beside, "response": answer} for answer in (*right, *wrong)]
        rest = range(first + len(right), len(answers))
        pairs += [(prompt_id, i, j) for i in range(first, first + len(right)) for j in rest]
        cases.append(case)
    _once(cases, table)
    asked = pl.DataFrame(
        {"prompt_id": [_prompt_id(case) for case in cases], "prompt": prompts}, schema_overrides=_TYPES
    )
    said = pl.DataFrame(answers, schema_overrides=_TYPES, infer_schema_length=None)
    compared = pl.DataFrame(pairs, schema=["prompt_id", "chosen_id", "rejected_id"], orient="row")
    step = Step(
        name="read",
        settings={"source": table.name, "format": "rewardbench2"},
        rows_in=len(table.rows),
        rows_out=len(table.rows),
        notes=("Each row is a prompt of its own, also where several rows share its text.",),
    )
    return Preferences.of(asked, said, compared, (step,))


_TYPES: dict[str, Any] = {"prompt": MESSAGES, "response": MESSAGES}


def rows_of(prefs: Preferences, score: str) -> list[Case]:
    """Answers of `data_of` that have a score column, as scored rows.

    Raises:
        InputError: a column is missing, or a score is not finite.
    """
    schema = prefs.responses.collect_schema()
    needed = ("case", *_NEEDS, score)
    if missing := [name for name in needed if name not in schema]:
        hint = nearest(missing[0], schema.names()) or f"; responses have {', '.join(schema.names())}"
        raise InputError(f"there is no column {missing[0]!r} for the rows of RewardBench 2{hint}")
    frame = prefs.responses.select("case", *_NEEDS, scores=pl.col(score).cast(pl.Float64))
    grouped = frame.group_by("case", maintain_order=True).agg(pl.col(_NEEDS).first(), pl.col("scores")).collect()
    return [_checked(row, f"row {row['case'] + 1}") for row in grouped.iter_rows(named=True)]


def _prompt_id(case: Case) -> str:
    return f"{case.subset}/{case.id}"


def _checked(row: Mapping[str, Any], where: str) -> Case:
    """A row as a case.

    Raises:
        InputError: a column is missing or wrong.
    """
    scores = row.get("scores")
    if isinstance(scores, list) and any(isinstance(one, float) and not math.isfinite(one) for one in scores):
        raise InputError(f"{where}: a score is not finite; write null for an answer without a score")
    try:
        case = Case.model_validate(dict(row))
    except ValidationError as error:
        first = error.errors()[0]
        column = ".".join(map(str, first["loc"]))
        raise InputError(f"{where}: {column}: {first['msg']}; correct the row or take it out") from error
    if case.subset in TAKEN:
        raise InputError(
            f"{where}: a subset cannot be called {case.subset!r}, as a measure of all of them is; rename it"
        )
    if case.num_correct > len(case.scores):
        raise InputError(f"{where}: num_correct is {case.num_correct}, but there are {len(case.scores)} scores")
    if case.subset == TIES and _TIES_ID.fullmatch(case.id) is None:
        raise InputError(f"{where}: the id {case.id!r} of a Ties row is neither ref:N nor tied:N; correct it")
    return case


def _once(cases: list[Case], table: Table) -> list[Case]:
    """The cases, each of which may be there once."""
    seen: dict[tuple[str, Any], int] = {}
    for line, case in zip(table.lines, cases, strict=True):
        key = (case.subset, case.ties_id() if case.subset == TIES else case.id)
        if key in seen:
            raise InputError(
                f"{table.name}, row {line}: the id {case.id!r} of {case.subset} is in row {seen[key]} too; leave one"
            )
        seen[key] = line
    return cases


def _texts(row: Mapping[str, Any], where: str) -> tuple[Conversation, list[Conversation], list[Conversation]]:
    """Prompt, right and wrong answers of a row."""
    notes: list[str] = []
    sides = [row.get("chosen"), row.get("rejected")]
    if not all(isinstance(side, list) for side in sides) or not sides[0]:
        raise InputError(f"{where}: chosen and rejected must be lists of answers, chosen with at least one")
    try:
        prompt = row.get("prompt")
        asked: list[Message] = [user(prompt)] if isinstance(prompt, str) else prompt_of(prompt, notes)
        right: list[Conversation] = [_answer(one, notes) for one in sides[0]]
        wrong: list[Conversation] = [_answer(one, notes) for one in sides[1] or ()]
    except Unreadable as error:
        raise InputError(f"{where}: {error.says}; correct the row or take it out") from error
    return asked, right, wrong


def _answer(value: Any, notes: list[str]) -> list[Message]:
    return [assistant(value)] if isinstance(value, str) else response_of(value, notes, "chosen or rejected")
