"""Checks of claims about optimising a language model too far: over beta, over one epoch, over sizes and judges.

Every training is one epoch at one constant rate, on all pairs of answers, labelled by a judge that is not gold. What
is best is looked for in other seeds than it is measured in (`curves_overoptimised`).

Source: arXiv 2406.02900 (the family, the law, the claims); arXiv 2410.11677 (entropy and mass as signals).
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from pairwright.charts import Chart, Series
from pairwright.diagnose.fits import Fit, Peak, law, peak, quadratic
from pairwright.evaluate.result import Metric
from pairwright.probes.turning import SIGNALS
from pairwright.reproduce.claim import Outcome, Setup
from pairwright.reproduce.language import bench
from pairwright.reproduce.language.curves_overoptimised import (
    COURSE,
    END,
    ENDS,
    WORLD,
    Courses,
    Curve,
    Floats,
    Spec,
    courses,
    over_beta,
    over_steps,
    rate_of,
)
from pairwright.reproduce.language.setting import Base
from pairwright.reproduce.trees import ends_of, line, signed
from pairwright.reproduce.verdicts import decided
from pairwright.stats import Interval, mean_interval, spearman, wilson

LOSSES = ("dpo", "ipo_sum", "hinge")
BETAS = (0.01, 0.03, 0.1, 0.3, 1.0)
FEW_BETAS = (0.01, 0.1, 1.0)
SMALL = 0.05
"""Trainings of a smaller beta are looked at as they go."""
LENGTH = replace(WORLD, judge="length")
WIDTHS = (32, 64)
ALPHAS = (0.1, 0.5)
DRAWS = 500
"""Of the bootstrap of a fit."""
PREDICTS = 0.5
"""A rank correlation below this predicts little: it explains less than a quarter of the ranks' variance."""
PREDICTORS = {
    "accuracy": (1.0, "Rank correlation of accuracy on held-out pairs"),
    "loss": (-1.0, "Rank correlation of minus the loss on held-out pairs"),
}
"""What might tell of gold: its sign, and in words."""
SIGNAL = {"dpo": "entropy_reversal", "ipo_sum": "entropy_reversal", "hinge": "mass_leak"}
READINGS = {
    "held-out chosen answers": {"top_entropy": "entropy", "top_mass": "mass"},
    "own answers": {"top_entropy": "own_entropy", "top_mass": "own_mass"},
}


def hump(setup: Setup) -> Outcome:
    """Gold over the distance from the start, for three losses over beta."""
    if setup.seeds < 2:
        return _one_seed()
    found, curves = _three(setup)
    fits = {name: _fits(curve) for name, curve in curves.items()}
    rows, series, metrics = [], [], []
    for name, curve in curves.items():
        top, one, two = fits[name]
        inside = top.d if top.identified else mean_interval([])
        metrics += [
            Metric.of(f"{name}/fall", curve.fall, "Gold at the best beta, by other seeds, minus at the farthest."),
            Metric.of(f"{name}/gain", curve.gain, "Gold at that beta minus the start's."),
            Metric.of(
                f"{name}/peak", inside, f"sqrt(KL) where the law is highest{'' if top.identified else ': ' + top.why}."
            ),
            Metric(name=f"{name}/rmse_law", value=one.rmse, n=one.n, says="What d (a - b log d) misses gold by."),
            Metric(name=f"{name}/rmse_quadratic", value=two.rmse, n=two.n, says="What a KL + b KL^2 misses gold by."),
        ]
        mine = [spec for spec in found if spec.loss == name]
        rows += [row | _written(found[spec]) for row, spec in zip(_rows(name, curve), mine, strict=True)]
        series += _drawn(name, curve, one)
    falls = ", ".join(f"{name} {signed(curve.fall)}" for name, curve in curves.items())
    errors = ", ".join(f"{one.rmse:.2f} against {two.rmse:.2f} ({name})" for name, (_, one, two) in fits.items())
    tops = ", ".join(name for name, (top, _, _) in fits.items() if top.identified)
    bests = ", ".join(f"{float(curve.d_best.mean()):.2f} ({name})" for name, curve in curves.items())
    return Outcome(
        verdict=decided(
            yes=all(curve.is_hump for curve in curves.values()),
            no=any(curve.is_no_hump for curve in curves.values()),
        ),
        says=f"One epoch at the rate {rate_of(setup):g} on labels of a judge that can be hijacked. From its best beta "
        f"to the one farthest from the start gold falls by {falls} of 10 points; the best are at sqrt(KL) of {bests}. "
        f"The law misses gold (RMSE) by {errors} of a quadratic in KL, and has its highest point within the distances "
        f"measured for {tops or 'none'}. {_blamed(rows)}",
        metrics=tuple(metrics),
        table=tuple(rows),
        charts=(_chart("hump", "Gold over the distance from the start", series),),
        seconds=_seconds(found),
    )


def hump_ipo_mildest(setup: Setup) -> Outcome:
    """IPO against DPO and hinge: distance at equal nominal beta, and fall."""
    if setup.seeds < 2:
        return _one_seed()
    found, curves = _three(setup)
    ipo = curves["ipo_sum"]
    metrics: list[Metric] = []
    rows: list[dict[str, Any]] = []
    for name in ("dpo", "hinge"):
        nearer = mean_interval((curves[name].d - ipo.d).mean(axis=1))
        milder = bench.difference(curves[name].lost.tolist(), ipo.lost.tolist())
        metrics += [
            Metric.of(f"nearer/{name}", nearer, f"sqrt(KL) of {name} minus that of IPO, mean over equal betas."),
            Metric.of(f"milder/{name}", milder, f"Fall of {name} minus that of IPO, points of gold."),
        ]
        for i, beta in enumerate(ipo.at):
            rows.append(
                {"against": name, "beta": beta, **ends_of(mean_interval(curves[name].d[:, i] - ipo.d[:, i]), "d")}
            )
    low = [each.low for each in metrics]
    said = "; ".join(f"{each.name} {_told(each)}" for each in metrics)
    return Outcome(
        verdict=decided(
            yes=all(end is not None and end > 0 for end in low),
            no=any(each.high is not None and each.high < 0 for each in metrics),
        ),
        says=f"Against IPO, in sqrt(KL) at equal nominal beta (nearer) and in points that gold falls (milder): {said}. "
        f"IPO itself falls by {signed(ipo.fall)}. Positive numbers are for the claim.",
        metrics=tuple(metrics),
        table=tuple(rows),
        seconds=_seconds(found),
    )


def hump_sizes(setup: Setup) -> Outcome:
    """DPO over beta at two widths."""
    if setup.seeds < 2:
        return _one_seed()
    specs = {
        width: [
            Spec(loss="dpo", beta=beta, world=replace(WORLD, base=Base(width=width)), checks=checks)
            for beta, checks in zip(FEW_BETAS, (first, END, END), strict=True)
        ]
        # The larger model's trainings are those of `hump`.
        for width, first in zip(WIDTHS, (ENDS, COURSE), strict=True)
    }
    found = courses([spec for each in specs.values() for spec in each], setup, label="sizes")
    curves = {width: over_beta(found, each, _start(found, each)) for width, each in specs.items()}
    small, large = (curves[width] for width in WIDTHS)
    earlier = mean_interval(large.d_best - small.d_best)
    further = bench.difference(small.lost.tolist(), large.lost.tolist())
    rows, series = [], []
    for width, curve in curves.items():
        rows += _rows(f"width {width}", curve)
        series += _drawn(f"width {width}", curve, _fits(curve)[1])
    return Outcome(
        verdict=decided(yes=earlier.low > 0 and further.low > 0, no=earlier.high < 0 or further.high < 0),
        says=f"DPO from bases of widths {WIDTHS[0]} and {WIDTHS[1]}: gold falls from its best beta to the farthest by "
        f"{signed(small.fall)} and {signed(large.fall)}; the smaller one falls by {signed(further)} more, and its best "
        f"lies nearer to the start by {signed(earlier)} in sqrt(KL). At beta {FEW_BETAS[0]:g} they end "
        f"{float(small.d[:, 0].mean()):.2f} and {float(large.d[:, 0].mean()):.2f} from it. Gains at the best: "
        f"{signed(small.gain)} and {signed(large.gain)}.",
        metrics=(
            Metric.of("earlier", earlier, "sqrt(KL) of the larger model's best beta minus that of the smaller's."),
            Metric.of("further", further, "Fall of the smaller model minus that of the larger, points of gold."),
            *(Metric.of(f"fall/{width}", curve.fall, "Gold at the best beta minus at the farthest.")
              for width, curve in curves.items()),
        ),
        table=tuple(rows),
        charts=(_chart("sizes", "Gold over the distance from the start, by size", series),),
        seconds=_seconds(found),
    )  # fmt: skip


def early_decline(setup: Setup) -> Outcome:
    """DPO at small beta, within its only epoch."""
    if setup.seeds < 2:
        return _one_seed()
    specs = [spec for spec in _specs("dpo", setup) if spec.checks == COURSE]
    found = courses(specs, setup, label="courses")
    curves = {spec.beta: over_steps(each) for spec, each in found.items()}
    rows: list[dict[str, Any]] = []
    metrics: list[Metric] = []
    said: list[str] = []
    for beta, curve in curves.items():
        place = np.array(curve.at)[curve.best] / curve.at[-1]
        grown = mean_interval(curve.d[:, -1] ** 2 - curve.d_best**2)
        metrics += [
            Metric.of(f"fall/{beta:g}", _ended(curve), "Gold at the peak of the other seeds minus gold at the end."),
            Metric.of(f"place/{beta:g}", mean_interval(place), "Where that peak is, as a share of the epoch."),
            Metric.of(f"grown/{beta:g}", grown, "KL at the end minus KL at the peak, nats for an answer."),
        ]
        said.append(
            f"At beta {beta:g} gold is highest after {place.mean():.0%} of the training and then changes by "
            f"{signed(_minus(_ended(curve)))}, while KL grows by {signed(grown)} nats."
        )
        for i, step in enumerate(curve.at):
            rows.append(
                {"beta": beta, "step": int(step), "kl": round(float((curve.d[:, i] ** 2).mean()), 4)}
                | dict[str, Any](ends_of(bench.level(curve.gold[:, i]), "gold"))
            )
    places = {beta: np.array(curve.at)[curve.best] / curve.at[-1] for beta, curve in curves.items()}
    return Outcome(
        verdict=decided(
            yes=all(_ended(curve).low > 0 for curve in curves.values())
            and all(p.max() <= 0.5 for p in places.values()),
            no=any(_ended(curve).high < 0 for curve in curves.values()) or all(p.min() > 0.5 for p in places.values()),
        ),
        says=" ".join(said) + " Every pair is seen once, so none is learnt by heart; a peak in the first half is for "
        "the claim; the paper's is at a quarter.",
        metrics=tuple(metrics),
        table=tuple(rows),
        charts=(
            Chart(
                id="epoch",
                title="Gold within one epoch",
                says="Where a line falls while training goes on, the model over-optimises its labels.",
                x="step",
                y="gold reward",
                series=[
                    line(f"beta {beta:g}", curve.at, [bench.level(curve.gold[:, i]) for i in range(len(curve.at))])
                    for beta, curve in curves.items()
                ],
            ),
        ),
        seconds=_seconds(found),
    )


def turning_points(setup: Setup) -> Outcome:
    """Do the signals of `probes.turning` fire near the peak of gold?"""
    if setup.seeds < 2:
        return _one_seed()
    specs = {name: _specs(name, setup)[0] for name in LOSSES}
    found = courses(list(specs.values()), setup, label="courses")
    rows: list[dict[str, Any]] = []
    shares: dict[tuple[str, str], Interval] = {}
    near: dict[tuple[str, str], float] = {}
    for name, spec in specs.items():
        each, detector = found[spec], SIGNALS[SIGNAL[name]]
        steps, gold = each.steps, over_steps(each)
        peaks = np.array(steps)[gold.gold.mean(axis=2).argmax(axis=1)]
        for reading, columns in READINGS.items():
            values = each.numbers(columns[detector.column])
            # Checks are few, and each is a mean over a thousand tokens and more: nothing is to be smoothed away.
            fired = [detector.read(steps, curve.tolist(), smoothing=0.0).fired_at for curve in values]
            slow = [detector.read(steps, curve.tolist()).fired_at for curve in values]
            hits = [at for at in fired if at is not None]
            apart = [abs(at - top) for at, top in zip(fired, peaks.tolist(), strict=True) if at is not None]
            shares[name, reading] = wilson(len(hits), len(fired))
            near[name, reading] = float(np.mean(apart)) if apart else math.nan
            entropy, mass = each.numbers(columns["top_entropy"]), each.numbers(columns["top_mass"])
            rows.append(
                {"loss": name, "reading": reading, "signal": SIGNAL[name], "trainings": len(fired), "fired": len(hits)}
                | {"fired_smoothed": sum(at is not None for at in slow), "peak_of_gold": round(float(peaks.mean()), 1)}
                | {"steps_from_peak": round(float(np.mean(apart)), 1) if apart else None}
                | {"entropy": [round(float(v), 3) for v in entropy.mean(axis=0)]}
                | {"mass": [round(float(v), 4) for v in mass.mean(axis=0)]}
            )
    first = next(iter(READINGS))
    quarter = found[specs["dpo"]].steps[-1] / 4
    good = {name: shares[name, first].low > 0.5 and near[name, first] <= quarter for name in LOSSES}
    told = "; ".join(
        f"{row['loss']} on {row['reading']}: {row['fired']} of {row['trainings']}"
        + ("" if row["steps_from_peak"] is None else f", {row['steps_from_peak']:g} steps from the peak of gold")
        for row in rows
    )
    chosen = {row["loss"]: row for row in rows if row["reading"] == first}
    return Outcome(
        verdict=decided(
            yes=all(good.values()),
            no=any(shares[name, first].high < 0.5 or near[name, first] > quarter for name in LOSSES),
        ),
        says=f"Trainings in which the paper's signal for the loss fired: {told}. With DPO the entropy of the top 10 on "
        f"held-out chosen answers goes {_path(chosen['dpo']['entropy'])} bits and with hinge their mass "
        f"{_path(chosen['hinge']['mass'])}: start, highest, end.{_sharpened(chosen)}",
        metrics=tuple(
            Metric.of(f"fired/{name}/{'chosen' if reading == first else 'own'}", each, "Share in which it fired.")
            for (name, reading), each in shares.items()
        ),
        table=tuple(rows),
        charts=tuple(
            Chart(
                id=f"turning_{column}",
                title=title,
                says="A signal of over-optimisation should turn where gold does.",
                x="step",
                y=title,
                series=[
                    line(name, found[spec].steps, [mean_interval(v) for v in _at_checks(found[spec], column)])
                    for name, spec in specs.items()
                ],
            )
            for column, title in (
                ("gold", "Gold reward"),
                ("entropy", "Entropy of the top 10 next tokens on chosen answers, bits"),
                ("mass", "Mass of the top 10 next tokens on chosen answers"),
                ("own_entropy", "Entropy of the top 10 next tokens on own answers, bits"),
            )
        ),
        seconds=_seconds(found),
    )


def accuracy_blind(setup: Setup) -> Outcome:
    """Rank correlations of accuracy and loss on held-out pairs with gold: over betas, and over the checks of one epoch.

    They are taken within a seed, whose trainings have the same held-out pairs, and averaged over seeds.
    """
    if setup.seeds < 2:
        return _one_seed()
    found, _ = _three(setup)
    rows: list[dict[str, Any]] = []
    metrics: list[Metric] = []
    more: list[Metric] = []
    for name in LOSSES:
        specs = [spec for spec in found if spec.loss == name]
        gold = np.stack([found[spec].marks("gold").mean(axis=1) for spec in specs], axis=1)
        course = found[specs[0]]
        risen = _at_checks(course, "gold").T[:, 1:]
        for number, (sign, says) in PREDICTORS.items():
            values = np.stack([sign * found[spec].numbers(number)[:, -1] for spec in specs], axis=1)
            within = _ranked(sign * course.numbers(number)[:, 1:], risen)
            metrics.append(Metric.of(f"{number}/{name}", _ranked(values, gold), f"{says} with gold, over betas."))
            more.append(
                Metric.of(f"{number}/{name}/epoch", within, f"{says} with gold, within the smallest beta's epoch.")
            )
        for i, spec in enumerate(specs):
            ends = {number: round(float(found[spec].numbers(number)[:, -1].mean()), 4) for number in PREDICTORS}
            rows.append({"arm": name, "beta": spec.beta, "gold": round(float(gold[:, i].mean()), 4), **ends})
    said = "; ".join(f"{each.name} {_told(each)}" for each in metrics)
    epoch = "; ".join(f"{each.name} {_told(each)}" for each in more)
    return Outcome(
        verdict=decided(
            yes=all(each.high is not None and each.high < PREDICTS for each in metrics),
            no=any(each.low is not None and each.low > 0 for each in metrics),
        ),
        says=f"Rank correlation with gold over betas, signed so that + means that a better number goes with more gold: "
        f"{said}. For the claim all must be below {PREDICTS:g}; one above 0 beyond doubt is against it. Losses at "
        f"different betas are on different scales. Within one epoch at the smallest beta: {epoch}.",
        metrics=(*metrics, *more),
        table=tuple(rows),
        seconds=_seconds(found),
    )


def length_judge(setup: Setup) -> Outcome:
    """DPO and R-DPO under a judge that takes fillers for effort."""
    if setup.seeds < 2:
        return _one_seed()
    arms: dict[str, tuple[str, tuple[tuple[str, Any], ...]]] = {"dpo": ("dpo", ())}
    arms |= {f"r_dpo {alpha:g}": ("r_dpo", (("alpha", alpha),)) for alpha in ALPHAS}
    specs = {
        name: [
            Spec(loss=loss, beta=beta, world=LENGTH, more=more, checks=checks)
            for beta, checks in zip(FEW_BETAS, (END if more else ENDS, END, END), strict=True)
        ]
        for name, (loss, more) in arms.items()
    }
    found = courses([spec for each in specs.values() for spec in each], setup, label="length")
    start = _start(found, specs["dpo"])
    curves = {name: over_beta(found, each, start) for name, each in specs.items()}
    first = found[specs["dpo"][0]].marks("fillers", 0)
    fillers = {name: [found[spec].marks("fillers") for spec in each] for name, each in specs.items()}
    rise = bench.level(np.mean([each - first for each in fillers["dpo"]], axis=0))
    best = {
        name: bench.difference(curve.at_best.tolist(), curves["dpo"].at_best.tolist()) for name, curve in curves.items()
    }
    plain = curves["dpo"]
    regular = {name: curve for name, curve in curves.items() if name != "dpo"}
    metrics = [Metric.of("fillers", rise, "Fillers of an answer by DPO, mean over betas, minus the start's.")]
    metrics += [
        Metric.of(f"fall/{name}", curve.fall, "Gold at the best beta minus at the farthest.")
        for name, curve in curves.items()
    ]
    metrics += [
        Metric.of(f"gain/{name}", best[name], "Gold at the best beta minus DPO's at its own.") for name in regular
    ]
    rows, series = [], []
    for name, curve in curves.items():
        more = [{"fillers": round(float(each.mean()), 4)} for each in fillers[name]]
        rows += [row | add for row, add in zip(_rows(name, curve), more, strict=True)]
        series += _drawn(name, curve, None)
    said = ", ".join(
        f"{signed(best[name])} ({name}; it falls by {signed(curve.fall)})" for name, curve in regular.items()
    )
    return Outcome(
        verdict=decided(
            yes=rise.low > 0 and plain.is_hump and any(best[name].low > 0 for name in regular)
            and all(curve.is_hump for curve in regular.values()),
            no=rise.high < 0 or plain.is_no_hump or all(best[name].high < 0 for name in regular)
            or any(curve.is_no_hump for curve in regular.values()),
        ),
        says=f"DPO writes {signed(rise)} fillers more than the start, in the mean over betas; its gold falls by "
        f"{signed(plain.fall)} from the best beta to the farthest. At the best beta of each, R-DPO's gold less DPO's "
        f"is {said}.",
        metrics=tuple(metrics),
        table=tuple(rows),
        charts=(_chart("length", "Gold over the distance from the start, a judge that likes length", series),),
        seconds=_seconds(found),
    )  # fmt: skip


def _one_seed() -> Outcome:
    return Outcome(
        verdict="not identified",
        says="A best beta is looked for in other seeds than it is measured in; take two seeds at least.",
        metrics=(),
    )


def _specs(loss: str, setup: Setup) -> list[Spec]:
    betas = FEW_BETAS if setup.quick else BETAS
    return [Spec(loss=loss, beta=beta, checks=COURSE if beta < SMALL else END) for beta in betas]


def _three(setup: Setup) -> tuple[dict[Spec, Courses], dict[str, Curve]]:
    """The trainings of the three losses over beta, and their curves."""
    specs = {name: _specs(name, setup) for name in LOSSES}
    found = courses([spec for each in specs.values() for spec in each], setup, label="hump")
    return found, {name: over_beta(found, each, _start(found, each)) for name, each in specs.items()}


def _start(found: dict[Spec, Courses], specs: Sequence[Spec]) -> Floats:
    """Gold of the start, [S, P], as it was seen before the training of the smallest beta."""
    return found[specs[0]].marks("gold", 0)


def _fits(curve: Curve) -> tuple[Peak, Fit, Fit]:
    """Where the law is highest, the law, and its rival, through every training."""
    d, gold = curve.d.ravel(), curve.gold.mean(axis=2).ravel()
    start = float(curve.start.mean())
    groups = np.repeat(np.arange(len(curve.d)), len(curve.at)).tolist()
    top = peak(d, gold, fit=partial(law, start=start), groups=groups, draws=DRAWS)
    return top, law(d, gold, start=start), quadratic(d, gold, start=start)


def _ended(curve: Curve) -> Interval:
    """Gold at the best check minus gold at the last."""
    return bench.difference(curve.at_best.tolist(), curve.gold[:, -1].tolist())


def _minus(each: Interval) -> Interval:
    return Interval(0.0 - each.value, 0.0 - each.high, 0.0 - each.low, each.n)


def _told(each: Metric) -> str:
    if each.value is None or each.low is None or each.high is None:
        return "is not defined"
    return f"{each.value:+.2f} [{each.low:+.2f}, {each.high:+.2f}]"


def _ranked(x: Floats, y: Floats) -> Interval:
    """Mean over seeds of the rank correlation of x and y within a seed, [S, n] each, where it is defined."""
    each = [spearman(one, other).value for one, other in zip(x, y, strict=True)]
    return mean_interval([value for value in each if math.isfinite(value)])


def _path(values: Sequence[float]) -> str:
    return f"{values[0]:.3g}, {max(values):.3g}, {values[-1]:.3g}"


def _written(each: Courses) -> dict[str, float]:
    """What answers are like at the end, beside their gold."""
    praises, fillers = (float(each.marks(name).mean()) for name in ("praises", "fillers"))
    tokens = float(each.numbers("length")[:, -1].mean())
    return {"praises": round(praises, 4), "fillers": round(fillers, 4), "tokens": round(tokens, 2)}


def _blamed(rows: Sequence[dict[str, Any]]) -> str:
    """What DPO's answers are like at its best beta and at its farthest."""
    mine = [row for row in rows if row["arm"] == "dpo"]
    best, last = max(mine, key=lambda row: float(row["gold"])), max(mine, key=lambda row: float(row["sqrt_kl"]))
    return (
        f"With DPO {best['praises']:.0%} of the answers praise themselves at the best beta and {last['praises']:.0%} "
        f"at the farthest, and have {best['tokens']:.1f} and {last['tokens']:.1f} tokens."
    )


def _sharpened(chosen: dict[str, dict[str, Any]]) -> str:
    """Why nothing fires where a training sharpens the model from its first steps."""
    entropy, mass = chosen["dpo"]["entropy"], chosen["hinge"]["mass"]
    if max(entropy) > entropy[0] or min(mass) < mass[0]:
        return ""
    return (
        " This training sharpens the model from its first steps: entropy has no rise to turn from, and the mass never "
        "falls below its start."
    )


def _at_checks(each: Courses, column: str) -> Floats:
    """A number at each check, [checks, S]; a mark of answers as its mean."""
    if column in each.checks[0][0] and isinstance(each.checks[0][0][column], list):
        return np.stack([each.marks(column, check).mean(axis=1) for check in range(len(each.steps))])
    return each.numbers(column).T


def _rows(name: str, curve: Curve) -> list[dict[str, Any]]:
    return [
        {"arm": name, "beta": beta, "sqrt_kl": round(float(curve.d[:, i].mean()), 4)}
        | ends_of(bench.level(curve.gold[:, i]), "gold")
        | {"start": round(float(curve.start.mean()), 4)}
        for i, beta in enumerate(curve.at)
    ]


def _drawn(name: str, curve: Curve, fit: Fit | None) -> list[Series]:
    """A line over the distance, and the law as a reference."""
    order = curve.d.mean(axis=0).argsort()
    each = [bench.level(curve.gold[:, i]) for i in order]
    d = curve.d.mean(axis=0)[order]
    series = [line(name, d.tolist(), each)]
    if fit is not None:
        grid = np.linspace(d[0], d[-1], 40)
        series.append(Series(name=f"law: {name}", x=grid.tolist(), y=fit.at(grid).tolist(), reference=True))
    return series


def _chart(name: str, title: str, series: list[Series]) -> Chart:
    return Chart(
        id=name,
        title=title,
        says="A point is a beta, its mean over seeds; to the right beta is smaller. A hump falls on its right.",
        x="sqrt(KL from the start), sqrt(nats) for an answer",
        y="gold reward",
        series=series,
    )


def _seconds(found: dict[Spec, Courses]) -> float:
    return round(sum(each.seconds for each in found.values()), 1)
