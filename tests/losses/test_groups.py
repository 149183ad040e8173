"""What is true of each loss of groups whatever the numbers are."""

from dataclasses import replace
from functools import partial
from itertools import permutations
from math import log
from typing import Any

import pytest
import torch
from torch import tensor

from losses.drawn import agrees_with_differences, groups, pairs, slopes
from losses.worked_example import F64, record
from pairwright.errors import InputError
from pairwright.losses import (
    LOSSES,
    GroupLogps,
    GroupLoss,
    PairLogps,
    PairLoss,
    Side,
    check_loss,
    dpo,
    infonca,
    nca,
    nca_pair,
    rrhf,
    takes,
)

NAMES = ["infonca", "nca", "rrhf"]


def close(left: torch.Tensor, right: torch.Tensor, tolerance: float = 1e-12) -> bool:
    return torch.allclose(left, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in NAMES),
        ("infonca", {"beta": 0.3, "alpha": 3.0}),
        ("nca", {"beta": 0.3, "alpha": 3.0}),
        ("rrhf", {"sft_weight": 0.0}),
    ],
)
def test_gradients_are_those_of_central_differences(name: str, settings: dict[str, float]) -> None:
    for given in (groups(), pairs()):
        assert agrees_with_differences(partial(LOSSES[name], **settings), given)


@pytest.mark.parametrize(("off", "chosen", "rejected"), [(-1e-3, -1 / 8, 1 / 10), (1e-3, 0.0, 0.0)])
def test_rrhf_on_both_sides_of_its_kink(off: float, chosen: float, rejected: float) -> None:
    """The kink is where the means are equal: 8 tokens at -1.25 against 10 at -1.25."""
    pair = record()
    pair = pair._replace(
        chosen=replace(pair.chosen, logp=tensor([-10.0 + off], dtype=F64)),
        rejected=replace(pair.rejected, logp=tensor([-12.5], dtype=F64)),
    )
    ranking = partial(rrhf, sft_weight=0.0)
    assert agrees_with_differences(ranking, pair)
    assert [slope.item() for slope in slopes(ranking, pair)] == pytest.approx([chosen, rejected], abs=1e-12)
    assert slopes(rrhf, pair)[0].item() == pytest.approx(chosen - 1, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("alpha", [1e-3, 1e-38, 1e-45, 1e-300])
@pytest.mark.parametrize("name", ["infonca", "nca"])
def test_no_temperature_is_too_small(name: str, alpha: float, dtype: torch.dtype) -> None:
    """alpha -> 0 puts all of the target on the best answer: dpo and nca_pair, though 9 / alpha overflows."""
    pair = record()
    given = PairLogps(*(side.mapped(lambda value: value.to(dtype)) for side in pair[:2]))
    limit = {"infonca": dpo, "nca": nca_pair}[name](pair, beta=0.1).loss
    assert LOSSES[name](given, beta=0.1, alpha=alpha).loss.tolist() == pytest.approx(limit.tolist(), abs=1e-6)
    tied = LOSSES[name](scores_of(given, 6.0), beta=0.1, alpha=alpha).loss  # two best answers share it
    assert tied.tolist() == pytest.approx(LOSSES[name](scores_of(given, 6.0), beta=0.1).loss.tolist(), rel=1e-5)


def scores_of(pair: PairLogps, score: float) -> PairLogps:
    sides = (replace(side, score=torch.full_like(side.logp, score)) for side in pair[:2])
    return PairLogps(*sides)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*NAMES, "sppo"])
def test_a_group_without_any_answer_costs_nothing(name: str) -> None:
    """And changes neither the others nor their slopes, whatever stands in its places."""
    whole = groups(answers=3)
    whole = whole._replace(answers=replace(whole.answers, score=whole.answers.known("score") / 10))
    present = torch.ones(8, 3, dtype=torch.bool)
    present[2] = False
    holes = GroupLogps(whole.answers.mapped(lambda value: value.masked_fill(~present, torch.nan)), present)
    value, expected = LOSSES[name](holes).loss, LOSSES[name](whole).loss
    assert value[2] == 0
    assert close(value[present[:, 0]], expected[present[:, 0]])
    slope = slopes(LOSSES[name], holes)[0]
    assert (slope[2] == 0).all()
    assert close(slope[present[:, 0]], slopes(LOSSES[name], whole)[0][present[:, 0]])


@pytest.mark.parametrize("name", [*NAMES, "sppo"])
def test_losses_of_groups_take_pairs_too(name: str) -> None:
    assert takes(LOSSES[name]) == (PairLogps, GroupLogps)
    pair = record()._replace(
        chosen=replace(record().chosen, score=tensor([0.9], dtype=F64)),
        rejected=replace(record().rejected, score=tensor([0.4], dtype=F64)),
    )
    two, group = LOSSES[name](pair), LOSSES[name](GroupLogps.of(pair))
    assert isinstance(two, PairLoss)
    assert isinstance(group, GroupLoss)
    assert close(two.loss, group.loss)
    assert close(torch.stack([two.chosen, two.rejected], dim=1), group.rewards)


@pytest.mark.parametrize("name", NAMES)
def test_every_order_of_the_answers_gives_one_value(name: str) -> None:
    group = groups(answers=3)
    expected = LOSSES[name](group).loss
    for order in permutations(range(3)):
        turned = group._replace(answers=group.answers.mapped(lambda value, order=order: value[:, list(order)]))
        assert close(LOSSES[name](turned).loss, expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rubbish", [float("nan"), float("inf"), 1e30])
def test_absent_answers_count_nowhere(name: str, rubbish: float) -> None:
    """A group of five of which two are there is a group of two; slopes at absent places are 0, and none is NaN."""
    group = groups(answers=5)
    present = tensor([[True, False, False, True, False]]).expand(8, 5)
    holes = group._replace(
        answers=group.answers.mapped(lambda value: value.masked_fill(~present, rubbish)), present=present
    )
    two = group._replace(answers=group.answers.mapped(lambda value: value[:, [0, 3]]))
    out = LOSSES[name](holes)
    assert close(out.loss, LOSSES[name](two).loss)
    assert (out.rewards[~present] == 0).all()
    left, right = (slopes(LOSSES[name], each)[0] for each in (holes, two))
    assert close(left[:, [0, 3]], right)
    assert (left[~present] == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_goal_ranks_by_nearness(name: str) -> None:
    """Under the goal g a group is as one whose scores are -|score - g|; where g is NaN, as one without."""
    group = groups()
    goal = tensor([4.0, torch.nan] * 4, dtype=F64)
    score = group.answers.known("score")
    near = torch.where(goal.isnan()[:, None], score, -(score - goal[:, None]).abs())
    asked, plain = group._replace(goal=goal), group._replace(answers=replace(group.answers, score=near))
    assert close(LOSSES[name](asked).loss, LOSSES[name](plain).loss)


def test_infonca_of_two_with_a_sharp_target_is_dpo() -> None:
    """All of the target on the better answer: alpha 0.01 against gaps of 1 and more leaves e^-100 for the other."""
    pair = pairs()
    assert close(infonca(pair, beta=0.1, alpha=0.01).loss, dpo(pair, beta=0.1).loss)


def test_nca_of_two_with_a_sharp_target_is_nca_pair() -> None:
    pair = pairs()
    assert close(nca(pair, beta=0.1, alpha=0.01).loss, nca_pair(pair, beta=0.1).loss)


def test_a_policy_that_is_its_reference() -> None:
    """ln K for InfoNCA and 2 ln 2 for NCA, whatever the scores are."""
    group = groups()
    still = group._replace(answers=replace(group.answers, logp=group.answers.known("ref")))
    assert infonca(still).loss.tolist() == pytest.approx([log(4)] * 8)
    assert nca(still).loss.tolist() == pytest.approx([2 * log(2)] * 8)


def resting(loss: Any, rewards: torch.Tensor, worth: torch.Tensor) -> torch.Tensor:
    """The largest slope of a loss where the implicit rewards are these, at beta 1 and alpha 1."""
    group = GroupLogps(Side(rewards, ref=torch.zeros_like(rewards), score=worth))
    return slopes(partial(loss, beta=1.0, alpha=1.0), group)[0].abs().max()


def test_infonca_and_nca_rest_where_the_formula_says() -> None:
    """InfoNCA at softmax(r) = q, up to a shift; NCA at r = log(K q)."""
    worth = tensor([[2.0, 0.5, -1.0]], dtype=F64)
    q = worth.softmax(dim=1)
    assert resting(infonca, q.log() + 7, worth) < 1e-12
    assert resting(nca, (3 * q).log(), worth) < 1e-12
    assert resting(nca, q.log() + 7, worth) > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_the_contract_holds_for_other_settings(name: str) -> None:
    other = {"infonca": {"alpha": 1e-4}, "nca": {"alpha": 1e-4}, "rrhf": {"sft_weight": 0.1}}
    check_loss(LOSSES[name], **other[name])


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("infonca", {"alpha": 0.0}, "alpha must be above 0"),
        ("nca", {"beta": -1.0}, "beta must be above 0"),
        ("rrhf", {"sft_weight": -1.0}, "sft_weight must be 0 or above"),
    ],
)
def test_a_setting_outside_its_limits_is_an_error(name: str, settings: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        LOSSES[name](groups(), **settings)
