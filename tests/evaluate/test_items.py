"""Numbers of benchmarks from marks of items, against hand arithmetic, closed forms and another bootstrap."""

import math

import numpy as np
import pytest

from pairwright.evaluate.items import Items, average, interval, level, paired, weights
from pairwright.stats import paired_difference, wilson


def test_only_items_of_all_models_are_compared_and_the_others_are_counted() -> None:
    values, alone = paired([{"a": 1.0, "b": 0.0, "c": 1.0}, {"c": 0.0, "d": 1.0, "a": 1.0}])
    assert values.tolist() == [[1.0, 1.0], [1.0, 0.0]]  # a, c
    assert alone == 2  # b, d


def test_parts_weigh_by_their_items_or_all_alike() -> None:
    assert weights([1, 3], by_size=True) == [0.25, 0.75]
    assert weights([1, 3], by_size=False) == [0.5, 0.5]


@pytest.mark.parametrize(("by_size", "expected"), [(True, 4 / 6), (False, (1 / 2 + 3 / 4) / 2)])
def test_a_group_is_the_weighted_mean_of_its_parts(by_size: bool, expected: float) -> None:
    """Parts with 1 of 2 and 3 of 4 right: pooled 4 of 6, else the mean of a half and three quarters."""
    parts = [np.array([[1.0, 0.0]]), np.array([[1.0, 1.0, 1.0, 0.0]])]
    share = weights([2, 4], by_size=by_size)
    found = level("g", [Items(*each) for each in zip(parts, share, strict=True)], draws=10, seed=0)
    assert found.value.tolist() == pytest.approx([expected])
    assert found.n == 6


def test_right_or_wrong_has_wilsons_interval_also_where_all_are_wrong() -> None:
    found = level("g", [Items(np.array([[0.0] * 9 + [1.0], [0.0] * 10]), 1.0)], draws=50, seed=0)
    assert interval(found, of=0) == wilson(1, 10)
    assert interval(found, of=1) == wilson(0, 10)


def test_shares_that_are_not_of_all_items_have_no_wilson_interval() -> None:
    """Parts that weigh alike though one has more items: the number is no share, so it is drawn."""
    parts = [Items(np.array([[1.0, 0.0]]), 0.5), Items(np.array([[1.0, 1.0, 1.0, 0.0]]), 0.5)]
    found = level("g", parts, draws=500, seed=0)
    assert found.num_right is None
    assert interval(found, of=0) != wilson(4, 6)


def test_a_difference_is_later_minus_earlier_item_by_item() -> None:
    before = np.array([0.2, 0.4, 0.6, 0.8] * 100)
    noise = np.array([0.05, -0.05, 0.15, 0.05] * 100)
    found = level("g", [Items(np.stack([before, before + noise]), 1.0)], draws=2000, seed=3)
    got, other = interval(found, of=1, minus=0), paired_difference(before + noise, before, seed=8)
    assert got.value == pytest.approx(0.05)
    assert got.low == pytest.approx(other.low, abs=1e-3)
    assert got.high == pytest.approx(other.high, abs=1e-3)
    # Only the spread of the differences counts, not how hard the items are: 1.96 sqrt(0.005 / 400) on each side.
    assert got.high - got.low == pytest.approx(2 * 1.96 * math.sqrt(0.005 / 400), rel=0.06)


def test_items_are_drawn_within_their_part() -> None:
    """Parts whose items are all alike have no spread of their own, however far the parts are from each other."""
    apart = [Items(np.full((1, 40), 0.1), 0.5), Items(np.full((1, 40), 0.9), 0.5)]
    found = level("g", apart, draws=200, seed=0)
    assert found.value[0] == pytest.approx(0.5)
    assert np.ptp(found.drawn) < 1e-12
    ends = interval(level("g", [Items(np.full((1, 8), 0.5), 1.0)], draws=20, seed=0), of=0)
    assert math.isnan(ends.low)
    assert ends.value == 0.5


def test_the_spread_of_a_group_is_that_of_a_stratified_mean() -> None:
    """Variance `sum(w² s² / n)` with s² over n, as in Cochran's stratified sampling; the draws must have it."""
    random = np.random.default_rng(1)
    parts = [random.normal(size=(1, 50)), 3 * random.normal(size=(1, 200))]
    share = [0.7, 0.3]
    found = level("g", [Items(*each) for each in zip(parts, share, strict=True)], draws=8000, seed=0)
    variance = sum(w * w * part.var() / part.shape[1] for w, part in zip(share, parts, strict=True))
    assert found.drawn.std() == pytest.approx(math.sqrt(variance), rel=0.03)


def test_a_part_of_one_item_has_a_value_and_no_interval() -> None:
    found = level("g", [Items(np.array([[0.3, 0.4]]), 0.5), Items(np.array([[0.7]]), 0.5)], draws=10, seed=0)
    got = interval(found, of=0)
    assert got.value == pytest.approx(0.525)
    assert math.isnan(got.low)
    assert math.isnan(got.high)


def test_the_average_counts_each_benchmark_once_and_draws_them_apart() -> None:
    """Two benchmarks with the same marks: independent, so the average's variance is half of one's."""
    marks = np.random.default_rng(0).random((1, 300))
    one, two = (level(name, [Items(marks, 1.0)], draws=4000, seed=0) for name in ("one", "two"))
    small = level("small", [Items(np.array([[0.0, 1.0]]), 1.0)], draws=4000, seed=0)
    assert average([one, small]).value[0] == pytest.approx((marks.mean() + 0.5) / 2)
    assert average([one, two]).drawn.std() == pytest.approx(one.drawn.std() / math.sqrt(2), rel=0.05)
    assert average([one, two]).n == 600


def test_the_same_seed_gives_the_same_interval_and_large_parts_are_drawn_in_blocks() -> None:
    marks = Items(np.random.default_rng(0).random((2, 3000)), 1.0)
    one, two, other = (level("g", [marks], draws=3000, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(one.drawn, two.drawn)
    assert not np.array_equal(one.drawn, other.drawn)
    assert one.drawn.shape == (2, 3000)


def test_every_item_is_drawn_as_often_as_any_other() -> None:
    """A mark at one place only, the first or the last of five: the drawn means are a fifth on average."""
    marks = np.zeros((2, 5))
    marks[0, 0] = marks[1, -1] = 1.0
    found = level("g", [Items(marks, 1.0)], draws=4000, seed=0)
    assert found.drawn.mean(axis=1).tolist() == pytest.approx([0.2, 0.2], abs=4 * math.sqrt(0.2 * 0.8 / 5 / 4000))
