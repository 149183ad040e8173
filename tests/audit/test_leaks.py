"""Repeated prompts and split leakage: planted cases by row, and splits with nothing in common."""

import random
from collections.abc import Callable

import polars as pl
import pytest

from pairwright.audit import leaks
from pairwright.preferences import Preferences

Made = Callable[..., Preferences]
WORDS = [f"word{i}" for i in range(500)]


def sentence(seed: int, length: int = 30) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def test_the_copies_of_a_relabelled_pair_have_one_prompt(made: Made) -> None:
    """In a flat file their prompts differ in the goal, and a split between them is a leak."""
    rows = [("score 9. q", "a", "b"), ("score 2. q", "b", "a"), ("score 9. r", "a", "b"), ("score 2. r", "b", "a")]
    extra = {"goal": [9.0, 2.0, 9.0, 2.0], "source_prompt_id": ["q", "q", "r", "r"]}
    found = leaks.split_leakage(made(rows, split=["train", "test", "train", "train"], **extra))
    assert (found.count, found.rows, found.level) == (1, (1,), "error")
    assert leaks.split_leakage(made(rows, split=["test", "test", "train", "train"], **extra)).count == 0
    # Without goals such a column is the user's own and says nothing.
    plain = {"source_prompt_id": extra["source_prompt_id"]}
    assert leaks.split_leakage(made(rows, split=["train", "test", "train", "train"], **plain)).count == 0


class TestDuplicates:
    def test_silent_on_clean_data(self, clean: Preferences) -> None:
        found = leaks.duplicate_prompt(clean)
        assert (found.count, found.of, found.level) == (0, "prompts", "fine")

    def test_two_pairs_of_one_prompt_are_a_note(self, made: Made) -> None:
        found = leaks.duplicate_prompt(made([("one", "a", "b"), ("two", "a", "b"), ("two", "c", "d")]))
        assert (found.count, found.rows, found.level) == (1, (1,), "note")

    def test_spelling(self, made: Made) -> None:
        rows = [("What  is\nit?", "a", "b"), ("other", "a", "b"), ("what is it?", "a", "b"), ("ｗhat is it?", "a", "b")]
        found = leaks.duplicate_prompt(made(rows))
        assert (found.count, found.rows, found.level) == (3, (0, 2, 3), "warning")

    def test_exact_repeats(self, made: Made) -> None:
        rows = [("p", "a", "b"), ("p", "a", "b"), ("q", "a", "b")]
        found = leaks.duplicate_prompt(made(rows, chosen_id=[0, 0, 4], rejected_id=[1, 1, 5]))
        assert (found.count, found.rows, found.level) == (1, (0,), "warning")
        assert "1 pairs are exact repeats" in found.says

    def test_the_two_directions_of_a_relabelled_pair_are_one_comparison(self, made: Made) -> None:
        rows = [("p", "a", "b", 8.0, 3.0), ("p", "a", "b", 8.0, 3.0)]
        data = made(rows, chosen_id=[0, 1], rejected_id=[1, 0], goal=[8.0, 3.0])
        assert leaks.duplicate_prompt(data).count == 0

    def test_vector_goals(self, made: Made) -> None:
        rows = [("p", "a", "b"), ("p", "a", "b"), ("p", "a", "b")]
        data = made(rows, chosen_id=[0, 1, 0], rejected_id=[1, 0, 1], goal=[[8.0, 1.0], [3.0, 2.0], [8.0, 1.0]])
        assert "1 pairs are exact repeats" in leaks.duplicate_prompt(data).says


class TestLeakage:
    def test_silent_between_disjoint_splits_and_within_one(self, made: Made) -> None:
        rows = [(sentence(i), "a", "b") for i in range(6)]
        assert leaks.split_leakage(made(rows, split=["train"] * 4 + ["test"] * 2)).count == 0
        found = leaks.split_leakage(made([*rows, rows[0]]))
        assert found.count == 0
        assert "one split only" in found.says

    def test_same_prompt_in_two_splits_counts_once(self, made: Made) -> None:
        rows = [("zero", "a", "b"), ("leaked", "a", "b"), ("leaked", "c", "d"), ("leaked", "e", "f")]
        found = leaks.split_leakage(made(rows, split=["train", "train", "test", "test"]))
        assert (found.count, found.rows, found.level) == (1, (1,), "error")

    def test_another_spelling_is_found_on_the_held_out_side(self, made: Made) -> None:
        rows = [("Name a colour.", "a", "b"), ("else", "a", "b"), ("name a  colour.", "a", "b")]
        found = leaks.split_leakage(made(rows, split=["train", "train", "test"]))
        assert found.rows == (2,)

    def test_prompts_without_pairs_count_by_their_own_split(self, made: Made) -> None:
        data = made([("leaked", "a", "b"), ("x", "a", "b")], split=["train", "train"])
        labelled = Preferences.of(
            data.prompts.with_columns(split=pl.Series(["test", "train"])), data.responses, data.pairs
        )
        assert leaks.split_leakage(labelled).rows == (0,)


class TestNear:
    def test_one_word_changed_is_found_and_named(self, made: Made) -> None:
        base = [sentence(i) for i in range(200)]
        changed = base[17].replace(base[17].split()[15], "changed", 1)
        held = [sentence(1000), changed, sentence(1001)]
        data = made([(p, "a", "b") for p in base + held], split=["train"] * 200 + ["test"] * 3)
        found = leaks.near_duplicate_across_splits(data)
        assert (found.count, found.rows) == (1, (201,))
        assert found.share == pytest.approx(1 / 3)
        # 28 sequences of three words on each side, three of them new: 25 in common of 31 in all.
        assert "201 and 17, similarity 0.81" in found.says

    def test_similarity_is_the_jaccard_index(self, made: Made) -> None:
        base = sentence(5)
        words = base.split()
        changed = " ".join([*words[:15], "changed", *words[16:]])
        data = made([(base, "a", "b"), (changed, "a", "b")], split=["train", "test"])
        assert leaks.near_duplicate_across_splits(data, similarity=25 / 31).count == 1
        assert leaks.near_duplicate_across_splits(data, similarity=25 / 31 + 1e-9).count == 0

    @pytest.mark.parametrize("length", [10, 300])
    def test_short_and_long_prompts_are_all_found(self, made: Made, length: int) -> None:
        base = [sentence(i, length) for i in range(60)]
        held = [f"{text.rsplit(' ', 1)[0]} changed" for text in base]
        data = made([(p, "a", "b") for p in base + held], split=["train"] * 60 + ["test"] * 60)
        # Ten words with the last one changed: 7 sequences in common of 9.
        assert leaks.near_duplicate_across_splits(data, similarity=7 / 9).rows == tuple(range(60, 120))

    def test_equal_prompts_are_leakage_and_not_near(self, made: Made) -> None:
        data = made([(sentence(1), "a", "b"), (sentence(1).upper(), "a", "b")], split=["train", "test"])
        assert leaks.near_duplicate_across_splits(data).count == 0
        assert leaks.split_leakage(data).count == 1

    def test_boilerplate_alone_is_no_similarity(self, made: Made) -> None:
        frame = sentence(7, 40)
        rows = [(f"{frame} {sentence(100 + i, 8)}", "a", "b") for i in range(120)]
        data = made(rows, split=["train"] * 60 + ["test"] * 60)
        assert leaks.near_duplicate_across_splits(data, similarity=0.5).count == 0

    def test_scripts_without_spaces(self, made: Made) -> None:
        base = "日本で一番高い山の名前とその高さを教えてください。歴史についても書いてください。"
        data = made([(base, "a", "b"), (base.replace("歴史", "地理"), "a", "b")], split=["train", "test"])
        assert leaks.near_duplicate_across_splits(data, similarity=0.7).count == 1

    def test_one_split_or_short_prompts(self, made: Made) -> None:
        assert leaks.near_duplicate_across_splits(made([("a b c d", "a", "b")])).count == 0
        data = made([("hi", "a", "b"), ("ho", "a", "b")], split=["train", "test"])
        assert leaks.near_duplicate_across_splits(data).count == 0
