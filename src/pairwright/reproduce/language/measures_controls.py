"""What the control claims measure and train on besides the shared: good rejected answers, and pairs without top scores.

`good_rejected` is a measure, `relabelled_below` a function that makes data; both are named by jobs.
"""

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import polars as pl
import torch

import pairwright.worlds.language as world_of
from pairwright.chat import assistant, user
from pairwright.errors import InputError
from pairwright.goals import with_goal
from pairwright.logprobs.core import AnswerLogps, Batch, answer_logps
from pairwright.logprobs.tokenise import Limits, Texts, tokenise_many
from pairwright.preferences import Preferences, Step
from pairwright.reproduce.language.data import Given, relabelled
from pairwright.reproduce.language.job import FORM, held_out
from pairwright.reproduce.language.setting import MAX_LENGTH, MAX_PROMPT, TOP, Job

GOOD = 5.0
"""The score from which a rejected answer is a good one, as in the paper's figure 3."""
ANSWERS = 4


class HeldOut(NamedTuple):
    """A pair of answers to a held-out instruction.

    Attributes:
        task: the instruction.
        chosen: words of the best of four answers.
        rejected: words of another one, drawn at random, with a lower score.
        score_chosen: gold of the chosen answer, 1 to 10.
        score_rejected: gold of the rejected one, `GOOD` or more.
    """

    task: world_of.Task
    chosen: list[str]
    rejected: list[str]
    score_chosen: float
    score_rejected: float


READS: dict[str, Callable[[HeldOut], float | None]] = {
    "none": lambda pair: None,
    "top": lambda pair: TOP,
    "rejected": lambda pair: pair.score_rejected,
    "chosen": lambda pair: pair.score_chosen,
}
"""Which goal a pair is read under: none, the top score, the score of its rejected answer, or of its chosen one."""


def held_out_pairs(skill: float, count: int) -> list[HeldOut]:
    """Pairs of held-out test instructions whose rejected answer is good; the same for every seed of a training.

    Args:
        skill: mean number of right words of the authors: each of nine is right with the same probability.
        count: how many instructions; one without such a pair is left out.
    """
    rng = Random(f"held-out pairs {skill}")
    found = []
    for task in held_out("test", count):
        levels = [sum(rng.random() < skill / world_of.WORDS for _ in range(world_of.WORDS)) for _ in range(ANSWERS)]
        answers = [world_of.answer(task, level, rng) for level in levels]
        scores = [world_of.mark(task, words).gold for words in answers]
        best = max(range(ANSWERS), key=scores.__getitem__)
        other = rng.choice([at for at in range(ANSWERS) if at != best])
        if GOOD <= scores[other] < scores[best]:
            found.append(HeldOut(task, answers[best], answers[other], scores[best], scores[other]))
    return found


def good_rejected(job: Job, policy: Any, model: Any, tokenizer: Any) -> dict[str, Any]:
    """What policy and start say of good rejected answers to held-out instructions, and their margins.

    Returns:
        For each of `READS`, a list over pairs: `sum` and `mean`, log pi(y_l | x) in nats, of the whole answer and of
        each token; `start_sum` and `start_mean`, the same of the start; `margin`, the log-ratio of policy and start of
        the chosen answer less that of the rejected one, in nats (beta 1).
    """
    pairs = held_out_pairs(job.world.skill, job.prompts)
    if not pairs:
        raise InputError("no held-out instruction has a good rejected answer; ask for more instructions")
    found = {}
    for name, goal in READS.items():
        batch = _batch(pairs, [goal(pair) for pair in pairs], tokenizer)
        ours, start = _said(policy, batch), _said(model, batch)
        gain = ours.logp - start.logp
        found[name] = {
            "sum": _numbers(ours.logp[1::2]),
            "mean": _numbers((ours.logp / ours.length)[1::2]),
            "start_sum": _numbers(start.logp[1::2]),
            "start_mean": _numbers((start.logp / start.length)[1::2]),
            "margin": _numbers(gain[0::2] - gain[1::2]),
        }
    return found


def _batch(pairs: list[HeldOut], goals: list[float | None], tokenizer: Any) -> Batch:
    """Chosen and rejected answers in turn, after the prompt with its goal."""
    texts = [
        Texts(
            with_goal([user(pair.task.text)], goal, FORM, "system"),
            "",
            [[assistant(" ".join(words))] for words in (pair.chosen, pair.rejected)],
        )
        for pair, goal in zip(pairs, goals, strict=True)
    ]
    rows = list(tokenise_many(tokenizer, texts, limits=Limits(MAX_LENGTH, MAX_PROMPT)))
    answers = [tokens.completion_ids for _, both in rows for tokens in both]
    return Batch.of([head.ids for head, _ in rows], answers, [at // 2 for at in range(len(answers))])


@torch.no_grad()
def _said(model: Any, batch: Batch) -> AnswerLogps:
    return answer_logps(model, batch)


def _numbers(values: torch.Tensor) -> list[float]:
    return [round(value, 6) for value in values.tolist()]


def relabelled_below(prefs: Preferences, given: Given, *, below: float, **settings: Any) -> Preferences:
    """Pairs whose answers both score less than `below`, with goals: `settings` are those of `relabelled`."""
    high = prefs.responses.filter(pl.col("score") >= below).select("response_id").collect()["response_id"].implode()
    pairs = prefs.pairs.filter(~pl.col("chosen_id").is_in(high) & ~pl.col("rejected_id").is_in(high)).collect()
    count = prefs.counts().pairs
    step = Step(
        name="below",
        settings={"below": below},
        rows_in=count,
        rows_out=len(pairs),
        dropped={"high_score": count - len(pairs)},
    )
    return relabelled(prefs.then(step, pairs=pairs), given, **settings)
