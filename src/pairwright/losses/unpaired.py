"""Losses of single answers, each wanted or unwanted, and what they make of a pair: one of each.

The value of an answer is judged from a baseline: an estimate of how far the policy has moved on answers in general
(`kto`), or the mean of implicit rewards (`bco`). Whoever calls the loss gives it; it is a constant, and None is 0.
"""

from typing import overload

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pairwright.losses.limits import not_negative, positive
from pairwright.losses.types import PairLogps, PairLoss, PointLogps, PointLoss, uses


def _constant(record: PairLogps | PointLogps) -> Tensor | float:
    return 0.0 if record.baseline is None else record.baseline.detach()


@overload
def kto(
    record: PairLogps, *, beta: float = ..., desirable_weight: float = ..., undesirable_weight: float = ...
) -> PairLoss: ...
@overload
def kto(
    record: PointLogps, *, beta: float = ..., desirable_weight: float = ..., undesirable_weight: float = ...
) -> PointLoss: ...


@uses("ref", baseline="mismatched_kl")
def kto(
    record: PairLogps | PointLogps,
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> PairLoss | PointLoss:
    """Kahneman-Tversky optimisation: wanted answers above the policy's usual drift, unwanted ones below it.

    With `u = logp - ref`, s the logistic function, and z0 = max(0, baseline), an estimate of KL(policy || reference):

        wanted:    loss = desirable_weight * (1 - s(beta * (u - z0)))
        unwanted:  loss = undesirable_weight * (1 - s(beta * (z0 - u)))
        a pair:    loss = mean of its chosen side as wanted and its rejected side as unwanted

    Limits: half its weight at policy = reference (where z0 = 0). It is between 0 and its weight: the gradient
    beta s (1 - s) is largest at u = z0 and fades on both sides, so answers that are far on the wrong side are given up.

    Relations: z0 = 0 is `apo_zero_unpaired`. The baseline is the mean log-ratio of answers to other prompts of the
    batch, below 0 counted as 0, in nats (not times beta).

    Args:
        record: log-probabilities of policy and reference, [B]; pairs, or single answers.
        beta: how sharply an answer is judged; implicit reward = beta * u.
        desirable_weight: of wanted answers, not below 0.
        undesirable_weight: of unwanted ones, not below 0.

    Returns:
        loss [B]; implicit rewards `beta * u` of each answer.

    Raises:
        InputError: a setting is outside its limits, or the record has no reference.

    Source: Ethayarajh et al. 2024, arXiv:2402.01306 (KTO); as in TRL's KTOTrainer.
    """
    positive(beta=beta)
    not_negative(desirable_weight=desirable_weight, undesirable_weight=undesirable_weight)
    level = _constant(record)
    zero = level if isinstance(level, float) else level.clamp(min=0)
    return _valued(record, beta, zero, desirable_weight, undesirable_weight)


@overload
def apo_zero_unpaired(record: PairLogps, *, beta: float = ...) -> PairLoss: ...
@overload
def apo_zero_unpaired(record: PointLogps, *, beta: float = ...) -> PointLoss: ...


@uses("ref")
def apo_zero_unpaired(record: PairLogps | PointLogps, *, beta: float = 0.1) -> PairLoss | PointLoss:
    """Anchored preference optimisation on single answers: wanted ones up and unwanted ones down, from the reference.

    With `u = logp - ref` and s the logistic function:

        wanted:    loss = 1 - s(beta * u)
        unwanted:  loss = s(beta * u)
        a pair:    loss = mean of its chosen side as wanted and its rejected side as unwanted

    Limits: 1/2 at policy = reference. It is between 0 and 1, and its gradient fades on both sides.

    Relations: `kto` with a baseline of 0 and weights of 1. On pairs it is half of `apo_zero`.

    Args:
        record: log-probabilities of policy and reference, [B]; pairs, or single answers.
        beta: how sharply an answer is judged; implicit reward = beta * u.

    Returns:
        loss [B]; implicit rewards `beta * u` of each answer.

    Raises:
        InputError: beta is not above 0, or the record has no reference.

    Source: D'Oosterlinck et al. 2024, arXiv:2408.06266 (APO), eq. 7; on single answers as in TRL's KTOTrainer.
    """
    positive(beta=beta)
    return _valued(record, beta, 0.0, 1.0, 1.0)


def _valued(
    record: PairLogps | PointLogps, beta: float, zero: Tensor | float, up: float, down: float
) -> PairLoss | PointLoss:
    """`up` times one minus the value of wanted answers, `down` times that of unwanted ones."""

    def wanted(log_ratio: Tensor) -> Tensor:
        return up * (beta * (zero - log_ratio)).sigmoid()

    def unwanted(log_ratio: Tensor) -> Tensor:
        return down * (beta * (log_ratio - zero)).sigmoid()

    if isinstance(record, PairLogps):
        chosen, rejected = record.chosen.log_ratio, record.rejected.log_ratio
        return PairLoss((wanted(chosen) + unwanted(rejected)) / 2, beta * chosen, beta * rejected)
    log_ratio = record.answers.log_ratio
    return PointLoss(torch.where(record.wanted, wanted(log_ratio), unwanted(log_ratio)), beta * log_ratio)


@overload
def bco(record: PairLogps, *, beta: float = ...) -> PairLoss: ...
@overload
def bco(record: PointLogps, *, beta: float = ...) -> PointLoss: ...


@uses("ref", baseline="running_mean")
def bco(record: PairLogps | PointLogps, *, beta: float = 0.1) -> PairLoss | PointLoss:
    """Binary classifier optimisation: implicit rewards tell wanted answers from unwanted ones, from their mean.

    With `r = beta * (logp - ref)` and d the running mean of all implicit rewards:

        wanted:    loss = -log_sigmoid(r - d)
        unwanted:  loss = -log_sigmoid(d - r)
        a pair:    loss = sum of its chosen side as wanted and its rejected side as unwanted

    Limits: ln 2 for an answer, 2 ln 2 for a pair, at policy = reference (where d = 0). It fades on the right side of d
    and is linear with slope 1 on the wrong side, so it never gives an answer up.

    Relations: TRL's `bco_pair` is this with d = 0. The mean of a pair's halves is half of this loss. `kto` is bounded.

    Args:
        record: log-probabilities of policy and reference, [B]; pairs, or single answers.
        beta: strength of the pull to the reference; implicit reward = beta * u.

    Returns:
        loss [B], in nats; implicit rewards `beta * u` of each answer, before d is taken away.

    Raises:
        InputError: beta is not above 0, or the record has no reference.

    Source: Jung et al. 2024, arXiv:2404.04656 (BCO); the running mean as in TRL's BCOTrainer.
    """
    positive(beta=beta)
    mean = _constant(record)
    if isinstance(record, PairLogps):
        chosen, rejected = beta * record.chosen.log_ratio, beta * record.rejected.log_ratio
        return PairLoss(-logsigmoid(chosen - mean) - logsigmoid(mean - rejected), chosen, rejected)
    rewards = beta * record.answers.log_ratio
    over = rewards - mean
    return PointLoss(-logsigmoid(torch.where(record.wanted, over, -over)), rewards)


@uses("ref")
def nca_pair(pair: PairLogps, *, beta: float = 0.01) -> PairLoss:
    """NCA on pairs: the chosen side goes above the reference, the rejected side below it, each by itself.

    With `r = beta * (logp - ref)`:

        loss = -log_sigmoid(r_chosen) - log_sigmoid(-r_chosen) / 2 - log_sigmoid(-r_rejected) / 2

    Limits: 2 ln 2 at policy = reference. The chosen side rests at r = ln 2 (sigmoid(r) = 2/3) and is held there from
    both sides; the rejected side is pushed down for ever, with a slope that fades.

    Relations: `nca` with two answers whose better one has all of the target (alpha -> 0). TRL's `nca_pair` is the same.

    Args:
        pair: log-probabilities of policy and reference, [B].
        beta: strength of the pull to the reference; implicit reward = beta * u.

    Returns:
        loss [B], in nats; implicit rewards `beta * u` of both sides, [B].

    Raises:
        InputError: beta is not above 0, or the record has no reference.

    Source: Chen et al. 2024, arXiv:2402.05369 (NCA), for preference pairs.
    """
    positive(beta=beta)
    chosen, rejected = beta * pair.chosen.log_ratio, beta * pair.rejected.log_ratio
    loss = -logsigmoid(chosen) - 0.5 * logsigmoid(-chosen) - 0.5 * logsigmoid(-rejected)
    return PairLoss(loss, chosen, rejected)
