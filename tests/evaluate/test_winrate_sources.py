"""What verdicts a win rate is taken from: scales, annotators, names, missing answers, settings that change nothing."""

import json
import math

import numpy as np
import polars as pl
import pytest

from pairwright.chat import assistant, user
from pairwright.cli import main
from pairwright.errors import InputError
from pairwright.evaluate import winrate
from pairwright.pipeline import run
from pairwright.preferences import Preferences


def rows(preferences, **columns):
    return [
        {
            "instruction": f"q{i}",
            "output_1": "o" * (20 + i),
            "generator_1": "theirs",
            "output_2": f"{i}".ljust(10 + i % 7, "m"),
            "generator_2": "mine",
            "preference": preference,
        }
        | columns
        for i, preference in enumerate(preferences)
    ]


def written(path, what):
    path.write_text(json.dumps(what), encoding="utf-8")
    return path


def answers(by_prompt):
    """Prompts with (model, score, text) each."""
    prompts = pl.DataFrame(
        {"prompt_id": [f"id {each}" for each in by_prompt], "prompt": [[user(p)] for p in by_prompt]}
    )
    flat = [(f"id {prompt}", *each) for prompt, of in by_prompt.items() for each in of]
    responses = pl.DataFrame(
        {
            "prompt_id": [each[0] for each in flat],
            "model": pl.Series([each[1] for each in flat], dtype=pl.String),
            "score": pl.Series([each[2] for each in flat], dtype=pl.Float64),
            "response": [[assistant(each[3])] for each in flat],
        }
    )
    return Preferences.of(prompts, responses)


def rate(result, name="win_rate"):
    return result.metric(name).value


def test_zeros_alone_are_no_draws_until_the_scale_is_said(tmp_path):
    path = written(tmp_path / "a.json", rows([0.0] * 8))
    with pytest.raises(InputError, match=r"`preference` is 0 alone.*scale preference or scale win"):
        winrate(path)
    assert rate(winrate(path, scale="win", draws=2)) == 0.0
    assert rate(winrate(path, scale="preference", draws=2)) == 50.0


def test_ones_alone_are_lost_and_the_note_says_on_which_scale(tmp_path):
    path = written(tmp_path / "a.json", rows([1.0] * 8))
    lost = winrate(path, draws=2)
    assert rate(lost) == 0.0
    assert any("`preference` is 1 everywhere" in note and "scale win" in note for note in lost.notes)
    won = winrate(path, scale="win", draws=2)
    assert rate(won) == 100.0
    assert not any("1 everywhere" in note for note in won.notes)


def test_each_row_is_read_by_its_own_column(tmp_path):
    """One `win` of 1/2, one AlpacaEval preference of 2 and one of 1: (1/2 + 1 + 0) / 3."""
    mixed = rows([None, 2.0, 1.0])
    mixed[0]["win"] = 0.5
    assert rate(winrate(written(tmp_path / "a.json", mixed), draws=2)) == pytest.approx(50.0)
    both = [{**row, "win": 0.25} for row in rows([2.0, 2.0])]
    assert rate(winrate(written(tmp_path / "b.json", both), draws=2)) == pytest.approx(25.0)
    with pytest.raises(InputError, match="values between 0 and 1 and others above 1"):
        winrate(written(tmp_path / "c.json", rows([0.2, 1.6])))
    with pytest.raises(InputError, match=r"row 2: the verdict 2 is no probability"):
        winrate(written(tmp_path / "d.json", rows([1.0, 2.0])), scale="win")


def test_several_annotators_are_one_verdict_for_each_prompt(tmp_path):
    """Means 1/2 and 3/4 over two prompts, not four; alone A gives 1 and B 1/4. The standard error has n = 2."""
    two = [*rows([2.0, 2.0], annotator="A"), *rows([1.0, 1.5], annotator="B")]
    path = written(tmp_path / "a.json", two)
    found = winrate(path, draws=5)
    assert rate(found) == pytest.approx(62.5)
    assert rate(found, "n_total") == 2
    assert rate(found, "standard_error") == pytest.approx(100 * 0.125 * math.sqrt(2) / math.sqrt(2))
    assert any("There are 2 annotators (A, B)" in note for note in found.notes)
    assert rate(winrate(path, annotator="A", draws=2)) == 100.0
    assert rate(winrate(path, annotator="B", draws=2)) == pytest.approx(25.0)
    with pytest.raises(InputError, match="no verdicts of annotator 'C'"):
        winrate(path, annotator="C")
    with pytest.raises(InputError, match="annotator would change nothing"):
        winrate(answers({"p": [("a", 1.0, "x"), ("b", 2.0, "y")]}), generator="a", annotator="A")
    twice = winrate(written(tmp_path / "b.json", [*two, {**two[0], "preference": 1.0}]), draws=2)
    assert rate(twice, "n_total") == 3  # what one annotator judged twice stays two verdicts


def test_a_file_on_one_model_takes_the_name_that_is_asked(tmp_path):
    path = written(tmp_path / "a.json", rows([2.0, 1.0]))
    found = winrate(path, generator="new", draws=2)
    assert found.settings["generator"] == "new"
    assert any("has verdicts on mine alone; they are taken as those on new" in note for note in found.notes)
    assert not any("taken as" in note for note in winrate(path, generator="mine", draws=2).notes)


def test_the_opponent_of_a_file_of_verdicts_must_be_the_one_asked(tmp_path):
    path = written(tmp_path / "a.json", rows([2.0, 1.0]))
    assert winrate(path, opponent="theirs", draws=2).settings["opponent"] == "theirs"
    with pytest.raises(InputError, match="mine meets theirs, not others"):
        winrate(path, opponent="others")
    unnamed = written(tmp_path / "b.json", rows([2.0, 1.0], generator_1=None))
    assert any("is taken to be others" in note for note in winrate(unnamed, opponent="others", draws=2).notes)


def test_models_that_met_different_opponents_are_not_compared(tmp_path):
    mine = written(tmp_path / "a.json", rows([2.0, 1.0]))
    other = written(tmp_path / "b.json", rows([2.0, 2.0], generator_2="second", generator_1="somebody"))
    with pytest.raises(InputError, match=r"second meets somebody, not theirs"):
        winrate(mine, against=other)
    unnamed = written(tmp_path / "c.json", rows([2.0, 2.0], generator_2="second", generator_1=None))
    found = winrate(mine, against=unnamed, draws=2)
    assert rate(found, "difference") == pytest.approx(-50.0)
    assert any("does not name the opponent; it is taken to be theirs" in note for note in found.notes)
    turned = winrate(unnamed, against=mine, draws=2)
    assert any("does not name the opponent; it is taken to be theirs" in note for note in turned.notes)


def test_the_second_model_is_named_where_there_are_several(tmp_path):
    mine = written(tmp_path / "a.json", rows([2.0, 1.0]))
    several = [*rows([1.0, 1.0], generator_2="x"), *rows([2.0, 2.0], generator_2="y")]
    against = written(tmp_path / "b.json", several)
    with pytest.raises(InputError, match=r"several models \(x, y\); name one as against_generator"):
        winrate(mine, against=against)
    assert rate(winrate(mine, against=against, against_generator="x", draws=2), "difference") == pytest.approx(50.0)
    found = winrate(mine, against=against, against_generator="y", draws=2)
    assert rate(found, "difference") == pytest.approx(-50.0)
    assert found.settings["against_generator"] == "y"
    with pytest.raises(InputError, match="against_generator is for against"):
        winrate(mine, against_generator="x")


def test_a_second_model_of_scored_answers_is_named_where_there_are_several(tmp_path):
    """Over the base a wins both prompts, b one."""
    several = answers({f"q{i}": [("a", 1.0, "x"), ("b", float(i), "x"), ("base", 0.5, "y")] for i in range(2)})
    several.save(tmp_path / "all")
    asked = {"generator": "a", "opponent": "base", "against": tmp_path / "all", "draws": 2}
    with pytest.raises(InputError, match="name the model as against_generator; the answers are of a, b, base"):
        winrate(several, **asked)
    assert rate(winrate(several, against_generator="b", **asked), "difference") == pytest.approx(50.0)


def test_two_models_are_paired_by_text_where_one_file_has_no_numbers(tmp_path):
    """Numbers in one file alone, in the other order: 1, 0 and 1 against 0, 0 and 1, by the prompts' texts."""
    mine = [{**row, "instruction_id": 7 - i} for i, row in enumerate(rows([2.0, 1.0, 2.0]))]
    other = rows([1.0, 1.0, 2.0], generator_2="second")[::-1]
    found = winrate(written(tmp_path / "a.json", mine), against=written(tmp_path / "b.json", other), draws=2)
    assert rate(found, "difference") == pytest.approx(100 / 3)
    assert found.metric("difference").n == 3
    numbers = [{key: value for key, value in row.items() if key != "instruction"} for row in mine]
    with pytest.raises(InputError, match="cannot be told which prompts are the same"):
        winrate(written(tmp_path / "c.json", numbers), against=written(tmp_path / "d.json", other))


def test_prompts_that_one_side_did_not_answer_are_counted():
    """p is won; q the opponent alone answered, r the model alone; one answer has no model."""
    found = winrate(
        answers(
            {
                "p": [("a", 2.0, "aa"), ("b", 1.0, "b")],
                "q": [("b", 1.0, "b"), (None, 9.0, "?")],
                "r": [("a", 3.0, "aaaa")],
                "s": [("c", 1.0, "c")],
            }
        ),
        generator="a",
        opponent="b",
        draws=2,
    )
    assert (rate(found), rate(found, "n_total")) == (100.0, 1)
    for said in (
        "1 of 3 prompts have no answer of a,",
        "1 of 3 prompts have no answer of b,",
        "1 of 6 answers name no model",
        "2 of 3 rows have no verdict and are left out; with them the win rate would lie between 33.3",
    ):
        assert any(said in note for note in found.notes)
    assert rate(found, "avg_length") == 3  # of aa and aaaa


def test_a_model_without_answers_to_half_the_prompts_is_bounded():
    """60 prompts won of 120 that the opponent answered: between 50 and 100."""
    lacking = {f"q{i}": [("b", 0.0, "b"), *([("a", 1.0, "a")] if i % 2 else [])] for i in range(120)}
    notes = winrate(answers(lacking), generator="a", draws=2).notes
    assert any("60 of 120 prompts have no answer of a" in note for note in notes)
    assert any("between 50.0 (all lost) and 100.0 (all won)" in note for note in notes)


def test_scored_answers_with_a_column_preference_are_scored_answers(tmp_path):
    path = tmp_path / "a.jsonl"
    flat = [
        {"prompt": f"q{i}", "response": model * (i + 1), "model": model, "score": score, "preference": 0.3}
        for i in range(4)
        for model, score in (("a", float(i % 2)), ("b", 0.5))
    ]
    path.write_text("\n".join(map(json.dumps, flat)))
    assert rate(winrate(path, generator="a", draws=2)) == pytest.approx(50.0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"difficulty": "d.csv"}, "difficulty are for length_controlled"),
        ({"anchors": "d.csv"}, "anchors are for length_controlled"),
        ({"weights": "d.csv"}, "weights are for length_controlled"),
        ({"w_len": 1.0}, "w_len are for length_controlled"),
        ({"w_diff": 1.0}, "w_diff are for length_controlled"),
        ({"w_bias": 0.0}, "w_bias are for length_controlled"),
        ({"strength": 1.0}, "strength are for length_controlled"),
        ({"match": "id"}, "match are for length_controlled"),
        ({"score": "s"}, "score would change nothing, as no source has scored answers"),
        ({"reading": "share"}, "reading would change nothing, as no source has scored answers"),
    ],
)
def test_a_setting_that_would_change_nothing_is_refused_by_name(tmp_path, settings, said):
    with pytest.raises(InputError, match=said):
        winrate(written(tmp_path / "a.json", rows([2.0, 1.0])), **settings)


def test_others_without_length_control_are_refused(tmp_path):
    path = written(tmp_path / "a.json", rows([2.0, 1.0]))
    with pytest.raises(InputError, match="others are for length_controlled"):
        winrate(path, others=[path])
    with pytest.raises(InputError, match="scale would change nothing, as no source has verdicts"):
        winrate(answers({"p": [("a", 1.0, "x"), ("b", 2.0, "y")]}), generator="a", scale="win")


def test_a_negative_position_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.json, row 2: position"):
        winrate(written(tmp_path / "a.json", [rows([2.0])[0], {**rows([1.0])[0], "position": -1}]))


def test_the_table_has_win_rate_and_length_of_each_dataset(tmp_path):
    """Of "x" 1 and 0 with 10 and 12 characters, of "y" one of 1/2 with 11."""
    three = rows([2.0, 1.5, 1.0])
    parts = [{**row, "dataset": name} for row, name in zip(three, "xyx", strict=True)]
    table = winrate(written(tmp_path / "a.json", parts), draws=2).table
    assert [(row["dataset"], row["win_rate"], row["avg_length"], row["n"]) for row in table] == [
        ("x", pytest.approx(50.0), 11.0, 2),
        ("y", pytest.approx(50.0), 11.0, 1),
    ]
    uneven = [{**row, "dataset": name} for row, name in zip(three, "xyy", strict=True)]
    table = winrate(written(tmp_path / "b.json", uneven), draws=2).table
    assert [row["win_rate"] for row in table] == pytest.approx([100.0, 25.0])


@pytest.mark.parametrize("shares", [(1.5, -0.5), (-0.1, 1.1)])
def test_a_share_beyond_one_is_refused(shares):
    both = answers({"p": [("a", shares[0], "x"), ("b", shares[1], "y")]})
    with pytest.raises(InputError, match="are no shares of one win"):
        winrate(both, generator="a", reading="share")


def test_the_bounds_of_what_is_said_are_where_they_are_said_to_be(tmp_path):
    """More than 1% without a verdict gets bounds, more than a fifth alike is a constant text."""
    for missing, bounded in ((2, False), (3, True)):
        some = rows([2.0] * (200 - missing) + [None] * missing)
        notes = winrate(written(tmp_path / "m.json", some), draws=2).notes
        assert any(f"{missing} of 200 rows have no verdict" in note for note in notes)
        assert any("would lie between" in note for note in notes) == bounded
    for alike, said in ((20, False), (21, True)):
        some = [{**row, "output_2": "same"} if i < alike else row for i, row in enumerate(rows([2.0] * 100))]
        some = [{**row, "output_2": f"{i} {row['output_2']}"} if i >= alike else row for i, row in enumerate(some)]
        notes = winrate(written(tmp_path / "c.json", some), draws=2).notes
        assert any("answers are the same text" in note for note in notes) == said


def test_a_second_model_may_be_the_answers_of_an_earlier_step(tmp_path):
    """1, 1 and 0 over the base against 0, 1 and 0."""
    answers({f"q{i}": [("a", s, "x"), ("base", 0.5, "y")] for i, s in enumerate([1.0, 1.0, 0.0])}).save(
        tmp_path / "one"
    )
    answers({f"q{i}": [("b", s, "x"), ("base", 0.5, "y")] for i, s in enumerate([0.0, 1.0, 0.0])}).save(
        tmp_path / "two"
    )
    steps = [
        {"name": "one", "do": "read", "source": str(tmp_path / "one")},
        {"name": "two", "do": "read", "source": str(tmp_path / "two")},
        {
            "name": "rate",
            "do": "evaluate",
            "what": "winrate",
            "source": str(tmp_path / "one"),
            "generator": "a",
            "against": "step:two",
            "draws": 2,
        },
    ]
    ran = run(steps, output=tmp_path / "run")
    found = json.loads((ran.step("rate") / "result.json").read_text())
    assert found["difference"] == pytest.approx(100 / 3)
    assert found["settings"]["against_generator"] == "b"


def test_a_setting_that_is_a_model_takes_no_data(tmp_path):
    answers({"q": [("a", 1.0, "x"), ("b", 0.5, "y")]}).save(tmp_path / "one")
    steps = [
        {"name": "one", "do": "read", "source": str(tmp_path / "one")},
        {"name": "log", "do": "logprobs", "model": "step:one"},
    ]
    with pytest.raises(InputError, match="model must be a model, and step 'one' gives data"):
        run(steps, output=tmp_path / "run")


def test_the_command_takes_the_second_models_name(tmp_path, capsys):
    mine = written(tmp_path / "a.json", rows([2.0, 1.0]))
    several = [*rows([1.0, 1.0], generator_2="x"), *rows([2.0, 2.0], generator_2="y")]
    against = written(tmp_path / "b.json", several)
    asked = ["--against", str(against), "--against-generator", "y", "--scale", "preference", "--json"]
    assert main(["evaluate", "winrate", str(mine), *asked]) == 0
    assert json.loads(capsys.readouterr().out)["difference"] == pytest.approx(-50.0)


def test_what_differs_between_bootstrap_draws_is_the_pairs(tmp_path):
    """A paired difference that is the same everywhere has no width, though both win rates have one."""
    random = np.random.default_rng(0)
    base = 1.0 + 0.5 * random.random(60)
    one = written(tmp_path / "a.json", rows([float(each) + 0.3 for each in base]))
    two = written(tmp_path / "b.json", rows([float(each) for each in base], generator_2="second"))
    found = winrate(one, against=two, draws=50)
    difference = found.metric("difference")
    assert (difference.value, difference.low, difference.high) == pytest.approx((30.0, 30.0, 30.0))
    assert found.metric("win_rate").high - found.metric("win_rate").low > 1.0
