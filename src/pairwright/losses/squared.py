"""Losses that pull a margin to a finite target by its square, so that no pair is pushed for ever.

IPO has two readings that need very different settings, so they are two functions. The paper writes log-ratios of whole
answers (`ipo_sum`); its authors confirmed to TRL that the reported results average over tokens (`ipo_mean`). On one
record the losses can differ by a factor of two at the same beta, and by far more on long answers.
"""

from pairwright.losses.limits import positive
from pairwright.losses.types import PairLogps, PairLoss, uses


@uses("ref")
def ipo_sum(pair: PairLogps, *, beta: float = 0.1) -> PairLoss:
    """Identity preference optimisation on log-ratios of whole answers, as the paper writes it.

    With `u = logp - ref` of each side:

        loss = (u_chosen - u_rejected - 1 / (2 * beta)) ** 2

    Limits: at policy = reference it is `1 / (2 * beta)**2`: 25 at beta 0.1. It is 0 at its target and rises again
    beyond it, with a gradient that grows with the distance on both sides.

    Relations: `ipo_mean` averages over tokens first, as TRL, LLaMA-Factory and HALOs do under the name `ipo`; OpenRLHF,
    NeMo-Aligner and DPO's authors sum, as here. `sppo_hard` gives each side a target of its own.

    Args:
        pair: log-probabilities of policy and reference, [B].
        beta: the paper's tau; the target for the summed log-ratios is `1 / (2 * beta)` nats, 5 at 0.1.

    Returns:
        loss [B], in nats squared; implicit rewards `beta * u` of both sides, [B].

    Raises:
        InputError: beta is not above 0, or the record has no reference.

    Source: Azar et al. 2023, arXiv:2310.12036, eq. 17.
    """
    positive(beta=beta)
    chosen, rejected = pair.chosen.log_ratio, pair.rejected.log_ratio
    loss = (chosen - rejected - 1 / (2 * beta)) ** 2
    return PairLoss(loss, beta * chosen, beta * rejected)


@uses("ref", "length")
def ipo_mean(pair: PairLogps, *, beta: float = 0.1) -> PairLoss:
    """Identity preference optimisation on log-ratios averaged over tokens, as its authors ran it.

    With `v = (logp - ref) / length` of each side:

        loss = (v_chosen - v_rejected - 1 / (2 * beta)) ** 2

    Limits: at policy = reference it is `1 / (2 * beta)**2`: 25 at beta 0.1. The target is in nats **a token**: 5 at
    0.1, which no model reaches, so the loss is then nearly linear. A target of 0.1 nats a token is beta 5.

    Relations: `ipo_sum` where every answer has one token. It is what TRL, LLaMA-Factory and HALOs call `ipo`.

    Args:
        pair: log-probabilities of policy and reference and token counts, [B].
        beta: the paper's tau; the target for the mean log-ratios is `1 / (2 * beta)` nats a token.

    Returns:
        loss [B]; implicit rewards `beta * v` of both sides, [B], whose order is the one that this loss trains. (TRL
        logs beta times the summed log-ratio here.)

    Raises:
        InputError: beta is not above 0, or the record has no reference or no lengths.

    Source: Azar et al. 2023, arXiv:2310.12036, eq. 17, averaged over tokens as TRL's loss_type="ipo" does.
    """
    positive(beta=beta)
    chosen, rejected = pair.chosen.mean_log_ratio, pair.rejected.mean_log_ratio
    loss = (chosen - rejected - 1 / (2 * beta)) ** 2
    return PairLoss(loss, beta * chosen, beta * rejected)


@uses("ref")
def sppo_hard(pair: PairLogps, *, beta: float = 1e-3) -> PairLoss:
    """Self-play preference optimisation with hard labels: a target above 0 for one side and below 0 for the other.

    With `u = logp - ref` of each side:

        loss = (u_chosen - 1 / (2 * beta)) ** 2 + (u_rejected + 1 / (2 * beta)) ** 2

    Limits: at policy = reference it is `1 / (2 * beta**2)`: 500000 at beta 0.001. It rests where the sides are at
    +500 and -500 nats then, which no answer reaches, so that the gradient is nearly constant.

    Relations: `sppo` with win probabilities 1 and 0. Unlike `ipo_sum` it pulls each side to a target of its own, so
    that both cannot fall together. The authors' code halves it; TRL's `sppo_hard` does not, nor do we.

    Args:
        pair: log-probabilities of policy and reference, [B].
        beta: 1 / eta of the paper; the targets are `1 / (2 * beta)` nats away from 0. The paper has 0.001.

    Returns:
        loss [B], in nats squared; implicit rewards `beta * u` of both sides, [B].

    Raises:
        InputError: beta is not above 0, or the record has no reference.

    Source: Wu et al. 2024, arXiv:2405.00675, eq. 4.7 (as TRL's DPO trainer names it) with the win
        probabilities at 1 and 0.
    """
    positive(beta=beta)
    chosen, rejected, target = pair.chosen.log_ratio, pair.rejected.log_ratio, 1 / (2 * beta)
    loss = (chosen - target) ** 2 + (rejected + target) ** 2
    return PairLoss(loss, beta * chosen, beta * rejected)
