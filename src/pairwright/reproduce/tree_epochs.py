"""Checks of claims on token trees: when gold turns within one epoch, and what else turns with it.

One epoch of 1,024 pairs for networks that begin at the tree's reference, from which the answers come. Two judges label
the pairs with Bradley and Terry's noise: a `noisy` one by gold, with 20% of the labels turned; and one that can be
`hijacked`: it gives 4 points more to answers that end with a phrase, which are 4
points worse than their other tokens say.
"""

from functools import lru_cache, partial
from typing import Any

import numpy as np

from pairwright.charts import Chart
from pairwright.evaluate.result import Metric
from pairwright.losses import dpo, hinge, ipo_sum
from pairwright.probes.turning import SIGNALS
from pairwright.reproduce.claim import Outcome, Setup
from pairwright.reproduce.tree_policies import Policy, fitted, network, trained
from pairwright.reproduce.trees import drawn_pairs, ends_of, line, over_seeds, signed, tree_seeds
from pairwright.reproduce.verdicts import decided
from pairwright.stats import Interval
from pairwright.worlds.tree import Floats, along, kl, make, normalised, paths, reach, stack

BETAS = (0.01, 0.1, 0.5)
ACTIONS, DEPTH = 4, 4
TREES, WIDTH, SHARP = 12, 16, 2.0
PAIRS, BATCH, CHECKS = 1024, 16, 16
RATES = (0.01, 0.02, 0.05)
"""Step sizes of Adam; the middle one where there is only one."""
HIJACK = 4.0
FLIPS = 0.2
TOP = 2
"""Next tokens whose mass and entropy are read: half of them, as ten of a vocabulary would be all of this one."""
LOSSES = {"dpo": (dpo, "entropy_reversal"), "ipo_sum": (ipo_sum, "entropy_reversal"), "hinge": (hinge, "mass_leak")}
"""The signal that the paper has for each loss."""


def early_decline_noise(setup: Setup) -> Outcome:
    """Gold within an epoch of noisy labels."""
    return _decline(setup, "noisy", "labels of which 20% are turned")


def early_decline_hijack(setup: Setup) -> Outcome:
    """Gold within an epoch of labels from a judge that can be hijacked."""
    return _decline(setup, "hijacked", "labels of a judge that can be hijacked")


def turning_points(setup: Setup) -> Outcome:
    """Do the signals of `probes.turning` fire near the peak of gold, at the smallest beta under the hijacked judge?"""
    rows: list[dict[str, Any]] = []
    fired: dict[str, Interval] = {}
    for name, (_, signal) in LOSSES.items():
        run = _epoch("hijacked", name, BETAS[0], RATES[1], setup.seeds, setup.quick)
        detector = SIGNALS[signal]
        seen = [detector.read(STEPS_AT, curve.tolist()) for curve in run[detector.column].T]
        peaks = [STEPS_AT[int(place)] for place in run["gold"].argmax(axis=0)]
        fell = run["gold"].max(axis=0) > run["gold"][-1]
        hits = np.array([each.fired_at is not None for each in seen], dtype=np.float64)
        apart = [abs(each.fired_at - peak) for each, peak in zip(seen, peaks, strict=True) if each.fired_at is not None]
        fired[name] = over_seeds(hits, setup.seeds)
        rows.append(
            {"loss": name, "signal": signal, "trainings": len(seen), "gold_falls": round(float(fell.mean()), 4)}
            | ends_of(fired[name], "fired")
            | {
                "steps_from_peak": round(float(np.mean(apart)), 1) if apart else None,
                "entropy_before": round(float(run["top_entropy"][0].mean()), 4),
                "entropy_after": round(float(run["top_entropy"][-1].mean()), 4),
                "mass_before": round(float(run["top_mass"][0].mean()), 4),
                "mass_after": round(float(run["top_mass"][-1].mean()), 4),
            }
        )
    lower = [row["gold_falls"] for row in rows]
    near = [row["steps_from_peak"] for row in rows]
    quarter = STEPS_AT[-1] / 4
    return Outcome(
        verdict=decided(
            yes=all(each.low > 0.5 for each in fired.values()) and all(n is not None and n <= quarter for n in near),
            no=any(each.high < 0.5 for each in fired.values()),
        ),
        says="The signal that the paper has for a loss fires in "
        f"{', '.join(f'{fired[name].value:.0%} ({name})' for name in fired)} of trainings; gold ends below its peak in "
        f"{', '.join(f'{share:.0%}' for share in lower)}. The entropy of the top {TOP} next tokens goes from "
        f"{rows[0]['entropy_before']:.2f} to {rows[0]['entropy_after']:.2f} bits with DPO, and their mass from "
        f"{rows[-1]['mass_before']:.2f} to {rows[-1]['mass_after']:.2f} with hinge. The signals wait for a rise of "
        "entropy that turns, as in the paper, and for a fall of mass: a policy that only sharpens shows neither.",
        metrics=tuple(
            Metric.of(f"fired/{name}", each, "Share of trainings in which the loss's signal fired; trees of a seed.")
            for name, each in fired.items()
        ),
        table=tuple(rows),
        charts=tuple(_turning_chart(setup, column) for column in ("gold", "top_entropy", "top_mass")),
    )


STEPS_AT = tuple(round(check * (PAIRS // BATCH) / CHECKS) for check in range(CHECKS + 1))


def spread(logp: Floats, *, top: int) -> tuple[Floats, Floats]:
    """Entropy in bits of the `top` most likely tokens, renormalised, and their mass, over the last axis."""
    mass = np.sort(np.exp(logp), axis=-1)[..., -top:]
    total = mass.sum(axis=-1)
    share = mass / total[..., None]
    entropy = -np.where(share > 0, share * np.log2(np.maximum(share, 1e-300)), 0.0).sum(axis=-1)
    return entropy, total


def decline_elsewhere(gold: Floats, seeds: int) -> tuple[Floats, Floats]:
    """How far gold falls after a peak that was looked for in the other seeds, so that no peak is picked by its luck.

    Args:
        gold: `[checks, seeds * trees]`, the trees of a seed next to each other.
        seeds: how many, two at least.

    Returns:
        for each seed, gold at the check that is highest in the mean of the other seeds, minus gold at the end; and
        that check as a share of the training.
    """
    each = gold.reshape(len(gold), seeds, -1).mean(axis=2)
    falls, places = [], []
    for seed in range(seeds):
        peak = int(np.delete(each, seed, axis=1).mean(axis=1).argmax())
        falls.append(each[peak, seed] - each[-1, seed])
        places.append(peak / (len(gold) - 1))
    return np.array(falls), np.array(places)


def _decline(setup: Setup, judge: str, words: str) -> Outcome:
    if setup.seeds < 2:
        return Outcome(
            verdict="not identified",
            says="A peak is looked for in other seeds than it is measured in; take two seeds at least.",
            metrics=(),
        )
    rates = RATES[1:2] if setup.quick else RATES
    grid = {
        (beta, rate): _epoch(judge, "dpo", beta, rate, setup.seeds, setup.quick) for beta in BETAS for rate in rates
    }
    # Each beta has the step size with which its gold comes highest at any check, so an early stop is allowed to all.
    tuned = {beta: max(rates, key=lambda rate: float(grid[beta, rate]["gold"].mean(axis=1).max())) for beta in BETAS}
    runs = {beta: grid[beta, rate] for beta, rate in tuned.items()}
    found = {key: decline_elsewhere(run["gold"], setup.seeds) for key, run in grid.items()}
    falls = {beta: over_seeds(found[beta, rate][0], setup.seeds) for beta, rate in tuned.items()}
    places = {key: float(place.mean()) for key, (_, place) in found.items()}
    small, large = ((beta, tuned[beta]) for beta in (BETAS[0], BETAS[-1]))
    more = over_seeds(found[small][0] - found[large][0], setup.seeds)
    at = found[small][1]
    ended = {beta: float(run["kl"][-1].mean()) for beta, run in runs.items()}
    return Outcome(
        verdict=decided(
            yes=falls[small[0]].low > 0 and at.max() <= 0.5 and more.low > 0,
            no=at.min() > 0.5 or falls[small[0]].high < 0 or more.high < 0,
        ),
        says=f"One epoch of DPO on {words}, each beta at the step size of {', '.join(f'{rate:g}' for rate in rates)} "
        f"with which gold comes highest. At beta {small[0]:g} (step size {small[1]:g}) gold is highest after "
        f"{places[small]:.0%} of the epoch and then changes by {signed(_negative(falls[small[0]]))}; at beta "
        f"{large[0]:g} ({large[1]:g}) after {places[large]:.0%}, by {signed(_negative(falls[large[0]]))}. KL from the "
        f"start ends at {', '.join(f'{nats:.1f} nats (beta {beta:g})' for beta, nats in ended.items())}. "
        "Every pair is seen once, so there is nothing to learn by heart.",
        metrics=(
            *(
                Metric.of(f"decline/beta {beta:g}", each, "Gold at the peak of the other seeds minus gold at the end.")
                for beta, each in falls.items()
            ),
            Metric.of("decline/more", more, f"Decline at beta {BETAS[0]:g} minus decline at {BETAS[-1]:g}."),
        ),
        table=tuple(
            {"judge": judge, "beta": beta, "step_size": rate, "tuned": tuned[beta] == rate}
            | {"peak": round(places[beta, rate], 4), "kl": round(float(run["kl"][-1].mean()), 4)}
            | ends_of(over_seeds(run["gold"][-1], setup.seeds), "gold")
            | ends_of(over_seeds(found[beta, rate][0], setup.seeds), "decline")
            for (beta, rate), run in grid.items()
        ),
        charts=(
            Chart(
                id="gold_in_an_epoch",
                title="Gold within one epoch",
                says="Where a line falls while training goes on, the policy over-optimises its labels.",
                x="step",
                y="expected gold reward",
                series=[
                    line(f"beta {beta:g}", STEPS_AT, [over_seeds(row, setup.seeds) for row in run["gold"]])
                    for beta, run in runs.items()
                ],
            ),
        ),
    )


def _negative(each: Interval) -> Interval:
    """The interval of minus an estimate: a decline as a change."""
    return Interval(0.0 - each.value, 0.0 - each.high, 0.0 - each.low, each.n)


@lru_cache(maxsize=2)
def _start(seeds: int, quick: bool) -> tuple[tuple[int, ...], Policy, Floats]:
    """Seeds of the trees, the networks fitted to their references, and the rewards of the answers without a phrase."""
    numbers = tree_seeds(Setup(seeds=seeds, quick=quick), TREES)
    tree = stack([make(actions=ACTIONS, depth=DEPTH, ref=SHARP, seed=seed) for seed in numbers])
    drawn = network(seeds=numbers, actions=ACTIONS, depth=DEPTH, width=WIDTH)
    return tuple(numbers), fitted(drawn, np.exp(along(tree.ref, DEPTH)), steps=300, lr=0.02), tree.gold


@lru_cache(maxsize=32)
def _epoch(judge: str, loss: str, beta: float, rate: float, seeds: int, quick: bool) -> dict[str, Floats]:
    """Expected gold, KL from the start, and spread of next tokens on the start's answers, each `[checks, trees]`."""
    numbers, start, reward = _start(seeds, quick)
    _, tokens = paths(actions=ACTIONS, depth=DEPTH)
    phrase = np.all(tokens[:, -2:] == 0, axis=1).astype(np.float64)
    golds = {"noisy": reward, "hijacked": reward - HIJACK * phrase}
    scores = {"noisy": reward, "hijacked": reward + HIJACK * phrase}
    flips = {"noisy": FLIPS, "hijacked": 0.0}
    pairs = drawn_pairs(
        normalised(along(start.logp(), DEPTH)), scores[judge], pairs=PAIRS, seeds=numbers, flips=flips[judge]
    )
    fixed = partial(LOSSES[loss][0], beta=beta)
    run = trained(start, pairs, fixed, steps=PAIRS // BATCH, lr=rate, checks=CHECKS, batch=BATCH)
    entropy, mass = spread(run.logp, top=TOP)
    # Every place of an answer counts alike: states as often as the start's own answers come to them.
    weight = reach(run.logp[0], DEPTH) / DEPTH
    return {
        "gold": (np.exp(along(run.logp, DEPTH)) * golds[judge]).sum(axis=-1),
        "kl": kl(run.logp, np.broadcast_to(run.logp[0], run.logp.shape), DEPTH),
        "top_entropy": (weight * entropy).sum(axis=-1),
        "top_mass": (weight * mass).sum(axis=-1),
    }


def _turning_chart(setup: Setup, column: str) -> Chart:
    says = {
        "gold": "expected gold reward",
        "top_entropy": f"entropy of the top {TOP} next tokens, bits",
        "top_mass": f"mass of the top {TOP} next tokens",
    }
    runs = {name: _epoch("hijacked", name, BETAS[0], RATES[1], setup.seeds, setup.quick)[column] for name in LOSSES}
    return Chart(
        id=f"turning_{column}",
        title=says[column].capitalize(),
        says="Signals of over-optimisation should turn where gold does.",
        x="step",
        y=says[column],
        series=[
            line(name, STEPS_AT, [over_seeds(row, setup.seeds) for row in values]) for name, values in runs.items()
        ],
    )
