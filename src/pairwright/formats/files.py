r"""Rows with line numbers from anything that holds rows: files, frames, datasets, lists.

What a file is, its first bytes say, not its name alone. Lines end at `\n` only (real texts hold carriage returns and
Unicode separators). A line that cannot be read is handed on as a `Reject` and the file goes on; a file that cannot be
read at all is one `InputError` with the remedy.
"""

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import IO, Any, NamedTuple

import orjson
import polars as pl
import zstandard

from pairwright.errors import InputError

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt", ".jsonc")
BLOCK = 4 << 20
LINES = 1 << 18
"""Bytes of JSON lines that are read at a time: what is made of them stays in the processor's cache."""
DIGESTED = 1 << 23
"""Bytes that are digested at a time; each time the digesting thread waits for the reading one."""
ROWS = 2000
FIRST_LINES = 1000
DIGITS = 4000
"""An integer of more digits than this is read as infinite; Python itself refuses those over 4,300."""
NESTED = frozenset(
    {"goal", "completions", "answers", "history", "rating", "ratings", "ranks", "all_generated_responses"}
    | {"all_rm_scores", "questions", "gpt4_scores", "rm_scores"}
)
"""Columns that no format has as text; in CSV their cells are JSON."""
SURROGATE = "half a surrogate pair became U+FFFD"
NOT_UTF8 = "bytes that are not UTF-8 became U+FFFD"
_csv_limit = 1 << 30


class Reject(NamedTuple):
    """A row that could not be read."""

    line: int
    """Line of the file, or number of the row, from 1."""
    reason: str
    """A short name, under which such rows are counted."""
    says: str
    """One sentence."""
    raw: str
    """The row as found."""


@dataclass(frozen=True)
class Batch:
    """Some rows of a source, in order."""

    lines: Sequence[int]
    """Line of each row, from 1."""
    rows: list[dict[str, Any]]
    raws: list[bytes] | None = None
    """Each row as found; None where the source is no text."""
    rejects: list[Reject] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    def raw(self, index: int) -> str:
        """A row as it goes into the rejects file."""
        if self.raws is not None:
            return _shown(self.raws[index])
        return json.dumps(self.rows[index], ensure_ascii=False, default=str)


class Source(NamedTuple):
    """What is read, with a name for messages."""

    name: str
    batches: Iterator[Batch]
    path: Path | None = None


def of_path(path: Path) -> Source:
    """Open a file of rows by its content.

    Raises:
        InputError: it is missing, empty, no text, a Git-LFS pointer, or truncated.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}{_sibling(path)}")
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise InputError(f"{path} cannot be opened ({error.strerror}); check its permissions") from error
    if not head:
        raise InputError(f"{path} is empty; write it again or get it again")
    if head.startswith(b"PAR1"):
        return Source(str(path), _parquet(path), path)
    if head.startswith(b"PK\x03\x04"):
        raise InputError(f"{path} is a zip archive; unpack it and read the file in it")
    if head.startswith(b"ARROW1"):
        raise InputError(f"{path} is an Arrow file; read the dataset's directory, or write it as parquet")
    return Source(str(path), _guarded(path), path)


def _guarded(path: Path) -> Iterator[Batch]:
    """The rows of a text file; what goes wrong on the way out of its compression is one sentence."""
    try:
        with _plain(path) as stream:
            yield from _text_file(path, stream)
    except gzip.BadGzipFile as error:
        raise InputError(f"{path} is no good gzip file ({error}); get it again") from error
    except (EOFError, zlib.error, zstandard.ZstdError) as error:
        raise InputError(f"{path} ends early or is damaged ({error}); get it again") from error


def _plain(path: Path) -> IO[bytes]:
    """The file without its compression, which its first bytes tell."""
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith(b"\x1f\x8b"):
        return io.BufferedReader(gzip.open(path, "rb"), BLOCK)
    if head == b"\x28\xb5\x2f\xfd":
        return io.BufferedReader(_Zstd(path), BLOCK)
    return path.open("rb", buffering=BLOCK)


def _text_file(path: Path, stream: IO[bytes]) -> Iterator[Batch]:
    head = stream.read(BLOCK).removeprefix(b"\xef\xbb\xbf")
    names = [suffix.lower() for suffix in path.suffixes]
    is_table = ".csv" in names or ".tsv" in names
    _refuse_no_text(path, head, head.partition(b"\n")[0] if is_table else head)
    first = head.lstrip()[:1]
    if not first:
        raise InputError(f"{path} has only blank lines; write it again or get it again")
    if is_table:
        yield from _table(path, head, stream, "\t" if ".tsv" in names else ",")
    elif first == b"[" or (first == b"{" and not _lines_of_objects(head)):
        whole = head + stream.read()
        try:
            rows = _whole(path, whole)
        except InputError:
            if not _has_an_object(whole):
                raise
            yield from _lines(whole, io.BytesIO())
            return
        for start in range(0, len(rows), ROWS):
            part = rows[start : start + ROWS]
            yield _batch(enumerate(part, start=start + 1))
    elif first == b"{" or _has_an_object(head):
        yield from _lines(head, stream)
    else:
        raise InputError(
            f"{path} is neither JSON lines, a JSON list, CSV nor parquet (it begins {head[:20]!r}); convert it to one"
        )


def _refuse_no_text(path: Path, head: bytes, plain: bytes) -> None:
    """Refuse what is no text; `plain` is the part in which a NUL is never data (a cell of CSV may hold one)."""
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a Git-LFS pointer, not the data; run 'git lfs pull' where it came from")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path} is UTF-16; save it as UTF-8")
    if b"\x00" in plain[:65536]:
        raise InputError(f"{path} is binary, of no kind that is read; give jsonl, json, csv or parquet")


def _lines_of_objects(head: bytes) -> bool:
    """Whether the first line is one whole object, and not the only one, or not a wrapper around a list."""
    line, newline, more = head.lstrip().partition(b"\n")
    line = line.rstrip()
    if not line.endswith(b"}"):
        return False
    if newline and more.strip():
        return True
    row, _, _ = _parse(line)
    return row is None or not isinstance(row.get("data"), list)


def _has_an_object(head: bytes) -> bool:
    """Whether any of the first lines is an object: then it is a file of lines, and the others are its rejects."""
    return any(_parse(line)[0] is not None for line in head.split(b"\n", FIRST_LINES)[:FIRST_LINES])


def _lines(head: bytes, stream: IO[bytes]) -> Iterator[Batch]:
    r"""JSON lines, in batches of about `LINES` bytes; only `\n` ends a line."""
    number = 0
    for part in (io.BytesIO(head + stream.readline()), stream):
        while lines := part.readlines(min(LINES, BLOCK)):
            yield _parsed(lines, number)
            number += len(lines)


def _parsed(lines: list[bytes], before: int) -> Batch:
    """The rows of some lines; `before` lines stand ahead of them."""
    many = _many(lines)
    if many is not None:
        return Batch(range(before + 1, before + 1 + len(lines)), many, lines)
    numbers: list[int] = []
    raws: list[bytes] = []
    batch = Batch(numbers, [], raws)
    loads, rows = orjson.loads, batch.rows
    for number, line in enumerate(lines, start=before + 1):
        try:
            row = loads(line)
        except orjson.JSONDecodeError:
            if not line.strip():
                continue
            row, trouble, notes = _parse(line)
            batch.notes.update(notes)
            if row is None:
                batch.rejects.append(Reject(number, trouble[0], trouble[1], _shown(line)))
                continue
        if type(row) is not dict:
            batch.rejects.append(Reject(number, "not_an_object", "the line is JSON, but no object", _shown(line)))
            continue
        rows.append(row)
        numbers.append(number)
        raws.append(line)
    return batch


def _many(lines: list[bytes]) -> list[Any] | None:
    """The rows of lines that are all objects, none out of the ordinary."""
    try:
        rows = list(map(orjson.loads, lines))
    except orjson.JSONDecodeError:
        return None
    return rows if set(map(type, rows)) == {dict} else None


def _shown(line: bytes) -> str:
    """A line as it goes into the rejects file, without its end."""
    return line.removesuffix(b"\n").decode("utf-8", "replace")


def _parse(line: bytes) -> tuple[dict[str, Any] | None, tuple[str, str], list[str]]:
    """A line that the fast parser refused: NaN, Infinity, huge integers, lone surrogates, bad UTF-8 are read.

    Returns:
        The object or None, the reason and sentence of a refusal, and notes.
    """
    notes = []
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        text = line.decode("utf-8", "replace")
        notes.append(NOT_UTF8)
    try:
        row = json.loads(text, parse_int=_integer)
    except json.JSONDecodeError as error:
        return None, ("not_json", f"{error.msg} at column {error.colno}"), []
    except (RecursionError, ValueError) as error:
        return None, ("not_json", f"too deep or too long to read ({type(error).__name__})"), []
    if not isinstance(row, dict):
        return None, ("not_an_object", "the line is JSON, but no object"), []
    clean = _without_surrogates(row)
    if clean != row:
        notes.append(SURROGATE)
    return clean, ("", ""), notes


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= DIGITS else float(digits)


def _has_surrogates(value: Any) -> bool:
    """Whether any text in a value cannot be written as UTF-8."""
    if isinstance(value, str):
        return not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, list | tuple):
        return any(map(_has_surrogates, value))
    return isinstance(value, dict) and any(_has_surrogates(k) or _has_surrogates(v) for k, v in value.items())


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if isinstance(value, list | tuple):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


def _whole(path: Path, content: bytes) -> list[Any]:
    """The rows of a file that is one JSON value: a list, an object with a list `data`, or one row."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        try:
            value = _without_surrogates(json.loads(content.decode("utf-8", "replace"), parse_int=_integer))
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}, line {error.lineno}: not JSON ({error.msg}; JSON has no comments); correct it"
            ) from error
        except RecursionError as error:
            raise InputError(f"{path} is nested too deeply; give JSON lines") from error
    if isinstance(value, dict):
        value = value["data"] if isinstance(value.get("data"), list) else [value]
    if not isinstance(value, list):
        raise InputError(f"{path} holds one JSON value and no rows; give a list of objects")
    if not value:
        raise InputError(f"{path} is an empty list; write it again or get it again")
    return value


def _table(path: Path, head: bytes, stream: IO[bytes], delimiter: str) -> Iterator[Batch]:
    """CSV with a header; a cell that is a JSON list or object is read as one."""
    csv.field_size_limit(max(csv.field_size_limit(), _csv_limit))
    text = io.TextIOWrapper(
        io.BufferedReader(_Joined(head, stream), BLOCK), encoding="utf-8", errors="replace", newline=""
    )
    reader = csv.DictReader(text, delimiter=delimiter)
    found: list[tuple[int, Any]] = []
    try:
        for row in reader:
            found.append((reader.line_num, row))
            if len(found) == ROWS:
                yield _batch(found, cells=True)
                found = []
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not CSV ({error}); write it again with quotes") from error
    if reader.fieldnames and not found and reader.line_num <= 1:
        raise InputError(f"{path} has a header and no rows; write it again or get it again")
    yield _batch(found, cells=True)


class _Zstd(io.RawIOBase):
    """A zstd file without its compression. The library's own reader says nothing when a file ends early; this does."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._fed = False
        self._data = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._data:
            packed = (self._frame.unused_data if self._frame.eof else b"") or self._file.read(BLOCK // 8)
            if not packed:
                if self._fed and not self._frame.eof:
                    raise EOFError("the last frame is not whole")
                return 0
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._fed = True
            self._data = self._frame.decompress(packed)
        size = min(len(buffer), len(self._data))
        buffer[:size], self._data = self._data[:size], self._data[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


class _Joined(io.RawIOBase):
    """Bytes that were read ahead, and then the rest of their stream."""

    def __init__(self, head: bytes, stream: IO[bytes]) -> None:
        super().__init__()
        self._parts: list[IO[bytes]] = [io.BytesIO(head), stream]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while self._parts:
            data = self._parts[0].read(len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
            self._parts.pop(0)
        return 0


def _batch(found: Iterable[tuple[int, Any]], *, cells: bool = False) -> Batch:
    """A batch of rows that are already Python values."""
    numbers: list[int] = []
    batch = Batch(numbers, [])
    for number, row in found:
        if not isinstance(row, Mapping):
            says = f"the row is a {type(row).__name__}, not an object"
            batch.rejects.append(Reject(number, "not_an_object", says, json.dumps(row, default=str)))
        elif cells and (None in row or None in row.values()):
            says = "the row has another number of cells than the header"
            batch.rejects.append(Reject(number, "ragged_row", says, json.dumps(dict(row), default=str)))
        else:
            batch.rows.append({key: _cell(key, value) for key, value in row.items()} if cells else dict(row))
            numbers.append(number)
    return batch


def _cell(column: str, value: str) -> Any:
    """A CSV cell: messages written as JSON, the JSON of a column that is never text, else the text as it is.

    An answer may be JSON itself, `{"a": 1}`; it must stay the text that it is.
    """
    if value[:1] not in ("[", "{"):
        return value
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    return found if column in NESTED or _is_messages(found) else value


def _is_messages(found: Any) -> bool:
    """Whether a JSON value is a message or a list of them."""
    items = found if isinstance(found, list) else [found]
    return bool(items) and all(
        isinstance(item, dict) and ({"role", "content"} <= item.keys() or {"from", "value"} <= item.keys())
        for item in items
    )


def _parquet(path: Path) -> Iterator[Batch]:
    try:
        frame = pl.scan_parquet(path)
        frame.collect_schema()
        yield from of_frame(frame)  # a damaged page shows itself here
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path} is no readable parquet file ({_first_line(error)}); get it again") from error


def of_frame(frame: pl.LazyFrame) -> Iterator[Batch]:
    """The rows of a Polars frame."""
    number = 0
    for part in frame.collect_batches(chunk_size=ROWS, maintain_order=True):
        rows = part.to_dicts()
        yield Batch(list(range(number + 1, number + 1 + len(rows))), rows)
        number += len(rows)


def of_rows(rows: Iterable[Any]) -> Iterator[Batch]:
    """Rows that are Python dictionaries already."""
    part: list[tuple[int, Any]] = []
    for number, row in enumerate(rows, start=1):
        part.append((number, row))
        if len(part) == ROWS:
            yield _checked(part)
            part = []
    if part:
        yield _checked(part)


def _checked(found: list[tuple[int, Any]]) -> Batch:
    """A batch of rows that no parser has seen: keys must be text, and half surrogate pairs are replaced."""
    batch = _batch(found)
    numbers: list[int] = []
    rows, rejects, notes = [], batch.rejects, batch.notes
    for number, row in zip(batch.lines, batch.rows, strict=True):
        odd = [key for key in row if not isinstance(key, str)]
        if odd:
            says = f"the row has a key that is no text ({odd[0]!r:.40})"
            rejects.append(Reject(number, "key_not_text", says, repr(row)))
            continue
        half = _has_surrogates(row)
        notes[SURROGATE] += half
        rows.append(_without_surrogates(row) if half else row)
        numbers.append(number)
    return Batch(numbers, rows, rejects=sorted(rejects), notes=+notes)


@contextmanager
def digesting(path: Path | None) -> Iterator[Callable[[], str | None]]:
    """The digest of a file, computed while it is read; no longer than the block."""
    if path is None:
        yield lambda: None
        return
    stop, found = Event(), list[str]()

    def work() -> None:
        with suppress(OSError):
            found.append(digest_of(path, stop))

    def digest() -> str:
        thread.join()
        return found[0] if found else digest_of(path)  # raises what the thread met

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        yield digest
    finally:
        stop.set()
        thread.join()


def digest_of(path: Path, stop: Event | None = None) -> str:
    """SHA-256 of a file, or of every file of a directory in the order of their names, in hex.

    Args:
        path: a file or a directory.
        stop: set when nobody wants the digest any more; what is given then is none.
    """
    total = hashlib.sha256()
    if path.is_file():
        block = memoryview(bytearray(min(DIGESTED, path.stat().st_size + 1)))
        with path.open("rb", buffering=0) as file:
            while (size := file.readinto(block)) and not (stop and stop.is_set()):
                total.update(block[:size])
        return total.hexdigest()
    for file_path in sorted(p for p in path.rglob("*") if p.is_file()):
        total.update(f"{file_path.relative_to(path)}\n{digest_of(file_path, stop)}\n".encode())
    return total.hexdigest()


def _sibling(path: Path) -> str:
    """`"; did you mean ...?"` for a file of nearly that name."""
    from pairwright.plug import nearest

    if not path.parent.is_dir():
        return f" (nor a directory {path.parent})"
    return nearest(path.name, [child.name for child in path.parent.iterdir()]) or "; give the path of one that exists"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
