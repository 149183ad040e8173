"""The seeds of the language claims, and the base that each of them has."""

from dataclasses import replace

from pairwright.reproduce.claim import Setup
from pairwright.reproduce.language.setting import Base, World

FIRST = 3000
"""The first seed of the claims: with smaller ones the setting was looked for, and nothing is measured with those."""
TUNING = (1000, 1001)
"""Seeds of the trainings on validation instructions, each of data, order, answers and a base of its own. What is best
for one base need not be for another: on one that can hardly be improved, the best is to change nothing."""
QUICK = 0
"""The seed of the one base that a quick look has for all."""

UNTUNED = Base(width=32)
"""A base whose trainings have fixed numbers."""
BASES = (Base(), Base(rated=0.0), Base(error=3.0), UNTUNED)
"""The kinds of base models that the claims are about."""


def seeds_of(setup: Setup) -> range:
    """The seeds that a claim repeats its experiment with."""
    return range(FIRST, FIRST + setup.seeds)


def tuning_seeds(*, quick: bool) -> tuple[int, ...]:
    """The seeds that numbers are tuned with; a quick look takes the first."""
    return TUNING[:1] if quick else TUNING


def at_seed(world: World, seed: int, *, quick: bool) -> World:
    """The world over the base of a seed.

    Every seed has a base of its own: what a base has learnt of scores differs from one to the next, and an interval
    over trainings of one base would not know of it. All arms have the same base in a seed. A quick look makes one base
    and is about that one.
    """
    return replace(world, base=replace(world.base, seed=QUICK if quick else seed))


def bases(setup: Setup) -> set[Base]:
    """Every base of the claims, for whoever checks all of them: together they are made in half of the time."""
    if setup.quick:
        return {replace(base, seed=QUICK) for base in BASES}
    made = {replace(base, seed=seed) for base in BASES for seed in seeds_of(setup)}
    return made | {replace(base, seed=seed) for base in BASES if base != UNTUNED for seed in TUNING}
