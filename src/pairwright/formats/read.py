"""`read`: preference data of any known shape, from anything that holds rows, as `Preferences`."""

import gc
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO, Any

import polars as pl

from pairwright.errors import InputError, PairwrightError
from pairwright.formats import files, hub
from pairwright.formats.build import Builder
from pairwright.formats.clean import pairs
from pairwright.formats.files import Batch, Reject, Source
from pairwright.formats.llama_factory import declared
from pairwright.formats.mapping import columns_of, mapped
from pairwright.formats.record import Format, Record, Row, Unreadable
from pairwright.formats.table import detected, named
from pairwright.preferences import Preferences, Step
from pairwright.runs import write_beside

FIRST_ROWS = 200
"""How many rows are looked at to find the format."""
_LONGEST_PATH = 1000


def read(
    source: Any,
    *,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    limit: int | None = None,
    strict: bool = False,
    rejects: str | Path | None = None,
) -> Preferences:
    """Read preference data.

    A row that cannot be read never stops a file: it is counted by reason in the lineage, and written to `rejects`.

    Args:
        source: a path (jsonl, json, csv, txt with JSON lines, each also .gz or .zst; parquet; a directory that
            pairwright or `datasets` wrote), the name of a hub dataset, a Polars or pandas frame, a
            `datasets.Dataset` or `DatasetDict`, or rows as dictionaries.
        format: a name of `pairwright list formats`, or your own `module:function` from a row to a `Record`; found
            from the columns and first rows when not given.
        columns: which column says what, for a source of no known format: any of prompt, chosen, rejected,
            score_chosen, score_rejected, model_chosen, model_rejected, response, score, model, split, system,
            reference, preference, label.
        split: read only the rows of this split.
        limit: read only the first rows.
        strict: make the first row that cannot be read an error.
        rejects: a JSON-lines file for rows that cannot be read, with line, reason, sentence and the row.

    Returns:
        The preferences, with one `read` step in their lineage.

    Raises:
        InputError: there is nothing to read, the format is not known, no row can be read, or `strict`.
    """
    if isinstance(source, Preferences):
        return source
    if isinstance(source, str) and ("\n" in source or len(source) > _LONGEST_PATH):
        raise InputError(f"{source[:40]!r}... is a text and no path; give a path, a frame, a dataset or a list of rows")
    if format and columns:
        raise InputError("give either format or columns, not both")
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; it must be at least 1")
    if isinstance(source, str | Path) and (Path(source) / "manifest.json").is_file():
        if format or columns or split or limit:
            raise InputError(f"{source} is a pairwright directory: format, columns, split and limit do not apply")
        if rejects:
            Path(rejects).unlink(missing_ok=True)  # of an older source: nothing is rejected here
        return Preferences.load(source)
    opened = _opened(source, split)
    reading = _Reading(opened.name, split=split, limit=limit, strict=strict)
    batches, first = _peeked(opened.batches)
    form = _format(opened, format, columns, first)
    builder = Builder()
    with files.digesting(opened.path) as digest:
        with ExitStack() as stack:
            if opened.path is not None:
                stack.enter_context(_no_collection())
            sink = stack.enter_context(_rejects(Path(rejects))) if rejects else None
            for batch in batches:
                if reading.take(batch, form, builder, sink):
                    break
                builder.settle()
        if not builder.records:
            raise InputError(reading.nothing(form))
        built = builder.finish()
        inputs = {} if opened.path is None else {opened.path.name: str(digest())}
    if rejects and not reading.dropped_rejects:
        Path(rejects).unlink(missing_ok=True)  # nothing was rejected: an empty or an older file would say otherwise
    settings = {
        "source": opened.name,
        "format": form.name,
        "columns": dict(columns or {}),
        "split": split,
        "limit": limit,
    }
    step = Step(
        name="read",
        settings=settings,
        inputs=inputs,
        rows_in=reading.rows,
        rows_out=builder.records,
        dropped=dict(reading.dropped),
        notes=(*form.notes, *built.notes, *(f"{n:,} lines: {says}" for says, n in reading.notes.items())),
    )
    return Preferences.of(built.prompts, built.responses, built.pairs, (step,))


@dataclass
class _Reading:
    """The counts of one reading."""

    name: str
    split: str | None
    limit: int | None
    strict: bool
    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    dropped_rejects: int = 0
    first: Reject | None = None
    splits: set[str] = field(default_factory=set)

    def take(self, batch: Batch, form: Format, builder: Builder, sink: IO[str] | None) -> bool:
        """Read the rows of a batch; True when the limit is reached."""
        self.notes.update(batch.notes)
        if self._many(batch, form, builder):
            return self._full()
        bad = iter(batch.rejects)
        reject = next(bad, None)
        for index, (line, row) in enumerate(zip(batch.lines, batch.rows, strict=True)):
            while reject is not None and reject.line < line:
                if self._full():
                    return True
                self._refuse(reject, sink)
                reject = next(bad, None)
            if self._full():
                return True
            self.rows += 1
            try:
                record = form.rows(row)
                self._add(record, row, builder)
            except Unreadable as trouble:
                self.rows -= 1
                self._refuse(Reject(line, trouble.reason, trouble.says, batch.raw(index)), sink)
            except PairwrightError:
                raise
            except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
                self.rows -= 1
                says = f"the row has not the shape of {form.name} ({type(error).__name__}: {error})"
                self._refuse(Reject(line, "unexpected_shape", says, batch.raw(index)), sink)
        while reject is not None:
            if self._full():
                return True
            self._refuse(reject, sink)
            reject = next(bad, None)
        return self._full()

    def _many(self, batch: Batch, form: Format, builder: Builder) -> bool:
        """Read the rows of a batch all at once, when each is as plain as the next and none is to be left out."""
        if form.clean is None or batch.rejects or not batch.rows:
            return False
        if self.limit is not None and self.rows + len(batch.rows) > self.limit:
            return False
        found = pairs(batch.rows, form.clean)
        if found is None or not self._wanted(found.splits):
            return False
        builder.add_clean(found)
        self.rows += len(batch.rows)
        return True

    def _wanted(self, splits: Sequence[str | None]) -> bool:
        """Whether all rows of a batch are of the split that is asked for."""
        return self.split is None or all(found == self.split for found in {one or "train" for one in splits})

    def _full(self) -> bool:
        return self.limit is not None and self.rows >= self.limit

    def _add(self, record: Record, row: Row, builder: Builder) -> None:
        if not isinstance(record, Record):
            raise InputError(f"the format gave a {type(record).__name__} for a row of {self.name}, not a Record")
        if record.split is None and isinstance(row.get("split"), str):
            record = record._replace(split=row["split"])
        if self.split is not None:
            found = record.split or "train"
            self.splits.add(found)
            if found != self.split:
                self.dropped["other_split"] += 1
                return
        builder.add(record)

    def _refuse(self, reject: Reject, sink: IO[str] | None) -> None:
        if self.strict:
            raise InputError(
                f"{self.name}, line {reject.line}: {reject.says} ({reject.reason}); correct it, or read without strict"
            )
        self.rows += 1
        self.dropped[reject.reason] += 1
        self.dropped_rejects += 1
        self.first = self.first or reject
        if sink is not None:
            line = {"line": reject.line, "reason": reject.reason, "says": reject.says, "raw": reject.raw}
            sink.write(json.dumps(line, ensure_ascii=False) + "\n")

    def nothing(self, form: Format) -> str:
        """The sentence for a source of which no row was read."""
        if self.first is not None:
            return (
                f"{self.name}: none of {self.rows:,} rows can be read as {form.name}; "
                f"the first, line {self.first.line}: {self.first.says}; give the right format= or columns="
            )
        if self.splits:
            return f"{self.name} has no rows of split {self.split!r}; it has {', '.join(sorted(self.splits))}"
        return f"{self.name} has no rows; write it again or get it again"


@contextmanager
def _no_collection() -> Iterator[None]:
    """Rows of a file make no reference cycles; looking for some would take a third of the time of reading."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def _rejects(path: Path) -> Iterator[IO[str]]:
    """The rejects file, written beside and renamed."""
    with write_beside(path) as temporary, temporary.open("w", encoding="utf-8") as sink:
        yield sink


def _opened(source: Any, split: str | None) -> Source:
    """What is to be read, opened."""
    if isinstance(source, str | Path):
        return _at(source, split)
    if isinstance(source, pl.DataFrame | pl.LazyFrame):
        return Source("the Polars frame", files.of_frame(source.lazy()))
    kind = type(source).__module__.split(".")[0]
    if kind == "pandas":
        return Source("the pandas frame", hub.of_pandas(source))
    if kind == "datasets":
        return Source("the dataset", hub.of_dataset(source, split, "the dataset"))
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise InputError(f"a {type(source).__name__} cannot be read; give a path, a frame, a dataset or a list of rows")
    return Source("the rows", files.of_rows(source))


def _at(source: str | Path, split: str | None) -> Source:
    path = Path(source)
    if path.is_dir():
        if hub.is_saved(path):
            return Source(str(path), hub.of_directory(path, split), path)
        inside = sorted(child.name for child in path.iterdir() if child.suffix in (*files.SUFFIXES, ".gz", ".zst"))
        remedy = f"give one of its files: {', '.join(inside[:5])}" if inside else "give a file"
        raise InputError(f"{path} is neither a pairwright directory nor one that `datasets` saved; {remedy}")
    if isinstance(source, str) and not path.exists() and hub.is_name(source):
        return Source(source, hub.of_name(source, split))
    return files.of_path(path)


def _peeked(batches: Iterator[Batch]) -> tuple[Iterator[Batch], list[Row]]:
    """The batches, and their first rows."""
    seen: list[Batch] = []
    rows: list[Row] = []
    for batch in batches:
        seen.append(batch)
        rows += batch.rows[: FIRST_ROWS - len(rows)]
        if len(rows) >= FIRST_ROWS:
            break
    return chain(seen, batches), rows


def _format(opened: Source, format: str | None, columns: Mapping[str, str] | None, first: list[Row]) -> Format:
    """The format that was asked for, that a file beside declares, or that the first rows have."""
    if format:
        return named(format)
    if columns:
        found = frozenset(name for row in first for name in row)
        rows = mapped(columns_of(columns, found))
        return Format(name="columns", says="the user's columns", source="columns=", columns=(), rows=rows)
    if opened.path is not None and opened.path.is_file():
        form = declared(opened.path)
        found = frozenset(name for row in first for name in row)
        if form is not None and (not first or form.detect(found, first)):  # else it speaks of an earlier file
            return form
    if not first:
        return Format(name="any format", says="", source="", columns=(), rows=lambda row: Record(()))
    return detected(first, opened.name)
