"""How often a model's answers beat an opponent's: AlpacaEval's numbers, raw and length-controlled."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from pairwright.errors import InputError
from pairwright.evaluate import length_controlled as lc
from pairwright.evaluate.alpaca_eval import Verdicts, columns_of, has_verdicts, read_annotations
from pairwright.evaluate.doubts import doubts, doubts_of_lengths
from pairwright.evaluate.length_sides import (
    OFFLINE,
    Control,
    Match,
    Side,
    control_of,
    controlled,
    given,
    published_weights,
    side_of,
    weights_at,
)
from pairwright.evaluate.result import Metric, Result
from pairwright.evaluate.wins import Reading, verdicts_of
from pairwright.formats.read import read
from pairwright.plug import nearest
from pairwright.preferences import Preferences
from pairwright.stats import Interval, grouped_bootstrap

Rows = NDArray[np.intp]


def winrate(
    source: Path | Preferences,
    *,
    generator: str | None = None,
    opponent: str | None = None,
    score: str = "score",
    reading: Reading = "higher",
    length_controlled: bool = False,
    difficulty: Path | None = None,
    anchors: Path | None = None,
    match: Match = "position",
    others: Sequence[Path] = (),
    strength: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None,
    weights: Path | None = None,
    w_len: float | None = None,
    w_diff: float | None = None,
    w_bias: float | None = None,
    against: Path | None = None,
    draws: Annotated[int, Field(gt=0)] = 1000,
    seed: int = 0,
) -> Result:
    """Win rate of a model against an opponent, as AlpacaEval 2 has it: raw, discrete, and length-controlled.

    The win of a prompt is the probability, 0 to 1, that the model's answer beats the opponent's. The raw win rate is
    100 times its mean; the discrete one counts a win above 1/2 as one and 1/2 as half. Length control asks what the win
    rate would be if both answers were equally long (`length_controlled.py` has the formula).

    With a file of difficulties and one of anchors length control is AlpacaEval's. Without difficulties these are
    fitted from the verdicts on several models (the file's own and those of `others`), and the number is called
    LC-offline: so it works on any prompts, but it is not comparable with a leaderboard. On 15 published models it was
    2.2 points off on average without anchors and 1.6 with them.

    Intervals are 95% percentile bootstrap intervals over prompts; under length control each draw fits its weights again
    at the same C. Standard errors are AlpacaEval's: of the mean over prompts, and without what the fit does not know.

    Args:
        source: AlpacaEval's `annotations.json` or a table with its columns; or scored answers of two models to the same
            prompts (a file or directory of preference data, or `Preferences`).
        generator: the model, where there are verdicts on several.
        opponent: the model that it is compared with, of scored answers; the other one where there are two.
        score: of scored answers, the column to compare.
        reading: of scored answers: `higher` wins, or the score is the `share` of a win, as the judge gives it for two
            answers after both orders (kind pairwise).
        length_controlled: give the length-controlled win rate too.
        difficulty: file of difficulties, `instruction_id` and `instruction_difficulty`; that of the anchors where they
            have it, fitted from several models where there is none.
        anchors: file of verdicts on a short and a long version of the opponent (AlpacaEval's `df_gamed.csv`).
        match: how verdicts find their difficulty: `position` among the model's rows, as AlpacaEval does, which is
            wrong after a missing row; or `id`, by `instruction_id`.
        others: files of verdicts on further models, for difficulties fitted from the data.
        strength: C of the fit; None chooses it by cross-validation.
        weights: file of published weights, by model, in place of a fit.
        w_len: weight of the length, for `w_diff` and `w_bias`; it changes no length-controlled win rate.
        w_diff: published weight of the difficulty, with `w_bias` in place of a fit.
        w_bias: published weight of the model.
        against: verdicts on a second model against the same opponent, for a paired comparison.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        AlpacaEval's names, win rates in percent: `win_rate`, `standard_error`, `discrete_win_rate`, `n_wins`,
        `n_wins_base`, `n_draws`, `n_total`, `avg_length` (characters); with length control
        `length_controlled_winrate`, `lc_standard_error`, `w_len`, `w_diff`, `w_bias`, `strength`; with `against`
        `difference` (positive: the model wins more often), `against/win_rate`, and under length control
        `lc_difference`, `against/length_controlled_winrate`, and `head_to_head`, the win rate over the second model
        that both fits predict. The table has a row for each dataset.

    Raises:
        InputError: a file or setting is wrong, there is no verdict, too few for length control, lengths are missing or
            differ by as much everywhere, or two models have no prompt in common.

    Source: tatsu-lab/alpaca_eval, src/alpaca_eval/metrics (helpers.py, glm_winrate.py); arXiv 2404.04475.
    """
    every = _every(source, generator, opponent, score, reading)
    verdicts = _chosen(every, generator)
    notes = [*verdicts.notes, *doubts(verdicts)]
    extra = [each for path in others for each in _every(path, None, opponent, score, reading)]
    second = None if against is None else _chosen(_every(against, None, opponent, score, reading), None)
    control = None
    if length_controlled:
        known = [*every, *extra, *([second] if second is not None else [])]
        published = published_weights(weights, w_len, w_diff, w_bias)
        control = control_of(verdicts, known, difficulty, anchors, match, strength, published)
    elif ignored := given(difficulty=difficulty, anchors=anchors, weights=weights, w_diff=w_diff, strength=strength):
        raise InputError(
            f"evaluate winrate: {', '.join(ignored)} are for length_controlled; ask for it, or leave them out"
        )
    side = side_of(verdicts, control)
    values, says = _numbers(side, control)
    bounds = grouped_bootstrap(lambda rows: list(values(rows)), side.prompt, draws=draws, seed=seed)
    metrics = [Metric.of(name, each, said) for (name, said), each in zip(says.items(), bounds, strict=True)]
    metrics += _counts(side, verdicts)
    if control is not None:
        notes += [*control.notes, *doubts_of_lengths(verdicts)]
        metrics += _of_fit(side, control)
        raw, level = bounds[0].value, bounds[2].value
        if lc.is_far(raw, level):
            notes.append(
                f"Length control moved the win rate from {raw:.1f} to {level:.1f}, so far that the fit may have failed."
            )
    if second is not None:
        paired, said = _paired(side, side_of(second, control), control, draws, seed)
        metrics += paired
        notes += said
    settings: dict[str, Any] = {
        "generator": verdicts.model,
        "opponent": verdicts.opponent,
        "length_controlled": length_controlled,
        "difficulty": None if difficulty is None else str(difficulty),
        "anchors": None if anchors is None else str(anchors),
        "match": match,
        "others": [str(path) for path in others],
        "strength": strength,
        "weights": None if weights is None else str(weights),
        "w_diff": w_diff,
        "w_bias": w_bias,
        "score": score,
        "reading": reading,
        "against": None if against is None else str(against),
        "draws": draws,
        "seed": seed,
    }
    return Result(
        name=f"winrate ({OFFLINE})" if control is not None and control.label == OFFLINE else "winrate",
        n=len(side.win),
        settings=settings,
        metrics=tuple(metrics),
        table=tuple(_by_dataset(verdicts)),
        notes=tuple(dict.fromkeys(notes)),
    )


def _every(
    source: Path | Preferences, generator: str | None, opponent: str | None, score: str, reading: Reading
) -> tuple[Verdicts, ...]:
    """The verdicts of a source, by model."""
    if isinstance(source, Preferences):
        return (verdicts_of(source, generator=generator, opponent=opponent, score=score, reading=reading),)
    place = Path(source)
    if has_verdicts(place):
        return read_annotations(place)
    if place.is_file():
        _must_be_answers(place, score)
    found = verdicts_of(read(str(place)), generator=generator, opponent=opponent, score=score, reading=reading)
    return (replace(found, source=str(place)),)


def _must_be_answers(place: Path, score: str) -> None:
    columns = columns_of(place)
    if {"instruction", "output_1", "output_2"} & columns and "chosen" not in columns:
        raise InputError(
            f"{place} has no verdicts (preference, preference_raw or win); it has {', '.join(sorted(columns))}"
        )


def _chosen(every: Sequence[Verdicts], generator: str | None) -> Verdicts:
    names = [each.model for each in every]
    told = ", ".join(names)
    if generator is None:
        if len(every) > 1:
            raise InputError(f"{every[0].source} has verdicts on several models ({told}); name one as generator")
        found = every[0]
    elif generator not in names and (len(every) > 1 or every[0].model != "the model"):
        raise InputError(
            f"{every[0].source} has no verdicts on {generator!r}{nearest(generator, names)}; it has {told}"
        )
    else:
        found = replace(every[names.index(generator)] if generator in names else every[0], model=generator)
    if not found.rows["win"].count():
        raise InputError(f"{found.source}: there is no verdict on {found.model}; judge the answers first")
    return found


def _numbers(side: Side, control: Control | None) -> tuple[Callable[[Rows], Sequence[float]], dict[str, str]]:
    """The win rates of some rows, and what each is."""
    hard = np.where(side.win == 0.5, 0.5, (side.win > 0.5).astype(np.float64))
    says = {
        "win_rate": "100 times the mean probability that the model's answer beats the opponent's; n are prompts",
        "discrete_win_rate": "percent of verdicts won, a draw as half",
    }
    if control is None:
        return lambda rows: [100.0 * float(side.win[rows].mean()), 100.0 * float(hard[rows].mean())], says
    label = f"{control.label}: " if control.label else ""
    says["length_controlled_winrate"] = f"{label}the win rate that is predicted if both answers are equally long"
    return (
        lambda rows: [
            100.0 * float(side.win[rows].mean()),
            100.0 * float(hard[rows].mean()),
            controlled(side, control, rows),
        ],
        says,
    )


def _counts(side: Side, verdicts: Verdicts) -> list[Metric]:
    win, n = side.win, len(side.win)
    length = verdicts.rows["length"].mean()
    numbers: list[tuple[str, float, str]] = [
        ("standard_error", 100.0 * lc.sem(win), "standard error of win_rate over verdicts, in points"),
        ("n_wins", int((win > 0.5).sum()), "verdicts for the model"),
        ("n_wins_base", int((win < 0.5).sum()), "verdicts for the opponent"),
        ("n_draws", int((win == 0.5).sum()), "draws"),
        ("n_total", n, "verdicts"),
    ]
    if isinstance(length, float):
        numbers.append(("avg_length", int(length), "mean length of the model's answers, whole characters"))
    return [Metric(name=name, value=value, n=n, says=says) for name, value, says in numbers]


def _of_fit(side: Side, control: Control) -> list[Metric]:
    weights = side.weights
    assert weights is not None  # a controlled side has them
    spread = 100.0 * lc.sem(lc.predicted(weights, side.difficulty))
    how = "published" if control.weights is not None else "fitted"
    numbers = [
        ("lc_standard_error", spread, "standard error of the predictions over prompts alone, in points"),
        ("w_len", weights.w_len, f"{how} weight of the length; negative: longer answers win"),
        ("w_diff", weights.w_diff, f"{how} weight of the difficulty"),
        ("w_bias", weights.w_bias, f"{how} weight of the model"),
        ("strength", side.strength, "C of the fit"),
    ]
    return [Metric(name=name, value=value, n=len(side.win), says=says) for name, value, says in numbers]


def _paired(one: Side, two: Side, control: Control | None, draws: int, seed: int) -> tuple[list[Metric], list[str]]:
    """One model minus another over the prompts that both have verdicts on, drawn again as pairs."""
    places: dict[str, list[int]] = {}
    for place, prompt in enumerate(two.prompt):
        places.setdefault(prompt, []).append(place)
    both = [(i, places[prompt].pop(0)) for i, prompt in enumerate(one.prompt) if places.get(prompt)]
    if not both:
        raise InputError(
            f"evaluate winrate: {one.model} and {two.model} have no prompt in common; compare both on the same"
        )
    first, second = (np.array(side, dtype=np.intp) for side in zip(*both, strict=True))
    says = {
        "difference": f"win rate of {one.model} minus that of {two.model}, in points, over common prompts",
        "against/win_rate": f"win rate of {two.model} over these",
    }
    if control is not None:
        says |= {
            "lc_difference": "the same of length-controlled win rates",
            "against/length_controlled_winrate": f"length-controlled win rate of {two.model}",
            "head_to_head": f"win rate of {one.model} over {two.model} at equal lengths that both fits predict",
        }

    def values(rows: Rows) -> list[float]:
        a, b = first[rows], second[rows]
        raw = [100.0 * float(one.win[a].mean()), 100.0 * float(two.win[b].mean())]
        if control is None:
            return [raw[0] - raw[1], raw[1]]
        mine, theirs = weights_at(one, control, a), weights_at(two, control, b)
        if mine is None or theirs is None:
            return [raw[0] - raw[1], raw[1], math.nan, math.nan, math.nan]
        levels = [
            100.0 * float(lc.predicted(weights, side.difficulty[at]).mean())
            for weights, side, at in ((mine, one, a), (theirs, two, b))
        ]
        over = 100.0 * float(lc.head_to_head(mine, theirs, one.difficulty[a]).mean())
        return [raw[0] - raw[1], raw[1], levels[0] - levels[1], levels[1], over]

    bounds: list[Interval] = grouped_bootstrap(values, [one.prompt[i] for i in first], draws=draws, seed=seed)
    metrics = [Metric.of(name, each, said) for (name, said), each in zip(says.items(), bounds, strict=True)]
    alone = len(one.win) + len(two.win) - 2 * len(both)
    notes = [f"{alone:,} verdicts on one of the two models alone are left out of their comparison."] if alone else []
    return metrics, notes


def _by_dataset(verdicts: Verdicts) -> list[dict[str, Any]]:
    frame = verdicts.rows.filter(pl.col("win").is_not_null())
    parts = frame.group_by("dataset", maintain_order=True).agg(
        win_rate=100.0 * pl.col("win").mean(), avg_length=pl.col("length").mean(), n=pl.len()
    )
    return parts.to_dicts() if frame["dataset"].n_unique() > 1 else []
