"""A bench on which it is known what a loss converges to: policies that are tables of logits.

A policy is a softmax over the K answers of each of P prompts, so log-probabilities are exact and normalised. A
population is every ordered pair of answers, weighed by how often it is drawn and how often the first one wins: nothing
is sampled, so what a fit finds differs from a closed form only by the accuracy of the search.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from pairwright.losses import GroupLogps, PairLogps, Side

F64 = torch.float64


@dataclass(frozen=True, eq=False)
class World:
    """P prompts with K answers each; every tensor is [P, K].

    Attributes:
        reference: log-probabilities of the reference.
        reward: what the people who label want.
        length: tokens of each answer.
        drawn: how often each answer is drawn for a comparison; each row adds up to 1.
        score: what a judge said; the reward by default.
        scores: what other judges said.
    """

    reference: Tensor
    reward: Tensor
    length: Tensor
    drawn: Tensor
    score: Tensor
    scores: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def wins(self) -> Tensor:
        """[P, K, K], how often the first answer beats the second: Bradley-Terry with the reward."""
        return bradley_terry(self.reward)

    def side(self, logp: Tensor, at: Tensor) -> Side:
        """The answers at the places `at` [N, 2] (prompt, answer)."""

        def pick(value: Tensor) -> Tensor:
            return value[at[:, 0], at[:, 1]]

        scores = {name: pick(value) for name, value in self.scores.items()}
        return Side(pick(logp), pick(self.length), pick(self.reference), pick(self.score), scores)


def world(seed: int = 0, prompts: int = 4, answers: int = 8) -> World:
    """A random world: rewards about 1 apart, lengths of 4 to 20, a reference and a sampler that prefer some answers."""
    draw = torch.Generator().manual_seed(seed)

    def table() -> Tensor:
        return torch.randn(prompts, answers, generator=draw, dtype=F64)

    reward = table()
    return World(
        reference=(0.7 * table()).log_softmax(dim=1),
        reward=reward,
        length=torch.randint(4, 21, (prompts, answers), generator=draw).to(F64),
        drawn=(0.5 * table()).softmax(dim=1),
        score=reward,
    )


def duel(p: float, reference: float = 0.3) -> tuple[World, Tensor]:
    """One prompt, two answers, the first of which wins with probability p, and the table of wins."""
    odds = torch.tensor([[p, 1 - p]], dtype=F64)
    shares = torch.tensor([[reference, 1 - reference]], dtype=F64)
    half = torch.full_like(odds, 0.5)
    small = World(shares.log(), odds.log(), torch.tensor([[5.0, 8.0]], dtype=F64), half, odds.log())
    return small, torch.tensor([[[0.5, p], [1 - p, 0.5]]], dtype=F64)


def bradley_terry(reward: Tensor) -> Tensor:
    """[P, K, K], how often the first answer beats the second."""
    return torch.sigmoid(reward[:, :, None] - reward[:, None, :])


def flipped(wins: Tensor, share: float) -> Tensor:
    """The same comparisons with a share of labels turned round."""
    return (1 - share) * wins + share * wins.transpose(1, 2)


def search(objective: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Log-probabilities [P, K] that minimise the objective, from uniform policies, by L-BFGS."""
    table = torch.zeros_like(start, requires_grad=True)
    steps = torch.optim.LBFGS(
        [table],
        max_iter=3000,
        max_eval=6000,
        history_size=50,
        tolerance_grad=1e-11,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        steps.zero_grad()
        value = objective(table.log_softmax(dim=1))
        value.backward()
        return value

    steps.step(closure)  # type: ignore[no-untyped-call]
    return table.detach().log_softmax(dim=1)


def population(here: World, wins: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Every ordered pair of answers: places of the chosen and the rejected one, each [N, 2], and weights [N]."""
    prompts, answers = here.reference.shape
    rows = [(prompt, *pair) for prompt in range(prompts) for pair in permutations(range(answers), 2)]
    prompt, chosen, rejected = torch.tensor(rows).unbind(dim=1)
    weight = here.drawn[prompt, chosen] * here.drawn[prompt, rejected] * wins[prompt, chosen, rejected]
    return torch.stack([prompt, chosen], dim=1), torch.stack([prompt, rejected], dim=1), weight


def best_of_pairs(
    loss: Callable[[PairLogps], Any], here: World, wins: Tensor | None = None, goal: float | None = None
) -> Tensor:
    """Log-probabilities [P, K] of the policy that minimises a pair loss over the whole population."""
    chosen, rejected, weight = population(here, here.wins if wins is None else wins)
    goals = None if goal is None else torch.full_like(weight, goal)

    def objective(logp: Tensor) -> Tensor:
        record = PairLogps(here.side(logp, chosen), here.side(logp, rejected), goals)
        return (weight * loss(record).loss).sum()

    return search(objective, here.reference)


def best_of_groups(loss: Callable[[GroupLogps], Any], here: World) -> Tensor:
    """Log-probabilities [P, K] of the policy that minimises a group loss, all answers of a prompt together."""

    def objective(logp: Tensor) -> Tensor:
        total: Tensor = loss(GroupLogps(Side(logp, here.length, here.reference, here.score))).loss.sum()
        return total

    return search(objective, here.reference)


def tilted(reference: Tensor, push: Tensor) -> Tensor:
    """`reference * exp(push)`, normalised: log-probabilities [P, K]."""
    return (reference + push).log_softmax(dim=1)


def normalised(log_weight: Callable[[Tensor], Tensor], low: float, high: float) -> Tensor:
    """Log-probabilities `log_weight(c)` [P, K] with the constant c of each prompt that makes them add up to 1.

    Their sum must rise with c; c is found by halving the interval from `low` to `high`.
    """
    rows = log_weight(torch.zeros(1, dtype=F64)).shape[0]
    left, right = torch.full((rows, 1), low, dtype=F64), torch.full((rows, 1), high, dtype=F64)
    for _ in range(200):
        middle = (left + right) / 2
        below = log_weight(middle).logsumexp(dim=1, keepdim=True) < 0
        left, right = middle.where(below, left), right.where(below, middle)
    return log_weight(left)


def kl(p: Tensor, q: Tensor) -> float:
    """KL divergence of the policy p from q, averaged over prompts, in nats."""
    return (p.exp() * (p - q)).sum(dim=1).mean().item()
