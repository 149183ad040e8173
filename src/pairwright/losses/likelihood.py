"""Losses that raise the likelihood of wanted answers and compare nothing."""

from pairwright.losses.types import PairLogps, PairLoss, uses


@uses("length")
def sft(pair: PairLogps) -> PairLoss:
    """Supervised fine-tuning on the chosen side: its negative mean log-probability.

        loss = -logp_chosen / length_chosen

    Each pair counts alike, whatever its length. (TRL's `sft` term averages over all chosen tokens of the batch, so that
    long answers weigh more; for a batch of one the two agree.)

    Args:
        pair: log-probabilities of the policy and token counts, [B]. The rejected side only feeds the logged margin.

    Returns:
        loss [B], in nats a token; `mean_logp` of both sides in place of implicit rewards, [B].

    Raises:
        InputError: the record has no lengths.

    Source: the usual negative log-likelihood of the completion; as a term: arXiv:2404.19733 (NLL / |y|).
    """
    chosen, rejected = pair.chosen.mean_logp, pair.rejected.mean_logp
    return PairLoss(-chosen, chosen, rejected)
