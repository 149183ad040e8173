"""Academic benchmarks by EleutherAI's lm-eval, before and after a training: the alignment tax.

lm-eval asks the model in its own prompts and marks what comes; here models are opened, and its marks become a result
(`benchmarks`, `items`). This is the only module that calls lm-eval.
"""

import dataclasses
import json
import logging
import math
import os
import random
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from pairwright.errors import InputError, need
from pairwright.evaluate.benchmarks import ACADEMIC, Benchmark, Marks, Task, compared
from pairwright.evaluate.result import Result
from pairwright.plug import nearest

_LOADERS = {".json": "json", ".jsonl": "json", ".parquet": "parquet", ".csv": "csv"}
"""What `datasets` reads a file of items with, by the ending that says a format."""


class _Asked(NamedTuple):
    """How the models are asked."""

    dtype: Literal["float32", "bfloat16", "float16"]
    limit: int | None
    chat_template: bool
    max_new_tokens: int | None
    batch_size: int
    seed: int


def harness(
    model: str | os.PathLike[str],
    *,
    before: str | os.PathLike[str] | None = None,
    tasks: Sequence[str] = tuple(ACADEMIC),
    metrics: Mapping[str, str] | None = None,
    few_shot: Mapping[str, int] | None = None,
    data: Path | None = None,
    include_path: Path | None = None,
    limit: Annotated[int, Field(gt=0)] | None = None,
    chat_template: bool = False,
    goal: float | Sequence[float] | None = None,
    max_new_tokens: Annotated[int, Field(gt=0)] | None = None,
    batch_size: Annotated[int, Field(gt=0)] = 8,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    draws: Annotated[int, Field(gt=0)] = 2000,
    seed: int = 0,
) -> Result:
    """Run lm-eval on a model and on what it was before its training: what the training cost on benchmarks.

    The usual tasks are GSM8K with 8 solved examples, GPQA, MuSR, TruthfulQA, BBH and the ARC challenge, under lm-eval's
    names and by its definitions: prompts, examples, how answers are found in a text. Their number is the mean of marks
    between 0 and 1. Both models get the same items, and a change is taken item by item. Intervals are at 95% over
    items: Wilson's where items are right or wrong, else percentiles of a bootstrap that draws items within each task of
    a group, as for every change. They know nothing of the seeds of training. Where no draw differs there are no ends.

    lm-eval fetches a task's items from the hub. Without a network give them as files with `data`, in the columns of the
    task's data set: `data/arc_challenge/test.jsonl`, a directory for each task and a file for each split that it uses.

    Source: arXiv 2405.14782 (lm-eval); Efron and Tibshirani (1993), section 13.3 (the intervals).

    Args:
        model: a `save_pretrained` directory, a hub name, the directory of an adapter, or what `train` gave.
        before: the same for the model before its training; without it there is no comparison.
        tasks: lm-eval's names of tasks, groups or tags.
        metrics: by task, which `metric,filter` is its number, such as `gsm8k_cot exact_match,flexible-extract`.
        few_shot: by task, how many solved examples stand before each item, where not as lm-eval defines it.
        data: directory with the items of tasks as files, nothing but directories of these tasks; tasks that have none
            there are fetched.
        include_path: directory with task definitions (YAML) of your own; they win over lm-eval's of the same name.
        limit: only the first so many items of each task: for a trial, no number to publish.
        chat_template: ask in the chat template of the model, solved examples as turns; else in plain text.
        goal: the score that `model` is asked for, in the units of the scores, as `generate` says it; needs
            `chat_template`. The model before is asked for none.
        max_new_tokens: of an answer, in tasks where the model writes; as the task defines it when not given.
        batch_size: items at a time.
        dtype: precision of the weights.
        draws: bootstrap samples.
        seed: of examples, of shuffled choices, and of the bootstrap.

    Returns:
        `average` (unweighted mean over benchmarks) and `after/<task>`; with `before` also `average_before`,
        `difference` (after minus before: negative is the tax), `before/<task>` and `difference/<task>`. The table has
        every metric of every task as lm-eval gives it, with its standard error, and how many items were gained and
        lost. Prompts that were too long for the model, and so lost their beginning, are counted in a note.

    Raises:
        InputError: there is no such task or metric, a task is asked for twice, a definition takes no other items or
            examples, items are not to be had, or the model's context is too short.
        MissingExtra: lm-eval is not installed.
    """
    asked = _Asked(dtype, limit, chat_template, max_new_tokens, batch_size, seed)
    if not tasks:
        raise InputError("evaluate harness: give at least one task")
    if goal is not None and not chat_template:
        raise InputError("evaluate harness: a goal is part of a chat, so it needs chat_template")
    lm_eval: Any = need("lm_eval", extra="eval")
    places = [place for place in (before, model) if place is not None]
    with tempfile.TemporaryDirectory() as folder, _quiet(), _own_random_numbers():
        defined = _defined(tasks, few_shot or {}, data, include_path, Path(folder))
        sides: list[Marks] = []
        notes: list[str] = []
        for place in places:
            benchmarks, marks, said = _side(place, goal if place is places[-1] else None, defined, tasks, asked)
            sides.append(marks)
            notes += said
    found = compared(benchmarks, sides, metrics or {}, draws=draws, seed=seed)
    if limit is not None:
        notes.append(f"Only the first {limit:,} items of each task: a trial, no number to publish.")
    settings = {
        "model": os.fspath(model),
        "before": None if before is None else os.fspath(before),
        "tasks": list(tasks),
        "metrics": dict(metrics or {}),
        "few_shot": dict(few_shot or {}),
        "data": None if data is None else str(data),
        "include_path": None if include_path is None else str(include_path),
        "goal": goal if goal is None or isinstance(goal, int | float) else list(goal),
        "draws": draws,
        "lm_eval": lm_eval.__version__,
        **asked._asdict(),
    }
    return Result(
        name="harness",
        n=found.n,
        settings=settings,
        metrics=found.metrics,
        table=found.table,
        notes=(*notes, *found.notes),
    )


class _Defined(NamedTuple):
    """lm-eval's tasks, and what was changed in them."""

    manager: Any
    changed: Mapping[str, Mapping[str, Any]]
    """By single task, the settings of its definition that are the user's."""
    few_shot: Mapping[str, int]
    """As it was asked for, by task, group or tag."""


def _defined(
    tasks: Sequence[str], few_shot: Mapping[str, int], data: Path | None, include_path: Path | None, folder: Path
) -> _Defined:
    """lm-eval's index of tasks; those with files or examples of the user's are defined anew in `folder`."""
    for place in (data, include_path):
        if place is not None and not place.is_dir():
            raise InputError(f"evaluate harness: there is no directory {place}; it should hold what tasks are made of")
    # What is defined anew includes the definition by its path, and stands elsewhere: so no path may be relative.
    where = None if include_path is None else str(include_path.resolve())
    manager = need("lm_eval.tasks", extra="eval").TaskManager(include_path=where)
    index = manager.task_index
    for name in (*tasks, *few_shot):
        if name not in index:
            hint = nearest(name, manager.all_tasks) or "; `lm_eval ls tasks` lists them"
            raise InputError(f"evaluate harness: lm-eval has no task {name!r}{hint}")
    examples = {leaf: count for name, count in few_shot.items() for leaf in _leaves(index, name)}
    asked = _each_once(index, tasks)
    if unused := sorted(examples.keys() - set(asked)):
        raise InputError(f"evaluate harness: few_shot names {unused[0]}, which is none of the tasks")
    if data is not None:
        _all_named(data, asked)
    changed: dict[str, dict[str, Any]] = {}
    for leaf in asked:
        settings: dict[str, Any] = {} if leaf not in examples else {"num_fewshot": examples[leaf]}
        if data is not None and (data / leaf).is_dir():
            settings |= _from_files(data / leaf, folder / "cache")
        if settings:
            changed[leaf] = settings
        if settings and index[leaf].yaml_path:
            # JSON is YAML; the file includes lm-eval's own definition, so that all else stays as it is there.
            path = folder / f"{leaf}.yaml"
            path.write_text(json.dumps({"include": str(index[leaf].yaml_path), "task": leaf, **settings}), "utf-8")
            index[leaf] = dataclasses.replace(index[leaf], yaml_path=path)
    return _Defined(manager, changed, few_shot)


def _each_once(index: Mapping[str, Any], tasks: Sequence[str]) -> list[str]:
    """The single tasks behind all names.

    Raises:
        InputError: a task is behind two names, and would count twice.
    """
    owner: dict[str, str] = {}
    for name in tasks:
        for leaf in dict.fromkeys((name, *_leaves(index, name))):
            if (other := owner.setdefault(leaf, name)) != name or tasks.count(name) > 1:
                both = f"{other} and {name} both hold it" if other != name else "it is named twice"
                raise InputError(
                    f"evaluate harness: {leaf} is asked for twice ({both}) and would count twice; ask once"
                )
    return [leaf for name in tasks for leaf in _leaves(index, name)]


def _all_named(data: Path, leaves: Sequence[str]) -> None:
    """Every directory has the name of a single task, so that no items lie there unread."""
    for place in sorted(data.iterdir()):
        if place.is_dir() and not place.name.startswith(".") and place.name not in leaves:
            hint = nearest(place.name, leaves) or f"; those are {', '.join(leaves)}"
            raise InputError(
                f"evaluate harness: no task reads {place}: a directory has the name of one of the tasks, and a task "
                f"that a group defines itself takes no items{hint}"
            )


def _leaves(index: Mapping[str, Any], named: str | Mapping[str, Any]) -> list[str]:
    """The single tasks behind a name, or behind a member of a group; without those that a group defines itself."""
    name = named if isinstance(named, str) else named.get("group") or named.get("task")
    entry = index.get(name) if isinstance(name, str) else None
    if entry is not None and entry.tags and not entry.yaml_path:
        return sorted(leaf for leaf in entry.tags if leaf in index)
    given = named if entry is None and not isinstance(named, str) else (entry and entry.cfg) or {}
    inside = given.get("task")
    if isinstance(inside, list):
        return [leaf for each in inside for leaf in _leaves(index, each)]
    return [] if entry is None else [entry.name]


def _from_files(place: Path, cache: Path) -> dict[str, Any]:
    """The part of a task's definition that makes `datasets` read the files of a directory, one for each split."""
    files: dict[str, str] = {}
    kinds: set[str] = set()
    for path in sorted(place.iterdir()):
        endings = [ending for ending in path.suffixes if ending in _LOADERS]
        if path.is_file() and endings:
            files[path.name.split(".")[0]] = str(path.resolve())
            kinds.add(_LOADERS[endings[-1]])
    if len(kinds) != 1:
        what = "files of several formats" if kinds else f"no file that ends in {', '.join(_LOADERS)}"
        raise InputError(f"evaluate harness: {place} has {what}; give one for each split, such as test.jsonl")
    return {
        "dataset_path": kinds.pop(),
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files, "cache_dir": str(cache)},
    }


def _loaded(manager: Any, name: str, seed: int) -> Any:
    """A task, a group or the tasks of a tag, with its items.

    Raises:
        InputError: the items are not to be had.
    """
    random.seed(seed)  # GPQA shuffles its choices when it is loaded; so they do not depend on the tasks before it
    try:
        return manager.load([name])
    except Exception as error:  # a task's definition is a program, and so is what fetches its items
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"evaluate harness: the items of {name} cannot be had: {first.rstrip('.')}; "
            "download them first, or give them as files with data"
        ) from error


def _took(defined: _Defined, loaded: Sequence[Mapping[str, Any]]) -> None:
    """Whether the loaded tasks are as they were asked for: a group may define its tasks anew.

    Raises:
        InputError: one is not.
    """
    groups = {name: group for each in loaded for name, group in each.get("groups", {}).items()}
    wanted: dict[str, Mapping[str, Any]] = {
        task.task_name: {"num_fewshot": count}
        for name, count in defined.few_shot.items()
        if name in groups
        for task in groups[name].get_all_tasks()
    }
    wanted |= defined.changed
    names = [name for each in loaded for name in each["tasks"]]
    if several := sorted(name for name in set(names) if names.count(name) > 1):
        raise InputError(f"evaluate harness: {several[0]} is asked for twice and would count twice; ask once")
    for each in loaded:
        for name, task in each["tasks"].items():
            for setting, value in wanted.get(name, {}).items():
                if getattr(task.config, setting, None) != value:
                    what = "examples" if setting == "num_fewshot" else "items"
                    source = "few_shot" if setting == "num_fewshot" else "data"
                    raise InputError(
                        f"evaluate harness: {name} keeps its own {what}, which its group or its program sets; ask for "
                        f"the task by its own name, or leave it out of {source}"
                    )


def _benchmarks(name: str, loaded: Mapping[str, Any]) -> list[Benchmark]:
    """The benchmarks behind a name: a group that has a number of its own is one, else each of its tasks."""
    group = loaded.get("groups", {}).get(name)
    if group is None or not group.has_aggregation:
        return [Benchmark(leaf, (leaf,), {}) for leaf in loaded["tasks"]]
    by_size = {each.metric: bool(each.weight_by_size) for each in group.aggregate_metric_list}
    return [Benchmark(name, tuple(task.task_name for task in group.get_all_tasks()), by_size)]


def _side(
    place: str | os.PathLike[str],
    goal: float | Sequence[float] | None,
    defined: _Defined,
    tasks: Sequence[str],
    asked: _Asked,
) -> tuple[list[Benchmark], Marks, list[str]]:
    """What was asked for, what one model got, and notes. The model is gone afterwards."""
    loaded = [_loaded(defined.manager, name, asked.seed) for name in tasks]
    _took(defined, loaded)
    benchmarks = [each for name, found in zip(tasks, loaded, strict=True) for each in _benchmarks(name, found)]
    lm = _lm(place, goal, asked)
    marks = _marked(lm, defined.manager, loaded, benchmarks, asked)
    cut = (
        f"{Path(place).name}: {lm.num_cut:,} of {lm.num_read:,} prompts were longer than the model reads "
        f"({lm.max_length:,} tokens, less what it may write) and lost their beginning."
    )
    return benchmarks, marks, [cut] if lm.num_cut else []


def _lm(place: str | os.PathLike[str], goal: float | Sequence[float] | None, asked: _Asked) -> Any:
    """A model as lm-eval asks it: opened here, so that an adapter's base is found as everywhere else.

    It counts the prompts whose beginning it has to cut, which lm-eval only logs, and puts the goal into each chat.
    """
    from pairwright.generate.verb import GOAL_FILE, read_goal_format
    from pairwright.goals import with_goal
    from pairwright.logprobs.columns import placement_for
    from pairwright.logprobs.models import device_for_models, open_model, open_tokenizer

    lm: Any = need("lm_eval.models.huggingface", extra="eval").HFLM
    tokenizer = open_tokenizer(os.fspath(place))
    form = None if goal is None else read_goal_format(Path(place) / GOAL_FILE)
    placement = placement_for(form, tokenizer)

    class Counting(lm):  # type: ignore[misc]
        """lm-eval's model."""

        num_cut = 0
        num_read = 0

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            chat: Any = chat_history
            if form is not None and placement is not None:
                chat = with_goal(chat, goal, form, placement)
            return str(super().apply_chat_template(chat, add_generation_prompt))

        def _loglikelihood_tokens(self, requests: list[Any], *others: Any, **settings: Any) -> Any:
            self.num_read += len(requests)
            self.num_cut += sum(len(head) + len(rest) > self.max_length + 1 for _, head, rest in requests)
            return super()._loglikelihood_tokens(requests, *others, **settings)

        def tok_batch_encode(self, strings: list[str], *others: Any, **settings: Any) -> Any:
            ids, mask = super().tok_batch_encode(strings, *others, **settings | {"left_truncate_len": None})
            most = settings.get("left_truncate_len") or ids.shape[1]
            self.num_read += len(strings)
            self.num_cut += int((mask.sum(dim=1) > most).sum())
            return ids[:, -most:], mask[:, -most:]

    network = open_model(os.fspath(place), dtype=asked.dtype).to(device_for_models())
    return Counting(network, backend="causal", tokenizer=tokenizer, batch_size=asked.batch_size)


def _marked(
    lm: Any, manager: Any, loaded: Sequence[Mapping[str, Any]], benchmarks: Sequence[Benchmark], asked: _Asked
) -> Marks:
    """What lm-eval marks."""
    asks = [task for each in loaded for task in (each.get("groups") and _outermost(each)) or each["tasks"].values()]
    lengths = [_written(task, asked) for each in loaded for task in each["tasks"].values()]
    if max(lengths, default=0) >= lm.max_length:
        raise InputError(
            f"evaluate harness: a task lets the model write {max(lengths):,} tokens, and {lm.tokenizer.name_or_path} "
            f"reads and writes {lm.max_length:,} in all; set max_new_tokens"
        )
    found = need("lm_eval", extra="eval").simple_evaluate(
        model=lm,
        tasks=asks,
        task_manager=manager,
        limit=asked.limit,
        batch_size=asked.batch_size,
        apply_chat_template=asked.chat_template,
        fewshot_as_multiturn=asked.chat_template,
        gen_kwargs=None if asked.max_new_tokens is None else {"max_gen_toks": asked.max_new_tokens},
        bootstrap_iters=1000,
        random_seed=asked.seed,
        numpy_random_seed=asked.seed,
        torch_random_seed=asked.seed,
        fewshot_random_seed=asked.seed,
    )
    tasks = {name: task for each in loaded for name, task in each["tasks"].items()}
    marked = {name: _task(name, task, found) for name, task in tasks.items()}
    numbers = {each.name: {k: v for k, (v, _) in _numbers(found["results"][each.name]).items()} for each in benchmarks}
    return Marks(marked, numbers)


def _outermost(loaded: Mapping[str, Any]) -> list[Any]:
    """The groups that are in no other."""
    inside = {name for names in loaded.get("group_map", {}).values() for name in names}
    return [group for name, group in loaded["groups"].items() if name not in inside]


def _written(task: Any, asked: _Asked) -> int:
    """How many tokens a task lets a model write; 0 where it writes none."""
    if task.OUTPUT_TYPE != "generate_until":
        return 0
    said = task.config.generation_kwargs or {}
    return asked.max_new_tokens or int(said.get("max_gen_toks", said.get("max_new_tokens", 256)))


def _task(name: str, task: Any, found: Mapping[str, Any]) -> Task:
    samples = found["samples"][name]
    items: dict[str, dict[str, float]] = {}
    prompts: dict[str, str] = {}
    for sample in samples:
        item = f"{sample['doc_id']} {sample['doc_hash']}"
        prompts[item] = sample["prompt_hash"]
        for metric in sample["metrics"]:
            if isinstance(sample[metric], bool | int | float | np.number):
                items.setdefault(f"{metric},{sample['filter']}", {})[item] = float(sample[metric])
    lower = frozenset(metric for metric, better in found["higher_is_better"][name].items() if better is False)
    given = task.config.dataset_kwargs or {}
    source = ", ".join((given.get("data_files") or {}).values()) if isinstance(given.get("data_files"), dict) else ""
    return Task(
        _numbers(found["results"][name]),
        items,
        prompts,
        lower,
        int(found["n-shot"][name]),
        str(found["versions"].get(name)),
        source or " ".join(str(part) for part in (task.config.dataset_path, task.config.dataset_name) if part),
    )


def _numbers(row: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """lm-eval's numbers and standard errors, by `metric,filter`."""
    numbers = {}
    for key, value in row.items():
        metric, comma, kind = key.partition(",")
        if comma and not metric.endswith("_stderr") and isinstance(value, int | float | np.number):
            error = row.get(f"{metric}_stderr,{kind}")
            numbers[key] = (float(value), float(error) if isinstance(error, int | float | np.number) else math.nan)
    return numbers


@contextmanager
def _quiet() -> Iterator[None]:
    """Without lm-eval's log and the warnings of what it uses; its bars stay, since they show the work."""
    log = logging.getLogger("lm_eval")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


@contextmanager
def _own_random_numbers() -> Iterator[None]:
    """lm-eval seeds every generator of the process; afterwards they stand where they stood."""
    torch: Any = need("torch", extra="train")
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
