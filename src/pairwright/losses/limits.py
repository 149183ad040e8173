"""Limits that settings of losses share. A wrong setting must fail before the first batch, in one sentence."""

from math import isfinite

from pairwright.errors import InputError


def positive(**settings: float) -> None:
    """Refuse a setting that is not above 0.

    Raises:
        InputError: one of `settings` is zero, negative or NaN.
    """
    for name, value in settings.items():
        if not value > 0:
            raise InputError(f"{name} must be above 0 (got {value:g})")


def between(low: float, high: float, **settings: float) -> None:
    """Refuse a setting outside `[low, high]`.

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
