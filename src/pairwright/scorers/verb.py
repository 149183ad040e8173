"""The verb `score`."""

import inspect
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import polars as pl

from pairwright.errors import InputError
from pairwright.kept import forget_lines
from pairwright.plug import Plug, bind, find, settings_of
from pairwright.preferences import Preferences, Step
from pairwright.scorers.cluster import check_number, scores_of
from pairwright.scorers.sample import Sample, Score, Scores, missing_before
from pairwright.scorers.scale import as_setting, parsed, scaled
from pairwright.scorers.table import SCORERS

_CHUNK = 10_000
_WORK = ("ray", "keep")
"""Settings of scorers that say how the work is done; the lineage leaves them out, so that it is the same however."""


def score(
    prefs: Preferences,
    scorer: str | Mapping[str, Any],
    *,
    into: str | None = None,
    scale: Mapping[str, Any] | None = None,
    ray: bool = False,
    keep: str | Path | None = None,
    **settings: Any,
) -> Preferences:
    """Put a number on every answer. An answer that gets none is null, and counted under the scorer's reason.

    Several scorers at once are a mapping from their columns to what each is: `{score_short: {with: rules, verify:
    length}, score_rm: {with: reward_model, model: DIR, scale: {percentiles: [1, 99]}}}`. They run one after the other,
    each a step of the lineage.

    A scorer of samples never sees an answer that is missing (`missing_answer`), nor one whose prompt is
    (`missing_prompt`). An answer without text is there, and what it is worth is the scorer's to say: to `rules` it is
    an answer like any other; `reward_model`, `ranker`, `judge` and `implicit`, which read it, give it none (`empty`).

    Args:
        prefs: prompts and answers.
        scorer: a name of `SCORERS`, `module:function`, or a mapping of columns to scorers.
        into: the column: `score`, or `score_<name>` to keep the scores that are there. A column of that name is
            replaced. None is the scorer's own column; of most it is `score`.
        scale: normalise the scores to 1-10, each column by one line for all prompts: `{range: [lo, hi]}`;
            `{percentiles: [1, 99]}` of the training answers; or `{like: DATA}`, the lines that the lineage of scored
            data holds, for new data. See `pairwright.scorers.scale`.
        ray: compute on a Ray cluster: the one of RAY_ADDRESS or `ray start`, else one made of this machine. The scores
            are the same. For every scorer that goes answer by answer or reads with a model.
        keep: a directory in which finished work is kept while it goes on, by the scorers that read with a classifier
            (`reward_model`, `ranker`). Started again with the same directory, a job that was killed computes only what
            is missing and gives the same bytes; `forget` removes it. The judge needs none: its answers are kept anyway.
        settings: the scorer's settings.

    Raises:
        InputError: there is no such scorer or setting, `into` is no score column, the scorer does not give one score
            for each answer, `scale` finds no range, or `ray` is asked of a scorer that needs all answers at once.
        MissingExtra: `ray` is asked for and Ray is not installed.
    """
    if not isinstance(scorer, str):
        return _several(prefs, scorer, into, scale, keep, ({"ray": ray} if ray else {}) | settings)
    wanted = None if scale is None else parsed(scale)
    if into is not None and into != "score" and not into.startswith("score_"):
        raise InputError(f"score: into is 'score' or 'score_<name>', not {into!r}")
    plug = find(SCORERS, scorer, kind="scorer")
    bound = bind(plug, settings, kind="scorer")
    settled = cast(partial[Any], bound).keywords
    if _takes_all(plug):
        scores = bound(prefs, **_work(plug, scorer, ray=ray, keep=keep))
    elif ray:
        shared = partial(scores_of, scorer=scorer, settings=settled)
        scores = _by_sample(prefs, [[each for part in _samples(prefs) for each in part]], shared, scorer)
    else:
        scores = _by_sample(prefs, _samples(prefs), bound, scorer)
    if not isinstance(scores, Scores):
        raise InputError(f"scorer {scorer!r} takes prefs, so it must give Scores, not {type(scores).__name__}")
    into = scores.into if into is None else into
    columns, why = _columns(scores, into, scorer)
    found, notes = dict(scores.found), list(scores.notes)
    settled = {name: value for name, value in settled.items() if name not in _WORK}
    if wanted is not None:
        own = {"scorer": scorer, **settled}
        columns, lines, said = scaled(columns, wanted, scores.prefs, scorer=own)
        found, notes = {**found, "scale": lines}, [*notes, *said]
    if list(columns) != [into]:
        found["columns"] = list(columns)
    held = _held(scores.prefs, list(columns))
    fresh = pl.DataFrame(list(columns.values()))
    responses = pl.concat([scores.prefs.responses.drop(list(columns), strict=False), fresh.lazy()], how="horizontal")
    notes += [*(f"{count:,} answers stay unscored: {reason}." for reason, count in why.items())]
    notes += [
        f"The {count:,} {_words(columns[name])} that were in {name} are replaced." for name, count in held.items()
    ]
    notes += _against(scores.prefs, {name: columns[name] for name in held})
    step = Step(
        name="score",
        settings={
            "scorer": scorer,
            "into": into,
            "unscored": why,
            **({} if wanted is None else {"scale": as_setting(wanted)}),
            **settled,
        },
        rows_in=fresh.height,
        rows_out=fresh.height,
        notes=tuple(notes),
        found=found,
    )
    return scores.prefs.then(step, responses=responses)


def forget(folder: str | Path) -> None:
    """Forget what was kept in a directory by `score`, whose output is written now."""
    for place in (*(path for path in Path(folder).glob("score*") if path.is_dir()), Path(folder)):
        forget_lines(place, "scores-*.jsonl")


def _several(
    prefs: Preferences,
    scorers: Mapping[str, Any],
    into: str | None,
    scale: Mapping[str, Any] | None,
    keep: str | Path | None,
    settings: Mapping[str, Any],
) -> Preferences:
    """The scores of several scorers, each in its own column."""
    also = [name for name, value in (("into", into), ("scale", scale)) if value is not None] + list(settings)
    if also:
        raise InputError(
            f"score: {also[0]} belongs to one scorer; with several, say it inside of the one that it is for"
        )
    for column, asked in named(scorers).items():
        own = None if keep is None else Path(keep) / column
        others = {key: asked[key] for key in asked if key != "with"}
        prefs = score(prefs, asked["with"], into=column, keep=own, **others)
    return prefs


def named(scorers: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Several scorers by the column that each goes to: its name under `with`, and its settings.

    Raises:
        InputError: there is none, or one is neither a name nor a mapping with `with`.
    """
    if not scorers:
        raise InputError(
            "score: the mapping of columns to scorers is empty, so there is nothing to score with; give one"
        )
    found: dict[str, Mapping[str, Any]] = {}
    for column, asked in scorers.items():
        one = {"with": asked} if isinstance(asked, str) else asked
        if not isinstance(one, Mapping) or not isinstance(one.get("with"), str):
            raise InputError(f"score: the scorer for {column} is {{with: NAME, and its settings}}, not {asked!r:.80}")
        if not isinstance(one.get("ray", False), bool):
            raise InputError(f"score: {column}: ray is true or false, not {one['ray']!r:.40}")
        if "into" in one:
            raise InputError(f"score: {column} is the column already; leave out its into")
        if "keep" in one:
            raise InputError(f"score: {column}: keep is said once for all scorers; leave it out here")
        found[column] = one
    return found


def _columns(scores: Scores, into: str, scorer: str) -> tuple[dict[str, pl.Series], dict[str, int]]:
    """The columns that a scorer gave, by the name that they get, and how many numbers are missing, by reason.

    Raises:
        InputError: there is none, or one has not one value for each answer.
    """
    given = {} if scores.values is None else {into: scores.values.cast(pl.Float64)}
    given |= {f"{into}_{name}": column for name, column in scores.columns.items()}
    if not given:
        raise InputError(f"scorer {scorer!r} gave no column; values or columns of Scores must hold one")
    answers = scores.prefs.counts().responses
    why = dict(scores.why)
    columns = {}
    for name, column in given.items():
        if len(column) != answers:
            raise InputError(f"scorer {scorer!r} gave {len(column)} scores for {answers} answers (column {name})")
        if column.dtype.is_float():
            column = column.cast(pl.Float64)
            if infinite := int((~column.is_finite()).sum()):
                column = pl.select(pl.when(column.is_finite()).then(column)).to_series()
                reason = "non_finite_score" if name == into else f"non_finite_{name}"
                why[reason] = why.get(reason, 0) + infinite
        columns[name] = column.alias(name)
    return columns, why


def _held(prefs: Preferences, names: list[str]) -> dict[str, int]:
    """How many values each of these columns of the answers has, for those that have any."""
    there = [name for name in names if name in prefs.responses.collect_schema()]
    if not there:
        return {}
    counts = prefs.responses.select(pl.col(name).count() for name in there).collect().row(0, named=True)
    return {name: count for name, count in counts.items() if count}


def _against(prefs: Preferences, columns: Mapping[str, pl.Series]) -> list[str]:
    """Of scores that replace others: how many pairs they order the other way, a sentence for each column."""
    fresh = {name: column for name, column in columns.items() if column.dtype.is_float()}
    if not fresh or not prefs.counts().pairs:
        return []
    table = pl.concat([prefs.responses.select("response_id"), pl.DataFrame(fresh).lazy()], how="horizontal")
    both = prefs.pairs.select("chosen_id", "rejected_id")
    for side in ("chosen", "rejected"):
        names = {name: f"{name}_{side}" for name in fresh}
        both = both.join(table.rename({"response_id": f"{side}_id", **names}), on=f"{side}_id", how="left")
    below = [(pl.col(f"{name}_chosen") < pl.col(f"{name}_rejected")).sum().alias(name) for name in fresh]
    turned = both.select(below).collect().row(0, named=True)
    return [
        f"{count:,} pairs have a chosen answer whose {name} is now below that of the rejected one; the pairs stay as "
        "they were: make them again (pairwright pair), or keep the old scores under another name (into)."
        for name, count in turned.items()
        if count
    ]


def _words(column: pl.Series) -> str:
    return "numbers" if column.dtype.is_numeric() else "values"


def _takes_all(plug: Plug) -> bool:
    """Whether a scorer takes the whole data: its first parameter is called `prefs`."""
    return next(iter(inspect.signature(plug).parameters), None) == "prefs"


def _work(plug: Plug, scorer: str, *, ray: bool, keep: str | Path | None) -> dict[str, Any]:
    """How a scorer that takes the whole data is to do its work, as settings of it.

    Raises:
        InputError: it cannot do it so.
    """
    known = settings_of(plug)
    if ray and "ray" not in known:
        raise InputError(f"scorer {scorer!r} needs all answers at once, so nothing can be shared out; leave out ray")
    return ({"ray": True} if ray else {}) | ({"keep": keep} if keep is not None and "keep" in known else {})


def _by_sample(
    prefs: Preferences,
    lists: Iterable[list[Sample | str]],
    bound: Callable[[list[Sample]], list[Score]],
    scorer: str,
) -> Scores:
    """The scores of a scorer that takes samples, list by list."""
    values: list[float | None] = []
    also: list[Mapping[str, Any]] = []
    why: Counter[str] = Counter()
    for samples in lists:
        there = [sample for sample in samples if isinstance(sample, Sample)]
        scores = bound(there) if there else []
        check_number(scores, there, scorer)
        given = iter(scores)
        for number in (next(given) if isinstance(sample, Sample) else Score(None, sample) for sample in samples):
            value, reason = _checked(number)
            values.append(value)
            also.append(number.also)
            if value is None:
                why[reason] += 1
    names = dict.fromkeys(name for one in also for name in one)
    columns = {name: pl.Series([one.get(name) for one in also], strict=False) for name in names}
    return Scores(pl.Series(values, dtype=pl.Float64), why, prefs, columns=columns)


def _checked(number: Score) -> tuple[float | None, str]:
    if number.value is None:
        return None, number.why or "no reason given"
    value = float(number.value)
    return (value, "") if math.isfinite(value) else (None, "non_finite_score")


def _samples(prefs: Preferences) -> Iterator[list[Sample | str]]:
    """All answers in order, with their prompts, in lists of a bounded size; for one that is missing, the reason."""
    schema = prefs.responses.collect_schema()
    columns = [name for name, kind in schema.items() if kind.is_numeric() and name != "response_id"]
    extras = [name for name in prefs.prompts.collect_schema() if name not in ("prompt_id", "prompt")]
    prompts = prefs.prompts.select("prompt_id", "prompt", extras=pl.struct(extras) if extras else pl.lit(None))
    answers = prefs.responses.select("prompt_id", "response", numbers=pl.struct(columns))
    joined = answers.join(prompts, on="prompt_id", how="left", maintain_order="left")
    for batch in joined.collect_batches(chunk_size=_CHUNK, maintain_order=True):
        rows = batch.select("prompt", "response", "extras", "numbers").iter_rows()
        yield [
            missing_before(prompt, response) or Sample(prompt, response, extra or {}, numbers)
            for prompt, response, extra, numbers in rows
        ]
