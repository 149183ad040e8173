"""Several processes that share one job (`accelerate launch`, torchrun): who takes which batch, and how all get all."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairwright.errors import PairwrightError, need

_PATIENCE = timedelta(days=7)
"""How long one process waits for the others; their shares may take very different times."""


class Ranks(NamedTuple):
    """This process among those that share a job.

    Attributes:
        rank: its number, 0 to size - 1.
        size: how many there are.
        group: what they talk through: numbers on the CPU, whatever the training uses; None when there is but one.
    """

    rank: int = 0
    size: int = 1
    group: Any = None

    def same(self, content: bytes) -> bool:
        """Whether all were given the same; all must ask."""
        if self.size == 1:
            return True
        torch: Any = need("torch", extra="train")
        mine = torch.frombuffer(bytearray(hashlib.sha256(content).digest()), dtype=torch.uint8)
        found = [torch.empty_like(mine) for _ in range(self.size)]
        _together(lambda dist: dist.all_gather(found, mine, group=self.group))
        return all(bool((each == mine).all()) for each in found)

    def added(self, values: NDArray[Any]) -> NDArray[Any]:
        """The sum of all processes' arrays, which must be of one shape; all wait for it."""
        if self.size == 1:
            return values
        torch: Any = need("torch", extra="train")
        tensor = torch.from_numpy(np.ascontiguousarray(values).copy())
        _together(lambda dist: dist.all_reduce(tensor, group=self.group))
        return np.asarray(tensor.numpy())


def together() -> bool:
    """Whether this process is joined with others."""
    distributed: Any = need("torch", extra="train").distributed
    return bool(distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1)


@contextmanager
def ranks() -> Iterator[Ranks]:
    """The processes of this job. All of them must come here, and do the same with what they get."""
    torch: Any = need("torch", extra="train")
    dist = torch.distributed
    started = dist.is_available() and dist.is_initialized()
    if not started and int(os.environ.get("WORLD_SIZE") or 1) > 1:
        need("accelerate", extra="train").PartialState()  # as the trainer does it, so that both can be in one process
        started = True
    if not started or dist.get_world_size() == 1:
        yield Ranks()
        return
    group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), group)
    finally:
        dist.destroy_process_group(group)


def is_first() -> bool:
    """Whether this process is the one that writes what all have made."""
    return int(os.environ.get("WORLD_SIZE") or 1) == 1 or int(os.environ.get("RANK") or 0) == 0


def _together(speak: Callable[[Any], Any]) -> None:
    torch: Any = need("torch", extra="train")
    try:
        speak(torch.distributed)
    except RuntimeError as error:  # a closed connection
        raise PairwrightError(
            "another process of this job stopped; what was computed is in the store: start the job again"
        ) from error
