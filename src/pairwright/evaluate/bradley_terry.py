"""Strengths from battles: the model of Bradley and Terry, with covariates where something else moves the winner too.

    P(first beats second) = sigmoid(strength[first] - strength[second] + covariates · coefficients)

A strength is in nats: a difference of 1 is odds of e. Only differences are determined, so one model, the anchor, is 0.

Source: Bradley and Terry (1952), Biometrika 39:324-345.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairwright.errors import InputError, need

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
_TOO_SURE = 18.0
"""Log-odds beyond which a fit is on its way to infinity: no data at hand can tell 1e-8 from nothing."""


class Fit(NamedTuple):
    """What makes the battles most likely."""

    strengths: Floats
    """`[models]`, in nats; that of the anchor is 0."""
    coefficients: Floats
    """`[covariates]`: log-odds of the first for one unit; positive: more of it on the first side wins."""


def bradley_terry(
    first: Ints,
    second: Ints,
    wins: Floats,
    *,
    battles: Floats | None = None,
    covariates: Floats | None = None,
    num_models: int | None = None,
    anchor: int = 0,
    start: Fit | None = None,
) -> Fit:
    """Maximum likelihood, without a penalty.

    Naming the sides of a battle the other way (first for second, `battles - wins`, covariates with the other sign)
    changes nothing.

    Source: Bradley and Terry (1952), Biometrika 39:324-345; Ford (1957), American Mathematical Monthly 64(8):28-33
    (when strengths are finite).

    Args:
        first: number of the one model, `[rows]`.
        second: number of the other, `[rows]`.
        wins: battles that the first won, ties as one half, `[rows]`.
        battles: battles of each row, `[rows]`; one each when not given. A row of 0 battles does not count.
        covariates: difference of first and second in something that may move the winner, `[rows, covariates]`.
        num_models: how many there are; as many as the highest number says when not given.
        anchor: the model whose strength is 0.
        start: where to begin, such as a fit of nearly the same battles.

    Raises:
        InputError: there is no maximum: some models never lost to the others or never met them, or the covariates
            tell every winner. The message has the numbers of the models.
    """
    weights = np.ones(len(first)) if battles is None else battles
    columns = np.zeros((len(first), 0)) if covariates is None else covariates
    models = int(max(first.max(), second.max())) + 1 if num_models is None else num_models
    if bad := int(((wins < 0) | (wins > weights)).sum()):
        raise InputError(f"{bad} rows have more wins than battles, or fewer than none; correct them")
    _refuse_apart(first, second, wins, weights, models)
    free = np.array([i for i in range(models) if i != anchor], dtype=np.intp)
    total = float(weights.sum())

    def spread(values: Floats) -> Floats:
        strengths = np.zeros(models)
        strengths[free] = values[: len(free)]
        return strengths

    def cost(values: Floats) -> tuple[float, Floats]:
        strengths = spread(values)
        odds = strengths[first] - strengths[second] + columns @ values[len(free) :]
        rest = weights / (1.0 + np.exp(-np.clip(odds, -500, 500))) - wins
        slope = np.bincount(first, rest, models) - np.bincount(second, rest, models)
        value = float((weights * np.logaddexp(0.0, odds) - wins * odds).sum())
        return value / total, np.concatenate([slope[free], columns.T @ rest]) / total

    begin = np.zeros(len(free) + columns.shape[1])
    if start is not None:
        begin = np.concatenate([start.strengths[free] - start.strengths[anchor], start.coefficients])
    minimize = need("scipy.optimize", extra="eval").minimize
    options = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-15, "gtol": 1e-9}
    found: Floats = np.asarray(minimize(cost, begin, jac=True, method="L-BFGS-B", options=options).x)
    strengths, coefficients = spread(found), found[len(free) :]
    odds = (strengths[first] - strengths[second] + columns @ coefficients)[weights > 0]
    if not np.isfinite(found).all() or np.abs(odds).max(initial=0.0) > _TOO_SURE:
        raise InputError("the covariates tell the winner of a battle with certainty, so no finite strengths fit best")
    return Fit(strengths, coefficients)


def _refuse_apart(first: Ints, second: Ints, wins: Floats, weights: Floats, models: int) -> None:
    """Refuse battles in which a set of models lost none against the others: its strength would be infinite."""
    beat, lost = (wins > 0) & (weights > 0), (wins < weights) & (weights > 0)
    rows = np.concatenate([first[beat], second[lost]])
    columns = np.concatenate([second[beat], first[lost]])
    sparse = need("scipy.sparse", extra="eval")
    graph = sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(models, models))
    components = need("scipy.sparse.csgraph", extra="eval").connected_components
    count, label = components(graph.tocsr(), directed=True, connection="strong")
    if count > 1:
        apart = np.flatnonzero(label != np.bincount(label).argmax()).tolist()
        raise InputError(
            f"the models {apart} won all or none of their battles against the others, or met none of them, so their "
            "strengths are not finite; leave them out or add battles"
        )
