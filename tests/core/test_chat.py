"""Conversations: identity, and rendering through a chat template."""

import hashlib
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pairwright.chat import assistant, canonical, prompt_id, render, supports_system, system, text_of, user
from pairwright.errors import InputError

CHATML = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
)
DROPS_SYSTEM = CHATML.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")
THINKS = CHATML.replace("<assistant>{% endif", "<assistant><think>{% endif")


class Tokenizer:
    """Only what rendering needs of a Hugging Face tokenizer."""

    name_or_path = "toy"

    def __init__(self, template: str | None) -> None:
        self.chat_template = template

    def apply_chat_template(self, conversation: Any, *, tokenize: bool, add_generation_prompt: bool) -> str:
        assert not tokenize

        def refuse(message: str) -> str:
            raise ValueError(message)

        template = ImmutableSandboxedEnvironment().from_string(self.chat_template or "")
        text: str = template.render(
            messages=conversation, add_generation_prompt=add_generation_prompt, raise_exception=refuse
        )
        return text


def test_prompt_id_is_the_sha256_of_the_canonical_form() -> None:
    conversation = [system("S"), user('Qué "1"?')]
    assert canonical(conversation) == '[["system","S"],["user","Qué \\"1\\"?"]]'.encode()
    expected = hashlib.sha256('[["system","S"],["user","Qué \\"1\\"?"]]'.encode()).hexdigest()[:32]
    assert prompt_id(conversation) == expected


def test_identity_sees_roles_order_and_outer_space() -> None:
    ids = {prompt_id(c) for c in ([user("a")], [assistant("a")], [user("a ")], [user("a"), user("")], [])}
    assert len(ids) == 5


def test_lone_surrogates_have_an_identity() -> None:
    assert prompt_id([user("\ud800")]) != prompt_id([user("\ud801")])


def test_text_of_joins_contents() -> None:
    assert text_of([assistant("a"), user("b")]) == "a\nb"


def test_render_splits_where_the_answer_begins() -> None:
    rendered = render(Tokenizer(CHATML), [user("Q")], [assistant("A")])
    assert rendered == ("<user>Q</s><assistant>", "A</s>")


@pytest.mark.parametrize(("template", "expected"), [(CHATML, True), (NO_SYSTEM, False), (DROPS_SYSTEM, False)])
def test_supports_system_is_decided_by_rendering(template: str, expected: bool) -> None:
    assert supports_system(Tokenizer(template)) is expected


def test_a_prompt_that_is_no_prefix_is_refused() -> None:
    with pytest.raises(InputError, match="does not render the prompt as a prefix"):
        render(Tokenizer(THINKS), [user("Q")], [assistant("A")])


def test_a_refusing_template_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"toy refuses a conversation of roles \(system, user\): System role"):
        render(Tokenizer(NO_SYSTEM), [system("S"), user("Q")], [assistant("A")])


def test_no_template_is_refused() -> None:
    with pytest.raises(InputError, match="no chat template"):
        render(Tokenizer(None), [user("Q")], [assistant("A")])
