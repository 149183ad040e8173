"""Normalisation against hand arithmetic and numpy; frozen lines; several scorers at once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pairwright.errors import InputError
from pairwright.preferences import Preferences
from pairwright.scorers import score


def table(scores: dict[str, list[float | None]], *, splits: list[str] | None = None, pairs: Any = None) -> Preferences:
    """A prompt for every two answers."""
    size = len(next(iter(scores.values())))
    ids = [str(i // 2) for i in range(size)]
    known = list(dict.fromkeys(ids))
    prompts = pl.DataFrame({"prompt_id": known, "prompt": [[{"role": "user", "content": one}] for one in known]})
    if splits is not None:
        prompts = prompts.with_columns(split=pl.Series(splits))
    texts = [[{"role": "assistant", "content": str(i)}] for i in range(size)]
    answers = pl.DataFrame({"prompt_id": ids, "response": texts}).with_columns(
        pl.Series(name, values, dtype=pl.Float64) for name, values in scores.items()
    )
    return Preferences.of(prompts, answers, pairs)


def numbers(prefs: Preferences, column: str = "score") -> list[float | None]:
    found: list[float | None] = prefs.responses.collect()[column].to_list()
    return found


RAW: dict[str, list[float | None]] = {"score_rm": [-2.0, 0.0, 2.0, None, 5.0, -3.0]}


def test_a_given_range_becomes_1_to_10_and_the_rest_gets_the_ends() -> None:
    """From -2 to 2: -2 is 1, 0 is the middle 5.5, 2 is 10; 5 lies above and -3 below."""
    result = score(table(RAW), "column", by="score_rm", scale={"range": [-2, 2]})
    assert numbers(result) == [1.0, 5.5, 10.0, None, 10.0, 1.0]
    assert numbers(result, "score_rm") == RAW["score_rm"]
    step = result.lineage[-1]
    assert step.settings["scale"] == {"range": [-2.0, 2.0]}
    assert step.settings["unscored"] == {"unscored": 1}
    assert step.found["scale"] == {"score": {"low": -2.0, "high": 2.0, "to": [1.0, 10.0], "below": 1, "above": 1}}
    assert json.loads(json.dumps(step.model_dump()["found"])) == step.found
    assert "In score -2 to 2 become 1 to 10; 1 scores lie below and 1 above, and get the end." in step.notes


def test_other_ends() -> None:
    """From -2 to 2 onto 0 to 1: quarters."""
    result = score(table(RAW), "column", by="score_rm", scale={"range": [-2, 2], "to": [0, 1]})
    assert numbers(result) == [0.0, 0.5, 1.0, None, 1.0, 0.0]


def test_percentiles_are_numpys_over_all_answers() -> None:
    raw = np.random.default_rng(0).normal(size=200)
    result = score(table({"score_rm": raw.tolist()}), "column", by="score_rm", scale={"percentiles": [1, 99]})
    low, high = np.percentile(raw, [1, 99])
    assert numbers(result) == pytest.approx((1 + 9 * np.clip((raw - low) / (high - low), 0, 1)).tolist())
    line = result.lineage[-1].found["scale"]["score"]
    assert (line["below"], line["above"]) == (2, 2)


def test_percentiles_are_those_of_training_prompts_and_pairs_go_before() -> None:
    raw = {"score_rm": [0.0, 4.0, 1.0, 3.0, 100.0, -100.0]}
    everything = {"scale": {"percentiles": [0, 100]}, "by": "score_rm"}
    of_prompts = score(table(raw, splits=["train", "train", "test"]), "column", **everything)
    assert of_prompts.lineage[-1].found["scale"]["score"]["low"] == 0.0
    assert of_prompts.lineage[-1].found["scale"]["score"]["high"] == 4.0
    pairs = pl.DataFrame(
        {"prompt_id": ["1", "2"], "chosen_id": [3, 4], "rejected_id": [2, 5], "split": ["train", "test"]}
    )
    of_pairs = score(table(raw, pairs=pairs), "column", **everything)
    assert of_pairs.lineage[-1].found["scale"]["score"] == {
        "low": 1.0, "high": 3.0, "to": [1.0, 10.0], "below": 2, "above": 2,
    }  # fmt: skip


def test_each_attribute_has_a_line_of_its_own() -> None:
    """Helpful from 0 to 4, brief from 10 to 20."""
    raw = {"score_helpful": [0.0, 1.0, 4.0, 2.0], "score_brief": [10.0, 20.0, 15.0, None]}
    by = ["score_helpful", "score_brief"]
    result = score(table(raw), "column", into="score_n", by=by, scale={"percentiles": [0, 100]})
    assert numbers(result, "score_n_helpful") == [1.0, 3.25, 10.0, 5.5]
    assert numbers(result, "score_n_brief") == [1.0, 10.0, 5.5, None]
    given = {"range": {"score_n_helpful": [0, 2], "score_n_brief": [0, 20]}}
    result = score(table(raw), "column", into="score_n", by=by, scale=given)
    assert numbers(result, "score_n_helpful") == [1.0, 5.5, 10.0, 10.0]
    assert numbers(result, "score_n_brief") == [5.5, 10.0, 7.75, None]


@pytest.mark.parametrize("kind", ["directory", "step", "flat", "object"])
def test_a_line_is_frozen_and_used_again_for_new_data(kind: str, tmp_path: Path) -> None:
    """The old data run from 0 to 8, the new ones from 2 to 20: 2 is 3.25 on the old line, whatever the new data are."""
    pairs = pl.DataFrame({"prompt_id": ["0"], "chosen_id": [1], "rejected_id": [0]})
    old = score(table({"score_rm": [0.0, 8.0]}, pairs=pairs), "column", by="score_rm", scale={"percentiles": [0, 100]})
    places: dict[str, Any] = {
        "directory": lambda: old.save(tmp_path / "old"),
        "step": lambda: old.save(tmp_path / "03-score" / "data").parent,
        "flat": lambda: str(old.export(tmp_path / "old.jsonl")),
        "object": lambda: old,
    }
    result = score(table({"score_rm": [2.0, 20.0]}), "column", by="score_rm", scale={"like": places[kind]()})
    assert numbers(result) == [3.25, 10.0]
    assert result.lineage[-1].found["scale"]["score"]["high"] == 8.0
    json.dumps(result.lineage[-1].model_dump())
    # And so it goes on: the data that were scored by it hold the same line.
    third = score(table({"score_rm": [4.0, 0.0]}), "column", by="score_rm", scale={"like": result})
    assert numbers(third) == [5.5, 1.0]


@pytest.mark.parametrize(
    ("scale", "says"),
    [
        ({"range": [2, 2]}, "range of score must rise, and 2 to 2 does not"),
        ({"range": [5, 2]}, "must rise"),
        ({"range": [0, float("inf")]}, "finite"),
        ({"percentiles": [99, 1]}, "percentiles must rise"),
        (
            {"percentiles": [1, 101]},
            r"scale: percentiles are two numbers from 0 to 100, such as \[1, 99\], not \[1, 101\]$",
        ),
        ({"range": ["a", 2]}, r"scale: range is two finite numbers, \[lo, hi\], or such two .* not \['a', 2\]$"),
        ({"range": [0, 1], "to": [1]}, r"scale: to is two finite numbers, such as \[1, 10\], not \[1\]$"),
        ({"range": [-1e308, 1e308]}, "range of score is wider than numbers go"),
        ({"range": [0, 1], "to": [-1e308, 1e308]}, "to is wider than numbers go"),
        ({"range": [0, 1], "percentiles": [1, 99]}, "give one of range, percentiles, like, not range and percentiles"),
        ({}, "not none"),
        ({"rnge": [0, 1]}, "scale: there is no 'rnge'; did you mean 'range'"),
        ("percentiles", "{range: "),
        ({"range": {"score_x": [0, 1]}}, "gave no column 'score_x'"),
        ({"range": {}}, "there is no range for score"),
        ({"range": [0, 1], "to": [10, 1]}, "to must rise"),
        ({"like": "nowhere"}, "nowhere is no data that pairwright wrote"),
        ({"like": "nowhere", "to": [1, 5]}, "leave out to"),
    ],
)
def test_bad_scales_are_sentences(scale: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        score(table(RAW), "column", by="score_rm", scale=scale)


def test_equal_or_missing_scores_have_no_percentiles() -> None:
    with pytest.raises(InputError, match="percentiles 1 and 99 of score are both 3"):
        score(table({"score_rm": [3.0, 3.0]}), "column", by="score_rm", scale={"percentiles": [1, 99]})
    with pytest.raises(InputError, match="no training answer has a score"):
        score(table({"score_rm": [None, None]}), "column", by="score_rm", scale={"percentiles": [1, 99]})


def test_a_line_of_another_scorer_or_column_is_refused() -> None:
    raw = {"score_rm": [0.0, 8.0]}
    old = score(table(raw), "column", by="score_rm", scale={"range": [0, 8]})
    with pytest.raises(InputError, match="is of the scorer column, not of rules"):
        score(table(raw), "rules", verify="length", scale={"like": old})
    with pytest.raises(InputError, match=r"holds no scale of score_b \(it has those of score\)"):
        score(table(raw), "column", by="score_rm", into="score_b", scale={"like": old})


def test_a_line_of_the_same_scorer_with_other_settings_is_refused_and_its_ends_are_said(tmp_path: Path) -> None:
    raw: dict[str, list[float | None]] = {"score_a": [0.0, 8.0], "score_b": [0.0, 800.0]}
    old = score(table(raw), "column", by="score_a", scale={"range": [0, 8]}).save(tmp_path / "old")
    with pytest.raises(InputError, match=r"column with by 'score_a', not 'score_b'.* give range: \[0.0, 8.0\]"):
        score(table(raw), "column", by="score_b", scale={"like": old})
    old = score(table(raw), "rules", verify=["length"], scale={"range": [0, 1]}).save(tmp_path / "rules")
    score(table(raw), "rules", verify=["length"], scale={"like": old})
    with pytest.raises(InputError, match="rules with levels None, not"):
        score(table(raw), "rules", verify=["length"], levels=[0, 5], scale={"like": old})


def test_a_path_is_the_same_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "score_a").mkdir()
    raw: dict[str, list[float | None]] = {"score_a": [0.0, 8.0]}
    old = score(table(raw), "column", by="score_a", scale={"range": [0, 8]})
    lines = old.lineage[-1]
    settings = lines.settings | {"by": str(tmp_path / "score_a")}
    elsewhere = Preferences.of(old.prompts, old.responses, None, (lines.model_copy(update={"settings": settings}),))
    assert numbers(score(table(raw), "column", by="score_a", scale={"like": elsewhere})) == [1.0, 10.0]


def test_scores_without_a_line_take_the_place_of_the_line(tmp_path: Path) -> None:
    raw: dict[str, list[float | None]] = {"score_a": [0.0, 8.0]}
    old = score(table(raw), "column", by="score_a", scale={"range": [0, 8]})
    beside = score(old, "column", by="score_a", into="score_b")
    assert numbers(score(table(raw), "column", by="score_a", scale={"like": beside})) == [1.0, 10.0]
    raw_again = score(beside, "column", by="score_a")
    with pytest.raises(InputError, match=r"holds no scale of score \(it has none\)"):
        score(table(raw), "column", by="score_a", scale={"like": raw_again})


def test_a_step_of_attributes_takes_the_lines_of_its_columns_alone() -> None:
    """The second step writes score_n_b and nothing else: score_n keeps its line, score_n_b has none any more."""
    raw: dict[str, list[float | None]] = {"score_a": [0.0, 8.0], "score_b": [0.0, 4.0]}
    old = score(table(raw), "column", by="score_a", into="score_n", scale={"range": [0, 8]})
    old = score(old, "column", by=["score_b"], into="score_n", scale={"range": [0, 4]})
    old = score(old, "column", by=["score_b"], into="score_n")
    again = score(table(raw), "column", by="score_a", into="score_n", scale={"like": old})
    assert numbers(again, "score_n") == [1.0, 10.0]
    with pytest.raises(InputError, match="holds no scale of score_n_b"):
        score(table(raw), "column", by=["score_b"], into="score_n", scale={"like": old})


def test_infinite_scores_are_null_before_the_range_is_found() -> None:
    raw = {"score_rm": [0.0, float("inf"), 4.0, float("nan")]}
    result = score(table(raw), "column", by="score_rm", scale={"percentiles": [0, 100]})
    assert numbers(result) == [1.0, None, 10.0, None]
    assert result.lineage[-1].settings["unscored"] == {"non_finite_score": 2}


def test_several_scorers_at_once() -> None:
    scorers = {
        "score_short": {"with": "rules", "verify": {"with": "length", "high": 1}},
        "score_rm10": {"with": "column", "by": "score_rm", "scale": {"range": [-2, 2]}},
        "score_copy": {"with": "column", "by": "score_rm10"},
    }
    result = score(table(RAW), scorers)
    assert numbers(result, "score_short") == [1.0] * 6
    assert numbers(result, "score_copy") == [1.0, 5.5, 10.0, None, 10.0, 1.0]
    assert [step.settings["into"] for step in result.lineage] == list(scorers)


@pytest.mark.parametrize(
    ("scorers", "settings", "says"),
    [
        ({}, {}, "is empty"),
        ({"score_a": {"verify": "length"}}, {}, "with: NAME"),
        ({"score_a": 3}, {}, "with: NAME"),
        ({"a": "win_probability"}, {}, "'score' or 'score_<name>', not 'a'"),
        ({"score_a": {"with": "column", "into": "score"}}, {}, "leave out its into"),
        ({"score_a": "column"}, {"into": "score"}, "into belongs to one scorer"),
        ({"score_a": "column"}, {"by": "score"}, "by belongs to one scorer"),
    ],
)
def test_bad_mappings_of_scorers_are_sentences(scorers: Any, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        score(table(RAW), scorers, **settings)


def test_a_column_that_is_no_number_is_refused() -> None:
    with pytest.raises(InputError, match="no column of numbers 'score_rn'; did you mean 'score_rm'"):
        score(table(RAW), "column", by="score_rn")
    with pytest.raises(InputError, match="no column of numbers 'prompt_id'"):
        score(table(RAW), "column", by="prompt_id")
    with pytest.raises(InputError, match="names no column"):
        score(table(RAW), "column", by=[])
