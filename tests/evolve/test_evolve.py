"""Prompts evolved by stand-in engines, whose every answer is known."""

import polars as pl
import pytest

from pairwright.chat import assistant, prompt_id, system, user
from pairwright.errors import InputError
from pairwright.evolve import OPERATORS, evolve, read_operator
from pairwright.generate.request import Drawn
from pairwright.preferences import Preferences

OLD = "Name a river of Italy."  # 22 characters
SAYS: dict[str, Drawn] = {}
ASKED: list[str] = []


def engine(
    requests, *, model: str, temperature: float = 1.0, top_p: float = 1.0, max_new_tokens: int = 256, mood: str = ""
):
    """Answers `SAYS` of the operator that it reads, else the old prompt and the operator's first words."""
    ASKED.extend(request.prompt[-1]["content"] for request in requests)
    drawn = []
    for request in requests:
        text = request.prompt[-1]["content"]
        name = next(name for name in OPERATORS if text.startswith(read_operator(name).text.split("{prompt}")[0]))
        old = text.split("<request>\n")[1].split("\n</request>")[0]
        drawn.append(SAYS.get(name, Drawn(f"{old} And {name}!{mood}", "eos")))
    return drawn


@pytest.fixture(autouse=True)
def afresh():
    SAYS.clear()
    ASKED.clear()


def prompts(*texts, split=None):
    asked = [[user(text)] if isinstance(text, str) else text for text in texts]
    frame = pl.DataFrame({"prompt_id": [prompt_id(each) for each in asked], "prompt": asked, "reference": "Po"})
    if split is not None:
        frame = frame.with_columns(split=pl.Series(split))
    return Preferences.of(frame, pl.DataFrame(schema={"prompt_id": pl.String, "response": pl.Null}))


def evolved(prefs, **settings):
    return evolve(prefs, model="stand-in", engine=f"{__name__}:engine", **settings)


def texts(prefs):
    return [prompt[-1]["content"] for prompt in prefs.prompts.collect()["prompt"].to_list()]


def test_each_prompt_is_evolved_by_each_operator_in_order():
    before = prompts(OLD, "Sort these words.")
    after = evolved(before, operators=["deepen", "breadth"])
    assert texts(after) == [f"{old} And {way}!" for old in (OLD, "Sort these words.") for way in ("deepen", "breadth")]
    frame = after.prompts.collect()
    assert frame["operator"].to_list() == ["deepen", "breadth"] * 2
    assert (
        frame["evolved_from"].to_list() == [prompt_id([user(OLD)])] * 2 + [prompt_id([user("Sort these words.")])] * 2
    )
    assert frame["prompt_id"].to_list() == [prompt_id(prompt) for prompt in frame["prompt"].to_list()]
    assert "reference" not in frame.columns
    assert after.counts() == (4, 0, 0)
    assert (after.lineage[-1].rows_in, after.lineage[-1].rows_out, after.lineage[-1].dropped) == (4, 4, {})
    assert after.lineage[-1].found == {"kept": {"deepen": 2, "breadth": 2}}


def test_all_five_operators_are_asked_in_their_words_when_none_is_named():
    after = evolved(prompts(OLD))
    assert after.prompts.collect()["operator"].to_list() == [
        "breadth",
        "deepen",
        "constrain",
        "concretise",
        "reasoning",
    ]
    assert len(set(ASKED)) == 5
    assert all(f"<request>\n{OLD}\n</request>" in text for text in ASKED)


def test_what_is_no_prompt_is_dropped_under_its_reason():
    SAYS["breadth"] = Drawn(" \n", "eos")
    SAYS["deepen"] = Drawn(f"  {OLD}\n", "eos")
    SAYS["constrain"] = Drawn("Name a river of Italy that", "length")
    SAYS["concretise"] = Drawn("Go on.", "eos")
    SAYS["reasoning"] = Drawn(None, "lost_to_truncation")
    after = evolved(prompts(OLD, "Name a sea."))
    # Of the second prompt: deepen writes the first one, which is there; concretise repeats what it wrote before.
    assert texts(after) == ["Go on."]
    step = after.lineage[-1]
    assert step.dropped == {"lost_to_truncation": 2, "unfinished": 2, "empty": 2, "unchanged": 1, "repeated": 2}
    assert step.rows_in == step.rows_out + sum(step.dropped.values()) == 10


@pytest.mark.parametrize(
    ("length", "kept"), [(4, False), (5, True), (109, True), (110, False)], ids=lambda value: str(value)
)
def test_lengths_are_compared_in_characters_and_a_ratio_of_five_is_too_much(length, kept):
    """22 characters: 4 * 5 = 20 <= 22 is too short, 5 * 5 = 25 is not; 22 * 5 = 110 > 109, and 110 is too long."""
    SAYS["deepen"] = Drawn("ä" * length, "eos")
    after = evolved(prompts(OLD), operators=["deepen"])
    assert len(texts(after)) == kept
    if not kept:
        assert after.lineage[-1].dropped == {"too_short" if length < 22 else "too_long": 1}
        assert len(texts(evolved(prompts(OLD), operators=["deepen"], ratio=6))) == 1


def test_the_last_message_of_a_conversation_is_evolved_and_the_rest_stays():
    talk = [system("Be brief."), user("Hello"), assistant("Hi"), user(OLD)]
    after = evolved(prompts(talk), operators=["deepen"])
    assert after.prompts.collect()["prompt"][0].to_list() == [*talk[:-1], user(f"{OLD} And deepen!")]
    ends = evolved(prompts(OLD, [user("Hello"), assistant("Hi")]), operators=["deepen", "breadth"])
    assert ends.lineage[-1].dropped == {"no_user_message": 2}
    assert ends.lineage[-1].rows_in == 4


def test_the_same_words_under_two_system_messages_are_two_prompts():
    after = evolved(prompts([system("A"), user(OLD)], [system("B"), user(OLD)]), operators=["deepen"])
    assert [prompt[0]["content"] for prompt in after.prompts.collect()["prompt"].to_list()] == ["A", "B"]


def test_a_new_prompt_is_on_the_side_of_the_old_one():
    before = prompts(OLD, "Name a sea.", split=["train", "test"])
    after = evolved(before, operators=["deepen"])
    assert after.prompts.collect()["split"].to_list() == ["train", "test"]
    assert texts(evolved(before, operators=["deepen"], split="test")) == ["Name a sea. And deepen!"]
    assert texts(evolved(before, operators=["deepen"], limit=1)) == [f"{OLD} And deepen!"]
    with pytest.raises(InputError, match="no prompts in split 'dev'"):
        evolved(before, split="dev")


def test_over_pairs_evolves_the_prompts_that_have_one():
    before = prompts(OLD, "Name a sea.")
    ids = before.prompts.collect()["prompt_id"].to_list()
    answers = pl.DataFrame({"prompt_id": [ids[1]] * 2, "response": [[assistant("a")], [assistant("b")]]})
    pairs = pl.DataFrame({"prompt_id": [ids[1]], "chosen_id": [0], "rejected_id": [1]})
    paired = Preferences.of(before.prompts, answers, pairs)
    assert texts(evolved(paired, operators=["deepen"], over="pairs")) == ["Name a sea. And deepen!"]
    with pytest.raises(InputError, match="no prompts with a pair"):
        evolved(before, over="pairs")


def test_settings_of_the_engine_are_handed_on_and_an_unknown_one_is_refused():
    assert texts(evolved(prompts(OLD), operators=["deepen"], mood=":-)")) == [f"{OLD} And deepen!:-)"]
    with pytest.raises(InputError, match="mod"):
        evolved(prompts(OLD), operators=["deepen"], mod="x")


def test_an_operator_of_ones_own_is_a_file(tmp_path):
    own = tmp_path / "polite.md"
    own.write_text("version: 2\nsays: politer\n\nSay {prompt} politely. {prompt} {other}\n", encoding="utf-8")
    operator = read_operator(str(own))
    assert operator[:3] == ("polite", "2", "politer")
    assert operator.ask("{other}") == "Say {other} politely. {other} {other}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Say {prompt}.", "must begin with a line `version: 1`"),
        ("version: 1\n\nSay it.", "has no {prompt} in its text"),
    ],
)
def test_a_file_that_is_no_operator_is_refused(tmp_path, text, says):
    own = tmp_path / "own.md"
    own.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=says):
        read_operator(str(own))


def test_operators_are_named_once_and_rightly():
    with pytest.raises(InputError, match="did you mean 'deepen'"):
        evolved(prompts(OLD), operators=["deepn"])
    with pytest.raises(InputError, match="none twice"):
        evolved(prompts(OLD), operators=["deepen", "deepen"])
    with pytest.raises(InputError, match="at least one operator"):
        evolved(prompts(OLD), operators=[])


def test_versions_and_digests_of_the_operators_are_in_the_lineage():
    step = evolved(prompts(OLD), operators=["deepen"]).lineage[-1]
    assert step.settings["operators"] == {"deepen": "1"}
    assert step.inputs["operator deepen"] == read_operator("deepen").digest


def test_a_file_with_a_byte_order_mark_is_read(tmp_path):
    own = tmp_path / "own.md"
    own.write_bytes(b"\xef\xbb\xbfversion: 1\r\n\r\nSay {prompt}.\r\n")
    assert read_operator(str(own))[1:] == ("1", "", "Say {prompt}.")


@pytest.mark.parametrize(
    ("stopped", "kept"),
    [("eos", 1), ("stop", 1), ("unsaid", 1), ("length", 0), ("content_filter", 0), ("tool_calls", 0), ("abort", 0)],
)
def test_only_what_ended_by_itself_is_kept(stopped, kept):
    SAYS["deepen"] = Drawn("Name a river of Italy that", stopped)
    after = evolved(prompts(OLD), operators=["deepen"])
    assert len(texts(after)) == kept
    assert after.lineage[-1].dropped == ({} if kept else {"unfinished": 1})
