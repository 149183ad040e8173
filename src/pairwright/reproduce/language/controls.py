"""Checks of the claims that set relabelled training against its controls.

Most share the same trainings: plain DPO and RA in the usual world, each with its tuned numbers, asked for nothing and
for several scores (`shared`). Differences are of gold reward, in points of 1 to 10, paired by seed and instruction.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from pairwright.charts import Chart, Series
from pairwright.evaluate.result import Metric
from pairwright.reproduce.claim import Outcome, Setup, Verdict
from pairwright.reproduce.language import bench
from pairwright.reproduce.language.arms import PLAIN, RA, relabelled_as
from pairwright.reproduce.language.bench import Measured
from pairwright.reproduce.language.job import said
from pairwright.reproduce.language.setting import TOP, Arm, Goal, Tuned, World
from pairwright.reproduce.verdicts import all_of, verdict_of
from pairwright.stats import Interval, spearman

GOALS = (2.0, 4.0, 6.0, 8.0, TOP)
BELOW, MOST = 8.0, 7.5
"""Pairs of answers below the first were trained on in the extrapolation; the second is the highest score among them."""
FIXED = 1e-4
"""The learning rate of the one setting that both arms are given in `model_unlearning`, beside the tuned ones."""
RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
"""Learning rates that both arms are given, from small to over-large."""
BETA = 0.1
"""With each of them; without a regulariser."""

_ROOM = "pairwright.reproduce.language.measures_controls"
GOOD_REJECTED = f"{_ROOM}:good_rejected"
HALF = relabelled_as("half_ra")
UNTOPPED = Arm(
    name="ra_below_8",
    data=f"{_ROOM}:relabelled_below",
    data_settings=(("below", BELOW), ("mode", "ra")),
    goal=TOP,
)


class Shared(NamedTuple):
    """The trainings that most claims here look at."""

    plain: Measured
    ra: Measured
    base: Measured

    @property
    def seconds(self) -> float:
        """Of one core."""
        return bench.seconds_of(*self)


def shared(setup: Setup) -> Shared:
    """Plain DPO asked for nothing and for 10, RA and the base asked for every goal, in the usual world."""
    world = World()
    goals = {PLAIN.name: (TOP,), RA.name: GOALS[:-1]}
    found = bench.measure([PLAIN, RA], world, setup, goals=goals, measures=[GOOD_REJECTED])
    base = bench.base_found(world, setup, (None, *GOALS[:3], MOST, *GOALS[3:]))
    return Shared(found[PLAIN.name], found[RA.name], base)


def rates(setup: Setup) -> tuple[float, ...]:
    """`RATES`, and for a quick look two of them."""
    return RATES[1::3] if setup.quick else RATES


def at_rate(rate: float, setup: Setup) -> dict[str, Measured]:
    """Plain DPO and RA with the same numbers; by the arm's name."""
    numbers = Tuned(rate=rate, strength=BETA)
    return bench.measure(
        [PLAIN, RA], World(), setup, tuned={PLAIN.name: numbers, RA.name: numbers}, measures=[GOOD_REJECTED]
    )


def ra_beats_dpo(setup: Setup) -> Outcome:
    """RA asked for 10 against plain DPO at equal steps, each with its best setting."""
    arms = shared(setup)
    gain = bench.difference(arms.ra.own, arms.plain.own)
    start = bench.difference(arms.ra.own, arms.base.gold(TOP))
    sorry = bench.difference(arms.ra.gold(TOP, "refuses"), arms.plain.gold(None, "refuses"))
    return Outcome(
        verdict=verdict_of(gain),
        says=f"RA asked for 10 is {signed(gain)} points of gold from plain DPO at equal steps, and {signed(start)} "
        f"from the untrained base asked for 10{_whose(gain, start)}. "
        f"{_share(arms.plain, None)} of plain DPO's answers and {_share(arms.ra, TOP)} of RA's are refusals.",
        metrics=(
            Metric.of("gain", gain, "Gold of RA asked for 10 less that of plain DPO, seeds and instructions paired."),
            Metric.of("over_base", start, "Gold of RA asked for 10 less that of the base asked for 10."),
            Metric.of("refusals", sorry, "Share of refusals, RA asked for 10 less plain DPO."),
        ),
        table=(
            row(arms.base, None),
            row(arms.base, TOP),
            row(arms.plain, None),
            row(arms.plain, TOP),
            row(arms.ra, TOP),
        ),
        seconds=arms.seconds,
    )


def _whose(gain: Interval, start: Interval) -> str:
    """Whether there is a gain over plain DPO that the base does not have when it is asked."""
    if gain.low <= 0 or start.low > 0:
        return ""
    return ": what it has more than plain DPO, its base had when it was asked"


def half_ra_beats_dpo(setup: Setup) -> Outcome:
    """Half-RA against plain DPO at equal rows and steps; and plain DPO with twice the steps against RA."""
    arms = shared(setup)
    half = bench.measure([HALF], World(), setup)[HALF.name]
    steps = bench.smaller(World(), setup).steps
    longer_world = World(steps=2 * World().steps)
    twice = bench.measure([PLAIN], longer_world, setup, tuned={PLAIN.name: arms.plain.tuned})[PLAIN.name]
    gain = bench.difference(half.own, arms.plain.own)
    compute = bench.difference(arms.ra.own, twice.own)
    longer = bench.difference(twice.own, arms.plain.own)
    return Outcome(
        verdict=all_of([verdict_of(gain), verdict_of(compute)]),
        says=f"Half-RA asked for 10, with as many rows and steps as plain DPO, is {signed(gain)} points of gold from "
        f"it. RA is {signed(compute)} from plain DPO with twice the steps, which is {signed(longer)} from plain DPO.",
        metrics=(
            Metric.of("half_ra", gain, "Gold of half-RA asked for 10 less that of plain DPO, equal rows and steps."),
            Metric.of("compute", compute, "Gold of RA asked for 10 less that of plain DPO with twice the steps."),
            Metric.of("longer", longer, "Gold of plain DPO with twice the steps less that with as many as RA."),
        ),
        table=(
            row(arms.plain, None, steps=steps),
            row(twice, None, steps=2 * steps),
            row(half, TOP, steps=steps),
            row(arms.ra, TOP, steps=steps),
        ),
        seconds=round(arms.seconds + bench.seconds_of(half, twice), 1),
    )


def goal_beyond_prompt(setup: Setup) -> Outcome:
    """RA asked for 10 against plain DPO and the base, whose prompt alone asks for 10."""
    arms = shared(setup)
    over_plain = bench.difference(arms.ra.own, arms.plain.gold(TOP))
    over_base = bench.difference(arms.ra.own, arms.base.gold(TOP))
    by_prompt = bench.difference(arms.plain.gold(TOP), arms.plain.own)
    base_by_prompt = bench.difference(arms.base.gold(TOP), arms.base.gold(None))
    verdict = all_of([verdict_of(over_plain), verdict_of(over_base)])
    why = (
        ""
        if verdict == "holds"
        else f" The base knows already what a score is: asking it for 10 is worth {signed(base_by_prompt)} before any "
        "training, and relabelled training has that much less to add."
    )
    return Outcome(
        verdict=verdict,
        says=f"RA asked for 10 is {signed(over_plain)} points of gold from plain DPO asked for 10, and "
        f"{signed(over_base)} from the base asked for 10. The goal in the prompt alone is worth {signed(by_prompt)} to "
        f"plain DPO.{why}",
        metrics=(
            Metric.of("over_plain", over_plain, "Gold of RA less that of plain DPO, both asked for 10."),
            Metric.of("over_base", over_base, "Gold of RA less that of the base, both asked for 10."),
            Metric.of("by_prompt", by_prompt, "Gold of plain DPO asked for 10 less asked for nothing."),
            Metric.of("base_by_prompt", base_by_prompt, "Gold of the base asked for 10 less asked for nothing."),
        ),
        table=(
            row(arms.base, None),
            row(arms.base, TOP),
            row(arms.plain, None),
            row(arms.plain, TOP),
            row(arms.ra, TOP),
        ),
        seconds=arms.seconds,
    )


def model_goals_steer(setup: Setup) -> Outcome:
    """RA asked for 2 to 10, against the base asked so; and RA trained on pairs below 8, asked for more."""
    arms = shared(setup)
    asked = (*GOALS[:3], MOST, TOP)
    below = bench.measure([UNTOPPED], World(), setup, goals={UNTOPPED.name: asked[:-1]})[UNTOPPED.name]
    rank = bench.level(ranks(arms.ra, GOALS))
    taught = bench.level(np.subtract(ranks(arms.ra, GOALS), ranks(arms.base, GOALS)))
    error = bench.level(errors(arms.ra, GOALS))
    nearer = bench.level(np.subtract(errors(arms.ra, GOALS), errors(arms.base, GOALS)))
    rises = [bench.difference(arms.ra.gold(high), arms.ra.gold(low)) for low, high in pairwise(GOALS)]
    beyond = bench.difference(below.gold(TOP), below.gold(MOST))
    own = bench.difference(arms.base.gold(TOP), arms.base.gold(MOST))
    untaught = " That the answers follow the goal comes of the base's own sense of scores: training adds nothing to it."
    parts = [verdict_of(each) for each in (rank, taught, beyond)]
    return Outcome(
        verdict=all_of(parts),
        says=f"Goal and gold have a rank correlation of {rank.value:.2f} [{rank.low:.2f}, {rank.high:.2f}] under RA, "
        f"{signed(taught)} from that of its base; an answer is {error.value:.2f} points from what was asked, "
        f"{signed(nearer)} from the base. Trained on pairs below {BELOW:g}, RA asked for 10 is {signed(beyond)} from "
        f"itself asked for {MOST:g}; its base does {signed(own)} untrained.{'' if taught.low > 0 else untaught}",
        metrics=(
            Metric.of("rank", rank, "Spearman's correlation of goal and gold, mean over held-out instructions, RA."),
            Metric.of("taught", taught, "The same, RA less its base."),
            *(
                Metric.of(f"rise/{high:g}", rise, f"Gold of RA asked for {high:g} less asked for {low:g}.")
                for (low, high), rise in zip(pairwise(GOALS), rises, strict=True)
            ),
            Metric.of("error", error, "Distance of gold from the goal, mean over goals and instructions, RA."),
            Metric.of("nearer", nearer, "The same, RA less its base; below 0 RA is nearer."),
            Metric.of("beyond", beyond, f"Gold of RA trained below {BELOW:g}, asked for 10 less for {MOST:g}."),
            Metric.of("base_beyond", own, f"The same of the base: asked for 10 less for {MOST:g}."),
            Metric.of(
                "below_over_base",
                bench.difference(below.own, arms.base.gold(TOP)),
                f"Gold of RA trained below {BELOW:g} less that of the base, both asked for 10.",
            ),
        ),
        table=(
            *(row(arms.ra, goal) for goal in GOALS),
            *(row(below, goal) for goal in asked),
            *(row(arms.base, goal) for goal in (*GOALS[:3], MOST, *GOALS[3:])),
        ),
        charts=(
            Chart(
                id="steering",
                title="Gold reward by the score that is asked for",
                says="How steeply the answers follow the goal, and how near they come to it.",
                x="score asked for",
                y="gold reward",
                series=[
                    _curve("RA", arms.ra, GOALS),
                    _curve(f"RA, trained below {BELOW:g}", below, asked),
                    _curve("base", arms.base, GOALS),
                    Series(name="asked = given", x=list(GOALS), y=list(GOALS), reference=True),
                ],
            ),
        ),
        seconds=round(arms.seconds + bench.seconds_of(below), 1),
    )


def ranks(measured: Measured, goals: Sequence[Goal]) -> list[list[float]]:
    """Spearman's correlation of goal and gold, for each seed of each instruction; 0 where gold is always the same."""
    each = np.stack([measured.gold(goal) for goal in goals], axis=-1)
    asked = np.asarray(goals, dtype=np.float64)
    return [[0.0 if np.ptp(gold) == 0 else spearman(asked, gold).value for gold in seed] for seed in each]


def errors(measured: Measured, goals: Sequence[float]) -> list[list[float]]:
    """Distance of gold from the goal, mean over goals, for each seed of each instruction."""
    far = np.stack([np.abs(np.asarray(measured.gold(goal)) - goal) for goal in goals])
    found: list[list[float]] = far.mean(axis=0).tolist()
    return found


class Kept(NamedTuple):
    """How likely good rejected answers are, as read in one way: differences in nats, over seeds and instructions."""

    start: Interval
    ra: Interval
    plain: Interval
    base_over_ra: Interval
    plain_loss: Interval
    ra_over_plain: Interval
    nearer: Interval

    @property
    def verdict(self) -> Verdict:
        """Of the order: the base above RA, RA above plain DPO and by more than RA is below the base."""
        return all_of([verdict_of(each) for each in (self.base_over_ra, self.ra_over_plain, self.nearer)])


def kept(plain: Measured, ra: Measured, read: str, of: str) -> Kept:
    """The order of base, RA and plain DPO.

    Args:
        plain: plain DPO, read without a goal in every case: it was trained on none.
        ra: RA.
        read: under which goal RA and its base are read: `none`, `top` or `rejected`.
        of: `sum` over an answer's tokens, or their `mean`.
    """
    start, ours = (np.asarray(_read(ra, read, name)) for name in (f"start_{of}", of))
    theirs, first = (np.asarray(_read(plain, "none", name)) for name in (of, f"start_{of}"))
    # What a training takes away is counted from the start under the same prompt.
    lost, taken = start - ours, first - theirs
    return Kept(
        start=bench.level(start),
        ra=bench.level(ours),
        plain=bench.level(theirs),
        base_over_ra=bench.level(lost),
        plain_loss=bench.level(taken),
        ra_over_plain=bench.level(taken - lost),
        nearer=bench.level(taken - 2 * lost),
    )


def _read(measured: Measured, read: str, of: str) -> list[list[float]]:
    return [found["measures"][GOOD_REJECTED][read][of] for found in measured.found]


READS = {"none": "no goal", "top": "the goal 10", "rejected": "its own score as the goal"}
"""Under which goal RA and its base are read: the paper does not say; no goal is the headline."""


def model_unlearning(setup: Setup) -> Outcome:
    """Log-probabilities of good rejected answers to held-out instructions: the base, RA and plain DPO."""
    arms = shared(setup)
    equal_at = {rate: at_rate(rate, setup) for rate in sorted({FIXED, *rates(setup)})}
    fixed = equal_at[FIXED]
    settings = {"tuned": (arms.plain, arms.ra), "equal": (fixed[PLAIN.name], fixed[RA.name])}
    found = {
        (setting, read, of): kept(*each, read, of)
        for setting, each in settings.items()
        for read in READS
        for of in ("sum", "mean")
    }
    tuned, equal = found["tuned", "none", "sum"], found["equal", "none", "sum"]
    own = found["equal", "rejected", "sum"].base_over_ra
    by_rate = {rate: kept(each[PLAIN.name], each[RA.name], "none", "sum") for rate, each in equal_at.items()}
    equals = {(f"equal, {rate:g}", "none", "sum"): each for rate, each in by_rate.items() if rate != FIXED}
    there = ", ".join(f"{rate:g}" for rate, each in by_rate.items() if each.verdict == "holds")
    lost = ", ".join(
        f"{each.base_over_ra.value:.2f} and {each.plain_loss.value:.2f} at {rate:g}" for rate, each in by_rate.items()
    )
    return Outcome(
        verdict=all_of([tuned.verdict, equal.verdict]),
        says=f"Read without a goal, good rejected answers lose {_nats(tuned.base_over_ra)} nats by RA and "
        f"{_nats(tuned.plain_loss)} by plain DPO at the tuned numbers; at one equal setting "
        f"{_nats(equal.base_over_ra)} and {_nats(equal.plain_loss)}. Asked for their own score they lose "
        f"{_nats(own)} by RA there (below 0 they gain). It is a matter of the steps: at equal learning rates RA and "
        f"plain DPO take {lost}, and the order holds at {there or 'none'}.",
        metrics=tuple(
            Metric.of(
                f"{name}/{setting}/{read}/{of}",
                getattr(each, name),
                f"{says}; {of} over tokens, read with {READS[read]}, {setting} numbers.",
            )
            for (setting, read, of), each in found.items()
            for name, says in (
                ("base_over_ra", "Log-probability of good rejected answers in nats, base less RA"),
                ("ra_over_plain", "What plain DPO takes from them in nats, less what RA takes"),
            )
        ),
        table=tuple(
            {
                "numbers": setting,
                "read": READS[read],
                "of": of,
                "base": round(each.start.value, 3),
                "ra": round(each.ra.value, 3),
                "plain": round(each.plain.value, 3),
                "lost_by_ra": round(each.base_over_ra.value, 3),
                "lost_by_plain": round(each.plain_loss.value, 3),
                "order": each.verdict,
            }
            for (setting, read, of), each in (*found.items(), *equals.items())
        ),
        charts=(
            Chart(
                id="unlearning",
                title="Nats taken from good rejected answers, by learning rate",
                says="What plain DPO and RA unlearn at equal steps, read without a goal.",
                x="largest learning rate",
                y="nats less than at the start",
                series=[
                    _lost("RA", {rate: each.base_over_ra for rate, each in by_rate.items()}),
                    _lost("plain DPO", {rate: each.plain_loss for rate, each in by_rate.items()}),
                ],
            ),
        ),
        seconds=round(
            arms.seconds + bench.seconds_of(*(arm for each in equal_at.values() for arm in each.values())), 1
        ),
    )


def row(measured: Measured, goal: Goal | None, **more: Any) -> dict[str, Any]:
    """A line of a table: an arm asked for a goal, its gold with its interval, and its share of refusals."""
    gold = bench.level(measured.gold(goal))
    numbers = {name: None for name in ("rate", "strength", "sft", "smoothing")} if measured.arm.name == "base" else {}
    return (
        bench.row_of(measured)
        | {"asked": said(goal), "gold": round(gold.value, 3), "low": round(gold.low, 3), "high": round(gold.high, 3)}
        | {"refuses": round(bench.level(measured.gold(goal, "refuses")).value, 3)}
        | numbers
        | more
    )


def signed(interval: Interval) -> str:
    """`+1.35 [1.10, 1.63]`."""
    return f"{interval.value:+.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _nats(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _share(measured: Measured, goal: Goal | None) -> str:
    return f"{bench.level(measured.gold(goal, 'refuses')).value:.0%}"


def _curve(name: str, measured: Measured, goals: Sequence[float]) -> Series:
    gold = [bench.level(measured.gold(goal)) for goal in goals]
    return Series(
        name=name,
        x=list(goals),
        y=[each.value for each in gold],
        low=[each.low for each in gold],
        high=[each.high for each in gold],
    )


def _lost(name: str, by_rate: dict[float, Interval]) -> Series:
    return Series(
        name=name,
        x=[f"{rate:g}" for rate in by_rate],
        y=[each.value for each in by_rate.values()],
        low=[each.low for each in by_rate.values()],
        high=[each.high for each in by_rate.values()],
    )
