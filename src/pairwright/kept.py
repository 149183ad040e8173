"""What is done of a job, kept in files while it runs, so that a killed job does none of it twice."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pairwright.errors import InputError


class KeptLines:
    """A file with a line for each part of a job that is done; a context manager.

    A line is written whole when its part is done, so that a killed process loses what was in work and no more. Each
    names the job that it belongs to; lines of another job, and half a line, are passed over. What another job left is
    removed with the first line of this one.

    Args:
        path: the file; it and its folder are made when first needed.
        key: of the job: a digest of all that decides its result.
        what: the word for the parts, in the lines and in messages.

    Raises:
        InputError: what is there cannot be read, or (by `put`) nothing can be written there.
    """

    def __init__(self, path: Path, key: str, *, what: str) -> None:
        self._path, self._key, self._what = path, key, what
        self._file: int | None = None
        try:
            self._there = path.read_bytes()
        except FileNotFoundError:
            self._there = b""
        except OSError as error:
            raise InputError(self._trouble(error)) from error
        lines = [self._read(line) for line in self._there.split(b"\n")]
        self.found: list[Any] = [line for line in lines if line is not None]
        """The parts of this job that an earlier attempt did, JSON values, in the order in which they were put."""

    def put(self, part: Any) -> None:
        """Keep a part, a JSON value; when this returns, it outlives the process."""
        line = json.dumps({"job": self._key, self._what: part}, ensure_ascii=False)
        try:
            if self._file is None:
                self._file = self._open()
            _write(self._file, line.encode("utf-8", "surrogatepass") + b"\n")
        except OSError as error:
            raise InputError(self._trouble(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            os.close(self._file)

    def _open(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # What another job left there would only grow.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (0 if self.found else os.O_TRUNC)
        file = os.open(self._path, flags, 0o644)
        if self.found and not self._there.endswith(b"\n"):
            _write(file, b"\n")
        return file

    def _trouble(self, error: OSError) -> str:
        where = f"{self._path.parent} ({error.strerror})"
        return f"{self._what} cannot be kept in {where}; choose another place for the output"

    def _read(self, line: bytes) -> Any:
        with suppress(ValueError, KeyError, TypeError):  # half a line
            said = json.loads(line.decode("utf-8", "surrogatepass"))
            if said["job"] == self._key:
                return said[self._what]
        return None


def read_parts(lines: KeptLines, read: Callable[[Any], Any]) -> list[Any]:
    """The parts of an earlier attempt, read; one that cannot be read is not there."""
    found = []
    for part in lines.found:
        with suppress(ValueError, KeyError, TypeError):
            found.append(read(part))
    return found


def forget_lines(folder: str | Path, names: str) -> None:
    """Remove kept files from a folder whose job is done, and the folder where it is empty then.

    Args:
        folder: where they are; it may not be there.
        names: of the files, with `*`.
    """
    place = Path(folder)
    for path in place.glob(names):
        path.unlink(missing_ok=True)
    if place.is_dir() and not any(place.iterdir()):
        place.rmdir()


def _write(file: int, line: bytes) -> None:
    left = memoryview(line)
    while left:
        left = left[os.write(file, left) :]
