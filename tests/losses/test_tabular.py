"""What the losses converge to, where it is known exactly: policies that are tables of logits.

A policy is a softmax over the K answers of one prompt, so log-probabilities are exact and normalised, and training runs
in milliseconds. The tables of the relabelling paper are in tests/relabel/test_tabular.py.
"""

from collections.abc import Callable
from itertools import permutations

import pytest
import torch
from torch import Tensor

from pairwright.losses import PairLogps, PairLoss, Side, dpo, ipo_sum

F64 = torch.float64


def minimiser(loss: Callable[[PairLogps], PairLoss], weights: Tensor, reference: Tensor) -> Tensor:
    """Log-probabilities that minimise the loss over all ordered pairs of answers; weights by [chosen, rejected]."""
    table = torch.zeros_like(reference, requires_grad=True)
    pairs = torch.tensor(list(permutations(range(len(reference)), 2)))
    weight = weights[pairs[:, 0], pairs[:, 1]]
    search = torch.optim.LBFGS([table], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        logp = table.log_softmax(dim=0)
        sides = [Side(logp[pairs[:, k]], ref=reference[pairs[:, k]]) for k in (0, 1)]
        total = (weight * loss(PairLogps(*sides)).loss).sum()
        total.backward()
        return total

    search.step(closure)  # type: ignore[no-untyped-call]
    return table.detach().log_softmax(dim=0)


REWARDS = torch.tensor([1.0, -0.5, 0.3, 0.0], dtype=F64)
REFERENCE = torch.tensor([0.2, 1.0, -0.7, 0.1], dtype=F64).log_softmax(dim=0)


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_dpo_on_the_whole_population_finds_the_tilted_reference(beta: float) -> None:
    """With Bradley-Terry labels of r the minimiser is pi(y) ~ ref(y) exp(r(y) / beta): arXiv:2305.18290, eq. 4."""
    wins = torch.sigmoid(REWARDS[:, None] - REWARDS[None, :])
    expected = (REFERENCE + REWARDS / beta).log_softmax(dim=0)
    found = minimiser(lambda pair: dpo(pair, beta=beta), wins, REFERENCE)
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-4)


def test_smoothed_dpo_fits_the_smoothed_labels_instead() -> None:
    """Two answers that win with p: sigmoid(z) = (1 - e) p + e (1 - p), so smoothing pulls to the reference."""
    wins = torch.tensor([[0.0, 0.9], [0.1, 0.0]], dtype=F64)
    reference = torch.tensor([0.3, 0.7], dtype=F64).log()
    found = minimiser(lambda pair: dpo(pair, beta=0.5, label_smoothing=0.2), wins, reference)
    ratio = found - reference
    expected = torch.logit(torch.tensor(0.8 * 0.9 + 0.2 * 0.1, dtype=F64))
    assert (0.5 * (ratio[0] - ratio[1])).item() == pytest.approx(expected.item(), abs=1e-4)


def test_ipo_on_the_whole_population_stops_at_a_finite_margin() -> None:
    """Two answers that win with p and 1 - p: the least squares are at D = (2p - 1) / (2 beta): 4 at p = 0.9, beta 0.1.

    Setting the slope of p (D - t)^2 + (1 - p) (D + t)^2 to zero, with t = 1 / (2 beta) = 5.
    """
    wins = torch.tensor([[0.0, 0.9], [0.1, 0.0]], dtype=F64)
    reference = torch.tensor([0.3, 0.7], dtype=F64).log()
    ratio = minimiser(lambda pair: ipo_sum(pair, beta=0.1), wins, reference) - reference
    assert (ratio[0] - ratio[1]).item() == pytest.approx(4.0, abs=1e-4)
