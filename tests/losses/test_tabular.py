"""What the losses converge to, where it is known exactly: policies that are tables of logits.

A policy is a softmax over the K answers of one prompt, for each goal its own row; so log-probabilities are exact and
normalised, and training runs in milliseconds.
"""

from collections.abc import Callable
from itertools import permutations

import polars as pl
import pytest
import torch
from torch import Tensor

from pairwright.chat import assistant, user
from pairwright.losses import PairLogps, PairLoss, Side, dpo, ipo_sum
from pairwright.preferences import Preferences
from pairwright.relabel import relabel

F64 = torch.float64


def world(scores: list[float], pairs: list[tuple[int, int]]) -> Preferences:
    """One prompt, an answer for each score, and pairs (chosen, rejected) of their positions."""
    return Preferences.of(
        pl.DataFrame({"prompt_id": ["p"], "prompt": [[user("Say something.")]]}),
        pl.DataFrame(
            {
                "prompt_id": ["p"] * len(scores),
                "response": [[assistant(f"answer {k}")] for k in range(len(scores))],
                "score": scores,
            }
        ),
        pl.DataFrame(
            {
                "prompt_id": ["p"] * len(pairs),
                "chosen_id": [chosen for chosen, _ in pairs],
                "rejected_id": [rejected for _, rejected in pairs],
            }
        ),
    )


def trained(prefs: Preferences, *, answers: int, beta: float = 0.1) -> dict[float | None, list[float]]:
    """Probabilities of the answers under each goal, after long training of a table from a uniform start with DPO."""
    rows = prefs.pairs.select("chosen_id", "rejected_id", "goal").collect()
    goals = rows["goal"].unique(maintain_order=True).to_list()
    prompt = torch.tensor([goals.index(goal) for goal in rows["goal"]])
    chosen, rejected = (torch.tensor(rows[name].to_list()) for name in ("chosen_id", "rejected_id"))
    table = torch.zeros(len(goals), answers, dtype=F64, requires_grad=True)
    reference = torch.full((len(rows),), -float(torch.tensor(answers).log()), dtype=F64)
    optimizer = torch.optim.Adam([table], lr=0.3)
    for _ in range(400):
        logp = table.log_softmax(dim=1)
        pair = PairLogps(Side(logp[prompt, chosen], ref=reference), Side(logp[prompt, rejected], ref=reference))
        optimizer.zero_grad()
        dpo(pair, beta=beta).loss.mean().backward()
        optimizer.step()
    return dict(zip(goals, table.detach().softmax(dim=1).tolist(), strict=True))


def test_t1_plain_dpo_unlearns_the_good_rejected_answer() -> None:
    """arXiv:2410.08067, table 1: scores 9 and 8. DPO gives (1, 0): the answer with score 8 is gone."""
    assert trained(world([9.0, 8.0], [(0, 1)]), answers=2)[None] == pytest.approx([1.0, 0.0], abs=1e-6)


def test_t1_relabelled_dpo_keeps_both_under_their_goals() -> None:
    """arXiv:2410.08067, table 1: asked for 9 it gives (1, 0), asked for 8 it gives (0, 1)."""
    policy = trained(relabel(world([9.0, 8.0], [(0, 1)]), "ra"), answers=2)
    assert set(policy) == {9.0, 8.0}
    assert policy[9.0] == pytest.approx([1.0, 0.0], abs=1e-6)
    assert policy[8.0] == pytest.approx([0.0, 1.0], abs=1e-6)


def test_t2_plain_dpo_cannot_tell_a_good_winner_from_a_bad_one() -> None:
    """arXiv:2410.08067, table 2: scores 9, 1, 0 with both beating the last. DPO gives (1/2, 1/2, 0)."""
    plain = world([9.0, 1.0, 0.0], [(0, 2), (1, 2)])
    assert trained(plain, answers=3)[None] == pytest.approx([0.5, 0.5, 0.0], abs=1e-6)


def test_t2_relabelled_dpo_gives_each_score_its_answer() -> None:
    """arXiv:2410.08067, table 2: asked for 9, 1 and 0 it gives the answer with that score."""
    plain = world([9.0, 1.0, 0.0], [(0, 2), (1, 2)])
    policy = trained(relabel(plain, "ra", source_range=(0.0, 10.0)), answers=3)
    assert set(policy) == {9.0, 1.0, 0.0}
    assert policy[9.0] == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)
    assert policy[1.0] == pytest.approx([0.0, 1.0, 0.0], abs=1e-6)
    assert policy[0.0] == pytest.approx([0.0, 0.0, 1.0], abs=1e-6)


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
