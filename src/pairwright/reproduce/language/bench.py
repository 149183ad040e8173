"""Arms against each other: each tuned alike on validation gold, then repeated over seeds on the same instructions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairwright.plug import settings_of
from pairwright.reproduce.claim import Setup
from pairwright.reproduce.language.job import said
from pairwright.reproduce.language.pool import run_jobs
from pairwright.reproduce.language.seeds import at_seed, seeds_of, tuning_seeds
from pairwright.reproduce.language.setting import Arm, Goal, Job, Tuned, World
from pairwright.stats import Interval, mean_interval

RATES = (3e-4, 1e-3)
SFT, SMOOTHING = 10.0, 0.1
"""Weights of the two regularisers. A smaller likelihood term did not keep relabelled trainings from falling apart."""
TRIES = 9
BESIDE = 3 ** (1 / 6)
"""Learning rates beside the best are so many times larger and smaller: six steps of it lead to the next."""
VALIDATION, TEST = 72, 120
QUICK_PROMPTS, QUICK_TEST = 360, 40
DRAWS = 2000


@dataclass(frozen=True)
class Measured:
    """An arm with its tuned numbers, over seeds.

    Attributes:
        arm: the arm.
        tuned: what validation chose.
        found: what the job of each seed found, seed by seed.
    """

    arm: Arm
    tuned: Tuned
    found: tuple[dict[str, Any], ...]

    def gold(self, goal: Goal | None, of: str = "gold") -> list[list[float]]:
        """Gold reward (or another mark) asked for a goal: for each seed, of each held-out instruction."""
        return [found[of][said(goal)] for found in self.found]

    @property
    def own(self) -> list[list[float]]:
        """Gold reward asked for the arm's own goal."""
        return self.gold(self.arm.goal)

    @property
    def seconds(self) -> float:
        """Of one core, over the seeds."""
        return sum(float(found["seconds"]) for found in self.found)


def smaller(world: World, setup: Setup) -> World:
    """The world as the setup wants it: a quick look takes a third of the steps and half of the instructions."""
    if not setup.quick:
        return world
    return replace(world, steps=world.steps // 3, prompts=min(world.prompts, QUICK_PROMPTS))


def tune(arms: Sequence[Arm], world: World, setup: Setup) -> dict[str, Tuned]:
    """The numbers of each arm with the highest mean gold on validation instructions; by the arm's name.

    Every arm has the same budget of nine tries, each with every tuning seed: first those of `grid`, then label
    smoothing at the best of them. An arm that has no strength, no smoothing or no pairs has the tries that are left
    over at learning rates beside its best. A quick look has two tries and one tuning seed.
    """
    worlds = {seed: at_seed(smaller(world, setup), seed, quick=setup.quick) for seed in tuning_seeds(quick=setup.quick)}
    first = {arm.name: grid(arm, quick=setup.quick) for arm in arms}
    best = _best(arms, first, worlds)
    if setup.quick:
        return best
    second = {}
    for arm in arms:
        found, tried = best[arm.name], len(first[arm.name])
        more = smoothed(arm, found)
        second[arm.name] = [found, *more, *_beside(found, TRIES - tried - len(more))]
    return _best(arms, second, worlds)


def grid(arm: Arm, *, quick: bool) -> list[Tuned]:
    """Two learning rates by two strengths, each without and with a likelihood term where the arm trains on pairs.

    A quick look tries the larger rate without the term and with it; where there is none, both rates.
    """
    with_term = arm.examples == "pairs"
    rates = RATES[1:] if quick and with_term else RATES
    return [
        Tuned(rate=rate, strength=strength, sft=weight)
        for rate in rates
        for strength in (arm.strengths[:1] if quick else arm.strengths)
        for weight in ((0.0, SFT) if with_term else (0.0,))
    ]


def smoothed(arm: Arm, best: Tuned) -> list[Tuned]:
    """The same with label smoothing, for an arm that trains on pairs with a loss that has it."""
    from pairwright.losses.table import LOSSES

    has = arm.examples == "pairs" and "label_smoothing" in settings_of(LOSSES[arm.loss])
    return [replace(best, smoothing=SMOOTHING)] if has else []


def measure(
    arms: Sequence[Arm],
    world: World,
    setup: Setup,
    *,
    goals: Mapping[str, Sequence[Goal | None]] | None = None,
    tuned: Mapping[str, Tuned] | None = None,
    measures: Sequence[str] = (),
) -> dict[str, Measured]:
    """Every arm, tuned and then trained with each seed, asked for its own goal; by the arm's name.

    Args:
        arms: of different names.
        world: for all of them.
        setup: seeds, and whether to be quick.
        goals: what an arm is asked for besides its own goal, by its name.
        tuned: the numbers of the arms that are tuned already; the others are tuned here.
        measures: what else is measured of each model.
    """
    known = dict(tuned or {})
    known |= tune([arm for arm in arms if arm.name not in known], world, setup)
    world = smaller(world, setup)
    jobs = {
        arm.name: [
            Job(
                world=at_seed(world, seed, quick=setup.quick),
                arm=arm,
                tuned=known[arm.name],
                seed=seed,
                goals=tuple(dict.fromkeys((arm.goal, *(goals or {}).get(arm.name, ())))),
                measures=tuple(measures),
                prompts=QUICK_TEST if setup.quick else TEST,
            )
            for seed in seeds_of(setup)
        ]
        for arm in arms
    }
    found = run_jobs([job for each in jobs.values() for job in each], label="seeds")
    return {arm.name: Measured(arm, known[arm.name], tuple(found[job] for job in jobs[arm.name])) for arm in arms}


def base_found(world: World, setup: Setup, goals: Sequence[Goal | None], measures: Sequence[str] = ()) -> Measured:
    """The base as it is, asked with each seed."""
    jobs = [
        Job(
            world=at_seed(world, seed, quick=setup.quick),
            arm=None,
            tuned=None,
            seed=seed,
            goals=tuple(goals),
            measures=tuple(measures),
            prompts=QUICK_TEST if setup.quick else TEST,
        )
        for seed in seeds_of(setup)
    ]
    found = run_jobs(jobs, label="base")
    return Measured(Arm(name="base"), Tuned(rate=0.0, strength=0.0), tuple(found[job] for job in jobs))


def difference(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> Interval:
    """Mean of `one` less `other`, and its 95% interval over seeds and instructions.

    Both are values for each seed, of each instruction: [S][P]. Differences are paired, by seed and instruction, and
    both seeds and instructions are drawn again: other ones could have been taken of either.

    Five seeds are few: where they alone differ, the bootstrap would hold the truth 84 times in 100 and not 95, which is
    `P(|t_4| < 1.96 sqrt(4/5))`. So an end lies where Student's t interval over the seeds' means has it, if that reaches
    further.

    Source: Owen 2007, The pigeonhole bootstrap, Annals of Applied Statistics 1(2).
    """
    return level(np.subtract(one, other))


def level(values: Sequence[Sequence[float]] | NDArray[np.float64]) -> Interval:
    """Mean of values [S][P], and its 95% interval, as `difference` has it; `n` is the number of seeds."""
    table = np.asarray(values, dtype=np.float64)
    seeds, prompts = table.shape
    random = np.random.default_rng(0)
    drawn = [
        table[np.ix_(random.integers(0, seeds, seeds), random.integers(0, prompts, prompts))].mean()
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    over_seeds = mean_interval(table.mean(axis=1))
    return Interval(
        float(table.mean()), float(np.fmin(low, over_seeds.low)), float(np.fmax(high, over_seeds.high)), seeds
    )


def row_of(measured: Measured, **more: Any) -> dict[str, Any]:
    """A line of a claim's table: the arm, what it is asked for, gold with its interval, and its tuned numbers."""
    gold = level(measured.own)
    numbers = measured.tuned
    return {
        "arm": measured.arm.name,
        "asked": said(measured.arm.goal),
        "gold": round(gold.value, 3),
        "low": round(gold.low, 3),
        "high": round(gold.high, 3),
        "rate": numbers.rate,
        "strength": numbers.strength,
        "sft": numbers.sft,
        "smoothing": numbers.smoothing,
    } | more


def seconds_of(*parts: Measured) -> float:
    """Seconds on one core that the seeds of these arms took."""
    return round(sum(part.seconds for part in parts), 1)


def _best(arms: Sequence[Arm], tried: Mapping[str, Sequence[Tuned]], worlds: Mapping[int, World]) -> dict[str, Tuned]:
    """By the arm's name, what has the highest mean gold over the tuning seeds, whose worlds these are."""
    jobs = {
        (arm.name, tuned): [validation(arm, tuned, world, seed) for seed, world in worlds.items()]
        for arm in arms
        for tuned in tried[arm.name]
    }
    found = run_jobs([job for each in jobs.values() for job in each], label="tuning")
    gold = {key: mean_gold([found[job] for job in each]) for key, each in jobs.items()}
    return {arm.name: max(tried[arm.name], key=lambda tuned: gold[arm.name, tuned]) for arm in arms}


def validation(arm: Arm, tuned: Tuned, world: World, seed: int) -> Job:
    """A training whose model answers validation instructions, asked for the arm's goal."""
    return Job(world=world, arm=arm, tuned=tuned, seed=seed, part="validation", goals=(arm.goal,), prompts=VALIDATION)


def mean_gold(found: Sequence[Mapping[str, Any]]) -> float:
    """Mean gold of the first goal of several jobs, all answers alike."""
    return float(np.mean([next(iter(each["gold"].values())) for each in found]))


def _beside(best: Tuned, count: int) -> list[Tuned]:
    """The same with so many learning rates around it, the nearest first."""
    steps = [sign * far for far in range(1, count + 1) for sign in (1, -1)]
    return [replace(best, rate=float(f"{best.rate * BESIDE**step:.2g}")) for step in steps[: max(0, count)]]
