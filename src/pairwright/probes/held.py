"""The held-out pairs that a model is probed with: distinct comparisons of one split, without goals."""

from collections.abc import Iterable
from typing import Annotated

import polars as pl
from pydantic import Field

from pairwright.draws import draw_of_text
from pairwright.errors import InputError
from pairwright.pairing import EMPTY, goals_inside, text_marks
from pairwright.preferences import RESPONSE_COLUMNS, Preferences, Step

REASONS = ("missing_prompt", "empty_chosen", "empty_rejected", "equal_text", "contradictory")
"""Why a comparison cannot be probed; one with several reasons counts under the first.

`contradictory`: the same two texts stand there both ways round, and no scores of theirs say which is better."""

_TEXT = "__pairwright_said"
_SIDES = ("chosen", "rejected")


def held_out(
    prefs: Preferences, *, split: str = "test", pairs: Annotated[int, Field(gt=0)] = 256, seed: int = 0
) -> tuple[Preferences, dict[str, int]]:
    """Distinct pairs of a split, without goals, the better-scored answer chosen.

    The copies that relabelling made of one comparison count once, and so do two pairs with the same texts. Where a
    score is missing or not finite, or the two are equal, the pair stays as it was labelled (a negative copy is turned
    back); how many is a note of the step, and `as_labelled` in what it found. Two texts that stand there in both orders
    are dropped and counted, since row order alone could tell which is chosen. Answers keep their ids.

    Which pairs are drawn, and in which order they stand, depends on their texts and the seed: row order and other pairs
    have no part in it, so that any first so many of them are a draw too.

    Args:
        prefs: the data, relabelled or not.
        split: which pairs.
        pairs: how many, at most.
        seed: of the draw.

    Returns:
        The pairs with their prompts and answers, a lineage of one step, `held_out`; and how many comparisons of the
        split cannot be probed, by reason (`REASONS`).

    Raises:
        InputError: the split has no such pairs, or the prompts of relabelled pairs have the goals in them.
    """
    if pairs < 1:
        raise InputError(f"probes: pairs must be at least 1, not {pairs}")
    if goals_inside(prefs):
        raise InputError(
            "probes: the prompts of these pairs already say which score to ask for, so that none can be read without "
            "it; give the native directory that relabel wrote, or the data from before it"
        )
    sides = prefs.pairs.select(pl.col("split").unique().sort().drop_nulls()).collect()["split"].to_list()
    if split not in sides:
        there = f"they are in {', '.join(map(repr, sides))}" if sides else "there are none"
        raise InputError(
            f"probes: no pairs are in split {split!r} ({there}); split the data first (`pairwright split`), or name "
            "another split"
        )
    facts = _facts(prefs, split)
    tally = dict(facts.drop_nulls("reason").group_by("reason").len().iter_rows())
    dropped = {reason: tally[reason] for reason in REASONS if reason in tally}
    kept = facts.filter(pl.col("reason").is_null()).unique(
        ["prompt_id", *(f"{_TEXT}_{side}" for side in _SIDES)], keep="first", maintain_order=True
    )
    if kept.is_empty():
        said = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
        raise InputError(f"probes: none of the pairs in split {split!r} can be read ({said}); hold out other pairs")
    drawn = kept[_order(kept, seed)].head(pairs)
    step = Step(
        name="held_out",
        settings={"split": split, "pairs": pairs, "seed": seed},
        rows_in=len(facts),
        rows_out=len(drawn),
        dropped=dropped | ({"not_drawn": len(kept) - len(drawn)} if len(kept) > len(drawn) else {}),
        notes=_notes(drawn),
        found={"as_labelled": int(drawn["as_labelled"].sum()), "turned": int(drawn["turned"].sum())},
    )
    return _of(prefs, drawn, split, step), dropped


def _facts(prefs: Preferences, split: str) -> pl.DataFrame:
    """Each comparison of a split once, its sides in order of score, with the reason against it (null: none)."""
    said = pl.element().struct
    text = pl.col("response").list.eval(pl.concat_str(said.field("role"), said.field("content"), separator="\x1f"))
    answers = text_marks(prefs.responses).with_columns(text.list.join("\x1e").alias(_TEXT))
    pairs = prefs.pairs.filter(pl.col("split") == split)
    turned = pl.col("copy") == "negative" if _has_copies(pairs) else pl.lit(False)
    pairs = pairs.select("prompt_id", *_exchanged(("chosen_id", "rejected_id"), turned.fill_null(False)))
    needed = Preferences.of(prefs.prompts, answers, pairs.unique(maintain_order=True))
    view = needed.view("score", EMPTY, _TEXT).with_columns(
        pl.when(pl.col(f"score_{side}").is_finite()).then(pl.col(f"score_{side}")).alias(f"score_{side}")
        for side in _SIDES
    )
    better = (pl.col("score_rejected") > pl.col("score_chosen")).fill_null(False)
    columns = [("chosen_id", "rejected_id"), *((f"{name}_chosen", f"{name}_rejected") for name in ("score", EMPTY))]
    columns.append((f"{_TEXT}_chosen", f"{_TEXT}_rejected"))
    there = pl.col("prompt").list.len().fill_null(0) > 0
    asked = prefs.prompts.select("prompt_id", there=there).unique("prompt_id", keep="first")
    turned_view = view.select(
        "prompt_id",
        *(side for both in columns for side in _exchanged(both, better)),
        as_labelled=(pl.col("score_chosen") == pl.col("score_rejected")).fill_null(True),
        turned=better,
    ).join(asked, on="prompt_id", how="left", maintain_order="left")
    tests = {
        "missing_prompt": ~pl.col("there").fill_null(False),
        "empty_chosen": pl.col(f"{EMPTY}_chosen").fill_null(True),
        "empty_rejected": pl.col(f"{EMPTY}_rejected").fill_null(True),
        "equal_text": pl.col(f"{_TEXT}_chosen") == pl.col(f"{_TEXT}_rejected"),
        "contradictory": pl.col(f"{_TEXT}_chosen").n_unique().over("prompt_id", *_ends(f"{_TEXT}_")) > 1,
    }
    facts = turned_view.with_columns(reason=pl.coalesce(pl.when(tests[name]).then(pl.lit(name)) for name in REASONS))
    # Of the two orders of one comparison the one that was labelled so comes first, whichever row it was.
    ordered = facts.collect().sort("turned", maintain_order=True).with_columns(_ends(""))
    return ordered.unique(["_low", "_high"], keep="first", maintain_order=True).drop("_low", "_high")


def _ends(kind: str) -> tuple[pl.Expr, pl.Expr]:
    """The lesser and the greater of the two sides' ids or texts, whichever is chosen."""
    names = [f"{kind}{side}" if kind else f"{side}_id" for side in _SIDES]
    return pl.min_horizontal(names).alias("_low"), pl.max_horizontal(names).alias("_high")


def _has_copies(pairs: pl.LazyFrame) -> bool:
    """Whether relabelling says which pairs have their sides exchanged."""
    return pairs.collect_schema().get("copy") == pl.String


def _exchanged(names: tuple[str, str], when: pl.Expr) -> Iterable[pl.Expr]:
    """Two columns, their values exchanged where `when` holds."""
    for here, there in (names, names[::-1]):
        yield pl.when(when).then(pl.col(there)).otherwise(pl.col(here)).alias(here)


def _order(kept: pl.DataFrame, seed: int) -> pl.Series:
    """Row numbers in the order of a draw for each comparison, by its prompt and its texts."""
    parts = [pl.col(name) for name in ("prompt_id", *(f"{_TEXT}_{side}" for side in _SIDES))]
    keys = kept.select(pl.concat_str(parts, separator="\x1d").alias("key"))["key"]
    return pl.DataFrame({"draw": draw_of_text(keys, seed=seed), "key": keys}).select(
        pl.arg_sort_by("draw", "key").alias("row")
    )["row"]


def _notes(drawn: pl.DataFrame) -> tuple[str, ...]:
    """What a reader should know of which side is chosen."""
    notes = []
    if turned := int(drawn["turned"].sum()):
        notes.append(f"{turned:,} of {len(drawn):,} pairs are turned: their rejected answer has the higher score.")
    if labelled := int(drawn["as_labelled"].sum()):
        notes.append(
            f"{labelled:,} of {len(drawn):,} pairs have no two different scores; their sides are as they were labelled."
        )
    return tuple(notes)


def _of(prefs: Preferences, drawn: pl.DataFrame, split: str, step: Step) -> Preferences:
    """The drawn pairs with what they need: prompts, answers, scores."""
    pairs = drawn.select("prompt_id", "chosen_id", "rejected_id", split=pl.lit(split))
    ids = pl.concat([pairs["chosen_id"], pairs["rejected_id"]]).unique()
    names = prefs.responses.collect_schema().names()
    columns = [name for name in names if name in RESPONSE_COLUMNS or name.startswith("score_")]
    responses = prefs.responses.select(columns).filter(pl.col("response_id").is_in(ids.implode())).collect()
    prompts = prefs.prompts.filter(pl.col("prompt_id").is_in(pairs["prompt_id"].unique().implode()))
    # A new lineage: the goal format of an earlier relabelling is not one of these pairs, which ask for nothing.
    return Preferences.of(
        prompts.unique("prompt_id", keep="first", maintain_order=True).collect(), responses, pairs, [step]
    )
