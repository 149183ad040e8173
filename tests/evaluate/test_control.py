"""Goal control on answers whose scores were planted, and against scipy."""

import json

import numpy as np
import polars as pl
import pytest
import scipy.stats

from pairwright.errors import InputError
from pairwright.evaluate import control
from pairwright.goals import GoalFormat
from pairwright.preferences import Preferences, Step

GOALS = [2.0, 4.0, 6.0, 8.0, 10.0]


def answers(score, goals=GOALS, prompts=40, each=1, seed=0):
    """Answers of `prompts` prompts to every goal; `score(goal, noise, prompt)` is the score given."""
    random = np.random.default_rng(seed)
    ids = [f"p{i}" for i in range(prompts)]
    ease = dict(zip(ids, random.normal(size=prompts), strict=True))
    rows = []
    for prompt in ids:
        for goal in goals:
            given = score(goal, random.normal(), ease[prompt])
            rows += [{"prompt_id": prompt, "goal": goal, "score": given}] * each
    frame = pl.DataFrame(rows, schema={"prompt_id": pl.String, "goal": pl.Float64, "score": pl.Float64})
    frame = frame.with_columns(response=pl.lit([{"role": "assistant", "content": "x"}]), model=pl.lit("m"))
    asked = pl.DataFrame({"prompt_id": ids, "prompt": [[{"role": "user", "content": each}] for each in ids]})
    return Preferences.of(asked, frame)


def value(result, name):
    return result.metric(name).value


def test_a_model_that_gives_what_it_is_asked_is_perfect():
    result = control(answers(lambda goal, noise, ease: goal))
    assert value(result, "spearman") == pytest.approx(1.0)
    assert value(result, "calibration") == pytest.approx(0.0)
    assert value(result, "monotone") == 1.0
    assert value(result, "mean/top") == 10.0
    assert [(row["goal"], row["value"], row["n"]) for row in result.table] == [(goal, goal, 40) for goal in GOALS]


def test_noise_lowers_the_correlation_and_leaves_it_above_zero():
    metric = control(answers(lambda goal, noise, ease: goal + 2 * noise + ease)).metric("spearman")
    assert 0 < metric.low < metric.value < metric.high < 1
    assert metric.n == 40


def test_a_model_that_ignores_the_goal_has_an_interval_around_zero():
    result = control(answers(lambda goal, noise, ease: 5 + noise))
    metric = result.metric("spearman")
    assert metric.low < 0 < metric.high
    assert abs(metric.value) < 0.2
    # |5 - goal| for 2, 4, 6, 8, 10 is 3, 1, 1, 3, 5: on average 2.6.
    assert value(result, "calibration") == pytest.approx(2.6, abs=0.2)


def test_a_model_that_does_the_opposite_is_negative_everywhere():
    result = control(answers(lambda goal, noise, ease: 12 - goal + noise / 10))
    assert value(result, "spearman") < -0.95
    assert result.metric("spearman").high < 0
    assert value(result, "monotone") == 0.0
    assert value(result, "mean/top") == pytest.approx(2.0, abs=0.1)


def test_the_correlation_is_scipys_with_ties():
    prefs = answers(lambda goal, noise, ease: float(round(goal / 2 + noise)))
    frame = prefs.responses.collect()
    theirs = scipy.stats.spearmanr(frame["goal"].to_numpy(), frame["score"].to_numpy()).statistic
    assert value(control(prefs), "spearman") == pytest.approx(theirs, abs=1e-12)


def test_a_constant_offset_is_the_calibration_error():
    result = control(answers(lambda goal, noise, ease: goal - 1.5))
    assert value(result, "calibration") == pytest.approx(1.5)
    assert value(result, "spearman") == pytest.approx(1.0)


def test_copies_of_an_answer_do_not_narrow_the_interval():
    one, five = (control(answers(lambda goal, noise, ease: goal + ease, each=each)) for each in (1, 5))
    for first, second in zip(one.metrics, five.metrics, strict=True):
        assert (first.value, first.low, first.high) == pytest.approx((second.value, second.low, second.high))
    assert [row["n"] for row in five.table] == [200] * 5


def test_answers_without_a_goal_are_a_line_of_their_own():
    result = control(answers(lambda goal, noise, ease: 4.0 + ease if goal is None else goal + ease, [None, *GOALS]))
    assert result.table[-1]["goal"] is None
    assert result.table[-1]["n"] == 40
    # The same prompts answer both, so what makes a prompt easy cancels, and the lift is 6 without any spread.
    lift = result.metric("lift")
    assert (lift.value, lift.low, lift.high) == pytest.approx((6.0, 6.0, 6.0))
    assert value(result, "mean/top") - value(result, "mean/unconditioned") == pytest.approx(6.0)
    without = control(answers(lambda goal, noise, ease: goal))
    assert "lift" not in {metric.name for metric in without.metrics}


def test_monotone_is_the_share_of_steps_that_rise():
    given = {2.0: 3.0, 4.0: 5.0, 6.0: 5.0, 8.0: 4.0, 10.0: 9.0}
    assert value(control(answers(lambda goal, noise, ease: given[goal])), "monotone") == 0.5


def test_one_goal_alone_says_nothing_of_control():
    result = control(answers(lambda goal, noise, ease: goal, [10.0]))
    assert result.metric("spearman").value is None
    assert result.metric("monotone").value is None
    assert "ask for several" in " ".join(result.notes)
    assert json.loads(result.model_dump_json())["metrics"][0]["value"] is None


def test_unscored_answers_are_left_out_and_counted():
    prefs = answers(lambda goal, noise, ease: None if goal == 4.0 and ease > 0 else goal)
    result = control(prefs)
    missing = prefs.responses.collect()["score"].null_count()
    assert 0 < missing < 40
    assert f"{missing} of 200 answers have no score and are left out." in result.notes
    assert result.n == 200 - missing


@pytest.mark.parametrize(
    ("prefs", "settings", "says"),
    [
        (answers(lambda goal, noise, ease: None), {}, "none of the 200 answers has a score"),
        (answers(lambda goal, noise, ease: float("nan")), {}, "200 values of score are not finite"),
        (answers(lambda goal, noise, ease: goal), {"score": "scores"}, "did you mean 'score'"),
        (answers(lambda goal, noise, ease: 1.0, [None]), {}, "no answer was asked for a score"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_sentence(prefs, settings, says):
    with pytest.raises(InputError, match=says):
        control(prefs, **settings)


def test_equal_seeds_give_equal_results():
    prefs = answers(lambda goal, noise, ease: goal + noise)
    assert control(prefs, seed=1) == control(prefs, seed=1)
    assert control(prefs, seed=1) != control(prefs, seed=2)


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_a_goal_that_is_no_number_is_not_taken_for_none(odd):
    prefs = answers(lambda goal, noise, ease: 5.0, goals=[2.0, odd], prompts=3)
    with pytest.raises(InputError, match="evaluate control: 3 goals are not finite"):
        control(prefs)


def test_goals_in_lists_of_one_are_numbers():
    plain = answers(lambda goal, noise, ease: goal + noise)
    frame = plain.responses.with_columns(pl.concat_list("goal").alias("goal"))
    listed = Preferences.of(plain.prompts, frame)
    assert control(listed) == control(plain)
    form = {"goal_format": {"asks": "class"}}
    classes = Preferences.of(plain.prompts, frame, lineage=[Step(name="generate", settings=form)])
    assert control(classes).notes == (
        *control(plain).notes,
        "The goals are classes and no scores, so calibration says nothing.",
    )
    two = Preferences.of(plain.prompts, plain.responses.with_columns(pl.concat_list("goal", "goal").alias("goal")))
    with pytest.raises(InputError, match="the goals are vectors"):
        control(two)


def generated(prefs, **form):
    """The answers with the step of a generation under a goal format."""
    settings = {"goal_format": GoalFormat(**form).model_dump(mode="json")}
    step = Step(name="generate", settings=settings, rows_in=1, rows_out=1)
    return Preferences.of(prefs.prompts, prefs.responses, prefs.pairs, (step,))


def test_a_model_that_stops_where_its_data_stopped_has_no_rise_beyond_it():
    """Asked for 2 to 14 it gives what is asked, up to 10: above, at 12 and 14, it gives 10 as at 10."""
    prefs = answers(lambda goal, noise, ease: min(goal, 10.0) + ease, [*GOALS, 12.0, 14.0])
    result = control(prefs, best=10.0)
    rise = result.metric("extrapolation/rise")
    assert (rise.value, rise.low, rise.high) == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)
    assert value(result, "extrapolation/above") == pytest.approx(value(result, "extrapolation/best"))
    assert [row["above_data"] for row in result.table] == [False] * 5 + [True] * 2


def test_a_model_that_goes_on_rises_by_what_is_asked_beyond_the_data():
    """At 12 and 14 it gives 11 and 12, on average 11.5; at 9, the highest goal up to the data's 9.5, it gives 9."""
    goals = [3.0, 9.0, 12.0, 14.0]
    result = control(answers(lambda goal, noise, ease: goal if goal < 10 else 5 + goal / 2, goals), best=9.5)
    assert value(result, "extrapolation/above") == pytest.approx(11.5)
    assert value(result, "extrapolation/best") == pytest.approx(9.0)
    assert value(result, "extrapolation/rise") == pytest.approx(2.5)
    assert value(result, "extrapolation/reached") == 1.0


def test_a_model_that_falls_beyond_its_data_has_a_rise_below_zero():
    result = control(answers(lambda goal, noise, ease: 12 - goal if goal > 10 else goal, [8.0, 10.0, 12.0]), best=10.0)
    assert value(result, "extrapolation/rise") == pytest.approx(-10.0)
    assert value(result, "extrapolation/reached") == 0.0


def test_a_score_of_exactly_the_best_does_not_reach_beyond_it():
    """Asked for 12 it gives 10, the best of the data, each time; asked for 14 it gives 11: half of all is beyond."""
    result = control(
        answers(lambda goal, noise, ease: {12.0: 10.0, 14.0: 11.0}.get(goal, goal), [8.0, 12.0, 14.0]), best=10.0
    )
    assert value(result, "extrapolation/reached") == pytest.approx(0.5)


def test_the_range_of_the_data_is_that_of_the_goal_format():
    prefs = answers(lambda goal, noise, ease: goal, [1.0, 4.0, 6.0])
    result = control(generated(prefs, ranges=((1.0, 5.0),)))
    assert value(result, "extrapolation/rise") == pytest.approx(2.0)
    assert any("Asked for 6 the model reads the same sentence as for 5" in note for note in result.notes)
    wider = control(generated(prefs, ranges=((1.0, 8.0),)), best=5.0)
    assert value(wider, "extrapolation/rise") == pytest.approx(2.0)
    assert not any("same sentence" in note for note in wider.notes)


def test_without_a_goal_above_the_data_nothing_is_said_of_extrapolation():
    prefs = answers(lambda goal, noise, ease: goal)
    assert not [each.name for each in control(prefs).metrics if each.name.startswith("extrapolation")]
    told = control(prefs, best=10.0)
    assert not [each.name for each in told.metrics if each.name.startswith("extrapolation")]
    assert any("No goal above 10" in note for note in told.notes)


def test_without_a_goal_within_the_data_there_is_no_rise():
    result = control(answers(lambda goal, noise, ease: goal), best=1.0)
    assert result.metric("extrapolation/rise").value is None
    assert value(result, "extrapolation/above") == pytest.approx(6.0)
    assert any("No goal up to 1 was asked for" in note for note in result.notes)


def test_answers_of_goal_formats_with_several_ranges_need_to_be_told_the_best_score():
    prefs = generated(answers(lambda goal, noise, ease: goal), ranges=((1.0, 5.0),))
    both = Preferences.of(
        prefs.prompts, prefs.responses, prefs.pairs, (*prefs.lineage, *generated(prefs, ranges=((1.0, 8.0),)).lineage)
    )
    with pytest.raises(InputError, match="end at 5, 8; set best"):
        control(both)
    assert value(control(both, best=8.0), "extrapolation/rise") == pytest.approx(2.0)
