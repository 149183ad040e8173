"""Several processes that train one model, as `accelerate launch` or torchrun start them.

They are joined when Hugging Face's `TrainingArguments` are made. Before that, and in a process that runs alone, every
process is the first one and waits for nobody.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

from pairwright.errors import need
from pairwright.logprobs.ranks import together

Result = TypeVar("Result")


def launched() -> int:
    """Processes that the launcher started, whether they are joined yet or not; 1 without a launcher."""
    said = os.environ.get("WORLD_SIZE", "1")
    return max(int(said), 1) if said.isdecimal() else 1


def by_first(work: Callable[[], Result]) -> Result:
    """What `work` gives on the first process, on all of them; an error of its is raised on all of them."""
    if not together():
        return work()
    said: list[Result | Exception | None] = [None]
    if _distributed().get_rank() == 0:
        try:
            said = [work()]
        except Exception as error:  # raised again below, here and on every other process
            said = [error]
    _distributed().broadcast_object_list(said, src=0)
    if isinstance(said[0], Exception):
        raise said[0]
    return said[0]  # type: ignore[return-value]


def part() -> None:
    """Wait for the others and leave them, in a process that has nothing more to do than to end.

    Without it a process may end while a thread of its connections still runs, which aborts it now and then.
    """
    if together():
        _distributed().barrier()
        _distributed().destroy_process_group()


def _distributed() -> Any:
    return need("torch", extra="train").distributed
