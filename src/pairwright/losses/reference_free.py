"""Losses on the policy alone: no reference, so nothing but the data and the learning rate holds the model.

Most average over tokens, because summed log-probabilities of answers of different lengths are not comparable without a
reference. `cpo` and `slic` sum, as their papers do.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pairwright.errors import InputError
from pairwright.losses.limits import largest_exponent, not_negative, positive
from pairwright.losses.types import PairLogps, PairLoss, uses


@uses("length")
def simpo(pair: PairLogps, *, beta: float = 2.0, gamma: float = 0.5) -> PairLoss:
    """Simple preference optimisation: mean log-probabilities, no reference, an absolute target margin `gamma`.

    With `m = logp / length` of each side:

        loss = -log_sigmoid(beta * (m_chosen - m_rejected) - gamma)

    Limits: for two answers of one mean it is `log(1 + exp(gamma))`: 0.974 at 0.5. It falls to 0 as the margin grows
    beyond gamma and rises linearly as it falls. Only the difference counts: both means may fall together.

    Relations: **`gamma` is absolute**, as in the paper's equation and TRL's `simpo_gamma`. The authors' code and
    open-instruct take gamma / beta: multiply theirs by beta (0.25 at beta 2.0 is 0.5 here; 0.55 at 2.5 is 1.375). TRL's
    own defaults (beta 0.1 and an NLL term) are not SimPO's. `alphapo` at alpha 0 is this loss.

    Args:
        pair: log-probabilities of the policy and token counts, [B].
        beta: scale of the mean log-probabilities; 2.0 to 10 in practice, far above DPO's.
        gamma: target margin, in units of the implicit reward, 0 or above.

    Returns:
        loss [B], in nats; implicit rewards `beta * m` of both sides, [B].

    Raises:
        InputError: a setting is outside its limits, or the record has no lengths.

    Source: Meng et al. 2024, arXiv:2405.14734.
    """
    positive(beta=beta)
    not_negative(gamma=gamma)
    chosen, rejected = beta * pair.chosen.mean_logp, beta * pair.rejected.mean_logp
    return PairLoss(-logsigmoid(chosen - rejected - gamma), chosen, rejected)


@uses("length")
def alphapo(pair: PairLogps, *, beta: float = 2.0, gamma: float = 0.5, alpha: float = 0.25) -> PairLoss:
    """AlphaPO: SimPO with a reward of another shape, which says how much an unlikely answer still counts.

    With `m = logp / length` of each side and `r = (1 - exp(-alpha * m)) / alpha`:

        loss = -log_sigmoid(beta * (r_chosen - r_rejected) - gamma)

    Limits: for two answers of one mean it is `log(1 + exp(gamma))`. A nat of an answer counts `exp(-alpha * m)` times:
    with alpha above 0 the more the less likely the answer is, below 0 the less. The exponent is cut at 80, or where the
    type of `logp` would overflow (about 7 in float16); there the gradient ends.

    Relations: alpha -> 0 is `simpo`, and alpha 0 is taken as that limit. It is TRL's `alphapo`, whose transform is sane
    on averaged log-probabilities only, as here. `gamma` is absolute, as in `simpo`.

    Args:
        pair: log-probabilities of the policy and token counts, [B].
        beta: scale of the rewards.
        gamma: target margin, in units of the implicit reward, 0 or above.
        alpha: shape of the reward; any finite number.

    Returns:
        loss [B], in nats; implicit rewards `beta * r` of both sides, [B].

    Raises:
        InputError: a setting is outside its limits, or the record has no lengths.

    Source: Gupta et al. 2025, arXiv:2501.03884, with the reward as TRL's CPO trainer writes it.
    """
    positive(beta=beta)
    not_negative(gamma=gamma)
    if not math.isfinite(alpha):
        raise InputError(f"alpha must be a finite number (got {alpha:g})")
    chosen, rejected = (_shaped(side.mean_logp, beta, alpha) for side in (pair.chosen, pair.rejected))
    return PairLoss(-logsigmoid(chosen - rejected - gamma), chosen, rejected)


def _shaped(mean: Tensor, beta: float, alpha: float) -> Tensor:
    """`beta * (1 - exp(-alpha * mean)) / alpha`, and its limit `beta * mean` at alpha 0."""
    if alpha == 0:
        return beta * mean
    largest = largest_exponent(mean.dtype, beta / abs(alpha))
    return beta * (-torch.expm1((-alpha * mean).clamp(max=largest)) / alpha)


@uses("length")
def cpo(pair: PairLogps, *, beta: float = 0.1, alpha: float = 1.0) -> PairLoss:
    """Contrastive preference optimisation: DPO with a uniform reference, and an NLL term on the chosen side.

        loss = -log_sigmoid(beta * (logp_chosen - logp_rejected)) - alpha * logp_chosen / length_chosen

    Limits: for two answers of one log-probability the first term is ln 2. It falls to 0 and rises linearly, as DPO's;
    the second rests nowhere above 0, so the chosen side is always pulled up by `alpha / length`.

    Relations: `dpo` where the reference is equally sure of both sides, plus `alpha` times `sft`. The comparison sums
    and the NLL averages, pair by pair; TRL averages the NLL over all chosen tokens of the batch.

    Args:
        pair: log-probabilities of the policy and token counts, [B].
        beta: scale of the summed log-probabilities.
        alpha: weight of the NLL in nats a token, 0 or above.

    Returns:
        loss [B], in nats; implicit rewards `beta * logp` of both sides, [B].

    Raises:
        InputError: a setting is outside its limits, or the record has no lengths.

    Source: Xu et al. 2024, arXiv:2401.08417, eq. 3 (as TRL's CPO trainer names it) and its NLL term.
    """
    positive(beta=beta)
    not_negative(alpha=alpha)
    chosen, rejected = beta * pair.chosen.logp, beta * pair.rejected.logp
    return PairLoss(-logsigmoid(chosen - rejected) - alpha * pair.chosen.mean_logp, chosen, rejected)


@uses("length")
def orpo(pair: PairLogps, *, beta: float = 0.1) -> PairLoss:
    """Odds ratio preference optimisation: NLL on the chosen side, and the log-odds of the chosen over the rejected one.

    With `m = logp / length` of each side and `odds = exp(m) / (1 - exp(m))`:

        loss = -m_chosen - beta * log_sigmoid(log(odds_chosen) - log(odds_rejected))

    Limits: for two answers of one mean it is `-m_chosen + beta * ln 2`. The NLL leads; the odds term falls to 0 as the
    chosen side wins. For small probabilities log-odds are log-probabilities; near probability 1 they grow without
    limit, so means are kept below 0 by the precision of their type.

    Relations: with sums in place of means the probabilities would all be near 0, and the odds a plain ratio. The NLL is
    of the completion, as in LLaMA-Factory; TRL takes it over prompt and completion, averaged over the batch's tokens.

    Args:
        pair: log-probabilities of the policy and token counts, [B].
        beta: weight of the odds term, the paper's lambda and TRL's `beta`.

    Returns:
        loss [B], in nats; implicit rewards `beta * m` of both sides, [B].

    Raises:
        InputError: beta is not above 0, or the record has no lengths.

    Source: Hong et al. 2024, arXiv:2403.07691, eqs. 4 and 7, as TRL's ORPO trainer names them.
    """
    positive(beta=beta)
    chosen, rejected = pair.chosen.mean_logp, pair.rejected.mean_logp
    loss = -chosen - beta * logsigmoid(_log_odds(chosen) - _log_odds(rejected))
    return PairLoss(loss, beta * chosen, beta * rejected)


def _log_odds(mean: Tensor) -> Tensor:
    """`log(p / (1 - p))` for `p = exp(mean)`; a certain answer would have infinite odds, and NaN for a gradient."""
    below = mean.clamp(max=-torch.finfo(mean.dtype).eps)
    return below - torch.log(-torch.expm1(below))


@uses()
def slic(pair: PairLogps, *, delta: float = 1.0, sft_weight: float = 0.1) -> PairLoss:
    """Sequence likelihood calibration (SLiC-HF): a hinge on summed log-probabilities, and an NLL term.

        loss = max(0, delta - (logp_chosen - logp_rejected)) - sft_weight * logp_chosen

    Limits: for two answers of one log-probability the hinge is `delta`. Until the chosen side is `delta` nats ahead it
    pulls with a gradient of -1 and +1; then only the NLL is left, which rests nowhere above 0.

    Relations: `hinge` has a reference and a beta; with a uniform reference it is this hinge at delta = 1 / beta, up to
    scale. The NLL is of the chosen side, summed, as `sft_sum`; the paper takes it of the SFT target.

    Args:
        pair: log-probabilities of the policy, [B].
        delta: nats by which the chosen side should be ahead, above 0.
        sft_weight: weight of the NLL, 0 or above.

    Returns:
        loss [B], in nats; `logp` of both sides in place of implicit rewards, [B].

    Raises:
        InputError: a setting is outside its limits.

    Source: Zhao et al. 2023, arXiv:2305.10425; defaults as in HALOs.
    """
    positive(delta=delta)
    not_negative(sft_weight=sft_weight)
    chosen, rejected = pair.chosen.logp, pair.rejected.logp
    return PairLoss(torch.relu(delta - (chosen - rejected)) - sft_weight * chosen, chosen, rejected)
