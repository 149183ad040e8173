"""The verb `relabel`."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal, cast

import polars as pl
from pydantic import Field, ValidationError

from pairwright.chat import supports_system
from pairwright.errors import InputError
from pairwright.goals import TEMPLATE, GoalFormat, Placement
from pairwright.pairing import EMPTY, TEXT, text_marks, with_split
from pairwright.plug import bind, find, nearest, plain, settings_of
from pairwright.preferences import Preferences, Step
from pairwright.relabel.answers import check_settings, made_of_answers, takes_answers
from pairwright.relabel.ranges import SourceRange, source_ranges
from pairwright.relabel.table import MODES

REASONS = (
    "unscored",
    "non_finite_score",
    "empty_chosen",
    "empty_rejected",
    "equal_text",
    "out_of_scale",
    "score_tie",
    "below_min_gap",
)
"""Why a pair yields nothing; a pair with several reasons counts under the first."""

Outside = Literal["error", "drop", "clip"]
Over = Literal["pairs", "answers"]
_REASON = "__pairwright_reason"
_WORKING = ("goal_chosen", "goal_rejected", "printed_chosen", "printed_rejected", _REASON)
_BOTH_WAYS = ("ra", "half_ra")  # modes that turn each pair both ways, so that it does not matter which side is chosen
_ROUNDING = 1e-9  # 8.1 - 7.6 is a gap of 0.5, whatever floating point says


def relabel(
    prefs: Preferences,
    mode: str = "ra",
    *,
    placement: Placement = "auto",
    scale: int = 10,
    source_range: SourceRange | None = None,
    decimals: int = 1,
    min_gap: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0,
    outside: Outside = "error",
    attributes: Sequence[str] = (),
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None,
    over: Over = "pairs",
    template: str | None = None,
    tokenizer: Any = None,
    seed: int | None = None,
    **mode_settings: Any,
) -> Preferences:
    """Make of each pair the pairs that ask for a score. No text is copied or rendered.

    A pair with an unscored side, a non-finite score, an empty side, equal texts, or scores that are equal as the
    model reads them yields nothing and is counted (`REASONS`). The copies of a pair follow each other and stay in its
    split; the columns `copy` (`positive`, `negative`) and `source_pair` say where a row came from.

    `steerlm`, `c_rlft` and `dpa` ask for each answer of the pairs by itself, for supervised training: they need no
    difference of scores, and rows and reasons are counted in answers (`relabel.answers.REASONS`). Their rejected side
    is just another answer, so a loss that compares the two is refused in training.

    Args:
        prefs: pairs of scored answers, without goals.
        mode: `ra`, `ra_plus`, `half_ra`, `filter_high`, `filter_low`, `plain`, `steerlm`, `c_rlft`, `dpa`, or
            `module:function`.
        placement: where the goal is said: `system`, `user`, or `auto`, which asks the tokenizer's chat template
            (without a tokenizer: `user`, which every template takes).
        scale: the goal printed runs from 1 to this.
        source_range: the scores that are printed as 1 and as `scale`: two numbers, `percentiles` (1st and 99th of all
            training answers), or None for 1 to 10.
        decimals: decimals of the printed goal.
        min_gap: smallest difference of the two goals as printed.
        outside: what to do with scores outside the range: `error`, `drop` the pair, or `clip` the printed goal. With
            `percentiles`, where two in a hundred are outside by definition, `error` means `clip`.
        attributes: score columns for a vector goal (`helpfulness` for `score_helpfulness`); every one must be scored.
        threshold: for `filter_high` and `filter_low`, as printed; 5 on a scale of 10 when None.
        over: `pairs`, or `answers` for every two answers of each prompt with different scores. With `attributes` the
            overall score says which of two is the better one, where a mode does not ask for both.
        template: another goal sentence, with the fields `{scale}` and `{scores}`, or with one for each attribute
            (`{helpfulness}`) in place of `{scores}`; for a class it is `{class}`.
        tokenizer: the model's tokenizer, or its directory; used for `auto` only.
        seed: for a mode that draws; None takes the first half in `half_ra`, and is 0 in `dpa`.
        mode_settings: further settings of a mode of one's own.

    Returns:
        The same prompts and responses, new pairs; `goal` is in score units (of a class or a direction it is a list).
        The lineage holds the goal format.

    Raises:
        InputError: the pairs have goals already, a score lies outside the range, a score column is missing, or a
            setting does not fit.
    """
    if prefs.has_goals:
        raise InputError(
            "relabel: these pairs ask for scores already, and asking twice would put two goals into one prompt; "
            "relabel the data from before the first relabelling"
        )
    own = _checked_settings(
        placement=placement,
        scale=scale,
        source_range=source_range,
        decimals=decimals,
        min_gap=min_gap,
        outside=outside,
        attributes=attributes,
        threshold=threshold,
        over=over,
        template=template,
        seed=seed,
    )
    source_range, min_gap = own["source_range"], own["min_gap"]
    names = tuple(name.removeprefix("score_") for name in own["attributes"])
    columns = _columns(prefs, names)
    bound = _bound_mode(
        mode, threshold=own["threshold"], seed=own["seed"], scale=own["scale"], settings=mode_settings, names=names
    )
    by_answer = takes_answers(find(MODES, mode, kind="relabel mode"))
    if by_answer and min_gap:
        raise InputError(f"relabel: {mode} asks for each answer by itself, so min_gap plays no part; leave it out")
    where, notes = _placement(placement, tokenizer)
    decided = over == "answers" and bool(names) and mode not in _BOTH_WAYS and not by_answer
    if decided:
        _check_winner(prefs, mode)
    candidates = _own_columns(prefs.pairs) if over == "pairs" else _all_answers(prefs)
    candidates = candidates.drop("goal", strict=False).with_row_index("source_pair")
    form = _form(
        template=TEMPLATE if template is None or by_answer else template,
        placement=where,
        scale=own["scale"],
        ranges=source_ranges(prefs, candidates, columns, source_range),
        decimals=own["decimals"],
        attributes=names,
    )
    if outside == "error" and source_range == "percentiles":
        outside = "clip"
    made: pl.LazyFrame | pl.DataFrame
    told: tuple[str, ...] = ()
    if by_answer:
        of = made_of_answers(
            prefs, candidates, columns, form, bound, mode=mode, outside=outside, every=over == "answers"
        )
        check_settings(of.form, own, mode)
        form = of.form if template is None else _form(**of.form.model_dump() | {"template": template})
        made, rows_in, rows, said, dropped = of.rows, of.rows_in, len(of.rows), bool(len(of.rows)), of.dropped
        told = of.notes
    else:
        facts = _facts(prefs, candidates, columns, form, min_gap=min_gap, outside=outside, decided=decided)
        _check_inside(facts, form, outside)
        usable = _usable(candidates, facts, form)
        made = _checked(bound(usable), mode)
        rows_in = len(facts)
        rows, said, dropped, told = _account(facts, made, mode, scalar=not names)
    step = Step(
        name="relabel",
        settings={
            "mode": mode,
            "over": over,
            "min_gap": min_gap,
            "outside": outside,
            "source_range": source_range,
            "judged": not by_answer,
            **cast(partial[Any], bound).keywords,
            "goal": form.model_dump(mode="json") if said else None,
        },
        rows_in=rows_in,
        rows_out=rows,
        dropped=dropped,
        notes=(*(notes if said else ()), *told),
    )
    return prefs.then(step, pairs=made.drop(_WORKING, strict=False).cast({"source_pair": pl.Int64}))


def _checked_settings(**settings: Any) -> dict[str, Any]:
    """The verb's own settings, converted by their declared types."""
    return cast(partial[Any], bind(relabel, settings, kind="verb")).keywords


def _own_columns(pairs: pl.LazyFrame) -> pl.LazyFrame:
    """The pairs without what an earlier relabelling (in the mode `plain`) wrote.

    Raises:
        InputError: a column of the user's own has a name that relabelling needs.
    """
    schema = pairs.collect_schema()
    ours = "copy" in schema and "source_pair" in schema
    ours = ours and schema["copy"] in (pl.String, pl.Null) and schema["source_pair"].is_integer()
    if ours:
        said = pairs.select(pl.col("copy").cast(pl.String).unique()).collect().to_series().drop_nulls()
        ours = set(said) <= {"positive", "negative"}
    taken = [name for name in (*_WORKING, *(() if ours else ("copy", "source_pair"))) if name in schema]
    if taken:
        raise InputError(
            f"relabel: the pairs have a column {taken[0]!r} of their own, and relabelling writes one of that name; "
            "rename it first"
        )
    return pairs.drop("copy", "source_pair") if ours else pairs


def _check_winner(prefs: Preferences, mode: str) -> None:
    """Of two answers with attributes only, nothing says which is the better one."""
    if not prefs.responses.select(pl.col("score").is_finite().any()).collect().item():
        raise InputError(
            f"relabel: {mode} over answers needs to know which of two is better, and none has an overall score; score "
            "them first (`pairwright score`), or take the mode ra or half_ra, which asks for both"
        )


def _columns(prefs: Preferences, names: Sequence[str]) -> tuple[str, ...]:
    """The score columns that goals are made of; every one is there."""
    columns = tuple(f"score_{name}" for name in names) or ("score",)
    known = prefs.responses.collect_schema().names()
    for column in columns:
        if column not in known:
            there = [name for name in known if name.startswith("score_")]
            hint = nearest(column, there) or f"; there are {', '.join(there) or 'no attributes'}"
            raise InputError(f"relabel: responses have no column {column!r}{hint}")
    return columns


def _bound_mode(
    mode: str, *, threshold: float | None, seed: int | None, scale: int, settings: dict[str, Any], names: Sequence[str]
) -> Callable[[Any], Any]:
    """The mode with its settings; a threshold is 5 of 10, whatever the scale."""
    plug = find(MODES, mode, kind="relabel mode")
    takes = settings_of(plug)
    given = dict(settings)
    if threshold is not None:
        given["threshold"] = threshold
    elif "threshold" in takes and scale != 10:
        given["threshold"] = 1 + (5 - 1) * (scale - 1) / 9
    if seed is not None and "seed" in takes:
        given["seed"] = seed
    if names and mode in ("filter_high", "filter_low"):
        raise InputError(f"relabel: {mode} compares one score with a threshold, and {len(names)} attributes are named")
    return bind(plug, given, kind="relabel mode")


def _placement(placement: Placement, tokenizer: Any) -> tuple[Literal["system", "user"], tuple[str, ...]]:
    """Where the goal goes, and what to note about it."""
    if placement != "auto":
        return placement, ()
    if tokenizer is None:
        return "user", ("The goal stands in the user message: no tokenizer was given to ask for a system role.",)
    if isinstance(tokenizer, str) or hasattr(tokenizer, "__fspath__"):
        from pairwright.audit.tokens import load

        tokenizer = load(tokenizer)
    if supports_system(tokenizer):
        return "system", ("The goal stands in a system message, which the chat template supports.",)
    return "user", ("The goal stands in the user message: the chat template has no system role.",)


def _form(**parts: Any) -> GoalFormat:
    try:
        return GoalFormat(**parts)
    except ValidationError as error:
        raise InputError(f"relabel: {plain(error)}") from error


def _all_answers(prefs: Preferences) -> pl.LazyFrame:
    """Every two answers of each prompt as one candidate, the higher score chosen, in row order."""
    first = prefs.responses.select("prompt_id", chosen_id="response_id", _a="score").with_row_index("_i")
    other = first.rename({"chosen_id": "rejected_id", "_a": "_b", "_i": "_j"})
    joined = first.join(other, on="prompt_id", how="inner", maintain_order="left_right")
    below = pl.col("_a") < pl.col("_b")
    turned = pl.when(below)
    both = joined.filter(pl.col("_i") < pl.col("_j")).select(
        "prompt_id",
        chosen_id=turned.then("rejected_id").otherwise("chosen_id"),
        rejected_id=turned.then("chosen_id").otherwise("rejected_id"),
        weight=pl.lit(1.0),
    )
    return with_split(both, prefs)


def _facts(
    prefs: Preferences,
    pairs: pl.LazyFrame,
    columns: Sequence[str],
    form: GoalFormat,
    *,
    min_gap: float,
    outside: Outside,
    decided: bool,
) -> pl.DataFrame:
    """For each pair, in order: `_REASON` (0: none, else 1 + its place in `REASONS`), `goal_chosen`, `goal_rejected`.

    `decided`: the overall score says which side is chosen, so a pair without it, or with a tie of it, is of no use.
    """
    marked = Preferences.of(prefs.prompts, text_marks(prefs.responses), pairs.drop("source_pair"))
    view = marked.view(*columns, *(["score"] if decided else []), EMPTY, TEXT)
    goals = {side: [pl.col(f"{name}_{side}") for name in columns] for side in ("chosen", "rejected")}
    sides = [*goals["chosen"], *goals["rejected"]]
    winner = [pl.col("score_chosen"), pl.col("score_rejected")] if decided else []
    out = [
        ~column.is_between(low, high)
        for side in goals.values()
        for column, (low, high) in zip(side, form.ranges, strict=True)
    ]
    goal = {side: parts[0] if not form.attributes else pl.concat_list(parts) for side, parts in goals.items()}
    gap = _printed_gap(form, goal["chosen"], goal["rejected"])
    tests = {
        "unscored": pl.any_horizontal(column.is_null() for column in [*sides, *winner]),
        "non_finite_score": pl.any_horizontal(~column.is_finite() for column in [*sides, *winner]),
        "empty_chosen": pl.col(f"{EMPTY}_chosen"),
        "empty_rejected": pl.col(f"{EMPTY}_rejected"),
        "equal_text": pl.col(f"{TEXT}_chosen") == pl.col(f"{TEXT}_rejected"),
        "out_of_scale": pl.any_horizontal(out) if outside != "clip" else pl.lit(False),
        "score_tie": (gap == 0) | (winner[0] == winner[1]) if winner else gap == 0,
        "below_min_gap": gap < min_gap - _ROUNDING,
    }
    reason = pl.lit(0, dtype=pl.UInt8)
    for code, test in reversed(list(enumerate(tests.values(), start=1))):
        reason = pl.when(test).then(pl.lit(code, dtype=pl.UInt8)).otherwise(reason)
    shown = {f"goal_{side}": expression for side, expression in goal.items()}
    return view.select(reason.alias(_REASON), **shown).collect(engine="streaming")


def _printed_gap(form: GoalFormat, one: pl.Expr, other: pl.Expr) -> pl.Expr:
    """Distance of two goals as printed; Euclidean for vectors. Zero means that the model reads the same sentence."""
    if not form.attributes:
        return (form.value(one) - form.value(other)).abs()
    first, second = form.value(one), form.value(other)
    parts = [first.list.get(i) - second.list.get(i) for i in range(len(form.attributes))]
    return pl.sum_horizontal([part**2 for part in parts]).sqrt()


def _check_inside(facts: pl.DataFrame, form: GoalFormat, outside: Outside) -> None:
    code = 1 + REASONS.index("out_of_scale")
    bad = facts.filter(pl.col(_REASON) == code)
    if outside != "error" or bad.is_empty():
        return
    seen = []
    for i, name in enumerate(form.attributes or ("score",)):
        sides = [pl.col(f"goal_{side}") for side in ("chosen", "rejected")]
        parts = [side.list.get(i) if form.attributes else side for side in sides]
        known = facts.filter(pl.col(_REASON) >= code).vstack(facts.filter(pl.col(_REASON) == 0))
        low = known.select(pl.min_horizontal(*(part.min() for part in parts))).item()
        high = known.select(pl.max_horizontal(*(part.max() for part in parts))).item()
        first, last = form.ranges[i]
        seen.append(f"{name} runs from {low:g} to {high:g} and the range is {first:g} to {last:g}")
    raise InputError(
        f"relabel: {len(bad):,} of {len(facts):,} pairs have scores outside the range ({'; '.join(seen)}); give "
        "source_range LO HI or source_range percentiles, or set outside to drop or clip"
    )


def _usable(pairs: pl.LazyFrame, facts: pl.DataFrame, form: GoalFormat) -> pl.LazyFrame:
    """The pairs that a mode gets: those without a reason, with their goals beside them."""
    beside = pl.concat([pairs, facts.lazy()], how="horizontal").filter(pl.col(_REASON) == 0)
    return beside.with_columns(
        printed_chosen=form.value(pl.col("goal_chosen")), printed_rejected=form.value(pl.col("goal_rejected"))
    )


def _checked(made: pl.LazyFrame, mode: str) -> pl.LazyFrame:
    wanted = ("prompt_id", "chosen_id", "rejected_id", "goal", "copy", "source_pair")
    missing = [name for name in wanted if name not in made.collect_schema()]
    if missing:
        raise InputError(f"relabel mode {mode!r} gave no column {', '.join(missing)}; make its rows with `copies`")
    return made


def _account(
    facts: pl.DataFrame, made: pl.LazyFrame, mode: str, *, scalar: bool
) -> tuple[int, bool, dict[str, int], tuple[str, ...]]:
    """Rows made, whether any asks for a score, pairs dropped by reason, and notes on what a reader should know."""
    tally = dict(facts.group_by(_REASON).len().iter_rows())
    dropped = {reason: tally[code] for code, reason in enumerate(REASONS, start=1) if code in tally}
    usable = tally.get(0, 0)
    copies = made.select(
        "source_pair", said=pl.col("goal").is_not_null(), negative=pl.col("copy") == "negative"
    ).collect(engine="streaming")
    source = copies["source_pair"]
    used = (source.set_sorted() if source.is_sorted() else source).n_unique()  # counting sorted ones needs no hashing
    negatives = copies["negative"].sum()
    if used < usable:
        dropped[f"not_in_{mode}"] = usable - used
    notes = []
    if mode in ("filter_high", "filter_low"):
        notes.append(f"{usable - negatives:,} of {usable:,} negative copies are deleted by {mode}.")
    if scalar:
        against = facts.filter((pl.col(_REASON) == 0) & (pl.col("goal_chosen") < pl.col("goal_rejected"))).height
        if against:
            notes.append(f"In {against:,} of {usable:,} pairs the chosen side has the lower score.")
    return len(copies), bool(copies["said"].any()), dropped, tuple(notes)
