"""Random scored records in float64, and slopes of losses on them."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, tensor

from losses.worked_example import F64
from pairwright.losses import GroupLogps, PairLogps, PointLogps, Side


def _side(shape: tuple[int, ...], draw: torch.Generator, *, low: float, spread: float) -> Side:
    def uniform() -> Tensor:
        return torch.rand(shape, generator=draw, dtype=F64)

    ref = -1 - 30 * uniform()
    return Side(
        logp=ref + 12 * (uniform() - 0.5),
        length=torch.randint(1, 20, shape, generator=draw).to(F64),
        ref=ref,
        score=low + spread * uniform(),
    )


def pairs(rows: int = 16, *, seed: int = 0, gap: float = 1.0) -> PairLogps:
    """Pairs whose chosen side has the better score, by at least `gap`."""
    draw = torch.Generator().manual_seed(seed)
    better, worse = (_side((rows,), draw, low=low, spread=4.0) for low in (5.0 + gap, 1.0))
    return PairLogps(better, worse)


def groups(rows: int = 8, answers: int = 4, *, seed: int = 0) -> GroupLogps:
    """Groups of answers with scores of 1 to 10."""
    return GroupLogps(_side((rows, answers), torch.Generator().manual_seed(seed), low=1.0, spread=9.0))


def points(rows: int = 12, *, seed: int = 0) -> PointLogps:
    """Single answers, every second one wanted."""
    answers = _side((rows,), torch.Generator().manual_seed(seed), low=1.0, spread=9.0)
    return PointLogps(answers, torch.arange(rows) % 2 == 0)


def scored(record: PairLogps, chosen: float, rejected: float) -> PairLogps:
    """The pairs with one score for all chosen sides and one for all rejected ones."""
    sides = {"chosen": chosen, "rejected": rejected}
    return record._replace(
        **{
            name: replace(getattr(record, name), score=torch.full_like(getattr(record, name).logp, value))
            for name, value in sides.items()
        }
    )


def at_log_ratios(chosen: float, rejected: float, *, scores: tuple[float, float] = (9.0, 6.0)) -> PairLogps:
    """One pair with these log-ratios; its logps are -20 plus them."""
    sides = (
        Side(
            tensor([value - 20], dtype=F64),
            tensor([8.0], dtype=F64),
            tensor([-20.0], dtype=F64),
            tensor([score], dtype=F64),
        )
        for value, score in zip((chosen, rejected), scores, strict=True)
    )
    return PairLogps(*sides)  # type: ignore[arg-type]


def slopes(loss: Any, record: Any) -> list[Tensor]:
    """Gradients of the summed loss in the `logp` of each side of the record."""
    names = [name for name in ("chosen", "rejected", "answers") if hasattr(record, name)]
    leaves = [getattr(record, name).logp.detach().clone().requires_grad_() for name in names]
    total = loss(_put(record, names, leaves)).loss.sum()
    parts = torch.autograd.grad(total, leaves, allow_unused=True)
    return [torch.zeros_like(at) if part is None else part for at, part in zip(leaves, parts, strict=True)]


def agrees_with_differences(loss: Any, record: Any) -> bool:
    """Whether the gradient is that of central differences, by torch's own check; raises where it is not."""
    names = [name for name in ("chosen", "rejected", "answers") if hasattr(record, name)]
    leaves = [getattr(record, name).logp.detach().clone().requires_grad_() for name in names]
    return torch.autograd.gradcheck(
        lambda *moved: loss(_put(record, names, moved)).loss, leaves, eps=1e-6, atol=1e-7, rtol=1e-6
    )


def _put(record: Any, names: list[str], logps: Any) -> Any:
    sides = {name: replace(getattr(record, name), logp=logp) for name, logp in zip(names, logps, strict=True)}
    return record._replace(**sides)
