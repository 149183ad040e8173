"""The sampled claims: the steps of which they are made, by hand or by another road."""

from itertools import cycle

import numpy as np
import pytest

from pairwright.errors import InputError
from pairwright.relabel import relabel
from pairwright.reproduce import arms, optimised, selection
from pairwright.reproduce.claim import Setup
from pairwright.worlds.tabular import best_random, by_score, disjoint, drawn, make, normalised, preferences, rows_of

QUICK = Setup(seeds=2, quick=True)


def test_a_step_takes_its_squared_gap_from_the_squared_distance() -> None:
    """Pythagoras: with |phi| = 1 the new error is the old one without its part along phi, which is the gap."""
    draw = np.random.default_rng(0)
    phi, truth, theta = draw.standard_normal((3, 6))
    phi /= np.linalg.norm(phi)
    gap = float(phi @ truth - phi @ theta)
    before, after = (((each - truth) ** 2).sum() for each in (theta, selection.step(theta, phi, gap)))
    assert before - after == pytest.approx(gap**2)


def test_the_adversary_is_never_behind_after_one_step() -> None:
    """It takes the largest gap, and so by the line above the most of the distance."""
    draw = np.random.default_rng(1)
    phi = draw.standard_normal((30, 5))
    phi /= np.linalg.norm(phi, axis=1, keepdims=True)
    truth = draw.standard_normal(5)
    left = [np.linalg.norm(selection.step(np.zeros(5), row, float(row @ truth)) - truth) for row in phi]
    best = selection.distance_after(phi, phi @ truth, truth, draw, adversary=True, steps=1)
    assert best == pytest.approx(min(left))


def test_the_logistic_fit_has_no_slope_left() -> None:
    """Central differences of its objective, written out here, are 0 at the weights that it finds."""
    draw = np.random.default_rng(2)
    gap, start = draw.standard_normal((40, 3)), np.array([0.5, 0.0, -1.0])
    found = selection.logistic(gap, start, ridge=0.1)

    def objective(weights: np.ndarray) -> float:
        return float(np.log1p(np.exp(-gap @ weights)).mean() + 0.05 * ((weights - start) ** 2).sum())

    for axis in np.eye(3) * 1e-5:
        assert objective(found + axis) - objective(found - axis) == pytest.approx(0, abs=1e-11)
        assert objective(found + 100 * axis) > objective(found)


def test_pairs_choose_the_better_scored_answer_and_leave_ties_out() -> None:
    scores = np.array([[8.0, 6.0, 6.0, 9.0]])
    rows = by_score(np.zeros(3, dtype=np.int64), np.array([0, 1, 1]), np.array([3, 2, 0]), scores)
    assert rows.chosen.tolist() == [3, 0]
    assert rows.rejected.tolist() == [0, 1]


def test_disjoint_pairs_use_no_answer_twice() -> None:
    world = make(prompts=30, answers=6)
    rows = disjoint(world.gold, np.random.default_rng(0))
    used = np.concatenate([rows.prompt * 6 + rows.chosen, rows.prompt * 6 + rows.rejected])
    assert len(np.unique(used)) == len(used)
    assert (world.gold[rows.prompt, rows.chosen] > world.gold[rows.prompt, rows.rejected]).all()


def test_the_world_is_shaped_like_ultrafeedback() -> None:
    """Best of four near 8 and about 2 above a random other, in half points of 1 to 10, with ties."""
    world = make(prompts=4000, answers=4)
    rows = best_random(world.gold, np.random.default_rng(0))
    chosen, rejected = (world.gold[rows.prompt, side] for side in (rows.chosen, rows.rejected))
    assert 7.5 < chosen.mean() < 8.6
    assert 1.5 < (chosen - rejected).mean() < 2.6
    assert len(rows.prompt) < 4000
    assert set(np.unique(world.gold * 2 % 1)) == {0.0}
    assert world.gold.min() >= 1
    assert world.gold.max() <= 10


def test_answers_are_drawn_as_often_as_they_are_likely() -> None:
    """The first draw of (0.7, 0.2, 0.1) over 20,000 prompts: three standard errors are 0.01."""
    first = drawn(np.tile(np.log([0.7, 0.2, 0.1]), (20_000, 1)), 2, np.random.default_rng(0))
    assert np.bincount(first[:, 0]) / 20_000 == pytest.approx([0.7, 0.2, 0.1], abs=0.01)
    assert (first[:, 0] != first[:, 1]).all()
    with pytest.raises(InputError, match="4 different answers cannot be drawn from 3"):
        drawn(normalised(np.zeros((1, 3))), 4, np.random.default_rng(0))


def test_rows_go_through_relabel_and_come_back() -> None:
    scores = np.array([[9.0, 6.0], [2.0, 7.5]])
    rows = by_score(np.array([0, 1]), np.array([0, 0]), np.array([1, 1]), scores)
    made = rows_of(relabel(preferences(scores, rows)), 2)
    found = set(
        zip(made.prompt.tolist(), made.chosen.tolist(), made.rejected.tolist(), made.goal.tolist(), strict=True)
    )
    assert found == {(0, 0, 1, 9.0), (0, 1, 0, 6.0), (1, 1, 0, 7.5), (1, 0, 1, 2.0)}


def test_a_tenth_of_the_labels_is_turned() -> None:
    """With rewards 100 apart the label is sure, so what is against it was turned."""
    world = make(prompts=400, answers=5)
    reward = 100 * np.argsort(np.argsort(world.start, axis=1), axis=1).astype(np.float64)
    rows = optimised.labelled(world, reward, pairs=10, turned=0.1, seed=0)
    wrong = reward[rows.prompt, rows.chosen] < reward[rows.prompt, rows.rejected]
    assert wrong.mean() == pytest.approx(0.1, abs=0.015)


def test_the_best_beta_of_a_seed_is_that_of_the_others() -> None:
    """The first would choose its own 9; the second has 3 in the last column, where the first has 4.

    The second gets the column of the 9, where it has 0. Falls of 4 - 1 and 0 - 2, in the mean 1/2.
    """
    fall, gain = optimised._fall(np.array([[1.0, 9.0, 4.0], [2.0, 0.0, 3.0]]))
    assert fall.value == pytest.approx(0.5)
    assert gain.value == pytest.approx(2.0)


def test_a_trick_is_bad_and_the_judge_likes_it_best() -> None:
    world, said = optimised.hijacked(make(prompts=8, answers=20), share=0.1, seed=0)
    trick = said == 11
    assert trick.sum(axis=1).tolist() == [2] * 8
    assert (world.gold[trick] == 2).all()
    assert np.exp(world.start).sum(axis=1) == pytest.approx(np.ones(8))


def test_more_pairs_bring_algorithm_1_nearer() -> None:
    gaps = np.array([[arms._gap(size, seed) for size in (25, 200)] for seed in (0, 1)])
    assert gaps[:, 1].mean() < gaps[:, 0].mean() / 2


def test_plain_training_makes_nothing_of_a_goal() -> None:
    """A step at the goal 10 moves level and slope alike, so half the rate goes as far: the same policy to rounding."""
    found = arms.prompt_only(QUICK)
    assert found.metric("asked").value == 0
    assert found.metric("trained").value < 1e-9


@pytest.mark.parametrize(
    ("first", "second", "verdict"), [(1, 1.1, "holds"), (-1, -1.1, "does not hold"), (1, -1, "not identified")]
)
def test_what_two_seeds_cannot_tell_does_not_speak_against_a_claim(
    monkeypatch: pytest.MonkeyPatch, first: float, second: float, verdict: str
) -> None:
    """That a goal alone does nothing is exact; how far relabelled pairs reach, 1 to `1 + first`, is of samples."""
    gold = iter([1.0, 1.0 + first, 5.0, 1.0, 1.0 + second, 5.0])  # of each seed: asked for 1, for 10, plain
    monkeypatch.setattr(arms, "_gold", lambda *_: next(gold))
    assert arms.prompt_only(QUICK).verdict == verdict


@pytest.mark.parametrize(
    ("power", "verdict"), [(-0.5, "holds"), (-0.1, "not identified"), (0.5, "does not hold")], ids=str
)
def test_the_gap_has_to_fall_and_steeply(monkeypatch: pytest.MonkeyPatch, power: float, verdict: str) -> None:
    """Gaps of `pairs ** power`, a little more in some worlds than in others; a slope of -0.3 is asked for."""
    monkeypatch.setattr(arms, "_gap", lambda size, seed: float(size) ** power * (1 + 0.01 * seed))
    found = arms.suboptimality(Setup(seeds=2))
    assert found.metric("slope").value == pytest.approx(power)
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("bare", "plain", "verdict"),
    [(1.0, 5.0, "holds"), (-1.0, 5.0, "does not hold"), (5.0, 1.0, "does not hold"), (0.0, 5.0, "not identified")],
)
def test_the_order_of_unlearning_is_start_relabelled_plain(
    monkeypatch: pytest.MonkeyPatch, bare: float, plain: float, verdict: str
) -> None:
    """Nats lost without a goal have to be above 0 and below those of plain DPO; seeds differ by 0.1 to either side."""
    shifts = iter([0.1, 0.1, -0.1, -0.1])  # both kinds of pairs of the first seed, then of the second

    def lost(*_: object) -> dict[str, float]:
        shift = next(shifts)
        return {"plain": plain - shift, **dict.fromkeys(("no goal", "asked 10", "asked its score"), bare + shift / 10)}

    monkeypatch.setattr(arms, "_lost", lost)
    assert arms.unlearning_order(Setup(seeds=2)).verdict == verdict


@pytest.mark.parametrize(("adversary", "verdict"), [(True, "holds"), (False, "does not hold")])
def test_the_adversary_has_to_be_the_faster_one(monkeypatch: pytest.MonkeyPatch, adversary: bool, verdict: str) -> None:
    """One needs as many steps as there are pairs, the other 10: the ratio is 5 with 50 pairs, 20 with 200."""
    of_five = cycle(range(5))

    def steps(phi: np.ndarray, *_: object, adversary_: bool) -> int:
        return 10 if adversary_ is adversary else len(phi) + next(of_five)

    monkeypatch.setattr(selection, "steps_to", lambda *given, adversary: steps(*given, adversary_=adversary))
    found = selection.adversarial_sampling(QUICK)
    assert found.verdict == verdict
    assert ("in every seed" in found.says) is adversary
