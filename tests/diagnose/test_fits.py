"""The law and its rival on points that were made with known numbers."""

import math
from functools import partial

import numpy as np
import pytest

from pairwright.diagnose.fits import law, law_free, peak, quadratic, quadratic_free
from pairwright.errors import InputError

D = np.array([0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0])


def planted(a: float, b: float, w0: float = 5.0, d: np.ndarray = D) -> np.ndarray:
    return np.array([w0 + a * x - b * x * math.log(x) for x in d])


def test_the_law_finds_the_numbers_that_were_planted() -> None:
    fit = law(D, planted(1.3, 0.7), start=5.0)
    assert (fit.a, fit.b) == pytest.approx((1.3, 0.7))
    assert fit.rmse == pytest.approx(0.0, abs=1e-12)
    free = law_free(D, planted(1.3, 0.7, w0=4.2))
    assert (free.w0, free.a, free.b) == pytest.approx((4.2, 1.3, 0.7))


def test_the_quadratic_finds_the_numbers_that_were_planted() -> None:
    w = np.array([3.0 + 0.4 * x**2 - 0.01 * x**4 for x in D])
    fit = quadratic(D, w, start=3.0)
    assert (fit.a, fit.b) == pytest.approx((0.4, -0.01))
    free = quadratic_free(D, w)
    assert (free.w0, free.a, free.b) == pytest.approx((3.0, 0.4, -0.01))


def test_each_curve_fits_its_own_points_better_than_the_other_does() -> None:
    mine = planted(1.3, 0.7)
    assert law(D, mine, start=5.0).rmse < quadratic(D, mine, start=5.0).rmse / 10
    its = 5.0 + 0.4 * D**2 - 0.01 * D**4
    assert quadratic(D, its, start=5.0).rmse < law(D, its, start=5.0).rmse / 10


def test_noisy_points_give_what_lstsq_gives() -> None:
    w = planted(1.3, 0.7) + np.random.default_rng(0).normal(scale=0.3, size=len(D))
    basis = np.stack([np.ones(len(D)), D, -D * np.log(D)], axis=1)
    peer, squares, *_ = np.linalg.lstsq(basis, w, rcond=None)
    fit = law_free(D, w)
    assert (fit.w0, fit.a, fit.b) == pytest.approx(tuple(peer))
    assert fit.rmse == pytest.approx(math.sqrt(squares[0] / len(D)))
    np.testing.assert_allclose(fit.at(D), basis @ peer)


@pytest.mark.parametrize("fit", [law_free, quadratic_free, partial(law, start=4.5), partial(quadratic, start=4.5)])
def test_leaving_one_out_is_fitting_again_without_it(fit) -> None:
    w = planted(1.3, 0.7) + np.random.default_rng(1).normal(scale=0.3, size=len(D))
    missed = []
    for i in range(len(D)):
        others = np.arange(len(D)) != i
        missed.append(w[i] - fit(D[others], w[others]).at(D[i : i + 1])[0])
    assert fit(D, w).left_out == pytest.approx(math.sqrt(np.mean(np.square(missed))))


def test_points_at_the_start_change_nothing() -> None:
    w = planted(1.3, 0.7) + np.random.default_rng(2).normal(scale=0.3, size=len(D))
    with_start = law(np.append(0.0, D), np.append(100.0, w), start=5.0)
    assert (with_start.a, with_start.b) == pytest.approx((law(D, w, start=5.0).a, law(D, w, start=5.0).b))
    assert with_start.at(np.array([0.0]))[0] == 5.0


def test_the_peak_is_where_a_fine_grid_of_the_law_is_highest() -> None:
    grid = np.linspace(0.01, 10, 100_000)
    values = 1.3 * grid - 0.7 * grid * np.log(grid)
    w = planted(1.3, 0.7) + np.random.default_rng(3).normal(scale=0.01, size=len(D))
    found = peak(D, w, fit=partial(law, start=5.0))
    assert found.identified
    assert found.why == ""
    assert found.d.low < grid[values.argmax()] < found.d.high
    assert found.d.value == pytest.approx(grid[values.argmax()], rel=0.03)
    assert found.gain.value == pytest.approx(values.max(), rel=0.03)
    assert found.gain.low < found.gain.value < found.gain.high


def test_an_interval_over_points_covers_the_planted_peak_about_as_often_as_it_says() -> None:
    """60 experiments of 24 points: 95% intervals cover 57 on average, and fewer than 48 with probability below 1e-5."""
    true = math.exp(1.3 / 0.7 - 1)
    d = np.tile(D, 3)
    covered = 0
    for seed in range(60):
        w = planted(1.3, 0.7, d=d) + np.random.default_rng(seed).normal(scale=0.2, size=len(d))
        found = peak(d, w, fit=law_free, draws=300, seed=seed)
        assert found.identified, found.why
        covered += found.d.low <= true <= found.d.high
    assert covered >= 48


def test_what_the_seeds_of_training_move_together_widens_the_interval() -> None:
    """Each seed has its own a, so its own peak: points of one seed are no independent cases."""
    seeds = np.repeat(np.arange(4), len(D))
    w = np.concatenate([planted(a, 0.7) for a in (1.1, 1.3, 1.5, 1.7)])
    d = np.tile(D, 4)
    plain = peak(d, w, fit=partial(law, start=5.0))
    by_seed = peak(d, w, fit=partial(law, start=5.0), groups=seeds.tolist())
    assert by_seed.identified
    assert by_seed.d.high - by_seed.d.low > 1.2 * (plain.d.high - plain.d.low)


@pytest.mark.parametrize(
    ("d", "w", "why"),
    [
        ([1.0, 2.0, 3.0, 3.0], [1.0, 2.0, 1.0, 1.1], "3 distinct distances"),
        (D, 5 + 0.5 * D + 0.1 * D * np.log(D), "no highest point"),
        (D, planted(3.0, 0.7), "outside the distances measured"),
        (D, planted(0.1, 0.7), "outside the distances measured"),
        (D, 5 + np.array([0.3, -0.2, 0.4, -0.1, 0.5, -0.3, 0.2, -0.2]), ""),
    ],
)
def test_a_peak_that_the_points_do_not_show_is_not_identified(d, w, why: str) -> None:
    found = peak(d, w, fit=partial(law, start=5.0))
    assert not found.identified
    assert why in found.why
    assert found.why
    assert math.isnan(found.d.value)
    assert math.isnan(found.gain.value)


def test_points_that_no_curve_can_go_through_are_refused() -> None:
    with pytest.raises(InputError, match="2 distinct distances above 0 for 3 free numbers"):
        law_free([1.0, 2.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="not finite"):
        law([1.0, float("inf")], [1.0, 2.0], start=0.0)
    with pytest.raises(InputError, match="below 0"):
        law([-1.0, 1.0], [1.0, 2.0], start=0.0)
    with pytest.raises(InputError, match="3 and 2"):
        law([1.0, 2.0, 3.0], [1.0, 2.0], start=0.0)
