"""Losses that compare distributions over a batch, not pairs one by one.

The loss of a row depends on the other rows that it is computed with: those of one micro-batch of one process. Two runs
with the same batch in other parts differ.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid

from pairwright.losses.limits import between, positive
from pairwright.losses.types import PairLogps, PairLoss, uses


@uses("ref", of_batch=True)
def aot(pair: PairLogps, *, beta: float = 0.1, label_smoothing: float = 0.0) -> PairLoss:
    """Alignment by optimal transport, paired: the policy's margins should dominate the reference's as a distribution.

    With `a = logp_chosen - logp_rejected` and `b = ref_chosen - ref_rejected` of each pair, e for `label_smoothing`,
    and a pair whose a has rank k in the batch:

        d = beta * (a - the b of rank k)
        loss = -(1 - e) * log_sigmoid(d) - e * log_sigmoid(-d)

    Limits: at policy = reference it is ln 2. In d it is `dpo`: it falls to 0, and rises like -d. Which b is compared
    with is data to the gradient.

    Relations: a batch of one pair is `dpo`. The mean over the batch is TRL's `aot`, which leaves the values in the
    order of the ranks; here each stands with the pair whose margin it is, so permuted pairs give permuted losses.

    Args:
        pair: log-probabilities of policy and reference, [B].
        beta: strength of the pull to the reference; implicit reward = beta * (logp - ref).
        label_smoothing: the share of labels believed to be wrong, 0 to 0.5.

    Returns:
        loss [B], in nats; implicit rewards `beta * (logp - ref)` of both sides, [B].

    Raises:
        InputError: a setting is outside its limits, or the record has no reference.

    Source: Melnyk et al. 2024, arXiv:2406.05882, paired.
    """
    positive(beta=beta)
    between(0.0, 0.5, label_smoothing=label_smoothing)
    policy = pair.chosen.logp - pair.rejected.logp
    reference = pair.chosen.known("ref") - pair.rejected.known("ref")
    margin = beta * (policy - _of_same_rank(reference.to(policy.dtype), policy))
    loss = -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
    return PairLoss(loss, beta * pair.chosen.log_ratio, beta * pair.rejected.log_ratio)


@uses("ref", of_batch=True)
def aot_unpaired(pair: PairLogps, *, beta: float = 0.1, label_smoothing: float = 0.0) -> PairLoss:
    """Alignment by optimal transport, unpaired: chosen log-ratios should dominate rejected ones as a distribution.

    With `u = logp - ref` of each side, e for `label_smoothing`, and a chosen side whose u has rank k in the batch:

        d = beta * (u_chosen - the u_rejected of rank k)
        loss = -(1 - e) * log_sigmoid(d) - e * log_sigmoid(-d)

    Limits: at policy = reference it is ln 2. In d it is `dpo`: it falls to 0, and rises like -d. The gradient of a
    rejected side comes from the pair that it was matched with.

    Relations: a batch of one pair is `dpo`. Which rejected answer stands beside which chosen one plays no part. The
    mean over the batch is TRL's `aot_unpaired`; here each value stands with the pair of its chosen side.

    Args:
        pair: log-probabilities of policy and reference, [B].
        beta: strength of the pull to the reference; implicit reward = beta * u.
        label_smoothing: the share of labels believed to be wrong, 0 to 0.5.

    Returns:
        loss [B], in nats; implicit rewards `beta * u` of both sides, [B].

    Raises:
        InputError: a setting is outside its limits, or the record has no reference.

    Source: Melnyk et al. 2024, arXiv:2406.05882, unpaired.
    """
    positive(beta=beta)
    between(0.0, 0.5, label_smoothing=label_smoothing)
    chosen, rejected = beta * pair.chosen.log_ratio, beta * pair.rejected.log_ratio
    margin = chosen - _of_same_rank(rejected, chosen)
    loss = -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
    return PairLoss(loss, chosen, rejected)


def _of_same_rank(values: Tensor, like: Tensor) -> Tensor:
    """For each element of `like`, the one of `values` that has its rank, [B]."""
    rank = like.argsort(stable=True).argsort()
    return values.sort().values[rank]
