"""Losses that look at all scored answers of a prompt together.

Answers are compared by their worth (`GroupLogps.worth`): the score, or how near it is to the goal where one is asked.
A pair is a group of two, judged by its scores and not by its label. Absent answers count nowhere; a group without any
answer has loss 0 and no gradient.
"""

from typing import overload

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from pairwright.losses.limits import not_negative, positive
from pairwright.losses.types import GroupLogps, GroupLoss, PairLogps, PairLoss, Side, uses


def filled(group: GroupLogps) -> Side:
    """The answers with a harmless 1 in absent places, so that whatever stands there gives no NaN, not even times 0.

    Token fields are left out: no loss of groups looks at them.
    """
    absent, answers = ~group.there, group.answers

    def fill(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.masked_fill(absent, 1)

    named = None if answers.scores is None else {name: v.masked_fill(absent, 1) for name, v in answers.scores.items()}
    logp = answers.logp.masked_fill(absent, 1)
    return Side(logp, fill(answers.length), fill(answers.ref), fill(answers.score), named)


def _as_group(record: PairLogps | GroupLogps) -> GroupLogps:
    return GroupLogps.of(record) if isinstance(record, PairLogps) else record


def _as_given(record: PairLogps | GroupLogps, loss: Tensor, rewards: Tensor) -> PairLoss | GroupLoss:
    """The result of the kind of the record; rewards of absent answers are 0."""
    if isinstance(record, PairLogps):
        return PairLoss(loss, rewards[:, 0], rewards[:, 1])
    return GroupLoss(loss, torch.where(record.there, rewards, 0.0))


def _targets(group: GroupLogps, alpha: float) -> Tensor:
    """`softmax(worth / alpha)` over the answers that are there, [B, K]; 0 where there is none.

    The best worth is taken away first, so that no alpha is too small; below the smallest number of the type, all is
    one-hot anyway.
    """
    absent = ~group.there
    worth = group.worth.masked_fill(absent, -torch.inf)
    best = worth.amax(dim=1, keepdim=True)
    behind = (worth - best) / max(alpha, torch.finfo(worth.dtype).tiny)
    return behind.softmax(dim=1).masked_fill(absent, 0.0)


@overload
def infonca(record: PairLogps, *, beta: float = ..., alpha: float = ...) -> PairLoss: ...
@overload
def infonca(record: GroupLogps, *, beta: float = ..., alpha: float = ...) -> GroupLoss: ...


@uses("ref", "score")
def infonca(record: PairLogps | GroupLogps, *, beta: float = 0.01, alpha: float = 1.0) -> PairLoss | GroupLoss:
    """InfoNCA: among the answers to a prompt, implicit rewards take the distribution that their scores have.

    With `r = beta * (logp - ref)` and `q = softmax(worth / alpha)` over the K answers of a prompt:

        loss = -sum over i of q_i * log_softmax(r)_i

    Limits: ln K at policy = reference. It rests at softmax(r) = q, where it is the entropy of q; its slope in r_i is
    softmax(r)_i - q_i, which is bounded and stays where the order is wrong. It sees only differences: all answers may
    fall together.

    Relations: with two answers and alpha -> 0 it is `dpo`; with two answers and any alpha it is `rpo_backward_kl` at
    eta = 1 / alpha plus the entropy of q. `nca` holds each answer against the reference too.

    Args:
        record: log-probabilities of policy and reference, and scores; groups [B, K], or pairs [B] as groups of two.
        beta: strength of the pull to the reference; implicit reward = beta * u.
        alpha: temperature of the scores, in their units. The released configuration, 1e-4, is all but one-hot; soft
            targets need alpha near the spread of the scores.

    Returns:
        loss [B], in nats; implicit rewards `beta * u` of each answer.

    Raises:
        InputError: a setting is not above 0, or the record has no reference or no scores.

    Source: Chen et al. 2024, arXiv:2402.05369 (InfoNCA).
    """
    positive(beta=beta, alpha=alpha)
    group = _as_group(record)
    absent, rewards = ~group.there, beta * filled(group).log_ratio
    share = rewards.masked_fill(absent, -torch.inf).log_softmax(dim=1).masked_fill(absent, 0.0)
    return _as_given(record, -(_targets(group, alpha) * share).sum(dim=1), rewards)


@overload
def nca(record: PairLogps, *, beta: float = ..., alpha: float = ...) -> PairLoss: ...
@overload
def nca(record: GroupLogps, *, beta: float = ..., alpha: float = ...) -> GroupLoss: ...


@uses("ref", "score")
def nca(record: PairLogps | GroupLogps, *, beta: float = 0.01, alpha: float = 1.0) -> PairLoss | GroupLoss:
    """NCA: each answer's implicit reward goes to the log-odds of its share of the scores against an even share.

    With `r = beta * (logp - ref)` and `q = softmax(worth / alpha)` over the K answers of a prompt:

        loss = -sum over i of (q_i * log_sigmoid(r_i) + log_sigmoid(-r_i) / K)

    Limits: 2 ln 2 at policy = reference. Answer i rests at r_i = log(K q_i): above the reference if it has more than
    its share. Its slope in r_i, sigmoid(r_i) / K - q_i sigmoid(-r_i), stays at 1 / K for r_i -> +inf and at -q_i for
    -inf.

    Relations: with two answers and alpha -> 0 it is `nca_pair`. `infonca` sees only differences of answers.

    Args:
        record: log-probabilities of policy and reference, and scores; groups [B, K], or pairs [B] as groups of two.
        beta: strength of the pull to the reference; implicit reward = beta * u.
        alpha: temperature of the scores, in their units; see `infonca`.

    Returns:
        loss [B], in nats; implicit rewards `beta * u` of each answer.

    Raises:
        InputError: a setting is not above 0, or the record has no reference or no scores.

    Source: Chen et al. 2024, arXiv:2402.05369 (NCA).
    """
    positive(beta=beta, alpha=alpha)
    group = _as_group(record)
    there, rewards = group.there, beta * filled(group).log_ratio
    even = there.to(rewards.dtype) / there.sum(dim=1, keepdim=True).clamp(min=1)
    loss = -(_targets(group, alpha) * logsigmoid(rewards) + even * logsigmoid(-rewards)).sum(dim=1)
    return _as_given(record, loss, rewards)


@overload
def rrhf(record: PairLogps, *, sft_weight: float = ...) -> PairLoss: ...
@overload
def rrhf(record: GroupLogps, *, sft_weight: float = ...) -> GroupLoss: ...


@uses("length", "score")
def rrhf(record: PairLogps | GroupLogps, *, sft_weight: float = 1.0) -> PairLoss | GroupLoss:
    """Rank responses to align: mean log-probabilities in the order of the scores, and the best answer learned.

    With `p = logp / length`, over the answers to a prompt:

        loss = sum over pairs with worth_i < worth_j of max(0, p_i - p_j)  -  sft_weight * logp_best

    Limits: it has no reference and no margin. The ranking part is 0 as soon as the order is right and linear where it
    is wrong, with a kink between; the second part never rests, and is a sum over tokens, far larger than the first.
    Ties are not ranked, and share the second part among the best.

    Relations: `sft_weight` 0 leaves the ranking alone. `slic` ranks sums, and asks for a distance.

    Args:
        record: log-probabilities of the policy, token counts and scores; groups [B, K], or pairs [B] as groups of two.
        sft_weight: weight of the best answer's negative log-probability, not below 0.

    Returns:
        loss [B]; `mean_logp` of each answer in place of implicit rewards.

    Raises:
        InputError: `sft_weight` is outside its limits, or the record has no lengths or no scores.

    Source: Yuan et al. 2023, arXiv:2304.05302 (RRHF).
    """
    not_negative(sft_weight=sft_weight)
    group = _as_group(record)
    answers, absent = filled(group), ~group.there
    mean, worth = answers.mean_logp, group.worth.masked_fill(absent, torch.nan)
    # A comparison with NaN is false, so absent answers are in no pair.
    lower = worth[:, :, None] < worth[:, None, :]
    ranking = (relu(mean[:, :, None] - mean[:, None, :]) * lower).sum(dim=(1, 2))
    top = worth.masked_fill(absent, -torch.inf).amax(dim=1, keepdim=True)
    best = (worth == top).to(mean.dtype)
    learned = (answers.logp * best).sum(dim=1) / best.sum(dim=1).clamp(min=1)
    return _as_given(record, ranking - sft_weight * learned, mean)
