"""What is exchanged in a negative copy, and what is not."""

import polars as pl
import pytest

from pairwright.relabel.flips import copies


def frame() -> pl.LazyFrame:
    return pl.LazyFrame(
        {
            "source_pair": [0, 1],
            "chosen_id": [10, 20],
            "rejected_id": [11, 21],
            "goal_chosen": [9.0, 7.0],
            "goal_rejected": [8.0, 3.0],
            "logp_m_chosen": [-1.0, -2.0],
            "logp_m_rejected": [-3.0, -4.0],
            "well_chosen": ["a", "b"],  # no `well_rejected` beside it: the name of something else
            "preference": [2.0, 1.0],
            "weight": [1.0, 0.5],
        }
    )


def test_a_positive_copy_is_the_pair_with_the_chosen_score_as_goal() -> None:
    got = copies(frame(), "positive").collect()
    assert got.drop("copy", "goal").equals(frame().collect())
    assert got["goal"].to_list() == [9.0, 7.0]
    assert got["copy"].to_list() == ["positive"] * 2


def test_a_negative_copy_has_its_sides_exchanged() -> None:
    got = copies(frame(), "negative").collect()
    assert got["chosen_id"].to_list() == [11, 21]
    assert got["rejected_id"].to_list() == [10, 20]
    assert got["goal"].to_list() == [8.0, 3.0]
    assert got["logp_m_chosen"].to_list() == [-3.0, -4.0]
    assert got["logp_m_rejected"].to_list() == [-1.0, -2.0]
    assert got["goal_rejected"].to_list() == [9.0, 7.0]
    assert got["well_chosen"].to_list() == ["a", "b"]
    assert got["weight"].to_list() == [1.0, 0.5]
    assert got["preference"].to_list() == [None, None]


def test_copies_of_a_pair_follow_each_other() -> None:
    got = copies(frame(), "positive", "negative").collect()
    assert got["source_pair"].to_list() == [0, 0, 1, 1]
    assert got["copy"].to_list() == ["positive", "negative"] * 2
    assert got["goal"].to_list() == [9.0, 8.0, 7.0, 3.0]
    assert got["preference"].to_list() == [2.0, None, 1.0, None]


def test_a_vector_goal_goes_with_its_side() -> None:
    vectors = frame().with_columns(
        goal_chosen=pl.Series([[9.0, 1.0], [7.0, 2.0]]), goal_rejected=pl.Series([[8.0, 3.0], [6.0, 4.0]])
    )
    got = copies(vectors, "negative", "positive").collect()
    assert got["goal"].to_list() == [[8.0, 3.0], [9.0, 1.0], [6.0, 4.0], [7.0, 2.0]]


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_both_engines_agree(engine: "pl._typing.EngineType") -> None:
    got = copies(frame(), "positive", "negative").collect(engine=engine)
    assert got["chosen_id"].to_list() == [10, 11, 20, 21]
