"""Labels of people and verdicts on them, row by row: small tables whose every number is worked out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from faulty import completion, serving
from pairwright.errors import InputError
from pairwright.evaluate import Result, humans
from pairwright.formats.table import FORMATS
from pairwright.stats import wilson

Vote = int | None
LONG, SHORT, OTHER = "a long answer", "x", "y"
ROWS: list[tuple[str, str, str, int, str, str | None]] = [
    ("q1", LONG, SHORT, 0, "a", "first"),
    ("q1", LONG, SHORT, 0, "a", "second"),
    ("q1", SHORT, LONG, 0, "a", "tie"),
    ("q2", SHORT, OTHER, 1, "b", "second"),
    ("q2", SHORT, LONG, 1, "b", "second"),
    ("q2", LONG, SHORT, 2, "b", "first"),
    ("q3", SHORT, LONG, 2, "c", "tie"),
    ("q3", LONG, SHORT, 0, "b", None),
    ("q3", LONG, SHORT, 0, "a", "tie"),
]
"""Prompt, both answers, label (0 first, 1 second, 2 tie), subset, verdict."""


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def llmbar(path: Path, rows: list[tuple[int, str, str]]) -> Path:
    return write(
        path,
        [{"input": f"q{i}", "output_1": a, "output_2": b, "label": label} for i, (label, a, b) in enumerate(rows)],
    )


def values(result: Result) -> dict[str, float | None]:
    return {metric.name: metric.value for metric in result.metrics}


def by_hand(folder: Path, *, own_prompts: bool = False, draws: int = 2000) -> Result:
    names = ("prompt", "response 1", "response 2", "label", "subset")
    rows = [dict(zip(names, row, strict=False)) for row in ROWS]
    if own_prompts:
        rows = [row | {"prompt": f"q{place}"} for place, row in enumerate(rows)]
    labels = write(folder / "labels.jsonl", rows)
    said = write(folder / "verdicts.jsonl", [{"verdict": row[-1]} for row in ROWS])
    return humans(labels, verdicts=said, by="subset", draws=draws)


def test_every_number_of_nine_comparisons_is_that_of_the_hand(tmp_path: Path) -> None:
    """Eight have a verdict, six of these are decided by people, four of these by the verdict too: 1, 2, 4 and 5.

    kappa: alike are 1, 4, 5, 7, so 4/8. Labels are 4 first, 2 second, 2 tie, verdicts 2, 3, 3: by chance (8 + 6 + 6) /
    64 = 5/16; (8 - 5) / (16 - 5). kappa_decided: 3/4 alike, (2 + 6) / 16 by chance.
    Lengths: of the four, all but the fourth differ; people choose the longer each time, the verdict twice. People
    choose the longer also in the ninth, and the shorter only in the third; both times the verdict is a tie, so wrong.
    """
    result = by_hand(tmp_path, draws=50)
    sizes = {metric.name: (metric.value, metric.n) for metric in result.metrics}
    assert sizes == {
        "humans/ties": (pytest.approx(2 / 9), 9),
        "humans/first": (pytest.approx(5 / 7), 7),
        "humans/longer": (pytest.approx(5 / 6), 6),
        "accuracy": (pytest.approx(3 / 6), 6),
        "accuracy_decided": (pytest.approx(3 / 4), 4),
        "agreement": (pytest.approx(4 / 8), 8),
        "kappa": (pytest.approx(3 / 11), 8),
        "kappa_decided": (pytest.approx(1 / 2), 4),
        "position/first": (pytest.approx(1 / 4), 4),
        "position/bias": (pytest.approx(1 / 4 - 2 / 4), 4),
        "length/longer": (pytest.approx(2 / 3), 3),
        "length/humans": (pytest.approx(3 / 3), 3),
        "length/bias": (pytest.approx(-1 / 3), 3),
        "length/longer_right": (pytest.approx(2 / 4), 4),
        "length/shorter_right": (0.0, 1),
        "average": (pytest.approx((1 / 4 + 2 / 2) / 2), 6),  # of the two subsets that people decide anything of
        "subset=a": (pytest.approx(1 / 4), 4),
        "subset=b": (1.0, 2),
        "subset=c": (None, 0),
    }
    (first,) = (row for row in result.table if row.get("label") == "first")
    assert {name: first[name] for name in ("said_first", "said_second", "said_tie", "unknown")} == {
        "said_first": 1,
        "said_second": 1,
        "said_tie": 2,
        "unknown": 1,
    }


def test_comparisons_of_one_prompt_are_drawn_together(tmp_path: Path) -> None:
    """The prompts are right in 1 of 3, 2 of 2, 0 of 1. One in 27 draws is all of the second, one all of the third.

    That is 3.7 % each, more than the 2.5 % which an end leaves out: so the ends are 0 and 1. Were each comparison of a
    prompt of its own, they would be Wilson's of 3 in 6.
    """
    found = by_hand(tmp_path).metric("accuracy")
    assert (found.low, found.high) == (0.0, 1.0)
    apart = by_hand(tmp_path, own_prompts=True).metric("accuracy")
    assert (apart.low, apart.high) == pytest.approx((wilson(3, 6).low, wilson(3, 6).high))


def test_only_the_rows_of_the_split_count(tmp_path: Path) -> None:
    rows = [
        {"input": f"q{i}", "output_1": "a", "output_2": "b", "label": label, "split": split}
        for i, (label, split) in enumerate([(1, "test"), (2, "train"), (1, "test"), (2, "test"), (2, "train")])
    ]
    found = humans(write(tmp_path / "l.jsonl", rows), split="test", draws=10)
    assert found.n == 3
    assert values(found)["humans/first"] == pytest.approx(2 / 3)
    with pytest.raises(InputError, match=r"no row of split 'dev'; it has test, train"):
        humans(tmp_path / "l.jsonl", split="dev", draws=10)


def pandalm(path: Path, votes: list[tuple[Vote, ...]]) -> Path:
    return write(
        path,
        [
            {"instruction": f"q{i}", "input": "", "response1": "a", "response2": "bb"}
            | {f"annotator{person}": vote for person, vote in enumerate(case, start=1)}
            for i, case in enumerate(votes)
        ],
    )


def test_a_majority_is_more_than_half_of_the_people_also_where_one_says_nothing(tmp_path: Path) -> None:
    """Majorities: first, none, none, tie, second, none, first; the eighth is no vote, and the ninth has none.

    The first two people both voted on rows 1, 2, 4, 5, 7: first-first, first-second, tie-tie, second-second,
    first-second. Alike 3/5, by chance (3 + 1 + 3) / 25: (15 - 7) / (25 - 7).
    """
    votes: list[tuple[Vote, ...]] = [(1, 1, None), (1, 2, 0), (2, None, None), (0, 0, 1), (2, 2, 2)]
    votes += [(0, None, 1), (1, 2, 1), (9, 1, 1), (None, None, None)]
    result = humans(pandalm(tmp_path / "p.jsonl", votes), draws=20)
    found = {metric.name: (metric.value, metric.n) for metric in result.metrics}
    assert result.n == 7
    assert any("3 of 7 comparisons have no majority" in note for note in result.notes)
    assert any("2 of 9 rows are left out: bad_label" in note for note in result.notes)
    assert found["humans/ties"] == (pytest.approx(1 / 4), 4)
    assert found["humans/first"] == (pytest.approx(2 / 3), 3)
    assert found["kappa/annotator1 ~ annotator2"] == (pytest.approx(4 / 9), 5)
    assert found["kappa/annotator1 ~ annotator3"][1] == 5
    assert found["kappa/annotator2 ~ annotator3"][1] == 4
    assert found["unanimous"] == (pytest.approx(1 / 4), 4)
    # On rows 2, 4, 5, 7 all voted: 0, 1, 3, 1 of 3 pairs alike, on average 5/12; of 12 votes 4 first, 5 second, 3 tie.
    assert found["fleiss_kappa"] == (pytest.approx((5 / 12 - 50 / 144) / (1 - 50 / 144)), 4)


def test_half_of_four_people_is_no_majority(tmp_path: Path) -> None:
    result = humans(pandalm(tmp_path / "p.jsonl", [(1, 1, 2, 2), (1, 1, 2, 0), (2, 2, 2, 1)]), draws=20)
    assert any("2 of 3 comparisons have no majority" in note for note in result.notes)
    assert values(result)["humans/first"] == 0.0


def pairs(path: Path, count: int) -> Path:
    return write(path, [{"prompt": f"q{i}", "chosen": "good", "rejected": "bad"} for i in range(count)])


def test_who_only_ever_names_the_place_of_the_better_answer_is_not_called_an_agreement(tmp_path: Path) -> None:
    """Pairs list the better answer first: 'first' each time is right each time, and means nothing."""
    labels = pairs(tmp_path / "l.jsonl", 6)
    always = humans(labels, verdicts=write(tmp_path / "v", [{"verdict": "first"}] * 6), draws=20)
    found = values(always)
    assert found["kappa"] is None
    assert found["kappa_decided"] is None
    assert found["position/first"] == 1.0
    assert "position/bias" not in found
    assert any("always says first is always right" in note for note in always.notes)
    said = [{"verdict": each} for each in ("first", "first", "first", "second", "tie", None)]
    assert values(humans(labels, verdicts=write(tmp_path / "w", said), draws=20))["position/first"] == 3 / 4
    both = [{"verdict": "first", "verdict_swapped": "second"}] * 3 + [{"verdict": "first", "verdict_swapped": "first"}]
    two = humans(pairs(tmp_path / "m.jsonl", 4), verdicts=write(tmp_path / "x", both), draws=20)
    # Each comparison both ways: 3/4 alike; by chance 3/8 3/8 twice, as a tie of the verdict meets none of the label.
    assert values(two)["kappa"] == pytest.approx((3 / 4 - 3 / 8) / (1 - 3 / 8))
    assert not any("one order" in note for note in two.notes)


def test_whether_the_order_is_the_sources_own_is_said_by_its_format_and_not_guessed(tmp_path: Path) -> None:
    """LLMBar rows that all have label 1 still have an order; there, who always says first has no kappa but a place."""
    labels = llmbar(tmp_path / "l", [(1, "a", "b")] * 4)
    found = humans(labels, verdicts=write(tmp_path / "v", [{"verdict": "first"}] * 4), draws=20)
    assert values(found)["humans/first"] == 1.0
    assert values(found)["position/bias"] == 0.0
    assert values(found)["kappa"] is None
    assert not any("better answer first" in note for note in found.notes)
    ordered = {name for name, form in FORMATS.items() if form.ordered}
    assert ordered == {
        "shp", "pku_saferlhf", "halos", "alpaca_eval", "auto_j", "llmbar", "pandalm", "judgebench", "helpsteer3"
    }  # fmt: skip


def test_what_a_judge_said_before_a_filter_cut_it_off_is_no_call_for_a_place(tmp_path: Path) -> None:
    """One comparison is judged in both orders, each place named once; of the other only the beginning came."""
    pytest.importorskip("openai")

    def says(body: dict[str, Any]) -> Any:
        text = body["messages"][-1]["content"]
        if "splendid" in text:
            return "[[A]]" if text.index("splendid") < text.index("dreadful") else "[[B]]"
        reply = completion("[[A]]")
        reply["choices"][0]["finish_reason"] = "content_filter"
        return reply

    labels = llmbar(tmp_path / "l", [(1, "splendid", "dreadful"), (2, "one", "two")])
    with serving(says) as server:
        judge = {"with": "judge", "url": server.url, "model": "m", "kind": "pairwise"}
        result = humans(labels, scorer=judge, draws=20)
    assert values(result)["position/first"] == 1 / 2
    assert values(result)["position/flip"] == 0.0
    assert result.metric("position/flip").n == 1
    assert any("1 of 2 comparisons have no verdict" in note for note in result.notes)


def test_the_table_is_json(tmp_path: Path) -> None:
    json.dumps(by_hand(tmp_path, draws=10).to_dict(), allow_nan=False)
