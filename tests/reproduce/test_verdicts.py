"""What intervals come to."""

import pytest

from pairwright.reproduce.verdicts import all_of, decided, verdict_of
from pairwright.stats import Interval


def test_a_verdict_needs_the_whole_interval_on_one_side():
    above, below, both = Interval(1, 0.5, 2, 5), Interval(-1, -2, -0.5, 5), Interval(0.1, -0.5, 1, 5)
    assert [verdict_of(each) for each in (above, below, both)] == ["holds", "does not hold", "not identified"]
    turned = [verdict_of(each, sign=-1) for each in (above, below, both)]
    assert turned == ["does not hold", "holds", "not identified"]
    assert verdict_of(Interval(0.0, 0.0, 0.0, 5)) == "not identified"


@pytest.mark.parametrize(
    ("yes", "no", "verdict"),
    [(True, False, "holds"), (False, True, "does not hold"), (False, False, "not identified")],
)
def test_what_neither_question_answers_is_not_identified(yes, no, verdict):
    assert decided(yes=yes, no=no) == verdict


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "not identified"], "not identified"),
        (["not identified", "does not hold", "holds"], "does not hold"),
    ],
)
def test_a_claim_holds_when_every_part_does_and_fails_with_any(parts, verdict):
    assert all_of(parts) == verdict
