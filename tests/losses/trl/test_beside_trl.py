"""Our pair losses beside those of TRL's `DPOTrainer`, value and gradient in every token, run on the same numbers.

Where the two differ, the test says by how much and why. Constraints.txt pins TRL (1.16).
"""

from typing import Any

import pytest
import torch

from losses.trl.stand_in import Batch, assert_rewards, assert_same, at_reference, dpo_trainer, draw, record, shifted
from pairwright.errors import InputError
from pairwright.losses import LOSSES

SAME = [
    ("dpo", "sigmoid", {}),
    ("dpo", "sigmoid", {"beta": 0.5}),
    ("dpo_mean", "sigmoid_norm", {}),
    ("dpo_mean", "sigmoid_norm", {"beta": 5.0}),
    ("hinge", "hinge", {}),
    ("hinge", "hinge", {"beta": 0.01}),
    ("ipo_mean", "ipo", {}),
    ("ipo_mean", "ipo", {"beta": 0.5}),
    ("exo", "exo_pair", {"label_smoothing": 1e-3}),
    ("exo", "exo_pair", {"beta": 0.5, "label_smoothing": 0.1}),
    ("nca_pair", "nca_pair", {"beta": 0.01}),
    ("nca_pair", "nca_pair", {"beta": 0.5}),
    ("robust_dpo", "robust", {"label_smoothing": 0.1}),
    ("robust_dpo", "robust", {"beta": 0.5, "label_smoothing": 0.4}),
    ("bco", "bco_pair", {}),
    ("bco", "bco_pair", {"beta": 0.5}),
    ("sppo_hard", "sppo_hard", {"beta": 1e-3}),
    ("sppo_hard", "sppo_hard", {"beta": 0.1}),
    ("aot", "aot", {}),
    ("aot", "aot", {"beta": 0.5, "label_smoothing": 0.1}),
    ("aot_unpaired", "aot_unpaired", {}),
    ("aot_unpaired", "aot_unpaired", {"beta": 0.5, "label_smoothing": 0.1}),
    ("apo_zero", "apo_zero", {}),
    ("apo_zero", "apo_zero", {"beta": 0.5}),
    ("apo_down", "apo_down", {}),
    ("apo_down", "apo_down", {"beta": 0.5}),
    ("discopop", "discopop", {"beta": 0.05}),
    ("discopop", "discopop", {"beta": 0.2, "tau": 0.2}),
]
"""Our loss, TRL's, and the settings of both, TRL's under its own names where they differ (`NAMES`)."""

NAMES = {"tau": "discopop_tau"}
OF_MEANS = ("ipo_mean", "dpo_mean")  # their implicit rewards are means over tokens; TRL logs sums for every loss


def both(name: str, loss_type: str, settings: dict[str, Any], batch: Batch) -> tuple[Any, Any, Any]:
    """Our result, TRL's loss and what TRL logs."""
    shared = {"beta": 0.1} | settings
    theirs, logged = dpo_trainer(batch, loss_type, **{NAMES.get(key, key): value for key, value in shared.items()})
    return LOSSES[name](record(batch), **shared), theirs, logged


BATCHES = {
    "random": draw(),
    "policy is the reference": at_reference(draw(seed=5)),
    "all right by far": shifted(draw(seed=1), chosen=45.0, rejected=-45.0),
    "all wrong by far": shifted(draw(seed=2), chosen=-45.0, rejected=45.0),
    "long answers": draw(seed=3, lengths=((900, 700), (40, 1200))),
    "one pair": draw(seed=4, lengths=((3, 7),)),
}


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(("name", "loss_type", "settings"), SAME)
def test_value_and_gradient(name: str, loss_type: str, settings: dict[str, Any], batch: str) -> None:
    out, theirs, logged = both(name, loss_type, settings, BATCHES[batch])
    assert_same(out.loss.mean(), theirs, BATCHES[batch])
    if name not in OF_MEANS:
        assert_rewards(out, logged)


@pytest.mark.parametrize(("name", "loss_type"), [("ipo_mean", "ipo"), ("dpo_mean", "sigmoid_norm")])
def test_implicit_rewards_are_of_what_the_loss_compares(name: str, loss_type: str) -> None:
    """TRL logs beta times the summed log-ratio for these too, so that its accuracy is of an order it does not train.

    Ours is that over the length. Here they even disagree on a pair: +2 nats on 20 tokens loses to +1 nat on 2 tokens.
    """
    batch = shifted(at_reference(draw(lengths=((20, 2),))), chosen=2.0, rejected=1.0)
    out, _, logged = both(name, loss_type, {"beta": 1.0}, batch)
    assert logged["rewards/chosen"] == pytest.approx([2.0])
    assert logged["rewards/rejected"] == pytest.approx([1.0])
    assert logged["rewards/accuracies"] == [1.0]
    assert out.chosen.tolist() == pytest.approx([0.1])
    assert out.rejected.tolist() == pytest.approx([0.5])


def test_sft_is_the_same_for_one_pair() -> None:
    for index in range(4):
        alone = draw().alone(index)
        theirs, _ = dpo_trainer(alone, "sft")
        assert_same(LOSSES["sft"](record(alone)).loss.mean(), theirs, alone)


def test_sft_of_a_batch_weighs_answers_alike_where_trl_weighs_tokens_alike() -> None:
    """TRL: the mean over all 20 chosen tokens. Ours: the mean of four answers' means; by length they are the same."""
    batch = draw()
    theirs, _ = dpo_trainer(batch, "sft")
    pair = record(batch)
    ours = LOSSES["sft"](pair).loss
    length = pair.chosen.length
    assert length is not None
    assert length.tolist() == [8, 5, 1, 6]
    assert ours.mean().item() != pytest.approx(theirs.item(), rel=1e-3)
    assert_same((ours * length / length.sum()).sum(), theirs, batch)
    assert_same(LOSSES["sft_sum"](pair).loss.sum() / 20, theirs, batch)


def test_ipo_sum_is_none_of_theirs() -> None:
    """TRL has the averaged form alone; on answers of one token the two are one."""
    short = draw(lengths=((1, 1), (1, 1)))
    theirs, _ = dpo_trainer(short, "ipo")
    assert_same(LOSSES["ipo_sum"](record(short)).loss.mean(), theirs, short)
    long = draw()
    theirs, _ = dpo_trainer(long, "ipo")
    assert LOSSES["ipo_sum"](record(long)).loss.mean().item() != pytest.approx(theirs.item(), rel=0.1)


def test_label_smoothing_of_dpo_is_not_ignored() -> None:
    """TRL's `sigmoid` reads no label smoothing; its `robust` times `1 - 2e`, plus twice the flipped term, is cDPO."""
    batch, smoothing = draw(), 0.2
    plain, _ = dpo_trainer(batch, "sigmoid")
    ignored, _ = dpo_trainer(batch, "sigmoid", label_smoothing=smoothing)
    assert ignored.item() == plain.item()
    ours = LOSSES["dpo"](record(batch), label_smoothing=smoothing).loss.mean()
    assert ours.item() != pytest.approx(plain.item(), rel=1e-3)
    robust, _ = dpo_trainer(batch, "robust", label_smoothing=smoothing)
    turned = record(batch)
    flipped = LOSSES["dpo"](turned._replace(chosen=turned.rejected, rejected=turned.chosen)).loss.mean()
    assert_same(ours, robust * (1 - 2 * smoothing) + 2 * smoothing * flipped, batch)


@pytest.mark.parametrize(("name", "loss_type"), [("aot", "aot"), ("aot_unpaired", "aot_unpaired")])
def test_a_sorted_loss_stands_with_its_pair(name: str, loss_type: str) -> None:
    """TRL's mean does not see the order of the rows, nor does ours; but our rows move with their pairs."""
    batch, order = draw(seed=6), [2, 0, 3, 1]
    moved = Batch(
        *([each[i] for i in order] for each in (batch.policy, batch.reference, batch.collision, batch.prompts))
    )
    before, after = (LOSSES[name](record(each)).loss for each in (batch, moved))
    assert after.tolist() == pytest.approx(before[torch.tensor(order)].tolist(), rel=1e-12)
    for each in (batch, moved):
        assert_same(LOSSES[name](record(each)).loss.mean(), dpo_trainer(each, loss_type)[0], each)


def test_bco_of_pairs_has_no_running_mean_in_trl() -> None:
    """`bco_pair` of TRL 1.16 is the loss at baseline 0, and there is no BCO trainer in it any more; ours takes one."""
    batch = draw()
    theirs, _ = dpo_trainer(batch, "bco_pair")
    pair = record(batch)
    moved = LOSSES["bco"](pair._replace(baseline=torch.tensor(0.25, dtype=torch.float64))).loss
    chosen, rejected = 0.1 * pair.chosen.log_ratio, 0.1 * pair.rejected.log_ratio
    by_hand = torch.log1p(torch.exp(0.25 - chosen)) + torch.log1p(torch.exp(rejected - 0.25))
    assert moved.tolist() == pytest.approx(by_hand.tolist(), rel=1e-9)
    assert moved.mean().item() != pytest.approx(theirs.item(), rel=1e-3)


def test_where_discopop_of_trl_overflows_ours_is_linear() -> None:
    """TRL 1.16 multiplies `exp(-z)`, inf from z = -88.7 on in float32, by a sigmoid that is 0: NaN. It tends to -z."""
    batch = shifted(at_reference(draw(dtype=torch.float32)), chosen=-1000.0, rejected=1000.0)
    theirs, _ = dpo_trainer(batch, "discopop", beta=0.05)
    assert theirs.isnan()
    assert LOSSES["discopop"](record(batch), beta=0.05).loss.tolist() == pytest.approx([100.0] * 4, rel=1e-5)


def test_robust_and_exo_refuse_what_trl_takes_or_refuses_elsewhere() -> None:
    """TRL 1.16 warns at smoothing 0.5 and gives inf or NaN; without smoothing EXO would be NaN, which it refuses when
    the trainer is made, not in its loss."""
    batch = draw()
    assert not dpo_trainer(batch, "robust", label_smoothing=0.5)[0].isfinite()
    with pytest.raises(InputError, match="label_smoothing"):
        LOSSES["robust_dpo"](record(batch), label_smoothing=0.5)
    assert dpo_trainer(batch, "exo_pair", label_smoothing=0.0)[0].item() == float("inf")
    with pytest.raises(InputError, match="label_smoothing"):
        LOSSES["exo"](record(batch), label_smoothing=0.0)
