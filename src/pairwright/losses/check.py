"""`check_loss`: the contract of a loss, for ours and for anyone's.

    def test_my_loss():
        check_loss(my_loss)
        check_loss(my_loss, beta=0.5)

It does not prove the formula (1.7 times DPO plus 0.3 keeps every promise below): test that on numbers from the paper.
"""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from pairwright.errors import InputError
from pairwright.losses.case import Case, close, gradients
from pairwright.losses.check_columns import (
    check_few,
    check_goals,
    check_rewards,
    check_ties,
    check_types,
    check_undeclared,
    check_untouched,
)
from pairwright.losses.check_kinds import (
    check_absent,
    check_group_direction,
    check_order,
    check_pair_direction,
    check_pair_is_group,
    check_point_direction,
)
from pairwright.losses.samples import (
    ANSWERS,
    ROWS,
    extreme_records,
    leaf,
    sides,
    taken,
    with_leaf,
    with_sides,
    without,
    without_score,
)
from pairwright.losses.told import name_of
from pairwright.losses.types import (
    GroupLogps,
    GroupLoss,
    Loss,
    PairLogps,
    PairLoss,
    PointLogps,
    PointLoss,
    Record,
    Side,
    asks,
    takes,
)

# What a loss may raise when a field that it needs is missing: our sentence, or Python's when it used the field itself.
_REFUSALS = (InputError, TypeError, AttributeError, KeyError)


def check_loss(loss: Loss, **settings: Any) -> None:
    """Assert that `loss` keeps the contract, for each kind of record that it takes.

    - It runs with exactly what it declared by `@uses(...)`, refuses when any of that is missing, and is the same when
      fields that it did not declare are there too. It looks at a baseline if it declared one, which is a constant and
      counts as 0 when there is none. Its settings are keyword-only, for only those can be set.
    - It gives the result of its record in the policy's type, also of integer columns, with finite values, one for each
      row, on its own: permuted rows give permuted losses, and a row alone gives what it gives in company (unless it
      says `of_batch`, and then it does not). It leaves every tensor of the record as it was.
    - Where all answers are equal and the policy is its reference, a step downhill raises the better answer over the
      worse: chosen over rejected, best over worst score; wanted up and unwanted down, unless it ignores what is wanted.
      (A loss of pairs that is not monotonic there, such as `discopop`, must do so where the sides are 100 nats apart.)
    - The implicit reward of an answer rises with its own log-probability somewhere, and is not the other side's.
    - Its gradient is that of its value (central differences, float64), near the reference and far from it on each
      side, so no factor is detached by accident.
    - Value and gradient are finite for log-probabilities of -1000 in float32, for equal scores, and where some rows
      have a goal and others have none (or it refuses ties or goals with an InputError).
    - Of a group: the order of the answers does not matter, absent ones change nothing, one alone is no fault, and a
      pair is a group of two.

    What it does not see: the formula itself; a loss of single answers that forgot `wanted`, or gives unwanted ones no
    slope, which it takes for a supervised one (`sft`); a loss that forgets goals (it asks for finite values only);
    weights of the wrong size.

    Args:
        loss: a function of a record (`takes` reads which) that gives the result of that kind.
        **settings: settings to check it with; its defaults otherwise.

    Raises:
        AssertionError: a promise is broken; the message says which and how.
    """
    bound = partial(loss, **settings) if settings else loss
    _check_settings(loss)
    for kind in takes(loss):
        case = Case(bound, name_of(loss), asks(bound), kind)
        for check in _CHECKS[kind]:
            check(case)


def _check_settings(loss: Loss) -> None:
    for name, parameter in list(signature(loss).parameters.items())[1:]:
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise AssertionError(
                f"{name_of(loss)}: its setting {name!r} is not keyword-only, so none could set it; write *, before it"
            )


def _check_needs(case: Case) -> None:
    record, declared = case.random(), case.asked.needs
    try:
        case.loss(record)
    except _REFUSALS as error:
        said = f"says that it needs {sorted(declared) or 'nothing'}"
        raise case.fail(f"{said} but fails with just that; name all it uses in @uses(...): {error}") from error
    for name in sorted(declared):
        if not _refuses(case, without(record, name)):
            raise case.fail(f"says that it needs {name!r} but runs without it; take it out of @uses")
    for name in case.asked.scores:
        if not _refuses(case, without_score(record, name)):
            raise case.fail(f"says that it needs the score {name!r} but runs without it")


def _refuses(case: Case, record: Any) -> bool:
    try:
        case.loss(record)
    except _REFUSALS:
        return True
    return False


def _check_baseline(case: Case) -> None:
    record, declared = case.random(), case.asked.baseline
    level = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    none, zero, some = (
        case.loss(record._replace(baseline=value)).loss for value in (None, torch.zeros_like(level).detach(), level)
    )
    if not close(none, zero):
        raise case.fail("a baseline of None must count as 0")
    looks = not close(none, some)
    if looks and declared is None:
        raise case.fail("the value changes with the baseline; say so with @uses(baseline=...)")
    if declared is not None and not looks:
        raise case.fail(f"says that it wants the baseline {declared!r} but does not look at it")
    if looks and some.requires_grad:
        raise case.fail("the baseline must be a constant; detach it")


def _check_rows(case: Case) -> None:
    record = case.random()
    out, kind = case.loss(record), _RESULTS[case.kind]
    if not isinstance(out, kind):
        raise case.fail(f"it must give a {kind.__name__} for {case.kind.__name__}, not {type(out).__name__}")
    for field in kind._fields:
        wanted = (ROWS, ANSWERS) if case.kind is GroupLogps and field == "rewards" else (ROWS,)
        _check_values(case, field, getattr(out, field, None), wanted)
    check_untouched(case)
    order = torch.arange(ROWS - 1, -1, -1)
    if not close(case.loss(taken(record, order)).loss, out.loss[order]):
        raise case.fail(f"permuted {case.row}s must give permuted losses")
    alone = torch.cat([case.loss(taken(record, torch.tensor([row]))).loss for row in range(ROWS)])
    apart = close(alone, out.loss)
    if case.asked.of_batch and apart:
        raise case.fail("says of_batch but no row depends on the others; take of_batch out of @uses")
    if not case.asked.of_batch and not apart:
        raise case.fail(
            f"the loss of one {case.row} must not depend on the other {case.row}s of its batch; "
            f"if it is meant to, say of_batch in @uses"
        )


def _check_values(case: Case, field: str, value: Any, wanted: tuple[int, ...]) -> None:
    """Refuse a field of a result that has not the shape `wanted`, or is not finite."""
    if not isinstance(value, Tensor) or value.shape != wanted:
        shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        should = "[B, K], one value an answer" if len(wanted) == 2 else f"[B], one value a {case.row}"
        raise case.fail(f"{field} must have shape {should}, not {shape}")
    if value.dtype != torch.float64:
        raise case.fail(f"{field} is {value.dtype} where the record is torch.float64; compute in the type of logp")
    if not value.isfinite().all():
        raise case.fail(f"{field} is not finite on an ordinary record")


def _check_gradient(case: Case, *, step: float = 1e-5) -> None:
    record = case.random(seed=1)
    _check_gradient_at(case, record, "", step=step)
    for name, side in sides(record).items():
        for times in _FAR:
            moved = with_sides(record, {name: with_leaf(side, times * leaf(side))})
            _check_gradient_at(case, moved, f" where {name} has {times:g} times the log-probability", step=step)


def _check_gradient_at(case: Case, record: Any, where: str, *, step: float) -> None:
    _, found = gradients(case, record)
    for name, side in sides(record).items():
        for way in _ways(side):
            ends = []
            for sign in (step, -step):
                moved = with_sides(record, {name: with_leaf(side, leaf(side) + sign * way)})
                ends.append(case.loss(moved).loss)
            change = (ends[0] - ends[1]) / (2 * step)
            slope = (found[name] * way).flatten(1).sum(1) if way.dim() > 1 else found[name] * way
            if case.asked.of_batch:
                change, slope = change.sum()[None], slope.sum()[None]
            # Differences of a large value are as exact as it is: a loss of 1e12 is known to 1e-4 of a nat.
            doubt = 1e-7 + 1e-5 * slope.abs() + 1e-15 / step * ends[0].abs().amax()
            if not ((change - slope).abs() <= doubt).all():
                raise case.fail(
                    f"the gradient in the {name} log-probability is {slope[0]:g} but the value changes by "
                    f"{change[0]:g}{where} (is a factor detached?)"
                )


def _ways(side: Side) -> list[Tensor]:
    """Directions in which to move a side: each answer of a group by itself, and the tokens of an answer unevenly."""
    at = leaf(side)
    if side.token_logp is not None:
        uneven = 0.5 + torch.rand(at.shape[-1], generator=torch.Generator().manual_seed(2), dtype=at.dtype)
        at = (at != 0) * uneven
        return [at] if side.logp.dim() == 1 else [at * one[:, None] for one in torch.eye(ANSWERS, dtype=at.dtype)]
    # Rows of a batch unevenly too: a loss of the whole batch is checked by the sum of its rows.
    uneven = torch.linspace(0.5, 1.5, len(at), dtype=at.dtype)
    return [uneven] if at.dim() == 1 else [uneven[:, None] * one for one in torch.eye(ANSWERS, dtype=at.dtype)]


def _check_extremes(case: Case) -> None:
    for record in extreme_records(case.kind, case.asked):
        value, found = gradients(case, record)
        for part, numbers in [("value", value), *(("gradient", each) for each in found.values())]:
            if not numbers.isfinite().all():
                row = int((~numbers.isfinite()).nonzero()[0][0])
                raise case.fail(f"the {part} is not finite in float32 where {_described(record, row)}")


def _described(record: Any, row: int) -> str:
    """The log-probabilities of one row, in words."""
    return ", ".join(
        f"the {name.replace('answers', 'answer')} side has logp {side.logp[row].tolist()}"
        + ("" if side.ref is None else f" and ref {side.ref[row].tolist()}")
        for name, side in sides(record).items()
    )


_RESULTS: dict[type[Record], Any] = {PairLogps: PairLoss, GroupLogps: GroupLoss, PointLogps: PointLoss}
_FAR = (0.1, 5.0)  # times an answer's log-probability: some 10 nats above the reference, and up to 100 below
_EVERY = (_check_needs, _check_rows, check_undeclared)
_ALWAYS = (_check_gradient, _check_extremes, check_types, check_ties, check_goals, check_rewards)
_CHECKS: dict[type[Record], tuple[Callable[[Case], None], ...]] = {
    PairLogps: (*_EVERY, _check_baseline, check_pair_direction, *_ALWAYS),
    GroupLogps: (*_EVERY, check_group_direction, *_ALWAYS, check_order, check_absent, check_few, check_pair_is_group),
    PointLogps: (*_EVERY, _check_baseline, check_point_direction, *_ALWAYS),
}
