"""Overlap of selections, on a choice of four pairs that is counted by hand."""

import math

import numpy as np
import pytest

from pairwright.diagnose.overlap import overlap
from pairwright.errors import InputError
from pairwright.metrics.overlap import overlap as chosen_alike

# Two of four pairs each: gap takes 0 and 1, margin 1 and 2, potential 0 and 1, random 0 and 3.
VALUES = {
    "explicit_gap": np.array([4.0, 3.0, 2.0, 1.0]),
    "implicit_margin": np.array([2.0, 4.0, 3.0, 1.0]),
    "alignment_potential": np.array([3.0, 4.0, 2.0, 1.0]),
    "random": np.array([4.0, 1.0, 2.0, 3.0]),
}
FOUND = {"overlap": chosen_alike(VALUES, keep=0.5)}


def test_shares_are_counted() -> None:
    part = overlap(FOUND, subject="select")
    shares = {each.name: each.value for each in part.result.metrics}
    assert shares == {
        "share/explicit_gap, implicit_margin": 0.5,
        "share/explicit_gap, alignment_potential": 1.0,
        "share/explicit_gap, random": 0.5,
        "share/implicit_margin, alignment_potential": 0.5,
        "share/implicit_margin, random": 0.0,
        "share/alignment_potential, random": 0.5,
        "chance": 0.5,
    }
    assert part.result.n == 4
    assert {each.n for each in part.result.metrics} == {2}


def test_the_table_is_the_whole_square() -> None:
    table = overlap(FOUND, subject="select").result.table
    assert [row["metric"] for row in table] == list(VALUES)
    assert all(row[row["metric"]] == 1.0 for row in table)
    assert table[1]["random"] == table[3]["implicit_margin"] == 0.0


def test_two_metrics_that_choose_alike_are_named() -> None:
    (finding,) = overlap(FOUND, subject="select").findings
    assert finding.level == "note"
    assert "explicit_gap and alignment_potential" in finding.says
    assert finding.value == 1.0


def test_metrics_that_choose_apart_are_fine() -> None:
    few = {name: VALUES[name] for name in ("explicit_gap", "implicit_margin", "random")}
    (finding,) = overlap({"overlap": chosen_alike(few, keep=0.5)}, subject="select").findings
    assert (finding.level, finding.value, finding.remedy) == ("fine", 0.5, "")


def test_the_chart_leaves_a_metric_against_itself_out() -> None:
    (chart,) = overlap(FOUND, subject="select").charts
    assert [series.y.index(None) for series in chart.series[:-1]] == [0, 1, 2, 3]
    assert chart.series[-1].y == [0.5, 0.5]


@pytest.mark.parametrize(
    "found", [{}, {"overlap": {}}, {"overlap": chosen_alike({"a": np.array([1.0, math.nan])}, keep=0.5)}]
)
def test_a_selection_that_compared_nothing_says_how_to(found: dict[str, object]) -> None:
    with pytest.raises(InputError, match="alignment_potential"):
        overlap(found, subject="select")
