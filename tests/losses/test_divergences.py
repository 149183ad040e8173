"""Divergences: values of the specification, TRL's formulas, limits, and which losses cannot have them."""

from functools import partial
from math import exp, log
from typing import Any

import pytest
import torch
from torch import Tensor, tensor

from losses.drawn import agrees_with_differences, groups, pairs, points, slopes
from losses.worked_example import F64, record
from pairwright.errors import InputError
from pairwright.losses import (
    DIVERGENCES,
    LOSSES,
    GroupLogps,
    PairLogps,
    PointLogps,
    asks,
    bco,
    check_loss,
    diverged,
    dpo,
    infonca,
    nca_pair,
    takes,
)
from pairwright.losses.divergences import alpha_divergence, forward_kl, js_divergence, reverse_kl

RATIOS = tensor([-50.0, -5.0, -0.5, 0.0, 0.5, 5.0, 50.0], dtype=F64)
ALL = [reverse_kl, forward_kl, js_divergence, alpha_divergence, partial(alpha_divergence, alpha=0.9)]


@pytest.mark.parametrize(
    ("divergence", "expected"),
    [
        (reverse_kl, 0.620957),
        (forward_kl, 0.631154),
        (js_divergence, 0.660652),
        # The specification's c is TRL's coefficient: 1 - alpha.
        (partial(alpha_divergence, alpha=1 - 0.3), 0.629425),
        (alpha_divergence, 0.627691),
        (partial(alpha_divergence, alpha=1 - 0.7), 0.625438),
    ],
)
def test_the_worked_example(divergence: Any, expected: float) -> None:
    assert diverged(dpo, divergence)(record()).loss.item() == pytest.approx(expected, abs=1e-6)


def test_the_formulas_in_plain_floats() -> None:
    """f'(t) of the paper at t = exp(u), less its value at t = 1; in the middle, where nothing is cut."""
    for u in (-4.0, -0.3, 0.0, 1.7, 6.0):
        t, at = exp(u), tensor(u, dtype=F64)
        assert reverse_kl(at).item() == pytest.approx(log(t), abs=1e-12)
        assert forward_kl(at).item() == pytest.approx(-1 / t + 1, abs=1e-12)
        assert js_divergence(at).item() == pytest.approx(log(2 * t / (1 + t)), abs=1e-12)
        assert alpha_divergence(at, alpha=0.3).item() == pytest.approx((1 - t**-0.3) / 0.3, abs=1e-12)


def test_trl_coefficient_is_one_minus_alpha() -> None:
    """TRL: f'(t) = (t^(c - 1) - 1) / (c - 1), with c its `f_alpha_divergence_coef`."""
    for c in (0.1, 0.5, 0.8):
        theirs = ((RATIOS[1:] * (c - 1)).exp() - 1) / (c - 1)
        assert torch.allclose(alpha_divergence(RATIOS[1:], alpha=1 - c), theirs, rtol=1e-12)
        assert not torch.allclose(alpha_divergence(RATIOS[1:], alpha=c), theirs, rtol=1e-2) or c == 0.5


@pytest.mark.parametrize("divergence", ALL)
def test_all_are_0_at_the_reference_and_rise(divergence: Any) -> None:
    values = divergence(RATIOS)
    assert values[3].item() == 0
    assert (values.diff() >= 0).all()
    assert (values[:5].diff() > 0).all()


@pytest.mark.parametrize("divergence", ALL)
def test_slopes_are_those_of_central_differences(divergence: Any) -> None:
    """Also on both sides of where the exponential goes straight: u = -30, and -60 at alpha 1/2."""
    at = torch.cat([RATIOS, tensor([-30.01, -29.99, -60.02, -59.98], dtype=F64)]).requires_grad_()
    value = divergence(at)
    (slope,) = torch.autograd.grad(value.sum(), at)
    step = 1e-5
    change = (divergence(at + step) - divergence(at - step)).detach() / (2 * step)
    assert torch.allclose(change, slope, rtol=1e-4)
    assert (slope[:7] > 0).sum() >= 6  # at u = 50 it may have faded


@pytest.mark.parametrize(("divergence", "rests"), [(forward_kl, 1.0), (js_divergence, log(2)), (alpha_divergence, 2.0)])
def test_where_they_rest(divergence: Any, rests: float) -> None:
    assert divergence(tensor(200.0, dtype=F64)).item() == pytest.approx(rests, abs=1e-12)


def test_alpha_is_between_the_two_kls() -> None:
    middle = RATIOS[1:-1]
    assert torch.allclose(alpha_divergence(middle, alpha=1.0), forward_kl(middle), rtol=1e-12)
    assert torch.allclose(alpha_divergence(middle, alpha=1e-9), reverse_kl(middle), rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, -0.5, 1.5, float("nan")])
def test_alpha_outside_its_limits_is_an_error(alpha: float) -> None:
    with pytest.raises(InputError, match="alpha must be"):
        alpha_divergence(RATIOS, alpha=alpha)


@pytest.mark.parametrize("divergence", ALL)
def test_nothing_overflows_in_float32(divergence: Any) -> None:
    """Not even a square of a difference, as in ipo_sum."""
    far = tensor([-2000.0, -1000.0, 1000.0, 2000.0], requires_grad=True)
    value = divergence(far)
    (slope,) = torch.autograd.grad(value.sum(), far)
    assert value.isfinite().all()
    assert slope.isfinite().all()
    assert (slope[:2] > 0).all()
    assert ((value[0] - value[3]) ** 2).isfinite()


@pytest.mark.parametrize(
    "name", ["dpo", "ipo_sum", "rpo_squared", "apo_zero_unpaired", "bco", "infonca", "nca_pair", "exo"]
)
@pytest.mark.parametrize("divergence", sorted(DIVERGENCES))
def test_a_diverged_loss_keeps_the_contract(name: str, divergence: str) -> None:
    loss = diverged(LOSSES[name], DIVERGENCES[divergence])
    assert asks(loss) == asks(LOSSES[name])
    assert takes(loss) == takes(LOSSES[name])
    assert loss.__name__ == name
    check_loss(loss)


def test_reverse_kl_changes_nothing() -> None:
    for name in ("dpo", "bco", "infonca"):
        plain, changed = LOSSES[name](pairs()), diverged(LOSSES[name], reverse_kl)(pairs())
        for left, right in zip(plain, changed, strict=True):
            assert torch.allclose(left, right, rtol=1e-12)


def test_every_record_is_changed() -> None:
    """By hand: the loss of a record whose log-ratios were changed before."""

    def log_ratios(side: Any) -> Tensor:
        return js_divergence(side.log_ratio)

    pair, group, point = pairs(), groups(), points()
    assert takes(diverged(dpo, js_divergence)) == (PairLogps,)
    by_hand = log_ratios(pair.chosen) - log_ratios(pair.rejected)
    assert torch.allclose(diverged(dpo, js_divergence)(pair).loss, (1 + (-0.1 * by_hand).exp()).log(), rtol=1e-12)
    assert takes(diverged(infonca, js_divergence)) == (PairLogps, GroupLogps)
    rewards = diverged(infonca, js_divergence)(group).rewards
    assert torch.allclose(rewards, 0.01 * log_ratios(group.answers), rtol=1e-12)
    assert takes(diverged(bco, js_divergence)) == (PairLogps, PointLogps)
    assert torch.allclose(diverged(bco, js_divergence)(point).rewards, 0.1 * log_ratios(point.answers), rtol=1e-12)


def test_absent_answers_stay_absent() -> None:
    group = groups(answers=3)
    present = torch.ones(8, 3, dtype=torch.bool)
    present[:4, 2] = False
    holes = group._replace(
        answers=group.answers.mapped(lambda value: value.masked_fill(~present, torch.nan)), present=present
    )
    loss = diverged(infonca, forward_kl)
    assert loss(holes).loss.isfinite().all()
    assert slopes(loss, holes)[0].isfinite().all()


def test_losses_with_a_zero_keep_it() -> None:
    """nca_pair at policy = reference: 2 ln 2 under every divergence."""
    pair = pairs()
    sides = {name: getattr(pair, name) for name in ("chosen", "rejected")}
    still = pair._replace(**{n: side.__class__(side.ref, side.length, side.ref) for n, side in sides.items()})
    for divergence in ALL:
        assert diverged(nca_pair, divergence)(still).loss.tolist() == pytest.approx([2 * log(2)] * 16)


def test_gradients_go_through() -> None:
    for divergence in ALL:
        assert agrees_with_differences(diverged(partial(dpo, beta=0.3), divergence), pairs())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("simpo", "'simpo' has no reference, so it takes no divergence"),
        ("sft", "'sft' has no reference"),
        ("ipo_mean", "looks at length besides log-ratios"),
        ("r_dpo", "looks at length besides log-ratios"),
        ("ld_dpo", "looks at length, token_logp, token_ref besides log-ratios"),
        ("aot", "sorts policies and references apart"),
        ("kto", "its baseline is an estimate of KL in plain log-ratios"),
    ],
)
def test_losses_that_look_at_more_than_log_ratios_are_refused(name: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        diverged(LOSSES[name], js_divergence)
