"""Goals as a part: planted control, and the same numbers as `evaluate control`."""

import numpy as np
import polars as pl
import pytest
import scipy.stats

from pairwright.diagnose.answers import ANSWERS, Answers
from pairwright.diagnose.goals import goals
from pairwright.errors import InputError

ASKED = (2.0, 4.0, 6.0, 8.0, 10.0)


def model(name: str, score, *, asked: tuple[float | None, ...] = ASKED, prompts: int = 40, **settings: str) -> Answers:
    draw = np.random.default_rng(0)
    rows = [
        {"prompt_id": f"p{i}", "goal": goal, "text": "x", "score": score(goal, draw.normal())}
        for i in range(prompts)
        for goal in asked
    ]
    known = pl.DataFrame(
        rows, schema={"prompt_id": pl.String, "goal": pl.Float64, "text": pl.String, "score": pl.Float64}
    )
    empty = {column: pl.lit(None) for column in ANSWERS if column not in known.columns}
    frame = known.with_columns(**empty).select(pl.col(column).cast(kind) for column, kind in ANSWERS.items())
    return Answers(name, frame, settings=settings)


def test_a_model_that_gives_what_it_is_asked_for_is_fine() -> None:
    part = goals([model("ra", lambda goal, noise: goal)])
    control, calibration = part.findings
    assert (control.check, control.level, control.value) == ("goal_control", "fine", pytest.approx(1.0))
    assert (calibration.level, calibration.value) == ("fine", pytest.approx(0.0))
    assert [(row["model"], row["goal"], row["value"]) for row in part.result.table] == [("ra", g, g) for g in ASKED]
    line, diagonal = part.charts[0].series
    assert line.x == line.y == list(ASKED)
    assert diagonal.reference
    assert diagonal.x == diagonal.y == [2.0, 10.0]


def test_a_model_that_ignores_the_goal_and_one_that_does_the_opposite_are_warnings() -> None:
    ignoring = goals([model("dpo", lambda goal, noise: 6 + noise)]).findings[0]
    assert ignoring.level == "warning"
    assert "Nothing shows" in ignoring.means
    opposite = goals([model("odd", lambda goal, noise: 12 - goal + noise)]).findings[0]
    assert (opposite.level, opposite.value < 0) == ("warning", True)
    assert "opposite" in opposite.means


def test_a_model_that_was_trained_without_goals_is_not_blamed_for_ignoring_them() -> None:
    ignoring, opposite = (model("dpo", score) for score in (lambda goal, noise: 6 + noise, lambda goal, _: 12 - goal))
    following = model("ra", lambda goal, noise: goal)
    for answers in (ignoring, opposite):
        found = goals([answers, following], untaught=["dpo"]).findings[0]
        assert (found.subject, found.level, found.remedy) == ("dpo", "note", "")
        assert "its start knew" in found.means
    assert goals([following], untaught=["ra"]).findings[0].level == "fine"


def test_an_offset_leaves_control_and_is_a_note_of_calibration() -> None:
    part = goals([model("ra", lambda goal, noise: goal + 3)])
    assert [each.level for each in part.findings] == ["fine", "note"]
    assert part.findings[1].value == pytest.approx(3.0)


def test_the_correlation_is_scipys() -> None:
    answers = model("ra", lambda goal, noise: goal + 4 * noise)
    rank = scipy.stats.spearmanr(answers.frame["goal"], answers.frame["score"]).statistic
    assert goals([answers]).findings[0].value == pytest.approx(rank)


def test_several_models_have_their_numbers_apart() -> None:
    part = goals([model("ra", lambda goal, noise: goal), model("dpo", lambda goal, noise: 6 + noise)])
    assert part.result.metric("spearman/ra").value == pytest.approx(1.0)
    assert abs(part.result.metric("spearman/dpo").value) < 0.3
    assert [each.subject for each in part.findings] == ["ra", "ra", "dpo", "dpo"]
    assert [one.name for one in part.charts[0].series] == ["ra", "dpo", "asked = given"]


def test_answers_without_a_goal_are_the_lift() -> None:
    part = goals([model("ra", lambda goal, noise: 5.0 if goal is None else goal, asked=(None, 2.0, 10.0))])
    assert part.result.metric("lift").value == pytest.approx(5.0)
    assert [row["goal"] for row in part.result.table] == [2.0, 10.0, None]


def test_models_that_were_not_asked_for_two_scores_are_left_out() -> None:
    plain = model("dpo", lambda goal, noise: 5.0, asked=(None,))
    classes = model("dpa", lambda goal, noise: goal, asks="class")
    part = goals([plain, classes, model("ra", lambda goal, noise: goal)])
    assert part.subject == "ra"
    assert any("class" in note for note in part.result.notes)
    with pytest.raises(InputError, match="two goals"):
        goals([plain, classes])
    twice = model("ra", lambda goal, noise: goal)
    with pytest.raises(InputError, match="same name"):
        goals([twice, twice])
