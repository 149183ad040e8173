"""Trainings that go too far, as curves: gold over beta or over the steps of one epoch, and the distance from the start.

What is best is looked for in other seeds than it is measured in, so that nothing is a peak by its luck.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairwright.reproduce.claim import Setup
from pairwright.reproduce.language import bench
from pairwright.reproduce.language.pool import run_jobs
from pairwright.reproduce.language.seeds import at_seed, seeds_of
from pairwright.reproduce.language.setting import Call, World
from pairwright.stats import Interval

Floats = NDArray[np.float64]

NOMINAL = {"ipo_sum": 0.5}
"""By what a loss's own beta is multiplied from the nominal one; 1 where nothing stands.

Nominal beta is that of `g(beta * margin)`, with `-log_sigmoid(z)` for DPO, `max(0, 1 - z)` for SLiC's hinge and
`(z - 1)^2` for IPO. The last is `ipo_sum` at half of that beta, times `beta^2`, to which Adam's steps are indifferent.
"""
COURSE, QUICK_COURSE = (0.0, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0), (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of an epoch at which a training is looked at as it goes; 0 is the start."""
ENDS, END = (0.0, 1.0), (1.0,)
RATE = 3e-4
QUICK_STEPS, QUICK_RATE = 30, 1e-3
"""A first look has fewer steps, each so much longer that they lead as far."""
WORLD = World(judge="hijackable", rule="every", steps=100)
"""A judge that gives full marks to an answer that praises itself; 100 steps take nine in ten of the pairs, once."""
MATTERS = 0.1
"""Points of gold by which a curve must fall to be called a hump."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A training, but for its seed.

    Attributes:
        loss: of `pairwright list losses`.
        beta: the nominal one.
        world: where.
        more: other settings of the loss.
        checks: shares of the training at which the model is looked at.
    """

    loss: str
    beta: float
    world: World = WORLD
    more: tuple[tuple[str, Any], ...] = ()
    checks: tuple[float, ...] = END


@dataclass(frozen=True)
class Courses:
    """One spec's trainings, seed by seed: what was seen at each check.

    Attributes:
        checks: for each seed, of each check; see `measures_overoptimised.course`.
        seconds: on one core, all seeds.
    """

    checks: tuple[tuple[dict[str, Any], ...], ...]
    seconds: float

    def marks(self, name: str, check: int = -1) -> Floats:
        """A mark of the answers at a check: for each seed, of each held-out instruction, [S, P]."""
        return np.array([seed[check][name] for seed in self.checks], dtype=np.float64)

    def numbers(self, name: str) -> Floats:
        """A number of the model at each check, [S, checks]."""
        return np.array([[check[name] for check in seed] for seed in self.checks], dtype=np.float64)

    def distance(self, check: int = -1) -> Floats:
        """sqrt(KL) from the start at a check, sqrt(nats) for an answer, [S]."""
        found: Floats = np.sqrt(self.marks("kl", check).mean(axis=1))
        return found

    @property
    def steps(self) -> list[int]:
        """Of the checks."""
        return [check["step"] for check in self.checks[0]]


def rate_of(setup: Setup) -> float:
    """The learning rate of all trainings of a setup."""
    return QUICK_RATE if setup.quick else RATE


def call_of(spec: Spec, seed: int, setup: Setup) -> Call:
    """The work of one seed of a spec."""
    quick = setup.quick
    world = at_seed(spec.world, seed, quick=quick)
    if quick:
        world = replace(world, steps=min(world.steps, QUICK_STEPS), prompts=min(world.prompts, bench.QUICK_PROMPTS))
    beta = spec.beta * NOMINAL.get(spec.loss, 1.0)
    return Call(
        function="pairwright.reproduce.language.measures_overoptimised:course",
        settings=(
            ("world", world),
            ("term", (("name", spec.loss), ("beta", beta), *spec.more)),
            ("seed", seed),
            ("rate", rate_of(setup)),
            ("checks", QUICK_COURSE if quick and spec.checks == COURSE else spec.checks),
            ("prompts", bench.QUICK_TEST if quick else bench.TEST),
        ),
        bases=(world.base,),
    )


def courses(specs: Sequence[Spec], setup: Setup, *, label: str) -> dict[Spec, Courses]:
    """The trainings of several specs, with each seed of a setup."""
    calls = {(spec, seed): call_of(spec, seed, setup) for seed in seeds_of(setup) for spec in specs}
    found = run_jobs(calls.values(), label=label)

    def of(spec: Spec) -> Courses:
        seeds = [found[calls[spec, seed]] for seed in seeds_of(setup)]
        return Courses(tuple(tuple(each["checks"]) for each in seeds), sum(float(each["seconds"]) for each in seeds))

    return {spec: of(spec) for spec in specs}


@dataclass(frozen=True)
class Curve:
    """Gold over settings of one loss, and how far each is from the start.

    Attributes:
        at: the settings: betas, or steps.
        gold: [S, settings, P].
        d: sqrt(KL), [S, settings].
        start: gold of the start, [S, P].
    """

    at: tuple[float, ...]
    gold: Floats
    d: Floats
    start: Floats

    @cached_property
    def best(self) -> NDArray[np.intp]:
        """The best setting for each seed, [S]: that of the other seeds."""
        by_seed = self.gold.mean(axis=2)
        found: NDArray[np.intp] = (by_seed.sum(axis=0) - by_seed).argmax(axis=1)
        return found

    @cached_property
    def at_best(self) -> Floats:
        """Gold at the best setting, [S, P]."""
        return self.gold[np.arange(len(self.gold)), self.best]

    @property
    def d_best(self) -> Floats:
        """Distance of the best setting, [S]."""
        return self.d[np.arange(len(self.d)), self.best]

    @cached_property
    def lost(self) -> Floats:
        """Gold at the best setting minus gold at the one that is farthest from the start in the mean, [S, P]."""
        found: Floats = self.at_best - self.gold[:, int(self.d.mean(axis=0).argmax())]
        return found

    @cached_property
    def fall(self) -> Interval:
        """The mean of `lost`."""
        return bench.level(self.lost)

    @cached_property
    def gain(self) -> Interval:
        """Gold at the best setting minus the start's."""
        return bench.difference(self.at_best.tolist(), self.start.tolist())

    @property
    def is_hump(self) -> bool:
        """Beyond doubt above the start at its best, and below its best by what matters where it is farthest."""
        return self.gain.low > 0 and self.fall.low > 0 and self.fall.value > MATTERS

    @property
    def is_no_hump(self) -> bool:
        """Beyond doubt no rise, or no fall that matters."""
        return self.gain.high < 0 or self.fall.high < MATTERS


def over_beta(found: dict[Spec, Courses], specs: Sequence[Spec], start: Floats) -> Curve:
    """The curve of the trainings' ends, one setting for each spec."""
    return Curve(
        tuple(spec.beta for spec in specs),
        np.stack([found[spec].marks("gold") for spec in specs], axis=1),
        np.stack([found[spec].distance() for spec in specs], axis=1),
        start,
    )


def over_steps(each: Courses) -> Curve:
    """The curve of one training as it goes."""
    checks = range(len(each.steps))
    return Curve(
        tuple(float(step) for step in each.steps),
        np.stack([each.marks("gold", check) for check in checks], axis=1),
        np.stack([each.distance(check) for check in checks], axis=1),
        each.marks("gold", 0),
    )
