"""Concentration of credit, by hand."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from diagnose.tabular import bench, probes
from pairwright.diagnose.credit import credit
from pairwright.diagnose.finding import Part
from pairwright.errors import InputError
from pairwright.probes.store import CREDIT, Probes

HERE = bench(prompts=3)
SEEN = probes(HERE, {"none": {0: HERE.start, 1: HERE.start}})


def given(rows: Sequence[tuple[int, str, str, Sequence[float]]]) -> Probes:
    frame = pl.DataFrame(
        [
            (pair, side, asked, [f"t{i}" for i in range(len(values))], [float(value) for value in values])
            for pair, side, asked, values in rows
        ],
        schema=CREDIT,
        orient="row",
    )
    return Probes(SEEN.about, SEEN.steps, SEEN.rows, SEEN.samples, frame)


def value(part: Part, name: str) -> float:
    found = part.result.metric(name).value
    assert found is not None
    return found


def test_by_hand_and_without_regard_to_sign() -> None:
    """Of sizes 9 and nine times 1 the heaviest of ten tokens holds 9 / 18; of 20 tokens the heaviest two."""
    part = credit(
        given(
            [
                (0, "chosen", "none", [1, -1, 1, -9, 1, 1, -1, 1, 1, 1]),
                (0, "rejected", "none", [5, -3] + [0.25] * 8 + [-0.25] * 10),
            ]
        ),
        subject="x",
        draws=50,
    )
    assert value(part, "top_tenth/chosen") == pytest.approx(0.5)
    assert value(part, "top_tenth/rejected") == pytest.approx(8 / 12.5)


@pytest.mark.parametrize("length", [2, 7, 10, 33])
def test_even_credit_has_a_tenth_at_any_length(length: int) -> None:
    part = credit(given([(0, "chosen", "none", [0.3] * length)]), subject="x", draws=20)
    assert value(part, "top_tenth/chosen") == pytest.approx(0.1)
    assert part.charts[0].series[0].y == pytest.approx([i / 10 for i in range(11)])


def test_a_part_of_a_token_counts_in_part() -> None:
    """A tenth of five tokens is half a token: of the heaviest, which holds 6 of 10, it is 3 of 10."""
    part = credit(given([(0, "chosen", "none", [1, 6, 1, 1, 1])]), subject="x", draws=20)
    assert value(part, "top_tenth/chosen") == pytest.approx(0.3)
    assert any(note.startswith("1 answers have under ten tokens") for note in part.result.notes)


def test_answers_without_credit_are_left_out_and_counted() -> None:
    rows = [(0, "chosen", "none", [1.0] * 10), (0, "rejected", "none", [0.0] * 10)]
    rows += [(1, "chosen", "none", [2.0]), (1, "rejected", "none", [1.0, float("nan")])]
    part = credit(given(rows), subject="x", draws=20)
    assert part.result.n == 1
    assert any(note.startswith("3 answers have one token") for note in part.result.notes)
    with pytest.raises(InputError, match="same as its start"):
        credit(given(rows[1:]), subject="x")


@pytest.mark.parametrize(("heavy", "level"), [(100.0, "note"), (1.0, "fine")])
def test_the_finding_fires_where_one_token_carries_all_and_is_silent_where_none_does(heavy: float, level: str) -> None:
    draw = np.random.default_rng(0)
    rows = [
        (pair, side, "none", [heavy, *draw.uniform(0.5, 1.5, 9)])
        for pair in range(8)
        for side in ("chosen", "rejected")
    ]
    (finding,) = credit(given(rows), subject="x", draws=100).findings
    assert finding.level == level
    assert finding.n == 8
    expected = np.mean([max(values) / sum(values) for _, _, _, values in rows])
    assert finding.value == pytest.approx(expected)


def test_the_headline_is_of_the_first_way_of_asking_and_the_table_has_all() -> None:
    rows = [(0, "chosen", "top", [1.0] * 9 + [11.0]), (0, "chosen", "none", [1.0] * 10)]
    part = credit(given(rows), subject="x", draws=20)
    assert [each.name for each in part.result.metrics] == ["top_tenth/chosen"]
    assert value(part, "top_tenth/chosen") == pytest.approx(0.1)
    assert {row["asked"]: row["top_tenth"] for row in part.result.table} == pytest.approx({"none": 0.1, "top": 0.55})


def test_without_credit_it_says_how_to_get_it() -> None:
    with pytest.raises(InputError, match="no credit of tokens; train with probe_every"):
        credit(SEEN, subject="x")
