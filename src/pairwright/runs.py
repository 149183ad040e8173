"""Run directories, and files that appear whole or not at all.

A run is a directory with one directory for each step, `RUN/<nn>-<name>/`:

- `settings.json`: what the step was asked to do, written before it starts;
- its outputs;
- `done.json`: written last, with the digests of what went in and what came out.

A step directory without `done.json` is half done, whatever else it holds. So a run may be killed at any moment.

Whoever has files beside the steps keeps them: a directory is a step's when a `settings.json` or `done.json` of ours is
in it, whatever it is called, and only such directories are moved, emptied or removed.
"""

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pairwright.errors import InputError, PairwrightError

CHUNK = 1 << 20
"""Bytes read at a time when a file is digested."""

THIRD_PARTIES = (
    "numpy",
    "polars",
    "pydantic",
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "peft",
    "datasets",
)
"""Whose versions a run records, where they are installed."""

_OWN = frozenset({"settings.json", "done.json"})
_TRIES = 20
_PASSING = frozenset({"checkpoints"})
_GROWING = "probes/"
"""Where a finished step may be asked further questions later: what stands there must be there, and may have changed."""
_STEP = re.compile(r"(\d+)-(.+)")


@contextmanager
def write_beside(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well, what was written there takes its place.

    The block makes a file or a directory at the temporary path. It is on the disk (fsync) before it gets its name. An
    error removes it and leaves `path` as it was. What a killed process left beside `path` is removed.

    Args:
        path: file or directory to write; its parents are made.

    Raises:
        InputError: `path` is no name for a file, lies under a file or where nothing may be written, or a file was
            written and a directory stands at `path`.
    """
    target = Path(path)
    check_writable(target)
    _sweep(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    _remove(temporary)
    try:
        yield temporary
        _sync(temporary)
        _put(temporary, target)
        _sync_one(target.parent)
    finally:
        _remove(temporary)


def check_writable(target: Path) -> None:
    """Make the parents of `target`; what is in the way is one sentence."""
    if target.name in ("", ".."):
        raise InputError(f"{target} is no name for an output; give the path of a file or a new directory to -o")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{target.parent} cannot be made a directory ({error.strerror}); choose another -o") from error
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise InputError(f"nothing may be written into {target.parent}; choose another -o or change its permissions")


def _put(temporary: Path, target: Path) -> None:
    """Give `temporary` its name; a directory takes the place of a directory, and nothing else of one.

    Another process may put its own directory there meanwhile; then the exchange is tried again, and the last one stays.
    """
    if not temporary.is_dir():
        if target.is_dir() and not target.is_symlink():
            raise InputError(f"{target} is a directory, and a file is to be written; choose another -o or remove it")
        temporary.replace(target)
        return
    if target.is_file():
        raise InputError(f"{target} is a file, and a directory is to be written; choose another -o or remove it")
    for _ in range(_TRIES):
        try:
            if target.is_dir() and not target.is_symlink():
                _exchange(target, temporary)
            else:
                temporary.replace(target)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise
            failed = error
    raise PairwrightError(f"{target} is being written by another process ({failed.strerror}); try again")


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file whole or not at all; UTF-8, line feeds as they are."""
    with write_beside(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))
    return Path(path)


def write_json(path: str | Path, value: Any) -> Path:
    """Write a JSON file whole or not at all; a number that JSON has no word for is an error, not `NaN`."""
    return write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False, default=str) + "\n")


def digest_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex; the file is read in chunks."""
    total = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(CHUNK):
            total.update(chunk)
    return total.hexdigest()


def digests(root: str | Path, *, skip: Iterable[str] = ()) -> dict[str, str]:
    """Digest of every file under a directory, by its path relative to it, in the order of the paths.

    Args:
        root: the directory.
        skip: names directly under `root` to leave out. Hidden files (a leading dot) and Python's `__pycache__` are
            always left out: they come and go by themselves.
    """
    base, left_out = Path(root), frozenset(skip)
    found = {}
    for file in sorted(base.rglob("*"), key=lambda path: path.relative_to(base).as_posix()):
        parts = file.relative_to(base).parts
        if parts[0] in left_out or any(part.startswith(".") or part == "__pycache__" for part in parts):
            continue
        if not file.is_file():
            continue
        found["/".join(parts)] = digest_file(file)
    return found


def digest_of(files: Mapping[str, str]) -> str:
    """One SHA-256 of several files: of the lines `path NUL digest LF`, in the order of the paths."""
    lines = "".join(f"{name}\0{files[name]}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def digest(path: str | Path) -> str:
    """SHA-256 of a file, or of a directory with all that is under it."""
    target = Path(path)
    return digest_of(digests(target)) if target.is_dir() else digest_file(target)


def versions() -> dict[str, str]:
    """Versions of pairwright, Python and the libraries that decide results; none of them is imported."""
    found = {"python": platform.python_version()}
    for name in ("pairwright", *THIRD_PARTIES):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


@contextmanager
def lock(run: str | Path) -> Iterator[None]:
    """Hold a run directory, so that no second process works in it; the system frees it when the process ends.

    The lock is the kernel's, on `RUN/.lock`: a process that was killed leaves nothing to clean up. On a system
    without POSIX locks (Windows) there is none.

    Raises:
        PairwrightError: another process holds it.
    """
    root = Path(run)
    root.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (root / ".lock").open("a+") as file:
        try:
            # lockf and not flock: a child of a killed process must not keep its parent's lock.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise PairwrightError(f"{root} is being run by {holder}; wait for it, or choose another -o") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


class Asked(BaseModel):
    """What a step was asked to do: the content of `settings.json`. Equal `Asked` means equal results."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    step: str
    """The step's name in its recipe."""
    verb: str
    """What it does."""
    settings: dict[str, Any]
    """Its settings, with the defaults filled in; JSON values."""
    inputs: dict[str, str]
    """Digests of what it reads: earlier steps as `step:NAME`, files by their path."""


class Done(Asked):
    """A finished step: the content of `done.json`."""

    outputs: dict[str, str]
    """Digest of each file that it wrote, by path in the step's directory."""
    versions: dict[str, str]
    """What it ran with."""
    seconds: float
    """How long it took, from its first start in this process."""
    headline: dict[str, Any] = {}
    """A few numbers for people: rows, pairs, a loss."""

    def digest(self, part: str = "") -> str:
        """Digest of one output directory or file of the step (`data`, `model`); of all of them without a name."""
        files = {
            name: value
            for name, value in self.outputs.items()
            if not part or name == part or name.startswith(f"{part}/")
        }
        return digest_of(files)


def step_directory(run: str | Path, number: int, name: str) -> Path:
    """`RUN/<nn>-<name>`, whether it is there or not."""
    return Path(run) / f"{number:02d}-{name}"


def find_step(run: str | Path, number: int, name: str) -> Path:
    """Where a step's work is: `RUN/<nn>-<name>`, or the same name under another number if only that exists.

    So a step put into the middle of a recipe does not throw away the steps behind it.
    """
    wanted = step_directory(run, number, name)
    if wanted.exists():
        return wanted
    same = [path for path in find_steps(run) if path.name.split("-", 1)[1] == name]
    return same[0] if same else wanted


def find_steps(run: str | Path) -> list[Path]:
    """The step directories of a run, in the order of their numbers: those with a record of ours, not by their name."""
    root = Path(run)
    found = [path for path in root.iterdir() if _is_step(path)] if root.is_dir() else []
    return sorted(found, key=lambda path: (int(path.name.split("-", 1)[0]), path.name))


def check_free(directory: Path) -> None:
    """Whether a step may use a directory: it is not there, it is empty, or it is a step's.

    Raises:
        InputError: something else is there; it would have to be removed.
    """
    there = directory.exists() or directory.is_symlink()
    if there and not (_is_step(directory) or (directory.is_dir() and all(map(_is_leftover, directory.iterdir())))):
        raise InputError(
            f"{directory} is in the way of a step and was written by no run; move it away, or choose another -o"
        )


def begin(directory: Path, asked: Asked, *, resumable: bool = False) -> None:
    """Make a step's directory ready: whatever an earlier, unfinished or different attempt left there is removed.

    Args:
        directory: the step's directory.
        asked: what the step is about to do; written to `settings.json`.
        resumable: keep the files of an unfinished attempt at exactly the same thing (a training has checkpoints).

    Raises:
        InputError: what is there is no step's, and would have to be removed.
    """
    check_free(directory)
    unfinished = directory.is_dir() and not (directory / "done.json").exists()
    if not (resumable and unfinished and _read(directory / "settings.json", Asked) == asked):
        _remove_step(directory)
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "settings.json", asked.model_dump(mode="json"))


def finish(directory: Path, asked: Asked, *, seconds: float, headline: Mapping[str, Any]) -> Done:
    """Digest what a step wrote, and write its `done.json`, last of all."""
    outputs = digests(directory, skip=_OWN | _PASSING)
    for name in outputs:
        _sync_one(directory / name)
    done = Done(
        **asked.model_dump(),
        outputs=outputs,
        versions=versions(),
        seconds=round(seconds, 3),
        headline=dict(headline),
    )
    write_json(directory / "done.json", done.model_dump(mode="json"))
    return done


def finished(directory: Path, asked: Asked | None = None) -> Done | None:
    """The record of a step, if it is done, did what is asked, and its outputs are still what it wrote.

    A file that somebody put beside the outputs is no reason to do the step again.

    Args:
        directory: the step's directory.
        asked: what the step should have done; None accepts anything.
    """
    done = _read(directory / "done.json", Done)
    if not isinstance(done, Done):
        return None
    if asked is not None and Asked(**done.model_dump(include=set(Asked.model_fields))) != asked:
        return None
    return done if all(_stands(directory, name, value) for name, value in done.outputs.items()) else None


def clear(run: str | Path) -> list[Path]:
    """Remove the steps of a run, and nothing else that lies in its directory, whatever it is called.

    Raises:
        InputError: `run` is a file.
    """
    root = Path(run)
    if root.is_file():
        raise InputError(f"{root} is a file; a run needs a directory: choose another -o")
    steps = find_steps(root)
    for path in steps:
        _remove_step(path)
    return steps


def _read(path: Path, kind: type[Asked]) -> Asked | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _is_step(path: Path) -> bool:
    """Whether a directory is the work of a step: by its name, and by a record of that step in it."""
    match = _STEP.fullmatch(path.name)
    if not match or not path.is_dir():
        return False
    return any(record is not None and record.step == match.group(2) for record in _records(path))


def _records(directory: Path) -> Iterator[Asked | None]:
    yield _read(directory / "settings.json", Asked)
    yield _read(directory / "done.json", Done)


def _is_leftover(path: Path) -> bool:
    """Whether a process was killed while it wrote the first record of a step."""
    return re.fullmatch(r"\.settings\.json\.\d+\.part", path.name) is not None


def _stands(directory: Path, name: str, value: str) -> bool:
    """Whether an output is still what a step wrote."""
    path = directory / name
    return path.is_file() and (name.startswith(_GROWING) or digest_file(path) == value)


def _remove_step(directory: Path) -> None:
    """Remove a step's directory, its records last: when killed in between, it can still be told whose it is."""
    if directory.is_dir() and not directory.is_symlink():
        for path in directory.iterdir():
            if path.name not in _OWN:
                _remove(path)
        for name in ("done.json", "settings.json"):
            _remove(directory / name)
    _remove(directory)


def _exchange(target: Path, temporary: Path) -> None:
    """Put a new directory in the place of an old one; when that fails, the old one is put back."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    _remove(old)
    target.rename(old)
    try:
        temporary.rename(target)
    except OSError:
        old.rename(target)
        raise
    _remove(old)


def _sweep(target: Path) -> None:
    """Remove temporary paths of `target` whose process is gone."""
    pattern = re.compile(rf"\.{re.escape(target.name)}\.(\d+)\.(part|old)")
    for path in target.parent.iterdir():
        match = pattern.fullmatch(path.name)
        if match and not _alive(int(match.group(1))):
            if match.group(2) == "old" and not target.exists():
                path.rename(target)  # killed between the two renames of _exchange: the old one is the only one
            else:
                _remove(path)


def _alive(pid: int) -> bool:
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _sync(path: Path) -> None:
    """Ask the system to put a file, or every file of a directory, on the disk."""
    if path.is_dir():
        for file in path.rglob("*"):
            if file.is_file():
                _sync_one(file)
    _sync_one(path)


def _sync_one(path: Path) -> None:
    with suppress(OSError):  # some file systems refuse it for directories; the rename is still atomic
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
