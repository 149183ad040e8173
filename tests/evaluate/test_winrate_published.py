"""AlpacaEval's published numbers, from its own verdicts; and its files, written and read again."""

import json

import polars as pl
import pytest

from pairwright.chat import assistant, system, user
from pairwright.errors import InputError
from pairwright.evaluate import winrate
from pairwright.evaluate.alpaca_eval import (
    read_annotations,
    read_model_outputs,
    write_annotations,
    write_model_outputs,
)
from pairwright.preferences import Preferences

CHECK = "data/lc_winrate_check"
RAW = ("win_rate", "standard_error", "discrete_win_rate", "n_wins", "n_wins_base", "n_draws", "n_total")


def published(shared):
    return pl.read_csv(shared(f"{CHECK}/lc_published.csv")).to_dicts()


def test_raw_win_rates_of_the_visible_prompts_are_the_published_verdicts(shared):
    path = shared("data/alpaca_eval_scored.parquet")
    for row in pl.read_csv(shared("data/alpaca_eval_published_winrates.csv")).iter_rows(named=True):
        found = winrate(path, generator=row["model"], draws=1).to_dict()
        assert found["win_rate"] == pytest.approx(row["win_rate_visible_subset"], abs=1e-9)
        assert found["n_total"] == row["n_visible"]


def test_the_constant_answer_that_wins_is_named(shared):
    notes = winrate(shared("data/alpaca_eval_scored.parquet"), generator="NullModel", draws=1).notes
    assert any("725 of 725 answers are the same text" in note for note in notes)


def published_control(shared, setting, file):
    """The verdicts of the 15 models, and the settings of the published length control."""
    difficulty = shared(f"{CHECK}/lc_instruction_difficulty.csv")
    control = {"length_controlled": True, "match": "position", "difficulty": difficulty}
    return shared(f"{CHECK}/lc_annotations.parquet"), {**control, setting: shared(f"{CHECK}/{file}")}


def test_published_raw_numbers_and_those_from_published_weights_are_reproduced(shared):
    path, control = published_control(shared, "weights", "lc_published.csv")
    for row in published(shared):
        found = winrate(path, generator=row["model"], draws=1, **control).to_dict()
        assert [found[name] for name in RAW] == pytest.approx([row[name] for name in RAW], abs=1e-9)
        assert found["length_controlled_winrate"] == pytest.approx(row["length_controlled_winrate"], abs=1e-6)
        if row["lc_standard_error"] is not None:
            assert found["lc_standard_error"] == pytest.approx(row["lc_standard_error"], abs=1e-6)


def test_fitted_again_with_the_published_c_the_number_is_the_published_one(shared):
    path, control = published_control(shared, "anchors", "lc_gamed_rows.csv.gz")
    for row in published(shared):
        found = winrate(path, generator=row["model"], strength=row["C_inferred"], draws=1, **control).to_dict()
        assert found["length_controlled_winrate"] == pytest.approx(row["length_controlled_winrate"], abs=0.015)
        # Another program's fit of the same rows.
        assert found["length_controlled_winrate"] == pytest.approx(row["lc_refit_C_inferred"], abs=2e-3)


@pytest.mark.slow
def test_fitted_again_with_c_by_cross_validation_all_are_within_fifteen_hundredths(shared):
    path, control = published_control(shared, "anchors", "lc_gamed_rows.csv.gz")
    for row in published(shared):
        found = winrate(path, generator=row["model"], draws=1, **control).to_dict()
        assert found["length_controlled_winrate"] == pytest.approx(row["length_controlled_winrate"], abs=0.15)


def test_raw_win_rates_rise_with_length_and_length_controlled_ones_do_not(shared, tmp_path):
    """Eleven samples of one model by length, over the 725 prompts that we have of the published 805."""
    other = pl.read_parquet(shared("data/extra/tulu2_bo16_baseline_gpt35.parquet")).rename({"output": "output_1"})
    answers = pl.read_parquet(shared("data/extra/tulu2_best_of_16.parquet"))
    control = {
        "length_controlled": True,
        "difficulty": shared(f"{CHECK}/lc_instruction_difficulty.csv"),
        "anchors": shared(f"{CHECK}/lc_gamed_rows.csv.gz"),
        "match": "id",
        "strength": 2.782559402207126,
        "draws": 1,
    }
    raw, controlled = [], []
    for row in pl.read_csv(shared("data/extra/tulu2_bo16_published.csv")).head(11).iter_rows(named=True):
        mine = answers.filter(pl.col("sample") == row["sample"]).join(other, on="instruction_id", maintain_order="left")
        path = tmp_path / "verdicts.parquet"
        mine.select("instruction_id", "instruction", "output_1", output_2="output", win="preference").write_parquet(
            path
        )
        found = winrate(path, **control).to_dict()
        assert found["win_rate"] == pytest.approx(100 * mine["preference"].mean(), abs=1e-9)
        assert found["win_rate"] == pytest.approx(row["wr_published"], abs=1.0)
        assert found["length_controlled_winrate"] == pytest.approx(row["lc_published"], abs=1.0)
        raw.append(found["win_rate"])
        controlled.append(found["length_controlled_winrate"])
    assert raw[-1] - raw[0] > 7
    assert abs(controlled[-1] - controlled[0]) < 4
    assert controlled[-1] < controlled[0]


def test_verdicts_written_are_read_the_same(tmp_path):
    rows = [
        {
            "instruction": "q",
            "output_1": "o",
            "generator_1": "b",
            "output_2": "é\r\n",
            "generator_2": "m",
            "preference": 1.25,
        },
        {
            "instruction": "r",
            "output_1": "oo",
            "generator_1": "b",
            "output_2": "",
            "generator_2": "m",
            "preference": None,
        },
    ]
    path, again = tmp_path / "annotations.json", tmp_path / "again.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    (first,) = read_annotations(path)
    assert first.rows["length"].to_list() == [3.0, 0.0]
    assert first.rows["win"].to_list() == [0.25, None]
    write_annotations(first, again)
    (second,) = read_annotations(again)
    assert second.rows.equals(first.rows)
    written = json.loads(again.read_text(encoding="utf-8"))
    assert [{key: row[key] for key in rows[0]} for row in written] == rows
    assert (second.model, second.opponent) == ("m", "b")


def test_lengths_alone_cannot_be_written_as_annotations(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"len_output_1": 1, "len_output_2": 2, "preference": 1.5}]))
    with pytest.raises(InputError, match="lack the text of an answer"):
        write_annotations(read_annotations(path)[0], tmp_path / "b.json")


def test_answers_are_written_and_read_as_model_outputs(tmp_path):
    rows = [
        {"dataset": "d", "instruction": "one?", "output": "1", "generator": "m"},
        {"dataset": "e", "instruction": "two?", "output": " 2 ", "generator": "m"},
    ]
    path, again = tmp_path / "model_outputs.json", tmp_path / "again.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    answers = read_model_outputs(path)
    assert answers.responses.collect()["model"].to_list() == ["m", "m"]
    assert answers.prompts.collect()["prompt"].to_list() == [[user("one?")], [user("two?")]]
    write_model_outputs(answers, again)
    assert json.loads(again.read_text(encoding="utf-8")) == rows
    write_model_outputs(answers, again, generator="new")
    assert {row["generator"] for row in json.loads(again.read_text())} == {"new"}


def test_a_conversation_is_no_instruction(tmp_path):
    prompts = pl.DataFrame({"prompt_id": ["p"], "prompt": [[system("s"), user("u")]]})
    answers = Preferences.of(prompts, pl.DataFrame({"prompt_id": ["p"], "response": [[assistant("a")]]}))
    with pytest.raises(InputError, match="give one model's answers, or its name"):
        write_model_outputs(answers, tmp_path / "o.json")
    with pytest.raises(InputError, match="one user turn alone"):
        write_model_outputs(answers, tmp_path / "o.json", generator="m")
    (tmp_path / "o.json").write_text('[{"instruction": "x"}]')
    with pytest.raises(InputError, match=r"o\.json, row 1: output"):
        read_model_outputs(tmp_path / "o.json")
