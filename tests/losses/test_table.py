"""What is true of every loss of the table, and of its settings."""

import inspect
import re
from math import exp, log
from typing import Any

import pytest
import torch
from torch import tensor

import pairwright.losses
from losses.pair_values import token_record
from losses.worked_example import record
from pairwright.errors import InputError
from pairwright.losses import LOSSES, PairLogps, Side, alphapo, check_loss
from pairwright.losses.limits import largest_exponent
from pairwright.plug import bind, find, listing, settings_of

SIDE = Side(tensor([-4.0]), tensor([4]), tensor([-5.0]), tensor([3.0]))
PAIR = PairLogps(SIDE, SIDE)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_keeps_the_contract(name: str) -> None:
    check_loss(LOSSES[name])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("alphapo", {"beta": 2.5, "gamma": 0.1, "alpha": -0.5}),
        ("alphapo", {"alpha": 0.0}),
        ("aot", {"label_smoothing": 0.2}),
        ("aot_unpaired", {"label_smoothing": 0.2}),
        ("cpo", {"alpha": 0.0}),
        ("discopop", {"beta": 0.1, "tau": 0.2}),
        ("discopop", {"tau": 1.0}),
        ("dpo", {"beta": 0.01, "label_smoothing": 0.2}),
        ("dpo_mean", {"beta": 5.0}),
        ("exo", {"label_smoothing": 0.1}),
        ("hinge", {"beta": 0.5}),
        ("ipo_sum", {"beta": 1.0}),
        ("ipo_mean", {"beta": 0.01}),
        ("ld_dpo", {"alpha": 0.0}),
        ("ld_dpo", {"alpha": 1.0}),
        ("orpo", {"beta": 1.0}),
        ("r_dpo", {"beta": 0.01, "alpha": 1.0}),
        ("robust_dpo", {"label_smoothing": 0.3}),
        ("simpo", {"beta": 10.0, "gamma": 3.0}),
        ("slic", {"delta": 10.0, "sft_weight": 0.0}),
        ("sppo_hard", {"beta": 0.1}),
    ],
)
def test_the_contract_holds_for_other_settings(name: str, settings: dict[str, float]) -> None:
    check_loss(LOSSES[name], **settings)


def test_a_loss_has_one_name_in_the_table_in_its_module_and_in_the_package() -> None:
    assert list(LOSSES) == sorted(LOSSES)
    for name, loss in LOSSES.items():
        assert loss.__name__ == name
        assert getattr(pairwright.losses, name) is loss
        assert name in pairwright.losses.__all__


def test_every_loss_says_what_it_is_and_where_it_comes_from() -> None:
    for row in listing(LOSSES):
        assert row["says"].endswith("."), row["name"]
        assert row["source"], row["name"]


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_text_of_every_loss_has_the_parts_that_its_page_is_drawn_from(name: str) -> None:
    """A formula indented by four, a paragraph of limits, one of relations, and every setting among the arguments."""
    text = inspect.getdoc(LOSSES[name]) or ""
    head, _, rest = text.partition("\nArgs:\n")
    blocks = head.split("\n\n")
    assert any(block.startswith("    ") and re.search(r"\bloss\b.* = ", block) for block in blocks)
    assert sum(block.startswith("Limits: ") for block in blocks) == 1
    assert sum(block.startswith("Relations: ") for block in blocks) == 1
    for setting in settings_of(LOSSES[name]):
        assert f"\n    {setting}: " in rest
    assert "\nReturns:\n" in rest


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("sft", "beta"),
        ("sft_sum", "beta"),
        ("goal_sft", "eta"),
        ("ipo_sum", "label_smoothing"),
        ("ipo_mean", "gamma"),
        ("simpo", "label_smoothing"),
        ("simpo", "alpha"),
        ("dpo", "gamma"),
        ("hinge", "delta"),
        ("slic", "beta"),
    ],
)
def test_a_setting_that_a_loss_does_not_use_is_an_error(name: str, setting: str) -> None:
    with pytest.raises(InputError, match=f"loss '{name}' has no setting '{setting}'"):
        bind(LOSSES[name], {setting: 0.1}, kind="loss")


def test_a_misspelt_setting_gets_the_right_word() -> None:
    with pytest.raises(InputError, match="did you mean 'label_smoothing'"):
        bind(LOSSES["dpo"], {"label_smooting": 0.1}, kind="loss")


def test_a_misspelt_loss_gets_the_right_word() -> None:
    with pytest.raises(InputError, match="did you mean 'simpo'"):
        find(LOSSES, "simp0", kind="loss")


def test_settings_that_yaml_reads_as_text_are_numbers_in_the_loss() -> None:
    assert bind(LOSSES["dpo"], {"beta": "1e-2"}, kind="loss")(PAIR).chosen.item() == pytest.approx(0.01)


WITH_BETA = [name for name in sorted(LOSSES) if "beta" in settings_of(LOSSES[name])]
NAN = float("nan")
SMOOTHING = r"label_smoothing must be between 0 and 0.5 \(got "


@pytest.mark.parametrize("beta", [0.0, -1.0, NAN])
@pytest.mark.parametrize("name", WITH_BETA)
def test_beta_must_be_above_0(name: str, beta: float) -> None:
    with pytest.raises(InputError, match="beta must be above 0"):
        LOSSES[name](token_record(), beta=beta)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("beta", "alpha"), [(2.0, 0.25), (2.0, -0.25), (10.0, 0.01), (0.1, 5.0)])
def test_alphapo_is_finite_in_every_type(beta: float, alpha: float, dtype: torch.dtype) -> None:
    """exp(11.1) is infinite in float16. Answers of one mean have the loss log(1 + exp(0.5)) wherever the cut is."""
    sign = 1 if alpha > 0 else 0.01
    for left, right in ((-500.0, -1.0), (-1.0, -500.0), (-500.0, -500.0)):
        sides = [tensor([value * sign], dtype=dtype, requires_grad=True) for value in (left, right)]
        one = torch.ones(1, dtype=dtype)
        out = alphapo(PairLogps(Side(sides[0], one), Side(sides[1], one)), beta=beta, alpha=alpha)
        assert all(part.dtype == dtype and part.isfinite().all() for part in out)
        assert all(slope.isfinite().all() for slope in torch.autograd.grad(out.loss.sum(), sides))
    assert out.loss.item() == pytest.approx(log(1 + exp(0.5)), rel=1e-2)
    assert largest_exponent(torch.float16, 8.0) == pytest.approx(log(65504) - log(32))
    assert largest_exponent(torch.float32, 8.0) == 80


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_no_setting_may_be_infinite(name: str) -> None:
    """A recipe may say `.inf`; the loss would be NaN or constant."""
    for setting, parameter in settings_of(LOSSES[name]).items():
        if isinstance(parameter.default, float):
            with pytest.raises(InputError, match=f"{setting} must be"):
                LOSSES[name](record(), **{setting: float("inf")})


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("alphapo", {"gamma": -0.5}, "gamma must be 0 or above"),
        ("alphapo", {"alpha": NAN}, r"alpha must be a finite number \(got nan\)"),
        ("alphapo", {"alpha": float("inf")}, "alpha must be a finite number"),
        ("aot", {"label_smoothing": 0.6}, SMOOTHING + "0.6"),
        ("aot_unpaired", {"label_smoothing": -0.1}, SMOOTHING + "-0.1"),
        ("cpo", {"alpha": -1.0}, r"alpha must be 0 or above \(got -1\)"),
        ("discopop", {"tau": 0.0}, "tau must be above 0"),
        ("discopop", {"tau": 2.0}, r"tau must be between 0 and 1 \(got 2\)"),
        ("dpo", {"beta": 0.0}, r"beta must be above 0 \(got 0\)"),
        ("dpo", {"label_smoothing": 0.6}, SMOOTHING + "0.6"),
        ("dpo", {"label_smoothing": NAN}, SMOOTHING + "nan"),
        ("exo", {"label_smoothing": 0.0}, "label_smoothing must be above 0"),
        ("exo", {"label_smoothing": 0.6}, SMOOTHING + "0.6"),
        ("ld_dpo", {"alpha": 1.1}, r"alpha must be between 0 and 1 \(got 1.1\)"),
        ("ld_dpo", {"alpha": -0.1}, "alpha must be between 0 and 1"),
        ("r_dpo", {"alpha": -0.1}, "alpha must be 0 or above"),
        ("robust_dpo", {"label_smoothing": 0.5}, r"label_smoothing must be from 0 to below 0.5 \(got 0.5\)"),
        ("robust_dpo", {"label_smoothing": -0.1}, "label_smoothing must be from 0 to below 0.5"),
        ("robust_dpo", {"label_smoothing": NAN}, "label_smoothing must be from 0 to below 0.5"),
        ("simpo", {"gamma": -0.5}, "gamma must be 0 or above"),
        ("slic", {"delta": 0.0}, "delta must be above 0"),
        ("slic", {"sft_weight": -0.1}, "sft_weight must be 0 or above"),
    ],
)
def test_a_setting_outside_its_limits_is_an_error(name: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        LOSSES[name](token_record(), **settings)
