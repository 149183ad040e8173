"""Losses with a kink: a pair that is right by enough is left alone."""

import torch

from pairwright.losses.limits import positive
from pairwright.losses.types import PairLogps, PairLoss, uses


@uses("ref")
def hinge(pair: PairLogps, *, beta: float = 0.1) -> PairLoss:
    """Hinge on DPO's margin: linear until the margin is 1, then nothing.

    With `z = beta * (u_chosen - u_rejected)` and `u = logp - ref`:

        loss = max(0, 1 - z)

    Limits: at policy = reference it is 1. Below z = 1 its gradient in `logp_chosen` is -beta however wrong the pair is;
    from z = 1 on, which is 1 / beta nats, value and gradient are 0.

    Relations: DPO's slope far below the margin, none above it. TRL calls it `hinge` and names SLiC as its source, but
    SLiC has no reference and no beta: that is `slic`.

    Args:
        pair: log-probabilities of policy and reference, [B].
        beta: strength of the pull to the reference; implicit reward = beta * u.

    Returns:
        loss [B]; implicit rewards `beta * u` of both sides, [B].

    Raises:
        InputError: beta is not above 0, or the record has no reference.

    Source: TRL's loss_type="hinge"; the hinge on a preference margin: Zhao et al. 2023, arXiv:2305.10425.
    """
    positive(beta=beta)
    chosen, rejected = beta * pair.chosen.log_ratio, beta * pair.rejected.log_ratio
    return PairLoss(torch.relu(1 - (chosen - rejected)), chosen, rejected)
