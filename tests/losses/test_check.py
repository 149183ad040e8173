"""Planted faults: `check_loss` must name each of them."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pairwright.losses import (
    GroupLogps,
    GroupLoss,
    PairLogps,
    PairLoss,
    PointLogps,
    PointLoss,
    Side,
    check_loss,
    uses,
)

Loss = Callable[..., Any]


def logistic(pair: PairLogps) -> PairLoss:
    chosen, rejected = 0.1 * pair.chosen.log_ratio, 0.1 * pair.rejected.log_ratio
    return PairLoss(-logsigmoid(chosen - rejected), chosen, rejected)


@uses("ref")
def sound(pair: PairLogps) -> PairLoss:
    return logistic(pair)


@uses("ref")
def flipped(pair: PairLogps) -> PairLoss:
    _, chosen, rejected = logistic(pair)
    return PairLoss(-logsigmoid(rejected - chosen), chosen, rejected)


def undeclared(pair: PairLogps) -> PairLoss:
    return logistic(pair)


@uses("ref", "length")
def overdeclared(pair: PairLogps) -> PairLoss:
    return logistic(pair)


@uses("ref")
def reduced(pair: PairLogps) -> PairLoss:
    loss, chosen, rejected = logistic(pair)
    return PairLoss(loss.mean(), chosen, rejected)


@uses("ref")
def reduced_and_spread(pair: PairLogps) -> PairLoss:
    loss, chosen, rejected = logistic(pair)
    return PairLoss(loss.mean().expand_as(loss), chosen, rejected)


@uses("ref")
def underflowing(pair: PairLogps) -> PairLoss:
    _, chosen, rejected = logistic(pair)
    return PairLoss(-torch.log(torch.sigmoid(chosen - rejected)), chosen, rejected)


@uses("ref")
def detached(pair: PairLogps) -> PairLoss:
    loss, chosen, rejected = logistic(pair)
    return PairLoss(loss * chosen.detach().exp(), chosen, rejected)


@uses("ref")
def constant(pair: PairLogps) -> PairLoss:
    loss, chosen, rejected = logistic(pair)
    return PairLoss(loss.detach(), chosen, rejected)


@uses("score")
def careless(pair: PairLogps) -> PairLoss:
    gap = (pair.chosen.score - pair.rejected.score).to(pair.chosen.logp.dtype)  # type: ignore[operator]
    return PairLoss(-logsigmoid(pair.chosen.logp - pair.rejected.logp - gap), pair.chosen.logp, pair.rejected.logp)


def test_a_sound_loss_passes() -> None:
    check_loss(sound)


def test_a_loss_may_use_an_optional_field_directly() -> None:
    check_loss(careless)


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (flipped, "must raise the chosen log-probability over the rejected one"),
        (undeclared, "needs nothing but fails with just that"),
        (overdeclared, "needs 'length' but runs without it"),
        (reduced, r"loss must have shape \[B\], one value a pair, not \[\]"),
        (reduced_and_spread, "must not depend on the other pairs"),
        (underflowing, "in float32 where the chosen side has logp"),
        (detached, "is a factor detached"),
        (constant, "does not depend on the log-probabilities"),
    ],
)
def test_a_planted_fault_is_caught(loss: Loss, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_loss(loss)


# Losses of tokens, of named scores, of an anchor, of the whole batch, and with a baseline.


@uses("token_logp", "length")
def of_tokens(pair: PairLogps) -> PairLoss:
    """The first two tokens count."""
    chosen, rejected = (side.known("token_logp")[:, :2].sum(1) / side.known("length") for side in pair[:2])
    return PairLoss(-logsigmoid(chosen - rejected), chosen, rejected)


@uses("token_logp", "length")
def one_token_detached(pair: PairLogps) -> PairLoss:
    def weighed(side: Side) -> Tensor:
        tokens = side.known("token_logp")
        return (tokens[:, :1] + tokens[:, 1:].detach()).sum(1) / side.known("length")

    chosen, rejected = weighed(pair.chosen), weighed(pair.rejected)
    return PairLoss(-logsigmoid(chosen - rejected), chosen, rejected)


@uses("ref", scores="margins")
def of_scores(pair: PairLogps, *, margins: Mapping[str, float] = {"safety": 0.5}) -> PairLoss:
    _, chosen, rejected = logistic(pair)
    gaps = sum(w * (pair.chosen.named(n) - pair.rejected.named(n)) for n, w in margins.items())
    return PairLoss(-logsigmoid(chosen - rejected - gaps), chosen, rejected)


@uses("ref", scores="margins")
def of_a_default_score(pair: PairLogps, *, margins: Mapping[str, float] | None = None) -> PairLoss:
    return of_scores(pair, margins=margins or {"score": 1.0})


@uses("ref", scores="margins")
def of_no_scores(pair: PairLogps, *, margins: Mapping[str, float] = {"safety": 0.5}) -> PairLoss:
    return logistic(pair)


@uses("anchor")
def of_the_anchor(pair: PairLogps) -> PairLoss:
    return PairLoss(-pair.known_anchor().logp, pair.chosen.logp, pair.rejected.logp)


@uses("anchor")
def of_the_anchor_flipped(pair: PairLogps) -> PairLoss:
    return PairLoss(pair.known_anchor().logp, pair.chosen.logp, pair.rejected.logp)


@uses("ref", of_batch=True)
def of_the_batch(pair: PairLogps) -> PairLoss:
    _, chosen, rejected = logistic(pair)
    return PairLoss(-logsigmoid(chosen - rejected) + 0.1 * rejected.mean(), chosen, rejected)


@uses("ref", of_batch=True)
def of_each_row(pair: PairLogps) -> PairLoss:
    return logistic(pair)


@uses("ref")
def of_the_batch_in_silence(pair: PairLogps) -> PairLoss:
    return of_the_batch(pair)


@uses("ref")
def in_place(pair: PairLogps) -> PairLoss:
    if not pair.chosen.logp.requires_grad:
        pair.chosen.logp.sub_(pair.chosen.known("ref")).add_(pair.chosen.known("ref") + 1)
    return logistic(pair)


@uses("ref", baseline="running_mean")
def from_a_baseline(pair: PairLogps) -> PairLoss:
    _, chosen, rejected = logistic(pair)
    mean = 0.0 if pair.baseline is None else pair.baseline.detach()
    return PairLoss(-logsigmoid(chosen - mean) - logsigmoid(mean - rejected), chosen, rejected)


@uses("ref", baseline="running_mean")
def baseline_with_a_gradient(pair: PairLogps) -> PairLoss:
    _, chosen, rejected = logistic(pair)
    mean = 0.0 if pair.baseline is None else pair.baseline
    return PairLoss(-logsigmoid(chosen - mean) - logsigmoid(mean - rejected), chosen, rejected)


@uses("ref", baseline="running_mean")
def baseline_of_one(pair: PairLogps) -> PairLoss:
    _, chosen, rejected = logistic(pair)
    mean = 1.0 if pair.baseline is None else pair.baseline.detach()
    return PairLoss(-logsigmoid(chosen - mean) - logsigmoid(mean - rejected), chosen, rejected)


@uses("ref", baseline="running_mean")
def baseline_unused(pair: PairLogps) -> PairLoss:
    return logistic(pair)


@uses("ref")
def baseline_in_silence(pair: PairLogps) -> PairLoss:
    return from_a_baseline(pair)


@pytest.mark.parametrize(
    "loss", [of_tokens, of_scores, of_a_default_score, of_the_anchor, of_the_batch, from_a_baseline]
)
def test_sound_losses_of_all_fields_pass(loss: Loss) -> None:
    check_loss(loss)


def test_a_loss_is_checked_with_its_settings() -> None:
    check_loss(of_scores, margins={"a": 1.0, "b": -0.5, "score": 0.1})


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (one_token_detached, "is a factor detached"),
        (of_no_scores, "needs 'scores' but runs without it"),
        (of_the_anchor_flipped, "must raise the chosen log-probability"),
        (of_each_row, "no row depends on the others"),
        (of_the_batch_in_silence, "must not depend on the other pairs"),
        (in_place, "changed the log-probabilities of chosen in place"),
        (baseline_with_a_gradient, "the baseline must be a constant"),
        (baseline_of_one, "a baseline of None must count as 0"),
        (baseline_unused, "wants the baseline 'running_mean' but does not look at it"),
        (baseline_in_silence, "changes with the baseline"),
    ],
)
def test_a_fault_in_any_field_is_caught(loss: Loss, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_loss(loss)


# Losses of groups: K answers into a softmax, against a softmax of their scores.


def softmaxed(group: GroupLogps, *, sign: float = 1.0) -> GroupLoss:
    there = group.there
    ratio = group.answers.logp.masked_fill(~there, 0) - group.answers.known("ref").masked_fill(~there, 0)
    q = group.worth.masked_fill(~there, -torch.inf).softmax(1)
    share = (sign * ratio).masked_fill(~there, -torch.inf).log_softmax(1).masked_fill(~there, 0)
    return GroupLoss(-(q * share).sum(1), ratio)


def of_pairs_too(record: PairLogps | GroupLogps, loss: Callable[[GroupLogps], GroupLoss]) -> PairLoss | GroupLoss:
    out = loss(GroupLogps.of(record) if isinstance(record, PairLogps) else record)
    return PairLoss(out.loss, out.rewards[:, 0], out.rewards[:, 1]) if isinstance(record, PairLogps) else out


@uses("ref", "score")
def group_sound(record: PairLogps | GroupLogps) -> PairLoss | GroupLoss:
    return of_pairs_too(record, softmaxed)


@uses("ref", "score")
def group_flipped(group: GroupLogps) -> GroupLoss:
    return softmaxed(group, sign=-1.0)


@uses("ref", "score")
def group_first(group: GroupLogps) -> GroupLoss:
    out = softmaxed(group)
    return out._replace(loss=out.loss + 0.1 * out.rewards[:, 0].square())


@uses("ref", "score")
def group_of_all_places(group: GroupLogps) -> GroupLoss:
    return softmaxed(group._replace(present=None))


@uses("ref", "score")
def group_with_nan_slopes(group: GroupLogps) -> GroupLoss:
    """The value leaves absent answers out, but after their NaN went through tanh."""
    out = softmaxed(group)
    ratio = group.answers.logp - group.answers.known("ref")
    extra = torch.where(group.there, ratio.tanh(), 0.0).sum(1)
    return out._replace(loss=out.loss - 1e-3 * extra)


@uses("ref", "score")
def group_with_rewards_of_nobody(group: GroupLogps) -> GroupLoss:
    out = softmaxed(group)
    return out._replace(rewards=out.rewards + 1)


@uses("ref", "score")
def group_with_one_reward(group: GroupLogps) -> GroupLoss:
    out = softmaxed(group)
    return out._replace(rewards=out.rewards[:, 0])


@uses("ref", "score")
def group_unlike_pairs(record: PairLogps | GroupLogps) -> PairLoss | GroupLoss:
    out = group_sound(record)
    return out._replace(loss=2 * out.loss) if isinstance(record, PairLogps) else out


def test_a_sound_loss_of_groups_passes() -> None:
    check_loss(group_sound)


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (group_flipped, "must raise the best-scored one over the worst"),
        (group_first, "order of a group's answers must not change its loss"),
        (group_of_all_places, "an absent answer changes the loss"),
        (group_with_nan_slopes, "an absent answer has a gradient, or makes one NaN"),
        (group_with_rewards_of_nobody, "reward of an absent answer must be 0"),
        (group_with_one_reward, r"rewards must have shape \[B, K\], one value an answer, not \[6\]"),
        (group_unlike_pairs, "what a group of its two answers gives"),
    ],
)
def test_a_fault_in_a_loss_of_groups_is_caught(loss: Loss, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_loss(loss)


# Losses of single answers.


def classed(points: PointLogps, up: float = -1.0, down: float = 1.0) -> PointLoss:
    rewards = 0.1 * points.answers.log_ratio
    return PointLoss(-logsigmoid(torch.where(points.wanted, -up * rewards, -down * rewards)), rewards)


@uses("ref")
def point_sound(points: PointLogps) -> PointLoss:
    return classed(points)


@uses("ref")
def point_raises_all(points: PointLogps) -> PointLoss:
    return classed(points, down=-0.5)


@uses("ref")
def point_lowers_all(points: PointLogps) -> PointLoss:
    return classed(points, up=1.0)


def point_of_likelihood(points: PointLogps) -> PointLoss:
    return PointLoss(-points.answers.logp, points.answers.logp)


@uses("ref")
def point_of_the_batch(points: PointLogps) -> PointLoss:
    out = classed(points)
    return out._replace(loss=out.loss - 0.1 * out.rewards.mean())


@uses("ref")
def point_underflowing(points: PointLogps) -> PointLoss:
    rewards = points.answers.log_ratio
    return PointLoss(-torch.where(points.wanted, rewards, -rewards).sigmoid().log(), rewards)


@pytest.mark.parametrize("loss", [point_sound, point_of_likelihood])
def test_a_sound_loss_of_single_answers_passes(loss: Loss) -> None:
    check_loss(loss)


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (point_raises_all, "must lower an unwanted answer"),
        (point_lowers_all, "must raise a wanted answer"),
        (point_of_the_batch, "the loss of one answer must not depend on the other answers of its batch"),
        (point_underflowing, "in float32 where the answer side has logp"),
    ],
)
def test_a_fault_in_a_loss_of_single_answers_is_caught(loss: Loss, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_loss(loss)


def hesitant(pair: PairLogps) -> PairLoss:
    """Not monotonic where the sides are equal, but right where they are far apart."""
    margin = 0.1 * (pair.chosen.logp - pair.rejected.logp)
    bump = (-(margin.square())).exp() * margin
    return PairLoss(-logsigmoid(margin) + 2 * bump, margin, -margin)


def hesitant_and_wrong(pair: PairLogps) -> PairLoss:
    margin = 0.1 * (pair.chosen.logp - pair.rejected.logp)
    return PairLoss(-logsigmoid(-margin) + 2 * (-(margin.square())).exp() * margin, margin, -margin)


def test_a_loss_may_hesitate_where_the_sides_are_equal() -> None:
    check_loss(hesitant)
    with pytest.raises(AssertionError, match="must raise the chosen log-probability"):
        check_loss(hesitant_and_wrong)
