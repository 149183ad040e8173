"""The callback in TRL's own trainer: it probes what `logprobs` computes, and leaves the training as it was."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from transformers import TrainerCallback

import tiny
from pairwright.errors import InputError
from pairwright.goals import GoalFormat
from pairwright.logprobs import logprobs
from pairwright.preferences import Preferences
from pairwright.probes import Probe, StopRule, probe_run
from pairwright.probes.callback import MADE_BY
from pairwright.probes.held import held_out
from pairwright.probes.live import means_of, refuse_spread
from pairwright.probes.store import PROBE, load_probes
from pairwright.train import train

pytestmark = [
    # TRL 1.16 asks transformers 5 for names that it calls deprecated.
    pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.gradient_checkpointing_(dis|en)able. is deprecated:FutureWarning"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.model(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="module")
def prefs() -> Preferences:
    """Eight pairs to train on, four held out."""
    found = tiny.preferences(12)
    split = pl.when(pl.int_range(pl.len()) < 8).then(pl.lit("train")).otherwise(pl.lit("test"))
    return Preferences.of(found.prompts, found.responses, found.pairs.with_columns(split=split))


def trainer(model: Path, output: Path, *callbacks: Any, lora: bool = False, **settings: Any) -> Any:
    """TRL's `DPOTrainer` on eight pairs."""
    import datasets
    import peft
    import trl
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in tiny.preferences(12).rows()][:8]
    shared: dict[str, Any] = {"learning_rate": 5e-3, "max_steps": 6, "logging_steps": 2, "save_strategy": "no"}
    shared |= {"beta": 0.3, "per_device_train_batch_size": 2, "max_length": 128, "seed": 0, "data_seed": 0}
    shared |= {"bf16": False, "gradient_checkpointing": False, "dataloader_pin_memory": False, "disable_tqdm": True}
    made = trl.DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=trl.DPOConfig(output_dir=str(output), **{"report_to": "none"} | shared | settings),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_dropout=0.2) if lora else None,
    )
    for each in callbacks:
        made.add_callback(each if isinstance(each, TrainerCallback) else each(made))
    return made


def probing(prefs: Preferences, **settings: Any) -> Any:
    """What makes the probe of a trainer that is yet to be made."""
    return lambda made: Probe(made, prefs, **settings)


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def files(run: Path) -> dict[str, bytes]:
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def clean(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of steps, as both write them."""
    return [{name: value for name, value in row.items() if name != "total_flos"} for row in rows if "loss" in row]


def test_a_trl_trainer_with_the_callback_gets_probes_of_the_model_that_it_trains(
    model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    """The other road: `logprobs` of the start and of the saved model, margins 0.3 * (log-ratio difference) by numpy."""
    made = trainer(model, tmp_path / "trl", probing(prefs, output=tmp_path / "run", every=4))
    made.train()
    made.save_model(str(tmp_path / "end"))
    pairs, _ = held_out(prefs)
    columns = logprobs(logprobs(pairs, model=model, name="start"), model=tmp_path / "end", name="end")
    view = columns.view("logp_start", "logp_end").collect()
    start, end = (
        np.array([view[f"logp_{name}_{side}"].to_list() for side in ("chosen", "rejected")])
        for name in ("start", "end")
    )
    probes = load_probes(tmp_path / "run")
    assert probes is not None
    assert probes.steps == (0, 4, 6)
    last = probes.rows.filter(pl.col("step") == 6)
    for i, side in enumerate(("chosen", "rejected")):
        rows = last.filter(pl.col("side") == side).sort("pair")
        assert rows["logp"].to_list() == pytest.approx(end[i].tolist(), abs=1e-4)
        assert rows["start_logp"].to_list() == pytest.approx(start[i].tolist(), abs=1e-4)
    line = next(line for line in lines(tmp_path / "run") if line["step"] == 6 and "loss" not in line)
    margin = (0.3 * ((end - start)[0] - (end - start)[1])).mean()
    assert line["pairwright/probe_margin"] == pytest.approx(margin, abs=1e-4)
    assert abs(margin) > 0.05
    credit = probes.credit.sort("side", "pair").select(pl.col("credit").list.sum())
    assert credit["credit"].to_list() == pytest.approx((end - start).flatten().tolist(), abs=1e-4)


def test_what_was_trained_is_recorded_for_the_report(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    trainer(model, tmp_path, probing(prefs, output=tmp_path, every=5, pairs=3)).train()
    record = json.loads((tmp_path / "training.json").read_text())
    config = record["config"]
    assert (record["made_by"], record["arguments"], record["steps"]) == (MADE_BY, "DPOConfig", 6)
    assert (config["model"], config["loss"], config["loss_settings"]["beta"]) == (str(model), "sigmoid", 0.3)
    assert (config["trainer"]["learning_rate"], config["seed"]) == (5e-3, 0)
    assert (config["probe_every"], config["probe_pairs"], config["probe_split"]) == (5, 3, "test")
    assert record["limits"] == {"max_length": 128, "max_prompt_length": 64}
    assert {"trl", "torch", "pairwright"} <= set(record["versions"])
    probes = load_probes(tmp_path)
    assert probes is not None
    assert (probes.about.beta, probes.about.loss, probes.about.start) == (0.3, "sigmoid", str(model))
    assert Preferences.load(tmp_path / "probes/data").counts().pairs == 3


@pytest.mark.parametrize("lora", [False, True])
def test_the_training_and_its_log_are_the_same_with_the_callback_and_without(
    lora: bool, model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    plain = trainer(model, tmp_path / "a", lora=lora)
    watched = trainer(model, tmp_path / "b", probing(prefs, output=tmp_path / "run", every=1), lora=lora)
    for each in (plain, watched):
        torch.manual_seed(0)
        each.train()
    for one, other in zip(plain.model.parameters(), watched.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert [row["step"] for row in clean(plain.state.log_history)] == [2, 4, 6]
    assert clean(watched.state.log_history) == clean(plain.state.log_history)
    written = [row for row in lines(tmp_path / "run") if "loss" in row]
    assert written == clean(plain.state.log_history)
    assert [row["step"] for row in lines(tmp_path / "run") if "loss" not in row] == [0, 1, 2, 3, 4, 5, 6]
    assert watched.model.training


def test_a_trl_training_that_goes_on_from_a_checkpoint_goes_on_with_its_probes(
    model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            control.should_training_stop = state.global_step >= 5
            return control

    settings = {"save_strategy": "steps", "save_steps": 4}
    trainer(model, tmp_path / "a", probing(prefs, output=tmp_path / "whole", every=2), **settings).train()
    trainer(model, tmp_path / "b", probing(prefs, output=tmp_path / "parts", every=2), Stop(), **settings).train()
    assert (tmp_path / "parts/probes/000005.parquet").is_file()
    again = trainer(model, tmp_path / "b", probing(prefs, output=tmp_path / "parts", every=2), **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "b/checkpoint-4"))
    whole, parts = files(tmp_path / "whole"), files(tmp_path / "parts")
    assert sorted(whole) == sorted(parts)
    assert [name for name in whole if whole[name] != parts[name] and name != "metrics.jsonl"] == []
    for one, other_line in zip(lines(tmp_path / "whole"), lines(tmp_path / "parts"), strict=True):
        assert one | {"num_tokens": 0} == other_line | {"num_tokens": 0}  # TRL counts tokens anew
    other = trainer(model, tmp_path / "b", probing(prefs, output=tmp_path / "parts", every=2, pairs=3), **settings)
    with pytest.raises(InputError, match="holds probes with other pairs or settings; go on with the same ones"):
        other.train(resume_from_checkpoint=str(tmp_path / "b/checkpoint-4"))


def test_a_tracker_gets_the_same_names(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    """TensorBoard, by its own reader: the prefix `train/` is that of transformers."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings: dict[str, Any] = {"report_to": "tensorboard", "save_strategy": "no", "logging_steps": 1}
    settings |= {"learning_rate": 1e-3, "per_device_train_batch_size": 2, "max_steps": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "ours"))
        train(prefs, model=model, output=tmp_path / "run", probe_every=2, **settings)
        patch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "trl"))
        trainer(model, tmp_path / "a", probing(prefs, output=tmp_path / "b", every=2), **settings).train()
    for folder, run in (("ours", "run"), ("trl", "b")):
        assert len(list((tmp_path / folder).rglob("events*"))) == 1
        events = EventAccumulator(str(next((tmp_path / folder).rglob("events*"))))
        events.Reload()
        probed = [line for line in lines(tmp_path / run) if "loss" not in line]
        names = {name for name in probed[0] if name.startswith("pairwright/")}
        assert len(names) == 8
        assert {f"train/{name}" for name in names} <= set(events.Tags()["scalars"])
        for name in names:
            found = [(event.step, event.value) for event in events.Scalars(f"train/{name}")]
            assert found == [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in probed]


def test_means_are_those_of_the_rows_by_hand() -> None:
    """Two pairs, beta 0.5. Margins: 0.5 * ((2 - 0) - (-1 - 0)) = 1.5 and 0.5 * ((-4) - (-4)) = 0, so 0.75 and 3/4."""
    rows = [
        (0, "chosen", -8.0, -10.0, 0.9, 2.0),
        (0, "rejected", -11.0, -10.0, 0.1, 9.0),
        (1, "chosen", -24.0, -20.0, 0.7, 1.0),
        (1, "rejected", -34.0, -30.0, 0.1, 9.0),
    ]
    frame = pl.DataFrame(
        rows, schema=["pair", "side", "logp", "start_logp", "top_mass", "top_entropy"], orient="row"
    ).with_columns(
        prompt_id=pl.lit("p"),
        response_id=pl.lit(0),
        score=pl.lit(None),
        asked=pl.lit("none"),
        length=pl.lit(3),
        entropy=pl.lit(1.0),
        raw_top_entropy=pl.lit(1.5),
    )
    frame = frame.select(pl.col(name).cast(kind) for name, kind in PROBE.items())
    own = frame.filter(pl.col("pair") == 0).with_columns(asked=pl.lit("own"), logp=pl.col("logp") + 1.0)
    assert means_of(pl.concat([frame, own]), beta=0.5) == {
        "pairwright/probe_chosen_logp": -16.0,
        "pairwright/probe_rejected_logp": -22.5,
        "pairwright/probe_margin": 0.75,
        "pairwright/probe_accuracy": 0.75,
        "pairwright/probe_chosen_logp_asked_own": -7.0,
        "pairwright/probe_rejected_logp_asked_own": -10.0,
        "pairwright/probe_entropy": 1.0,
        "pairwright/probe_top_entropy": 1.5,
        "pairwright/probe_raw_top_entropy": 1.5,
        "pairwright/probe_top_mass": pytest.approx(0.8),
    }
    plain = means_of(frame, beta=None)
    assert plain["pairwright/probe_log_ratio_margin"] == 1.5
    assert "pairwright/probe_margin" not in plain


def test_a_model_that_takes_goals_is_asked_for_them(prefs: Preferences, tmp_path: Path) -> None:
    model = tiny.model(tmp_path / "long", positions=1024)
    probe = probing(prefs, output=tmp_path / "run", every=6, goal=GoalFormat())
    trainer(model, tmp_path / "a", probe, max_length=800).train()
    probes = load_probes(tmp_path / "run")
    assert probes is not None
    assert set(probes.rows["asked"]) == {"none", "top", "own"}
    assert probes.about.goal is not None
    assert {"pairwright/probe_margin_asked_top", "pairwright/probe_chosen_logp_asked_own"} <= set(
        lines(tmp_path / "run")[0]
    )


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("training.json", '{"run": "abc"}', "holds another training; choose another output for its probes"),
        ("training.json", "no json", "holds another training"),
        ("probes/moon.txt", "mine", "is there and holds no probes; choose another output or move it away"),
    ],
)
def test_what_is_of_something_else_is_left_alone(
    name: str, text: str, says: str, model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        trainer(model, tmp_path / "a", probing(prefs, output=tmp_path / "run")).train()
    assert files(tmp_path / "run") == {name: text.encode()}


def test_what_cannot_be_probed_is_said_before_anything_is_trained(prefs: Preferences, tmp_path: Path) -> None:
    made: Any = None  # it is not asked for anything yet
    with pytest.raises(InputError, match="no pairs are in split 'dev'"):
        Probe(made, prefs, output=tmp_path, split="dev")
    with pytest.raises(InputError, match="every is 0; give the optimiser steps"):
        Probe(made, prefs, output=tmp_path, every=0)


@pytest.mark.parametrize("how", ["FSDP", "ZeRO-3"])
def test_a_model_that_is_spread_over_processes_is_refused(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import accelerate
    from accelerate.state import AcceleratorState

    class Plugin:
        zero_stage = 3

    class State:
        distributed_type = accelerate.DistributedType.FSDP if how == "FSDP" else accelerate.DistributedType.DEEPSPEED
        deepspeed_plugin = None if how == "FSDP" else Plugin()

    AcceleratorState()
    refuse_spread()
    monkeypatch.setattr(accelerate.state, "AcceleratorState", State)
    with pytest.raises(InputError, match="here they are spread; leave them out"):
        refuse_spread()


@pytest.mark.filterwarnings("ignore:.*:FutureWarning")
def test_the_example_runs(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["trl_callback.py", str(tmp_path / "out")])
    runpy.run_path(str(root / "examples/trl_callback.py"), run_name="__main__")
    probes = load_probes(tmp_path / "out")
    assert probes is not None
    assert probes.steps == (0, 10, 20, 30)
    margins = [line["pairwright/probe_margin"] for line in lines(tmp_path / "out") if "loss" not in line]
    assert margins[-1] > margins[0] == 0.0
    assert json.loads((tmp_path / "out/training.json").read_text())["steps"] == 30


@pytest.mark.parametrize("lora", [False, True])
def test_a_trl_training_can_be_probed_further_afterwards(
    lora: bool, model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    """The model that TRL saved is read again from the disk: at the last step it says what was read as it trained."""
    made = trainer(model, tmp_path, probing(prefs, output=tmp_path, every=3), lora=lora, learning_rate=2e-2)
    made.train()
    made.save_model(str(tmp_path))
    before = load_probes(tmp_path)
    (tmp_path / "probes/000006.parquet").unlink()
    after = probe_run(tmp_path, prefs)
    assert before is not None
    assert after.steps == before.steps == (0, 3, 6)
    assert after.rows["logp"].to_list() == pytest.approx(before.rows["logp"].to_list(), abs=1e-3)
    moved = after.rows.filter(pl.col("step") == 6).select((pl.col("logp") - pl.col("start_logp")).abs().min())
    assert moved.item() > 0.01


@pytest.mark.parametrize("every_step", [1, 3])
def test_a_trl_training_killed_at_the_checkpoint_of_its_stop_ends_there_again(
    every_step: int, model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    """Weights, steps, lines and files are those of the training that was not killed; the stop is not written again."""
    settings = {"save_strategy": "steps", "save_steps": every_step, "max_steps": 12, "logging_steps": 1}

    def made() -> Any:
        rule = StopRule(tmp_path / "run", signals=["mass_leak"], smoothing=0.0, fall=0.001, checks=3)
        return trainer(model, tmp_path / "a", probing(prefs, output=tmp_path / "run", every=1), rule, **settings)

    whole = made()
    whole.train()
    why = json.loads((tmp_path / "run/probes/stopped.json").read_text())
    assert whole.state.global_step == why["step"] == 3
    before = files(tmp_path / "run")
    for name in ("training.json", "probes/credit.parquet"):
        (tmp_path / "run" / name).unlink()
    again = made()
    again.train(resume_from_checkpoint=str(tmp_path / "a/checkpoint-3"))
    assert again.state.global_step == 3
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    after = files(tmp_path / "run")
    assert sorted(after) == sorted(before)
    assert [name for name in before if before[name] != after[name]] == []
    assert not (tmp_path / "a/checkpoint-4").exists()


def test_a_trl_training_goes_on_after_its_models_answers_were_added(
    model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2}
    short = trainer(model, tmp_path, probing(prefs, output=tmp_path, every=2), **settings | {"max_steps": 4})
    short.train()
    short.save_model(str(tmp_path))
    drawn = probe_run(tmp_path, prefs, samples=1, max_new_tokens=4)
    assert set(drawn.samples["step"]) == {0, 2, 4}
    further = trainer(model, tmp_path, probing(prefs, output=tmp_path, every=2), **settings)
    further.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    found = load_probes(tmp_path)
    assert found is not None
    assert found.steps == (0, 2, 4, 6)
    assert found.samples.equals(drawn.samples.filter(pl.col("step") <= 2))
    assert found.about == drawn.about


def test_a_training_killed_before_its_pairs_were_written_can_be_started_again(
    model: Path, prefs: Preferences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Preferences, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            trainer(model, tmp_path, probing(prefs, output=tmp_path, every=6)).train()
    trainer(model, tmp_path, probing(prefs, output=tmp_path, every=6)).train()
    probes = load_probes(tmp_path)
    assert probes is not None
    assert probes.steps == (0, 6)


def test_a_loss_of_means_over_tokens_has_margins_of_log_ratios(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    """`ipo` in TRL; beta 0.3 scales nothing: margins are plain means of log-ratio differences, by numpy."""
    trainer(model, tmp_path, probing(prefs, output=tmp_path, every=6), loss_type=["ipo"]).train()
    probes = load_probes(tmp_path)
    assert probes is not None
    assert probes.about.beta is None
    assert json.loads((tmp_path / "training.json").read_text())["beta"] is None
    last = next(line for line in lines(tmp_path) if line["step"] == 6 and "loss" not in line)
    rows = probes.rows.filter(pl.col("step") == 6).sort("pair")
    ratios = [
        (part["logp"] - part["start_logp"]).to_numpy()
        for part in (rows.filter(pl.col("side") == side) for side in ("chosen", "rejected"))
    ]
    assert last["pairwright/probe_log_ratio_margin"] == pytest.approx((ratios[0] - ratios[1]).mean())
    assert "pairwright/probe_margin" not in last


def test_a_probe_reports_to_its_own_trainer_whoever_calls_it(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    """Called by hand, outside of any trainer's loop: the callbacks of the trainer that it was given get the line."""
    heard: list[dict[str, float]] = []

    class Listens(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            heard.append(logs)

    made = trainer(model, tmp_path / "a", Listens())
    probe = Probe(made, prefs, output=tmp_path / "run", every=2)
    made.state.max_steps = 6
    known = {"model": made.model, "processing_class": made.processing_class}
    probe.on_train_begin(made.args, made.state, made.control, **known)
    assert [each["pairwright/probe_accuracy"] for each in heard] == [0.5]
