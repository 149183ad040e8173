"""Models against an opponent, judged in both orders: Arena-Hard-Auto, with and without control for style."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pairwright.errors import InputError
from pairwright.evaluate.battles import WHAT, Category, Judgment, Style, judgments_of, styles_of
from pairwright.evaluate.controlled import UPSTREAM_DRAWS, UPSTREAM_ENDS, controlled, controlled_as_upstream, style_gaps
from pairwright.evaluate.judgments import listed
from pairwright.evaluate.result import Metric, Result, as_json
from pairwright.evaluate.style import Part
from pairwright.stats import Interval, grouped_bootstrap, wilson

_SAYS = {
    "score": "share of battles won against the opponent, ties as half; n are prompts",
    "strength": "log-odds of a battle against the opponent, in nats; value and ends are null where they are infinite",
    "controlled": "chance against the opponent with style held at the average difference of all battles",
    "equal_style": "chance against the opponent if both answers had the same style",
}
_UPSTREAM = {
    "score": "mean of 100 bootstrap means over battles with their 5% and 95% quantiles (a 90% interval, too narrow)",
    "controlled": "median of 100 bootstrap fits over battles with their 5% and 95% quantiles (a 90% interval)",
}


def arena(
    judgments: Sequence[Path],
    *,
    answers: Sequence[Path] = (),
    control: Sequence[Part] = (),
    categories: Sequence[str] = (),
    opponent: str | None = None,
    weight: Annotated[int, Field(gt=0)] = 3,
    draws: Annotated[int, Field(gt=0)] = 1000,
    seed: int = 0,
) -> Result:
    """Score of models against an opponent by a judge who saw both orders: Arena-Hard-Auto.

    A prompt has two games: the opponent (the benchmark's baseline) first, then the model first. A verdict is one
    battle, a strong one (`A>>B`) `weight` battles. A prompt of which one game could not be read is left out, as
    upstream does, and counted here (`failed`). Naming the places the other way (games exchanged, verdicts mirrored)
    changes nothing.

    Intervals are at 95% over prompts, drawn with all their battles and models: the two games of a prompt, and the
    copies of a strong verdict, are no independent battles. Upstream draws them as if they were; its numbers stand
    beside (`score_as_upstream`, `controlled_as_upstream`), of other random draws, since upstream sets no seed.

    With `control`, one Bradley-Terry fit of all models has the differences in style as covariates, each less its mean
    and in standard deviations over the battles. `controlled` is the chance at that mean, as upstream reports it;
    `equal_style` is that of two answers of the same style, which is what one would like to know: models that all
    write more than the opponent have a mean difference that is not zero. Upstream's control for one part alone cuts
    the columns of models where it means those of style; here each part works alone. Upstream also empties the data
    after its first category; here every category has its own numbers.

    Names of metrics end in `/CATEGORY` where there are several categories, and in `/MODEL` where there are several
    models.

    Source: arXiv 2406.11939; Arena-Hard-Auto, show_result.py and utils/math_utils.py.

    Args:
        judgments: files of judgments (`model_judgment/JUDGE/MODEL.jsonl`). Several judges are pooled, as upstream does.
        answers: files of answers (`model_answer/MODEL.jsonl`) of all models and the opponent; for `control` only.
        control: `length`, `markdown` or both.
        categories: only these; all when not given.
        opponent: only judgments against this model; also its name where the judgments do not say it.
        weight: battles that a strong verdict counts as.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        `score`, `strength`, `score_as_upstream`, `failed`, with control `controlled`, `equal_style`,
        `controlled_as_upstream`, and `style_length` and so on: log-odds for one standard deviation more.

    Raises:
        InputError: a file cannot be read, no judgment is left, a category has several opponents, an answer is missing,
            or style tells every winner.
    """
    found, notes = judgments_of(judgments)
    kept, more = _kept(found, categories, opponent)
    if bool(control) != bool(answers):
        raise InputError(f"{WHAT}: control for style needs the answers, and answers are read for nothing else; "
                         "give both --control and --answers, or neither")  # fmt: skip
    styles = styles_of(answers) if answers else {}
    parts = [_category(name, kept, opponent, weight) for name in dict.fromkeys(each.category for each in kept)]
    several = len({model for part in parts for model in part.models}) > 1
    metrics: list[Metric] = []
    table: list[dict[str, Any]] = []
    for part in parts:
        names = _names(part, with_category=len(parts) > 1, with_model=several)
        notes_of, metrics_of, table_of = _measured(part, names, styles, frozenset(control), draws, seed)
        more, metrics, table = [*more, *notes_of], [*metrics, *metrics_of], [*table, *table_of]
    settings = {
        "judgments": [str(path) for path in judgments],
        "answers": [str(path) for path in answers],
        "control": list(control),
        "categories": list(categories),
        "opponent": opponent,
        "weight": weight,
        "draws": draws,
        "seed": seed,
    }
    return Result(
        name="arena",
        n=len(kept),
        settings=settings,
        metrics=tuple(metrics),
        table=tuple(table),
        notes=(*notes, *more),
    )


def _kept(
    found: Sequence[Judgment], categories: Sequence[str], opponent: str | None
) -> tuple[list[Judgment], list[str]]:
    known = list(dict.fromkeys(each.category for each in found))
    for name in categories:
        if name not in known:
            raise InputError(f"{WHAT}: there is no judgment of category {name!r}; there are {', '.join(known)}")
    kept = [each for each in found if not categories or each.category in categories]
    if opponent is not None:
        others = {each.opponent for each in kept} - {None}
        kept = [each for each in kept if each.opponent in (None, opponent)]
        if not kept:
            raise InputError(f"{WHAT}: no judgment is against {opponent!r}; they are against {listed(others)}")
    notes = []
    alone = [each for each in kept if each.model != (each.opponent or opponent)]
    if len(alone) < len(kept):
        notes.append(f"{len(kept) - len(alone):,} judgments are of the opponent against itself and are left out.")
    if not alone:
        raise InputError(f"{WHAT}: no judgment is left; give judgments of another model than the opponent")
    if own := {each.model for each in alone if each.model == each.judge}:
        notes.append(f"{listed(own)} judged its own answers; upstream leaves such a model out.")
    if len(judges := {each.judge for each in alone}) > 1:
        notes.append(f"The judgments of {len(judges):,} judges are pooled: {listed(sorted(judges))}.")
    return alone, notes


def _category(name: str, found: Sequence[Judgment], opponent: str | None, weight: int) -> Category:
    rows = [each for each in found if each.category == name]
    opponents = sorted({each.opponent or opponent for each in rows} - {None}, key=str)
    if len(opponents) > 1:
        raise InputError(
            f"{WHAT}: category {name} has judgments against {listed(opponents)}; choose one with --opponent"
        )
    failed, agreeing, models = Counter[str](), Counter[str](), dict.fromkeys(each.model for each in rows)
    readable, outcomes = [], []
    for each in rows:
        first, second = each.games
        if first is None or second is None:
            failed[each.model] += 1
            continue
        readable.append(each)
        agreeing[each.model] += second.share == 1.0 - first.share
        mine = [second.share] * (weight if second.strong else 1)
        theirs = [1.0 - first.share] * (weight if first.strong else 1)
        outcomes.append(tuple(sorted([*mine, *theirs])))  # so that no draw depends on which game came first
    numbers = {model: number for number, model in enumerate(models)}
    return Category(
        name,
        opponents[0] if opponents else None,
        list(models),
        np.array([numbers[each.model] for each in readable], dtype=np.intp),
        [each.prompt for each in readable],
        np.array([sum(each) for each in outcomes], dtype=np.float64),
        np.array([len(each) for each in outcomes], dtype=np.float64),
        outcomes,
        failed,
        agreeing,
    )


def _names(part: Category, *, with_category: bool, with_model: bool) -> Callable[[str, str | None], str]:
    def name(measure: str, model: str | None) -> str:
        pieces = [measure, part.name if with_category else None, model if with_model else None]
        return "/".join(piece for piece in pieces if piece is not None)

    return name


def _measured(
    part: Category,
    name: Callable[[str, str | None], str],
    styles: Mapping[tuple[str, str], Style],
    control: frozenset[str],
    draws: int,
    seed: int,
) -> tuple[list[str], list[Metric], list[dict[str, Any]]]:
    """Notes, metrics and the rows of the table of one category."""
    notes = _notes(part)
    found = _plain(part, draws, seed)
    above: dict[str, dict[str, Interval]] = {"score": _as_upstream(part, seed)}
    coefficients: dict[str, Interval] = {}
    if control and len(part.wins):
        gaps, more = style_gaps(part, styles, control)
        fitted, coefficients = controlled(part, gaps, draws=draws, seed=seed)
        found |= fitted
        above["controlled"] = controlled_as_upstream(part, gaps, seed=seed)
        notes += more
    metrics, table = [], []
    for model in part.models:
        judged = int((part.model == part.models.index(model)).sum())
        row: dict[str, Any] = {"category": part.name, "model": model, "opponent": part.opponent}
        for measure, each in found.items():
            metrics.append(Metric.of(name(measure, model), each[model], _SAYS[measure]))
            row |= _flat(measure, each[model])
        for measure, each in above.items():
            says = _UPSTREAM[measure]
            metrics.append(Metric.of(name(f"{measure}_as_upstream", model), each[model], says))
            row |= _flat(f"{measure}_as_upstream", each[model])
        says = "share of prompts of which a game could not be read; they are not in the score"
        count = part.failed[model]
        metrics.append(Metric.of(name("failed", model), wilson(count, judged + count), says))
        battles = int(part.battles[part.model == part.models.index(model)].sum())
        row |= {"prompts": judged, "failed": count, "battles": battles, "agreeing": part.agreeing[model]}
        table.append(row)
    for feature, interval in coefficients.items():
        says = f"log-odds of a battle for one standard deviation more of {feature} than the opponent"
        metrics.append(Metric.of(name(f"style_{feature}", None), interval, says))
    return notes, metrics, table


def _flat(name: str, interval: Interval) -> dict[str, float | None]:
    return {name if end == "value" else f"{name}_{end}": value for end, value in as_json(interval).items()}


def _notes(part: Category) -> list[str]:
    notes = []
    if total := part.failed.total():
        of = total + len(part.wins)
        notes.append(
            f"{part.name}: {total:,} of {of:,} prompts have a game that could not be read; if the judge fails "
            "more often at some answers than at others, the score leaves out more of those."
        )
    sets = {m: frozenset(p for p, k in zip(part.prompts, part.model, strict=True) if k == i)
            for i, m in enumerate(part.models)}  # fmt: skip
    if len(set(sets.values())) > 1:
        union = len(frozenset().union(*sets.values()))
        fewer = [model for model, prompts in sets.items() if len(prompts) < union]
        notes.append(f"{part.name}: {listed(fewer)} were not read at every one of the {union:,} prompts.")
    return notes


def _plain(part: Category, draws: int, seed: int) -> dict[str, dict[str, Interval]]:
    count = len(part.models)

    def statistic(rows: NDArray[np.intp]) -> list[float]:
        wins = np.bincount(part.model[rows], part.wins[rows], count)
        battles = np.bincount(part.model[rows], part.battles[rows], count)
        with np.errstate(invalid="ignore"):
            shares: list[float] = (wins / battles).tolist()
        return shares

    score = part.of_models(grouped_bootstrap(statistic, part.prompts, draws=draws, seed=seed))
    # Log-odds rise with the share, so the ends are those of the share: draws that were all won count as infinite.
    return {"score": score, "strength": {model: _log_odds(share) for model, share in score.items()}}


def _log_odds(share: Interval) -> Interval:
    """The log-odds of a share and of its ends, in nats; infinite at 0 and 1."""
    with np.errstate(divide="ignore"):
        value, low, high = (float(np.log(each) - np.log1p(-each)) for each in (share.value, share.low, share.high))
    return Interval(value, low, high, share.n)


def _as_upstream(part: Category, seed: int) -> dict[str, Interval]:
    """Mean and quantiles of bootstrap means, drawn from the battles of each model as if they were independent."""
    random = np.random.default_rng(seed)
    found = {}
    for number, model in enumerate(part.models):
        mine = [each for each, k in zip(part.outcomes, part.model, strict=True) if k == number]
        battles = np.array([share for each in mine for share in each], dtype=np.float64)
        if not len(battles):
            found[model] = Interval(np.nan, np.nan, np.nan, 0)
            continue
        means = battles[random.integers(0, len(battles), (UPSTREAM_DRAWS, len(battles)))].mean(axis=1)
        low, high = np.quantile(means, UPSTREAM_ENDS)
        found[model] = Interval(float(means.mean()), float(low), float(high), len(battles))
    return found
