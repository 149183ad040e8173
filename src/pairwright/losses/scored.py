"""Losses that look at how much better an answer is, not only at which is better.

A pair's gap knows its goal (`PairLogps.score_gap`), so all but `sppo` work on relabelled pairs as they are. The size of
a gap depends on the scale of the scores: a setting beside it (`eta`, `alpha`, `margins`) fits the scale to the loss.
"""

from collections.abc import Mapping
from typing import overload

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pairwright.errors import InputError
from pairwright.losses.groups import filled
from pairwright.losses.limits import between, finite, not_negative, positive
from pairwright.losses.types import GroupLogps, GroupLoss, PairLogps, PairLoss, Side, uses


def _rewards(pair: PairLogps, beta: float) -> tuple[Tensor, Tensor]:
    """Implicit rewards `beta * (logp - ref)` of both sides."""
    return beta * pair.chosen.log_ratio, beta * pair.rejected.log_ratio


@uses("ref", "score")
def rpo_squared(pair: PairLogps, *, beta: float = 0.1, eta: float = 1.0) -> PairLoss:
    """Reward-aware preference optimisation: the squared distance of the margin to the scaled gap of scores.

    With `a = beta * (u_chosen - u_rejected)`, `u = logp - ref`, and `b = eta * gap`:

        loss = (a - b) ** 2

    Limits: b**2 at policy = reference. It rests at a = b and grows without bound on both sides, with slope 2 (a - b),
    so scores that are far off pull hardest. A tie rests at a = 0, a negative gap at a negative margin.

    Relations: `ipo_sum` with the target of each pair set by its gap: beta**2 times it at gap = 1 / (2 eta).
    `rpo_backward_kl` and `rpo_forward_kl` rest at the same place. TRL's `rpo_alpha` is another RPO (DPO plus NLL).

    Args:
        pair: log-probabilities of policy and reference, and scores, [B].
        beta: strength of the pull to the reference; implicit reward = beta * u. NeMo-Aligner's default is 0.2.
        eta: units of implicit reward for one unit of score.

    Returns:
        loss [B]; implicit rewards `beta * u` of both sides, [B].

    Raises:
        InputError: a setting is not above 0, or the record has no reference or no scores.

    Source: Nemotron-4 340B, arXiv:2406.11704; as in NeMo-Aligner, `rpo_sq`.
    """
    positive(beta=beta, eta=eta)
    chosen, rejected = _rewards(pair, beta)
    return PairLoss((chosen - rejected - eta * pair.score_gap) ** 2, chosen, rejected)


@uses("ref", "score")
def rpo_backward_kl(pair: PairLogps, *, beta: float = 0.1, eta: float = 1.0) -> PairLoss:
    """Reward-aware preference optimisation: DPO with the soft label that the gap of scores gives.

    With `a = beta * (u_chosen - u_rejected)`, `u = logp - ref`, `b = eta * gap`, s the logistic function:

        loss = s(b) * log(s(b) / s(a)) + s(-b) * log(s(-b) / s(-a))

    which is KL(Bernoulli(s(b)) || Bernoulli(s(a))).

    Limits: ln 2 minus the entropy of s(b) at policy = reference. It rests at a = b. The slope in a is s(a) - s(b),
    never above 1: it stays at s(-b) for a -> +inf and at -s(b) for a -> -inf.

    Relations: b -> inf is `dpo` (eta 1 on scores of 1 to 10 is nearly there: s(5) = 0.993). `dpo` with smoothing e has
    the same gradient at s(b) = 1 - e. NeMo-Aligner calls it backward; the target stands first.

    Args:
        pair: log-probabilities of policy and reference, and scores, [B].
        beta: strength of the pull to the reference; implicit reward = beta * u. NeMo-Aligner's default is 0.2.
        eta: log-odds of winning for one unit of score.

    Returns:
        loss [B], in nats; implicit rewards `beta * u` of both sides, [B].

    Raises:
        InputError: a setting is not above 0, or the record has no reference or no scores.

    Source: Nemotron-4 340B, arXiv:2406.11704; as in NeMo-Aligner, `rpo_bwd_kl`.
    """
    positive(beta=beta, eta=eta)
    chosen, rejected = _rewards(pair, beta)
    return PairLoss(_bernoulli_kl(eta * pair.score_gap, chosen - rejected), chosen, rejected)


@uses("ref", "score")
def rpo_forward_kl(pair: PairLogps, *, beta: float = 0.1, eta: float = 1.0) -> PairLoss:
    """Reward-aware preference optimisation with the divergence turned round: the policy's own odds stand first.

    With `a = beta * (u_chosen - u_rejected)`, `u = logp - ref`, `b = eta * gap`, s the logistic function:

        loss = s(a) * log(s(a) / s(b)) + s(-a) * log(s(-a) / s(-b))

    which is KL(Bernoulli(s(a)) || Bernoulli(s(b))).

    Limits: it rests at a = b. The slope in a is s(a) s(-a) (a - b), which fades on both sides: for a -> -inf the pair
    is given up at a loss of -log s(-b), for a -> +inf at -log s(b).

    Relations: close to a = b it is (a - b)**2 times s(b) s(-b) / 2, as `rpo_backward_kl`. `exo` is this with the fixed
    target s(b) = 1 - label_smoothing.

    Args:
        pair: log-probabilities of policy and reference, and scores, [B].
        beta: strength of the pull to the reference; implicit reward = beta * u. NeMo-Aligner's default is 0.2.
        eta: log-odds of winning for one unit of score.

    Returns:
        loss [B], in nats; implicit rewards `beta * u` of both sides, [B].

    Raises:
        InputError: a setting is not above 0, or the record has no reference or no scores.

    Source: Nemotron-4 340B, arXiv:2406.11704; as in NeMo-Aligner, `rpo_fwd_kl`.
    """
    positive(beta=beta, eta=eta)
    chosen, rejected = _rewards(pair, beta)
    return PairLoss(_bernoulli_kl(chosen - rejected, eta * pair.score_gap), chosen, rejected)


def _bernoulli_kl(left: Tensor, right: Tensor) -> Tensor:
    """KL(Bernoulli(sigmoid(left)) || Bernoulli(sigmoid(right))), in nats."""
    yes = left.sigmoid() * (logsigmoid(left) - logsigmoid(right))
    no = (-left).sigmoid() * (logsigmoid(-left) - logsigmoid(-right))
    return yes + no


@uses("ref", "score")
def odpo(pair: PairLogps, *, beta: float = 0.1, alpha: float = 1.0) -> PairLoss:
    """DPO with an offset: a pair must be apart by the logarithm of its gap of scores.

    With `z = beta * (u_chosen - u_rejected)` and `u = logp - ref`:

        loss = -log_sigmoid(z - alpha * log(gap))

    Limits: log(1 + gap**alpha) at policy = reference. It fades for z -> +inf and is linear with slope 1 for z -> -inf;
    it never rests. A gap below 1 asks for less than nothing, and a tie (gap 0) costs nothing and has no gradient.

    Relations: `dpo` where the gap is 1, or for alpha -> 0. `margin_dpo` takes the gap itself.

    Args:
        pair: log-probabilities of policy and reference, and scores, [B].
        beta: strength of the pull to the reference; implicit reward = beta * u.
        alpha: weight of the offset.

    Returns:
        loss [B], in nats; implicit rewards `beta * u` of both sides, [B].

    Raises:
        InputError: a setting is not above 0, the record has no reference or no scores, a score is NaN, or a chosen side
            has the worse score.

    Source: Amini et al. 2024, arXiv:2402.10571 (ODPO), with the logarithm as scaling.
    """
    positive(beta=beta, alpha=alpha)
    gap = pair.score_gap
    if not (gap >= 0).all():
        _refuse_unscored("odpo", gap, "pairs")
        worse = int((gap < 0).sum())
        raise InputError(
            f"odpo takes the logarithm of the gap of scores, but {worse} of {len(gap)} pairs have the better score on "
            f"the rejected side; drop these pairs, or use margin_dpo"
        )
    chosen, rejected = _rewards(pair, beta)
    return PairLoss(-logsigmoid(chosen - rejected - alpha * gap.log()), chosen, rejected)


def _refuse_unscored(loss: str, scores: Tensor, rows: str) -> None:
    if (lost := int(scores.isnan().sum())) > 0:
        raise InputError(
            f"{loss} needs a score on every answer, but {lost} of {scores.numel()} {rows} have NaN; drop them"
        )


@uses("ref", "score")
def margin_dpo(pair: PairLogps, *, beta: float = 0.1, alpha: float = 1.0) -> PairLoss:
    """DPO with a margin: a pair must be apart by `alpha` times its gap of scores.

    With `z = beta * (u_chosen - u_rejected)` and `u = logp - ref`:

        loss = -log_sigmoid(z - alpha * gap)

    Limits: log(1 + exp(alpha * gap)) at policy = reference. It fades for z -> +inf and is linear with slope 1 for
    z -> -inf; it never rests, but pairs with a wide gap pull longer.

    Relations: alpha = 0 is `dpo`. It is `modpo` with weight 1 and the main score as its margin. `odpo` takes
    the logarithm of the gap. `rpo_squared` rests where this one is at -log_sigmoid(0) = ln 2 (eta = alpha).

    Args:
        pair: log-probabilities of policy and reference, and scores, [B].
        beta: strength of the pull to the reference; implicit reward = beta * u.
        alpha: units of implicit reward for one unit of score, not below 0.

    Returns:
        loss [B], in nats; implicit rewards `beta * u` of both sides, [B].

    Raises:
        InputError: a setting is outside its limits, or the record has no reference or no scores.

    Source: DPO with the gap itself for a margin, as in `modpo` with one objective (Zhou et al. 2023, arXiv:2310.03708).
    """
    positive(beta=beta)
    not_negative(alpha=alpha)
    chosen, rejected = _rewards(pair, beta)
    return PairLoss(-logsigmoid(chosen - rejected - alpha * pair.score_gap), chosen, rejected)


@uses("ref", scores="margins")
def modpo(
    pair: PairLogps, *, beta: float = 0.1, weight: float = 0.5, margins: Mapping[str, float] | None = None
) -> PairLoss:
    """Multi-objective DPO: pairs of one objective, with the others as margins, for any weighting of them.

    With `u = logp - ref`, w_k the weight of the objective that the pairs were labelled by, and w_i those of the scores
    r_i:

        R = (beta * u - sum over i of w_i * r_i) / w_k
        loss = -log_sigmoid(R_chosen - R_rejected)

    Limits: it fades where R_chosen - R_rejected is large and is linear with slope beta / w_k on the other side, so
    small weights are singular (below 0.05 is refused). Its population minimum is the policy that trades all objectives
    by their weights.

    Relations: `weight` 1 without margins is `dpo`, and with the main score as margin `margin_dpo`. A cost is a score
    with its sign turned. The main score's gap knows the goal; named scores are taken as they are.

    Args:
        pair: log-probabilities of policy and reference, and scores, [B].
        beta: strength of the pull to the reference; implicit reward = beta * u.
        weight: w_k, 0.05 to 1.
        margins: weights w_i by the name of the score (`score` is the main one), in units of implicit reward for one
            unit of score. None is `{"score": 1 - weight}`: by default the margin is the main score column itself. That
            is the score that most pairs are labelled by, and then it would count twice; give `margins` unless the pairs
            were labelled by another objective. Weights need not sum to 1, but then beta means another pull.

    Returns:
        loss [B], in nats; implicit rewards `beta * u` of both sides, [B] (the official code logs R, which cannot be
        compared across weights).

    Raises:
        InputError: a setting is outside its limits, or the record has no reference or lacks a score.

    Source: Zhou et al. 2023, arXiv:2310.03708 (MODPO); as in the official `modpo_loss`.
    """
    positive(beta=beta)
    between(0.05, 1.0, weight=weight)
    others = {"score": 1 - weight} if margins is None else margins
    finite(**others)
    chosen, rejected = _rewards(pair, beta)
    margin = chosen - rejected
    for name, other in others.items():
        margin = margin - other * _gap(pair, name)
    return PairLoss(-logsigmoid(margin / weight), chosen, rejected)


def _gap(pair: PairLogps, name: str) -> Tensor:
    """The gap of one score. Only the main score knows the goal."""
    return pair.score_gap if name == "score" else pair.chosen.named(name) - pair.rejected.named(name)


@overload
def sppo(record: PairLogps, *, beta: float = ...) -> PairLoss: ...
@overload
def sppo(record: GroupLogps, *, beta: float = ...) -> GroupLoss: ...


@uses("ref", "score")
def sppo(record: PairLogps | GroupLogps, *, beta: float = 1e-3) -> PairLoss | GroupLoss:
    """Self-play preference optimisation: each log-ratio goes to the answer's win probability against the policy.

    With `u = logp - ref` and P the win probability of the answer:

        loss = sum over answers of (u - (P - 1/2) / beta) ** 2

    **The score is P**, a probability: write it with a scorer of win rates, not a reward model.

    Limits: sum of ((P - 1/2) / beta)**2 at policy = reference. Each answer rests at u = (P - 1/2) / beta, 500 nats for
    a sure win at beta 1e-3, so in practice the slope hardly changes. Answers do not see each other.

    Relations: P of 1 and 0 is `sppo_hard`. The authors' code has half of this loss.

    Args:
        record: log-probabilities of policy and reference, and win probabilities as scores; pairs [B] or groups [B, K].
        beta: 1 / eta of the paper; 1e-3 there.

    Returns:
        loss [B], in nats squared; implicit rewards `beta * u` of each answer.

    Raises:
        InputError: beta is not above 0, the record has no reference or no scores, a score is outside [0, 1] or NaN, or
            the record asks for a goal (a probability of winning knows none).

    Source: Wu et al. 2024, arXiv:2405.00675 (SPPO).
    """
    positive(beta=beta)
    if record.goal is not None and not record.goal.isnan().all():
        raise InputError("sppo takes win probabilities as scores, which know no goal; train it on pairs without goals")
    if isinstance(record, PairLogps):
        chosen, rejected = (_to_win_rate(side, beta) for side in (record.chosen, record.rejected))
        return PairLoss(chosen + rejected, beta * record.chosen.log_ratio, beta * record.rejected.log_ratio)
    side, there = filled(record), record.there
    loss = torch.where(there, _to_win_rate(side, beta), 0.0).sum(dim=1)
    return GroupLoss(loss, torch.where(there, beta * side.log_ratio, 0.0))


def _to_win_rate(side: Side, beta: float) -> Tensor:
    """The squared distance of each log-ratio to its target."""
    wins = side.named("score")
    if not ((wins >= 0) & (wins <= 1)).all():
        _refuse_unscored("sppo", wins, "answers")
        low, high = wins.min().item(), wins.max().item()
        raise InputError(
            f"sppo takes win probabilities between 0 and 1 as scores (got {low:g} to {high:g}); score the answers by "
            f"win rate, or use rpo_squared for other scores"
        )
    return (side.log_ratio - (wins - 0.5) / beta) ** 2
