"""P(an answer beats the others): by numpy, by hand, whatever the order of the rows."""

import math

import numpy as np
import polars as pl
import pytest

from pairwright.errors import InputError
from pairwright.preferences import Preferences
from pairwright.scorers import score

COLUMN = "score_win_probability"


def table(scores: list[float | None], prompts: str, *, order: list[int] | None = None) -> Preferences:
    names = sorted(set(prompts))
    frame = pl.DataFrame({"prompt_id": names, "prompt": [[{"role": "user", "content": name}] for name in names]})
    answers = pl.DataFrame(
        {
            "response_id": range(len(scores)),
            "prompt_id": list(prompts),
            "response": [[{"role": "assistant", "content": str(i)}] for i in range(len(scores))],
            "score": pl.Series(scores, dtype=pl.Float64),
            "score_help": pl.Series(scores[::-1], dtype=pl.Float64),
        }
    )
    return Preferences.of(frame, answers if order is None else answers[order])


def wins(prefs: Preferences) -> list[float | None]:
    return prefs.responses.select(COLUMN).collect()[COLUMN].to_list()


def test_three_answers_by_hand() -> None:
    """Scores ln 1, ln 2, ln 4: the odds of i against j are the quotient, so sigmoid(s_i - s_j) = a_i / (a_i + a_j).

    Of 1, 2, 4: (1/2 + 1/3 + 1/5) / 3 = 31/90, (2/3 + 1/2 + 1/3) / 3 = 1/2, (4/5 + 2/3 + 1/2) / 3 = 59/90.
    """
    result = score(table([math.log(2), 0.0, math.log(4)], "aaa"), "win_probability")
    assert wins(result) == pytest.approx([1 / 2, 31 / 90, 59 / 90], abs=1e-12)
    assert result.responses.collect()["score"].to_list() == [math.log(2), 0.0, math.log(4)]  # they stay
    assert result.lineage[-1].settings == {
        "scorer": "win_probability",
        "into": COLUMN,
        "unscored": {},
        "by": "score",
        "unit": 1.0,
    }


def test_the_unit_is_that_of_log_odds() -> None:
    """sigmoid(ln 16 / 2) = sigmoid(ln 4) = 4 / 5, and the mean of that and 1/2 is 0.65."""
    result = score(table([math.log(16), 0.0], "aa"), "win_probability", unit="2")
    assert wins(result) == pytest.approx([0.65, 0.35], abs=1e-12)


def test_prompts_do_not_meet_and_numpy_agrees() -> None:
    drawn = np.random.default_rng(0)
    scores, prompts = drawn.normal(0, 3, 40), "".join(drawn.choice(list("abcdef"), 40))
    got = wins(score(table(scores.tolist(), prompts), "win_probability", unit=1.5))
    for i in range(40):
        rivals = scores[[j for j in range(40) if prompts[j] == prompts[i]]]
        assert got[i] == pytest.approx(np.mean(1 / (1 + np.exp((rivals - scores[i]) / 1.5))), abs=1e-12)
    for name in set(prompts):
        assert np.mean([p for p, of in zip(got, prompts, strict=True) if of == name]) == pytest.approx(0.5)


def test_the_order_of_the_rows_changes_no_bit() -> None:
    scores = [0.3, 7.1, -2.2, 1e-3, 5.5, 0.1, 0.7]
    plain = wins(score(table([*scores], "aaaabaa"), "win_probability"))
    order = [6, 2, 4, 0, 5, 1, 3]
    turned = wins(score(table([*scores], "aaaabaa", order=order), "win_probability"))
    assert turned == [plain[i] for i in order]


def test_what_cannot_be_compared_stays_unscored() -> None:
    result = score(table([1.0, None, 1.0, float("nan"), 2.0, 5.0, None], "aaabbcd"), "win_probability")
    assert wins(result) == [0.5, None, 0.5, None, None, None, None]
    assert result.lineage[-1].settings["unscored"] == {
        "unscored": 2,
        "non_finite_score": 1,
        "fewer_than_two_scored": 2,
    }


def test_scores_far_apart_reach_the_ends() -> None:
    got = wins(score(table([1e4, -1e4, 0.0], "aaa"), "win_probability"))
    # Of three answers (1/2 + 1 + 1) / 3 and (1/2 + 0 + 0) / 3.
    assert got == pytest.approx([5 / 6, 1 / 6, 1 / 2], abs=1e-12)


def test_another_column_to_read_and_another_to_write() -> None:
    prefs = table([0.0, math.log(3)], "aa")
    result = score(prefs, "win_probability", by="score_help", into="score_p")
    # The other order: ln 3 and 0 give (3/4 + 1/2) / 2 = 0.625.
    assert result.responses.collect()["score_p"].to_list() == pytest.approx([0.625, 0.375])
    assert COLUMN not in result.responses.collect_schema()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"by": "score_hepl"}, "no column of numbers 'score_hepl'; did you mean 'score_help'"),
        ({"by": "response"}, "no column of numbers 'response'"),
        ({"unit": 0}, "greater than 0"),
        ({"unit": float("inf")}, "finite"),
    ],
)
def test_bad_requests_are_sentences(settings: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        score(table([0.0, 1.0], "aa"), "win_probability", **settings)
