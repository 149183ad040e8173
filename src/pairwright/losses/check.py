"""`check_loss`: the contract of a loss, for ours and for anyone's.

    def test_my_loss():
        check_loss(my_loss)
        check_loss(my_loss, beta=0.5)

It does not prove the formula (1.7 times DPO plus 0.3 keeps every promise below): test that on numbers from the paper.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pairwright.errors import InputError
from pairwright.losses.case import Case, close, gradients
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

    - It runs with exactly what it declared by `@uses(...)`, and refuses when any of that is missing. It looks at a
      baseline if it declared one, which is a constant and counts as 0 when there is none.
    - It gives finite values, one for each row, on its own: permuted rows give permuted losses, and a row alone gives
      what it gives in company (unless it says `of_batch`, and then it does not). It leaves the record as it was.
    - Where all answers are equal and the policy is its reference, a step downhill raises the better answer over the
      worse: chosen over rejected, best over worst score; wanted up and unwanted down, unless it ignores what is wanted.
      (A loss of pairs that is not monotonic there, such as `discopop`, must do so where the sides are 100 nats apart.)
    - Its gradient is that of its value (central differences, float64), so no factor is detached by accident.
    - Value and gradient are finite for log-probabilities of -1000 in float32.
    - Of a group: the order of the answers does not matter, absent ones change nothing, and a pair is a group of two.

    Args:
        loss: a function of a record (`takes` reads which) that gives the result of that kind.
        **settings: settings to check it with; its defaults otherwise.

    Raises:
        AssertionError: a promise is broken; the message says which and how.
    """
    bound = partial(loss, **settings) if settings else loss
    for kind in takes(loss):
        case = Case(bound, name_of(loss), asks(bound), kind)
        for check in _CHECKS[kind]:
            check(case)


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
    out = case.loss(record)
    for field in _RESULTS[case.kind]._fields:
        wanted = (ROWS, ANSWERS) if case.kind is GroupLogps and field == "rewards" else (ROWS,)
        _check_values(case, field, getattr(out, field, None), wanted)
    for name, side in sides(record).items():
        if not torch.equal(side.logp, sides(case.random())[name].logp):
            raise case.fail(f"it changed the log-probabilities of {name} in place; make new tensors")
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
    if not value.isfinite().all():
        raise case.fail(f"{field} is not finite on an ordinary record")


def _check_gradient(case: Case, *, step: float = 1e-5) -> None:
    record = case.random(seed=1)
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
            if not torch.allclose(change, slope, rtol=1e-5, atol=1e-7):
                raise case.fail(
                    f"the gradient in the {name} log-probability is {slope[0]:g} but the value changes by "
                    f"{change[0]:g} (is a factor detached?)"
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
_CHECKS: dict[type[Record], tuple[Callable[[Case], None], ...]] = {
    PairLogps: (_check_needs, _check_rows, _check_baseline, check_pair_direction, _check_gradient, _check_extremes),
    GroupLogps: (
        _check_needs,
        _check_rows,
        check_group_direction,
        _check_gradient,
        _check_extremes,
        check_order,
        check_absent,
        check_pair_is_group,
    ),
    PointLogps: (_check_needs, _check_rows, _check_baseline, check_point_direction, _check_gradient, _check_extremes),
}
