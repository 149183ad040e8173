"""Single answers, wanted or not, and answers to other prompts."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import tiny
from pairwright.errors import InputError
from pairwright.logprobs import Limits, logprobs
from pairwright.preferences import Preferences, Step
from pairwright.train import train
from pairwright.train.data import group_examples, pair_examples, point_examples

WIDE = Limits(200, 100)
FAST: dict[str, Any] = {
    "learning_rate": 0.01,
    "per_device_train_batch_size": 4,
    "logging_steps": 1,
    "save_strategy": "no",
}


@pytest.fixture(scope="module")
def reader() -> Any:
    return tiny.tokenizer()


def scored(prefs: Preferences, scores: list[float | None]) -> Preferences:
    frame = prefs.responses.collect().with_columns(pl.Series("score", scores, dtype=pl.Float64))
    frame = frame.with_columns(score_help=10.0 - pl.col("score"))
    return Preferences.of(prefs.prompts, frame, prefs.pairs, prefs.lineage)


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_answers_at_the_threshold_or_above_are_wanted(reader: Any) -> None:
    data = scored(tiny.preferences(3), [5.0, 4.9, 9.0, None, 1.0, 5.1])

    def read(**settings: Any) -> Any:
        return point_examples(data, reader, split="train", limits=WIDE, **settings)

    found = read(threshold=5.0)
    assert [row.wanted for row in found.rows] == [True, False, True, False, True]
    assert [row.scores for row in found.rows] == [None] * 5
    assert found.dropped == {"unscored": 1}
    assert [row.wanted for row in read(score="score_help", threshold=5.0).rows] == [True, True, False, True, False]
    assert [row.scores for row in read(score="help").rows] == [(5.0,), (5.1,), (1.0,), (9.0,), (4.9,)]
    everything = read()
    assert len(everything.rows) == 6
    assert all(row.wanted and row.scores is None for row in everything.rows)
    with pytest.raises(InputError, match="there is no column 'score_truth' in responses"):
        read(score="truth")


def test_more_answers_than_a_tokenizer_reads_at_once_keep_their_own_rows(reader: Any) -> None:
    data = scored(tiny.preferences(150), [float(number) for number in range(300)])
    found = point_examples(data, reader, split="train", limits=WIDE, score="score")
    assert [row.scores for row in found.rows] == [(float(number),) for number in range(300)]


def sided(sides: list[str], *, prompts: list[str | None] | None = None) -> Preferences:
    """Pairs, one to each prompt, on these sides of a split; prompts say none, or the ones given."""
    prefs = tiny.preferences(len(sides))
    asked = prefs.prompts if prompts is None else prefs.prompts.with_columns(split=pl.Series(prompts, dtype=pl.String))
    return Preferences.of(asked, prefs.responses, prefs.pairs.with_columns(split=pl.Series(sides)))


def places(data: Preferences, reader: Any, split: str, **settings: Any) -> list[int]:
    """The numbers of the prompts (their last word) whose answers are trained on; answers and groups agree."""
    alone = point_examples(data, reader, split=split, limits=WIDE, **settings)
    together = group_examples(data, reader, split=split, limits=WIDE)
    found = [
        [int(reader.decode(row.prompt).split("<|end|>")[0].split()[-1]) for row in examples.rows]
        for examples in (alone, together)
    ]
    assert found[0] == [number for number in found[1] for _ in (0, 1)]
    assert alone.dropped == together.dropped
    return found[1]


def test_where_prompts_say_no_split_their_pairs_do(reader: Any) -> None:
    data = sided(["train", "test", "train", "test"])
    assert places(data, reader, "train") == [0, 2]
    assert places(data, reader, "test") == [1, 3]
    with pytest.raises(InputError, match="no prompts of split 'dev': its prompts are of 'test', 'train'"):
        places(data, reader, "dev")
    none = Preferences.of(data.prompts, data.responses)
    assert places(none, reader, "train") == [0, 1, 2, 3]
    with pytest.raises(InputError, match="no prompts of split 'test': its prompts are of 'train'"):
        places(none, reader, "test")
    half_said = sided(["train", "test", "train", "train"], prompts=["train", "test", None, "train"])
    assert places(half_said, reader, "train") == [0, 2, 3]


def test_a_prompt_of_two_splits_is_in_neither(reader: Any) -> None:
    prefs = sided(["train", "test", "train"])
    twice = pl.concat([prefs.pairs, prefs.pairs.head(1).with_columns(split=pl.lit("test"))])
    data = Preferences.of(prefs.prompts, prefs.responses, twice)
    for split, left in (("train", [2]), ("test", [1])):
        assert places(data, reader, split) == left
        found = point_examples(data, reader, split=split, limits=WIDE)
        assert found.dropped == {"several_splits": 2}
        assert f"2 answers are to prompts of {split!r} and of another split too; they are in neither" in found.notes
    against = sided(["test", "train"], prompts=["train", "train"])
    assert places(against, reader, "train") == [1]


def test_what_selection_dropped_stays_dropped(reader: Any) -> None:
    prefs = sided(["train"] * 4, prompts=["train"] * 4)
    data = prefs.then(Step(name="select"), pairs=prefs.pairs.filter(pl.col("chosen_id").is_in([2, 6])))
    assert places(data, reader, "train") == [1, 3]
    found = point_examples(data, reader, split="train", limits=WIDE)
    assert found.dropped == {"not_in_a_pair": 4}
    assert any(note.startswith("4 answers are to prompts without a pair") for note in found.notes)


def test_goals_and_weights_are_no_matter_of_answers_without_pairs(reader: Any) -> None:
    prefs = sided(["train", "train", "test"])
    asked = prefs.then(Step(name="relabel"), pairs=prefs.pairs.with_columns(goal=pl.lit(5.0)))
    weighed = prefs.then(Step(name="x"), pairs=prefs.pairs.with_columns(weight=pl.Series([1.0, 0.1, 1.0])))
    for read in (point_examples, group_examples):
        with pytest.raises(
            InputError, match=r"these pairs ask for goals.*relabel with the mode plain, or set examples"
        ):
            read(asked, reader, split="train", limits=WIDE)
        with pytest.raises(InputError, match="1 pairs of split 'train' have a weight other than 1"):
            read(weighed, reader, split="train", limits=WIDE)
    assert places(weighed, reader, "test") == [2]
    unsaid = prefs.then(Step(name="x"), pairs=prefs.pairs.with_columns(weight=pl.lit(None, dtype=pl.Float64)))
    assert places(unsaid, reader, "train") == [0, 1]


def test_answers_that_are_wanted_and_unwanted_are_not_taken(reader: Any) -> None:
    rows = [("ask", "yes", "yes"), ("ask b", "yes", "no"), ("ask c", "so", "so")]
    data = scored(tiny.preferences(rows), [8.0, 3.0, 8.0, 3.0, 8.0, 7.0])
    found = point_examples(data, reader, split="train", limits=WIDE, threshold=5.0)
    # The same text to another prompt is another answer; a text that is wanted twice stays twice.
    assert [reader.decode(row.answers[0]) for row in found.rows] == [
        "yes<|end|>",
        "no<|end|>",
        "so<|end|>",
        "so<|end|>",
    ]
    assert found.dropped == {"equal_text": 2}
    assert len(point_examples(data, reader, split="train", limits=WIDE).rows) == 6


def test_it_is_said_how_many_answers_are_wanted(reader: Any) -> None:
    data = scored(tiny.preferences(3), [5.0, 4.9, 9.0, None, 1.0, 5.1])

    def notes(**settings: Any) -> tuple[str, ...]:
        return point_examples(data, reader, split="train", limits=WIDE, **settings).notes

    assert "3 answers are wanted (score of 5 or more) and 2 are not" in notes(threshold=5.0)
    assert notes(threshold=0.0)[-1] == (
        "5 answers are wanted (score of 0 or more) and 0 are not, so nothing is set against them; see the threshold"
    )
    assert (
        "0 answers are wanted (score_help of 99 or more) and 5 are not" in notes(threshold=99.0, score="score_help")[-1]
    )
    assert not any("wanted" in note for note in notes())


def test_columns_of_answers_are_their_reference(model: Path, reader: Any) -> None:
    data = logprobs(tiny.preferences(3), model=model, name="ref")
    found = point_examples(data, reader, split="train", limits=WIDE, reference="ref")
    assert [row.refs for row in found.rows] == [(value,) for value in data.responses.collect()["logp_ref"].to_list()]
    assert len(found.reference_sums()) == 16
    unknown = data.responses.with_columns(pl.when(pl.int_range(pl.len()) > 1).then("logp_ref").alias("logp_ref"))
    part = Preferences.of(data.prompts, unknown)
    assert point_examples(part, reader, split="train", limits=WIDE, reference="ref").dropped == {"no_reference": 2}
    longer = Preferences.of(data.prompts, data.responses.with_columns(pl.col("len_ref") + 1))
    with pytest.raises(InputError, match="run logprobs again"):
        point_examples(longer, reader, split="train", limits=WIDE, reference="ref")
    tight = max(len(row.prompt) for row in found.rows) - 1
    with pytest.raises(InputError, match=f"which here is {tight}, and a prompt of {tight + 1} tokens"):
        point_examples(data, reader, split="train", limits=Limits(200, tight), reference="ref")
    with pytest.raises(InputError, match="set reference to 'store' or 'frozen'"):
        point_examples(data, reader, split="train", limits=WIDE, reference="ref", strangers=True)
    with pytest.raises(InputError, match="set reference to 'store' or 'frozen'"):
        pair_examples(data, reader, split="train", limits=WIDE, reference="ref", strangers=True)


def test_a_stranger_is_an_answer_to_another_prompt_drawn_from_the_seed(reader: Any) -> None:
    prefs = tiny.preferences(6)

    def strangers(seed: int, data: Preferences = prefs) -> list[tuple[str, str]]:
        rows = pair_examples(data, reader, split="train", limits=WIDE, strangers=True, seed=seed).rows
        return [(reader.decode(row.prompt), reader.decode(row.stranger)) for row in rows]

    texts = {
        reader.decode(ids): reader.decode(row.prompt)
        for row in pair_examples(prefs, reader, split="train", limits=WIDE).rows
        for ids in row.answers
    }
    found = strangers(0)
    assert all(texts[answer] != prompt for prompt, answer in found)
    assert len({answer for _, answer in found}) == 6  # each lends one
    assert found == strangers(0)
    assert found != strangers(1)
    alone = point_examples(prefs, reader, split="train", limits=WIDE, strangers=True).rows
    assert all(texts[reader.decode(row.stranger)] != reader.decode(row.prompt) for row in alone)
    assert all(row.stranger is None for row in group_examples(prefs, reader, split="train", limits=WIDE).rows)
    with pytest.raises(InputError, match="all examples have the same"):
        strangers(0, tiny.preferences([("ask", "yes", "no"), ("ask", "aye", "nay")]))


def test_copies_of_a_prompt_that_ask_for_other_goals_are_no_strangers(reader: Any) -> None:
    from pairwright.goals import GoalFormat

    prefs = tiny.preferences(3)
    pairs = pl.concat([prefs.pairs.with_columns(goal=pl.lit(goal)) for goal in (8.0, 3.0, 5.0)])
    step = Step(name="relabel", settings={"goal": GoalFormat(placement="auto").model_dump(mode="json")})
    rows = pair_examples(
        prefs.then(step, pairs=pairs), reader, split="train", limits=Limits(400, 300), strangers=True
    ).rows
    assert len(rows) == 9
    assert len({row.prompt.tobytes() for row in rows}) == 9
    for row in rows:
        assert row.stranger is not None
        assert row.stranger.tolist() not in [ids.tolist() for ids in row.answers]


def test_a_stranger_that_is_too_long_after_its_prompt_is_cut_and_said(reader: Any) -> None:
    prefs = tiny.preferences([("p" * 40, "yes", "no"), ("q", "y" * 60, "n" * 60)])
    found = pair_examples(prefs, reader, split="train", limits=Limits(70, 50), strangers=True)
    first = found.rows[0]
    assert first.stranger is not None
    assert len(first.prompt) + len(first.stranger) == 70
    assert "1 of 2 answers to other prompts were cut at their end to fit" in found.notes


def test_wanted_answers_rise_and_unwanted_ones_fall(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    settings = {"model": model, "examples": "responses", "threshold": 5.0, "num_train_epochs": 3.0, **FAST}
    for loss in ("kto", "bco", "apo_zero_unpaired"):
        run = train(prefs, loss=loss, output=tmp_path / loss, **settings)
        rows = lines(run.directory)
        assert rows[-1]["loss"] < rows[0]["loss"]
        both = [row for row in rows if "rewards/margins" in row]
        assert both[-1]["rewards/margins"] > 0.1
        for row in both:
            assert row["rewards/margins"] == pytest.approx(row["rewards/chosen"] - row["rewards/rejected"], abs=1e-6)
        assert sum(row["pairwright/responses"] for row in rows) == 3 * 16
        assert ("kl" in rows[0]) == (loss == "kto")
        assert ("pairwright/baseline" in rows[0]) == (loss == "bco")
        first = {"kto": 0.5, "bco": 0.6931472, "apo_zero_unpaired": 0.5}[loss]
        assert rows[0]["loss"] == pytest.approx(first, abs=1e-4)
