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
