"""Intervals against closed forms worked by hand, against scipy (another implementation), and against simulation."""

import math

import numpy as np
import pytest
import scipy.stats

from pairwright.errors import InputError
from pairwright.stats import Interval, grouped_bootstrap, log_odds, mean_interval, paired_difference, spearman, wilson


def is_nothing(interval: Interval) -> bool:
    return all(math.isnan(x) for x in (interval.value, interval.low, interval.high)) and interval.n == 0


class TestWilson:
    @pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 20), (1, 3), (8, 10), (552, 992), (20, 20)])
    def test_agrees_with_scipy(self, k: int, n: int) -> None:
        ours = wilson(k, n)
        theirs = scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
        assert (ours.value, ours.n) == (k / n, n)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)

    def test_by_hand_for_no_hit(self) -> None:
        # k = 0: low is 0, high is z² / (n + z²); with z = 1.959964 and n = 10 that is 3.841459 / 13.841459.
        assert wilson(0, 10).high == pytest.approx(3.841459 / 13.841459, abs=1e-6)
        assert wilson(0, 10).low == 0.0

    def test_nothing_is_nan_not_zero(self) -> None:
        assert is_nothing(wilson(0, 0))

    def test_refuses_more_hits_than_cases(self) -> None:
        with pytest.raises(InputError, match="3 of 2"):
            wilson(3, 2)

    def test_confidence_widens(self) -> None:
        assert wilson(5, 10, confidence=0.99).low < wilson(5, 10).low < wilson(5, 10, confidence=0.8).low


class TestLogOdds:
    def test_by_hand(self) -> None:
        # (3 + 1/2) / (1 + 1/2) = 7/3; variance 2/7 + 2/3 = 20/21.
        odds = log_odds(3, 4)
        assert odds.value == pytest.approx(math.log(7 / 3))
        assert odds.high - odds.value == pytest.approx(1.959963985 * math.sqrt(20 / 21), abs=1e-8)
        assert odds.value - odds.low == pytest.approx(odds.high - odds.value)

    def test_sign_and_symmetry(self) -> None:
        assert log_odds(9, 10).value > 0 > log_odds(1, 10).value
        assert log_odds(9, 10).value == pytest.approx(-log_odds(1, 10).value)
        assert log_odds(5, 10).value == 0.0

    def test_finite_at_the_ends_and_nan_for_nothing(self) -> None:
        assert math.isfinite(log_odds(0, 5).low)
        assert math.isfinite(log_odds(5, 5).high)
        assert is_nothing(log_odds(0, 0))


class TestMeanInterval:
    @pytest.mark.parametrize("n", [2, 3, 5, 30, 400, 100_000])
    @pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
    def test_agrees_with_scipy(self, n: int, confidence: float) -> None:
        values = np.random.default_rng(n).normal(3.0, 2.0, n)
        ours = mean_interval(values, confidence=confidence)
        low, high = scipy.stats.t.interval(confidence, n - 1, values.mean(), scipy.stats.sem(values))
        assert ours.value == pytest.approx(values.mean())
        assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-8)

    def test_few(self) -> None:
        assert is_nothing(mean_interval([]))
        one = mean_interval([4.0])
        assert one.value == 4.0
        assert math.isnan(one.low)
        assert one.n == 1

    def test_refuses_unscored_values(self) -> None:
        with pytest.raises(InputError, match="1 of 3 values are not finite"):
            mean_interval([1.0, math.nan, 2.0])


class TestPairedDifference:
    def test_value_sign_and_seed(self) -> None:
        first, second = [3.0, 5.0, 4.0, 6.0], [1.0, 4.0, 4.0, 3.0]
        gap = paired_difference(first, second)
        assert gap.value == 1.5
        assert paired_difference(second, first).value == -1.5
        assert gap == paired_difference(first, second)

    def test_seed_decides(self) -> None:
        values, zeros = np.random.default_rng(2).normal(size=50), np.zeros(50)
        assert paired_difference(values, zeros, seed=3) == paired_difference(values, zeros, seed=3)
        assert paired_difference(values, zeros, seed=3) != paired_difference(values, zeros, seed=4)

    def test_what_both_sides_share_cancels(self) -> None:
        random = np.random.default_rng(0)
        easy = random.normal(0, 100, 200)
        gap = paired_difference(easy + 1 + random.normal(0, 0.1, 200), easy)
        assert gap.high - gap.low < 0.1
        assert gap.low < 1 < gap.high

    def test_width_is_that_of_the_normal_theory(self) -> None:
        values = np.random.default_rng(5).normal(0, 1, 500)
        gap = paired_difference(values, np.zeros(500), draws=4000)
        assert gap.high - gap.low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(500), rel=0.06)

    def test_few_and_unequal(self) -> None:
        assert is_nothing(paired_difference([], []))
        assert math.isnan(paired_difference([1.0], [0.5]).low)
        with pytest.raises(InputError, match="2 and 1"):
            paired_difference([1.0, 2.0], [1.0])


class TestSpearman:
    @pytest.mark.parametrize("seed", range(4))
    def test_value_agrees_with_scipy_with_ties(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        x = random.integers(1, 6, 80)
        y = x + random.integers(-3, 4, 80)
        assert spearman(x, y).value == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
        assert spearman(x, -y).value == pytest.approx(-spearman(x, y).value)

    def test_interval_by_hand(self) -> None:
        # ranks 1 2 3 4 5 against 2 1 4 3 5: sum of d² = 4, rho = 1 - 6·4 / (5·24) = 0.8; variance (1 + 0.32) / 2.
        rho = spearman([10, 20, 30, 40, 50], [2, 1, 4, 3, 5])
        assert rho.value == pytest.approx(0.8)
        half = 1.959963985 * math.sqrt(1.32 / 2)
        assert rho.low == pytest.approx(math.tanh(math.atanh(0.8) - half), abs=1e-8)
        assert rho.high == pytest.approx(math.tanh(math.atanh(0.8) + half), abs=1e-8)

    def test_covers_the_truth_nineteen_times_in_twenty(self) -> None:
        # For a bivariate normal, rho_s = 6/π · asin(rho/2).
        random = np.random.default_rng(1)
        truth = 6 / math.pi * math.asin(0.6 / 2)
        hits = 0
        for _ in range(400):
            x = random.normal(size=60)
            y = 0.6 * x + 0.8 * random.normal(size=60)
            found = spearman(x, y)
            hits += found.low < truth < found.high
        assert 0.92 < hits / 400 < 0.98

    def test_edges(self) -> None:
        assert is_nothing(spearman([], []))
        assert spearman([1, 2, 3, 4], [2, 4, 6, 8]) == Interval(1.0, 1.0, 1.0, 4)
        assert spearman([1, 2, 3, 4], [8, 6, 4, 2]).value == -1.0
        assert math.isnan(spearman([1, 1, 1], [1, 2, 3]).value)
        assert spearman([1, 1, 1], [1, 2, 3]).n == 3
        assert math.isnan(spearman([1, 2, 3], [1, 3, 2]).low)
        with pytest.raises(InputError, match="2 and 3"):
            spearman([1, 2], [1, 2, 3])


class TestGroupedBootstrap:
    def test_groups_of_one_row_agree_with_the_plain_bootstrap_of_scipy(self) -> None:
        values = np.random.default_rng(1).normal(size=40)
        (ours,) = grouped_bootstrap(lambda rows: [values[rows].mean()], range(40), draws=4000)
        theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=2)
        low, high = theirs.confidence_interval
        assert (ours.value, ours.n) == (pytest.approx(values.mean()), 40)
        assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.03)

    def test_rows_that_repeat_within_their_group_say_nothing_new(self) -> None:
        values = np.random.default_rng(3).normal(size=30)
        once = grouped_bootstrap(lambda rows: [values[rows].mean()], range(30))
        fivefold = np.repeat(values, 5)
        again = grouped_bootstrap(lambda rows: [fivefold[rows].mean()], np.repeat(range(30), 5).tolist())
        assert [again[0].low, again[0].high, again[0].n] == pytest.approx([once[0].low, once[0].high, 30])

    def test_the_order_of_rows_and_the_spelling_of_labels_do_not_matter_and_seeds_do(self) -> None:
        values = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
        numbers = grouped_bootstrap(lambda rows: [values[rows].sum()], [0, 0, 1, 1, 2, 2])
        words = grouped_bootstrap(lambda rows: [values[rows].sum()], ["x", "x", "b", "b", "a", "a"])
        assert numbers == words
        mixed = values[[0, 2, 4, 1, 3, 5]]
        assert numbers == grouped_bootstrap(lambda rows: [mixed[rows].sum()], [0, 1, 2, 0, 1, 2])
        many = np.random.default_rng(0).normal(size=50)
        one, other = (grouped_bootstrap(lambda rows: [many[rows].mean()], range(50), seed=seed) for seed in (1, 2))
        assert one != other

    def test_several_numbers_come_from_the_same_draws(self) -> None:
        values = np.random.default_rng(5).normal(size=20)
        plus, minus = grouped_bootstrap(lambda rows: [values[rows].mean(), -values[rows].mean()], range(20))
        assert (plus.low, plus.high) == pytest.approx((-minus.high, -minus.low))

    def test_one_group_has_no_interval_and_undefined_draws_are_left_out(self) -> None:
        (alone,) = grouped_bootstrap(lambda rows: [float(len(rows))], ["a", "a"])
        assert (alone.value, alone.n) == (2.0, 1)
        assert math.isnan(alone.low)
        assert math.isnan(alone.high)
        (partly,) = grouped_bootstrap(lambda rows: [1.0 if 0 in rows else math.nan], range(3))
        assert (partly.low, partly.high) == (1.0, 1.0)
