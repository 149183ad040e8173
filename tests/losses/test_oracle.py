"""Every loss beside a second implementation that was written from the papers: see oracle.py."""

from typing import Any

import pytest
import torch

from losses import oracle
from losses.beside_oracle import SETTINGS, assert_slopes, assert_values
from losses.random_cases import cases, pair_record
from pairwright.losses import DIVERGENCES, LOSSES, WEIGHTINGS, diverged, dpo, weighted
from pairwright.plug import bind


def test_every_loss_has_a_second_implementation() -> None:
    assert set(SETTINGS) == set(LOSSES)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_values_and_implicit_rewards(name: str) -> None:
    assert_values(LOSSES[name], name)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_slopes(name: str) -> None:
    assert_slopes(LOSSES[name], name)


@pytest.mark.parametrize(
    ("name", "settings"),
    [*((name, {}) for name in sorted(DIVERGENCES)), ("alpha_divergence", {"alpha": 0.3})],
)
def test_dpo_under_another_divergence(name: str, settings: dict[str, Any]) -> None:
    rows = cases(3, 200)
    expected = [oracle.diverged_dpo(row, name, beta=0.4, **settings) for row in rows]
    # The oracle drops the constants that ours add so that f(0) = 0; they cancel in the margin but not in a reward.
    zero = oracle.DIVERGENCES[name](0.0, **settings)
    loss = bind(dpo, {"beta": 0.4}, kind="loss")
    out = diverged(loss, bind(DIVERGENCES[name], settings, kind="divergence"))(pair_record(rows))
    assert out.loss.tolist() == pytest.approx([row[0] for row in expected], rel=1e-10)
    for at, rewards in ((1, out.chosen), (2, out.rejected)):
        assert rewards.tolist() == pytest.approx([row[at] - 0.4 * zero for row in expected], rel=1e-10, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "settings", "weight"),
    [
        ("wpo", {}, oracle.wpo),
        ("wpo", {"max_weight": 0.3}, lambda case: oracle.wpo(case, max_weight=0.3)),
        ("wpo_plain", {}, oracle.wpo_plain),
    ],
)
def test_dpo_with_weights(name: str, settings: dict[str, Any], weight: Any) -> None:
    """Value and slope are those of DPO times the weight: the weight itself has no gradient."""
    rows = cases(4, 200)
    record = pair_record(rows)
    out = weighted(dpo, bind(WEIGHTINGS[name], settings, kind="weighting"))(record)
    plain = dpo(record)
    weights = torch.tensor([weight(row) for row in rows], dtype=torch.float64)
    assert out.loss.tolist() == pytest.approx((plain.loss * weights).tolist(), rel=1e-10)
    assert out.chosen.tolist() == plain.chosen.tolist()
    (found,) = torch.autograd.grad(out.loss.sum(), record.chosen.logp)
    (slope,) = torch.autograd.grad(plain.loss.sum(), record.chosen.logp)
    assert found.tolist() == pytest.approx((slope * weights).tolist(), rel=1e-10)
    assert weights.min() < 0.9 * weights.max()
