"""Weights for pairs: values of the specification and by hand, no gradient, and what a weighted loss asks."""

from dataclasses import replace
from functools import partial
from math import exp, log

import pytest
import torch
from torch import Tensor, tensor

from losses.drawn import pairs, slopes
from losses.worked_example import F64, record
from pairwright.errors import InputError
from pairwright.losses import LOSSES, WEIGHTINGS, PairLogps, Side, asks, dpo, needs, takes, weighted
from pairwright.losses.weightings import wpo, wpo_plain


def side(tokens: list[list[float]], collisions: list[list[float]]) -> Side:
    """Answers by their tokens; shorter ones are padded with 0."""
    logp, collision = (tensor(values, dtype=F64) for values in (tokens, collisions))
    return Side(logp.sum(1), (logp != 0).sum(1), logp.sum(1), token_logp=logp, token_collision=collision)


def test_plain_weights_of_the_worked_example() -> None:
    """Specification: exp(-1.25 - 1.20) = 0.086294, and times dpo 0.053585."""
    assert wpo_plain(record()).item() == pytest.approx(0.086294, abs=1e-6)
    assert weighted(dpo, wpo_plain)(record()).loss.item() == pytest.approx(0.053585, abs=1e-6)


def test_aligned_weights_by_hand() -> None:
    """Chosen: probabilities 1/2 and 1/4 where sum p^2 is 1/2: mean(0, log 1/2). Rejected: 1/8 over 1/2."""
    chosen = side([[log(1 / 2), log(1 / 4)]], [[log(1 / 2), log(1 / 2)]])
    rejected = side([[log(1 / 8), 0.0]], [[log(1 / 2), 0.0]])
    assert wpo(PairLogps(chosen, rejected)).item() == pytest.approx(exp(log(1 / 2) / 2) / 4, abs=1e-12)


def test_collisions_of_a_real_distribution() -> None:
    """log sum p^2 = logsumexp(2 x) - 2 logsumexp(x); drawn from uniform logits every token has weight 1."""
    logits = torch.zeros(4, 7, dtype=F64)
    collision = (2 * logits).logsumexp(1) - 2 * logits.logsumexp(1)
    tokens = logits.log_softmax(1)[:, 0]
    answer = side([tokens.tolist()], [collision.tolist()])
    assert wpo(PairLogps(answer, answer)).item() == pytest.approx(1.0, abs=1e-12)


def test_the_cap_is_on_the_pair() -> None:
    """A greedy chosen side (e^1) may make up for a rejected one (e^-1), but a pair has at most the cap."""
    greedy, rare = side([[-0.5]], [[-1.5]]), side([[-2.5]], [[-1.5]])
    assert wpo(PairLogps(greedy, rare)).item() == pytest.approx(1.0, abs=1e-12)
    assert wpo(PairLogps(greedy, greedy)).item() == 1.0
    assert wpo(PairLogps(greedy, greedy), max_weight=2.0).item() == 2.0
    assert wpo(PairLogps(greedy, greedy), max_weight=float("inf")).item() == pytest.approx(exp(2))
    with pytest.raises(InputError, match="max_weight must be above 0"):
        wpo(PairLogps(greedy, greedy), max_weight=0.0)


def test_padding_counts_nowhere() -> None:
    short = side([[-0.7, -0.9]], [[-0.4, -0.6]])
    padded = side([[-0.7, -0.9, 0.0, 0.0]], [[-0.4, -0.6, 0.0, 0.0]])
    assert torch.equal(wpo(PairLogps(short, short)), wpo(PairLogps(padded, padded)))


def test_weights_have_no_gradient() -> None:
    """The slope is the weight times that of the loss, not that of the product."""
    pair = pairs()
    weights = wpo_plain(pair)
    for left, right in zip(slopes(weighted(dpo, wpo_plain), pair), slopes(dpo, pair), strict=True):
        assert torch.allclose(left, weights * right, rtol=1e-12)
    tokens = tensor([[-1.0, -2.0]], dtype=F64, requires_grad=True)
    answer = Side(tokens.sum(1), tensor([2]), token_logp=tokens, token_collision=tokens.detach())
    assert not wpo(PairLogps(answer, answer)).requires_grad


def test_a_weighting_that_forgets_to_detach_is_detached() -> None:
    def careless(pair: PairLogps) -> Tensor:
        return pair.chosen.logp.exp()

    pair = pairs()
    left, right = slopes(weighted(dpo, careless), pair)[0], pair.chosen.logp.exp() * slopes(dpo, pair)[0]
    assert torch.allclose(left, right, rtol=1e-12)


@pytest.mark.parametrize("name", sorted(WEIGHTINGS))
def test_a_weighted_loss_asks_for_what_both_ask(name: str) -> None:
    loss = weighted(partial(LOSSES["kto"], beta=0.3), WEIGHTINGS[name])
    assert needs(loss) == {"ref"} | needs(WEIGHTINGS[name])
    assert asks(loss).baseline == "mismatched_kl"
    assert takes(loss) == (PairLogps,)
    assert loss.__name__ == "kto"


def test_a_missing_field_is_said() -> None:
    with pytest.raises(InputError, match="needs 'token_logp'"):
        wpo(record())
    with pytest.raises(InputError, match="needs 'length'"):
        wpo_plain(record()._replace(chosen=replace(record().chosen, length=None)))


def test_implicit_rewards_are_those_of_the_loss() -> None:
    out, plain = weighted(dpo, wpo_plain)(pairs()), dpo(pairs())
    assert torch.equal(out.chosen, plain.chosen)
    assert torch.equal(out.rejected, plain.rejected)
