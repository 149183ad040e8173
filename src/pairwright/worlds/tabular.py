"""The tabular world: P prompts with K answers each, where policy, gold score, KL divergence and expectation are exact.

A policy is a table [P, K] of log-probabilities, one softmax for each prompt; an answer is one draw from K, and its
length is declared, not counted. Scores are on a scale of 1 to 10 and shaped like UltraFeedback's: of four answers the
best has about 8, and a random other about 2 less; half points, with ties.

Closed forms: what maximises `E[reward] - beta KL(policy || start)` is `start * exp(reward / beta)`, normalised
(arXiv 2305.18290, equation 4), which is also where DPO rests over a whole population of Bradley-Terry comparisons
with that reward. Asked for the goal g, the reward is `-(g - score)^2` (arXiv 2410.08067, equation 4.1).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pairwright.errors import InputError
from pairwright.preferences import Preferences

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
LOWEST, HIGHEST = 1.0, 10.0


@dataclass(frozen=True, eq=False)
class Tabular:
    """P prompts, K answers each; every table is [P, K].

    Attributes:
        start: log-probabilities of the start.
        gold: the true score of each answer, 1 to 10 in half points.
        length: declared tokens of each answer, 4 to 20.
    """

    start: Floats
    gold: Floats
    length: Floats


class Rows(NamedTuple):
    """N comparisons: numbers of a prompt and two of its answers, [N] each.

    Attributes:
        prompt: number of the prompt.
        chosen: number of the answer that should win.
        rejected: number of the other.
        goal: the score that is asked for; NaN where none is.
    """

    prompt: Whole
    chosen: Whole
    rejected: Whole
    goal: Floats


def make(*, prompts: int = 100, answers: int = 4, spread: float = 0.7, seed: int = 0) -> Tabular:
    """A world; equal settings give equal worlds.

    Args:
        prompts: P.
        answers: K.
        spread: standard deviation of the start's logits; 0 is a uniform start.
        seed: which world.

    Raises:
        InputError: there are fewer than two answers, or no prompts.
    """
    if prompts < 1 or answers < 2:
        raise InputError(f"a tabular world needs a prompt and two answers; there are {prompts} and {answers}")
    draw = np.random.default_rng(seed)
    ease = 6.6 + 1.0 * draw.standard_normal((prompts, 1))
    gold = np.clip(np.round(2 * (ease + 1.6 * draw.standard_normal((prompts, answers)))) / 2, LOWEST, HIGHEST)
    start = normalised(spread * draw.standard_normal((prompts, answers)))
    return Tabular(start, gold, draw.integers(4, 21, (prompts, answers)).astype(np.float64))


def normalised(logits: Floats) -> Floats:
    """Log-probabilities whose exponentials add up to 1 along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    table: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return table


def tilted(start: Floats, push: Floats) -> Floats:
    """`start * exp(push)`, normalised: log-probabilities, [P, K]."""
    return normalised(start + push)


def asked(world: Tabular, goal: float, *, beta: float) -> Floats:
    """Where relabelled DPO rests over a whole population: `start * exp(-(goal - gold)^2 / beta)`, normalised, [P, K].

    Source: arXiv 2410.08067, equation 4.1, in arXiv 2305.18290, equation 4.
    """
    return tilted(world.start, -((goal - world.gold) ** 2) / beta)


def mean_of(policy: Floats, values: Floats) -> Floats:
    """Expected value under the policy at each prompt, [P]."""
    found: Floats = (np.exp(policy) * values).sum(axis=-1)
    return found


def kl(policy: Floats, start: Floats) -> Floats:
    """KL(policy || start) at each prompt, [P], in nats; a policy's zero counts as 0."""
    share = np.exp(policy)
    with np.errstate(invalid="ignore"):
        found: Floats = np.where(share > 0, share * (policy - start), 0.0).sum(axis=-1)
    return found


def noisy(scores: Floats, error: float, draw: np.random.Generator) -> Floats:
    """What a judge says: scores with a normal error of that standard deviation, on half points of 1 to 10."""
    said = np.round(2 * (scores + error * draw.standard_normal(scores.shape))) / 2
    table: Floats = np.clip(said, LOWEST, HIGHEST)
    return table


def drawn(policy: Floats, count: int, draw: np.random.Generator) -> Whole:
    """Numbers of `count` different answers to each prompt, [P, count], as they come from the policy.

    Drawn without putting back, by the Gumbel trick.

    Raises:
        InputError: there are fewer answers than are asked for.
    """
    if count > policy.shape[1]:
        raise InputError(f"{count} different answers cannot be drawn from {policy.shape[1]}")
    order: Whole = np.argsort(-(policy + draw.gumbel(size=policy.shape)), axis=1, kind="stable")[:, :count]
    return order


def best_random(scores: Floats, draw: np.random.Generator) -> Rows:
    """UltraFeedback's pairs: the best-scored answer of each prompt against a random other; ties are left out."""
    prompts = np.arange(len(scores))
    chosen = scores.argmax(axis=1)
    other = (chosen + draw.integers(1, scores.shape[1], len(scores))) % scores.shape[1]
    return by_score(prompts, chosen, other, scores)


def best_all(scores: Floats) -> Rows:
    """The best-scored answer of each prompt against every other: the population from which `best_random` draws."""
    prompts, answers = scores.shape
    prompt = np.repeat(np.arange(prompts), answers - 1)
    chosen = scores.argmax(axis=1)[prompt]
    other = (chosen + np.tile(np.arange(1, answers), prompts)) % answers
    return by_score(prompt, chosen, other, scores)


def disjoint(scores: Floats, draw: np.random.Generator) -> Rows:
    """Every answer in one pair (with an odd number, one in none), at random; ties are left out."""
    order = np.argsort(draw.random(scores.shape), axis=1)[:, : 2 * (scores.shape[1] // 2)]
    prompts = np.repeat(np.arange(len(scores)), order.shape[1] // 2)
    return by_score(prompts, order[:, 0::2].reshape(-1), order[:, 1::2].reshape(-1), scores)


def by_score(prompt: Whole, one: Whole, two: Whole, scores: Floats) -> Rows:
    """Pairs with the better-scored answer chosen, without those that tie."""
    first, second = scores[prompt, one], scores[prompt, two]
    keep = first != second
    better = (first > second)[keep]
    prompt, one, two = prompt[keep], one[keep], two[keep]
    return Rows(prompt, np.where(better, one, two), np.where(better, two, one), np.full(len(prompt), np.nan))


def preferences(scores: Floats, rows: Rows) -> Preferences:
    """The same as preferences, so that the verbs can be used on it; answer k of prompt p has the id `p K + k`."""
    prompts, answers = scores.shape
    ids = [f"p{number:05d}" for number in range(prompts)]
    asks = [[{"role": "user", "content": f"Question {number}"}] for number in range(prompts)]
    said = [[{"role": "assistant", "content": f"answer {k} to {p}"}] for p in range(prompts) for k in range(answers)]
    responses = pl.DataFrame(
        {"prompt_id": np.repeat(ids, answers).tolist(), "response": said, "score": scores.reshape(-1)}
    )
    pairs = pl.DataFrame(
        {
            "prompt_id": [ids[number] for number in rows.prompt],
            "chosen_id": rows.prompt * answers + rows.chosen,
            "rejected_id": rows.prompt * answers + rows.rejected,
        }
    )
    return Preferences.of(pl.DataFrame({"prompt_id": ids, "prompt": asks}), responses, pairs)


def rows_of(prefs: Preferences, answers: int) -> Rows:
    """The pairs of what `preferences` made, or of what a verb made of it.

    Args:
        prefs: pairs with or without goals.
        answers: K.
    """
    frame = prefs.pairs.collect()
    chosen, rejected = (frame[name].to_numpy().astype(np.int64) for name in ("chosen_id", "rejected_id"))
    goal = frame["goal"].cast(pl.Float64).fill_null(np.nan).to_numpy() if "goal" in frame.columns else None
    return Rows(chosen // answers, chosen % answers, rejected % answers, np.full(len(chosen), np.nan) if goal is None
                else goal.astype(np.float64))  # fmt: skip
