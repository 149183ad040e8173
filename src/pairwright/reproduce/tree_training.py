"""Checks of claims on token trees: where probability goes while our losses train.

The reference is the policy's own start everywhere. Intervals are Student's over seeds, as in `trees`.
"""

from functools import lru_cache, partial
from typing import Any

import numpy as np

from pairwright.charts import Chart
from pairwright.evaluate.result import Metric
from pairwright.losses import dpo
from pairwright.reproduce.claim import Outcome, Setup
from pairwright.reproduce.tree_policies import Pairs, Policy, fitted, network, table, trained
from pairwright.reproduce.trees import (
    EXACT,
    drawn_pairs,
    ends_of,
    line,
    over_seeds,
    sigmoid,
    signed,
    tree_seeds,
)
from pairwright.reproduce.verdicts import decided
from pairwright.worlds.tree import Floats, Places, Tree, along, kl, make, soft_values, stack, token_logp

UNSEEN_BETAS = (0.01, 0.1, 0.5)
PAIRS = (1, 2, 4)
FALL_BETAS = (0.05, 0.5, 2.0)
STEPS = 200
CHECKS = 10
STARTS = {
    "fitted network": ("network", 200),
    "half-fitted network": ("network", 50),
    "network": ("network", 0),
    "table": ("table", 0),
}
"""Which policy begins where: steps of Adam on the likelihood of the chosen answers before."""


def unseen_mass_fitted(setup: Setup) -> Outcome:
    """Mass on answers in no pair, for networks that share weights and were fitted to the chosen answers first."""
    masses = _unseen_mass("half-fitted network", setup.seeds, setup.quick)
    first = float(np.mean([each[..., 0] for each in masses.values()]))
    less = {beta: over_seeds(_gain(each).mean(axis=0), setup.seeds) for beta, each in masses.items()}
    return _unseen(
        setup,
        "fitted network",
        beside=f" After a quarter of the fit the mass is {first:.3f} and changes by "
        f"{', '.join(f'{signed(end)} at beta {beta:g}' for beta, end in less.items())}.",
    )


def unseen_mass_network(setup: Setup) -> Outcome:
    """The same for networks as they were drawn."""
    return _unseen(setup, "network")


def unseen_mass_table(setup: Setup) -> Outcome:
    """The same for tables of logits, which share nothing, from the reference of their tree."""
    return _unseen(setup, "table")


def unseen_mass_small_beta(setup: Setup) -> Outcome:
    """Does more mass go to answers in no pair at the smallest beta than at the largest?"""
    masses = {name: _unseen_mass(name, setup.seeds, setup.quick) for name in STARTS}
    low, high = UNSEEN_BETAS[0], UNSEEN_BETAS[-1]
    more = {
        name: over_seeds(_gain(by_beta[low]).mean(axis=0) - _gain(by_beta[high]).mean(axis=0), setup.seeds)
        for name, by_beta in masses.items()
    }
    ours = more["fitted network"]
    return Outcome(
        verdict=decided(yes=ours.low > 0, no=ours.high < 0),
        says=f"In networks fitted to the chosen answers, unseen answers gain {signed(ours)} more at beta {low:g} than "
        f"at {high:g}. The difference is "
        f"{', '.join(f'{signed(each)} ({name})' for name, each in more.items() if name != 'fitted network')}.",
        metrics=tuple(
            Metric.of(
                f"more_at_small_beta/{name.replace(' ', '_')}",
                each,
                f"Gain of unseen mass at beta {low:g} minus at {high:g}.",
            )
            for name, each in more.items()
        ),
        table=tuple(row for name in masses for row in _unseen_rows(name, masses[name], setup.seeds)),
    )


def chosen_falls(setup: Setup) -> Outcome:
    """After a reference that was fitted to the chosen answers: the identity, and the mean chosen reward of training."""
    exact, worst = _identity(setup)
    rows = {
        (kind, beta): _chosen_rewards(kind, "fitted", beta, setup.seeds, setup.quick)
        for kind in ("table", "network")
        for beta in FALL_BETAS
    }
    ends = {key: over_seeds(chosen[-1], setup.seeds) for key, (chosen, _) in rows.items()}
    below = float(np.mean([(chosen[1:] < 0).mean() for chosen, _ in rows.values()]))
    good = worst < EXACT
    return Outcome(
        verdict=decided(
            yes=good and all(end.high < 0 for end in ends.values()),
            no=not good or any(end.low > 0 for end in ends.values()),
        ),
        says=f"E_ref[beta log pi/ref] = -beta KL(ref || pi) at {exact} checks of trainings whose reference is the "
        f"exact distribution of chosen answers, to {worst:.1g}. With a reference fitted to 200 chosen answers their "
        f"mean implicit reward is below 0 in {below:.0%} of all later checks.",
        metrics=(
            Metric(name="identity", value=worst, n=exact, says="Largest gap of the two sides, by two roads."),
            *(
                Metric.of(f"chosen/{kind} beta {beta:g}", end, "Mean implicit reward of chosen answers at the end.")
                for (kind, beta), end in ends.items()
            ),
        ),
        table=_fall_rows("fitted", rows, setup.seeds),
        charts=(_fall_chart(setup),),
    )


def chosen_stays_up(setup: Setup) -> Outcome:
    """Without the fit: is the mean implicit reward of chosen answers above 0?"""
    rows = {
        (kind, beta): _chosen_rewards(kind, "plain", beta, setup.seeds, setup.quick)
        for kind in ("table", "network")
        for beta in FALL_BETAS
    }
    ends = {key: over_seeds(chosen[-1], setup.seeds) for key, (chosen, _) in rows.items()}
    limits = {beta: over_seeds(_limit(setup, beta), setup.seeds) for beta in FALL_BETAS}
    return Outcome(
        verdict=decided(yes=all(end.low > 0 for end in ends.values()), no=any(end.high < 0 for end in ends.values())),
        says="Answers come from the reference, and the chosen ones end with a mean implicit reward of "
        f"{', '.join(f'{ends[key].value:+.2f} ({key[0]}, beta {key[1]:g})' for key in ends)}. There is no reason for "
        "it to stay above 0: at DPO's exact minimiser it is E_chosen[r] - V*(root), and V* goes from the mean reward "
        "at a large beta to the highest at a small one. That number is "
        f"{', '.join(f'{limits[beta].value:+.2f} at beta {beta:g}' for beta in limits)}.",
        metrics=(
            *(
                Metric.of(f"chosen/{kind} beta {beta:g}", end, "Mean implicit reward of chosen answers at the end.")
                for (kind, beta), end in ends.items()
            ),
            *(
                Metric.of(f"minimiser/beta {beta:g}", each, "E_chosen[r] - V*(root): the same at DPO's minimiser.")
                for beta, each in limits.items()
            ),
        ),
        table=_fall_rows("plain", rows, setup.seeds),
        charts=(_fall_chart(setup),),
    )


def chosen_mass(leaf_ref: Floats, gold: Floats) -> Floats:
    """Distribution of the chosen answer where both are drawn from the reference, `[..., leaves]`.

    `p(y) = 2 ref(y) sum_j ref(j) sigmoid(r_y - r_j)`; a pair of twice the same answer counts as that answer.
    """
    mass = np.exp(leaf_ref)
    wins = sigmoid(gold[..., :, None] - gold[..., None, :])
    found: Floats = 2 * mass * (wins * mass[..., None, :]).sum(axis=-1)
    return found


def _worlds(setup: Setup, trees: int) -> tuple[list[int], Tree]:
    numbers = tree_seeds(setup, trees)
    return numbers, stack([make(actions=3, depth=3, seed=seed) for seed in numbers])


def _counts(rows: Places, leaves: int) -> Floats:
    """How often each answer is there, as shares, `[trees, leaves]`."""
    return np.stack([np.bincount(one, minlength=leaves) / len(one) for one in rows])


def _policy(kind: str, tree: Tree, seeds: list[int]) -> Policy:
    starts = {
        "table": lambda: table(tree.ref, tree.depth),
        "network": lambda: network(seeds=seeds, actions=tree.actions, depth=tree.depth, width=8),
    }
    return starts[kind]()


@lru_cache(maxsize=4)
def _unseen_mass(kind: str, seeds: int, quick: bool) -> dict[float, Floats]:
    """Mass of answers in no pair, by beta, `[pair counts, trees, checks]`."""
    numbers, tree = _worlds(Setup(seeds=seeds, quick=quick), 4)
    leaves = tree.gold.shape[1]
    found: dict[float, list[Floats]] = {beta: [] for beta in UNSEEN_BETAS}
    for count in PAIRS:
        drawn = np.stack([np.random.default_rng([seed, 3]).permutation(leaves)[: 2 * count] for seed in numbers])
        pairs = Pairs(drawn[:, :count], drawn[:, count:])
        policy, fit = STARTS[kind]
        start = fitted(_policy(policy, tree, numbers), _counts(pairs.chosen, leaves), steps=fit, lr=0.01)
        for beta in UNSEEN_BETAS:
            run = trained(start, pairs, partial(dpo, beta=beta), steps=STEPS, lr=0.01, checks=CHECKS)
            mass = np.exp(along(run.logp, tree.depth))
            seen = np.take_along_axis(mass, drawn[None], axis=2).sum(axis=2)
            found[beta].append(1 - seen.T)
    return {beta: np.stack(masses) for beta, masses in found.items()}


def _gain(mass: Floats) -> Floats:
    """How much more there is at the end than at the start."""
    found: Floats = mass[..., -1] - mass[..., 0]
    return found


def _unseen(setup: Setup, kind: str, *, beside: str = "") -> Outcome:
    """The outcome of one kind of policy; `beside` is said at the end."""
    masses = _unseen_mass(kind, setup.seeds, setup.quick)
    ends = {beta: over_seeds(_gain(each).mean(axis=0), setup.seeds) for beta, each in masses.items()}
    words = ", ".join(f"{signed(end)} at beta {beta:g}" for beta, end in ends.items())
    share = float(np.mean([(_gain(each) > 0).mean() for each in masses.values()]))
    first = float(np.mean([each[..., 0] for each in masses.values()]))
    return Outcome(
        verdict=decided(yes=all(end.low > 0 for end in ends.values()), no=any(end.high < 0 for end in ends.values())),
        says=f"A {kind} is trained for {STEPS} steps on {', '.join(map(str, PAIRS))} pairs. The answers in no pair "
        f"have a mass of {first:.3f} before, and it changes by {words}. It rises in {share:.0%} of trainings.{beside}",
        metrics=tuple(
            Metric.of(f"gain/beta {beta:g}", end, "Gain of probability of all answers in no pair; trees of a seed.")
            for beta, end in ends.items()
        ),
        table=_unseen_rows(kind, masses, setup.seeds),
        charts=(_unseen_chart(kind, masses, setup.seeds),),
    )


def _unseen_rows(kind: str, masses: dict[float, Floats], seeds: int) -> tuple[dict[str, Any], ...]:
    return tuple(
        {"policy": kind, "beta": beta, "pairs": count, "trainings": each.shape[1]}
        | {"before": round(float(each[i, :, 0].mean()), 4)}
        | ends_of(over_seeds(_gain(each[i]), seeds), "gain")
        | {"rises": round(float((_gain(each[i]) > 0).mean()), 4)}
        for beta, each in masses.items()
        for i, count in enumerate(PAIRS)
    )


def _unseen_chart(kind: str, masses: dict[float, Floats], seeds: int) -> Chart:
    steps = [round(check * STEPS / CHECKS) for check in range(CHECKS + 1)]
    lines = [
        line(f"beta {beta:g}", steps, [over_seeds(column, seeds) for column in each.mean(axis=0).T])
        for beta, each in masses.items()
    ]
    return Chart(
        id="unseen_mass",
        title="Mass on answers in no pair",
        says=f"Where a line rises the {kind} moves probability to answers that it never saw.",
        x="step",
        y="probability",
        series=lines,
    )


@lru_cache(maxsize=16)
def _chosen_rewards(kind: str, start: str, beta: float, seeds: int, quick: bool) -> tuple[Floats, Floats]:
    """Mean implicit reward of chosen and of rejected answers in the data at each check, two `[checks, trees]`."""
    numbers, tree = _worlds(Setup(seeds=seeds, quick=quick), 4)
    ref = along(tree.ref, tree.depth)
    pairs = drawn_pairs(ref, tree.gold, pairs=200, seeds=numbers)
    # A network is first brought to the tree's reference, from which the answers come.
    policy = _policy(kind, tree, numbers)
    if kind == "network":
        policy = fitted(policy, np.exp(ref), steps=300, lr=0.03)
    if start == "fitted":
        policy = fitted(policy, _counts(pairs.chosen, ref.shape[1]), steps=300, lr=0.03)
    run = trained(policy, pairs, partial(dpo, beta=beta), steps=STEPS, lr=0.02, checks=CHECKS)
    reward = beta * (along(run.logp, tree.depth) - along(run.logp[0], tree.depth))
    chosen, rejected = (
        np.take_along_axis(reward, rows[None], axis=2).mean(axis=2) for rows in (pairs.chosen, pairs.rejected)
    )
    return chosen, rejected


def _identity(setup: Setup) -> tuple[int, float]:
    """Checks, and the largest gap between both sides of the identity, the left over answers, the right over tokens."""
    numbers, tree = _worlds(setup, 4)
    leaf_ref = along(tree.ref, tree.depth)
    mass = chosen_mass(leaf_ref, tree.gold)
    start = token_logp(np.log(mass), actions=tree.actions, depth=tree.depth)
    pairs = drawn_pairs(leaf_ref, tree.gold, pairs=200, seeds=numbers)
    worst, checks = 0.0, 0
    for beta in FALL_BETAS:
        run = trained(table(start, tree.depth), pairs, partial(dpo, beta=beta), steps=STEPS, lr=0.02, checks=CHECKS)
        left = beta * (mass * (along(run.logp, tree.depth) - np.log(mass))).sum(axis=-1)
        right = -beta * kl(np.broadcast_to(start, run.logp.shape), run.logp, tree.depth)
        worst, checks = max(worst, float(np.abs(left - right).max())), checks + left.size
    return checks, worst


def _limit(setup: Setup, beta: float) -> Floats:
    """Mean implicit reward of chosen answers at DPO's minimiser on all pairs of answers of the reference, `[trees]`."""
    _, tree = _worlds(setup, 4)
    mass = chosen_mass(along(tree.ref, tree.depth), tree.gold)
    found: Floats = (mass * tree.gold).sum(axis=1) - soft_values(tree, beta=beta).v[:, 0]
    return found


def _fall_rows(
    start: str, rows: dict[tuple[str, float], tuple[Floats, Floats]], seeds: int
) -> tuple[dict[str, Any], ...]:
    return tuple(
        {"policy": kind, "reference": start, "beta": beta, "trainings": chosen.shape[1]}
        | ends_of(over_seeds(chosen[-1], seeds), "chosen")
        | {
            "rejected": round(over_seeds(rejected[-1], seeds).value, 4),
            "checks_below_0": round(float((chosen[1:] < 0).mean()), 4),
        }
        for (kind, beta), (chosen, rejected) in rows.items()
    )


def _fall_chart(setup: Setup) -> Chart:
    steps = [round(check * STEPS / CHECKS) for check in range(CHECKS + 1)]
    lines = [
        line(
            f"{says}, beta {beta:g}",
            steps,
            [
                over_seeds(row, setup.seeds)
                for row in _chosen_rewards("table", start, beta, setup.seeds, setup.quick)[0]
            ],
        )
        for start, says in (("fitted", "fitted to chosen"), ("plain", "not fitted"))
        for beta in FALL_BETAS
    ]
    return Chart(
        id="chosen_reward",
        title="Mean implicit reward of chosen answers, tables",
        says="Below 0 the policy finds chosen answers less likely than its reference does.",
        x="step",
        y="implicit reward",
        series=lines,
    )
