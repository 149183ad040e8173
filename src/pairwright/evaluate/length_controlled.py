r"""Length-controlled win rates: what a win rate would be if both answers were equally long.

A logistic model of a verdict, without intercept, has three features:

    logit P(model wins) = w_len · tanh(delta / sd(delta)) + w_diff · difficulty + w_bias

`delta` is the length of the opponent's answer minus that of the model's, in characters, and sd has n - 1. So `w_len`
is negative where longer answers win. The length-controlled win rate is the mean of `sigmoid(w_diff · difficulty +
w_bias)`: the first term is left out. Anchors are verdicts on a short and a long version of the opponent, at weight 0.1
and without the last feature: they hold the first two weights still, and without them the result can be far off.

Weights minimise `|w|₁ + C · Σ weight · cross-entropy`.

Source: arXiv 2404.04475; tatsu-lab/alpaca_eval, src/alpaca_eval/metrics/glm_winrate.py (`length_controlled_v1`).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairwright.errors import InputError, need

Floats = NDArray[np.float64]
STRENGTHS = tuple(float(each) for each in np.logspace(-4.0, 4.0, 10))
"""The grid of C."""
FOLDS = 5
ANCHOR_WEIGHT = 0.1
"""Of each row: lambda / 2 with lambda = 0.2, since there are two versions of the opponent."""
RIDGE = 0.05
"""Of each difficulty that is fitted from the data, as `ridge / 2 · difficulty²` nats."""
_TOLERANCE = 1e-6
"""Of liblinear; at its default the third digit of the win rate depends on the order of the rows."""


class Weights(NamedTuple):
    """The weights of a fit, in log-odds."""

    w_len: float
    """Of the length; negative where longer answers win."""
    w_diff: float
    w_bias: float
    """The model's own."""


class Rows(NamedTuple):
    """What a fit looks at."""

    x: Floats
    """`[rows, 3]`."""
    win: Floats
    """`[rows]`, 0 to 1."""
    weight: Floats
    """`[rows]`."""


NO_ANCHORS = Rows(np.zeros((0, 3)), np.zeros(0), np.zeros(0))


def anchors_of(std_delta: Floats, difficulty: Floats, win: Floats) -> Rows:
    """The rows of anchors.

    Args:
        std_delta: `delta / sd(delta)` of each, `[rows]`.
        difficulty: of its prompt, `[rows]`.
        win: probability that the version of the opponent wins, `[rows]`.
    """
    x = np.stack([np.tanh(std_delta), difficulty, np.zeros(len(win))], axis=1)
    return Rows(x, win, np.full(len(win), ANCHOR_WEIGHT))


def rows_of(delta: Floats, difficulty: Floats, win: Floats) -> Rows:
    """The rows of a model.

    Args:
        delta: characters of the opponent's answer minus those of the model's, `[rows]`.
        difficulty: of the prompt, `[rows]`.
        win: probability that the model's answer wins, `[rows]`; NaN where there is no verdict. Such a row is not in
            the fit, but its length counts in the standard deviation, as in AlpacaEval.

    Raises:
        InputError: the lengths differ by as much at every prompt, so that nothing tells what length does.
    """
    spread = float(delta.std(ddof=1)) if len(delta) > 1 else 0.0
    if not spread > 0.0:
        raise InputError(
            "the lengths of the answers differ by as much at every prompt; there is nothing to control for"
        )
    x = np.stack([np.tanh(delta / spread), difficulty, np.ones(len(win))], axis=1)
    judged = ~np.isnan(win)
    return Rows(x[judged], win[judged], np.ones(int(judged.sum())))


def fit(rows: Rows, anchors: Rows, *, strength: float) -> Weights:
    """The weights at one C.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    return Weights(*_solve(_together(anchors, rows), strength))


def choose_strength(rows: Rows, anchors: Rows) -> float:
    """C by 5-fold cross-validation over the grid: the least mean cross-entropy of rows that were left out.

    Row i, anchors first, is left out in fold i mod 5, which are the folds of scikit-learn's `GroupKFold` for rows of
    their own groups. Of equal values the smallest C is taken.
    """
    every = _together(anchors, rows)
    fold = np.arange(len(every.win)) % FOLDS
    losses = [
        np.mean([_loss(_solve(_part(every, fold != k), c), _part(every, fold == k)) for k in range(FOLDS)])
        for c in STRENGTHS
    ]
    return STRENGTHS[int(np.argmin(losses))]


def refit(start: Weights, rows: Rows, anchors: Rows, *, strength: float) -> Weights:
    """The weights of rows that hardly differ from those of an earlier fit, by Newton's method from there.

    As long as no weight changes its sign the penalty is linear, so that each step is one of three equations; where
    one does, the weights are those of `fit`.
    """
    x, win, weight = _together(anchors, rows)
    at = np.array(start)
    sign = np.sign(at)
    if not sign.all():
        return fit(rows, anchors, strength=strength)
    for _ in range(20):
        p = _sigmoid(x @ at)
        slope = x.T @ (weight * (p - win)) + sign / strength
        bend = (x.T * (weight * p * (1.0 - p))) @ x
        try:
            step = np.linalg.solve(bend, slope)
        except np.linalg.LinAlgError:
            break
        at = at - step
        if not np.isfinite(at).all() or not np.array_equal(np.sign(at), sign):
            break
        if np.abs(step).max() < 1e-8:
            return Weights(*(float(each) for each in at))
    return fit(rows, anchors, strength=strength)


def predicted(weights: Weights, difficulty: Floats) -> Floats:
    """The win at each prompt if both answers were equally long, 0 to 1, `[prompts]`."""
    return _sigmoid(weights.w_diff * difficulty + weights.w_bias)


def head_to_head(first: Weights, second: Weights, difficulty: Floats) -> Floats:
    """The win of one model over another at each prompt, at equal lengths, from what both did against one opponent."""
    return _sigmoid((first.w_diff - second.w_diff) * difficulty + (first.w_bias - second.w_bias))


def is_far(raw: float, controlled: float) -> bool:
    """Whether length control moved a win rate (both in percent) so far that the fit may have failed.

    Down: by more than 10 points and more than a quarter of the way to 0. Up: the same towards 100.
    """
    down = raw - max(10.0, raw / 4.0)
    up = raw + max(10.0, (100.0 - raw) / 4.0)
    return controlled < down or controlled > up


class Model(NamedTuple):
    """What the joint fit looks at of one model."""

    std_delta: Floats
    win: Floats
    prompt: NDArray[np.intp]
    """The number of each row's prompt."""


def joint_difficulty(models: Sequence[Model], *, prompts: int) -> Floats:
    """How easy it is to beat the opponent at each prompt, in log-odds, from the verdicts on several models.

        logit P = a_model + b_model · tanh(delta / sd(delta)) + c_prompt

    is fitted to all of them at once with a ridge on c, which is the difficulty.

    Args:
        models: at least two.
        prompts: how many there are.

    Returns:
        `c`, `[prompts]`; larger is easier to win; 0 where there is no verdict.

    Raises:
        InputError: there is one model alone.
        MissingExtra: SciPy is not installed.

    Source: tatsu-lab/alpaca_eval, notebooks/instruction_difficulty.ipynb (the model; the ridge is ours).
    """
    if len(models) < 2:
        raise InputError("difficulty is fitted from the verdicts on several models; there is one")
    k = len(models)
    model = np.repeat(np.arange(k), [len(each.win) for each in models])
    x = np.tanh(np.concatenate([each.std_delta for each in models]))
    win = np.concatenate([each.win for each in models])
    prompt = np.concatenate([each.prompt for each in models])

    def value_and_slope(at: Floats) -> tuple[float, Floats]:
        a, b, c = at[:k], at[k : 2 * k], at[2 * k :]
        z = a[model] + b[model] * x + c[prompt]
        over = _sigmoid(z) - win
        value = float(np.sum(np.logaddexp(0.0, z) - win * z) + RIDGE / 2.0 * (c @ c))
        slopes = (np.bincount(model, over, k), np.bincount(model, over * x, k), np.bincount(prompt, over, prompts))
        return value, np.concatenate([slopes[0], slopes[1], slopes[2] + RIDGE * c])

    optimize = need("scipy.optimize", extra="eval")
    options = {"maxiter": 5000, "maxfun": 20000, "ftol": 1e-12, "gtol": 1e-6}
    found = optimize.minimize(value_and_slope, np.zeros(2 * k + prompts), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x[2 * k :], dtype=np.float64)


def standardised(delta: Floats) -> Floats:
    """`delta / sd(delta)`, and zeros where the lengths differ by as much everywhere."""
    spread = float(delta.std(ddof=1)) if len(delta) > 1 else 0.0
    return delta / spread if spread > 0.0 else np.zeros(len(delta))


def _together(first: Rows, second: Rows) -> Rows:
    return Rows(*(np.concatenate(two) for two in zip(first, second, strict=True)))


def _part(rows: Rows, which: NDArray[np.bool_]) -> Rows:
    return Rows(*(each[which] for each in rows))


def _solve(rows: Rows, strength: float) -> Floats:
    """Each row stands twice, won with weight `win` and lost with `1 - win`: so a library of hard labels takes it."""
    labels = np.concatenate([np.ones(len(rows.win)), np.zeros(len(rows.win))])
    weight = np.concatenate([rows.weight * rows.win, rows.weight * (1.0 - rows.win)])
    if len(set(labels[weight > 0.0].tolist())) < 2:
        return _solve_one_sided(rows, strength)
    model = _lasso(strength).fit(np.concatenate([rows.x, rows.x]), labels, sample_weight=weight)
    return np.asarray(model.coef_[0], dtype=np.float64)


def _solve_one_sided(rows: Rows, strength: float) -> Floats:
    """The same where all is won or all is lost, of which liblinear makes the wrong sign.

    A weight is the difference of two that are not negative, so that its magnitude is a smooth penalty.
    """

    def value_and_slope(at: Floats) -> tuple[float, Floats]:
        z = rows.x @ (at[:3] - at[3:])
        value = at.sum() + strength * float(np.sum(rows.weight * (np.logaddexp(0.0, z) - rows.win * z)))
        slope = strength * (rows.x.T @ (rows.weight * (_sigmoid(z) - rows.win)))
        return value, np.concatenate([1.0 + slope, 1.0 - slope])

    optimize = need("scipy.optimize", extra="eval")
    options = {"maxiter": 10_000, "ftol": 1e-14, "gtol": 1e-8}
    found = optimize.minimize(
        value_and_slope, np.zeros(6), jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * 6, options=options
    )
    return np.asarray(found.x[:3] - found.x[3:], dtype=np.float64)


def _lasso(strength: float) -> Any:
    """Logistic regression with an L1 penalty, as this version of scikit-learn wants to be asked for it."""
    sklearn, linear = need("sklearn", extra="eval"), need("sklearn.linear_model", extra="eval")
    new = tuple(int(part) for part in sklearn.__version__.split(".")[:2]) >= (1, 8)
    return linear.LogisticRegression(
        C=strength,
        solver="liblinear",
        fit_intercept=False,
        random_state=123,
        tol=_TOLERANCE,
        max_iter=10_000,
        **({"l1_ratio": 1.0} if new else {"penalty": "l1"}),
    )


def _loss(weights: Floats, rows: Rows) -> float:
    z = rows.x @ weights
    return float(np.mean(rows.weight * (np.logaddexp(0.0, z) - rows.win * z)))


def _sigmoid(z: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0.0, -z)), dtype=np.float64)


def sem(values: Floats) -> float:
    """Standard error of a mean; NaN of fewer than two values."""
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
