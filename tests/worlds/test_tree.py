"""Token trees: numbering, soft values, masses and beams, against hand arithmetic and plain enumeration."""

import itertools
import math

import numpy as np
import pytest

from pairwright.errors import InputError
from pairwright.worlds.tree import (
    Tree,
    along,
    beams,
    best_answers,
    kl,
    leaf_of,
    make,
    normalised,
    num_states,
    paths,
    reach,
    soft_values,
    stack,
    token_logp,
)


def walks(actions: int, depth: int) -> list[list[tuple[int, int]]]:
    """State and token at each place of every answer, by looking prefixes up in a list of them."""
    prefixes = [p for length in range(depth) for p in itertools.product(range(actions), repeat=length)]
    return [
        [(prefixes.index(answer[:place]), token) for place, token in enumerate(answer)]
        for answer in itertools.product(range(actions), repeat=depth)
    ]


def test_states_are_counted_breadth_first_and_leaves_by_their_tokens() -> None:
    states, tokens = paths(actions=3, depth=3)
    assert [list(zip(s, t, strict=True)) for s, t in zip(states.tolist(), tokens.tolist(), strict=True)] == walks(3, 3)
    assert num_states(3, 3) == 1 + 3 + 9
    assert leaf_of(tokens, actions=3).tolist() == list(range(27))
    assert int(leaf_of(np.array([2, 0, 1]), actions=3)) == 19  # 2*9 + 0*3 + 1


def test_the_sum_along_an_answer_is_the_sum_over_its_tokens() -> None:
    values = np.random.default_rng(0).normal(size=(2, 15, 2))
    plain = [[sum(one[s, t] for s, t in walk) for walk in walks(2, 4)] for one in values]
    assert along(values, 4) == pytest.approx(np.array(plain), abs=1e-14)


def test_values_of_one_choice_are_those_of_hand_arithmetic() -> None:
    """Two tokens, reward 1 and 0, uniform reference, beta 1: V = log((e + 1) / 2), pi = e / (e + 1)."""
    soft = soft_values(Tree(1, np.array([[1.0, 0.0]]), np.log(np.array([[0.5, 0.5]]))), beta=1.0)
    value = math.log((math.e + 1) / 2)
    assert soft.v[0] == pytest.approx(value, abs=1e-15)
    assert soft.advantage[0] == pytest.approx([1 - value, -value], abs=1e-15)
    assert math.exp(soft.logp[0, 0]) == pytest.approx(math.e / (math.e + 1), abs=1e-15)
    assert soft.q[0] == pytest.approx([1 - math.log(2), -math.log(2)], abs=1e-15)


def test_a_small_price_makes_the_value_that_of_the_best_answer_and_a_large_one_that_of_the_mean() -> None:
    tree = make(actions=3, depth=3, seed=4)
    mean = float((np.exp(along(tree.ref, 3)) * tree.gold).sum())
    assert soft_values(tree, beta=1e-4).v[0] == pytest.approx(tree.gold.max(), abs=1e-3)
    assert soft_values(tree, beta=1e6).v[0] == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize("beta", [0.05, 1.0, 7.0])
def test_soft_values_give_the_policy_of_whole_answers(beta: float) -> None:
    """pi(answer) = ref exp(R / beta) / Z, where Z is summed over the answers one by one, and V*(root) = beta log Z."""
    tree = make(actions=3, depth=4, seed=1)
    soft = soft_values(tree, beta=beta)
    weights = [
        math.exp(sum(tree.ref[s, t] for s, t in walk) + sum(tree.reward[s, t] for s, t in walk) / beta)
        for walk in walks(3, 4)
    ]
    assert soft.v[0] == pytest.approx(beta * math.log(math.fsum(weights)), abs=1e-10)
    assert np.exp(along(soft.logp, 4)) == pytest.approx(np.array(weights) / math.fsum(weights), abs=1e-12)
    assert best_answers(tree.gold, along(tree.ref, 4), beta=beta) == pytest.approx(along(soft.logp, 4), abs=1e-10)


def test_tokens_of_answers_are_their_conditional_probabilities() -> None:
    logp = normalised(np.random.default_rng(3).normal(size=(2, 13, 3)))
    assert token_logp(along(logp, 3), actions=3, depth=3) == pytest.approx(logp, abs=1e-12)
    mass = np.exp(along(logp[0], 3)).reshape(3, 3, 3)
    assert reach(logp[0], 3)[1:4] == pytest.approx(mass.sum(axis=(1, 2)), abs=1e-14)
    assert reach(logp[0], 3)[4:].reshape(3, 3) == pytest.approx(mass.sum(axis=2), abs=1e-14)


def test_kl_by_tokens_is_kl_of_answers_and_has_a_direction() -> None:
    one, two = normalised(np.random.default_rng(5).normal(size=(2, 13, 3)))
    p, q = along(one, 3), along(two, 3)
    assert float(kl(one, two, 3)) == pytest.approx(float((np.exp(p) * (p - q)).sum()), abs=1e-13)
    assert abs(float(kl(one, two, 3)) - float(kl(two, one, 3))) > 1e-3


def test_a_stack_of_trees_has_the_values_of_each() -> None:
    trees = [make(seed=seed) for seed in range(3)]
    both = soft_values(stack(trees), beta=0.3)
    for i, tree in enumerate(trees):
        assert both.v[i] == pytest.approx(soft_values(tree, beta=0.3).v, abs=1e-14)
    assert stack(trees).gold.shape == (3, 27)


def test_a_beam_that_keeps_all_sorts_the_answers_and_one_of_width_one_is_greedy() -> None:
    tree = make(actions=3, depth=3, seed=2)
    assert [leaf - 13 for leaf in beams(tree.ref, 3, width=27)[-1]] == np.argsort(-along(tree.ref, 3)).tolist()
    state = 0
    for kept in beams(tree.ref, 3, width=1):
        state = state * 3 + int(tree.ref[state].argmax()) + 1
        assert kept == [state]


def test_an_outlook_lets_a_beam_find_what_greed_misses() -> None:
    """Token 0 pays 1 and nothing after, token 1 pays 0 and then 5: only who looks ahead takes token 1."""
    step = np.array([[1.0, 0.0], [0.0, 0.0], [5.0, 0.0]])
    assert beams(step, 2, width=1)[-1] == [3]
    assert beams(step, 2, width=1, outlook=np.array([5.0, 0.0, 5.0]))[-1] == [5]


@pytest.mark.parametrize(("actions", "depth"), [(1, 3), (3, 0), (10, 9)])
def test_a_tree_that_cannot_be_is_refused(actions: int, depth: int) -> None:
    with pytest.raises(InputError):
        make(actions=actions, depth=depth)


def test_settings_out_of_range_and_unlike_trees_are_refused() -> None:
    with pytest.raises(InputError, match="beta"):
        soft_values(make(), beta=0.0)
    with pytest.raises(InputError, match="keeps one"):
        beams(make().ref, 3, width=0)
    with pytest.raises(InputError, match="stacked"):
        stack([make(), make(depth=2)])
