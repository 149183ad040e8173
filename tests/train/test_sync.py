"""TR-DPO: a reference that goes to the policy, step by step, and comes back from a checkpoint as it was."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.numpy import load_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pairwright.errors import InputError
from pairwright.logprobs.models import open_model, quiet_peft
from pairwright.preferences import Preferences
from pairwright.train import resolve, train
from pairwright.train.job import fit, make_trainer, prepare
from pairwright.train.sync import REFERENCE, SyncReference, move
from pairwright.train.trainer import PairTrainer

FAST: dict[str, Any] = {"learning_rate": 0.01, "per_device_train_batch_size": 2, "logging_steps": 1, "max_steps": 6}


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def stopped(prefs: Preferences, output: Path, *, after: int, **settings: Any) -> None:
    """A run that ends in the middle, its checkpoints left."""

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            control.should_training_stop = state.global_step >= after
            return control

    fit(prefs, prepare(prefs, resolve(**settings)), output, callbacks=[Stop()])


def test_the_reference_goes_a_part_of_the_way() -> None:
    """A quarter of the way from 1 to 3 is 1.5, and from 8 to 0 it is 6; the policy stays."""
    reference, policy = torch.nn.Linear(2, 1, bias=False), torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        reference.weight.copy_(torch.tensor([[1.0, 8.0]]))
        policy.weight.copy_(torch.tensor([[3.0, 0.0]]))
    move(reference, policy, mix=0.25)
    assert reference.weight.tolist() == [[1.5, 6.0]]
    assert policy.weight.tolist() == [[3.0, 0.0]]


def test_the_whole_way_is_a_copy_to_the_last_bit() -> None:
    """1e-8 + (0.3 - 1e-8) is not 0.3 in float32."""
    reference, policy = torch.nn.Linear(50, 40), torch.nn.Linear(50, 40)
    move(reference, policy, mix=1.0)
    for ours, theirs in zip(reference.parameters(), policy.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_move_is_trls() -> None:
    from trl.trainer.callbacks import SyncRefModelCallback

    ours, theirs, policy = torch.nn.Linear(50, 40), torch.nn.Linear(50, 40), torch.nn.Linear(50, 40)
    theirs.load_state_dict(ours.state_dict())
    move(ours, policy, mix=0.6)
    SyncRefModelCallback._sync_target_model(policy, theirs, 0.6)
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize("every", [1, 2])
def test_each_checkpoint_holds_the_recurrence(every: int, model: Path, prefs: Preferences, tmp_path: Path) -> None:
    """reference <- 0.3 policy + 0.7 reference in float64, from the checkpoints' own policies."""
    settings = FAST | {"save_steps": 1, "save_total_limit": 10, "keep_checkpoints": True}
    train(prefs, model=model, output=tmp_path, reference_mix=0.3, reference_every=every, **settings)
    expected = {name: value.astype(np.float64) for name, value in load_file(model / "model.safetensors").items()}
    for step in range(1, 7):
        folder = tmp_path / f"checkpoints/checkpoint-{step}"
        policy, reference = load_file(folder / "model.safetensors"), load_file(folder / REFERENCE)
        if step % every == 0:
            expected = {name: 0.3 * policy[name] + 0.7 * value for name, value in expected.items()}
        assert set(reference) == set(expected)
        for name, value in reference.items():
            np.testing.assert_allclose(value, expected[name], atol=1e-6)


def test_a_reference_that_is_the_policy_at_each_step_leaves_no_margin(
    model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    """Each step then begins at policy = reference: ln 2 throughout, while the weights move."""
    train(prefs, model=model, output=tmp_path / "moving", reference_mix=1, **FAST)
    assert [line["loss"] for line in metrics(tmp_path / "moving")] == pytest.approx([math.log(2)] * 6, abs=1e-5)
    train(prefs, model=model, output=tmp_path / "frozen", reference="frozen", **FAST)
    assert metrics(tmp_path / "frozen")[-1]["loss"] < 0.6


@pytest.mark.parametrize("after", [2, 3])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    after: int, model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    """Bit for bit: weights, metrics, and the reference in the last checkpoint. At step 3 the reference has just moved
    and at step 2 it has not.
    """
    asked = FAST | {"model": model, "reference_mix": 0.5, "reference_every": 3}
    asked |= {"save_steps": 1, "keep_checkpoints": True}
    train(prefs, output=tmp_path / "whole", **asked)
    stopped(prefs, tmp_path / "parts", after=after, **asked)
    assert not (tmp_path / "parts/model").exists()
    train(prefs, output=tmp_path / "parts", **asked)
    for name in ("model/model.safetensors", "metrics.jsonl", f"checkpoints/checkpoint-6/{REFERENCE}"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_what_moves_the_reference_is_part_of_the_run(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    marks = {
        prepare(prefs, resolve(model=model, reference="frozen", **moving)).mark
        for moving in ({}, {"reference_mix": 0.5}, {"reference_mix": 0.6}, {"reference_mix": 0.5, "reference_every": 2})
    }
    assert len(marks) == 4
    prepared = prepare(prefs, resolve(model=model, reference_mix=0.5, reference_every=16))
    assert prepared.reference == "frozen"
    assert prepared.origin == f"{model}, at each step, which goes to the policy by 0.5 each 16 steps"
    done = train(prefs, model=model, output=tmp_path, reference_mix=0.5, **FAST)
    said = "Reference: frozen: llama, at each step, which goes to the policy by 0.5 each step."
    assert said in (done.model / "README.md").read_text()


def test_an_adapter_has_no_reference_that_moves(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    with quiet_peft():
        peft.get_peft_model(
            open_model(model), peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear")
        ).save_pretrained(tmp_path / "adapter")
    with pytest.raises(InputError, match="is an adapter; leave reference_mix out"):
        prepare(prefs, resolve(model=tmp_path / "adapter", tokenizer=str(model), reference_mix=0.5))


def test_small_moves_add_up_below_float32(tmp_path: Path) -> None:
    """A thousand moves of a thousandth go 1 - 0.999**1000 = 0.632 of the way; in bfloat16 alone they go nowhere."""
    reference, policy = (torch.nn.Linear(4, 4, bias=False).to(torch.bfloat16) for _ in range(2))
    with torch.no_grad():
        reference.weight.fill_(1.0)
        policy.weight.fill_(2.0)
    mover = SyncReference(reference, mix=0.001, every=1)
    state, args = TrainerState(global_step=1), TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    for _ in range(1000):
        mover.on_step_end(args, state, TrainerControl(), model=policy)
    assert reference.weight.dtype == torch.bfloat16
    assert reference.weight[0, 0].item() == pytest.approx(1.632, abs=0.01)
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    mover.keep(folder)
    fresh = torch.nn.Linear(4, 4, bias=False).to(torch.bfloat16)
    again = SyncReference(fresh, mix=0.001, every=1)
    again.on_train_begin(args, state, TrainerControl())
    for each in (mover, again):
        each.on_step_end(args, state, TrainerControl(), model=policy)
        each.keep(folder)
    assert torch.equal(fresh.weight, reference.weight)
    assert load_file(folder / REFERENCE)["weight"][0, 0] == pytest.approx(2 - 0.999**1001, abs=1e-5)


def test_the_whole_way_is_a_copy_below_float32_too() -> None:
    reference, policy = (torch.nn.Linear(50, 40).to(torch.bfloat16) for _ in range(2))
    exact = {name: weight.detach().float() for name, weight in reference.named_parameters()}
    move(reference, policy, mix=1.0, exact=exact)
    assert torch.equal(reference.weight, policy.weight)


def test_weights_that_are_spread_have_no_reference_that_moves(
    model: Path, prefs: Preferences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PairTrainer, "is_spread", property(lambda self: True))
    with pytest.raises(InputError, match=r"reference_mix needs all weights in each process.*or use the profile ddp"):
        make_trainer(prepare(prefs, resolve(model=model, reference_mix=0.5, **FAST)), tmp_path)
    make_trainer(prepare(prefs, resolve(model=model, reference="frozen", **FAST)), tmp_path)
