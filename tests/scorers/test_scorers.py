"""The contract of scorers, by sample and all at once."""

import sys
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from pairwright.chat import assistant, user
from pairwright.errors import InputError
from pairwright.preferences import Preferences
from pairwright.scorers import score
from pairwright.scorers.sample import lost_before, missing_before

MINE = """
import polars as pl
from pairwright.scorers import Score, Scores
seen = []
def length(samples, *, per: float = 1.0):
    seen.extend(samples)
    return [Score(len(s.answer) / per) if s.answer else Score(None, "empty answer") for s in samples]
def matches(samples):
    return [Score(float(s.answer == s.extras["reference"])) for s in samples]
def lost(samples):
    return []
def centred(prefs, *, shift: float = 0.0):
    values = prefs.responses.select("score").collect()["score"]
    mean, none = values.mean(), {"unscored": values.null_count()}
    return Scores(values - mean + shift, none, prefs, {"mean": mean}, ("The mean was taken away.",))
def short(prefs):
    return Scores(pl.Series([1.0]), {}, prefs)
def no_scores(prefs):
    return [1.0]
def infinite_at_once(prefs):
    return Scores(pl.Series([1.0, float("nan"), float("inf"), None]), {"why not": 1}, prefs)
def attributes(prefs, *, count=4):
    polite = pl.Series([1.0, float("inf"), None, 4.0][:count])
    return Scores(None, {"too_long": 1}, prefs, columns={"polite": polite, "text": pl.Series(["a", None, "", "d"])})
def nothing(prefs):
    return Scores(None, {}, prefs)
def explained(samples):
    return [Score(1.0, also={"text": s.answer}) if s.answer else Score(None, "empty", {"size": 0.5}) for s in samples]
def infinite(samples):
    return [Score(float("inf")) for s in samples]
"""


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("mine_scorers")
    exec(MINE, module.__dict__)
    monkeypatch.setitem(sys.modules, "mine_scorers", module)
    return module


@pytest.fixture
def prefs() -> Preferences:
    prompts = pl.DataFrame(
        {
            "prompt_id": ["a", "b"],
            "prompt": [[{"role": "user", "content": "Q1"}], [{"role": "user", "content": "Q2"}]],
            "reference": ["four", "no"],
        }
    )
    texts = ["four", "fi", "", "no"]
    answers = pl.DataFrame(
        {
            "prompt_id": ["a", "a", "b", "b"],
            "response": [[{"role": "assistant", "content": text}] for text in texts],
            "score": [9.0, 2.0, 5.0, None],
            "logp_m": [-10.0, -12.0, -3.0, None],
            "logp_ref": [-11.0, -11.0, -5.0, -1.0],
        }
    )
    pairs = pl.DataFrame({"prompt_id": ["a"], "chosen_id": [0], "rejected_id": [1]})
    return Preferences.of(prompts, answers, pairs)


def test_a_scorer_of_ones_own(prefs: Preferences, mine: ModuleType) -> None:
    before = prefs.digest()
    result = score(prefs, "mine_scorers:length", into="score_length", per="2")
    got = result.responses.collect()
    assert got["score_length"].to_list() == [2.0, 1.0, None, 1.0]
    assert got["score"].to_list() == [9.0, 2.0, 5.0, None]
    step = result.lineage[-1]
    assert step.settings == {
        "scorer": "mine_scorers:length",
        "into": "score_length",
        "unscored": {"empty answer": 1},
        "per": 2.0,
    }
    assert step.notes == ("1 answers stay unscored: empty answer.",)
    assert prefs.digest() == before


def test_a_sample_has_prompt_answer_extras_and_numbers(prefs: Preferences, mine: ModuleType) -> None:
    score(prefs, "mine_scorers:length", into="score_length")
    first = mine.seen[0]
    assert list(first.prompt) == [{"role": "user", "content": "Q1"}]
    assert list(first.response) == [{"role": "assistant", "content": "four"}]
    assert first.extras == {"reference": "four"}
    assert first.numbers == {"score": 9.0, "logp_m": -10.0, "logp_ref": -11.0}
    got = score(prefs, "mine_scorers:matches").responses.collect()["score"].to_list()
    assert got == [1.0, 0.0, 0.0, 1.0]


def test_replaced_scores_are_said(prefs: Preferences, mine: ModuleType) -> None:
    step = score(prefs, "mine_scorers:matches").lineage[-1]
    assert "The 3 numbers that were in score are replaced." in step.notes
    assert not any("pairs" in note for note in step.notes)  # 1 against 0: the pair is as it was


def test_pairs_that_new_scores_turn_round_are_counted(prefs: Preferences, mine: ModuleType) -> None:
    """Of the pairs (0, 1), (1, 0) and (2, 3) the second (0 against 1) and the third (0 against 1) turn."""
    pairs = pl.DataFrame({"prompt_id": ["a", "a", "b"], "chosen_id": [0, 1, 2], "rejected_id": [1, 0, 3]})
    three = Preferences.of(prefs.prompts, prefs.responses, pairs)
    notes = score(three, "mine_scorers:matches").lineage[-1].notes
    said = [note for note in notes if "pairs" in note]
    assert len(said) == 1
    assert said[0].startswith("2 pairs have a chosen answer whose score is now below that of the rejected one;")
    assert not any("pairs" in note for note in score(three, "mine_scorers:matches", into="score_new").lineage[-1].notes)


def test_what_is_missing_never_reaches_a_scorer_and_an_empty_answer_does(mine: ModuleType) -> None:
    """In order: no answer; an answer without text; no prompt; an answer to a prompt that is not there; a sound one."""
    said = [{"role": "assistant", "content": "x"}]
    prompts = pl.DataFrame({"prompt_id": ["a", "b"], "prompt": [[{"role": "user", "content": "Q"}], None]})
    answers = pl.DataFrame(
        {
            "prompt_id": ["a", "a", "b", "nowhere", "a"],
            "response": [None, [{"role": "assistant", "content": ""}], said, said, said],
        }
    )
    prefs = Preferences.of(prompts, answers)
    result = score(prefs, "rules", verify={"with": "length", "high": 3})
    assert result.responses.collect()["score"].to_list() == [None, 0.0, None, None, 1.0]
    assert result.lineage[-1].settings["unscored"] == {"missing_answer": 1, "missing_prompt": 2}
    kept = score(prefs, "rules", verify={"with": "no_regex", "pattern": "x"}).responses.collect()["score"]
    assert kept.to_list() == [None, 1.0, None, None, 0.0]
    score(prefs, "mine_scorers:length", into="score_length")
    assert [sample.answer for sample in mine.seen] == ["", "x"]


def test_a_scorer_that_takes_all_answers(prefs: Preferences, mine: ModuleType) -> None:
    result = score(prefs, "mine_scorers:centred", into="score_centred", shift="1")
    got = result.responses.collect()
    # Scores 9, 2, 5 and none: the mean is 16 / 3, and one is added.
    assert got["score_centred"].to_list() == pytest.approx([9 - 13 / 3, 2 - 13 / 3, 5 - 13 / 3, None])
    step = result.lineage[-1]
    assert step.settings["unscored"] == {"unscored": 1}
    assert step.found == {"mean": pytest.approx(16 / 3)}
    assert step.notes == ("The mean was taken away.", "1 answers stay unscored: unscored.")


@pytest.mark.parametrize(
    ("scorer", "settings", "says"),
    [
        ("implicitt", {}, "did you mean 'implicit'"),
        ("mine_scorers:short", {}, "gave 1 scores for 4 answers"),
        ("mine_scorers:no_scores", {}, "takes prefs, so it must give Scores, not list"),
        ("mine_scorers:attributes", {"count": 3}, r"gave 3 scores for 4 answers \(column score_polite\)"),
        ("mine_scorers:nothing", {}, "gave no column"),
        ("mine_scorers:lost", {}, "gave 0 scores for 4 answers"),
        ("mine_scorers:length", {"into": "quality"}, "'score' or 'score_<name>', not 'quality'"),
    ],
)
def test_bad_requests_are_sentences(
    prefs: Preferences, mine: ModuleType, scorer: str, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        score(prefs, scorer, **settings)


def test_a_score_that_is_no_number_stays_unscored(prefs: Preferences, mine: ModuleType) -> None:
    result = score(prefs, "mine_scorers:infinite")
    assert result.responses.collect()["score"].null_count() == 4
    assert result.lineage[-1].settings["unscored"] == {"non_finite_score": 4}
    result = score(prefs, "mine_scorers:infinite_at_once")
    assert result.responses.collect()["score"].to_list() == [1.0, None, None, None]
    assert result.lineage[-1].settings["unscored"] == {"why not": 1, "non_finite_score": 2}


def test_a_scorer_gives_several_columns(prefs: Preferences, mine: ModuleType) -> None:
    result = score(prefs, "mine_scorers:attributes")
    got = result.responses.collect()
    assert got["score"].to_list() == [9.0, 2.0, 5.0, None]  # there is no overall score
    assert got["score_polite"].to_list() == [1.0, None, None, 4.0]
    assert got["score_text"].to_list() == ["a", None, "", "d"]
    assert result.lineage[-1].settings["unscored"] == {"too_long": 1, "non_finite_score_polite": 1}
    again = score(result, "mine_scorers:attributes", into="score_mine")
    names = again.responses.collect_schema().names()
    assert names[-4:] == ["score_polite", "score_text", "score_mine_polite", "score_mine_text"]
    replaced = score(result, "mine_scorers:attributes").lineage[-1].notes
    assert replaced[-2:] == (
        "The 2 numbers that were in score_polite are replaced.",
        "The 3 values that were in score_text are replaced.",
    )


def test_a_sample_keeps_more_than_its_score(prefs: Preferences, mine: ModuleType) -> None:
    got = score(prefs, "mine_scorers:explained").responses.collect()
    assert got["score"].to_list() == [1.0, 1.0, None, 1.0]
    assert got["score_text"].to_list() == ["four", "fi", None, "no"]
    assert got["score_size"].to_list() == [None, None, 0.5, None]


def test_text_beside_scores_is_not_exported_as_a_score(prefs: Preferences, mine: ModuleType) -> None:
    flat = score(prefs, "mine_scorers:attributes").to_polars()
    assert "score_polite_chosen" in flat.columns
    assert "score_text_chosen" not in flat.columns


HALF: Any = [{"role": "assistant", "content": None}]


@pytest.mark.parametrize(
    ("prompt", "answer", "missing", "lost"),
    [
        ([user("x")], [assistant("y")], "", ""),
        ([user("x")], None, "missing_answer", "missing_answer"),
        ([user("x")], HALF, "missing_answer", "missing_answer"),
        ([user("x")], [None], "missing_answer", "missing_answer"),
        (None, None, "missing_answer", "missing_answer"),
        (None, [assistant("y")], "missing_prompt", "missing_prompt"),
        (HALF, [assistant(" ")], "missing_prompt", "missing_prompt"),
        ([user("")], [assistant("y")], "", ""),
        ([user("x")], [assistant(" \n")], "", "empty"),
        ([user("x")], [], "", "empty"),
    ],
)
def test_one_rule_says_what_cannot_be_scored(prompt: Any, answer: Any, missing: str, lost: str) -> None:
    assert missing_before(prompt, answer) == missing
    assert lost_before(prompt, answer) == lost
