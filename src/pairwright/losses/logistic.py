"""Losses that put a margin through the logistic function: a step is large where the margin is wrong, and fades out.

Here `log_sigmoid(t) = -log(1 + exp(-t))` is always taken whole, never as `log(sigmoid(t))`, which in float32 is -inf
below t = -104.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pairwright.errors import InputError
from pairwright.losses.limits import between, not_negative, positive
from pairwright.losses.types import PairLogps, PairLoss, Side, uses


@uses("ref")
def dpo(pair: PairLogps, *, beta: float = 0.1, label_smoothing: float = 0.0) -> PairLoss:
    """Direct preference optimisation; with label smoothing, its conservative form (cDPO).

    With the log-ratio `u = logp - ref` of each side and `z = beta * (u_chosen - u_rejected)`:

        loss = -(1 - label_smoothing) * log_sigmoid(z) - label_smoothing * log_sigmoid(-z)

    Limits: at policy = reference it is ln 2 for every setting. Without smoothing it falls to 0 as the margin grows and
    rises like -z as it falls; the gradient in `logp_chosen` is `-beta * sigmoid(-z)`, so a pair stops pulling once its
    margin is a few nats. With smoothing e it rests at `sigmoid(z) = 1 - e`.

    Relations: it sees only the difference of the sides, so both may fall together; `nca_pair` and `apo_zero` hold the
    chosen side up. `robust_dpo` reads the share of wrong labels otherwise. TRL's `sigmoid` ignores `label_smoothing`.

    Args:
        pair: log-probabilities of policy and reference, [B].
        beta: strength of the pull to the reference; implicit reward = beta * u. 0.01 to 0.5 in practice.
        label_smoothing: the share of labels believed to be wrong, 0 to 0.5.

    Returns:
        loss [B], in nats; implicit rewards `beta * u` of both sides, [B].

    Raises:
        InputError: a setting is outside its limits, or the record has no reference.

    Source: Rafailov et al. 2023, arXiv:2305.18290; smoothing: Mitchell 2023, "A note on DPO with noisy
        preferences", eq. 3.
    """
    positive(beta=beta)
    between(0.0, 0.5, label_smoothing=label_smoothing)
    chosen, rejected = beta * pair.chosen.log_ratio, beta * pair.rejected.log_ratio
    margin = chosen - rejected
    loss = -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
    return PairLoss(loss, chosen, rejected)


@uses("ref", "length")
def dpo_mean(pair: PairLogps, *, beta: float = 0.1) -> PairLoss:
    """DPO on log-ratios averaged over tokens, so that a long answer has no larger margin than a short one.

    With `v = (logp - ref) / length` of each side:

        loss = -log_sigmoid(beta * (v_chosen - v_rejected))

    Limits: at policy = reference it is ln 2. It falls to 0 and rises as `dpo` does, but in nats **a token**: at the
    same beta the margin stays near 0, where the gradient is about `-beta / (2 * length)`.

    Relations: `dpo` at beta / length where both sides have one length; `ipo_mean` with the square for the logistic. It
    keeps the reference, so it is not `simpo`. It is TRL's `sigmoid_norm` and open-instruct's `dpo_norm` (beta 5).

    Args:
        pair: log-probabilities of policy and reference and token counts, [B].
        beta: scale of the mean log-ratios.

    Returns:
        loss [B], in nats; implicit rewards `beta * v` of both sides, [B].

    Raises:
        InputError: beta is not above 0, or the record has no reference or no lengths.

    Source: Rafailov et al. 2023, arXiv:2305.18290, averaged over tokens as TRL's loss_type="sigmoid_norm" does.
    """
    positive(beta=beta)
    chosen, rejected = beta * pair.chosen.mean_log_ratio, beta * pair.rejected.mean_log_ratio
    return PairLoss(-logsigmoid(chosen - rejected), chosen, rejected)


@uses("ref")
def robust_dpo(pair: PairLogps, *, beta: float = 0.1, label_smoothing: float = 0.1) -> PairLoss:
    """Robust DPO: the loss whose mean over labels turned at random is DPO's on the true ones.

    With `z = beta * (u_chosen - u_rejected)`, `u = logp - ref` and e for `label_smoothing`:

        loss = (-(1 - e) * log_sigmoid(z) + e * log_sigmoid(-z)) / (1 - 2 * e)

    Limits: at policy = reference it is ln 2. It has no floor: as the margin grows it falls like `-e * z / (1 - 2e)` and
    the gradient stays, so stop early. As the margin falls it rises like `-(1 - e) * z / (1 - 2e)`.

    Relations: `(1 - e) * loss(z) + e * loss(-z)` is DPO's loss, so with the true e it has DPO's minimiser on clean
    labels; `dpo` with smoothing, which rests at a finite margin, has not. `label_smoothing` 0 is `dpo`.

    Args:
        pair: log-probabilities of policy and reference, [B].
        beta: strength of the pull to the reference; implicit reward = beta * u.
        label_smoothing: the share of labels that are wrong, from 0 to below 0.5.

    Returns:
        loss [B], in nats, which may be below 0; implicit rewards `beta * u` of both sides, [B].

    Raises:
        InputError: a setting is outside its limits, or the record has no reference.

    Source: Chowdhury et al. 2024, arXiv:2403.00409, the unbiased estimate of DPO's loss.
    """
    positive(beta=beta)
    if not 0 <= label_smoothing < 0.5:
        raise InputError(
            f"label_smoothing must be from 0 to below 0.5 (got {label_smoothing:g}); at 0.5 labels say nothing, and "
            f"there is no loss to estimate"
        )
    chosen, rejected = beta * pair.chosen.log_ratio, beta * pair.rejected.log_ratio
    margin = chosen - rejected
    loss = -(1 - label_smoothing) * logsigmoid(margin) + label_smoothing * logsigmoid(-margin)
    return PairLoss(loss / (1 - 2 * label_smoothing), chosen, rejected)


@uses("ref", "length")
def r_dpo(pair: PairLogps, *, beta: float = 0.1, alpha: float = 0.05) -> PairLoss:
    """Length-regularised DPO (R-DPO): a longer winner counts as explained by its length in part.

    With `z = beta * (u_chosen - u_rejected)` and `u = logp - ref`:

        loss = -log_sigmoid(z + alpha * (length_chosen - length_rejected))

    Limits: at policy = reference it is ln 2 only for answers of one length; a winner that is shorter by n tokens begins
    `alpha * n` below, and pulls more. Then as `dpo`: it falls to 0, and rises like -z.

    Relations: `alpha` 0 is `dpo`. It is DPO for the reward `r - alpha * length`, solved for r; with the opposite sign,
    which some texts print, training would reward length.

    Args:
        pair: log-probabilities of policy and reference and token counts, [B].
        beta: strength of the pull to the reference; implicit reward = beta * u.
        alpha: price of a token in units of the implicit reward, 0 or above.

    Returns:
        loss [B], in nats; implicit rewards `beta * u` of both sides, [B], without the price of length.

    Raises:
        InputError: a setting is outside its limits, or the record has no reference or no lengths.

    Source: Park et al. 2024, arXiv:2403.19159; the sign is derived from the penalised reward.
    """
    positive(beta=beta)
    not_negative(alpha=alpha)
    chosen, rejected = beta * pair.chosen.log_ratio, beta * pair.rejected.log_ratio
    longer = pair.chosen.tokens - pair.rejected.tokens
    return PairLoss(-logsigmoid(chosen - rejected + alpha * longer), chosen, rejected)


@uses("ref", "length", "token_logp", "token_ref")
def ld_dpo(pair: PairLogps, *, beta: float = 0.1, alpha: float = 0.5) -> PairLoss:
    """Length-desensitised DPO (LD-DPO): tokens beyond the length of the shorter side count less.

    With `n = min(length_chosen, length_rejected)` and `u_t = logp_t - ref_t` of each token:

        u' = sum over t <= n of u_t + alpha * sum over t > n of u_t
        loss = -log_sigmoid(beta * (u'_chosen - u'_rejected))

    Limits: at policy = reference it is ln 2. Then as `dpo`; a token of the tail has alpha times the gradient of the
    others. There is a kink in nothing but the lengths, which are data.

    Relations: `alpha` 1 is `dpo`; `alpha` 0 is `dpo` on answers cut to one length; sides of one length are `dpo`
    whatever alpha is. `alpha` weighs policy and reference, as in TRL; LLaMA-Factory weighs the policy only, so that
    policy = reference is no ln 2 there.

    Args:
        pair: log-probabilities of policy and reference, in sum [B] and by token [B, T], and token counts.
        beta: strength of the pull to the reference; implicit reward = beta * u'.
        alpha: weight of the tail, 0 to 1.

    Returns:
        loss [B], in nats; implicit rewards `beta * u'` of both sides, [B].

    Raises:
        InputError: a setting is outside its limits, or the record lacks the reference, lengths or tokens.

    Source: Liu et al. 2024, arXiv:2409.06411.
    """
    positive(beta=beta)
    between(0.0, 1.0, alpha=alpha)
    shared = torch.minimum(pair.chosen.known("length"), pair.rejected.known("length"))
    chosen, rejected = (
        beta * (side.log_ratio - (1 - alpha) * _tail(side, shared)) for side in (pair.chosen, pair.rejected)
    )
    return PairLoss(-logsigmoid(chosen - rejected), chosen, rejected)


def _tail(side: Side, shared: Tensor) -> Tensor:
    """Sum of the log-ratios of all tokens after the first `shared` ones, [B]; places past the end hold 0."""
    ratio = (side.known("token_logp") - side.known("token_ref")).to(side.logp.dtype)
    place = torch.arange(ratio.shape[-1], device=ratio.device)
    return ratio.where(place >= shared[:, None], 0.0).sum(dim=-1)


@uses("ref")
def discopop(pair: PairLogps, *, beta: float = 0.05, tau: float = 0.05) -> PairLoss:
    """DiscoPOP: a blend of the logistic and the exponential loss, found by search over programs.

    With `z = beta * (u_chosen - u_rejected)`, `u = logp - ref` and `m = sigmoid(z / tau)`:

        loss = -(1 - m) * log_sigmoid(z) + m * exp(-z)

    Limits: at policy = reference it is `(ln 2 + 1) / 2` = 0.846574. For z -> +inf it is `exp(-z)`, for z -> -inf it
    rises like -z. It is not convex: at tau below 0.1023 its slope at z = 0 is **above 0**. At the default 0.05 a pair
    that starts at the reference is drawn to z = -0.119, where it rests; only a pair beyond the hump at z = 0.072 is
    pulled up.

    Relations: for z far below 0 it is `dpo`. A larger tau (0.2) removes the hump.

    Args:
        pair: log-probabilities of policy and reference, [B].
        beta: strength of the pull to the reference; implicit reward = beta * u.
        tau: width of the blend in units of z, above 0 and at most 1 (beyond, the exponential would win for z < 0).

    Returns:
        loss [B]; implicit rewards `beta * u` of both sides, [B].

    Raises:
        InputError: a setting is outside its limits, or the record has no reference.

    Source: Lu et al. 2024, arXiv:2406.08414, eq. 5, as TRL's DPO trainer names it.
    """
    positive(beta=beta, tau=tau)
    between(0.0, 1.0, tau=tau)
    chosen, rejected = beta * pair.chosen.log_ratio, beta * pair.rejected.log_ratio
    margin = chosen - rejected
    # In log space: exp(-z) alone overflows where its weight m is 0.
    exponential = torch.exp(logsigmoid(margin / tau) - margin)
    loss = -torch.sigmoid(-margin / tau) * logsigmoid(margin) + exponential
    return PairLoss(loss, chosen, rejected)
