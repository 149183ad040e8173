"""What a judge's text and its log-probabilities say, by hand."""

import math
from typing import Any

import pytest

from pairwright.scorers.judge.compared import Outcome, agreed, averaged, settle
from pairwright.scorers.judge.readings import (
    Judged,
    Reading,
    Verdict,
    expected,
    said,
    verdict_expected,
    verdict_said,
)
from pairwright.served import Answer, Failure, Token


def text(words: str, **more: Any) -> Answer:
    return Answer(words, **{"stopped": "stop", **more})


@pytest.mark.parametrize(
    ("words", "reading"),
    [
        ("Good. [[7]]", Reading(7.0)),
        ("[[ 10 ]]", Reading(10.0)),
        ("[[1]]", Reading(1.0)),
        ("[[7.5]]", Reading(7.5)),
        ("[[7]] and once more [[7]]", Reading(7.0)),
        ("<think>maybe [[3]]</think>So [[7]]", Reading(7.0)),
        ("It cites [[Paris]]. [[7]]", Reading(7.0)),
        ("[[0]]", Reading(None, "out_of_range")),
        ("[[11]]", Reading(None, "out_of_range")),
        ("[[-3]]", Reading(None, "out_of_range")),
        ("[[none]]", Reading(None, "abstained")),
        ("[[7]] or [[8]]", Reading(None, "several_verdicts")),
        ("[[7]] and once more [[7.0]]", Reading(7.0)),
        ("I write [[rating]]. [[7]]", Reading(7.0)),
        ("[[7]], in short [[8/10]]", Reading(None, "several_verdicts")),
        ("[[8/10]], so [[8]]", Reading(None, "several_verdicts")),
        ("[[helpfulness: 3]] [[9]]", Reading(None, "several_verdicts")),
        ("[[7]], or [[none]]", Reading(None, "several_verdicts")),
        ("[[7/10]]", Reading(None, "unreadable")),
        ("[[rating]]", Reading(None, "unreadable")),
        ("7", Reading(None, "no_verdict")),
        ("Rating: [7]", Reading(None, "no_verdict")),
        ("I cannot help with that.", Reading(None, "no_verdict")),
        ("", Reading(None, "no_verdict")),
        ("<think>surely [[9]]", Reading(None, "cut_off")),
        ("[[inf]]", Reading(None, "unreadable")),
        ("[[1e1]]", Reading(None, "unreadable")),
    ],
)
def test_a_rating_is_one_number_in_double_brackets_or_nothing(words: str, reading: Reading) -> None:
    assert said(text(words), None, 1, 10) == reading


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Failure("timed_out"), "timed_out"),
        (text("", refusal="No."), "refused"),
        (text("[[7]]", refusal="No."), "refused"),
        (text("[[7]]", stopped="content_filter"), "refused"),
        (text("It is good, since", stopped="length"), "cut_off"),
    ],
)
def test_what_is_no_text_has_a_reason(answer: Answer | Failure, why: str) -> None:
    assert said(answer, None, 1, 10) == Reading(None, why)
    assert expected(answer, None, 1, 10) == Reading(None, why)
    assert verdict_said(answer) == verdict_expected(answer) == Judged(None, None, why)


def test_an_attribute_is_read_by_its_name_alone() -> None:
    words = text("[[helpfulness: 7]]\n[[honesty : none]] [[Truth: 3]] [[9]] [[depth: 4]] [[depth: 5]]")
    assert said(words, "helpfulness", 1, 10) == Reading(7.0)
    assert said(words, "truth", 1, 10) == Reading(3.0)
    assert said(words, "honesty", 1, 10) == Reading(None, "abstained")
    assert said(words, "depth", 1, 10) == Reading(None, "several_verdicts")
    assert said(words, "fulness", 1, 10) == Reading(None, "unreadable")
    assert said(text("[[depth: 4]] [[depth: 8/10]] [[9]]"), "depth", 1, 10) == Reading(None, "several_verdicts")
    assert said(text("[[depth: high]] [[depth: 4]]"), "depth", 1, 10) == Reading(None, "several_verdicts")
    assert said(text("[[depth: 4]] [[honesty: 8/10]]"), "depth", 1, 10) == Reading(4.0)


def token(word: str, **top: float) -> Token:
    """A token, drawn with the probability of its own; `top` are probabilities, `_` before a digit is left out."""
    named = {key.lstrip("_"): math.log(value) for key, value in top.items()}
    return Token(word, named.get(word.strip("[] "), math.log(0.9)), tuple(named.items()))


def rated(*tokens: Token) -> Answer:
    return Answer("".join(each.text for each in tokens), "stop", None, tokens)


def test_the_mean_rating_under_the_probabilities_by_hand() -> None:
    """Half 7, a quarter 8, a quarter 9: 3.5 + 2 + 2.25 = 7.75. Of 0.8, (0.5 * 7 + 0.3 * 8) / 0.8 = 7.375."""
    whole = rated(Token("So ", -0.1), Token("[[", -0.1), token("7", _7=0.5, _8=0.25, _9=0.25), Token("]]", -0.1))
    assert expected(whole, None, 1, 10).value == pytest.approx(7.75, abs=1e-12)
    part = rated(Token("[[", -0.1), token("7", _7=0.5, _8=0.3, _11=0.1, none=0.1), Token("]]", -0.1))
    assert expected(part, None, 1, 10).value == pytest.approx(7.375, abs=1e-12)


def test_brackets_in_the_token_of_the_number_and_a_drawn_token_that_is_not_listed() -> None:
    """p(7) = 0.6 of the drawn token itself and 0.4 of `[[9`: 0.6 * 7 + 0.4 * 9 = 7.8."""
    answer = rated(Token("[[7", math.log(0.6), (("[[9", math.log(0.4)),)), Token("]]", -0.1))
    assert expected(answer, None, 1, 10).value == pytest.approx(7.8, abs=1e-12)


def test_digits_that_are_tokens_of_their_own() -> None:
    """p("1") = 0.6, then "0" and "]]" with 1/2 each: p(10) = p(1) = 0.3, and p(7) = 0.4: 3 + 0.3 + 2.8 = 6.1."""
    first = token("1", _1=0.6, _7=0.4)
    half = math.log(0.5)
    for second in (
        Token("0", half, (("0", half), ("]]", half))),
        Token("]]", half, (("0", half), ("]]", half))),
        Token("]]", half, (("0]]", half),)),
    ):
        answer = rated(Token("[[", -0.1), first, second, Token("]]", -0.1))
        assert expected(answer, None, 1, 10).value == pytest.approx(6.1, abs=1e-12)
    longer = rated(Token("[[", -0.1), token("7", _7=1.0), Token("]]", half, (("5", half),)))
    assert expected(longer, None, 1, 10).value == 7.0  # 75 is no rating


def test_a_first_digit_that_was_not_drawn_is_no_rating_where_it_may_go_on() -> None:
    """Drawn 7 of 0.6, 0.4 on "1", which may be 1 or 10 digit by digit: 7 is what is left. Counted as 1 it were 4.6."""
    answer = rated(Token("[[", -0.1), token("7", _7=0.6, _1=0.4), Token("]]", 0.0))
    assert expected(answer, None, 1, 10).value == pytest.approx(7.0, abs=1e-12)
    # To 9 there is no longer number, so 1 is 1: 4.2 + 0.4.
    assert expected(answer, None, 1, 9).value == pytest.approx(4.6, abs=1e-12)
    # A tokenizer that has "10" writes it at once, so its "1" is 1: 0.5 * 7 + 0.3 * 1 + 0.2 * 10 = 5.8.
    whole = rated(Token("[[", -0.1), token("7", _7=0.5, _1=0.3, _10=0.2), Token("]]", 0.0))
    assert expected(whole, None, 1, 10).value == pytest.approx(5.8, abs=1e-12)
    # A token that closes the brackets ends the number: 0.5 * 7 + 0.5 * 1.
    closed = rated(Token("[[", -0.1), Token("7]]", math.log(0.5), (("1]]", math.log(0.5)),)))
    assert expected(closed, None, 1, 10).value == pytest.approx(4.0, abs=1e-12)
    little = rated(Token("[[", -0.1), token("7", _7=0.4, _1=0.6), Token("]]", 0.0))
    assert expected(little, None, 1, 10) == Reading(None, "little_mass")


@pytest.mark.parametrize("words", [("7.5",), ("7", ".5"), ("7", ".", "5")])
def test_a_rating_between_the_whole_numbers_has_no_mean_of_whole_numbers(words: tuple[str, ...]) -> None:
    answer = rated(Token("[[", -0.1), *(Token(word, -0.1) for word in words), Token("]]", -0.1))
    assert said(answer, None, 1, 10) == Reading(7.5)
    assert expected(answer, None, 1, 10) == Reading(None, "not_whole")
    whole = rated(Token("[[", -0.1), Token("7", 0.0), Token(".", 0.0), Token("0", 0.0), Token("]]", -0.1))
    assert expected(whole, None, 1, 10) == Reading(7.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.5, 1000.0])
def test_log_probabilities_that_are_none_give_no_number(bad: float) -> None:
    """Also beside a sound one, and where each could be one but both together are more than 1."""
    for seven in (
        Token("7", bad),
        Token("7", -0.7, (("7", -0.7), ("8", bad))),
        Token("7", -0.1, (("7", -0.1), ("8", -0.1))),
    ):
        answer = rated(Token("[[", -0.1), seven, Token("]]", -0.1))
        assert said(answer, None, 1, 10) == Reading(7.0)
        assert expected(answer, None, 1, 10) == Reading(None, "bad_logprobs")
    for a in (Token("A", bad), Token("A", -0.7, (("A", -0.7), ("B", bad))), Token("A", -0.1, (("B", -0.1),))):
        assert verdict_expected(rated(Token("[[", -0.1), a, Token("]]", 0.0))) == Judged(None, None, "bad_logprobs")
    never = rated(Token("[[", -0.1), Token("7", 1e-4, (("8", -math.inf),)), Token("]]", 0.0))
    assert expected(never, None, 1, 10).value == pytest.approx(7.0)  # rounding, and what cannot come


def test_a_number_of_three_digits_that_are_tokens_of_their_own() -> None:
    """0 to 100: p(1) = 0.8, p(0 | 1) = 0.9, p(0 | 10) = 0.75: p(100) = 0.54, p(10) = 0.18, p(1) = 0.08 by the brackets.

    The 2 beside the 1 may be 2 or 20 to 29 and is left out: (54 + 1.8 + 0.08) / 0.8 = 69.85.
    """
    answer = rated(
        Token("[[", -0.1),
        token("1", _1=0.8, _2=0.2),
        Token("0", math.log(0.9), (("0", math.log(0.9)), ("]]", math.log(0.1)))),
        Token("0", math.log(0.75), (("0", math.log(0.75)), ("]]", math.log(0.25)))),
        Token("]]", 0.0),
    )
    assert expected(answer, None, 0, 100).value == pytest.approx(69.85, abs=1e-9)


def test_the_place_is_that_of_the_verdict_and_not_of_a_number_before_it() -> None:
    tokens = [Token("3", -0.1, (("3", -0.1),)), Token(" [[x]] [[", -0.1), token("8", _8=1.0), Token("]]", -0.1)]
    assert expected(rated(*tokens), None, 1, 10) == Reading(8.0)
    thought = [Token("<think>[[", 0.0), token("3", _3=1.0), Token("]]</think>[[", 0.0), token("8", _8=0.5, _6=0.5)]
    assert expected(rated(*thought, Token("]]", 0.0)), None, 1, 10).value == pytest.approx(7.0)
    attributes = [Token("[[a: ", 0.0), token("8", _8=0.5, _6=0.5), Token("]] [[b:", 0.0), token("2", _2=1.0)]
    assert expected(rated(*attributes, Token("]]", 0.0)), "a", 1, 10).value == pytest.approx(7.0)
    assert expected(rated(*attributes, Token("]]", 0.0)), "b", 1, 10).value == pytest.approx(2.0)


def test_what_the_probabilities_do_not_say_is_not_scored() -> None:
    little = rated(Token("[[", -0.1), token("7", _7=0.3, x=0.7), Token("]]", -0.1))
    assert expected(little, None, 1, 10) == Reading(None, "little_mass")
    assert expected(text("[[7]]"), None, 1, 10) == Reading(None, "no_logprobs")
    assert expected(text("nothing"), None, 1, 10) == Reading(None, "no_verdict")


@pytest.mark.parametrize(
    ("words", "judged"),
    [
        ("[[A]]", Judged(Verdict.FIRST, 1.0)),
        ("so: [[ B ]]", Judged(Verdict.SECOND, 0.0)),
        ("[[C]]", Judged(Verdict.TIE, 0.5)),
        ("[[D]]", Judged(Verdict.ABSTAINED)),
        ("By [[Rule 3]] it is [[A]]", Judged(Verdict.FIRST, 1.0)),
        ("[[A]], that is [[A>B]]", Judged(None, None, "several_verdicts")),
        ("[[B > A]] [[B]]", Judged(None, None, "several_verdicts")),
        ("[[b]] [[A]]", Judged(None, None, "several_verdicts")),
        ("[[A]] rather than [[B]]", Judged(None, None, "several_verdicts")),
        ("A", Judged(None, None, "no_verdict")),
        ("[[A>B]]", Judged(None, None, "unreadable")),
        ("[[a]]", Judged(None, None, "unreadable")),
    ],
)
def test_a_verdict_is_one_letter_in_double_brackets(words: str, judged: Judged) -> None:
    assert verdict_said(text(words)) == judged


def test_the_share_of_the_first_answer_by_hand() -> None:
    """p(A) = 0.6, p(B) = 0.2, p(C) = 0.1 of 0.9: (0.6 + 0.05) / 0.9."""
    answer = rated(Token("[[", -0.1), token("A", A=0.6, B=0.2, C=0.1, D=0.1), Token("]]", -0.1))
    assert verdict_expected(answer) == Judged(Verdict.FIRST, pytest.approx(0.65 / 0.9, abs=1e-12))
    other = rated(Token("[[", -0.1), token("B", A=0.4, B=0.6), Token("]]", -0.1))
    assert verdict_expected(other) == Judged(Verdict.SECOND, pytest.approx(0.4, abs=1e-12))
    little = rated(Token("[[", -0.1), token("A", A=0.3, D=0.7), Token("]]", -0.1))
    assert verdict_expected(little) == Judged(None, None, "little_mass")
    assert verdict_expected(text("[[A]]")) == Judged(None, None, "no_logprobs")
    assert verdict_expected(text("[[D]]")) == Judged(Verdict.ABSTAINED)


def test_two_orders_must_agree_else_it_is_a_tie() -> None:
    """Rows: the verdict on (i, j); columns: on (j, i), where `first` means j."""
    first, second, tie, none = Verdict.FIRST, Verdict.SECOND, Verdict.TIE, Verdict.ABSTAINED
    wanted = {
        (first, second): Outcome.FIRST,
        (second, first): Outcome.SECOND,
        (tie, tie): Outcome.TIE,
        (first, first): Outcome.POSITION_FLIP,
        (second, second): Outcome.POSITION_FLIP,
        (first, tie): Outcome.HALF_TIE,
        (tie, first): Outcome.HALF_TIE,
        (second, tie): Outcome.HALF_TIE,
        (tie, second): Outcome.HALF_TIE,
    }
    assert {pair: settle(*pair) for pair in wanted} == wanted
    assert {settle(none, each) for each in Verdict} | {settle(each, none) for each in Verdict} == {Outcome.ABSTAINED}
    assert {settle(None, each) for each in Verdict} | {settle(each, None) for each in Verdict} == {Outcome.UNANSWERED}


def test_the_win_of_a_comparison() -> None:
    one, other = Judged(Verdict.FIRST, 0.9), Judged(Verdict.FIRST, 0.7)
    assert [agreed(each, one, other) for each in (Outcome.FIRST, Outcome.SECOND, Outcome.TIE)] == [1.0, 0.0, 0.5]
    assert agreed(Outcome.POSITION_FLIP, one, other) == agreed(Outcome.HALF_TIE, one, other) == 0.5
    assert averaged(Outcome.POSITION_FLIP, one, other) == pytest.approx(0.6)  # (0.9 + 1 - 0.7) / 2
