"""What a loss is given while one thing moves: records with one place on an axis, the tensor `t`."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pairwright.losses import GroupLogps, PairLogps, PointLogps, Side

TOKENS = 20
REF = -60.0  # 3 nats a token
BETTER, WORSE = {"score": 9.0}, {"score": 6.0}

Record = PairLogps | GroupLogps | PointLogps


def side(
    u: Tensor, *, ref: float = REF, length: int = TOKENS, score: float = 0.0, scores: Mapping[str, float] | None = None
) -> Side:
    """An answer whose log-ratio is `u`, spread evenly over its tokens."""
    logp = ref + u
    held = torch.ones_like(logp)
    there = (torch.arange(3 * TOKENS) < length).to(logp.dtype)
    return Side(
        logp,
        length=length * held,
        ref=ref * held,
        score=score * held,
        scores={name: value * held for name, value in (scores or {}).items()} or None,
        token_logp=logp[..., None] / length * there,
        token_ref=ref / length * held[..., None] * there,
        token_collision=-2.0 * held[..., None] * there,
    )


def pair(u_chosen: Tensor, u_rejected: Tensor, *, chosen: Mapping[str, Any], rejected: Mapping[str, Any]) -> PairLogps:
    """Two answers; the anchor is the chosen one, and moves with it."""
    better = side(u_chosen, **chosen)
    return PairLogps(better, side(u_rejected, **rejected), anchor=side(u_chosen, **chosen))


def apart(t: Tensor, *, chosen: Mapping[str, Any] = BETTER, rejected: Mapping[str, Any] = WORSE) -> Record:
    """Log-ratios t apart in nats, moved by half of it on each side."""
    return pair(t / 2, -t / 2, chosen=chosen, rejected=rejected)


def apart_by_token(t: Tensor) -> Record:
    """The same in nats a token."""
    return apart(TOKENS * t)


def chosen_alone(t: Tensor, *, other: float = 0.0, **scored: Any) -> Record:
    """The chosen log-ratio at t, the rejected one at `other`."""
    return pair(t, torch.full_like(t, other), chosen=BETTER | scored, rejected=WORSE)


def with_chance(t: Tensor, *, chance: float) -> Record:
    """The chosen log-ratio at t, and scores that are win probabilities."""
    return pair(t, torch.zeros_like(t), chosen={"score": chance}, rejected={"score": 1 - chance})


def rejected_alone(t: Tensor, **scored: Any) -> Record:
    """The rejected log-ratio at t, the chosen one at 0."""
    return pair(torch.zeros_like(t), t, chosen=BETTER, rejected=WORSE | scored)


def chosen_mean(t: Tensor) -> Record:
    """The mean log-probability of the chosen side at t nats a token, that of the rejected one at -1."""
    return pair(TOKENS * t - REF, TOKENS * -torch.ones_like(t) - REF, chosen=BETTER, rejected=WORSE)


def rejected_mean(t: Tensor) -> Record:
    """The mean log-probability of the rejected side at t nats a token, that of the chosen one at -1."""
    return pair(TOKENS * -torch.ones_like(t) - REF, TOKENS * t - REF, chosen=BETTER, rejected=WORSE)


def group(t: Tensor, *, moves: int, scores: Sequence[float] = (9.0, 6.0, 2.0)) -> Record:
    """Answers with these scores, all at log-ratio 0 but one."""
    u = torch.stack([t if place == moves else torch.zeros_like(t) for place in range(len(scores))], dim=1)
    return GroupLogps(_scored(side(u), scores))


def group_mean(t: Tensor, *, moves: int) -> Record:
    """Answers with scores 9, 6 and 2 and means of -1.5, -1 and -0.5 nats a token, one of which is put at t."""
    means = [t if place == moves else torch.full_like(t, mean) for place, mean in enumerate((-1.5, -1.0, -0.5))]
    return GroupLogps(_scored(side(TOKENS * torch.stack(means, dim=1) - REF), (9.0, 6.0, 2.0)))


def _scored(answers: Side, scores: Sequence[float]) -> Side:
    score = torch.tensor(scores, dtype=answers.logp.dtype).expand_as(answers.logp)
    return Side(answers.logp, answers.length, answers.ref, score)


def point(t: Tensor, *, wanted: bool, baseline: float = 0.0) -> Record:
    """A single answer at log-ratio t."""
    return PointLogps(side(t), torch.full_like(t, wanted, dtype=torch.bool), torch.tensor(baseline, dtype=t.dtype))


def in_company(t: Tensor, *, others: Sequence[float]) -> Record:
    """A pair t apart in a batch with pairs that are `others` apart; t is [1], the references of all are alike."""
    margins = torch.cat([t, torch.tensor(others, dtype=t.dtype)])
    return apart(margins)


def at_ranks(t: Tensor, *, references: Sequence[float]) -> Record:
    """A pair whose policy is t apart among pairs whose policies and references are `references` apart; t is [1]."""
    fixed = torch.tensor((0.0, *references), dtype=t.dtype)
    margins = torch.cat([t, fixed[1:]])
    chosen, rejected = (Side(REF + sign * margins / 2, ref=REF + sign * fixed / 2) for sign in (1, -1))
    return PairLogps(chosen, rejected)
