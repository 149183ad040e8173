"""Numbers by prompt, beside the bootstrap of `stats` that draws prompts one by one."""

import numpy as np
import polars as pl
import pytest

from pairwright.diagnose import by_prompt
from pairwright.diagnose.answers import ANSWERS, Answers
from pairwright.diagnose.by_prompt import (
    asked_for_most,
    asked_for_none,
    drawn_sums,
    interval,
    mean_over,
    means,
    shared,
    wins,
)
from pairwright.errors import InputError
from pairwright.stats import grouped_bootstrap


def test_intervals_are_those_of_the_bootstrap_that_draws_prompts_one_by_one() -> None:
    """Both are percentile intervals of 4000 draws; their ends differ by the chance of drawing, a few percent."""
    draw = np.random.default_rng(0)
    groups = [f"p{i}" for i in draw.integers(0, 30, 200)]
    ease = {group: draw.normal() for group in sorted(set(groups))}
    values = np.array([ease[group] for group in groups]) + 0.3 * draw.standard_normal(200)
    frame = pl.DataFrame({"prompt_id": groups, "x": values})
    mine = mean_over(frame, "x", draws=4000, seed=1)
    (peer,) = grouped_bootstrap(lambda rows: [float(values[rows].mean())], groups, draws=4000, seed=2)
    assert mine.value == pytest.approx(peer.value)
    assert mine.n == peer.n == len(ease)
    width = peer.high - peer.low
    assert mine.low == pytest.approx(peer.low, abs=0.06 * width)
    assert mine.high == pytest.approx(peer.high, abs=0.06 * width)


def test_drawing_in_blocks_gives_as_many_draws_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_prompt, "_AT_ONCE", 21)
    total, drawn, n = drawn_sums(np.ones((6, 1)), list("aabbcc"), draws=20, seed=0)
    assert (total.tolist(), drawn.shape, n) == ([6.0], (20, 1), 3)
    assert set(drawn[:, 0]) == {6.0}  # every prompt has two rows, so every draw has six


def test_no_rows_and_one_prompt_have_no_interval() -> None:
    empty = pl.DataFrame(schema={"prompt_id": pl.String, "x": pl.Float64})
    assert mean_over(empty, "x", draws=10, seed=0).n == 0
    one = mean_over(pl.DataFrame({"prompt_id": ["p", "p"], "x": [1.0, 3.0]}), "x", draws=10, seed=0)
    assert (one.value, one.n) == (2.0, 1)
    assert np.isnan(one.low)
    assert np.isnan(interval(float("nan"), np.ones(3), 5).low)


def test_goals_are_chosen_as_a_model_is_used() -> None:
    frame = pl.DataFrame(
        {column: [None] * 4 for column in ANSWERS} | {"goal": [None, 2.0, 10.0, 10.0], "score": range(4)}
    )
    answers = Answers("ra", frame.select(pl.col(column).cast(kind) for column, kind in ANSWERS.items()))
    assert asked_for_most(answers)["score"].to_list() == [2.0, 3.0]
    assert asked_for_none(answers)["score"].to_list() == [0.0]
    only = Answers("ra", answers.frame.drop_nulls("goal"))
    assert asked_for_none(only)["score"].to_list() == [2.0, 3.0]


def test_wins_are_one_a_half_and_none() -> None:
    frame = pl.DataFrame({"a": [2.0, 0.1 + 0.2, 1.0], "b": [1.0, 0.3, 2.0]})
    assert frame.select(wins(pl.col("a"), pl.col("b"))).to_series().to_list() == [1.0, 0.5, 0.0]


def test_what_is_not_finite_or_not_shared_is_refused() -> None:
    with pytest.raises(InputError, match="1 values of score are not finite"):
        means(pl.DataFrame({"prompt_id": ["p", "q"], "score": [1.0, float("inf")]}), "score")
    with pytest.raises(InputError, match="length: the two models"):
        shared(pl.DataFrame({"prompt_id": ["p"]}), pl.DataFrame({"prompt_id": ["q"]}), what="length")
