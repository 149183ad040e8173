"""Claims on token trees: each check's mathematics by another road, and that a check fails where the claim is broken."""

import json
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pairwright.losses import dpo
from pairwright.reproduce import tree_epochs, tree_training, trees
from pairwright.reproduce.claim import Setup
from pairwright.reproduce.tree import TREE
from pairwright.reproduce.tree_policies import Pairs, fitted, minimised, network, table, trained
from pairwright.worlds.tree import Tree, along, best_answers, leaf_of, make, normalised, paths, soft_values, stack

QUICK = Setup(seeds=2, quick=True)


def test_claims_are_known_by_their_names_and_their_checks_are_there() -> None:
    for name, claim in TREE.items():
        assert claim.name == name
        assert claim.world == "tree"
        module, _, function = claim.check.partition(":")
        assert module in {trees.__name__, tree_training.__name__, tree_epochs.__name__}
        assert callable(getattr({m.__name__: m for m in (trees, tree_training, tree_epochs)}[module], function))


@pytest.mark.parametrize("name", TREE)
def test_every_claim_gives_an_outcome_of_json_values(name: str) -> None:
    outcome = TREE[name].run(QUICK)
    assert outcome.says
    assert len({metric.name for metric in outcome.metrics}) == len(outcome.metrics) > 0
    json.dumps(outcome.model_dump(mode="json"), allow_nan=False)


@pytest.mark.parametrize("name", ["credit_finds_errors", "unseen_mass_table", "chosen_stays_up", "turning_points"])
def test_one_seed_decides_nothing_about_samples(name: str) -> None:
    assert TREE[name].run(Setup(seeds=1, quick=True)).verdict == "not identified"


def test_implicit_rewards_of_tokens_are_advantages() -> None:
    outcome = trees.token_rewards(QUICK)
    assert outcome.verdict == "holds"
    assert outcome.metric("difference/closed_form").value < 1e-10  # type: ignore[operator]
    assert outcome.metric("difference/shaped").value < 1e-10  # type: ignore[operator]
    assert outcome.metric("difference/minimised").value < 1e-4  # type: ignore[operator]


def test_an_optimum_of_the_opposite_reward_fails_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    def opposite(reward: Any, ref: Any, *, beta: float) -> Any:
        return best_answers(-reward, ref, beta=beta)

    monkeypatch.setattr(trees, "best_answers", opposite)
    assert trees.token_rewards(QUICK).verdict == "does not hold"


def test_dpo_over_all_pairs_comes_to_the_softmax_of_reward_over_beta() -> None:
    """Three answers of one token, uniform reference: pi = exp(r / beta) / Z, worked out one by one."""
    reward, beta = [1.0, 0.2, -0.5], 0.7
    first, second = np.nonzero(~np.eye(3, dtype=bool))
    weight = np.array([[1 / (1 + math.exp(reward[j] - reward[i])) for i, j in zip(first, second, strict=True)]])
    policy = minimised(table(np.zeros((1, 1, 3)), 1), Pairs(first[None], second[None], weight), partial(dpo, beta=beta))
    total = math.fsum(math.exp(r / beta) for r in reward)
    assert np.exp(policy.logp()[0, 0]) == pytest.approx([math.exp(r / beta) / total for r in reward], abs=1e-6)


def test_shaping_pays_the_potential_of_the_next_state_less_that_of_this_one() -> None:
    """Depth 2: along any answer the potentials cancel but for the root's, so the sum moves by -phi(root)."""
    tree = stack([make(actions=3, depth=2, seed=3)])
    phi = np.random.default_rng(0).normal(size=(1, 4, 1))
    assert along(trees._shaped(tree, phi), 2) == pytest.approx(tree.gold - phi[0, 0, 0], abs=1e-14)


def test_beams_on_likelihood_are_beams_on_value_and_those_on_the_ratio_are_not() -> None:
    outcome = trees.value_beams(QUICK)
    assert outcome.verdict == "holds"
    assert outcome.metric("same/likelihood").value == 1.0
    assert outcome.metric("same/ratio").value < 0.9  # type: ignore[operator]
    assert outcome.metric("difference").value < 1e-10  # type: ignore[operator]


def test_a_policy_that_is_not_optimal_fails_the_claim_on_beams(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(tree: Tree, *, beta: float) -> Any:
        return soft_values(Tree(tree.depth, -tree.reward, tree.ref), beta=beta)

    monkeypatch.setattr(trees, "soft_values", other)
    assert trees.value_beams(QUICK).verdict == "does not hold"


def test_a_verdict_needs_an_answer() -> None:
    assert trees.decided(yes=True, no=False) == "holds"
    assert trees.decided(yes=False, no=True) == "does not hold"
    assert trees.decided(yes=False, no=False) == "not identified"


def test_auroc_is_that_of_scikit_learn_and_of_hand_arithmetic() -> None:
    """(1, 2) over (1, 0): three of four comparisons are won and one is a tie."""
    assert trees.auroc(np.array([1.0, 2.0]), np.array([1.0, 0.0])) == 3.5 / 4
    random = np.random.default_rng(0)
    label, score = random.random(200) < 0.3, random.integers(0, 9, 200).astype(np.float64)
    assert trees.auroc(score[label], score[~label]) == pytest.approx(roc_auc_score(label, score), abs=1e-12)


def test_a_corrupted_answer_differs_in_one_place_and_has_the_worst_token_there() -> None:
    tree = trees.with_errors(actions=3, depth=4, seed=1)
    before, after, place = trees.corrupted(tree, answers=200, seed=0)
    states, tokens = paths(actions=3, depth=4)
    assert ((tokens[before] != tokens[after]).sum(axis=1) == 1).all()
    rows = np.arange(len(before))
    assert (tokens[before] != tokens[after])[rows, place].all()
    replaced = tree.reward[states[after[rows], place], tokens[after[rows], place]]
    assert (replaced == tree.reward[states[after[rows], place]].min(axis=1)).all()
    assert 50 < len(before) < 200  # two thirds of the tokens are no error


def test_reading_the_reward_itself_finds_every_error_and_leaks_nothing_where_states_are_alike() -> None:
    """Token 0 costs 5 at every state, others nothing; answer (1, 1) becomes (1, 0), and (1, 2) becomes (0, 2)."""
    reward = np.tile([-5.0, 0.0, 0.0], (4, 1))
    tree = Tree(2, reward, normalised(np.zeros((4, 3))))
    before, after = leaf_of(np.array([[1, 1], [1, 2]]), actions=3), leaf_of(np.array([[1, 0], [0, 2]]), actions=3)
    assert trees.found_errors(reward, tree, before, after, np.array([1, 0])) == (1.0, 1.0, 0.0)
    assert trees.found_errors(-reward, tree, before, after, np.array([1, 0])) == (0.0, 0.0, 0.0)


def test_pairs_are_drawn_from_the_policy_and_labelled_by_bradley_and_terry() -> None:
    """Counts of chosen answers come within five standard errors of `2 ref(y) sum_j ref(j) sigmoid(r_y - r_j)`."""
    tree = make(actions=2, depth=2, seed=1)
    leaf_ref, gold, draws = along(tree.ref, 2), tree.gold, 20000
    pairs = trees.drawn_pairs(leaf_ref[None], gold[None], pairs=draws, seeds=[0])
    expected = tree_training.chosen_mass(leaf_ref, gold)
    share = np.bincount(pairs.chosen[0], minlength=4) / draws
    assert (np.abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / draws)).all()
    turned = trees.drawn_pairs(leaf_ref[None], gold[None], pairs=draws, seeds=[0], flips=1.0)
    assert (turned.chosen == pairs.rejected).all()
    assert (turned.rejected == pairs.chosen).all()


def test_the_distribution_of_chosen_answers_is_that_of_hand_arithmetic() -> None:
    """Two answers at 1/2, gap ln 3: the better wins 3/4, so it is chosen with 1/4 (twice itself) + 1/2 * 3/4 = 5/8."""
    found = tree_training.chosen_mass(np.log([0.5, 0.5]), np.array([math.log(3), 0.0]))
    assert found == pytest.approx([5 / 8, 3 / 8], abs=1e-15)


def test_the_first_step_moves_only_the_state_where_two_answers_part_and_what_lies_below() -> None:
    """Adam's first step is its rate times the sign of the gradient.

    Answers (0, 1) and (0, 2) share the root, whose gradient cancels; at state 1 token 1 goes up by the rate, token 2
    down, and token 0 stays.
    """
    start = table(np.zeros((1, 4, 3)), 2)
    run = trained(start, Pairs(np.array([[1]]), np.array([[2]])), partial(dpo, beta=0.3), steps=1, lr=0.25, checks=1)
    expected = np.zeros((4, 3))
    expected[1] = [0.0, 0.25, -0.25]
    assert run.steps == (0, 1)
    assert run.last.parameters[0][0].numpy() == pytest.approx(expected, abs=1e-6)
    assert run.logp[0] == pytest.approx(np.log(np.full((1, 4, 3), 1 / 3)), abs=1e-15)
    assert float(start.parameters[0].abs().sum()) == 0.0


def test_the_unseen_answer_of_a_table_pays_for_one_pair() -> None:
    """One token of three: gradients of the two sides are opposite and the third has none, so pi = (e^t, e^-t, 1) / Z.

    The unseen answer keeps `1 / (1 + 2 cosh t)`, below 1/3 whatever t is.
    """
    start = table(np.zeros((1, 1, 3)), 1)
    run = trained(start, Pairs(np.array([[0]]), np.array([[1]])), partial(dpo, beta=0.1), steps=40, lr=0.05, checks=4)
    logp = run.logp[:, 0, 0]
    t = (logp[:, 0] - logp[:, 1]) / 2
    assert (np.diff(t) > 0).all()
    assert np.exp(logp[:, 2]) == pytest.approx(1 / (1 + 2 * np.cosh(t)), abs=1e-6)


def test_batches_go_through_the_pairs_in_order() -> None:
    """Two pairs, one a step: after the first step the second pair's state has not moved."""
    pairs = Pairs(np.array([[0, 3]]), np.array([[1, 4]]))
    run = trained(table(np.zeros((1, 4, 3)), 2), pairs, partial(dpo, beta=0.1), steps=2, lr=0.1, checks=2, batch=1)
    uniform = math.log(1 / 3)
    assert run.logp[1, 0, 1, 0] > uniform + 0.05
    assert run.logp[1, 0, 2] == pytest.approx([uniform] * 3, abs=1e-12)
    assert run.logp[2, 0, 2, 0] > uniform + 0.05


def test_a_network_reads_its_prefix_as_a_plain_recurrence_does() -> None:
    policy = network(seeds=[4, 9], actions=3, depth=3, width=5)
    states, tokens = paths(actions=3, depth=3)
    for number in range(2):
        within, token, out, state = (each[number].numpy() for each in policy.parameters)
        for leaf in (0, 11, 26):
            hidden = state[0]
            for s, t in zip(states[leaf], tokens[leaf], strict=True):
                scores = np.exp(hidden @ out)
                assert math.exp(policy.logp()[number, s, t]) == pytest.approx(scores[t] / scores.sum(), abs=1e-12)
                hidden = np.tanh(hidden @ within + token[t])


def test_a_network_of_a_seed_is_the_same_in_any_company() -> None:
    alone, both = network(seeds=[9], actions=3, depth=3, width=5), network(seeds=[4, 9], actions=3, depth=3, width=5)
    assert both.logp()[1] == pytest.approx(alone.logp()[0], abs=1e-14)


def test_a_fit_comes_to_the_distribution_it_is_given() -> None:
    target = np.exp(along(make(actions=3, depth=2, seed=5).ref, 2))[None]
    policy = fitted(table(np.zeros((1, 4, 3)), 2), target, steps=600, lr=0.05)
    assert np.exp(along(policy.logp(), 2)) == pytest.approx(target, abs=1e-4)


def test_the_chosen_reward_is_minus_beta_kl_where_the_reference_is_what_was_chosen() -> None:
    outcome = tree_training.chosen_falls(QUICK)
    assert outcome.metric("identity").value < 1e-10  # type: ignore[operator]


def test_the_identity_is_lost_with_kl_in_the_other_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    true = tree_training.kl
    monkeypatch.setattr(tree_training, "kl", lambda ref, pi, depth: true(pi, ref, depth))
    assert tree_training.chosen_falls(QUICK).verdict == "does not hold"


@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_the_chosen_reward_at_the_minimiser_is_its_mean_implicit_reward(beta: float) -> None:
    """E_chosen[beta log pi*/ref], summed over answers, against E_chosen[r] - V*(root)."""
    _, tree = tree_training._worlds(QUICK, 4)
    ref = along(tree.ref, 3)
    mass = tree_training.chosen_mass(ref, tree.gold)
    plain = (mass * beta * (best_answers(tree.gold, ref, beta=beta) - ref)).sum(axis=1)
    assert tree_training._limit(QUICK, beta) == pytest.approx(plain, abs=1e-10)


def test_unseen_mass_is_what_the_answers_in_pairs_leave() -> None:
    """Before any training a table has its tree's reference, whose mass is counted here answer by answer."""
    numbers, tree = tree_training._worlds(QUICK, 4)
    found = tree_training._unseen_mass("table", QUICK.seeds, QUICK.quick)[0.1]
    for row, (number, ref) in enumerate(zip(numbers, along(tree.ref, 3), strict=True)):
        for i, count in enumerate(tree_training.PAIRS):
            drawn = np.random.default_rng([number, 3]).permutation(27)[: 2 * count]
            rest = math.fsum(math.exp(ref[leaf]) for leaf in range(27) if leaf not in drawn)
            assert found[i, row, 0] == pytest.approx(rest, abs=1e-12)


def test_a_peak_is_taken_where_the_other_seeds_have_it() -> None:
    """Seed 0 peaks at check 1 and seed 1 at check 2: each is read at the other's peak, and as far as its own end."""
    gold = np.array([[0.0, 0.0], [5.0, 1.0], [2.0, 4.0], [1.0, 3.0]])
    falls, places = tree_epochs.decline_elsewhere(gold, 2)
    assert falls.tolist() == [2.0 - 1.0, 1.0 - 3.0]
    assert places.tolist() == [2 / 3, 1 / 3]


def test_the_spread_of_the_top_tokens_is_that_of_hand_arithmetic() -> None:
    """Of (1/2, 1/4, 1/8, 1/8) the top two are (2/3, 1/3): log2(3) - 2/3 bits, mass 3/4; of a certain token 0 and 1."""
    entropy, mass = tree_epochs.spread(np.log([0.125, 0.5, 0.25, 0.125]), top=2)
    assert float(entropy) == pytest.approx(math.log2(3) - 2 / 3, abs=1e-12)
    assert float(mass) == pytest.approx(0.75, abs=1e-15)
    entropy, mass = tree_epochs.spread(np.array([0.0, -1e4, -1e4]), top=2)
    assert (float(entropy), float(mass)) == (0.0, 1.0)


def test_gold_of_a_policy_is_that_of_its_answers_and_the_phrase_costs_what_it_should() -> None:
    """Both judges begin with one policy, so their golds differ by 4 times the mass of answers that end in 0, 0."""
    noisy = tree_epochs._epoch("noisy", "dpo", 0.1, 0.02, QUICK.seeds, QUICK.quick)
    hijacked = tree_epochs._epoch("hijacked", "dpo", 0.1, 0.02, QUICK.seeds, QUICK.quick)
    _, start, reward = tree_epochs._start(QUICK.seeds, QUICK.quick)
    mass = np.exp(along(start.logp(), 4))
    assert noisy["gold"][0] == pytest.approx((mass * reward).sum(axis=1), abs=1e-12)
    ends = mass.reshape(len(mass), 16, 4, 4)[:, :, 0, 0].sum(axis=1)
    assert noisy["gold"][0] - hijacked["gold"][0] == pytest.approx(4 * ends, abs=1e-12)
    assert noisy["kl"][0] == pytest.approx(np.zeros(len(mass)), abs=1e-12)
    assert (noisy["kl"][-1] > 0).all()
