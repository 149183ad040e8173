"""How often a model's answers beat an opponent's: AlpacaEval's numbers, raw and length-controlled."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from pairwright.errors import InputError
from pairwright.evaluate import length_controlled as lc
from pairwright.evaluate.alpaca_eval import UNNAMED_OPPONENT, Scale, Verdicts
from pairwright.evaluate.doubts import doubts, doubts_of_lengths
from pairwright.evaluate.length_offline import OFFLINE, one_opponent, shared_key
from pairwright.evaluate.length_sides import (
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
from pairwright.evaluate.verdict_sources import Asked, Source, all_of, source_of
from pairwright.evaluate.wins import Reading
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
    scale: Scale | None = None,
    annotator: str | None = None,
    length_controlled: bool = False,
    difficulty: Path | None = None,
    anchors: Path | None = None,
    match: Match | None = None,
    others: Sequence[Path] = (),
    strength: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None,
    weights: Path | None = None,
    w_len: float | None = None,
    w_diff: float | None = None,
    w_bias: float | None = None,
    against: Path | None = None,
    against_generator: str | None = None,
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
    at the same C and the same difficulties. Standard errors are AlpacaEval's: of the mean over prompts, and without
    what the fit does not know.

    Args:
        source: AlpacaEval's `annotations.json` or a table with its columns; or scored answers of two models to the same
            prompts (a file or directory of preference data, or `Preferences`).
        generator: the model, where there are verdicts on several; of a file on one model, what to call it.
        opponent: the model that it is compared with; of scored answers the other one where there are two.
        score: of scored answers, the column to compare.
        reading: of scored answers: `higher` wins, or the score is the `share` of a win, as the judge gives it for two
            answers after both orders (kind pairwise).
        scale: of the column `preference`: AlpacaEval's, 1 (lost) to 2 (won), or that of a `win`, 0 to 1; None tells it
            from the values and refuses where they leave it open.
        annotator: whose verdicts, where there are several annotators; None takes the mean over those who judged
            the same answers.
        length_controlled: give the length-controlled win rate too.
        difficulty: file of difficulties, `instruction_id` and `instruction_difficulty`; that of the anchors where they
            have it, fitted from several models where there is none.
        anchors: file of verdicts on a short and a long version of the opponent (AlpacaEval's `df_gamed.csv`).
        match: how verdicts find their difficulty: `position` among the model's rows, as AlpacaEval does, which is
            wrong after a missing row; or `id`, by `instruction_id`. None takes the id where there are ids, and refuses
            where the file has positions that say otherwise.
        others: verdicts on further models, or scored answers with the opponent's among them, for difficulties fitted
            from the data.
        strength: C of the fit; None chooses it by cross-validation.
        weights: file of published weights, by model, in place of a fit.
        w_len: weight of the length, for `w_diff` and `w_bias`; it changes no length-controlled win rate.
        w_diff: published weight of the difficulty, with `w_bias` in place of a fit.
        w_bias: published weight of the model.
        against: verdicts on a second model against the same opponent, or scored answers of both, for a paired
            comparison.
        against_generator: the second model, where `against` is of several.
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
        InputError: a file or setting is wrong, a setting would change nothing, there is no verdict, too few for length
            control, lengths are missing or differ by as much everywhere, or two models have no prompt in common or met
            different opponents.

    Source: tatsu-lab/alpaca_eval, src/alpaca_eval/metrics (helpers.py, glm_winrate.py); arXiv 2404.04475.
    """
    asked = Asked(score=score, reading=reading, scale=scale, annotator=annotator)
    fits = length_controlled and difficulty is None  # so that all models are wanted
    own = source_of(
        source,
        asked,
        generator=generator,
        opponent=opponent,
        several=fits and reading == "higher",  # a share is between two models
    )
    verdicts = own.model
    met = None if verdicts.opponent == UNNAMED_OPPONENT else verdicts.opponent
    if against is None and against_generator is not None:
        raise InputError("evaluate winrate: against_generator is for against; give both, or leave it out")
    second = None
    if against is not None:
        second = source_of(against, asked, generator=against_generator, opponent=met, setting="against_generator")
    extra = [all_of(path, asked, opponent=verdicts.opponent) for path in others]
    _must_be_used(asked, [own.scored, *([] if second is None else [second.scored]), *(scored for _, scored in extra)])
    notes = [*verdicts.notes, *doubts(verdicts)]
    key = "prompt"
    if second is not None:
        notes += [*second.model.notes, *one_opponent([verdicts, second.model])]
        key = shared_key([verdicts, second.model])
    of_fit = {"difficulty": difficulty, "anchors": anchors, "match": match, "others": others or None}
    of_weights = {"strength": strength, "weights": weights, "w_len": w_len, "w_diff": w_diff, "w_bias": w_bias}
    control = None
    if length_controlled:
        control = control_of(
            verdicts,
            lambda: _known(own, second, [each for found, _ in extra for each in found]),
            difficulty=difficulty,
            anchors=anchors,
            match=match,
            strength=strength,
            published=published_weights(weights, w_len, w_diff, w_bias),
        )
        if others and not control.fits:
            raise InputError(
                "evaluate winrate: others are for difficulties fitted from the data, and a file has them; leave "
                "others out, or that file"
            )
    elif ignored := given(**of_fit, **of_weights):
        raise InputError(
            f"evaluate winrate: {', '.join(ignored)} are for length_controlled; ask for it, or leave them out"
        )
    side = side_of(verdicts, control, key)
    raw, said_raw = _raw(side)
    judged = side.judged
    bounds = grouped_bootstrap(raw, [side.prompt[i] for i in judged], draws=draws, seed=seed)
    metrics = [Metric.of(name, each, said) for (name, said), each in zip(said_raw.items(), bounds, strict=True)]
    if control is not None:
        [level] = grouped_bootstrap(lambda rows: [controlled(side, control, rows)], side.prompt, draws=draws, seed=seed)
        label = f"{control.label}: " if control.label else ""
        says = f"{label}the win rate that is predicted if both answers are equally long"
        metrics.append(Metric.of("length_controlled_winrate", level, says))
    metrics += _counts(side, verdicts)
    if control is not None:
        notes += [*control.notes, *side.notes, *doubts_of_lengths(verdicts)]
        metrics += _of_fit(side, control)
        if lc.is_far(bounds[0].value, level.value):
            notes.append(
                f"Length control moved the win rate from {bounds[0].value:.1f} to {level.value:.1f}, so far that the "
                "fit may have failed."
            )
    if second is not None:
        two = side_of(second.model, control, key)
        paired, said = _paired(side, two, control, draws, seed)
        metrics += paired
        notes += [*two.notes, *said]
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
        "w_len": w_len,
        "w_diff": w_diff,
        "w_bias": w_bias,
        "score": score,
        "reading": reading,
        "scale": scale,
        "annotator": annotator,
        "against": None if against is None else str(against),
        "against_generator": None if second is None else second.model.model,
        "draws": draws,
        "seed": seed,
    }
    return Result(
        name=f"winrate ({OFFLINE})" if control is not None and control.label == OFFLINE else "winrate",
        n=len(judged),
        settings=settings,
        metrics=tuple(metrics),
        table=tuple(_by_dataset(verdicts)),
        notes=tuple(dict.fromkeys(notes)),
    )


def _must_be_used(asked: Asked, scored: Sequence[bool]) -> None:
    """A setting for a kind of source that there is none of would change nothing."""
    of_scored = given(
        score=None if asked.score == "score" else asked.score,
        reading=None if asked.reading == "higher" else asked.reading,
    )
    of_verdicts = given(scale=asked.scale, annotator=asked.annotator)
    for ignored, there, kind in (
        (of_scored, any(scored), "scored answers"),
        (of_verdicts, not all(scored), "verdicts"),
    ):
        if ignored and not there:
            raise InputError(
                f"evaluate winrate: {', '.join(ignored)} would change nothing, as no source has {kind}; leave it out"
            )


def _known(own: Source, second: Source | None, extra: Sequence[Verdicts]) -> list[Verdicts]:
    """All verdicts, each source once, under the names that were asked for."""
    by_source: dict[Path, list[Verdicts]] = {}
    for each in extra:
        by_source.setdefault(Path(each.source).resolve(), []).append(each)
    if second is not None:
        by_source.setdefault(Path(second.model.source).resolve(), [second.model])
    by_source[Path(own.model.source).resolve()] = list(own.every)
    return [each for found in by_source.values() for each in found]


def _raw(side: Side) -> tuple[Callable[[Rows], list[float]], dict[str, str]]:
    """The win rates of some of the rows with a verdict, and what each is."""
    win = side.win[side.judged]
    hard = np.where(win == 0.5, 0.5, (win > 0.5).astype(np.float64))
    says = {
        "win_rate": "100 times the mean probability that the model's answer beats the opponent's; n are prompts",
        "discrete_win_rate": "percent of verdicts won, a draw as half",
    }
    return lambda rows: [100.0 * float(win[rows].mean()), 100.0 * float(hard[rows].mean())], says


def _counts(side: Side, verdicts: Verdicts) -> list[Metric]:
    win, n = side.win[side.judged], len(side.judged)
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
    for place in two.judged.tolist():
        places.setdefault(two.prompt[place], []).append(place)
    both = [(i, places[one.prompt[i]].pop(0)) for i in one.judged.tolist() if places.get(one.prompt[i])]
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
    alone = len(one.judged) + len(two.judged) - 2 * len(both)
    notes = [f"{alone:,} verdicts on one of the two models alone are left out of their comparison."] if alone else []
    return metrics, notes


def _by_dataset(verdicts: Verdicts) -> list[dict[str, Any]]:
    frame = verdicts.rows.filter(pl.col("win").is_not_null())
    parts = frame.group_by("dataset", maintain_order=True).agg(
        win_rate=100.0 * pl.col("win").mean(), avg_length=pl.col("length").mean(), n=pl.len()
    )
    return parts.to_dicts() if frame["dataset"].n_unique() > 1 else []
