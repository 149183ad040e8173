"""Raw win rates: hand arithmetic, scored answers, a judge in both orders, two models, and what makes them doubtful."""

import json
import math

import polars as pl
import pytest

from pairwright.chat import assistant, user
from pairwright.cli import main
from pairwright.errors import InputError
from pairwright.evaluate import winrate
from pairwright.pipeline import run
from pairwright.preferences import Preferences
from pairwright.scorers.judge.compared import agreed, settle
from pairwright.scorers.judge.readings import Judged, Verdict

PREFERENCES = [2.0, 1.0, 1.5, 0.0, 1.9, 1.2, 1.0, 2.0]
"""As probabilities 1, 0, .5, .5, .9, .2, 0, 1: 0 is a draw in old files."""


def rows(preferences, *, model="mine", lengths=None, first=0):
    lengths = lengths or [10 + i for i in range(len(preferences))]
    return [
        {
            "instruction": f"q{first + i}",
            "output_1": "o" * 20,
            "generator_1": "theirs",
            "output_2": f"{first + i}".ljust(length, "m"),
            "generator_2": model,
            "annotator": "a",
            "preference": preference,
        }
        for i, (preference, length) in enumerate(zip(preferences, lengths, strict=True))
    ]


def written(path, what):
    path.write_text(json.dumps(what), encoding="utf-8")
    return path


def test_the_numbers_are_those_of_hand_arithmetic(tmp_path):
    """3 verdicts above a half, 2 draws, 3 below; the sum is 4.1, that of squares 1 + .25 + .25 + .81 + .04 + 1."""
    found = winrate(written(tmp_path / "annotations.json", rows(PREFERENCES)), draws=50).to_dict()
    assert found["win_rate"] == pytest.approx(100 * 4.1 / 8)
    variance = (3.35 - 4.1**2 / 8) / 7
    assert found["standard_error"] == pytest.approx(100 * math.sqrt(variance / 8))
    assert found["discrete_win_rate"] == pytest.approx(100 * (3 + 2 / 2) / 8)
    assert [found[name] for name in ("n_wins", "n_wins_base", "n_draws", "n_total")] == [3, 3, 2, 8]
    assert found["avg_length"] == 13  # 10 to 17 have a mean of 13.5, and AlpacaEval takes the whole part
    assert (found["name"], found["n"]) == ("winrate", 8)


def test_turning_the_verdicts_turns_the_win_rate(tmp_path):
    turned = [1.5 if each == 0.0 else 3.0 - each for each in PREFERENCES]
    one = winrate(written(tmp_path / "a.json", rows(PREFERENCES)), draws=5).to_dict()
    two = winrate(written(tmp_path / "b.json", rows(turned)), draws=5).to_dict()
    for name in ("win_rate", "discrete_win_rate"):
        assert one[name] + two[name] == pytest.approx(100.0)
    assert (one["n_wins"], one["n_wins_base"]) == (two["n_wins_base"], two["n_wins"])


def test_the_command_prints_alpaca_evals_names(tmp_path, capsys):
    path = written(tmp_path / "annotations.json", rows(PREFERENCES))
    assert main(["evaluate", "winrate", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["win_rate"] == pytest.approx(51.25)
    names = {"win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total", "discrete_win_rate"}
    assert names <= found.keys()


def test_a_step_of_a_recipe_reads_verdicts_and_answers_of_a_step(tmp_path):
    path = written(tmp_path / "annotations.json", rows(PREFERENCES))
    answers({"p": [("a", 2.0), ("b", 1.0)], "q": [("a", 1.0), ("b", 1.0)]}).save(tmp_path / "answers")
    steps = [
        {"name": "file", "do": "evaluate", "what": "winrate", "source": str(path), "draws": 5},
        {"name": "data", "do": "read", "source": str(tmp_path / "answers")},
        {"name": "answers", "do": "evaluate", "what": "winrate", "source": str(tmp_path / "answers"), "generator": "a"},
    ]
    ran = run(steps, output=tmp_path / "run")
    values = [json.loads((ran.step(name) / "result.json").read_text())["win_rate"] for name in ("file", "answers")]
    assert values == pytest.approx([51.25, 75.0])


def test_the_interval_is_over_prompts_and_narrow_where_all_say_the_same(tmp_path):
    same = winrate(written(tmp_path / "same.json", rows([1.7] * 30)), draws=50).metric("win_rate")
    assert (same.value, same.low, same.high) == pytest.approx((70.0, 70.0, 70.0))
    half = winrate(written(tmp_path / "half.json", rows([1.0, 2.0] * 200)), draws=1000).metric("win_rate")
    # The mean of 400 fair coins has a standard deviation of 2.5 points; 1000 draws find its quantiles to a few percent.
    assert (half.low, half.high) == pytest.approx((50 - 1.96 * 2.5, 50 + 1.96 * 2.5), abs=0.6)


def test_rows_without_a_verdict_are_counted_and_bound_the_win_rate(tmp_path):
    found = winrate(written(tmp_path / "a.json", rows([2.0, 1.0, None, 2.0])), draws=5)
    assert found.to_dict()["win_rate"] == pytest.approx(100 * 2 / 3)
    assert found.to_dict()["n_total"] == 3
    said = "1 of 4 rows have no verdict and are left out; with them the win rate would lie between 50.0"
    assert any(said in note and "75.0 (all won)" in note for note in found.notes)


def test_few_verdicts_constant_and_empty_answers_and_repeated_prompts_are_said(tmp_path):
    fine = rows([2.0, 1.0] * 60)
    constant = [{**row, "output_2": "Choose me."} for row in fine]
    notes = winrate(written(tmp_path / "constant.json", constant), draws=5).notes
    assert any("120 of 120 answers are the same text" in note for note in notes)
    assert winrate(written(tmp_path / "fine.json", fine), draws=5).notes == ()
    odd = [*fine, {**fine[0], "output_2": " "}]
    notes = winrate(written(tmp_path / "odd.json", odd), draws=5).notes
    assert "1 rows repeat a prompt; intervals are over prompts." in notes
    assert "1 of 121 answers are empty." in notes
    few = winrate(written(tmp_path / "few.json", fine[:25]), draws=5).notes
    assert few == ("25 verdicts are few: the standard error can be 10 points; AlpacaEval has 805.",)


def test_a_verdict_out_of_its_scale_names_file_and_row(tmp_path):
    bad = written(tmp_path / "a.json", rows([2.0, 2.5]))
    with pytest.raises(InputError, match=r"a\.json, row 2: the preference 2\.5 is outside of AlpacaEval's scale"):
        winrate(bad)
    text = written(tmp_path / "b.json", rows([2.0, "won"]))
    with pytest.raises(InputError, match=r"b\.json, row 2: .*valid number"):
        winrate(text)
    none = written(tmp_path / "c.json", rows([None, None]))
    with pytest.raises(InputError, match="no row has a verdict"):
        winrate(none)
    missing = written(tmp_path / "d.json", [{"instruction": "q", "output_1": "a", "output_2": "b"}])
    with pytest.raises(InputError, match="has no verdicts"):
        winrate(missing)


def test_probabilities_are_told_from_alpaca_evals_scale_or_refused(tmp_path):
    between = winrate(written(tmp_path / "p.json", rows([0.2, 1.0, 0.0])), draws=5)
    assert between.to_dict()["win_rate"] == pytest.approx(40.0)
    assert "read as a probability" in between.notes[0]
    with pytest.raises(InputError, match="is 0 or 1 alone"):
        winrate(written(tmp_path / "q.json", rows([0.0, 1.0, 1.0])))
    wins = [{**row, "win": value} for row, value in zip(rows([None] * 3), [0.0, 1.0, 1.0], strict=True)]
    assert winrate(written(tmp_path / "w.json", wins), draws=5).to_dict()["win_rate"] == pytest.approx(200 / 3)
    lost = winrate(written(tmp_path / "l.json", rows([1.0, 1.0])), draws=5).to_dict()
    assert (lost["win_rate"], lost["n_wins_base"]) == (0.0, 2)


def test_a_file_of_several_models_needs_a_name(tmp_path):
    both = [*rows([2.0, 2.0, 1.0], model="strong"), *rows([1.0, 1.0, 1.0], model="weak")]
    path = written(tmp_path / "a.json", both)
    with pytest.raises(InputError, match=r"several models \(strong, weak\); name one as generator"):
        winrate(path)
    with pytest.raises(InputError, match="did you mean 'strong'"):
        winrate(path, generator="strnog")
    assert winrate(path, generator="strong", draws=5).to_dict()["win_rate"] == pytest.approx(200 / 3)
    mixed = [*rows([2.0]), {**rows([1.0])[0], "generator_1": "others"}]
    with pytest.raises(InputError, match="meets several opponents"):
        winrate(written(tmp_path / "m.json", mixed))


def test_two_models_are_compared_prompt_by_prompt(tmp_path):
    """Common prompts q1 to q4: 1, 0, 1, 1 against .5, 0, 0, 1, in another order in the second file."""
    mine = written(tmp_path / "a.json", rows([2.0, 2.0, 1.0, 2.0, 2.0]))
    theirs = rows([1.5, 1.0, 1.0, 2.0, 2.0], model="other", first=1)
    against = written(tmp_path / "b.json", theirs[::-1])
    result = winrate(mine, against=against, draws=500)
    found = result.to_dict()
    assert found["win_rate"] == pytest.approx(80.0)
    assert found["against/win_rate"] == pytest.approx(100 * (0.5 + 0 + 0 + 1) / 4)
    assert found["difference"] == pytest.approx(75.0 - 37.5)
    assert result.metric("difference").n == 4
    assert any("2 verdicts on one of the two models alone" in note for note in result.notes)
    same = winrate(mine, against=mine, draws=50).metric("difference")
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    apart = written(tmp_path / "c.json", rows([1.0], first=50))
    with pytest.raises(InputError, match="no prompt in common"):
        winrate(mine, against=apart)


def answers(by_prompt, dataset=None):
    """Prompts with (model, score) each; the answer's text is its model and score."""
    prompts = pl.DataFrame({"prompt_id": list(by_prompt), "prompt": [[user(each)] for each in by_prompt]})
    flat = [(prompt, model, score) for prompt, each in by_prompt.items() for model, score in each]
    return Preferences.of(
        prompts,
        pl.DataFrame(
            {
                "prompt_id": [each[0] for each in flat],
                "model": [each[1] for each in flat],
                "score": pl.Series([each[2] for each in flat], dtype=pl.Float64),
                "response": [[assistant(f"{each[1]} {each[2]}")] for each in flat],
            }
        ),
    )


SCORED = {
    "p": [("a", 3.0), ("b", 1.0)],
    "q": [("b", 2.0), ("a", 2.0)],
    "r": [("a", 1.0), ("b", 5.0), ("a", 7.0)],
    "s": [("a", None), ("b", 1.0)],
    "t": [("a", 9.0)],
}


def test_any_scorers_scores_make_verdicts():
    """p won, q a draw, r half won (one of two answers), s unscored, t unanswered by b: (1 + 1/2 + 1/2) / 3."""
    result = winrate(answers(SCORED), generator="a", draws=5)
    assert result.to_dict()["win_rate"] == pytest.approx(100 * 2 / 3)
    assert result.to_dict()["n_total"] == 3
    assert any("1 of 5 prompts have no answer of b" in note for note in result.notes)
    turned = winrate(answers(SCORED), opponent="a", draws=5)
    assert turned.to_dict()["win_rate"] == pytest.approx(100 * 1 / 3)
    assert turned.settings["generator"] == "b"


def test_the_models_of_scored_answers_must_be_told_apart():
    with pytest.raises(InputError, match="name the model as generator; the answers are of a, b"):
        winrate(answers(SCORED))
    with pytest.raises(InputError, match=r"no answer is of generator 'c'.*there are a, b"):
        winrate(answers(SCORED), generator="c")
    three = answers({"p": [("a", 1.0), ("b", 2.0), ("c", 3.0)]})
    with pytest.raises(InputError, match="name both generator and opponent"):
        winrate(three, generator="a")
    assert winrate(three, generator="b", opponent="a", draws=5).to_dict()["win_rate"] == 100.0
    with pytest.raises(InputError, match="are both 'a'"):
        winrate(three, generator="a", opponent="a")


def test_a_judges_wins_after_both_orders_are_taken_as_they_are():
    """A judge that always names the first place says nothing: a draw. One that agrees with itself decides."""
    verdicts = {
        "fair": (Verdict.FIRST, Verdict.SECOND),
        "place": (Verdict.FIRST, Verdict.FIRST),
        "lost": (Verdict.SECOND, Verdict.FIRST),
        "tie": (Verdict.TIE, Verdict.TIE),
    }
    none = Judged(None)
    wins = {name: agreed(settle(*each), none, none) for name, each in verdicts.items()}
    judged = answers({name: [("a", win), ("b", 1.0 - win)] for name, win in wins.items()})
    found = winrate(judged, generator="a", reading="share", draws=5).to_dict()
    assert found["win_rate"] == pytest.approx(100 * (1 + 0.5 + 0 + 0.5) / 4)
    assert (found["n_wins"], found["n_wins_base"], found["n_draws"]) == (1, 1, 2)
    soft = winrate(answers({"p": [("a", 0.8), ("b", 0.2)]}), generator="a", reading="share", draws=5)
    assert soft.to_dict()["win_rate"] == pytest.approx(80.0)
    with pytest.raises(InputError, match="are no shares of one win"):
        winrate(answers(SCORED), generator="a", reading="share")


def test_settings_of_length_control_need_length_control(tmp_path):
    path = written(tmp_path / "a.json", rows(PREFERENCES))
    with pytest.raises(InputError, match="strength are for length_controlled"):
        winrate(path, strength=1.0)
    with pytest.raises(InputError, match="there is no file"):
        winrate(tmp_path / "none.json")
