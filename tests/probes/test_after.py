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
def counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A scorer that counts the characters of an answer."""
    (tmp_path / "counting.py").write_text(
        "from pairwright.scorers.sample import Score\n"
        "def characters(samples, *, each: float = 1.0):\n"
        "    return [Score(each * len(s.response[0]['content'])) for s in samples]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "counting:characters"


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


def test_a_file_that_cannot_be_read_counts_as_not_there(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = probe_run(whole, data(), samples=1, max_new_tokens=3)
    folder = whole / "probes"
    shutil.copy(folder / "000002.parquet", folder / "000003.parquet")
    for name in ("000000.parquet", "000002-samples.parquet", "000003.parquet", "credit.parquet"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-9])
    with pytest.raises(InputError, match=r"is damaged; probe the training again .`pairwright diagnose .* --data IN`"):
        load_probes(whole)
    capsys.readouterr()
    found = probe_run(whole, data(), samples=1, max_new_tokens=3)
    assert found.steps == (0, 2, 4)
    assert found.rows.equals(first.rows)
    assert found.samples.equals(first.samples)
    assert found.credit.equals(first.credit)
    said = capsys.readouterr().err
    assert "000003.parquet was damaged, and no model of step 3 is kept: left out" in said
    assert "step 0 (1 of 3)" in said
    assert "step 4" not in said


@pytest.mark.parametrize("every", [None, 2])
def test_a_record_that_cannot_be_read_counts_as_none(every: int | None, whole: Path) -> None:
    first = probe_run(whole, data(), checkpoints=False)
    write_about(whole, first.about.model_copy(update={"every": every}))
    (whole / "probes/probes.json").write_text('{"pairs"')
    found = probe_run(whole, data(), checkpoints=False)
    assert found.rows.equals(first.rows)
    assert found.about == first.about


def test_pairs_of_a_live_probing_that_are_gone_count_as_none(whole: Path) -> None:
    first = probe_run(whole, data(), checkpoints=False)
    write_about(whole, first.about.model_copy(update={"every": 2}))
    shutil.rmtree(whole / "probes/data")
    assert probe_run(whole, data(), checkpoints=False).rows.equals(first.rows)


def test_a_call_that_was_killed_at_its_beginning_is_made_again(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Preferences, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            probe_run(whole, data(), checkpoints=False)
    assert probe_run(whole, data(), checkpoints=False).steps == (0, 4)


def test_a_call_with_nothing_to_do_opens_no_model(whole: Path, counting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {"samples": 1, "max_new_tokens": 3, "scorer": counting}
    first = probe_run(whole, data(), **asked)
    monkeypatch.setattr("pairwright.probes.after.open_model", lambda *_, **__: pytest.fail("a model was opened"))
    for scorer in (counting, None):
        again = probe_run(whole, data(), **asked | {"scorer": scorer})
        assert again.samples.equals(first.samples)
        assert again.about == first.about


def test_samples_that_lie_there_are_scored_and_not_drawn_again(
    whole: Path, counting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Characters of each answer, counted here; then twice as many under another scorer."""
    folder = whole / "probes"
    asked: dict[str, Any] = {"samples": 1, "max_new_tokens": 6, "checkpoints": False}
    drawn = probe_run(whole, data(), **asked).samples
    assert drawn["score"].null_count() == len(drawn) == 20
    monkeypatch.setattr("pairwright.probes.after.read_samples", lambda *_, **__: pytest.fail("drawn again"))
    once = probe_run(whole, data(), **asked, scorer=counting)
    expected = [float(len(text)) for text in drawn["text"]]
    assert once.samples["score"].to_list() == expected
    assert once.samples.drop("score").equals(drawn.drop("score"))
    assert once.about.samples["scorer"] == counting
    # One file lost its scores, as a call leaves them that was killed before it scored.
    path = folder / "000004-samples.parquet"
    pl.read_parquet(path).with_columns(score=pl.lit(None, pl.Float64)).write_parquet(path)
    assert probe_run(whole, data(), checkpoints=False).samples["score"].null_count() == 10
    assert probe_run(whole, data(), checkpoints=False, scorer=counting).samples.equals(once.samples)
    twice = probe_run(whole, data(), **asked, scorer={"with": counting, "each": 2.0})
    assert twice.samples["score"].to_list() == [2.0 * number for number in expected]
    assert twice.about.samples["scorer"] == {"with": counting, "each": 2.0}


@pytest.mark.parametrize(("loss", "beta", "expected"), [("dpo", 0.2, 0.2), ("simpo", 2.0, None)])
def test_the_beta_of_a_probe_is_one_of_log_ratios(loss: str, beta: float, expected: float | None, whole: Path) -> None:
    record = json.loads((whole / "training.json").read_text())
    record["config"] |= {"loss": loss, "loss_settings": {"beta": beta}}
    (whole / "training.json").write_text(json.dumps(record))
    assert probe_run(whole, data(), checkpoints=False, credit_pairs=0).about.beta == expected
