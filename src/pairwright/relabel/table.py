"""The relabel modes by name."""

from collections.abc import Callable
from typing import Any

from pairwright.relabel.conditioned import c_rlft, dpa, steerlm
from pairwright.relabel.modes import filter_high, filter_low, half_ra, plain, ra, ra_plus

MODES: dict[str, Callable[..., Any]] = {
    "ra": ra,
    "ra_plus": ra_plus,
    "half_ra": half_ra,
    "filter_high": filter_high,
    "filter_low": filter_low,
    "plain": plain,
    "steerlm": steerlm,
    "c_rlft": c_rlft,
    "dpa": dpa,
}
