"""Counts of a step's data, against counts made by hand or by a loop over plain rows."""

import numpy as np
import polars as pl
import pytest

from pairwright import relabel, select
from pairwright.chat import assistant, prompt_id, user
from pairwright.preferences import Preferences
from pairwright.report.data import bins, by_score, pairs_of, relabelling_of, selection_of

SCORES = [(9.0, 2.0), (7.0, 7.0), (3.0, 8.0), (10.0, 1.0), (6.0, None), (8.0, 4.0)]
"""Of chosen and rejected: gaps 7, 0, -5, 9, none, 4."""


def some_pairs(scores=SCORES, splits=None):
    prompts = [[user(f"Question {i}?")] for i in range(len(scores))]
    ids = [prompt_id(prompt) for prompt in prompts]
    rows = [
        {
            "response_id": 2 * i + side,
            "prompt_id": ids[i],
            "response": [assistant("x" * (i + 1 + 10 * side))],
            "score": score,
        }
        for i, both in enumerate(scores)
        for side, score in enumerate(both)
    ]
    return Preferences.of(
        pl.DataFrame({"prompt_id": ids, "prompt": prompts}),
        pl.DataFrame(rows, schema_overrides={"score": pl.Float64}),
        pl.DataFrame(
            {
                "prompt_id": ids,
                "chosen_id": [2 * i for i in range(len(ids))],
                "rejected_id": [2 * i + 1 for i in range(len(ids))],
                "split": splits or ["train"] * (len(ids) - 1) + ["test"],
            }
        ),
    )


def test_pairs_are_counted_by_split_gap_and_length():
    """Gaps 7, 0, -5, 9, none, 4: one tie, one against, one unscored. Chosen answers have 1 to 6 characters, rejected
    ones 11 to 16."""
    found = pairs_of(some_pairs())
    assert (found.pairs, found.splits) == (6, {"train": 5, "test": 1})
    assert (found.ties, found.against, found.unscored) == (1, 1, 1)
    assert dict(zip(found.gaps.labels, found.gaps.counts["pairs"], strict=True)) == dict.fromkeys(
        ["-5", "0", "4", "7", "9"], 1
    )
    assert found.lengths.labels == ["1", "2", "3", "4", "5", "6", "11", "12", "13", "14", "15", "16"]
    assert found.lengths.counts == {"chosen": [1] * 6 + [0] * 6, "rejected": [0] * 6 + [1] * 6}


def test_data_without_pairs_have_no_counts_of_pairs():
    prefs = some_pairs()
    assert pairs_of(Preferences.of(prefs.prompts, prefs.responses)) is None


def test_answers_are_counted_by_score_and_unscored_ones_apart():
    """Eleven scores of which 7 and 8 come twice, and one answer without any."""
    found = by_score(some_pairs())
    assert found == {"1": 1, "2": 1, "3": 1, "4": 1, "6": 1, "7": 2, "8": 2, "9": 1, "10": 1, "unscored": 1}
    assert list(found)[-1] == "unscored"


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.7, 41.2), (1e-9, 2e-9), (-2e6, 5.0)])
def test_ranges_are_round_equally_wide_and_lose_nothing(low, high):
    values = np.random.default_rng(3).uniform(low, high, 500)
    found = bins({"all": values, "half": values[:250]})
    ends = [tuple(map(float, label.split(" to "))) for label in found.labels]
    assert sum(found.counts["all"]) == 500
    assert sum(found.counts["half"]) == 250
    assert 8 <= len(ends) <= 24
    assert np.ptp([b - a for a, b in ends]) <= 1e-6 * (high - low)
    for (a, b), n in zip(ends, found.counts["all"], strict=True):
        slack = 1e-6 * (high - low)  # a label has six digits
        assert (
            ((values >= a + slack) & (values < b - slack)).sum()
            <= n
            <= ((values >= a - slack) & (values <= b + slack)).sum()
        )


def test_few_different_values_have_a_bar_each_and_what_is_no_number_has_none():
    found = bins({"a": np.array([1.0, 1.0, 2.5]), "b": np.array([2.5, np.nan, np.inf])})
    assert (found.labels, found.counts) == (["1", "2.5"], {"a": [2, 1], "b": [0, 1]})
    assert bins({"a": np.array([np.nan])}) is None


def test_a_selection_is_shown_with_its_cut_and_the_gaps_before_and_after():
    """Gaps of train are 7, 0, -5, 9 and none; keep = 0.5 of the four that are known keeps 9 and 7."""
    before = some_pairs()
    kept = select(before, "explicit_gap", keep=0.5, only="train")
    found = selection_of(kept, before)
    assert (found.metric, found.cut, found.rows_in, found.rows_out) == ("explicit_gap", "top", 6, 3)
    assert (found.least, found.largest) == (7.0, 9.0)
    assert found.values.counts == {"kept pairs": [1, 1]}
    assert found.gaps.labels == ["-5", "0", "7", "9"]  # the test pair, with 4, was not to be chosen from
    assert found.gaps.counts == {"before": [1, 1, 1, 1], "kept": [0, 0, 1, 1]}
    assert found.settings["only"] == "train"
    assert selection_of(before, None) is None


def test_a_relabelling_is_shown_with_its_goals_and_the_first_pair_as_the_model_reads_it():
    """Pairs with both scores and a difference: (9, 2), (3, 8), (10, 1), (8, 4). A positive copy asks for the score of
    the chosen side: 9, 3, 10, 8; a negative one for the other: 2, 8, 1, 4."""
    made = relabel(some_pairs(), "ra", placement="system")
    found = relabelling_of(made)
    assert (found.mode, found.rows_in, found.rows_out) == ("ra", 6, 8)
    assert found.dropped == {"unscored": 1, "score_tie": 1}
    assert found.goals.labels == ["1", "2", "3", "4", "8", "9", "10"]
    assert found.goals.counts == {"positive": [0, 0, 1, 0, 1, 1, 1], "negative": [1, 1, 0, 1, 1, 0, 0]}
    first, second = found.examples
    assert (first.goal, second.goal) == ("9", "2")
    assert "Overall score: 9." in first.prompt
    assert "Overall score: 2." in second.prompt
    assert first.prompt.startswith("system: ")
    assert first.prompt.endswith("user: Question 0?")
    assert (first.chosen, first.rejected) == ("x", "x" * 11)
    assert (second.chosen, second.rejected) == (first.rejected, first.chosen)
    assert relabelling_of(some_pairs()) is None


def test_goals_of_several_scores_are_counted_by_what_they_say():
    prefs = some_pairs(SCORES[:1] * 3)
    responses = prefs.responses.with_columns(
        score_a=pl.col("score"), score_b=pl.when(pl.col("score") > 5).then(1.0).otherwise(7.0)
    )
    made = relabel(Preferences.of(prefs.prompts, responses, prefs.pairs), "ra", attributes=["a", "b"], placement="user")
    found = relabelling_of(made)
    counted = {name: dict(zip(found.goals.labels, n, strict=True)) for name, n in found.goals.counts.items()}
    assert counted == {"positive": {"9, 1": 3, "2, 7": 0}, "negative": {"9, 1": 0, "2, 7": 3}}
