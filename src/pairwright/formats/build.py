"""Records put together into the three frames of `Preferences`.

Records become Polars frames in batches, so that only one batch lives as Python objects. Answers are merged when prompt,
text, model and every score agree, prompts when they are the same conversation; both over the whole source, by keys of
16 bytes, and in file order: a batch is finished when it is full (`merge.Seen` knows what came before). Past `bound`
bytes the batches go to parquet files of a temporary directory, which lives as long as the process: a frame taken out of
the `Preferences` still scans it.
"""

import atexit
import base64
import hashlib
import json
import shutil
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import polars as pl

from pairwright.chat import Message
from pairwright.formats.clean import Clean, Turns
from pairwright.formats.drawn import with_goals
from pairwright.formats.mapping import DRAWN
from pairwright.formats.merge import Keys, Numbers, Seen
from pairwright.formats.record import Record
from pairwright.preferences import MESSAGES, PAIR_COLUMNS, PROMPT_COLUMNS, RESPONSE_COLUMNS

BATCH = 10_000
BOUND = 1 << 29
TEXTS = 512
"""Texts of rows read many at a time that wait as Python objects."""
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
_OF_HASH = methodcaller("digest")
_ODD = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xBF58476D1CE4E5B9)


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
    """Conversations, laid flat; many texts go to a column at once, as Python holds a text dearly."""

    def __init__(self) -> None:
        self.roles: list[str] = []
        self.contents: list[str] = []
        self.sizes: list[int] = []
        self.parts: list[pl.Series] = []

    def add(self, conversation: Sequence[Message]) -> None:
        for message in conversation:
            self.roles.append(message["role"])
            self.contents.append(message["content"])
        self.sizes.append(len(conversation))

    def extend(self, turns: Turns) -> None:
        self.roles += map(sys.intern, turns.roles)
        self.contents += turns.contents
        self.sizes += turns.sizes
        if len(self.contents) >= TEXTS:
            self._settle()

    def _settle(self) -> None:
        self.parts.append(pl.Series("content", self.contents, dtype=pl.String))
        self.contents = []

    def flat(self) -> tuple[pl.DataFrame, Numbers]:
        """All messages, and how many of them each conversation has."""
        self._settle()
        roles = pl.Series("role", self.roles, dtype=pl.String)
        flat = pl.DataFrame([roles, pl.concat(self.parts, rechunk=True)])
        return flat, np.asarray(self.sizes, dtype=np.int64)


class _Pending:
    """What waits to become frames: a batch, as Python objects and laid flat."""

    def __init__(self) -> None:
        self.size = self.answers = 0
        self.asked, self.said = _Turns(), _Turns()
        self.digests: list[bytes] = []
        self.of: list[int] = []
        self.compares: list[int] = []
        self.models: list[str | None] = []
        self.marks: list[float | None] = []
        self.about, self.scores, self.beside, self.compared = _Table(), _Table(), _Table(), _Table()

    def add(self, record: Record) -> None:
        """Take one more record."""
        digest = _digest(record.prompt)
        self.digests.append(digest)
        self.asked.add(record.prompt)
        about = record.prompt_extras
        self.about.add({**about, "split": record.split} if record.split is not None else about)
        first = self.answers
        self.of.append(len(record.answers))
        self.compares.append(len(record.pairs))
        for answer in record.answers:
            self.said.add(answer.response)
            self.models.append(answer.model)
            self.marks.append(answer.score)
            self.scores.add(answer.scores)
            self.beside.add(answer.extras)
        self.answers += len(record.answers)
        for pair in record.pairs:
            self.compared.add(
                {
                    "chosen_row": first + pair.chosen,
                    "rejected_row": first + pair.rejected,
                    "goal": record.goal,
                    "weight": 1.0 if record.weight is None else record.weight,
                    "split": record.split or "train",
                    "preference": pair.preference,
                }
                | _renamed(record.pair_extras, digest)
            )
        self.size += 1

    def add_clean(self, batch: Clean) -> None:
        """Take many comparisons at once."""
        size = len(batch.splits)
        digests = _digests(batch.prompts)
        self.digests += digests
        self.asked.extend(batch.prompts)
        self.about.extend(size, {} if _all_null(batch.splits) else {"split": batch.splits})
        self.of += [2] * size
        self.compares += [1] * size
        self.said.extend(batch.answers)
        self.models += batch.models
        self.marks += batch.scores
        self.scores.extend(2 * size, {})
        self.beside.extend(2 * size, {})
        first = range(self.answers, self.answers + 2 * size, 2)
        extras = {name: cells for name, cells in batch.extras.items() if not _all_null(cells)}
        theirs = extras.pop("prompt_id", None)
        if theirs is not None and 32 in set(map(len, map(str, theirs))):  # else none is the prompt's own
            theirs = [None if one == own[:16].hex() else one for one, own in zip(theirs, digests, strict=True)]
        if theirs is not None and not _all_null(theirs):
            extras["prompt_id"] = theirs
        self.compared.extend(
            size,
            {
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
        self.answers += 2 * size
        self.size += size


class Builder:
    """Takes records in file order and gives the frames.

    A full batch is made into frames beside the reading, in one thread, one batch at a time: Polars works there while
    the parser works here.

    Args:
        bound: bytes of frames that are held in memory; beyond them the batches are written to a temporary directory.
        batch: records after which `settle` makes frames of them.
    """

    def __init__(self, *, bound: int = BOUND, batch: int = BATCH) -> None:
        self.notes: Counter[str] = Counter()
        self.records = 0
        self._bound, self._size = bound, batch
        self._pending = _Pending()
        self._worker = ThreadPoolExecutor(1, "pairwright-build")
        self._work: Future[None] | None = None
        self._chunks: list[tuple[pl.DataFrame, ...] | tuple[Path, ...]] = []
        self._bytes = 0
        self._prompts, self._said_before = Seen(), Seen()
        self._first_about = np.zeros(0, dtype=np.uint64)
        self._conflicts = self._repeats = 0
        self._encoded: list[list[frozenset[str]]] = []
        self._room: Path | None = None

    def add(self, record: Record) -> None:
        """Take one more record."""
        self._pending.add(record)
        self.records += 1
        if record.notes:
            self.notes.update(set(record.notes))

    def add_clean(self, batch: Clean) -> None:
        """Take many comparisons at once."""
        self._pending.add_clean(batch)
        self.records += len(batch.splits)

    def settle(self) -> None:
        """Finish the batch if it is full. The reader says when, so that both ways to add end their batches alike."""
        if self._pending.size >= self._size:
            self._hand_over()

    def finish(self) -> Built:
        """The frames of all records so far; the builder is spent."""
        self._hand_over()
        with self._worker:
            self._wait()
        if self._conflicts:
            self.notes["a prompt was met again with other values in its further columns; the first were kept"] = (
                self._conflicts
            )
        notes = tuple(f"{count:,} rows: {says}" for says, count in self.notes.items())
        if self._repeats:
            notes += (
                f"{self._repeats:,} answers repeat an earlier one to their prompt, text and values alike; each is kept "
                "once",
            )
        frames = [_joined([part[i] for part in self._chunks], [done[i] for done in self._encoded]) for i in range(3)]
        if "prompt_mismatch" in frames[2].collect_schema():
            frames[2] = frames[2].with_columns(pl.col("prompt_mismatch").fill_null(False))
        return Built(frames[0], with_goals(frames[1]), frames[2], notes)

    def _hand_over(self) -> None:
        """Let the worker finish the batch, as soon as it has finished the one before."""
        self._wait()
        self._work = self._worker.submit(self._flush, self._pending)
        self._pending = _Pending()

    def _wait(self) -> None:
        if self._work is not None:
            self._work.result()

    def _flush(self, batch: _Pending) -> None:
        """Make the frames of a batch, without the prompts and answers that were met before."""
        if not batch.size and self._chunks:
            return
        ids = pl.Series("prompt_id", batch.digests, dtype=pl.Binary).bin.slice(0, 16).bin.encode("hex")
        prompts = pl.DataFrame([ids, _conversations(*batch.asked.flat(), "prompt")])
        prompts = _widened(prompts, batch.about, PROMPT_COLUMNS)
        responses, ones, twos = _responses(batch, ids)
        beside = [*RESPONSE_COLUMNS, *responses.columns]
        responses = _widened(responses, batch.beside, beside)
        number, fresh = self._said_before.add(ones, twos)
        # An answer of several pairs stands in each of their rows: that is no news.
        unpaired = np.repeat(np.asarray(batch.compares, dtype=np.int64) == 0, batch.of)
        self._repeats += int((unpaired & ~fresh).sum())
        pairs = _pairs(batch.compared, _repeated(ids, batch.compares), number)
        self._encoded.append(
            [
                frozenset(_free(name, PROMPT_COLUMNS) for name in batch.about.encoded),
                frozenset(_free(name, beside) for name in batch.beside.encoded),
                frozenset(batch.compared.encoded),
            ]
        )
        responses = responses.insert_column(0, pl.Series("response_id", number, dtype=pl.Int64))
        self._keep(prompts.filter(self._new_prompts(prompts, batch.digests)), responses.filter(pl.Series(fresh)), pairs)

    def _new_prompts(self, prompts: pl.DataFrame, digests: Sequence[bytes]) -> pl.Series:
        """Which prompts were not met before; one that was, and now says something else beside, is counted."""
        halves = np.frombuffer(b"".join(digests), dtype=np.uint64).reshape(-1, 4)
        number, new = self._prompts.add(halves[:, 0], halves[:, 1])
        further = [name for name in prompts.columns if name not in PROMPT_COLUMNS]
        about = prompts.select(pl.repeat(0, pl.len(), dtype=pl.UInt64) ^ _mixed(further, 0)).to_series().to_numpy()
        if self._prompts.size > len(self._first_about):
            self._first_about = np.resize(self._first_about, 2 * self._prompts.size)
        self._first_about[number[new]] = about[new]
        self._conflicts += int((self._first_about[number] != about).sum())
        return pl.Series(new)

    def _keep(self, *frames: pl.DataFrame) -> None:
        self._bytes += sum(int(frame.estimated_size()) for frame in frames)
        self._chunks.append(frames)
        if self._bytes > self._bound or self._room is not None:
            self._room = self._room or _room()
            self._chunks = [self._written(index, chunk) for index, chunk in enumerate(self._chunks)]

    def _written(self, index: int, chunk: "tuple[pl.DataFrame, ...] | tuple[Path, ...]") -> tuple[Path, ...]:
        assert self._room is not None
        paths = []
        for kind, frame in zip(("prompts", "responses", "pairs"), chunk, strict=True):
            path = frame if isinstance(frame, Path) else self._room / f"{index}-{kind}.parquet"
            if isinstance(frame, pl.DataFrame):
                frame.write_parquet(path, compression="uncompressed", statistics=False)  # packing takes thrice the time
            paths.append(path)
        return tuple(paths)


def _responses(batch: _Pending, ids: pl.Series) -> tuple[pl.DataFrame, Keys, Keys]:
    """The answers of the batch with their scores, and two hashes of what keeps them apart."""
    flat, sizes = batch.said.flat()
    responses = pl.DataFrame(
        [
            _repeated(ids, batch.of),
            _conversations(flat, sizes, "response"),
            pl.Series("model", batch.models, dtype=pl.String),
            pl.Series("score", batch.marks, dtype=pl.Float64),
        ]
    )
    scores = [series.cast(pl.Float64).alias(f"score_{series.name}") for series in batch.scores.series()]
    responses = responses.hstack(scores)
    # Samples of `generate` stay apart although they say the same: how often a model says something is what they tell.
    beside = batch.beside.cells
    drawn = [each for each in batch.beside.series() if each.name in DRAWN] if beside.keys() >= set(DRAWN) else []
    rest = [name for name in (*responses.columns, *(each.name for each in drawn)) if name != "response"]
    mixed = responses.hstack(drawn).select(one=_mixed(rest, 1), two=_mixed(rest, 2))
    one, two = (mixed[name].to_numpy() ^ _conversation_keys(flat, sizes, i) for i, name in ((1, "one"), (2, "two")))
    return responses, one, two


def _repeated(ids: pl.Series, times: Sequence[int]) -> pl.Series:
    """Each prompt's identity as often as it is needed."""
    return ids.gather(pl.Series(np.repeat(np.arange(len(times)), times)))


def _digests(prompts: Turns) -> list[bytes]:
    """`_digest` of many prompts."""
    turns = list(zip(prompts.roles, prompts.contents, strict=True))
    whole: Iterable[Sequence[tuple[str, str]]] = zip(turns)
    if len(turns) != len(prompts.sizes):
        whole = [turns[end - size : end] for end, size in zip(accumulate(prompts.sizes), prompts.sizes, strict=True)]
    return list(map(_OF_HASH, map(hashlib.sha256, map(orjson.dumps, whole))))


def _digest(prompt: Sequence[Message]) -> bytes:
    """SHA-256 of `chat.canonical`, by a faster writer of the same bytes."""
    turns = [[message["role"], message["content"]] for message in prompt]
    return hashlib.sha256(orjson.dumps(turns)).digest()


def prompt_identity(prompt: Sequence[Message]) -> str:
    """`chat.prompt_id`, by a faster writer of the same bytes."""
    return _digest(prompt)[:16].hex()


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
    if not kinds <= {int, float}:
        return None
    whole = [cell for cell in cells if type(cell) is int]
    if min(whole) < -(1 << 63) or max(whole) >= 1 << 63:
        return None
    return pl.Int64() if kinds == {int} else pl.Float64()


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


def _renamed(extras: Mapping[str, Any], digest: bytes) -> dict[str, Any]:
    """Extras under names that no standard column has; a `prompt_id` that is the prompt's own says nothing."""
    renamed = {}
    for name, value in extras.items():
        ours = _OURS[name](value) if name in _OURS and isinstance(value, Hashable) else None
        if ours is not None:
            renamed[name] = ours
        elif name in _TAKEN and not (name == "prompt_id" and value == digest[:16].hex()):
            renamed[_free(name)] = value
    return renamed | {name: value for name, value in extras.items() if name not in _TAKEN}


def _widened(frame: pl.DataFrame, more: _Table, taken: Iterable[str]) -> pl.DataFrame:
    return frame.hstack([series.alias(_free(series.name, taken)) for series in more.series()])


def _pairs(table: _Table, ids: pl.Series, number: Numbers) -> pl.DataFrame:
    """The pairs of a batch; goals are numbers, or lists of numbers.

    Args:
        table: their cells.
        ids: the prompt of each.
        number: the response_id of each answer of the batch.
    """
    goals = table.cells.pop("goal", [])
    sides = [table.cells.pop(f"{side}_row", []) for side in ("chosen", "rejected")]
    lists = list in set(map(type, goals))
    if lists:
        goals = [[goal] if isinstance(goal, float) else goal for goal in goals]
    kind = pl.List(pl.Float64) if lists else pl.Float64
    found = {series.name: series for series in table.series()} or {
        "weight": pl.Series("weight", [], dtype=pl.Float64),
        "split": pl.Series("split", [], dtype=pl.String),
        "preference": pl.Series("preference", [], dtype=pl.Float64),
    }
    frame = pl.DataFrame([ids, *found.values()])
    chosen, rejected = (number[np.asarray(rows, dtype=np.int64)] for rows in sides)
    return frame.with_columns(
        pl.col("preference").cast(pl.Float64),
        pl.Series("goal", goals, dtype=kind),
        pl.Series("chosen_id", chosen, dtype=pl.Int64),
        pl.Series("rejected_id", rejected, dtype=pl.Int64),
    )


def _salt(name: str) -> int:
    return zlib.crc32(name.encode())


def _conversations(flat: pl.DataFrame, sizes: Numbers, name: str) -> pl.Series:
    """Conversations that were laid flat, as a list column."""
    turn = pl.struct("role", "content")
    if (sizes == 1).all():
        return flat.select(pl.concat_list(turn).alias(name)).to_series().cast(MESSAGES)
    rows = pl.Series("row", np.repeat(np.arange(len(sizes)), sizes))
    grouped = flat.with_columns(rows).group_by("row", maintain_order=True).agg(turn.alias(name))
    return grouped.get_column(name).cast(MESSAGES)


def _conversation_keys(flat: pl.DataFrame, sizes: Numbers, seed: int) -> Keys:
    """A hash of each conversation: of its messages and of their places."""
    content, role = (
        np.asarray(flat[name].hash(_salt(name) + (seed << 32)), dtype=np.uint64) for name in ("content", "role")
    )
    starts = np.cumsum(sizes) - sizes
    place = np.arange(len(flat)) - np.repeat(starts, sizes)
    turns: Keys = content * np.uint64(_ODD[0]) + role * np.uint64(_ODD[1]) + place.astype(np.uint64)
    turns = (turns ^ (turns >> np.uint64(29))) * np.uint64(_ODD[2])
    turns ^= turns >> np.uint64(32)
    return turns if (sizes == 1).all() else np.add.reduceat(turns, starts)


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
