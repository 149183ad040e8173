"""From intervals to verdicts: of one number, of two questions, of a claim of several parts."""

from collections.abc import Collection

from pairwright.reproduce.claim import Verdict
from pairwright.stats import Interval


def verdict_of(gain: Interval, *, sign: int = 1) -> Verdict:
    """`holds`: the interval is on the claim's side of zero; `does not hold`: on the other; else `not identified`."""
    low, high = sorted((sign * gain.low, sign * gain.high))
    return decided(yes=low > 0, no=high < 0)


def decided(*, yes: bool, no: bool) -> Verdict:
    """What two questions about intervals come to; where neither is answered, the claim is not identified."""
    if yes:
        return "holds"
    return "does not hold" if no else "not identified"


def all_of(parts: Collection[Verdict]) -> Verdict:
    """Of a claim of several parts: it holds when every part does, and does not when any does not."""
    return decided(yes=set(parts) == {"holds"}, no="does not hold" in parts)
