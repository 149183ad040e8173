"""Checks of what RA's gain over plain DPO needs: worlds that lack one thing each, and steps that are too large."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import pairwright.worlds.language as world_of
from pairwright.charts import Chart, Series
from pairwright.evaluate.result import Metric
from pairwright.pairing import pair
from pairwright.reproduce.claim import Outcome, Setup, Verdict
from pairwright.reproduce.language import bench, seeds
from pairwright.reproduce.language.arms import PLAIN, RA
from pairwright.reproduce.language.bench import Measured
from pairwright.reproduce.language.controls import BETA, GOOD_REJECTED, at_rate, rates, row, shared, signed
from pairwright.reproduce.language.setting import TOP, Base, Tuned, World
from pairwright.reproduce.verdicts import all_of, decided, verdict_of
from pairwright.stats import Interval

LARGE = 1e-3
"""A learning rate at which RA falls apart without a likelihood term."""
LOW = 2.0
"""A low goal, to see whether the answers follow a goal at all."""
CARELESS = 3.0
"""Standard deviation of the error of the ratings that a base with a poor sense of scores has read, in points."""
LITTLE = 0.1
"""Points of gold that do not matter."""
POOR, HIGH = 4.0, 9.0
"""Chosen answers up to the first are poor winners; those from the second on are near the top."""


@dataclass(frozen=True)
class Lacking:
    """A world that lacks one thing, and what became of the gain there.

    Attributes:
        gain: gold of RA asked for 10 less that of plain DPO, in the usual world.
        without: the same in the world that lacks it.
        drop: the one less the other, seeds and instructions paired.
    """

    gain: Interval
    without: Interval
    drop: Interval

    @property
    def verdict(self) -> Verdict:
        """`holds`: there is a gain, it is smaller without, and what is left is beyond doubt too little to matter.

        That what is left cannot be told from zero is not enough: with few seeds a large rest cannot be either.
        """
        gone = decided(yes=self.without.high < LITTLE, no=self.without.low > 0)
        return all_of([verdict_of(self.gain), verdict_of(self.drop), gone])


def ra_needs_poor_winners(setup: Setup) -> Outcome:
    """The gain in a world where able authors answered every instruction."""
    return _without(World(weak=0.0), "without poor winners", setup)


def ra_needs_sense_of_scores(setup: Setup) -> Outcome:
    """The gain over a base that has read no rated text."""
    return _without(World(base=Base(rated=0.0)), "without a prior sense of scores", setup)


def ra_adds_to_poor_sense(setup: Setup) -> Outcome:
    """RA, asked for 10, against its base asked for 10 and against plain DPO, over a base that read careless ratings."""
    world = World(base=Base(error=CARELESS))
    found = bench.measure([PLAIN, RA], world, setup, goals={PLAIN.name: (TOP,), RA.name: (LOW,)})
    plain, ra = found[PLAIN.name], found[RA.name]
    base = bench.base_found(world, setup, (None, LOW, TOP))
    gain, added = bench.difference(ra.own, plain.own), bench.difference(ra.own, base.gold(TOP))
    prompt = bench.difference(ra.own, plain.gold(TOP))
    return Outcome(
        verdict=all_of([verdict_of(gain), verdict_of(added)]),
        says=f"Over a base that read ratings with an error of {CARELESS:g} points, RA asked for 10 is {signed(gain)} "
        f"points of gold from plain DPO and {signed(added)} from that base asked for 10, so much did the training add; "
        f"it is {signed(prompt)} from plain DPO asked for 10.",
        metrics=(
            Metric.of("gain", gain, "Gold of RA asked for 10 less that of plain DPO."),
            Metric.of("over_base", added, "Gold of RA less that of the base, both asked for 10."),
            Metric.of("over_prompt", prompt, "Gold of RA less plain DPO, both asked for 10."),
        ),
        table=(row(base, None), row(base, TOP), row(plain, None), row(plain, TOP), row(ra, TOP), row(ra, LOW)),
        seconds=bench.seconds_of(plain, ra, base),
    )


def ra_needs_top_scores(setup: Setup) -> Outcome:
    """The gain where authors have half of the words right, so that the best of four is seldom near the top."""
    return _without(World(skill=4.5), "with scarce top scores", setup)


def _without(world: World, where: str, setup: Setup) -> Outcome:
    usual = shared(setup)
    found = bench.measure([PLAIN, RA], world, setup, goals={PLAIN.name: (TOP,), RA.name: (LOW,)})
    plain, ra = found[PLAIN.name], found[RA.name]
    base = bench.base_found(world, setup, (None, LOW, TOP))
    one, two = (np.subtract(first.own, other.own) for first, other in ((usual.ra, usual.plain), (ra, plain)))
    lacking = Lacking(bench.level(one), bench.level(two), bench.difference(one.tolist(), two.tolist()))
    steered = bench.difference(ra.own, ra.gold(LOW))
    prompt = bench.difference(ra.own, plain.gold(TOP))
    untrained = bench.difference(ra.own, base.gold(TOP))
    return Outcome(
        verdict=lacking.verdict,
        says=f"RA asked for 10 is {signed(lacking.gain)} points of gold from plain DPO in the usual world, and "
        f"{signed(lacking.without)} {where}: {_fate(lacking)}. There RA asked for 10 is {signed(steered)} from "
        f"itself asked for {LOW:g}, {signed(untrained)} from its base asked for 10 and {signed(prompt)} from plain DPO "
        "asked for 10.",
        metrics=(
            Metric.of("without", lacking.without, f"Gold of RA asked for 10 less that of plain DPO, {where}."),
            Metric.of("gain", lacking.gain, "The same in the usual world."),
            Metric.of("drop", lacking.drop, "What was lost: the second less the first, seeds and instructions paired."),
            Metric.of("steered", steered, f"Gold of RA asked for 10 less for {LOW:g}, {where}."),
            Metric.of("over_base", untrained, f"Gold of RA less that of the base, both asked for 10, {where}."),
            Metric.of("over_prompt", prompt, f"Gold of RA less plain DPO, both asked for 10, {where}."),
        ),
        table=tuple(
            row(each, goal, world=name) | pairs
            for name, arms, pairs in (
                ("usual", (usual.plain, usual.ra, usual.base), chosen_in(World())),
                (where, (plain, ra, base), chosen_in(world)),
            )
            for each, goal in zip(
                (arms[0], arms[0], arms[1], arms[2], arms[2]), (None, TOP, TOP, None, TOP), strict=True
            )
        ),
        seconds=round(usual.seconds + bench.seconds_of(plain, ra, base), 1),
    )


def _fate(lacking: Lacking) -> str:
    """What became of the gain, in words."""
    if lacking.drop.low <= 0:
        return "more than before" if lacking.drop.high < 0 else "no less that can be told"
    if lacking.without.low > 0:
        return "less, but not gone"
    if lacking.without.high < 0:
        return "turned round"
    return "gone" if lacking.without.high < LITTLE else "less, and what is left cannot be told"


def chosen_in(world: World, *, seed: int = seeds.FIRST) -> dict[str, float]:
    """Chosen answers of a world's pairs: mean score, share of poor ones and share of those near the top."""
    told = {name: getattr(world, name) for name in ("prompts", "skill", "weak", "judge", "noise")}
    scores = pair(world_of.make(**told, seed=seed), rule=world.rule, seed=seed).view("score").collect()
    chosen = scores["score_chosen"].to_numpy()
    return {
        "chosen": round(float(chosen.mean()), 2),
        "poor_winners": round(float((chosen <= POOR).mean()), 3),
        "near_top": round(float((chosen >= HIGH).mean()), 3),
    }


@dataclass(frozen=True)
class AtRate:
    """Both arms at one learning rate."""

    rate: float
    plain: Measured
    ra: Measured

    def margin(self, arm: str) -> Interval:
        """Held-out margins as the arm trains them, in nats: plain without a goal, RA asked for the chosen's score."""
        measured, read = {PLAIN.name: (self.plain, "none"), RA.name: (self.ra, "chosen")}[arm]
        return bench.level([found["measures"][GOOD_REJECTED][read]["margin"] for found in measured.found])


@dataclass(frozen=True)
class ByRate:
    """Both arms at equal learning rates, from small to over-large, neither regularised."""

    each: tuple[AtRate, ...]

    @cached_property
    def gains(self) -> tuple[Interval, ...]:
        """Gold of RA asked for 10 less that of plain DPO, at each rate."""
        return tuple(bench.difference(at.ra.own, at.plain.own) for at in self.each)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The gains."""
        return tuple(
            Metric.of(f"gain/{at.rate:g}", gain, f"Gold of RA asked for 10 less plain DPO, both at {at.rate:g}.")
            for at, gain in zip(self.each, self.gains, strict=True)
        )

    @property
    def rows(self) -> tuple[dict[str, Any], ...]:
        """Lines of a table: plain DPO at each rate, then RA."""
        return (
            *(_line(at, PLAIN.name, at.plain) for at in self.each),
            *(_line(at, RA.name, at.ra) for at in self.each),
        )

    @property
    def arms(self) -> tuple[Measured, ...]:
        """All that was trained."""
        return tuple(arm for at in self.each for arm in (at.plain, at.ra))


def ra_leads_at_small_steps(setup: Setup) -> Outcome:
    """RA asked for 10 less plain DPO at the same learning rates, from small to over-large, neither regularised."""
    found = _by_rate(setup)
    each, gains = found.each, found.gains
    small, large = each[0], each[-1]
    lost = bench.level(np.subtract(small.ra.own, small.plain.own) - np.subtract(large.ra.own, large.plain.own))
    by_rate = ", ".join(f"{signed(gain)} at {at.rate:g}" for at, gain in zip(each, gains, strict=True))
    return Outcome(
        verdict=all_of([verdict_of(gains[0]), verdict_of(lost)]),
        says=f"At equal learning rates and steps, without a regulariser, RA asked for 10 less plain DPO is {by_rate} "
        f"points of gold. From the smallest rate to the largest the lead shrinks by {signed(lost)}. What each reaches "
        "at the rate that is best for it is `ra_beats_dpo`.",
        metrics=(
            *found.metrics,
            Metric.of("lost", lost, "The first of these less the last, seeds and instructions paired."),
        ),
        table=found.rows,
        charts=(
            Chart(
                id="lead",
                title="RA asked for 10 less plain DPO, by learning rate",
                says="Both at the same learning rate, without a regulariser, with 95% intervals.",
                x="largest learning rate",
                y="gold reward, RA less plain DPO",
                series=[
                    Series(
                        name="RA less plain DPO",
                        x=[f"{at.rate:g}" for at in each],
                        y=[gain.value for gain in gains],
                        low=[gain.low for gain in gains],
                        high=[gain.high for gain in gains],
                    ),
                    Series(name="equal", x=[f"{at.rate:g}" for at in each], y=[0.0] * len(each), reference=True),
                ],
            ),
        ),
        seconds=bench.seconds_of(*found.arms),
    )


def ra_with_likelihood(setup: Setup) -> Outcome:
    """RA and plain DPO at one large learning rate with a likelihood term, against RA without, the base and plain DPO.

    The numbers are not tuned: they were found with other bases (docs/log.md).
    """
    usual = shared(setup)
    numbers = Tuned(rate=LARGE, strength=BETA, sft=bench.SFT)
    held = bench.measure(
        [PLAIN, RA], World(), setup, tuned={PLAIN.name: numbers, RA.name: numbers}, goals={PLAIN.name: (TOP,)}
    )
    plain, ra = held[PLAIN.name], held[RA.name]
    bare = at_rate(LARGE, setup)[RA.name]
    borne = bench.difference(ra.own, bare.own)
    added = bench.difference(ra.own, usual.base.gold(TOP))
    over_plain = bench.difference(ra.own, usual.plain.own)
    over_prompt = bench.difference(ra.own, plain.gold(TOP))
    return Outcome(
        verdict=all_of([verdict_of(borne), verdict_of(added)]),
        says=f"At a learning rate of {LARGE:g} with a likelihood term of weight {bench.SFT:g} RA asked for 10 is "
        f"{signed(borne)} points of gold from itself without the term, {signed(added)} from its base asked for 10, and "
        f"{signed(over_plain)} from plain DPO with the numbers that are best for it. Plain DPO with the same term and "
        f"rate, asked for 10, is {signed(over_prompt)} behind it.",
        metrics=(
            Metric.of("over_base", added, "Gold of RA with the term less that of its base, both asked for 10."),
            Metric.of("over_bare", borne, "Gold of RA with the term less without it, at the same rate."),
            Metric.of("over_plain", over_plain, "Gold of RA with the term less that of plain DPO, tuned."),
            Metric.of("over_prompt", over_prompt, "The same less plain DPO with the term, asked for 10 too."),
        ),
        table=(
            row(usual.base, None),
            row(usual.base, TOP),
            row(usual.plain, None),
            row(bare, TOP),
            row(plain, None),
            row(plain, TOP),
            row(ra, TOP),
        ),
        seconds=round(usual.seconds + bench.seconds_of(plain, ra, bare), 1),
    )


def ra_needs_small_steps(setup: Setup) -> Outcome:
    """Both arms at the same learning rates, small to over-large, against the base asked for the same."""
    base = shared(setup).base
    found = _by_rate(setup)
    each, gains = found.each, found.gains
    small, large = each[0], each[-1]
    fall = bench.difference(large.ra.own, small.ra.own)
    ra = bench.difference(large.ra.own, base.gold(TOP))
    both = {
        RA.name: bench.difference(large.ra.own, base.gold(None)),
        PLAIN.name: bench.difference(large.plain.own, base.gold(None)),
    }
    parts = [fall, ra, *both.values()]
    return Outcome(
        verdict=all_of([verdict_of(part, sign=-1) for part in parts]),
        says=f"At a learning rate of {large.rate:g} RA asked for 10 is {signed(fall)} points of gold from itself at "
        f"{small.rate:g}, and {signed(ra)} from the base asked for 10. From the base asked for nothing RA is "
        f"{signed(both[RA.name])} and plain DPO {signed(both[PLAIN.name])}. RA less plain DPO is "
        f"{', '.join(f'{gain.value:+.2f} at {at.rate:g}' for at, gain in zip(each, gains, strict=True))}: RA falls "
        f"{'first' if gains[-1].value < gains[0].value else 'no sooner'}. Held-out margins meanwhile go from "
        f"{small.margin(RA.name).value:.2f} to {large.margin(RA.name).value:.2f} nats (RA) and from "
        f"{small.margin(PLAIN.name).value:.2f} to {large.margin(PLAIN.name).value:.2f} (plain).",
        metrics=(
            Metric.of("fall", fall, "Gold of RA asked for 10, largest learning rate less smallest."),
            Metric.of("ra_below_start", ra, "Gold at the largest rate, RA asked for 10 less the base asked for 10."),
            *(
                Metric.of(
                    f"{name}_below_base", part, f"Gold at the largest rate, {name} less the base asked for nothing."
                )
                for name, part in both.items()
            ),
            *found.metrics,
        ),
        table=(row(base, None), row(base, TOP), *found.rows),
        charts=(
            Chart(
                id="rates",
                title="Gold reward by learning rate",
                says="How large a step each way of training bears, without a regulariser.",
                x="largest learning rate",
                y="gold reward",
                series=[
                    _over("RA asked for 10", each, [at.ra.own for at in each]),
                    _over("plain DPO", each, [at.plain.own for at in each]),
                    _level("base asked for 10", each, base.gold(TOP)),
                    _level("base", each, base.gold(None)),
                ],
            ),
        ),
        seconds=bench.seconds_of(base, *found.arms),
    )


def _by_rate(setup: Setup) -> ByRate:
    found = {rate: at_rate(rate, setup) for rate in rates(setup)}
    return ByRate(tuple(AtRate(rate, at[PLAIN.name], at[RA.name]) for rate, at in found.items()))


def _line(at: AtRate, arm: str, measured: Measured) -> dict[str, Any]:
    return row(measured, measured.arm.goal, margin=round(at.margin(arm).value, 3))


def _over(name: str, each: Sequence[AtRate], gold: Sequence[list[list[float]]]) -> Series:
    levels = [bench.level(table) for table in gold]
    return Series(
        name=name,
        x=[f"{at.rate:g}" for at in each],
        y=[level.value for level in levels],
        low=[level.low for level in levels],
        high=[level.high for level in levels],
    )


def _level(name: str, each: Sequence[AtRate], gold: list[list[float]]) -> Series:
    value = bench.level(gold).value
    return Series(name=name, x=[f"{at.rate:g}" for at in each], y=[value for _ in each], reference=True)
