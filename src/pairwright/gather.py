"""Numbers of answers beside pairs, fetched by row number.

Answers are numbered from 0 in row order (docs/decisions/0003-running-number-ids.md), so a pair's `chosen_id` is the
row of its answer, and fetching twenty million scores is a gather of a third of a second, where a join hashes them all
and takes ten. Where the answers are numbered otherwise, only a join can tell.
"""

from collections.abc import Iterator, Sequence

import polars as pl
from polars.io.plugins import register_io_source

from pairwright.errors import InputError

_SIDES = ("chosen", "rejected")
_ROWS = 100_000  # pairs at a time: what was fetched is used up before more is


def fixed_width(kind: pl.DataType) -> bool:
    """Whether a column of this type is small enough to be held whole: numbers, booleans and times, but no texts."""
    return kind.is_numeric() or kind.is_temporal() or kind == pl.Boolean


def gathered(pairs: pl.LazyFrame, answers: pl.LazyFrame, columns: Sequence[str]) -> pl.LazyFrame | None:
    """`<column>_chosen` and `<column>_rejected` for each pair, in the order of the pairs; for nothing else.

    The ids of the pairs are read here and now. The columns are read when they are asked for, and only those that are;
    they are held for as long as rows are drawn from them. An id that no answer has gives null, as a left join does.

    Args:
        pairs: with `chosen_id` and `rejected_id`.
        answers: with `response_id` and `columns`.
        columns: of fixed width.

    Returns:
        None where the answers are not numbered 0, 1, 2, ... in row order.

    Raises:
        InputError: two answers have one number.
    """
    number = pl.col("response_id")
    numbered = answers.select(number).with_row_index("row")
    running, total = (
        numbered.select((number == pl.col("row")).all(ignore_nulls=False), pl.len()).collect(engine="streaming").row(0)
    )
    if not running:
        twice = number.drop_nulls().is_duplicated().any()
        if answers.select(twice).collect().item():
            raise InputError(
                "two responses have one response_id, so a pair does not say which of them it means; number them anew"
            )
        return None
    small = pl.UInt32 if total < 2**32 else pl.Int64
    ids = {side: pl.col(f"{side}_id") for side in _SIDES}
    known = {side: pl.when(row.is_between(0, total - 1)).then(row).cast(small) for side, row in ids.items()}
    rows = pairs.select(**known).collect(engine="streaming")
    sources = {f"{name}_{side}": (name, side) for side in _SIDES for name in columns}
    kinds = answers.select(columns).collect_schema()

    def drawn(
        asked: list[str] | None, condition: pl.Expr | None, limit: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        wanted = list(sources) if asked is None else asked
        held = answers.select(list(dict.fromkeys(sources[name][0] for name in wanted))).collect(engine="streaming")
        last = rows.height if limit is None else min(limit, rows.height)
        for start in range(0, max(last, 1), _ROWS):
            part = rows.slice(start, min(_ROWS, last - start))
            found = {
                name: held[source].gather(part[side]) for name, (source, side) in sources.items() if name in wanted
            }
            batch = pl.DataFrame(found).select(wanted) if wanted else part.select([])
            yield batch if condition is None else batch.filter(condition)

    schema = {name: kinds[source] for name, (source, _) in sources.items()}
    return register_io_source(drawn, schema=schema, is_pure=True)
