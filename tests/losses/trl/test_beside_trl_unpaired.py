"""Our losses of single answers beside those of TRL's `KTOTrainer`: `kto` and `apo_zero_unpaired`.

TRL makes the KL from the completions of each batch moved on by one prompt; ours from answers of other prompts that are
drawn before training. How the completions come about plays no part here: both get the same log-probabilities of them.
"""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from losses.trl.stand_in import assert_rewards, assert_same, draw, gradients, kto_trainer, points, record
from pairwright.losses import LOSSES

WANTED = {"mixed": (True, False, False, True), "all wanted": (True,) * 4, "none wanted": (False,) * 4}


def strangers(kl: float, *, seed: int = 9) -> tuple[tuple[list[Tensor], list[Tensor]], Tensor]:
    """Four completions whose log-ratios have the mean `kl`, as tokens of policy and reference; and what we make of it.

    The baseline is the mean of the log-ratios, or 0 where that is below 0; computed here from the tokens.
    """
    batch = draw(seed=seed)
    policy = [chosen.detach() for chosen, _ in batch.policy]
    reference = [chosen for chosen, _ in batch.reference]
    off = kl - torch.stack([p.sum() - r.sum() for p, r in zip(policy, reference, strict=True)]).mean()
    reference = [r - off / r.numel() for r in reference]
    ratios = torch.stack([p.sum() - r.sum() for p, r in zip(policy, reference, strict=True)])
    return (policy, reference), ratios.mean().clamp(min=0)


@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("kl", [0.0, 0.5, 6.0])
@pytest.mark.parametrize(
    "settings", [{}, {"beta": 0.5}, {"desirable_weight": 1.33}, {"desirable_weight": 0.8, "undesirable_weight": 2.5}]
)
def test_kto(settings: dict[str, float], kl: float, wanted: str) -> None:
    batch = draw()
    mismatched, baseline = strangers(kl)
    theirs, logged = kto_trainer(batch, WANTED[wanted], mismatched=mismatched, **settings)
    out = LOSSES["kto"](points(batch, WANTED[wanted], baseline), **settings)
    assert logged["kl"] == pytest.approx([kl], abs=1e-9)
    assert_same(out.loss.mean(), theirs, batch)
    for key, want in (("rewards/chosen", True), ("rewards/rejected", False)):
        rows = out.rewards[torch.tensor(WANTED[wanted]) == want]
        assert logged[key] == (pytest.approx([rows.mean().item()]) if len(rows) else [])


def test_a_negative_kl_counts_as_zero_for_both() -> None:
    batch = draw()
    mismatched, baseline = strangers(-3.0)
    theirs, logged = kto_trainer(batch, WANTED["mixed"], mismatched=mismatched)
    assert logged["kl"] == [0.0]
    assert_same(LOSSES["kto"](points(batch, WANTED["mixed"], baseline)).loss.mean(), theirs, batch)
    below = LOSSES["kto"](points(batch, WANTED["mixed"], torch.tensor(-3.0, dtype=torch.float64)))
    assert_same(below.loss.mean(), theirs, batch)


def test_no_gradient_flows_through_the_kl() -> None:
    """Neither in TRL nor here: the strangers' tokens are leaves, and so is our baseline."""
    batch = draw()
    (policy, reference), _ = strangers(1.0)
    for leaf in policy:
        leaf.requires_grad_()
    theirs, _ = kto_trainer(batch, WANTED["mixed"], mismatched=(policy, reference))
    baseline = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    ours = LOSSES["kto"](points(batch, WANTED["mixed"], baseline)).loss.mean()
    assert torch.autograd.grad(theirs, policy, allow_unused=True, retain_graph=True) == (None,) * 4
    assert torch.autograd.grad(ours, baseline, allow_unused=True, retain_graph=True) == (None,)
    assert_same(ours, theirs, batch)


@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_apo_zero_unpaired(beta: float, wanted: str) -> None:
    batch = draw()
    theirs, _ = kto_trainer(batch, WANTED[wanted], loss_type="apo_zero_unpaired", beta=beta)
    out = LOSSES["apo_zero_unpaired"](points(batch, WANTED[wanted]), beta=beta)
    assert_same(out.loss.mean(), theirs, batch)


@pytest.mark.parametrize("wanted", WANTED.values())
def test_weights_of_trl_hold_for_apo_zero_unpaired_too_and_ours_has_none(wanted: Sequence[bool]) -> None:
    """TRL multiplies by the weights of KTO whatever the loss; with us that is `kto` at baseline 0."""
    batch = draw()
    weights = {"desirable_weight": 0.5, "undesirable_weight": 2.0}
    theirs, _ = kto_trainer(batch, wanted, loss_type="apo_zero_unpaired", **weights)
    assert_same(LOSSES["kto"](points(batch, wanted), **weights).loss.mean(), theirs, batch)


def test_pairs_are_two_single_answers() -> None:
    """Our `kto` of a pair is the mean of its two halves: TRL's trainer on both sides of all pairs, as one batch."""
    batch = draw()
    mismatched, baseline = strangers(0.7)
    halves = [kto_trainer(batch, WANTED[each], mismatched=mismatched) for each in ("all wanted", "none wanted")]
    theirs = (halves[0][0] + halves[1][0]) / 2
    out = LOSSES["kto"](record(batch, baseline=baseline))
    assert_same(out.loss.mean(), theirs, batch)
    assert_rewards(
        out, {"rewards/chosen": halves[0][1]["rewards/chosen"], "rewards/rejected": halves[1][1]["rewards/rejected"]}
    )
    zero = LOSSES["apo_zero_unpaired"](record(batch)).loss.mean()
    assert_same(2 * zero, LOSSES["apo_zero"](record(batch)).loss.mean(), batch)


def test_trl_leaves_out_nan_rows_and_we_do_not() -> None:
    """TRL 1.16 averages with nanmean: a row whose loss is NaN vanishes. Ours stays NaN, so that training stops."""
    batch = draw()
    batch.reference[1] = (batch.reference[1][0], torch.full_like(batch.reference[1][1], torch.nan))
    theirs, _ = kto_trainer(batch, WANTED["mixed"], loss_type="apo_zero_unpaired")
    ours = LOSSES["apo_zero_unpaired"](points(batch, WANTED["mixed"])).loss
    assert theirs.isfinite()
    assert ours.isnan().tolist() == [False, True, False, False]
    assert theirs.item() == pytest.approx(ours[torch.tensor([0, 2, 3])].mean().item())
    assert any(grad.isnan().any() for grad in gradients(ours.mean(), batch))
