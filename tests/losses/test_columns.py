"""Columns of other types than the policy: integer scores and lengths, and scores in float64 beside a float32 policy."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, tensor

from losses import pair_values, score_values
from losses.worked_example import Value, record
from pairwright.losses import LOSSES, GroupLogps, PairLogps, PointLogps, Side, infonca, odpo, rpo_squared, rrhf

VALUES: list[Value] = [*pair_values.VALUES, *score_values.VALUES]


def title(value: Value) -> str:
    return f"{value.loss}-{'-'.join(f'{name}={setting}' for name, setting in value.settings.items()) or 'defaults'}"


def changed(given: Any, change: Any) -> Any:
    """The record with `change` made to each of its sides."""
    return given._replace(**{n: change(side) for n, side in given._asdict().items() if isinstance(side, Side)})


def integers(side: Side) -> Side:
    """Scores and lengths as integers wherever they are whole numbers."""

    def whole(value: Tensor | None) -> Tensor | None:
        return value.long() if value is not None and torch.equal(value, value.round()) else value

    return replace(side, length=whole(side.length), score=whole(side.score))


@pytest.mark.parametrize("value", VALUES, ids=title)
def test_a_known_value_from_integer_columns(value: Value) -> None:
    out = LOSSES[value.loss](changed(value.record(), integers), **value.settings)
    assert out.loss.dtype == torch.float64
    assert out.loss.tolist() == pytest.approx(list(value.expected), abs=1e-6), value.source


def single(side: Side) -> Side:
    """The policy in float32; scores, lengths and references stay in float64."""
    tokens = None if side.token_logp is None else side.token_logp.float()
    return replace(side, logp=side.logp.float(), token_logp=tokens)


ROUNDED = {"certain_rejected"}  # whose odds are kept below infinity by the precision of the type itself


@pytest.mark.parametrize("value", [v for v in VALUES if v.record.__name__ not in ROUNDED], ids=title)
def test_a_loss_is_of_the_type_of_its_policy(value: Value) -> None:
    out = LOSSES[value.loss](changed(value.record(), single), **value.settings)
    assert {part.dtype for part in out} == {torch.float32}
    assert out.loss.tolist() == pytest.approx(list(value.expected), rel=1e-5, abs=1e-5)


def test_scores_keep_their_precision_until_they_are_compared() -> None:
    """16777217 - 16777216 is 1; in float32 both are 16777216."""
    sides = (Side(tensor([-1.0]), score=tensor([score], dtype=torch.int64)) for score in (16777217, 16777216))
    wide = (Side(tensor([-1.0]), score=tensor([score], dtype=torch.float64)) for score in (16777217.0, 16777216.0))
    assert PairLogps(*wide).score_gap.tolist() == [1.0]  # type: ignore[arg-type]
    assert PairLogps(*sides).score_gap.dtype == torch.float32  # type: ignore[arg-type]


def test_small_integers_do_not_wrap_round() -> None:
    """6 - 9 is -3, and not 253 as in uint8."""
    nine, six = (Side(tensor([-1.0]), score=tensor([score], dtype=torch.uint8)) for score in (9, 6))
    assert PairLogps(six, nine).score_gap.tolist() == [-3.0]


def test_integer_scores_know_a_goal_too() -> None:
    """Asked for 6 with scores 9 and 6: worth -3 and 0; no goal in the second row."""
    nine, six = (Side(tensor([-1.0, -2.0]), score=tensor([score, score])) for score in (9, 6))
    pair = PairLogps(nine, six, goal=tensor([6.0, torch.nan]))
    assert pair.score_gap.tolist() == [-3.0, 3.0]
    assert GroupLogps.of(pair).worth.tolist() == [[-3.0, 0.0], [9.0, 6.0]]


@pytest.mark.parametrize("loss", [rrhf, infonca])
def test_integer_scores_of_a_group_with_an_absent_answer(loss: Any) -> None:
    given = GroupLogps.of(record()).answers
    cut = {name: getattr(given, name).repeat(1, 2)[:, :3] for name in ("logp", "length", "ref")}
    group = GroupLogps(Side(**cut, score=tensor([[9, 6, 99]])), tensor([[True, True, False]]))
    assert loss(group).loss.tolist() == pytest.approx(loss(record()).loss.tolist(), abs=1e-12)


@pytest.mark.parametrize("loss", [odpo, rpo_squared])
def test_half_precision_gives_half_precision(loss: Any) -> None:
    half = changed(record(), lambda side: replace(side, logp=side.logp.bfloat16()))
    assert loss(half).loss.dtype == torch.bfloat16


def test_points_of_integers() -> None:
    answers = Side(tensor([-10.0, -12.0]), length=tensor([8, 10]), ref=tensor([-11, -11]))
    out = LOSSES["sft"](PointLogps(answers, tensor([True, True])))
    assert out.loss.tolist() == pytest.approx([1.25, 1.2])
