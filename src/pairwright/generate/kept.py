"""Answers that are done, kept in a file beside the output while a job runs, so that a killed job draws none twice."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pairwright.generate.request import Drawn, Part, Request
from pairwright.kept import KeptLines, forget_lines, read_parts
from pairwright.logprobs.digest import model_digest
from pairwright.runs import digest_file, digest_of

FILE = "answers.jsonl"
"""Its name, in the directory that is given for it."""


class Kept(KeptLines):
    """A file with a line for each part of a job that is done; a context manager.

    Args:
        folder: the directory of the file; made when first needed.
        key: of the job (`key_of`).

    Raises:
        InputError: what is there cannot be read, or (by `put`) nothing can be written there.
    """

    def __init__(self, folder: str | Path, key: str) -> None:
        super().__init__(Path(folder) / FILE, key, what="answers")
        self.drawn: dict[int, Drawn] = {place: drawn for part in read_parts(self, _read) for place, drawn in part}
        """The answers of this job that an earlier attempt drew, by the number of their request."""

    def put(self, part: Part) -> None:
        """Keep a part; when this returns, it outlives the process."""
        if part:
            super().put([[place, *drawn] for place, drawn in part])


def _read(part: Any) -> list[tuple[int, Drawn]]:
    return [(int(place), Drawn(*rest)) for place, *rest in part]


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
    forget_lines(folder, FILE)
