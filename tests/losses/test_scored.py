"""What is true of each loss of scored pairs whatever the numbers are: slopes, resting places, what it becomes."""

from dataclasses import replace
from functools import partial
from math import log
from typing import Any

import pytest
import torch
from torch import tensor

from losses.drawn import agrees_with_differences, at_log_ratios, pairs, scored, slopes
from losses.worked_example import F64, record
from pairwright.errors import InputError
from pairwright.losses import (
    LOSSES,
    GroupLogps,
    PairLogps,
    Side,
    check_loss,
    dpo,
    exo,
    infonca,
    ipo_sum,
    margin_dpo,
    modpo,
    odpo,
    rpo_backward_kl,
    rpo_forward_kl,
    rpo_squared,
    sppo,
    sppo_hard,
)
from pairwright.plug import bind

OF_THE_GAP = ["margin_dpo", "modpo", "odpo", "rpo_backward_kl", "rpo_forward_kl", "rpo_squared"]


def close(left: torch.Tensor, right: torch.Tensor, tolerance: float = 1e-12) -> bool:
    return torch.allclose(left, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in OF_THE_GAP),
        ("margin_dpo", {"alpha": 0.0}),
        ("modpo", {"beta": 0.3, "weight": 0.05}),
        ("odpo", {"beta": 0.3, "alpha": 0.4}),
        ("rpo_backward_kl", {"beta": 0.3, "eta": 0.2}),
        ("rpo_forward_kl", {"beta": 0.3, "eta": 0.2}),
        ("rpo_squared", {"beta": 0.3, "eta": 0.2}),
    ],
)
def test_gradients_are_those_of_central_differences(name: str, settings: dict[str, float]) -> None:
    assert agrees_with_differences(partial(LOSSES[name], **settings), pairs())
    check_loss(LOSSES[name], **settings)


def test_gradients_of_sppo_are_those_of_central_differences() -> None:
    assert agrees_with_differences(partial(sppo, beta=0.2), scored(pairs(), 0.9, 0.3))


@pytest.mark.parametrize("name", OF_THE_GAP)
def test_a_goal_turns_the_gap_and_nothing_else(name: str) -> None:
    """Asked for 1, the answers are worth 1 - score: a pair turned round has the gap that it had before."""
    pair = pairs()
    goal = torch.ones_like(pair.chosen.logp)
    plain = PairLogps(*(replace(s, score=1 - s.known("score")) for s in (pair.rejected, pair.chosen)))
    turned = PairLogps(pair.rejected, pair.chosen, goal=goal)
    assert close(turned.score_gap, pair.score_gap)
    assert close(LOSSES[name](turned).loss, LOSSES[name](plain).loss)


@pytest.mark.parametrize("goal", [1.0, 3.5, 7.0, 10.0])
def test_differences_of_worth_are_gaps_of_scores(goal: float) -> None:
    pair = pairs()._replace(goal=torch.full((16,), goal, dtype=F64))
    worth = GroupLogps.of(pair).worth
    assert close(worth[:, 0] - worth[:, 1], pair.score_gap)


@pytest.mark.parametrize("loss", [rpo_squared, rpo_backward_kl, rpo_forward_kl])
@pytest.mark.parametrize("gap", [-2.0, 0.0, 3.0])
def test_reward_aware_losses_rest_where_the_margin_is_the_scaled_gap(loss: Any, gap: float) -> None:
    """At beta 0.1 and eta 0.5 that is 5 * gap nats; a tie rests at no margin, a negative gap at a negative one."""
    there = at_log_ratios(5 * gap, 0.0, scores=(6.0 + gap, 6.0))
    bound = partial(loss, beta=0.1, eta=0.5)
    assert bound(there).loss.item() == pytest.approx(0.0, abs=1e-12)
    assert [slope.item() for slope in slopes(bound, there)] == pytest.approx([0.0, 0.0], abs=1e-12)
    for off in (-1.0, 1.0):
        beside = at_log_ratios(5 * gap + off, 0.0, scores=(6.0 + gap, 6.0))
        assert bound(beside).loss.item() > 0
        assert slopes(bound, beside)[0].item() * off > 0


def test_the_slope_of_backward_kl_is_a_difference_of_odds() -> None:
    """d/da = sigmoid(a) - sigmoid(b); a moves by beta for each nat."""
    pair, beta, eta = pairs(), 0.3, 0.2
    a = beta * (pair.chosen.log_ratio - pair.rejected.log_ratio)
    expected = beta * (a.sigmoid() - (eta * pair.score_gap).sigmoid())
    chosen, rejected = slopes(partial(rpo_backward_kl, beta=beta, eta=eta), pair)
    assert close(chosen, expected)
    assert close(rejected, -expected)


def test_the_slope_of_forward_kl_fades_on_both_sides() -> None:
    """d/da = sigmoid(a) sigmoid(-a) (a - b)."""
    pair, beta, eta = pairs(), 0.3, 0.2
    a = beta * (pair.chosen.log_ratio - pair.rejected.log_ratio)
    expected = beta * a.sigmoid() * (-a).sigmoid() * (a - eta * pair.score_gap)
    assert close(slopes(partial(rpo_forward_kl, beta=beta, eta=eta), pair)[0], expected)
    for far in (-1000.0, 1000.0):
        assert abs(slopes(rpo_forward_kl, at_log_ratios(far, 0.0))[0].item()) < 1e-30


def test_backward_kl_of_a_wide_gap_is_dpo() -> None:
    wide = scored(pairs(), 900.0, 1.0)
    assert close(rpo_backward_kl(wide).loss, dpo(wide).loss)


def test_backward_kl_has_the_slope_of_smoothed_dpo() -> None:
    """At sigmoid(b) = 1 - e, so b = log((1 - e) / e)."""
    pair = scored(pairs(), log(9) + 1, 1.0)
    for left, right in zip(slopes(rpo_backward_kl, pair), slopes(partial(dpo, label_smoothing=0.1), pair), strict=True):
        assert close(left, right)


def test_forward_kl_of_a_fixed_gap_is_exo() -> None:
    """Its target is 1 - label_smoothing; at 0.1 the gap is log 9."""
    pair = scored(pairs(), log(9) + 1, 1.0)
    assert close(rpo_forward_kl(pair).loss, exo(pair, label_smoothing=0.1).loss)


def test_squared_is_ipo_with_its_own_target() -> None:
    """(a - b)**2 = beta**2 (D - b / beta)**2, and b / beta = 1 / (2 beta) at eta * gap = 1/2."""
    pair = scored(pairs(), 3.0, 1.0)
    assert close(rpo_squared(pair, beta=0.2, eta=0.25).loss, 0.2**2 * ipo_sum(pair, beta=0.2).loss)


def test_a_tie_has_no_slope_in_odpo() -> None:
    for where in (-1000.0, 0.0, 1000.0):
        tie = at_log_ratios(where, 0.0, scores=(6.0, 6.0))
        assert odpo(tie).loss.item() == 0
        assert [slope.item() for slope in slopes(odpo, tie)] == [0.0, 0.0]


def test_odpo_refuses_pairs_that_are_scored_the_other_way() -> None:
    pair = record()
    with pytest.raises(InputError, match=r"1 of 1 pairs have the better score on the rejected side.*margin_dpo"):
        odpo(PairLogps(pair.rejected, pair.chosen))
    with pytest.raises(InputError, match="better score on the rejected side"):
        odpo(pair._replace(goal=tensor([6.0], dtype=F64)))
    assert odpo(PairLogps(pair.rejected, pair.chosen, goal=tensor([6.0], dtype=F64))).loss.isfinite().all()


def test_offsets_of_nothing_are_dpo() -> None:
    pair = pairs()
    assert close(margin_dpo(pair, alpha=0.0).loss, dpo(pair).loss)
    assert close(odpo(scored(pair, 2.0, 1.0)).loss, dpo(pair).loss)
    assert close(modpo(pair, weight=1.0).loss, dpo(pair).loss)
    assert close(modpo(pair, weight=1.0, margins={}).loss, dpo(pair).loss)


def test_modpo_of_weight_1_is_margin_dpo() -> None:
    pair = pairs()._replace(goal=torch.full((16,), 4.0, dtype=F64))
    assert close(modpo(pair, weight=1.0, margins={"score": 0.3}).loss, margin_dpo(pair, alpha=0.3).loss)


def test_modpo_without_margins_is_dpo_of_another_beta() -> None:
    pair = pairs()
    assert close(modpo(pair, beta=0.1, weight=0.25, margins={}).loss, dpo(pair, beta=0.4).loss)


def test_modpo_says_which_score_is_missing() -> None:
    with pytest.raises(InputError, match="needs the score 'safety' on every answer; there are none"):
        modpo(record(), margins={"safety": 0.5})


def test_sppo_of_sure_wins_is_sppo_hard() -> None:
    pair = scored(pairs(), 1.0, 0.0)
    assert close(sppo(pair, beta=0.01).loss, sppo_hard(pair, beta=0.01).loss)


def test_sppo_of_a_group_is_the_sum_over_its_answers() -> None:
    """Each answer goes to its own target, 10 * (P - 1/2) at beta 0.1."""
    draw = torch.Generator().manual_seed(0)
    logp, ref, wins = (torch.rand(5, 3, generator=draw, dtype=F64) for _ in range(3))
    whole = sppo(GroupLogps(Side(logp, ref=ref, score=wins)), beta=0.1).loss
    assert close(whole, ((logp - ref - 10 * (wins - 0.5)) ** 2).sum(dim=1))


@pytest.mark.parametrize("score", [-0.1, 1.1])
def test_sppo_refuses_scores_that_are_no_probabilities(score: float) -> None:
    with pytest.raises(InputError, match="win probabilities between 0 and 1 as scores"):
        sppo(scored(record(), 0.5, score))


def test_a_score_that_is_nan_is_said_to_be_missing() -> None:
    """Not that the rejected side is better, nor that the scores are nan to nan."""
    pair = pairs()
    holes = replace(pair.rejected, score=pair.rejected.known("score").index_fill(0, tensor([2, 5]), torch.nan))
    with pytest.raises(InputError, match="odpo needs a score on every answer, but 2 of 16 pairs have NaN; drop them"):
        odpo(pair._replace(rejected=holes))
    with pytest.raises(InputError, match="sppo needs a score on every answer, but 1 of 1 answers have NaN; drop them"):
        sppo(scored(record(), 0.5, torch.nan))


def test_sppo_refuses_a_goal() -> None:
    pair = scored(record(), 0.9, 0.4)
    with pytest.raises(InputError, match="know no goal"):
        sppo(pair._replace(goal=tensor([0.9], dtype=F64)))
    assert sppo(pair._replace(goal=tensor([torch.nan], dtype=F64))).loss.isfinite().all()


def test_infonca_of_two_is_backward_kl_and_the_entropy_of_its_target() -> None:
    pair = pairs()
    target = (pair.score_gap / 4).sigmoid()
    entropy = -(target * target.log() + (1 - target) * (1 - target).log())
    left = infonca(pair, beta=0.1, alpha=4.0).loss
    assert close(left, rpo_backward_kl(pair, beta=0.1, eta=0.25).loss + entropy, 1e-9)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("rpo_squared", {"eta": 0.0}, "eta must be above 0"),
        ("rpo_backward_kl", {"beta": -1.0}, "beta must be above 0"),
        ("rpo_forward_kl", {"eta": float("nan")}, "eta must be above 0"),
        ("odpo", {"alpha": 0.0}, "alpha must be above 0"),
        ("margin_dpo", {"alpha": -0.1}, "alpha must be 0 or above"),
        ("modpo", {"weight": 0.01}, "weight must be between 0.05 and 1"),
        ("modpo", {"margins": {"score": float("inf")}}, "score must be a finite number"),
        ("sppo", {"beta": 0.0}, "beta must be above 0"),
    ],
)
def test_a_setting_outside_its_limits_is_an_error(name: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        LOSSES[name](record(), **settings)


def test_margins_come_from_a_recipe() -> None:
    bound = bind(modpo, {"weight": "0.9", "margins": {"score": "0.1"}}, kind="loss")
    assert close(bound(record()).loss, modpo(record(), weight=0.9, margins={"score": 0.1}).loss)
