"""Losses that raise the likelihood of wanted answers and compare nothing: on their own, or as a term of a sum."""

from typing import overload

from pairwright.losses.types import PairLogps, PairLoss, PointLogps, PointLoss, uses


@overload
def sft(record: PairLogps) -> PairLoss: ...
@overload
def sft(record: PointLogps) -> PointLoss: ...
@uses("length")
def sft(record: PairLogps | PointLogps) -> PairLoss | PointLoss:
    """Supervised fine-tuning: the negative mean log-probability of the chosen side, or of each wanted single answer.

        loss = -logp_chosen / length_chosen

    Limits: it rests nowhere above 0, its value where the model is sure of the answer; the gradient in `logp_chosen` is
    `-1 / length`, the same everywhere. A single answer that is not wanted has the loss 0 and no gradient.

    Relations: the NLL term of iterative RPO (`dpo` + 1.0 `sft`) and of `cpo`; `sft_sum` is the same without the mean.
    Each answer counts alike, whatever its length; TRL's `sft` term averages over all chosen tokens of the batch, so
    that long answers weigh more there. For a batch of one the two agree.

    Args:
        record: log-probabilities of the policy and token counts, [B]. The rejected side of pairs only feeds the logged
            margin; of single answers only the wanted ones are learned from (without a threshold all are wanted).

    Returns:
        loss [B], in nats a token; `mean_logp` of each answer in place of implicit rewards, [B].

    Raises:
        InputError: the record has no lengths.

    Source: the usual negative log-likelihood of the completion; as a term: arXiv:2404.19733 (NLL / |y|).
    """
    if isinstance(record, PointLogps):
        mean = record.answers.mean_logp
        return PointLoss((-mean).where(record.wanted, 0.0), mean)
    chosen, rejected = record.chosen.mean_logp, record.rejected.mean_logp
    return PairLoss(-chosen, chosen, rejected)


@uses()
def sft_sum(pair: PairLogps) -> PairLoss:
    """Supervised fine-tuning on the chosen side, summed: its negative log-probability.

        loss = -logp_chosen

    Limits: it rests nowhere above 0, its value where the model is sure of the answer; the gradient in `logp_chosen` is
    -1 everywhere, so a long answer weighs by its tokens.

    Relations: `sft` times the length. `slic` and `rrhf` add this form; `goal_sft` is this form under another prompt.

    Args:
        pair: log-probabilities of the policy, [B]. The rejected side only feeds the logged margin.

    Returns:
        loss [B], in nats; `logp` of both sides in place of implicit rewards, [B].

    Source: the negative log-likelihood of the completion, as NeMo-Aligner adds it (sft_loss_weight).
    """
    return PairLoss(-pair.chosen.logp, pair.chosen.logp, pair.rejected.logp)


@uses("anchor")
def goal_sft(pair: PairLogps) -> PairLoss:
    """Supervised fine-tuning on the better-scored answer under the goal that generation will ask for.

    With the better-scored answer y_w of the pair and the goal g* of generation:

        loss = -log pi(y_w | x, g*)

    Limits: it rests nowhere above 0, its value where the model is sure of the answer; the gradient in the anchor's
    `logp` is -1 everywhere. The sides of the pair have none.

    Relations: the SFT regulariser of relabelled pairs. The whole objective is a loss on those pairs plus `eta * beta`
    times this one, with the beta of that loss. It is `sft_sum` on pairs whose chosen side was asked for with g*.

    Args:
        pair: pairs that ask for a goal, with their anchor, [B]. The two sides only feed the logged margin.

    Returns:
        loss [B], in nats; `logp` of both sides in place of implicit rewards, [B].

    Raises:
        InputError: the record has no anchor.

    Source: Zhang et al. 2024, arXiv:2410.08067, Algorithm 1.
    """
    return PairLoss(-pair.known_anchor().logp, pair.chosen.logp, pair.rejected.logp)
