"""Several processes train what one trains: real processes, started by `accelerate launch`, talking over gloo."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file

import tiny
from pairwright.errors import InputError
from pairwright.logprobs.models import open_model, quiet_peft
from pairwright.train.profiles import PROFILES
from pairwright.train.ranks import by_first, launched, part, together

WORKER = Path(__file__).with_name("worker.py")
EVERY: dict[str, Any] = {"learning_rate": 0.005, "logging_steps": 1, "save_strategy": "no", "num_train_epochs": 2.0}

# name: (pairs, settings of both, settings of one process, settings of each of two): the same pairs at each step.
CASES: dict[str, tuple[int, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "frozen": (
        13,
        {"reference": "frozen"},
        {"per_device_train_batch_size": 4},
        {"per_device_train_batch_size": 2},
    ),
    "store": (
        13,
        {"reference": "store"},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3},
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 3},
    ),
    "accumulated": (
        11,
        {"loss": "simpo", "gamma": 0.3},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
    ),
    # One process has no pair at all in the only step of each epoch.
    "idle": (3, {}, {"per_device_train_batch_size": 8}, {"per_device_train_batch_size": 4}),
    "left_out": (
        13,
        {"dataloader_drop_last": True},
        {"per_device_train_batch_size": 4},
        {"per_device_train_batch_size": 2},
    ),
    "in_order": (
        9,
        {"train_sampling_strategy": "sequential", "logging_steps": 3, "loss": "ipo_mean"},
        {"per_device_train_batch_size": 4},
        {"per_device_train_batch_size": 2},
    ),
    "moving": (
        13,
        {"reference_mix": 0.5, "reference_every": 2},
        {"per_device_train_batch_size": 4},
        {"per_device_train_batch_size": 2},
    ),
    "summed": (
        9,
        {"loss": [{"name": "dpo", "weight": 0.8, "divergence": "js_divergence"}, {"name": "sft", "weight": 0.2}]},
        {"per_device_train_batch_size": 4},
        {"per_device_train_batch_size": 2},
    ),
    # The estimate of KL and the running mean are over both processes; the last step of 7 has a filler.
    "estimated": (
        7,
        {"loss": "kto", "reference": "frozen"},
        {"per_device_train_batch_size": 4},
        {"per_device_train_batch_size": 2},
    ),
    "single": (
        7,
        {"loss": "kto", "examples": "responses", "threshold": 5.0},
        {"per_device_train_batch_size": 8, "train_sampling_strategy": "sequential"},
        {"per_device_train_batch_size": 4, "train_sampling_strategy": "sequential"},
    ),
    "averaged": (
        7,
        {"loss": "bco", "gradient_accumulation_steps": 2},
        {"per_device_train_batch_size": 2},
        {"per_device_train_batch_size": 1},
    ),
    "grouped": (
        7,
        {"loss": "infonca", "examples": "groups"},
        {"per_device_train_batch_size": 4},
        {"per_device_train_batch_size": 2},
    ),
    "lora": (
        7,
        {"lora": {"r": 4}, "reference": "frozen", "gradient_checkpointing": True},
        {"per_device_train_batch_size": 4},
        {"per_device_train_batch_size": 2},
    ),
    "adapter": (
        7,
        {"model": "ADAPTER", "reference": "frozen"},
        {"per_device_train_batch_size": 4},
        {"per_device_train_batch_size": 2},
    ),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    base = tiny.model(folder / "base")
    with quiet_peft():
        adapted = peft.get_peft_model(
            open_model(base), peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
    adapted.save_pretrained(folder / "adapter")
    return {"BASE": str(base), "ADAPTER": str(folder / "adapter")}


def job(models: dict[str, str], pairs: int, *settings: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"model": "BASE", **EVERY}
    for each in settings:
        found |= each
    return {"pairs": pairs, "settings": found | {"model": models[found["model"]]}}


def launch(jobs: dict[str, Any], output: Path) -> "subprocess.CompletedProcess[str]":
    """Run the worker in two processes."""
    output.mkdir(parents=True, exist_ok=True)
    file = output / "jobs.json"
    file.write_text(json.dumps(jobs))
    return start([str(WORKER), str(file), str(output)], cache=output / "cache")


def start(words: list[str], *, cache: Path) -> "subprocess.CompletedProcess[str]":
    """Two processes under `accelerate launch`, which are gone when this returns."""
    environment = os.environ | {
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PAIRWRIGHT_CACHE": str(cache),
    }
    launcher = ["-m", "accelerate.commands.launch", "--config_file", str(PROFILES["ddp"]), "--mixed_precision", "no"]
    launcher += ["--num_processes", "2", "--main_process_port", "0"]
    command = [sys.executable, *launcher, *words]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            out, errors = process.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            process.terminate()  # the launcher ends its workers
            out, errors = process.communicate(timeout=30)
            pytest.fail(f"the processes did not end: {errors[-2000:]}")
    return subprocess.CompletedProcess(command, process.returncode, out, errors)


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def alone(asked: dict[str, Any], output: Path) -> None:
    spec = importlib.util.spec_from_file_location("worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    worker.one(asked, output)


@pytest.fixture(scope="module")
def both(models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("two")
    jobs = {name: job(models, pairs, shared, two) for name, (pairs, shared, _, two) in CASES.items()}
    done = launch(jobs, output)
    assert done.returncode == 0, done.stderr[-3000:]
    return output


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_what_one_does(name: str, models: dict[str, str], both: Path, tmp_path: Path) -> None:
    pairs, shared, one, _ = CASES[name]
    alone(job(models, pairs, shared, one), tmp_path)
    expected, found = lines(tmp_path), lines(both / name)
    assert len(found) == len(expected) > 0
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for measure, value in theirs.items():
            assert ours[measure] == pytest.approx(value, rel=2e-5, abs=2e-5), (theirs["step"], measure)
    start = load_file(Path(models["BASE"]) / "model.safetensors")
    moved = max(float((value - start[key]).abs().max()) for key, value in weights(tmp_path).items())
    apart = max(float((value - weights(both / name)[key]).abs().max()) for key, value in weights(tmp_path).items())
    assert moved > 0.005
    assert apart < 2e-3 * moved, (apart, moved)
    record = json.loads((both / name / "training.json").read_text())
    assert record["processes"] == 2
    assert record["steps"] == found[-1]["step"]


@pytest.mark.slow
def test_a_run_whose_one_process_was_killed_ends_in_the_same_bits(models: dict[str, str], tmp_path: Path) -> None:
    settings = {"per_device_train_batch_size": 2, "num_train_epochs": 3.0, "save_strategy": "steps", "save_steps": 3}
    settings |= {"logging_steps": 2, "keep_checkpoints": True, "reference_mix": 0.5, "reference_every": 2}
    whole = job(models, 13, EVERY, settings)
    first = launch({"run": whole}, tmp_path / "whole")
    assert first.returncode == 0, first.stderr[-3000:]
    # Four steps an epoch: killed in the second, in the middle of a window of metrics; the other process ends, too.
    died = launch({"run": whole | {"die": {"rank": 1, "step": 8}}}, tmp_path / "parts")
    assert died.returncode != 0
    assert not (tmp_path / "parts/run/model").exists()
    assert sorted(path.name for path in (tmp_path / "parts/run/checkpoints").glob("checkpoint-*"))[-1] == "checkpoint-6"
    again = launch({"run": whole}, tmp_path / "parts")
    assert again.returncode == 0, again.stderr[-3000:]
    one, other = tmp_path / "whole/run", tmp_path / "parts/run"
    assert (one / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()
    assert (one / "model/model.safetensors").read_bytes() == (other / "model/model.safetensors").read_bytes()
    assert (one / "training.json").read_text() == (other / "training.json").read_text()


@pytest.mark.slow
def test_an_error_is_one_sentence_on_every_process_and_ends_all(models: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/model").mkdir()
    (tmp_path / "run/model/somebody.txt").write_text("mine")
    done = launch({"run": job(models, 4, EVERY)}, tmp_path)
    assert done.returncode != 0
    assert "is of no pairwright training" in done.stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["model"]


@pytest.mark.slow
def test_the_command_line_trains_in_several_processes_and_speaks_once(models: dict[str, str], tmp_path: Path) -> None:
    tiny.preferences(5).save(tmp_path / "data")
    words = ["train", str(tmp_path / "data"), "--model", models["BASE"], "-o", str(tmp_path / "run"), "--json"]
    words += ["--set", "per_device_train_batch_size=1", "--set", "max_steps=2", "--set", "logging_steps=1"]
    done = start(["-m", "pairwright", *words], cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == {"output": str(tmp_path / "run/model")}
    assert done.stderr.count("train: 5 pairs of split 'train'") == 1
    assert [row["pairwright/pairs"] for row in lines(tmp_path / "run")] == [2, 2]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"- {{do: read, source: {tmp_path / 'data'}}}\n")
    refused = start(["-m", "pairwright", "run", str(recipe), "-o", str(tmp_path / "out")], cache=tmp_path / "cache")
    assert refused.returncode != 0
    assert "a recipe runs in one process" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_a_process_that_runs_alone_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert launched() == 1
    assert not together()
    assert by_first(lambda: 5) == 5
    part()

    def fails() -> None:
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        by_first(fails)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert launched() == 4
