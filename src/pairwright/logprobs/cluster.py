"""The same batches on a cluster, by Ray Data: each worker opens the model once and computes batch after batch.

The driver makes the batches and stores what comes back, so that the workers need the model and nothing else: no data,
no store, no shared disk.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairwright.errors import PairwrightError, need
from pairwright.logprobs.models import Dtype
from pairwright.logprobs.opened import OpenedModel, Part

_BLOCKS = 8
"""Portions of the work for each worker, so that none waits long for the last one."""


def on_cluster(parts: Sequence[Part], *, model: str | Path, dtype: Dtype) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Batches by their number with their values, as they are done.

    Args:
        parts: the batches.
        model: as in `OpenedModel`; the workers must find it under this name.
        dtype: precision of its weights.

    Raises:
        MissingExtra: Ray is not installed.
        PairwrightError: a worker failed.
    """
    rows = [_row(i, part) for i, part in enumerate(parts)]
    for row in each_on_cluster(rows, _Worker, {"model": found_elsewhere(model), "dtype": dtype}):
        yield int(row["number"]), np.asarray(row["logp"], dtype=np.float64)


def each_on_cluster(
    rows: Sequence[dict[str, Any]], worker: type, settings: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """What workers make of rows, as they are done, in any order.

    The cluster is the one that the process has joined; else the one of RAY_ADDRESS or of `ray start`; else one is made
    of this machine, and ended with the work. A worker for each GPU, or where there are none for each core.

    Args:
        rows: the work, plain values; each should say in a field which one it is.
        worker: a class whose objects take a row and give a row. A worker of the cluster makes one object of it.
        settings: what the class is called with.

    Raises:
        MissingExtra: Ray is not installed.
        PairwrightError: a worker failed.
    """
    ray: Any = need("ray", extra="ray")
    data: Any = need("ray.data", extra="ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what fails comes as an error of the worker
    levels = {name: logging.getLogger(name).level for name in ("ray", "ray.data")}
    for name in levels:  # its plans and its pools are no business of whoever reads our output
        logging.getLogger(name).setLevel(logging.ERROR)
    joined = ray.is_initialized()
    if not joined:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    context = data.DataContext.get_current()
    bars, context.enable_progress_bars = context.enable_progress_bars, False
    try:
        there = ray.cluster_resources()
        gpus, cores = int(there.get("GPU", 0)), int(there.get("CPU", 1))
        workers = max(1, min(gpus or cores, len(rows)))
        found = data.from_items(list(rows), override_num_blocks=min(len(rows), _BLOCKS * workers)).map(
            worker,
            fn_constructor_kwargs=dict(settings),
            compute=data.ActorPoolStrategy(size=workers),
            **({"num_gpus": 1} if gpus else {"num_cpus": 1}),
        )
        yield from found.iter_rows()
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
        raise PairwrightError(
            f"a worker of the cluster failed: {lines[-1] if lines else type(error).__name__}"
        ) from error
    finally:
        context.enable_progress_bars = bars
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if not joined:
            ray.shutdown()


def found_elsewhere(model: str | Path) -> str:
    """The name under which a worker, which runs in another directory, finds a model."""
    return str(Path(model).resolve()) if Path(model).is_dir() else str(model)


class _Worker:
    """The batch function in a process of the cluster."""

    def __init__(self, model: str, dtype: Dtype) -> None:
        self._opened = OpenedModel(model, dtype)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        part = Part(
            _cut(row["prompts"], row["prompt_lengths"]),
            _cut(row["answers"], row["answer_lengths"]),
            np.asarray(row["owner"]).tolist(),
        )
        return {"number": row["number"], "logp": self._opened.logps(part).tolist()}


def _row(number: int, part: Part) -> dict[str, Any]:
    """A batch as a row of flat lists."""
    return {
        "number": number,
        "prompts": [int(token) for ids in part.prompts for token in ids],
        "prompt_lengths": [len(ids) for ids in part.prompts],
        "answers": [int(token) for ids in part.answers for token in ids],
        "answer_lengths": [len(ids) for ids in part.answers],
        "owner": [int(prompt) for prompt in part.owner],
    }


def _cut(flat: Any, lengths: Any) -> list[NDArray[np.int64]]:
    return np.split(np.asarray(flat, dtype=np.int64), np.cumsum(np.asarray(lengths))[:-1])
