"""The relabel modes by name."""

from collections.abc import Callable

import polars as pl

from pairwright.relabel.modes import filter_high, filter_low, half_ra, plain, ra, ra_plus

MODES: dict[str, Callable[..., pl.LazyFrame]] = {
    "ra": ra,
    "ra_plus": ra_plus,
    "half_ra": half_ra,
    "filter_high": filter_high,
    "filter_low": filter_low,
    "plain": plain,
}
