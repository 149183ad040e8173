"""Agreement of score columns: hand counts, scipy, plain loops, and the real file of five reward models."""

import gzip
import itertools
import json
import math

import numpy as np
import polars as pl
import pytest
import scipy.stats

from pairwright.errors import InputError
from pairwright.evaluate import agreement
from pairwright.evaluate.agreement import by_columns
from pairwright.evaluate.concordance import _below, kendall
from pairwright.formats.read import read
from pairwright.pairing import pair
from pairwright.preferences import Preferences


def answers(prompts, pairs=None, **scores):
    """A row for each letter of `prompts`; `pairs`: (chosen, rejected) by row number."""
    ids = list(dict.fromkeys(prompts))
    asked = pl.DataFrame({"prompt_id": ids, "prompt": [[{"role": "user", "content": each}] for each in ids]})
    texts = [[{"role": "assistant", "content": str(i)}] for i in range(len(prompts))]
    frame = pl.DataFrame({"prompt_id": list(prompts), "response": texts}).with_columns(
        pl.Series(name, values, dtype=pl.Float64) for name, values in scores.items()
    )
    rows = None
    if pairs is not None:
        chosen, rejected = zip(*pairs, strict=True)
        rows = pl.DataFrame({"prompt_id": [prompts[i] for i in chosen], "chosen_id": chosen, "rejected_id": rejected})
    return Preferences.of(asked, frame, rows)


def value(result, name):
    return result.metric(name).value


def test_two_answers_to_one_prompt_by_hand():
    """p: (1, 2, 3) and (1, 3, 2): two pairs alike, one against. q: (5, 5) and (1, 2): tied by the first alone.

    r: (2, 2) and (7, 7): tied by both. s: (4, 3) and (0, 0): tied by the second alone. So of the 6 pairs 3 are told
    apart by both, one of them against; tau-b = (2 - 1) / sqrt((6 - 2)(6 - 2)), the first tying two and the second two.
    """
    prefs = answers("pppqqrrss", score_a=[1, 2, 3, 5, 5, 2, 2, 4, 3], score_b=[1, 3, 2, 1, 2, 7, 7, 0, 0])
    result = agreement(prefs, draws=50)
    row = result.table[0]
    assert {key: row[key] for key in ("same", "flipped", "tied_first", "tied_second", "tied_both")} == {
        "same": 2, "flipped": 1, "tied_first": 1, "tied_second": 1, "tied_both": 1,
    }  # fmt: skip
    assert value(result, "flip/score_a ~ score_b") == pytest.approx(1 / 3)
    assert value(result, "kendall_within/score_a ~ score_b") == pytest.approx(1 / 4)
    assert (result.n, result.metric("flip/score_a ~ score_b").n) == (9, 4)


def drawn(seed, *, ties):
    """60 answers to 20 prompts, two columns that agree somewhat; with many ties where asked for."""
    random = np.random.default_rng(seed)
    first = random.normal(size=60)
    second = first + random.normal(size=60)
    return (np.round(first), np.round(second)) if ties else (first, second)


PROMPTS = [letter for letter in "abcdefghijklmnopqrst" for _ in range(3)]


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_over_all_answers_it_is_scipy(seed, ties):
    x, y = drawn(seed, ties=ties)
    result = agreement(answers(PROMPTS, score_x=x, score_y=y), draws=20)
    theirs = {
        "kendall": scipy.stats.kendalltau(x, y).statistic,
        "spearman": scipy.stats.spearmanr(x, y).statistic,
        "pearson": scipy.stats.pearsonr(x, y).statistic,
    }
    for name, expected in theirs.items():
        assert value(result, f"{name}/score_x ~ score_y") == pytest.approx(expected, abs=1e-12)


def test_a_column_turned_round_turns_every_measure():
    x, y = drawn(3, ties=False)
    ahead = agreement(answers(PROMPTS, score_x=x, score_y=y), draws=20)
    back = agreement(answers(PROMPTS, score_x=x, score_y=-y), draws=20)
    for name in ("kendall", "kendall_within", "spearman", "pearson"):
        assert value(back, f"{name}/score_x ~ score_y") == pytest.approx(-value(ahead, f"{name}/score_x ~ score_y"))
    assert value(back, "flip/score_x ~ score_y") == pytest.approx(1 - value(ahead, "flip/score_x ~ score_y"))
    assert value(ahead, "kendall/score_x ~ score_y") > 0.2


def test_the_interval_of_kendall_is_the_jackknife_by_hand():
    """Every prompt is left out once, and scipy computes what is left."""
    x, y = drawn(5, ties=True)
    groups = np.repeat(np.arange(20), 3)
    left = np.array([scipy.stats.kendalltau(x[groups != g], y[groups != g]).statistic for g in range(20)])
    error = math.sqrt(19 / 20 * ((left - left.mean()) ** 2).sum())
    whole = scipy.stats.kendalltau(x, y).statistic
    half = 1.959963984540054 * error / (1 - whole**2)
    got = kendall(x, y, groups)
    assert (got.low, got.high) == pytest.approx(
        (math.tanh(math.atanh(whole) - half), math.tanh(math.atanh(whole) + half))
    )
    assert got.n == 20


def test_the_other_intervals_are_a_bootstrap_over_prompts_by_hand():
    """The same draws, each prompt's rows put together as often as it was drawn, and scipy on them."""
    x, y = drawn(7, ties=True)
    result = agreement(answers(PROMPTS, score_x=x, score_y=y), draws=40, seed=3)
    random = np.random.default_rng(3)
    found = {"spearman": [], "pearson": [], "flip": [], "kendall_within": []}
    for _ in range(40):
        prompts = random.integers(0, 20, 20)
        rows = np.concatenate([np.arange(3 * p, 3 * p + 3) for p in prompts])
        found["spearman"].append(scipy.stats.spearmanr(x[rows], y[rows]).statistic)
        found["pearson"].append(scipy.stats.pearsonr(x[rows], y[rows]).statistic)
        dx, dy = (
            np.sign([one[3 * p + i] - one[3 * p + j] for p in prompts for i, j in itertools.combinations(range(3), 2)])
            for one in (x, y)
        )
        against, alike = (dx * dy < 0).sum(), (dx * dy > 0).sum()
        found["flip"].append(against / (against + alike))
        found["kendall_within"].append((alike - against) / math.sqrt((dx != 0).sum() * (dy != 0).sum()))
    for name, numbers in found.items():
        metric = result.metric(f"{name}/score_x ~ score_y")
        assert (metric.low, metric.high) == pytest.approx(tuple(np.quantile(numbers, [0.025, 0.975])), abs=1e-12)


def test_the_order_of_rows_changes_nothing():
    x, y = drawn(9, ties=True)
    order = np.random.default_rng(0).permutation(60)
    one = agreement(answers(PROMPTS, score_x=x, score_y=y), draws=30)
    other = agreement(answers([PROMPTS[i] for i in order], score_x=x[order], score_y=y[order]), draws=30)
    for a, b in zip(one.metrics, other.metrics, strict=True):
        assert (a.name, a.n) == (b.name, b.n)
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), abs=1e-12)


def test_answers_without_both_scores_are_left_out_and_said():
    prefs = answers(
        "ppqqrr",
        score_a=[1, 2, 3, None, 5, float("nan")],
        score_b=[1, 2, 3, 4, float("inf"), 1],
        score_c=[1, 1, 2, 2, 3, 3],
    )
    result = agreement(prefs, draws=10)
    rows = {(row["first"], row["second"]): row for row in result.table}
    assert rows["score_a", "score_b"]["answers"] == 3
    assert (rows["score_a", "score_c"]["answers"], rows["score_a", "score_c"]["prompts"]) == (4, 3)
    assert result.notes == ("2 of 6 answers have no finite score_a.", "1 of 6 answers have no finite score_b.")


def test_a_column_that_does_not_vary_has_no_correlation():
    result = agreement(answers("ppqq", score_a=[0.1] * 4, score_b=[1, 2, 3, 5]), draws=10)
    for metric in result.metrics:
        assert metric.value is None, metric.name
    assert result.table[0]["tied_first"] == 2


def test_against_labels_with_both_orders_and_a_planted_position_bias():
    """Four pairs of which the first answer is right in two; the scorer adds 10 to whatever stands first.

    In the first order it prefers rows 0, 2, 4, 6, right in the first two; with the answers exchanged it prefers 1, 3,
    5, 7, right in the last two. No pair is right in both orders, and all four turn.
    """
    biased = answers(
        "ppqqrrss",
        pairs=[(0, 1), (2, 3), (5, 4), (7, 6)],
        score_x=[11, 1, 12, 1, 11, 2, 11, 3],
        score_x_swapped=[1, 11, 2, 11, 1, 12, 1, 13],
    )
    result = agreement(biased, draws=10)
    names = ("accuracy/score_x", "accuracy_swapped/score_x", "accuracy_both/score_x")
    assert [value(result, name) for name in names] == [0.5, 0.5, 0.0]
    assert result.table[0]["turned_by_order"] == 4
    assert len(result.metrics) == 3  # the other order is no scorer of its own


def test_ties_are_wrong_and_counted_and_unknown_pairs_are_not():
    prefs = answers(
        "ppqqrrss", pairs=[(0, 1), (2, 3), (4, 5), (6, 7)], score_x=[2, 1, 1, 1, 1, 2, None, 3], score_y=[1.0] * 8
    )
    result = agreement(prefs, draws=10)
    row = result.table[0]
    assert {key: row[key] for key in ("pairs", "right", "wrong", "ties", "unknown")} == {
        "pairs": 4, "right": 1, "wrong": 1, "ties": 1, "unknown": 1,
    }  # fmt: skip
    share = result.metric("accuracy/score_x")
    theirs = scipy.stats.binomtest(1, 3).proportion_ci(method="wilson")
    assert (share.value, share.low, share.high, share.n) == pytest.approx((1 / 3, theirs.low, theirs.high, 3))


def test_pairs_that_ask_for_a_score_have_no_label():
    prefs = answers("pp", pairs=[(0, 1)], score_x=[2, 1], score_y=[1, 2])
    asked = Preferences.of(prefs.prompts, prefs.responses, prefs.pairs.with_columns(goal=pl.lit(2.0)))
    assert not [metric for metric in agreement(asked, draws=5).metrics if metric.name.startswith("accuracy")]


def test_pairs_that_were_made_of_a_column_say_so():
    prefs = pair(answers("ppqq", score_x=[2, 1, 4, 3], score_y=[1, 2, 3, 4]), by="score_x")
    result = agreement(prefs, draws=5)
    assert value(result, "accuracy/score_x") == 1.0
    assert value(result, "accuracy/score_y") == 0.0
    assert result.notes[-1] == "The pairs were made of score_x, so its accuracy is 1 by construction."


@pytest.mark.parametrize(
    ("scores", "columns", "says"),
    [
        ({"score_x": [1, 2]}, None, "score_x is the only score column and no pair has a label"),
        ({"score_x": [None, None]}, None, "no answer has a score"),
        (
            {"score_x": [1, 2], "score_y": [1, 2]},
            ["score_x", "score_z"],
            "no column of numbers 'score_z'; did you mean",
        ),
        ({"score_x": [1, 2]}, ["prompt_id"], "no column of numbers 'prompt_id'"),
    ],
)
def test_nothing_to_compare_is_a_sentence(scores, columns, says):
    with pytest.raises(InputError, match=says):
        agreement(answers("pp", **scores), scores=columns, draws=5)


def test_it_is_json():
    x, y = drawn(1, ties=False)
    json.dumps(agreement(answers(PROMPTS, score_x=x, score_y=y), draws=5).model_dump(mode="json"), allow_nan=False)


def test_judgebench_in_both_orders(shared):
    path = shared("data/extra/judgebench_rm_scores.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    models = sorted(rows[0]["rm_scores"])
    result = agreement(read(path), draws=50)
    assert len(models) == 5
    table = {row["column"]: row for row in result.table if "column" in row}
    for model in models:
        right = exchanged = both = ties = 0
        for row in rows:
            a, b = row["rm_scores"][model]
            second, first = row["rm_scores_swapped"][model]
            wanted = row["label"] == "A>B"
            one, other = (a > b) if wanted else (b > a), (first > second) if wanted else (second > first)
            right, exchanged, both, ties = right + one, exchanged + other, both + (one and other), ties + (a == b)
        name = f"score_{model}"
        assert value(result, f"accuracy/{name}") == right / 250
        assert value(result, f"accuracy_swapped/{name}") == exchanged / 250
        assert value(result, f"accuracy_both/{name}") == both / 250
        assert table[name]["ties"] == ties
        assert table[name]["turned_by_order"] == 0
    assert sum(row["ties"] for row in table.values()) == 1
    for one, other in itertools.combinations(models, 2):
        flips = sum(
            np.sign(np.subtract(*row["rm_scores"][one])) * np.sign(np.subtract(*row["rm_scores"][other])) < 0
            for row in rows
        )
        decided = sum(
            row["rm_scores"][one][0] != row["rm_scores"][one][1]
            and row["rm_scores"][other][0] != row["rm_scores"][other][1]
            for row in rows
        )
        x, y = ([score for row in rows for score in row["rm_scores"][model]] for model in (one, other))
        title = f"score_{one} ~ score_{other}"
        assert value(result, f"flip/{title}") == pytest.approx(flips / decided)
        assert value(result, f"kendall/{title}") == pytest.approx(scipy.stats.kendalltau(x, y).statistic)
        assert value(result, f"pearson/{title}") == pytest.approx(scipy.stats.pearsonr(x, y).statistic)


def test_in_groups_of_one_or_two_there_is_no_interval_of_kendall():
    assert math.isnan(kendall(np.array([1.0, 2, 3]), np.array([1.0, 3, 2]), np.array([0, 0, 1])).low)
    assert kendall(np.array([]), np.array([]), np.array([], dtype=np.int64)).n == 0


def test_it_is_told_in_two_tables():
    """One right and one wrong pair, of which the other scorer says the same."""
    prefs = answers("ppqq", pairs=[(0, 1), (2, 3)], score_x=[2, 1, 1, 2], score_y=[4, 3, 3, 4], score_z=[1, None, 1, 1])
    labels, two, notes = (part.splitlines() for part in by_columns(agreement(prefs, draws=10)).split("\n\n"))
    assert labels[0].split()[:3] == ["column", "accuracy", "right"]
    assert labels[1].startswith("score_x  0.500 [0.095, 0.905]  1      1")  # Wilson's interval of 1 in 2
    assert two[1].split()[:2] == ["score_x", "score_y"]
    assert len(labels) == len(two) == 4
    assert notes[1:] == ["1 of 4 answers have no finite score_z."]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 64, 65])
def test_rows_that_lie_below_in_both_are_counted_as_by_a_loop(size):
    a, b = np.random.default_rng(size).integers(0, 5, (2, size))
    by_loop = [sum(a[j] < a[i] and b[j] < b[i] for j in range(size)) for i in range(size)]
    assert _below(a, b).tolist() == by_loop
