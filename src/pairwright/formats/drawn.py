"""What only files of `generate` have: the goal of each answer, of one attribute or of several."""

import polars as pl

from pairwright.formats.mapping import DRAWN

_NUMBERS = r"^\[[-+\d.eE, ]*\]$"
"""JSON of a list of numbers."""


def with_goals(responses: pl.LazyFrame) -> pl.LazyFrame:
    """The answers with goals of several attributes as lists of numbers, which were read as JSON like all nested cells.

    Answers of another origin, and a column of other goals, stay as they are.
    """
    schema = responses.collect_schema()
    if schema.get("goal") != pl.String or not schema.keys() >= set(DRAWN):
        return responses
    if not responses.select(pl.col("goal").drop_nulls().str.contains(_NUMBERS).all()).collect().item():
        return responses
    return responses.with_columns(pl.col("goal").str.json_decode(pl.List(pl.Float64)))
