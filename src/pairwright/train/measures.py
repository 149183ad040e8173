"""What is measured in training: sums with counts of their own, so that a mean does not depend on the batches.

TRL's names verbatim, ours under `pairwright/`. Rewards are the loss's own implicit rewards; logps are sums in nats. A
value that is no number is added like any other: only what is not there at all (a filler, a single answer of the other
kind, a group without a best answer) is left out.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import Trainer

from pairwright.losses import GroupLogps, GroupLoss, PairLogps, PairLoss, PointLogps, PointLoss, Side
from pairwright.losses.types import Record, Result

ROWS = "rows"
"""How many examples were seen; it is told as a count, and has none of its own."""

_COUNT = "count of "


class Measure(NamedTuple):
    """Something measured of each of B examples.

    Attributes:
        values: [B].
        counts: [B], how much each counts. Flags say what is there at all: a value that is not plays no part, whatever
            stands in its place. Where they are weights, a value that is no number is added under the weight 0, too.
    """

    values: Tensor
    counts: Tensor


class Meter:
    """Sums over the examples since the last log, in float64.

    Each process has its own; the first one also has what a checkpoint carried over.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}

    def add(self, found: Mapping[str, Measure], filler: Tensor) -> None:
        """Add what was found in a batch; fillers ([B] bool) are left out.

        The device is waited for once.
        """
        kept = ~filler
        # One tensor counts for many measures.
        counts = {id(counts): counts for _, counts in found.values()}
        place = {key: number for number, key in enumerate(counts)}
        there = torch.stack(
            [kept & each.counts if each.counts.dtype == torch.bool else kept for each in found.values()]
        )
        values = torch.stack([each.values.detach().double() for each in found.values()]).where(there, 0.0)
        counted = torch.stack([each.double() for each in counts.values()]).where(kept, 0.0)
        sums = torch.cat([values.sum(1), counted.sum(1), kept.double().sum()[None]]).tolist()
        self._add(ROWS, sums[-1])
        for number, (name, each) in enumerate(found.items()):
            self._add(name, sums[number])
            self._add(_COUNT + name, sums[len(found) + place[id(each.counts)]])

    def _add(self, name: str, value: float) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + value

    def gathered(self, trainer: Trainer) -> dict[str, float]:
        """The sums over all processes."""
        if trainer.args.world_size <= 1 or not self.sums:
            return dict(self.sums)
        names = sorted(self.sums)
        mine = torch.tensor([self.sums[name] for name in names], dtype=torch.float64, device=trainer.args.device)
        total = trainer.accelerator.reduce(mine, "sum").tolist()
        return dict(zip(names, total, strict=True))


def window(sums: Mapping[str, float], kind: str) -> dict[str, float]:
    """Means over a window, from sums: what nothing counted for is left out, but the loss, which is 0 then.

    Where single answers have rewards of both kinds, their margin is the difference of the two means, as in TRL.

    Args:
        sums: of a `Meter`.
        kind: what the examples are; `pairwright/<kind>` says how many there were.
    """
    if not sums.get(ROWS):
        return {}
    counts = {name: sums[_COUNT + name] for name in sums if _COUNT + name in sums}
    means = {name: sums[name] / count for name, count in counts.items() if count}
    if {"rewards/chosen", "rewards/rejected"} <= means.keys() and "rewards/margins" not in means:
        means["rewards/margins"] = means["rewards/chosen"] - means["rewards/rejected"]
    return {"loss": 0.0, **means, f"pairwright/{kind}": sums[ROWS]}


def broken(sums: Mapping[str, float]) -> str | None:
    """The first measure whose sum is no number; None where all are."""
    return next((name for name, total in sums.items() if not math.isfinite(total)), None)


def measures(
    record: Record, out: Result, weight: Tensor, *, terms: Mapping[str, Tensor], baseline: str
) -> dict[str, Measure]:
    """What is measured of each example of a batch.

    Args:
        record: what the loss was given.
        out: what it gave.
        weight: of the examples, [B].
        terms: of a sum of losses the value of each term, [B], measured as `pairwright/loss_<name>`; else empty.
        baseline: what the record's baseline is called.
    """
    every = torch.ones_like(weight, dtype=torch.bool)
    found = {"loss": Measure(weight * out.loss, weight)}
    found |= {f"pairwright/loss_{name}": Measure(weight * value.detach(), weight) for name, value in terms.items()}
    if baseline and not isinstance(record, GroupLogps) and record.baseline is not None:
        found[baseline] = Measure(record.baseline.expand_as(weight), every)
    return found | dict(_KINDS[type(record)](record, out, every))


def _of_pairs(pair: PairLogps, out: PairLoss, every: Tensor) -> Iterator[tuple[str, Measure]]:
    yield from _of_side("chosen", pair.chosen, every)
    yield from _of_side("rejected", pair.rejected, every)
    yield from _of_rewards(out.chosen, out.rejected, every)


def _of_points(points: PointLogps, out: PointLoss, every: Tensor) -> Iterator[tuple[str, Measure]]:
    """Wanted answers are the chosen ones, unwanted the rejected ones; each kind has its own count."""
    for side, there in (("chosen", points.wanted), ("rejected", ~points.wanted)):
        yield from _of_side(side, points.answers, there)
        yield f"rewards/{side}", Measure(out.rewards, there)


def _of_groups(group: GroupLogps, out: GroupLoss, every: Tensor) -> Iterator[tuple[str, Measure]]:
    """The best-scored answer is the chosen one, the worst the rejected one; a group of equal scores has neither."""
    if group.answers.score is None:
        return
    worth, absent = group.worth, ~group.there
    best = worth.masked_fill(absent, -math.inf).argmax(1, keepdim=True)
    worst = worth.masked_fill(absent, math.inf).argmin(1, keepdim=True)
    there = (worth.gather(1, best) > worth.gather(1, worst))[:, 0]

    def taken(which: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda values: values.gather(1, which)[:, 0]

    plain = Side(group.answers.logp, group.answers.length, group.answers.ref)
    yield from _of_side("chosen", plain.mapped(taken(best)), there)
    yield from _of_side("rejected", plain.mapped(taken(worst)), there)
    yield from _of_rewards(taken(best)(out.rewards), taken(worst)(out.rewards), there)


def _of_side(name: str, side: Side, there: Tensor) -> Iterator[tuple[str, Measure]]:
    length = side.known("length").to(side.logp.dtype)
    yield f"logps/{name}", Measure(side.logp, there)
    yield f"pairwright/length_{name}", Measure(length, there)
    yield f"pairwright/mean_logp_{name}", Measure(side.logp / length, there)
    if side.ref is not None:
        yield f"pairwright/log_ratio_{name}", Measure(side.log_ratio, there)


def _of_rewards(chosen: Tensor, rejected: Tensor, there: Tensor) -> Iterator[tuple[str, Measure]]:
    """An example is right where its chosen reward is the greater."""
    margin = chosen - rejected
    yield "rewards/chosen", Measure(chosen, there)
    yield "rewards/rejected", Measure(rejected, there)
    yield "rewards/margins", Measure(margin, there)
    yield "rewards/accuracies", Measure((margin > 0).to(margin.dtype), there)


_KINDS: dict[type, Callable[[Any, Any, Tensor], Iterator[tuple[str, Measure]]]] = {
    PairLogps: _of_pairs,
    PointLogps: _of_points,
    GroupLogps: _of_groups,
}
