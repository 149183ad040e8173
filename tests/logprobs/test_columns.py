from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

import tiny
from pairwright.chat import assistant, user
from pairwright.errors import InputError
from pairwright.logprobs import columns, logprobs
from pairwright.preferences import Preferences, Step


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.model(tmp_path_factory.mktemp("models") / "small")


def test_each_answer_gets_the_value_of_a_plain_forward_pass(model: Path) -> None:
    prefs = tiny.preferences(3)
    out = logprobs(prefs, model=model, batch_tokens=100).responses.collect()
    reader, network = tiny.tokenizer(), tiny.network("llama", 326).eval()
    for prompt_id, response, logp, length in out.select("prompt_id", "response", "logp_small", "len_small").iter_rows():
        prompt = prefs.prompts.filter(pl.col("prompt_id") == prompt_id).collect()["prompt"][0].to_list()
        head = reader.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        ids = reader.apply_chat_template([*prompt, *response], return_dict=False)
        with torch.no_grad():
            values = torch.log_softmax(network(torch.tensor([ids])).logits[0].double(), -1)
        expected = sum(float(values[t - 1, ids[t]]) for t in range(len(head), len(ids)))
        assert logp == pytest.approx(expected, abs=1e-4)
        assert length == len(ids) - len(head)


def test_the_batch_size_changes_nothing_and_the_input_is_untouched(model: Path) -> None:
    prefs = tiny.preferences(5)
    before = prefs.digest()
    columns = [logprobs(prefs, model=model, batch_tokens=n).responses.collect()["logp_small"] for n in (1, 60, 10_000)]
    for column in columns[1:]:
        assert column.to_list() == pytest.approx(columns[0].to_list(), abs=2e-5)
    assert prefs.digest() == before
    assert "logp_small" not in prefs.responses.collect_schema()


def test_answers_that_cannot_be_read_are_null_and_said(model: Path) -> None:
    prefs = tiny.preferences([("ask", "yes", ""), ("ask b", "x" * 400, "no")])
    out = logprobs(prefs, model=model, name="m")
    frame = out.responses.collect()
    assert frame["logp_m"].is_null().to_list() == [False, True, True, False]
    assert frame["len_m"].to_list() == [4, None, None, 3]
    assert not frame["logp_m"].is_nan().any()
    assert out.lineage[-1].notes == (
        "1 answers have no logp_m: empty",
        "1 answers have no logp_m: lost_to_truncation",
    )
    assert out.dropped == {}


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (None, "missing_answer"),
        ([{"role": "assistant", "content": None}], "missing_answer"),
        ([assistant("a"), user("words of the user"), assistant("b")], "several_turns"),
    ],
)
@pytest.mark.parametrize("with_goals", [False, True])
def test_an_answer_that_is_none_is_null_and_said(with_goals: bool, first: Any, reason: str, model: Path) -> None:
    prefs = tiny.preferences(2)
    frame = prefs.responses.collect()
    new = pl.Series("response", [first, *frame["response"].to_list()[1:]], dtype=frame["response"].dtype)
    pairs = prefs.pairs.with_columns(goal=pl.lit(8.0 if with_goals else None, dtype=pl.Float64))
    out = logprobs(Preferences.of(prefs.prompts, frame.with_columns(new), pairs), model=model, name="m")
    assert out.view("logp_m").collect()["logp_m_chosen"].is_null().to_list() == [True, False]
    assert out.lineage[-1].notes == (f"1 answers have no logp_m: {reason}",)


@pytest.mark.parametrize("with_goals", [False, True])
def test_answers_to_a_prompt_that_is_not_there_are_null_and_said(with_goals: bool, model: Path) -> None:
    prefs = tiny.preferences(3)
    pairs = prefs.pairs.with_columns(goal=pl.lit(8.0 if with_goals else None, dtype=pl.Float64))
    step = Step(name="relabel", settings={"goal": {"template": "Reach {scores}", "placement": "user"}})
    lineage = (step,) if with_goals else ()
    data = Preferences.of(prefs.prompts.collect().tail(2), prefs.responses, pairs, lineage)
    out = logprobs(data, model=model, name="m")
    assert out.view("logp_m").collect()["logp_m_rejected"].is_null().to_list() == [True, False, False]
    assert out.lineage[-1].notes == ("2 answers have no logp_m: missing_prompt",)


def test_pairs_with_goals_get_the_columns_themselves(model: Path) -> None:
    prefs = tiny.preferences(2)
    step = Step(name="relabel", settings={"goal": {"template": "Reach {scores}", "placement": "user"}})
    data = prefs.then(step, pairs=prefs.pairs.with_columns(goal=pl.Series([8.0, None])))
    out = logprobs(data, model=model, name="m")
    assert "logp_m" not in out.responses.collect_schema()
    plain = logprobs(prefs, model=model, name="m").view("logp_m").collect()
    asked = out.view("logp_m", "len_m").collect()
    for side in ("chosen", "rejected"):
        first, second = asked[f"logp_m_{side}"].to_list()
        assert second == pytest.approx(plain[f"logp_m_{side}"][1], abs=1e-5)
        assert abs(first - plain[f"logp_m_{side}"][0]) > 1e-3
    assert asked["len_m_chosen"].dtype == pl.Int64


def test_model_and_reference_in_one_go(model: Path, tmp_path: Path) -> None:
    other = tiny.model(tmp_path / "other", seed=5)
    out = logprobs(tiny.preferences(2), model=model, reference=other)
    alone = logprobs(tiny.preferences(2), model=other, name="ref")
    frame = out.responses.collect()
    assert frame["logp_ref"].equals(alone.responses.collect()["logp_ref"])
    assert not frame["logp_ref"].equals(frame["logp_small"])
    with pytest.raises(InputError, match="both fill logp_ref"):
        logprobs(tiny.preferences(2), model=model, name="ref", reference=other)


def test_a_model_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no directory .* with a tokenizer"):
        logprobs(tiny.preferences(1), model=tmp_path / "nothing")


def test_only_the_answers_of_a_split_are_scored_and_the_others_counted(model: Path) -> None:
    prefs = tiny.preferences(4)
    pairs = prefs.pairs.with_columns(split=pl.Series(["train", "test", "train", "test"]))
    data = Preferences.of(prefs.prompts, prefs.responses, pairs)
    whole = logprobs(data, model=model, name="m").responses.collect()
    out = logprobs(data, model=model, name="m", only="test")
    frame = out.responses.collect()
    wanted = [False, False, True, True] * 2
    assert frame["logp_m"].is_not_null().to_list() == wanted
    assert frame["len_m"].is_not_null().to_list() == wanted
    assert frame.filter(pl.Series(wanted))["logp_m"].to_list() == pytest.approx(
        whole.filter(pl.Series(wanted))["logp_m"].to_list(), abs=1e-5
    )
    assert out.lineage[-1].notes == ("4 answers have no logp_m: other_split",)
    assert out.lineage[-1].settings["only"] == "test"
    assert (frame["response_id"] == whole["response_id"]).all()


def test_only_the_pairs_of_a_split_are_scored_under_their_goals(model: Path) -> None:
    prefs = tiny.preferences(3)
    step = Step(name="relabel", settings={"goal": {"template": "Reach {scores}", "placement": "user"}})
    split = pl.Series(["train", "test", None], dtype=pl.String)
    data = prefs.then(step, pairs=prefs.pairs.with_columns(goal=pl.Series([8.0, 8.0, 8.0]), split=split))
    whole = logprobs(data, model=model, name="m").pairs.collect()
    out = logprobs(data, model=model, name="m", only="test")
    for side in ("chosen", "rejected"):
        column = out.pairs.collect()[f"logp_m_{side}"].to_list()
        assert column == [None, pytest.approx(whole[f"logp_m_{side}"][1], abs=1e-5), None]
    assert out.lineage[-1].notes == ("4 answers have no logp_m: other_split",)
    assert "logp_m" not in out.responses.collect_schema()


def test_a_split_that_is_not_there_is_a_sentence(model: Path) -> None:
    with pytest.raises(InputError, match="no pairs are in split 'tset' \\(they are in train\\)"):
        logprobs(tiny.preferences(2), model=model, only="tset")


def test_what_is_computed_takes_the_place_of_columns_that_came_with_the_pairs(model: Path) -> None:
    prefs = tiny.preferences(3)
    brought = {f"{kind}_ref_{side}": pl.lit(-7) for kind in ("logp", "len") for side in ("chosen", "rejected")}
    flat = Preferences.of(prefs.prompts, prefs.responses, prefs.pairs.with_columns(other=pl.lit(1), **brought))
    expected, found = (
        logprobs(data, model=model, name="ref").view("logp_ref", "len_ref").select(*brought).collect()
        for data in (prefs, flat)
    )
    assert found.equals(expected)
    assert "other" in logprobs(flat, model=model, name="ref").pairs.collect_schema()


def test_a_name_that_begins_with_logp_is_the_column_itself(model: Path) -> None:
    out = logprobs(tiny.preferences(2), model=model, name="logp_x", reference=model, reference_name="logp_y")
    assert {"logp_x", "len_x", "logp_y", "len_y"} <= set(out.responses.collect_schema())
    with pytest.raises(InputError, match="would both fill logp_x;"):
        logprobs(tiny.preferences(2), model=model, name="logp_x", reference=model, reference_name="x")


def test_model_and_reference_read_the_same_texts_where_one_has_fewer_positions(model: Path, tmp_path: Path) -> None:
    # The same weights with fewer positions: on the same texts every margin is 0.
    short = tmp_path / "short"
    tiny.network("llama", 326, positions=96).save_pretrained(short)
    prefs = tiny.preferences([("four " * 30, "five six", "seven"), ("red", "green blue", "ten")])
    out = logprobs(prefs, model=model, reference=short, tokenizer=model)
    frame = out.responses.collect()
    assert frame["logp_small"].to_list() == frame["logp_ref"].to_list()
    assert frame["logp_ref"].null_count() == 0
    assert [(step.settings["max_length"], step.settings["max_prompt_length"]) for step in out.lineage] == [(96, 48)] * 2
    with pytest.raises(InputError, match="more than the 96 positions"):
        logprobs(prefs, model=model, reference=short, tokenizer=model, max_length=128)


def test_texts_are_read_once_for_model_and_reference(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = columns.tokenise_many

    def watched(*given: Any, **settings: Any) -> Any:
        calls.append(settings["limits"])
        return real(*given, **settings)

    monkeypatch.setattr(columns, "tokenise_many", watched)
    logprobs(tiny.preferences(2), model=model, reference=model)
    assert len(calls) == 1


def test_a_reference_that_reads_other_tokens_is_refused(model: Path, tmp_path: Path) -> None:
    tiny.network("llama", 200).save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match=r"has 326 tokens and .*other has 200 tokens; .* share a tokenizer"):
        logprobs(tiny.preferences(1), model=model, reference=tmp_path / "other")


def test_a_tokenizer_of_more_tokens_than_the_model_has_is_a_sentence(tmp_path: Path) -> None:
    tiny.network("llama", 90).save_pretrained(tmp_path / "few")
    tiny.tokenizer().save_pretrained(tmp_path / "few")
    with pytest.raises(InputError, match=r"few has 90 tokens, .*--tokenizer"):
        logprobs(tiny.preferences(1), model=tmp_path / "few")


def test_answers_to_a_prompt_of_no_tokens_are_null_and_said(tmp_path: Path) -> None:
    bare = tiny.model(tmp_path / "bare", template="{% for m in messages %}{{ m['content'] }}{% endfor %}")
    for first in ("one two", "nine ten red"):
        out = logprobs(tiny.preferences([(first, "five", "six"), ("", "green", "ten")]), model=bare)
        assert out.responses.collect()["logp_bare"].is_null().to_list() == [False, False, True, True]
        assert out.lineage[-1].notes == ("2 answers have no logp_bare: missing_prompt",)


def test_a_model_whose_rotation_depends_on_the_longest_text_reads_no_longer_one(tmp_path: Path) -> None:
    from transformers import Phi3Config, Phi3ForCausalLM

    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    config = Phi3Config(
        vocab_size=326,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        original_max_position_embeddings=64,
        rope_parameters=rope | {"original_max_position_embeddings": 64},
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    place = tmp_path / "phi"
    Phi3ForCausalLM(config).save_pretrained(place)
    tiny.tokenizer().save_pretrained(place)
    data = tiny.preferences([("red", "one", "two"), ("blue", "x" * 80, "four")])
    out = logprobs(data, model=place)
    assert out.lineage[-1].settings["max_length"] == 64
    assert out.responses.collect()["logp_phi"].is_null().to_list() == [False, False, True, False]
    with pytest.raises(InputError, match=r"longer than 64 tokens \(longrope\).* set max_length to 64"):
        logprobs(data, model=place, max_length=65)
