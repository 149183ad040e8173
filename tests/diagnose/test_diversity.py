"""Diversity by hand, by simulation of the expectation, and on planted collapses."""

import numpy as np
import polars as pl
import pytest

from pairwright.diagnose.answers import ANSWERS, Answers
from pairwright.diagnose.diversity import diversity, expectation_adjusted, words
from pairwright.errors import InputError


def said(name: str, texts: list[str], prompts: list[str] | None = None) -> Answers:
    n = len(texts)
    known = {"prompt_id": prompts or [f"p{i}" for i in range(n)], "text": texts}
    frame = pl.DataFrame({column: known.get(column, [None] * n) for column in ANSWERS})
    return Answers(name, frame.select(pl.col(column).cast(kind) for column, kind in ANSWERS.items()))


def talk(n: int, *, vocabulary: int, length: int = 40, seed: int = 0) -> list[str]:
    draw = np.random.default_rng(seed)
    return [" ".join(f"w{i}" for i in draw.integers(0, vocabulary, length)) for _ in range(n)]


def test_words_are_runs_of_letters_and_single_marks() -> None:
    assert words("Don't stop: it's 3.5!") == ["don", "'", "t", "stop", ":", "it", "'", "s", "3", ".", "5", "!"]


def test_the_adjusted_share_of_two_draws_from_two_symbols_is_by_hand() -> None:
    """Two draws from {a, b}: 1.5 distinct ones are expected (2 (1 - 1/4)); both different is 4/3, both alike 2/3."""
    assert expectation_adjusted(2, 2, 2) == pytest.approx(4 / 3)
    assert expectation_adjusted(1, 2, 2) == pytest.approx(2 / 3)


@pytest.mark.parametrize(("vocabulary", "total"), [(10, 5), (50, 200), (1000, 300)])
def test_uniform_draws_have_an_adjusted_share_of_one(vocabulary: int, total: int) -> None:
    draw = np.random.default_rng(0)
    found = [
        expectation_adjusted(len(np.unique(draw.integers(0, vocabulary, total))), total, vocabulary)
        for _ in range(2000)
    ]
    assert np.mean(found) == pytest.approx(1.0, abs=0.01)


def test_the_adjusted_share_keeps_its_digits_at_a_large_vocabulary() -> None:
    """C draws from very many symbols are expected to be C distinct ones."""
    assert expectation_adjusted(5, 5, 1e15) == pytest.approx(1.0, rel=1e-12)
    assert expectation_adjusted(1, 7, 1) == 1.0
    assert np.isnan(expectation_adjusted(0, 0, 10))


def test_n_grams_are_counted_over_all_answers_and_cross_none() -> None:
    """a b a b | a b c: words a, b, c of 7; pairs ab, ba, bc of 5 (ab ba ab | ab bc); no ba across the two answers."""
    part = diversity(said("dpo", ["a b a b", "a b c"]), said("start", ["a b c d e f", "g h i j k l"]))
    rows = {row["n"]: row for row in part.result.table}
    assert (rows[1]["distinct"], rows[1]["total"]) == (3, 7)
    assert (rows[2]["distinct"], rows[2]["total"]) == (3, 5)
    assert (rows[2]["distinct_start"], rows[2]["total_start"]) == (10, 10)
    assert rows[5]["adjusted"] is None
    v = 12  # a to l
    by_hand = [(3, 7), (3, 5), (3, 3), (1, 1)]  # triples aba bab | abc, one quadruple
    value = np.mean([d / (v * (1 - ((v - 1) / v) ** c)) for d, c in by_hand])
    assert part.result.metric("distinct/policy").value == pytest.approx(value)
    assert part.result.metric("difference").value < 0
    assert any("n = 5" in note for note in part.result.notes)


def test_a_collapse_is_a_warning_and_the_same_voice_is_not() -> None:
    start = said("start", talk(60, vocabulary=400, seed=1))
    collapsed = diversity(said("dpo", talk(60, vocabulary=40, seed=2)), start)
    assert collapsed.findings[0].level == "warning"
    assert collapsed.findings[0].high < 0
    assert collapsed.findings[0].n == 60
    wider = diversity(start, said("base", talk(60, vocabulary=40, seed=2)))
    assert (wider.findings[0].level, wider.findings[0].value > 0) == ("note", True)


def test_two_draws_of_one_voice_differ_beyond_doubt_about_as_often_as_said() -> None:
    """40 times the same voice: 95% intervals miss 0 twice on average, and more than 8 times with probability 1e-4."""
    missed = 0
    for seed in range(40):
        one = said("a", talk(40, vocabulary=200, length=20, seed=2 * seed))
        two = said("b", talk(40, vocabulary=200, length=20, seed=2 * seed + 1))
        gap = diversity(one, two, draws=100, seed=seed).result.metric("difference")
        missed += not gap.low < 0 < gap.high
    assert missed <= 8


def test_empty_answers_and_answers_that_everybody_gets_are_counted() -> None:
    """Ten prompts: two empty; "sorry" three times; one prompt got "yes" twice, which is none across prompts."""
    texts = ["", " ", "sorry", "sorry", "sorry ", "one", "two", "three", "four", "five", "yes", "yes"]
    prompts = [f"p{i}" for i in range(10)] + ["p10", "p10"]
    start = said("start", [f"answer {i}" for i in range(11)])
    part = diversity(said("dpo", texts, prompts), start)
    assert part.result.metric("empty/policy").value == pytest.approx(2 / 12)
    assert part.result.metric("same/policy").value == pytest.approx(3 / 12)
    assert part.result.metric("same/start").value == 0.0
    levels = {each.check: each.level for each in part.findings}
    assert levels["same_answers"] == "note"


def test_a_model_that_says_one_thing_to_all_is_a_warning() -> None:
    start = said("start", talk(40, vocabulary=200))
    levels = {each.check: each.level for each in diversity(said("dpo", ["i do not know"] * 40), start).findings}
    assert levels["same_answers"] == "warning"
    assert levels["empty_answers"] == "fine"


def test_only_prompts_that_both_answered_count() -> None:
    one = said("dpo", ["a b c d e f"], ["p0"])
    two = said("start", ["a b c d e f", "other words that nobody reads"], ["p0", "p1"])
    part = diversity(one, two)
    assert part.result.metric("difference").value == 0.0
    assert part.result.n == 1
    assert part.result.metric("difference").low is None


def test_a_given_vocabulary_is_used_for_both() -> None:
    part = diversity(said("dpo", ["a b"]), said("start", ["a c"]), vocabulary=1000)
    assert part.result.settings["vocabulary"] == 1000
    assert part.result.table[0]["adjusted"] == pytest.approx(2 / (1000 * (1 - 0.999**2)))


def test_nothing_in_common_and_nothing_said_are_refused() -> None:
    with pytest.raises(InputError, match="no prompt in common"):
        diversity(said("a", ["x"], ["p"]), said("b", ["x"], ["q"]))
    with pytest.raises(InputError, match="says nothing"):
        diversity(said("a", [""]), said("b", ["x"]))
