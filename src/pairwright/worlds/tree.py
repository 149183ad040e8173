"""The world of trees: answers are paths of tokens, and every value in it is exact.

A tree of depth T has A tokens at each of its states; the empty prefix is state 0, and state s followed by token a is
state `s * A + a + 1`, counted breadth first. After T tokens an answer is complete: a leaf. There are
`(A^T - 1) / (A - 1)` states and `A^T` leaves; leaf numbers have the tokens as their digits, the first token highest.

Numbers at tokens have the shape `[..., states, A]` and numbers at answers `[..., leaves]`, with any axes in front.
Rewards are in units of the reward, log-probabilities in nats.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pairwright.errors import InputError

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

MOST_LEAVES = 1_000_000
"""A larger tree would not fit where every leaf is enumerated."""


@dataclass(frozen=True, eq=False)
class Tree:
    """A token tree with its rewards and its reference policy.

    Attributes:
        depth: tokens of an answer.
        reward: of each token where it stands, `[..., states, A]`; the gold reward of an answer is their sum.
        ref: log-probabilities of the tokens under the reference, `[..., states, A]`.
    """

    depth: int
    reward: Floats
    ref: Floats

    @property
    def actions(self) -> int:
        """Tokens at each state, A."""
        return int(self.reward.shape[-1])

    @property
    def gold(self) -> Floats:
        """The gold reward of each answer, `[..., leaves]`."""
        return along(self.reward, self.depth)


@dataclass(frozen=True, eq=False)
class Soft:
    """What soft value iteration knows of a tree; each `[..., states, A]` but `v`, which is `[..., states]`.

    Attributes:
        q: `Q*(s, a) = r(s, a) + beta log ref(a|s) + V*(s')`, with `V* = 0` at leaves.
        v: `V*(s) = beta log sum_a exp(Q*(s, a) / beta)`.
        advantage: `A*(s, a) = r(s, a) + V*(s') - V*(s)`.
        logp: of the optimal policy, `(Q* - V*) / beta`.
    """

    q: Floats
    v: Floats
    advantage: Floats
    logp: Floats


def num_states(actions: int, depth: int) -> int:
    """States of a tree, leaves not counted.

    Raises:
        InputError: there is no such tree, or it has too many leaves to enumerate.
    """
    if actions < 2 or depth < 1:
        raise InputError(f"a tree needs two tokens and a depth of 1 at least, not {actions} and {depth}")
    if actions**depth > MOST_LEAVES:
        raise InputError(
            f"{actions} tokens and depth {depth} give more than {MOST_LEAVES:,} answers; take a smaller tree"
        )
    return int((actions**depth - 1) // (actions - 1))


def make(*, actions: int = 3, depth: int = 3, reward: float = 1.0, ref: float = 1.0, seed: int = 0) -> Tree:
    """A tree with normal rewards at its tokens and a reference with normal logits.

    Args:
        actions: tokens at each state.
        depth: tokens of an answer.
        reward: standard deviation of a token's reward.
        ref: standard deviation of the reference's logits; 0 is a uniform reference.
        seed: which tree.

    Raises:
        InputError: there is no such tree, or it has too many leaves to enumerate.
    """
    shape = (num_states(actions, depth), actions)
    random = np.random.default_rng(seed)
    rewards = reward * random.standard_normal(shape)
    return Tree(depth, rewards, normalised(ref * random.standard_normal(shape)))


def stack(trees: list[Tree]) -> Tree:
    """Trees of one shape as one record, the trees along a new first axis.

    Raises:
        InputError: there are none, or their shapes differ.
    """
    if len({(tree.depth, tree.reward.shape) for tree in trees}) != 1:
        raise InputError("trees of one depth and number of tokens can be stacked, at least one of them")
    return Tree(trees[0].depth, np.stack([tree.reward for tree in trees]), np.stack([tree.ref for tree in trees]))


def normalised(logits: Floats) -> Floats:
    """Log-probabilities of logits along the last axis."""
    logp: Floats = logits - logsumexp(logits)[..., None]
    return logp


def logsumexp(values: Floats) -> Floats:
    """`log sum exp` along the last axis."""
    highest = values.max(axis=-1)
    total: Floats = highest + np.log(np.exp(values - highest[..., None]).sum(axis=-1))
    return total


def along(values: Floats, depth: int) -> Floats:
    """Sum of numbers at tokens along each answer, `[..., states, A]` to `[..., leaves]`.

    Of token log-probabilities it gives the log-probability of each answer.
    """
    total = np.zeros((*values.shape[:-2], 1))
    for level in _levels(values.shape[-1], depth):
        total = (total[..., None] + values[..., level, :]).reshape(*total.shape[:-1], -1)
    return total


def token_logp(leaf_logp: Floats, *, actions: int, depth: int) -> Floats:
    """Log-probabilities of tokens from those of whole answers, `[..., leaves]` to `[..., states, A]`.

    The mass under a state is summed and divided: no value is iterated, so this is another road to an optimal policy
    than `soft_values`.
    """
    levels, mass = [], leaf_logp
    for level in reversed(_levels(actions, depth)):
        under = mass.reshape(*mass.shape[:-1], level.stop - level.start, actions)
        mass = logsumexp(under)
        levels.append(under - mass[..., None])
    return np.concatenate(levels[::-1], axis=-2)


def soft_values(tree: Tree, *, beta: float) -> Soft:
    """Soft value iteration from the leaves to the root.

    Source: arXiv 2404.12358 (the token-level decision process with a KL price beta).

    Args:
        tree: one or a stack.
        beta: price of a nat of `KL(pi || ref)`, in units of reward.

    Raises:
        InputError: beta is not above 0.
    """
    if not beta > 0:
        raise InputError(f"beta must be above 0, not {beta:g}")
    after = np.zeros((*tree.reward.shape[:-2], tree.actions**tree.depth))
    qs, vs, advantages = [], [], []
    for level in reversed(_levels(tree.actions, tree.depth)):
        gain = tree.reward[..., level, :] + after.reshape(*after.shape[:-1], -1, tree.actions)
        q = gain + beta * tree.ref[..., level, :]
        after = beta * logsumexp(q / beta)
        qs.append(q)
        vs.append(after)
        advantages.append(gain - after[..., None])
    q, advantage = np.concatenate(qs[::-1], axis=-2), np.concatenate(advantages[::-1], axis=-2)
    v = np.concatenate(vs[::-1], axis=-1)
    return Soft(q, v, advantage, (q - v[..., None]) / beta)


def best_answers(leaf_reward: Floats, leaf_ref: Floats, *, beta: float) -> Floats:
    """Log-probabilities of answers under `pi ∝ ref exp(reward / beta)`, `[..., leaves]`: DPO's minimiser on all pairs.

    Source: arXiv 2305.18290.
    """
    return normalised(leaf_ref + leaf_reward / beta)


def reach(logp: Floats, depth: int) -> Floats:
    """Probability of coming to each state, `[..., states, A]` to `[..., states]`."""
    at, levels = np.ones((*logp.shape[:-2], 1)), []
    for level in _levels(logp.shape[-1], depth):
        levels.append(at)
        at = (at[..., None] * np.exp(logp[..., level, :])).reshape(*at.shape[:-1], -1)
    return np.concatenate(levels, axis=-1)


def kl(logp: Floats, other: Floats, depth: int) -> Floats:
    """`KL(p || other)` of answers in nats, by the chain rule over tokens, `[...]`."""
    here = (np.exp(logp) * (logp - other)).sum(axis=-1)
    total: Floats = (reach(logp, depth) * here).sum(axis=-1)
    return total


def paths(*, actions: int, depth: int) -> tuple[Places, Places]:
    """State and token at each place of every answer, two arrays `[leaves, depth]`."""
    leaves = np.arange(actions**depth)
    tokens = np.stack([leaves // actions ** (depth - 1 - place) % actions for place in range(depth)], axis=1)
    states = np.zeros_like(tokens)
    for place in range(1, depth):
        states[:, place] = states[:, place - 1] * actions + tokens[:, place - 1] + 1
    return states, tokens


def leaf_of(tokens: Places, *, actions: int) -> Places:
    """Numbers of the answers with these tokens, `[..., depth]` to `[...]`."""
    depth = tokens.shape[-1]
    leaves: Places = (tokens * actions ** np.arange(depth - 1, -1, -1)).sum(axis=-1)
    return leaves


def beams(step: Floats, depth: int, *, width: int, outlook: Floats | None = None) -> list[list[int]]:
    """Beam search: the prefixes that stay at each depth, best first.

    A prefix is ranked by the sum of `step` along it, plus `outlook` at the state that it comes to. One that is a whole
    answer has the number of states plus its leaf number.

    Args:
        step: scores of tokens of one tree, `[states, A]`; larger is better.
        depth: of the tree.
        width: prefixes that stay.
        outlook: what is expected from a state on, `[states]`; 0 at leaves. None expects nothing.

    Returns:
        a list of states for each depth 1 to T; equal scores keep the order of their numbers.

    Raises:
        InputError: the width is below 1.
    """
    if width < 1:
        raise InputError(f"a beam search keeps one prefix at least, not {width}")
    states, actions = step.shape
    kept, scores, found = np.array([0], dtype=np.intp), np.zeros(1), []
    for _ in range(depth):
        after = (kept[:, None] * actions + np.arange(actions) + 1).reshape(-1)
        total = (scores[:, None] + step[kept]).reshape(-1)
        ahead = np.where(after < states, 0.0 if outlook is None else outlook[np.minimum(after, states - 1)], 0.0)
        order = np.lexsort((after, -(total + ahead)))[:width]
        kept, scores = after[order], total[order]
        found.append([int(state) for state in kept])
    return found


def _levels(actions: int, depth: int) -> list[slice]:
    """The states of each depth."""
    starts = [(actions**level - 1) // (actions - 1) for level in range(depth + 1)]
    return [slice(start, stop) for start, stop in pairwise(starts)]
