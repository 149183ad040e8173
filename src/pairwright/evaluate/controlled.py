"""Bradley-Terry fits of battles with the style of the answers held still."""

from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairwright.errors import InputError
from pairwright.evaluate.battles import WHAT, Category, Style, columns
from pairwright.evaluate.bradley_terry import Fit, bradley_terry
from pairwright.evaluate.style import FEATURES, Floats, columns_of, differences
from pairwright.stats import Interval, grouped_bootstrap

UPSTREAM_DRAWS = 100
UPSTREAM_ENDS = (0.05, 0.95)
_SAME = 1e-9
"""A spread below this is rounding."""


class StyleGaps(NamedTuple):
    """Differences in style as a fit sees them; those of the model less those of the opponent."""

    names: list[str]
    """Of the columns."""
    values: Floats
    """`[rows, names]`, less their mean, in standard deviations over the battles."""
    at_equal: Floats
    """Where two answers of the same style stand, `[names]`."""
    known: bool = True
    """Whether `at_equal` is all there is to it: not where a difference is never zero and never another."""


def style_gaps(
    part: Category, styles: Mapping[tuple[str, str], Style], control: frozenset[str]
) -> tuple[StyleGaps, list[str]]:
    """How far the answers of each row differ from the opponent's in style, and notes.

    Args:
        part: judgments of one category.
        styles: of the answers, by model and prompt.
        control: the parts of style that are held still.

    Raises:
        InputError: the opponent has no name, or an answer is missing.
    """
    if part.opponent is None:
        raise InputError(f"{WHAT}: the judgments do not name the opponent, whose style counts; name it: --opponent")
    mine = [(part.models[number], prompt) for number, prompt in zip(part.model, part.prompts, strict=True)]
    both, unit = columns(styles, [*mine, *((part.opponent, prompt) for prompt in part.prompts)])
    gaps = differences(both[: len(mine)], both[len(mine) :])
    by_battle = np.repeat(gaps, part.battles.astype(np.intp), axis=0)  # a strong verdict is several, as upstream has it
    mean, spread = by_battle.mean(axis=0), by_battle.std(axis=0, ddof=1)
    names, wanted = list(FEATURES), columns_of(control)
    at = [number for number in wanted if spread[number] > _SAME]
    notes = [f"{part.name}: lengths are in {unit}."]
    flat = [number for number in wanted if number not in at]
    apart = [names[number] for number in flat if abs(mean[number]) > _SAME]
    if none := [names[number] for number in flat if names[number] not in apart]:
        notes.append(f"{part.name}: the battles do not differ in {', '.join(none)}; there is nothing to hold still.")
    if apart:
        notes.append(
            f"{part.name}: every battle has the same difference in {', '.join(apart)}, and it is not zero, so "
            "that what it does cannot be told from strength: there is no equal_style."
        )
    values = (gaps[:, at] - mean[at]) / spread[at]
    return StyleGaps([names[number] for number in at], values, -mean[at] / spread[at], not apart), notes


def controlled(
    part: Category, style: StyleGaps, *, draws: int, seed: int
) -> tuple[dict[str, dict[str, Interval]], dict[str, Interval]]:
    """Chances of the models against the opponent, style held still, with 95% intervals over prompts.

    Returns:
        By measure and model: `controlled` at the mean difference in style, `equal_style` at none; and by the name of a
        style its coefficient: log-odds for one standard deviation more.

    Raises:
        InputError: style tells every winner.
    """
    whole = _of_all(part, style)
    count = len(part.models)
    missing = 0.0 if style.known else np.nan

    def statistic(rows: NDArray[np.intp]) -> list[float]:
        times = np.bincount(rows, minlength=len(part.wins)).astype(np.float64)
        try:
            fit = _fitted(part, style, part.wins * times, part.battles * times, whole)
        except InputError:  # a draw in which style tells every winner has no numbers
            return [np.nan] * (2 * count + len(style.names))
        equal = fit.strengths + float(style.at_equal @ fit.coefficients) + missing
        return [*_chances(fit.strengths).tolist(), *_chances(equal).tolist(), *fit.coefficients.tolist()]

    found = grouped_bootstrap(statistic, part.prompts, draws=draws, seed=seed)
    chances = {"controlled": part.of_models(found[:count]), "equal_style": part.of_models(found[count : 2 * count])}
    return chances, dict(zip(style.names, found[2 * count :], strict=True))


def controlled_as_upstream(part: Category, style: StyleGaps, *, seed: int) -> dict[str, Interval]:
    """Median and 5% and 95% quantiles of fits to battles drawn as if they were independent, by model."""
    random = np.random.default_rng(seed)
    row_of = np.repeat(np.arange(len(part.wins)), part.battles.astype(np.intp))
    outcomes = np.array([share for each in part.outcomes for share in each], dtype=np.float64)
    whole = _of_all(part, style)
    drawn: list[Floats] = []
    for _ in range(UPSTREAM_DRAWS):
        picked = random.integers(0, len(row_of), len(row_of))
        wins = np.bincount(row_of[picked], outcomes[picked], len(part.wins)).astype(np.float64)
        battles = np.bincount(row_of[picked], minlength=len(part.wins)).astype(np.float64)
        with suppress(InputError):  # such a draw has no fit
            drawn.append(_chances(_fitted(part, style, wins, battles, whole).strengths))
    found = {}
    for number, model in enumerate(part.models):
        column = [float(each[number]) for each in drawn if not np.isnan(each[number])]
        ends = np.quantile(column, [0.5, *UPSTREAM_ENDS]).tolist() if column else [np.nan] * 3
        found[model] = Interval(ends[0], ends[1], ends[2], int(part.battles[part.model == number].sum()))
    return found


def _of_all(part: Category, style: StyleGaps) -> Fit:
    """The fit of all battles.

    Raises:
        InputError: there is none.
    """
    try:
        return _fitted(part, style, part.wins, part.battles, None)
    except InputError as error:
        raise InputError(
            f"{WHAT}: category {part.name}: {error}; hold fewer parts of style still, or judge more prompts"
        ) from error


def _fitted(part: Category, style: StyleGaps, wins: Floats, battles: Floats, start: Fit | None) -> Fit:
    """Strengths of the models against the opponent, and coefficients of style.

    A model that won every battle, or lost every one, has an infinite strength and says nothing of style, so it stays
    out of the fit. A model without battles has none (NaN).
    """
    count = len(part.models)
    won, of = np.bincount(part.model, wins, count), np.bincount(part.model, battles, count)
    inside = (won > 0) & (won < of)
    strengths = np.where(of == 0, np.nan, np.where(won > 0, np.inf, -np.inf))
    if not inside.any():
        return Fit(strengths, np.full(len(style.names), np.nan))
    rows = inside[part.model] & (battles > 0)
    numbers = np.cumsum(inside, dtype=np.intp)  # the opponent is 0, and those inside count from 1
    begin = None
    if start is not None:
        known = np.where(np.isfinite(start.strengths), start.strengths, 0.0)[inside]
        begin = Fit(np.concatenate([[0.0], known]), np.nan_to_num(start.coefficients))
    fit = bradley_terry(
        numbers[part.model[rows]],
        np.zeros(int(rows.sum()), dtype=np.intp),
        wins[rows],
        battles=battles[rows],
        covariates=style.values[rows],
        num_models=int(inside.sum()) + 1,
        start=begin,
    )
    strengths[inside] = fit.strengths[1:]
    return Fit(strengths, fit.coefficients)


def _chances(strengths: Floats) -> Floats:
    """Shares of battles won against the opponent."""
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-strengths))
