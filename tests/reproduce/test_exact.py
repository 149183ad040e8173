"""The exact claims by their mathematics, derived here anew: closed forms, none of the claims' own outcomes."""

from functools import partial
from math import log

import numpy as np
import pytest

from pairwright.losses import dpo, r_dpo
from pairwright.reproduce import exact, optimised
from pairwright.reproduce.claim import Setup
from pairwright.reproduce.fitted import bradley_terry, descend, minimise, population, unit, value
from pairwright.worlds.tabular import Rows, asked, kl, make, mean_of, normalised, tilted

QUICK = Setup(seeds=2, quick=True)


def one_pair(goal: float = np.nan) -> Rows:
    return Rows(np.array([0]), np.array([0]), np.array([1]), np.array([goal]))


def test_the_population_of_a_prompt_weighs_one() -> None:
    """Both orders of a pair have p and 1 - p, so K (K - 1) / 2 pairs of equal weight add up to 1."""
    _, weight = population(bradley_terry(make(prompts=3, answers=5).gold))
    assert weight.sum() == pytest.approx(3)


def test_bradley_terry_prefers_the_higher_reward() -> None:
    """A reward of log 3 against 0 wins three times in four."""
    wins = bradley_terry(np.array([[log(3), 0.0]]))[0]
    assert wins[0, 1] == pytest.approx(0.75)
    assert wins[1, 0] == pytest.approx(0.25)


def test_kl_and_mean_by_hand() -> None:
    """(3/4, 1/4) from (1/2, 1/2): 3/4 log(3/2) + 1/4 log(1/2); the mean of (8, 4) is 7."""
    policy, start = np.log([[0.75, 0.25]]), np.log([[0.5, 0.5]])
    assert kl(policy, start)[0] == pytest.approx(0.75 * log(1.5) + 0.25 * log(0.5))
    assert mean_of(policy, np.array([[8.0, 4.0]]))[0] == pytest.approx(7)


def test_dpo_over_a_population_is_the_tilted_start_and_not_the_one_turned_round() -> None:
    world = make(prompts=2, answers=5, seed=3)
    rows, weight = population(bradley_terry(world.gold))
    found = minimise(partial(dpo, beta=2.0), world.start, rows, weight)
    logits = world.start + world.gold / 2
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert np.abs(found - expected).max() < 1e-4
    assert np.abs(found - tilted(world.start, -world.gold / 2)).max() > 1


def test_one_step_of_dpo_moves_two_logits_by_half_beta() -> None:
    """The gradient of -log sigmoid(beta (u_w - u_l)) at 0 is -beta / 2 for the chosen logit and + for the rejected."""
    start = normalised(np.zeros((1, 3)))
    found = descend(partial(dpo, beta=0.4), start, one_pair(), steps=1, rate=1.0)
    assert found.level[0] == pytest.approx([0.2, -0.2, 0.0])
    assert found.slope[0] == pytest.approx([0, 0, 0])


def test_the_first_step_of_relabelled_training_makes_slopes_as_steep_as_the_gap() -> None:
    """A copy at the goal g pushes by beta / 2 unit(g), the other against it: beta / 4 (unit(r_w) - unit(r_l))."""
    start = normalised(np.zeros((1, 2)))
    both = Rows(np.zeros(2, dtype=np.int64), np.array([0, 1]), np.array([1, 0]), np.array([9.0, 4.5]))
    found = descend(partial(dpo, beta=0.4), start, both, steps=1, rate=1.0)
    assert found.slope[0] == pytest.approx([0.1, -0.1])  # a gap of 4.5 points is 1 unit; the mean of two rows halves it
    assert found.level[0] == pytest.approx([0, 0])  # the two copies cancel
    assert unit(np.array([1.0, 5.5, 10.0, np.nan])) == pytest.approx([-1, 0, 1, 0])


def test_a_goal_that_was_never_trained_changes_nothing() -> None:
    trained = descend(partial(dpo, beta=0.4), normalised(np.zeros((1, 3))), one_pair(), steps=5, rate=3.0)
    assert trained.at(10.0) == pytest.approx(trained.at(None))


def test_training_with_features_is_the_table_where_each_answer_has_its_own() -> None:
    world = make(prompts=2, answers=3)
    rows = Rows(np.array([0, 1]), np.array([0, 2]), np.array([1, 1]), np.array([8.0, 3.0]))
    own = np.eye(6).reshape(2, 3, 6)
    one, two = (
        descend(partial(dpo, beta=0.3), world.start, rows, features=seen, steps=7, rate=2.0) for seen in (None, own)
    )
    assert one.at(9.0) == pytest.approx(two.at(9.0))


def test_an_anchor_makes_its_answers_likelier() -> None:
    """-log softmax has the gradient p - 1 at its own logit: from uniform halves up by 1/2, down by 1/2."""
    start = normalised(np.zeros((1, 2)))
    tie = Rows(np.zeros(2, dtype=np.int64), np.array([0, 1]), np.array([1, 0]), np.full(2, np.nan))
    found = descend(partial(dpo, beta=0.4), start, tie, steps=1, rate=1.0, anchor=(one_pair(), 1.0))
    assert found.level[0] == pytest.approx([0.5, -0.5])


def test_the_asked_policy_rises_at_the_rate_of_its_variance() -> None:
    """d/dg E[r] = 2 Cov(r, r) / beta for weights exp((2 g r - r^2) / beta): three answers, by central differences."""
    world = make(prompts=1, answers=3, seed=5)
    policy = asked(world, 7.0, beta=3.0)
    share, gold = np.exp(policy[0]), world.gold[0]
    variance = share @ gold**2 - (share @ gold) ** 2
    step = 1e-4
    slope = mean_of(asked(world, 7 + step, beta=3.0), world.gold) - mean_of(
        asked(world, 7 - step, beta=3.0), world.gold
    )
    assert slope[0] / (2 * step) == pytest.approx(2 * variance / 3, rel=1e-5)


def test_length_leaves_r_dpo_when_alpha_is_what_the_proxy_pays() -> None:
    """P(w) = sigmoid(q + k len) and the margin beta Delta + alpha (len_w - len_l): beta u = q + (k - alpha) len."""
    world = make(prompts=2, answers=4, seed=1)
    rows, weight = population(bradley_terry(world.gold / 2 + 0.2 * world.length))
    fitted = partial(minimise, start=world.start, rows=rows, weight=weight, length=world.length)
    assert np.abs(fitted(partial(r_dpo, beta=1.0, alpha=0.2)) - tilted(world.start, world.gold / 2)).max() < 1e-4
    half = tilted(world.start, world.gold / 2 + 0.1 * world.length)
    assert np.abs(fitted(partial(r_dpo, beta=1.0, alpha=0.1)) - half).max() < 1e-4


@pytest.mark.parametrize("name", optimised.LOSSES)
def test_what_a_loss_learns_does_not_depend_on_beta(name: str) -> None:
    """The three are functions of beta Delta up to a factor, so the policy at beta is start * exp(r / beta), r at 1."""
    from pairwright.losses import LOSSES

    world = make(prompts=1, answers=2, seed=2)
    rows = Rows(np.zeros(4, dtype=np.int64), np.array([0, 0, 0, 1]), np.array([1, 1, 1, 0]), np.full(4, np.nan))
    learnt = minimise(optimised.LOSSES[name], world.start, rows, np.ones(4), most=200) - world.start
    own = {"dpo": "dpo", "ipo": "ipo_sum", "hinge": "hinge"}[name]
    at_half = minimise(partial(LOSSES[own], beta=0.5), world.start, rows, np.ones(4), most=200)
    assert tilted(world.start, learnt / 0.5) == pytest.approx(at_half, abs=2e-3)


def test_the_loss_of_a_tie_is_ln_2_whatever_the_third_answer_has() -> None:
    start = normalised(np.zeros((1, 3)))
    tie = Rows(np.zeros(2, dtype=np.int64), np.array([0, 1]), np.array([1, 0]), np.full(2, np.nan))
    for third in (0.001, 0.98):
        policy = np.log([[(1 - third) / 2, (1 - third) / 2, third]])
        assert value(partial(dpo, beta=1.0), policy, start, tie, np.full(2, 0.5)) == pytest.approx(log(2))


@pytest.mark.parametrize(
    "check",
    [
        exact.toy_tables,
        exact.dpo_minimiser,
        exact.smoothed_elsewhere,
        exact.robust_unbiased,
        exact.underdetermined,
        exact.goals_steer,
        optimised.length_exploitation,
    ],
    ids=lambda check: check.__name__,
)
def test_what_is_a_theorem_holds(check: object) -> None:
    assert callable(check)
    assert check(QUICK).verdict == "holds"
