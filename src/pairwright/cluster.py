"""Work on a cluster, by Ray Data: rows go to workers, and what these make of them comes back.

The driver makes the rows and keeps what comes back, so that the workers need what their code opens and nothing else: no
data, no store, no shared disk.
"""

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pairwright.errors import InputError, PairwrightError, need

_BLOCKS = 8
"""Portions of the work for each worker, so that none waits long for the last one."""
_ERRORS: dict[str, type[PairwrightError]] = {"InputError": InputError, "PairwrightError": PairwrightError}
"""What a worker may raise that is an error of the whole, by its class's name."""

Row = Mapping[str, Any]


def each_on_cluster(
    rows: Sequence[Row],
    worker: type,
    settings: Mapping[str, Any],
    *,
    gpus: bool = True,
    most: int | None = None,
    by_workers: Callable[[int], Mapping[str, Any]] = lambda workers: MappingProxyType({}),
) -> Iterator[dict[str, Any]]:
    """What workers make of rows, as they are done, in any order.

    The cluster is the one that the process has joined; else the one of RAY_ADDRESS or of `ray start`; else one is made
    of this machine, and ended with the work. A worker for each GPU, or where there are none for each core.

    Args:
        rows: the work; each should say in a field which one it is. Values that pickle can write.
        worker: a class whose objects take a row and give a row. A worker of the cluster makes one object of it; it
            calls it in a thread of its own, not in the main one.
        settings: what the class is called with.
        gpus: whether a worker takes a GPU where there are some; one for each core where it needs none.
        most: so many workers at most.
        by_workers: further settings, by how many workers there are.

    Raises:
        MissingExtra: Ray is not installed.
        InputError: a worker raised one.
        PairwrightError: a worker failed.
    """
    with _cluster() as (ray, data):
        there = ray.cluster_resources()
        cards, cores = int(there.get("GPU", 0)) if gpus else 0, int(there.get("CPU", 1))
        workers = max(1, min(cards or cores, len(rows), most or len(rows)))
        told = {"worker": worker, "settings": {**settings, **by_workers(workers)}}
        done = data.from_items(_packed(rows), override_num_blocks=min(len(rows), _BLOCKS * workers)).map(
            _Worker,
            fn_constructor_kwargs=told,
            compute=data.ActorPoolStrategy(size=workers),
            **({"num_gpus": 1} if cards else {"num_cpus": 1}),
        )
        yield from map(_opened, done.iter_rows())


def each_by_function(rows: Sequence[Row], function: Callable[[Row], Row]) -> Iterator[dict[str, Any]]:
    """What a function makes of rows on a cluster, as they are done, in any order.

    As `each_on_cluster`, for work that opens nothing large. The function is called in the main thread of a process, so
    that it may set the alarm.

    Args:
        rows: the work; each should say in a field which one it is. Values that pickle can write.
        function: of a module that the workers have too.

    Raises:
        MissingExtra: Ray is not installed.
        InputError: the function raised one.
        PairwrightError: it failed otherwise.
    """
    with _cluster() as (ray, data):
        cores = int(ray.cluster_resources().get("CPU", 1))
        blocks = max(1, min(len(rows), _BLOCKS * cores))
        done = data.from_items(_packed(rows), override_num_blocks=blocks).map(_made, fn_args=(function,))
        yield from map(_opened, done.iter_rows())


def found_elsewhere(model: str | Path) -> str:
    """The name under which a worker, which runs in another directory, finds a model."""
    return str(Path(model).resolve()) if Path(model).is_dir() else str(model)


@contextmanager
def _cluster() -> Iterator[tuple[Any, Any]]:
    """Ray and its data library, joined to a cluster and quiet."""
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
        yield ray, data
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
        said = lines[-1] if lines else type(error).__name__
        raise PairwrightError(f"a worker of the cluster failed: {said}") from error
    finally:
        context.enable_progress_bars = bars
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if not joined:
            ray.shutdown()


class _Worker:
    """A worker's object, made with its first row: Ray would start a worker that fails before again and again."""

    def __init__(self, worker: type, settings: Mapping[str, Any]) -> None:
        self._worker, self._settings = worker, settings
        self._object: Any = None

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        return _made(row, self._one)

    def _one(self, row: Row) -> Row:
        if self._object is None:
            self._object = self._worker(**self._settings)
        made: Row = self._object(row)
        return made


def _made(row: dict[str, bytes], function: Callable[[Row], Row]) -> dict[str, bytes]:
    """A row's result, or the error, which Ray would bury under its own."""
    try:
        made: tuple[str, Any] = "", dict(function(pickle.loads(row["packed"])))
    except PairwrightError as error:
        made = type(error).__name__, str(error)
    except Exception as error:
        made = "other", f"{type(error).__name__}: {' '.join(str(error).split())}"
    return {"packed": pickle.dumps(made)}


def _packed(rows: Sequence[Row]) -> list[dict[str, bytes]]:
    return [{"packed": pickle.dumps(dict(row))} for row in rows]


def _opened(row: Mapping[str, bytes]) -> dict[str, Any]:
    """A worker's result.

    Raises:
        PairwrightError: it is an error, of the worker's kind.
    """
    kind, made = pickle.loads(row["packed"])
    if kind in _ERRORS:
        raise _ERRORS[kind](made)
    if kind:
        raise PairwrightError(f"a worker of the cluster failed: {made}")
    found: dict[str, Any] = made
    return found
