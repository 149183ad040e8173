"""Planted faults in what a loss does with its columns, its results and its signature: `check_loss` must name each."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pairwright.errors import InputError
from pairwright.losses import (
    GroupLogps,
    GroupLoss,
    PairLogps,
    PairLoss,
    PointLogps,
    PointLoss,
    check_loss,
    odpo,
    uses,
)

Loss = Callable[..., Any]


def logistic(pair: PairLogps, gap: Tensor | float = 0.0) -> PairLoss:
    chosen, rejected = 0.1 * pair.chosen.log_ratio, 0.1 * pair.rejected.log_ratio
    return PairLoss(-logsigmoid(chosen - rejected - gap), chosen, rejected)


def nothing(pair: PairLogps) -> None: ...


class Likewise(NamedTuple):
    loss: Tensor
    chosen: Tensor
    rejected: Tensor


@uses("ref")
def of_another_type(pair: PairLogps) -> Likewise:
    return Likewise(*logistic(pair))


@uses("ref")
def in_bfloat16(pair: PairLogps) -> PairLoss:
    out = logistic(pair)
    return out._replace(loss=out.loss.bfloat16())


@uses("ref")
def rewards_in_float32(pair: PairLogps) -> PairLoss:
    out = logistic(pair)
    return out._replace(rejected=out.rejected.float())


@uses("ref", "score")
def rescaling_in_place(pair: PairLogps) -> PairLoss:
    pair.rejected.known("score").mul_(0.5)
    return logistic(pair, 0.1)


@uses("ref")
def clamping_in_place(pair: PairLogps) -> PairLoss:
    pair.chosen.known("ref").clamp_(min=-5)
    return logistic(pair)


@uses("ref", "token_logp")
def zeroing_tokens(pair: PairLogps) -> PairLoss:
    tokens = pair.chosen.known("token_logp")
    if not tokens.requires_grad:
        tokens.zero_()
    return logistic(pair)


@uses("ref")
def by_length_if_there(pair: PairLogps) -> PairLoss:
    out = logistic(pair)
    return out if pair.chosen.length is None else out._replace(loss=out.loss / pair.chosen.length)


@uses("ref")
def by_anchor_if_there(pair: PairLogps) -> PairLoss:
    out = logistic(pair)
    return out if pair.anchor is None else out._replace(loss=out.loss - pair.anchor.logp)


@uses("ref", "score")
def with_nan_of_integers(pair: PairLogps) -> PairLoss:
    score = torch.full_like(pair.chosen.known("score"), torch.nan)
    return logistic(pair, 0.1 * score.nan_to_num())


@uses("ref", "score")
def of_the_type_of_its_scores(pair: PairLogps) -> PairLoss:
    return logistic(pair, 0.1 * (pair.chosen.known("score") - pair.rejected.known("score")).double())


@uses("ref", "score")
def infinite_at_ties(pair: PairLogps) -> PairLoss:
    return logistic(pair, -pair.score_gap.log())


@uses("ref", "score")
def refusing_ties_and_goals(pair: PairLogps) -> PairLoss:
    if (pair.score_gap == 0).any() or pair.goal is not None:
        raise InputError("no ties and no goals here")
    return logistic(pair, pair.score_gap.log())


@uses("ref", "score")
def blind_to_nan_goals(pair: PairLogps) -> PairLoss:
    return logistic(pair, 0.1 * pair.score_gap if pair.goal is None else 0.1 * pair.goal)


@uses("ref", "score")
def zero_for_no_goal(pair: PairLogps) -> PairLoss:
    goal = 0.0 if pair.goal is None else pair.goal.nan_to_num(0.3)
    return logistic(pair, 0.1 * goal + 0.0 * pair.score_gap)


@uses("ref")
def exchanged_rewards(pair: PairLogps) -> PairLoss:
    loss, chosen, rejected = logistic(pair)
    return PairLoss(loss, rejected, chosen)


@uses("ref")
def exchanged_rewards_detached(pair: PairLogps) -> PairLoss:
    loss, chosen, rejected = logistic(pair)
    return PairLoss(loss, rejected.detach(), chosen.detach())


@uses("ref")
def falling_rewards(pair: PairLogps) -> PairLoss:
    loss, chosen, rejected = logistic(pair)
    return PairLoss(loss, chosen, -rejected)


@uses("ref")
def rewards_of_zero(pair: PairLogps) -> PairLoss:
    loss, chosen, rejected = logistic(pair)
    return PairLoss(loss, torch.zeros_like(chosen), torch.zeros_like(rejected))


@uses("ref")
def detached_far_away(pair: PairLogps) -> PairLoss:
    out = logistic(pair)
    far = (pair.chosen.log_ratio - pair.rejected.log_ratio).abs() > 20
    return out._replace(loss=torch.where(far, out.loss.detach() + 1e-3 * out.chosen - 1e-3 * out.rejected, out.loss))


@uses("ref")
def positional(pair: PairLogps, beta: float = 0.1) -> PairLoss:
    return logistic(pair)


@uses("ref", "score")
def lonely(group: GroupLogps) -> GroupLoss:
    """By the standard deviation over the answers, which one alone has not."""
    there = group.there
    ratio = 0.1 * (group.answers.logp.masked_fill(~there, 0) - group.answers.known("ref").masked_fill(~there, 0))
    worth = group.worth.masked_fill(~there, 0)
    count = there.sum(1, keepdim=True)
    off = (worth - worth.sum(1, keepdim=True) / count) * there
    scale = (off.square().sum(1, keepdim=True) / (count - 1)).sqrt()
    return GroupLoss(-(off / (scale + 1e-3) * ratio).sum(1), ratio)


@uses("ref")
def falling_points(points: PointLogps) -> PointLoss:
    reward = 0.1 * points.answers.log_ratio
    return PointLoss(-logsigmoid(torch.where(points.wanted, reward, -reward)), -reward)


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (nothing, "must give a PairLoss for PairLogps, not NoneType"),
        (of_another_type, "must give a PairLoss for PairLogps, not Likewise"),
        (in_bfloat16, "loss is torch.bfloat16 where the record is torch.float64"),
        (rewards_in_float32, "rejected is torch.float32 where the record is torch.float64"),
        (rescaling_in_place, "changed the score of rejected in place"),
        (clamping_in_place, "changed the ref of chosen in place"),
        (zeroing_tokens, "changed the token_logp of chosen in place"),
        (by_length_if_there, r"needs \['ref'\], but its value changes when other fields are given too"),
        (by_anchor_if_there, "its value changes when other fields are given too"),
        (with_nan_of_integers, "fails where scores and lengths are integers"),
        (of_the_type_of_its_scores, "loss is torch.float64 where the policy is torch.float32 and the scores are"),
        (infinite_at_ties, "not finite where all answers have the same score"),
        (blind_to_nan_goals, "the value is not finite where some rows have a goal"),
        (zero_for_no_goal, "a goal of NaN must count as none"),
        (exchanged_rewards, "the implicit reward of chosen moves with the other side alone"),
        (exchanged_rewards_detached, "the implicit reward of chosen moves with the other side alone"),
        (falling_rewards, "the implicit reward of rejected falls as its log-probability rises"),
        (detached_far_away, r"where chosen has 5 times the log-probability \(is a factor detached"),
        (positional, "its setting 'beta' is not keyword-only"),
        (lonely, "not finite where a group has one answer"),
        (falling_points, "the implicit reward of answers falls as its log-probability rises"),
    ],
)
def test_a_planted_fault_is_caught(loss: Loss, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_loss(loss)


@pytest.mark.parametrize("loss", [refusing_ties_and_goals, rewards_of_zero, odpo])
def test_a_loss_may_refuse_ties_and_goals_and_have_no_rewards(loss: Loss) -> None:
    check_loss(loss)


class Object:
    """A sound loss that is an object."""

    @uses("ref", "score")
    def __call__(self, pair: PairLogps, *, alpha: float = 0.1) -> PairLoss:
        return logistic(pair, alpha * pair.score_gap)


def test_objects_and_partials_are_checked_too() -> None:
    check_loss(Object())
    check_loss(partial(Object(), alpha=0.3))
    check_loss(Object(), alpha=0.2)
    with pytest.raises(AssertionError, match=r"^exchanged_rewards: "):
        check_loss(partial(exchanged_rewards))
