"""A bench on which it is known what every diagnostic must find: policies that are tables of log-probabilities.

P prompts with K answers each. A policy is a table [P, K] of log-probabilities, one softmax for each prompt: an answer
is one draw from K, so the whole of an answer is one "next token" from a vocabulary of K, and KL divergence, entropy and
mass are exact sums over K. Lengths are declared, not counted. No torch, nothing sampled unless asked for.

Closed forms: DPO over the whole population of pairs ends at `start * exp(reward / beta)`, normalised
(arXiv 2305.18290, equation 4); asked for the goal g under the reward of arXiv 2410.08067, equation 4.1, at
`start * exp(-(g - score)^2 / beta)`, normalised.

    here = bench(seed=1)
    there = dpo_minimiser(here, beta=2.0)
    seen = probes(here, {"none": {0: here.start, 100: there}}, beta=2.0)
    said = answers(here, there, name="dpo beta 2", per_prompt=4)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pairwright.diagnose.answers import ANSWERS, Answers
from pairwright.goals import GoalFormat
from pairwright.probes.store import CREDIT, PROBE, SAMPLE, About, Probes

Table = NDArray[np.float64]
Tables = Mapping[int, Table]


@dataclass(frozen=True, eq=False)
class Bench:
    """P prompts, K answers each.

    Attributes:
        start: log-probabilities of the start, [P, K].
        score: of each answer, 1 to 10, [P, K].
        length: declared tokens of each answer, [P, K].
        pairs: prompt, chosen and rejected answer of each pair, the better-scored one chosen, [N, 3].
    """

    start: Table
    score: Table
    length: NDArray[np.int64]
    pairs: NDArray[np.int64]

    @property
    def prompt_ids(self) -> list[str]:
        """Of the P prompts."""
        return [f"p{number:03d}" for number in range(len(self.start))]

    def side(self, table: Table, side: str) -> Table:
        """What a table says of the chosen or the rejected answers, [N]."""
        column: Table = table[self.pairs[:, 0], self.pairs[:, 1 if side == "chosen" else 2]]
        return column


def bench(seed: int = 0, prompts: int = 40, answers: int = 6, per_prompt: int = 1) -> Bench:
    """Whole-numbered scores of 1 to 10, different within a prompt; lengths of 4 to 20; a start that prefers some."""
    draw = np.random.default_rng(seed)
    score = np.stack([draw.permutation(np.arange(1.0, 11.0))[:answers] for _ in range(prompts)])
    rows = []
    for prompt in range(prompts):
        for _ in range(per_prompt):
            one, two = draw.choice(answers, 2, replace=False)
            better = score[prompt, one] > score[prompt, two]
            rows.append((prompt, one, two) if better else (prompt, two, one))
    return Bench(
        start=normalised(0.7 * draw.standard_normal((prompts, answers))),
        score=score,
        length=draw.integers(4, 21, (prompts, answers)),
        pairs=np.array(rows, dtype=np.int64),
    )


def normalised(logits: Table) -> Table:
    """Log-probabilities [P, K]: each row adds up to 1."""
    top = logits.max(axis=1, keepdims=True)
    table: Table = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return table


def tilted(start: Table, push: Table) -> Table:
    """`start * exp(push)`, normalised."""
    return normalised(start + push)


def dpo_minimiser(here: Bench, *, beta: float) -> Table:
    """What DPO ends at when the scores are the rewards of Bradley and Terry: [P, K]."""
    return tilted(here.start, here.score / beta)


def asked_for(here: Bench, goal: float, *, beta: float) -> Table:
    """The policy of relabelled training when it is asked for `goal`: [P, K]."""
    return tilted(here.start, -((goal - here.score) ** 2) / beta)


def asked_own(here: Bench, *, beta: float) -> Table:
    """log pi(y | goal = score of y) of that policy for each answer: [P, K]; rows do not add up to 1."""
    own = np.full_like(here.start, np.nan)
    for goal in np.unique(here.score):
        own = np.where(here.score == goal, asked_for(here, float(goal), beta=beta), own)
    return own


def kl(policy: Table, start: Table) -> Table:
    """KL(policy || start) of each prompt, in nats, [P]."""
    table: Table = (np.exp(policy) * (policy - start)).sum(axis=1)
    return table


def entropy(policy: Table) -> Table:
    """Of each prompt, in nats, [P]."""
    table: Table = -(np.exp(policy) * policy).sum(axis=1)
    return table


def top_mass(policy: Table, top: int) -> Table:
    """Probability of the `top` likeliest answers of each prompt, [P]."""
    table: Table = _likeliest(policy, top).sum(axis=1)
    return table


def top_entropy(policy: Table, top: int) -> Table:
    """Entropy in bits of the `top` likeliest answers, renormalised, [P]."""
    share = _likeliest(policy, top)
    return _bits(share / share.sum(axis=1, keepdims=True))


def raw_top_entropy(policy: Table, top: int) -> Table:
    """-sum p log2 p over the `top` likeliest answers as they are, [P]."""
    return _bits(_likeliest(policy, top))


def _likeliest(policy: Table, top: int) -> Table:
    table: Table = np.sort(np.exp(policy), axis=1)[:, ::-1][:, :top]
    return table


def _bits(share: Table) -> Table:
    table: Table = -(share * np.log2(np.maximum(share, 1e-300))).sum(axis=1)
    return table


def probes(
    here: Bench,
    policies: Mapping[str, Tables],
    *,
    beta: float | None = None,
    top: int = 10,
    goal: GoalFormat | None = None,
    loss: str | None = None,
    samples: Tables | None = None,
) -> Probes:
    """What a training would have been probed to say.

    Args:
        here: the bench.
        policies: for each way of asking (`none`, `top`, `own`) a table of log-probabilities for each step. Step 0 is
            the start; where it is not there, `start_logp` is null.
        beta: of the loss.
        top: k of the entropies; min(top, K) is used.
        goal: how the model is asked for scores.
        loss: its name.
        samples: for some steps a policy whose answers are drawn, one of each prompt.
    """
    top = min(top, here.start.shape[1])
    steps = sorted({step for tables in policies.values() for step in tables})
    rows = [
        _rows(here, tables[step], step, asked, side, top, tables.get(0))
        for step in steps
        for asked, tables in policies.items()
        if step in tables
        for side in ("chosen", "rejected")
    ]
    drawn = [_samples(here, policy, step, top) for step, policy in (samples or {}).items()]
    return Probes(
        about=About(
            pairs=len(here.pairs),
            split="test",
            top=top,
            vocabulary=here.start.shape[1],
            beta=beta,
            loss=loss,
            goal=goal,
            start="start",
        ),
        steps=tuple(steps),
        rows=pl.concat(rows).sort("step", "pair", "side", "asked", maintain_order=True),
        samples=pl.concat([_shaped(pl.DataFrame(schema={"step": pl.Int64, **SAMPLE}), SAMPLE), *drawn]),
        credit=pl.DataFrame(schema=CREDIT),
    )


def _rows(here: Bench, policy: Table, step: int, asked: str, side: str, top: int, start: Table | None) -> pl.DataFrame:
    at, answer = here.pairs[:, 0], here.pairs[:, 1 if side == "chosen" else 2]
    sums = np.allclose(np.exp(policy).sum(axis=1), 1.0)  # log-probabilities under several goals make no distribution
    frame = pl.DataFrame(
        {
            "step": [step] * len(at),
            "pair": np.arange(len(at)),
            "prompt_id": [here.prompt_ids[prompt] for prompt in at],
            "response_id": at * here.start.shape[1] + answer,
            "side": [side] * len(at),
            "score": here.score[at, answer],
            "asked": [asked] * len(at),
            "logp": policy[at, answer],
            "length": here.length[at, answer],
            "start_logp": [None] * len(at) if start is None else start[at, answer],
            **{name: values[at] if sums else [None] * len(at) for name, values in _spread(policy, top).items()},
        }
    )
    return _shaped(frame, PROBE)


def _samples(here: Bench, policy: Table, step: int, top: int) -> pl.DataFrame:
    at = np.arange(len(policy))
    answer = _drawn(policy, 1, seed=step)[:, 0]
    frame = pl.DataFrame(
        {
            "step": [step] * len(at),
            "prompt_id": here.prompt_ids,
            "sample": [0] * len(at),
            "asked": ["none"] * len(at),
            "goal": [None] * len(at),
            "text": [f"answer {number}" for number in answer],
            "score": here.score[at, answer],
            "logp": policy[at, answer],
            "start_logp": here.start[at, answer],
            "length": here.length[at, answer],
            "kl": kl(policy, here.start),
            **_spread(policy, top),
            "stopped": ["end"] * len(at),
        }
    )
    return _shaped(frame, SAMPLE)


def _spread(policy: Table, top: int) -> dict[str, Table]:
    return {
        "entropy": entropy(policy),
        "top_entropy": top_entropy(policy, top),
        "raw_top_entropy": raw_top_entropy(policy, top),
        "top_mass": top_mass(policy, top),
    }


def _shaped(frame: pl.DataFrame, columns: Mapping[str, object]) -> pl.DataFrame:
    return frame.select(
        pl.col("step").cast(pl.Int64), *(pl.col(name).cast(kind, strict=True) for name, kind in columns.items())
    )


def answers(
    here: Bench,
    policy: Table,
    *,
    name: str,
    per_prompt: int = 1,
    seed: int = 0,
    exact: bool = True,
    goal: float | None = None,
    training: str = "",
    step: int | None = None,
    settings: Mapping[str, object] | None = None,
) -> Answers:
    """Answers drawn from a policy at temperature 1, `per_prompt` for each prompt; equal seeds draw alike.

    `exact` fills `kl` with the closed form of each prompt; otherwise it is null and only `logp - start_logp` says.
    """
    picked = _drawn(policy, per_prompt, seed=seed)
    at = np.repeat(np.arange(len(policy)), per_prompt)
    answer = picked.reshape(-1)
    frame = pl.DataFrame(
        {
            "prompt_id": [here.prompt_ids[prompt] for prompt in at],
            "goal": [goal] * len(at),
            "text": [f"answer {number} to {prompt}" for prompt, number in zip(at, answer, strict=True)],
            "score": here.score[at, answer],
            "length": here.length[at, answer],
            "logp": policy[at, answer],
            "start_logp": here.start[at, answer],
            "kl": kl(policy, here.start)[at] if exact else [None] * len(at),
        }
    ).select(pl.col(column).cast(kind) for column, kind in ANSWERS.items())
    return Answers(name=name, frame=frame, training=training, step=step, settings=dict(settings or {}))


def _drawn(policy: Table, count: int, *, seed: int) -> NDArray[np.int64]:
    """Numbers of answers [P, count], by inverting the distribution function."""
    uniform = np.random.default_rng(seed).random((len(policy), count))
    ends = np.cumsum(np.exp(policy), axis=1)
    ends[:, -1] = 1.0
    found: NDArray[np.int64] = (uniform[:, :, None] >= ends[:, None, :]).sum(axis=2)
    return found
