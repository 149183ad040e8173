"""Which example comes when, the same for one process as for several."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch.utils.data import Dataset, Sampler

from pairwright.train.examples import Example


class Order(Sampler[int]):
    """The examples of an epoch by number: in the order of the data, or drawn anew for each epoch from the seed.

    Processes take the batches in turn, so with the same numbers of pairs to a step one process and several see the
    same pairs at the same step. Where the pairs do not come out even, numbers past the last pair follow at the end, so
    that every process has as many batches as the others; they stand for no pair and count nowhere. (Without them
    accelerate would begin again at the front, and some pairs would count twice.)

    Args:
        rows: how many examples there are.
        seed: of the order.
        shuffled: whether it is drawn.
        multiple: examples that all processes take at a time; filled up to a multiple of it.
        epoch: tells which epoch begins, when it does. It is asked and not told, because a resumed epoch is iterated
            through wrappers that pass no epoch on.
    """

    def __init__(self, rows: int, *, seed: int, shuffled: bool, multiple: int, epoch: Callable[[], int]) -> None:
        self.rows, self.seed, self.shuffled, self.epoch = rows, seed, shuffled, epoch
        self.filled = math.ceil(rows / multiple) * multiple

    def __len__(self) -> int:
        return self.filled

    def __iter__(self) -> Iterator[int]:
        if self.shuffled:
            generator = torch.Generator()
            generator.manual_seed(self.seed + self.epoch())
            yield from torch.randperm(self.rows, generator=generator).tolist()
        else:
            yield from range(self.rows)
        yield from range(self.rows, self.filled)


class Rows(Dataset[Example]):
    """Examples by number; a number past the last gives the shortest one, marked as a filler."""

    def __init__(self, rows: Sequence[Example]) -> None:
        self.rows = rows
        shortest = min(rows, key=lambda row: len(row.prompt) + sum(map(len, row.answers)))
        self.filler = replace(shortest, filler=True)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Example:
        return self.rows[number] if number < len(self.rows) else self.filler
