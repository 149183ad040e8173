"""Differences of length."""

import polars as pl

from pairwright.errors import InputError
from pairwright.plug import nearest


def length_gap(view: pl.LazyFrame, *, length: str | None = None) -> pl.Expr:
    """How much longer the chosen side is: in characters, or in tokens of a named tokenizer.

    Args:
        view: pairs.
        length: NAME of a column `len_NAME` of the answers; None counts characters (code points, all messages).

    Source: length bias, arXiv 2310.03716; the cut `bottom` gives the pairs whose chosen side is shorter.
    """
    stem = "chars" if length is None else f"len_{length.removeprefix('len_')}"
    names = view.collect_schema().names()
    if f"{stem}_chosen" not in names:
        known = [n.removesuffix("_chosen").removeprefix("len_") for n in names if n.startswith("len_")]
        raise InputError(f"length_gap: there is no column {stem!r}{nearest(length or '', known)}; `logprobs` writes it")
    return (pl.col(f"{stem}_chosen").cast(pl.Int64) - pl.col(f"{stem}_rejected").cast(pl.Int64)).cast(pl.Float64)
