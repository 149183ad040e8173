"""The rows of a mode that asks for each answer by itself: which answers it gets, and what becomes of the others."""

import inspect
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import polars as pl

from pairwright.errors import InputError
from pairwright.goals import GoalFormat
from pairwright.pairing import EMPTY, TEXT, text_marks
from pairwright.plug import Plug
from pairwright.preferences import Preferences
from pairwright.relabel.conditioned import Answers
from pairwright.relabel.flips import copies

REASONS = ("unscored", "non_finite_score", "empty_response", "lone_answer", "out_of_scale")
"""Why an answer yields nothing; one with several reasons counts under the first. `lone_answer`: no other answer of its
pairs has another text, so that none can stand on the other side."""

Outside = Literal["error", "drop", "clip"]
_REASON = "__pairwright_reason"
_ROW = "__pairwright_row"
_WANTED = ("prompt_id", "chosen_id", "rejected_id", "goal", "weight", "copy", "source_pair")
_NOT_THEIRS = {"scale": 10, "decimals": 1, "outside": "error"}
"""Settings of the verb, with their defaults, that play no part where no scores are asked for."""


class Made(NamedTuple):
    """Rows, and the account of them in answers.

    Attributes:
        rows: the new pairs, in order.
        form: how their goals are said.
        rows_in: answers there were.
        dropped: answers that yield nothing, by reason.
        notes: what a reader should know, one sentence each.
    """

    rows: pl.DataFrame
    form: GoalFormat
    rows_in: int
    dropped: dict[str, int]
    notes: tuple[str, ...] = ()


def takes_answers(mode: Plug) -> bool:
    """Whether a mode asks for each answer by itself: its first parameter is called `answers`."""
    return next(iter(inspect.signature(mode).parameters), None) == "answers"


def made_of_answers(
    prefs: Preferences,
    candidates: pl.LazyFrame,
    columns: Sequence[str],
    form: GoalFormat,
    bound: Callable[[Answers], Answers],
    *,
    mode: str,
    outside: Outside,
    every: bool,
) -> Made:
    """Ask for each answer that stands in a candidate pair, once.

    Args:
        prefs: prompts and answers.
        candidates: pairs with `source_pair`; the other answer of the first pair that fits stands on the rejected side.
        columns: score columns that the goals are made of; each must be known and finite.
        form: how the scores are said.
        bound: the mode with its settings.
        mode: its name.
        outside: what to do with goals outside the ranges of the mode's format.
        every: whether answers of no candidate pair count too, as lone ones.

    Raises:
        InputError: goals lie outside the range, the mode gives no rows of answers, or all in one class.
    """
    facts = _each_once(prefs, candidates, columns, form)
    given = facts.filter(pl.col(_REASON) == 0).drop(_REASON, _ROW)
    said = _checked(bound(Answers(given.lazy(), form)), mode)
    rows = said.rows.collect()
    tally = dict(facts.group_by(_REASON).len().iter_rows())
    dropped = {reason: tally[code] for code, reason in enumerate(REASONS, start=1) if code in tally}
    total = len(facts)
    if every:
        alone = prefs.counts().responses - total
        total += alone
        dropped |= {"lone_answer": dropped.get("lone_answer", 0) + alone} if alone else {}
    kept = rows["chosen_id"].n_unique()
    if kept < len(given):
        dropped[f"not_in_{mode}"] = len(given) - kept
    inside = rows.select(_inside(said.form)).to_series()
    if outside != "clip" and not inside.all():
        bad = rows.filter(~inside)
        if outside == "error":
            raise InputError(_says_outside(bad, len(rows), said.form))
        dropped["out_of_scale"] = bad["chosen_id"].n_unique()
        rows = rows.filter(inside)
    why = {name: dropped[name] for name in (*REASONS, *dropped) if name in dropped}
    return Made(rows, said.form, total, why, _classes(rows, said.form))


def check_settings(form: GoalFormat, settings: dict[str, object], mode: str) -> None:
    """Refuse what a mode that asks for something else than scores does not use.

    Raises:
        InputError: such a setting is not at its default.
    """
    unused = [name for name, default in _NOT_THEIRS.items() if settings[name] != default]
    if form.asks != "scores" and unused:
        raise InputError(f"relabel: {mode} prints no scores, so {' and '.join(unused)} play no part; leave them out")


def _each_once(prefs: Preferences, candidates: pl.LazyFrame, columns: Sequence[str], form: GoalFormat) -> pl.DataFrame:
    """Each answer of the candidates once on the chosen side, with `_REASON`: 0 for none, else 1 + its place."""
    marked = Preferences.of(prefs.prompts, text_marks(prefs.responses), candidates)
    view = marked.view(*columns, EMPTY, TEXT)
    sides = ("chosen", "rejected")
    goal = {side: [pl.col(f"{name}_{side}") for name in columns] for side in sides}
    shown = {f"goal_{side}": pl.concat_list(parts) if form.attributes else parts[0] for side, parts in goal.items()}
    facts = view.select(
        *(f"{mark}_{side}" for mark in (EMPTY, TEXT) for side in sides),
        **shown,
        **{
            f"__pairwright_{name}_{side}": pl.any_horizontal(test(part) for part in goal[side])
            for name, test in (("null", pl.Expr.is_null), ("odd", _odd))
            for side in sides
        },
    )
    both = copies(pl.concat([candidates, facts], how="horizontal"), "positive", "negative").drop("goal")
    fits = ~pl.col(f"{EMPTY}_rejected") & (pl.col(f"{TEXT}_chosen") != pl.col(f"{TEXT}_rejected"))
    own = [pl.col(f"{name}_chosen") for name in ("__pairwright_null", "__pairwright_odd", EMPTY)]
    reason = pl.lit(0, dtype=pl.UInt8)
    for code, test in reversed(list(enumerate([*own, ~fits], start=1))):
        reason = pl.when(test).then(pl.lit(code, dtype=pl.UInt8)).otherwise(reason)
    ours = pl.selectors.starts_with("__pairwright_") - pl.selectors.by_name(_REASON, _ROW)
    return (
        both.with_row_index(_ROW)
        .with_columns(reason.alias(_REASON))
        .sort(pl.col(_REASON) == 1 + REASONS.index("lone_answer"), maintain_order=True)
        .unique("chosen_id", keep="first", maintain_order=True)
        .sort(_ROW)
        .drop(ours)
        .collect()
    )


def _odd(part: pl.Expr) -> pl.Expr:
    return ~part.is_finite()


def _checked(said: object, mode: str) -> Answers:
    if not isinstance(said, Answers):
        raise InputError(f"relabel mode {mode!r} takes answers, so it must give Answers, not {type(said).__name__}")
    missing = [name for name in _WANTED if name not in said.rows.collect_schema()]
    if missing:
        raise InputError(f"relabel mode {mode!r} gave no column {', '.join(missing)}; keep those of `answers.rows`")
    return said


def _classes(rows: pl.DataFrame, form: GoalFormat) -> tuple[str, ...]:
    """How many answers each class has, in a sentence; nothing where no classes are asked for.

    Raises:
        InputError: all are of one class, so that it says nothing about an answer.
    """
    if form.asks != "class" or rows.is_empty():
        return ()
    sizes = dict(rows.group_by(pl.col("goal").list.first().cast(pl.Int64)).len().iter_rows())
    if len(sizes) == 1:
        raise InputError(
            f"relabel: all {len(rows):,} answers are of class {next(iter(sizes))} of {form.scale}, so that the class "
            "says nothing; set the edges between the scores of the data"
        )
    said = ", ".join(f"{sizes.get(each, 0):,} of class {each}" for each in range(form.lowest, form.scale + 1))
    return (f"Answers by class: {said}.",)


def _inside(form: GoalFormat) -> pl.Expr:
    """Whether each part of the goal lies in its range."""
    goal = pl.col("goal")
    return pl.all_horizontal(
        (goal.list.get(i) if form.attributes else goal).is_between(low, high)
        for i, (low, high) in enumerate(form.ranges)
    ).alias("inside")


def _says_outside(bad: pl.DataFrame, total: int, form: GoalFormat) -> str:
    seen = []
    for i, (name, (low, high)) in enumerate(zip(form.attributes or ("score",), form.ranges, strict=True)):
        part = pl.col("goal").list.get(i) if form.attributes else pl.col("goal")
        least, most = bad.select(part.min().alias("least"), part.max().alias("most")).row(0)
        seen.append(f"{name} runs from {float(least):g} to {float(most):g} and the range is {low:g} to {high:g}")
    return (
        f"relabel: {len(bad):,} of {total:,} answers have scores outside the range ({'; '.join(seen)}); give "
        "source_range LO HI or source_range percentiles, or set outside to drop or clip"
    )
