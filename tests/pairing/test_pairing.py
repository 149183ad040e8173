"""Which answers are compared, by hand."""

import itertools
import math
import random as stdlib_random
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairwright.errors import InputError
from pairwright.formats.read import read
from pairwright.pairing import PAIRINGS, pair
from pairwright.preferences import Preferences
from pairwright.relabel import relabel
from pairwright.split import split

Scores = Sequence[float | None]


def made(by_prompt: dict[str, Scores], texts: dict[int, str] | None = None, **columns: list[object]) -> Preferences:
    """Answers numbered in the order given; each has its own text unless `texts` says otherwise."""
    rows = [(prompt, score) for prompt, scores in by_prompt.items() for score in scores]
    said = [(texts or {}).get(i, f"answer {i}") for i in range(len(rows))]
    answers = pl.DataFrame(
        {
            "prompt_id": [prompt for prompt, _ in rows],
            "response": [[{"role": "assistant", "content": text}] for text in said],
            "score": [score for _, score in rows],
            **columns,
        },
        schema_overrides={"score": pl.Float64, "prompt_id": pl.String},
        strict=False,
    )
    prompts = {"prompt_id": list(by_prompt), "prompt": [[{"role": "user", "content": p}] for p in by_prompt]}
    return Preferences.of(pl.DataFrame(prompts), answers)


def ids(prefs: Preferences) -> list[tuple[int, int]]:
    return list(prefs.pairs.select("chosen_id", "rejected_id").collect().iter_rows())


def test_best_worst_takes_the_first_of_equals() -> None:
    prefs = made({"a": [5.0, 9.0, 9.0, 1.0, 1.0], "b": [2.0, 3.0]})
    assert ids(pair(prefs, "best_worst")) == [(1, 3), (6, 5)]


def test_adjacent_skips_equal_neighbours() -> None:
    # By score: 9 (id 1), 8 (id 0), 8 (id 3), 7 (id 2); the two eights are no pair.
    assert ids(pair(made({"a": [8.0, 9.0, 7.0, 8.0]}), "adjacent")) == [(1, 0), (3, 2)]


def test_adjacent_does_not_pair_across_prompts() -> None:
    assert ids(pair(made({"a": [9.0, 8.0], "b": [7.0, 6.0]}), "adjacent")) == [(0, 1), (2, 3)]


def test_every_pairs_all_that_differ() -> None:
    assert ids(pair(made({"a": [8.0, 9.0, 8.0]}), "every")) == [(1, 0), (1, 2)]


def test_best_random_draws_evenly_from_the_lower_ones() -> None:
    scores: list[float] = [3.0, 9.0, 5.0, 9.0, 1.0]
    prefs = pair(made({f"p{i}": scores for i in range(600)}), "best_random")
    places = [(chosen % 5, rejected % 5) for chosen, rejected in ids(prefs)]
    assert {chosen for chosen, _ in places} == {1}
    for place in (0, 2, 4):  # 600 draws with p = 1/3: standard deviation 11.5
        assert 150 <= sum(rejected == place for _, rejected in places) <= 250


def test_best_random_is_the_prompts_own_draw() -> None:
    scores: list[float] = [3.0, 9.0, 5.0, 1.0]
    whole = ids(pair(made({f"p{i}": scores for i in range(50)}), "best_random", seed=4))
    last = ids(pair(made({"p49": scores}), "best_random", seed=4))
    assert last == [(chosen - 196, rejected - 196) for chosen, rejected in whole[49:]]
    assert ids(pair(made({f"p{i}": scores for i in range(50)}), "best_random", seed=5)) != whole


@pytest.mark.parametrize("rule", PAIRINGS)
def test_unscored_and_tied_answers_are_counted_and_never_paired(rule: str) -> None:
    prefs = made({"few": [4.0, None], "none": [], "tied": [6.0, 6.0, None], "nan": [math.nan, 5.0], "ok": [1.0, 2.0]})
    result = pair(prefs, rule)
    assert ids(result) == [(8, 7)]
    step = result.lineage[-1]
    assert step.dropped == {"fewer_than_two_scored": 3, "all_tied": 1}
    assert (step.rows_in, step.rows_out) == (5, 1)
    assert step.notes == ("3 answers have no finite score and are in no pair.",)


def test_equal_texts_and_small_gaps_are_dropped_and_counted() -> None:
    prefs = made({"a": [2.0, 3.0], "b": [5.0, 5.4], "c": [1.0, 9.0]}, texts={0: "same", 1: "same"})
    result = pair(prefs, min_gap=0.5)
    assert ids(result) == [(5, 4)]
    assert result.dropped == {"equal_text": 1, "below_min_gap": 1}


def test_another_score_column_can_decide() -> None:
    prefs = made({"a": [9.0, 1.0]}, score_honesty=[2.0, 3.0])
    assert ids(pair(prefs, by="score_honesty")) == [(1, 0)]


def test_old_pairs_are_replaced_and_the_split_stays() -> None:
    names = [f"p{i}" for i in range(40)]
    prefs = split(pair(made(dict.fromkeys(names, (1.0, 2.0, 3.0)))), test=0.4)
    again = pair(prefs, "every")
    assert "The 40 pairs that were there are replaced." in again.lineage[-1].notes
    known = dict(prefs.prompts.select("prompt_id", "split").collect().iter_rows())
    sides = again.pairs.select("prompt_id", "split").collect()
    assert sides.height == 120
    assert all(known[prompt] == side for prompt, side in sides.iter_rows())
    assert set(sides["split"]) == {"train", "test"}


def test_a_split_that_only_the_pairs_have_stays_too() -> None:
    prefs = pair(made({"a": [1.0, 2.0], "b": [1.0, 2.0]}))
    moved = Preferences.of(prefs.prompts, prefs.responses, prefs.pairs.with_columns(split=pl.Series(["test", "train"])))
    assert pair(moved).pairs.collect()["split"].to_list() == ["test", "train"]


def test_bad_requests_are_sentences() -> None:
    prefs = made({"a": [1.0, 2.0]}, score_honesty=[2.0, 3.0])
    with pytest.raises(InputError, match="did you mean 'best_worst'"):
        pair(prefs, "best_wurst")
    with pytest.raises(InputError, match="did you mean 'score_honesty'"):
        pair(prefs, by="score_honest")
    with pytest.raises(InputError, match="column 'model' holds String"):
        pair(prefs, by="model")
    with pytest.raises(InputError, match="has no setting 'bias'"):
        pair(prefs, "every", bias=1)


def test_no_answers_give_no_pairs() -> None:
    result = pair(made({"a": []}))
    assert ids(result) == []
    assert result.dropped == {"fewer_than_two_scored": 1}


score_lists = st.lists(st.lists(st.one_of(st.none(), st.integers(1, 4).map(float)), max_size=5), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(score_lists, st.sampled_from(sorted(PAIRINGS)))
def test_rules_agree_with_a_loop(scores: list[Scores], rule: str) -> None:
    prefs = made({f"p{i}": column for i, column in enumerate(scores)})
    got = ids(pair(prefs, rule))
    expected: list[tuple[int, int]] = []
    start = 0
    for column in scores:
        known = [(start + i, score) for i, score in enumerate(column) if score is not None]
        start += len(column)
        ordered = sorted(known, key=lambda item: -item[1])  # sorted() is stable
        if rule == "every":
            expected += [(i, j) for i, a in known for j, b in known if a > b]
        elif rule == "adjacent":
            expected += [(i, j) for (i, a), (j, b) in itertools.pairwise(ordered) if a > b]
        elif known and ordered[0][1] > ordered[-1][1]:
            lowest = [i for i, score in known if score == ordered[-1][1]]
            lower = [i for i, score in known if score < ordered[0][1]]
            if rule == "best_worst":
                expected.append((ordered[0][0], lowest[0]))
            else:
                mine = [rejected for chosen, rejected in got if chosen == ordered[0][0]]
                assert len(mine) == 1
                assert mine[0] in lower
                expected.append((ordered[0][0], mine[0]))
    assert got == expected


def test_row_order_of_prompts_is_the_order_of_pairs() -> None:
    names = [f"p{i}" for i in range(30)]
    stdlib_random.Random(0).shuffle(names)
    result = pair(made(dict.fromkeys(names, (1.0, 2.0))))
    assert result.pairs.collect()["prompt_id"].to_list() == names


def test_pairs_whose_prompts_say_a_goal_are_not_paired_again(tmp_path: Path) -> None:
    once = relabel(pair(made({"a": [9.0, 1.0], "b": [8.0, 2.0, 5.0]})))
    flat = read(once.export(tmp_path / "ra.parquet"))
    with pytest.raises(InputError, match="would contradict them; pair the data from before relabelling"):
        pair(flat)
    assert ids(pair(once)) == [(0, 1), (2, 3)]  # here the prompts are as they were


@pytest.mark.parametrize("gap", [math.nan, -1.0, "wide"])
def test_a_gap_that_is_none_is_refused(gap: float) -> None:
    with pytest.raises(InputError, match="min_gap"):
        pair(made({"a": [9.0, 1.0]}), min_gap=gap)


def test_settings_are_converted() -> None:
    assert pair(made({"a": [9.0, 8.8]}), min_gap="0.5").lineage[-1].dropped == {"below_min_gap": 1}  # type: ignore[arg-type]
