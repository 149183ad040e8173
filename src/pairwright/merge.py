"""The verb `merge`: two sets of preferences as one."""

import polars as pl

from pairwright.errors import InputError
from pairwright.pairing import is_split, splits
from pairwright.preferences import Preferences, Step

_TEXT = "__pairwright_text"
_NEW = "__pairwright_new"
_OLD = "__pairwright_old"
_SIDE = "__pairwright_side"


def merge(prefs: Preferences, other: Preferences) -> Preferences:
    """Both sets of preferences as one: the rows of the first, then what the second has besides.

    A prompt that both have is kept once, as the first has it, and stays on the first's side of a split. Where one of
    the two is split, every prompt has its side in the column `split` of prompts, `train` where nothing says it. Answers
    that agree in every column (prompt, text, model, scores and the rest) are one, and so are pairs of the same two
    answers under the same goal. Contradictions stay and are counted in the notes: answers of one text with other
    scores, and pairs that order two texts the other way round. A column that only one of them has is null in the rows
    of the other.

    Args:
        prefs: the first.
        other: the second.

    Returns:
        The answers of the second have new `response_id`s, and its pairs point at these. The lineage is that of the
        first; that of the second is in the settings of this step.

    Raises:
        InputError: the two say goals in other ways, or a column of one name has two types.
    """
    if prefs.goal_format != other.goal_format:
        raise InputError(
            "merge: the pairs of the two ask for scores in different words or ranges, or only one asks for any; "
            "merge them first and relabel then"
        )
    sides = splits(prefs).select("prompt_id", _side="split")
    known = prefs.prompts.select("prompt_id")
    fresh_prompts = other.prompts.join(known, on="prompt_id", how="anti", maintain_order="left")
    prompts = _together(prefs.prompts, fresh_prompts, "prompts")
    if is_split(prefs) or is_split(other):
        prompts = _with_sides(prompts, prefs, other)
    first, second = prefs.responses.collect(), other.responses.collect()
    answers, ids = _answers(first, second)
    pairs, had = _pairs(prefs, other, ids, sides)
    merged = pairs.collect()
    step = Step(
        name="merge",
        settings={"other": [step.model_dump(mode="json") for step in other.lineage]},
        inputs={"other": other.digest()},
        rows_in=had,
        rows_out=len(merged),
        dropped={"repeated": had - len(merged)} if had > len(merged) else {},
        notes=(
            *_came(fresh_prompts, len(answers) - len(first), len(merged) - prefs.counts().pairs),
            *_notes(len(second) - (len(answers) - len(first)), prefs, other),
            *_contradictions(prefs, other),
        ),
    )
    return prefs.then(step, prompts=prompts, responses=answers, pairs=merged)


def _with_sides(prompts: pl.LazyFrame, prefs: Preferences, other: Preferences) -> pl.LazyFrame:
    """All prompts with their side: the first's, else the second's, else `train`."""
    known = [splits(each).select("prompt_id", pl.col("split").alias(_SIDE)) for each in (prefs, other)]
    sides = pl.concat(known).unique("prompt_id", keep="first", maintain_order=True)
    found = prompts.join(sides, on="prompt_id", how="left", maintain_order="left")
    return found.with_columns(split=pl.col(_SIDE).fill_null("train")).drop(_SIDE)


def _text() -> pl.Expr:
    return pl.col("response").list.eval(pl.element().struct.json_encode()).list.join("\n")


def _came(prompts: pl.LazyFrame, answers: int, pairs: int) -> list[str]:
    count = prompts.select(pl.len()).collect().item()
    return [f"From the second came {count:,} prompts, {answers:,} answers and {pairs:,} pairs."]


def _contradictions(prefs: Preferences, other: Preferences) -> list[str]:
    """What the two say against each other: scores of the same text, and the order of the same two texts."""
    mine, theirs = (
        each.responses.filter(pl.col("score").is_not_null())
        .group_by("prompt_id", _text().alias(_TEXT))
        .agg(pl.col("score").unique().sort())
        for each in (prefs, other)
    )
    both = mine.join(theirs, on=["prompt_id", _TEXT], how="inner")
    scores = both.filter(pl.col("score") != pl.col("score_right")).select(pl.len()).collect().item()
    key = ["prompt_id", "chosen", "rejected", "goal"]
    ours = _ordered(prefs)
    turned = _ordered(other).rename({"chosen": "rejected", "rejected": "chosen"})
    pairs = turned.join(ours, on=key, how="semi", nulls_equal=True).select(pl.len()).collect().item()
    notes = (
        [f"{scores:,} answers of the same text have other scores in the second than in the first."] if scores else []
    )
    said = f"{pairs:,} pairs of the second order two texts the other way round than the first does."
    return [*notes, *([said] if pairs else [])]


def _ordered(prefs: Preferences) -> pl.LazyFrame:
    """Each pair by the texts of its two sides."""
    texts = prefs.responses.select("response_id", _text().alias(_TEXT))
    pairs = prefs.pairs.select("prompt_id", "chosen_id", "rejected_id", "goal")
    for side in ("chosen", "rejected"):
        named = texts.select(pl.col("response_id").alias(f"{side}_id"), pl.col(_TEXT).alias(side))
        pairs = pairs.join(named, on=f"{side}_id", how="left")
    return pairs.select("prompt_id", "chosen", "rejected", "goal")


def _answers(first: pl.DataFrame, second: pl.DataFrame) -> tuple[pl.DataFrame, pl.LazyFrame]:
    """The answers of both, and the new number of each answer of the second by its old one."""
    start = 0 if first.is_empty() else int(first["response_id"].max()) + 1  # type: ignore[arg-type]
    numbered = second.with_columns(
        pl.int_range(start, start + pl.len(), dtype=pl.Int64).alias("response_id"),
        pl.col("response_id").alias(_OLD),
    )
    both = _together(first.lazy(), numbered.lazy(), "responses").collect()
    texts = both.with_columns(_text().alias(_TEXT))
    key = [name for name in texts.columns if name not in ("response_id", "response", _OLD)]
    fresh = pl.col("response_id") >= start
    # An answer of the second is the first equal one of the first; equal answers within either stay as they are.
    alike = pl.when(~fresh).then("response_id").min().over(key)
    texts = texts.with_columns(
        pl.when(fresh).then(pl.coalesce(alike, "response_id")).otherwise("response_id").alias(_NEW)
    )
    ids = texts.filter(fresh).select(_OLD, _NEW)
    kept = texts.filter(pl.col(_NEW) == pl.col("response_id")).drop(_OLD, _NEW, _TEXT)
    return kept, ids.lazy()


def _pairs(prefs: Preferences, other: Preferences, ids: pl.LazyFrame, sides: pl.LazyFrame) -> tuple[pl.LazyFrame, int]:
    """The pairs of both, without those of the second that the first has, and how many there were."""
    mine, theirs = prefs.pairs, other.pairs
    for side in ("chosen_id", "rejected_id"):
        named = ids.select(pl.col(_OLD).alias(side), pl.col(_NEW))
        theirs = theirs.join(named, on=side, how="left", maintain_order="left").with_columns(pl.col(_NEW).alias(side))
        theirs = theirs.drop(_NEW)
    theirs = theirs.join(sides, on="prompt_id", how="left", maintain_order="left")
    theirs = theirs.with_columns(split=pl.coalesce("_side", "split")).drop("_side")
    if {"source_pair"} <= set(mine.collect_schema()) & set(theirs.collect_schema()):
        behind = mine.select((pl.col("source_pair").max() + 1).fill_null(0)).collect().item()
        theirs = theirs.with_columns(pl.col("source_pair") + behind)
    key = ["prompt_id", "chosen_id", "rejected_id", "goal"]
    fresh = theirs.join(mine.select(key), on=key, how="anti", nulls_equal=True, maintain_order="left")
    had = sum(frame.select(pl.len()).collect().item() for frame in (mine, theirs))
    return _together(mine, fresh, "pairs"), had


def _together(first: pl.LazyFrame, second: pl.LazyFrame, name: str) -> pl.LazyFrame:
    """The rows of both, with the columns of both; a column of nulls takes the type of the other's.

    Raises:
        InputError: a column has two types that are not both numbers.
    """
    mine, theirs = first.collect_schema(), second.collect_schema()
    for column in mine.keys() & theirs.keys():
        one, two = mine[column], theirs[column]
        if one != two and pl.Null not in (one, two) and not (one.is_numeric() and two.is_numeric()):
            raise InputError(
                f"merge: the column {column!r} of {name} holds {one} in the first and {two} in the second; "
                "rename or remove it in one of them"
            )
    return pl.concat([first, second], how="diagonal_relaxed")


def _notes(alike: int, prefs: Preferences, other: Preferences) -> tuple[str, ...]:
    both = prefs.prompts.select("prompt_id").join(other.prompts.select("prompt_id"), on="prompt_id", how="semi")
    count = both.select(pl.col("prompt_id").n_unique()).collect().item()
    notes = [f"{count:,} prompts are in both and are kept as the first has them."] if count else []
    return (*notes, *([f"{alike:,} answers are in both and are kept once."] if alike else ()))
