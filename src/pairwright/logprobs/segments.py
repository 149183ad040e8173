"""Files of numbers under keys, that many processes write at once and that may be cut off anywhere.

A folder holds segments. A writer has one of its own, `<id>.open`, and appends frames to it: one frame for each batch,
so that a batch is stored when `put` returns, and a process that is killed then loses nothing of it. At its end it is
renamed to `<id>.seg`. Nobody else ever changes a segment, and there are no locks: what two writers store twice is
merely there twice.

    frame    magic (4 bytes)  n (u32)  bytes of the payload (u64)  BLAKE2b-128 of all of that and of the payload
    payload  n keys of 16 bytes, n values (float64), little-endian

A reader takes whole frames whose digest is right. The end of a segment that is still open may be half a frame, and is
left alone; anything else that is wrong is said in a sentence, and what follows it in that segment is not read. A
segment or folder that cannot be read at all is said and passed over: what it holds is computed again.
"""

import hashlib
import os
import struct
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairwright.place import say

Keys = NDArray[np.uint64]
"""[n, 2]: keys of 16 bytes as two numbers each."""

_MAGIC = b"pwl1"
_HEAD = struct.Struct("<4sIQ16s")
_RECORD = 24
_MANY = 32
"""Small segments that a folder holds before they become one."""
_SMALL = 64 << 20
"""Bytes of a segment that is left as it is."""
_STALE = 24 * 3600.0
"""Seconds after which an open segment that did not grow belongs to nobody any more."""
_PAUSE = 3600.0
"""Seconds after which a writer that had nothing to write begins a new segment; far less than `_STALE`."""
_TRIES = 10


class Records(NamedTuple):
    """Keys [n, 2] and their values [n]; a key may be there more than once."""

    keys: Keys
    values: NDArray[np.float64]

    @classmethod
    def joined(cls, parts: "list[Records]") -> "Records":
        """Several as one."""
        keys = [part.keys for part in parts] or [np.empty((0, 2), np.uint64)]
        return cls(np.concatenate(keys), np.concatenate([np.empty(0), *(part.values for part in parts)]))


def frame(keys: Keys, values: NDArray[np.float64]) -> bytes:
    """One frame: a header and the records."""
    payload = keys.astype("<u8", order="C").tobytes() + values.astype("<f8").tobytes()
    return _HEAD.pack(_MAGIC, len(values), len(payload), _check(len(values), payload)) + payload


def frames(data: bytes | memoryview, *, growing: bool) -> Iterator[Records | str]:
    """The records of each whole frame; at damage a few words about it, and nothing after it.

    Args:
        data: the bytes of a segment.
        growing: its end may be half a frame.
    """
    view, at = memoryview(data), 0
    while at < len(view):
        rest = len(view) - at
        magic, count, size, check = _HEAD.unpack_from(view, at) if rest >= _HEAD.size else (b"", 0, 0, b"")
        if rest >= _HEAD.size and (magic != _MAGIC or size != count * _RECORD):
            yield f"byte {at:,} begins no frame"
            return
        if rest < _HEAD.size + size or not magic:
            if not growing:
                yield f"it ends in half a frame, {rest:,} bytes"
            return
        payload = view[at + _HEAD.size : at + _HEAD.size + size]
        if _check(count, payload) != check:
            yield f"the frame at byte {at:,} is not what was written"
            return
        keys = np.frombuffer(payload, "<u8", 2 * count).reshape(count, 2)
        yield Records(keys, np.frombuffer(payload, "<f8", count, offset=16 * count))
        at += _HEAD.size + size


def read(folder: Path, *, damaged: list[Path] | None = None) -> Records:
    """All records of a folder's segments, also of those that are being written; none where there is no folder.

    A segment that goes away meanwhile has been renamed or merged, so the folder is looked through again.

    Args:
        folder: where the segments are.
        damaged: takes the segments that are damaged, for `compact`.
    """
    parts: list[Records] = []
    faults: dict[Path, str] = {}
    sentences: list[str] = []
    for _ in range(_TRIES):
        parts, faults, sentences = [], {}, []
        try:
            for segment in _segments(folder):
                try:
                    sound, fault = _whole(segment)
                except FileNotFoundError:
                    raise
                except OSError as error:
                    sentences.append(_unreadable(segment, error))
                    continue
                parts += sound
                if fault:
                    faults[segment] = fault
                    sentences.append(_damage(segment, fault))
        except FileNotFoundError:
            continue
        except OSError as error:
            sentences = [_unreadable(folder, error)]
        break
    for sentence in sentences:
        say(sentence)
    if damaged is not None:
        damaged += faults
    return Records.joined(parts)


class Writer:
    """Appends to a segment of its own; a context manager. Where the store cannot be written, it says so once.

    Args:
        folder: where the segments are; made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None
        self._path = folder
        self._size = 0
        self._last = 0.0
        self._able = True

    def put(self, keys: Keys, values: NDArray[np.float64]) -> None:
        """Store records; when this returns, they outlive the process."""
        if not self._able or not len(values):
            return
        try:
            if self._file is not None and time.time() - self._last > _PAUSE:
                self.close()
            file = self._open() if self._file is None else self._file
            whole = frame(keys, values)
            left = memoryview(whole)
            while left:
                left = left[os.write(file, left) :]
            self._size += len(whole)
            self._last = time.time()
        except OSError as error:
            self._able = False
            say(f"the store {self._folder} cannot be written ({error.strerror or error}); going on without it")

    def close(self) -> None:
        """Give the segment its last name; half a frame, of a disk that was full, is cut off before."""
        if self._file is None:
            return
        file, self._file = self._file, None
        with suppress(OSError):
            os.ftruncate(file, self._size)
        with suppress(OSError):
            os.close(file)
        with suppress(OSError):
            if self._size:
                self._path.rename(self._path.with_suffix(".seg"))
            else:
                self._path.unlink()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path = self._folder / f"{uuid.uuid4().hex}.open"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._size = 0
        return self._file


def compact(folder: Path, *, many: int = _MANY, damaged: Sequence[Path] = ()) -> bool:
    """Merge the small segments of a folder where there are many, and the damaged ones; True if that was done.

    The merged segment is there, whole, before the others go; two processes that do this at once leave records twice and
    lose none. A reader that looked through the folder at that very moment computes again at worst.

    Args:
        folder: where the segments are.
        many: how many small ones are left alone.
        damaged: of which only the sound frames are kept, whatever their size, so that their damage is said no more.
    """
    try:
        closed = [path for path in _segments(folder) if _is_closed(path)]
        small = [path for path in closed if path.stat().st_size < _SMALL]
        old = [path for path in closed if path in damaged or (len(small) > many and path in small)]
        parts: list[Records] = []
        for path in list(old):
            try:
                sound, fault = _whole(path)
            except PermissionError:  # somebody else's, and left to him
                old.remove(path)
                continue
            parts += sound
            if fault and path not in damaged:
                say(_damage(path, fault))
        if not old:
            return False
        if parts:
            _write(folder, unique(Records.joined(parts)))
        for path in old:
            path.unlink(missing_ok=True)
    except OSError:  # another process was faster, or the store cannot be written: nothing is lost
        return False
    return True


def unique(records: Records) -> Records:
    """Each key once, in the order of the keys."""
    order = key_order(records.keys)
    keys, values = records.keys[order], records.values[order]
    first = firsts(keys)
    return Records(keys[first], values[first])


def look_up(records: Records, keys: Keys) -> NDArray[np.float64]:
    """The values of keys [n, 2], which are in order; NaN where there is none. [n]"""
    order = key_order(records.keys)
    have, values = records.keys[order], records.values[order]
    words = np.ascontiguousarray(have[:, 0])
    at = np.searchsorted(words, np.ascontiguousarray(keys[:, 0]))
    found = np.full(len(keys), np.nan)
    left = np.arange(len(keys))
    while len(left):
        left = left[at[left] < len(have)]
        left = left[words[at[left]] == keys[left, 0]]
        hit = have[at[left], 1] == keys[left, 1]
        found[left[hit]] = values[at[left[hit]]]
        left = left[~hit]  # of two keys with one first word, or a key that is there twice, the next one
        at[left] += 1
    return found


def key_order(keys: Keys) -> NDArray[np.int64]:
    """Indices that put keys in order."""
    first = np.ascontiguousarray(keys[:, 0])
    order = np.argsort(first)
    words, rest = first[order], keys[order, 1]
    # Different keys hardly ever share their first word, and sorting by one word is several times as fast.
    if ((words[1:] == words[:-1]) & (rest[1:] != rest[:-1])).any():
        order = np.lexsort((keys[:, 1], first))
    return order


def firsts(keys: Keys) -> NDArray[np.bool_]:
    """Which of some ordered keys are not the one before."""
    found = np.ones(len(keys), np.bool_)
    found[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    return found


def _segments(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in (".seg", ".open"))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_closed(segment: Path) -> bool:
    return segment.suffix == ".seg" or time.time() - segment.stat().st_mtime > _STALE


def _whole(segment: Path) -> tuple[list[Records], str]:
    """The sound records of a segment, and a few words about damage."""
    parts: list[Records] = []
    for found in frames(segment.read_bytes(), growing=segment.suffix == ".open"):
        if isinstance(found, str):
            return parts, found
        parts.append(found)
    return parts, ""


def _damage(segment: Path, fault: str) -> str:
    return f"the store's segment {segment} is damaged ({fault}); what it held there is computed again"


def _unreadable(path: Path, error: OSError) -> str:
    return f"the store's {path} cannot be read ({error.strerror or error}); what it holds is computed again"


def _write(folder: Path, records: Records) -> None:
    """A segment that is there whole or not at all."""
    merged = folder / f"{uuid.uuid4().hex}.seg"
    beside = merged.with_suffix(".part")
    try:
        with beside.open("wb") as file:
            file.write(frame(*records))
            file.flush()
            os.fsync(file.fileno())
        beside.rename(merged)
    finally:
        beside.unlink(missing_ok=True)


def _check(count: int, payload: bytes | memoryview) -> bytes:
    total = hashlib.blake2b(_MAGIC + struct.pack("<IQ", count, len(payload)), digest_size=16)
    total.update(payload)
    return total.digest()
