"""Two models on the same prompts, against hand arithmetic."""

import polars as pl
import pytest
import scipy.stats

from pairwright.errors import InputError
from pairwright.evaluate import Metric, Result, compare
from pairwright.preferences import Preferences


def answers(scores, goals=None, model="m"):
    """`scores`: a list of (prompt, score); `goals`: the goal of each."""
    ids = list(dict.fromkeys(prompt for prompt, _ in scores))
    asked = pl.DataFrame({"prompt_id": ids, "prompt": [[{"role": "user", "content": each}] for each in ids]})
    frame = pl.DataFrame(
        {
            "prompt_id": [prompt for prompt, _ in scores],
            "score": pl.Series([score for _, score in scores], dtype=pl.Float64),
            "response": [[{"role": "assistant", "content": "x"}]] * len(scores),
            "model": [model] * len(scores),
        }
    )
    if goals is not None:
        frame = frame.with_columns(goal=pl.Series(goals, dtype=pl.Float64))
    return Preferences.of(asked, frame)


FIRST = answers([("p", 8.0), ("p", 6.0), ("q", 5.0), ("r", 3.0), ("s", 9.0)], model="ra")
SECOND = answers([("q", 4.0), ("q", 6.0), ("p", 4.0), ("r", 7.0), ("s", 8.0), ("t", 1.0)], model="dpo")


def value(result, name):
    return result.metric(name).value


def test_each_prompt_counts_once_by_its_mean():
    result = compare(FIRST, SECOND)
    # p: 7 - 4 = 3, q: 5 - 5 = 0, r: 3 - 7 = -4, s: 9 - 8 = 1; t stands alone.
    assert value(result, "difference") == pytest.approx(0.0)
    assert value(result, "mean/a") == pytest.approx((7 + 5 + 3 + 9) / 4)
    assert value(result, "mean/b") == pytest.approx((4 + 5 + 7 + 8) / 4)
    assert [value(result, name) for name in ("win", "tie", "loss")] == [0.5, 0.25, 0.25]
    assert result.n == 4
    assert result.notes == ("1 prompts are answered on one side only and are left out.",)
    assert [row["models"] for row in result.table] == [["ra"], ["dpo"]]


def test_the_order_of_the_two_is_the_sign():
    better = answers([("p", 8.0), ("q", 9.0), ("r", 7.0)])
    worse = answers([("r", 6.0), ("p", 3.0), ("q", 5.0)])
    assert value(compare(better, worse), "difference") == pytest.approx((5 + 4 + 1) / 3)
    assert value(compare(worse, better), "difference") == pytest.approx(-(5 + 4 + 1) / 3)
    assert value(compare(better, worse), "win") == 1.0
    assert value(compare(worse, better), "loss") == 1.0


def test_the_shares_have_wilsons_intervals():
    theirs = scipy.stats.binomtest(2, 4).proportion_ci(method="wilson")
    win = compare(FIRST, SECOND).metric("win")
    assert (win.low, win.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_equal_gaps_have_no_spread_however_different_the_prompts():
    first = answers([(f"p{i}", float(i)) for i in range(20)])
    second = answers([(f"p{i}", i - 0.5) for i in range(20)])
    difference = compare(first, second).metric("difference")
    assert (difference.value, difference.low, difference.high) == pytest.approx((0.5, 0.5, 0.5))


def test_means_that_differ_in_the_last_bit_are_a_tie():
    first = answers([("p", 0.1), ("p", 0.2), ("p", 0.3)])
    second = answers([("p", 0.3), ("p", 0.2), ("p", 0.1)])
    assert value(compare(first, second), "tie") == 1.0


def test_answers_to_several_goals_need_a_choice():
    mixed = answers([("p", 3.0), ("p", 9.0), ("p", 5.0), ("q", 2.0), ("q", 8.0), ("q", 5.0)], [2, 10, None] * 2)
    plain = answers([("p", 5.0), ("q", 7.0)])
    with pytest.raises(InputError, match=r"a has answers to several goals \(2, 10, none\); choose with goal_a"):
        compare(mixed, plain)
    assert value(compare(mixed, plain, goal_a=10), "difference") == pytest.approx(2.5)
    assert value(compare(plain, mixed, goal_b=2), "difference") == pytest.approx(3.5)
    assert value(compare(mixed, plain, goal_a="none"), "difference") == pytest.approx(-1.0)
    with pytest.raises(InputError, match="no answers to the goal 7"):
        compare(mixed, plain, goal_a=7)


def test_different_prompts_cannot_be_compared():
    with pytest.raises(InputError, match="no prompt in common"):
        compare(answers([("p", 1.0)]), answers([("q", 1.0)]))


def test_unscored_answers_are_left_out_and_counted_by_side():
    result = compare(answers([("p", 1.0), ("p", None), ("q", 2.0)]), answers([("p", 1.0), ("q", 1.0)]))
    assert "a: 1 of 3 answers have no score and are left out." in result.notes
    assert value(result, "difference") == pytest.approx(0.5)


def test_a_result_as_json_has_each_number_under_its_own_name_and_comes_back_the_same():
    metric = Metric(name="win_rate", value=50.5, low=None, high=None, n=3, says="x")
    fields = Metric(name="notes", value=1.0, n=1, says="its name is that of a field, which stays what it is")
    result = Result(name="winrate", n=3, metrics=(metric, fields), notes=("a note",))
    said = result.to_dict()
    assert said["win_rate"] == 50.5
    assert said["notes"] == ["a note"]
    assert Result.from_dict(said) == result
