"""Our losses without a reference beside those of TRL's `CPOTrainer` and `ORPOTrainer`.

These two are among TRL's unstable parts; constraints.txt pins it (1.16). Their NLL is one mean over all tokens of the
batch, ours of each answer, so the comparison and the NLL are looked at apart.
"""

from dataclasses import replace

import pytest
import torch

from losses.trl.stand_in import Batch, assert_rewards, assert_same, cpo_trainer, draw, orpo_trainer, record
from pairwright.errors import InputError
from pairwright.losses import LOSSES, PairLogps


def without_reference(batch: Batch) -> PairLogps:
    """The record with a reference that is sure of everything: log-ratios are log-probabilities."""
    pair = record(batch)
    return pair._replace(
        chosen=replace(pair.chosen, ref=torch.zeros_like(pair.chosen.logp)),
        rejected=replace(pair.rejected, ref=torch.zeros_like(pair.rejected.logp)),
    )


def nll_of_tokens(batch: Batch) -> torch.Tensor:
    """The mean over all chosen tokens of the batch, which TRL takes."""
    return -torch.cat([chosen for chosen, _ in batch.policy]).mean()


# --- CPO -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.1, 0.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_comparison_of_cpo(beta: float, seed: int) -> None:
    batch = draw(seed=seed)
    theirs, logged = cpo_trainer(batch, beta=beta, cpo_alpha=0.0)
    out = LOSSES["cpo"](record(batch), beta=beta, alpha=0.0)
    assert_same(out.loss.mean(), theirs, batch)
    assert_rewards(out, logged)


@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_cpo_with_its_nll_is_the_same_for_one_pair(alpha: float) -> None:
    for index in range(4):
        alone = draw().alone(index)
        theirs, _ = cpo_trainer(alone, cpo_alpha=alpha)
        assert_same(LOSSES["cpo"](record(alone), alpha=alpha).loss.mean(), theirs, alone)


def test_cpo_of_a_batch_differs_by_its_nll_alone() -> None:
    """TRL's NLL is the mean over all chosen tokens of the batch, where long answers weigh more; ours is of answers."""
    batch = draw()
    theirs, logged = cpo_trainer(batch)
    ours = LOSSES["cpo"](record(batch)).loss.mean()
    of_answers = LOSSES["sft"](record(batch)).loss.mean()
    assert logged["nll_loss"] == pytest.approx(nll_of_tokens(batch).item(), rel=1e-6)
    assert abs(of_answers.item() - logged["nll_loss"]) > 1e-2
    assert_same(ours, theirs - nll_of_tokens(batch) + of_answers, batch)


@pytest.mark.parametrize(("beta", "gamma"), [(2.0, 0.5), (2.5, 1.375), (10.0, 3.0)])
def test_simpo(beta: float, gamma: float) -> None:
    """TRL's `simpo_gamma` is absolute, as ours; its NLL must be turned off, because SimPO has none."""
    batch = draw()
    theirs, logged = cpo_trainer(batch, loss_type="simpo", beta=beta, simpo_gamma=gamma, cpo_alpha=0.0)
    out = LOSSES["simpo"](record(batch), beta=beta, gamma=gamma)
    assert_same(out.loss.mean(), theirs, batch)
    assert_rewards(out, logged)


def test_simpo_by_trls_defaults_is_not_simpo() -> None:
    """At TRL's defaults (beta 0.1, gamma 0.5, an NLL of weight 1) gamma / beta is 5, and the NLL leads the loss."""
    alone = draw().alone(0)
    theirs, _ = cpo_trainer(alone, loss_type="simpo")
    simpo = LOSSES["simpo"](record(alone), beta=0.1, gamma=0.5).loss.mean()
    assert_same(simpo + nll_of_tokens(alone), theirs, alone)
    assert nll_of_tokens(alone).item() > simpo.item()


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 0.25, 1.0])
def test_alphapo(alpha: float) -> None:
    """In TRL "alphapo" is a name for "simpo" without NLL; its `alpha` is 0 by default, which is SimPO."""
    batch = draw()
    theirs, logged = cpo_trainer(batch, loss_type="alphapo", beta=2.5, simpo_gamma=0.3, alpha=alpha)
    out = LOSSES["alphapo"](record(batch), beta=2.5, gamma=0.3, alpha=alpha)
    assert_same(out.loss.mean(), theirs, batch)
    assert_rewards(out, logged)


def test_the_reward_of_alphapo_on_sums_overflows_in_trl_and_is_not_ours() -> None:
    """`exp(-alpha * logp)` of the summed 200 tokens at 1.5 nats is inf in float32: TRL 1.16 gives inf or NaN."""
    long = draw(lengths=((200, 200),), dtype=torch.float32)
    theirs, _ = cpo_trainer(long, loss_type="sigmoid", alpha=1.0, cpo_alpha=0.0)
    assert not theirs.isfinite()
    assert LOSSES["alphapo"](record(long), alpha=1.0).loss.isfinite().all()


@pytest.mark.parametrize("beta", [0.02, 0.5])
def test_hinge_of_cpo_is_slic_scaled_by_beta(beta: float) -> None:
    """max(0, 1 - beta * d) is beta times max(0, 1 / beta - d); no loss of ours is called so without a reference."""
    batch = draw()
    theirs, _ = cpo_trainer(batch, loss_type="hinge", beta=beta, cpo_alpha=0.0)
    slic = LOSSES["slic"](record(batch), delta=1 / beta, sft_weight=0.0).loss.mean()
    assert_same(beta * slic, theirs, batch)
    assert_same(LOSSES["hinge"](without_reference(batch), beta=beta).loss.mean(), theirs, batch)


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_ipo_of_cpo_is_ipo_mean_with_a_reference_that_is_sure(beta: float) -> None:
    """We have no IPO without a reference: its target is a distance from the reference. At ref = 0 it is TRL's."""
    batch = draw()
    theirs, _ = cpo_trainer(batch, loss_type="ipo", beta=beta, cpo_alpha=0.0)
    assert_same(LOSSES["ipo_mean"](without_reference(batch), beta=beta).loss.mean(), theirs, batch)
    with pytest.raises(InputError, match="needs 'ref'"):
        LOSSES["ipo_mean"](PairLogps(*(replace(side, ref=None) for side in record(batch)[:2])), beta=beta)


def test_label_smoothing_of_cpo_is_that_of_dpo_with_a_reference_that_is_sure() -> None:
    """`cpo` and `simpo` of ours have no label smoothing; TRL's of "sigmoid" is cDPO's with a uniform reference."""
    batch = draw()
    theirs, _ = cpo_trainer(batch, label_smoothing=0.2, cpo_alpha=0.0)
    assert_same(LOSSES["dpo"](without_reference(batch), label_smoothing=0.2).loss.mean(), theirs, batch)


# --- ORPO ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.1, 1.0])
@pytest.mark.parametrize("depth", [0.001, 0.5, 3.0, 20.0])
def test_the_odds_of_orpo(beta: float, depth: float) -> None:
    """From answers that are nearly sure (1e-3 nats a token) to hopeless ones. TRL takes this part in float32."""
    batch = draw(depth=depth)
    theirs, logged = orpo_trainer(batch, beta=beta)
    out = LOSSES["orpo"](record(batch), beta=beta)
    of_answers, of_theirs = LOSSES["sft"](record(batch)).loss.mean(), _nll_with_prompts(batch)
    assert logged["nll_loss"] == pytest.approx(of_theirs.item(), rel=1e-6)
    assert_same(out.loss.mean() - of_answers, theirs - of_theirs, batch, within=1e-5)
    assert_rewards(out, logged, within=1e-5)


def test_orpo_is_the_same_for_one_pair_whose_prompt_nothing_predicts() -> None:
    """The NLL of TRL is over prompt and completion; of a prompt of one token only the completion is predicted."""
    for index in range(4):
        alone = draw(prompt=1).alone(index)
        theirs, _ = orpo_trainer(alone)
        assert_same(LOSSES["orpo"](record(alone)).loss.mean(), theirs, alone, within=1e-5)


def test_the_nll_of_orpo_is_of_the_answer_where_trl_learns_the_prompt_too() -> None:
    """TRL pulls the prompt's own tokens up, each as much as one of the answer; ours leaves them alone."""
    alone = draw().alone(0)
    theirs, _ = orpo_trainer(alone)
    ours = LOSSES["orpo"](record(alone)).loss.mean()
    prompt, chosen = alone.prompts[0], alone.policy[0][0]
    there = torch.autograd.grad(theirs, prompt, retain_graph=True)[0]
    assert there.tolist() == pytest.approx([0.0, -0.1, -0.1])  # of 2 predicted prompt tokens and 8 of the answer
    assert torch.autograd.grad(ours, prompt, retain_graph=True, allow_unused=True)[0] is None
    by_hand = chosen.mean() - (prompt[1:].sum() + chosen.sum()) / 10
    assert theirs.item() - ours.item() == pytest.approx(by_hand.item(), rel=1e-5)


def _nll_with_prompts(batch: Batch) -> torch.Tensor:
    """One mean over all predicted tokens of prompts and chosen answers."""
    tokens = [torch.cat([prompt[1:], chosen]) for prompt, (chosen, _) in zip(batch.prompts, batch.policy, strict=True)]
    return -torch.cat(tokens).mean()
