"""Policies on token trees that are trained by our losses: a table of logits, and a network that shares its weights.

Many trees are trained at once, along the first axis of every tensor: their losses are added, so that none sees another.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pairwright.losses import PairLogps, PairLoss, Side
from pairwright.worlds.tree import Floats, Places, num_states

Loss = Callable[[PairLogps], PairLoss]


@dataclass(frozen=True, eq=False)
class Policy:
    """Parameters and what they make of them: `[trees, states, A]` logits."""

    parameters: tuple[Tensor, ...]
    logits: Callable[[tuple[Tensor, ...]], Tensor]
    depth: int

    def logp(self) -> Floats:
        """Log-probabilities of tokens, `[trees, states, A]`."""
        with torch.no_grad():
            found: Floats = torch.log_softmax(self.logits(self.parameters), dim=-1).numpy()
        return found


@dataclass(frozen=True, eq=False)
class Pairs:
    """Answers by leaf number, `[trees, pairs]`, and what each pair counts (None: all alike)."""

    chosen: Places
    rejected: Places
    weight: Floats | None = None


@dataclass(frozen=True, eq=False)
class Training:
    """Token log-probabilities at each check, `[checks, trees, states, A]`, and the step of each, from step 0 on."""

    steps: tuple[int, ...]
    logp: Floats
    last: Policy


def table(logits: Floats, depth: int) -> Policy:
    """A policy with logits of its own at every state, `[trees, states, A]`: what it learns in one moves no other."""
    return Policy((torch.tensor(logits, dtype=torch.float64),), lambda parameters: parameters[0], depth)


def network(*, seeds: Sequence[int], actions: int, depth: int, width: int) -> Policy:
    """A recurrent network for each seed, `h' = tanh(h W + E[token])` and `logits = h U`, with normal weights.

    States share W, E and U, so what is learnt at one moves the others, as in a language model.
    """
    num_states(actions, depth)
    shapes = ((width, width), (actions, width), (width, actions), (1, width))
    scales = (width**-0.5, 1.0, width**-0.5, 1.0)
    randoms = [np.random.default_rng(seed) for seed in seeds]
    drawn = tuple(
        torch.tensor(np.stack([scale * random.standard_normal(shape) for random in randoms]), dtype=torch.float64)
        for shape, scale in zip(shapes, scales, strict=True)
    )

    def logits(parameters: tuple[Tensor, ...]) -> Tensor:
        within, token, out, state = parameters
        found = []
        for place in range(depth):
            found.append(state @ out)
            if place + 1 < depth:
                state = torch.tanh((state @ within)[:, :, None, :] + token[:, None, :, :]).flatten(1, 2)
        return torch.cat(found, dim=1)

    return Policy(drawn, logits, depth)


def fitted(policy: Policy, target: Floats, *, steps: int, lr: float) -> Policy:
    """The policy after `steps` of Adam on the likelihood of answers with the weights `target`, `[trees, leaves]`."""
    parameters = _free(policy)
    weights, optimiser = torch.tensor(target), torch.optim.Adam(parameters, lr)
    for _ in range(steps):
        optimiser.zero_grad()
        (-(weights * _answers(policy, parameters)).sum()).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return _frozen(policy, parameters)


def trained(
    policy: Policy, pairs: Pairs, loss: Loss, *, steps: int, lr: float, checks: int, batch: int | None = None
) -> Training:
    """Adam on a loss of pairs, with the policy's own start as the reference.

    Args:
        policy: where training starts; it stays as it is.
        pairs: what it learns from.
        loss: of ours, with its settings.
        steps: of the optimiser.
        lr: its step size.
        checks: how often the policy is looked at after the start, at equal distances.
        batch: pairs of a step, taken in order and from the front again; None takes all.
    """
    parameters = _free(policy)
    ref = _answers(policy, parameters).detach()
    chosen, rejected = torch.tensor(pairs.chosen), torch.tensor(pairs.rejected)
    optimiser = torch.optim.Adam(parameters, lr)
    at = {round(check * steps / checks) for check in range(checks + 1)}
    seen = []
    for step in range(steps + 1):
        if step in at:
            seen.append(_frozen(policy, parameters).logp())
        if step < steps:
            rows = torch.arange(chosen.shape[1])
            if batch is not None:
                rows = (step * batch + torch.arange(batch)) % chosen.shape[1]
            optimiser.zero_grad()
            each = _loss(loss, _answers(policy, parameters), ref, chosen[:, rows], rejected[:, rows])
            each.mean(dim=1).sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return Training(tuple(sorted(at)), np.stack(seen), _frozen(policy, parameters))


def minimised(policy: Policy, pairs: Pairs, loss: Loss, *, steps: int = 2000) -> Policy:
    """The policy at the minimum of the weighted mean of a loss, by L-BFGS until the gradient is below 1e-13.

    The policy's own start is the reference. All trees are minimised as one problem.
    """
    parameters = _free(policy)
    ref = _answers(policy, parameters).detach()
    chosen, rejected = torch.tensor(pairs.chosen), torch.tensor(pairs.rejected)
    weight = torch.ones(chosen.shape, dtype=torch.float64) if pairs.weight is None else torch.tensor(pairs.weight)
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=steps, tolerance_grad=1e-13, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        total = (weight * _loss(loss, _answers(policy, parameters), ref, chosen, rejected)).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return _frozen(policy, parameters)


def _free(policy: Policy) -> tuple[Tensor, ...]:
    return tuple(each.clone().requires_grad_() for each in policy.parameters)


def _frozen(policy: Policy, parameters: tuple[Tensor, ...]) -> Policy:
    return Policy(tuple(each.detach().clone() for each in parameters), policy.logits, policy.depth)


def _answers(policy: Policy, parameters: tuple[Tensor, ...]) -> Tensor:
    """Log-probabilities of all answers, `[trees, leaves]`."""
    logp = torch.log_softmax(policy.logits(parameters), dim=-1)
    total, start = logp.new_zeros(logp.shape[0], 1), 0
    for _ in range(policy.depth):
        stop = start + total.shape[1]
        total, start = (total[:, :, None] + logp[:, start:stop]).flatten(1), stop
    return total


def _loss(loss: Loss, logp: Tensor, ref: Tensor, chosen: Tensor, rejected: Tensor) -> Tensor:
    """The loss of each pair, `[trees, pairs]`."""
    sides = [
        Side(logp=logp.gather(1, rows).flatten(), ref=ref.gather(1, rows).flatten()) for rows in (chosen, rejected)
    ]
    return loss(PairLogps(chosen=sides[0], rejected=sides[1])).loss.reshape(chosen.shape)
