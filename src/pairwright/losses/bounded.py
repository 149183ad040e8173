"""Losses that are bounded: a pair that is hopelessly wrong stops pulling, as one that is right does."""

import math

import torch
from torch.nn.functional import logsigmoid

from pairwright.losses.limits import between, positive
from pairwright.losses.types import PairLogps, PairLoss, uses


@uses("ref")
def apo_zero(pair: PairLogps, *, beta: float = 0.1) -> PairLoss:
    """Anchored preference optimisation, "zero": the chosen side up and the rejected one down, each for itself.

    With the implicit reward `h = beta * (logp - ref)` of each side:

        loss = 1 - sigmoid(h_chosen) + sigmoid(h_rejected)

    Limits: at policy = reference it is 1, between 0 and 2 everywhere. Each side's gradient is
    `beta * s * (1 - s)` with `s = sigmoid(h)`: greatest at the reference, and it fades far from it in both directions.

    Relations: twice the mean of `apo_zero_unpaired` over the two sides, so twice `kto` at baseline 0. Choose it when
    the chosen answers are better than what the model gives by itself, `apo_down` when they are worse.

    Args:
        pair: log-probabilities of policy and reference, [B].
        beta: strength of the pull to the reference; implicit reward = beta * (logp - ref).

    Returns:
        loss [B], 0 to 2; implicit rewards `h` of both sides, [B].

    Raises:
        InputError: beta is not above 0, or the record has no reference.

    Source: D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 7.
    """
    positive(beta=beta)
    chosen, rejected = beta * pair.chosen.log_ratio, beta * pair.rejected.log_ratio
    return PairLoss(torch.sigmoid(-chosen) + torch.sigmoid(rejected), chosen, rejected)


@uses("ref")
def apo_down(pair: PairLogps, *, beta: float = 0.1) -> PairLoss:
    """Anchored preference optimisation, "down": both sides down, the rejected one further.

    With the implicit reward `h = beta * (logp - ref)` of each side:

        loss = sigmoid(h_chosen) + 1 - sigmoid(h_chosen - h_rejected)

    Limits: at policy = reference it is 1, between 0 and 2 everywhere. There the two terms cancel for the chosen side,
    whose gradient is 0, and the rejected one falls by `beta / 4`. As the margin grows the second term fades and the
    chosen side is pushed down too; it fades far from the reference in both directions.

    Relations: `apo_zero` pushes the chosen side up instead. Choose this one when the chosen answers are worse than what
    the model gives by itself.

    Args:
        pair: log-probabilities of policy and reference, [B].
        beta: strength of the pull to the reference; implicit reward = beta * (logp - ref).

    Returns:
        loss [B], 0 to 2; implicit rewards `h` of both sides, [B].

    Raises:
        InputError: beta is not above 0, or the record has no reference.

    Source: D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 8.
    """
    positive(beta=beta)
    chosen, rejected = beta * pair.chosen.log_ratio, beta * pair.rejected.log_ratio
    return PairLoss(torch.sigmoid(chosen) + torch.sigmoid(rejected - chosen), chosen, rejected)


@uses("ref")
def exo(pair: PairLogps, *, beta: float = 0.1, label_smoothing: float = 1e-3) -> PairLoss:
    """Efficient exact optimisation on pairs (EXO-pref): the reverse KL from the policy's choice to the smoothed label.

    With `z = beta * (u_chosen - u_rejected)`, `u = logp - ref`, `p = sigmoid(z)` and e for `label_smoothing`:

        loss = p * (log(p) - log(1 - e)) + (1 - p) * (log(1 - p) - log(e))

    Limits: at policy = reference it is `-ln 2 - log(e * (1 - e)) / 2`: 2.761 at e = 0.001. It is 0, its minimum, at
    `p = 1 - e`, and rises to `-log(1 - e)` beyond. For z -> -inf it levels off at `-log(e)` and the gradient fades: a
    pair that is hopelessly wrong is given up.

    Relations: `dpo` with the same smoothing takes the KL the other way round; both rest at `p = 1 - e`. Smoothing is no
    option here: without it the loss would be infinite. It is TRL's `exo_pair`.

    Args:
        pair: log-probabilities of policy and reference, [B].
        beta: strength of the pull to the reference; implicit reward = beta * u.
        label_smoothing: probability that the label gives to the rejected side, above 0, at most 0.5.

    Returns:
        loss [B], in nats, 0 or above; implicit rewards `beta * u` of both sides, [B].

    Raises:
        InputError: a setting is outside its limits, or the record has no reference.

    Source: Ji et al. 2024, arXiv:2402.00856, eq. 16 (EXO-pref), as TRL's DPO trainer names it.
    """
    positive(beta=beta, label_smoothing=label_smoothing)
    between(0.0, 0.5, label_smoothing=label_smoothing)
    chosen, rejected = beta * pair.chosen.log_ratio, beta * pair.rejected.log_ratio
    margin = chosen - rejected
    right = torch.sigmoid(margin) * (logsigmoid(margin) - math.log1p(-label_smoothing))
    wrong = torch.sigmoid(-margin) * (logsigmoid(-margin) - math.log(label_smoothing))
    return PairLoss(right + wrong, chosen, rejected)
