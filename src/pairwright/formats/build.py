"""Records put together into the three frames of `Preferences`.

Records become Polars frames in batches, so that only one batch lives as Python objects. Answers are merged when prompt,
text, model and every score agree, prompts when they are the same conversation; both over the whole source, by keys of
16 bytes, and in file order. Past `bound` bytes the batches wait in parquet files of a temporary directory, which lives
as long as the process: a frame taken out of the `Preferences` still scans it.
"""

import atexit
import base64
import hashlib
import json
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import polars as pl

from pairwright.chat import Message
from pairwright.formats.clean import Clean
from pairwright.formats.record import Record
from pairwright.preferences import MESSAGES, PAIR_COLUMNS, PROMPT_COLUMNS, RESPONSE_COLUMNS

BATCH = 10_000
BOUND = 1 << 29
_SIDES = [f"{name}{side}" for name in ("", "score_", "model_", "response_") for side in ("chosen", "rejected")]
_WORKING = [f"{name}_{side}" for name in ("_text", "chars", "goal", "printed") for side in ("chosen", "rejected")]


def _copy(cell: Any) -> str | None:
    return cell if cell in ("positive", "negative") else None


def _whole_number(cell: Any) -> int | None:
    if isinstance(cell, str) and cell.isdecimal() and len(cell) < 19:
        return int(cell)
    return cell if type(cell) is int and 0 <= cell < 1 << 63 else None


def _flag(cell: Any) -> bool | None:
    return cell if type(cell) is bool else {"true": True, "false": False}.get(cell)


_OURS: Mapping[str, Callable[[Any], Any]] = {
    "copy": _copy,
    "source_pair": _whole_number,
    "prompt_mismatch": _flag,
}
"""Columns that the verbs write into pairs: a cell as they write it (CSV has it as text), None for any other."""
_TAKEN = frozenset(
    {*PROMPT_COLUMNS, *RESPONSE_COLUMNS, *PAIR_COLUMNS, *_SIDES, *_WORKING, *_OURS}
    | {"chosen_row", "rejected_row", "_kept", "_reason"}
)
_UNNAMED = "source_"


def _room() -> Path:
    """A temporary directory that goes when the process ends."""
    path = Path(tempfile.mkdtemp(prefix="pairwright-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


class Built(NamedTuple):
    """The three frames, and what a reader of them should know."""

    prompts: pl.LazyFrame
    responses: pl.LazyFrame
    pairs: pl.LazyFrame
    notes: tuple[str, ...]


class _Frames(NamedTuple):
    """One batch: prompts, responses and pairs, numbered over the whole source."""

    prompts: pl.DataFrame
    responses: pl.DataFrame
    pairs: pl.DataFrame


class _Table:
    """A table that grows by rows, each with any cells; what a row lacks is null."""

    def __init__(self) -> None:
        self.size = 0
        self.cells: dict[str, list[Any]] = {}
        self.encoded: set[str] = set()

    def add(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            cells = self.cells.get(name)
            if cells is None:
                cells = self.cells[name] = []
            if len(cells) < self.size:
                cells.extend([None] * (self.size - len(cells)))
            cells.append(value)
        self.size += 1

    def extend(self, size: int, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add many rows by their columns."""
        for name, new in columns.items():
            cells = self.cells.setdefault(name, [])
            cells.extend([None] * (self.size - len(cells)))
            cells.extend(new)
        self.size += size

    def series(self) -> list[pl.Series]:
        """The columns, each of one simple type; anything nested or mixed is a string of JSON."""
        found = []
        for name, cells in self.cells.items():
            cells.extend([None] * (self.size - len(cells)))
            kind = kind_of(cells)
            if kind is None:
                self.encoded.add(name)
                cells = [None if cell is None else as_json(cell) for cell in cells]
            found.append(pl.Series(name, cells, dtype=kind or pl.String))
        return found


class _Turns:
    """Conversations, laid flat."""

    def __init__(self) -> None:
        self.roles: list[str] = []
        self.contents: list[str] = []
        self.sizes: list[int] = []

    def add(self, conversation: Sequence[Message]) -> None:
        for message in conversation:
            self.roles.append(message["role"])
            self.contents.append(message["content"])
        self.sizes.append(len(conversation))

    def extend(self, conversations: Sequence[Sequence[Message]]) -> None:
        self.roles += [message["role"] for conversation in conversations for message in conversation]
        self.contents += [message["content"] for conversation in conversations for message in conversation]
        self.sizes += map(len, conversations)

    def series(self, name: str) -> pl.Series:
        """The conversations as a list column."""
        flat = pl.DataFrame(
            {"role": self.roles, "content": self.contents}, schema={"role": pl.String, "content": pl.String}
        )
        turn = pl.struct("role", "content")
        if len(self.roles) == len(self.sizes):
            return flat.select(pl.concat_list(turn).alias(name)).to_series().cast(MESSAGES)
        sizes = np.asarray(self.sizes, dtype=np.int64)
        rows = pl.Series("row", np.repeat(np.arange(len(sizes)), sizes))
        grouped = flat.with_columns(rows).group_by("row", maintain_order=True).agg(turn.alias(name))
        return grouped.get_column(name).cast(MESSAGES)


class Builder:
    """Takes records in file order and gives the frames.

    Args:
        bound: bytes of frames that are held in memory; beyond them the batches are written to a temporary directory.
        batch: records that live as Python objects at a time.
    """

    def __init__(self, *, bound: int = BOUND, batch: int = BATCH) -> None:
        self.notes: Counter[str] = Counter()
        self.records = 0
        self._bound, self._size = bound, batch
        self._chunks: list[_Frames | tuple[Path, Path, Path]] = []
        self._bytes = 0
        self._prompts = self._answers = self._pairs = 0
        self._prompt_keys: list[pl.DataFrame] = []
        self._answer_keys: list[pl.DataFrame] = []
        self._encoded: list[list[frozenset[str]]] = []
        self._room: Path | None = None
        self._clear()

    def _clear(self) -> None:
        self._pending = 0
        self._asked, self._said = _Turns(), _Turns()
        self._ids: list[str] = []
        self._of: list[str] = []
        self._models: list[str | None] = []
        self._marks: list[float | None] = []
        self._about, self._scores, self._beside, self._compared = _Table(), _Table(), _Table(), _Table()

    def add(self, record: Record) -> None:
        """Take one more record."""
        identity = prompt_identity(record.prompt)
        self._ids.append(identity)
        self._asked.add(record.prompt)
        about = record.prompt_extras
        self._about.add({**about, "split": record.split} if record.split is not None else about)
        first = self._answers
        for answer in record.answers:
            self._of.append(identity)
            self._said.add(answer.response)
            self._models.append(answer.model)
            self._marks.append(answer.score)
            self._scores.add(answer.scores)
            self._beside.add(answer.extras)
        self._answers += len(record.answers)
        for pair in record.pairs:
            self._compared.add(
                {
                    "prompt_id": identity,
                    "chosen_row": first + pair.chosen,
                    "rejected_row": first + pair.rejected,
                    "goal": record.goal,
                    "weight": 1.0 if record.weight is None else record.weight,
                    "split": record.split or "train",
                    "preference": pair.preference,
                }
                | _renamed(record.pair_extras, identity)
            )
        if record.notes:
            self.notes.update(set(record.notes))
        self.records += 1
        self._pending += 1
        if self._pending >= self._size:
            self._flush()

    def add_clean(self, batch: Clean) -> None:
        """Take many comparisons at once."""
        size = len(batch.prompts)
        identities = [prompt_identity(prompt) for prompt in batch.prompts]
        self._ids += identities
        self._asked.extend(batch.prompts)
        split = {} if _all_null(batch.splits) else {"split": batch.splits}
        self._about.extend(size, split)
        self._of += _interleaved(identities, identities)
        self._said.extend(_interleaved(batch.chosen, batch.rejected))
        self._models += _interleaved(*batch.models)
        self._marks += _interleaved(*batch.scores)
        self._scores.extend(2 * size, {})
        self._beside.extend(2 * size, {})
        first = range(self._answers, self._answers + 2 * size, 2)
        extras = {name: cells for name, cells in batch.extras.items() if not _all_null(cells)}
        same = extras.get("prompt_id")
        if same is not None:
            other = [None if one == own else one for one, own in zip(same, identities, strict=True)]
            extras = {name: cells for name, cells in extras.items() if name != "prompt_id"}
            extras |= {} if _all_null(other) else {"prompt_id": other}
        self._compared.extend(
            size,
            {
                "prompt_id": identities,
                "chosen_row": first,
                "rejected_row": range(first.start + 1, first.stop + 1, 2),
                "goal": [None] * size,
                "weight": [1.0] * size,
                "split": [one or "train" for one in batch.splits],
                "preference": [None] * size,
                **{_free(name): cells for name, cells in extras.items() if name in _TAKEN},
                **{name: cells for name, cells in extras.items() if name not in _TAKEN},
            },
        )
        self._answers += 2 * size
        self.records += size
        self._pending += size
        if self._pending >= self._size:
            self._flush()

    def finish(self) -> Built:
        """The frames of all records so far; the builder is spent."""
        self._flush()
        keep_prompts, conflicts = self._merged_prompts()
        keep_answers, number = self._merged_answers()
        if conflicts:
            self.notes["a prompt was met again with other values in its further columns; the first were kept"] = (
                conflicts
            )
        finished: list[_Frames | tuple[Path, Path, Path]] = []
        at_prompt = at_answer = 0
        for chunk in self._chunks:
            prompts, responses, pairs = self._loaded(chunk)
            some = slice(at_answer, at_answer + responses.height)
            kept = responses.filter(pl.Series(keep_answers[some]))
            ids = number[some][keep_answers[some]]
            finished.append(
                self._stored(
                    len(finished),
                    _Frames(
                        prompts.filter(pl.Series(keep_prompts[at_prompt : at_prompt + prompts.height])),
                        kept.insert_column(0, pl.Series("response_id", ids, dtype=pl.Int64)),
                        pairs.with_columns(
                            chosen_id=pl.Series(number[pairs["chosen_row"].to_numpy()], dtype=pl.Int64),
                            rejected_id=pl.Series(number[pairs["rejected_row"].to_numpy()], dtype=pl.Int64),
                        ).drop("chosen_row", "rejected_row"),
                    ),
                )
            )
            at_prompt += prompts.height
            at_answer += responses.height
        notes = tuple(f"{count:,} rows: {says}" for says, count in self.notes.items())
        frames = [_joined([part[i] for part in finished], [done[i] for done in self._encoded]) for i in range(3)]
        if "prompt_mismatch" in frames[2].collect_schema():
            frames[2] = frames[2].with_columns(pl.col("prompt_mismatch").fill_null(False))
        return Built(frames[0], frames[1], frames[2], notes)

    def _flush(self) -> None:
        if not self._pending and self._chunks:
            return
        prompts = pl.DataFrame([pl.Series("prompt_id", self._ids, dtype=pl.String), self._asked.series("prompt")])
        prompts = _widened(prompts, self._about, PROMPT_COLUMNS)
        responses = pl.DataFrame(
            [
                pl.Series("prompt_id", self._of, dtype=pl.String),
                self._said.series("response"),
                pl.Series("model", self._models, dtype=pl.String),
                pl.Series("score", self._marks, dtype=pl.Float64),
            ]
        )
        scores = [series.cast(pl.Float64).alias(f"score_{series.name}") for series in self._scores.series()]
        responses = responses.hstack(scores)
        self._answer_keys.append(_answer_keys(responses))
        beside = [*RESPONSE_COLUMNS, *responses.columns]
        responses = _widened(responses, self._beside, beside)
        pairs = _pairs(self._compared)
        self._prompt_keys.append(_prompt_keys(prompts))
        self._encoded.append(
            [
                frozenset(_free(name, PROMPT_COLUMNS) for name in self._about.encoded),
                frozenset(_free(name, beside) for name in self._beside.encoded),
                frozenset(self._compared.encoded),
            ]
        )
        self._keep(_Frames(prompts, responses, pairs))
        self._clear()

    def _keep(self, frames: _Frames) -> None:
        self._bytes += sum(int(frame.estimated_size()) for frame in frames)
        self._chunks.append(frames)
        if self._bytes > self._bound or self._room is not None:
            self._room = self._room or _room()
            for index, chunk in enumerate(self._chunks):
                if isinstance(chunk, _Frames):
                    self._chunks[index] = self._written(f"batch-{index}", chunk)

    def _written(self, name: str, frames: _Frames) -> tuple[Path, Path, Path]:
        assert self._room is not None
        paths = []
        for kind, frame in zip(_Frames._fields, frames, strict=True):
            path = self._room / f"{name}-{kind}.parquet"
            frame.write_parquet(path, compression="lz4", statistics=False)
            paths.append(path)
        return paths[0], paths[1], paths[2]

    def _loaded(self, chunk: "_Frames | tuple[Path, Path, Path]") -> _Frames:
        if isinstance(chunk, _Frames):
            return chunk
        frames = _Frames(*(pl.read_parquet(path) for path in chunk))
        for path in chunk:
            path.unlink()
        return frames

    def _stored(self, index: int, frames: _Frames) -> "_Frames | tuple[Path, Path, Path]":
        return frames if self._room is None else self._written(f"part-{index}", frames)

    def _merged_prompts(self) -> tuple[np.ndarray[Any, Any], int]:
        """Which prompt rows are the first of their kind, and how many later ones say something else."""
        keys = pl.concat(self._prompt_keys).with_row_index("row")
        first = pl.col("row").min().over("prompt_id")
        other = (pl.col("about") != pl.col("about").first().over("prompt_id")).sum()
        return keys.select(first == pl.col("row")).to_series().to_numpy(), int(keys.select(other).item())

    def _merged_answers(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Which answer rows are the first of their kind, and the response_id of every answer row."""
        if not self._answers:
            return np.zeros(0, dtype=bool), np.zeros(0, dtype=np.int64)
        keys = pl.concat(self._answer_keys).with_row_index("row")
        first = keys.select(pl.col("row").min().over("one", "two")).to_series().to_numpy()
        keep = first == np.arange(len(first))
        return keep, (np.cumsum(keep) - 1)[first]


def prompt_identity(prompt: Sequence[Message]) -> str:
    """`chat.prompt_id`, by a faster writer of the same bytes."""
    turns = [[message["role"], message["content"]] for message in prompt]
    return hashlib.sha256(orjson.dumps(turns)).digest()[:16].hex()


def _interleaved(one: Sequence[Any], other: Sequence[Any]) -> list[Any]:
    """One of the first, one of the second, and so on."""
    return [cell for both in zip(one, other, strict=True) for cell in both]


def _all_null(cells: Sequence[Any]) -> bool:
    return cells.count(None) == len(cells)


def kind_of(cells: Sequence[Any]) -> pl.DataType | None:
    """The simple type that holds all cells; None where they are nested or of several kinds."""
    kinds = set(map(type, cells))
    kinds.discard(type(None))
    if not kinds:
        return pl.Null()
    if kinds == {str}:
        return pl.String()
    if kinds == {bool}:
        return pl.Boolean()
    if kinds == {float}:
        return pl.Float64()
    if kinds <= {int, float} and all(type(cell) is not int or -(1 << 63) <= cell < 1 << 63 for cell in cells):
        return pl.Int64() if kinds == {int} else pl.Float64()
    return None


def as_json(value: Any) -> str:
    """Any value as a string of JSON; bytes as base64, dates as ISO text."""
    try:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # an integer of more than 64 bits
        return json.dumps(value, default=_plain, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _free(name: str, taken: Iterable[str] = _TAKEN) -> str:
    """A name that no standard column has."""
    return f"{_UNNAMED}{name}" if name in taken else name


def _renamed(extras: Mapping[str, Any], identity: str) -> dict[str, Any]:
    """Extras under names that no standard column has; a `prompt_id` that is the prompt's own says nothing."""
    renamed = {}
    for name, value in extras.items():
        ours = _OURS[name](value) if name in _OURS and isinstance(value, Hashable) else None
        if ours is not None:
            renamed[name] = ours
        elif name in _TAKEN and not (name == "prompt_id" and value == identity):
            renamed[_free(name)] = value
    return renamed | {name: value for name, value in extras.items() if name not in _TAKEN}


def _widened(frame: pl.DataFrame, more: _Table, taken: Iterable[str]) -> pl.DataFrame:
    return frame.hstack([series.alias(_free(series.name, taken)) for series in more.series()])


def _pairs(table: _Table) -> pl.DataFrame:
    """The pairs of a batch; goals are numbers, or lists of numbers."""
    goals = table.cells.pop("goal", [])
    frame = pl.DataFrame(table.series())
    lists = any(isinstance(goal, list) for goal in goals)
    kind = pl.List(pl.Float64) if lists else pl.Float64
    if lists:
        goals = [[goal] if isinstance(goal, float) else goal for goal in goals]
    if not frame.width:
        schema: dict[str, Any] = {"prompt_id": pl.String, "chosen_row": pl.Int64, "rejected_row": pl.Int64}
        return pl.DataFrame(schema=schema | {"goal": kind, "weight": pl.Float64, "split": pl.String})
    frame = frame.with_columns(pl.Series("goal", goals, dtype=kind))
    return frame.with_columns(pl.col("preference").cast(pl.Float64))


def _salt(name: str) -> int:
    return zlib.crc32(name.encode())


def _prompt_keys(prompts: pl.DataFrame) -> pl.DataFrame:
    """Identity of each prompt row and a hash of its further columns."""
    return prompts.select("prompt_id", about=_mixed([c for c in prompts.columns if c not in PROMPT_COLUMNS], 0))


def _answer_keys(responses: pl.DataFrame) -> pl.DataFrame:
    """Two hashes of prompt, text, model and scores of each answer; absent and null are the same."""
    return responses.select(one=_mixed(responses.columns, 1), two=_mixed(responses.columns, 2))


def _mixed(columns: Sequence[str], seed: int) -> pl.Expr:
    mixed = pl.lit(0, dtype=pl.UInt64)
    for name in columns:
        found = pl.col(name).hash(_salt(name) + (seed << 32))
        mixed = mixed ^ pl.when(pl.col(name).is_not_null()).then(found).otherwise(pl.lit(0, dtype=pl.UInt64))
    return mixed


def _joined(parts: "Sequence[pl.DataFrame | Path]", encoded: Sequence[frozenset[str]]) -> pl.LazyFrame:
    """The batches of one frame under one schema: a column that changes its type becomes floats, or strings of JSON.

    Args:
        parts: the batches, in memory or on disk.
        encoded: for each batch, the columns that already are strings of JSON.
    """
    lazy = [pl.scan_parquet(part) if isinstance(part, Path) else part.lazy() for part in parts]
    schemas = [frame.collect_schema() for frame in lazy]
    target: dict[str, pl.DataType] = {}
    for schema in schemas:
        for name, kind in schema.items():
            target[name] = _wider(target.get(name, kind), kind)
    target = {name: pl.String() if kind == pl.Null else kind for name, kind in target.items()}
    mixed = {name for name, kind in target.items() if _changes([s.get(name) for s in schemas], kind)}
    mixed |= frozenset().union(*encoded)
    fitted = []
    for frame, schema, done in zip(lazy, schemas, encoded, strict=True):
        exprs = [_as(name, schema.get(name), kind, name in mixed - done) for name, kind in target.items()]
        fitted.append(
            frame if list(schema.items()) == list(target.items()) and not mixed - done else frame.select(exprs)
        )
    return pl.concat(fitted)


def _changes(kinds: Sequence[pl.DataType | None], target: pl.DataType) -> bool:
    """Whether a column that ends as text is something else in some batch."""
    return target == pl.String and any(kind not in (None, pl.Null, pl.String) for kind in kinds)


def _wider(one: pl.DataType, other: pl.DataType) -> pl.DataType:
    if one == other or other == pl.Null:
        return one
    if one == pl.Null:
        return other
    if one.is_numeric() and other.is_numeric():
        return pl.Float64()
    if isinstance(one, pl.List) or isinstance(other, pl.List):
        return pl.List(pl.Float64)
    return pl.String()


def _as(name: str, have: pl.DataType | None, want: pl.DataType, encode: bool) -> pl.Expr:
    """A column of one batch as the whole source needs it."""
    if have is None or have == pl.Null:
        return pl.lit(None, dtype=want).alias(name)
    column = pl.col(name)
    if encode:
        return column.map_elements(as_json, return_dtype=pl.String)
    if isinstance(want, pl.List) and have != want:
        return pl.when(column.is_not_null()).then(pl.concat_list(column)).cast(want).alias(name)
    return column.cast(want)
