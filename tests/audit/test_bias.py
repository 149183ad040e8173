"""Length bias: its direction, its interval by hand, and what it is silent about."""

import math
from collections.abc import Callable

import pytest

from pairwright.audit.bias import length_bias
from pairwright.preferences import Preferences

Made = Callable[..., Preferences]


def rows(longer: int, shorter: int, equal: int) -> list[tuple[str, str, str]]:
    sides = [("long text", "short")] * longer + [("short", "long text")] * shorter + [("abc", "xyz")] * equal
    return [(f"p{i}", *side) for i, side in enumerate(sides)]


def test_share_is_of_pairs_that_differ(made: Made) -> None:
    found = length_bias(made(rows(30, 10, 5)))
    assert (found.count, found.share, found.level) == (30, 0.75, "warning")
    assert found.interval is not None
    # ln((30 + 1/2) / (10 + 1/2)), positive: the label likes length.
    assert found.interval.value == pytest.approx(math.log(30.5 / 10.5))
    assert found.interval.n == 40
    assert found.rows[:2] == (0, 1)


def test_liking_brevity_is_a_bias_too(made: Made) -> None:
    found = length_bias(made(rows(0, 20, 3)))
    assert (found.count, found.share, found.level) == (0, 0.0, "warning")
    assert found.interval is not None
    assert found.interval.high < 0


def test_even_is_a_note_and_nothing_is_nan(made: Made) -> None:
    assert length_bias(made(rows(10, 10, 0))).level == "note"
    nothing = length_bias(made(rows(0, 0, 4)))
    assert (nothing.count, nothing.level) == (0, "fine")
    assert math.isnan(nothing.share)


def test_length_is_characters_not_bytes(made: Made) -> None:
    assert length_bias(made([("p", "日本語", "abcd")])).count == 0
