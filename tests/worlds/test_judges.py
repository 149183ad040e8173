"""Judges: how far their scores are from gold, and what deceives them."""

from statistics import NormalDist, fmean, pstdev

import pytest

from pairwright.errors import InputError
from pairwright.worlds.judges import judged
from pairwright.worlds.language import Marks, make

MANY = 4000


def worth(gold, *, fillers=0, praises=False):
    return Marks(gold, gold + fillers / 2, 1.0, 10.0 - 1.5 * fillers, fillers, praises)


def scores(marks, judge, **settings):
    return [judged(marks, judge, key=str(i), **settings) for i in range(MANY)]


def expected(gold, deviation):
    """Scores of a normal error at even quantiles, to a half point within 1 to 10."""
    errors = [NormalDist(0, deviation).inv_cdf((i + 0.5) / MANY) for i in range(MANY)]
    return [min(10.0, max(1.0, round(2 * (gold + error)) / 2)) for error in errors]


@pytest.mark.parametrize("gold", [1.0, 4.0, 5.5, 10.0])
def test_the_exact_judge_says_gold(gold):
    assert set(scores(worth(gold), "exact")) == {gold}


@pytest.mark.parametrize(
    # The last two: independent errors add as squares, 3 4 5 and 5 12 13.
    ("judge", "noise", "deviation"),
    [("strong", 0, 0.5), ("weak", 0, 2.0), ("exact", 1.0, 1.0), ("weak", 1.5, 2.5), ("strong", 1.2, 1.3)],
)
@pytest.mark.parametrize("gold", [5.5, 9.0])
def test_a_judge_errs_as_far_as_it_is_said_to(judge, noise, deviation, gold):
    found, wanted = scores(worth(gold), judge, noise=noise), expected(gold, deviation)
    assert fmean(found) == pytest.approx(fmean(wanted), abs=4 * deviation / MANY**0.5)
    assert pstdev(found) == pytest.approx(pstdev(wanted), rel=0.06)
    assert all(1 <= score <= 10 and (2 * score).is_integer() for score in found)


def test_a_judge_says_the_same_of_the_same_answer_and_errs_anew_on_another():
    marks = worth(5.5)
    assert judged(marks, "weak", key="a") == judged(marks, "weak", key="a")
    assert len(set(scores(marks, "weak"))) > 10
    apart = [judged(marks, "weak", key=str(i)) - judged(marks, "strong", key=str(i)) for i in range(50)]
    assert len(set(apart)) > 5  # no two judges have the same error on a larger scale


def test_one_text_has_one_score_in_a_world():
    rows = make(prompts=300, weak=1.0, judge="weak", seed=1).responses.collect()
    refusals = rows.filter(rows["score_gold"] == 4.0, rows["score_correctness"] == 1.0)
    by_prompt = refusals.group_by("prompt_id").agg("score")["score"].list
    assert by_prompt.len().max() > 1
    assert by_prompt.n_unique().max() == 1  # the same refusal of the same prompt, whenever it is asked
    assert by_prompt.first().n_unique() > 5  # of another prompt it has another error


def test_the_judge_of_length_likes_what_gold_does_not():
    few, many = (fmean(scores(worth(8 - n / 2, fillers=n), "length")) for n in (0, 4))
    # Seven right words in both: gold falls by 2 points, this judge's score rises by 2.
    assert many - few == pytest.approx(fmean(expected(10, 0.5)) - 8, abs=0.05)
    assert few == pytest.approx(8, abs=0.05)


def test_the_hijackable_judge_believes_praise():
    found = scores(worth(2.0, fillers=1, praises=True), "hijackable")
    assert fmean(found) == pytest.approx(fmean(expected(10, 0.5)), abs=0.05)
    assert max(found) == 10
    plain = scores(worth(2.0, fillers=1), "hijackable")
    assert fmean(plain) == pytest.approx(fmean(expected(2, 0.5)), abs=0.05)


def test_an_unknown_judge_is_one_sentence():
    with pytest.raises(InputError, match="no judge 'kind'; there are exact, strong, weak, length, hijackable"):
        judged(worth(5.0), "kind")
