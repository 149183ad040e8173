"""Findings of many subjects by what was looked for."""

import pytest

from pairwright.diagnose.checks import by_check
from pairwright.diagnose.finding import Finding


def found(check, subject, level, value, means="It means this.", remedy="", source="a paper"):
    return Finding(
        check=check, subject=subject, level=level, says="", value=value, n=9, means=means, remedy=remedy, source=source
    )  # fmt: skip


def test_checks_with_warnings_come_first_and_each_counts_its_subjects():
    checks = by_check(
        [
            found("quiet", "a", "fine", 0.0),
            found("loud", "a", "note", 1.0),
            found("loud", "b", "warning", 2.0),
            found("quiet", "b", "fine", 0.5),
        ]
    )
    assert [(check.check, check.level, check.levels) for check in checks] == [
        ("loud", "warning", {"warning": 1, "note": 1}),
        ("quiet", "fine", {"fine": 2}),
    ]
    assert [each.subject for each in checks[0].findings] == ["b", "a"]


def test_within_a_level_the_number_furthest_from_zero_is_the_worst_and_none_is_last():
    values = {"a": -1.0, "b": None, "c": -30.0, "d": 4.0}
    (check,) = by_check([found("likelihood_displacement", name, "warning", value) for name, value in values.items()])
    assert [each.subject for each in check.findings] == ["c", "d", "a", "b"]


@pytest.mark.parametrize("name", ["margin_agreement", "length_matched", "diversity"])
def test_of_what_should_be_high_the_lowest_is_the_worst(name):
    values = {"a": 0.75, "b": -0.25, "c": 0.1}
    (check,) = by_check([found(name, subject, "note", value) for subject, value in values.items()])
    assert [each.subject for each in check.findings] == ["b", "c", "a"]


def test_what_is_said_of_all_is_said_once_and_what_differs_is_kept():
    (check,) = by_check(
        [
            found("loud", "a", "fine", 1.0, remedy=""),
            found("loud", "b", "warning", 2.0, remedy="Do this."),
            found("loud", "c", "warning", 3.0, remedy="Do that.", source="another"),
            found("loud", "d", "warning", 1.5, remedy="Do this."),
        ]
    )
    assert check.means == ("It means this.",)
    assert check.remedies == ("Do that.", "Do this.")
    assert check.sources == ("another", "a paper")
