"""Diversity across prompts: does a model say the same things to everybody?"""

import math
import re
from typing import Annotated, Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from pairwright.charts import Chart, Series
from pairwright.diagnose.answers import Answers
from pairwright.diagnose.by_prompt import asked_for_most, asked_for_none, told
from pairwright.diagnose.finding import Finding, Level, Part
from pairwright.errors import InputError
from pairwright.evaluate.result import Metric, Result
from pairwright.stats import Interval, wilson

ORDERS = (1, 2, 3, 4, 5)
_WORD = re.compile(r"\w+|[^\w\s]")
_SOURCE = "arXiv 2410.11677 (cross-input diversity); the formula is derived in diagnose/diversity.py"


class _Grams(NamedTuple):
    """The n-grams of the answers of one model: which one, and of which prompt."""

    gram: NDArray[np.intp]
    prompt: NDArray[np.intp]
    kinds: int


def words(text: str) -> list[str]:
    """Words and single punctuation marks, lower case."""
    return _WORD.findall(text.lower())


def expectation_adjusted(distinct: float, total: float, vocabulary: float) -> float:
    """Distinct n-grams over those that as many uniform draws would be expected to have; NaN where there are none.

    `distinct / (V (1 - ((V - 1) / V)^C))`: a symbol is missed by one uniform draw from V with probability (V - 1) / V,
    so by C draws with that to the power C, and V times the rest is the expected number of distinct ones. V is the size
    of the vocabulary for every n, not V^n, which no text comes near: so for n > 1 the number may exceed 1, and answers
    of very different lengths are compared best by n = 1.

    Source: arXiv 2410.11677 names the measure; the formula follows from the expectation above.

    Args:
        distinct: different n-grams.
        total: all n-grams, C.
        vocabulary: V.
    """
    if total <= 0 or vocabulary <= 0:
        return math.nan
    # -expm1(C log1p(-1/V)) is 1 - ((V - 1) / V)^C without the loss of digits at large V
    share = 1.0 if vocabulary <= 1 else -math.expm1(total * math.log1p(-1.0 / vocabulary))
    return distinct / (vocabulary * share)


def diversity(
    policy: Answers,
    start: Answers,
    *,
    vocabulary: Annotated[int, Field(gt=0)] | None = None,
    much: Annotated[float, Field(gt=0)] = 0.1,
    draws: int = 500,
    seed: int = 0,
) -> Part:
    """Expectation-adjusted distinct n-grams of all answers together, mean over n = 1..5: policy against start.

    Counted over the prompts that both answered, in words (letters and digits together, any other mark by itself).
    Intervals come from halves of the prompts, drawn without replacement: prompts drawn with replacement would repeat
    their n-grams and look less diverse. The variance of a mean over half of n cases around that of all is
    `(2/n - 1/n) s^2 = s^2 / n`, that of the mean itself, so deviations of halves from their average are used as they
    are.

    Of a model that was asked for goals the answers to the highest are read, of the start those without a goal.

    Args:
        policy: answers.
        start: answers of the start to the same prompts.
        vocabulary: V of the formula; None is the number of different words in all these answers. The same for both.
        much: a fall by more than this share of the start's is a warning, one beyond doubt a note.
        draws: halves.
        seed: of the draws.

    Returns:
        `distinct/policy`, `distinct/start`, `difference`, and the shares of answers that are `empty` or the `same` as
        one to another prompt, for both; a row for each n.

    Raises:
        InputError: no prompt is in both, or neither side says anything.
    """
    one, two = asked_for_most(policy), asked_for_none(start)
    ids = [each for each in one["prompt_id"].unique(maintain_order=True) if each in set(two["prompt_id"])]
    if not ids:
        raise InputError("diversity: the two models answered no prompt in common; generate both from the same prompts")
    kept = pl.col("prompt_id").is_in(ids)
    sides = {"policy": one.filter(kept), "start": two.filter(kept)}
    spoken = {name: [words(text or "") for text in frame["text"]] for name, frame in sides.items()}
    size = vocabulary or len({word for side in spoken.values() for each in side for word in each})
    numbers = {each: i for i, each in enumerate(ids)}
    grams = {
        name: [_grams(spoken[name], [numbers[each] for each in frame["prompt_id"]], order) for order in ORDERS]
        for name, frame in sides.items()
    }
    every = np.ones(len(ids), dtype=np.bool_)
    rows = [_row(order, grams, i, every, size) for i, order in enumerate(ORDERS)]
    used = [i for i, row in enumerate(rows) if row["total"] and row["total_start"]]
    if not used:
        raise InputError("diversity: one of the two models says nothing to the prompts in common")
    values = _means(grams, used, every, size)
    halves = np.array(_halves(grams, used, len(ids), size, draws, seed)).reshape(-1, 2)
    level = {name: _around(values[i], halves[:, i], len(ids)) for i, name in enumerate(sides)}
    gap = _around(values[0] - values[1], halves[:, 0] - halves[:, 1], len(ids))
    shares = {name: _shares(frame) for name, frame in sides.items()}
    notes = [f"V is {size:,}; " + ("given." if vocabulary else "the different words of all these answers.")]
    if left := [str(ORDERS[i]) for i in range(len(ORDERS)) if i not in used]:
        notes.append(f"Answers are too short for n = {', '.join(left)}; the mean is over the others.")
    subject = f"{policy.name} against {start.name}"
    return Part(
        name="diversity",
        subject=subject,
        title="Diversity of answers",
        result=Result(
            name="diversity",
            n=len(ids),
            settings={"vocabulary": size, "much": much, "draws": draws, "seed": seed},
            metrics=(
                *(
                    Metric.of(f"distinct/{name}", each, "expectation-adjusted distinct n-grams; n are prompts")
                    for name, each in level.items()
                ),
                Metric.of("difference", gap, "policy minus start; below 0 the policy repeats itself more"),
                *(
                    Metric.of(f"{what}/{name}", share, f"share of answers that are {says}")
                    for name, (empty, same) in shares.items()
                    for what, share, says in (
                        ("empty", empty, "empty"),
                        ("same", same, "the same as one to another prompt"),
                    )
                ),
            ),
            table=tuple(rows),
            notes=tuple(notes),
        ),
        findings=(
            _on_distinct(subject, gap, values[1], much),
            *(
                _on_share(name, subject, says, shares["policy"][i], shares["start"][i])
                for i, (name, says) in enumerate(
                    {"empty_answers": "are empty", "same_answers": "are the same as one to another prompt"}.items()
                )
            ),
        ),
        charts=(_chart(rows),),
    )


def _grams(spoken: list[list[str]], prompts: list[int], order: int) -> _Grams:
    """Numbers of n-grams in the order in which they come; no n-gram crosses two answers."""
    known: dict[tuple[str, ...], int] = {}
    gram: list[int] = []
    of: list[int] = []
    for each, prompt in zip(spoken, prompts, strict=True):
        found = [tuple(each[i : i + order]) for i in range(len(each) - order + 1)]
        gram += [known.setdefault(one, len(known)) for one in found]
        of += [prompt] * len(found)
    return _Grams(np.array(gram, dtype=np.intp), np.array(of, dtype=np.intp), len(known))


def _counts(grams: _Grams, prompts: NDArray[np.bool_]) -> tuple[int, int]:
    """Different n-grams and all n-grams of some prompts."""
    mine = grams.gram[prompts[grams.prompt]]
    seen = np.zeros(grams.kinds, dtype=np.bool_)
    seen[mine] = True
    return int(seen.sum()), len(mine)


def _means(
    grams: dict[str, list[_Grams]], used: list[int], prompts: NDArray[np.bool_], size: int
) -> tuple[float, float]:
    """Mean over n of the adjusted share, of policy and start."""
    policy, start = (
        float(np.mean([expectation_adjusted(*_counts(grams[name][i], prompts), size) for i in used]))
        for name in ("policy", "start")
    )
    return policy, start


def _halves(
    grams: dict[str, list[_Grams]], used: list[int], n: int, size: int, draws: int, seed: int
) -> list[tuple[float, float]]:
    """The same of halves of the prompts."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(draws if n > 1 else 0):
        half = np.zeros(n, dtype=np.bool_)
        half[random.permutation(n)[: n // 2]] = True
        found.append(_means(grams, used, half, size))
    return found


def _around(value: float, halves: NDArray[np.float64], n: int) -> Interval:
    """The value, with the middle 95% of the deviations of halves from their average."""
    defined = halves[~np.isnan(halves)]
    if not len(defined):
        return Interval(value, math.nan, math.nan, n)
    low, high = np.quantile(defined - defined.mean(), [0.025, 0.975])
    return Interval(value, value + float(low), value + float(high), n)


def _row(order: int, grams: dict[str, list[_Grams]], i: int, prompts: NDArray[np.bool_], size: int) -> dict[str, Any]:
    row: dict[str, Any] = {"n": order}
    for name, end in (("policy", ""), ("start", "_start")):
        distinct, total = _counts(grams[name][i], prompts)
        adjusted = expectation_adjusted(distinct, total, size)
        row |= {
            f"distinct{end}": distinct,
            f"total{end}": total,
            f"adjusted{end}": None if math.isnan(adjusted) else adjusted,
        }
    return row


def _shares(frame: pl.DataFrame) -> tuple[Interval, Interval]:
    """Empty answers, and answers whose text another prompt got, too; an empty one is no repetition."""
    text = pl.col("text").fill_null("").str.strip_chars()
    spoken = frame.select("prompt_id", text=text)
    empty = spoken.filter(pl.col("text") == "").height
    again = pl.col("prompt_id").n_unique().over("text") > 1
    same = spoken.filter((pl.col("text") != "") & again).height
    return wilson(empty, len(spoken)), wilson(same, len(spoken))


def _on_distinct(subject: str, gap: Interval, start: float, much: float) -> Finding:
    less, more = gap.high < 0, gap.low > 0
    level: Level = "warning" if less and gap.value < -much * start else "note" if less or more else "fine"
    return Finding.of(
        "diversity",
        gap,
        subject=subject,
        level=level,
        says=(f"Expectation-adjusted distinct n-grams changed by {told(gap)} from {start:.3g} at the start."),
        means=(
            "Answers to different prompts have become more alike."
            if less
            else "Answers to different prompts have become more various."
            if more
            else "Answers are as various as at the start, as far as these prompts can tell."
        ),
        remedy="Train less far (larger beta, fewer steps), or keep more of the start's answers in the data."
        if less
        else "",
        source=_SOURCE,
    )


def _on_share(check: str, subject: str, says: str, policy: Interval, start: Interval) -> Finding:
    worse = policy.low > start.value
    level: Level = "warning" if policy.low > start.high and policy.low > 0.05 else "note" if worse else "fine"
    return Finding.of(
        check,
        policy,
        subject=subject,
        level=level,
        says=(f"{told(policy, '.1%')} of answers {says}; {start.value:.1%} at the start."),
        means=(
            "A model that collapsed answers without reading the prompt."
            if worse
            else "No more of them than at the start, as far as these answers can tell."
        ),
        remedy="Read some of them; train with a smaller learning rate or a larger beta." if worse else "",
        source="pairwright",
    )


def _chart(rows: list[dict[str, Any]]) -> Chart:
    return Chart(
        id="distinct",
        title="Distinct n-grams against chance",
        says="Different n-grams, over as many as uniform draws from the vocabulary would have; higher is more various.",
        x="n",
        y="expectation-adjusted distinct n-grams",
        kind="bar",
        series=[
            Series(name=name, x=[row["n"] for row in rows], y=[row[key] for row in rows])
            for name, key in (("policy", "adjusted"), ("start", "adjusted_start"))
        ],
    )
