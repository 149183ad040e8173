"""The KL budget: what quality each distance from the start has bought, and whether there is a best distance."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from pairwright.charts import Chart, Series
from pairwright.diagnose.answers import Answers
from pairwright.diagnose.best import Best, against, best
from pairwright.diagnose.by_prompt import asked_for_most, asked_for_none, mean_over, means, told
from pairwright.diagnose.distances import NONE, Estimate, Point, comparable, estimate_of_most, point
from pairwright.diagnose.families import families
from pairwright.diagnose.finding import Finding, Level, Part
from pairwright.diagnose.fits import FEWEST, Fit, Floats, Peak, Reason, law, law_free, peak, quadratic, quadratic_free
from pairwright.errors import InputError
from pairwright.evaluate.result import Metric, Result, as_json
from pairwright.stats import Interval

SOURCE = "arXiv 2406.02900 (scaling law of over-optimisation); peak derived from its formula"
_LEVELS: dict[Reason, Level] = {
    "few": "note", "unsure": "note", "unfit": "note", "no peak": "fine", "outside": "fine"
}  # fmt: skip
_SAYS: dict[Estimate, str] = {
    "exact": "sum over the answer's positions of the exact KL of the next token",
    "monte_carlo": "log-ratio of policy and start, summed over the answer (Monte Carlo)",
}


@dataclass(frozen=True)
class _Curve:
    name: str
    says: str
    over: Literal["models", "checkpoints"]
    points: tuple[Point, ...]


def budget(
    answers: Sequence[Answers],
    *,
    start: Answers | None,
    metric: Estimate | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Part:
    """Quality against `d = sqrt(KL(policy || start))`, for models and checkpoints.

    The divergence is that of whole answers drawn from the policy at temperature 1, in nats, a mean over prompts of the
    mean over a prompt's answers: `exact`, the sum over positions of the exact divergence of the next token, or
    `monte_carlo`, the log-ratio of what was drawn. The latter can come out below 0, which a divergence never is: it is
    then taken as 0, and said so. Quality is the mean score, and the win rate against the start over the prompts that
    both answered (a tie counts half). Of a model that was asked for several goals the answers to the highest are read,
    of the start those without a goal. Divergences of answers with different largest lengths (`max_new_tokens`) are not
    comparable: only the length that most models have is kept.

    Curves: over the models as they ended, for trainings alike but for beta, learning rate and seed (`families`), and
    over the checkpoints of each training. Each gets the law
    and its rival (`fits`), through the score of the start, or with `w0` free where the start has none.

    Source: arXiv 2406.02900 (the law and the axis); the intervals and the rule of what is identified are ours.

    Args:
        answers: scored answers of each model, with `kl`, or with `logp` and `start_logp`.
        start: scored answers of the start; None where there are none.
        metric: estimate of the divergence; None is the one that most models have, the exact one where both are equal.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        For each curve `peak` and `gain` (of the law, where it is identified and no model elsewhere scores beyond doubt
        more than those at it), `best` (distance of the models that score highest), `fall` (score of the models further
        out minus theirs: a hump is a warning only where this is below 0 beyond doubt), and for the law and its rival
        `rmse` and `loo`
        (leave-one-out); without a curve over models `distance/<model>`. The table has a row for each model.

    Raises:
        InputError: no model has scored answers and a divergence.
    """
    kept, notes = comparable(answers)
    chosen = metric or estimate_of_most(kept)
    beside, more = _beside(start, kept)
    notes += more
    points = []
    for each in kept:
        placed, why = point(each, beside, chosen, draws, seed)
        if placed is None:
            notes.append(f"{each.name} is left out: {why}.")
        else:
            points.append(placed)
    if not points:
        raise InputError(
            "there is no KL budget: no model has scored answers with log-probabilities of itself and of the start; "
            "score the answers, then run as_asked and logprobs with a reference"
        )
    base, more = _base(beside, points, draws, seed)
    notes += more + _on(points)
    peaks: dict[str, tuple[_Curve, tuple[Peak, Fit | None]]] = {}
    metrics: list[Metric] = []
    findings: list[Finding] = []
    for curve in _curves(points):
        top = best(curve.points, draws=draws, seed=seed)
        found, rival = _fitted(curve, base, draws, seed)
        found = _described(curve, found, top, draws, seed)
        peaks[curve.name] = curve, (found, rival)
        findings.append(_finding(curve, found, top))
        metrics += _metrics(curve, found, top, rival)
        if found.fit and rival:
            notes.append(_told(curve, found.fit, rival, base))
    rows = [_row(each, chosen) for each in points]
    over_models = any(curve.over == "models" for curve, _ in peaks.values())
    if not peaks:
        notes.append(
            "There is one model of each kind of training: several values of beta on the same data, or checkpoints, "
            "draw the curve of quality."
        )
    result = Result(
        name="budget",
        n=len(points),
        settings={"metric": chosen, "draws": draws, "seed": seed, "start": start.name if start else None},
        metrics=tuple([*([] if over_models else _ends(points)), *metrics]),
        table=tuple(rows),
        notes=tuple(notes),
    )
    return Part(
        name="budget",
        subject=", ".join(dict.fromkeys(each.answers.training or each.answers.name for each in points)),
        title="What each step away from the start bought",
        result=result,
        findings=tuple(findings),
        charts=tuple(_charts(points, peaks.values(), base, chosen)),
    )


def _beside(start: Answers | None, answers: Sequence[Answers]) -> tuple[Answers | None, list[str]]:
    """The start, where its answers may be compared with those of the models."""
    if start is None:
        return None, ["The start has no answers, so w0 of the curves is free."]
    if answers and start.settings.get("max_new_tokens") != answers[0].settings.get("max_new_tokens"):
        return None, ["The start could write other lengths of answers than the models, so w0 of the curves is free."]
    return start, []


def _base(start: Answers | None, points: Sequence[Point], draws: int, seed: int) -> tuple[Interval | None, list[str]]:
    """Score of the start."""
    if start is None:
        return None, []
    scored = means(asked_for_none(start).drop_nulls("score"), "score")
    if scored.is_empty():
        return None, ["The answers of the start have no score, so w0 of the curves is free."]
    notes = []
    if any(set(scored["prompt_id"]) != set(each.scored["prompt_id"]) for each in points):
        notes.append("Not all models answered the same prompts: differences of scores are also those of prompts.")
    return mean_over(scored, "score", draws=draws, seed=seed), notes


def _on(points: Sequence[Point]) -> list[str]:
    return [
        f"The divergence of {each.answers.name} is estimated below 0 ({each.kl.value:.3g} nats), which it never is; it "
        "is taken as 0: it is too small for so few answers."
        for each in points
        if each.clamped
    ]


def _curves(points: Sequence[Point]) -> list[_Curve]:
    """Models as they ended by family, then the checkpoints of each training; two points at least."""
    curves = []
    for name, family in families(points).items():
        if len(family) > 1:
            kind = "trainings with the loss" if family[0].answers.settings.get("loss") else "trainings"
            curves.append(_Curve(name or "trainings", f"{kind} {name}".rstrip() + ", as they ended", "models", family))
    for training in dict.fromkeys(each.answers.training for each in points):
        mine = tuple(each for each in points if each.answers.training == training and training)
        if sum(each.answers.step is not None for each in mine) > 1:
            curves.append(_Curve(f"checkpoints of {training}", f"checkpoints of {training}", "checkpoints", mine))
    return curves


def _fitted(curve: _Curve, base: Interval | None, draws: int, seed: int) -> tuple[Peak, Fit | None]:
    """Peak of the law, and the rival curve; None where there are too few points."""
    d, w = _xy(curve.points)
    seeds = [each.answers.settings.get("seed") for each in curve.points]
    groups = seeds if len(set(seeds)) > 1 and None not in seeds else None
    one: Callable[[Floats, Floats], Fit] = law_free if base is None else partial(law, start=base.value)
    two: Callable[[Floats, Floats], Fit] = quadratic_free if base is None else partial(quadratic, start=base.value)
    try:
        found = peak(d, w, fit=one, groups=groups, draws=draws, seed=seed)
        return found, two(d, w) if found.fit else None
    except InputError as error:
        return Peak("few", str(error), NONE, NONE, None), None


def _xy(points: Sequence[Point]) -> tuple[Floats, Floats]:
    return np.array([each.d.value for each in points]), np.array([each.score.value for each in points])


def _described(curve: _Curve, found: Peak, top: Best | None, draws: int, seed: int) -> Peak:
    """The peak, unless models elsewhere score beyond doubt more than those at it: then the law is no law of theirs."""
    if top is None or not found.identified:
        return found
    near = [each for each in curve.points if found.d.low <= each.d.value <= found.d.high]
    near = near or [min(curve.points, key=lambda each: abs(each.d.value - found.d.value))]
    apart = against(near, top.points, top.judges, draws=draws, seed=seed)
    if not apart.high < 0:
        return found
    why = (
        f"the law is highest at d = {found.d.value:.3g}, where models score {told(apart)} against those at "
        f"d = {top.d:.3g}, so it does not describe them"
    )
    return Peak("unfit", why, NONE, NONE, found.fit)


def _finding(curve: _Curve, found: Peak, top: Best | None) -> Finding:
    """Whether models beyond the best ones score less, by the models themselves; and where the law puts the peak."""
    fallen = top is not None and top.lost.high < 0
    level: Level = "warning" if fallen else _LEVELS[found.reason] if found.reason else "note"
    if found.reason is None:
        law_says = (
            f"The law is highest at d = {found.d.value:.3g} sqrt(nats) [{found.d.low:.3g}, {found.d.high:.3g}], "
            f"{told(found.gain, '.3g')} above the start."
        )
    else:
        law_says = f"The best distance from the start is not identified: {found.why}."
    said = [_measured(top), law_says] if top else [law_says]
    decides = top.lost if top and top.lost.n else NONE
    return Finding(
        check="hump",
        subject=curve.says,
        level=level,
        says=" ".join(said),
        value=decides.value,
        low=decides.low,
        high=decides.high,
        n=decides.n or len(curve.points),
        means=_MEANS["fallen" if fallen else "peak" if found.reason is None else _unknown(top)],
        remedy=_REMEDIES["fallen" if fallen else "measure" if level == "note" and found.reason else "none"],
        source=SOURCE,
    )


_MEANS = {
    "fallen": "Further from the start the score falls although the loss does not: the preferences are over-fitted.",
    "peak": "The score stops rising there. That it falls further out is what the law says, not what models show.",
    "alike": "No measured distance can be called too far: the models further out do not score less beyond doubt.",
    "farthest": "No measured distance can be called too far: the farthest is the best. Beyond it nothing is known.",
    "few": "Nothing is known of too far yet: it takes two kinds of models and two prompts that all of them answered.",
}
_REMEDIES = {
    "fallen": "Take a larger beta, an earlier checkpoint or fewer epochs, so that training ends near that distance.",
    "measure": (
        f"Measure more models of one kind: {FEWEST} distances at the least, better with seeds, some of them far from "
        "the start (small beta, late checkpoints)."
    ),
    "none": "",
}


def _unknown(top: Best | None) -> str:
    """Which of `_MEANS` fits where neither models nor the law show a best distance."""
    if top is None:
        return "few"
    return "alike" if top.lost.n else "farthest"


def _measured(top: Best) -> str:
    """What the models themselves say."""
    names = ", ".join(each.answers.name for each in top.points[:3])
    more = f" and {len(top.points) - 3} more" if len(top.points) > 3 else ""
    low, high = top.between
    nearer = "none nearer" if math.isnan(low) else f"the next nearer at {low:.3g}"
    farther = "none further" if math.isnan(high) else f"the next further at {high:.3g}"
    head = f"Of the models, {names}{more} score highest, at d = {top.d:.3g} ({nearer}, {farther})"
    return f"{head}; those further out score {told(top.lost)} against them." if top.lost.n else f"{head}."


def _metrics(curve: _Curve, found: Peak, top: Best | None, rival: Fit | None) -> list[Metric]:
    n = len(curve.points)
    metrics = [
        Metric.of(f"peak/{curve.name}", found.d, "where the law is highest, sqrt(nats) from the start; n are models"),
        Metric.of(f"gain/{curve.name}", found.gain, "the law there minus the score of the start"),
        Metric(
            name=f"best/{curve.name}",
            value=top.d if top else None,
            n=n,
            says="mean distance of the models that score highest, sqrt(nats); n are models",
        ),
        Metric.of(
            f"fall/{curve.name}",
            top.lost if top else NONE,
            "score of the models further out minus that of the best, at prompts that did not choose them",
        ),
    ]
    for name, fit in (("law", found.fit), ("quadratic", rival)):
        if fit is not None:
            metrics += [
                Metric(name=f"rmse/{curve.name}/{name}", value=fit.rmse, n=n, says=f"what the {name} misses points by"),
                Metric(
                    name=f"loo/{curve.name}/{name}",
                    value=fit.left_out,
                    n=n,
                    says=f"what the {name} through the other points misses a point by",
                ),
            ]
    return metrics


def _told(curve: _Curve, one: Fit, two: Fit, base: Interval | None) -> str:
    w0 = "free" if base is None else "the score of the start"
    return (
        f"{curve.says[0].upper()}{curve.says[1:]}: w(d) = {one.w0:.4g} {_signed(one.a)} d {_signed(-one.b)} d log d "
        f"(RMSE {one.rmse:.3g}), against {two.w0:.4g} {_signed(two.a)} d^2 {_signed(two.b)} d^4 (RMSE {two.rmse:.3g}); "
        f"w0 is {w0}."
    )


def _signed(number: float) -> str:
    return f"{'-' if number < 0 else '+'} {abs(number):.4g}"


def _ends(points: Sequence[Point]) -> list[Metric]:
    """Distance of each model as it ended, or of the last checkpoint of each training."""
    last: dict[str, Point] = {}
    for each in sorted(points, key=lambda point: (point.answers.step is None, point.answers.step or 0)):
        last[each.answers.training or each.answers.name] = each
    return [
        Metric.of(f"distance/{name}", each.d, "sqrt(KL) from the start, sqrt(nats) for an answer; n are prompts")
        for name, each in last.items()
    ]


def _row(each: Point, metric: Estimate) -> dict[str, Any]:
    settings = each.answers.settings
    row: dict[str, Any] = {
        "model": each.answers.name,
        "training": each.answers.training,
        "step": each.answers.step,
        **{key: settings.get(key) for key in ("loss", "beta", "learning_rate", "seed")},
        "kl_by": metric,
        "answers": len(asked_for_most(each.answers)),
    }
    numbers = {"d": each.d, "kl": each.kl, "score": each.score, "win": each.win, "length": each.length}
    numbers |= {f"kl_{name}": each.both.get(name, NONE) for name in _SAYS}
    for name, one in numbers.items():
        row |= {name if end == "value" else f"{name}_{end}": value for end, value in as_json(one).items()}
    return row | {"prompts": each.score.n, "clamped": each.clamped}


def _charts(points: Sequence[Point], peaks: Any, base: Interval | None, metric: Estimate) -> list[Chart]:
    x = f"d = sqrt(KL from the start), sqrt(nats) for an answer; {_SAYS[metric]}"
    ended = [each for each in points if each.answers.step is None] or list(points)
    curves = [(curve, found, rival) for curve, (found, rival) in peaks]
    over = [each for each in curves if each[0].over == "models"]
    names = {each.answers.training: name for name, family in families(points).items() for each in family}
    charts = [_chart("score", "Score by distance from the start", x, ended, over, base, names)]
    for number, each in enumerate(each for each in curves if each[0].over == "checkpoints"):
        curve = each[0]
        title = f"Score by distance from the start: {curve.says}"
        charts.append(_chart(f"checkpoints-{number}", title, x, curve.points, [each], base, names))
    if any(each.win.n for each in points):
        series = _clouds([each for each in points if each.win.n], lambda each: each.win, names)
        even: Series = Series(name="as good as the start", x=_span(points), y=[0.5, 0.5], reference=True)
        says = "Each point is a model; above the dotted line it beats the start more often than it loses to it."
        charts.append(
            Chart(
                id="win",
                title="Win rate against the start by distance from it",
                says=says,
                x=x,
                y="share of prompts at which the model scores higher (a tie is half)",
                kind="points",
                series=[*series, even],
            )
        )
    return charts


def _span(points: Sequence[Point]) -> list[float | int | str | None]:
    return [0.0, max(each.d.value for each in points)]


def _chart(
    name: str,
    title: str,
    x: str,
    points: Sequence[Point],
    curves: Sequence[tuple[_Curve, Peak, Fit | None]],
    base: Interval | None,
    names: Mapping[str, str],
) -> Chart:
    series = _clouds(points, lambda each: each.score, names)
    if base is not None:
        series.append(Series(name="start", x=[0.0], y=[base.value], low=[_end(base.low)], high=[_end(base.high)],
                             labels=["start"]))  # fmt: skip
    for curve, found, rival in curves:
        d, _ = _xy(curve.points)
        for kind, fit in (("law", found.fit), ("quadratic in KL", rival)):
            if fit is not None:
                grid = np.linspace(d[d > 0].min(), d.max(), 60)
                series.append(Series(name=f"{kind}: {curve.name}", x=grid.tolist(), y=fit.at(grid).tolist(),
                                     reference=True))  # fmt: skip
    says = (
        "Each point is a model with its 95% intervals over prompts. The curves are drawn only between measured "
        "distances; where the law falls, going further from the start costs score."
    )
    return Chart(id=name, title=title, says=says, x=x, y="mean score", kind="points", series=series)


def _clouds(points: Sequence[Point], number: Callable[[Point], Interval], names: Mapping[str, str]) -> list[Series]:
    """Points by family (`names`, by training), or by training where they are checkpoints."""
    named: dict[str, list[Point]] = {}
    for each in points:
        of = each.answers.training if each.answers.step is not None else names.get(each.answers.training)
        named.setdefault(of or each.answers.name, []).append(each)
    return [
        Series(
            name=name,
            x=[each.d.value for each in mine],
            y=[number(each).value for each in mine],
            low=[_end(number(each).low) for each in mine],
            high=[_end(number(each).high) for each in mine],
            x_low=[_end(each.d.low) for each in mine],
            x_high=[_end(each.d.high) for each in mine],
            labels=[each.answers.name for each in mine],
        )
        for name, mine in named.items()
    ]


def _end(number: float) -> float | None:
    return None if math.isnan(number) else number
