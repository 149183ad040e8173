"""The signals of over-optimisation, on curves whose turning points are known by hand."""

import numpy as np
import polars as pl
import pytest

from pairwright.errors import InputError
from pairwright.probes.turning import SIGNALS, by_step, entropy_reversal, mass_leak, smoothed

STEPS = list(range(0, 1000, 50))


def test_smoothing_is_the_weighted_moving_average_of_polars() -> None:
    values = np.random.default_rng(0).normal(size=30)
    peer = pl.Series(values).ewm_mean(alpha=0.1, adjust=True).to_numpy()
    np.testing.assert_allclose(smoothed(values, smoothing=0.9), peer, rtol=1e-12)


def test_smoothing_of_nothing_leaves_the_values() -> None:
    assert smoothed([3.0, 1.0, 2.0], smoothing=0.0).tolist() == [3.0, 1.0, 2.0]


def test_smoothing_three_values_by_half_is_what_a_hand_computes() -> None:
    """1; (0.5 * 1 + 2) / 1.5 = 5/3; (0.25 * 1 + 0.5 * 2 + 4) / 1.75 = 3."""
    np.testing.assert_allclose(smoothed([1.0, 2.0, 4.0], smoothing=0.5), [1.0, 5 / 3, 3.0])


def test_entropy_that_rises_and_falls_fires_at_the_second_check_below_the_bound() -> None:
    """Highest 2.0 at step 100; 2% below is 1.96: 1.97 is within it, 1.95 and 1.90 are not."""
    signal = entropy_reversal([0, 50, 100, 150, 200, 250], [1.0, 1.5, 2.0, 1.97, 1.95, 1.90], smoothing=0.0)
    assert (signal.fired_at, signal.turned_at) == (250, 100)
    assert "step 100" in signal.says
    assert "5.0% below" in signal.says  # 1.90 of 2.0


def test_a_single_dip_does_not_fire_the_entropy() -> None:
    signal = entropy_reversal([0, 50, 100, 150, 200], [1.0, 2.0, 1.5, 1.99, 1.5], smoothing=0.0)
    assert (signal.fired_at, signal.turned_at) == (None, 50)


def test_entropy_that_only_falls_has_not_reversed() -> None:
    falling = np.linspace(2.0, 1.0, len(STEPS))
    signal = entropy_reversal(STEPS, falling)
    assert (signal.fired_at, signal.turned_at) == (None, None)
    assert "never rose" in signal.says


def test_entropy_that_only_rises_has_not_reversed() -> None:
    signal = entropy_reversal(STEPS, np.linspace(1.0, 2.0, len(STEPS)))
    assert (signal.fired_at, signal.turned_at) == (None, None)


def test_a_rise_within_the_bound_is_no_rise() -> None:
    """1.00 to 1.01 is 1% of the highest: what follows is a fall, not a reversal."""
    assert entropy_reversal([0, 1, 2, 3], [1.00, 1.01, 0.5, 0.4], smoothing=0.0).fired_at is None
    assert entropy_reversal([0, 1, 2, 3], [1.00, 1.03, 0.5, 0.4], smoothing=0.0).fired_at == 3


def test_a_planted_hump_fires_with_the_defaults_and_noise_around_a_rise_does_not() -> None:
    noise = np.random.default_rng(1).normal(scale=0.01, size=40)
    steps = list(range(0, 2000, 50))
    hump = 2.0 - ((np.arange(40) - 15) / 20) ** 2
    signal = entropy_reversal(steps, hump + noise)
    assert signal.fired_at is not None
    assert signal.turned_at is not None
    assert 750 <= signal.turned_at < signal.fired_at
    assert entropy_reversal(steps, np.linspace(1.0, 2.0, 40) + noise).fired_at is None
    assert entropy_reversal(steps, np.full(40, 2.0) + noise).fired_at is None


def test_mass_that_falls_fires_at_the_second_check_below_the_bound() -> None:
    """Start 0.95: 0.945 is within 0.01, 0.93 and 0.92 are not."""
    signal = mass_leak([0, 10, 20, 30, 40], [0.95, 0.96, 0.945, 0.93, 0.92], smoothing=0.0)
    assert (signal.fired_at, signal.turned_at) == (40, 10)


def test_mass_that_rises_or_is_whole_is_silent() -> None:
    assert mass_leak(STEPS, np.linspace(0.8, 0.9, len(STEPS))).fired_at is None
    whole = mass_leak(STEPS, np.ones(len(STEPS)))
    assert whole.fired_at is None


@pytest.mark.parametrize("name", sorted(SIGNALS))
def test_a_signal_that_fired_does_not_change_with_what_comes_later(name: str) -> None:
    values = 0.9 - 0.3 * np.abs(np.linspace(-1, 2, len(STEPS)))
    read = SIGNALS[name].read
    full = read(STEPS, values, smoothing=0.5)
    assert full.fired_at is not None
    until = STEPS.index(full.fired_at)
    assert read(STEPS[: until + 1], values[: until + 1], smoothing=0.5) == full
    assert read(STEPS[:until], values[:until], smoothing=0.5).fired_at is None
    assert read(STEPS, np.append(values[: until + 1], values[until + 1 :] + 5), smoothing=0.5) == full


@pytest.mark.parametrize("name", sorted(SIGNALS))
def test_too_few_checks_are_silent(name: str) -> None:
    for n in (0, 1):
        signal = SIGNALS[name].read(STEPS[:n], [0.5] * n)
        assert (signal.fired_at, signal.turned_at) == (None, None)
        assert "too few" in signal.says


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: entropy_reversal([0, 1], [1.0]), "step and its value"),
        (lambda: entropy_reversal([1, 0], [1.0, 1.0]), "must rise"),
        (lambda: mass_leak([0, 1], [1.0, float("nan")]), "not finite"),
        (lambda: mass_leak([0, 1], [1.0, 1.0], fall=0.0), "fall must be"),
        (lambda: entropy_reversal([0, 1], [1.0, 1.0], drop=1.0), "drop must be"),
        (lambda: entropy_reversal([0, 1], [1.0, 1.0], checks=0), "checks must be"),
        (lambda: mass_leak([0, 1], [1.0, 1.0], smoothing=1.0), "smoothing must be"),
    ],
)
def test_what_does_not_belong_together_is_refused(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_the_spread_by_step_is_of_chosen_answers_without_a_goal() -> None:
    """Means by hand: step 0 (1 + 3) / 2 = 2; step 50 only the row with 4, since the other has no spread."""
    rows = pl.DataFrame(
        {
            "step": [50, 50, 0, 0, 0, 0],
            "side": ["chosen", "chosen", "chosen", "chosen", "rejected", "chosen"],
            "asked": ["none", "none", "none", "none", "none", "top"],
            "entropy": [4.0, None, 1.0, 3.0, 100.0, 100.0],
            "top_entropy": [4.0, 7.0, 1.0, 3.0, 100.0, 100.0],
            "raw_top_entropy": [4.0, 7.0, 1.0, 3.0, 100.0, 100.0],
            "top_mass": [0.4, 0.7, 0.1, 0.3, 1.0, 1.0],
        }
    )
    found = by_step(rows)
    assert found["step"].to_list() == [0, 50]
    assert found["top_entropy"].to_list() == [2.0, 4.0]
    assert found["top_mass"].to_list() == pytest.approx([0.2, 0.4])
    assert found["n"].to_list() == [2, 1]
