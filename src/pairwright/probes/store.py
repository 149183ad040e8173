"""The files of probes: their columns, how they are written, how they are read again."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from pairwright.errors import InputError
from pairwright.goals import GoalFormat
from pairwright.preferences import Preferences
from pairwright.runs import write_beside, write_json

FOLDER, ABOUT = "probes", "probes.json"
STEP_FILE = re.compile(r"(\d{6,})(-samples)?\.parquet")
"""The file of a step's probe, or of its samples."""

_SPREAD = {
    "entropy": pl.Float64,
    "top_entropy": pl.Float64,
    "raw_top_entropy": pl.Float64,
    "top_mass": pl.Float64,
}
PROBE: Mapping[str, Any] = {
    "pair": pl.UInt32,
    "prompt_id": pl.String,
    "response_id": pl.UInt32,
    "side": pl.String,
    "score": pl.Float64,
    "asked": pl.String,
    "logp": pl.Float64,
    "length": pl.UInt32,
    "start_logp": pl.Float64,
    **_SPREAD,
}
SAMPLE: Mapping[str, Any] = {
    "prompt_id": pl.String,
    "sample": pl.UInt32,
    "asked": pl.String,
    "goal": pl.Float64,
    "text": pl.String,
    "score": pl.Float64,
    "logp": pl.Float64,
    "start_logp": pl.Float64,
    "length": pl.UInt32,
    "kl": pl.Float64,
    **_SPREAD,
    "stopped": pl.String,
}
CREDIT: Mapping[str, Any] = {
    "pair": pl.UInt32,
    "side": pl.String,
    "asked": pl.String,
    "tokens": pl.List(pl.String),
    "credit": pl.List(pl.Float64),
}


class About(BaseModel):
    """How a training was probed: `probes.json`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    made_by: str = "pairwright probes"
    pairs: int
    """Held-out pairs."""
    split: str
    every: int | None = None
    """Optimiser steps between two probes; None where checkpoints were probed afterwards."""
    top: int = 10
    """Most likely tokens that `top_entropy`, `raw_top_entropy` and `top_mass` are of; min(top, vocabulary)."""
    vocabulary: int
    beta: float | None = None
    """What the loss multiplies an answer's log-ratio with to get its implicit reward; None where it does not."""
    loss: str | None = None
    goal: GoalFormat | None = None
    """How the model is asked for scores; None where it was not trained to be."""
    start: str
    """The model that training started from."""
    dropped: dict[str, int] = {}
    """Held-out pairs that cannot be probed, by reason."""
    notes: tuple[str, ...] = ()
    samples: dict[str, Any] = {}
    """How the model's own answers were drawn and scored, if they were: `n`, `max_new_tokens` (of an answer), `seed`,
    `temperature`, `top_p`, `scorer`."""
    run: str | None = None
    """Digest of the training (`run` of its `training.json`), where it was probed afterwards."""


@dataclass(frozen=True)
class Probes:
    """Everything that was probed of one training.

    Attributes:
        about: how.
        steps: optimiser steps at which it was, rising.
        rows: `PROBE` and `step`, in the order of steps, pairs, sides.
        samples: `SAMPLE` and `step`; empty where the model was not asked to write.
        credit: `CREDIT`; empty where there is none.
    """

    about: About
    steps: tuple[int, ...]
    rows: pl.DataFrame
    samples: pl.DataFrame
    credit: pl.DataFrame


def write_about(training: Path, about: About) -> None:
    """Write `probes.json` of a training's directory."""
    write_json(training / FOLDER / ABOUT, about.model_dump(mode="json"))


def write_probe(training: Path, step: int, rows: pl.DataFrame) -> None:
    """Write the probe of one step: columns `PROBE`, checked."""
    _write(training / FOLDER / f"{step:06d}.parquet", rows, PROBE)


def write_samples(training: Path, step: int, samples: pl.DataFrame) -> None:
    """Write the model's own answers at one step: columns `SAMPLE`, checked."""
    _write(training / FOLDER / f"{step:06d}-samples.parquet", samples, SAMPLE)


def write_credit(training: Path, credit: pl.DataFrame) -> None:
    """Write the log-ratios of tokens: columns `CREDIT`, checked."""
    _write(training / FOLDER / "credit.parquet", credit, CREDIT)


def check_folder(training: Path) -> None:
    """Refuse a directory whose folder of probes holds something else.

    Ours has `probes.json` from its first moment to its last. A hidden file is one that a killed process was writing.

    Raises:
        InputError: it does.
    """
    folder = training / FOLDER
    if (folder / ABOUT).is_file() or not folder.exists():
        return
    if folder.is_file() or any(not path.name.startswith(".") for path in folder.iterdir()):
        raise InputError(f"{folder} is there and holds no probes; choose another output or move it away")


def begin(training: Path, about: About, data: Preferences) -> None:
    """Make the folder of probes anew, after `check_folder` let it pass: its record, its pairs and nothing else.

    The record comes first, so that what a kill leaves is known as ours.
    """
    folder = training / FOLDER
    write_about(training, about)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != ABOUT:
            path.unlink()
    data.save(folder / "data")


def load_about(training: Path) -> About | None:
    """How the training in a directory was probed; None where it was not.

    Raises:
        InputError: the file that says it is damaged.
    """
    path = training / FOLDER / ABOUT
    if not path.is_file():
        return None
    try:
        return About.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise _damaged(path) from error


def load_probes(training: Path) -> Probes | None:
    """What was probed of the training in a directory; None where nothing was.

    Raises:
        InputError: a file of it is damaged.
    """
    folder = training / FOLDER
    about = load_about(training)
    if about is None:
        return None
    probed, written = (step_files(training, samples=samples) for samples in (False, True))
    credit = folder / "credit.parquet"
    return Probes(
        about=about,
        steps=tuple(sorted(probed)),
        rows=_read(probed, PROBE),
        samples=_read(written, SAMPLE),
        credit=_read({0: credit} if credit.is_file() else {}, CREDIT).drop("step"),
    )


def step_files(training: Path, *, samples: bool) -> dict[int, Path]:
    """The files of a training's probes by step, or those of its samples; files of other names are not looked at."""
    found = [(path, STEP_FILE.fullmatch(path.name)) for path in sorted((training / FOLDER).glob("*.parquet"))]
    return {int(name[1]): path for path, name in found if name and bool(name[2]) == samples}


def is_whole(path: Path, columns: Mapping[str, Any]) -> bool:
    """Whether a file is there and can be read: `PROBE`, `SAMPLE` or `CREDIT`."""
    try:
        _read({0: path}, columns)
    except InputError:
        return False
    return True


def _damaged(path: Path) -> InputError:
    return InputError(
        f"{path} is damaged; probe the training again (`pairwright diagnose {path.parent.parent} --data IN`)"
    )


def _write(path: Path, frame: pl.DataFrame, columns: Mapping[str, Any]) -> None:
    checked = frame.select(pl.col(name).cast(dtype) for name, dtype in columns.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_beside(path) as temporary:
        checked.write_parquet(temporary)


def _read(paths: Mapping[int, Path], columns: Mapping[str, Any]) -> pl.DataFrame:
    frames = [pl.DataFrame(schema={"step": pl.Int64, **columns})]
    for step, path in sorted(paths.items()):
        try:
            frame = pl.read_parquet(path).select(pl.col(name).cast(dtype) for name, dtype in columns.items())
        except (OSError, pl.exceptions.PolarsError) as error:
            raise _damaged(path) from error
        frames.append(frame.select(pl.lit(step, pl.Int64).alias("step"), pl.all()))
    return pl.concat(frames)
