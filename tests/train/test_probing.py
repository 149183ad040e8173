"""Probes of a training while it goes on: they change nothing of it, and come through kills with it."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest

import tiny
from pairwright.errors import InputError
from pairwright.logprobs import logprobs
from pairwright.preferences import Preferences
from pairwright.probes.held import held_out
from pairwright.probes.store import load_probes
from pairwright.probes.turning import SIGNALS
from pairwright.train import resolve, train
from pairwright.train.config import StopSignal
from pairwright.train.job import fit, prepare
from pairwright.train.profiles import PROFILES

FAST: dict[str, Any] = {"learning_rate": 0.01, "per_device_train_batch_size": 2, "logging_steps": 1}
LEAK: dict[str, Any] = FAST | {"learning_rate": 0.003, "max_steps": 12, "probe_every": 1, "stop_rule": "mass_leak"}
"""On these models the mass of the ten likeliest tokens falls in the first steps and stays there."""


@pytest.fixture(scope="module")
def prefs() -> Preferences:
    """Eight pairs to train on, four held out."""
    found = tiny.preferences(12)
    split = pl.when(pl.int_range(pl.len()) < 8).then(pl.lit("train")).otherwise(pl.lit("test"))
    return Preferences.of(found.prompts, found.responses, found.pairs.with_columns(split=split))


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def probed(run: Path) -> list[dict[str, Any]]:
    return [line for line in lines(run) if "loss" not in line]


def weights(run: Path) -> bytes:
    return (run / "model/model.safetensors").read_bytes()


def files(run: Path) -> dict[str, bytes]:
    """Every file that a finished training leaves, but for its checkpoints."""
    found = {path.relative_to(run).as_posix(): path for path in run.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith("checkpoints/")}


def stopped(data: Preferences, output: Path, *, after: int, **settings: Any) -> None:
    """A run that ends in the middle, its checkpoints left."""
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            control.should_training_stop = state.global_step >= after
            return control

    fit(data, prepare(data, resolve(**settings)), output, callbacks=[Stop()])


@pytest.mark.parametrize(
    "settings",
    [{}, {"lora": {"r": 4, "dropout": 0.2}}, {"disable_dropout": False, "logging_steps": 3}, {"loss": "simpo"}],
    ids=["whole", "adapter_with_dropout", "windows", "no_reference"],
)
def test_weights_and_training_lines_are_the_same_with_probes_and_without(
    settings: dict[str, Any], model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    shared = FAST | {"model": model, "max_steps": 5} | settings
    train(prefs, output=tmp_path / "without", **shared)
    train(prefs, output=tmp_path / "with", probe_every=2, **shared)
    assert weights(tmp_path / "with") == weights(tmp_path / "without")
    assert [line for line in lines(tmp_path / "with") if "loss" in line] == lines(tmp_path / "without")
    assert [line["step"] for line in probed(tmp_path / "with")] == [0, 2, 4, 5]
    cards = [(tmp_path / name / "model/README.md").read_text().splitlines() for name in ("with", "without")]
    assert len({tuple(line for line in card if "| probe_" not in line) for card in cards}) == 1


def test_probes_say_what_logprobs_says_of_the_start_and_of_the_model_as_it_ended(
    model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    """The other road: the columns that `logprobs` writes, and the margin of 0.3 * (log-ratio difference) by numpy."""
    done = train(prefs, model=model, output=tmp_path, max_steps=5, probe_every=2, beta=0.3, **FAST)
    pairs, _ = held_out(prefs)
    columns = logprobs(logprobs(pairs, model=model, name="start"), model=done.model, name="end")
    view = columns.view("logp_start", "logp_end").collect()
    start, end = (
        np.array([view[f"logp_{name}_{side}"].to_list() for side in ("chosen", "rejected")])
        for name in ("start", "end")
    )
    first, *_, last = probed(tmp_path)
    assert first["pairwright/probe_chosen_logp"] == pytest.approx(start[0].mean(), abs=1e-4)
    assert first["pairwright/probe_margin"] == 0.0
    assert first["pairwright/probe_accuracy"] == 0.5
    assert last["pairwright/probe_chosen_logp"] == pytest.approx(end[0].mean(), abs=1e-4)
    assert last["pairwright/probe_rejected_logp"] == pytest.approx(end[1].mean(), abs=1e-4)
    ratios = end - start
    margins = 0.3 * (ratios[0] - ratios[1])
    assert last["pairwright/probe_margin"] == pytest.approx(margins.mean(), abs=1e-4)
    assert last["pairwright/probe_accuracy"] == (margins > 0).mean()
    assert abs(margins.mean()) > 0.1
    probes = load_probes(tmp_path)
    assert probes is not None
    assert (probes.about.beta, probes.about.loss, probes.about.every, probes.about.pairs) == (0.3, "dpo", 2, 4)
    assert Preferences.load(tmp_path / "probes/data") == pairs
    credit = probes.credit.sort("side", "pair").with_columns(pl.col("credit").list.sum())
    assert credit["credit"].to_list() == pytest.approx([*ratios[0], *ratios[1]], abs=1e-4)


def test_a_loss_without_a_reference_has_margins_of_log_ratios_in_nats(
    model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    """SimPO's beta of 2 scales mean log-probabilities. The margin is that of the probed rows, by numpy."""
    train(prefs, model=model, output=tmp_path, loss="simpo", max_steps=3, probe_every=3, **FAST)
    probes = load_probes(tmp_path)
    assert probes is not None
    assert (probes.about.beta, probes.about.loss) == (None, "simpo")
    rows = probes.rows.filter(pl.col("step") == 3).sort("pair")
    ratios = rows.with_columns(ratio=pl.col("logp") - pl.col("start_logp"))
    chosen, rejected = (ratios.filter(pl.col("side") == side)["ratio"].to_numpy() for side in ("chosen", "rejected"))
    last = probed(tmp_path)[-1]
    assert last["pairwright/probe_log_ratio_margin"] == pytest.approx((chosen - rejected).mean())
    assert "pairwright/probe_margin" not in last


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_resumed_run_ends_with_the_files_of_one_that_was_never_stopped(
    after: int, model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    settings = FAST | {"model": model, "max_steps": 7, "probe_every": 3, "save_steps": 2}
    train(prefs, output=tmp_path / "whole", **settings)
    stopped(prefs, tmp_path / "parts", after=after, **settings)
    assert (tmp_path / f"parts/probes/{after:06d}.parquet").is_file()  # as it was stopped; no turn of a whole run
    train(prefs, output=tmp_path / "parts", **settings)
    assert sorted(files(tmp_path / "whole")) == sorted(files(tmp_path / "parts"))
    assert files(tmp_path / "whole") == files(tmp_path / "parts")


@pytest.mark.parametrize("settings", [FAST | {"max_steps": 4, "probe_every": 3}, LEAK | {"save_steps": 1}])
def test_a_run_killed_before_its_model_was_written_ends_with_the_same_files(
    settings: dict[str, Any], model: Path, prefs: Preferences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = importlib.import_module("pairwright.train.job")
    train(prefs, model=model, output=tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        patch.setattr(job, "_save", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(prefs, model=model, output=tmp_path / "parts", **settings)
    (tmp_path / "parts/probes/credit.parquet").unlink()
    train(prefs, model=model, output=tmp_path / "parts", **settings)
    assert files(tmp_path / "whole") == files(tmp_path / "parts")


def test_a_rule_ends_a_training_that_is_then_finished(
    model: Path, prefs: Preferences, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The step is found again from the logged masses: the second of two checks whose mean is 0.01 below the first.

    The moving average by its definition: weights 0.9^(t-i), divided by their sum.
    """
    settings = {"model": model, **LEAK}
    done = train(prefs, output=tmp_path / "rule", **settings)
    ended = json.loads((tmp_path / "rule/training.json").read_text())
    free = train(prefs, output=tmp_path / "free", **settings | {"stop_rule": None})
    masses = np.array([line["pairwright/probe_top_mass"] for line in probed(free.directory)])
    means = [np.average(masses[: t + 1], weights=0.9 ** np.arange(t, -1, -1)) for t in range(len(masses))]
    low = [mean < masses[0] - 0.01 for mean in means]
    expected = next(t for t in range(1, len(low)) if low[t] and low[t - 1])
    assert 1 < expected < 12
    assert ended["steps"] == ended["stopped"]["step"] == expected
    assert ended["stopped"]["signal"] == "mass_leak"
    assert ended["stopped"]["parameters"] == {"smoothing": 0.9, "checks": 2, "fall": 0.01}
    assert ended["stopped"] == json.loads((tmp_path / "rule/probes/stopped.json").read_text())
    assert f"stopped at step {expected} of 12 by mass_leak: The smoothed mass" in capsys.readouterr().err
    assert lines(tmp_path / "rule") == lines(tmp_path / "free")[: 2 * expected + 1]
    assert (tmp_path / "rule/probes/credit.parquet").is_file()
    assert not (tmp_path / "rule/checkpoints").exists()
    assert json.loads((free.directory / "training.json").read_text())["stopped"] is None
    assert train(prefs, output=tmp_path / "rule", **settings) == done
    assert "nothing was trained again" in capsys.readouterr().err


def test_a_rule_fires_again_after_a_kill_that_lost_its_step(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    settings = {"model": model, **LEAK, "save_steps": 2}
    train(prefs, output=tmp_path / "whole", **settings)
    stopped(prefs, tmp_path / "parts", after=3, **settings)
    train(prefs, output=tmp_path / "parts", **settings)
    assert files(tmp_path / "whole") == files(tmp_path / "parts")


def test_probes_decide_no_weight_unless_a_rule_reads_them(model: Path, prefs: Preferences) -> None:
    def prepared(**settings: Any) -> Any:
        return prepare(prefs, resolve(model=model, **settings))

    plain, often, rare = prepared(), prepared(probe_every=2), prepared(probe_every=3)
    assert plain.mark == plain.name == often.mark == rare.mark
    assert len({plain.name, often.name, rare.name, prepared(probe_every=2, probe_pairs=2).name}) == 4
    ruled = [
        prepared(probe_every=2, stop_rule="mass_leak"),
        prepared(probe_every=3, stop_rule="mass_leak"),
        prepared(probe_every=2, stop_rule=["entropy_reversal"]),
        prepared(probe_every=2, probe_pairs=2, stop_rule="mass_leak"),
    ]
    assert len({plain.mark, *(each.mark for each in ruled)}) == 5


def test_a_training_with_other_probes_is_refused_and_one_with_more_than_asked_is_taken(
    model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    settings = FAST | {"model": model, "max_steps": 4}
    train(prefs, output=tmp_path / "done", probe_every=2, **settings)
    before = files(tmp_path / "done")
    with pytest.raises(InputError, match="holds this training with other probes or none; choose another output"):
        train(prefs, output=tmp_path / "done", probe_every=3, **settings)
    train(prefs, output=tmp_path / "done", **settings)
    assert files(tmp_path / "done") == before
    train(prefs, output=tmp_path / "none", **settings)
    with pytest.raises(InputError, match="with other probes or none"):
        train(prefs, output=tmp_path / "none", probe_every=2, **settings)
    stopped(prefs, tmp_path / "half", after=3, probe_every=2, save_steps=2, **settings)
    with pytest.raises(InputError, match="with other probes or none"):
        train(prefs, output=tmp_path / "half", probe_every=3, save_steps=2, **settings)


def test_probes_that_are_gone_cannot_be_gone_on_with(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    settings = FAST | {"model": model, "max_steps": 4, "probe_every": 2, "save_steps": 2}
    stopped(prefs, tmp_path, after=3, **settings)
    (tmp_path / "probes/000000.parquet").unlink()
    with pytest.raises(InputError, match="no probe of the start, which is past; remove the checkpoints to start over"):
        train(prefs, output=tmp_path, **settings)


def test_a_folder_of_probes_of_somebody_else_is_left_alone(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes/moon.txt").write_text("mine")
    with pytest.raises(InputError, match=r"probes is there and is of no pairwright training"):
        train(prefs, model=model, output=tmp_path, max_steps=1, probe_every=1, **FAST)
    assert (tmp_path / "probes/moon.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"stop_rule": "mass_leak"}, "stop_rule is given, and nothing is probed; set probe_every too"),
        ({"probe_pairs": 3}, "probe_pairs is given, and nothing is probed; set probe_every too"),
        ({"probe_split": "dev"}, "probe_split is given, and nothing is probed"),
        ({"probe_every": 0}, "probe_every: Input should be greater than 0"),
        ({"probe_every": 2, "stop_rule": "mass_leek"}, "stop_rule.*mass_leak"),
        ({"probe_every": 2, "probe_split": "train"}, "'train', which is trained on; name the split that is held out"),
    ],
)
def test_settings_of_probes_that_cannot_be_are_one_sentence(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        resolve(model="m", **settings)


def test_data_without_the_split_are_refused_before_anything_is_written(
    model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no pairs are in split 'dev'"):
        train(prefs, model=model, output=tmp_path / "run", probe_every=2, probe_split="dev", **FAST)
    assert not (tmp_path / "run").exists()


def test_the_rules_that_may_be_asked_for_are_the_signals_that_there_are() -> None:
    assert set(get_args(StopSignal)) == set(SIGNALS)


@pytest.mark.slow
def test_two_processes_probe_and_stop_as_one_does(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    prefs.save(tmp_path / "data")
    settings = LEAK | {"probe_every": 2, "logging_steps": 2}
    train(Preferences.load(tmp_path / "data"), model=model, output=tmp_path / "one", **settings)
    asked = ["train", str(tmp_path / "data"), "--model", str(model), "-o", str(tmp_path / "two")]
    for name, value in (settings | {"per_device_train_batch_size": 1}).items():
        asked += ["--set", f"{name}={value}"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(PROFILES["ddp"])]
    launcher += ["--mixed_precision", "no", "--num_processes", "2", "--main_process_port", "0", "-m", "pairwright"]
    done = subprocess.run(
        [*launcher, *asked],
        env=os.environ
        | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PAIRWRIGHT_CACHE": str(tmp_path / "c")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("by mass_leak") == 1
    one, two = load_probes(tmp_path / "one"), load_probes(tmp_path / "two")
    assert one is not None
    assert two is not None
    assert one.steps == two.steps
    assert one.steps[-1] < 12
    assert two.rows["logp"].to_list() == pytest.approx(one.rows["logp"].to_list(), abs=2e-3)
    assert [row["step"] for row in lines(tmp_path / "two")] == [row["step"] for row in lines(tmp_path / "one")]
    stops = [json.loads((tmp_path / name / "training.json").read_text())["stopped"]["step"] for name in ("one", "two")]
    assert stops[0] == stops[1]
