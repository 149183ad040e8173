"""Each check on scores: a planted case that it must find, by row, and data in which it must find nothing."""

import math
from collections.abc import Callable

import polars as pl
import pytest

from pairwright.audit import scores
from pairwright.errors import InputError
from pairwright.preferences import Preferences, Step

Made = Callable[..., Preferences]

UNSCORED = ("q", "a", "b", None, 3.0)


@pytest.mark.parametrize(
    "check",
    [
        scores.score_tie,
        scores.label_against_score,
        scores.unscored,
        scores.non_finite_score,
        scores.sentinel_score,
        scores.out_of_scale,
        scores.constant_score,
    ],
)
def test_silent_on_clean_data(check: Callable[..., object], clean: Preferences) -> None:
    found = check(clean)
    assert (found.count, found.rows, found.level, found.share) == (0, (), "fine", 0.0)


class TestTie:
    def test_counts_equal_scores_only(self, made: Made) -> None:
        found = scores.score_tie(made([("p", "a", "b", 5.0, 5.0), ("q", "a", "b", 7.0, 7.04), UNSCORED]))
        assert (found.count, found.rows) == (1, (0,))
        assert found.share == pytest.approx(1 / 3)
        assert "1 of 2 scored pairs" in found.says

    def test_two_unscored_or_infinite_sides_are_no_tie(self, made: Made) -> None:
        found = scores.score_tie(made([("p", "a", "b", None, None), ("q", "a", "b", math.inf, math.inf)]))
        assert found.count == 0


class TestLabel:
    def test_worse_score_chosen(self, made: Made) -> None:
        found = scores.label_against_score(made([("p", "a", "b", 3.0, 8.0), ("q", "a", "b", 8.0, 3.0), UNSCORED]))
        assert (found.count, found.rows, found.level) == (1, (0,), "error")

    def test_a_goal_turns_it_round(self, made: Made) -> None:
        # Asked for 3, the answer with 3 is the right choice over 8; asked for 8 it is the wrong one.
        rows = [("p", "a", "b", 3.0, 8.0), ("p", "a", "b", 3.0, 8.0), ("p", "a", "b", 8.0, 3.0)]
        found = scores.label_against_score(made(rows, goal=[3.0, 8.0, None]))
        assert found.rows == (1,)

    def test_vector_goals_are_left_out_and_told(self, made: Made) -> None:
        found = scores.label_against_score(made([("p", "a", "b", 3.0, 8.0)], goal=[[3.0, 1.0]]))
        assert found.count == 0
        assert "1 pairs with several goals" in found.says


class TestUnscored:
    def test_one_side_is_enough_and_nan_is_another_matter(self, made: Made) -> None:
        found = scores.unscored(made([UNSCORED, ("p", "a", "b", 5.0, math.nan), ("r", "a", "b", 2.0, 1.0)]))
        assert (found.count, found.rows, found.level) == (1, (0,), "warning")

    def test_a_source_without_scores_is_a_note(self, made: Made) -> None:
        found = scores.unscored(made([("p", "a", "b")], preference=[0.9]))
        assert (found.count, found.level) == (1, "note")
        assert "1 preferences" in found.says

    def test_without_pairs_it_counts_answers(self, made: Made) -> None:
        data = made([UNSCORED])
        found = scores.unscored(Preferences.of(data.prompts, data.responses))
        assert (found.count, found.of, found.rows) == (1, "responses", (0,))


class TestNonFinite:
    def test_nan_and_infinity(self, made: Made) -> None:
        rows = [("p", "a", "b", math.nan, 1.0), ("q", "a", "b", 2.0, 1.0), ("r", "a", "b", math.inf, 1.0)]
        found = scores.non_finite_score(made(rows))
        assert (found.count, found.rows, found.level) == (2, (0, 2), "error")

    def test_what_the_reader_made_null_is_counted_from_its_notes(self, made: Made) -> None:
        step = Step(name="read", notes=("1,204 rows: a score that is not a finite number became null", "3 rows: else"))
        found = scores.non_finite_score(made([UNSCORED], lineage=[step]))
        assert (found.count, found.rows_left_out, found.rows) == (1204, 1204, ())

    def test_other_score_columns_are_looked_at(self, made: Made) -> None:
        data = made([("p", "a", "b", 2.0, 1.0)])
        wider = Preferences.of(
            data.prompts, data.responses.with_columns(score_tone=pl.Series([1.0, math.nan])), data.pairs
        )
        assert scores.non_finite_score(wider).count == 1


class TestSentinel:
    def test_minus_one_among_ratings(self, made: Made) -> None:
        found = scores.sentinel_score(made([("p", "a", "b", 8.0, -1.0), ("q", "a", "b", 7.0, 0.0), UNSCORED]))
        assert (found.count, found.rows) == (1, (0,))

    def test_minus_one_among_logits_is_a_score(self, made: Made) -> None:
        assert scores.sentinel_score(made([("p", "a", "b", 2.5, -1.0), ("q", "a", "b", -0.7, -3.2)])).count == 0

    def test_minus_hundred_among_logits(self, made: Made) -> None:
        found = scores.sentinel_score(made([("p", "a", "b", 2.5, -100.0), ("q", "a", "b", -1.0, -3.2)]))
        assert found.rows == (0,)
        assert "-100" in found.says

    def test_nothing_but_sentinels(self, made: Made) -> None:
        assert scores.sentinel_score(made([("p", "a", "b", -1.0, -1.0)])).count == 1


class TestScale:
    def test_given(self, made: Made) -> None:
        data = made([("p", "a", "b", 5.0, 0.5), ("q", "a", "b", 5.5, 1.0), ("r", "a", "b", 5.0, 1.0)])
        found = scores.out_of_scale(data, scale=(1.0, 5.0))
        assert (found.count, found.rows, found.level) == (2, (0, 1), "warning")

    def test_must_rise(self, made: Made) -> None:
        with pytest.raises(InputError, match="10 to 1 does not rise"):
            scores.out_of_scale(made([UNSCORED]), scale=(10.0, 1.0))

    def test_declared_by_the_reading_step(self, made: Made) -> None:
        step = Step(name="read", settings={"scale": [0, 4]})
        assert scores.out_of_scale(made([("p", "a", "b", 5.0, 0.0)], lineage=[step])).rows == (0,)

    def test_ratings_without_a_scale_are_taken_as_one_to_ten_and_it_is_a_note(self, made: Made) -> None:
        rows = [(f"p{i}", "a", "b", 5.0 + i % 4, 1.0 + i % 4) for i in range(20)] + [("x", "a", "b", 57.0, 3.0)]
        found = scores.out_of_scale(made(rows))
        assert (found.count, found.rows, found.level) == (1, (20,), "note")
        assert "none was declared" in found.says

    def test_nothing_is_invented_for_logits(self, made: Made) -> None:
        rows = [(f"p{i}", "a", "b", 3.137 + i, -2.71 + i) for i in range(20)]
        found = scores.out_of_scale(made(rows))
        assert found.count == 0
        assert "from -2.71 to 22.137" in found.says


class TestConstant:
    def test_one_value(self, made: Made) -> None:
        found = scores.constant_score(made([("p", "a", "b", 4.0, 4.0), ("q", "a", "b", 4.0, None)]))
        assert (found.count, found.level) == (2, "error")
        assert "4 for every scored answer" in found.says

    def test_a_constant_attribute_is_named(self, made: Made) -> None:
        data = made([("p", "a", "b", 4.0, 3.0)])
        wider = Preferences.of(data.prompts, data.responses.with_columns(score_tone=pl.lit(1.0)), data.pairs)
        found = scores.constant_score(wider)
        assert (found.count, found.level) == (1, "warning")
        assert found.says.startswith("Score_tone is 1")

    def test_no_scores_are_not_constant(self, made: Made) -> None:
        assert scores.constant_score(made([("p", "a", "b")])).count == 0
