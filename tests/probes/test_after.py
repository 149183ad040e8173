import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from pairwright.errors import InputError
from pairwright.logprobs.models import open_tokenizer, quiet_peft
from pairwright.logprobs.tokenise import Limits
from pairwright.preferences import Preferences
from pairwright.probes import probe_run
from pairwright.probes.held import held_out
from pairwright.probes.reading import Held, encode
from pairwright.probes.store import load_probes, write_about
from pairwright.relabel import relabel
from pairwright.train import train


def data() -> Preferences:
    made = tiny.preferences(14)
    pairs = made.pairs.collect().with_columns(split=pl.Series(["train"] * 9 + ["test"] * 5))
    return relabel(Preferences.of(made.prompts, made.responses, pairs), "ra")


SETTINGS: dict[str, Any] = {
    "max_steps": 4,
    "learning_rate": 1e-3,
    "save_steps": 2,
    "save_total_limit": 9,
    "keep_checkpoints": True,
    "per_device_train_batch_size": 4,
    "beta": 0.2,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a whole training of it, an adapter on it, and an adapter on that."""
    place = tmp_path_factory.mktemp("after")
    tiny.model(place / "start", positions=600)
    train(data(), model=place / "start", output=place / "whole", **SETTINGS)
    train(data(), model=place / "start", output=place / "adapted", lora=True, **SETTINGS)
    train(data(), model=place / "adapted" / "adapter", output=place / "again", lora=True, **SETTINGS)
    train(data(), model=place / "adapted" / "adapter", output=place / "further", **SETTINGS)
    return place


@pytest.fixture
def whole(place: Path, tmp_path: Path) -> Path:
    """A copy of the whole training, to work on."""
    shutil.copytree(place / "whole", tmp_path / "whole")
    return tmp_path / "whole"


def expected(model: Any, held: Held) -> list[float]:
    """Log-probabilities by a plain loop over full logits."""
    found = []
    for owner, answer in zip(held.owner, held.answers, strict=True):
        prompt = list(held.prompts[owner])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + list(answer)])).logits[0].double().log_softmax(-1)
        found.append(float(logits[len(prompt) - 1 : -1].gather(1, torch.tensor(answer)[:, None]).sum()))
    return found


def held_of(place: Path) -> Held:
    prefs = data()
    limits = Limits(**json.loads((place / "whole" / "training.json").read_text())["limits"])
    return encode(held_out(prefs)[0], open_tokenizer(place / "start"), goal=prefs.goal_format, limits=limits)


def test_start_checkpoints_and_end_are_probed(place: Path, whole: Path) -> None:
    found = probe_run(whole, data())
    assert found.steps == (0, 2, 4)
    held = held_of(place)
    folders = {0: place / "start", 2: whole / "checkpoints" / "checkpoint-2", 4: whole / "model"}
    numbers = {step: expected(AutoModelForCausalLM.from_pretrained(each), held) for step, each in folders.items()}
    for step in folders:
        rows = found.rows.filter(step=step)
        assert rows["logp"].to_list() == pytest.approx(numbers[step], abs=1e-4)
        assert rows["start_logp"].to_list() == pytest.approx(numbers[0], abs=1e-4)
    assert max(abs(a - b) for a, b in zip(numbers[0], numbers[4], strict=True)) > 0.1
    about = found.about
    assert (about.pairs, about.split, about.beta, about.loss, about.every) == (5, "test", 0.2, "dpo", None)
    assert about.start == str(place / "start")
    assert about.goal is not None
    assert set(found.rows["asked"]) == {"none", "top", "own"}
    ratio = found.rows.filter(step=4).select("pair", "side", "asked", ratio=pl.col("logp") - pl.col("start_logp"))
    both = found.credit.with_columns(pl.col("credit").list.sum()).join(ratio, on=["pair", "side", "asked"])
    assert both["credit"].to_list() == pytest.approx(both["ratio"].to_list(), abs=1e-3)
    assert len(both) == 30


@pytest.mark.parametrize(("name", "below"), [("adapted", ()), ("again", ("adapted/adapter",)), ("further", ())])
def test_a_checkpoint_that_is_an_adapter_is_read_on_what_it_was_put_on(
    name: str, below: tuple[str, ...], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """peft itself opens the model here: its base, adapters below merged in, the checkpoint's on top."""
    from peft import PeftModel

    monkeypatch.chdir(tmp_path)
    found = probe_run(place / name, data())
    with quiet_peft():
        network: Any = AutoModelForCausalLM.from_pretrained(place / "start")
        for each in below:
            network = PeftModel.from_pretrained(network, str(place / each)).merge_and_unload()
        network = PeftModel.from_pretrained(network, str(place / name / "checkpoints" / "checkpoint-2")).eval()
    held = held_of(place)
    assert found.steps == (0, 2, 4)
    numbers = expected(network, held)
    assert found.rows.filter(step=2)["logp"].to_list() == pytest.approx(numbers, abs=1e-3)
    start = found.rows.filter(step=0)["logp"].to_list()
    assert max(abs(a - b) for a, b in zip(start, numbers, strict=True)) > 0.02


def test_what_is_done_is_not_done_again(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = probe_run(whole, data())
    files = {path: path.stat().st_mtime_ns for path in (whole / "probes").rglob("*.parquet")}
    capsys.readouterr()
    again = probe_run(whole, data())
    assert again.rows.equals(first.rows)
    assert capsys.readouterr().err == ""
    assert {path: path.stat().st_mtime_ns for path in (whole / "probes").rglob("*.parquet")} == files
    (whole / "probes" / "000002.parquet").unlink()
    assert probe_run(whole, data()).rows.equals(first.rows)
    assert capsys.readouterr().err == "probes: whole, step 2 (2 of 3)\n"


def test_other_pairs_replace_those_of_an_earlier_call(whole: Path) -> None:
    assert probe_run(whole, data(), pairs=5, checkpoints=False).steps == (0, 4)
    found = probe_run(whole, data(), pairs=3, checkpoints=False)
    assert found.about.pairs == 3
    assert found.rows["pair"].n_unique() == 3
    assert Preferences.load(whole / "probes" / "data").counts().pairs == 3


def test_samples_are_drawn_scored_and_added_to_probes_that_are_there(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_scorer.py").write_text(
        "from pairwright.scorers.sample import Score\n"
        "def words(samples, *, each: float = 1.0):\n"
        "    texts = [''.join(m['content'] for m in s.response) for s in samples]\n"
        "    assert not any('score' in m['content'] for s in samples for m in s.prompt)\n"
        "    return [Score(each * len(text)) for text in texts]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = probe_run(whole, data(), checkpoints=False)
    assert before.samples.is_empty()
    asked: dict[str, Any] = {"samples": 2, "max_new_tokens": 5, "checkpoints": False}
    found = probe_run(whole, data(), scorer={"with": "my_scorer:words", "each": 2.0}, **asked)
    assert found.rows.equals(before.rows)
    assert len(found.samples) == 2 * 5 * 2 * 2  # steps, prompts, asked, samples
    assert found.samples["score"].to_list() == [2.0 * len(text) for text in found.samples["text"]]
    assert found.samples.filter(step=0)["kl"].to_list() == [0.0] * 20
    assert found.samples.filter(step=4)["kl"].min() > 0  # type: ignore[operator]
    assert found.about.samples["max_new_tokens"] == 5
    assert found.about.samples["scorer"] == {"with": "my_scorer:words", "each": 2.0}
    other = probe_run(whole, data(), **asked | {"max_new_tokens": 3})
    assert other.rows.equals(before.rows)
    assert other.samples["length"].max() == 3
    assert other.samples["score"].null_count() == 40


def test_a_training_that_was_probed_while_it_went_on_keeps_its_pairs(whole: Path) -> None:
    """Its file says `every`; more steps are added, with the pairs that lie there."""
    first = probe_run(whole, data(), pairs=3)
    write_about(whole, first.about.model_copy(update={"every": 2}))
    (whole / "probes" / "000002.parquet").unlink()
    found = probe_run(whole, data(), pairs=5, seed=9, samples=1, max_new_tokens=3)
    assert found.about.every == 2
    assert found.rows.equals(first.rows)
    assert found.samples["prompt_id"].n_unique() == 3


def test_a_training_of_anew_is_probed_anew(whole: Path) -> None:
    probe_run(whole, data(), checkpoints=False)
    record = json.loads((whole / "training.json").read_text())
    (whole / "training.json").write_text(json.dumps(record | {"run": "another"}))
    probe_run(whole, data(), checkpoints=False, credit_pairs=0)
    loaded = load_probes(whole)
    assert loaded is not None
    assert loaded.about.run == "another"
    assert loaded.credit.is_empty()


def test_half_written_checkpoints_and_parts_of_weights_are_left_out(whole: Path) -> None:
    (whole / "checkpoints" / "checkpoint-2" / "pairwright.json").unlink()
    shutil.copytree(whole / "checkpoints" / "checkpoint-4", whole / "checkpoints" / "checkpoint-3")
    (whole / "checkpoints" / "checkpoint-3" / "model.safetensors").unlink()
    found = probe_run(whole, data())
    assert found.steps == (0, 4)
    assert "steps 3 hold no whole model" in found.about.notes[-1]


def test_a_start_that_moved_can_be_named(whole: Path, place: Path, tmp_path: Path) -> None:
    record = json.loads((whole / "training.json").read_text())
    record["config"]["model"] = str(tmp_path / "gone")
    (whole / "training.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="gone"):
        probe_run(whole, data())
    assert probe_run(whole, data(), start=place / "start", checkpoints=False).about.start == str(place / "start")


def test_a_directory_without_a_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no training\.json, so no training of pairwright ended there"):
        probe_run(tmp_path, data())
    (tmp_path / "training.json").write_text("{}")
    with pytest.raises(InputError, match="does not say how the training was set"):
        probe_run(tmp_path, data())
    (tmp_path / "training.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        probe_run(tmp_path, data())


def test_a_folder_of_that_name_that_is_none_of_ours_is_left_alone(whole: Path) -> None:
    (whole / "probes").mkdir()
    (whole / "probes" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no probes"):
        probe_run(whole, data())
    assert (whole / "probes" / "notes.txt").read_text() == "mine"
