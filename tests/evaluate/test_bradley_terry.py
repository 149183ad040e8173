"""Strengths from battles, against closed forms and a logistic regression of another library."""

import math

import numpy as np
import pytest

from pairwright.errors import InputError
from pairwright.evaluate.bradley_terry import Fit, bradley_terry

LogisticRegression = pytest.importorskip("sklearn.linear_model").LogisticRegression


def numbers(*values):
    return np.array(values, dtype=np.intp)


def floats(*values):
    return np.array(values, dtype=np.float64)


def test_two_models_have_the_log_odds_of_their_battles():
    # 3 of 4 won: odds of 3 to 1.
    fit = bradley_terry(numbers(1), numbers(0), floats(3), battles=floats(4))
    assert fit.strengths == pytest.approx([0.0, math.log(3)], abs=1e-6)


def test_three_models_in_a_chain_add_up():
    # 1 beats 0 in 3 of 4, 2 beats 1 in 2 of 3: strengths ln 3 and ln 3 + ln 2; with 2 as the anchor all less ln 6.
    first, second, wins, battles = numbers(1, 2), numbers(0, 1), floats(3, 2), floats(4, 3)
    fit = bradley_terry(first, second, wins, battles=battles)
    assert fit.strengths == pytest.approx([0, math.log(3), math.log(6)], abs=1e-6)
    fit = bradley_terry(first, second, wins, battles=battles, anchor=2)
    assert fit.strengths == pytest.approx([-math.log(6), -math.log(2), 0], abs=1e-6)


def test_a_tie_is_half_a_win():
    whole = bradley_terry(numbers(1, 1, 1), numbers(0, 0, 0), floats(1, 0.5, 0.5))
    assert whole.strengths[1] == pytest.approx(math.log(2), abs=1e-6)  # 2 of 3


def drawn(strengths, slope, rows, seed):
    """Battles of every two models with known strengths, and one covariate."""
    random = np.random.default_rng(seed)
    first = random.integers(0, len(strengths), rows)
    second = (first + random.integers(1, len(strengths), rows)) % len(strengths)
    style = random.normal(size=(rows, 1))
    odds = strengths[first] - strengths[second] + slope * style[:, 0]
    return first, second, (random.random(rows) < 1 / (1 + np.exp(-odds))).astype(float), style


def test_known_strengths_and_a_known_slope_come_back():
    truth = np.array([0.0, 1.0, -0.7, 0.4])
    first, second, wins, style = drawn(truth, 0.8, 20_000, 3)
    fit = bradley_terry(first, second, wins, covariates=style)
    # A strength here has a standard error of about 0.03, a slope of 0.02.
    assert fit.strengths == pytest.approx(truth, abs=0.12)
    assert fit.coefficients == pytest.approx([0.8], abs=0.08)


def test_the_fit_is_that_of_an_unpenalised_logistic_regression():
    first, second, wins, style = drawn(np.array([0.0, 1.0, -0.7]), -0.5, 900, 5)
    design = np.zeros((900, 3))
    design[np.arange(900), first] += 1
    design[np.arange(900), second] -= 1
    theirs = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=2000)
    theirs.fit(np.hstack([design[:, 1:], style]), wins)
    ours = bradley_terry(first, second, wins, covariates=style)
    assert [*ours.strengths[1:], *ours.coefficients] == pytest.approx(theirs.coef_[0].tolist(), abs=1e-4)


def test_naming_the_sides_the_other_way_changes_nothing():
    first, second, wins, style = drawn(np.array([0.0, 1.0, -0.7]), 0.5, 500, 7)
    one = bradley_terry(first, second, wins, covariates=style)
    other = bradley_terry(second, first, 1 - wins, covariates=-style)
    assert other.strengths == pytest.approx(one.strengths, abs=1e-6)
    assert other.coefficients == pytest.approx(one.coefficients, abs=1e-6)
    # The mirrored winner alone is another world: every sign turns.
    turned = bradley_terry(first, second, 1 - wins, covariates=style)
    assert turned.strengths == pytest.approx(-one.strengths, abs=1e-5)


def test_where_it_begins_does_not_matter():
    first, second, wins, style = drawn(np.array([0.0, 1.0, -0.7]), 0.5, 500, 7)
    far = Fit(np.array([3.0, -2.0, 2.0]), np.array([-2.0]))
    one = bradley_terry(first, second, wins, covariates=style)
    other = bradley_terry(first, second, wins, covariates=style, start=far)
    assert other.strengths == pytest.approx(one.strengths, abs=1e-5)


def test_a_model_that_never_lost_has_no_finite_strength():
    with pytest.raises(InputError, match=r"models \[1\] won all or none"):
        bradley_terry(numbers(1, 2, 2), numbers(0, 0, 0), floats(1, 1, 0))
    with pytest.raises(InputError, match="met none"):
        bradley_terry(numbers(1, 1), numbers(0, 0), floats(1, 0), num_models=3)


def test_a_covariate_that_tells_every_winner_is_refused():
    first, second = numbers(1, 1, 1, 1), numbers(0, 0, 0, 0)
    style = floats(1, 2, -1, -2).reshape(-1, 1)
    with pytest.raises(InputError, match="with certainty"):
        bradley_terry(first, second, floats(1, 1, 0, 0), covariates=style)


def test_more_wins_than_battles_are_refused():
    with pytest.raises(InputError, match="more wins than battles"):
        bradley_terry(numbers(1), numbers(0), floats(2))
