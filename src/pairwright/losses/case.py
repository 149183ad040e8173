"""A loss on one kind of record, as `check_loss` tries it."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pairwright.losses.samples import by_answer, leaf, random_record, sides, with_leaf, with_sides
from pairwright.losses.types import Asks, GroupLogps, Loss, PairLogps, PointLogps, Record


class Case(NamedTuple):
    """A loss on one kind of record."""

    loss: Loss
    name: str
    asked: Asks
    kind: type[Record]

    @property
    def row(self) -> str:
        """The word for one row of the record."""
        return _ROW[self.kind]

    def random(self, *, seed: int = 0) -> Any:
        """A random record with what the loss asks for."""
        return random_record(self.kind, self.asked, seed=seed)

    def fail(self, says: str) -> AssertionError:
        """What to raise when the loss breaks a promise."""
        return AssertionError(f"{self.name}: {says}")


def close(left: Tensor, right: Tensor) -> bool:
    """Whether two float64 computations of one number agree."""
    return torch.allclose(left, right, rtol=1e-10, atol=1e-12)


def gradients(case: Case, record: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The losses [B], and the gradient of their sum in the policy of each side (in its tokens where it has some)."""
    leaves = {name: leaf(side).detach().clone().requires_grad_() for name, side in sides(record).items()}
    value: Tensor = case.loss(under(record, leaves)).loss
    if not value.requires_grad:
        raise case.fail("the loss does not depend on the log-probabilities of the policy")
    parts = torch.autograd.grad(value.sum(), list(leaves.values()), allow_unused=True)
    pairs = zip(leaves.items(), parts, strict=True)
    return value.detach(), {name: torch.zeros_like(at) if part is None else part for (name, at), part in pairs}


def under(record: Any, leaves: dict[str, Tensor]) -> Any:
    """The record under another policy."""
    return with_sides(record, {name: with_leaf(sides(record)[name], value) for name, value in leaves.items()})


def slopes(case: Case, record: Any) -> dict[str, Tensor]:
    """The gradient in each answer's log-probability, summed over its tokens where it has some."""
    _, found = gradients(case, record)
    return {name: by_answer(sides(record)[name], value) for name, value in found.items()}


_ROW: dict[type[Record], str] = {PairLogps: "pair", GroupLogps: "group", PointLogps: "answer"}
