"""Numbers that others published or that follow by hand, against our losses. All in float64."""

import pytest
import torch

from losses import pair_values, score_values
from losses.worked_example import F64, Value, rewards_of
from pairwright.losses import LOSSES

VALUES: list[Value] = [*pair_values.VALUES, *score_values.VALUES]


def title(value: Value) -> str:
    settings = "-".join(f"{name}={setting}" for name, setting in value.settings.items())
    return f"{value.loss}-{settings or 'defaults'}"


@pytest.mark.parametrize("value", VALUES, ids=title)
def test_a_known_value(value: Value) -> None:
    out = LOSSES[value.loss](value.record(), **value.settings)
    assert out.loss.dtype == F64
    assert out.loss.tolist() == pytest.approx(list(value.expected), abs=1e-6), value.source


@pytest.mark.parametrize("value", [value for value in VALUES if value.rewards is not None], ids=title)
def test_known_implicit_rewards(value: Value) -> None:
    out = LOSSES[value.loss](value.record(), **value.settings)
    assert value.rewards is not None
    assert rewards_of(out).tolist() == pytest.approx(list(value.rewards), abs=1e-6)


def test_every_loss_has_a_known_value_and_known_rewards() -> None:
    assert {value.loss for value in VALUES} == set(LOSSES)
    assert {value.loss for value in VALUES if value.rewards is not None} == set(LOSSES)


@pytest.mark.parametrize("value", VALUES, ids=title)
def test_a_loss_leaves_its_record_alone(value: Value) -> None:
    """The tensors of a second, equal record are still equal after the loss was taken of the first."""
    given, untouched = value.record(), value.record()
    LOSSES[value.loss](given, **value.settings)
    for left, right in zip(tensors(given), tensors(untouched), strict=True):
        torch.testing.assert_close(left, right, rtol=0.0, atol=0.0, equal_nan=True)


def tensors(item: object) -> list[torch.Tensor]:
    """Every tensor of a record, however deep."""
    if isinstance(item, torch.Tensor):
        return [item]
    if isinstance(item, dict):
        return [tensor for part in item.values() for tensor in tensors(part)]
    names = getattr(item, "_fields", None) or getattr(item, "__slots__", ())
    return [tensor for name in names for tensor in tensors(getattr(item, name))]
