"""The store: what models said of answers, kept on disk under its content and shared by every step and every run.

    PLACE/logprobs/<shelf>/entry.json     which model and precision; its time of change is when it was last used
    PLACE/logprobs/<shelf>/logp/*.seg     16-byte keys and values (`segments.py`)
    PLACE/digests/                        digests of weights' files, by path, size and time

A shelf is one model, by the content of its weights and adapters, in one precision. A key is an answer: the prompt's
tokens, and the tokens that are summed over. So the same text under another name, in another order or another run finds
its number, and a changed model finds none. Layout, batch size and machine do not count: they move the last bits alone.
"""

import hashlib
import json
import os
import shutil
import time
from array import array
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pairwright.errors import InputError
from pairwright.logprobs.digest import model_digest
from pairwright.logprobs.models import Dtype, name_of
from pairwright.logprobs.place import store_place, write_small
from pairwright.logprobs.segments import Keys, Records, Writer, compact, look_up, read, unique

if TYPE_CHECKING:
    from pairwright.logprobs.core import Ids

CORE = 1
"""Of the computation. Raised when a fault of it is mended, so that wrong numbers are not found again."""
_ENTRY = "entry.json"
_DAY = 86_400.0


class Shelf:
    """The stored log-probabilities of one model in one precision.

    Args:
        model: a `save_pretrained` directory, a hub name, or the directory of a PEFT adapter.
        dtype: precision of its weights.

    Raises:
        InputError: there is no such model.
    """

    def __init__(self, model: str | Path, dtype: Dtype) -> None:
        scope = {"model": model_digest(model), "dtype": dtype, "core": CORE}
        name = hashlib.sha256(json.dumps(scope, sort_keys=True).encode()).hexdigest()[:32]
        self.folder = shelves_place() / name
        place = str(Path(model).resolve()) if Path(model).is_dir() else str(model)
        self._says = scope | {"name": name_of(model), "place": place}
        self._damaged: list[Path] = []

    def known(self, keys: Keys) -> NDArray[np.float64]:
        """The values of keys [n, 2], which are in order; NaN where the store has none. [n]"""
        found = read(self.folder / "logp", damaged=self._damaged)
        if not len(found.values) or not len(keys):
            return np.full(len(keys), np.nan)
        with suppress(OSError):
            os.utime(self.folder / _ENTRY)
        return look_up(found, keys)

    def writer(self) -> Writer:
        """A writer for this shelf; the shelf says what it is from then on."""
        there = False
        with suppress(OSError):  # a folder that is closed to us; the writer says so
            there = (self.folder / _ENTRY).is_file()
        if not there:
            write_small(self.folder / _ENTRY, json.dumps(self._says))
        return Writer(self.folder / "logp")

    def tidy(self) -> None:
        """Merge small segments where there are many, and those that `known` found damaged."""
        compact(self.folder / "logp", damaged=self._damaged)


def answer_keys(prompts: "Sequence[Ids]", answers: "Sequence[Ids]", owner: Sequence[int]) -> Keys:
    """The key of each answer, [N, 2]: BLAKE2b-128 of the prompt's length, the prompt's tokens and the answer's."""
    heads = []
    for prompt in prompts:
        head = hashlib.blake2b(len(prompt).to_bytes(8, "little"), digest_size=16)
        head.update(_bytes(prompt))
        heads.append(head)
    found = bytearray()
    for i, answer in enumerate(answers):
        whole = heads[owner[i]].copy()
        whole.update(_bytes(answer))
        found += whole.digest()
    return np.frombuffer(bytes(found), "<u8").reshape(-1, 2)


def shelves_place() -> Path:
    """Where the shelves are."""
    return store_place() / "logprobs"


class Entry(NamedTuple):
    """A shelf, as `pairwright logprobs --prune` shows it."""

    model: str
    """Its name: the last part of its path or hub name."""
    place: str
    """Where it was when it was first used."""
    dtype: str
    answers: int
    bytes: int
    unused: float
    """Days since it was last read or written."""
    folder: Path


def stored() -> list[Entry]:
    """What the store holds, the least recently used first."""
    place = shelves_place()
    folders = [path for path in place.iterdir() if path.is_dir()] if place.is_dir() else []
    return sorted((_entry(folder) for folder in folders), key=lambda entry: (-entry.unused, entry.folder.name))


def prune(
    *,
    unused: Annotated[float, Field(ge=0)] | None = None,
    model: str | None = None,
    everything: bool = False,
) -> list[Entry]:
    """Remove entries of the store, and give those that were removed; without a setting nothing is.

    Nothing is lost but time: what is needed again is computed again.

    Args:
        unused: those that were not used for so many days.
        model: those of a model, by its name, its path, or its name of the hub; with `unused`, both must hold.
        everything: all of them, and the digests of files.

    Raises:
        InputError: no entry is of that model, or `everything` comes with another setting.
    """
    if everything and (unused is not None or model is not None):
        raise InputError("prune: everything is to go, so a model or a number of days says nothing; leave one out")
    there = stored()
    if model is not None and not any(_is_of(entry, model) for entry in there):
        known = ", ".join(sorted({entry.model for entry in there})) or "nothing"
        raise InputError(f"prune: the store has no model {model!r}; it has {known}")
    asked = everything or unused is not None or model is not None
    gone = [
        entry
        for entry in there
        if asked and (unused is None or entry.unused >= unused) and (model is None or _is_of(entry, model))
    ]
    for entry in gone:
        shutil.rmtree(entry.folder, ignore_errors=True)
    if everything:
        shutil.rmtree(store_place() / "digests", ignore_errors=True)
    return gone


def _is_of(entry: Entry, model: str) -> bool:
    return model in (entry.model, entry.place) or str(Path(model).resolve()) == entry.place


def _entry(folder: Path) -> Entry:
    try:
        said: dict[str, Any] = json.loads((folder / _ENTRY).read_text(encoding="utf-8"))
        used = (folder / _ENTRY).stat().st_mtime
    except (OSError, ValueError):
        said, used = {}, folder.stat().st_mtime
    files = [path for path in folder.rglob("*") if path.is_file()]
    records: Records = read(folder / "logp")
    answers = len(unique(records).values)
    return Entry(
        str(said.get("name", "?")),
        str(said.get("place", "?")),
        str(said.get("dtype", "?")),
        answers,
        sum(path.stat().st_size for path in files),
        max(0.0, (time.time() - used) / _DAY),
        folder,
    )


def _bytes(ids: "Ids") -> bytes:
    """Token ids as little-endian 32-bit numbers, whatever holds them."""
    if isinstance(ids, np.ndarray):
        return ids.astype("<i4").tobytes()
    return array("i", ids).tobytes()
