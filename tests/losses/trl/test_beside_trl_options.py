"""Divergences, weightings, sums of losses and LD-DPO beside the options of TRL's `DPOTrainer` of these names."""

import math
from functools import partial
from typing import Any

import pytest
import torch

from losses.trl.stand_in import assert_rewards, assert_same, at_reference, dpo_trainer, draw, gradients, record, shifted
from pairwright.errors import InputError
from pairwright.losses import LOSSES
from pairwright.losses.compose import Term, compose
from pairwright.losses.divergences import DIVERGENCES, diverged
from pairwright.losses.weightings import wpo

# --- divergences -----------------------------------------------------------------------------------------------------

OF_A_DIFFERENCE = [
    ("dpo", "sigmoid", {}),
    ("hinge", "hinge", {}),
    ("exo", "exo_pair", {"label_smoothing": 1e-3}),
    ("robust_dpo", "robust", {"label_smoothing": 0.1}),
    ("discopop", "discopop", {"beta": 0.05}),
]
"""The losses that TRL lets have another divergence and that see no lengths."""


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("name", "loss_type", "settings"), OF_A_DIFFERENCE)
@pytest.mark.parametrize("divergence", ["reverse_kl", "forward_kl", "js_divergence"])
def test_divergences(name: str, loss_type: str, settings: dict[str, Any], divergence: str, seed: int) -> None:
    batch = draw(seed=seed, depth=1.0)
    shared = {"beta": 0.1} | settings
    loss = compose([Term(name, settings=shared, divergence=divergence)])
    theirs, _ = dpo_trainer(batch, loss_type, f_divergence_type=divergence, **shared)
    assert_same(loss(record(batch)).loss.mean(), theirs, batch)


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize(("name", "loss_type", "settings"), OF_A_DIFFERENCE)
def test_alpha_of_the_paper_is_one_minus_the_coefficient_of_trl(
    name: str, loss_type: str, settings: dict[str, Any], alpha: float
) -> None:
    """In float32: TRL 1.16 has a limit for the exponent there and in half precision, and a KeyError in float64."""
    batch = draw(depth=1.0, dtype=torch.float32)
    shared = {"beta": 0.1} | settings
    loss = compose([Term(name, settings=shared, divergence={"name": "alpha_divergence", "alpha": alpha})])
    theirs, _ = dpo_trainer(
        batch, loss_type, f_divergence_type="alpha_divergence", f_alpha_divergence_coef=1 - alpha, **shared
    )
    assert_same(loss(record(batch)).loss.mean(), theirs, batch, within=1e-5)


@pytest.mark.parametrize(("alpha", "f_of_2"), [(0.3, 1.503961), (0.7, 1.076290)])
def test_alpha_by_hand(alpha: float, f_of_2: float) -> None:
    """At u = 2 and 0, f(u) = (1 - exp(-2 alpha)) / alpha, seen through a hinge: (1 - 0.548812) / 0.3 = 1.503961."""
    batch = shifted(at_reference(draw(dtype=torch.float32)), chosen=2.0)
    loss = compose([Term("hinge", divergence={"name": "alpha_divergence", "alpha": alpha})])
    assert loss(record(batch)).loss.tolist() == pytest.approx([1 - 0.1 * f_of_2] * 4, abs=1e-6)
    theirs, _ = dpo_trainer(batch, "hinge", f_divergence_type="alpha_divergence", f_alpha_divergence_coef=1 - alpha)
    assert theirs.item() == pytest.approx(1 - 0.1 * f_of_2, abs=1e-6)


@pytest.mark.parametrize("divergence", ["forward_kl", "js_divergence"])
@pytest.mark.parametrize("loss_type", ["sigmoid", "hinge"])
def test_rewards_under_a_divergence_are_those_that_the_loss_compares(loss_type: str, divergence: str) -> None:
    """TRL logs beta times the plain log-ratio; ours is what stands in the loss: beta times f of it."""
    batch = shifted(at_reference(draw()), chosen=1.0, rejected=-1.0)
    _, logged = dpo_trainer(batch, loss_type, f_divergence_type=divergence)
    assert logged["rewards/chosen"] == pytest.approx([0.1])
    out = compose([Term("dpo", divergence=divergence)])(record(batch))
    expected = {"forward_kl": 1 - math.exp(-1), "js_divergence": math.log(2 * math.e / (1 + math.e))}[divergence]
    assert out.chosen.tolist() == pytest.approx([0.1 * expected] * 4)


@pytest.mark.parametrize("name", ["ipo_mean", "dpo_mean"])
def test_divided_by_lengths_trl_has_a_divergence_and_we_refuse(name: str) -> None:
    """TRL divides f of the sum by the length. The constant of f then does not cancel, unless both lengths are one."""
    with pytest.raises(InputError, match="takes no divergence"):
        diverged(LOSSES[name], DIVERGENCES["forward_kl"])


def test_forward_kl_of_trl_is_nan_where_the_policy_forgot_both_answers() -> None:
    """At u = -100 on both sides TRL 1.16 takes inf from inf; ours goes on in a straight line: u has a slope there."""
    batch = shifted(at_reference(draw(dtype=torch.float32)), chosen=-100.0, rejected=-100.0)
    theirs, _ = dpo_trainer(batch, "sigmoid", f_divergence_type="forward_kl")
    assert theirs.isnan()
    loss = compose([Term("dpo", divergence="forward_kl")])
    assert loss(record(batch)).loss.isfinite().all()


def test_exponentials_agree_down_to_30_nats_and_part_below() -> None:
    """Down to u = -30 both are `1 - exp(-u)`; at -40 TRL has exp(40), ours goes on from exp(30) with its slope.

    The hinge shows the scores themselves: 1 - 0.1 * (f(u) - f(0)) with f(-40) = 1 - exp(30) * (1 + 10) for us.
    """
    loss = compose([Term("hinge", divergence="forward_kl")])
    for nats, ours_f, theirs_f in (
        (29.0, math.expm1(29), math.expm1(29)),
        (40.0, 11 * math.exp(30) - 1, math.expm1(40)),
    ):
        batch = shifted(at_reference(draw()), chosen=-nats)
        theirs, _ = dpo_trainer(batch, "hinge", f_divergence_type="forward_kl")
        assert theirs.item() == pytest.approx(1 + 0.1 * theirs_f, rel=1e-9)
        assert loss(record(batch)).loss.tolist() == pytest.approx([1 + 0.1 * ours_f] * 4, rel=1e-9)


def test_alpha_divergence_of_trl_has_no_gradient_beyond_its_limit() -> None:
    """At an exponent above 80 TRL 1.16 clamps: the worst pairs pull no more. Ours pull on."""
    batch = shifted(at_reference(draw(dtype=torch.float32)), chosen=-200.0)
    theirs, _ = dpo_trainer(batch, "hinge", f_divergence_type="alpha_divergence", f_alpha_divergence_coef=0.5)
    loss = compose([Term("hinge", divergence={"name": "alpha_divergence", "alpha": 0.5})])
    ours = loss(record(batch)).loss.mean()
    token = batch.policy[0][0]
    assert torch.autograd.grad(theirs, token)[0].abs().max().item() == 0
    assert torch.autograd.grad(ours, token)[0].abs().min().item() > 0


# --- weightings ------------------------------------------------------------------------------------------------------

WEIGHTED = [
    ("dpo", "sigmoid", {"beta": 0.01}),
    ("ipo_mean", "ipo", {}),
    ("exo", "exo_pair", {"label_smoothing": 1e-3}),
    ("nca_pair", "nca_pair", {}),
    ("robust_dpo", "robust", {"label_smoothing": 0.1}),
    ("bco", "bco_pair", {}),
    ("sppo_hard", "sppo_hard", {"beta": 0.1}),
    ("apo_zero", "apo_zero", {}),
    ("apo_down", "apo_down", {}),
    ("discopop", "discopop", {"beta": 0.05}),
    ("dpo_mean", "sigmoid_norm", {}),
]


@pytest.mark.parametrize(("name", "loss_type", "settings"), WEIGHTED)
def test_sampled_alignment(name: str, loss_type: str, settings: dict[str, Any]) -> None:
    """TRL 1.16 has no cap on the weight, so ours is lifted; the next test is about the cap."""
    batch = draw()
    shared = {"beta": 0.1} | settings
    weighting = {"name": "wpo", "max_weight": math.inf}
    loss = compose([Term(name, settings=shared, weighting=weighting)])
    theirs, _ = dpo_trainer(batch, loss_type, use_weighting=True, **shared)
    assert_same(loss(record(batch)).loss.mean(), theirs, batch)


def test_the_cap_on_weights_is_ours() -> None:
    """Of these four pairs some weigh more than 1 in TRL, whose weight is unbounded; with the cap they weigh 1."""
    batch = draw()
    free, capped = wpo(record(batch), max_weight=math.inf), wpo(record(batch))
    assert (free > 1).any()
    assert (free < 1).any()
    assert capped.tolist() == pytest.approx(free.clamp(max=1).tolist(), rel=1e-12)
    theirs, _ = dpo_trainer(batch, "sigmoid", use_weighting=True)
    ours = compose([Term("dpo", weighting="wpo")])(record(batch)).loss
    plain = LOSSES["dpo"](record(batch)).loss
    assert theirs.item() - ours.mean().item() == pytest.approx((plain * (free - 1).clamp(min=0)).mean().item())


def test_hinge_under_a_weighting_cannot_be_trained_in_trl() -> None:
    """TRL 1.16 multiplies in place what relu keeps for its gradient: the value agrees, the backward pass is refused."""
    batch = draw()
    theirs, _ = dpo_trainer(batch, "hinge", use_weighting=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(theirs, batch)
    ours = compose([Term("hinge", weighting={"name": "wpo", "max_weight": math.inf})])(record(batch)).loss.mean()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-9)
    assert max(grad.abs().max().item() for grad in gradients(ours, batch)) > 0


def test_sft_has_no_weighting_in_trl() -> None:
    """TRL 1.16 multiplies in place a value that it has expanded from one number, which torch refuses."""
    batch = draw()
    with pytest.raises(RuntimeError, match="single memory location"):
        dpo_trainer(batch, "sft", use_weighting=True)
    ours = compose([Term("sft", weighting="wpo")])(record(batch)).loss
    assert ours.tolist() == pytest.approx((LOSSES["sft"](record(batch)).loss * wpo(record(batch))).tolist())


# --- tokens beyond the shorter answer --------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_ld_dpo(alpha: float, seed: int) -> None:
    """TRL weighs the tail of the policy and of the reference, and its `ld_alpha` is an option of every loss."""
    batch = draw(seed=seed)
    theirs, logged = dpo_trainer(batch, "sigmoid", ld_alpha=alpha)
    out = LOSSES["ld_dpo"](record(batch), beta=0.1, alpha=alpha)
    assert_same(out.loss.mean(), theirs, batch)
    assert_rewards(out, logged)


def test_ld_is_of_dpo_alone_here() -> None:
    """Under `ld_alpha` TRL's hinge sees shortened sums. Ours has no such option: a recipe that gives it is refused."""
    batch = draw()
    changed, plain = (dpo_trainer(batch, "hinge", ld_alpha=alpha)[0].item() for alpha in (0.0, None))
    assert changed != pytest.approx(plain, rel=1e-3)
    with pytest.raises(InputError, match="alpha"):
        compose([Term("hinge", settings={"alpha": 0.0})])


# --- sums ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "types", "weights"),
    [
        (["dpo", "bco"], ["sigmoid", "bco_pair"], [0.8, 0.2]),
        (["dpo", "apo_zero", "hinge"], ["sigmoid", "apo_zero", "hinge"], [1.0, 0.25, -0.5]),
        (["aot", "dpo_mean", "nca_pair"], ["aot", "sigmoid_norm", "nca_pair"], [0.5, 2.0, 1.0]),
    ],
)
def test_sums(terms: list[str], types: list[str], weights: list[float]) -> None:
    batch = draw()
    loss = compose([Term(name, weight, {"beta": 0.1}) for name, weight in zip(terms, weights, strict=True)])
    theirs, logged = dpo_trainer(batch, types, loss_weights=weights)
    out = loss(record(batch))
    assert_same(out.loss.mean(), theirs, batch)
    assert_rewards(out, logged)


MPO = [Term("dpo", 0.8, {"beta": 0.1}), Term("bco", 0.2, {"beta": 0.1}), Term("sft", 1.0)]


def test_mpo_on_one_pair() -> None:
    """Mixed preference optimisation as TRL's documentation writes it: sigmoid, bco_pair and sft at 0.8, 0.2 and 1."""
    batch = draw(seed=7).alone(0)
    theirs, _ = dpo_trainer(batch, ["sigmoid", "bco_pair", "sft"], loss_weights=[0.8, 0.2, 1.0])
    assert_same(compose(MPO)(record(batch)).loss.mean(), theirs, batch)


def test_mpo_on_a_batch_differs_by_its_sft_term_alone() -> None:
    """By the mean of the answers' means minus the mean of all their tokens; see the tests of `sft`."""
    batch = draw(seed=7)
    theirs, _ = dpo_trainer(batch, ["sigmoid", "bco_pair", "sft"], loss_weights=[0.8, 0.2, 1.0])
    ours = compose(MPO)(record(batch)).loss.mean()
    tokens = torch.cat([chosen for chosen, _ in batch.policy]).mean()
    means = torch.stack([chosen.mean() for chosen, _ in batch.policy]).mean()
    assert abs(ours.item() - theirs.item()) > 1e-2
    assert_same(ours, theirs + tokens - means, batch)


def test_options_of_trl_are_of_all_its_losses_ours_of_one_term() -> None:
    """TRL's divergence and weighting hold for the whole list; so they do here when every term has them."""
    batch = draw(depth=1.0)
    theirs, _ = dpo_trainer(
        batch,
        ["sigmoid", "robust"],
        loss_weights=[0.7, 0.3],
        use_weighting=True,
        label_smoothing=0.1,
        f_divergence_type="forward_kl",
    )
    option = {"name": "wpo", "max_weight": math.inf}
    terms = [
        Term("dpo", 0.7, {"beta": 0.1}, "forward_kl", option),
        Term("robust_dpo", 0.3, {"beta": 0.1, "label_smoothing": 0.1}, "forward_kl", option),
    ]
    assert_same(compose(terms)(record(batch)).loss.mean(), theirs, batch)
    one = compose([terms[0], Term("robust_dpo", 0.3, {"beta": 0.1, "label_smoothing": 0.1})])(record(batch)).loss.mean()
    assert one.item() != pytest.approx(theirs.item(), rel=1e-3)


def test_a_sum_with_a_bound_loss_is_the_loss() -> None:
    """TRL's list of one type with weight 1."""
    batch = draw()
    loss = compose([Term("dpo", settings={"beta": 0.3})])
    assert isinstance(loss, partial)
    assert_same(loss(record(batch)).loss.mean(), dpo_trainer(batch, ["sigmoid"], beta=0.3)[0], batch)
