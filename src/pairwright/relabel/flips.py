"""Copies of a pair: as it is, or with its sides exchanged.

A frame of pairs as the modes get it has, beside the pairs' own columns, `goal_chosen` and `goal_rejected` (what each
side attains, in score units), `printed_chosen` and `printed_rejected` (the same as the model reads it) and
`source_pair` (the row number of the pair before relabelling).
"""

from typing import Literal

import polars as pl

Copy = Literal["positive", "negative"]


def copies(pairs: pl.LazyFrame, *kinds: Copy) -> pl.LazyFrame:
    """The named copies of each pair, next to each other, each under the goal that its chosen side attains.

    `positive` keeps the sides and asks for the chosen side's score. `negative` exchanges them, ids and every
    `<name>_chosen`, `<name>_rejected`, and asks for the score of the side that is chosen now. With R(x, y, g) =
    -(g - r(x, y))^2 the chosen side of either copy has R = 0 and the other R = -(r_w - r_l)^2.

    `preference` (how strongly a source preferred its chosen side, without a goal) is null in a negative copy: nobody
    said it. Weight, split and other columns are the same in both.

    Args:
        pairs: as this module's docstring says.
        kinds: which copies, in which order.

    Source: arXiv 2410.08067, equation 4.1 and section 4.1.
    """
    marked = pairs.with_columns(copy=pl.lit(pl.Series([list(kinds)], dtype=pl.List(pl.String))).first()).explode("copy")
    names = marked.collect_schema().names()
    stems = [name.removesuffix("_chosen") for name in names if name.endswith("_chosen")]
    both = [("chosen_id", "rejected_id")]
    both += [(f"{stem}_chosen", f"{stem}_rejected") for stem in stems if f"{stem}_rejected" in names]
    turned = pl.col("copy") == "negative"
    exchanged = [
        pl.when(turned).then(pl.col(there)).otherwise(pl.col(here)).alias(here)
        for pair in both
        for here, there in (pair, pair[::-1])
    ]
    if "preference" in names:
        exchanged.append(pl.when(~turned).then(pl.col("preference")).alias("preference"))
    return marked.with_columns(exchanged).with_columns(goal=pl.col("goal_chosen"))
