"""What was met before: keys of 128 bits, numbered in the order in which they first came.

Batches of a source come one after another, and each must know at once which of its prompts and answers are new, so that
it can be written and forgotten. The keys that were met are kept as sorted runs of NumPy arrays, 24 bytes for a key;
a run is merged with the one before as soon as it is half as long, so a key is moved a logarithmic number of times.
"""

from typing import Any, NamedTuple

import numpy as np

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Keys = np.ndarray[Any, np.dtype[np.uint64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


class _Run(NamedTuple):
    """Keys in the order of their first halves, with their numbers."""

    one: Keys
    two: Keys
    number: Numbers

    def at(self, rows: Numbers | Flags) -> "_Run":
        """Some of the rows."""
        return _Run(self.one[rows], self.two[rows], self.number[rows])


class Seen:
    """The keys that were met, and their numbers."""

    def __init__(self) -> None:
        self.size = 0
        self._runs: list[_Run] = []

    def add(self, one: Keys, two: Keys) -> tuple[Numbers, Flags]:
        """Meet some keys.

        Args:
            one: the first halves, `[N]`.
            two: the second halves, `[N]`.

        Returns:
            The number of each key, `[N]`, and whether it is the first of its kind, `[N]`.
        """
        order, starts = _grouped(one, two)
        kinds = order[starts]
        run = _Run(one[kinds], two[kinds], np.full(len(starts), -1, dtype=np.int64))
        for known in self._runs:
            _look_up(known, run)
        fresh = run.number < 0
        first = np.minimum.reduceat(order, starts)[fresh] if len(starts) else order
        new = np.zeros(len(one), dtype=bool)
        new[first] = True
        run.number[fresh] = (np.cumsum(new) - 1 + self.size)[first]
        self.size += len(first)
        if len(first):
            self._keep(run.at(fresh))
        number = np.empty(len(one), dtype=np.int64)
        number[order] = np.repeat(run.number, np.diff(starts, append=len(one)))
        return number, new

    def _keep(self, run: _Run) -> None:
        while self._runs and 2 * len(run.one) >= len(self._runs[-1].one):
            last = self._runs.pop()
            both = _Run(
                np.concatenate([last.one, run.one]),
                np.concatenate([last.two, run.two]),
                np.concatenate([last.number, run.number]),
            )
            run = both.at(np.argsort(both.one, kind="stable"))  # merges two sorted runs in linear time
        self._runs.append(run)


def _grouped(one: Keys, two: Keys) -> tuple[Numbers, Numbers]:
    """An order in which equal keys are neighbours, and the places in it where another kind begins."""
    order = np.argsort(one)
    half, whole = _steps(one[order]), _steps(two[order])
    if (whole & ~half).any():  # two keys, or more, that differ in their second halves only
        order = np.lexsort((two, one))
        half |= _steps(two[order])
    return order, np.flatnonzero(half)


def _steps(cells: Keys) -> Flags:
    """Where a cell is another than the one before."""
    return np.concatenate([np.ones(min(1, len(cells)), dtype=bool), cells[1:] != cells[:-1]])


def _look_up(known: _Run, asked: _Run) -> None:
    """Write the numbers of the keys that are known into a run that asks for them."""
    place = np.searchsorted(known.one, asked.one)
    asking = np.arange(len(asked.one))
    while len(asking):
        inside = place[asking] < len(known.one)
        asking = asking[inside]
        here = place[asking]
        half = known.one[here] == asked.one[asking]
        asking, here = asking[half], here[half]
        whole = known.two[here] == asked.two[asking]
        asked.number[asking[whole]] = known.number[here[whole]]
        asking = asking[~whole]  # another key with the same first half: look at the next
        place[asking] += 1
