"""Each answer by itself: SteerLM, C-RLFT and DPA, by hand.

The table: prompt `p` has the answers 0, 1, 2 with scores 9, 4, 4, helpfulness 4, 2, 0 and verbosity 0, 3, 4; prompt `q`
has the answers 3 and 4, of which only the first has an overall score, and `r` has one answer.
"""

import hashlib
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from pairwright.errors import InputError
from pairwright.goals import GoalFormat
from pairwright.merge import merge
from pairwright.metrics.gaps import explicit_gap
from pairwright.pairing import pair
from pairwright.preferences import Preferences
from pairwright.relabel import relabel
from pairwright.select import numbers, select
from pairwright.split import split

Made = Callable[..., Preferences]
IDS = ("chosen_id", "rejected_id")
SCORES = [9.0, 4.0, 4.0, 7.0, None, 5.0]
HELPFULNESS = [4.0, 2.0, 0.0, 1.0, 3.0, 2.0]
VERBOSITY = [0.0, 3.0, 4.0, 4.0, 0.0, 2.0]
TEXTS = ["a", "b", "c", "d", "e", "f"]


def table(
    *,
    order: Sequence[int] = range(6),
    texts: Sequence[str] = TEXTS,
    scores: Sequence[float | None] = SCORES,
    pairs: dict[str, list[Any]] | None = None,
) -> Preferences:
    prompts = pl.DataFrame(
        {"prompt_id": list("pqr"), "prompt": [[{"role": "user", "content": name}] for name in ("P?", "Q?", "R?")]}
    )
    answers = pl.DataFrame(
        {
            "response_id": range(6),
            "prompt_id": list("pppqqr"),
            "response": [[{"role": "assistant", "content": text}] for text in texts],
            "score": pl.Series(scores, dtype=pl.Float64),
            "score_helpfulness": HELPFULNESS,
            "score_verbosity": VERBOSITY,
        }
    )
    return Preferences.of(prompts, answers[list(order)], None if pairs is None else pl.DataFrame(pairs))


def rows(prefs: Preferences, *more: str) -> list[tuple[Any, ...]]:
    return prefs.pairs.select(*IDS, "goal", *more).collect().rows()


def sentences(prefs: Preferences) -> list[str]:
    return [prompt[0]["content"] for prompt in prefs.texts().collect()["prompt"].to_list()]


# SteerLM


def test_each_answer_once_under_its_own_score_ties_and_all() -> None:
    result = relabel(table(), "steerlm", over="answers")
    # 0 and 1 meet in the first pair, 2 meets 0 in the second; 3 stands against 4, which is unscored itself.
    assert rows(result, "copy") == [
        (0, 1, 9.0, "positive"),
        (1, 0, 4.0, "negative"),
        (2, 0, 4.0, "negative"),
        (3, 4, 7.0, "positive"),
    ]
    step = result.lineage[-1]
    assert (step.rows_in, step.rows_out) == (6, 4)
    assert step.dropped == {"unscored": 1, "lone_answer": 1}
    assert sentences(result)[1].endswith("Overall score: 4.\n\nP?")


def test_one_pair_to_each_prompt_gives_the_rows_of_ra(made: Made) -> None:
    prefs = made([(9.0, 8.0), (7.0, 5.0), (2.0, 6.0)], pairs={"weight": [1.0, 2.0, 3.0], "preference": [1.0, 2.0, 3.0]})
    ra, steerlm = relabel(prefs, "ra"), relabel(prefs, "steerlm")
    columns = ra.pairs.collect_schema().names()
    assert steerlm.pairs.select(columns).collect().equals(ra.pairs.collect())
    assert steerlm.goal_format == ra.goal_format
    tied = made([(9.0, 8.0), (4.0, 4.0)])
    assert relabel(tied, "ra").counts().pairs == 2
    assert relabel(tied, "steerlm").counts().pairs == 4


def test_over_pairs_only_their_answers_count() -> None:
    pairs = {"prompt_id": ["p", "p"], "chosen_id": [0, 0], "rejected_id": [2, 1], "weight": [3.0, 5.0]}
    result = relabel(table(pairs=pairs), "steerlm")
    # Answer 0 stands in both pairs, and is asked for once, with its first pair's weight.
    assert rows(result, "weight", "source_pair") == [
        (0, 2, 9.0, 3.0, 0),
        (2, 0, 4.0, 3.0, 0),
        (1, 0, 4.0, 5.0, 1),
    ]
    assert (result.lineage[-1].rows_in, result.lineage[-1].dropped) == (3, {})


def test_vectors_of_attributes_are_asked_for_and_have_a_gap() -> None:
    result = relabel(
        table(), "steerlm", over="answers", attributes=("helpfulness", "verbosity"), source_range=(0, 4), scale=5
    )
    assert rows(result)[1] == (1, 0, [2.0, 3.0])
    # 0..4 become 1..5.
    assert sentences(result)[1].endswith("Helpfulness score: 3.\nVerbosity score: 4.\n\nP?")
    assert result.lineage[-1].dropped == {"lone_answer": 1}  # the overall score plays no part
    view = numbers(result)
    gaps = view.select(explicit_gap(view)).collect().to_series().to_list()
    # Answer 0 at (4, 0) is sqrt(2^2 + 3^2) from answer 1 at (2, 3), whose own goal it is.
    assert gaps[1] == pytest.approx(math.sqrt(13))


def test_answers_count_under_their_first_reason() -> None:
    texts = ["a", "", "a", "d", "d", "f"]
    result = relabel(table(texts=texts, scores=[9.0, 4.0, float("nan"), 7.0, 6.0, None]), "steerlm", over="answers")
    # 0 has only an empty answer and one with its own text beside it, 3 and 4 are the same text, 5 has no score.
    assert result.lineage[-1].dropped == {"non_finite_score": 1, "empty_response": 1, "lone_answer": 4}
    assert result.counts().pairs == 0
    assert result.goal_format is None


def test_a_usable_answer_stands_on_the_other_side() -> None:
    result = relabel(table(texts=["a", "", "c", "d", "e", "f"]), "steerlm", over="answers")
    assert rows(result)[:2] == [(0, 2, 9.0), (2, 0, 4.0)]  # not answer 1, which is empty
    assert result.lineage[-1].dropped == {"unscored": 1, "empty_response": 1, "lone_answer": 1}


def test_scores_outside_the_range_are_an_error_a_drop_or_a_clip() -> None:
    asked: dict[str, Any] = {"over": "answers", "source_range": (1, 8)}
    with pytest.raises(InputError, match=r"1 of 4 answers have scores outside .*score runs from 9 to 9 .* is 1 to 8"):
        relabel(table(), "steerlm", **asked)
    dropped = relabel(table(), "steerlm", outside="drop", **asked)
    assert [row[0] for row in rows(dropped)] == [1, 2, 3]
    assert dropped.lineage[-1].dropped == {"unscored": 1, "lone_answer": 1, "out_of_scale": 1}
    clipped = relabel(table(), "steerlm", outside="clip", **asked)
    assert sentences(clipped)[0].endswith("Overall score: 10.\n\nP?")
    assert relabel(table(), "steerlm", over="answers", source_range="percentiles").counts().pairs == 4


# C-RLFT


def test_classes_and_their_weights() -> None:
    pairs = {
        "prompt_id": ["p", "p", "q"],
        "chosen_id": [0, 0, 3],
        "rejected_id": [1, 2, 4],
        "weight": [1.0, 2.0, None],
    }
    result = relabel(table(pairs=pairs), "c_rlft", edges=[4.5, 9.0], weights=[0.25, 0.5, 1.0])
    # 9 lies on the edge of the third class; 4 and 4 are below the first edge; 7 lies between.
    assert rows(result, "weight") == [
        (0, 1, [3.0], 1.0),
        (1, 0, [1.0], 0.25),
        (2, 0, [1.0], 0.5),
        (3, 4, [2.0], 0.5),
    ]
    assert result.lineage[-1].dropped == {"unscored": 1}
    said = [text.split("\n")[0] for text in sentences(result)]
    assert said[0] == (
        "You are an assistant whose answers are of quality class 3 of 3, where 1 is the lowest class and 3 is the "
        "highest."
    )
    assert "class 1 of 3" in said[1]
    form = result.goal_format
    assert form is not None
    assert form.best == [3.0]


def test_the_papers_weights_are_those_of_two_classes() -> None:
    result = relabel(table(), "c_rlft", over="answers", edges=[8])
    assert rows(result, "weight") == [
        (0, 1, [2.0], 1.0),
        (1, 0, [1.0], 0.1),
        (2, 0, [1.0], 0.1),
        (3, 4, [1.0], 0.1),
    ]
    assert result.lineage[-1].settings["weights"] == (0.1, 1.0)


def test_weights_survive_a_directory_and_a_flat_file(tmp_path: Path) -> None:
    result = relabel(table(), "c_rlft", over="answers", edges=[8])
    loaded = Preferences.load(result.save(tmp_path / "native"))
    assert loaded.pairs.collect()["weight"].to_list() == [1.0, 0.1, 0.1, 0.1]
    assert loaded.goal_format == result.goal_format
    assert sentences(loaded) == sentences(result)
    flat = pl.read_parquet(result.export(tmp_path / "flat.parquet"))
    assert flat["weight"].to_list() == [1.0, 0.1, 0.1, 0.1]
    assert flat["goal"].to_list() == [[2.0], [1.0], [1.0], [1.0]]


def test_a_template_of_ones_own_names_the_class() -> None:
    result = relabel(table(), "c_rlft", over="answers", edges=[8], template="Class {class}/{scale} Assistant:")
    assert sentences(result)[0] == "Class 2/2 Assistant:\n\nP?"


# DPA


def uniform(prompt_id: str, seed: int) -> float:
    """The first 53 bits of SHA-256, as the module of draws promises."""
    return (int(hashlib.sha256(f"{seed}:{prompt_id}".encode()).hexdigest()[:16], 16) >> 11) / 2**53


ASKED: dict[str, Any] = {"over": "answers", "attributes": ("helpfulness", "verbosity"), "source_range": (0, 4)}


def test_the_answer_that_goes_farthest_along_the_direction() -> None:
    # At 0 degrees helpfulness decides: 0 (4) of p, 4 (3) of q. At 45 degrees the sums do: 4, 5, 4 of p and 5, 3 of q.
    # At 80 degrees, cos = 0.17 and sin = 0.98, verbosity does: 0.69, 3.3, 3.94 of p and 4.1, 0.5 of q.
    for angle, p, q in ((0.0, (0, 1), (4, 3)), (45.0, (1, 0), (3, 4)), (80.0, (2, 0), (3, 4))):
        result = relabel(table(), "dpa", angles=(angle, angle), **ASKED)
        v = [pytest.approx(math.cos(math.radians(angle))), pytest.approx(math.sin(math.radians(angle)))]
        assert rows(result) == [(*p, v), (*q, v)]
        assert result.lineage[-1].dropped == {"lone_answer": 1, "not_in_dpa": 3}
        assert (result.lineage[-1].rows_in, result.lineage[-1].rows_out) == (6, 2)


def test_minus_45_degrees_is_printed_as_the_paper_prints_it() -> None:
    result = relabel(table(), "dpa", angles=(-45, -45), **ASKED)
    # cos 45 = 0.7071, and -0.7071 for the other: 71 and -71 in whole hundredths. 4 - 0 is the largest difference of p.
    assert [row[0] for row in rows(result)] == [0, 4]
    assert sentences(result)[0] == (
        "Your response should maximize weighted rating = helpfulness*71 + verbosity*-71\n\nP?"
    )
    form = result.goal_format
    assert form is not None
    assert form.best == [1.0, 0.0]
    assert form.say([0.6, 0.8]).endswith("helpfulness*60 + verbosity*80")


def test_scores_count_as_shares_of_their_ranges(made: Made) -> None:
    """Over percentiles of about 0..100 and 1000..1001 the first pair is 0.4 + 0.9 against 0.6 + 0.1."""
    attributes = {"score_wide": [40.0, 60.0, 0.0, 100.0], "score_narrow": [1000.9, 1000.1, 1000.0, 1001.0]}
    prefs = made([(1.0, 2.0), (1.0, 2.0)], attributes=attributes)
    asked: dict[str, Any] = {"attributes": ("wide", "narrow"), "angles": (45, 45)}
    shares = relabel(prefs, "dpa", source_range="percentiles", **asked)
    assert rows(shares)[0][:2] == (0, 1)
    # In one range for both the wide score decides, whether or not the range holds the scores.
    plain = relabel(prefs, "dpa", source_range=(0, 1), **asked)
    assert rows(plain)[0][:2] == (1, 0)


def test_a_direction_is_drawn_for_each_prompt_whatever_the_order_and_the_others() -> None:
    result = relabel(table(), "dpa", seed=3, **ASKED)
    goals = dict(zip(result.pairs.collect()["prompt_id"], (row[2] for row in rows(result)), strict=True))
    for name in "pq":
        angle = math.radians(-45 + 90 * uniform(name, 3))
        assert goals[name] == [pytest.approx(math.cos(angle), abs=1e-15), pytest.approx(math.sin(angle), abs=1e-15)]
    turned = relabel(table(order=[4, 2, 5, 1, 3, 0]), "dpa", seed=3, **ASKED).pairs.collect()
    again = dict(zip(turned["prompt_id"], turned["goal"].to_list(), strict=True))
    assert again == goals
    assert dict(zip(turned["prompt_id"], turned["chosen_id"], strict=True)) == dict(
        zip(result.pairs.collect()["prompt_id"], (row[0] for row in rows(result)), strict=True)
    )
    other = relabel(table(), "dpa", seed=4, **ASKED)
    assert [row[2] for row in rows(other)] != [row[2] for row in rows(result)]
    assert rows(relabel(table(), "dpa", **ASKED)) == rows(relabel(table(), "dpa", seed=0, **ASKED))


def test_the_angles_lie_in_their_range() -> None:
    many = pl.DataFrame({"prompt_id": [f"{i}" for i in range(200) for _ in "ab"], "score_a": 1.0, "score_b": 2.0})
    texts = [[{"role": "assistant", "content": f"{i}"}] for i in range(400)]
    prompts = many.select("prompt_id").unique(maintain_order=True)
    asked = [[{"role": "user", "content": "?"}]] * 200
    prefs = Preferences.of(prompts.with_columns(prompt=pl.Series(asked)), many.with_columns(response=pl.Series(texts)))
    got = relabel(prefs, "dpa", over="answers", attributes=("a", "b"), angles=(10, 30)).pairs.collect()["goal"]
    angles = [math.degrees(math.atan2(other, one)) for one, other in got.to_list()]
    assert len(angles) == 200
    assert 10 <= min(angles) < 11
    assert 29 < max(angles) <= 30
    assert all(math.hypot(*v) == pytest.approx(1) for v in got.to_list())


# What all share


@pytest.mark.parametrize(
    ("mode", "settings"), [("c_rlft", {"over": "answers", "edges": [8]}), ("dpa", {"angles": (0, 45), **ASKED})]
)
def test_what_asks_for_no_scores_has_no_gap(mode: str, settings: dict[str, Any]) -> None:
    view = numbers(relabel(table(), mode, **settings))
    gaps = view.select(explicit_gap(view).alias("gap")).collect()["gap"]
    assert len(gaps) == gaps.null_count() > 0


@pytest.mark.parametrize(
    ("mode", "settings", "says"),
    [
        ("steerlm", {"min_gap": 1}, "each answer by itself, so min_gap plays no part"),
        ("steerlm", {"threshold": 5}, "has no setting 'threshold'"),
        ("c_rlft", {}, "edges"),
        ("c_rlft", {"edges": []}, "one or more rising numbers, not"),
        ("c_rlft", {"edges": [5, 3]}, "one or more rising numbers, not"),
        ("c_rlft", {"edges": [3, 5]}, "2 edges make 3 classes, and each needs a weight"),
        ("c_rlft", {"edges": [5], "weights": [-1, 1]}, "from 0 up"),
        ("c_rlft", {"edges": [5], "weights": [0, 0]}, "not all 0"),
        ("c_rlft", {"edges": [5], "attributes": ("verbosity",)}, "classes are of one score"),
        ("c_rlft", {"edges": [5], "source_range": (0, 10)}, "source_range play no part"),
        ("c_rlft", {"edges": [5], "scale": 5}, "c_rlft prints no scores, so scale play"),
        ("c_rlft", {"edges": [5], "template": "the best"}, r"must contain \{scores\}.*\{class\}"),
        ("dpa", {}, "between two attributes, not 0; give attributes"),
        ("dpa", {"attributes": ("verbosity",)}, "between two attributes, not 1"),
        ("dpa", {**ASKED, "angles": (45, -45)}, "the least and the largest"),
        ("dpa", {**ASKED, "outside": "clip"}, "dpa prints no scores, so outside play"),
    ],
)
def test_bad_requests_are_sentences(mode: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        relabel(table(), mode, **{"over": "answers", **settings})


def test_a_mode_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("mine_conditions")
    source = """
import polars as pl
from pairwright.relabel import Answers
def good(answers: Answers, *, least: float = 5.0) -> Answers:
    kept = answers.rows.filter(pl.col("goal_chosen") >= least)
    return answers._replace(rows=kept.with_columns(goal=pl.col("goal_chosen")))
def nothing(answers):
    return answers
def no_answers(answers):
    return answers.rows
"""
    exec(source, module.__dict__)
    monkeypatch.setitem(sys.modules, "mine_conditions", module)
    result = relabel(table(), "mine_conditions:good", over="answers", least="8")
    assert rows(result) == [(0, 1, 9.0)]
    assert result.lineage[-1].dropped == {"unscored": 1, "lone_answer": 1, "not_in_mine_conditions:good": 3}
    with pytest.raises(InputError, match="gave no column goal"):
        relabel(table(), "mine_conditions:nothing", over="answers")
    with pytest.raises(InputError, match="must give Answers, not LazyFrame"):
        relabel(table(), "mine_conditions:no_answers", over="answers")


def test_the_classes_are_counted_and_more_than_one() -> None:
    result = relabel(table(), "c_rlft", over="answers", edges=[4.5, 8.0], weights=[0.1, 0.5, 1.0])
    # 9 | 4 and 4 below 4.5 | 7 between.
    assert "Answers by class: 2 of class 1, 1 of class 2, 1 of class 3." in result.lineage[-1].notes
    empty = relabel(table(), "c_rlft", over="answers", edges=[8.0, 100.0], weights=[0.1, 0.5, 1.0])
    assert "Answers by class: 3 of class 1, 1 of class 2, 0 of class 3." in empty.lineage[-1].notes
    for edge, each in ((0.5, 2), (90, 1)):
        with pytest.raises(
            InputError, match=f"all 4 answers are of class {each} of 2.*set the edges between the scores"
        ):
            relabel(table(), "c_rlft", over="answers", edges=[edge])
    assert not any("class" in note for note in relabel(table(), "steerlm", over="answers").lineage[-1].notes)


@pytest.mark.parametrize(
    ("mode", "settings", "judged"),
    [
        ("ra", {}, True),
        ("plain", {}, True),
        ("steerlm", {}, False),
        ("c_rlft", {"edges": [8]}, False),
        ("dpa", {"attributes": ("helpfulness", "verbosity"), "source_range": (0, 4)}, False),
    ],
)
def test_the_lineage_knows_whether_sides_were_judged(
    mode: str, settings: dict[str, Any], judged: bool, tmp_path: Path
) -> None:
    result = relabel(table(), mode, over="answers", **settings)
    assert result.judged == judged
    assert Preferences.load(result.save(tmp_path / "native")).judged == judged
    assert split(select(result, "random", keep=1.0)).judged == judged
    assert merge(table(), table()).judged
    assert pair(result, "best_worst").judged  # new pairs, judged by their scores
    if not judged:
        assert not merge(result, result).judged
        with pytest.raises(InputError, match="nothing says that a rejected side is unwanted"):
            result.export(tmp_path / "flat.jsonl", "unpaired")
    for layout in ("trl", "openrlhf"):
        path = result.export(tmp_path / f"{layout}.jsonl", layout)  # type: ignore[arg-type]
        manifest = json.loads(path.with_name(f"{path.name}.manifest.json").read_text())
        said = any("the rejected side is just another answer" in note for note in manifest["lineage"][-1]["notes"])
        assert said is not judged


def test_pairs_of_judged_and_of_other_ones_are_not_judged() -> None:
    ra, steerlm = relabel(table(), "ra", over="answers"), relabel(table(), "steerlm", over="answers")
    assert ra.goal_format == steerlm.goal_format
    assert not merge(ra, steerlm).judged
    assert not merge(steerlm, ra).judged


def test_no_pairs_stay_no_pairs() -> None:
    result = relabel(table(), "steerlm")
    assert result.counts().pairs == 0
    assert (result.lineage[-1].rows_in, result.lineage[-1].dropped) == (0, {})


def test_the_input_is_untouched() -> None:
    prefs = table()
    before = prefs.digest()
    relabel(prefs, "c_rlft", over="answers", edges=[8])
    assert prefs.digest() == before


def test_numbers_may_run_below_one() -> None:
    form = GoalFormat(ranges=((-1, 1),), lowest=-100, scale=100, decimals=0)
    assert [form.say(goal).rsplit(" ", 1)[1] for goal in (-1, -0.004, 0.5, 2)] == ["-100.", "0.", "50.", "100."]
    with pytest.raises(ValueError, match="must rise from lowest to scale"):
        GoalFormat(lowest=10)
