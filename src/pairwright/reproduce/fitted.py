"""Policies that our losses train: tables of logits, in double precision, over a whole population or over rows.

Two kinds of training: `minimise` goes to the lowest point of a sum of losses, and `descend` takes a given number of
equal steps towards it and keeps the policies on its way, as a training with a budget does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from pairwright.losses import PairLogps, PairLoss, Side
from pairwright.worlds.tabular import HIGHEST, LOWEST, Floats, Rows, Whole, normalised

Loss = Callable[[PairLogps], PairLoss]
F64 = torch.float64


def population(wins: Floats) -> tuple[Rows, Floats]:
    """Every ordered pair of answers, and how often it is seen: a pair is drawn uniformly, the first wins with `wins`.

    Args:
        wins: how often answer i beats answer j at each prompt, [P, K, K].

    Returns:
        the rows, [P K (K - 1)], and their weights, which add up to P.
    """
    prompts, answers, _ = wins.shape
    found = np.array([(p, *pair) for p in range(prompts) for pair in permutations(range(answers), 2)], dtype=np.int64)
    prompt, chosen, rejected = found.T
    weight = wins[prompt, chosen, rejected] * 2 / (answers * (answers - 1))
    return Rows(prompt, chosen, rejected, np.full(len(prompt), np.nan)), weight


def bradley_terry(reward: Floats) -> Floats:
    """How often the first answer beats the second, [P, K, K]: `sigmoid(reward_i - reward_j)`."""
    gap = reward[:, :, None] - reward[:, None, :]
    found: Floats = 1 / (1 + np.exp(-gap))
    return found


def value(loss: Loss, policy: Floats, start: Floats, rows: Rows, weight: Floats) -> float:
    """The weighted sum of a loss over rows at a policy [P, K]."""
    table, reference = torch.as_tensor(policy, dtype=F64), torch.as_tensor(start, dtype=F64)
    return float(_total(loss, table, reference, rows, torch.as_tensor(weight, dtype=F64), None))


def minimise(
    loss: Loss,
    start: Floats,
    rows: Rows,
    weight: Floats,
    *,
    length: Floats | None = None,
    ridge: float = 0.0,
    most: int = 2000,
) -> Floats:
    """Log-probabilities [P, K] at the lowest point of the weighted sum of a loss, by L-BFGS from the start.

    Args:
        loss: of pairs.
        start: the reference, log-probabilities [P, K].
        rows: comparisons; their goals play no part.
        weight: of each row, [N].
        length: tokens of each answer, [P, K], for losses that need them.
        ridge: adds `ridge / 2` times the sum of the squared log-ratio logits, so that answers which only ever win have
            a finite place.
        most: steps of the search; a loss with a kink has no sharp end.
    """
    reference = torch.as_tensor(start, dtype=F64)
    tokens = None if length is None else torch.as_tensor(length, dtype=F64)
    weights = torch.as_tensor(weight, dtype=F64)
    push = torch.zeros_like(reference, requires_grad=True)
    search = torch.optim.LBFGS(
        [push],
        max_iter=most,
        max_eval=2 * most,
        history_size=30,
        tolerance_grad=1e-11,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        search.zero_grad()
        policy = (reference + push).log_softmax(dim=1)
        total = _total(loss, policy, reference, rows, weights, tokens) + ridge / 2 * (push**2).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    search.step(closure)  # type: ignore[no-untyped-call]
    found: Floats = (reference + push.detach()).log_softmax(dim=1).numpy()
    return found


def _total(loss: Loss, policy: Tensor, reference: Tensor, rows: Rows, weight: Tensor, length: Tensor | None) -> Tensor:
    at = torch.as_tensor(rows.prompt)

    def side(answer: Tensor) -> Side:
        tokens = None if length is None else length[at, answer]
        return Side(policy[at, answer], length=tokens, ref=reference[at, answer])

    record = PairLogps(side(torch.as_tensor(rows.chosen)), side(torch.as_tensor(rows.rejected)))
    return (weight * loss(record).loss).sum()


@dataclass(frozen=True, eq=False)
class Trained:
    """A policy that can be asked for a goal: logits `start + level + goal * slope`, the goal in units of the scale.

    Attributes:
        start: log-probabilities of the start, [P, K].
        level: what training added without a goal, in nats, [P, K].
        slope: what it added for a goal one unit above the middle of the scale, in nats, [P, K].
    """

    start: Floats
    level: Floats
    slope: Floats

    def at(self, goal: float | Floats | None) -> Floats:
        """Log-probabilities [P, K] when asked for a goal (one for all prompts, or [P]), or for none."""
        asks = np.zeros(len(self.start)) if goal is None else unit(np.broadcast_to(goal, len(self.start)))
        return normalised(self.start + self.level + asks[:, None] * self.slope)


def unit(goal: Floats) -> Floats:
    """Goals of 1 to 10 on a scale of -1 to 1; 0 where none is asked for (NaN), so that no goal is the middle."""
    found: Floats = np.where(np.isnan(goal), 0.0, (goal - (LOWEST + HIGHEST) / 2) * 2 / (HIGHEST - LOWEST))
    return found


def descend(
    loss: Loss,
    start: Floats,
    rows: Rows,
    *,
    features: Floats | None = None,
    steps: int,
    rate: float,
    anchor: tuple[Rows, float] | None = None,
) -> Trained:
    """Gradient descent with equal steps on the mean loss of the rows, from the start.

    Without features each answer has a level and a slope of its own (a table). With them the policy perceives answers
    by their features alone: level and slope are linear in these, so that it says something of prompts without rows.

    Args:
        loss: of pairs.
        start: the reference, log-probabilities [P, K].
        rows: comparisons, with goals or without.
        features: of each answer, [P, K, F], or None.
        steps: how many.
        rate: size of a step, in parameter units for each unit of gradient.
        anchor: rows whose chosen answers are also learned for their own sake under the rows' goals (mean of -log pi),
            and the weight of that.
    """
    reference = torch.as_tensor(start, dtype=F64)
    perceived = None if features is None else torch.as_tensor(features, dtype=F64).reshape(start.size, -1)
    size = start.size if perceived is None else perceived.shape[1]
    weights = torch.zeros(2, size, dtype=F64, requires_grad=True)

    def tables() -> tuple[Tensor, Tensor]:
        both = weights if perceived is None else weights @ perceived.T
        level, slope = both.reshape(2, *start.shape)
        return level, slope

    def logps(given: Rows, level: Tensor, slope: Tensor) -> Tensor:
        at = torch.as_tensor(given.prompt)
        asks = torch.as_tensor(unit(given.goal), dtype=F64)[:, None]
        return (reference[at] + level[at] + asks * slope[at]).log_softmax(dim=1)

    def picked(values: Tensor, answer: Whole) -> Tensor:
        return values.gather(1, torch.as_tensor(answer)[:, None])[:, 0]

    at = torch.as_tensor(rows.prompt)
    likes, dislikes = (picked(reference[at], side) for side in (rows.chosen, rows.rejected))
    for _ in range(steps):
        level, slope = tables()
        policy = logps(rows, level, slope)
        chosen, rejected = (
            Side(picked(policy, rows.chosen), ref=likes),
            Side(picked(policy, rows.rejected), ref=dislikes),
        )
        total = loss(PairLogps(chosen, rejected)).loss.mean()
        if anchor is not None:
            own_rows, weight = anchor
            total = total - weight * picked(logps(own_rows, level, slope), own_rows.chosen).mean()
        (gradient,) = torch.autograd.grad(total, weights)
        with torch.no_grad():
            weights -= rate * gradient
    found, sloped = tables()
    return Trained(start, found.detach().numpy(), sloped.detach().numpy())
