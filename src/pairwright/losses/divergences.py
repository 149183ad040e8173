"""Other divergences than the reverse KL between policy and reference: a change of the log-ratio before any loss.

A loss with a reference looks at `u = logp - ref`, which belongs to the penalty `KL(policy || reference)`. Under the
penalty of another f-divergence the same derivation puts `f'(exp(u))` in the place of `u`, up to a constant of the
prompt. Ours are shifted so that f(0) = 0; TRL's equal ours up to a constant. In losses of a difference, such as `dpo`,
a constant cancels, and TRL allows divergences for those alone. In losses that hold each side against a fixed zero
(`nca_pair`, `bco`, `apo_zero`, `sppo_hard`) it does not cancel; that we allow them, with the zero kept at policy =
reference, is our choice and no result of the paper.
"""

from collections.abc import Callable
from dataclasses import replace
from math import exp, log
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from pairwright.errors import InputError
from pairwright.losses.groups import filled
from pairwright.losses.limits import between, positive
from pairwright.losses.told import Told, name_of
from pairwright.losses.types import GroupLogps, Loss, PairLogps, PointLogps, Record, Side, asks, takes

Divergence = Callable[..., Tensor]

_STRAIGHT_FROM = 30.0
_ALLOWED = frozenset({"ref", "score", "scores"})


def _expm1(value: Tensor) -> Tensor:
    """`exp(value) - 1`, going on in a straight line above 30, so that value, gradient and their squares are finite."""
    curve = torch.expm1(value.clamp(max=_STRAIGHT_FROM))
    return curve + exp(_STRAIGHT_FROM) * relu(value - _STRAIGHT_FROM)


def reverse_kl(log_ratio: Tensor) -> Tensor:
    """Reverse KL, `KL(policy || reference)`: the log-ratio as it is.

        f(u) = u

    Limits: slope 1 everywhere.

    Relations: a loss with it is the loss itself.

    Args:
        log_ratio: `u = logp - ref`, in nats, any shape.

    Returns:
        the changed log-ratio, of the same shape.

    Source: Wang et al. 2023, arXiv:2309.16240 (f-DPO).
    """
    return log_ratio


def forward_kl(log_ratio: Tensor) -> Tensor:
    """Forward KL, `KL(reference || policy)`: what the policy forgets of the reference costs without bound.

        f(u) = 1 - exp(-u)

    Limits: 0 with slope 1 at policy = reference. For u -> +inf it rests at 1 and the gradient fades; for u -> -inf it
    falls exponentially, and from u = -30 on in a straight line, so that nothing overflows.

    Relations: `alpha_divergence` with alpha 1. The paper's f' is 1 less, so that ours is 0 at policy = reference. TRL's
    `forward_kl` is ours up to a constant, but overflows. A constant cancels in a difference of sides; in `nca_pair`,
    `bco` and `sppo_hard` it does not, and allowing them is our choice.

    Args:
        log_ratio: `u = logp - ref`, in nats, any shape.

    Returns:
        the changed log-ratio, of the same shape.

    Source: Wang et al. 2023, arXiv:2309.16240 (f-DPO): f'(t) = -1 / t.
    """
    return -_expm1(-log_ratio)


def js_divergence(log_ratio: Tensor) -> Tensor:
    """Jensen-Shannon divergence: the reward stops growing at ln 2, and falls as the log-ratio does.

        f(u) = log(2 * exp(u) / (1 + exp(u))) = log_sigmoid(u) + ln 2

    Limits: 0 with slope 1/2 at policy = reference. For u -> +inf it rests at ln 2 and the gradient fades; for
    u -> -inf it is u + ln 2 with slope 1.

    Relations: TRL's `js_divergence` is ours up to a constant. A constant cancels in a difference of sides; in
    `nca_pair`, `bco` and `sppo_hard` it does not, and allowing them is our choice.

    Args:
        log_ratio: `u = logp - ref`, in nats, any shape.

    Returns:
        the changed log-ratio, of the same shape.

    Source: Wang et al. 2023, arXiv:2309.16240 (f-DPO): f'(t) = log(2 t / (1 + t)).
    """
    return logsigmoid(log_ratio) + log(2)


def alpha_divergence(log_ratio: Tensor, *, alpha: float = 0.5) -> Tensor:
    """Alpha divergence: all between the reverse KL (alpha -> 0) and the forward KL (alpha = 1).

        f(u) = (1 - exp(-alpha * u)) / alpha

    Limits: 0 with slope 1 at policy = reference. For u -> +inf it rests at 1 / alpha and the gradient fades; for
    u -> -inf it falls exponentially, and from alpha * u = -30 on in a straight line.

    Relations: alpha = 1 is `forward_kl`; alpha -> 0 is `reverse_kl`. **TRL's `f_alpha_divergence_coef` is 1 - alpha**;
    its values are ours up to a constant, and its exponent stops at 80, where the gradient stops too. A constant cancels
    in a difference of sides; in `nca_pair`, `bco` and `sppo_hard` it does not, and allowing them is our choice.

    Args:
        log_ratio: `u = logp - ref`, in nats, any shape.
        alpha: the paper's alpha, above 0 and at most 1.

    Returns:
        the changed log-ratio, of the same shape.

    Raises:
        InputError: alpha is outside its limits.

    Source: Wang et al. 2023, arXiv:2309.16240 (f-DPO): f'(t) = (1 - t**(-alpha)) / alpha.
    """
    positive(alpha=alpha)
    between(0.0, 1.0, alpha=alpha)
    return -_expm1(-alpha * log_ratio) / alpha


DIVERGENCES: dict[str, Divergence] = {
    "alpha_divergence": alpha_divergence,
    "forward_kl": forward_kl,
    "js_divergence": js_divergence,
    "reverse_kl": reverse_kl,
}


def diverged(loss: Loss, divergence: Divergence) -> Loss:
    """The loss under the penalty of another divergence.

    It gives the loss sides whose `logp` is `divergence(logp - ref)` and whose `ref` is 0. Implicit rewards change too.

    Args:
        loss: a loss that sees policy and reference by their log-ratio alone, its settings bound.
        divergence: from log-ratios to numbers of the same shape, its settings bound.

    Returns:
        a loss that asks and takes what `loss` does.

    Raises:
        InputError: the loss needs no reference, or looks at more than log-ratios: lengths, tokens, an anchor, a
            baseline of plain log-ratios, or the policies of the whole batch apart from their references.

    Source: Wang et al. 2023, arXiv:2309.16240 (f-DPO).
    """
    asked, name = asks(loss), name_of(loss)
    if "ref" not in asked.needs:
        raise InputError(f"loss {name!r} has no reference, so it takes no divergence; leave divergence out")
    if more := sorted(asked.needs - _ALLOWED):
        raise InputError(
            f"loss {name!r} takes no divergence: it looks at {', '.join(more)} besides log-ratios; leave divergence out"
        )
    if asked.of_batch:
        raise InputError(
            f"loss {name!r} takes no divergence: it sorts policies and references apart; leave divergence out"
        )

    if asked.baseline == "mismatched_kl":
        raise InputError(
            f"loss {name!r} takes no divergence: its baseline is an estimate of KL in plain log-ratios, against which "
            f"a changed log-ratio means nothing; leave divergence out"
        )

    def call(record: Any) -> Any:
        return loss(_CHANGED[type(record)](record, divergence))

    return Told(call, asked, takes(loss), name)


def _side(side: Side, divergence: Divergence) -> Side:
    changed = divergence(side.log_ratio)
    return replace(side, logp=changed, ref=torch.zeros_like(changed))


def _pair(pair: PairLogps, divergence: Divergence) -> PairLogps:
    return pair._replace(chosen=_side(pair.chosen, divergence), rejected=_side(pair.rejected, divergence))


def _group(group: GroupLogps, divergence: Divergence) -> GroupLogps:
    # Absent places first: what stands there may be NaN, and NaN times a gradient of 0 is NaN.
    return group._replace(answers=_side(filled(group), divergence))


def _points(points: PointLogps, divergence: Divergence) -> PointLogps:
    return points._replace(answers=_side(points.answers, divergence))


_CHANGED: dict[type[Record], Callable[[Any, Divergence], Record]] = {
    PairLogps: _pair,
    GroupLogps: _group,
    PointLogps: _points,
}
