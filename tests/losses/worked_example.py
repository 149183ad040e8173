"""The worked example of the specification, and the form in which an expected value of a loss is written down."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, tensor

from pairwright.losses import GroupLogps, PairLogps, PointLogps, Side

F64 = torch.float64


def side(logp: float, length: float, ref: float, score: float) -> Side:
    """One answer, in float64."""
    return Side(*(tensor([value], dtype=F64) for value in (logp, length, ref, score)))


def record() -> PairLogps:
    """The worked example: u_w = 1.0, u_l = -0.5, D = 1.5, and z = 0.15 at beta 0.1.

    Summed log-probabilities prefer the chosen side by 2.0; averaged over tokens they prefer the rejected one by 0.05.
    """
    return PairLogps(chosen=side(-10.0, 8.0, -11.0, 9.0), rejected=side(-12.0, 10.0, -11.5, 6.0))


def group() -> GroupLogps:
    """The two answers of the worked example as a group of two."""
    return GroupLogps.of(record())


def points() -> PointLogps:
    """The two answers of the worked example as a wanted and an unwanted one."""
    pair = record()
    both = Side(
        *(torch.cat([getattr(pair.chosen, n), getattr(pair.rejected, n)]) for n in ("logp", "length", "ref", "score"))
    )
    return PointLogps(both, wanted=tensor([True, False]))


@dataclass(frozen=True)
class Value:
    """What a loss must give, and why.

    Attributes:
        loss: its name in `LOSSES`.
        expected: one number for each row of the record.
        source: the paper, the arithmetic or the independent computation that it comes from.
        settings: of the loss.
        record: makes what the loss is given.
        rewards: implicit rewards, if known: (chosen, rejected) for a pair, one for each answer else.
    """

    loss: str
    expected: tuple[float, ...]
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    record: Callable[[], Any] = record
    rewards: tuple[float, ...] | None = None


def rewards_of(out: Any) -> Tensor:
    """The implicit rewards of a result, flat: chosen then rejected for pairs."""
    if hasattr(out, "rewards"):
        rewards: Tensor = out.rewards
        return rewards.flatten()
    return torch.cat([out.chosen, out.rejected])
