"""Scores of reward models against a plain loop: one conversation after the other, without padding or mask."""

import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import classifiers
import tiny
from pairwright.chat import assistant, system, user
from pairwright.cli import main
from pairwright.errors import InputError, MissingExtra
from pairwright.preferences import Preferences
from pairwright.scorers import score
from pairwright.scorers.classifier import batches

SCORER = "reward_model"
ATTRIBUTES = ["helpful", "correct", "coherent", "complex", "verbose"]


def scored(prefs: Preferences, place: Path, **settings: Any) -> pl.DataFrame:
    return score(prefs, SCORER, model=place, **settings).responses.collect()


def conversations(prefs: Preferences) -> list[list[Any]]:
    frame = prefs.responses.join(prefs.prompts, on="prompt_id", how="left", maintain_order="left").collect()
    return [[*prompt, *answer] for prompt, answer in frame.select("prompt", "response").iter_rows()]


def loop(prefs: Preferences, place: Path, **settings: Any) -> list[list[float]]:
    """The logits of each answer, [answers][heads], by transformers alone."""
    from transformers import AutoTokenizer

    reader = AutoTokenizer.from_pretrained(place)
    texts = [reader.apply_chat_template(each, return_dict=False) for each in conversations(prefs)]
    assert len({len(text) for text in texts}) > 2  # or padding would not be tried
    return classifiers.one_by_one(place, texts, **settings)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "bert"])
@pytest.mark.parametrize("batch_tokens", [1, 150, 100_000])
def test_one_head_is_what_a_plain_loop_says(kind: classifiers.Kind, batch_tokens: int, tmp_path: Path) -> None:
    place, prefs = classifiers.model(tmp_path / "rm", kind=kind), tiny.preferences(12)
    expected = [row[0] for row in loop(prefs, place)]
    result = score(prefs, SCORER, model=place, batch_tokens=batch_tokens)
    found = result.responses.collect()["score"]
    assert found.to_list() == pytest.approx(expected, abs=1e-5)
    assert len({round(value, 3) for value in expected}) > 12
    step = result.lineage[-1]
    assert step.settings["unscored"] == {}
    assert step.settings["model"] == place
    assert "The 24 numbers that were in score are replaced." in step.notes


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_five_heads_become_five_columns(kind: classifiers.Kind, tmp_path: Path) -> None:
    place, prefs = classifiers.model(tmp_path / "rm", kind=kind, heads=5), tiny.preferences(8)
    expected = loop(prefs, place)
    frame = scored(prefs, place, heads=ATTRIBUTES, batch_tokens=200)
    for at, name in enumerate(ATTRIBUTES):
        assert frame[f"score_{name}"].to_list() == pytest.approx([row[at] for row in expected], abs=1e-5)
    assert frame["score"].to_list() == [8.0, 3.0] * 8  # there is no overall score, so what was there stays
    some = scored(prefs, place, heads={"verbose": 4, "helpful": 0}, into="score_rm")
    assert set(some.columns) - set(prefs.responses.collect_schema()) == {"score_rm_verbose", "score_rm_helpful"}
    assert some["score_rm_verbose"].to_list() == pytest.approx([row[4] for row in expected], abs=1e-5)


def test_names_of_heads_may_stand_in_the_configuration(tmp_path: Path) -> None:
    place = classifiers.model(tmp_path / "rm", id2label={0: "kind", 1: "true"}, heads=2)
    frame = scored(tiny.preferences(6), place)
    expected = loop(tiny.preferences(6), place)
    assert frame["score_true"].to_list() == pytest.approx([row[1] for row in expected], abs=1e-5)


def test_neither_the_order_of_the_rows_nor_the_padding_side_changes_a_bit(tmp_path: Path) -> None:
    prefs = tiny.preferences(12)
    right = classifiers.model(tmp_path / "right", kind="gpt2")
    left = classifiers.model(tmp_path / "left", kind="gpt2", side="left")
    first = scored(prefs, right, batch_tokens=300)["score"].to_list()
    assert scored(prefs, left, batch_tokens=300)["score"].to_list() == first
    order = list(range(24))
    random.Random(3).shuffle(order)
    mixed = Preferences.of(prefs.prompts, prefs.responses.collect()[order])
    assert scored(mixed, right, batch_tokens=300)["score"].to_list() == [first[i] for i in order]


def test_equal_answers_have_equal_scores(tmp_path: Path) -> None:
    place = classifiers.model(tmp_path / "rm")
    prefs = tiny.preferences([("ask", "same words", "same words"), ("ask", "other", "same words")])
    first, second, third, fourth = scored(prefs, place, batch_tokens=40)["score"].to_list()
    assert first == second == fourth != third


def test_low_precision_is_near(tmp_path: Path) -> None:
    place, prefs = classifiers.model(tmp_path / "rm"), tiny.preferences(8)
    exact = [row[0] for row in loop(prefs, place)]
    found = scored(prefs, place, dtype="bfloat16")["score"].to_list()
    assert found == pytest.approx(exact, abs=0.2)
    assert found != pytest.approx(exact, abs=1e-4)


def test_answers_that_cannot_be_scored_are_null_and_counted(tmp_path: Path) -> None:
    place = classifiers.model(tmp_path / "rm", template=tiny.WITHOUT_SYSTEM, positions=60)
    prefs = tiny.preferences([("ask", "fine", " "), ("ask b", "x" * 80, "y" * 20), ("ask c", "good", "bad")])
    extra = pl.DataFrame(
        {
            "prompt_id": ["nowhere", "with system", "ours"],
            "response": [[assistant("lost")], [assistant("a b")], None],
        },
        schema=prefs.responses.select("prompt_id", "response").collect_schema(),
    )
    prompts = pl.concat(
        [
            prefs.prompts.collect(),
            pl.DataFrame({"prompt_id": ["with system"], "prompt": [[system("be"), user("ask")]]}),
        ]
    )
    answers = pl.concat([prefs.responses.collect().drop("response_id"), extra], how="diagonal")
    result = score(Preferences.of(prompts, answers), SCORER, model=place)
    values = result.responses.collect()["score"]
    assert values.is_null().to_list() == [False, True, True, False, False, False, True, True, True]
    assert result.lineage[-1].settings["unscored"] == {
        "empty": 1,
        "too_long": 1,
        "missing_prompt": 1,
        "template_refused": 1,
        "missing_answer": 1,
    }


def test_max_length_is_of_the_whole_conversation(tmp_path: Path) -> None:
    place = classifiers.model(tmp_path / "rm")
    prefs = tiny.preferences([("ask", "yes", "no")])
    # <begin> <user> a s k <end> <assistant> y e s <end>: 11 tokens; the other answer has one fewer.
    assert scored(prefs, place, max_length=11)["score"].null_count() == 0
    assert scored(prefs, place, max_length=10)["score"].is_null().to_list() == [True, False]
    assert scored(prefs, place, max_length=9)["score"].null_count() == 2


def test_several_messages_of_an_answer_are_scored_as_a_whole(tmp_path: Path) -> None:
    place, prefs = classifiers.model(tmp_path / "rm"), tiny.preferences(6)
    frame = prefs.responses.collect()
    turns = [assistant("first"), user("more"), assistant("second")]
    new = pl.Series("response", [turns, *frame["response"].to_list()[1:]], dtype=frame["response"].dtype)
    data = Preferences.of(prefs.prompts, frame.with_columns(new))
    expected = [row[0] for row in loop(data, place)]
    assert scored(data, place)["score"].to_list() == pytest.approx(expected, abs=1e-5)


def test_a_template_in_a_file_takes_the_place_of_the_tokenizers(tmp_path: Path) -> None:
    bare = classifiers.model(tmp_path / "bare", template=None)
    own = classifiers.model(tmp_path / "own")
    file = tmp_path / "chat.jinja"
    file.write_text(tiny.WITH_SYSTEM)
    prefs = tiny.preferences(4)
    expected = scored(prefs, own)["score"].to_list()
    assert scored(prefs, bare, chat_template=file)["score"].to_list() == expected
    file.write_text(tiny.WITH_SYSTEM.replace("<|begin|>", "").replace("{{ bos_token }}", ""))
    assert scored(prefs, own, chat_template=file)["score"].to_list() != pytest.approx(expected, abs=1e-3)


def changed(folder: Path, **settings: Any) -> Path:
    """A classifier's directory, its tokenizer changed."""
    from transformers import AutoTokenizer

    place = classifiers.model(folder, **{k: v for k, v in settings.items() if k == "pad_token_id"})
    reader = AutoTokenizer.from_pretrained(place)
    for name, value in settings.items():
        if name != "pad_token_id":
            setattr(reader, name, value)
    reader.save_pretrained(place)
    return place


def test_a_missing_pad_token_is_refused_with_the_remedy(tmp_path: Path) -> None:
    place = changed(tmp_path / "rm", pad_token=None)
    with pytest.raises(InputError, match=r"has no pad token.* set tokenizer.pad_token and model.config.pad_token_id"):
        scored(tiny.preferences(2), place)


def test_the_models_own_pad_token_is_the_one_that_counts(tmp_path: Path) -> None:
    # The tokenizer would pad with its EOS, which the model takes for a token like all others.
    place = changed(tmp_path / "rm", pad_token="<|end|>")
    prefs = tiny.preferences(8)
    expected = [row[0] for row in loop(prefs, place)]
    assert scored(prefs, place)["score"].to_list() == pytest.approx(expected, abs=1e-5)
    # A model whose pad token is EOS reads its number before the EOS of the answer, here as in a plain loop.
    place = changed(tmp_path / "eos", pad_token="<|end|>", pad_token_id=2)
    expected = [row[0] for row in loop(prefs, place)]
    assert scored(prefs, place)["score"].to_list() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("far", [326, 10_000])
def test_a_pad_token_outside_of_the_embeddings_is_refused(far: int, tmp_path: Path) -> None:
    place = classifiers.model(tmp_path / "rm")
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"pad_token_id": far}))
    says = (
        rf"embeddings for tokens 0 to 325, and the pad token of its configuration is {far:,}; set tokenizer.pad_token"
    )
    with pytest.raises(InputError, match=says):
        scored(tiny.preferences(2), place)


def test_a_pad_token_that_was_added_to_the_tokenizer_alone_is_refused(tmp_path: Path) -> None:
    place = changed(tmp_path / "rm", pad_token="<|new|>", pad_token_id=None)
    with pytest.raises(
        InputError, match=r"the pad token of the tokenizer of .* is 326; .* resize the model's embeddings"
    ):
        scored(tiny.preferences(2), place)


def test_a_negative_pad_token_is_none(tmp_path: Path) -> None:
    prefs, place = tiny.preferences(6), classifiers.model(tmp_path / "rm", pad_token_id=None)
    expected = scored(prefs, place)["score"].to_list()
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"pad_token_id": -1}))
    assert scored(prefs, place)["score"].to_list() == expected


def test_a_model_without_a_pad_token_takes_the_tokenizers_where_no_text_ends_in_it(tmp_path: Path) -> None:
    place = classifiers.model(tmp_path / "rm", pad_token_id=None)
    prefs = tiny.preferences(8)
    expected = [row[0] for row in loop(prefs, place)]
    assert scored(prefs, place)["score"].to_list() == pytest.approx(expected, abs=1e-5)
    place = changed(tmp_path / "eos", pad_token="<|end|>", pad_token_id=None)
    with pytest.raises(InputError, match=r"names no pad token, and the tokenizer's \('<\|end\|>'\) ends texts too"):
        scored(prefs, place)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (None, "has no chat template.* by chat_template, or set tokenizer.chat_template"),
        ("{{ raise_exception('no') }}", "refuses a conversation of roles .*chat_template"),
        ("{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}", "not show"),
    ],
)
def test_a_wrong_template_is_refused_with_the_remedy(template: str | None, says: str, tmp_path: Path) -> None:
    place = classifiers.model(tmp_path / "rm", template=template)
    with pytest.raises(InputError, match=says):
        scored(tiny.preferences(2), place)


def test_a_template_that_refuses_every_row_is_refused(tmp_path: Path) -> None:
    place = classifiers.model(tmp_path / "rm", template=tiny.WITHOUT_SYSTEM)
    prompts = pl.DataFrame({"prompt_id": ["a"], "prompt": [[system("be"), user("ask")]]})
    prefs = Preferences.of(prompts, pl.DataFrame({"prompt_id": ["a"], "response": [[assistant("yes")]]}))
    with pytest.raises(InputError, match="it refuses every answer, so name a file with another template"):
        scored(prefs, place)


def test_a_head_of_random_numbers_is_refused(tmp_path: Path) -> None:
    place = tiny.model(tmp_path / "causal")
    config = json.loads((place / "config.json").read_text()) | {"id2label": {"0": "LABEL_0"}}
    (place / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"no weights for score.weight of LlamaForSequenceClassification, so its"):
        scored(tiny.preferences(2), place)


def test_bad_requests_are_sentences(tmp_path: Path) -> None:
    one, five = classifiers.model(tmp_path / "one"), classifiers.model(tmp_path / "five", heads=5)
    adapter = classifiers.model(tmp_path / "adapter")
    (adapter / "adapter_config.json").write_text("{}")
    small = classifiers.model(tmp_path / "small", vocab_size=200)
    cases: list[tuple[Path | str, dict[str, Any], str]] = [
        ("nowhere/at/all", {}, "there is no directory nowhere/at/all with a model"),
        (adapter, {}, "is an adapter; merge it"),
        (one, {"heads": ["a"]}, "one number and no heads to name"),
        (five, {}, "has 5 heads without names; name them"),
        (five, {"heads": ["a", "b"]}, r"has 5 heads, and 2 names were given \(a, b\)"),
        (five, {"heads": ["a", "a", "b", "c", "d"]}, "names that differ"),
        (five, {"heads": {"a": 5}}, "heads 0 to 4, and heads asks for a: 5"),
        (five, {"heads": {}}, "names that differ"),
        (one, {"field": "rewards"}, "has no field 'rewards'; there are logits"),
        (five, {"heads_field": "logits"}, "the field of .* for the overall score has 5 numbers"),
        (one, {"max_length": 257}, "more than the 256 positions"),
        (one, {"max_length": 0}, "above 0"),
        (one, {"batch_tokens": 0}, "greater than 0"),
        (one, {"chat_template": tmp_path / "no.jinja"}, "there is no file .*no.jinja"),
        (small, {}, "has 200 tokens, and the texts have a token of number"),
    ]
    for place, settings, says in cases:
        with pytest.raises(InputError, match=says):
            score(tiny.preferences(2), SCORER, model=place, **settings)


def test_data_without_a_scorable_answer_open_no_model(tmp_path: Path) -> None:
    place = classifiers.model(tmp_path / "rm")
    (place / "model.safetensors").unlink()
    result = score(tiny.preferences([("ask", "", " ")]), SCORER, model=place)
    assert result.responses.collect()["score"].to_list() == [None, None]
    assert result.lineage[-1].settings["unscored"] == {"empty": 2}


CODE = """
from dataclasses import dataclass
import torch
from transformers import LlamaModel, LlamaPreTrainedModel
from transformers.utils import ModelOutput

@dataclass
class Judged(ModelOutput):
    rewards: torch.FloatTensor = None
    score: torch.FloatTensor = None
    logits: torch.FloatTensor = None

class Gated(LlamaPreTrainedModel):
    base_model_prefix = "model"
    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.parts = torch.nn.Linear(config.hidden_size, 3)
        self.gate = torch.nn.Linear(config.hidden_size, 3)
        self.post_init()
    def last(self, hidden, input_ids):
        ends = (input_ids != self.config.pad_token_id).sum(-1) - 1
        return hidden[torch.arange(len(hidden)), ends]
    def forward(self, input_ids, attention_mask=None):
        hidden = self.model(input_ids, attention_mask=attention_mask).last_hidden_state
        last = self.last(hidden, input_ids)
        rewards = self.parts(last)
        score = (self.gate(last).softmax(-1) * rewards).sum(-1)
        return Judged(rewards=rewards, score=score, logits=score)

class Careless(Gated):
    def last(self, hidden, input_ids):
        return hidden[:, -1]
"""


@pytest.fixture
def gated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with its own Python code, whose output has an overall number and its three parts."""
    import torch
    from transformers import dynamic_module_utils

    cache = tmp_path / "modules"
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(cache))
    monkeypatch.syspath_prepend(str(cache))
    place = classifiers.model(tmp_path / "gated")
    (place / "modeling_gated.py").write_text(CODE)
    names: dict[str, Any] = {}
    exec(CODE, names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        network = names["Gated"](classifiers.network("llama").config)
    network.save_pretrained(place)
    asks_for(place, "Gated")
    return place


def asks_for(place: Path, name: str) -> None:
    config = json.loads((place / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": f"modeling_gated.{name}"}
    (place / "config.json").write_text(json.dumps(config))


def test_a_gated_model_gives_its_overall_score_and_its_parts(gated: Path) -> None:
    prefs = tiny.preferences(8)
    settings = {"trust_remote_code": True, "batch_tokens": 200}
    expected = [value for (value,) in loop_of_scores(prefs, gated, "score")]
    parts = loop_of_scores(prefs, gated, "rewards")
    frame = scored(prefs, gated, field="score", heads_field="rewards", heads=["a", "b", "c"], **settings)
    assert frame["score"].to_list() == pytest.approx(expected, abs=1e-5)
    for at, name in enumerate("abc"):
        assert frame[f"score_{name}"].to_list() == pytest.approx([row[at] for row in parts], abs=1e-5)
    alone = scored(prefs, gated, field="rewards", heads={"b": 1}, **settings)
    assert alone["score_b"].to_list() == frame["score_b"].to_list()
    assert alone["score"].to_list() == [8.0, 3.0] * 8
    assert scored(prefs, gated, field="score", **settings)["score"].to_list() == frame["score"].to_list()


def loop_of_scores(prefs: Preferences, place: Path, field: str) -> list[list[float]]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    reader = AutoTokenizer.from_pretrained(place)
    network = AutoModelForSequenceClassification.from_pretrained(place, trust_remote_code=True).eval()
    found = []
    for each in conversations(prefs):
        with torch.no_grad():
            ids = torch.tensor([reader.apply_chat_template(each, return_dict=False)])
            found.append(getattr(network(ids), field).reshape(-1).tolist())
    return found


def test_code_beside_a_model_runs_only_when_it_is_trusted(gated: Path) -> None:
    with pytest.raises(InputError, match=r"no weights for score.weight.* set trust_remote_code"):
        scored(tiny.preferences(2), gated, field="score")


def test_heads_without_names_of_a_model_with_code_say_that_the_code_may_name_them(gated: Path) -> None:
    config = json.loads((gated / "config.json").read_text())
    names = {str(i): f"LABEL_{i}" for i in range(3)}
    config |= {"id2label": names, "label2id": {name: int(i) for i, name in names.items()}}
    (gated / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        InputError, match=r"has 3 heads without names.*, if you trust the code .* set trust_remote_code$"
    ):
        scored(tiny.preferences(2), gated)
    plain = classifiers.model(gated.parent / "plain", heads=3)
    with pytest.raises(InputError, match=r"with heads \(--heads\)$"):
        scored(tiny.preferences(2), plain)


def test_a_field_that_only_the_code_brings_and_a_configuration_in_code_name_it_too(tmp_path: Path) -> None:
    place = classifiers.model(tmp_path / "rm")
    asks_for(place, "Gated")
    with pytest.raises(InputError, match=r"has no field 'rewards'; .* set trust_remote_code$"):
        scored(tiny.preferences(2), place, field="rewards")
    config = json.loads((place / "config.json").read_text())
    config |= {"model_type": "of_ones_own", "auto_map": {"AutoConfig": "configuration_own.Own"}}
    (place / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"brings Python code of its own, .* set trust_remote_code$"):
        scored(tiny.preferences(2), place)


def test_a_model_that_takes_padding_for_text_is_refused_and_can_be_read_alone(gated: Path) -> None:
    asks_for(gated, "Careless")
    prefs = tiny.preferences(8)
    with pytest.raises(InputError, match="takes padding for text; set batch_tokens to 1"):
        scored(prefs, gated, trust_remote_code=True)
    expected = [value for (value,) in loop_of_scores(prefs, gated, "score")]
    found = scored(prefs, gated, trust_remote_code=True, batch_tokens=1)["score"].to_list()
    assert found == pytest.approx(expected, abs=1e-5)


def test_batches_keep_to_the_budget_with_their_padding() -> None:
    # 9 alone is too long; 5 + 5 fits 10; 3 rows of 3 fit, a fourth does not.
    lengths = [12, 5, 5, 3, 3, 3, 3]
    assert list(batches(lengths, budget=10)) == [(0, 1), (1, 3), (3, 6), (6, 7)]
    assert list(batches(lengths, budget=1000)) == [(0, 7)]
    assert list(batches(lengths, budget=1000, border=5)) == [(0, 1), (1, 7)]
    assert list(batches([], budget=10)) == []


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = classifiers.model(tmp_path / "rm")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match="ray is not installed"):
        scored(tiny.preferences(2), place, ray=True)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, prefs = classifiers.model(tmp_path / "rm", heads=5), tiny.preferences(6)
    source, out = prefs.save(tmp_path / "in"), tmp_path / "out"
    words = ["score", str(source), "-o", str(out), "--with", "reward_model", "--model", str(place)]
    expected = loop(prefs, place)
    assert main([*words, "--heads", *ATTRIBUTES]) == 0
    assert Preferences.load(out).responses.collect()["score_correct"].to_list() == pytest.approx(
        [row[1] for row in expected], abs=1e-5
    )
    assert main([*words, "--set", "heads={third: 2}"]) == 0
    found = Preferences.load(out).responses.collect()
    assert found["score_third"].to_list() == pytest.approx([row[2] for row in expected], abs=1e-5)
    assert "score_correct" not in found.columns
    capsys.readouterr()
    assert main(words) == 2
    assert "has 5 heads without names; name them in order with heads (--heads)" in capsys.readouterr().err


# Two workers of a cluster on this machine, in a process of their own, and then the same without them.
ON_CLUSTER = """
import sys
import ray
from pairwright.preferences import Preferences
from pairwright.scorers import score
source, model, out = sys.argv[1:]
prefs = Preferences.load(source)
settings = {"model": model, "heads": ["a", "b", "c", "d", "e"], "batch_tokens": 150}
score(prefs, "reward_model", **settings).save(out + "/alone")
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
score(prefs, "reward_model", ray=True, **settings).save(out + "/ray")
assert ray.is_initialized()
"""


@pytest.mark.slow
def test_two_workers_of_a_cluster_give_the_scores_of_one_process(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    place, data = classifiers.model(tmp_path / "rm", heads=5), tiny.preferences(30).save(tmp_path / "data")
    done = subprocess.run(
        [sys.executable, "-c", ON_CLUSTER, str(data), str(place), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
    )
    assert done.returncode == 0, done.stderr
    alone, found = (Preferences.load(tmp_path / name).responses.collect() for name in ("alone", "ray"))
    assert found.equals(alone)
    expected = loop(tiny.preferences(30), place)
    assert found["score_d"].to_list() == pytest.approx([row[3] for row in expected], abs=1e-5)


ONE_OF_TWO = """
import json, os, sys
from pairwright.preferences import Preferences
from pairwright.scorers import score
source, model, out = sys.argv[1:]
for budget in (150, 100_000):  # with a budget for all at once the second process has no batch
    result = score(Preferences.load(source), "reward_model", model=model, batch_tokens=budget)
    name = f"{out}/{budget}-{os.environ.get('RANK', 'alone')}.json"
    json.dump(result.responses.collect()["score"].to_list(), open(name, "w"))
"""


@pytest.mark.slow
def test_two_processes_share_the_work_and_each_gets_all_of_it(tmp_path: Path) -> None:
    place, data = classifiers.model(tmp_path / "rm"), tiny.preferences(20).save(tmp_path / "data")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    each: list[dict[str, str]] = [{}] + [{"RANK": rank, "LOCAL_RANK": rank, **shared} for rank in "01"]
    command = [sys.executable, "-c", ONE_OF_TWO, str(data), str(place), str(tmp_path)]
    started = [
        subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1", **more}, stderr=subprocess.PIPE, text=True)
        for more in each
    ]
    for process in started:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said
    expected = [row[0] for row in loop(tiny.preferences(20), place)]
    for budget in (150, 100_000):
        names = [tmp_path / f"{budget}-{who}.json" for who in ("alone", "0", "1")]
        alone, first, second = (json.loads(name.read_text()) for name in names)
        assert first == second == alone
        assert alone == pytest.approx(expected, abs=1e-5)
