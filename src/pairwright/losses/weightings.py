"""Weights for pairs by how likely the policy is to say their answers itself; they have no gradient."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from pairwright.errors import InputError
from pairwright.losses.told import Told, name_of
from pairwright.losses.types import Asks, Loss, PairLogps, Side, asks, takes, uses

Weighting = Callable[..., Tensor]


@uses("length", "token_logp", "token_collision")
def wpo(pair: PairLogps, *, max_weight: float = 1.0) -> Tensor:
    """Weighted preference optimisation: pairs that the policy could have said itself count more ("sampled alignment").

    With `p_t` the policy's distribution where token t was predicted, for each side:

        a = mean over t of (log p_t(token) - log sum_v p_t(v)**2)
        weight = min(exp(a_chosen + a_rejected), max_weight)

    Limits: 0 where an answer has tokens that the policy would never say. A side's `exp(a)` is 1 where its tokens are as
    likely as a token drawn from the policy is on average; a greedy answer has more than 1, which the cap holds back.

    Relations: 1 everywhere is the loss itself. TRL's `use_weighting` has no cap (`max_weight: .inf` here).
    `wpo_plain` leaves the second term out.

    Args:
        pair: token log-probabilities of the policy, their collision terms, and token counts.
        max_weight: the cap on a pair's weight, above 0; infinity is no cap.

    Returns:
        [B] weights without gradient.

    Raises:
        InputError: the cap is not above 0, or the record has not these fields.

    Source: Zhou et al. 2024, arXiv:2406.11827 (WPO), sampled alignment.
    """
    if not max_weight > 0:  # infinity is allowed: no cap
        raise InputError(f"max_weight must be above 0 (got {max_weight:g})")
    return (_alignment(pair.chosen) + _alignment(pair.rejected)).exp().clamp(max=max_weight).detach()


def _alignment(side: Side) -> Tensor:
    """Mean over tokens of their log-probability over the expected one; padding is 0 in both."""
    over = side.known("token_logp") - side.known("token_collision")
    return over.sum(dim=-1).to(side.logp.dtype) / side.tokens


@uses("length")
def wpo_plain(pair: PairLogps) -> Tensor:
    """Weighted preference optimisation without alignment: the product of the sides' geometric mean token probabilities.

        weight = exp(mean_logp_chosen + mean_logp_rejected)

    Limits: 1 where both answers are certain, 0 where a mean token has no probability. Texts of high entropy count less
    even when the policy says them itself; `wpo` corrects that.

    Relations: 1 everywhere is the loss itself.

    Args:
        pair: log-probabilities of the policy and token counts, [B].

    Returns:
        [B] weights without gradient.

    Raises:
        InputError: the record has no lengths.

    Source: Zhou et al. 2024, arXiv:2406.11827 (WPO), before alignment.
    """
    return (pair.chosen.mean_logp + pair.rejected.mean_logp).exp().detach()


WEIGHTINGS: dict[str, Weighting] = {"wpo": wpo, "wpo_plain": wpo_plain}


def weighted(loss: Loss, weighting: Weighting) -> Loss:
    """The loss with each pair's value times its weight.

    Args:
        loss: a loss of pairs, its settings bound.
        weighting: from pairs to [B] weights, its settings bound; marked with `@uses` like a loss.

    Returns:
        a loss of pairs that needs what both need. Implicit rewards are those of `loss`. Its gradient is not that of its
        value, because the weight has none; `check_loss` is for the loss without it.

    Raises:
        InputError: the loss takes no pairs, or its value for a pair belongs to other pairs of the batch too.
    """
    asked, more, name = asks(loss), asks(weighting), name_of(loss)
    if PairLogps not in takes(loss):
        raise InputError(f"loss {name!r} takes no pairs, and a weighting is of pairs; leave weighting out")
    if asked.of_batch:
        raise InputError(
            f"loss {name!r} takes no weighting: it sorts the batch, so its value for a row is not of that pair alone; "
            f"leave weighting out"
        )

    def call(pair: Any) -> Any:
        out = loss(pair)
        return out._replace(loss=out.loss * weighting(pair).detach())

    both = Asks(asked.needs | more.needs, asked.scores, asked.baseline, asked.of_batch)
    return Told(call, both, (PairLogps,), name)
