import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from pairwright.errors import InputError, PairwrightError
from pairwright.preferences import Preferences
from pairwright.train import resolve, train
from pairwright.train.data import Example, Examples
from pairwright.train.job import fit, prepare
from pairwright.train.output import MARK, claim, look, rotate, seal

FAST: dict[str, Any] = {"learning_rate": 0.01, "per_device_train_batch_size": 2, "logging_steps": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.model(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="module")
def prefs() -> Preferences:
    return tiny.preferences(8)


def steps(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(run: Path) -> bytes:
    return (run / "model/model.safetensors").read_bytes()


def stopped(data: Preferences, output: Path, *, after: int, **settings: Any) -> None:
    """A run that ends in the middle, its checkpoints left."""
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            control.should_training_stop = state.global_step >= after
            return control

    fit(data, prepare(data, resolve(**settings)), output, callbacks=[Stop()])


def checkpoint(folder: Path, step: int, mark: str = "me") -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    for name in ("model.safetensors", "optimizer.pt", "trainer_state.json"):
        (path / name).write_text("{}")
    seal(path, mark=mark, step=step, sums={"loss": 1.0})
    return path


@pytest.mark.parametrize(
    "settings",
    [{"max_steps": 3}, {"num_train_epochs": 1.5}, {"max_steps": 3, "lora": True}],
    ids=["max_steps", "epochs", "lora"],
)
def test_a_run_killed_after_its_last_checkpoint_trains_no_further_step(
    settings: dict[str, Any], model: Path, prefs: Preferences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    job = importlib.import_module("pairwright.train.job")
    train(prefs, model=model, output=tmp_path / "whole", **FAST, **settings)
    with monkeypatch.context() as patch:
        patch.setattr(job, "_save", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(prefs, model=model, output=tmp_path / "parts", **FAST, **settings)
    (tmp_path / "parts/metrics.jsonl").unlink()
    train(prefs, model=model, output=tmp_path / "parts", **FAST, **settings)
    assert weights(tmp_path / "whole") == weights(tmp_path / "parts")
    for name in ("metrics.jsonl", "training.json"):
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "parts" / name).read_text()


def test_a_finished_run_is_given_back_and_not_trained_again(
    model: Path, prefs: Preferences, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = FAST | {"model": model, "max_steps": 3, "keep_checkpoints": True}
    first = train(prefs, output=tmp_path, **settings)
    before = (tmp_path / "model/model.safetensors").stat().st_mtime_ns
    assert "trained again" not in capsys.readouterr().err
    assert train(prefs, output=tmp_path, **settings) == first
    assert "nothing was trained again" in capsys.readouterr().err
    assert (tmp_path / "model/model.safetensors").stat().st_mtime_ns == before
    assert steps(tmp_path) == [1, 2, 3]
    assert (tmp_path / "checkpoints/checkpoint-3").is_dir()
    shutil.rmtree(tmp_path / "model")
    train(prefs, output=tmp_path, **settings)
    assert steps(tmp_path) == [1, 2, 3]
    assert (tmp_path / "model/model.safetensors").is_file()


def test_a_finished_run_with_other_settings_is_refused_and_left_alone(
    model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    train(prefs, model=model, output=tmp_path, lora=True, max_steps=1, **FAST)
    there = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="finished training with other data or settings; choose another output"):
        train(prefs, model=model, output=tmp_path, max_steps=1, **FAST)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == there


@pytest.mark.parametrize(
    "name", ["checkpoints/checkpoint-500/model.safetensors", "checkpoints/notes.txt", "model/mine.bin", "adapter/x"]
)
def test_what_is_of_no_training_is_refused_and_left_alone(
    name: str, model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text("weeks of work")
    with pytest.raises(InputError, match="is of no pairwright training; choose another output"):
        train(prefs, model=model, output=tmp_path, max_steps=1, **FAST)
    assert path.read_text() == "weeks of work"


def test_other_files_beside_a_training_do_not_matter(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{}")
    (tmp_path / "checkpoints").mkdir()
    train(prefs, model=model, output=tmp_path, max_steps=1, **FAST)
    assert (tmp_path / "settings.json").read_text() == "{}"


def test_a_training_json_of_another_program_is_refused(tmp_path: Path) -> None:
    for text in ("{}", "[1]", "no json"):
        (tmp_path / "training.json").write_text(text)
        with pytest.raises(InputError, match="choose another output"):
            look(tmp_path, "me")


@pytest.mark.parametrize("inside", ["", "deeper/still"])
def test_an_output_that_is_a_file_is_one_sentence(inside: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file is a file; a training needs a directory"):
        look(tmp_path / "file" / inside, "me")


def test_what_is_no_whole_checkpoint_is_passed_over_for_an_older_one(tmp_path: Path) -> None:
    claim(tmp_path, "me", anew=True)
    folder = tmp_path / "checkpoints"
    whole = checkpoint(folder, 2)
    (checkpoint(folder, 4) / "optimizer.pt").unlink()
    (checkpoint(folder, 5) / "model.safetensors").write_text("{")
    (checkpoint(folder, 6) / MARK).write_text("{}")
    (checkpoint(folder, 7) / MARK).write_text("[]")
    (folder / "checkpoint-notes.txt").write_text("x")
    (folder / "checkpoint-9").write_text("x")
    assert look(tmp_path, "me") == (False, whole)
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == [
        "checkpoint-2",
        "checkpoint-9",
        "checkpoint-notes.txt",
    ]


def test_a_kill_while_checkpoints_are_removed_leaves_none_that_looks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(tmp_path, "me", anew=True)
    for step in (2, 10, 4):
        checkpoint(tmp_path / "checkpoints", step)

    def killed(path: Path, **kwargs: Any) -> None:
        (path / "model.safetensors").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            rotate(tmp_path / "checkpoints", 2)
    assert not (tmp_path / "checkpoints/checkpoint-2" / MARK).exists()
    found = look(tmp_path, "me")
    assert found.checkpoint is not None
    assert found.checkpoint.name == "checkpoint-10"


def test_a_kill_while_a_finished_run_is_cleaned_does_not_matter(
    model: Path, prefs: Preferences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    output = importlib.import_module("pairwright.train.output")
    settings = FAST | {"model": model, "max_steps": 3}

    def killed(path: Path, **kwargs: Any) -> None:
        if not path.exists():
            return
        for file in path.rglob("model.safetensors"):
            file.unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(output.shutil, "rmtree", killed)
        patch.setattr(output, "rotate", lambda *a: None)
        with pytest.raises(KeyboardInterrupt):
            train(prefs, output=tmp_path, **settings, save_total_limit=9)
    assert not (tmp_path / "checkpoints").exists()
    train(prefs, output=tmp_path, **settings, save_total_limit=9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "model", "training.json"]


def test_old_checkpoints_go_when_the_new_one_counts_and_not_before(
    model: Path, prefs: Preferences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    trainer = importlib.import_module("pairwright.train.trainer")
    folder = tmp_path / "checkpoints"
    before: list[list[str]] = []

    def watched(path: Path, **kwargs: Any) -> None:
        before.append([mark.parent.name for mark in folder.glob("*/" + MARK)])
        seal(path, **kwargs)

    monkeypatch.setattr(trainer, "seal", watched)
    settings = FAST | {"model": model, "max_steps": 3, "save_steps": 1, "save_total_limit": 1}
    train(prefs, output=tmp_path, keep_checkpoints=True, **settings)
    assert before == [[], ["checkpoint-1"], ["checkpoint-2"]]
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-3"]


def test_an_output_below_the_model_to_start_from_can_go_on(prefs: Preferences, tmp_path: Path) -> None:
    model = tiny.model(tmp_path / "m")
    settings = FAST | {"model": model, "save_steps": 2}
    stopped(prefs, model / "dpo", after=3, **settings)
    train(prefs, output=model / "dpo", **settings)
    train(prefs, output=tmp_path / "whole", **settings)
    assert weights(model / "dpo") == weights(tmp_path / "whole")
    with pytest.raises(InputError, match="the model to start from; choose another output"):
        train(prefs, output=model, **settings)


def test_a_run_that_wrote_no_checkpoint_yet_may_be_begun_with_other_settings(
    model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    settings = FAST | {"model": model, "save_strategy": "no"}
    stopped(prefs, tmp_path, after=2, **settings)
    assert steps(tmp_path) == [1, 2]
    train(prefs, output=tmp_path, **settings | {"logging_steps": 2})
    assert steps(tmp_path) == [1, 2, 4]


@pytest.mark.parametrize("logging", [{"logging_steps": 100}, {"logging_strategy": "no"}, {"logging_steps": 2}])
@pytest.mark.parametrize("saving", [{"save_strategy": "no"}, {"save_steps": 1}])
def test_weights_that_stop_being_numbers_are_never_saved(
    logging: dict[str, Any], saving: dict[str, Any], model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    settings = FAST | {"learning_rate": 1e30, "max_grad_norm": 0.0, "model": model} | logging | saving
    with pytest.raises(PairwrightError, match=r"at step \d+; lower learning_rate"):
        train(prefs, output=tmp_path, **settings)
    assert not (tmp_path / "model").exists()


def test_the_last_step_is_logged_wherever_it_falls(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    settings = FAST | {"model": model, "max_steps": 7, "logging_steps": 3, "save_steps": 2}
    train(prefs, output=tmp_path / "whole", **settings)
    rows = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["pairwright/pairs"]) for row in rows] == [(1, 2), (3, 4), (6, 6), (7, 2)]
    stopped(prefs, tmp_path / "parts", after=5, **settings)
    train(prefs, output=tmp_path / "parts", **settings)
    assert (tmp_path / "whole/metrics.jsonl").read_text() == (tmp_path / "parts/metrics.jsonl").read_text()
    assert f"| loss | {rows[-1]['loss']:.4g} |" in (tmp_path / "whole/model/README.md").read_text()


def _sums(values: np.ndarray) -> list[float]:
    one = np.array([1], np.int32)
    rows = [Example(one, (one, one), refs=(float(chosen), float(rejected))) for chosen, rejected in values]
    return Examples(rows, {}, ()).reference_sums()


@pytest.mark.parametrize("pairs", [1, 8, 10_000])
def test_references_that_differ_by_more_than_rounding_are_told_apart(pairs: int, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    values = chance.normal(-150, 60, (pairs, 2))
    one, raised = values.copy(), values + 0.1
    one[pairs // 2, 0] += 3.0
    others = [values[:, ::-1], one, raised]
    if pairs > 1:
        part = values.copy()
        part[: pairs // 2] = part[chance.permutation(pairs // 2)]
        others += [values[::-1], part]
    claim(tmp_path, "me", _sums(values), anew=True)
    for same in (values, values + 1e-5, values + chance.normal(0, 1e-4, values.shape)):
        assert look(tmp_path, "me", _sums(same)) == (False, None)
    for other in others:
        with pytest.raises(InputError, match="other reference log-probabilities"):
            look(tmp_path, "me", _sums(other))
