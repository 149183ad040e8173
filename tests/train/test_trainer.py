import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import tiny
from pairwright.errors import InputError, PairwrightError
from pairwright.logprobs import logprobs
from pairwright.losses import PairLogps, PairLoss, dpo
from pairwright.preferences import Preferences
from pairwright.train import resolve, train
from pairwright.train.job import fit, make_trainer, prepare
from pairwright.train.records import collate

FAST: dict[str, Any] = {
    "learning_rate": 0.01,
    "per_device_train_batch_size": 2,
    "logging_steps": 1,
    "save_strategy": "no",
}


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def same_bits(one: Path, two: Path) -> bool:
    return (one / "model/model.safetensors").read_bytes() == (two / "model/model.safetensors").read_bytes()


WAYS: dict[str, tuple[dict[str, Any], str]] = {
    "frozen": ({"reference": "frozen"}, "frozen"),
    "columns": ({"reference": "columns"}, "columns"),
    "columns_auto": ({}, "columns"),
    "store": ({"reference": "store"}, "store"),
    "store_auto": ({}, "store"),
    "adapter_off": ({"lora": True, "reference": "frozen"}, "adapter_off"),
    "lora_store": ({"lora": True}, "store"),
    "reference_model": ({"reference_model": "MODEL", "reference": "frozen"}, "frozen"),
    "reference_model_auto": ({"reference_model": "MODEL"}, "store"),
}


@pytest.mark.parametrize("way", WAYS)
def test_at_the_first_step_the_loss_is_ln_2_in_every_reference_mode(
    way: str, model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    settings, recorded = WAYS[way]
    settings = {name: model if value == "MODEL" else value for name, value in settings.items()}
    data = logprobs(prefs, model=model, name="ref") if way.startswith("columns") else prefs
    run = train(data, model=model, output=tmp_path, max_steps=2, beta=0.3, **FAST, **settings)
    assert json.loads((tmp_path / "training.json").read_text())["reference"] == recorded
    first, second = lines(run.directory)
    assert first["loss"] == pytest.approx(math.log(2), abs=2e-6)
    assert first["rewards/margins"] == pytest.approx(0.0, abs=1e-5)
    assert abs(second["loss"] - math.log(2)) > 1e-3


def test_the_trajectory_is_the_same_for_a_frozen_model_and_for_its_columns(
    model: Path, other: Path, prefs: Preferences, tmp_path: Path
) -> None:
    data = logprobs(prefs, model=model, reference=other, reference_name="old")
    settings = {"model": model, "max_steps": 4, **FAST}
    train(data, output=tmp_path / "a", reference="columns", reference_name="old", **settings)
    train(prefs, output=tmp_path / "b", reference_model=other, **settings)
    ours, theirs = lines(tmp_path / "a"), lines(tmp_path / "b")
    assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in theirs], abs=1e-5)
    assert abs(ours[0]["loss"] - math.log(2)) > 0.01


def test_lora_with_the_adapter_off_is_lora_with_a_frozen_copy(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    settings = {"model": model, "max_steps": 4, "lora": {"r": 4, "alpha": 8}, **FAST}
    off = train(prefs, output=tmp_path / "off", reference="frozen", **settings)
    copy = train(prefs, output=tmp_path / "copy", reference="frozen", reference_model=model, **settings)
    first, second = lines(off.directory), lines(copy.directory)
    assert [r["loss"] for r in first] == pytest.approx([r["loss"] for r in second], abs=1e-6)
    assert first[-1]["loss"] < first[0]["loss"]
    start = load_file(model / "model.safetensors")
    assert any(not torch.equal(start[name], value) for name, value in weights(off.directory).items())
    assert (off.directory / "adapter" / "adapter_config.json").is_file()


@pytest.mark.parametrize("pairs", [16, 13])
def test_a_batch_of_1_accumulated_8_times_is_a_batch_of_8(pairs: int, model: Path, tmp_path: Path) -> None:
    # 13 pairs leave a last step of 5; the weights differ, so that a mean of means would not do.
    data = tiny.preferences(pairs, weights=[1.0 + i % 3 for i in range(pairs)])
    shared = {
        "model": model,
        "num_train_epochs": 2.0,
        "learning_rate": 0.005,
        "logging_steps": 1,
        "save_strategy": "no",
    }
    for name, batch, steps in (("small", 1, 8), ("large", 8, 1)):
        train(
            data,
            output=tmp_path / name,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=steps,
            **shared,
        )
    small, large = lines(tmp_path / "small"), lines(tmp_path / "large")
    assert len(small) == len(large) == 4
    residuals = []
    for one, eight in zip(small, large, strict=True):
        assert one["step"] == eight["step"]
        for name in ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "pairwright/pairs"):
            assert one[name] == pytest.approx(eight[name], abs=2e-3, rel=1e-4), name
        residuals.append(abs(one["loss"] - eight["loss"]))
    assert sum(residuals) / len(residuals) < 1e-4
    assert small[-1]["pairwright/pairs"] == (8 if pairs == 16 else 5)


def test_weight_0_is_as_if_the_pair_were_not_there(model: Path, tmp_path: Path) -> None:
    data = tiny.preferences(4)
    weighed = tiny.preferences(5, weights=[1.0] * 4 + [0.0])
    shared = {"model": model, "learning_rate": 0.005, "logging_steps": 1, "max_steps": 2}
    train(data, output=tmp_path / "a", per_device_train_batch_size=4, **shared)
    train(weighed, output=tmp_path / "b", per_device_train_batch_size=5, **shared)
    assert [r["loss"] for r in lines(tmp_path / "a")] == pytest.approx(
        [r["loss"] for r in lines(tmp_path / "b")], abs=1e-5
    )


def stopped_run(data: Preferences, output: Path, *, after: int, **settings: Any) -> None:
    """A run that ends in the middle, as a killed one does: no model is written, checkpoints stay."""
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            control.should_training_stop = state.global_step >= after
            return control

    fit(data, prepare(data, resolve(**settings)), output, callbacks=[Stop()])
    assert not (output / "model").exists()


@pytest.mark.parametrize("lora", [None, {"r": 4}])
def test_a_resumed_run_ends_in_the_same_bits_as_an_uninterrupted_one(
    lora: Any, model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    # Steps are logged each third and saved each second, so that a checkpoint falls within a window of metrics; it
    # stops at step 7 of three epochs of 4 steps, and goes on from 6.
    settings: dict[str, Any] = FAST | {
        "model": model,
        "num_train_epochs": 3.0,
        "logging_steps": 3,
        "save_strategy": "steps",
        "save_steps": 2,
        "lora": lora,
    }
    train(prefs, output=tmp_path / "whole", **settings)
    stopped_run(prefs, tmp_path / "parts", after=7, **settings)
    steps = sorted(path.name for path in (tmp_path / "parts/checkpoints").glob("checkpoint-*"))
    assert steps == ["checkpoint-4", "checkpoint-6"]
    train(prefs, output=tmp_path / "parts", **settings)
    assert same_bits(tmp_path / "whole", tmp_path / "parts")
    assert (tmp_path / "whole/metrics.jsonl").read_text() == (tmp_path / "parts/metrics.jsonl").read_text()
    assert (tmp_path / "whole/training.json").read_text() == (tmp_path / "parts/training.json").read_text()
    assert not (tmp_path / "parts/checkpoints").exists()


def test_a_half_written_checkpoint_is_not_taken(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    settings: dict[str, Any] = FAST | {
        "model": model,
        "num_train_epochs": 2.0,
        "save_strategy": "steps",
        "save_steps": 2,
    }
    train(prefs, output=tmp_path / "whole", **settings)
    stopped_run(prefs, tmp_path / "parts", after=5, **settings)
    folder = tmp_path / "parts/checkpoints"
    shutil.copytree(folder / "checkpoint-4", folder / "checkpoint-6")
    (folder / "checkpoint-6/trainer_state.json").unlink()
    shutil.copytree(folder / "checkpoint-4", folder / "checkpoint-7")
    (folder / "checkpoint-7/pairwright.json").unlink()
    train(prefs, output=tmp_path / "parts", **settings)
    assert same_bits(tmp_path / "whole", tmp_path / "parts")


def test_a_run_that_was_killed_between_its_last_step_and_its_model_writes_the_model(
    model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    settings: dict[str, Any] = FAST | {"model": model, "save_strategy": "steps", "save_steps": 2}
    train(prefs, output=tmp_path / "whole", keep_checkpoints=True, **settings)
    shutil.copytree(tmp_path / "whole/checkpoints", tmp_path / "parts/checkpoints")
    moved = shutil.copytree(model, tmp_path / "elsewhere")
    train(prefs, output=tmp_path / "parts", keep_checkpoints=True, **settings | {"model": moved})
    assert same_bits(tmp_path / "whole", tmp_path / "parts")
    assert (tmp_path / "whole/metrics.jsonl").read_text() == (tmp_path / "parts/metrics.jsonl").read_text()


def test_the_model_directory_opens_and_has_a_card(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = train(prefs, model=model, output=tmp_path, max_steps=1, **FAST)
    opened = AutoModelForCausalLM.from_pretrained(run)
    assert opened.config.use_cache
    assert AutoTokenizer.from_pretrained(run).chat_template == tiny.WITH_SYSTEM
    card = (run.model / "README.md").read_text()
    assert "base_model: llama" in card
    assert "| beta | 0.1 |" in card
    assert str(model) not in card
    assert not (run.model / "generation_goal.json").exists()
    record = json.loads((run.directory / "training.json").read_text())
    assert record["config"]["loss_settings"]["beta"] == 0.1
    assert record["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_checkpoints_of_other_settings_are_refused_and_left_alone(
    model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    settings: dict[str, Any] = FAST | {
        "model": model,
        "num_train_epochs": 2.0,
        "save_strategy": "steps",
        "save_steps": 2,
    }
    stopped_run(prefs, tmp_path, after=3, **settings)
    with pytest.raises(InputError, match="other data or settings"):
        train(prefs, output=tmp_path, beta=0.7, **settings)
    assert (tmp_path / "checkpoints/checkpoint-2/trainer_state.json").is_file()


@pytest.mark.slow
def test_a_run_that_is_killed_twice_ends_in_the_same_bits(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    code = (
        "import sys, tiny; from pairwright.train import train\n"
        "train(tiny.preferences(8), model=sys.argv[1], output=sys.argv[2], num_train_epochs=25.0, save_steps=5, "
        "learning_rate=1e-3, per_device_train_batch_size=2, logging_steps=3)"
    )
    root = Path(__file__).parents[1]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(root.parent / "src")])}

    def start(output: Path) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-c", code, str(model), str(output)], env=env)

    assert start(tmp_path / "whole").wait() == 0
    reached = 0
    for _ in range(2):
        process = start(tmp_path / "parts")
        marks = tmp_path / "parts/checkpoints"
        while process.poll() is None:
            done = [int(path.parent.name.split("-")[1]) for path in marks.glob("*/pairwright.json")]
            if done and max(done) >= reached + 30:
                reached = max(done)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        assert process.wait() == -signal.SIGKILL
    assert start(tmp_path / "parts").wait() == 0
    assert same_bits(tmp_path / "whole", tmp_path / "parts")
    assert (tmp_path / "whole/metrics.jsonl").read_text() == (tmp_path / "parts/metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("loss", "settings"),
    [("dpo", {"label_smoothing": 0.1}), ("ipo_mean", {}), ("ipo_sum", {}), ("simpo", {"gamma": 0.3}), ("sft", {})],
)
def test_every_loss_goes_down(loss: str, settings: Any, model: Path, prefs: Preferences, tmp_path: Path) -> None:
    run = train(prefs, model=model, loss=loss, output=tmp_path, num_train_epochs=6.0, **FAST, **settings)
    rows = lines(run.directory)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert {"rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen"} <= set(
        rows[0]
    )
    assert set(rows[0]) >= {"logps/rejected", "learning_rate", "grad_norm", "epoch"}


def test_supervised_fine_tuning_on_answers_lowers_their_negative_log_likelihood(
    model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    before = logprobs(prefs, model=model, name="m").responses.collect()
    run = train(prefs, model=model, loss="sft", examples="responses", output=tmp_path, num_train_epochs=4.0, **FAST)
    assert run.examples == 16
    after = logprobs(prefs, model=run.model, name="m").responses.collect()
    mean = [(frame["logp_m"] / frame["len_m"]).mean() for frame in (before, after)]
    assert mean[1] > mean[0] + 0.5
    rows = lines(run.directory)
    assert rows[0]["loss"] == pytest.approx(-rows[0]["pairwright/mean_logp_chosen"], rel=1e-5)
    assert "rewards/margins" not in rows[0]


def test_a_loss_that_stops_being_a_number_stops_the_run(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    with pytest.raises(PairwrightError, match="the loss is"):
        train(prefs, model=model, loss="test_trainer_losses:broken", output=tmp_path, max_steps=2, **FAST)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"dataloader_drop_last": True, "per_device_train_batch_size": 64}, "there are 8 pairs for batches of 64"),
        ({"optim": "galore_adamw"}, "trainer settings: You need to install `galore_torch`"),
        ({"report_to": "no_such_tracker"}, "trainer settings: no_such_tracker"),
        ({"dataloader_persistent_workers": True}, "trainer settings: persistent_workers"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "trainer settings: One of min_lr"),
        ({"learning_rate": -1.0}, "trainer settings: Invalid learning rate"),
    ],
)
def test_trainer_settings_that_cannot_work_are_one_sentence(
    settings: dict[str, Any], says: str, model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=says):
        train(prefs, model=model, output=tmp_path, **FAST | settings)


def test_the_reference_with_the_adapter_off_has_no_dropout(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    dropping = shutil.copytree(model, tmp_path / "dropping")
    config = json.loads((dropping / "config.json").read_text())
    (dropping / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.5}))
    seen = []

    def watched(pair: PairLogps) -> PairLoss:
        seen.append(pair.chosen.known("ref").clone())
        return dpo(pair)

    prepared = prepare(prefs, resolve(model=dropping, lora=True, reference="frozen", disable_dropout=False))
    trainer = make_trainer(prepared, tmp_path / "run")
    trainer.loss = watched
    inputs, policy = collate(prepared.examples.rows), trainer.accelerator.unwrap_model(trainer.model)
    policy.train()
    with torch.no_grad():
        losses = [trainer.compute_loss(policy, inputs).item() for _ in range(2)]
    assert policy.training
    assert losses[0] != losses[1]
    assert torch.equal(seen[0], seen[1])
    before = logprobs(prefs, model=model, name="m").view("logp_m").collect()["logp_m_chosen"].to_list()
    assert seen[0].tolist() == pytest.approx(before, abs=1e-4)


@pytest.fixture(autouse=True)
def _own_loss(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.getbasetemp() / "losses"
    folder.mkdir(exist_ok=True)
    (folder / "test_trainer_losses.py").write_text(
        "from pairwright.losses import PairLogps, PairLoss\n"
        "def broken(pair: PairLogps) -> PairLoss:\n"
        "    return PairLoss(pair.chosen.logp * float('nan'), pair.chosen.logp, pair.rejected.logp)\n"
    )
    monkeypatch.syspath_prepend(str(folder))
