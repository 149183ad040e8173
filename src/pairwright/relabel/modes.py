"""The published ways to relabel. Each gets the pairs that can be relabelled, and gives their copies in row order."""

import polars as pl

from pairwright.draws import draw_of_ids
from pairwright.relabel.flips import copies


def ra(pairs: pl.LazyFrame) -> pl.LazyFrame:
    """Both goals: N pairs give 2N, the positive copy of each followed by its negative one.

    Source: arXiv 2410.08067, section 4.1, "RA".
    """
    return copies(pairs, "positive", "negative")


def ra_plus(pairs: pl.LazyFrame) -> pl.LazyFrame:
    """The chosen side's goal only: N pairs give N.

    Source: arXiv 2410.08067, table 7, "RA+".
    """
    return copies(pairs, "positive")


def half_ra(pairs: pl.LazyFrame, *, seed: int | None = None) -> pl.LazyFrame:
    """Both goals for half of the pairs of each split: N pairs give N (N - 1 when N is odd).

    Without a seed it is the first half in row order, as in the paper; with one, a half drawn with it. Draw it when
    the file is sorted by anything. The size is that of plain data, so it separates the goals from the doubled data.

    Source: arXiv 2410.08067, table 6, "Half-RA".
    """
    size = pl.len().over("split") // 2
    if seed is None:
        rank = pl.int_range(pl.len()).over("split")
    else:
        rank = draw_of_ids(pl.col("source_pair"), seed=seed).rank("ordinal").over("split") - 1
    return ra(pairs.filter(rank.cast(pl.Int64) < size.cast(pl.Int64)))


def filter_high(pairs: pl.LazyFrame, *, threshold: float = 5.0) -> pl.LazyFrame:
    """Both goals, without the negative copies that ask for a high score.

    Args:
        pairs: pairs to relabel, one score each.
        threshold: as printed in the prompt; negative copies whose goal is at or above it are deleted. The paper
            gives none; 5 of 10 is its bar for a good answer in figure 3.

    Source: arXiv 2410.08067, table 14.
    """
    return ra(pairs).filter((pl.col("copy") == "positive") | (pl.col("printed_chosen") < threshold))


def filter_low(pairs: pl.LazyFrame, *, threshold: float = 5.0) -> pl.LazyFrame:
    """Both goals, without the negative copies that ask for a low score.

    Args:
        pairs: pairs to relabel, one score each.
        threshold: as printed in the prompt; negative copies whose goal is below it are deleted.

    Source: arXiv 2410.08067, table 14.
    """
    return ra(pairs).filter((pl.col("copy") == "positive") | (pl.col("printed_chosen") >= threshold))


def plain(pairs: pl.LazyFrame) -> pl.LazyFrame:
    """No goal: the same pairs that the other modes relabel, as they are.

    The control of every comparison: it drops what they drop, so that the arms differ in goals alone.

    Source: arXiv 2410.08067, "UF" rows of table 11.
    """
    nothing = pl.lit(None, dtype=pl.String)
    return pairs.with_columns(copy=nothing, goal=pl.lit(None, dtype=pairs.collect_schema()["goal_chosen"]))
