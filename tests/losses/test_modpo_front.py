"""MODPO on two rewards that are known: each weight ends on the front of what any policy can have of both.

Labels come from the first reward, margins from the second. arXiv:2310.03708: the policy for weight w of the first is
`ref * exp((w r1 + (1 - w) r2) / beta)`, normalised.
"""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from losses.tabular import best_of_pairs, bradley_terry, tilted, world
from pairwright.losses import dpo, modpo

BETA = 0.5
FIRST = world()
SECOND = world(seed=5).reward
HERE = replace(FIRST, score=SECOND, scores={"brevity": SECOND / 3, "safety": world(seed=6).reward})


def optimum(weight: float) -> Tensor:
    return tilted(FIRST.reference, (weight * FIRST.reward + (1 - weight) * SECOND) / BETA)


def expected_rewards(policy: Tensor) -> tuple[float, float]:
    """What a policy earns of both rewards, averaged over prompts."""
    share = policy.exp()
    return (share * FIRST.reward).sum(dim=1).mean().item(), (share * SECOND).sum(dim=1).mean().item()


@pytest.mark.parametrize("weight", [0.2, 0.5, 0.8])
def test_each_weight_finds_its_optimum(weight: float) -> None:
    found = best_of_pairs(partial(modpo, beta=BETA, weight=weight), HERE)
    assert (found - optimum(weight)).abs().max().item() < 1e-3


def test_margins_by_name_are_weighed_as_they_are_given() -> None:
    """beta u = w r1 + sum_i w_i r_i + c; the weights need not add up to 1."""
    margins = {"brevity": 0.6, "safety": 0.3}
    found = best_of_pairs(partial(modpo, beta=BETA, weight=0.4, margins=margins), HERE)
    push = 0.4 * FIRST.reward + 0.6 * HERE.scores["brevity"] + 0.3 * HERE.scores["safety"]
    assert (found - tilted(FIRST.reference, push / BETA)).abs().max().item() < 1e-3


def test_a_margin_learned_from_the_other_labels_does_as_well() -> None:
    """DPO on labels of the second reward gives beta u = r2 + c of the prompt, and c drops out of every margin."""
    other = best_of_pairs(partial(dpo, beta=0.3), FIRST, bradley_terry(SECOND))
    learned = replace(HERE, score=0.3 * (other - FIRST.reference))
    found = best_of_pairs(partial(modpo, beta=BETA, weight=0.5), learned)
    assert (found - optimum(0.5)).abs().max().item() < 1e-2


def hypervolume(points: list[tuple[float, float]], nadir: tuple[float, float]) -> float:
    """The area between the nadir and the front through the points; mixing two policies reaches the line between."""
    ordered = sorted(points)
    heights = [(x - nadir[0], y - nadir[1]) for x, y in [(nadir[0], ordered[0][1]), *ordered]]
    return sum((x - a) * (y + b) / 2 for (a, b), (x, y) in pairwise(heights))


def test_the_weights_trace_the_front() -> None:
    """Nine weights and both ends, against 2001 points of the exact front: the hypervolume is within 1 %."""
    weights = [0.1 * step for step in range(1, 10)]
    ends = [best_of_pairs(partial(dpo, beta=BETA), FIRST, bradley_terry(reward)) for reward in (SECOND, FIRST.reward)]
    found = [best_of_pairs(partial(modpo, beta=BETA, weight=weight), HERE) for weight in weights]
    traced = [expected_rewards(policy) for policy in (ends[0], *found, ends[1])]
    exact = [expected_rewards(optimum(step / 2000)) for step in range(2001)]
    nadir = expected_rewards(FIRST.reference)
    assert hypervolume(traced, nadir) == pytest.approx(hypervolume(exact, nadir), rel=0.01)
    firsts, seconds = zip(*traced, strict=True)
    assert list(firsts) == sorted(firsts)
    assert list(seconds) == sorted(seconds, reverse=True)
    # A straight line between the ends, which averaging the two would give, is not the front.
    assert hypervolume([traced[0], traced[-1]], nadir) < 0.99 * hypervolume(exact, nadir)


def test_the_hypervolume_of_a_known_front() -> None:
    """The quarter circle of radius 1 has pi / 4; its chord, 1 / 2."""
    angles = torch.linspace(0, torch.pi / 2, 1001, dtype=torch.float64)
    circle = list(zip(angles.cos().tolist(), angles.sin().tolist(), strict=True))
    assert hypervolume(circle, (0.0, 0.0)) == pytest.approx(torch.pi / 4, abs=1e-5)
    assert hypervolume([circle[0], circle[-1]], (0.0, 0.0)) == pytest.approx(0.5, abs=1e-9)
