"""Every loss beside a second implementation that was written from the papers: see oracle.py."""

import pytest

from losses.beside_oracle import SETTINGS, assert_slopes, assert_values
from pairwright.losses import LOSSES


def test_every_loss_has_a_second_implementation() -> None:
    assert set(SETTINGS) == set(LOSSES)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_values_and_implicit_rewards(name: str) -> None:
    assert_values(LOSSES[name], name)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_slopes(name: str) -> None:
    assert_slopes(LOSSES[name], name)
