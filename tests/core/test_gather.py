"""Numbers of answers beside pairs: by row number, or by a join where answers are numbered otherwise."""

from typing import Literal

import polars as pl
import pytest

from pairwright.errors import InputError
from pairwright.gather import fixed_width, gathered
from pairwright.preferences import MESSAGES, Preferences

Engine = Literal["streaming", "in-memory"]
CHOSEN = [0, 1, 2, 7, None, -1]  # of five answers: three that are there, one past the end, none, and one before it
REJECTED = [None, 1, 0, 2, 0, 9]


def answers(total: int, first: int = 0) -> pl.LazyFrame:
    return pl.LazyFrame(
        {
            "response_id": [first + i for i in range(total)],
            "score": [None if i == 2 else i / 2 for i in range(total)],
            "even": [i % 2 == 0 for i in range(total)],
        },
        schema={"response_id": pl.Int64, "score": pl.Float64, "even": pl.Boolean},
    )


def pairs(total: int) -> pl.LazyFrame:
    return pl.LazyFrame(
        {
            "prompt_id": [f"p{i}" for i in range(total)],
            "chosen_id": [CHOSEN[i % 6] for i in range(total)],
            "rejected_id": [REJECTED[i % 6] for i in range(total)],
        },
        schema={"prompt_id": pl.String, "chosen_id": pl.Int64, "rejected_id": pl.Int64},
    )


def by_hand(ids: list[int | None], known: int) -> list[float | None]:
    return [i / 2 if i is not None and 0 <= i < known and i != 2 else None for i in ids]


@pytest.mark.parametrize("engine", ["streaming", "in-memory"])
@pytest.mark.parametrize("known", [0, 1, 3, 5])
@pytest.mark.parametrize("rows", [0, 1, 2, 5, 1000])
def test_numbers_stand_beside_their_pairs(rows: int, known: int, engine: Engine) -> None:
    ours = pairs(rows)
    found = gathered(ours, answers(known), ["score", "even"])
    assert found is not None
    beside = pl.concat([ours, found], how="horizontal")
    whole = beside.collect(engine=engine)
    assert whole["score_chosen"].to_list() == by_hand([CHOSEN[i % 6] for i in range(rows)], known)
    assert whole["score_rejected"].to_list() == by_hand([REJECTED[i % 6] for i in range(rows)], known)
    assert whole["even_chosen"].dtype == pl.Boolean
    # Whatever a metric asks of it, it gets the same rows.
    assert beside.select(pl.len()).collect(engine=engine).item() == rows
    for columns in (["prompt_id"], ["score_chosen"], ["score_rejected", "prompt_id"]):
        assert beside.select(columns).collect(engine=engine).equals(whole.select(columns))
    high = pl.col("score_chosen") > 0
    assert beside.filter(high).collect(engine=engine).equals(whole.filter(high))
    assert beside.slice(1, 2).collect(engine=engine).equals(whole.slice(1, 2))


def test_a_view_is_the_same_however_answers_are_numbered() -> None:
    texts = answers(5).with_columns(
        prompt_id=pl.lit("p"), response=pl.lit([{"role": "assistant", "content": "A"}], dtype=MESSAGES)
    )
    prompts = pl.LazyFrame({"prompt_id": ["p"], "prompt": [[{"role": "user", "content": "Q"}]]})
    for frame in (texts, texts.reverse()):  # the second has the same numbers in another order
        view = Preferences.of(prompts, frame, pairs(6).with_columns(prompt_id=pl.lit("p"))).view("score")
        assert view.collect()["score_chosen"].to_list() == by_hand(CHOSEN, 5)
        assert view.collect()["score_rejected"].to_list() == by_hand(REJECTED, 5)


def test_answers_that_are_not_numbered_by_row_are_left_to_a_join() -> None:
    assert gathered(pairs(3), answers(5, first=1), ["score"]) is None
    assert gathered(pairs(3), answers(5).reverse(), ["score"]) is None
    assert gathered(pairs(3), answers(5).with_columns(response_id=pl.lit(None, pl.Int64)), ["score"]) is None


def test_two_answers_with_one_number_are_refused() -> None:
    twice = answers(5).with_columns(response_id=pl.Series([0, 1, 1, 2, 3]))
    with pytest.raises(InputError, match="two responses have one response_id"):
        gathered(pairs(3), twice, ["score"])


def test_texts_are_not_held_whole() -> None:
    assert all(map(fixed_width, (pl.Float64(), pl.Boolean(), pl.Int32(), pl.Date())))
    assert not any(map(fixed_width, (MESSAGES, pl.String(), pl.List(pl.Float64))))
