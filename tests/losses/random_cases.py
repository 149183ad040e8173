"""Random answers, once as plain floats for the oracle and once as the records that our losses take."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import nan
from random import Random
from typing import Any

import torch
from torch import Tensor, tensor

from losses.oracle import Answer, Case, Group, Point
from pairwright.losses import GroupLogps, PairLogps, PointLogps, Side

F64 = torch.float64
SCALE = (1.0, 10.0)  # of judges; losses that want probabilities are given (0, 1)


def answer(draw: Random, scale: tuple[float, float] = SCALE) -> Answer:
    """One to twelve tokens, the policy about a third of a nat from its reference at each."""
    refs = tuple(-0.05 - 2 * draw.random() for _ in range(draw.randint(1, 12)))
    return Answer(
        token_logp=tuple(min(ref + draw.gauss(0.0, 0.35), -0.02) for ref in refs),
        token_ref=refs,
        token_collision=tuple(-0.01 - draw.random() for _ in refs),
        score=draw.uniform(*scale),
        scores={"safety": draw.uniform(0.0, 1.0), "brevity": draw.uniform(-2.0, 2.0)},
    )


def cases(
    seed: int,
    count: int,
    *,
    scale: tuple[float, float] = SCALE,
    goals: Sequence[float | None] = (None,),
    baseline: float = 0.0,
) -> list[Case]:
    """Pairs whose chosen side does better what the goal asks; the goals are dealt in turn."""
    draw = Random(seed)
    found = []
    for row in range(count):
        case = Case(answer(draw, scale), answer(draw, scale), answer(draw), goals[row % len(goals)], baseline)
        found.append(case if case.gap > 0 else replace(case, chosen=case.rejected, rejected=case.chosen))
    return found


def groups(
    seed: int, count: int, *, scale: tuple[float, float] = SCALE, goals: Sequence[float | None] = (None,)
) -> list[Group]:
    """Two to five answers to a prompt."""
    draw = Random(seed)
    return [
        Group(tuple(answer(draw, scale) for _ in range(draw.randint(2, 5))), goals[row % len(goals)])
        for row in range(count)
    ]


def points(seed: int, count: int, *, baseline: float = 0.0) -> list[Point]:
    """Single answers, about half of them wanted."""
    draw = Random(seed)
    return [Point(answer(draw), draw.random() < 0.5, baseline) for _ in range(count)]


def side(answers: Sequence[Answer]) -> Side:
    """The answers as one `Side` with every field; `logp` and `token_logp` may be differentiated in, each by itself."""
    width = max(each.length for each in answers)

    def tokens(name: str) -> Tensor:
        return tensor([[*getattr(each, name), *[0.0] * (width - each.length)] for each in answers], dtype=F64)

    token_logp = tokens("token_logp").requires_grad_()

    def values(read: Callable[[Answer], float]) -> Tensor:
        return tensor([read(each) for each in answers], dtype=F64)

    return Side(
        logp=values(lambda each: each.logp).requires_grad_(),
        length=values(lambda each: each.length),
        ref=values(lambda each: each.ref),
        score=values(lambda each: each.score),
        scores={name: values(lambda each, name=name: each.scores[name]) for name in answers[0].scores},
        token_logp=token_logp,
        token_ref=tokens("token_ref"),
        token_collision=tokens("token_collision"),
    )


def _goals(rows: Sequence[Any]) -> Tensor | None:
    if all(row.goal is None for row in rows):
        return None
    return tensor([nan if row.goal is None else row.goal for row in rows], dtype=F64)


def pair_record(rows: Sequence[Case]) -> PairLogps:
    return PairLogps(
        side([row.chosen for row in rows]),
        side([row.rejected for row in rows]),
        goal=_goals(rows),
        baseline=tensor(rows[0].baseline, dtype=F64),
        anchor=side([row.anchor for row in rows]),
    )


def group_record(rows: Sequence[Group]) -> GroupLogps:
    """Absent places hold NaN in every field, which must reach nothing."""
    width = max(len(row.answers) for row in rows)
    flat = side([each for row in rows for each in row.answers])
    counts = [len(row.answers) for row in rows]

    def spread(value: Tensor) -> Tensor:
        parts = value.split(counts)
        hole = [torch.full((width - len(part), *part.shape[1:]), nan, dtype=F64) for part in parts]
        return torch.stack([torch.cat(both) for both in zip(parts, hole, strict=True)])

    present = tensor([[place < count for place in range(width)] for count in counts])
    return GroupLogps(flat.mapped(spread), present=present, goal=_goals(rows))


def point_record(rows: Sequence[Point]) -> PointLogps:
    return PointLogps(
        side([row.answer for row in rows]),
        wanted=tensor([row.wanted for row in rows]),
        baseline=tensor(rows[0].baseline, dtype=F64),
    )
