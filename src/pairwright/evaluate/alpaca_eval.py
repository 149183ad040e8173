"""AlpacaEval's files, read and written: answers (`model_outputs.json`) and verdicts on them (`annotations.json`).

A verdict compares a model's answer with an opponent's. In AlpacaEval's file the opponent's answer is `output_1`, the
model's `output_2`, and `preference` runs from 1 (the opponent wins) to 2 (the model wins), 1.5 or 0 being a draw. Here
it is the `win`: the probability, 0 to 1, that the model's answer is the better one.

Source: tatsu-lab/alpaca_eval, src/alpaca_eval/metrics/helpers.py.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import polars as pl
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from pairwright.chat import assistant, prompt_id, text_of, user
from pairwright.errors import InputError
from pairwright.formats.files import of_path
from pairwright.plug import nearest, plain
from pairwright.preferences import Preferences, Step
from pairwright.runs import write_text

COLUMNS = {
    "prompt": pl.String,
    "prompt_number": pl.String,
    "text": pl.String,
    "position": pl.Int64,
    "win": pl.Float64,
    "answer": pl.String,
    "other_answer": pl.String,
    "length": pl.Float64,
    "other_length": pl.Float64,
    "dataset": pl.String,
}
_PREFERENCES = ("win", "preference_raw", "preference")
_ANSWERS = ("chosen", "response")
"""Columns of preference data, which may have a column `preference` of its own."""
UNNAMED_MODEL = "the model"
UNNAMED_OPPONENT = "the opponent"
Scale = Literal["preference", "win"]
Row = TypeVar("Row", bound="FileRow")


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """What a judge said of one model's answers beside an opponent's."""

    source: str
    """Where they come from, for messages."""
    model: str
    opponent: str
    rows: pl.DataFrame
    """`COLUMNS`, a row for each verdict in file order. `prompt` names the prompt; `prompt_number` is the file's own
    number of it, if it has one; `text` what it says; `position` counts the model's rows from 0; `win` is null where
    there is no verdict; lengths are characters, null where they are not known; so are the texts."""
    notes: tuple[str, ...] = ()
    has_positions: bool = False
    """Whether the file itself says the positions."""


class FileRow(BaseModel):
    """A row of a file; columns that are not named here are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, coerce_numbers_to_str=True)

    @field_validator("*", mode="before")
    @classmethod
    def _empty(cls, value: Any, info: Any) -> Any:
        """NaN is no number, and an empty cell of a table is one only where it is a text."""
        if isinstance(value, float) and math.isnan(value):
            return None
        return None if value == "" and info.field_name not in _TEXTS else value


_TEXTS = frozenset({"instruction", "output_1", "output_2", "generator", "output", "model"})


def _number(value: Any) -> Any:
    """A table with an empty cell has its whole numbers as 7.0; they are the same numbers as 7 elsewhere."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", str(value)) if isinstance(value, str | float) else value


PromptNumber = Annotated[str | None, BeforeValidator(_number)]
"""The number of a prompt in a file."""


class _Annotation(FileRow):
    instruction: str | None = None
    prompt_number: PromptNumber = Field(None, validation_alias=AliasChoices("instruction_id", "index"))
    position: int | None = Field(None, ge=0)
    annotator: str | None = None
    dataset: str | None = None
    output_1: str | None = None
    output_2: str | None = Field(None, validation_alias=AliasChoices("output_2", "output"))
    generator_1: str | None = Field(None, validation_alias=AliasChoices("generator_1", "baseline_model"))
    generator_2: str | None = Field(None, validation_alias=AliasChoices("generator_2", "model"))
    len_output_1: int | None = None
    len_output_2: int | None = Field(None, validation_alias=AliasChoices("len_output_2", "output_chars"))
    win: float | None = None
    preference: float | None = Field(None, validation_alias=AliasChoices("preference_raw", "preference"))


class _Output(FileRow):
    instruction: str
    output: str
    generator: str | None = None
    dataset: str | None = None


def read_rows(path: str | Path, kind: type[Row]) -> list[tuple[int, Row]]:
    """The rows of a file (jsonl, json, csv, parquet, packed or not), checked, with their numbers from 1.

    Raises:
        InputError: the file or one of its rows cannot be read; the message names file and row.
    """
    found = []
    for batch in of_path(Path(path)).batches:
        for reject in batch.rejects:
            raise InputError(f"{path}, row {reject.line}: {reject.says}; correct this row or remove it")
        for line, row in zip(batch.lines, batch.rows, strict=True):
            try:
                found.append((line, kind.model_validate(row)))
            except ValidationError as error:
                raise InputError(f"{path}, row {line}: {plain(error)}; correct this row or remove it") from error
    return found


def columns_of(path: Path) -> set[str]:
    """The columns that any row of a file has."""
    return {name for batch in of_path(path).batches for row in batch.rows for name in row}


def has_verdicts(path: Path) -> bool:
    """Whether a place is a file of verdicts, and no preference data."""
    if path.is_dir():
        return False
    columns = columns_of(path)
    return not columns.isdisjoint(_PREFERENCES) and columns.isdisjoint(_ANSWERS)


def read_annotations(path: Path, *, scale: Scale | None = None, annotator: str | None = None) -> tuple[Verdicts, ...]:
    """Verdicts from AlpacaEval's `annotations.json`, or from any table with its columns, by model in file order.

    Also read: `win` (0 to 1) or `preference_raw` (1 to 2) for the verdict; `model` for `generator_2`, `baseline_model`
    for `generator_1`; `output` for `output_2`; `len_output_1`, `len_output_2` (or `output_chars`) in characters where
    there are no texts; `instruction_id` or `index`; `position`; `dataset`. A row's `win` goes before its `preference`.

    Args:
        path: the file.
        scale: of `preference`: AlpacaEval's, 1 (lost) to 2 (won), or that of a `win`. None tells it from the values:
            one between 0 and 1 is on the scale of a win alone, one above 1 on AlpacaEval's alone.
        annotator: whose verdicts; None takes all, and where there are several the mean of those on the same answers.

    Raises:
        InputError: a row is wrong, a verdict is outside of its scale, the scale cannot be told, or there is no such
            annotator.
    """
    rows = read_rows(path, _Annotation)
    scale, notes = _scale(path, [row for _, row in rows], scale)
    names = list(dict.fromkeys(row.annotator for _, row in rows))
    told = ", ".join(str(name) for name in names)
    if annotator is not None and annotator not in names:
        known = [name for name in names if name is not None]
        raise InputError(f"{path} has no verdicts of annotator {annotator!r}{nearest(annotator, known)}; it has {told}")
    by_model: dict[str, list[tuple[str | None, dict[str, Any]]]] = {}
    opponents: dict[str, set[str]] = {}
    for line, row in rows:
        if annotator is not None and row.annotator != annotator:
            continue
        model = row.generator_2 or ""
        opponents.setdefault(model, set()).add(row.generator_1 or "")
        read = {
            "prompt_number": row.prompt_number,
            "text": row.instruction,
            "position": row.position,
            "win": _win_of(row, scale, f"{path}, row {line}"),
            "answer": row.output_2,
            "other_answer": row.output_1,
            "length": row.len_output_2 if row.output_2 is None else len(row.output_2),
            "other_length": row.len_output_1 if row.output_1 is None else len(row.output_1),
            "dataset": row.dataset,
        }
        by_model.setdefault(model, []).append((row.annotator, read))
    for model, opposed in opponents.items():
        if len(opposed) > 1:
            met = ", ".join(sorted(opposed))
            raise InputError(f"{path}: {model or UNNAMED_MODEL} meets several opponents ({met}); give a file for each")
    if annotator is None and len(names) > 1:
        notes = (
            *notes,
            f"There are {len(names)} annotators ({told}): the win is the mean over those who judged the same answers; "
            "`annotator` takes one.",
        )
    return tuple(
        Verdicts(
            source=str(path),
            model=model or UNNAMED_MODEL,
            opponent=next(iter(opponents[model])) or UNNAMED_OPPONENT,
            rows=pl.DataFrame([_placed(i, row) for i, row in enumerate(_averaged(mine))], schema=COLUMNS),
            notes=notes,
            has_positions=all(row["position"] is not None for _, row in mine),
        )
        for model, mine in by_model.items()
    )


def _averaged(rows: Iterable[tuple[str | None, dict[str, Any]]]) -> list[dict[str, Any]]:
    """One row for all annotators of the same answers to a prompt: verdicts on one prompt are not independent."""
    met: Counter[tuple[Any, ...]] = Counter()
    together: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for annotator, row in rows:
        what = tuple(row[name] for name in ("text", "prompt_number", "answer", "other_answer"))
        together.setdefault((what, met[annotator, what]), []).append(row)
        met[annotator, what] += 1
    found = []
    for same in together.values():
        wins = [row["win"] for row in same if row["win"] is not None]
        found.append({**same[0], "win": sum(wins) / len(wins) if wins else None})
    return found


def _placed(place: int, row: dict[str, Any]) -> dict[str, Any]:
    """A row with its place among the model's, and what its prompt is called."""
    position = place if row["position"] is None else row["position"]
    name = row["text"] if row["text"] is not None else (row["prompt_number"] or str(position))
    return {**row, "position": position, "prompt": name}


def write_annotations(verdicts: Verdicts, path: Path, *, annotator: str = "pairwright") -> None:
    """Write verdicts as AlpacaEval's `annotations.json`; no verdict is a null `preference`.

    Raises:
        InputError: the texts of the answers are not known.
    """
    if lost := verdicts.rows.select(pl.any_horizontal(pl.col("answer", "other_answer").is_null()).sum()).item():
        raise InputError(
            f"{verdicts.source}: {lost:,} verdicts lack the text of an answer; annotations.json needs both"
        )
    rows = [
        {
            "instruction": row["prompt"],
            **({} if row["dataset"] is None else {"dataset": row["dataset"]}),
            **({} if row["prompt_number"] is None else {"instruction_id": row["prompt_number"]}),
            "output_1": row["other_answer"],
            "generator_1": verdicts.opponent,
            "output_2": row["answer"],
            "generator_2": verdicts.model,
            "annotator": annotator,
            "preference": None if row["win"] is None else row["win"] + 1.0,
        }
        for row in verdicts.rows.iter_rows(named=True)
    ]
    _write(path, rows)


def read_model_outputs(path: Path) -> Preferences:
    """The answers of AlpacaEval's `model_outputs.json`: each instruction is a prompt of one user turn.

    The generator is the answer's `model`; `dataset` becomes a column of the prompts.

    Raises:
        InputError: a row has no instruction or no output.
    """
    rows = [row for _, row in read_rows(path, _Output)]
    prompts: dict[str, dict[str, Any]] = {}
    answers = []
    for row in rows:
        prompt = [user(row.instruction)]
        mine = prompt_id(prompt)
        prompts.setdefault(mine, {"prompt_id": mine, "prompt": prompt, "dataset": row.dataset})
        answers.append({"prompt_id": mine, "response": [assistant(row.output)], "model": row.generator})
    step = Step(name="read", settings={"source": str(path), "format": "alpaca_eval"}, rows_in=len(rows))
    return Preferences.of(
        pl.DataFrame(list(prompts.values()), schema_overrides={"dataset": pl.String}),
        pl.DataFrame(answers, schema_overrides={"model": pl.String}),
        lineage=(step.model_copy(update={"rows_out": len(rows)}),),
    )


def write_model_outputs(answers: Preferences, path: Path, *, generator: str | None = None) -> None:
    """Write answers as AlpacaEval's `model_outputs.json`, in order.

    Args:
        answers: answers of one model to prompts of one user turn, which is all that AlpacaEval has.
        path: the file.
        generator: the model's name there; that of the answers when not given.

    Raises:
        InputError: a prompt has several turns, the answers are of several models, or the model has no name.
    """
    prompts = answers.prompts.collect()
    dataset = ["dataset"] if "dataset" in prompts.columns else []
    frame = answers.responses.select("prompt_id", "response", "model").collect()
    joined = frame.join(prompts.select("prompt_id", "prompt", *dataset), on="prompt_id", maintain_order="left")
    models = frame["model"].unique(maintain_order=True).to_list()
    if generator is None and (len(models) != 1 or models[0] is None):
        told = ", ".join(str(model) for model in models)
        raise InputError(f"{path}: the answers are of {told}; give one model's answers, or its name as generator")
    rows = []
    for row in joined.iter_rows(named=True):
        if [turn["role"] for turn in row["prompt"]] != ["user"]:
            raise InputError(f"{path}: AlpacaEval has prompts of one user turn alone, and {row['prompt_id']} is none")
        kept = {} if not dataset or row["dataset"] is None else {"dataset": row["dataset"]}
        text = row["prompt"][0]["content"]
        rows.append(
            {**kept, "instruction": text, "output": text_of(row["response"]), "generator": generator or models[0]}
        )
    _write(path, rows)


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_text(path, json.dumps(rows, ensure_ascii=False, indent=2) + "\n")


def _scale(path: Path, rows: Iterable[_Annotation], asked: Scale | None) -> tuple[Scale, tuple[str, ...]]:
    """What the numbers of `preference` mean, and what should be said of it."""
    kept = list(rows)
    values = {row.preference for row in kept if row.preference is not None and row.win is None}
    if not values and all(row.win is None for row in kept):
        raise InputError(f"{path}: no row has a verdict (preference, preference_raw or win); judge the answers first")
    if asked is not None or not values:
        return asked or "win", ()
    between, above = any(0.0 < value < 1.0 for value in values), any(value > 1.0 for value in values)
    if between and above:
        raise InputError(
            f"{path}: `preference` has values between 0 and 1 and others above 1, which is no one scale; "
            "AlpacaEval's runs from 1 to 2, and that of a win from 0 to 1"
        )
    if between:
        return "win", ("`preference` was read as a probability, 0 to 1, since it has values between these.",)
    if 0.0 in values and not above:
        told = " or ".join(f"{value:g}" for value in sorted(values))
        raise InputError(
            f"{path}: `preference` is {told} alone, which may be draws on AlpacaEval's scale of 1 to 2, or verdicts "
            "lost on that of a win; say which: scale preference or scale win"
        )
    if values == {1.0}:
        said = "`preference` is 1 everywhere, read on AlpacaEval's scale, as lost; if 1 is a win, ask for scale win."
        return "preference", (said,)
    return "preference", ()


def _win_of(row: _Annotation, scale: Scale, where: str) -> float | None:
    if row.win is not None:
        return _of_win(row.win, where)
    return None if row.preference is None else _SCALES[scale](row.preference, where)


def _of_win(value: float, where: str) -> float:
    if not 0.0 <= value <= 1.0:
        raise InputError(f"{where}: the verdict {value:g} is no probability; win runs from 0 to 1")
    return value


def _of_preference(value: float, where: str) -> float:
    value = 1.5 if value == 0.0 else value  # in old files 0 is a draw
    if not 1.0 <= value <= 2.0:
        raise InputError(f"{where}: the preference {value:g} is outside of AlpacaEval's scale, 1 to 2 (0 is a draw)")
    return value - 1.0


_SCALES: dict[Scale, Callable[[float, str], float]] = {"win": _of_win, "preference": _of_preference}
