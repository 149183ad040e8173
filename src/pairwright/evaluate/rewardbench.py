"""RewardBench 2: how often a score puts the right answer of several first, in six domains."""

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from pairwright.errors import InputError
from pairwright.evaluate.grouped_means import percentiles
from pairwright.evaluate.result import Metric, Result, as_json
from pairwright.evaluate.rewardbench_rows import TIES, Case, data_of, read_rows, rows_of, scored_rows
from pairwright.evaluate.scored_by import Numbers, Reading, ReferenceFree, by_model, by_scorer
from pairwright.evaluate.ties import PARTS, Prompts, parts_of, row_of, score_of
from pairwright.logprobs.models import Dtype
from pairwright.preferences import Preferences
from pairwright.runs import check_writable, write_text
from pairwright.stats import Interval

Floats = NDArray[np.float64]
DOMAINS = ("Factuality", "Precise IF", "Math", "Safety", "Focus", TIES)
"""The official six."""
_AVERAGE = "unweighted mean of the domains; n are domains, the interval draws rows again within each"
_DOMAIN = "mean credit for putting the right answer first, shared among those that are equally first; n are rows"
_TIES = "the Ties score, which can reach 1.01; n are prompts"


def rewardbench2(
    rows: Path,
    *,
    scorer: str | Mapping[str, Any] | None = None,
    ties_scorer: str | Mapping[str, Any] | None = None,
    model: str | None = None,
    reference: str | None = None,
    reference_free: ReferenceFree = "mean",
    scores_to: Path | None = None,
    tokenizer: str | None = None,
    max_length: int | None = None,
    batch_tokens: Annotated[int, Field(gt=0)] = 8192,
    dtype: Dtype = "float32",
    draws: Annotated[int, Field(gt=0)] = 2000,
    seed: int = 0,
) -> Result:
    """RewardBench 2 of scores, of a scorer, or of the implicit rewards of an aligned model.

    Outside of Ties a row gives credit `1/k` where its right answer is one of the `k` that score highest, else 0: equal
    scores for all of four answers give 0.25, as chance does. A judge that names one best answer is the same with 1 for
    that one and 0 for the others, and no score for any where it cannot be read. Ties has a formula of its own
    (`pairwright.evaluate.ties`). The average is the unweighted mean of the domains that are there.

    What upstream leaves open: an answer without a score (null) ranks below all that have one, and a row without any
    counts as all equal (credit 1/4 of four). A row without a wrong answer says nothing and is left out, and counted.
    In Ties, a prompt that has only one of its two rows (`ref:N`, `tied:N`) counts in the accuracy of that row alone,
    and so does a tied row with one right answer, which has no spread, and a prompt with an answer without a score,
    whose distances are not known; all are counted. Without any other prompt Ties has no score and is not in the
    average.

    Intervals are 95% percentiles of a bootstrap over rows (in Ties over prompts), within each domain.

    Args:
        rows: the file, JSON lines or any other table: `id, subset, num_correct, scores` with the scores of the right
            answers first, or the official columns `id, subset, num_correct, prompt, chosen, rejected`, to be scored by
            `scorer` or `model`. A hub name (`allenai/reward-bench-2`) is read from its split `test`.
        scorer: of unscored rows: a name of `pairwright list scorers`, or a mapping with its name under `with` and its
            settings beside it.
        ties_scorer: another scorer for Ties, where several answers are right: a judge that names one best answer
            must rate them there. None is the same.
        model: an aligned model (a `save_pretrained` directory or a hub name), whose implicit rewards are the scores.
        reference: what it was trained from. With it the numbers without a reference are given beside the others.
        reference_free: without a reference, log-probability per token (`mean`) or summed (`sum`).
        scores_to: write the scored rows to this file, JSON lines that this evaluation reads. Not one that is read.
        tokenizer: of model and reference; the model's own when not given.
        max_length: tokens of prompt and answer; None is as many as the models can read, at most 8192.
        batch_tokens: tokens of a batch of the models.
        dtype: precision of their weights.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        `average`; `unscored`, the share of answers without a score; a metric for each domain by its name (`Ties` among
        them); `Ties/tied_accuracy`, `Ties/ref_accuracy`, `Ties/preferred`, `Ties/hard`, `Ties/margin`. All but the Ties
        score and its margin are between 0 and 1. With a reference also `average/mean` and `average/sum`.

    Raises:
        InputError: the file has neither columns, a row is bad (the message says which), nothing says how to score, or
            `scores_to` is what is read or cannot be written.

    Source: arXiv 2506.01937; allenai/reward-bench, scripts/run_v2.py and rewardbench/utils.py; for implicit rewards
    rewardbench/dpo.py.
    """
    if scores_to is not None:
        _refuse_to_write(scores_to, [rows, model, reference, tokenizer])
    table = read_rows(rows)
    asked = _asked(scorer, ties_scorer, model, reference, scored=table.scored, name=table.name)
    notes: list[str] = []
    beside: dict[str, list[Case]] = {}
    if table.scored:
        cases = scored_rows(table)
    else:
        reading = Reading(tokenizer, max_length, batch_tokens, dtype)
        numbers = _numbers(data_of(table), scorer, ties_scorer, model, reference, reference_free, reading)
        notes += numbers.notes
        found = {name: rows_of(numbers.prefs, column) for name, column in numbers.columns.items()}
        cases, beside = found[next(iter(found))], {name: found[name] for name in list(found)[1:]}
    if scores_to is not None:
        write_text(scores_to, "".join(json.dumps(case.to_dict(), ensure_ascii=False) + "\n" for case in cases))
    measured = _measured(cases, draws=draws, seed=seed)
    metrics = list(measured.metrics)
    for name, others in beside.items():
        other = _measured(others, draws=draws, seed=seed).metrics[0]
        metrics.append(other.model_copy(update={"name": f"average/{name}", "says": f"{_FREE[name]}: {_AVERAGE}"}))
    return Result(
        name="rewardbench2",
        n=sum(row["n"] for row in measured.table),
        settings={
            "rows": table.name,
            **asked,
            "reference_free": reference_free,
            "tokenizer": tokenizer,
            "max_length": max_length,
            "batch_tokens": batch_tokens,
            "dtype": dtype,
            "draws": draws,
            "seed": seed,
        },
        metrics=tuple(metrics),
        table=measured.table,
        notes=(*notes, *measured.notes),
    )


def _refuse_to_write(target: Path, read: Sequence[str | Path | None]) -> None:
    """Refuse scores that cannot be written, or would take the place of what is read, before anything is paid for.

    Raises:
        InputError: so it is.
    """
    for each in read:
        place = None if each is None else Path(each)
        if place is None or not os.path.exists(place):  # a name of the hub
            continue
        if (os.path.exists(target) and target.samefile(place)) or target.resolve().is_relative_to(place.resolve()):
            raise InputError(
                f"evaluate rewardbench2: scores_to is {target}, which is read, or lies in what is read ({place}); "
                "choose another file"
            )
    if target.is_dir():
        raise InputError(f"evaluate rewardbench2: scores_to is {target}, a directory; give the path of a file")
    check_writable(target)


_FREE = {"mean": "by log-probability per token, without the reference", "sum": "by summed log-probability, without it"}


def rewardbench2_data(rows: Path) -> Preferences:
    """Unscored rows of RewardBench 2 as preferences: a prompt for each row, its answers in order, right ones first.

    `responses` has the columns `case` (the number of the row), `id`, `subset`, `num_correct`; `pairs` has every right
    answer against every wrong one. A prompt that several rows share is several prompts here, so that no scorer compares
    answers of different rows; so `prompt_id` is of the row. `rewardbench2_rows` is the way back.

    Args:
        rows: a file with the official columns, or a hub name.

    Raises:
        InputError: the columns are not there, or a row is bad.
    """
    return data_of(read_rows(rows))


def rewardbench2_rows(prefs: Preferences, *, score: str = "score") -> list[dict[str, Any]]:
    """Scored answers of `rewardbench2_data` as rows `id, subset, num_correct, scores`.

    Args:
        prefs: the data after a scorer.
        score: the column of the scores.

    Raises:
        InputError: a column is missing, or a score is not finite.
    """
    return [case.to_dict() for case in rows_of(prefs, score)]


def _asked(
    scorer: str | Mapping[str, Any] | None,
    ties_scorer: str | Mapping[str, Any] | None,
    model: str | None,
    reference: str | None,
    *,
    scored: bool,
    name: str,
) -> dict[str, Any]:
    """What was asked for, as JSON values.

    Raises:
        InputError: it does not fit together, or not with the rows.
    """
    given = {"scorer": scorer, "ties_scorer": ties_scorer, "model": model, "reference": reference}
    there = [word for word, value in given.items() if value is not None]
    if scored and there:
        raise InputError(f"{name} has scores already; leave out {there[0]}, or give rows with prompt, chosen, rejected")
    if not scored and scorer is None and model is None:
        raise InputError(f"{name} has no scores; give scores, or say scorer or model, which then score its answers")
    if scorer is not None and model is not None:
        raise InputError("evaluate rewardbench2: give either scorer or model, not both")
    if reference is not None and model is None:
        raise InputError("evaluate rewardbench2: reference is what model was trained from; give model too")
    if ties_scorer is not None and scorer is None:
        raise InputError("evaluate rewardbench2: ties_scorer stands beside a scorer for the other domains; give it too")
    return {word: value if isinstance(value, str | None) else dict(value) for word, value in given.items()}


def _numbers(
    prefs: Preferences,
    scorer: str | Mapping[str, Any] | None,
    ties_scorer: str | Mapping[str, Any] | None,
    model: str | None,
    reference: str | None,
    reference_free: ReferenceFree,
    reading: Reading,
) -> Numbers:
    """The scores of the answers."""
    if model is not None:
        return by_model(prefs, model, reference=reference, reference_free=reference_free, reading=reading)
    assert scorer is not None
    if ties_scorer is None:
        return by_scorer(prefs, scorer)
    is_ties = pl.col("subset") == TIES
    done = []
    for one, test in ((scorer, ~is_ties), (ties_scorer, is_ties)):
        answers = prefs.responses.filter(test)
        if answers.select(pl.len()).collect().item():
            prompts = prefs.prompts.join(answers, on="prompt_id", how="semi", maintain_order="left")
            done.append(by_scorer(Preferences.of(prompts, answers), one))
    name, column = next(iter(done[0].columns.items()))
    together = pl.concat([each.prefs.responses.select("response_id", column) for each in done])
    responses = prefs.responses.join(together, on="response_id", how="left", maintain_order="left")
    steps = [step for each in done for step in each.prefs.lineage]
    notes = tuple(dict.fromkeys(note for each in done for note in each.notes))
    return Numbers(
        Preferences.of(prefs.prompts, responses, prefs.pairs, (*prefs.lineage, *steps)), {name: column}, notes
    )


class _Measured(NamedTuple):
    metrics: tuple[Metric, ...]
    table: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]


class _Domain(NamedTuple):
    """One domain: its score and the draws of it."""

    name: str
    value: float
    drawn: Floats
    n: int
    cases: int
    """The fewest cases that a part of it rests on."""
    parts: tuple[Interval, ...] = ()

    @property
    def interval(self) -> Interval:
        return percentiles(self.value, self.drawn, self.n, cases=self.cases)


def _measured(cases: Sequence[Case], *, draws: int, seed: int) -> _Measured:
    """All metrics of scored rows."""
    usable = [case for case in cases if case.num_correct < len(case.scores)]
    if not usable:
        raise InputError("evaluate rewardbench2: no row has a wrong answer, so there is nothing to rank")
    random = np.random.default_rng(seed)
    there = dict.fromkeys(case.subset for case in usable)
    names = [*(name for name in DOMAINS if name in there), *(name for name in there if name not in DOMAINS)]
    by_name = {name: [case for case in usable if case.subset == name] for name in names}
    notes = _left_out(cases, usable, names)
    domains = []
    for name, mine in by_name.items():
        if name == TIES:
            domain, said = _ties(mine, draws, random)
            notes += said
        else:
            domain = _best_of(name, mine, draws, random)
        domains.append(domain)
    counted = [domain for domain in domains if not math.isnan(domain.value)]
    value = float(np.mean([domain.value for domain in counted])) if counted else math.nan
    drawn = np.mean([domain.drawn for domain in counted], axis=0) if counted else np.full(draws, math.nan)
    answers = sum(len(case.scores) for case in usable)
    missing = sum(score is None for case in usable for score in case.scores)
    average = percentiles(value, drawn, len(counted), cases=min((domain.cases for domain in counted), default=0))
    metrics = [Metric.of("average", average, _AVERAGE)]
    metrics.append(Metric(name="unscored", value=missing / answers, n=answers, says="share of answers without a score"))
    metrics += [Metric.of(one.name, one.interval, _TIES if one.name == TIES else _DOMAIN) for one in domains]
    for one in domains:
        metrics += [
            Metric.of(f"{one.name}/{part}", found, f"{says}; n are prompts")
            for (part, says), found in zip(PARTS.items(), one.parts, strict=False)
        ]
    if missing:
        notes.append(f"{missing:,} of {answers:,} answers have no score; they rank below those that have one.")
    table = tuple({"domain": one.name, **as_json(one.interval), **_counts(by_name[one.name])} for one in domains)
    return _Measured(tuple(metrics), table, tuple(notes))


def credit_of(case: Case) -> float:
    """The right answers' part of those that score highest; of a row without any score their part of all."""
    known = [score for score in case.scores if score is not None]
    if not known:
        return case.num_correct / len(case.scores)
    first = [at for at, score in enumerate(case.scores) if score == max(known)]
    return sum(at < case.num_correct for at in first) / len(first)


def _best_of(name: str, cases: Sequence[Case], draws: int, random: np.random.Generator) -> _Domain:
    credit = np.array([credit_of(case) for case in cases])
    n = len(credit)
    drawn = np.array([random.multinomial(n, np.full(n, 1.0 / n)) @ credit / n for _ in range(draws)])
    return _Domain(name, float(credit.mean()), drawn, n, n)


def _ties(cases: Sequence[Case], draws: int, random: np.random.Generator) -> tuple[_Domain, list[str]]:
    """The Ties domain, and what had to be left out of parts of it."""
    both: dict[str, dict[str, Case]] = {}
    for case in cases:
        kind, number = case.ties_id()
        both.setdefault(number, {})[kind] = case
    kinds = ("ref", "tied")
    found = [tuple(_row(rows.get(kind)) for kind in kinds) for rows in both.values()]
    prompts = Prompts.of([(one[0], one[1]) for one in found])
    parts, n = parts_of(prompts), len(both)
    drawn = np.array(
        [parts_of(prompts, random.multinomial(n, np.full(n, 1.0 / n)).astype(np.float64)) for _ in range(draws)]
    )
    alone = sum(None in one for one in found)
    lost = sum(any(None in case.scores for case in rows.values()) for rows in both.values())
    single = sum(rows["tied"].num_correct == 1 for rows in both.values() if "tied" in rows)
    notes = []
    if alone:
        notes.append(f"Ties: {alone:,} of {n:,} prompts have one of their two rows, and count in its accuracy alone.")
    if single:
        notes.append(
            f"Ties: {single:,} tied rows have one right answer, so no spread: they count in the accuracy alone."
        )
    if lost:
        notes.append(
            f"Ties: {lost:,} of {n:,} prompts have an answer without a score, so that how far the others are from it "
            "is not known: they count in the accuracies alone."
        )
    if named := _one_best(cases):
        notes.append(named)
    value = score_of(parts)
    if math.isnan(value):
        notes.append(
            "Ties has no score: no prompt has both of its rows, several right answers in the tied one, and a score for "
            "every answer."
        )
    sizes = [int((~np.isnan(one)).sum()) for one in prompts]
    of_parts = tuple(percentiles(*each) for each in zip(parts, drawn.T, sizes, strict=True))
    return _Domain(TIES, value, np.array([score_of(one) for one in drawn]), n, min(sizes), of_parts), notes


def _one_best(cases: Sequence[Case]) -> str | None:
    """A note where every row with several right answers has 1 for one answer and 0 for all others."""
    several = [case.scores for case in cases if case.num_correct > 1 and set(case.scores) != {None}]
    if not several or any(sorted(map(str, scores)) != [*["0.0"] * (len(scores) - 1), "1.0"] for scores in several):
        return None
    return (
        "Ties: the scores name one best answer of each row (1, and 0 for all others), and no row with several right "
        "answers can be right so; rate them there: ties_scorer."
    )


def _row(case: Case | None) -> Any:
    return None if case is None else row_of(case.scores[: case.num_correct], case.scores[case.num_correct :])


def _left_out(cases: Sequence[Case], usable: Sequence[Case], names: Sequence[str]) -> list[str]:
    notes = []
    if len(usable) < len(cases):
        notes.append(f"{len(cases) - len(usable):,} rows have no wrong answer, say nothing, and are left out.")
    if missing := [name for name in DOMAINS if name not in names]:
        notes.append(f"There are no rows of {', '.join(missing)}; the average is over the {len(names)} domains there.")
    if others := [name for name in names if name not in DOMAINS]:
        notes.append(f"{', '.join(others)}: no domain of RewardBench 2, and in the average all the same.")
    return notes


def _counts(cases: Sequence[Case]) -> dict[str, Any]:
    """Counts of a domain: rows, those whose right answer shares the first place, answers, those without a score."""
    is_ties = cases[0].subset == TIES
    shared = Counter(0.0 < credit_of(case) < 1.0 for case in cases)[True]
    chance = float(np.mean([case.num_correct / len(case.scores) for case in cases]))
    return {
        "n": len(cases),
        "shared_first": None if is_ties else shared,
        "chance": None if is_ties else chance,
        "answers": sum(len(case.scores) for case in cases),
        "unscored": sum(score is None for case in cases for score in case.scores),
    }
