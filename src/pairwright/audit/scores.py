"""Checks on scores: ties, labels that the scores deny, values that are no scores.

A check about values looks at pairs (an answer of theirs has such a value); where the data has no pairs yet it looks at
the answers themselves, and its finding says so in `of`.
"""

import re
from collections.abc import Iterable
from typing import Annotated

import polars as pl
from pydantic import Field

from pairwright.audit.facts import Facts
from pairwright.audit.finding import Finding, Level, finding
from pairwright.errors import InputError
from pairwright.formats.record import NON_FINITE
from pairwright.preferences import Preferences

Data = Preferences | Facts
Scale = tuple[float, float]


def score_tie(data: Data) -> Finding:
    """Both answers of a pair have exactly the same score.

    Exactly: 7.0 and 7.04 are no tie here, though a goal printed with one decimal shows them alike; `relabel` counts
    those too.
    """
    facts = Facts.of(data)
    gap = _gap(facts)
    hits, scored = gap == 0, gap.is_not_null().sum()
    close = ((gap.abs() > 0) & (gap.abs() < 0.01 * _spread(facts))).fill_null(False).sum()
    more = f"; {close:,} more differ by less than 1% of the range of scores" if close else ""
    return finding(
        "score_tie",
        hits,
        says=f"{_n(hits)} of {scored:,} scored pairs have the same score on both sides{more}.",
        remedy="The label of a tie is arbitrary: drop these pairs, or score the answers on a finer scale; "
        "`pair` and `relabel` leave them out and count them.",
    )


def label_against_score(data: Data) -> Finding:
    """The chosen answer has the worse score of the two.

    With a goal the better score is the nearer one: gap = |r(rejected) - goal| - |r(chosen) - goal|, so a relabelled
    pair that asks for a low score is no finding. Pairs with a vector of goals are not looked at.
    """
    facts = Facts.of(data)
    gap = _gap(facts)
    goal = facts.pairs.get_column("goal")
    left_out = 0
    if isinstance(goal.dtype, pl.List):
        left_out = int(goal.is_not_null().sum())
        gap = _masked(gap, goal.is_null())
    else:
        chosen, rejected = facts.side("chosen", "score"), facts.side("rejected", "score")
        towards = (rejected - goal).abs() - (chosen - goal).abs()
        gap = towards.zip_with(goal.is_not_null(), gap)
    hits = gap < 0
    aside = f" ({left_out:,} pairs with several goals were not looked at)" if left_out else ""
    return finding(
        "label_against_score",
        hits,
        level="error",
        says=f"{_n(hits)} of {gap.is_not_null().sum():,} scored pairs prefer the answer with the worse score{aside}.",
        remedy="Look at some rows: if the scores are right, pair again from them (`pair`); if lower is better in this "
        "source, read it as a rank; if the labels are right, the scores must not be used for goals.",
    )


def unscored(data: Data) -> Finding:
    """An answer has no score: null, never zero."""
    facts = Facts.of(data)
    missing = facts.responses.get_column("score").is_null()
    hits, of = facts.either(missing)
    nothing = bool(missing.all()) and len(missing) > 0
    level: Level = "note" if nothing else "warning"
    answers = f"{_n(missing)} of {len(missing):,} answers have no score"
    compared = facts.pairs.get_column("preference").is_not_null().sum()
    only = f"; the source compares without scores ({compared:,} preferences)" if nothing and compared else ""
    return finding(
        "unscored",
        hits,
        of=of,
        level=level,
        says=f"{_n(hits)} of {len(hits):,} {of} have an answer without a score: {answers}{only}.",
        remedy="Score them (`score`); until then `pair`, `select` by gap and `relabel` leave them out and count them.",
    )


def non_finite_score(data: Data) -> Finding:
    """A score is NaN or infinite, in the data or, as its notes tell, in the source that was read."""
    facts = Facts.of(data)
    hits, of = facts.either(_flagged(facts, (~pl.col(name).is_finite() for name in facts.scores)))
    read = sum(_noted(note) for step in facts.prefs.lineage for note in step.notes)
    found = finding(
        "non_finite_score",
        hits,
        of=of,
        level="error",
        says=f"{_n(hits)} of {len(hits):,} {of} have an answer whose score is NaN or infinite.",
        remedy="Find out what wrote them (a failed judge, a division by zero), and score those answers again.",
    )
    if not read:
        return found
    return Finding(
        check=found.check,
        count=found.count + read,
        share=(found.count + read) / len(hits) if len(hits) else found.share,
        rows=found.rows,
        says=f"{found.says} In the source {read:,} rows had one; it was read as unscored.",
        remedy="Find out what wrote them (a failed judge, a division by zero), and score those answers again.",
        of=of,
        level="error",
        rows_left_out=found.rows_left_out + read,
    )


def sentinel_score(data: Data, *, values: tuple[float, ...] = (-1.0, -100.0)) -> Finding:
    """A score is -1 or -100 and stands apart from all others: a mark for "failed", not a score.

    A value stands apart when no other score is below zero, or when it is further below all others than these are from
    each other. So -1 among reward-model logits is a score, and -1 among ratings from 1 to 10 is not.
    """
    facts = Facts.of(data)
    marked: dict[str, list[float]] = {
        name: _sentinels(facts.responses.get_column(name), values) for name in facts.scores
    }
    answers = _flagged(facts, (pl.col(name).is_in(found) for name, found in marked.items() if found))
    hits, of = facts.either(answers)
    where = "; ".join(
        f"{column} has {', '.join(f'{value:g}' for value in found)}" for column, found in marked.items() if found
    )
    return finding(
        "sentinel_score",
        hits,
        of=of,
        level="error",
        says=f"{_n(hits)} of {len(hits):,} {of} have a score that looks like a mark for a failure, not a score "
        f"({_n(answers)} answers{'; ' + where if where else ''}).",
        remedy="Make them null before reading (unscored, not bad): as numbers they spoil every mean, gap and goal.",
    )


def out_of_scale(
    data: Data, *, scale: Scale | None = None, mostly: Annotated[float, Field(gt=0.5, le=1)] = 0.8
) -> Finding:
    """A score lies outside the scale of the data.

    Args:
        data: what is audited.
        scale: lowest and highest score that there may be. When it is not given, a `scale` in the settings of the
            `read` step counts as declared. When there is none, 1 to 10 is taken if at least `mostly` of the scores
            look like ratings on it (inside, at most one decimal, some above 5), and the finding is a note; otherwise
            nothing is found and the sentence tells the range seen.
        mostly: see `scale`.

    Raises:
        InputError: the scale does not rise.
    """
    if scale and not scale[0] < scale[1]:
        raise InputError(f"the scale {scale[0]:g} to {scale[1]:g} does not rise; give the lowest score first")
    facts = Facts.of(data)
    score = facts.responses.get_column("score")
    seen = score.filter(score.is_finite())
    declared = scale or _declared(facts.prefs)
    used = declared or _ratings(seen, mostly)
    outside = (score.is_finite() & ~score.is_between(*used)) if used else pl.repeat(False, len(score), eager=True)
    hits, of = facts.either(outside)
    low, high = seen.min(), seen.max()
    span = f"scores run from {low:g} to {high:g}" if isinstance(low, float) and isinstance(high, float) else "no scores"
    name = f"{used[0]:g} to {used[1]:g}" if used else ""
    origin = "" if declared else ", the scale that most scores keep to (none was declared)"
    says = (
        f"{_n(hits)} of {len(hits):,} {of} have a score outside {name}{origin}; {span}."
        if used
        else f"No scale was declared, so nothing is outside it; {span}."
    )
    return finding(
        "out_of_scale",
        hits,
        of=of,
        level="warning" if declared else "note",
        says=says,
        remedy="Correct or unscore them; if the scale is another, give it (`--scale LOW HIGH`, and `source_range` to "
        "`relabel`).",
    )


def constant_score(data: Data) -> Finding:
    """A score column has one and the same value for all answers."""
    facts = Facts.of(data)
    constant = []
    for name in facts.scores:
        values = facts.responses.get_column(name)
        finite = values.filter(values.is_finite())
        if len(finite) > 1 and finite.n_unique() == 1:
            constant.append((name, finite[0]))
    hits, of = facts.either(_flagged(facts, (pl.col(name).is_finite() for name, _ in constant)))
    what = " and ".join(f"{name} is {value:g} for every scored answer" for name, value in constant)
    return finding(
        "constant_score",
        hits,
        of=of,
        level="error" if any(name == "score" for name, _ in constant) else "warning",
        says=f"{what[:1].upper()}{what[1:]}." if constant else "Every score column varies.",
        remedy="Such a score says nothing: look for the step that filled it, or score the answers.",
    )


def _gap(facts: Facts) -> pl.Series:
    """r(chosen) - r(rejected) of every pair; null where a side has no finite score."""
    gap = facts.side("chosen", "score") - facts.side("rejected", "score")
    return _masked(gap, gap.is_finite())


def _masked(values: pl.Series, keep: pl.Series) -> pl.Series:
    return values.zip_with(keep.fill_null(False), pl.Series([None], dtype=values.dtype))


def _spread(facts: Facts) -> float:
    score = facts.responses.get_column("score")
    finite = score.filter(score.is_finite())
    low, high = finite.min(), finite.max()
    return high - low if isinstance(low, float) and isinstance(high, float) else 0.0


def _sentinels(scores: pl.Series, values: tuple[float, ...]) -> list[float]:
    finite = scores.filter(scores.is_finite())
    present = [value for value in values if (finite == value).any()]
    rest = finite.filter(~finite.is_in(present))
    low, high = rest.min(), rest.max()
    if not isinstance(low, float) or not isinstance(high, float):
        return present
    return [value for value in present if low >= 0 or low - value > high - low]


def _declared(prefs: Preferences) -> Scale | None:
    for step in prefs.lineage:
        scale = step.settings.get("scale") if step.name == "read" else None
        if isinstance(scale, list | tuple) and len(scale) == 2:
            return float(scale[0]), float(scale[1])
    return None


def _ratings(scores: pl.Series, mostly: float) -> Scale | None:
    """1 to 10, where most scores look like ratings on it."""
    inside = scores.is_between(1.0, 10.0) & ((scores * 10).round(0) / 10 - scores).abs().lt(1e-9)
    share = inside.mean()
    above = (inside & (scores > 5)).any()
    return (1.0, 10.0) if isinstance(share, float) and share >= mostly and above else None


def _noted(note: str) -> int:
    """How many rows a note of `read` says had a score that was not finite."""
    if NON_FINITE not in note:
        return 0
    number = re.search(r"\d[\d,]*", note)
    return int(number.group().replace(",", "")) if number else 1


def _flagged(facts: Facts, flags: Iterable[pl.Expr]) -> pl.Series:
    """Whether any of some flags is set, for every answer; without flags, never."""
    flag = pl.any_horizontal(pl.lit(False), *(one.fill_null(False) for one in flags))
    return facts.responses.with_columns(_flag=flag).get_column("_flag")


def _n(hits: pl.Series) -> str:
    return f"{int(hits.fill_null(False).sum()):,}"
