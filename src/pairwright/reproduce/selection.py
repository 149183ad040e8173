"""Claims about which pairs teach most: uniform against adversarial sampling, and selection by alignment potential."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import polars as pl

from pairwright.charts import Chart, Series
from pairwright.evaluate.result import Metric
from pairwright.metrics.table import METRICS
from pairwright.reproduce.claim import Outcome, Setup
from pairwright.reproduce.verdicts import decided
from pairwright.stats import Interval, mean_interval, paired_difference
from pairwright.worlds.tabular import Floats, mean_of, tilted

SHARE = 0.4
"""Of the pairs that are kept, as in the paper."""
NEARNESS = 0.01
"""epsilon: the distance to the truth that is to be reached, as a share of that of the start."""


class _Size(NamedTuple):
    """Steps with so many pairs: means over seeds, the log of their ratio, and the smallest of these logs."""

    pairs: int
    uniform: Interval
    adversarial: Interval
    ratio: Interval
    smallest: float


def adversarial_sampling(setup: Setup) -> Outcome:
    """Steps until a linear reward is near the truth, when pairs are drawn uniformly and when the largest gap is taken.

    A pair is a unit vector phi, its target margin `phi . truth`; a step makes the margin of one pair exact
    (`theta += phi (target - phi . theta)`), which is the optimal rate for a squared gap.
    """
    sizes = (50, 200) if setup.quick else (50, 200, 800)
    found: list[_Size] = []
    costs: list[float] = []
    for size in sizes:
        uniform, adversarial, noise = [], [], []
        for seed in range(max(setup.seeds, 5)):
            draw = np.random.default_rng([seed, size])
            phi = draw.standard_normal((size, 10)) / np.linspace(1, 3, 10)
            phi /= np.linalg.norm(phi, axis=1, keepdims=True)
            truth = draw.standard_normal(10)
            uniform.append(steps_to(phi, phi @ truth, truth, draw, adversary=False))
            adversarial.append(steps_to(phi, phi @ truth, truth, draw, adversary=True))
            wrong = phi @ truth + 3 * draw.standard_normal(size) * (draw.random(size) < 0.15)
            noise.append(
                distance_after(phi, wrong, truth, draw, adversary=True)
                - distance_after(phi, wrong, truth, draw, adversary=False)
            )
        ratio = np.log(np.array(uniform)) - np.log(np.array(adversarial))
        found.append(
            _Size(size, mean_interval(uniform), mean_interval(adversarial), mean_interval(ratio), float(ratio.min()))
        )
        costs = noise
    last = mean_interval(costs)
    wins = min(each.smallest for each in found) > 0
    loses = any(each.ratio.high < 0 for each in found)
    grows = all(one.ratio.value < two.ratio.value for one, two in pairwise(found))
    shrinks = found[-1].ratio.high < found[0].ratio.low
    first, end = (np.exp(found[i].ratio.value) for i in (0, -1))
    return Outcome(
        verdict=decided(yes=wins and grows, no=loses or shrinks),
        says=f"Adversarial sampling needs {first:.1f} times fewer steps with {sizes[0]} pairs and {end:.1f} times "
        f"with {sizes[-1]}{', in every seed' if wins else ''}. With 15% of the targets wrong it chases these: after "
        f"200 steps it is {last.value:.2f} farther from the truth than uniform sampling.",
        metrics=(
            *(_scaled(f"ratio/{each.pairs}", each.ratio, each.pairs) for each in found),
            Metric.of("noise_cost", last, "Distance from the truth, adversarial less uniform, 15% of targets wrong."),
        ),
        table=tuple(
            {
                "pairs": each.pairs,
                "uniform": each.uniform.value,
                "adversarial": each.adversarial.value,
                "log_ratio": each.ratio.value,
            }
            for each in found
        ),
        charts=(
            Chart(
                id="steps",
                title="Steps until a hundredth of the distance is left",
                says="Uniform sampling needs more steps, and the ratio grows with the number of pairs.",
                x="pairs",
                y="steps",
                series=[
                    Series(name="uniform", x=list(sizes), y=[each.uniform.value for each in found]),
                    Series(name="adversarial", x=list(sizes), y=[each.adversarial.value for each in found]),
                ],
            ),
        ),
    )


def _scaled(name: str, ratio: Interval, size: int) -> Metric:
    """A mean of log-ratios as a ratio."""
    value, low, high = (float(np.exp(number)) for number in (ratio.value, ratio.low, ratio.high))
    says = f"Steps of uniform over those of adversarial sampling, {size} pairs; geometric mean over seeds."
    return Metric.of(name, Interval(value, low, high, ratio.n), says)


def step(theta: Floats, phi: Floats, gap: float) -> Floats:
    """One step that closes the gap of one pair: `theta + phi gap`, phi of length 1."""
    return theta + phi * gap


def steps_to(phi: Floats, target: Floats, truth: Floats, draw: np.random.Generator, *, adversary: bool) -> int:
    """Steps from 0 until `NEARNESS` of the distance from the truth is left; 20,000 at most."""
    theta, far = np.zeros_like(truth), NEARNESS * float(np.linalg.norm(truth))
    for count in range(20_000):
        if float(np.linalg.norm(theta - truth)) <= far:
            return count
        theta = step(theta, *_next(phi, target, theta, draw, adversary=adversary))
    return 20_000


def distance_after(
    phi: Floats, target: Floats, truth: Floats, draw: np.random.Generator, *, adversary: bool, steps: int = 200
) -> float:
    """Distance from the truth after so many steps, the mean of the last half (targets that disagree never rest)."""
    theta, seen = np.zeros_like(truth), []
    for _ in range(steps):
        theta = step(theta, *_next(phi, target, theta, draw, adversary=adversary))
        seen.append(float(np.linalg.norm(theta - truth)))
    return float(np.mean(seen[steps // 2 :]))


def _next(
    phi: Floats, target: Floats, theta: Floats, draw: np.random.Generator, *, adversary: bool
) -> tuple[Floats, float]:
    gaps = target - phi @ theta
    at = int(np.abs(gaps).argmax()) if adversary else int(draw.integers(len(gaps)))
    return phi[at], float(gaps[at])


def alignment_potential(setup: Setup) -> Outcome:
    """The 40% of the pairs that each metric takes, under a judge that errs: how many labels are right, gold after it.

    Answers are vectors, gold is linear in them, and the model that selects knows gold in part. What is learnt on the
    kept pairs is a logistic regression (DPO of a policy that is linear in what it perceives); gold is that of the
    best-of-eight answers to new prompts by what was learnt and what the model knew.
    """
    names = ("alignment_potential", "explicit_gap", "implicit_margin", "signed_potential", "random")
    right: dict[str, list[float]] = {name: [] for name in names}
    after: dict[str, list[float]] = {name: [] for name in names}
    for seed in range((8 if setup.quick else 40) * setup.seeds):
        draw = np.random.default_rng([seed, 11])
        truth = draw.standard_normal(12)
        known = 0.5 * truth * (draw.random(12) < 0.5) + 0.3 * draw.standard_normal(12)
        one, two = draw.standard_normal((2, 400, 12))
        scores = [each @ truth + 3.0 * draw.standard_normal(400) for each in (one, two)]
        better = scores[0] > scores[1]
        gap = np.where(better[:, None], one - two, two - one)
        view = pl.DataFrame(
            {
                "chosen_id": np.arange(400),
                "rejected_id": np.arange(400) + 400,
                "score_chosen": np.maximum(*scores),
                "score_rejected": np.minimum(*scores),
                "goal": pl.Series([None] * 400, dtype=pl.Float64),
                "margin": gap @ known,
            }
        ).lazy()
        fresh = draw.standard_normal((400, 8, 12))
        for name in names:
            settings = {} if name == "explicit_gap" else {"seed": seed} if name == "random" else {"margin": "margin"}
            value = view.select(value=METRICS[name](view, **settings)).collect()["value"].to_numpy()
            kept = np.argsort(-value, kind="stable")[: int(SHARE * 400)]
            right[name].append(float((gap[kept] @ truth > 0).mean()))
            learnt = logistic(gap[kept], known)
            policy = tilted(np.full((400, 8), -np.log(8)), fresh @ learnt)
            after[name].append(float(mean_of(policy, fresh @ truth).mean()))
    ours = "alignment_potential"
    rivals = {name: paired_difference(after[ours], after[name]) for name in names if name != ours}
    labels = paired_difference(right[ours], right["signed_potential"])
    beaten = all(each.low >= 0 for each in rivals.values())
    worse = [name for name, each in rivals.items() if each.high < 0]
    said = ", ".join(f"{name} {each.value:+.3f}" for name, each in rivals.items())
    good = labels.low > 0 and beaten
    return Outcome(
        verdict=decided(yes=good, no=bool(worse) or labels.high < 0),
        says=f"Gold after training on the 40% by alignment potential less that of others: {said}. "
        f"Of its labels {np.mean(right[ours]):.0%} are right, of M_+'s {np.mean(right['signed_potential']):.0%}, "
        f"of all {np.mean(right['random']):.0%}." + (f" It loses to {', '.join(worse)}." if worse else ""),
        metrics=(
            Metric.of("labels", labels, "Share of right labels, alignment potential less the signed one (M_+)."),
            *(Metric.of(f"gold/{name}", each, f"Gold, this less {name}.") for name, each in rivals.items()),
        ),
        table=tuple(
            {"metric": name, "right": float(np.mean(right[name])), "gold": float(np.mean(after[name]))}
            for name in names
        ),
    )


def logistic(gap: Floats, start: Floats, *, ridge: float = 0.01, steps: int = 30) -> Floats:
    """What DPO learns of a linear policy: the lowest point of `mean(-log sigmoid(gap . w)) + ridge / 2 |w - start|^2`.

    By Newton's method; the start is the model that selected.
    """
    weights = start.copy()
    for _ in range(steps):
        share = 1 / (1 + np.exp(gap @ weights))
        slope = -(gap * share[:, None]).mean(axis=0) + ridge * (weights - start)
        bend = (gap * (share * (1 - share))[:, None]).T @ gap / len(gap) + ridge * np.eye(len(start))
        weights = weights - np.linalg.solve(bend, slope)
    return weights
