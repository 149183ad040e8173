"""Which answers are of a split, where answers are trained on without pairs."""

from typing import NamedTuple

import polars as pl

from pairwright.errors import InputError
from pairwright.preferences import Preferences


class OfSplit(NamedTuple):
    """What of the data a training on answers does not see.

    Attributes:
        others: the column `prompt_id`: prompts whose answers are not taken.
        dropped: answers among those that a reader might look for here, by reason.
        notes: what a reader should know, one sentence each.
    """

    others: pl.LazyFrame
    dropped: dict[str, int]
    notes: tuple[str, ...]


def of_split(prefs: Preferences, split: str) -> OfSplit:
    """The answers of one split, by what is said of their prompts.

    A prompt is of the split that `prompts` says, and of those that its pairs say; one of which nothing is said is of
    `train`. The answers to a prompt of two splits are taken in neither: they are counted as `several_splits`. Where the
    data have pairs, only prompts that stand in one are taken, with all their answers, so that what selection dropped
    stays dropped; the other answers are counted as `not_in_a_pair`. Data without any pairs are taken whole. An answer
    whose prompt is not among the prompts is of no split.

    Args:
        prefs: the data.
        split: whose answers.

    Raises:
        InputError: there is no such split, the pairs ask for goals, or they have weights other than 1.
    """
    _check_pairs(prefs, split)
    pairs = prefs.pairs.select("prompt_id", pl.col("split").fill_null("train")).unique().collect()
    sides = prefs.prompts.select("prompt_id").unique()
    said = [pairs.lazy()]
    if "split" in prefs.prompts.collect_schema():
        said.append(prefs.prompts.select("prompt_id", pl.col("split").cast(pl.String).fill_null("train")))
    by_prompt = pl.concat(said).group_by("prompt_id").agg(pl.col("split").unique())
    table = (
        sides.join(by_prompt, on="prompt_id", how="left")
        .with_columns(pl.col("split").fill_null(pl.lit(["train"], dtype=pl.List(pl.String))))
        .with_columns(paired=pl.col("prompt_id").is_in(pairs["prompt_id"].implode()))
        .collect()
    )
    _check_there(table, split)
    here, mixed = pl.col("split").list.contains(split), pl.col("split").list.len() > 1
    alone = ~pl.col("paired") if len(pairs) else pl.lit(False)
    reason = (
        pl.when(~here).then(pl.lit("elsewhere")).when(mixed).then(pl.lit("several_splits"))
        .when(alone).then(pl.lit("not_in_a_pair"))
    )  # fmt: skip
    against = table.select("prompt_id", reason=reason).drop_nulls("reason")
    counted = prefs.responses.select("prompt_id").join(against.lazy(), on="prompt_id").group_by("reason").len()
    counts = {reason: count for reason, count in counted.collect().iter_rows() if reason != "elsewhere"}
    return OfSplit(against.lazy().select("prompt_id"), counts, _notes(counts, split))


def _check_pairs(prefs: Preferences, split: str) -> None:
    """Refuse what pairs say and single answers would not."""
    if prefs.has_goals:
        raise InputError(
            "these pairs ask for goals, which answers without pairs would not be asked for; take the data from before "
            "relabelling, relabel with the mode plain, or set examples to 'pairs'"
        )
    weight = pl.col("weight").filter(pl.col("split").fill_null("train") == split)
    odd = int(prefs.pairs.select((weight != 1.0).sum()).collect().item())
    if odd:
        raise InputError(
            f"{odd:,} pairs of split {split!r} have a weight other than 1, which answers without pairs would not have; "
            "set examples to 'pairs', or all weights to 1"
        )


def _check_there(table: pl.DataFrame, split: str) -> None:
    there = table["split"].explode().unique().sort().to_list()
    if split not in there:
        what = f"its prompts are of {', '.join(map(repr, there))}" if there else "it has no prompts at all"
        raise InputError(f"the data have no prompts of split {split!r}: {what}")


def _notes(counts: dict[str, int], split: str) -> tuple[str, ...]:
    says = {
        "several_splits": f"are to prompts of {split!r} and of another split too; they are in neither",
        "not_in_a_pair": "are to prompts without a pair, as selection and pairing left them; they are not trained on",
    }
    return tuple(f"{counts[reason]:,} answers {what}" for reason, what in says.items() if reason in counts)
