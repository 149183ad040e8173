"""Slopes of the losses on pairs: published ones, central differences on both sides of each kink, and extremes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, tensor

from losses.pair_values import VALUES, margins, ms_swift
from losses.worked_example import F64, record
from pairwright.losses import LOSSES, PairLogps, Side, dpo, hinge, ipo_sum, needs, slic

NAMES = sorted({value.loss for value in VALUES})
POLICY = ("logp", "token_logp")  # fields of a side that training moves


def leaves(pair: PairLogps) -> tuple[list[Tensor], Callable[..., PairLogps]]:
    """Copies of all that training moves, and how to put such tensors back into the record."""
    sides = {name: getattr(pair, name) for name in ("chosen", "rejected", "anchor") if getattr(pair, name) is not None}
    places = [(name, f) for f in POLICY for name, side in sides.items() if getattr(side, f) is not None]

    def put(*moved: Tensor) -> PairLogps:
        changed = dict(sides)
        for (name, field), value in zip(places, moved, strict=True):
            changed[name] = replace(changed[name], **{field: value})
        return pair._replace(**changed)

    return [getattr(sides[name], field).clone().requires_grad_() for name, field in places], put


def slopes(name: str, settings: dict[str, Any], pair: PairLogps) -> list[Tensor]:
    """Gradients of the summed loss by autograd, of the chosen side, the rejected one, the anchor; tokens come last."""
    given, put = leaves(pair)
    total = LOSSES[name](put(*given), **settings).loss.sum()
    parts = torch.autograd.grad(total, given, allow_unused=True)
    return [torch.zeros_like(leaf) if part is None else part for leaf, part in zip(given, parts, strict=True)]


def noisy(fields: frozenset[str], *, rows: int = 6, width: int = 5, seed: int = 3) -> PairLogps:
    """Random pairs with `fields` besides logp; lengths differ both ways, and are equal in one row."""
    draw = torch.Generator().manual_seed(seed)

    def side(lengths: list[int]) -> Side:
        length = tensor(lengths, dtype=F64)
        mask = torch.arange(width) < length[:, None]
        logp, ref = (mask * (-0.2 - 3 * torch.rand(rows, width, generator=draw, dtype=F64)) for _ in range(2))
        every = {"length": length, "ref": ref.sum(dim=1), "token_logp": logp, "token_ref": ref}
        return Side(logp.sum(dim=1), **{name: value for name, value in every.items() if name in fields})

    pair = PairLogps(side([5, 2, 3, 1, 4, 3]), side([3, 4, 3, 2, 1, 5]))
    return pair._replace(anchor=side([2, 2, 5, 4, 3, 1])) if "anchor" in fields else pair


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in NAMES),
        ("alphapo", {"beta": 1.5, "gamma": 0.2, "alpha": -0.7}),
        ("aot", {"beta": 0.3, "label_smoothing": 0.2}),
        ("aot_unpaired", {"beta": 0.3, "label_smoothing": 0.2}),
        ("discopop", {"beta": 0.3, "tau": 0.2}),
        ("dpo", {"beta": 0.3, "label_smoothing": 0.2}),
        ("exo", {"beta": 0.3, "label_smoothing": 0.2}),
        ("ipo_sum", {"beta": 0.2}),
        ("ld_dpo", {"beta": 0.3, "alpha": 0.0}),
        ("robust_dpo", {"beta": 0.3, "label_smoothing": 0.3}),
        ("simpo", {"beta": 2.5, "gamma": 1.0}),
        ("slic", {"delta": 0.5, "sft_weight": 0.0}),
    ],
)
def test_gradients_are_those_of_central_differences(name: str, settings: dict[str, float]) -> None:
    """In every policy tensor of the record, by torch's own check in float64; losses of tokens also token by token."""
    given, put = leaves(noisy(needs(LOSSES[name])))
    assert torch.autograd.gradcheck(
        lambda *moved: LOSSES[name](put(*moved), **settings).loss, given, eps=1e-6, atol=1e-7, rtol=1e-6
    )


@pytest.mark.parametrize(("offset", "slope"), [(-1e-3, -0.1), (1e-3, 0.0)])
def test_hinge_on_both_sides_of_its_kink(offset: float, slope: float) -> None:
    """At beta 0.1 the kink is at 10 nats: -beta below, nothing above."""
    pair = margins(10 + offset)
    given, put = leaves(pair)
    assert torch.autograd.gradcheck(lambda *moved: hinge(put(*moved)).loss, given, eps=1e-6, rtol=1e-6)
    chosen, rejected = slopes("hinge", {}, pair)
    assert (chosen.item(), rejected.item()) == pytest.approx((slope, -slope), abs=1e-12)


@pytest.mark.parametrize(("offset", "chosen", "rejected"), [(-1e-3, -1.1, 1.0), (1e-3, -0.1, 0.0)])
def test_slic_on_both_sides_of_its_kink(offset: float, chosen: float, rejected: float) -> None:
    """The kink is where the chosen side is delta nats ahead; the NLL of weight 0.1 pulls on both sides of it."""
    pair = PairLogps(Side(tensor([-9.0 + offset], dtype=F64)), Side(tensor([-11.5], dtype=F64)))
    given, put = leaves(pair)
    assert torch.autograd.gradcheck(lambda *moved: slic(put(*moved), delta=2.5).loss, given, eps=1e-6, rtol=1e-6)
    found = [slope.item() for slope in slopes("slic", {"delta": 2.5}, pair)]
    assert found == pytest.approx([chosen, rejected], abs=1e-12)


def test_ld_dpo_pulls_a_token_of_the_tail_alpha_times_as_much() -> None:
    """The sum pulls each token with s; those beyond the shorter side's end give s * (1 - alpha) back."""
    pair = noisy(needs(LOSSES["ld_dpo"]))
    chosen, rejected, by_token, by_other = slopes("ld_dpo", {"alpha": 0.3}, pair)
    shared = torch.minimum(pair.chosen.known("length"), pair.rejected.known("length"))
    tail = torch.arange(by_token.shape[1]) >= shared[:, None]
    for whole, part in ((chosen, by_token), (rejected, by_other)):
        ratio = (whole[:, None] + part) / whole[:, None]
        assert ratio[tail].tolist() == pytest.approx([0.3] * int(tail.sum()), abs=1e-12)
        assert ratio[~tail].tolist() == pytest.approx([1.0] * int((~tail).sum()), abs=1e-12)
    assert (chosen < 0).all()
    assert (rejected > 0).all()


def test_the_slope_of_the_worked_example() -> None:
    """Specification: d(dpo)/d logp_w = -beta * sigmoid(-z) = -0.046257, and the opposite for the rejected side."""
    chosen, rejected = slopes("dpo", {"beta": 0.1}, record())
    assert (chosen.item(), rejected.item()) == pytest.approx((-0.046257, 0.046257), abs=1e-6)


@pytest.mark.parametrize(("name", "slope"), [("dpo", -0.035434), ("hinge", -0.1), ("ipo_sum", 2.0)])
def test_the_slopes_of_ms_swift(name: str, slope: float) -> None:
    """ms-swift issue 10167, beta 0.1, a difference of 6 nats: one nat beyond IPO's target, 4 short of the hinge's."""
    chosen, rejected = slopes(name, {"beta": 0.1}, ms_swift())
    assert (chosen.item(), rejected.item()) == pytest.approx((slope, -slope), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [1.0, 500.0])
@pytest.mark.parametrize("name", NAMES)
def test_extreme_log_probabilities_stay_finite(name: str, length: float, dtype: torch.dtype) -> None:
    """Policy and reference, sure of either side or at a loss about it: 16 pairs, of one token and of 500."""
    corners = torch.cartesian_prod(*[tensor([-1000.0, -1e-4], dtype=dtype)] * 4)

    def side(logp: Tensor, ref: Tensor) -> Side:
        halves = {"token_logp": logp[:, None].expand(-1, 2) / 2, "token_ref": ref[:, None].expand(-1, 2) / 2}
        return Side(logp, torch.full_like(logp, length), ref, **halves)

    chosen = side(corners[:, 0], corners[:, 1])
    pair = PairLogps(chosen, side(corners[:, 2], corners[:, 3]), anchor=chosen)
    assert LOSSES[name](pair).loss.isfinite().all()
    assert all(slope.isfinite().all() for slope in slopes(name, {}, pair))


@pytest.mark.parametrize("name", ["alphapo", "orpo", "simpo", "sft"])
def test_a_policy_that_is_certain_has_finite_slopes(name: str) -> None:
    """A log-probability of 0 is what float32 makes of a token that is sure; the odds of such an answer are infinite."""
    zero, length = tensor([0.0, 0.0, -30.0]), tensor([2, 2, 2])
    pair = PairLogps(Side(zero, length), Side(zero.flip(0), length))
    assert LOSSES[name](pair).loss.isfinite().all()
    assert all(slope.isfinite().all() for slope in slopes(name, {}, pair))


def test_dpo_at_the_extremes_is_the_margin_or_nothing() -> None:
    """Far on the wrong side the loss is -z (here 200 and 2000 times 0.1), far on the right side it is 0."""
    wrong, right = (PairLogps(*(s.mapped(Tensor.float) for s in margins(*d)[:2])) for d in ((-2e3, -2e4), (2e3, 2e4)))
    assert dpo(wrong, beta=0.1).loss.tolist() == pytest.approx([200.0, 2000.0])
    assert dpo(right, beta=0.1).loss.tolist() == [0.0, 0.0]


def test_step_one_in_float32_is_ln_2_to_seven_digits() -> None:
    logp = tensor([-123.456, -987.654])
    pair = PairLogps(Side(logp, ref=logp), Side(2 * logp, ref=2 * logp))
    assert dpo(pair, beta=0.1).loss.tolist() == pytest.approx([0.6931472] * 2, abs=1e-7)


def test_a_target_has_no_slope() -> None:
    """IPO at 1 / (2 beta) nats: value and slope 0; the same distance on both sides costs the same."""
    assert [slope.item() for slope in slopes("ipo_sum", {"beta": 0.1}, margins(5.0))] == [0.0, 0.0]
    assert ipo_sum(margins(3.0, 5.0, 7.0)).loss.tolist() == pytest.approx([4.0, 0.0, 4.0], abs=1e-12)
