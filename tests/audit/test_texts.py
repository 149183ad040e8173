"""Each check on texts: a planted case that it must find, by row, and data in which it must find nothing."""

from collections.abc import Callable

import pytest

from pairwright.audit import prompts, texts
from pairwright.chat import assistant, system, user
from pairwright.preferences import Preferences

Made = Callable[..., Preferences]
FINE = ("fine", "one", "two", 3.0, 2.0)


@pytest.mark.parametrize(
    "check",
    [
        texts.equal_text,
        texts.equal_text_different_score,
        texts.empty_chosen,
        texts.empty_rejected,
        texts.empty_answer,
        texts.control_characters,
        texts.same_role_turns,
        prompts.prompt_mismatch,
    ],
)
def test_silent_on_clean_data(check: Callable[..., object], clean: Preferences) -> None:
    found = check(clean)
    assert (found.count, found.rows, found.level) == (0, (), "fine")


def test_equal_texts_by_score(made: Made) -> None:
    rows = [
        FINE,
        ("p", "same", "same", 4.0, 4.0),
        ("q", "same", "same", 4.0, 3.0),
        ("r", "same", "same", None, None),
        ("s", "same", "same ", 4.0, 4.0),  # white space is text: the tokens differ
        ("t", "same", "same", 4.0, None),
    ]
    assert texts.equal_text(made(rows)).rows == (1, 3, 5)
    assert texts.equal_text_different_score(made(rows)).rows == (2,)


def test_one_answer_against_itself_is_equal(made: Made) -> None:
    # Equal answers with equal scores are stored once, so both sides of such a pair point at one row.
    data = made([FINE, ("p", "same", "other", 4.0, 4.0)], rejected_id=[1, 2])
    assert texts.equal_text(data).rows == (1,)


def test_empty_means_no_visible_character(made: Made) -> None:
    rows = [FINE, ("p", "", "x", 3.0, 2.0), ("q", "x", " \n\t", 3.0, 2.0), ("r", "\u00a0", "x", 3.0, 2.0)]
    assert texts.empty_chosen(made(rows)).rows == (1, 3)
    assert texts.empty_rejected(made(rows)).rows == (2,)


def test_empty_answer_counts_answers_outside_pairs(made: Made) -> None:
    data = made([FINE, ("p", "", "x", 3.0, 2.0)])
    assert texts.empty_answer(data).count == 0
    found = texts.empty_answer(Preferences.of(data.prompts, data.responses))
    assert (found.count, found.of, found.rows) == (1, "responses", (2,))


def test_characters_by_kind(made: Made) -> None:
    rows = [
        ("p", "a\u202eb", "x"),  # an override
        ("q", "tab\t line\n return\r", "x"),  # ordinary text
        ("r", "x", "broken \ufffd"),
        ("bell \x07", "a", "x"),  # in the prompt
        ("s", "a\u200bb", "x"),  # zero width: told, not counted
        ("t", "C1 \x93quoted\x94", "x"),
    ]
    found = texts.control_characters(made(rows))
    assert (found.count, found.rows) == (4, (0, 2, 3, 5))
    assert "2 with control characters, 1 with bidirectional overrides, 1 with U+FFFD" in found.says
    assert "not counted: 1" in found.says


def test_characters_without_pairs(made: Made) -> None:
    data = made([("bell \x07", "a", "x"), FINE])
    found = texts.control_characters(Preferences.of(data.prompts, data.responses))
    assert (found.of, found.rows) == ("responses", (0, 1))


def test_same_role_in_prompt_at_the_seam_and_in_the_answer(made: Made) -> None:
    rows = [
        ([user("a"), user("b")], "x", "y"),
        ([user("a"), assistant("b")], "x", "y"),
        ("p", [assistant("x"), user("no"), user("no")], "y"),
        ("q", "x", [assistant("x"), user("go on"), assistant("y")]),
        ([system("s"), user("a"), assistant("b"), user("c")], "x", "y"),
    ]
    found = texts.same_role_turns(made(rows))
    assert found.rows == (0, 1, 2)


def test_several_tool_results_are_no_fault(made: Made) -> None:
    tools = [user("a"), assistant("call"), {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}]
    assert texts.same_role_turns(made([(tools, "x", "y")])).count == 0


def test_prompt_mismatch_reads_its_column(made: Made) -> None:
    found = prompts.prompt_mismatch(made([FINE, FINE, FINE], prompt_mismatch=[None, True, False]))
    assert (found.count, found.rows, found.level) == (1, (1,), "error")
    assert prompts.prompt_mismatch(made([FINE])).count == 0
    # A column of text is the user's own.
    assert prompts.prompt_mismatch(made([FINE], prompt_mismatch=["yes, says the judge"])).count == 0
