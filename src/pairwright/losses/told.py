"""A loss made of other losses. It says what it asks and takes, as a function does with `@uses` and its annotation."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pairwright.losses.types import Asks, Loss, Record


@dataclass(frozen=True)
class Told:
    """A callable of one record that `asks`, `needs` and `takes` can read.

    Attributes:
        call: from a record to its result.
        asks: what it asks of whoever calls it.
        takes: the records that it takes.
        name: what to call it in messages and logs; also its `__name__`.
    """

    call: Callable[[Any], Any]
    asks: Asks
    takes: tuple[type[Record], ...]
    name: str

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, record: Any) -> Any:
        """The result for one record."""
        return self.call(record)


def name_of(loss: Loss) -> str:
    """What a loss is called, with or without settings bound to it."""
    while isinstance(loss, partial):
        loss = loss.func
    return str(getattr(loss, "__name__", type(loss).__name__))
