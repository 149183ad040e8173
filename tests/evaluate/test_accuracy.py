"""Accuracy on labelled pairs: hand counts, plain loops over the real files of RM-Bench and JudgeBench."""

import gzip
import json

import numpy as np
import polars as pl
import pytest

from pairwright.errors import InputError
from pairwright.evaluate import accuracy, agreement
from pairwright.formats.read import read
from pairwright.preferences import Preferences
from pairwright.scorers import Score, score
from pairwright.stats import wilson


def data(pairs, **columns):
    """Pairs of (score of chosen, score of rejected), each with a prompt of its own; further columns of the prompts."""
    n = len(pairs)
    ids = [f"p{i}" for i in range(n)]
    asked = pl.DataFrame({"prompt_id": ids, "prompt": [[{"role": "user", "content": each}] for each in ids], **columns})
    answers = pl.DataFrame(
        {
            "prompt_id": [each for each in ids for _ in (0, 1)],
            "response": [[{"role": "assistant", "content": f"{i}"}] for i in range(2 * n)],
            "score": [value for both in pairs for value in both],
        },
        schema_overrides={"score": pl.Float64},
    )
    compared = pl.DataFrame({"prompt_id": ids, "chosen_id": range(0, 2 * n, 2), "rejected_id": range(1, 2 * n, 2)})
    return Preferences.of(asked, answers, compared)


def value(result, name):
    return result.metric(name).value


def lines(path):
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file.read().split("\n") if line]


def by_length(samples):
    return [Score(float(len(sample.answer))) for sample in samples]


def by_shortness(samples):
    return [Score(-float(len(sample.answer))) for sample in samples]


def test_right_wrong_tied_and_unknown_pairs_by_hand():
    """Two right, one wrong, one tied (wrong too), one without a score on a side (left out): 2 of 4."""
    result = accuracy(data([(2, 1), (3, 0), (0, 1), (5, 5), (1, None)]))
    assert value(result, "accuracy") == 0.5
    expected = wilson(2, 4)
    assert (result.metric("accuracy").low, result.metric("accuracy").high) == (expected.low, expected.high)
    (row,) = result.table
    assert [row[key] for key in ("pairs", "right", "wrong", "ties", "unknown")] == [5, 2, 1, 1, 1]
    assert len(result.notes) == 2


def test_sides_exchanged_turn_it_but_for_ties():
    pairs = [(2, 1), (3, 0), (0, 1), (5, 5)]
    assert value(accuracy(data([both[::-1] for both in pairs])), "accuracy") == 0.25


def test_groups_and_their_unweighted_mean():
    """Of a: 1 of 1; of b: 1 of 3. The mean is 2/3, the accuracy 2/4."""
    result = accuracy(data([(1, 0), (1, 0), (0, 1), (0, 1)], domain=["a", "b", "b", "b"]), by="domain", draws=50)
    assert value(result, "domain=a") == 1.0
    assert value(result, "domain=b") == pytest.approx(1 / 3)
    assert value(result, "average") == pytest.approx(2 / 3)
    assert value(result, "accuracy") == 0.5


def test_several_columns_have_their_names():
    prefs = data([(1, 0), (1, 0), (0, 1)])
    with_length = score(prefs, f"{__name__}:by_length", into="score_length")
    result = accuracy(with_length, scores=["score", "score_length"])
    assert value(result, "accuracy/score") == pytest.approx(2 / 3)
    assert value(result, "accuracy/score_length") == 0.0


def test_a_goal_is_no_label():
    prefs = data([(1, 0), (0, 1)])
    asked = Preferences.of(prefs.prompts, prefs.responses, prefs.pairs.with_columns(goal=pl.Series([None, 1.0])))
    assert (accuracy(asked).n, value(accuracy(asked), "accuracy")) == (1, 1.0)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"scores": ["score"], "scorer": "column"}, "give one of"),
        ({"reference": "x"}, "give model too"),
        ({"split": "tset"}, "no labelled pairs are in split"),
        ({"by": "domian"}, "did you mean|neither pairs nor prompts"),
        ({"scores": ["scoer"]}, "no column of numbers"),
    ],
)
def test_what_does_not_fit_is_said(settings, says):
    with pytest.raises(InputError, match=says):
        accuracy(data([(1, 0)], domain=["a"]), **settings)


def test_pairs_without_any_score_are_refused():
    with pytest.raises(InputError, match="no answer has a score"):
        accuracy(data([(None, None)]))


def test_the_interval_is_of_prompts_where_a_prompt_has_several_pairs():
    """Five pairs for each of 40 prompts, all right in 20 of them: as uncertain as 40 pairs, not as 200."""
    prefs = data([(1, 0), (0, 1)] * 20)
    often = Preferences.of(prefs.prompts, prefs.responses, pl.concat([prefs.pairs] * 5))
    metric = accuracy(often).metric("accuracy")
    assert (metric.value, metric.n) == (0.5, 200)
    assert metric.high - metric.low == pytest.approx(2 * 1.96 * 0.5 / 40**0.5, rel=0.1)


@pytest.mark.parametrize(("name", "sign"), [("by_length", 1), ("by_shortness", -1)])
def test_the_matrix_of_rm_bench_by_a_plain_loop(shared, name, sign):
    """The nine comparisons of every row of the file, counted one by one, as its README says."""
    path = shared("data/extra/rmbench_sample.jsonl.gz")
    matrix = np.zeros((3, 3))
    rows = lines(path)
    for row in rows:
        for i, right in enumerate(row["chosen"]):
            for j, wrong in enumerate(row["rejected"]):
                matrix[i, j] += sign * len(right) > sign * len(wrong)
    matrix /= len(rows)
    result = accuracy(read(path), scorer=f"{__name__}:{name}", draws=20)
    cells = [row["value"] for row in result.table if "chosen" in row]
    assert cells == pytest.approx(matrix.reshape(-1).tolist())
    assert value(result, "hard") == pytest.approx((matrix[0, 1] + matrix[0, 2] + matrix[1, 2]) / 3)
    assert value(result, "normal") == pytest.approx((matrix[0, 0] + matrix[1, 1] + matrix[2, 2]) / 3)
    assert value(result, "easy") == pytest.approx((matrix[1, 0] + matrix[2, 0] + matrix[2, 1]) / 3)
    assert value(result, "accuracy") == pytest.approx(matrix.mean())
    # The later style is the longer one, so length alone is right where it is easy.
    assert (value(result, "easy") - value(result, "hard")) * sign > 0.5


def test_there_is_no_matrix_where_pairs_were_left_out(shared):
    prefs = read(shared("data/extra/rmbench_sample.jsonl.gz"))
    part = Preferences.of(prefs.prompts, prefs.responses, prefs.pairs.slice(1, 18), prefs.lineage)
    result = accuracy(part, scorer=f"{__name__}:by_length", draws=20)
    assert "easy" not in {metric.name for metric in result.metrics}


@pytest.mark.parametrize("moved", ["slice", "chosen", "rejected", "nothing"])
def test_pairs_of_rm_bench_that_lie_in_no_nines_are_said(shared, moved):
    """Nines that begin late, or of which one right or one wrong answer is another."""
    prefs = read(shared("data/extra/rmbench_sample.jsonl.gz"))
    pairs = prefs.pairs.head(27).collect()
    changes = {
        "slice": lambda: pairs.slice(1, 18),
        "chosen": lambda: pairs.with_columns(
            chosen_id=pl.Series(
                [pairs["rejected_id"][1], *pairs["chosen_id"].to_list()[1:]], dtype=pairs["chosen_id"].dtype
            )
        ),
        "rejected": lambda: pairs.with_columns(
            rejected_id=pl.Series(
                [pairs["chosen_id"][3], *pairs["rejected_id"].to_list()[1:]], dtype=pairs["rejected_id"].dtype
            )
        ),
        "nothing": lambda: pairs,
    }
    part = Preferences.of(prefs.prompts, prefs.responses, changes[moved]().lazy(), prefs.lineage)
    result = accuracy(part, scorer=f"{__name__}:by_length", draws=20)
    there = "easy" in {metric.name for metric in result.metrics}
    assert there == (moved == "nothing")
    assert any("There is no matrix of styles" in note for note in result.notes) != there


def test_domains_of_rm_bench(shared):
    path = shared("data/extra/rmbench_sample.jsonl.gz")
    result = accuracy(read(path), scorer=f"{__name__}:by_length", by="domain", draws=20)
    found = {
        metric.name.removeprefix("domain="): metric for metric in result.metrics if metric.name.startswith("domain=")
    }
    assert value(result, "average") == pytest.approx(np.mean([metric.value for metric in found.values()]))
    assert sum(metric.n for metric in found.values()) == 9 * len(lines(path))
    assert set(found) == {row["domain"] for row in lines(path)}


def test_judgebench_in_both_orders_by_a_plain_loop(shared):
    """Each model's decisions in both orders against the label, over the raw file; a right one and a tie are right."""
    path = shared("data/extra/judgebench_rm_scores.jsonl.gz")
    rows = lines(path)
    result = accuracy(read(path))
    for name in rows[0]["rm_scores"]:
        ahead, both, net = 0, 0, 0
        for row in rows:
            side = 1 if row["label"] == "A>B" else -1
            one = np.sign(row["rm_scores"][name][0] - row["rm_scores"][name][1]) * side
            # The other order holds the scores as (B, A).
            two = np.sign(row["rm_scores_swapped"][name][1] - row["rm_scores_swapped"][name][0]) * side
            ahead, both, net = ahead + (one > 0), both + (one > 0 and two > 0), net + (one + two > 0)
        assert value(result, f"accuracy/score_{name}") == pytest.approx(ahead / 250)
        assert value(result, f"accuracy_both/score_{name}") == pytest.approx(both / 250)
        assert value(result, f"accuracy_net/score_{name}") == pytest.approx(net / 250)
        same = agreement(read(path), scores=[f"score_{name}"], draws=2).metric(f"accuracy_both/score_{name}")
        assert same.value == value(result, f"accuracy_both/score_{name}")


def test_orders_that_differ_by_hand():
    """right, right; right, tie; tie, tie; right, wrong; wrong, tie: right in both 1, right on balance 2, of 5."""
    prefs = data([(1, 0), (1, 0), (1, 1), (1, 0), (0, 1)])
    other = [1.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.0, 1.0, 0.5, 0.5]
    both = Preferences.of(prefs.prompts, prefs.responses.with_columns(pl.Series("score_swapped", other)), prefs.pairs)
    result = accuracy(both)
    assert value(result, "accuracy") == pytest.approx(3 / 5)
    assert value(result, "accuracy_swapped") == pytest.approx(1 / 5)
    assert value(result, "accuracy_both") == pytest.approx(1 / 5)
    assert value(result, "accuracy_net") == pytest.approx(2 / 5)


def test_shares_of_both_orders_are_of_prompts_where_a_prompt_has_several_pairs():
    """Each of 40 prompts five times, right in both orders in 20: as uncertain as 40 pairs."""
    prefs = data([(1, 0), (0, 1)] * 20)
    responses = prefs.responses.with_columns(score_swapped=pl.col("score"))
    often = Preferences.of(prefs.prompts, responses, pl.concat([prefs.pairs] * 5))
    result = accuracy(often, scores=["score"])
    for name in ("accuracy_swapped", "accuracy_both", "accuracy_net"):
        metric = result.metric(name)
        assert (metric.value, metric.n) == (0.5, 200)
        assert metric.high - metric.low == pytest.approx(2 * 1.96 * 0.5 / 40**0.5, rel=0.1)


def test_pairs_without_the_other_order_are_counted():
    prefs = data([(1, 0), (1, 0), (0, 1)])
    responses = prefs.responses.with_columns(pl.Series("score_swapped", [1.0, 0.0, None, 0.0, 1.0, 0.0]))
    result = accuracy(Preferences.of(prefs.prompts, responses, prefs.pairs), scores=["score"])
    assert (value(result, "accuracy_both"), result.metric("accuracy_both").n) == (0.5, 2)
    assert any("1 of 3 pairs have score in one order alone" in note for note in result.notes)


def test_a_mean_over_groups_of_one_prompt_has_no_interval():
    result = accuracy(data([(1, 0), (0, 1), (1, 0)], domain=["a", "b", "b"]), by="domain", draws=50)
    assert (result.metric("average").value, result.metric("average").low) == (0.75, None)
    assert {"reference_free", "tokenizer", "max_length", "batch_tokens", "dtype"} <= result.settings.keys()


def test_an_aligned_model_scores_the_pairs(tmp_path):
    """What `evaluate pairs` says of the same columns, which `logprobs` wrote."""
    pytest.importorskip("torch")
    import tiny
    from pairwright.evaluate import pairs
    from pairwright.logprobs import logprobs

    policy, reference = (str(tiny.model(tmp_path / str(seed), seed=seed)) for seed in (0, 1))
    prefs = tiny.preferences(12)
    result = accuracy(prefs, model=policy, reference=reference)
    read_before = logprobs(prefs, model=policy, name="new", reference=reference, reference_name="old")
    there = pairs(read_before, policy="new", reference="old", split=None)
    assert value(result, "accuracy/with_reference") == value(there, "accuracy/unconditioned")
    alone = pairs(read_before, policy="new", split=None)
    assert value(result, "accuracy/sum") == value(alone, "accuracy/unconditioned")
    assert 0 < value(result, "accuracy/with_reference") < 1


def test_the_command_has_it(shared, capsys):
    from pairwright.cli import main

    path = shared("data/extra/judgebench_rm_scores.jsonl.gz")
    assert main(["evaluate", "accuracy", str(path), "--by", "source", "--draws", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy/score_Skywork/Skywork-Reward-Gemma-2-27B"] == pytest.approx(154 / 250)
