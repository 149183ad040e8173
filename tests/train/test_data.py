import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import tiny
from pairwright.chat import assistant, user
from pairwright.errors import InputError
from pairwright.goals import GoalFormat
from pairwright.logprobs import Limits, logprobs
from pairwright.preferences import Preferences, Step
from pairwright.relabel import relabel
from pairwright.train import train
from pairwright.train.data import has_reference_columns, pair_examples, point_examples
from pairwright.train.wants import check_judged

WIDE = Limits(200, 100)
FORM = GoalFormat(template="Score of {scale}: {scores}", placement="auto")


def goals(prefs: Preferences, form: GoalFormat = FORM) -> Preferences:
    """Each pair twice, as `ra` does: asked for 8 as it is, asked for 3 turned round."""
    pairs = prefs.pairs.collect()
    turned = pairs.rename({"chosen_id": "rejected_id", "rejected_id": "chosen_id"}).select(pairs.columns)
    both = pl.concat([pairs.with_columns(goal=pl.lit(8.0)), turned.with_columns(goal=pl.lit(3.0))])
    step = Step(name="relabel", settings={"goal": form.model_dump(mode="json")})
    return prefs.then(step, pairs=both)


@pytest.fixture(scope="module")
def reader() -> Any:
    return tiny.tokenizer()


def test_each_dropped_pair_is_counted_once_under_its_first_reason(reader: Any) -> None:
    rows = [("ask", "yes", "no"), ("ask b", " ", ""), ("ask c", "yes", ""), ("ask d", "same", "same")]
    rows += [("ask e", "yes", "x" * 300), ("ask f", "x" * 199 + "a", "x" * 199 + "b")]
    found = pair_examples(tiny.preferences(rows), reader, split="train", limits=WIDE)
    assert len(found.rows) == 1
    assert found.dropped == {"empty_chosen": 1, "empty_rejected": 1, "equal_text": 1, "lost_to_truncation": 2}
    cut = pair_examples(tiny.preferences(rows), reader, split="train", limits=WIDE, truncate="completion_end")
    assert len(cut.rows) == 2
    assert cut.dropped == {"empty_chosen": 1, "empty_rejected": 1, "equal_text": 1, "equal_after_truncation": 1}


def test_scores_that_a_loss_needs_are_needed(reader: Any) -> None:
    prefs = tiny.preferences(2)
    answers = prefs.responses.with_columns(
        score=pl.when(pl.col("response_id") == 1).then(None).otherwise(pl.col("score"))
    )
    data = prefs.then(Step(name="forget"), responses=answers)
    assert len(pair_examples(data, reader, split="train", limits=WIDE).rows) == 2
    found = pair_examples(data, reader, split="train", limits=WIDE, score="score")
    assert found.dropped == {"unscored": 1}
    assert found.rows[0].scores == (8.0, 3.0)


@pytest.mark.parametrize(
    ("mode", "settings"),
    [("ra", {"attributes": ("one", "other"), "source_range": (0, 10)}), ("c_rlft", {"edges": [5.0]})],
)
def test_goals_from_which_one_score_has_no_distance_are_no_score(mode: str, settings: Any, reader: Any) -> None:
    prefs = tiny.preferences(2)
    score = pl.col("score")
    answers = prefs.responses.with_columns(score_one=score, score_other=10 - score)
    data = relabel(prefs.then(Step(name="name"), responses=answers), mode, template="{scores}", **settings)
    found = pair_examples(data, reader, split="train", limits=Limits(400, 300))
    assert len(found.rows) == 4
    assert all(math.isnan(row.goal) for row in found.rows)
    for asked in ({"score": "score"}, {"scores": ("one",)}):
        with pytest.raises(InputError, match="4 pairs ask for a class, a direction or several scores"):
            pair_examples(data, reader, split="train", limits=Limits(400, 300), **asked)
    if mode == "c_rlft":
        with pytest.raises(InputError, match="pairs that ask for scores, and these ask for a class"):
            pair_examples(data, reader, split="train", limits=Limits(400, 300), anchor=[2.0])


def test_only_the_split_that_was_asked_for(reader: Any) -> None:
    prefs = tiny.preferences(4)
    split = pl.when(pl.col("chosen_id") == 0).then(pl.lit("test")).otherwise(pl.lit("train"))
    data = prefs.then(Step(name="split"), pairs=prefs.pairs.with_columns(split=split))
    assert len(pair_examples(data, reader, split="train", limits=WIDE).rows) == 3
    assert len(pair_examples(data, reader, split="test", limits=WIDE).rows) == 1
    with pytest.raises(InputError, match="no pairs of split 'dev': its pairs are of 'test', 'train'"):
        pair_examples(data, reader, split="dev", limits=WIDE)


def test_no_pairs_at_all_is_said(reader: Any) -> None:
    prefs = tiny.preferences(2)
    with pytest.raises(InputError, match="pair it first"):
        pair_examples(Preferences.of(prefs.prompts, prefs.responses), reader, split="train", limits=WIDE)


@pytest.mark.parametrize("weight", [-1.0, math.inf, math.nan])
def test_a_weight_is_a_number_from_0_up(weight: float, reader: Any) -> None:
    with pytest.raises(InputError, match="has weight"):
        pair_examples(tiny.preferences(2, weights=[1.0, weight]), reader, split="train", limits=WIDE)


@pytest.mark.parametrize(
    ("template", "head"),
    [
        (tiny.WITH_SYSTEM, "<|begin|><|system|>Score of 10: Overall score: 8.<|end|><|user|>ask"),
        (tiny.WITHOUT_SYSTEM, "<|begin|><|user|>Score of 10: Overall score: 8.\n\nask"),
    ],
)
def test_goals_go_where_the_template_can_show_them(template: str, head: str) -> None:
    reader = tiny.tokenizer(template)
    data = goals(tiny.preferences([("ask", "yes", "no")]))
    found = pair_examples(data, reader, split="train", limits=WIDE)
    assert reader.decode(found.rows[0].prompt).startswith(head)
    assert [row.goal for row in found.rows] == [8.0, 3.0]
    texts = [[reader.decode(ids) for ids in row.answers] for row in found.rows]
    assert texts == [["yes<|end|>", "no<|end|>"], ["no<|end|>", "yes<|end|>"]]


def test_goals_for_a_system_message_are_refused_where_the_template_has_none() -> None:
    data = goals(tiny.preferences(2), FORM.model_copy(update={"placement": "system"}))
    with pytest.raises(InputError, match="relabel with placement 'user'"):
        pair_examples(data, tiny.tokenizer(tiny.WITHOUT_SYSTEM), split="train", limits=WIDE)


def test_goals_survive_the_cut_of_a_long_prompt(reader: Any) -> None:
    for placement in ("system", "user"):
        form = FORM.model_copy(update={"placement": placement})
        data = goals(tiny.preferences([("start " + "word " * 80 + "end", "yes", "no")]), form)
        found = pair_examples(data, reader, split="train", limits=WIDE)
        for row, number in zip(found.rows, "83", strict=True):
            text = reader.decode(row.prompt)
            assert f"Score of 10: Overall score: {number}." in text
            assert "end<|end|><|assistant|>" in text
        assert found.notes == ("2 of 2 prompts were cut in the user's text to fit",)


def test_columns_made_without_goals_are_no_reference_for_prompts_with_goals(tmp_path: Path) -> None:
    model = tiny.model(tmp_path / "m")
    prefs = logprobs(tiny.preferences(2), model=model, name="ref")
    assert has_reference_columns(prefs, "ref")
    data = goals(prefs)
    assert not has_reference_columns(data, "ref")
    with pytest.raises(InputError, match="after relabelling"):
        train(data, model=model, reference="columns", output=tmp_path / "run", max_steps=1)
    again = logprobs(data, model=model, name="ref")
    assert has_reference_columns(again, "ref")
    run = train(again, model=model, output=tmp_path / "run", max_steps=1, reference="columns")
    assert json.loads(run.metrics.read_text().splitlines()[0])["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert json.loads((run.model / "generation_goal.json").read_text())["placement"] == "system"


def test_columns_made_for_other_tokens_are_refused(tmp_path: Path) -> None:
    model = tiny.model(tmp_path / "m")
    plain = tiny.model(tmp_path / "n", template=tiny.WITHOUT_EOS.replace("m['content']", "m['content'] + '!'"))
    prefs = logprobs(tiny.preferences(2), model=model, name="ref")
    with pytest.raises(InputError, match="run logprobs again"):
        train(prefs, model=plain, reference="columns", output=tmp_path / "run", max_steps=1)


def test_answers_by_themselves_keep_to_the_split_of_their_prompt(reader: Any) -> None:
    prefs = tiny.preferences([("ask", "yes", "no"), ("ask b", "", "no")])
    found = point_examples(prefs, reader, split="train", limits=WIDE)
    assert len(found.rows) == 3
    assert found.dropped == {"empty_response": 1}
    split = prefs.prompts.with_columns(split=pl.Series(["test", "train"]))
    part = point_examples(prefs.then(Step(name="split"), prompts=split), reader, split="train", limits=WIDE)
    assert len(part.rows) == 1


def test_the_digest_sees_tokens_weights_and_references(reader: Any) -> None:
    one = pair_examples(tiny.preferences(2), reader, split="train", limits=WIDE)
    assert one.digest() == pair_examples(tiny.preferences(2), reader, split="train", limits=WIDE).digest()
    other = pair_examples(tiny.preferences(2, weights=[1.0, 2.0]), reader, split="train", limits=WIDE)
    assert one.digest() != other.digest()
    turned = pair_examples(tiny.preferences([("a", "b", "c")]), reader, split="train", limits=WIDE)
    back = pair_examples(tiny.preferences([("a", "c", "b")]), reader, split="train", limits=WIDE)
    assert turned.digest() != back.digest()


def test_multi_turn_prompts_are_kept_whole(reader: Any) -> None:
    prefs = tiny.preferences(1)
    prompt = [user("one"), assistant("two"), user("three")]
    schema = prefs.prompts.collect_schema()
    frame = prefs.prompts.collect().with_columns(prompt=pl.Series([prompt], dtype=schema["prompt"]))
    found = pair_examples(prefs.then(Step(name="x"), prompts=frame), reader, split="train", limits=WIDE)
    assert reader.decode(found.rows[0].prompt) == (
        "<|begin|><|user|>one<|end|><|assistant|>two<|end|><|user|>three<|end|><|assistant|>"
    )


def answered(prefs: Preferences, first: Any) -> Preferences:
    """The data with another first answer, the chosen one of the first pair."""
    frame = prefs.responses.collect()
    new = pl.Series("response", [first, *frame["response"].to_list()[1:]], dtype=frame["response"].dtype)
    return Preferences.of(prefs.prompts, frame.with_columns(new), prefs.pairs, prefs.lineage)


def asked(prefs: Preferences, first: Any) -> Preferences:
    """The data with another first prompt under the same id."""
    frame = prefs.prompts.collect()
    new = pl.Series("prompt", [first, *frame["prompt"].to_list()[1:]], dtype=frame["prompt"].dtype)
    return Preferences.of(frame.with_columns(new), prefs.responses, prefs.pairs, prefs.lineage)


NOTHING_SAID = [{"role": "assistant", "content": None}]


@pytest.mark.parametrize("with_goals", [False, True])
def test_absent_texts_are_counted(with_goals: bool, reader: Any) -> None:
    prefs = tiny.preferences(3)
    there = prefs.prompts.collect()
    cases = [
        (answered(prefs, None), "missing_answer"),
        (answered(prefs, NOTHING_SAID), "missing_answer"),
        (asked(prefs, None), "missing_prompt"),
        (asked(prefs, [{"role": "user", "content": None}]), "missing_prompt"),
        (Preferences.of(there.tail(2), prefs.responses, prefs.pairs), "missing_prompt"),
        (
            Preferences.of(
                prefs.prompts, prefs.responses.filter(pl.col("response_id") != 0), prefs.pairs, prefs.lineage
            ),
            "missing_answer",
        ),
    ]
    for data, reason in cases:
        shown = goals(data) if with_goals else data
        found = pair_examples(shown, reader, split="train", limits=WIDE)
        assert found.dropped == {reason: 1 + with_goals}
        assert len(found.rows) == 2 * (1 + with_goals)


def test_answers_by_themselves_without_a_text_or_a_prompt_are_counted(reader: Any) -> None:
    prefs = tiny.preferences(3)
    found = point_examples(answered(prefs, None), reader, split="train", limits=WIDE)
    assert (len(found.rows), found.dropped) == (5, {"missing_answer": 1})
    few = Preferences.of(prefs.prompts.collect().tail(2), prefs.responses)
    found = point_examples(few, reader, split="train", limits=WIDE)
    assert (len(found.rows), found.dropped) == (4, {"missing_prompt": 2})


def test_an_answer_of_several_turns_is_dropped_and_counted(reader: Any) -> None:
    data = answered(tiny.preferences(3), [assistant("a"), user("words of the user"), assistant("b")])
    found = pair_examples(data, reader, split="train", limits=WIDE)
    assert (len(found.rows), found.dropped) == (2, {"several_turns": 1})
    alone = point_examples(data, reader, split="train", limits=WIDE)
    assert (len(alone.rows), alone.dropped) == (5, {"several_turns": 1})


def test_reference_columns_of_prompts_that_were_cut_otherwise_are_refused(tmp_path: Path, reader: Any) -> None:
    model = tiny.model(tmp_path / "m")
    long = "begin " + "word " * 20 + "end"
    prefs = tiny.preferences([(long, "yes", "no"), ("ask", "yes", "no")])
    whole = len(reader.apply_chat_template([user(long)], add_generation_prompt=True, return_dict=False))
    cut, fits = whole - 10, whole + 10
    made = logprobs(prefs, model=model, name="ref", max_prompt_length=cut)

    def read(limit: int, data: Preferences = made) -> int:
        return len(pair_examples(data, reader, split="train", limits=Limits(200, limit), reference="ref").rows)

    for limit in (fits, cut - 3):
        says = f"max_prompt_length {cut}, which here is {limit}, and a prompt of {whole} tokens"
        with pytest.raises(InputError, match=says):
            read(limit)
    assert read(cut) == 2
    short = logprobs(prefs, model=model, name="ref", max_prompt_length=whole)
    assert read(fits, short) == 2
    with pytest.raises(InputError, match=f"which here is {whole - 1}"):
        read(whole - 1, short)
    again = logprobs(made, model=model, name="ref", max_prompt_length=fits)
    assert read(fits, logprobs(again, model=model, name="other", max_prompt_length=cut)) == 2


def test_a_pair_whose_prompt_becomes_no_tokens_is_counted_as_one_without_a_prompt() -> None:
    bare = tiny.tokenizer("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    data = tiny.preferences([("", "one", "two"), ("ask", "three", "four")])
    found = pair_examples(data, bare, split="train", limits=WIDE)
    assert (len(found.rows), found.dropped) == (1, {"missing_prompt": 1})


@pytest.mark.parametrize(("mode", "settings"), [("steerlm", {}), ("c_rlft", {"edges": [5.0]})])
def test_a_loss_that_compares_is_refused_where_nothing_was_compared(mode: str, settings: Any, tmp_path: Path) -> None:
    model = tiny.model(tmp_path / "m")
    data = relabel(tiny.preferences(4), mode, template="{scores}", **settings)
    small: dict[str, Any] = {"model": model, "max_steps": 1, "save_strategy": "no"}
    for loss in ("dpo", "simpo", ["sft", "dpo"], "kto"):
        with pytest.raises(InputError, match=r"compares chosen with rejected.*just another answer; set loss to 'sft'"):
            train(data, loss=loss, output=tmp_path / "refused", **small)
    assert not (tmp_path / "refused").exists()
    for at, loss in enumerate(("sft", "sft_sum", ["sft", {"name": "sft_sum", "weight": 0.1}])):
        assert train(data, loss=loss, output=tmp_path / f"{at}", **small).examples == 8
    again = relabel(tiny.preferences(4), "ra", template="{scores}")
    assert train(again, loss="dpo", output=tmp_path / "ra", **small).examples == 8


def test_a_loss_of_ones_own_is_let_through() -> None:
    data = relabel(tiny.preferences(4), "steerlm")
    check_judged(data, ["sft", "mine:chosen_only"])
    with pytest.raises(InputError, match="loss 'dpo' compares"):
        check_judged(data, ["mine:chosen_only", "dpo"])
