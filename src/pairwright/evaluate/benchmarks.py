"""What lm-eval marked, as a result: a number for each benchmark, its change by a training, and the average."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pairwright.errors import InputError
from pairwright.evaluate.items import Items, Level, average, interval, level, paired, weights
from pairwright.evaluate.result import Metric, as_json
from pairwright.plug import nearest
from pairwright.stats import Interval

ACADEMIC: dict[str, str] = {
    "gsm8k_cot": "exact_match,strict-match",
    "gpqa_main_zeroshot": "acc_norm,none",
    "leaderboard_musr": "acc_norm,none",
    "truthfulqa_mc2": "acc,none",
    "leaderboard_bbh": "acc_norm,none",
    "arc_challenge": "acc_norm,none",
}
"""The six benchmarks under lm-eval's names, with the metric of each that is the headline."""
_ROUNDING = 1e-9


class Task(NamedTuple):
    """What one model got in one task of lm-eval.

    Attributes:
        numbers: lm-eval's own, by `metric,filter`: the value and its standard error (NaN where it gives none).
        items: the mark of each item by `metric,filter`, where marks are numbers.
        prompts: a digest of the words in which each item was asked.
        lower: the metrics of which less is better.
        few_shot: solved examples before each item.
        version: of the task.
        source: where the items come from.
    """

    numbers: Mapping[str, tuple[float, float]]
    items: Mapping[str, Mapping[str, float]]
    prompts: Mapping[str, str]
    lower: frozenset[str]
    few_shot: int
    version: str
    source: str


class Benchmark(NamedTuple):
    """A name that was asked for: a task, or a group of tasks with one number.

    Attributes:
        name: lm-eval's.
        tasks: that it is made of.
        by_size: by metric, whether a task weighs as many items as it has, or all alike; empty for a single task.
    """

    name: str
    tasks: tuple[str, ...]
    by_size: Mapping[str, bool]


class Marks(NamedTuple):
    """What one model got.

    Attributes:
        tasks: by name.
        numbers: lm-eval's own number of each benchmark, by `metric,filter`.
    """

    tasks: Mapping[str, Task]
    numbers: Mapping[str, Mapping[str, float]]


class Compared(NamedTuple):
    """A result's parts."""

    metrics: tuple[Metric, ...]
    table: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    n: int


def headline(benchmark: Benchmark, marks: Marks, asked: Mapping[str, str]) -> str:
    """The metric of a benchmark: as asked, else that of `ACADEMIC`, else the first that lm-eval gives.

    Raises:
        InputError: the benchmark has no such metric.
    """
    there = list(marks.numbers[benchmark.name])
    wanted = asked.get(benchmark.name) or ACADEMIC.get(benchmark.name)
    if wanted is None or (wanted not in there and benchmark.name not in asked and there):
        return there[0]
    if wanted not in there:
        hint = nearest(wanted, there) or f"; it has {', '.join(there)}"
        raise InputError(f"evaluate harness: {benchmark.name} has no metric {wanted!r}{hint}")
    return wanted


def compared(
    benchmarks: Sequence[Benchmark], sides: Sequence[Marks], asked: Mapping[str, str], *, draws: int, seed: int
) -> Compared:
    """Metrics, table and notes of one model, or of one before and after a training.

    Args:
        benchmarks: what was asked for.
        sides: what each model got: one, or before and after.
        asked: metrics by benchmark, in place of the usual ones.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        InputError: a benchmark has no such metric, or the two models share no item.
    """
    metrics: list[Metric] = []
    table: list[dict[str, Any]] = []
    notes: list[str] = []
    levels: list[Level] = []
    num_items = 0
    if unused := sorted(asked.keys() - {benchmark.name for benchmark in benchmarks}):
        raise InputError(f"evaluate harness: metrics names {unused[0]}, which is none of the benchmarks")
    for benchmark in benchmarks:
        key = headline(benchmark, sides[-1], asked)
        found, said = _level(benchmark, key, sides, draws=draws, seed=seed)
        notes += said
        num_items += found.n
        metrics += _told(benchmark.name, found, f"{key} of {benchmark.name}, as lm-eval marks it")
        table += [row for part in benchmark.tasks for row in _rows(benchmark.name, part, key, sides)]
        if any(key.split(",")[0] in sides[-1].tasks[part].lower for part in benchmark.tasks):
            notes.append(f"{benchmark.name}: of {key} less is better, so it is left out of the average.")
        else:
            levels.append(found)
    head: list[Metric] = []
    if levels:
        many = f"unweighted mean over {len(levels)} benchmarks" if len(levels) > 1 else "the one benchmark's number"
        head = _told("", average(levels), many)
    return Compared((*head, *metrics), tuple(table), tuple(notes), num_items)


def _level(benchmark: Benchmark, key: str, sides: Sequence[Marks], *, draws: int, seed: int) -> tuple[Level, list[str]]:
    """A benchmark's number for each model, over the items that all were given; and what a reader should know."""
    notes: list[str] = []
    pairs = {}
    others = 0
    for part in benchmark.tasks:
        marked = [side.tasks[part].items.get(key, {}) for side in sides]
        values, alone = paired(marked)
        if alone:
            notes.append(f"{part}: {alone:,} items were not given to both models alike and are left out.")
        if values.shape[1]:
            pairs[part] = values
        prompts = [side.tasks[part].prompts for side in sides]
        others += sum(prompts[-1][item] != text for item, text in prompts[0].items() if item in prompts[-1])
    if others:
        notes.append(
            f"{benchmark.name}: {others:,} items were asked in other words (chat templates, goals) of the two."
        )
    if notes and not pairs:
        raise InputError(f"evaluate harness: the two models share no item of {benchmark.name}; give both the same data")
    own = [side.numbers[benchmark.name][key] for side in sides]
    sizes = [values.shape[1] for values in pairs.values()]
    share = weights(sizes, by_size=benchmark.by_size.get(key.split(",")[0], True)) if sizes else []
    parts = [Items(values, weight) for values, weight in zip(pairs.values(), share, strict=True)]
    found = level(benchmark.name, parts, draws=draws, seed=seed) if parts else None
    whole = len(parts) == len(benchmark.tasks) and not any("left out" in note for note in notes)
    if found is None or (whole and not np.allclose(found.value, own, rtol=0, atol=_ROUNDING)):
        notes.append(f"{benchmark.name}: {key} is no mean over items, so it has no interval.")
        return Level(np.array(own), np.full((len(sides), draws), math.nan), sum(sizes)), notes
    return found, notes


def _told(name: str, found: Level, what: str) -> list[Metric]:
    """The metrics of one number: the model's, and with a model before also that one's and the change."""
    last = len(found.value) - 1
    here, there, gap = (f"{kind}/{name}" for kind in ("after", "before", "difference")) if name else _AVERAGES
    told = [Metric.of(here, interval(found, of=last), what)]
    if last:
        told.append(Metric.of(there, interval(found, of=0), f"{what}, before"))
        change = "after minus before, over the same items; below 0 the training cost something"
        told.append(Metric.of(gap, interval(found, of=last, minus=0), change))
    return told


_AVERAGES = ("average", "average_before", "difference")


def _rows(name: str, part: str, headline_key: str, sides: Sequence[Marks]) -> list[dict[str, Any]]:
    """A row for each metric of a task, as lm-eval gives it, and what changed among its items."""
    last = sides[-1].tasks[part]
    rows: list[dict[str, Any]] = []
    for key, (value, error) in last.numbers.items():
        row: dict[str, Any] = {"benchmark": name, "task": part, "metric": key, "headline": key == headline_key}
        row |= {"few_shot": last.few_shot, "version": last.version, "source": last.source}
        row |= {"n": len(last.prompts), **_shown("after", value, error)}
        if len(sides) > 1:
            row |= _shown("before", *sides[0].tasks[part].numbers.get(key, (math.nan, math.nan)))
            values, _ = paired([side.tasks[part].items.get(key, {}) for side in sides])
            row |= {"gained": int((values[1] > values[0]).sum()), "lost": int((values[1] < values[0]).sum())}
        rows.append(row)
    return rows


def _shown(side: str, value: float, error: float) -> dict[str, Any]:
    told = as_json(Interval(value, error, error, 0))
    return {side: told["value"], f"{side}_standard_error": told["low"]}
