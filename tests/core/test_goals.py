"""Goals: the number, the sentence, the place."""

import copy
import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairwright.chat import Message, assistant, system, user
from pairwright.errors import InputError
from pairwright.goals import GoalFormat, with_goal

PAPER = (
    "You are an assistant that generates responses for the instruction while implicitly achieving the following "
    "target score (on a scale of 1-10, where 1 is lowest and 10 is highest):\nOverall score: 10."
)
"""arXiv 2410.08067, appendix B.1, with the inference goal 10."""


def printed(form: GoalFormat, goal: float) -> str:
    return form.say(goal).rsplit("score: ", 1)[1].rstrip(".")


def test_the_sentence_is_the_papers() -> None:
    assert GoalFormat().say(GoalFormat().best) == PAPER


@pytest.mark.parametrize(
    ("goal", "text"),
    [(8, "8"), (8.0, "8"), (7.5, "7.5"), (7.04, "7"), (7.06, "7.1"), (1, "1"), (12, "10"), (-3, "1")],
)
def test_whole_numbers_have_no_decimals(goal: float, text: str) -> None:
    assert printed(GoalFormat(), goal) == text


@pytest.mark.parametrize(
    ("scale", "goal", "text"),
    [
        # s' = 1 + (s - 1) * (K - 1) / 9: s = 5.5 is the middle of every scale.
        (5, 5.5, "3"),
        (100, 5.5, "50.5"),
        (5, 10, "5"),
        (100, 10, "100"),
        (100, 1, "1"),
        (5, 7, "3.7"),
    ],
)
def test_scales_are_affine(scale: int, goal: float, text: str) -> None:
    form = GoalFormat(scale=scale)
    assert printed(form, goal) == text
    assert f"1-{scale}, where 1 is lowest and {scale} is highest" in form.say(goal)


def test_another_source_range() -> None:
    """A reward of -2 in -10..10 is at 0.4 of the range: 1 + 0.4 * 9 = 4.6."""
    form = GoalFormat(ranges=((-10, 10),))
    assert printed(form, -2) == "4.6"
    assert form.best == 10


def test_attributes_have_a_line_each() -> None:
    form = GoalFormat(attributes=("score_helpfulness", "honesty"), ranges=((0, 4), (1, 5)))
    # 2 is the middle of 0..4: 1 + 0.5 * 9 = 5.5; 5 is the top of 1..5.
    assert form.say([2, 5]).endswith(":\nHelpfulness score: 5.5.\nHonesty score: 10.")
    assert form.best == [4.0, 5.0]


@pytest.mark.parametrize("goal", [math.nan, math.inf, [8.0, 9.0]])
def test_a_goal_that_does_not_fit_is_refused(goal: float | list[float]) -> None:
    with pytest.raises(InputError, match="does not fit"):
        GoalFormat().say(goal)


@pytest.mark.parametrize(
    "settings",
    [
        {"template": "no field"},
        {"ranges": ((5, 5),)},
        {"ranges": ((1, 10), (1, 10))},
        {"scale": 1},
        {"scael": 5},
    ],
)
def test_a_format_that_cannot_work_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"template|range|scale|scael"):
        GoalFormat.model_validate(settings)


def test_a_template_may_say_the_scores_twice() -> None:
    form = GoalFormat(template="Aim for {scores} Again: {scores} of {scale}")
    assert form.say(8) == "Aim for Overall score: 8. Again: Overall score: 8. of 10"


def test_a_null_goal_has_no_sentence() -> None:
    frame = pl.DataFrame({"goal": [None, 3.0]}, schema={"goal": pl.Float64})
    texts = frame.select(GoalFormat().text(pl.col("goal"))).to_series().to_list()
    assert texts[0] is None
    assert texts[1].endswith("score: 3.")


CONVERSATIONS: list[tuple[list[Message], list[str], list[str]]] = [
    # conversation, roles after system placement, roles after user placement
    ([user("Q")], ["system", "user"], ["user"]),
    ([system("S"), user("Q")], ["system", "user"], ["system", "user"]),
    (
        [user("a"), assistant("b"), user("c")],
        ["system", "user", "assistant", "user"],
        ["user", "assistant", "user"],
    ),
    ([assistant("b")], ["system", "assistant"], ["user", "assistant"]),
    ([system("S")], ["system"], ["system", "user"]),
    (
        [system("S"), system("T"), assistant("b")],
        ["system", "system", "assistant"],
        ["system"] * 2 + ["user", "assistant"],
    ),
]


@pytest.mark.parametrize(("conversation", "in_system", "in_user"), CONVERSATIONS)
def test_the_goal_is_said_once_and_nothing_else_changes(
    conversation: list[Message], in_system: list[str], in_user: list[str]
) -> None:
    before = copy.deepcopy(conversation)
    for placement, roles in (("system", in_system), ("user", in_user)):
        placed = with_goal(conversation, 10.0, GoalFormat(), placement)  # type: ignore[arg-type]
        assert [message["role"] for message in placed] == roles
        assert sum(message["content"].count(PAPER) for message in placed) == 1
        without = [m["content"].replace(PAPER, "").removeprefix("\n\n") for m in placed]
        assert [text for text in without if text] == [m["content"] for m in conversation]
    assert conversation == before


def test_the_goal_is_before_the_first_users_text() -> None:
    conversation = [system("S"), user("a"), assistant("b"), user("c")]
    placed = with_goal(conversation, 10.0, GoalFormat(), "user")
    assert placed[1]["content"] == PAPER + "\n\na"
    assert with_goal(conversation, 10.0, GoalFormat(), "system")[0]["content"] == PAPER + "\n\nS"


def test_no_goal_gives_the_same_messages() -> None:
    assert with_goal([user("Q")], None, GoalFormat(), "system") == [user("Q")]


@given(st.floats(1, 10), st.floats(1, 10))
def test_the_printed_number_rises_with_the_goal(one: float, other: float) -> None:
    form = GoalFormat()
    low, high = sorted((one, other))
    assert float(printed(form, low)) <= float(printed(form, high))
    assert abs(float(printed(form, one)) - one) <= 0.05 + 1e-9


ONE = GoalFormat(attributes=("helpfulness",), ranges=((0, 4),))
TWO = GoalFormat(attributes=("a", "b"), ranges=((0, 4), (0, 4)))
DIRECTION = GoalFormat(
    attributes=("a", "b"), ranges=((-1, 1), (-1, 1)), lowest=-100, scale=100, decimals=0, asks="direction",
    angles=(-45, 45),
)  # fmt: skip


@pytest.mark.parametrize(
    ("form", "goal", "wanted"),
    [
        (GoalFormat(), 8, 8.0),
        (GoalFormat(), [8], 8.0),
        (GoalFormat(), (8.5,), 8.5),
        (ONE, 4, [4.0]),
        (ONE, [4], [4.0]),
        (TWO, (4, 1), [4.0, 1.0]),
        (DIRECTION, [1, 0], [1.0, 0.0]),
        (DIRECTION, [0.8, 0.6], [0.8, 0.6]),
    ],
)
def test_a_goal_has_one_form(form, goal, wanted):
    found = form.canonical(goal)
    assert (found, type(found)) == (wanted, type(wanted))
    assert form.say(goal) == form.say(wanted)


def test_a_direction_is_asked_for_with_length_1():
    # 4 4 is 45 degrees: cos 45 = sin 45 = sqrt(1/2) = 0.7071, in whole hundredths 71.
    assert DIRECTION.canonical([4, 4]) == pytest.approx([math.sqrt(0.5)] * 2)
    assert DIRECTION.say([4, 4]).endswith("A score: 71.\nB score: 71.")
    assert DIRECTION.say([30, 40]) == DIRECTION.say([0.6, 0.8])
    with pytest.raises(InputError, match="is no direction: give one of its weights another value than 0"):
        DIRECTION.canonical([0, 0])


@pytest.mark.parametrize("goal", [4, [4], [4, 4, 4], [4, math.nan]])
def test_a_goal_of_other_parts_has_no_form(goal):
    with pytest.raises(InputError, match="it takes one number for each of a, b"):
        TWO.canonical(goal)


def test_a_goal_that_no_row_of_training_had_is_said():
    assert [GoalFormat().beyond(goal) for goal in (1, 10, [5])] == [None] * 3
    says = "The goal 99 lies outside the scores of training (1 to 10); the model reads 'Overall score: 10.'."
    assert GoalFormat().beyond(99) == says
    assert TWO.beyond([4, 5]).startswith("The goal [4, 5] lies outside the scores of training (0 to 4, 0 to 4)")
    assert [DIRECTION.beyond(goal) for goal in ([1, 0], [4, 4], [1, -1])] == [None] * 3
    says = (
        "The goal [0, 1] lies outside the directions of training (-45 to 45 degrees); the model reads 'B score: 100.'."
    )
    assert DIRECTION.beyond([0, 1]) == says
    assert DIRECTION.beyond([-1, 0]) is not None
    turned = DIRECTION.model_copy(update={"angles": (170.0, 190.0)})  # across the turn
    assert [turned.beyond(goal) is None for goal in ([-1, 0], [-10, 1], [-10, -1], [1, 0])] == [True, True, True, False]
    with pytest.raises(ValueError, match="angles are of directions between two scores"):
        GoalFormat(angles=(0, 1))
