"""Tokenizers without a chat template, without EOS, and places where there is none."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import readers
import tiny
from pairwright.chat import assistant, render_prompt, supports_system, system, user
from pairwright.errors import InputError
from pairwright.generate import generate
from pairwright.goals import GoalFormat
from pairwright.logprobs import Limits, logprobs, tokenise
from pairwright.logprobs.columns import placement_for
from pairwright.preferences import Preferences
from pairwright.reader import check_place, is_plain, open_reader, plain_template, with_template
from pairwright.train import train

WIDE = Limits(400, 300)
TALK = [system("Be brief."), user("How many?"), assistant("Two."), user("And now?")]
WRITTEN = "System:\nBe brief.\n\nUser:\nHow many?\n\nAssistant:\nTwo.</s>\n\nUser:\nAnd now?\n\nAssistant:\n"
QUIET = {"num_train_epochs": 1.0, "per_device_train_batch_size": 2, "logging_steps": 1, "use_cpu": True}


def bare(reader: Any, *, adds: str = "$A") -> Any:
    """The tokenizer without its template; `adds` is what it puts around a text by default."""
    import tokenizers as t

    reader.chat_template = None
    names = ("<s>", "</s>", "<unk>")
    reader.backend_tokenizer.post_processor = t.processors.TemplateProcessing(
        single=adds, special_tokens=[(name, reader.convert_tokens_to_ids(name)) for name in names]
    )
    return reader


def base_model(folder: Path, **settings: Any) -> Path:
    """A model directory as of a base model: its tokenizer adds BOS and has no chat template."""
    reader = bare(readers.byte_level(), adds="<s> $A")
    for name, value in settings.items():
        setattr(reader, name, value)
    network = tiny.network("llama", len(reader))
    network.config.eos_token_id = network.generation_config.eos_token_id = reader.convert_tokens_to_ids("</s>")
    network.save_pretrained(folder)
    reader.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("adds", "before"), [("$A", ""), ("<s> $A", "<s>"), ("<s> $A </s>", "<s>"), ("<unk> $A", "<unk>"), ("$A </s>", "")]
)
def test_the_plain_template_begins_as_the_tokenizer_does(adds: str, before: str) -> None:
    reader = with_template(bare(readers.byte_level(), adds=adds))
    assert render_prompt(reader, TALK) == before + WRITTEN
    found = tokenise(reader, TALK, [assistant("Three.")], limits=WIDE)
    by_default = reader(WRITTEN + "Three.")["input_ids"]
    without_end = by_default[:-1] if adds.endswith("</s>") else by_default
    assert found.prompt_ids + found.completion_ids == [*without_end, reader.eos_token_id]
    assert not found.rejoined


def test_the_tokenizer_that_was_given_stays_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    reader = bare(readers.byte_level())
    ready = with_template(reader, place="somewhere")
    assert capsys.readouterr().err.startswith("pairwright: somewhere: the tokenizer has no chat template of its own")
    assert reader.chat_template is None
    assert is_plain(ready)
    assert with_template(ready) is ready
    assert not is_plain(tiny.tokenizer())


@pytest.mark.parametrize("name", sorted(readers.MADE))
def test_an_answer_keeps_its_words_after_the_plain_template(name: str) -> None:
    reader = readers.MADE[name]()
    reader.chat_template = plain_template(reader)
    for answer in ("count the red words", "One, two!", "12 345", "def f(x):\n    return x"):
        found = tokenise(reader, [user("count")], [assistant(answer)], limits=WIDE)
        assert found.completion_ids.count(reader.eos_token_id) == 1
        assert found.completion_ids[-1] == reader.eos_token_id
        assert not found.rejoined
        if name.startswith(("byte-level", "Python")) and "token" not in name:
            # What is generated is written back as it is, and is then the same tokens.
            assert reader.decode(found.completion_ids[:-1]) == answer


def test_goals_go_into_a_system_message_of_the_plain_template() -> None:
    reader = with_template(bare(readers.byte_level()))
    assert supports_system(reader)
    assert placement_for(GoalFormat(placement="auto"), reader) == "system"


def test_a_tokenizer_in_python_without_a_template(tmp_path: Path) -> None:
    transformers.ByT5Tokenizer().save_pretrained(tmp_path)
    reader = open_reader(tmp_path)
    assert not reader.is_fast
    found = tokenise(reader, [user("é?")], [assistant("ja")], limits=WIDE)
    # ByT5: a byte's token is the byte and three, and EOS is 1.
    assert found.prompt_ids == [byte + 3 for byte in "User:\né?\n\nAssistant:\n".encode()]
    assert found.completion_ids == [ord("j") + 3, ord("a") + 3, 1]


def test_log_probabilities_of_a_base_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = base_model(tmp_path / "base")
    prefs = tiny.preferences([("ask", "yes it is", "no")])
    out = logprobs(prefs, model=model, name="base")
    assert f"{model}: the tokenizer has no chat template" in capsys.readouterr().err
    assert out.lineage[-1].notes[0].startswith("Messages are written with the plain template")
    reader = transformers.AutoTokenizer.from_pretrained(model)
    network = transformers.AutoModelForCausalLM.from_pretrained(model).eval()
    for text, logp in zip(("yes it is", "no"), out.responses.collect()["logp_base"], strict=True):
        # The tokenizer's own way with a plain text: BOS before it, nothing after it.
        head = reader("User:\nask\n\nAssistant:\n")["input_ids"]
        ids = [*reader("User:\nask\n\nAssistant:\n" + text)["input_ids"], reader.eos_token_id]
        assert ids[0] == reader.bos_token_id
        with torch.no_grad():
            values = torch.log_softmax(network(torch.tensor([ids])).logits[0].double(), -1)
        assert logp == pytest.approx(sum(float(values[t - 1, ids[t]]) for t in range(len(head), len(ids))), abs=1e-4)


def test_a_base_model_that_is_trained_takes_the_plain_template_along(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = base_model(tmp_path / "base")
    done = train(tiny.preferences(4), model=str(base), output=tmp_path / "run", max_length=200, **QUIET)
    card = (done.model / "README.md").read_text(encoding="utf-8")
    assert "- Messages are written with the plain template of pairwright" in card
    record = json.loads((done.directory / "training.json").read_text(encoding="utf-8"))
    assert any("plain template" in note for note in record["notes"])
    saved = transformers.AutoTokenizer.from_pretrained(done.model)
    text = saved.apply_chat_template([user("ask")], tokenize=False, add_generation_prompt=True)
    assert text == "<s>User:\nask\n\nAssistant:\n"
    capsys.readouterr()
    answers: Preferences = generate(done.model, tiny.preferences(2), max_new_tokens=3)
    assert answers.counts().responses == 2
    assert "has no chat template" not in capsys.readouterr().err


def test_the_end_of_an_answer_is_what_the_model_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = base_model(tmp_path / "base", eos_token=None)
    reader = open_reader(model)
    assert reader.eos_token == "</s>"
    assert "the one that the model names is taken, '</s>'" in capsys.readouterr().err


def test_without_any_end_an_answer_is_scored_and_not_trained_on(tmp_path: Path) -> None:
    model = base_model(tmp_path / "base", eos_token=None)
    for name in ("config.json", "generation_config.json"):
        said = json.loads((model / name).read_text(encoding="utf-8"))
        (model / name).write_text(json.dumps({**said, "eos_token_id": None}), encoding="utf-8")
    prefs = tiny.preferences([("ask", "yes it is", "no")])
    out = logprobs(prefs, model=model, name="base")
    reader = transformers.AutoTokenizer.from_pretrained(model)
    lengths = [len(reader(text, add_special_tokens=False)["input_ids"]) for text in ("yes it is", "no")]
    assert out.responses.collect()["len_base"].to_list() == lengths
    assert any("no EOS token" in note for note in out.lineage[-1].notes)
    with pytest.raises(InputError, match="could not learn to end an answer"):
        train(prefs, model=str(model), output=tmp_path / "run", max_length=100, **QUIET)


@pytest.mark.parametrize("name", ["./nothing", "/nothing", "~/nothing", "a/b/c", "a/", "here/nothing", "file"])
def test_what_can_only_be_a_directory_is_refused_at_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="there is no directory"):
        check_place("tokenizer", name)


def test_hub_names_and_directories_are_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("gpt2", "Qwen/Qwen3-0.6B", "owner/name.with-dots_1"):
        check_place("model", name)
    assert "no directory gpt2 here; it is looked for on the Hugging Face hub" in capsys.readouterr().err
    check_place("model", tmp_path)
    with pytest.raises(InputError, match="holds no tokenizer"):
        check_place("tokenizer", tmp_path)
