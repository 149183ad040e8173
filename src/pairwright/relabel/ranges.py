"""Which scores are printed as 1 and as the top of the scale."""

from collections.abc import Sequence
from typing import Literal

import polars as pl

from pairwright.errors import InputError
from pairwright.preferences import Preferences

Range = tuple[float, float]
SourceRange = Range | Literal["percentiles"]
AS_THEY_ARE: Range = (1.0, 10.0)


def source_ranges(
    prefs: Preferences, pairs: pl.LazyFrame, columns: Sequence[str], wanted: SourceRange | None
) -> tuple[Range, ...]:
    """One range for each score column: as given, or found in the data.

    Args:
        prefs: where the answers are.
        pairs: the comparisons; answers that none of them uses do not count.
        columns: score columns of the answers.
        wanted: None is 1 to 10, the scores as they are; two numbers; or `percentiles`, the 1st and 99th percentile of
            each column over all answers, of both sides, that training pairs use (all pairs when none is in the split
            `train`). They are global: ranges within a prompt would make every pair "10 against 1".

    Raises:
        InputError: a percentile range is empty, because there are no scores or they hardly differ.

    Source: arXiv 2410.08067, appendix B.1 ("linear transformations to the same 1-10 range"); the percentiles are ours.
    """
    if wanted is None:
        return (AS_THEY_ARE,) * len(columns)
    if wanted != "percentiles":
        return (_given(wanted),) * len(columns)
    answers = training_answers(prefs, pairs, columns)
    finite = [pl.col(name).filter(pl.col(name).is_finite()) for name in columns]
    low, high = (
        answers.select([column.quantile(share, interpolation="linear") for column in finite]).collect().row(0)
        for share in (0.01, 0.99)
    )
    for name, first, last in zip(columns, low, high, strict=True):
        if first is None:
            raise InputError(f"relabel: no answer of a pair has a finite {name}; score them first (`pairwright score`)")
        if not first < last:
            raise InputError(
                f"relabel: the 1st and the 99th percentile of {name} are both {first:g}, so there is no range to map "
                "to the scale; give source_range LO HI"
            )
    return tuple(zip(low, high, strict=True))


def training_answers(prefs: Preferences, pairs: pl.LazyFrame, columns: Sequence[str]) -> pl.LazyFrame:
    """The answers, of both sides, that training pairs use; of all pairs when none is in the split `train`."""
    train = pl.col("split") == "train"
    used = pairs.filter(train | ~train.any())
    ids = pl.concat([used.select(response_id=pl.col(side)) for side in ("chosen_id", "rejected_id")])
    return prefs.responses.select("response_id", *columns).join(ids, on="response_id", how="semi")


def _given(wanted: Range) -> Range:
    low, high = (float(part) for part in wanted)
    if not low < high:
        raise InputError(
            f"relabel: source_range must rise from its first number to its second, not {low:g} to {high:g}"
        )
    return low, high
