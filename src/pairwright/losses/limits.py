"""Limits that losses share: of settings, which must fail before the first batch in one sentence, and of exponents."""

from math import inf, isfinite, log

import torch

from pairwright.errors import InputError


def positive(**settings: float) -> None:
    """Refuse a setting that is not a finite number above 0.

    Raises:
        InputError: one of `settings` is zero, negative, infinite or NaN.
    """
    for name, value in settings.items():
        if not 0 < value < inf:
            raise InputError(f"{name} must be {'finite' if value == inf else 'above 0'} (got {value:g})")


def not_negative(**settings: float) -> None:
    """Refuse a setting that is not a finite number, 0 or above.

    Raises:
        InputError: one of `settings` is negative, infinite or NaN.
    """
    for name, value in settings.items():
        if not 0 <= value < inf:
            raise InputError(f"{name} must be {'finite' if value == inf else '0 or above'} (got {value:g})")


def between(low: float, high: float, **settings: float) -> None:
    """Refuse a setting outside `[low, high]`. Infinity is inside only where it is a bound itself.

    Raises:
        InputError: one of `settings` is outside, or NaN.
    """
    for name, value in settings.items():
        if not low <= value <= high:
            raise InputError(f"{name} must be between {low:g} and {high:g} (got {value:g})")


def finite(**settings: float) -> None:
    """Refuse a setting that is infinite or NaN.

    Raises:
        InputError: one of `settings` is no finite number.
    """
    for name, value in settings.items():
        if not isfinite(value):
            raise InputError(f"{name} must be a finite number (got {value:g})")


def largest_exponent(dtype: torch.dtype, factor: float) -> float:
    """How large x may be for `factor * exp(x)`, and the difference of two such numbers, to be finite; at most 80.

    Args:
        dtype: the type that holds them.
        factor: above 0.
    """
    return min(80.0, log(torch.finfo(dtype).max) - log(4 * max(1.0, factor)))
