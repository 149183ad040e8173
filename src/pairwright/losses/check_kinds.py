"""What `check_loss` asks of losses of pairs, of groups and of single answers each."""

import torch
from torch import Tensor

from pairwright.losses.case import Case, close, slopes
from pairwright.losses.samples import (
    ANSWERS,
    ROWS,
    equal_record,
    leaf,
    random_record,
    taken,
    with_leaf,
    with_sides,
)
from pairwright.losses.types import GroupLogps, PairLogps, PointLogps, takes


def check_pair_direction(case: Case) -> None:
    """Where both sides are equal, a step downhill raises the chosen side over the rejected one.

    Raises:
        AssertionError: it does not, neither there nor far from there.
    """
    record = equal_record(PairLogps, case.asked)
    found = slopes(case, record)
    chosen, rejected, anchor = found["chosen"], found["rejected"], found.get("anchor")
    raises = (chosen < rejected).all() or _raises_apart(case, record)
    # A loss that only looks at its anchor compares no sides; it must raise the anchor.
    if anchor is not None and not raises:
        raises = (chosen <= rejected).all() & (anchor < 0).all()
    if not raises:
        raise case.fail(
            f"where both sides are equal, a step downhill must raise the chosen log-probability over the rejected one; "
            f"the gradients are {chosen[0]:g} and {rejected[0]:g} (is a sign turned?)"
        )


def _raises_apart(case: Case, record: PairLogps) -> bool:
    """Whether a step downhill raises the chosen side over the rejected one wherever they are 100 nats apart."""
    ends = [
        slopes(case, with_sides(record, {name: with_leaf(getattr(record, name), leaf(getattr(record, name)) - 100)}))
        for name in ("chosen", "rejected")
    ]
    return all(bool((end["chosen"] < end["rejected"]).all()) for end in ends)


def check_group_direction(case: Case) -> None:
    """Where all answers are equal, a step downhill raises the best-scored one over the worst.

    Raises:
        AssertionError: it does not.
    """
    record = equal_record(GroupLogps, case.asked)
    slope = slopes(case, record)["answers"]
    if record.answers.score is None:
        return
    order = record.answers.score.argsort(dim=1)
    best, worst = slope.gather(1, order[:, -1:]), slope.gather(1, order[:, :1])
    if not (best < worst).all():
        raise case.fail(
            f"where all answers are equal, a step downhill must raise the best-scored one over the worst; the "
            f"gradients are {best[0].item():g} and {worst[0].item():g} (is a sign turned?)"
        )


def check_point_direction(case: Case) -> None:
    """Where the policy is its reference, a step downhill raises wanted answers and lowers unwanted ones.

    A loss that gives one value whatever is wanted, or no slope to any unwanted answer (`sft`), need only raise.

    Raises:
        AssertionError: it does not.
    """
    record = equal_record(PointLogps, case.asked)
    slope, wanted = slopes(case, record)["answers"], record.wanted
    if not (slope[wanted] < 0).all():
        raise case.fail(f"a step downhill must raise a wanted answer; the gradient is {slope[wanted][0]:g}")
    # At policy = reference a loss may have one value for both; elsewhere only one that ignores `wanted` has.
    other = case.random()
    ignores = close(case.loss(other).loss, case.loss(other._replace(wanted=~other.wanted)).loss)
    silent = not slope[~wanted].any() and not slopes(case, other)["answers"][~other.wanted].any()
    if not ignores and not silent and not (slope[~wanted] > 0).all():
        raise case.fail(f"a step downhill must lower an unwanted answer; the gradient is {slope[~wanted][0]:g}")


def check_order(case: Case) -> None:
    """The order of a group's answers does not matter.

    Raises:
        AssertionError: it changes the loss, or the rewards do not follow it.
    """
    record = case.random()
    order = torch.tensor([2, 0, 1])
    out = case.loss(record)
    turned = case.loss(record._replace(answers=record.answers.mapped(lambda value: value[:, order])))
    if not close(turned.loss, out.loss):
        raise case.fail("the order of a group's answers must not change its loss")
    if not close(turned.rewards, out.rewards[:, order]):
        raise case.fail("permuted answers must give permuted rewards")


def check_absent(case: Case) -> None:
    """Rows that lack an answer are as groups of one fewer, even with NaN in its place.

    Raises:
        AssertionError: what stands there changes the loss, has a gradient, or has a reward.
    """
    record, half = case.random(), ROWS // 2
    rows = torch.arange(half)
    present = torch.ones(ROWS, ANSWERS, dtype=torch.bool)
    present[:half, -1] = False
    some = record._replace(answers=record.answers.mapped(lambda value: _hollow(value, present)), present=present)
    fewer = taken(record, rows)
    fewer = fewer._replace(answers=fewer.answers.mapped(lambda value: value[:, :-1]))
    whole, alone, out = case.loss(record).loss, case.loss(fewer).loss, case.loss(some)
    if not close(out.loss, torch.cat([alone, whole[half:]])):
        raise case.fail("an absent answer changes the loss; leave it out by `present`")
    slope = slopes(case, some)["answers"]
    if not slope.isfinite().all() or (slope[~present] != 0).any():
        raise case.fail("an absent answer has a gradient, or makes one NaN; fill its place before computing with it")
    if (out.rewards[~present] != 0).any():
        raise case.fail("the reward of an absent answer must be 0")


def _hollow(value: Tensor, present: Tensor) -> Tensor:
    """`value` with NaN where there is no answer."""
    return value.masked_fill(~(present if value.dim() == 2 else present[..., None]), torch.nan)


def check_pair_is_group(case: Case) -> None:
    """A pair gives what the group of its two answers gives.

    Raises:
        AssertionError: it gives something else.
    """
    if PairLogps not in takes(case.loss):
        return
    pair = random_record(PairLogps, case.asked)
    two, group = case.loss(pair), case.loss(GroupLogps.of(pair))
    for left, right in ((two.loss, group.loss), (two.chosen, group.rewards[:, 0]), (two.rejected, group.rewards[:, 1])):
        if not close(left, right):
            raise case.fail("a pair must give what a group of its two answers gives, chosen side first")
