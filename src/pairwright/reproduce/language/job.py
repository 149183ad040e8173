"""One training and what its model answers: a function of the job and of nothing else."""

import time
from copy import deepcopy
from functools import lru_cache
from importlib import import_module
from typing import Any

import torch

import pairwright.worlds.language as world_of
from pairwright.chat import user
from pairwright.errors import PairwrightError
from pairwright.goals import GoalFormat, with_goal
from pairwright.logprobs.tokenise import Limits
from pairwright.losses import asks
from pairwright.losses.table import LOSSES
from pairwright.pairing import pair
from pairwright.preferences import Preferences
from pairwright.reproduce.language.bases import base_place
from pairwright.reproduce.language.data import Given
from pairwright.reproduce.language.setting import (
    BATCH,
    MAX_LENGTH,
    MAX_PROMPT,
    TEMPLATE,
    Arm,
    Base,
    Goal,
    Job,
    Tuned,
    World,
)
from pairwright.reproduce.language.training import opened, trained, with_references
from pairwright.train.data import group_examples, pair_examples, point_examples
from pairwright.train.examples import Example

SAMPLES = 2
VALIDATION = 72
"""Held-out instructions for tuning; the rest are for the test."""
NEW_TOKENS = 18
FORM = GoalFormat(template=TEMPLATE, placement="system")
_SCORES = ("gold", "correctness", "courtesy", "brevity", "fillers", "praises", "refuses")


def done(job: Job) -> dict[str, Any]:
    """Train, ask, and measure.

    Returns:
        JSON values: `gold`, and the other fields of `Marks`: for each goal, by its text (`said`), the mean over
        samples of each held-out instruction, in a fixed order; `measures` by name; `seconds` of one core, whatever else
        the machine was doing.
    """
    began = time.process_time()
    model, tokenizer = base_of(job.world.base)
    policy, form = model, FORM
    if job.arm is not None and job.tuned is not None:
        prefs = made(job.world, job.arm, job.seed)
        form = prefs.goal_format or FORM
        policy = policy_of(job.world, job.arm, job.tuned, job.seed)
    tasks = held_out(job.part, job.prompts)
    found: dict[str, Any] = {name: {} for name in _SCORES}
    for goal in job.goals:
        worth = [world_of.mark(task, words) for task, words in asked(policy, tokenizer, tasks, goal, form, job.seed)]
        for name in _SCORES:
            each = [float(getattr(marks, name)) for marks in worth]
            found[name][said(goal)] = [
                round(sum(each[i : i + SAMPLES]) / SAMPLES, 6) for i in range(0, len(each), SAMPLES)
            ]
    found["measures"] = {name: named(name)(job, policy, model, tokenizer) for name in job.measures}
    return found | {"seconds": round(time.process_time() - began, 2)}


def said(goal: Goal | None) -> str:
    """A goal as a key: `none`, `10`, `10,1`."""
    if goal is None:
        return "none"
    return ",".join(f"{part:g}" for part in (goal if isinstance(goal, tuple) else (goal,)))


def held_out(part: str, count: int) -> list[world_of.Task]:
    """Held-out instructions: validation and test have none in common."""
    every = world_of.tasks(world_of.HELD_OUT * len(world_of.SKILLS), "held_out")
    most = {"validation": VALIDATION, "test": len(every) - VALIDATION}[part]
    if not 0 < count <= most:
        raise PairwrightError(f"there are 1 to {most} held-out instructions for {part}, not {count}")
    return every[-count:] if part == "validation" else every[:count]


def asked(
    model: Any,
    tokenizer: Any,
    tasks: list[world_of.Task],
    goal: Goal | None,
    form: GoalFormat,
    seed: int,
    samples: int = SAMPLES,
) -> list[tuple[world_of.Task, list[str]]]:
    """Answers at temperature 1, `samples` to each instruction: the instruction and the answer's words."""
    return [(task, words) for task, _, _, words in drawn(model, tokenizer, tasks, goal, form, seed, samples)]


@torch.no_grad()
def drawn(
    model: Any,
    tokenizer: Any,
    tasks: list[world_of.Task],
    goal: Goal | None,
    form: GoalFormat,
    seed: int,
    samples: int = SAMPLES,
) -> list[tuple[world_of.Task, list[int], list[int], list[str]]]:
    """Instruction, prompt tokens, answer tokens (with the end, if it came) and the answer's words."""
    torch.manual_seed(seed)
    placed = goal if not isinstance(goal, tuple) else list(goal)
    once = [
        tokenizer.apply_chat_template(
            with_goal([user(task.text)], placed, form, "system"), add_generation_prompt=True, return_dict=False
        )
        for task in tasks
    ]
    prompts = [prompt for prompt in once for _ in range(samples)]
    given = tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
    width = given["input_ids"].shape[1]
    out = model.generate(
        **given,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=NEW_TOKENS,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )[:, width:]
    found = []
    for i, row in enumerate(out.tolist()):
        ids = row[: row.index(tokenizer.eos_token_id) + 1] if tokenizer.eos_token_id in row else row
        words = tokenizer.decode(ids, skip_special_tokens=True).lower().split()
        found.append((tasks[i // samples], prompts[i], ids, words))
    return found


@lru_cache(maxsize=4)
def base_of(base: Base) -> tuple[Any, Any]:
    """A base model, for reading only, and its tokenizer."""
    return opened(base_place(base))


@lru_cache(maxsize=8)
def pairs_of(world: World, seed: int) -> Preferences:
    """The pairs of a world, one of each instruction."""
    prefs = world_of.make(
        prompts=world.prompts, skill=world.skill, weak=world.weak, judge=world.judge, noise=world.noise, seed=seed
    )
    return pair(prefs, rule=world.rule, seed=seed)


@lru_cache(maxsize=8)
def made(world: World, arm: Arm, seed: int) -> Preferences:
    """What an arm trains on."""
    model, tokenizer = base_of(world.base)
    given = Given(world=world, model=model, tokenizer=tokenizer, seed=seed)
    found: Preferences = named(arm.data)(pairs_of(world, seed), given, **dict(arm.data_settings))
    return found


@lru_cache(maxsize=8)
def rows_of(world: World, arm: Arm, seed: int) -> list[Example]:
    """The examples, with the base's log-probabilities."""
    model, tokenizer = base_of(world.base)
    prefs = made(world, arm, seed)
    wants = asks(LOSSES[arm.loss])
    told: dict[str, Any] = {"split": "train", "limits": Limits(MAX_LENGTH, MAX_PROMPT)}
    if arm.score:
        told["score"] = "score"
    if arm.examples == "pairs":
        anchor = list(arm.goal) if isinstance(arm.goal, tuple) else arm.goal
        strangers = wants.baseline == "mismatched_kl"
        rows = pair_examples(
            prefs, tokenizer, anchor=anchor if arm.anchor else None, strangers=strangers, seed=seed, **told
        ).rows
    else:
        rows = (point_examples if arm.examples == "responses" else group_examples)(prefs, tokenizer, **told).rows
    return with_references(model, rows) if "ref" in wants.needs or wants.baseline else rows


def policy_of(world: World, arm: Arm, tuned: Tuned, seed: int) -> Any:
    """The model that an arm trains."""
    model, _ = base_of(world.base)
    return trained(
        deepcopy(model),
        rows_of(world, arm, seed),
        terms(arm, tuned),
        kind=arm.examples,
        steps=world.steps,
        batch=BATCH,
        rate=tuned.rate,
        seed=seed,
    )


def terms(arm: Arm, tuned: Tuned) -> list[dict[str, Any]]:
    """The loss of an arm as recipes write it."""
    main = {"name": arm.loss, **dict(arm.settings)}
    if arm.strength:
        main[arm.strength] = tuned.strength
    if tuned.smoothing:
        main["label_smoothing"] = tuned.smoothing
    rest = [{"name": "goal_sft" if arm.anchor else "sft", "weight": tuned.sft}] if tuned.sft else []
    return [main, *rest]


def named(name: str) -> Any:
    """The function of a `module:function`."""
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)
