"""What is true of each loss of single answers whatever the numbers are."""

from dataclasses import replace
from functools import partial
from math import log
from typing import Any

import pytest
import torch
from torch import tensor

from losses.drawn import agrees_with_differences, at_log_ratios, pairs, points, slopes
from losses.worked_example import F64, record
from pairwright.errors import InputError
from pairwright.losses import (
    LOSSES,
    PairLogps,
    PointLogps,
    PointLoss,
    Side,
    apo_zero,
    apo_zero_unpaired,
    asks,
    bco,
    kto,
    nca_pair,
    takes,
)

NAMES = ["apo_zero_unpaired", "bco", "kto"]


def close(left: torch.Tensor, right: torch.Tensor, tolerance: float = 1e-12) -> bool:
    return torch.allclose(left, right, rtol=tolerance, atol=tolerance)


def at(baseline: float | None, given: Any) -> Any:
    return given._replace(baseline=None if baseline is None else tensor(baseline, dtype=F64))


@pytest.mark.parametrize("baseline", [None, -1.0, -1e-3, 1e-3, 2.0])
@pytest.mark.parametrize("name", [*NAMES, "nca_pair"])
def test_gradients_are_those_of_central_differences(name: str, baseline: float | None) -> None:
    """With baselines on both sides of kto's clamp at 0."""
    assert agrees_with_differences(partial(LOSSES[name], beta=0.3), at(baseline, pairs()))
    if name in NAMES:
        assert agrees_with_differences(partial(LOSSES[name], beta=0.3), at(baseline, points()))


def test_the_clamp_of_kto_is_at_the_baseline_and_not_at_the_answers() -> None:
    """Below 0 every baseline is 0; above it the value moves with it, on answers on both sides of it."""
    given = points()
    below, none, above = (kto(at(value, given)).loss for value in (-5.0, None, 1e-2))
    assert close(below, none)
    assert (above[given.wanted] > none[given.wanted]).all()
    assert (above[~given.wanted] < none[~given.wanted]).all()


@pytest.mark.parametrize("name", ["bco", "kto"])
def test_a_baseline_is_a_constant(name: str) -> None:
    level = tensor(0.7, dtype=F64, requires_grad=True)
    assert not LOSSES[name](points()._replace(baseline=level)).loss.requires_grad
    assert asks(LOSSES[name]).baseline == {"bco": "running_mean", "kto": "mismatched_kl"}[name]


@pytest.mark.parametrize(("name", "share"), [("kto", 0.5), ("apo_zero_unpaired", 0.5), ("bco", 1.0)])
def test_a_pair_is_one_wanted_and_one_unwanted_answer(name: str, share: float) -> None:
    """The mean of both halves; for bco their sum, as TRL's bco_pair."""
    pair = at(0.4, pairs())
    wanted = LOSSES[name](PointLogps(pair.chosen, torch.ones(16, dtype=torch.bool), pair.baseline))
    unwanted = LOSSES[name](PointLogps(pair.rejected, torch.zeros(16, dtype=torch.bool), pair.baseline))
    out = LOSSES[name](pair)
    assert isinstance(wanted, PointLoss)
    assert close(out.loss, share * (wanted.loss + unwanted.loss))
    assert close(out.chosen, wanted.rewards)
    assert close(out.rejected, unwanted.rewards)
    assert takes(LOSSES[name]) == (PairLogps, PointLogps)


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_may_be_all_of_one_kind(name: str, wanted: bool) -> None:
    given = points()._replace(wanted=torch.full((12,), wanted))
    assert LOSSES[name](given).loss.isfinite().all()
    slope = slopes(LOSSES[name], given)[0]
    assert ((slope < 0) if wanted else (slope > 0)).all()


def test_kto_is_bounded_by_its_weights_and_bco_is_not() -> None:
    far = Side(tensor([-1e3, -1.0], dtype=F64), ref=tensor([-1.0, -1e3], dtype=F64))
    wrong = PointLogps(far, tensor([True, False]))
    assert kto(wrong, desirable_weight=2.0, undesirable_weight=0.5).loss.tolist() == pytest.approx([2.0, 0.5])
    assert bco(wrong, beta=0.1).loss.tolist() == pytest.approx([99.9, 99.9])


def test_apo_zero_unpaired_is_kto_without_a_baseline() -> None:
    for given in (points(), pairs()):
        assert close(apo_zero_unpaired(given, beta=0.3).loss, kto(given, beta=0.3).loss)
        assert close(apo_zero_unpaired(at(2.0, given)).loss, kto(at(-2.0, given)).loss)
    assert close(apo_zero_unpaired(pairs()).loss, apo_zero(pairs()).loss / 2)


def test_the_slope_of_kto_is_largest_at_the_baseline() -> None:
    """beta * s * (1 - s): 0.1 / 4 at u = z0."""
    steps = [abs(slopes(kto, at(3.0, at_log_ratios(3.0 + off, 0.0)))[0].item()) for off in (-20.0, 0.0, 20.0)]
    assert steps[1] == pytest.approx(0.1 / 4 / 2, abs=1e-12)  # a half of the pair
    assert steps[0] == pytest.approx(steps[2], abs=1e-12)
    assert steps[0] < steps[1]


def test_nca_pair_holds_the_chosen_side_where_the_specification_says() -> None:
    """dL/du_w is -beta / 4 at u_w = 0, and 0 where sigmoid(beta u_w) = 2/3."""
    bound = partial(nca_pair, beta=0.1)
    assert slopes(bound, at_log_ratios(0.0, 0.0))[0].item() == pytest.approx(-0.1 / 4, abs=1e-12)
    assert slopes(bound, at_log_ratios(log(2) / 0.1, 0.0))[0].item() == pytest.approx(0.0, abs=1e-12)
    assert slopes(bound, at_log_ratios(0.0, -50.0))[1].item() > 0


def test_a_policy_that_is_its_reference() -> None:
    """Half of their weights for kto and apo, ln 2 an answer for bco, 2 ln 2 for nca_pair."""
    pair = pairs()
    still = PairLogps(*(replace(side, logp=side.known("ref")) for side in (pair.chosen, pair.rejected)))
    for name, value in {"apo_zero_unpaired": 0.5, "kto": 0.5, "bco": 2 * log(2), "nca_pair": 2 * log(2)}.items():
        assert LOSSES[name](still).loss.tolist() == pytest.approx([value] * 16)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("kto", {"beta": 0.0}, "beta must be above 0"),
        ("kto", {"desirable_weight": -1.0}, "desirable_weight must be 0 or above"),
        ("kto", {"undesirable_weight": float("nan")}, "undesirable_weight must be 0 or above"),
        ("apo_zero_unpaired", {"beta": 0.0}, "beta must be above 0"),
        ("bco", {"beta": 0.0}, "beta must be above 0"),
        ("nca_pair", {"beta": 0.0}, "beta must be above 0"),
    ],
)
def test_a_setting_outside_its_limits_is_an_error(name: str, settings: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        LOSSES[name](record(), **settings)


def test_sft_learns_wanted_answers_alone() -> None:
    """-10 / 8 = -1.25 a token and -12 / 10 = -1.2: the wanted one costs 1.25, the other nothing, nor has it a slope."""
    logp = torch.tensor([-10.0, -12.0], requires_grad=True)
    given = PointLogps(Side(logp, length=torch.tensor([8, 10])), wanted=torch.tensor([True, False]))
    found = LOSSES["sft"](given)
    assert found.loss.tolist() == pytest.approx([1.25, 0.0])
    assert found.rewards.tolist() == pytest.approx([-1.25, -1.2])
    found.loss.sum().backward()
    assert logp.grad is not None
    assert logp.grad.tolist() == pytest.approx([-1 / 8, 0.0])
