"""Which pairs teach a language model most: selection by alignment potential, over shares and rounds; and self-play.

The judge of these worlds errs by two points, so that some of the labels are wrong; pairs are the best against the
worst of four answers, as in the paper.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pairwright.charts import Chart, Series
from pairwright.evaluate.result import Metric
from pairwright.reproduce.claim import Outcome, Setup
from pairwright.reproduce.language import bench
from pairwright.reproduce.language.arms import PLAIN
from pairwright.reproduce.language.data_selecting import POTENTIAL, ROUNDS, UNIFORM, WAYS
from pairwright.reproduce.language.pool import run_jobs
from pairwright.reproduce.language.seeds import at_seed, seeds_of, tuning_seeds
from pairwright.reproduce.language.setting import Arm, Call, Tuned, World
from pairwright.reproduce.verdicts import all_of, verdict_of
from pairwright.stats import Interval, mean_interval

SHARE = 0.4
SHARES = (0.2, 0.4, 0.6, 1.0)
NOISY = World(judge="weak", rule="best_worst")
ABLE = replace(NOISY, weak=0.0)
"""The same without instructions that only weak authors answered, and so without refusals among the pairs."""
JUDGES = {
    "strong": replace(NOISY, judge="strong"),
    "weak": NOISY,
    "weak, noise 2": replace(NOISY, noise=2.0),
    "weak, noise 4": replace(NOISY, noise=4.0),
}
SIGNED = "signed_potential"
SHORT = {POTENTIAL: "potential", "explicit_gap": "gap", "implicit_margin": "margin", SIGNED: "M_+", UNIFORM: "uniform"}
HERE = "pairwright.reproduce.language.data_selecting"


def arm_of(metric: str, keep: float) -> Arm:
    """DPO on the share `keep` of the pairs by a metric; all of them is plain DPO."""
    if keep == 1.0:
        return PLAIN
    settings = (("keep", keep), ("metric", metric))
    return Arm(name=f"{SHORT[metric]} {keep:.0%}", data=f"{HERE}:selected", data_settings=settings)


def shown(interval: Interval) -> str:
    """A difference with its ends, as sentences have it."""
    return f"{interval.value:+.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def potential_top_40(setup: Setup) -> Outcome:
    """The 40% of the pairs by each metric, a training at equal steps on each, every arm tuned for itself."""
    arms = {metric: arm_of(metric, SHARE) for metric in WAYS}
    found = bench.measure(list(arms.values()), NOISY, setup)
    by = {metric: found[arm.name] for metric, arm in arms.items()}
    able = bench.measure(
        [arms[POTENTIAL], arms[UNIFORM]], ABLE, setup, tuned={name: found[name].tuned for name in found}
    )
    without = bench.difference(able[arms[POTENTIAL].name].own, able[arms[UNIFORM].name].own)
    refuses = {metric: _refusals(by[metric]) for metric in WAYS}
    right = labels_of(NOISY, setup)
    rivals = {metric: bench.difference(by[POTENTIAL].own, by[metric].own) for metric in WAYS if metric != POTENTIAL}
    parts = [verdict_of(each) for each in rivals.values()]
    said = ", ".join(f"{SHORT[metric]} {shown(each)}" for metric, each in rivals.items())
    refused = ", ".join(f"{SHORT[metric]} {share:.0%}" for metric, share in refuses.items())
    shares = ", ".join(f"{SHORT[metric]} {_mean(right, 'right', metric):.0%}" for metric in WAYS)
    return Outcome(
        verdict=all_of(parts),
        says=f"Gold after training on the 40% by alignment potential less that by others: {said}. "
        f"Labels that are right: {shares}, of all pairs {_mean(right, 'right', 'all'):.0%}. "
        f"The pairs by gap are {_mean(right, 'shared', 'explicit_gap'):.0%} the same as those by potential, and those "
        f"by M_+ {_mean(right, 'shared', SIGNED):.0%}. Of the trained models' answers, refusals are "
        f"{refused}. In a world without weak authors, half of whose answers are refusals, potential less uniform is "
        f"{shown(without)}, with the same numbers.",
        metrics=tuple(
            [
                Metric.of(f"gold/{SHORT[metric]}", each, f"Gold, potential less {SHORT[metric]}; cases are seeds.")
                for metric, each in rivals.items()
            ]
            + [
                Metric.of(
                    "gold_without_weak_authors/uniform", without, "Gold, potential less uniform, no weak authors."
                )
            ]
            + [
                Metric.of(
                    f"right/{SHORT[metric]}",
                    mean_interval([each["right"][metric] for each in right]),
                    f"Share of right labels among the 40% by {SHORT[metric]}; cases are seeds.",
                )
                for metric in WAYS
            ]
        ),
        table=tuple(
            bench.row_of(by[metric], refuses=round(refuses[metric], 4), **_facts(right, metric)) for metric in WAYS
        ),
        seconds=round(bench.seconds_of(*by.values(), *able.values()) + sum(each["seconds"] for each in right), 1),
    )


def potential_picks_right_labels(setup: Setup) -> Outcome:
    """Right labels among the 40% by potential and among those by M_+, under four judges; nothing is trained."""
    by = {judge: labels_of(world, setup) for judge, world in JUDGES.items()}
    gains = {
        judge: mean_interval([each["right"][POTENTIAL] - each["right"][SIGNED] for each in found])
        for judge, found in by.items()
    }
    against = {judge: _mean(found, "against", SIGNED) for judge, found in by.items()}
    said = "; ".join(
        f"{judge}: {_mean(by[judge], 'right', POTENTIAL):.1%} against {_mean(by[judge], 'right', SIGNED):.1%} "
        f"({100 * gain.value:+.1f} points [{100 * gain.low:.1f}, {100 * gain.high:.1f}])"
        for judge, gain in gains.items()
    )
    judges = list(JUDGES)
    return Outcome(
        verdict=all_of([verdict_of(gain) for gain in gains.values()]),
        says=f"Right labels of the 40% by alignment potential against those by M_+: {said}. Under the weak judge the "
        f"base orders {against['weak']:.0%} of the pairs by M_+ the other way than their labels, and "
        f"{_mean(by['weak'], 'against', POTENTIAL):.0%} of those by potential. The explicit gap alone has "
        f"{_mean(by['weak'], 'right', 'explicit_gap'):.1%} right there.",
        metrics=tuple(
            Metric.of(
                f"right/{judge}",
                gain,
                f"Share of right labels, potential less M_+, judge {judge}; cases are seeds.",
            )
            for judge, gain in gains.items()
        ),
        table=tuple(
            {"judge": judge, "pairs": name} | _facts(by[judge], name) for judge in judges for name in (*WAYS, "all")
        ),
        charts=(
            Chart(
                id="right",
                title="Right labels among the pairs that each metric takes",
                says="How many of the labels are right falls as the judge errs more.",
                x="judge",
                y="share of right labels",
                kind="bar",
                series=[
                    Series(
                        name=SHORT.get(name, name), x=judges, y=[_mean(by[judge], "right", name) for judge in judges]
                    )
                    for name in (*WAYS, "all")
                ],
            ),
        ),
        seconds=round(sum(each["seconds"] for found in by.values() for each in found), 1),
    )


def potential_over_sizes(setup: Setup) -> Outcome:
    """Potential against an even draw over shares of the pairs, all with plain DPO's tuned numbers."""
    shares = (SHARE, 1.0) if setup.quick else SHARES
    tuned = bench.tune([PLAIN], NOISY, setup)[PLAIN.name]
    arms = {(metric, keep): arm_of(metric, keep) for metric in (POTENTIAL, UNIFORM) for keep in shares}
    each = list(dict.fromkeys(arms.values()))
    found = bench.measure(each, NOISY, setup, tuned={arm.name: tuned for arm in each})
    by = {key: found[arm.name] for key, arm in arms.items()}
    less = [keep for keep in shares if keep < 1.0]
    gains = {keep: bench.difference(by[POTENTIAL, keep].own, by[UNIFORM, keep].own) for keep in less}
    whole = {keep: bench.difference(by[POTENTIAL, keep].own, found[PLAIN.name].own) for keep in less}
    said = ", ".join(f"{keep:.0%} {shown(gain)}" for keep, gain in gains.items())
    all_said = ", ".join(f"{keep:.0%} {shown(gain)}" for keep, gain in whole.items())
    return Outcome(
        verdict=all_of([verdict_of(gain) for gain in gains.values()]),
        says=f"Gold with the pairs by alignment potential less that with as many drawn evenly, at equal steps and with "
        f"plain DPO's tuned numbers: {said}. Less that with all pairs: {all_said}.",
        metrics=tuple(
            [
                Metric.of(f"gold/{keep:.0%}", gain, f"Gold, {keep:.0%} by potential less as many drawn evenly.")
                for keep, gain in gains.items()
            ]
            + [
                Metric.of(f"less_all/{keep:.0%}", gain, f"Gold, {keep:.0%} by potential less all pairs.")
                for keep, gain in whole.items()
            ]
        ),
        table=tuple(bench.row_of(found[arm.name]) for arm in each),
        charts=(
            Chart(
                id="shares",
                title="Gold over the share of the pairs",
                says="At 100% both are plain DPO.",
                x="share of the pairs",
                y="gold",
                series=[
                    _line(SHORT[metric], list(shares), [by[metric, keep].own for keep in shares])
                    for metric in (POTENTIAL, UNIFORM)
                ],
            ),
        ),
        seconds=bench.seconds_of(*found.values()),
    )


def potential_over_rounds(setup: Setup) -> Outcome:
    """Three rounds of self-play, with 40% of each round's pairs by potential, and 40% drawn evenly."""
    tuned, found = played(setup)
    golds = {metric: _by_round(found[metric]) for metric in found}
    gains = [bench.difference(golds[POTENTIAL][turn], golds[UNIFORM][turn]) for turn in range(1, ROUNDS + 1)]
    said = ", ".join(f"{turn} {shown(gain)}" for turn, gain in enumerate(gains, 1))
    right = {metric: _mean_of([share for each in found[metric] for share in each["right"]]) for metric in found}
    kl = {metric: _mean_of([each["kl"][ROUNDS] for each in found[metric]]) for metric in found}
    return Outcome(
        verdict=all_of([verdict_of(each) for each in gains]),
        says=f"Gold after each round, selection by alignment potential less an even draw: {said}. "
        f"Of the labels {right[POTENTIAL]:.0%} are right by potential and {right[UNIFORM]:.0%} drawn evenly. "
        f"In the end they are {kl[POTENTIAL]:.2f} and {kl[UNIFORM]:.2f} nats from the start.",
        metrics=tuple(
            Metric.of(f"gold/round_{turn}", gain, f"Gold after round {turn}, potential less uniform; cases are seeds.")
            for turn, gain in enumerate(gains, 1)
        ),
        table=_round_rows(tuned, found),
        charts=(_round_chart(golds),),
        seconds=_seconds(found),
    )


def self_play_rounds(setup: Setup) -> Outcome:
    """The same rounds: whether each is better than the one before, and how far they are from the start."""
    tuned, found = played(setup)
    golds = {metric: _by_round(found[metric]) for metric in found}
    steps = [bench.difference(golds[POTENTIAL][turn], golds[POTENTIAL][turn - 1]) for turn in range(1, ROUNDS + 1)]
    whole = {metric: bench.difference(gold[ROUNDS], gold[0]) for metric, gold in golds.items()}
    kl = {metric: mean_interval([each["kl"][ROUNDS] for each in found[metric]]) for metric in found}
    said = ", ".join(shown(step) for step in steps)
    return Outcome(
        verdict=all_of([verdict_of(each) for each in steps]),
        says=f"With pairs by alignment potential gold changes by {said} in rounds 1 to {ROUNDS}, "
        f"{shown(whole[POTENTIAL])} in all, at a KL divergence of {kl[POTENTIAL].value:.2f} nats from the start; with "
        f"an even draw {shown(whole[UNIFORM])} at {kl[UNIFORM].value:.2f} nats.",
        metrics=(
            *(
                Metric.of(f"gain/round_{turn}", step, f"Gold after round {turn} less that before it, by potential.")
                for turn, step in enumerate(steps, 1)
            ),
            *(
                Metric.of(f"gain_in_all/{SHORT[metric]}", each, f"Gold after the last round less the base's, {metric}.")
                for metric, each in whole.items()
            ),
            *(
                Metric.of(f"kl/{SHORT[metric]}", each, f"KL from the base after the last round, nats, {metric}.")
                for metric, each in kl.items()
            ),
        ),
        table=_round_rows(tuned, found),
        charts=(_round_chart(golds),),
        seconds=_seconds(found),
    )


def labels_of(world: World, setup: Setup) -> list[dict[str, Any]]:
    """`data_selecting.labels` for each seed; nothing is trained."""
    worlds = {seed: at_seed(world, seed, quick=setup.quick) for seed in seeds_of(setup)}
    calls = [
        Call(
            function=f"{HERE}:labels",
            settings=(("world", each), ("seed", seed), ("keep", SHARE)),
            bases=(each.base,),
        )
        for seed, each in worlds.items()
    ]
    found = run_jobs(calls, label="labels")
    return [found[call] for call in calls]


def played(setup: Setup) -> tuple[dict[str, Tuned], dict[str, list[dict[str, Any]]]]:
    """Rounds of both arms, by metric: the tuned numbers, and what each seed found.

    Both try the same rates and strengths on validation instructions, and take what has the highest gold in the end.
    """
    world = bench.smaller(NOISY, setup)
    tries = [
        Tuned(rate=rate, strength=strength)
        for rate in bench.RATES
        for strength in (PLAIN.strengths[:1] if setup.quick else PLAIN.strengths)
    ]
    ways = (POTENTIAL, UNIFORM)
    worlds = {seed: at_seed(world, seed, quick=setup.quick) for seed in tuning_seeds(quick=setup.quick)}
    tried = {
        (metric, tuned): [
            _rounds(each, metric, tuned, seed, "validation", bench.VALIDATION) for seed, each in worlds.items()
        ]
        for metric in ways
        for tuned in tries
    }
    seen = run_jobs([call for each in tried.values() for call in each], label="tuning of rounds")
    gold = {key: _mean_of([_mean_of(seen[call]["gold"][ROUNDS]) for call in each]) for key, each in tried.items()}
    best = {metric: max(tries, key=lambda tuned, metric=metric: gold[metric, tuned]) for metric in ways}  # type: ignore[misc]
    prompts = bench.QUICK_TEST if setup.quick else bench.TEST
    calls = {
        (metric, seed): _rounds(at_seed(world, seed, quick=setup.quick), metric, best[metric], seed, "test", prompts)
        for metric in ways
        for seed in seeds_of(setup)
    }
    found = run_jobs(calls.values(), label="rounds")
    return best, {metric: [found[calls[metric, seed]] for seed in seeds_of(setup)] for metric in ways}


def _rounds(world: World, metric: str, tuned: Tuned, seed: int, part: str, prompts: int) -> Call:
    settings = {"world": world, "metric": metric, "keep": SHARE, "tuned": tuned}
    settings |= {"seed": seed, "part": part, "prompts": prompts}
    return Call(function=f"{HERE}:rounds", settings=tuple(settings.items()), bases=(world.base,))


def _by_round(found: Sequence[Mapping[str, Any]]) -> list[list[list[float]]]:
    """Gold after each round: [rounds + 1][seeds][instructions]."""
    return [[each["gold"][turn] for each in found] for turn in range(ROUNDS + 1)]


def _round_rows(
    tuned: Mapping[str, Tuned], found: Mapping[str, Sequence[Mapping[str, Any]]]
) -> tuple[dict[str, Any], ...]:
    rows = []
    for metric, seeds in found.items():
        for turn, golds in enumerate(_by_round(seeds)):
            gold = bench.level(golds)
            rows.append(
                {
                    "arm": SHORT[metric],
                    "round": turn,
                    "gold": round(gold.value, 3),
                    "low": round(gold.low, 3),
                    "high": round(gold.high, 3),
                    "kl": round(_mean_of([each["kl"][turn] for each in seeds]), 3),
                    "right": round(_mean_of([each["right"][turn - 1] for each in seeds]), 3) if turn else None,
                    "rate": tuned[metric].rate,
                    "strength": tuned[metric].strength,
                }
            )
    return tuple(rows)


def _round_chart(golds: Mapping[str, Sequence[Sequence[Sequence[float]]]]) -> Chart:
    return Chart(
        id="rounds",
        title="Gold over rounds of self-play",
        says="Round 0 is the base.",
        x="round",
        y="gold",
        series=[_line(SHORT[metric], list(range(ROUNDS + 1)), gold) for metric, gold in golds.items()],
    )


def _line(name: str, x: Sequence[float], golds: Sequence[Sequence[Sequence[float]]]) -> Series:
    """Gold with its interval at each x; golds are [x][seeds][instructions]."""
    levels = [bench.level(each) for each in golds]
    return Series(
        name=name,
        x=list(x),
        y=[each.value for each in levels],
        low=[each.low for each in levels],
        high=[each.high for each in levels],
    )


def _facts(found: Sequence[Mapping[str, Any]], name: str) -> dict[str, float]:
    """Of the pairs that a metric takes: means over seeds, as `labels` has them."""
    return {fact: round(_mean(found, fact, name), 4) for fact in ("right", "gold_gap", "against", "shared")}


def _refusals(measured: bench.Measured) -> float:
    """The share of a model's answers that are nothing but a refusal, over seeds and instructions."""
    return bench.level(measured.gold(measured.arm.goal, "refuses")).value


def _mean(found: Sequence[Mapping[str, Any]], fact: str, name: str) -> float:
    return _mean_of([each[fact][name] for each in found])


def _mean_of(values: Sequence[float]) -> float:
    return float(sum(values) / len(values))


def _seconds(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> float:
    return round(sum(float(each["seconds"]) for seeds in found.values() for each in seeds), 1)
