import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import tiny
from pairwright.errors import InputError, PairwrightError
from pairwright.goals import GoalFormat
from pairwright.logprobs import logprobs
from pairwright.logprobs.models import open_model, open_tokenizer, quiet_peft
from pairwright.logprobs.tokenise import Limits
from pairwright.preferences import Preferences
from pairwright.probes.held import held_out
from pairwright.probes.reading import (
    Held,
    at_start,
    credit,
    credit_of,
    encode,
    read_pairs,
    read_tokens,
    start_of,
    token_texts,
    vocabulary_of,
)
from pairwright.probes.store import CREDIT, PROBE
from pairwright.relabel import relabel

ROOM = Limits(900, 700)
FORM = GoalFormat(ranges=((1.0, 10.0),))


def pairs(count: int = 5) -> Preferences:
    made = tiny.preferences(count)
    pairs = made.pairs.with_columns(split=pl.lit("test"))
    return held_out(Preferences.of(made.prompts, made.responses, pairs))[0]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny.tokenizer(positions=1024)


@pytest.fixture(scope="module")
def held(tokenizer: Any) -> Held:
    return encode(pairs(), tokenizer, goal=FORM, limits=ROOM)


def network(tokenizer: Any, *, kind: Any = "llama", seed: int = 0) -> Any:
    return tiny.network(kind, len(tokenizer), positions=1024, seed=seed)


def loop(model: Any, prompt: list[int], answer: list[int]) -> dict[str, float]:
    """The definitions, over full logits in double precision, one sequence by itself; numpy from there on."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + answer])).logits[0].double().numpy()
    found = {name: 0.0 for name in ("logp", "entropy", "top_entropy", "raw_top_entropy", "top_mass")}
    for t, token in enumerate(answer):
        row = logits[len(prompt) - 1 + t]
        share = np.exp(row - row.max())
        share /= share.sum()
        likely = np.sort(share)[::-1][:10]
        among = likely / likely.sum()
        found["logp"] += math.log(share[token])
        found["entropy"] -= float((share * np.log(share)).sum()) / len(answer)
        found["top_entropy"] -= float((among * np.log2(among)).sum()) / len(answer)
        found["raw_top_entropy"] -= float((likely * np.log2(likely)).sum()) / len(answer)
        found["top_mass"] += float(likely.sum()) / len(answer)
    return found


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_every_number_is_that_of_a_plain_loop_over_full_logits(kind: str, tokenizer: Any, held: Held) -> None:
    model = network(tokenizer, kind=kind).eval()
    found = read_pairs(model, held)
    assert dict(found.schema) == dict(PROBE)
    for row, answer, owner in zip(found.iter_rows(named=True), held.answers, held.owner, strict=True):
        expected = loop(model, list(held.prompts[owner]), list(answer))
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=2e-5, abs=2e-5)
        assert row["length"] == len(answer)
    assert found["top_mass"].n_unique() > 20


def test_the_rows_are_each_answer_under_each_prompt_by_pair_side_and_prompt(held: Held) -> None:
    rows = held.rows.select("pair", "side", "asked").rows()
    sides, asked = ("chosen", "rejected"), ("none", "top", "own")
    assert rows == [(i, side, each) for i in range(5) for side in sides for each in asked]


def test_each_prompt_asks_for_what_its_row_says(tokenizer: Any, held: Held) -> None:
    seen = set()
    for row, owner in zip(held.rows.iter_rows(named=True), held.owner, strict=True):
        prompt = tokenizer.decode(held.prompts[owner])
        said = {"none": None, "top": "Overall score: 10.", "own": f"Overall score: {row['score']:g}."}[row["asked"]]
        assert ("Overall score" in prompt) == (said is not None)
        assert said is None or said in prompt
        assert row["goal"] == {"none": None, "top": 10.0, "own": row["score"]}[row["asked"]]
        seen.add(said)
    assert seen == {None, "Overall score: 10.", "Overall score: 8.", "Overall score: 3."}


def test_they_are_the_columns_of_logprobs(tmp_path: Path) -> None:
    """Without a goal those of the answers; under an answer's own score those of the copy that asks for it."""
    folder = tiny.model(tmp_path / "model", positions=1024)
    drawn = pairs()
    asked = relabel(drawn, "ra", placement="user")
    held = encode(drawn, open_tokenizer(folder), goal=asked.goal_format, limits=ROOM)
    rows = read_pairs(open_model(folder), held)
    sizes = {"max_length": ROOM.max_length, "max_prompt_length": ROOM.max_prompt_length}
    answers = logprobs(drawn, model=folder, name="m", **sizes).responses.select("response_id", "logp_m").collect()
    none = rows.filter(asked="none").with_columns(pl.col("response_id").cast(pl.Int64))
    both = none.join(answers, on="response_id")
    assert both["logp"].to_list() == pytest.approx(both["logp_m"].to_list(), abs=1e-4)
    copies = logprobs(asked, model=folder, name="m", **sizes).pairs.collect()
    own = rows.filter(asked="own").with_columns(pl.col("response_id").cast(pl.Int64))
    both = own.join(copies, left_on="response_id", right_on="chosen_id")
    assert len(both) == 10
    assert both["logp"].to_list() == pytest.approx(both["logp_m_chosen"].to_list(), abs=1e-4)


def test_the_model_is_left_as_it_was(tokenizer: Any, held: Held) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(3)
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 1024, "resid_pdrop": 0.5}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2, **shape)).train()
    model.transformer.h[0].eval()  # a part that somebody froze
    model(input_ids=torch.tensor([[1, 2, 3]])).logits.sum().backward()
    modes = [module.training for module in model.modules()]
    grads = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    state = torch.get_rng_state()
    first = read_pairs(model, held)
    again = read_pairs(model, held)
    read_tokens(model, held, pairs=2)
    assert first.equals(again)  # no dropout in it
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(grads[name], weight.grad) for name, weight in model.named_parameters())
    assert all(torch.equal(weights[name], weight) for name, weight in model.named_parameters())
    assert torch.is_grad_enabled()


@pytest.fixture
def one_process() -> Iterator[None]:
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_an_adapter_under_ddp_is_read_as_the_model_that_it_makes(tokenizer: Any, held: Held) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    settings = LoraConfig(task_type="CAUSAL_LM", r=4, init_lora_weights=False, target_modules="all-linear")
    with quiet_peft():
        adapted = get_peft_model(network(tokenizer), settings)
    wrapped = torch.nn.parallel.DistributedDataParallel(adapted.train())
    found = read_pairs(wrapped, held)
    assert wrapped.training
    assert not found.equals(read_pairs(network(tokenizer), held))
    with quiet_peft():
        merged = adapted.merge_and_unload().eval()
    expected = [
        loop(merged, list(held.prompts[owner]), list(answer))["logp"]
        for owner, answer in zip(held.owner, held.answers, strict=True)
    ]
    assert found["logp"].to_list() == pytest.approx(expected, abs=2e-3)


def test_the_start_stands_beside_later_probes(tokenizer: Any, held: Held) -> None:
    before = read_pairs(network(tokenizer), held)
    assert before["start_logp"].null_count() == len(before)
    assert at_start(before)["start_logp"].to_list() == before["logp"].to_list()
    later = read_pairs(network(tokenizer, seed=1), held, start=start_of(before))
    assert later["start_logp"].to_list() == before["logp"].to_list()
    assert later["logp"].to_list() != before["logp"].to_list()


def test_a_pair_that_does_not_fit_under_one_prompt_is_left_out_under_all(tokenizer: Any) -> None:
    """The prompt with a goal is some 200 tokens longer, so that it takes the room of the long answer."""
    drawn = pairs()
    whole = encode(drawn, tokenizer, goal=FORM, limits=ROOM)
    sizes = whole.rows.with_columns(total=pl.col("length") + pl.Series([len(whole.prompts[p]) for p in whole.owner]))
    largest = sizes.group_by("pair").agg(pl.col("total").max()).sort("total")
    limit = int(largest["total"][-1]) - 1
    found = encode(drawn, tokenizer, goal=FORM, limits=Limits(limit, limit - 1))
    fits = largest.filter(pl.col("total") <= limit)["pair"]
    assert set(found.rows["pair"]) == set(fits)
    assert found.dropped == {"lost_to_truncation": 5 - len(fits)}
    assert found.pairs == len(fits)
    assert encode(drawn, tokenizer, goal=None, limits=Limits(limit, limit - 1)).dropped == {}


def test_where_no_pair_fits_it_is_refused(tokenizer: Any) -> None:
    with pytest.raises(InputError, match="5 lost_to_truncation"):
        encode(pairs(), tokenizer, goal=None, limits=Limits(12, 5))


def test_without_a_format_nothing_is_asked(tokenizer: Any) -> None:
    assert set(encode(pairs(), tokenizer, goal=None, limits=ROOM).rows["asked"]) == {"none"}


def test_a_goal_of_several_attributes_has_a_top_and_no_own_score(tokenizer: Any) -> None:
    form = GoalFormat(attributes=("help", "truth"), ranges=((0.0, 4.0), (0.0, 5.0)), scale=10)
    found = encode(pairs(), tokenizer, goal=form, limits=ROOM)
    assert set(found.rows["asked"]) == {"none", "top"}
    assert found.rows["goal"].null_count() == len(found.rows)
    assert any("Help score: 10.\nTruth score: 10." in tokenizer.decode(prompt) for prompt in found.prompts)
    assert "not asked for their own score" in found.notes[0]


def test_an_unscored_answer_is_not_asked_for_its_own_score(tokenizer: Any) -> None:
    drawn = pairs()
    responses = drawn.responses.with_columns(score=pl.when(pl.col("score") > 5).then(pl.col("score")))
    found = encode(Preferences.of(drawn.prompts, responses, drawn.pairs), tokenizer, goal=FORM, limits=ROOM)
    assert set(found.rows.filter(asked="own")["side"]) == {"chosen"}
    assert "5 of 10 answers have no score" in found.notes[0]


def test_weights_that_are_no_numbers_are_an_error(tokenizer: Any, held: Held) -> None:
    model = network(tokenizer)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    model.eval()
    with pytest.raises(PairwrightError):
        read_pairs(model, held)


def test_the_credits_of_an_answer_sum_to_its_log_ratio(tokenizer: Any, held: Held) -> None:
    model, start = network(tokenizer, seed=1), network(tokenizer)
    found = credit(model, start, held, pairs=3)
    assert dict(found.schema) == dict(CREDIT)
    assert found["pair"].unique().to_list() == [0, 1, 2]
    rows = read_pairs(model, held, start=start_of(read_pairs(start, held))).filter(pl.col("pair") < 3)
    ratio = (rows["logp"] - rows["start_logp"]).to_list()
    assert [sum(row) for row in found["credit"].to_list()] == pytest.approx(ratio, abs=1e-3)
    assert max(map(abs, ratio)) > 1
    assert found["tokens"].list.len().to_list() == rows["length"].to_list()
    answers = [text.removesuffix("<|end|>") for text in map("".join, found["tokens"].to_list())]
    said = pairs().texts().select("chosen", "rejected").head(3).collect().rows()
    assert answers == [side[0]["content"] for row in said for side in row for _ in range(3)]


def test_credits_of_other_tokens_are_refused(tokenizer: Any, held: Held) -> None:
    rows = read_tokens(network(tokenizer), held, pairs=2)
    with pytest.raises(InputError, match="other tokens"):
        credit_of(rows, rows.with_columns(tokens=pl.col("tokens").list.reverse()))


@pytest.mark.parametrize("text", ["plain words", "é – 日本 🙂!", "a\nb\t", "\ufffd end", "ends in \ufffd"])
def test_the_texts_of_tokens_make_up_the_text(text: str, tokenizer: Any) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = token_texts(tokenizer, ids)
    assert len(found) == len(ids)
    assert "".join(found) == text


def test_a_character_of_several_tokens_stands_with_the_last_of_them(tokenizer: Any) -> None:
    ids = tokenizer("é🙂", add_special_tokens=False)["input_ids"]
    assert token_texts(tokenizer, ids) == ["", "é", "", "", "", "🙂"]


def test_the_vocabulary_is_what_the_model_chooses_among(tokenizer: Any) -> None:
    assert vocabulary_of(network(tokenizer)) == len(tokenizer)
