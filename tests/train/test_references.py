"""References over several trainings: computed once, and known again."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import tiny
from pairwright.errors import InputError
from pairwright.logprobs import logprobs
from pairwright.logprobs.opened import OpenedModel, Part
from pairwright.preferences import Preferences
from pairwright.train import resolve, train
from pairwright.train.job import prepare

FAST: dict[str, Any] = {
    "learning_rate": 0.01,
    "per_device_train_batch_size": 4,
    "logging_steps": 1,
    "save_strategy": "no",
}


class Counter:
    """Counts what is computed for the store: answers, and models opened."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.answers = self.opened = 0
        opens, computes = OpenedModel.__init__, OpenedModel.logps

        def opened(model: OpenedModel, *rest: Any, **more: Any) -> None:
            self.opened += 1
            opens(model, *rest, **more)

        def computed(model: OpenedModel, part: Part) -> Any:
            self.answers += len(part.answers)
            return computes(model, part)

        patch.setattr(OpenedModel, "__init__", opened)
        patch.setattr(OpenedModel, "logps", computed)

    def taken(self) -> tuple[int, int]:
        found = (self.answers, self.opened)
        self.answers = self.opened = 0
        return found


def test_a_sweep_over_beta_loss_and_seed_computes_the_reference_once(
    model: Path, prefs: Preferences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(monkeypatch)
    seen = []
    for beta in (0.01, 0.05, 0.1, 0.5, 1.0):
        train(prefs, model=model, output=tmp_path / f"beta-{beta}", beta=beta, **FAST)
        seen.append(counter.taken())
    assert seen == [(16, 1), (0, 0), (0, 0), (0, 0), (0, 0)]
    for number, settings in enumerate(({"loss": "ipo_mean"}, {"loss": "ipo_sum"}, {"seed": 7}, {"lora": True})):
        train(prefs, model=model, output=tmp_path / str(number), **FAST, **settings)
        assert counter.taken() == (0, 0), settings
    # What `logprobs` writes as columns are the same numbers.
    logprobs(prefs, model=model, name="m")
    assert counter.taken() == (0, 0)
    losses = {json.loads(file.read_text().splitlines()[1])["loss"] for file in tmp_path.glob("beta-*/metrics.jsonl")}
    assert len(losses) == 5


def test_another_reference_or_other_pairs_are_computed(
    model: Path, other: Path, prefs: Preferences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(monkeypatch)
    train(prefs, model=model, output=tmp_path / "a", **FAST)
    counter.taken()
    train(prefs, model=model, reference_model=other, output=tmp_path / "b", **FAST)
    assert counter.taken() == (16, 1)
    train(tiny.preferences(10), model=model, output=tmp_path / "c", **FAST)
    assert counter.taken() == (4, 1)


@pytest.mark.parametrize("settings", [{"loss": "simpo", "gamma": 0.3}, {"loss": "sft"}, {"reference": "frozen"}])
def test_nothing_is_computed_beforehand_that_nobody_needs(
    settings: dict[str, Any], model: Path, prefs: Preferences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(monkeypatch)
    train(prefs, model=model, output=tmp_path / "a", **FAST, **settings)
    assert counter.taken() == (0, 0)


def test_a_finished_training_is_known_without_its_reference(
    model: Path, prefs: Preferences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(prefs, model=model, output=tmp_path / "run", **FAST)
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path / "empty"))
    counter = Counter(monkeypatch)
    train(prefs, model=model, output=tmp_path / "run", **FAST)
    assert counter.taken() == (0, 0)


def test_store_and_frozen_take_the_same_steps(model: Path, other: Path, prefs: Preferences, tmp_path: Path) -> None:
    found = []
    for reference in ("store", "frozen"):
        run = train(prefs, model=model, reference=reference, reference_model=other, output=tmp_path / reference, **FAST)
        found.append([json.loads(line) for line in run.metrics.read_text().splitlines()])
    for ours, theirs in zip(*found, strict=True):
        assert ours == pytest.approx(theirs, abs=2e-4)
    assert abs(found[0][0]["rewards/margins"]) > 0.01


def moved(prefs: Preferences, by: float) -> Preferences:
    """The same data with reference columns that lie a little higher."""
    frame = prefs.responses.collect().with_columns(pl.col("logp_ref") + by)
    return Preferences.of(prefs.prompts, frame, prefs.pairs, prefs.lineage)


def test_last_bits_of_reference_columns_make_no_other_run(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    data = logprobs(prefs, model=model, name="ref")
    settings = {"model": model, **FAST}
    marks = {prepare(each, resolve(**settings)).mark for each in (data, moved(data, 1e-5), moved(data, 2.0))}
    assert len(marks) == 1
    train(data, output=tmp_path, **settings)
    before = (tmp_path / "model/model.safetensors").stat().st_mtime_ns
    train(moved(data, 1e-5), output=tmp_path, **settings)
    assert (tmp_path / "model/model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="other data or settings"):
        train(moved(data, 0.1), output=tmp_path, **settings)


def test_auto_takes_columns_only_of_the_model_to_start_from(
    model: Path, other: Path, prefs: Preferences, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = logprobs(prefs, model=other, name="ref")
    run = train(theirs, model=model, output=tmp_path / "theirs", **FAST)
    assert json.loads((tmp_path / "theirs/training.json").read_text())["reference"] == "store"
    assert json.loads(run.metrics.read_text().splitlines()[0])["loss"] == pytest.approx(0.6931472, abs=2e-6)
    assert f"reference: {model}, computed beforehand (not the columns logp_ref of {other};" in capsys.readouterr().err
    moved_model = shutil.copytree(model, tmp_path / "copy")
    ours = logprobs(theirs, model=moved_model, name="ref")
    prepared = prepare(ours, resolve(model=model, **FAST))
    assert (prepared.reference, prepared.origin) == ("columns", f"columns logp_ref of {moved_model}")
    shutil.rmtree(moved_model)
    assert prepare(ours, resolve(model=model, **FAST)).reference == "store"
    assert prepare(theirs, resolve(model=model, reference="columns", **FAST)).reference == "columns"
    flat = Preferences.of(theirs.prompts, theirs.responses, theirs.pairs)
    prepared = prepare(flat, resolve(model=model, **FAST))
    assert (prepared.reference, prepared.origin) == ("columns", "columns logp_ref, which came with the data")


def test_a_run_is_known_by_what_decides_its_weights(
    model: Path, prefs: Preferences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = tmp_path / "tokens"
    tiny.tokenizer().save_pretrained(tokens)

    def mark(**settings: Any) -> str:
        return prepare(prefs, resolve(model=model, tokenizer=tokens, **FAST | settings)).mark

    first = mark()
    (tokens / "README.md").write_text("hello")
    assert {mark(keep_checkpoints=True), mark(dataloader_num_workers=1), mark(report_to="none"), mark()} == {first}
    others = [mark(seed=1), mark(weight_decay=0.1), mark(max_steps=3)]
    with (tokens / "tokenizer_config.json").open("a") as file:
        file.write(" ")
    others.append(mark())
    for name, value in (("ACCELERATE_USE_DEEPSPEED", "true"), ("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")):
        monkeypatch.setenv(name, value)
        others.append(mark())
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "false")
    monkeypatch.delenv("ACCELERATE_DEEPSPEED_ZERO_STAGE")
    assert mark() == others[3]
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    others.append(mark())
    assert len({first, *others}) == 1 + len(others)


def test_half_a_run_does_not_go_on_with_another_reference(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    data = logprobs(prefs, model=model, name="ref")
    settings = {"model": model, **FAST, "save_strategy": "steps", "save_steps": 1, "keep_checkpoints": True}
    train(data, output=tmp_path, **settings)
    (tmp_path / "training.json").unlink()
    with pytest.raises(InputError, match="other reference log-probabilities"):
        train(moved(data, 0.1), output=tmp_path, **settings)
    train(moved(data, 1e-5), output=tmp_path, **settings)


def test_a_reference_with_other_tokens_or_fewer_positions_is_refused(
    model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    short = tiny.model(tmp_path / "short", positions=64)
    with pytest.raises(InputError, match="has 64 positions; set max_length to 64"):
        train(prefs, model=model, reference_model=short, output=tmp_path / "run", **FAST)
    network = tiny.network("llama", 400)
    network.save_pretrained(tmp_path / "wide")
    with pytest.raises(InputError, match="must share a tokenizer"):
        train(prefs, model=model, reference_model=tmp_path / "wide", output=tmp_path / "run", **FAST)


def test_a_tokenizer_of_more_tokens_than_the_model_has_is_refused_before_training(
    model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    tiny.network("llama", 90).save_pretrained(tmp_path / "few")
    with pytest.raises(InputError, match=r"few has 90 tokens, .*another model's tokenizer"):
        prepare(prefs, resolve(model=tmp_path / "few", tokenizer=model))


PLAIN: dict[str, Any] = {"max_steps": 4, "learning_rate": 1e-3, "per_device_train_batch_size": 4, "logging_steps": 1}


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize("lora", [None, {"r": 4}], ids=["whole", "lora"])
@pytest.mark.parametrize("reference", ["store", "frozen"])
@pytest.mark.parametrize(
    ("way", "close"),
    [
        ({"gradient_checkpointing": True}, 1e-5),
        ({"bf16": True, "use_cpu": True}, 0.05),
        ({"bf16": True, "use_cpu": True, "dtype": "bfloat16"}, 0.08),
    ],
    ids=["recomputed", "autocast", "half"],
)
def test_saving_memory_changes_no_number_beyond_its_precision(
    way: dict[str, Any], close: float, reference: str, lora: Any, model: Path, tmp_path: Path
) -> None:
    data = tiny.preferences(16)
    found = []
    for name, settings in (("plain", {}), ("other", way)):
        run = train(data, model=model, output=tmp_path / name, lora=lora, reference=reference, **PLAIN, **settings)
        found.append([json.loads(line) for line in run.metrics.read_text().splitlines()])
    for one, two in zip(*found, strict=True):
        for measure in ("loss", "grad_norm", "logps/chosen", "logps/rejected"):
            assert two[measure] == pytest.approx(one[measure], rel=close, abs=close), (one["step"], measure)
    assert found[1][0]["loss"] == pytest.approx(0.6931472, abs=1e-5 if close < 1e-3 else 0.02)
