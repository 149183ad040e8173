"""Checks of claims on token trees: what holds of the optimum, and what a token's implicit reward says.

Every check repeats its experiment for each seed on several trees; an interval is Student's over the seeds, each of
which counts as the mean of its trees.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from pairwright.charts import Chart, Series
from pairwright.evaluate.result import Metric
from pairwright.losses import dpo
from pairwright.reproduce.claim import Outcome, Setup
from pairwright.reproduce.tree_policies import Pairs, minimised, table, trained
from pairwright.reproduce.verdicts import decided
from pairwright.stats import Interval, mean_interval
from pairwright.worlds.tree import (
    Floats,
    Places,
    Tree,
    along,
    beams,
    best_answers,
    leaf_of,
    make,
    paths,
    soft_values,
    stack,
    token_logp,
)

EXACT = 1e-10
"""Two roads to one number may differ by so much."""
MINIMISED = 1e-4
"""So far may a minimum that was searched for lie from the exact one, in units of reward."""
BETAS = (0.05, 0.5, 5.0)
WIDTHS = (1, 2, 3, 5, 10, 20)
CREDIT_BETAS = (0.1, 0.5, 1.0)


def over_seeds(values: Floats, seeds: int) -> Interval:
    """Of numbers for the trees of each seed, `[seeds * trees]`, the trees of a seed next to each other."""
    return mean_interval(values.reshape(seeds, -1).mean(axis=1))


def tree_seeds(setup: Setup, trees: int) -> list[int]:
    """The seeds of so many trees for each seed of a setup; a quick setup has two for each at most."""
    return [1000 * seed + k for seed in range(setup.seeds) for k in range(min(trees, 2) if setup.quick else trees)]


def sigmoid(values: Floats) -> Floats:
    """The logistic function."""
    found: Floats = np.exp(-np.logaddexp(0.0, -values))
    return found


def drawn_pairs(leaf_ref: Floats, score: Floats, *, pairs: int, seeds: Sequence[int], flips: float = 0.0) -> Pairs:
    """Pairs of answers drawn from a policy and labelled by scores with Bradley and Terry's noise.

    Args:
        leaf_ref: log-probabilities that the answers are drawn with, `[trees, leaves]`.
        score: in nats, `[trees, leaves]`: the first of two wins with probability `sigmoid(first - second)`.
        pairs: for each tree.
        seeds: of each tree.
        flips: share of labels that are turned afterwards.
    """
    chosen, rejected = [], []
    for logp, value, seed in zip(leaf_ref, score, seeds, strict=True):
        random = np.random.default_rng([seed, 7])
        mass = np.exp(logp)
        one, two = random.choice(len(mass), (2, pairs), p=mass / mass.sum())
        wins = random.random(pairs) < sigmoid(value[one] - value[two])
        wins ^= random.random(pairs) < flips
        chosen.append(np.where(wins, one, two))
        rejected.append(np.where(wins, two, one))
    return Pairs(np.stack(chosen), np.stack(rejected))


def line(name: str, at: Sequence[float], each: Sequence[Interval]) -> Series:
    """A line of a chart with its intervals."""
    return Series(
        name=name,
        x=list(at),
        y=[one.value for one in each],
        low=[one.low for one in each],
        high=[one.high for one in each],
    )


def ends_of(each: Interval, name: str) -> dict[str, float | None]:
    """An interval as JSON values, null where it has no ends."""
    values = {name: each.value, f"{name}_low": each.low, f"{name}_high": each.high}
    return {key: round(value, 4) if np.isfinite(value) else None for key, value in values.items()}


def signed(each: Interval) -> str:
    """A change with its interval, in words."""
    return f"{each.value:+.3f} [{each.low:+.3f}, {each.high:+.3f}]"


def token_rewards(setup: Setup) -> Outcome:
    """The minimiser of DPO on whole answers against soft value iteration, token by token; and a training to it."""
    tree = stack([make(actions=3, depth=4, seed=seed) for seed in tree_seeds(setup, 2)])
    phi = np.random.default_rng(5).standard_normal((*tree.reward.shape[:-1], 1))
    rows: list[dict[str, Any]] = []
    for beta in BETAS:
        soft = soft_values(tree, beta=beta)
        logp = token_logp(best_answers(tree.gold, along(tree.ref, tree.depth), beta=beta), actions=3, depth=tree.depth)
        shaped = soft_values(Tree(tree.depth, _shaped(tree, phi), tree.ref), beta=beta)
        rows.append(
            {
                "beta": beta,
                "largest_advantage": float(np.abs(soft.advantage).max()),
                "closed_form": float(np.abs(beta * (logp - tree.ref) - soft.advantage).max()),
                "shaped": float(np.abs(shaped.advantage - soft.advantage).max()),
            }
        )
    worst = max(row["closed_form"] for row in rows)
    moved = max(row["shaped"] for row in rows)
    small = stack([make(actions=3, depth=3, seed=seed) for seed in tree_seeds(setup, 1)])
    searched = _searched(small, beta=1.0)
    good = worst < EXACT and moved < EXACT and searched < MINIMISED
    return Outcome(
        verdict=decided(yes=good, no=not good),
        says=f"Of {len(tree.gold)} trees of 81 answers at beta {', '.join(f'{beta:g}' for beta in BETAS)}, the "
        f"implicit reward of every token under DPO's minimiser on whole answers is the advantage of soft value "
        f"iteration: the largest difference is {worst:.1g}. Rewards that are shaped by a potential move it by "
        f"{moved:.1g}. Our loss, minimised over all pairs of answers with labels of probability sigmoid(gap), comes to "
        f"within {searched:.1g}.",
        metrics=(
            _exact("difference/closed_form", worst, len(tree.gold), "Largest difference of implicit reward and A*."),
            _exact("difference/shaped", moved, len(tree.gold), "Largest change of A* by a shaping potential."),
            _exact("difference/minimised", searched, len(small.gold), "The same of DPO minimised by L-BFGS, beta 1."),
        ),
        table=tuple(rows),
    )


def value_beams(setup: Setup) -> Outcome:
    """Beam search on plain log-likelihood of the optimum beside beam search on reward so far and V* ahead."""
    same: list[bool] = []
    ratio: list[bool] = []
    gaps: list[float] = []
    rows: list[dict[str, Any]] = []
    for beta in BETAS:
        here = len(same)
        for seed in tree_seeds(setup, 4):
            tree = make(actions=4, depth=5, seed=seed)
            soft = soft_values(tree, beta=beta)
            step = tree.reward + beta * tree.ref
            gaps.append(_telescoped(tree, step, soft.v, beta * soft.logp))
            for width in WIDTHS:
                plain = beams(soft.logp, tree.depth, width=width)
                same.append(plain == beams(step, tree.depth, width=width, outlook=soft.v))
                ratio.append(plain == beams(soft.logp - tree.ref, tree.depth, width=width))
        rows.append(
            {
                "beta": beta,
                "searches": len(same) - here,
                "same": float(np.mean(same[here:])),
                "same_by_ratio": float(np.mean(ratio[here:])),
            }
        )
    good = all(same) and max(gaps) < EXACT
    return Outcome(
        verdict=decided(yes=good, no=not good),
        says=f"In {len(same)} searches of {WIDTHS[0]} to {WIDTHS[-1]} beams over 1,024 answers both keep the same "
        f"prefixes in the same order in {np.mean(same):.1%}; the sums that they rank by differ by V*(root) and by "
        f"{max(gaps):.1g} at most. A search on the ratio to the reference keeps other prefixes in "
        f"{1 - np.mean(ratio):.0%}.",
        metrics=(
            _exact("same/likelihood", float(np.mean(same)), len(same), "Share of searches with the same beams."),
            _exact(
                "same/ratio", float(np.mean(ratio)), len(ratio), "The same of a search on the ratio to the reference."
            ),
            _exact("difference", max(gaps), len(gaps), "Largest gap of the two sums, V*(root) apart."),
        ),
        table=tuple(rows),
    )


def credit_finds_errors(setup: Setup) -> Outcome:
    """One token of an answer is replaced by the worst: does the implicit reward of a trained policy find it?"""
    rows = _credit(setup.seeds, setup.quick)
    parts = {beta: (rows[beta, "trained", "implicit"], rows[beta, "trained", "ref"]) for beta in CREDIT_BETAS}
    area = {beta: over_seeds(ours[:, 0], setup.seeds) for beta, (ours, _) in parts.items()}
    gain = {beta: over_seeds(ours[:, 0] - ref[:, 0], setup.seeds) for beta, (ours, ref) in parts.items()}
    return Outcome(
        verdict=decided(
            yes=all(area[beta].low > 0.5 and gain[beta].low > 0 for beta in CREDIT_BETAS),
            no=any(area[beta].high < 0.5 or gain[beta].high < 0 for beta in CREDIT_BETAS),
        ),
        says=f"After one pass of DPO over 4,000 labelled pairs the corrupted token has a lower implicit reward than "
        f"the others with an AUROC of {', '.join(f'{area[b].value:.2f} at beta {b:g}' for b in CREDIT_BETAS)}; that is "
        f"{', '.join(f'{gain[b].value:.2f}' for b in CREDIT_BETAS)} above the reference's log-probability, which finds "
        f"what is unlikely. Later tokens change too: their implicit reward moves by "
        f"{', '.join(f'{parts[b][0][:, 2].mean():.2f}' for b in CREDIT_BETAS)} of the change at the corrupted one.",
        metrics=(
            *(
                Metric.of(f"auroc/beta {beta:g}", area[beta], "AUROC of the implicit reward, trained; trees of a seed.")
                for beta in CREDIT_BETAS
            ),
            *(
                Metric.of(f"over_ref/beta {beta:g}", gain[beta], "AUROC above that of the reference's log-probability.")
                for beta in CREDIT_BETAS
            ),
        ),
        table=_credit_table(rows, setup.seeds),
    )


def credit_beats_likelihood(setup: Setup) -> Outcome:
    """The same against the plain log-probability of the trained policy."""
    rows = _credit(setup.seeds, setup.quick)
    exact, gain = (
        {
            beta: over_seeds(rows[beta, arm, "implicit"][:, 0] - rows[beta, arm, "logp"][:, 0], setup.seeds)
            for beta in CREDIT_BETAS
        }
        for arm in ("optimal", "trained")
    )
    return Outcome(
        verdict=decided(
            yes=all(each.low > 0 for each in gain.values()), no=any(each.high < 0 for each in gain.values())
        ),
        says="The implicit reward's AUROC minus that of the policy's own log-probability is "
        f"{', '.join(f'{gain[b].value:+.3f} [{gain[b].low:+.3f}, {gain[b].high:+.3f}] at beta {b:g}' for b in gain)}. "
        f"Of the exact optimum it is {', '.join(f'{each.value:+.3f}' for each in exact.values())}. Answers come from "
        "the reference and the replaced token does not, so what the reference finds unlikely is a hint too (its own "
        f"AUROC is {rows[CREDIT_BETAS[0], 'trained', 'ref'][:, 0].mean():.2f}), and the ratio divides it away.",
        metrics=tuple(
            Metric.of(f"over_logp/beta {beta:g}", each, "AUROC above that of the policy's log-probability, trained.")
            for beta, each in gain.items()
        ),
        table=_credit_table(rows, setup.seeds),
        charts=(_credit_chart(rows, setup.seeds),),
    )


def auroc(positive: Floats, negative: Floats) -> float:
    """Probability that a positive case has the larger score than a negative one, ties a half."""
    return float((np.sign(positive[:, None] - negative[None, :]).mean() + 1) / 2)


def with_errors(*, actions: int, depth: int, seed: int) -> Tree:
    """A tree in which one token of each state is wrong and costs 2; the others are worth 0.3 times a normal number.

    Which token is wrong is drawn apart from the reference, so that what is unlikely need not be wrong.
    """
    tree = make(actions=actions, depth=depth, reward=0.3, seed=seed)
    wrong = np.random.default_rng([seed, 1]).integers(0, actions, len(tree.reward))
    return Tree(depth, tree.reward - 2.0 * np.eye(actions)[wrong], tree.ref)


def corrupted(tree: Tree, *, answers: int, seed: int) -> tuple[Places, Places, Places]:
    """Answers of the reference, the same with one token replaced by the worst of its state, and the place of it.

    Answers that have the worst token there already are left out. Three arrays `[n]`: leaf, leaf, place.
    """
    random = np.random.default_rng([seed, 2])
    states, tokens = paths(actions=tree.actions, depth=tree.depth)
    mass = np.exp(along(tree.ref, tree.depth))
    before = random.choice(len(mass), answers, p=mass / mass.sum())
    place = random.integers(0, tree.depth, answers)
    worst = tree.reward[states[before, place]].argmin(axis=1)
    changed = tokens[before].copy()
    changed[np.arange(answers), place] = worst
    sound = tokens[before, place] != worst
    return before[sound], leaf_of(changed, actions=tree.actions)[sound], place[sound]


def found_errors(value: Floats, tree: Tree, before: Places, after: Places, place: Places) -> tuple[float, float, float]:
    """How well low values of tokens, `[states, A]`, show which token was replaced.

    Returns:
        AUROC of the replaced against all other tokens; the share of answers whose lowest value it has; leakage, the
        mean change at the other places over the mean change at its own.
    """
    states, tokens = paths(actions=tree.actions, depth=tree.depth)
    new, old = value[states[after], tokens[after]], value[states[before], tokens[before]]
    there = np.arange(tree.depth)[None, :] == place[:, None]
    change = np.abs(new - old)
    return (
        auroc(-new[there], -new[~there]),
        float((new.argmin(axis=1) == place).mean()),
        float(change[~there].mean() / change[there].mean()),
    )


@lru_cache(maxsize=2)
def _credit(seeds: int, quick: bool) -> dict[tuple[float, str, str], Floats]:
    """AUROC, hit and leakage, `[trees, 3]`, by beta, arm and which value of a token is read."""
    numbers = tree_seeds(Setup(seeds=seeds, quick=quick), 2)
    trees = [with_errors(actions=4, depth=5, seed=seed) for seed in numbers]
    all_trees = stack(trees)
    pairs = drawn_pairs(along(all_trees.ref, 5), all_trees.gold, pairs=4000, seeds=numbers)
    broken = [corrupted(tree, answers=400, seed=seed) for tree, seed in zip(trees, numbers, strict=True)]
    found: dict[tuple[float, str, str], Floats] = {}
    for beta in CREDIT_BETAS:
        run = trained(table(all_trees.ref, 5), pairs, partial(dpo, beta=beta), steps=250, lr=0.03, checks=1, batch=16)
        for arm, logp in (("optimal", soft_values(all_trees, beta=beta).logp), ("trained", run.logp[-1])):
            values = {"implicit": logp - all_trees.ref, "logp": logp, "ref": all_trees.ref}
            for name, value in values.items():
                found[beta, arm, name] = np.array(
                    [found_errors(one, tree, *cut) for one, tree, cut in zip(value, trees, broken, strict=True)]
                )
    return found


def _credit_table(rows: dict[tuple[float, str, str], Floats], seeds: int) -> tuple[dict[str, Any], ...]:
    return tuple(
        {"beta": beta, "policy": arm, "reads": name, "trees": len(values)}
        | {
            key: round(over_seeds(values[:, i], seeds).value, 4)
            for i, key in enumerate(("auroc", "lowest_is_error", "leakage"))
        }
        for (beta, arm, name), values in rows.items()
    )


def _credit_chart(rows: dict[tuple[float, str, str], Floats], seeds: int) -> Chart:
    lines = [
        line(says, CREDIT_BETAS, [over_seeds(rows[beta, "trained", name][:, 0], seeds) for beta in CREDIT_BETAS])
        for name, says in (("implicit", "implicit reward"), ("logp", "log pi"), ("ref", "log ref"))
    ]
    return Chart(
        id="credit",
        title="Finding a corrupted token",
        says="1 is always found, 0.5 is guessing.",
        x="beta",
        y="AUROC",
        series=lines,
    )


def _shaped(tree: Tree, phi: Floats) -> Floats:
    """Rewards plus `phi(s') - phi(s)`, phi 0 at leaves: values of states move by -phi(s), no advantage does."""
    ahead = np.zeros((*tree.reward.shape[:-2], tree.reward.shape[-2] * tree.actions + 1))
    ahead[..., : phi.shape[-2]] = phi[..., 0]
    after = ahead[..., 1:].reshape(tree.reward.shape)
    found: Floats = tree.reward + after - phi
    return found


def _searched(tree: Tree, *, beta: float) -> float:
    """Largest distance of a token's implicit reward from A* after minimising DPO over all pairs of answers."""
    gold = tree.gold
    first, second = np.nonzero(~np.eye(gold.shape[1], dtype=bool))
    weight = sigmoid(gold[:, first] - gold[:, second]) / len(first)
    shape = (len(gold), 1)
    pairs = Pairs(np.tile(first, shape), np.tile(second, shape), weight)
    policy = minimised(table(tree.ref, tree.depth), pairs, partial(dpo, beta=beta))
    return float(np.abs(beta * (policy.logp() - tree.ref) - soft_values(tree, beta=beta).advantage).max())


def _telescoped(tree: Tree, step: Floats, value: Floats, logp: Floats) -> float:
    """Largest gap, over all prefixes, of reward so far plus V* ahead against V*(root) plus beta times log pi."""
    worst = 0.0
    states, tokens = paths(actions=tree.actions, depth=tree.depth)
    for length in range(1, tree.depth + 1):
        at = (states[:, :length], tokens[:, :length])
        ahead = value[states[:, length]] if length < tree.depth else 0.0
        gap = step[at].sum(axis=1) + ahead - value[0] - logp[at].sum(axis=1)
        worst = max(worst, float(np.abs(gap).max()))
    return worst


def _exact(name: str, value: float, n: int, says: str) -> Metric:
    return Metric(name=name, value=value, n=n, says=says)
