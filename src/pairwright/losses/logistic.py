"""Losses that put a margin through the logistic function: a step is large where the margin is wrong, and fades out.

Here `log_sigmoid(t) = -log(1 + exp(-t))` is always taken whole, never as `log(sigmoid(t))`, which in float32 is -inf
below t = -104.
"""

from torch.nn.functional import logsigmoid

from pairwright.losses.limits import between, positive
from pairwright.losses.types import PairLogps, PairLoss, uses


@uses("ref")
def dpo(pair: PairLogps, *, beta: float = 0.1, label_smoothing: float = 0.0) -> PairLoss:
    """Direct preference optimisation; with label smoothing, its conservative form (cDPO).

    With the log-ratio `u = logp - ref` of each side and `z = beta * (u_chosen - u_rejected)`:

        loss = -(1 - label_smoothing) * log_sigmoid(z) - label_smoothing * log_sigmoid(-z)

    At policy = reference it is ln 2 for every `beta`. Its gradient in `logp_chosen` is `-beta * sigmoid(-z)` without
    smoothing, so a pair stops pulling once its margin is a few nats / beta. With smoothing e it rests at
    `sigmoid(z) = 1 - e`. It sees only the difference of the sides: both may fall together.

    Args:
        pair: log-probabilities of policy and reference, [B].
        beta: strength of the pull to the reference; implicit reward = beta * u. 0.01 to 0.5 in practice.
        label_smoothing: the share of labels believed to be wrong, 0 to 0.5.

    Returns:
        loss [B], in nats; implicit rewards `beta * u` of both sides, [B].

    Raises:
        InputError: a setting is outside its limits, or the record has no reference.

    Source: Rafailov et al. 2023, arXiv:2305.18290, eq. 7; smoothing: Mitchell 2023, "A note on DPO with noisy
        preferences", eq. 3.
    """
    positive(beta=beta)
    between(0.0, 0.5, label_smoothing=label_smoothing)
    chosen, rejected = beta * pair.chosen.log_ratio, beta * pair.rejected.log_ratio
    margin = chosen - rejected
    loss = -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
    return PairLoss(loss, chosen, rejected)


@uses("length")
def simpo(pair: PairLogps, *, beta: float = 2.0, gamma: float = 0.5) -> PairLoss:
    """Simple preference optimisation: mean log-probabilities, no reference, an absolute target margin `gamma`.

        loss = -log_sigmoid(beta * (mean_logp_chosen - mean_logp_rejected) - gamma)

    **`gamma` is absolute**, as in the paper's equation: the pair should be apart by `gamma` after scaling by beta.
    The authors' code takes the ratio `gamma_beta_ratio`; multiply it by beta to get this setting (their default 0.25 at
    beta 2.0 is 0.5 here; their Llama-3-Instruct setting 0.55 at beta 2.5 is 1.375). TRL's `simpo_gamma` is absolute.

    Args:
        pair: log-probabilities of the policy and token counts, [B].
        beta: scale of the mean log-probabilities; 2.0 to 10 in practice, far above DPO's.
        gamma: target margin, in units of the implicit reward.

    Returns:
        loss [B], in nats; implicit rewards `beta * mean_logp` of both sides, [B].

    Raises:
        InputError: a setting is outside its limits, or the record has no lengths.

    Source: Meng et al. 2024, arXiv:2405.14734, eq. 6.
    """
    positive(beta=beta)
    between(0.0, float("inf"), gamma=gamma)
    chosen, rejected = beta * pair.chosen.mean_logp, beta * pair.rejected.mean_logp
    return PairLoss(-logsigmoid(chosen - rejected - gamma), chosen, rejected)
