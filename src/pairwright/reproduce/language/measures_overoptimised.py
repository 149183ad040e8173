"""One epoch of training at a constant rate, looked at as it goes: gold, distance from the start, spread of next tokens.

Every pair is seen once, so what is lost here is not lost by learning pairs by heart.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from random import Random
from typing import Any

import polars as pl
import torch
from transformers import TrainerCallback

import pairwright.worlds.language as world_of
from pairwright.errors import InputError
from pairwright.logprobs.core import Batch, answer_states, token_values
from pairwright.logprobs.divergence import states_kl
from pairwright.logprobs.tokenise import Limits
from pairwright.losses.compose import Term, compose
from pairwright.losses.types import Loss
from pairwright.pairing import pair
from pairwright.preferences import Preferences
from pairwright.probes.reading import only_read, spreads
from pairwright.reproduce.language.job import FORM, SAMPLES, base_of, drawn, held_out, pairs_of
from pairwright.reproduce.language.setting import BATCH, MAX_LENGTH, MAX_PROMPT, World
from pairwright.reproduce.language.training import trained, with_references
from pairwright.train.data import pair_examples
from pairwright.train.examples import Example
from pairwright.train.records import answers_of, collate
from pairwright.train.records import pairs_of as paired
from pairwright.train.reference import columns

TOP = 10
"""Most likely next tokens whose entropy and mass are read."""
UNSEEN = 48
"""Instructions whose pairs are held out: of the same authors and the same judge, in no training."""
WARMUP = 20
"""One step in so many is warm-up."""


def course(
    *,
    world: World,
    term: tuple[tuple[str, Any], ...],
    seed: int,
    rate: float,
    checks: tuple[float, ...],
    prompts: int,
) -> dict[str, Any]:
    """Train for `world.steps` steps, less than one epoch, and look at the model on the way.

    Args:
        world: where the pairs come from.
        term: the loss as recipes write it, as pairs of key and value.
        seed: of data, order and answers.
        rate: of AdamW, constant after a warm-up.
        checks: shares of the training at which the model is looked at; 0 is the start.
        prompts: held-out instructions that it answers.

    Returns:
        JSON values: `checks`, each with `step`; `gold`, `fillers`, `praises` and `kl` (nats for an answer, from the
        start), means over the samples of each held-out instruction; `length` (tokens of an answer);
        `own_entropy` (bits) and `own_mass` of the most likely next tokens where it wrote its own answers; and of
        held-out pairs `entropy` and `mass` on chosen answers, `chosen` and `rejected` (nats), `loss`, and `accuracy`,
        the share that the implicit reward orders as the judge does; and `seconds` on one core.

    Raises:
        InputError: the world has fewer pairs than the training takes.
    """
    began = time.process_time()
    model, _ = base_of(world.base)
    loss = compose([Term.of(dict(term))])
    steps = sorted({round(share * world.steps) for share in checks})
    found: list[dict[str, Any]] = []

    def look(policy: Any, step: int) -> None:
        with only_read(policy) as ready:
            found.append({"step": step, **seen(ready, loss, world, seed, prompts)})

    policy = deepcopy(model)
    if steps[0] == 0:
        look(policy, 0)
    trained(
        policy,
        rows_of(world, seed),
        [dict(term)],
        kind="pairs",
        steps=world.steps,
        batch=BATCH,
        rate=rate,
        seed=seed,
        schedule="constant_with_warmup",
        warmup=WARMUP,
        callbacks=[_Looks({s: look for s in steps if s})],
    )
    return {"checks": found, "seconds": round(time.process_time() - began, 2)}


def seen(policy: Any, loss: Loss, world: World, seed: int, prompts: int) -> dict[str, Any]:
    """What a model is like now; see `course`."""
    start, tokenizer = base_of(world.base)
    return own(policy, start, tokenizer, seed, prompts) | on_pairs(policy, loss, unseen(world, seed))


def own(policy: Any, start: Any, tokenizer: Any, seed: int, prompts: int) -> dict[str, Any]:
    """Of a model's own answers at temperature 1: marks, divergence from the start, spread of the next token.

    The divergence is exact at each position and summed over those of an answer that the policy drew, the end included:
    an estimate of that of whole answers without bias.
    """
    answers = drawn(policy, tokenizer, held_out("test", prompts), None, FORM, seed, SAMPLES)
    marks = [world_of.mark(task, words) for task, _, _, words in answers]
    batch = Batch.of(
        [prompt for _, prompt, _, _ in answers[::SAMPLES]],
        [ids for _, _, ids, _ in answers],
        [i // SAMPLES for i in range(len(answers))],
    )
    values, states = answer_states(policy, batch, top=TOP)
    away = states_kl(states, answer_states(start, batch)[1])
    kl = torch.segment_reduce(away, "sum", lengths=values.length).tolist()
    spread = spreads(values)
    return {
        "gold": _by_prompt([each.gold for each in marks]),
        "fillers": _by_prompt([float(each.fillers) for each in marks]),
        "praises": _by_prompt([float(each.praises) for each in marks]),
        "kl": _by_prompt(kl),
        "length": round(float(values.length.float().mean()), 4),
        "own_entropy": round(float(spread["top_entropy"].mean()), 6),
        "own_mass": round(float(spread["top_mass"].mean()), 6),
    }


def on_pairs(policy: Any, loss: Loss, rows: Sequence[Example]) -> dict[str, float]:
    """Of held-out pairs: the loss, what the implicit reward says of them, and the spread on chosen answers."""
    inputs = collate(rows)
    batch = Batch.from_inputs(inputs)
    values = token_values(policy, batch, top=TOP)
    record = paired(answers_of(values, inputs, columns(policy, batch, inputs)), inputs)
    out = loss(record)
    spread = spreads(values)
    numbers = {
        "loss": out.loss.mean(),
        "accuracy": (out.chosen > out.rejected).double().mean(),
        "chosen": record.chosen.logp.mean(),
        "rejected": record.rejected.logp.mean(),
        "entropy": spread["top_entropy"][0::2].mean(),
        "mass": spread["top_mass"][0::2].mean(),
    }
    return {name: round(float(value), 6) for name, value in numbers.items()}


@lru_cache(maxsize=8)
def rows_of(world: World, seed: int) -> list[Example]:
    """As many pairs as a training takes, drawn evenly, with the base's log-probabilities."""
    model, tokenizer = base_of(world.base)
    every = pair_examples(pairs_of(world, seed), tokenizer, split="train", limits=Limits(MAX_LENGTH, MAX_PROMPT)).rows
    wanted = world.steps * BATCH
    if len(every) < wanted:
        raise InputError(f"the world has {len(every)} pairs, and one epoch of {world.steps} steps takes {wanted}")
    return with_references(model, Random(f"epoch {seed}").sample(every, wanted))


@lru_cache(maxsize=8)
def unseen(world: World, seed: int) -> list[Example]:
    """Pairs of instructions that the world's trainings have not, with the base's log-probabilities."""
    model, tokenizer = base_of(world.base)
    rows = pair_examples(
        unseen_pairs(world, seed), tokenizer, split="train", limits=Limits(MAX_LENGTH, MAX_PROMPT)
    ).rows
    return with_references(model, rows)


def unseen_pairs(world: World, seed: int) -> Preferences:
    """Pairs of `UNSEEN` more instructions than the world has: the first ones are the same, so they are left out."""
    told: dict[str, Any] = {"skill": world.skill, "weak": world.weak, "judge": world.judge, "noise": world.noise}
    more = world_of.make(prompts=world.prompts + UNSEEN, seed=seed, **told)
    known = world_of.make(prompts=world.prompts, seed=seed, **told).prompts.select("prompt_id")
    new = more.prompts.join(known, on="prompt_id", how="anti").collect()
    answers = more.responses.filter(pl.col("prompt_id").is_in(new["prompt_id"].implode())).collect()
    return pair(Preferences.of(new, answers), rule=world.rule, seed=seed)


class _Looks(TrainerCallback):
    """Calls a function after the steps that it is told."""

    def __init__(self, at: Mapping[int, Callable[[Any, int], None]]) -> None:
        self._at = at

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """After the optimiser has moved the weights."""
        if state.global_step in self._at:
            self._at[state.global_step](given["model"], state.global_step)


def _by_prompt(each: Sequence[float]) -> list[float]:
    """Means over the samples of each instruction."""
    return [round(sum(each[i : i + SAMPLES]) / SAMPLES, 6) for i in range(0, len(each), SAMPLES)]
