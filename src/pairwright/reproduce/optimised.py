"""Claims about optimising too far: the hump over beta, and length that a proxy pays for."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from pairwright.charts import Chart, Series
from pairwright.diagnose.fits import Peak, law, peak
from pairwright.evaluate.result import Metric
from pairwright.losses import dpo, hinge, ipo_sum, r_dpo
from pairwright.reproduce.claim import Outcome, Setup
from pairwright.reproduce.fitted import Loss, bradley_terry, minimise, population
from pairwright.reproduce.verdicts import decided
from pairwright.stats import Interval, mean_interval, paired_difference
from pairwright.worlds.tabular import Floats, Rows, Tabular, drawn, kl, make, mean_of, normalised, tilted

LOSSES: dict[str, Loss] = {
    "dpo": partial(dpo, beta=1.0),
    "ipo": partial(ipo_sum, beta=1.0),
    "hinge": partial(hinge, beta=1.0),
}
BETAS = tuple(float(beta) for beta in np.geomspace(0.02, 20.0, 13))
MATTERS = 0.1
"""Points of gold by which a curve must fall to be called a hump."""
RIDGE = 0.02
"""Weight of the squared implicit rewards, for each prompt: answers that only ever won would have no finite place."""


def hump_noisy_labels(setup: Setup) -> Outcome:
    """Gold score over the distance from the start when a share of the labels is turned at random.

    Such errors know nothing of gold: an answer that won by luck is, in the mean, as good as any.
    """
    worlds = _worlds(setup)
    labels = [labelled(world, world.gold, pairs=12, turned=0.2, seed=seed) for seed, world in enumerate(worlds)]
    tried = (
        " Nor did gold fall below the start with a spread of 2, 4 to 30 pairs a prompt, 30% of the labels turned, or a "
        "tenth of the ridge (docs/log.md): an answer that won by luck is, in the mean, no worse than any."
    )
    found = _hump(worlds, labels)
    return found if found.verdict == "holds" else found.model_copy(update={"says": found.says + tried})


def hump_hijacked_judge(setup: Setup) -> Outcome:
    """The same with a judge that a few bad answers have found out: it scores them above all others."""
    worlds, labels = [], []
    for seed, world in enumerate(_worlds(setup)):
        trapped, said = hijacked(world, share=0.1, seed=seed)
        worlds.append(trapped)
        labels.append(labelled(trapped, said, pairs=60, turned=0.2, seed=seed))
    return _hump(worlds, labels)


def _worlds(setup: Setup) -> list[Tabular]:
    return [make(prompts=10 if setup.quick else 30, answers=20, seed=seed) for seed in range(setup.seeds)]


def hijacked(world: Tabular, *, share: float, seed: int) -> tuple[Tabular, Floats]:
    """A world in which a share of the answers is a trick: gold 2, less likely at the start, and 11 from the judge.

    Args:
        world: prompts and answers.
        share: of the answers to each prompt, at random.
        seed: of the choice.

    Returns:
        the world with the tricks in it, and what the judge says, [P, K].
    """
    draw = np.random.default_rng([seed, 3])
    trick = np.argsort(draw.random(world.gold.shape), axis=1) < round(share * world.gold.shape[1])
    gold = np.where(trick, 2.0, world.gold)
    trapped = Tabular(normalised(world.start - 1.0 * trick), gold, world.length)
    return trapped, np.where(trick, 11.0, gold)


def _hump(worlds: Sequence[Tabular], labels: Sequence[Rows]) -> Outcome:
    """Gold score against sqrt(KL) over beta, for policies at the lowest point of three losses on sampled labels.

    The three losses are functions of beta times the margin alone, up to a factor, so what they learn is one table of
    implicit rewards r whatever beta is, and the policy at beta is `start * exp(r / beta)`: each loss is trained once.
    """
    rows, charts, metrics = [], [], []
    found = {}
    for name, loss in LOSSES.items():
        points = []
        for seed, (world, pairs) in enumerate(zip(worlds, labels, strict=True)):
            learnt = implicit(loss, world, pairs)
            for beta in BETAS:
                policy = tilted(world.start, learnt / beta)
                gold = float((mean_of(policy, world.gold) - mean_of(world.start, world.gold)).mean())
                points.append((seed, beta, float(np.sqrt(kl(policy, world.start).mean())), gold))
        at = np.array(points)
        top = peak(at[:, 2], at[:, 3], fit=partial(law, start=0.0), groups=at[:, 0].tolist(), draws=500)
        by_seed = at[:, 3].reshape(len(worlds), len(BETAS))
        fall, gain = _fall(by_seed)
        found[name] = (fall, top.identified)
        inside = top.d if top.identified else mean_interval([])
        metrics += [
            Metric.of(
                f"{name}/fall", fall, "Gold at the best beta, as other seeds choose it, less gold at the smallest."
            ),
            Metric.of(f"{name}/gain", gain, "Gold at that beta less the start's."),
            Metric.of(f"{name}/peak", inside, f"sqrt(KL) where the fitted law is highest{_because(top)}."),
        ]
        middle = at.reshape(len(worlds), len(BETAS), 4).mean(axis=0)
        rows += [{"loss": name, "beta": b, "sqrt_kl": d, "gold": g} for _, b, d, g in middle.tolist()]
        charts.append(Series(name=name, x=middle[:, 2].tolist(), y=middle[:, 3].tolist()))
    fell = [name for name, (fall, _) in found.items() if fall.value > MATTERS and fall.low > 0]
    flat = [name for name, (fall, _) in found.items() if fall.high < MATTERS]
    tops = [name for name, (_, identified) in found.items() if identified]
    said = ", ".join(f"{name} {fall.value:.2f}" for name, (fall, _) in found.items())
    return Outcome(
        verdict=decided(yes=len(fell) == len(found), no=bool(flat)),
        says=f"From the best beta to the smallest the mean gold score falls by {said} points of 10 (a hump "
        f"is a fall of more than {MATTERS:g}). The law d (a - b log d) has its highest point within the distances "
        f"measured for {', '.join(tops) or 'none'}.",
        metrics=tuple(metrics),
        table=tuple(rows),
        charts=(
            Chart(
                id="hump",
                title="Gold score over the distance from the start",
                says="A line for each loss: from right to left beta rises; a hump is a line that falls on its right.",
                x="sqrt(KL), sqrt(nats)",
                y="gold above the start",
                series=charts,
            ),
        ),
    )


def _because(top: Peak) -> str:
    return "" if top.identified else f"; not identified: {top.why}"


def _fall(gold: Floats) -> tuple[Interval, Interval]:
    """Gold at the best beta less gold at the smallest, and gold at the best beta.

    The best beta for a seed is that of the other seeds: one chosen by the seed itself would be best by luck as well.

    Args:
        gold: above the start, [seeds, betas], the smallest beta first.
    """
    others = (gold.sum(axis=0) - gold).argmax(axis=1)
    best = gold[np.arange(len(gold)), others]
    return paired_difference(best, gold[:, 0]), mean_interval(best)


def labelled(world: Tabular, reward: Floats, *, pairs: int, turned: float, seed: int) -> Rows:
    """Pairs of answers as they come from the start, labelled by Bradley-Terry in a reward; a share is turned.

    Args:
        world: prompts and answers.
        reward: by which the labels are, [P, K].
        pairs: of each prompt.
        turned: share of labels that say the contrary.
        seed: of the draws.
    """
    draw = np.random.default_rng([seed, 7])
    both = np.concatenate([drawn(world.start, 2, draw) for _ in range(pairs)])
    prompt = np.tile(np.arange(len(world.start)), pairs)
    one, two = both.T
    first = draw.random(len(prompt)) < 1 / (1 + np.exp(reward[prompt, two] - reward[prompt, one]))
    first ^= draw.random(len(prompt)) < turned
    return Rows(prompt, np.where(first, one, two), np.where(first, two, one), np.full(len(prompt), np.nan))


def implicit(loss: Loss, world: Tabular, rows: Rows) -> Floats:
    """Implicit rewards [P, K] at the lowest point of a loss at beta 1, up to a number for each prompt."""
    found: Floats = minimise(loss, world.start, rows, np.ones(len(rows.prompt)), ridge=RIDGE, most=200) - world.start
    return found


def length_exploitation(setup: Setup) -> Outcome:
    """A proxy that pays for length, over a whole population: DPO learns to be long, R-DPO at the right alpha does not.

    Gold is quality less a price for answers far from 10 tokens; the proxy is quality plus `k` for each token.
    """
    world = make(prompts=6, answers=6)
    k, price = 0.15, 0.1
    gold = world.gold - price * np.abs(world.length - 10)
    proxy = world.gold + k * world.length
    rows, weight = population(bradley_terry(proxy))
    found: list[dict[str, Any]] = []
    for beta in (4.0, 2.0, 1.0, 0.5):
        quality = tilted(world.start, world.gold / beta)
        plain = minimise(partial(dpo, beta=beta), world.start, rows, weight, length=world.length)
        for arm, alpha in (("dpo", 0.0), ("r_dpo", k)):
            loss = partial(dpo, beta=beta) if arm == "dpo" else partial(r_dpo, beta=beta, alpha=alpha)
            policy = plain if arm == "dpo" else minimise(loss, world.start, rows, weight, length=world.length)
            closed = tilted(world.start, (proxy - alpha * world.length) / beta)
            found.append(
                {
                    "arm": arm,
                    "beta": beta,
                    "gold": float(mean_of(policy, gold).mean()),
                    "length": float(mean_of(policy, world.length).mean()),
                    "length_of_quality": float(mean_of(quality, world.length).mean()),
                    "kl": float(kl(policy, world.start).mean()),
                    "off": float(np.abs(policy - closed).max()),
                }
            )
    by_arm = {arm: [row for row in found if row["arm"] == arm] for arm in ("dpo", "r_dpo")}
    longer = min(row["length"] - row["length_of_quality"] for row in by_arm["dpo"])
    even = max(abs(row["length"] - row["length_of_quality"]) for row in by_arm["r_dpo"])
    extra = [row["length"] - row["length_of_quality"] for row in by_arm["dpo"]]
    gains = [b["gold"] - a["gold"] for a, b in zip(by_arm["dpo"], by_arm["r_dpo"], strict=True)]
    gain = gains[-1]
    worst = max(row["off"] for row in found)
    good = longer > 0 and extra == sorted(extra) and even < 1e-3 and gain > 0 and worst < 1e-3
    return Outcome(
        verdict="holds" if good else "does not hold",
        says=f"DPO on the proxy is at least {longer:.2f} tokens longer than on quality, more so at small beta. "
        f"R-DPO with alpha = k has the right length within {even:.1g}. Its gold score is {gain:.2f} higher than that "
        f"of DPO at the smallest beta, 0.5, and {gains[0]:+.3f} at the largest, 4, where little is optimised.",
        metrics=(
            Metric(
                name="longer",
                value=longer,
                n=4,
                says="Tokens of DPO beyond those of DPO on quality, smallest of 4 betas.",
            ),
            Metric(name="even", value=even, n=4, says="The same for R-DPO with alpha = k, largest size."),
            Metric(name="gold_gain", value=gain, n=4, says="Mean gold of R-DPO less that of DPO at beta 0.5."),
            Metric(
                name="off",
                value=worst,
                n=8,
                says="Of a log-probability from start * exp((proxy - alpha length) / beta).",
            ),
        ),
        table=tuple(found),
    )
