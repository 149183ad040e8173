"""Claims that compare ways of training from one start: relabelled, plain, half of it, a goal in the prompt alone.

All arms take equally many gradient steps. A policy has a level and a slope in the goal for each answer (`fitted.py`),
so what is learnt for one goal says something of others. It is a table: it cannot tell anything of unseen prompts.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from pairwright.evaluate.result import Metric
from pairwright.losses import dpo
from pairwright.relabel import relabel
from pairwright.reproduce.claim import Outcome, Setup
from pairwright.reproduce.fitted import Trained, descend
from pairwright.reproduce.verdicts import all_of, decided, verdict_of
from pairwright.stats import Interval, grouped_bootstrap, mean_interval, paired_difference
from pairwright.worlds.tabular import (
    HIGHEST,
    Floats,
    Rows,
    Tabular,
    best_all,
    best_random,
    disjoint,
    make,
    mean_of,
    noisy,
    normalised,
    preferences,
    rows_of,
)

STEPS = 300
RATES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
BETAS = (0.1, 0.5)
UNLEARNING_RATE = 0.03
"""A short training: plain DPO takes a few nats from the rejected answers, as real ones do."""
GOOD = 5.0
"""The score from which a rejected answer is a good one, as in the paper's figure 3."""


def tuned(train: Callable[[Tabular, float, float], Trained], goal: float | None, setup: Setup) -> tuple[float, float]:
    """Beta and step size with the highest gold score in a world of their own; every arm has the same choice."""
    world = make(prompts=40, answers=6, seed=10_000)
    scores = {
        (beta, rate): _gold(train(world, beta, rate), world, goal)
        for beta in BETAS
        for rate in (RATES[::2] if setup.quick else RATES)
    }
    return max(scores, key=scores.__getitem__)


def _gold(trained: Trained, world: Tabular, goal: float | None) -> float:
    return float(mean_of(trained.at(goal), world.gold).mean())


def _pairs(world: Tabular) -> Rows:
    """Every answer in one pair, so that no two chosen ones were compared."""
    return disjoint(world.gold, np.random.default_rng(int(world.gold.sum() * 2)))


def _learn(world: Tabular, rows: Rows, beta: float, rate: float) -> Trained:
    per_prompt = rate * len(rows.prompt)  # the loss is a mean over rows, and each answer is in one or two of them
    return descend(partial(dpo, beta=beta), world.start, rows, steps=STEPS, rate=per_prompt / beta)


def _relabelled(world: Tabular, mode: str) -> Rows:
    prefs = preferences(world.gold, _pairs(world))
    # Half of the pairs is drawn: rows are sorted by prompt, and half of the prompts would not be half of the data.
    made = relabel(prefs, mode, seed=0) if mode == "half_ra" else relabel(prefs, mode)
    return rows_of(made, world.gold.shape[1])


def _arm(mode: str) -> Callable[[Tabular, float, float], Trained]:
    return lambda world, beta, rate: _learn(world, _relabelled(world, mode), beta, rate)


def _plain(world: Tabular, beta: float, rate: float) -> Trained:
    return _learn(world, _pairs(world), beta, rate)


def ra_in_a_table(setup: Setup) -> Outcome:
    """RA asked for 10 against plain DPO: equal steps, twice the rows, each arm with its best setting."""
    gain, rows = _against_plain("ra", setup)
    return Outcome(
        verdict=verdict_of(gain),
        says=f"Asked for 10, RA is {gain.value:+.2f} points of gold from plain DPO. Every answer is in one pair, so "
        "plain DPO cannot tell the chosen answers of a prompt apart. The first step of relabelled training already "
        "makes each answer answer to the goal as steeply as the gap of its pair is wide.",
        metrics=(Metric.of("ra", gain, "Gold of RA asked for 10 less that of plain DPO, equal steps, worlds paired."),),
        table=rows,
    )


def half_ra(setup: Setup) -> Outcome:
    """RA on half of the pairs, asked for 10, against plain DPO on all: equal rows and steps, best settings."""
    gain, rows = _against_plain("half_ra", setup)
    return Outcome(
        verdict=verdict_of(gain),
        says=f"Asked for 10, half-RA is {gain.value:+.2f} points of gold from plain DPO at equal rows and steps. "
        "A table learns nothing of the answers that half-RA leaves out.",
        metrics=(Metric.of("half_ra", gain, "Gold of half-RA asked for 10 less that of plain DPO."),),
        table=rows,
    )


def _against_plain(mode: str, setup: Setup) -> tuple[Interval, tuple[dict[str, Any], ...]]:
    """Gold of a mode asked for 10 less that of plain DPO, over worlds; and each arm with its setting."""
    arms: dict[str, tuple[Callable[[Tabular, float, float], Trained], float | None]] = {
        "plain": (_plain, None),
        mode: (_arm(mode), HIGHEST),
    }
    settings = {name: tuned(train, goal, setup) for name, (train, goal) in arms.items()}
    worlds = [make(prompts=40, answers=6, seed=seed) for seed in range(setup.seeds)]
    gold = {
        name: [_gold(train(world, *settings[name]), world, goal) for world in worlds]
        for name, (train, goal) in arms.items()
    }
    start = float(np.mean([mean_of(world.start, world.gold).mean() for world in worlds]))
    rows: list[dict[str, Any]] = [{"arm": "start", "beta": None, "rate": None, "gold": start}]
    rows += [
        {"arm": name, "beta": settings[name][0], "rate": settings[name][1], "gold": float(np.mean(gold[name]))}
        for name in arms
    ]
    return paired_difference(gold[mode], gold["plain"]), tuple(rows)


def prompt_only(setup: Setup) -> Outcome:
    """A goal without relabelling: asked of a plainly trained model, and put into every training prompt."""
    rows: list[dict[str, Any]] = []
    asked_off, trained_off = [], []
    for seed in range(setup.seeds):
        world = make(prompts=40, answers=6, seed=seed)
        pairs = _pairs(world)
        plain = _learn(world, pairs, 0.5, 1.0)
        asked_off.append(float(np.abs(plain.at(HIGHEST) - plain.at(None)).max()))
        everywhere = pairs._replace(goal=np.full(len(pairs.prompt), HIGHEST))
        # Level and slope both learn, so a step is 1 + 1 times as long at the goal 10, which stands 1 above the middle.
        same = _learn(world, everywhere, 0.5, 0.5)
        trained_off.append(float(np.abs(same.at(HIGHEST) - plain.at(None)).max()))
        relabelled = _learn(world, _relabelled(world, "ra"), 0.5, 1.0)
        low, high = (_gold(relabelled, world, goal) for goal in (1.0, HIGHEST))
        rows.append({"seed": seed, "gold": _gold(plain, world, None), "ra_10": high, "ra_1": low})
    reach = mean_interval([row["ra_10"] - row["ra_1"] for row in rows])
    off = max(*asked_off, *trained_off)
    return Outcome(
        verdict=all_of([decided(yes=off < 1e-9, no=off >= 1e-9), verdict_of(reach)]),
        says=f"A start that makes nothing of a goal makes nothing of it after plain training either: asked for 10, or "
        f"with 10 in every prompt of training, the policy is the same (within {off:.1g}, at as long steps). With "
        f"relabelled pairs the gold score between asking for 1 and for 10 differs by {reach.value:.2f}.",
        metrics=(
            Metric(
                name="asked",
                value=max(asked_off),
                n=setup.seeds,
                says="Of a log-probability, asked for 10 or not, plain.",
            ),
            Metric(
                name="trained", value=max(trained_off), n=setup.seeds, says="The same with 10 in every training prompt."
            ),
            Metric.of("relabelled", reach, "Gold of the relabelled arm, asked for 10 less asked for 1."),
        ),
        table=tuple(rows),
    )


def unlearning_order(setup: Setup) -> Outcome:
    """Log-probabilities of rejected answers with a score of 5 and more: the start, relabelled and plain training.

    Once on one pair for each prompt, the best answer against a random other, and once on all such pairs, which is the
    population of these. The paper does not say under which goal it reads a relabelled model; no goal is the headline.
    """
    lost: dict[str, dict[str, list[float]]] = {"sample": {}, "population": {}}
    for seed in range(setup.seeds):
        world = make(prompts=100, answers=4, seed=seed)
        kinds = {
            "sample": best_random(world.gold, np.random.default_rng([seed, 5])),
            "population": best_all(world.gold),
        }
        for kind, pairs in kinds.items():
            for name, value in _lost(world, pairs).items():
                lost[kind].setdefault(name, []).append(value)
    means = {kind: {name: mean_interval(values) for name, values in each.items()} for kind, each in lost.items()}
    kept = {
        kind: {name: paired_difference(each["plain"], each[name]) for name in each if name != "plain"}
        for kind, each in lost.items()
    }
    above = all_of([verdict_of(each) for names in kept.values() for each in names.values()])
    below = all_of([verdict_of(names["no goal"]) for names in means.values()])
    one, all_pairs = means["sample"], means["population"]
    return Outcome(
        verdict=all_of([above, below]),
        says=f"Good rejected answers lose {one['plain'].value:.2f} nats by plain DPO. By relabelled training they lose "
        f"{one['no goal'].value:.2f} read without a goal, {one['asked 10'].value:.2f} asked for 10, "
        f"{one['asked its score'].value:.2f} asked for their own score (below 0 they gain). On all such pairs: "
        f"{all_pairs['plain'].value:.2f}, and {all_pairs['no goal'].value:.2f}, {all_pairs['asked 10'].value:.2f}, "
        f"{all_pairs['asked its score'].value:.2f}. "
        + ("Relabelled training loses less under every goal. " if above == "holds" else "")
        + (
            "It is not below the start without a goal, which is the middle of the scale in this world."
            if below == "does not hold"
            else ""
        ),
        metrics=tuple(
            Metric.of(f"{what}/{kind}/{name}", each, says)
            for what, found, says in (
                ("lost", means, "Nats that good rejected answers lost since the start."),
                ("kept", kept, "Nats that plain DPO took from them more than RA so read."),
            )
            for kind, names in found.items()
            for name, each in names.items()
        ),
        table=tuple(
            {"pairs": kind, "policy": name, "lost": each.value}
            for kind, names in means.items()
            for name, each in names.items()
        ),
    )


def _lost(world: Tabular, pairs: Rows) -> dict[str, float]:
    """Mean nats that rejected answers with a good score lost since the start, by training and reading."""
    good = world.gold[pairs.prompt, pairs.rejected] >= GOOD
    prompt, rejected = pairs.prompt[good], pairs.rejected[good]
    relabelled = rows_of(relabel(preferences(world.gold, pairs), "ra"), world.gold.shape[1])
    plain, ra = (_learn(world, rows, 0.1, UNLEARNING_RATE) for rows in (pairs, relabelled))
    policies = {"plain": plain.at(None), "no goal": ra.at(None), "asked 10": ra.at(HIGHEST)}
    found = {name: float((world.start - policy)[prompt, rejected].mean()) for name, policy in policies.items()}
    own = [ra.at(float(world.gold[p, y]))[p, y] for p, y in zip(prompt, rejected, strict=True)]
    return found | {"asked its score": float((world.start[prompt, rejected] - np.array(own)).mean())}


def suboptimality(setup: Setup) -> Outcome:
    """Algorithm 1 on more and more pairs: how far the mean worth under the goal 10 is from the best of the class.

    Answers are perceived by six features, gold is linear in one of them with an error; scores come from a judge.
    """
    sizes = (25, 100) if setup.quick else (25, 50, 100, 200, 400)
    gaps = np.array([[_gap(size, seed) for size in sizes] for seed in range(2 * setup.seeds)])
    (slope,) = grouped_bootstrap(lambda at: [_slope(gaps[at].mean(axis=0), sizes)], list(range(len(gaps))))
    fall = paired_difference(gaps[:, 0], gaps[:, -1])
    return Outcome(
        verdict=decided(yes=slope.high <= -0.3 and fall.low > 0, no=fall.high < 0),
        says=f"From {sizes[0]} to {sizes[-1]} prompts the gap to the best policy that the features allow falls from "
        f"{gaps[:, 0].mean():.3f} to {gaps[:, -1].mean():.3f}, with the power {slope.value:.2f} of the number of pairs "
        "(the bound has -0.5 and is an upper one).",
        metrics=(
            Metric.of("slope", slope, "Of the log of the mean gap over the log of the number of prompts."),
            Metric.of("fall", fall, "Gap with the fewest pairs less that with the most."),
        ),
        table=tuple(
            {"prompts": size, "gap": float(column.mean()), "sd": float(column.std(ddof=1))}
            for size, column in zip(sizes, gaps.T, strict=True)
        ),
    )


def _slope(gaps: Floats, sizes: Sequence[int]) -> float:
    """Of log gap over log size; not defined where a gap is not above 0."""
    return float(np.polyfit(np.log(sizes), np.log(gaps), 1)[0]) if gaps.min() > 0 else math.nan


def _gap(size: int, seed: int) -> float:
    """How much less the mean worth `-(10 - gold)^2` on 300 new prompts is than the best of the class reaches."""
    world = make(prompts=size + 300, answers=4, seed=seed)
    draw = np.random.default_rng([seed, 13])
    seen = features(world.gold, draw)
    old, new = slice(None, size), slice(size, None)
    judged = noisy(world.gold[old], 1.0, draw)
    pairs = best_random(judged, draw)
    relabelled = rows_of(relabel(preferences(judged, pairs), "ra"), judged.shape[1])
    beta = len(relabelled.prompt) ** -0.5
    anchor = (pairs._replace(goal=np.full(len(pairs.prompt), HIGHEST)), beta * len(relabelled.prompt) ** -0.5)
    trained = descend(
        partial(dpo, beta=beta),
        world.start[old],
        relabelled,
        features=seen[old],
        steps=400,
        rate=1 / beta,
        anchor=anchor,
    )
    pull = _weights(trained, seen[old])
    policy = normalised(world.start[new] + seen[new] @ pull)
    best = normalised(world.start[new] + 50 * seen[new][:, :, 0])
    worth = -((HIGHEST - world.gold[new]) ** 2)
    return float((mean_of(best, worth) - mean_of(policy, worth)).mean())


def features(gold: Floats, draw: np.random.Generator) -> Floats:
    """What a policy perceives of each answer, [P, K, 6]: quality with an error, and five things that say nothing."""
    quality = (gold - 6.6) / 1.9 + 0.3 * draw.standard_normal(gold.shape)
    return np.concatenate([quality[..., None], draw.standard_normal((*gold.shape, 5))], axis=-1)


def _weights(trained: Trained, seen: Floats) -> Floats:
    """The weights of the features behind what was trained, asked for 10, [F]: it is linear in them."""
    push = trained.level + trained.slope
    return np.asarray(np.linalg.lstsq(seen.reshape(-1, seen.shape[-1]), push.reshape(-1), rcond=None)[0], np.float64)
