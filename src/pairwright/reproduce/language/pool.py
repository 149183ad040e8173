"""Jobs in processes of their own, one for each core, and what they found in the store: nothing is trained twice."""

import gc
import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from pairwright.errors import PairwrightError, need
from pairwright.place import store_place, write_small
from pairwright.progress import Ticker
from pairwright.reproduce.language.setting import Base, Call, Job
from pairwright.runs import digest_file, digest_of, digests

_ROOMS = ("logprobs", "losses", "metrics", "relabel", "scorers", "train")
_FILES = ("chat.py", "cuts.py", "draws.py", "goals.py", "pairing.py", "plug.py", "preferences.py", "select.py")
_WORLD = ("judges.py", "language.py", "lists.py")
_OWN = ("arms.py", "bases.py", "data.py", "job.py", "setting.py", "training.py")
"""The code that every training depends on; besides it, the modules that a job names."""

Work = TypeVar("Work", Job, Call)


def run_jobs(jobs: Iterable[Work], *, label: str) -> dict[Work, dict[str, Any]]:
    """What each job finds; from the store where it is there, else computed, on all cores.

    The numbers of a job depend on nothing but the job: each has one core, whatever else is under way.

    Args:
        jobs: equal ones are done once.
        label: for the progress line.
    """
    found: dict[Work, dict[str, Any]] = {}
    missing = []
    for job in dict.fromkeys(jobs):
        kept = _kept(_file(job))
        if kept is None:
            missing.append(job)
        else:
            found[job] = kept
    if missing:
        need("torch", extra="train")
        ticker = Ticker(label, len(missing), "trainings")
        make_bases({base for job in missing for base in _bases(job)})
        futures = {_pool().submit(_one, job): job for job in missing}
        try:
            for future in as_completed(futures):
                job = futures[future]
                found[job] = future.result()
                write_small(_file(job), json.dumps(found[job]))
                ticker.add(1)
        except BaseException:
            # Nobody would keep what the others find, and the process would not end before they do.
            for future in futures:
                future.cancel()
            raise
    return found


def cores() -> int:
    """How many processes work at a time."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, 16)


@cache
def _pool() -> ProcessPoolExecutor:
    """Started anew, and not forked: a fork of a process that has used torch's threads can hang."""
    return ProcessPoolExecutor(cores(), mp_context=multiprocessing.get_context("spawn"), initializer=_alone)


def _alone() -> None:
    import torch

    from pairwright.reproduce.language.quiet import hush

    torch.set_num_threads(1)
    hush()
    import_module("pairwright.reproduce.language.job")  # and with it all that a training imports
    # A trainer collects garbage when it begins, and what is imported stays: to walk through it each time takes longer
    # than ten steps of a training.
    gc.freeze()


def _one(job: Job | Call) -> dict[str, Any]:
    from pairwright.reproduce.language.job import done, named

    found: dict[str, Any] = done(job) if isinstance(job, Job) else named(job.function)(**dict(job.settings))
    return found


def _bases(job: Job | Call) -> tuple[Base, ...]:
    return (job.world.base,) if isinstance(job, Job) else job.bases


def make_bases(bases: Iterable[Base]) -> None:
    """Make base models that are not there yet, several at a time."""
    wanted = sorted(set(bases), key=repr)
    ticker = Ticker("base models", len(wanted), "models")
    futures = [_pool().submit(_base, base) for base in wanted]
    try:
        for future in as_completed(futures):
            future.result()
            ticker.add(1)
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def _base(base: Base) -> None:
    from pairwright.reproduce.language.bases import base_place

    base_place(base)


def _file(job: Job | Call) -> Path:
    key = hashlib.sha256(f"{job!r} {_code(_plugs(job))}".encode()).hexdigest()
    return store_place() / "reproduce" / "jobs" / key[:2] / f"{key}.json"


def _plugs(job: Job | Call) -> tuple[str, ...]:
    """The modules that a job names."""
    if isinstance(job, Call):
        return (job.function.partition(":")[0],)
    named = [*job.measures, *([] if job.arm is None else [job.arm.data])]
    return tuple(sorted({name.partition(":")[0] for name in named}))


@cache
def _code(modules: Sequence[str]) -> str:
    """Digest of all code that decides what a job finds."""
    package = Path(__file__).parents[2]
    files = {f"{room}/{name}": digest for room in _ROOMS for name, digest in digests(package / room).items()}
    own = [package / name for name in _FILES]
    own += [package / "worlds" / name for name in _WORLD]
    own += [package / "reproduce" / "language" / name for name in _OWN]
    for module in modules:
        spec = find_spec(module)
        if spec is None or spec.origin is None:
            raise PairwrightError(f"there is no module {module}")
        own.append(Path(spec.origin))
    torch: Any = need("torch", extra="train")
    files |= {f"{path.parent.name}/{path.name}": digest_file(path) for path in own if path.is_file()}
    versions = [torch.__version__, *(version(name) for name in ("polars", "tokenizers", "transformers"))]
    return f"{digest_of(files)} {' '.join(versions)}"


def _kept(file: Path) -> dict[str, Any] | None:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) else None
