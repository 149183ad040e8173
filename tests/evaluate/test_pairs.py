"""Accuracy by copy against six pairs worked out by hand."""

import json

import polars as pl
import pytest
import scipy.stats

from pairwright.errors import InputError
from pairwright.evaluate import pairs
from pairwright.preferences import Preferences, Step

# prompt, copy, chosen, rejected, policy on both sides, reference on both sides; goals play no part here.
# By implicit reward the margins are 1, -1.5, 2, 0 (tie), 0 (tie), 2; by log-probability 2, -2.5, -15, 17, 0 (tie), 2.
ROWS = [
    ("a", "positive", 0, 1, -10.0, -12.0, -11.0, -12.0),
    ("a", "negative", 1, 0, -12.5, -10.0, -12.0, -11.0),
    ("b", "positive", 2, 3, -20.0, -5.0, -23.0, -6.0),
    ("b", "negative", 3, 2, -4.0, -21.0, -6.0, -23.0),
    ("c", "positive", 4, 5, -8.0, -8.0, -8.0, -8.0),
    ("c", "negative", 5, 4, -7.0, -9.0, -8.0, -8.0),
]
NAMES = ("logp_new_chosen", "logp_new_rejected", "logp_ref_chosen", "logp_ref_rejected")
# Without a goal: implicit rewards 0, -2, 6, 1, 0, 0; so a right, b right, c tied.
# By log-probability: a right, b wrong, c tied.
PLAIN = {"logp_new": [-10.0, -11.0, -20.0, -5.0, -8.0, -8.0], "logp_ref": [-10.0, -9.0, -26.0, -6.0, -8.0, -8.0]}


def frames(rows=ROWS, plain=PLAIN):
    ids = ["a", "b", "c"]
    prompts = pl.DataFrame({"prompt_id": ids, "prompt": [[{"role": "user", "content": each}] for each in ids]})
    responses = pl.DataFrame(
        {
            "prompt_id": [each for each in ids for _ in range(2)],
            "response": [[{"role": "assistant", "content": str(i)}] for i in range(6)],
        }
        | plain
    )
    table = pl.DataFrame(
        {
            "prompt_id": [row[0] for row in rows],
            "copy": [row[1] for row in rows],
            "chosen_id": [row[2] for row in rows],
            "rejected_id": [row[3] for row in rows],
            "source_pair": [ids.index(row[0]) for row in rows],
            "goal": [9.0 if row[1] == "positive" else 2.0 for row in rows],
            "split": ["test"] * len(rows),
        }
        | {name: [row[4 + i] for row in rows] for i, name in enumerate(NAMES)}
    )
    return prompts, responses, table


def relabelled(rows=ROWS, plain=PLAIN):
    return Preferences.of(*frames(rows, plain), [Step(name="relabel")])


def value(result, name):
    return result.metric(name).value


def test_implicit_rewards_by_copy_as_worked_out_by_hand():
    result = pairs(relabelled(), policy="new", reference="ref")
    assert value(result, "accuracy/positive") == pytest.approx(2 / 3)
    assert value(result, "accuracy/negative") == pytest.approx(1 / 3)
    assert value(result, "accuracy/unconditioned") == pytest.approx(2 / 3)
    assert value(result, "accuracy/both") == 0.0
    assert value(result, "margin/positive") == pytest.approx(1.0)
    assert value(result, "margin/negative") == pytest.approx(0.5 / 3)
    assert value(result, "margin/unconditioned") == pytest.approx((2 + 5 + 0) / 3)
    assert value(result, "steering") == pytest.approx((-0.5 + 2 + 2) / 3)
    assert [row["ties"] for row in result.table] == [1, 1, 1]
    assert [row["copy"] for row in result.table] == ["positive", "negative", "unconditioned"]
    assert "implicit reward" in result.metric("accuracy/positive").says


def test_log_probabilities_by_copy_as_worked_out_by_hand():
    result = pairs(relabelled(), policy="new")
    assert value(result, "accuracy/positive") == pytest.approx(1 / 3)
    assert value(result, "accuracy/negative") == pytest.approx(2 / 3)
    assert value(result, "accuracy/unconditioned") == pytest.approx(1 / 3)
    assert value(result, "margin/positive") == pytest.approx((2 - 15 + 0) / 3)
    assert value(result, "margin/negative") == pytest.approx((-2.5 + 17 + 2) / 3)
    assert "log-probability" in result.metric("accuracy/positive").says
    assert result.settings["by"] == "log-probability"


def test_the_interval_is_wilsons():
    metric = pairs(relabelled(), policy="new", reference="ref").metric("accuracy/positive")
    theirs = scipy.stats.binomtest(2, 3).proportion_ci(method="wilson")
    assert (metric.low, metric.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert metric.n == 3


def test_beta_scales_margins_and_no_accuracy():
    one, ten = (pairs(relabelled(), policy="new", reference="ref", beta=beta) for beta in (1.0, 0.1))
    for name in ("margin/positive", "margin/unconditioned", "steering"):
        assert value(ten, name) == pytest.approx(value(one, name) / 10)
    assert value(ten, "accuracy/positive") == value(one, "accuracy/positive")
    assert value(pairs(relabelled(), policy="new", beta=0.1), "margin/positive") == pytest.approx(-13 / 3)


def test_pairs_without_goals_are_read_from_their_answers():
    prompts, responses, table = frames()
    plain = table.filter(pl.col("copy") == "positive").drop("copy", "source_pair", "goal", *NAMES)
    result = pairs(Preferences.of(prompts, responses, plain), policy="new", reference="ref")
    assert [metric.name for metric in result.metrics] == ["accuracy/unconditioned", "margin/unconditioned"]
    assert value(result, "accuracy/unconditioned") == pytest.approx(2 / 3)


def test_negative_copies_alone_are_turned_round_for_the_plain_accuracy():
    alone = [row for row in ROWS if row[1] == "negative"]
    result = pairs(relabelled(alone), policy="new", reference="ref")
    assert value(result, "accuracy/unconditioned") == pytest.approx(2 / 3)
    assert "accuracy/positive" not in {metric.name for metric in result.metrics}


def test_what_is_not_measured_is_said():
    result = pairs(relabelled(plain={}), policy="new", reference="ref")
    assert "run logprobs before relabel" in " ".join(result.notes)
    prompts, responses, table = frames()
    result = pairs(Preferences.of(prompts, responses, table.drop(NAMES)), policy="new", reference="ref")
    assert [metric.name for metric in result.metrics] == ["accuracy/unconditioned", "margin/unconditioned"]
    assert "run logprobs after relabel" in " ".join(result.notes)


def test_only_pairs_of_the_split_count():
    prefs = relabelled()
    side = pl.when(pl.col("prompt_id") == "a").then(pl.lit("train")).otherwise(pl.lit("test"))
    prefs = prefs.then(Step(name="split"), pairs=prefs.pairs.with_columns(split=side))
    assert value(pairs(prefs, policy="new", reference="ref"), "accuracy/positive") == pytest.approx(1 / 2)
    assert value(pairs(prefs, policy="new", reference="ref", split="train"), "accuracy/positive") == 1.0
    assert pairs(prefs, policy="new", reference="ref", split=None).metric("accuracy/positive").n == 3
    with pytest.raises(InputError, match=r"split 'dev' \(they are in test, train"):
        pairs(prefs, policy="new", split="dev")


def test_a_side_without_a_number_leaves_its_pair_out_and_says_so():
    rows = [(*row[:4], None, *row[5:]) if row[:2] == ("a", "positive") else row for row in ROWS]
    result = pairs(relabelled(rows), policy="new", reference="ref")
    assert result.metric("accuracy/positive").n == 2
    assert result.metric("accuracy/both").n == 2
    assert "positive: 1 pairs have a side without a log-probability and are left out." in result.notes


@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_a_number_that_is_not_finite_is_refused(bad):
    rows = [(*row[:7], bad) if row[:2] == ("b", "negative") else row for row in ROWS]
    with pytest.raises(InputError, match="1 values of logp_ref_rejected are not finite"):
        pairs(relabelled(rows), policy="new", reference="ref")
    assert value(pairs(relabelled(rows), policy="new"), "accuracy/positive") == pytest.approx(1 / 3)


def test_a_column_that_is_not_there_has_the_nearest_name():
    with pytest.raises(InputError, match="no column logp_news; did you mean 'new'"):
        pairs(relabelled(), policy="news")


def test_nothing_changes_and_the_result_is_json():
    prefs = relabelled()
    before = prefs.digest()
    result = pairs(prefs, policy="new", reference="ref")
    assert prefs.digest() == before
    assert type(result).model_validate(json.loads(result.model_dump_json())) == result
    assert "accuracy/positive" in str(result)
    assert result == pairs(prefs, policy="new", reference="ref")


@pytest.mark.parametrize("kind", [pl.Float64, pl.Null])
def test_pairs_without_any_number_are_refused(kind):
    prefs = relabelled()
    empty = {name: pl.lit(None, dtype=kind) for name in NAMES}
    without = {name: pl.lit(None, dtype=pl.Float64) for name in PLAIN}
    prefs = prefs.then(
        Step(name="x"), pairs=prefs.pairs.with_columns(**empty), responses=prefs.responses.with_columns(**without)
    )
    with pytest.raises(InputError, match="no pair has logp_new and logp_ref on both sides; run logprobs"):
        pairs(prefs, policy="new", reference="ref")


def test_a_copy_without_any_number_has_a_note_and_no_measure():
    rows = [row if row[1] == "positive" else (*row[:4], None, None, None, None) for row in ROWS]
    result = pairs(relabelled(rows), policy="new", reference="ref")
    assert {metric.name.partition("/")[2] for metric in result.metrics} == {"positive", "unconditioned"}
    assert [row["copy"] for row in result.table] == ["positive", "unconditioned"]
    assert "negative: 3 pairs have a side without a log-probability and are left out." in result.notes
