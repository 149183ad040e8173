"""Answers that are done, kept in a file beside the output while a job runs, so that a killed job draws none twice."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from pairwright.errors import InputError
from pairwright.generate.request import Drawn, Part, Request
from pairwright.logprobs.digest import model_digest
from pairwright.runs import digest_file, digest_of

FILE = "answers.jsonl"
"""Its name, in the directory that is given for it."""


class Kept:
    """A file with a line for each part of a job that is done; a context manager.

    A line is written whole when its part is done, so that a killed process loses what was in work and no more. Each
    names the job that it belongs to (`key_of`); lines of another job, and half a line, are passed over.

    Args:
        folder: the directory of the file; made when first needed.
        key: of the job.

    Raises:
        InputError: what is there cannot be read, or (by `put`) nothing can be written there.
    """

    def __init__(self, folder: str | Path, key: str) -> None:
        self._path, self._key = Path(folder) / FILE, key
        self._file: int | None = None
        try:
            self._there = self._path.read_bytes()
        except FileNotFoundError:
            self._there = b""
        except OSError as error:
            raise InputError(self._trouble(error)) from error
        lines = [line for line in map(self._read, self._there.split(b"\n")) if line is not None]
        self.found: dict[int, Drawn] = {place: drawn for line in lines for place, drawn in line}
        """The answers of this job that an earlier attempt drew, by the number of their request."""

    def put(self, part: Part) -> None:
        """Keep a part; when this returns, it outlives the process."""
        if not part:
            return
        answers = [[place, *drawn] for place, drawn in part]
        line = json.dumps({"job": self._key, "answers": answers}, ensure_ascii=False, allow_nan=False)
        try:
            if self._file is None:
                self._file = self._open()
            self._write(self._file, line.encode("utf-8", "surrogatepass") + b"\n")
        except OSError as error:
            raise InputError(self._trouble(error)) from error

    def __enter__(self) -> "Kept":
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
            self._write(file, b"\n")
        return file

    @staticmethod
    def _write(file: int, line: bytes) -> None:
        left = memoryview(line)
        while left:
            left = left[os.write(file, left) :]

    def _trouble(self, error: OSError) -> str:
        return f"answers cannot be kept in {self._path.parent} ({error.strerror}); choose another place for the output"

    def _read(self, line: bytes) -> list[tuple[int, Drawn]] | None:
        try:
            said = json.loads(line.decode("utf-8", "surrogatepass"))
            if said["job"] != self._key:
                return None
            return [(int(place), Drawn(*rest)) for place, *rest in said["answers"]]
        except (ValueError, KeyError, TypeError):  # half a line
            return None


def key_of(requests: Sequence[Request], engine: str, settings: Mapping[str, Any], model: str) -> str:
    """A digest of all that decides the answers of a job.

    Args:
        requests: what is wanted.
        engine: its name.
        settings: all settings of the engine.
        model: what the model is, apart from where it lies.
    """
    said = {name: value for name, value in settings.items() if name != "model"}
    total = hashlib.sha256(json.dumps([engine, model, said], sort_keys=True, default=str).encode())
    for request in requests:
        one = [request.keep, request.seed, [[each["role"], each["content"]] for each in request.prompt]]
        total.update(json.dumps(one).encode() + b"\n")
    return total.hexdigest()


def what_it_is(model: str | Path) -> str:
    """A model apart from where it lies: its weights, and how it reads and ends; its name where it is not here."""
    folder = Path(model)
    if not folder.is_dir():
        return str(model)
    files = [path for kind in ("*.json", "*.jinja", "*.model", "*.txt") for path in folder.glob(kind) if path.is_file()]
    return model_digest(model) + digest_of({path.name: digest_file(path) for path in files})


def forget(folder: str | Path) -> None:
    """Forget the answers kept in a directory, whose output is written now."""
    (Path(folder) / FILE).unlink(missing_ok=True)
    if Path(folder).is_dir() and not any(Path(folder).iterdir()):
        Path(folder).rmdir()
