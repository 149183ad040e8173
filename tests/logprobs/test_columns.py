from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

import tiny
from pairwright.chat import assistant, user
from pairwright.errors import InputError
from pairwright.logprobs import logprobs
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
