"""Planted faults: `check_loss` must name each of them."""

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import logsigmoid

from pairwright.losses import PairLogps, PairLoss, check_loss, uses

Loss = Callable[..., PairLoss]


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
    gap = pair.chosen.score - pair.rejected.score  # type: ignore[operator]
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
