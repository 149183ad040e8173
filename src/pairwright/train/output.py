"""What a training finds in its output directory, and how its checkpoints come and go.

Before anything else a training writes `checkpoints/pairwright.json`, which says whose the directory is. What stands
there without it (a `model/`, checkpoints of another program) is somebody else's and is never touched. A checkpoint
counts while its own `pairwright.json` is there, which comes last and goes first, and every file it names is whole.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pairwright.errors import InputError
from pairwright.runs import write_json

MARK = "pairwright.json"
"""In `checkpoints/`: the digests of the run that works here and of its probes, and sums of its reference. In a
checkpoint, its last file: the run, the step, the metrics that were not logged yet, and the size of every file."""

_LEAVING = ".checkpoints.leaving"
_WRITTEN = ("model", "adapter", "base", "probes", "metrics.jsonl")
_CLOSE = 1e-3
"""Nats that a sum of reference log-probabilities (`Examples.reference_sums`) may lie apart and still be of one
reference. In float32 an answer's number moves by some 1e-5 to 1e-4 nats between machines and batches, and such a sum by
as much: this is ten times that. It is passed by one number of 20,000 that moves by 0.14 nats."""
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


class Found(NamedTuple):
    """What stands in an output directory.

    Attributes:
        finished: whether this very training ended here.
        checkpoint: its newest whole checkpoint; None to begin at the beginning.
    """

    finished: bool
    checkpoint: Path | None


def look(output: Path, mark: str, sums: Sequence[float] = (), *, probes: str = "") -> Found:
    """See whether a run is finished, half done or not begun; half-written checkpoints of ours are removed.

    Args:
        output: directory of the run.
        mark: digest of all that decides its weights but the numbers of reference columns.
        sums: of the reference columns (`Examples.reference_sums`); empty without.
        probes: digest of what is probed while it trains; empty where nothing is, and then probes that stand there do
            not matter.

    Raises:
        InputError: `output` is a file, or holds another training's results or anything that is none of ours.
    """
    ground = next(path for path in (output, *output.absolute().parents) if path.exists())
    if not ground.is_dir():
        raise InputError(f"{ground} is a file; a training needs a directory: choose another output")
    shutil.rmtree(output / _LEAVING, ignore_errors=True)
    record = output / "training.json"
    if record.exists():
        said = _said(record)
        if said.get("run") != mark or not _close(said, sums):
            raise InputError(
                f"{output} holds a finished training with other data or settings; choose another output or remove it"
            )
        _check_probes(output, said, probes)
        if (output / "model" / "config.json").is_file() and (output / "metrics.jsonl").is_file():
            return Found(True, None)
    elif not (claimed := output / "checkpoints" / MARK).is_file():
        _refuse_foreign(output)
    elif _said(claimed).get("run") == mark and not _close(_said(claimed), sums):
        raise InputError(
            f"{output} holds a training with other reference log-probabilities; choose another output, or remove it "
            "to start over"
        )
    checkpoint = _last_checkpoint(output / "checkpoints", mark)
    if checkpoint is not None:
        _check_probes(output, _said(output / "checkpoints" / MARK), probes)
    return Found(False, checkpoint)


def claim(output: Path, mark: str, sums: Sequence[float] = (), *, anew: bool, probes: str = "") -> None:
    """Say whose the directory is, after `look` let it pass.

    Args:
        output: directory of the run.
        mark: digest of all that decides its weights.
        sums: of the reference columns (`Examples.reference_sums`); empty without.
        anew: whether the run begins at the beginning; what a run without checkpoints left there is then removed.
        probes: digest of what is probed while it trains; empty where nothing is.
    """
    if anew:
        for name in ("training.json", *_WRITTEN):
            path = output / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    write_json(output / "checkpoints" / MARK, {"run": mark, "reference_sums": list(sums), "probes": probes})


def seal(checkpoint: Path, *, mark: str, step: int, sums: Mapping[str, float]) -> None:
    """Write the last file of a checkpoint: from here on it counts."""
    files = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in _files(checkpoint)}
    write_json(checkpoint / MARK, {"run": mark, "step": step, "sums": dict(sums), "files": files})


def rotate(folder: Path, keep: int | None) -> None:
    """Remove all but the newest `keep` checkpoints; None or 0 keeps all."""
    steps = sorted((int(match.group(1)), path) for path, match in _checkpoints(folder)) if keep else []
    for _, path in steps[: -(keep or 0)]:
        _remove(path)


def remove_checkpoints(output: Path) -> None:
    """Take the checkpoints of a finished run away: out of sight in one stroke, then file by file."""
    folder, leaving = output / "checkpoints", output / _LEAVING
    with suppress(OSError):  # of several processes one is first
        folder.rename(leaving)
    shutil.rmtree(leaving, ignore_errors=True)


def _last_checkpoint(folder: Path, mark: str) -> Path | None:
    """The newest whole checkpoint of this run.

    Raises:
        InputError: there is a whole one of another run.
    """
    whole: dict[int, Path] = {}
    for path, match in _checkpoints(folder):
        said = _said(path / MARK)
        if not _is_whole(path, said):
            _remove(path)
            continue
        if said["run"] != mark:
            raise InputError(
                f"{folder} holds checkpoints of a run with other data or settings; "
                "choose another output, or remove that directory to start over"
            )
        whole[int(match.group(1))] = path
    return whole[max(whole)] if whole else None


def _refuse_foreign(output: Path) -> None:
    """Refuse what bears a name that a training writes, though no training claimed the directory."""
    for name in ("checkpoints", *_WRITTEN):
        path = output / name
        # A hidden file is a claim that another process of this run is just writing.
        if path.is_file() or (path.is_dir() and any(not inside.name.startswith(".") for inside in path.iterdir())):
            raise InputError(f"{path} is there and is of no pairwright training; choose another output or move it away")


def _check_probes(output: Path, said: Mapping[str, Any], probes: str) -> None:
    """Refuse a training that was not probed as is asked for now: steps that are past are not probed again."""
    if probes and said.get("probes", "") != probes:
        raise InputError(
            f"{output} holds this training with other probes or none; choose another output, or leave probe_every out "
            "and probe its checkpoints (`pairwright diagnose --data`)"
        )


def _close(said: Mapping[str, Any], sums: Sequence[float]) -> bool:
    """Whether recorded sums of the reference columns are these, but for what rounding does."""
    recorded = said.get("reference_sums") or []
    return len(recorded) == len(sums) and all(
        abs(one - other) <= _CLOSE for one, other in zip(recorded, sums, strict=True)
    )


def _is_whole(checkpoint: Path, said: Mapping[str, Any]) -> bool:
    if not {"run", "step", "sums", "files"} <= set(said):
        return False
    there = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in _files(checkpoint)}
    return "trainer_state.json" in there and all(there.get(name) == size for name, size in said["files"].items())


def _checkpoints(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    if not folder.is_dir():
        return []
    found = [(path, _CHECKPOINT.fullmatch(path.name)) for path in folder.iterdir() if path.is_dir()]
    return [(path, match) for path, match in found if match]


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MARK]


def _remove(checkpoint: Path) -> None:
    """The mark goes first, so that a kill in between leaves nothing that looks whole."""
    (checkpoint / MARK).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)


def _said(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds; empty where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
