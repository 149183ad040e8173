"""Which pairs an arm trains on, what the labels of these are worth, and rounds of answers of a policy's own.

The margin that a metric reads is SimPO's, M = logp_c / len_c - logp_r / len_r, of the model that selects: in DPO's form
the margins of a policy that is its own reference are all zero, and in the first round it is.
"""

import time
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import polars as pl

import pairwright.worlds.language as world_of
from pairwright.chat import prompt_id, user
from pairwright.errors import InputError
from pairwright.logprobs.tokenise import Limits
from pairwright.metrics.table import METRICS
from pairwright.pairing import pair
from pairwright.plug import settings_of
from pairwright.preferences import Preferences, Step
from pairwright.reproduce.language.data import Given
from pairwright.reproduce.language.job import FORM, SAMPLES, base_of, drawn, held_out, pairs_of, terms
from pairwright.reproduce.language.setting import BATCH, MAX_LENGTH, MAX_PROMPT, Arm, Tuned, World
from pairwright.reproduce.language.training import trained, with_references
from pairwright.select import select
from pairwright.train.data import pair_examples
from pairwright.train.examples import Example

ROUNDS = 3
ANSWERS = 4
"""Of the policy to each instruction of a round."""
MARGIN = "margin"
"""The column of the pairs that holds M."""
POTENTIAL, UNIFORM = "alignment_potential", "random"
WAYS = (POTENTIAL, "explicit_gap", "implicit_margin", "signed_potential", UNIFORM)
"""The metrics of the paper: its potential, the gap of the scores, a small margin, M_+, and an even draw."""


def selected(prefs: Preferences, given: Given, *, metric: str, keep: float) -> Preferences:
    """The share `keep` of the pairs that a metric puts first; the margin is the base's."""
    return taken(with_margin(prefs, given.model, given.tokenizer), metric, keep=keep, seed=given.seed)


def taken(prefs: Preferences, metric: str, *, keep: float, seed: int) -> Preferences:
    """`select` by a metric that reads the column of margins, by one that draws, or by another."""
    told: dict[str, Any] = {MARGIN: MARGIN} if MARGIN in settings_of(METRICS[metric]) else {}
    return select(prefs, metric, keep=keep, seed=seed, **told)


def with_margin(prefs: Preferences, model: Any, tokenizer: Any) -> Preferences:
    """The pairs with the model's margin, chosen less rejected: nats for each token, each answer's end counted.

    Raises:
        InputError: an answer is empty or too long, so that its pair has no margin.
    """
    rows = pair_examples(prefs, tokenizer, split="train", limits=Limits(MAX_LENGTH, MAX_PROMPT)).rows
    count = prefs.counts().pairs
    if len(rows) != count:
        raise InputError(f"{count - len(rows)} of {count} pairs have no margin; take empty and over-long answers out")
    margins = []
    for row in with_references(model, rows):
        chosen, rejected = (logp / len(ids) for logp, ids in zip(row.refs or (), row.answers, strict=True))
        margins.append(chosen - rejected)
    step = Step(name="margin", rows_in=count, rows_out=count)
    return prefs.then(step, pairs=prefs.pairs.collect().with_columns(pl.Series(MARGIN, margins, dtype=pl.Float64)))


def labels(*, world: World, seed: int, keep: float) -> dict[str, Any]:
    """What each metric takes of a world's pairs, by the gold reward of their answers.

    Returns:
        by metric, and for `all` pairs: `right`, the share whose chosen answer has the higher gold reward (equal ones
        count a half); `gold_gap`, gold of chosen less rejected, the mean; `against`, the share that the base orders the
        other way; `shared`, the share that the alignment potential takes too; and `seconds`.
    """
    began = time.process_time()
    prefs = with_margin(pairs_of(world, seed), *base_of(world.base))
    subsets = {"all": prefs} | {metric: taken(prefs, metric, keep=keep, seed=seed) for metric in WAYS}
    ids = {name: set(subset.pairs.collect()["chosen_id"].to_list()) for name, subset in subsets.items()}
    return {
        "right": {name: right_share(subset) for name, subset in subsets.items()},
        "gold_gap": {name: float(gold_gaps(subset).mean()) for name, subset in subsets.items()},
        "against": {
            name: float((subset.pairs.collect()[MARGIN].to_numpy() < 0).mean()) for name, subset in subsets.items()
        },
        "shared": {name: len(ids[name] & ids[POTENTIAL]) / len(ids[name]) for name in subsets},
        "seconds": round(time.process_time() - began, 2),
    }


def gold_gaps(prefs: Preferences) -> np.ndarray:
    """Gold reward of the chosen answer less that of the rejected one, of each pair in order."""
    view = prefs.view("score_gold").collect()
    return (view["score_gold_chosen"] - view["score_gold_rejected"]).to_numpy()


def right_share(prefs: Preferences) -> float:
    """The share of the pairs that gold reward labels alike; two answers of one gold reward count a half."""
    return float((np.sign(gold_gaps(prefs)) + 1).mean() / 2)


def rounds(
    *, world: World, metric: str, keep: float, tuned: Tuned, seed: int, part: str, prompts: int
) -> dict[str, Any]:
    """Self-play: a policy answers new instructions, a judge scores, the best and the worst are a pair, and it trains.

    Each round has a third of the world's instructions (none comes twice), takes a share of its pairs by a metric with
    the margins of the policy of this round, and trains by DPO from that policy, with it as the reference, for half of
    the world's steps.

    Args:
        world: its base, judge and noise, and numbers of instructions and steps; its authors have no say.
        metric: of `WAYS`.
        keep: share of a round's pairs.
        tuned: numbers of every round's training.
        seed: of instructions, answers, judge and order.
        part: which held-out instructions.
        prompts: how many of them.

    Returns:
        after 0, 1, ... rounds: `gold`, of each held-out instruction, the mean over its samples; `kl` from the base in
        nats, the mean log-ratio of the answers to them; of each round `right`, the share of right labels among the
        pairs taken, and `kept`, how many; and `seconds`.
    """
    began = time.process_time()
    base, tokenizer = base_of(world.base)
    policy = deepcopy(base)
    asked = held_out(part, prompts)
    each = world.prompts // ROUNDS
    every = world_of.tasks(each * ROUNDS, "preferences", seed=seed)
    looks = [look(policy, base, tokenizer, asked, seed)]
    right, kept = [], []
    for turn in range(ROUNDS):
        mine = every[turn * each : (turn + 1) * each]
        prefs = answered(policy, tokenizer, mine, world, seed=seed, draw=1_000_000 + ROUNDS * seed + turn)
        prefs = taken(with_margin(prefs, policy, tokenizer), metric, keep=keep, seed=seed)
        right.append(right_share(prefs))
        kept.append(prefs.counts().pairs)
        rows = pair_examples(prefs, tokenizer, split="train", limits=Limits(MAX_LENGTH, MAX_PROMPT)).rows
        policy = trained(
            policy,
            with_references(policy, rows),
            terms(Arm(name="round"), tuned),
            kind="pairs",
            steps=world.steps // 2,
            batch=BATCH,
            rate=tuned.rate,
            seed=ROUNDS * seed + turn,
        )
        looks.append(look(policy, base, tokenizer, asked, seed))
    return {
        "gold": [gold for gold, _ in looks],
        "kl": [kl for _, kl in looks],
        "right": right,
        "kept": kept,
        "seconds": round(time.process_time() - began, 2),
    }


def answered(
    policy: Any, tokenizer: Any, tasks: Sequence[world_of.Task], world: World, *, seed: int, draw: int
) -> Preferences:
    """Pairs of a policy's own answers, the best against the worst by the world's judge.

    Args:
        policy: who answers; empty answers are left out.
        tokenizer: the policy's.
        tasks: the instructions, each answered `ANSWERS` times.
        world: for its judge and noise.
        seed: of the judge.
        draw: seed of the answers.
    """
    said = drawn(policy, tokenizer, list(tasks), None, FORM, draw, ANSWERS)
    rows = [
        world_of.row([user(task.text)], words, judge=world.judge, noise=world.noise, seed=seed)
        for task, _, _, words in said
        if words
    ]
    questions = {prompt_id([user(task.text)]): [user(task.text)] for task in tasks}
    table = pl.DataFrame({"prompt_id": list(questions), "prompt": list(questions.values())})
    step = Step(name="answers", rows_in=len(said), rows_out=len(rows))
    return pair(Preferences.of(table, pl.DataFrame(rows), lineage=[step]), rule="best_worst", seed=seed)


def look(
    policy: Any, base: Any, tokenizer: Any, tasks: Sequence[world_of.Task], seed: int
) -> tuple[list[float], float]:
    """Gold reward of each instruction, the mean over its samples; and KL(policy || base) in nats for an answer.

    The KL divergence is estimated by its definition: the mean of log policy - log base over the policy's answers.
    """
    said = drawn(policy, tokenizer, list(tasks), None, FORM, seed)
    worth = [world_of.mark(task, words).gold for task, _, _, words in said]
    gold = [sum(worth[i : i + SAMPLES]) / SAMPLES for i in range(0, len(worth), SAMPLES)]
    rows = [Example(np.asarray(prompt, np.int32), (np.asarray(ids, np.int32),)) for _, prompt, ids, _ in said]
    own, other = ([(row.refs or (0.0,))[0] for row in with_references(model, rows)] for model in (policy, base))
    return gold, float(np.mean(np.subtract(own, other)))
