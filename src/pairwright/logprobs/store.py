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

from pairwright.errors import InputError, PairwrightError
from pairwright.logprobs.digest import model_digest
from pairwright.logprobs.models import Dtype, name_of
from pairwright.logprobs.segments import Keys, Writer, compact, look_up, read, unique
from pairwright.place import say, store_place, write_small

if TYPE_CHECKING:
    from pairwright.logprobs.core import Ids

CORE = 1
"""Of the computation. Raised when a fault of it is mended, so that wrong numbers are not found again."""
_ENTRY = "entry.json"
_DAY = 86_400.0
_TRIES = 3


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


class Pruned(NamedTuple):
    """What `remove` did."""

    gone: list[Entry]
    left: list[Path]
    """Folders that should go and are still there: another user's, or of a run that writes to them."""


def stored() -> list[Entry]:
    """What the store holds, the least recently used first."""
    place = shelves_place()
    try:
        folders = [path for path in place.iterdir() if path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        folders = []
    except OSError as error:
        say(f"the store {place} cannot be read ({error.strerror or error})")
        folders = []
    found = [entry for folder in folders if (entry := _entry(folder)) is not None]
    return sorted(found, key=lambda entry: (-entry.unused, entry.folder.name))


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
        PairwrightError: some of them could not be removed; the others are.
    """
    done = remove(stored(), unused=unused, model=model, everything=everything)
    if done.left:
        raise PairwrightError(unremoved(done))
    return done.gone


def remove(entries: Sequence[Entry], *, unused: float | None, model: str | None, everything: bool) -> Pruned:
    """`prune` on entries that were looked up already.

    Args:
        entries: what `stored` gave.
        unused: as of `prune`.
        model: as of `prune`.
        everything: as of `prune`.

    Raises:
        InputError: no entry is of that model, or `everything` comes with another setting.
    """
    if everything and (unused is not None or model is not None):
        raise InputError("prune: everything is to go, so a model or a number of days says nothing; leave one out")
    if model is not None and not any(_is_of(entry, model) for entry in entries):
        known = ", ".join(sorted({entry.model for entry in entries})) or "nothing"
        raise InputError(f"prune: the store has no model {model!r}; it has {known}")
    asked = everything or unused is not None or model is not None
    chosen = [
        entry
        for entry in entries
        if asked and (unused is None or entry.unused >= unused) and (model is None or _is_of(entry, model))
    ]
    folders = [entry.folder for entry in chosen]
    left = [folder for folder in folders if not _removed(folder)]
    digests = store_place() / "digests"
    if everything and not _removed(digests):
        left.append(digests)
    return Pruned([entry for entry in chosen if entry.folder not in left], left)


def unremoved(done: Pruned) -> str:
    """One sentence about what is still there."""
    names = ", ".join(map(str, done.left))
    return f"could not remove {names}; they may be another user's, or a run may be writing to them"


def _removed(folder: Path) -> bool:
    """Remove a folder; whether it is gone. A run that renames its segment meanwhile is met with another try."""
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # a place that is closed to us still holds it
            return False
    return False


def _is_of(entry: Entry, model: str) -> bool:
    return model in (entry.model, entry.place) or str(Path(model).resolve()) == entry.place


def _entry(folder: Path) -> Entry | None:
    """What a folder holds; None where it went away meanwhile. Of what a run is writing, as much as is there."""
    said: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        found = json.loads((folder / _ENTRY).read_text(encoding="utf-8"))
        said = found if isinstance(found, dict) else {}
    try:
        used = folder.stat().st_mtime
    except OSError:
        return None
    with suppress(OSError):
        used = (folder / _ENTRY).stat().st_mtime
    return Entry(
        str(said.get("name", "?")),
        str(said.get("place", "?")),
        str(said.get("dtype", "?")),
        len(unique(read(folder / "logp")).values),
        _size(folder),
        max(0.0, (time.time() - used) / _DAY),
        folder,
    )


def _size(folder: Path) -> int:
    """Bytes of the files of a folder that can be seen."""
    total = 0
    for where, _, names in os.walk(folder):  # which passes over what went away or is closed
        for name in names:
            with suppress(OSError):
                total += os.stat(os.path.join(where, name)).st_size
    return total


def _bytes(ids: "Ids") -> bytes:
    """Token ids as little-endian 32-bit numbers, whatever holds them."""
    if isinstance(ids, np.ndarray):
        return ids.astype("<i4").tobytes()
    return array("i", ids).tobytes()
