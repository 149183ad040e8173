"""Claims about variants of relabelling: which copies are kept, what the scores are, and what is added to the loss."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, TypeVar

import numpy as np

from pairwright.charts import Chart, Series
from pairwright.evaluate.result import Metric
from pairwright.relabel import relabel
from pairwright.reproduce.claim import Outcome, Setup, Verdict
from pairwright.reproduce.language import bench
from pairwright.reproduce.language.arms import PLAIN, RA, relabelled_as
from pairwright.reproduce.language.bench import Measured
from pairwright.reproduce.language.job import pairs_of
from pairwright.reproduce.language.pool import run_jobs
from pairwright.reproduce.language.seeds import at_seed, seeds_of, tuning_seeds
from pairwright.reproduce.language.setting import TOP, Arm, Call, Job, Tuned, World
from pairwright.reproduce.verdicts import decided, verdict_of
from pairwright.stats import Interval, mean_interval

_OWN = "pairwright.reproduce.language.data_variants"
ATTRIBUTES = ("correctness", "courtesy", "brevity")
NOISES = (0.0, 2.0, 4.0)
SIZES = (90, 180, 360, 720)
READ = (5.0, TOP)
"""What the base is asked for, to see what it makes of these numbers by itself."""
MARGIN = 0.5
"""Gold points within which scales count as equal: half of the worth of one right word."""
WEIGHTS, SUMMED_WEIGHTS = (10.0, 3.0), (1.0, 0.3)
"""Of a likelihood per token, and of Algorithm 1's, which is summed over an answer's tokens, about ten."""
SMOOTHINGS = (0.1, 0.3)
SMALL = 1e-4
"""A learning rate at which RA bears to have nothing added, beside those of every arm."""

Key = TypeVar("Key")
Table = Sequence[Sequence[float]]


def ra_plus_and_noise(setup: Setup) -> Outcome:
    """RA less RA+ in worlds whose judge errs more and more; both arms are tuned anew in each world."""
    levels = (NOISES[0], NOISES[-1]) if setup.quick else NOISES
    plus = relabelled_as("ra_plus")
    found = {noise: bench.measure([RA, plus], World(noise=noise), setup) for noise in levels}
    apart = {noise: np.subtract(each[RA.name].own, each[plus.name].own) for noise, each in found.items()}
    gains = {noise: bench.level(each) for noise, each in apart.items()}
    rise = bench.level(apart[levels[-1]] - apart[levels[0]])
    base = _base(setup)
    said_gains = ", ".join(f"{gain.value:+.2f} at {noise:g}" for noise, gain in gains.items())
    return Outcome(
        verdict=verdict_of(rise),
        says=f"RA less RA+, by the judge's error in points: {said_gains}. From the first to the last the difference "
        f"changes by {_shown(rise)}. {_before(base)}",
        metrics=(
            Metric.of("rise", rise, f"RA less RA+ at noise {levels[-1]:g} less the same at {levels[0]:g}, gold."),
            *(
                Metric.of(f"gain/{noise:g}", gain, f"RA less RA+ in gold, the judge's error {noise:g} points.")
                for noise, gain in gains.items()
            ),
        ),
        table=(
            *(bench.row_of(arm, noise=noise) for noise, each in found.items() for arm in each.values()),
            bench.row_of(base),
        ),
        charts=(
            Chart(
                id="noise",
                title="What the negative copies are worth as the judge errs more",
                says="Gold of RA less that of RA+, both asked for the top score, with 95% intervals.",
                x="standard deviation of the judge's error (points)",
                y="RA less RA+ (gold)",
                series=[_line("RA less RA+", list(gains), list(gains.values()))],
            ),
        ),
        seconds=bench.seconds_of(*(arm for each in found.values() for arm in each.values())),
    )


def filter_high_low(setup: Setup) -> Outcome:
    """RA without the negative copies that ask for 5 or more, and without those that ask for less; beside them RA."""
    high, low = relabelled_as("filter_high"), relabelled_as("filter_low")
    found = bench.measure([RA, high, low], World(), setup)
    golds = {name: arm.own for name, arm in found.items()}
    rows = {name: rows_in(name) for name in found}
    base = _base(setup)
    gain = bench.difference(golds[low.name], golds[high.name])
    parts = {
        "high": bench.difference(golds[high.name], golds[RA.name]),
        "low": bench.difference(golds[low.name], golds[RA.name]),
    }
    return Outcome(
        verdict=verdict_of(gain),
        says=f"Without the low negative copies less without the high ones: {_shown(gain)} gold. Against RA with all "
        f"copies: {_shown(parts['high'])} without the high ones, {_shown(parts['low'])} without the low ones. Of "
        f"{rows[RA.name]} rows {rows[RA.name] - rows[high.name]} are high negative copies and "
        f"{rows[RA.name] - rows[low.name]} low ones; all arms take equally many steps. {_before(base)}",
        metrics=(
            Metric.of("gain", gain, "Gold without the low negative copies less without the high ones."),
            Metric.of("without_high", parts["high"], "Gold without the high negative copies less that of RA."),
            Metric.of("without_low", parts["low"], "Gold without the low negative copies less that of RA."),
        ),
        table=(*(bench.row_of(arm, rows=rows[name]) for name, arm in found.items()), bench.row_of(base)),
        seconds=bench.seconds_of(*found.values()),
    )


def rows_in(mode: str) -> int:
    """How many rows a mode of relabelling makes of the world's pairs of the first seed."""
    return relabel(pairs_of(World(), 0), mode, placement="system").counts().pairs


def score_scales(setup: Setup) -> Outcome:
    """RA with goals printed from 1 to 5, to 10 and to 100, each asked for its top."""
    arms = {
        5: relabelled_as("ra", name="scale 5", scale=5),
        10: RA,
        100: relabelled_as("ra", name="scale 100", scale=100),
    }
    found = bench.measure(list(arms.values()), World(), setup)
    golds = {scale: found[arm.name].own for scale, arm in arms.items()}
    apart = {(a, b): bench.difference(golds[a], golds[b]) for a, b in combinations(arms, 2)}
    base = _base(setup)
    listed = ", ".join(f"{a} less {b}: {_shown(each)}" for (a, b), each in apart.items())
    return Outcome(
        verdict=equal_within(MARGIN, list(apart.values())),
        says=f"Gold by scale: {listed}. Scales count as equal when all three intervals lie within {MARGIN:g} of 0. "
        f"{_before(base)} Where it reads a 5 it has {bench.level(base.gold(5.0)).value:.2f}: "
        "it has read of scores from 1 to 10.",
        metrics=(
            *(
                Metric.of(f"{a}_less_{b}", each, f"Gold of RA with goals printed up to {a} less that of up to {b}.")
                for (a, b), each in apart.items()
            ),
            *(
                Metric.of(f"base/{goal:g}", bench.level(base.gold(goal)), f"Gold of the base that reads a {goal:g}.")
                for goal in READ
            ),
        ),
        table=_rows(*found.values(), base),
        seconds=bench.seconds_of(*found.values()),
    )


def equal_within(margin: float, apart: Sequence[Interval]) -> Verdict:
    """Equivalence: `holds` when every interval lies within the margin of 0, `does not hold` when one lies beyond it.

    Args:
        margin: the largest difference that counts as none.
        apart: the differences, with intervals.
    """
    return decided(
        yes=all(-margin <= each.low and each.high <= margin for each in apart),
        no=any(each.low > margin or each.high < -margin for each in apart),
    )


def ira(setup: Setup) -> Outcome:
    """Pairs relabelled by the implicit rewards of a plainly trained model, and a training of the base on them.

    The first model is trained with the numbers that are best for plain DPO.
    """
    world = World()
    known = bench.measure([PLAIN, RA], world, setup)
    first = known[PLAIN.name].tuned
    arm = Arm(name="ira", data=f"{_OWN}:own_scores", data_settings=(("first", first),), goal=TOP)
    own = bench.measure([arm], world, setup, measures=(f"{_OWN}:agreement",))[arm.name]
    base = _base(setup)
    agreed = [each["measures"][f"{_OWN}:agreement"] for each in own.found]
    flips, ranks = (mean_interval([each[name] for each in agreed]) for name in ("flip_rate", "spearman"))
    plainly, ra = (bench.difference(own.own, known[name].own) for name in (PLAIN.name, RA.name))
    beyond = bench.difference(own.own, base.own)
    return Outcome(
        verdict=verdict_of(plainly),
        says=f"IRA asked for 10 less plain DPO: {_shown(plainly)} gold; less RA by the judge's scores: {_shown(ra)}. "
        f"The model's own scores order {flips.value:.1%} of the pairs the other way than the judge, and have a rank "
        f"correlation of {ranks.value:.2f} with gold. Less the base asked for 10, before any training: "
        f"{_shown(beyond)}.",
        metrics=(
            Metric.of("gain", plainly, "Gold of IRA asked for 10 less that of plain DPO."),
            Metric.of("against_ra", ra, "Gold of IRA less that of RA, both asked for 10."),
            Metric.of(
                "against_base", beyond, "Gold of IRA less that of the base before any training, both asked for 10."
            ),
            Metric.of("flip_rate", flips, "Share of the pairs that the implicit reward orders the other way; by seed."),
            Metric.of("spearman", ranks, "Rank correlation of implicit reward and gold over the answers; by seed."),
        ),
        table=(*_rows(*known.values(), base), bench.row_of(own, flip_rate=round(flips.value, 4))),
        seconds=bench.seconds_of(own, *known.values()),
    )


def second_round(setup: Setup) -> Outcome:
    """A plainly trained model trained once more: on relabelled pairs, and (the control) on the same pairs again.

    Start and reference of the second round is the model of the first; its numbers are the best for plain DPO.
    """
    world = World()
    known = bench.measure([PLAIN, RA], world, setup)
    first = known[PLAIN.name].tuned
    again = {arm.name: _second(arm, bench.smaller(world, setup), first, setup) for arm in (RA, PLAIN)}
    base = _base(setup)
    ra, control = again[RA.name], again[PLAIN.name]
    gain = bench.difference(ra.own, known[PLAIN.name].own)
    matched = bench.difference(ra.own, control.own)
    single = bench.difference(ra.own, known[RA.name].own)
    beyond = bench.difference(ra.own, base.own)
    return Outcome(
        verdict=verdict_of(gain),
        says=f"RA from the plainly trained model, asked for 10, less that model: {_shown(gain)} gold; less a second "
        f"plain round of as many steps: {_shown(matched)}; less RA straight from the base: {_shown(single)}; "
        f"less the base asked for 10, before any training: {_shown(beyond)}.",
        metrics=(
            Metric.of("gain", gain, "Gold of the second round with RA, asked for 10, less that of its start."),
            Metric.of("against_plain_again", matched, "The same less a second plain round, at equal steps."),
            Metric.of("against_one_round", single, "The same less RA from the base, asked for 10."),
            Metric.of("against_base", beyond, "The same less the base before any training, asked for 10."),
        ),
        table=(
            *_rows(base, *known.values()),
            *(bench.row_of(each) | {"arm": f"plain, then {name}"} for name, each in again.items()),
        ),
        seconds=bench.seconds_of(*known.values(), *again.values()),
    )


def multi_attribute(setup: Setup) -> Outcome:
    """RA with a goal for each attribute, asked for the top of all, against RA by the overall score.

    Both are tuned on gold, as every arm is. The base has never read the names of the attributes.
    """
    world = World()
    vector = relabelled_as("ra", name="ra by attributes", goal=(TOP,) * len(ATTRIBUTES), attributes=ATTRIBUTES)
    found = bench.measure([PLAIN, RA, vector], world, setup)
    marks = {
        name: {of: np.asarray(arm.gold(arm.arm.goal, of)) for of in (*ATTRIBUTES, "gold")}
        for name, arm in found.items()
    }
    apart = {of: bench.level(marks[vector.name][of] - marks[RA.name][of]) for of in (*ATTRIBUTES, "gold")}
    means = {name: np.mean([each[of] for of in ATTRIBUTES], axis=0) for name, each in marks.items()}
    gain = bench.level(means[vector.name] - means[RA.name])
    plainly = bench.level(means[vector.name] - means[PLAIN.name])
    listed = ", ".join(f"{of} {_shown(apart[of])}" for of in ATTRIBUTES)
    return Outcome(
        verdict=verdict_of(gain),
        says=f"Asked for the top of three attributes, less RA asked for the top overall score: {listed}; their mean "
        f"{_shown(gain)}, gold {_shown(apart['gold'])}.",
        metrics=(
            Metric.of("gain", gain, "Mean of the three marks, by attributes less by the overall score."),
            Metric.of("against_plain", plainly, "Mean of the three marks, by attributes less plain DPO."),
            *(
                Metric.of(f"apart/{of}", each, f"Mark in {of}, by attributes less by the overall score.")
                for of, each in apart.items()
            ),
        ),
        table=tuple(
            bench.row_of(arm, **{of: round(float(marks[name][of].mean()), 3) for of in ATTRIBUTES})
            for name, arm in found.items()
        ),
        seconds=bench.seconds_of(*found.values()),
    )


def algorithm_1(setup: Setup) -> Outcome:
    """RA with nothing added, with the likelihood of the chosen answer, with Algorithm 1's, and with label smoothing.

    Nothing is added at the best of three rates and two strengths; what is added has the strength that is best so, and
    the best of three rates and two weights, all on validation instructions.
    """
    world = World()
    worlds = {
        seed: at_seed(bench.smaller(world, setup), seed, quick=setup.quick) for seed in tuning_seeds(quick=setup.quick)
    }

    def tries(arm: Arm, tuned: Tuned) -> list[Job]:
        return [bench.validation(arm, tuned, each, seed) for seed, each in worlds.items()]

    rates = bench.RATES if setup.quick else (SMALL, *bench.RATES)
    strengths = RA.strengths[:1] if setup.quick else RA.strengths
    alone = [Tuned(rate=rate, strength=strength) for rate in rates for strength in strengths]
    gold = _golds({tried: tries(RA, tried) for tried in alone})
    bare = max(alone, key=gold.__getitem__)
    nll = replace(RA, name="ra + likelihood")
    anchored = replace(RA, name="ra + algorithm 1", anchor=True)
    smooth = replace(RA, name="ra + smoothing")
    added = {
        nll: [{"sft": weight} for weight in WEIGHTS],
        anchored: [{"sft": weight} for weight in SUMMED_WEIGHTS],
        smooth: [{"smoothing": share} for share in SMOOTHINGS],
    }
    tried = {
        arm: [replace(bare, rate=rate, **more) for rate in rates for more in (each[:1] if setup.quick else each)]
        for arm, each in added.items()
    }
    found_gold = _golds({(arm, one): tries(arm, one) for arm, each in tried.items() for one in each})
    tuned = {RA.name: bare} | {
        arm.name: max(each, key=lambda one, arm=arm: found_gold[arm, one])  # type: ignore[misc]
        for arm, each in tried.items()
    }
    found = bench.measure([RA, *tried], world, setup, tuned=tuned)
    apart = {arm.name: bench.difference(found[arm.name].own, found[RA.name].own) for arm in tried}
    base = _base(setup)
    own = bench.difference(found[anchored.name].own, found[nll.name].own)
    listed = ", ".join(f"{name.removeprefix('ra + ')} {_shown(each)}" for name, each in apart.items())
    return Outcome(
        verdict=verdict_of(apart[anchored.name]),
        says=f"Gold asked for 10, less that of RA with nothing added: {listed}. {_before(base)}",
        metrics=(
            Metric.of("algorithm_1", apart[anchored.name], "Gold of RA with Algorithm 1's regulariser less bare RA."),
            Metric.of("likelihood", apart[nll.name], "RA with the likelihood under each row's own goal, less bare RA."),
            Metric.of("smoothing", apart[smooth.name], "Gold of RA with label smoothing less that of bare RA."),
            Metric.of("against_likelihood", own, "Algorithm 1's regulariser less the likelihood under the own goal."),
        ),
        table=_rows(*found.values(), base),
        seconds=bench.seconds_of(*found.values()),
    )


def gap_falls_with_pairs(setup: Setup) -> Outcome:
    """What RA lacks to the top score by the number of instructions, at equal steps, tuned once with the most."""
    sizes = (SIZES[0], SIZES[-1]) if setup.quick else SIZES
    tuned = bench.tune([RA], World(prompts=sizes[-1]), setup)
    found = {size: bench.measure([RA], World(prompts=size), setup, tuned=tuned)[RA.name] for size in sizes}
    gaps = {size: TOP - np.asarray(each.own) for size, each in found.items()}
    slope = mean_interval(slopes(sizes, [[float(row.mean()) for row in gaps[size]] for size in sizes]))
    fall = bench.level(gaps[sizes[0]] - gaps[sizes[-1]])
    base = bench.level(TOP - np.asarray(_base(setup).own))
    levels = {size: bench.level(each) for size, each in gaps.items()}
    listed = ", ".join(f"{gap.value:.2f} with {size}" for size, gap in levels.items())
    return Outcome(
        verdict=verdict_of(slope, sign=-1),
        says=f"Points that RA asked for 10 lacks to 10, by instructions: {listed}. The gap goes with the power "
        f"{_shown(slope)} of their number, where the paper's bound has -0.5. The base asked for 10, before any "
        f"training, lacks {base.value:.2f}.",
        metrics=(
            Metric.of("slope", slope, "Of the logarithm of the gap by that of the number of instructions; by seed."),
            Metric.of("fall", fall, f"The gap with {sizes[0]} instructions less that with {sizes[-1]}, points."),
            Metric.of("base", base, "The gap of the base asked for 10, before any training, points."),
        ),
        table=tuple(bench.row_of(each, prompts=size, gap=round(levels[size].value, 3)) for size, each in found.items()),
        charts=(
            Chart(
                id="gap",
                title="The gap to the top score by the number of instructions",
                says="10 less gold of RA asked for 10, after equally many steps, with 95% intervals.",
                x="instructions",
                y="gap (gold)",
                series=[_line("RA", list(sizes), list(levels.values()))],
            ),
        ),
        seconds=bench.seconds_of(*found.values()),
    )


def slopes(sizes: Sequence[int], gaps: Table) -> list[float]:
    """The power with which gaps fall, seed by seed: least squares of `log gap` on `log size`.

    Args:
        sizes: N of them.
        gaps: above 0, for each size those of the seeds, [N][S].
    """
    lengths = np.log(np.asarray(sizes, dtype=np.float64))
    heights = np.log(np.asarray(gaps, dtype=np.float64))
    found: list[float] = np.polyfit(lengths, heights, 1)[0].tolist()
    return found


def _second(arm: Arm, world: World, first: Tuned, setup: Setup) -> Measured:
    """An arm from the plainly trained model, tuned as `bench.tune` does and measured as `bench.measure` does."""
    worlds = {seed: at_seed(world, seed, quick=setup.quick) for seed in tuning_seeds(quick=setup.quick)}

    def calls(tried: Sequence[Tuned]) -> dict[Tuned, list[Call]]:
        return {
            tuned: [
                _call(arm, each, first, tuned, seed=seed, part="validation", prompts=bench.VALIDATION)
                for seed, each in worlds.items()
            ]
            for tuned in tried
        }

    tried = bench.grid(arm, quick=setup.quick)
    gold = _golds(calls(tried))
    best = max(tried, key=gold.__getitem__)
    if not setup.quick:
        more = [best, *bench.smoothed(arm, best)]
        gold = _golds(calls(more))
        best = max(more, key=gold.__getitem__)
    prompts = bench.QUICK_TEST if setup.quick else bench.TEST
    jobs = [
        _call(arm, at_seed(world, seed, quick=setup.quick), first, best, seed=seed, part="test", prompts=prompts)
        for seed in seeds_of(setup)
    ]
    found = run_jobs(jobs, label="second rounds")
    return Measured(arm, best, tuple(found[job] for job in jobs))


def _call(arm: Arm, world: World, first: Tuned, tuned: Tuned, *, seed: int, part: str, prompts: int) -> Call:
    settings = {
        "arm": arm,
        "first": first,
        "goals": (arm.goal,),
        "part": part,
        "prompts": prompts,
        "seed": seed,
        "tuned": tuned,
        "world": world,
    }
    return Call(function=f"{_OWN}:second_round", settings=tuple(settings.items()), bases=(world.base,))


def _golds(jobs: Mapping[Key, Sequence[Job]] | Mapping[Key, Sequence[Call]]) -> dict[Key, float]:
    """Mean gold of jobs that ask for one goal each, over those of one key."""
    every: list[Any] = [job for each in jobs.values() for job in each]
    found: dict[Any, dict[str, Any]] = run_jobs(every, label="tuning")
    return {key: bench.mean_gold([found[job] for job in each]) for key, each in jobs.items()}


def _base(setup: Setup) -> Measured:
    """The base before any training, asked for the top score: what every arm starts from."""
    return replace(bench.base_found(World(), setup, READ), arm=Arm(name="base", goal=TOP))


def _before(base: Measured) -> str:
    """A sentence on the base, for where arms hardly differ: how much of their gold was there before."""
    return f"The base asked for 10 has {bench.level(base.own).value:.2f} before any training."


def _rows(*found: Measured) -> tuple[dict[str, Any], ...]:
    return tuple(bench.row_of(arm) for arm in found)


def _line(name: str, x: Sequence[float], y: Sequence[Interval]) -> Series:
    return Series(
        name=name, x=list(x), y=[each.value for each in y], low=[each.low for each in y], high=[each.high for each in y]
    )


def _shown(gain: Interval) -> str:
    """`+1.35 [1.10, 1.63]`."""
    return f"{gain.value:+.2f} [{gain.low:.2f}, {gain.high:.2f}]"
