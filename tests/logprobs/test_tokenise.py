from types import SimpleNamespace
from typing import Any

import pytest

import tiny
from pairwright.chat import assistant, system, user
from pairwright.errors import InputError
from pairwright.goals import GoalFormat, with_goal
from pairwright.logprobs import Limits, tokenise, tokenise_prompt

WIDE = Limits(200, 150)
LONG = "The beginning of the question. " + "filler " * 60 + "And this is its end?"


@pytest.fixture(scope="module")
def reader() -> Any:
    return tiny.tokenizer()


@pytest.mark.parametrize("template", [tiny.WITH_SYSTEM, tiny.WITHOUT_EOS, tiny.LINE_FEED_AFTER_EOS])
def test_one_bos_at_the_head_and_one_eos_at_the_end(template: str) -> None:
    reader = tiny.tokenizer(template)
    found = tokenise(reader, [user("hello")], [assistant("yes")], limits=WIDE)
    assert found.prompt_ids.count(reader.bos_token_id) == 1
    assert found.prompt_ids[0] == reader.bos_token_id
    assert reader.bos_token_id not in found.completion_ids
    assert found.completion_ids.count(reader.eos_token_id) == 1
    assert found.completion_ids[-1] == reader.eos_token_id
    assert reader.decode(found.completion_ids[:-1]) == "yes"


def test_a_tokenizer_that_adds_bos_by_itself_gives_no_second_one() -> None:
    import tokenizers

    reader = tiny.tokenizer()
    reader.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", reader.bos_token_id)]
    )
    assert reader("x")["input_ids"][0] == reader.bos_token_id
    found = tokenise(reader, [user("hello")], [assistant("yes")], limits=WIDE)
    assert (found.prompt_ids + found.completion_ids).count(reader.bos_token_id) == 1


def test_an_answer_that_already_ends_in_eos_is_not_given_a_second() -> None:
    reader = tiny.tokenizer()
    found = tokenise(reader, [user("hello")], [assistant("yes<|end|>")], limits=WIDE)
    assert found.completion_ids.count(reader.eos_token_id) == 1


def test_prompt_and_completion_are_the_tokens_of_the_whole_text(reader: Any) -> None:
    prompt = [system("Be brief."), user("one two"), assistant("three"), user("four")]
    found = tokenise(reader, prompt, [assistant("five six")], limits=WIDE)
    whole = reader.apply_chat_template([*prompt, assistant("five six")], tokenize=True, return_dict=False)
    assert found.prompt_ids + found.completion_ids == whole
    assert not found.rejoined


def test_a_token_across_the_boundary_leaves_the_prompt_as_inference_has_it() -> None:
    # "o" at the end of the prompt and "ne" of the answer are one token when they are read at once.
    reader = tiny.tokenizer("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    whole = reader("one", add_special_tokens=False)["input_ids"]
    prompt = reader("o", add_special_tokens=False)["input_ids"]
    assert whole[: len(prompt)] != prompt
    found = tokenise(reader, [user("o")], [assistant("ne")], limits=WIDE)
    assert found.rejoined
    assert found.prompt_ids == prompt


@pytest.mark.parametrize("placement", ["system", "user"])
def test_the_goal_and_both_ends_of_the_question_survive_a_cut(reader: Any, placement: Any) -> None:
    form = GoalFormat(template="Reach this score of {scale}: {scores}", placement=placement)
    prompt = with_goal([user(LONG)], 7.5, form, placement)
    limits = Limits(160, 150)
    found = tokenise_prompt(reader, prompt, limits=limits, keep=form.say(7.5))
    text = reader.decode(found.ids)
    assert found.lost is None
    assert found.cut > 0
    assert len(found.ids) <= 150
    assert form.say(7.5) in text
    assert "The beginning" in text
    assert "its end?" in text
    assert text.startswith("<|begin|>")
    assert text.endswith("<|end|><|assistant|>")


def test_the_goal_is_longer_than_the_room_and_is_kept_all_the_same(reader: Any) -> None:
    form = GoalFormat(placement="user")
    prompt = with_goal([user(LONG)], 7.5, form, "user")
    found = tokenise_prompt(reader, prompt, limits=Limits(60, 50), keep=form.say(7.5))
    assert found.lost == "lost_to_truncation"
    assert form.say(7.5) in reader.decode(found.ids)


def test_the_longest_user_turn_is_cut_and_no_other_message(reader: Any) -> None:
    prompt = [system("Be brief."), user("one two"), assistant("three four"), user(LONG)]
    found = tokenise_prompt(reader, prompt, limits=Limits(160, 120))
    assert found.messages[:3] == prompt[:3]
    assert found.messages[3]["content"] != LONG
    assert len(found.ids) <= 120


def test_the_cut_leaves_as_much_as_fits(reader: Any) -> None:
    found = tokenise_prompt(reader, [user(LONG)], limits=Limits(160, 120))
    assert 110 <= len(found.ids) <= 120


def test_the_prompt_does_not_depend_on_the_answer(reader: Any) -> None:
    limits = Limits(150, 100)
    short = tokenise(reader, [user(LONG)], [assistant("one")], limits=limits)
    long = tokenise(reader, [user(LONG)], [assistant("one two three four five six")], limits=limits)
    assert short.prompt_ids == long.prompt_ids


def test_an_over_long_answer_is_lost_and_never_shortened_unasked(reader: Any) -> None:
    limits = Limits(60, 30)
    found = tokenise(reader, [user("one")], [assistant("x" * 80)], limits=limits)
    assert found.lost == "lost_to_truncation"
    cut = tokenise(reader, [user("one")], [assistant("x" * 80)], limits=limits, truncate="completion_end")
    assert cut.lost is None
    assert len(cut.prompt_ids) + len(cut.completion_ids) == 60


@pytest.mark.parametrize("lengths", [(20, 5000, 600, 2048), (20, 40, 30, 50)])
def test_no_completion_is_ever_cut_to_nothing(lengths: tuple[int, int, int, int]) -> None:
    # TRL's CPO truncation gives completions of [2048, 0] and [10, 10] tokens here (its issue 6548).
    prompt, chosen, rejected, most = lengths
    reader = tiny.tokenizer()
    limits = Limits(most, most // 2)
    for answer in (chosen, rejected):
        found = tokenise(reader, [user("x" * (prompt - 4))], [assistant("x" * (answer - 1))], limits=limits)
        fits = prompt + answer <= most
        assert len(found.prompt_ids) == prompt
        assert (found.lost is None) == fits
        assert not fits or len(found.completion_ids) == answer


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_answer_is_said_to_be_empty(reader: Any, text: str) -> None:
    assert tokenise(reader, [user("one")], [assistant(text)], limits=WIDE).lost == "empty"


def test_limits_are_checked_against_the_positions_of_the_model() -> None:
    config = SimpleNamespace(max_position_embeddings=64)
    assert Limits.of(config) == Limits(64, 32)
    assert Limits.of(SimpleNamespace()) == Limits(1024, 512)
    with pytest.raises(InputError, match="more than the 64 positions"):
        Limits.of(config, 65)
    with pytest.raises(InputError, match="no room for an answer"):
        Limits.of(config, 32, 32)


def test_without_an_eos_token_an_answer_ends_with_its_text() -> None:
    plain = tiny.tokenizer(tiny.WITHOUT_EOS)
    plain.eos_token = None
    found = tokenise(plain, [user("one")], [assistant("two")], limits=WIDE)
    assert found.completion_ids == plain("two", add_special_tokens=False)["input_ids"]
    assert found.lost is None


def test_a_prompt_that_becomes_no_tokens_is_missing() -> None:
    # Without a token before it nothing says the first token of the answer.
    bare = tiny.tokenizer("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    found = tokenise(bare, [user("")], [assistant("two")], limits=WIDE)
    assert (found.prompt_ids, found.completion_ids, found.lost) == ([], [], "missing_prompt")
    assert tokenise_prompt(bare, [user("")], limits=WIDE).lost == "missing_prompt"
    assert tokenise(bare, [user("x")], [assistant("two")], limits=WIDE).lost is None
