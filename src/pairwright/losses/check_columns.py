"""What `check_loss` asks of a loss about columns: their types, ties, goals, rewards, and those not declared."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pairwright.errors import InputError
from pairwright.losses.case import Case, close, gradients, under
from pairwright.losses.samples import full_record, leaf, named_tensors, only, sides, with_sides
from pairwright.losses.types import GroupLogps, Side


def check_untouched(case: Case) -> None:
    """Every tensor of the record is afterwards what it was before.

    Raises:
        AssertionError: one is not.
    """
    record = full_record(case.kind, case.asked)
    before = {name: value.clone() for name, value in named_tensors(record).items()}
    case.loss(record)
    for name, value in named_tensors(record).items():
        if not torch.equal(value.nan_to_num(), before[name].nan_to_num()):
            raise case.fail(f"it changed the {name} in place; make new tensors")


def check_undeclared(case: Case) -> None:
    """Fields that the loss did not declare may be there, and change nothing.

    Raises:
        AssertionError: they change the value.
    """
    full = full_record(case.kind, case.asked)
    if not close(case.loss(full).loss, case.loss(only(full, case.asked)).loss):
        raise case.fail(
            f"says that it needs {sorted(case.asked.needs) or 'nothing'}, but its value changes when other fields are "
            f"given too; name all that it looks at in @uses(...)"
        )


def check_types(case: Case) -> None:
    """Scores and lengths of other types than the policy, integers too, give the same values, in the policy's type.

    Raises:
        AssertionError: the loss fails on them, or gives something else.
    """
    record = case.random()
    whole = with_sides(record, {name: _whole(side) for name, side in sides(record).items()})
    integers = with_sides(whole, {name: _columns(side, torch.int64) for name, side in sides(whole).items()})
    expected = case.loss(whole)
    try:
        found = case.loss(integers)
    except Exception as error:
        raise case.fail(f"it fails where scores and lengths are integers: {error}") from error
    if not close(found.loss.to(expected.loss.dtype), expected.loss):
        raise case.fail("integer scores and lengths must give what the same numbers give as floats")
    single = {name: replace(side, **_of_policy(side, torch.float32)) for name, side in sides(record).items()}
    for field, value in case.loss(with_sides(record, single))._asdict().items():
        if value.dtype != torch.float32:
            raise case.fail(
                f"{field} is {value.dtype} where the policy is torch.float32 and the scores are torch.float64; give "
                f"the type of logp (score_gap, worth and named do)"
            )


def check_ties(case: Case) -> None:
    """Where all answers have one score, value and gradient are finite; the loss may also refuse it with an InputError.

    Raises:
        AssertionError: they are not finite.
    """
    if not case.asked.needs & {"score", "scores"}:
        return
    record = case.random()
    tied = {name: _columns(side, None, level=0.5) for name, side in sides(record).items()}
    _check_finite(case, with_sides(record, tied), "where all answers have the same score")


def check_goals(case: Case) -> None:
    """A goal may be NaN, which is none; such a row is as it is without a goal. A loss may refuse goals (InputError).

    Raises:
        AssertionError: value or gradient is not finite, or the row differs.
    """
    record = case.random()
    if "score" not in case.asked.needs or "goal" not in record._fields:
        return
    goal = torch.ones(len(record[0].logp), dtype=torch.float64)
    goal[::2] = torch.nan
    found = _check_finite(case, record._replace(goal=goal), "where some rows have a goal and others have NaN")
    if found is not None and not case.asked.of_batch and not close(found[::2], case.loss(record).loss[::2]):
        raise case.fail("a goal of NaN must count as none; use score_gap or worth")


def check_rewards(case: Case) -> None:
    """The implicit reward of an answer rises with its own log-probability somewhere, and is not another answer's.

    Raises:
        AssertionError: it falls everywhere, or only another side's log-probability moves it.
    """
    record = case.random()
    names = [name for name in sides(record) if name != "anchor"]
    moved = {name: _rise(case, record, name) for name in names}
    for name in names:
        reward = "rewards" if name == "answers" else name
        own = moved[name][reward]
        others = [rise[reward] for other, rise in moved.items() if other != name]
        if (own < 0).all():
            raise case.fail(f"the implicit reward of {name} falls as its log-probability rises (is a sign turned?)")
        if not own.any() and any(rise.any() for rise in others):
            raise case.fail(f"the implicit reward of {name} moves with the other side alone (are they exchanged?)")


def _rise(case: Case, record: Any, name: str, *, step: float = 1e-3) -> dict[str, Tensor]:
    """How the implicit rewards change when one side becomes likelier. By values: rewards need no gradient."""
    ends = [
        case.loss(under(record, {name: leaf(sides(record)[name]) * (1 - sign * step)}))._asdict() for sign in (1, -1)
    ]
    return {field: ends[0][field] - ends[1][field] for field in ends[0] if field != "loss"}


def _check_finite(case: Case, record: Any, where: str) -> Tensor | None:
    try:
        value, found = gradients(case, record)
    except InputError:
        return None
    for part, numbers in [("value", value), *(("gradient", each) for each in found.values())]:
        if not numbers.isfinite().all():
            raise case.fail(f"the {part} is not finite {where}")
    return value


def check_few(case: Case) -> None:
    """A group of which only one answer is there has a finite value and gradient.

    Raises:
        AssertionError: it has not.
    """
    record = case.random()
    present = torch.ones(record.answers.logp.shape, dtype=torch.bool)
    present[0, 1:] = False
    holes = record.answers.mapped(
        lambda value: value.masked_fill(~(present if value.dim() == 2 else present[..., None]), torch.nan)
    )
    _check_finite(case, GroupLogps(holes, present), "where a group has one answer")


def _whole(side: Side) -> Side:
    """The side with scores of 0 and 1, in order."""
    return replace(
        side,
        score=None if side.score is None else side.score.round(),
        scores=None if side.scores is None else {name: value.round() for name, value in side.scores.items()},
    )


def _columns(side: Side, dtype: torch.dtype | None, *, level: float | None = None) -> Side:
    """The side with scores (and, with a type, lengths) of that type, or with one level of score everywhere."""

    def changed(value: Tensor) -> Tensor:
        return (value if level is None else torch.full_like(value, level)).to(dtype or value.dtype)

    return replace(
        side,
        length=side.length if dtype is None or side.length is None else side.length.to(dtype),
        score=None if side.score is None else changed(side.score),
        scores=None if side.scores is None else {name: changed(value) for name, value in side.scores.items()},
    )


def _of_policy(side: Side, dtype: torch.dtype) -> dict[str, Any]:
    """What models say of the answer, in another type."""
    names = ("logp", "length", "ref", "token_logp", "token_ref", "token_collision")
    return {name: value.to(dtype) for name in names if (value := getattr(side, name)) is not None}
