"""What is true of every loss of the table, and of its settings."""

import pytest
from torch import tensor

import pairwright.losses
from pairwright.errors import InputError
from pairwright.losses import LOSSES, PairLogps, Side, check_loss
from pairwright.plug import bind, find, listing

SIDE = Side(tensor([-4.0]), tensor([4]), tensor([-5.0]), tensor([3.0]))
PAIR = PairLogps(SIDE, SIDE)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_keeps_the_contract(name: str) -> None:
    check_loss(LOSSES[name])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("dpo", {"beta": 0.01, "label_smoothing": 0.2}),
        ("ipo_sum", {"beta": 1.0}),
        ("ipo_mean", {"beta": 0.01}),
        ("simpo", {"beta": 10.0, "gamma": 3.0}),
    ],
)
def test_the_contract_holds_for_published_settings(name: str, settings: dict[str, float]) -> None:
    check_loss(LOSSES[name], **settings)


def test_a_loss_has_one_name_in_the_table_in_its_module_and_in_the_package() -> None:
    for name, loss in LOSSES.items():
        assert loss.__name__ == name
        assert getattr(pairwright.losses, name) is loss
        assert name in pairwright.losses.__all__


def test_every_loss_says_what_it_is_and_where_it_comes_from() -> None:
    for row in listing(LOSSES):
        assert row["says"].endswith("."), row["name"]
        assert row["source"], row["name"]


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("sft", "beta"),
        ("ipo_sum", "label_smoothing"),
        ("ipo_mean", "gamma"),
        ("simpo", "label_smoothing"),
        ("dpo", "gamma"),
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


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("dpo", {"beta": 0.0}, r"beta must be above 0 \(got 0\)"),
        ("dpo", {"beta": float("nan")}, "beta must be above 0"),
        ("dpo", {"label_smoothing": 0.6}, r"label_smoothing must be between 0 and 0.5 \(got 0.6\)"),
        ("ipo_sum", {"beta": -1.0}, "beta must be above 0"),
        ("ipo_mean", {"beta": -1.0}, "beta must be above 0"),
        ("simpo", {"beta": 0.0}, "beta must be above 0"),
        ("simpo", {"gamma": -0.5}, "gamma must be between 0 and inf"),
    ],
)
def test_a_setting_outside_its_limits_is_an_error(name: str, settings: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        LOSSES[name](PAIR, **settings)
