"""Messages and conversations: the only place that joins, identifies or renders one.

A conversation is a sequence of messages `{"role": ..., "content": ...}`. A prompt is a conversation that an answer
continues; a response is the continuation, most often one assistant message.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

from pairwright.errors import InputError


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


Conversation = Sequence[Message]


class Rendered(NamedTuple):
    """A prompt and its answer as the text that a model reads; `prompt + completion` is the whole conversation."""

    prompt: str
    completion: str


def system(text: str) -> Message:
    """A system message."""
    return {"role": "system", "content": text}


def user(text: str) -> Message:
    """A user message."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    """An assistant message."""
    return {"role": "assistant", "content": text}


def canonical(conversation: Conversation) -> bytes:
    """The one byte string of a conversation, from which its identity is computed.

    JSON of `[[role, content], ...]`, UTF-8, without spaces; lone surrogates are kept by escaping.
    """
    turns = [[message["role"], message["content"]] for message in conversation]
    return json.dumps(turns, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def prompt_id(conversation: Conversation) -> str:
    """Identity of a prompt: the first 16 bytes of the SHA-256 of its canonical form, as 32 hex digits."""
    return hashlib.sha256(canonical(conversation)).digest()[:16].hex()


def text_of(conversation: Conversation) -> str:
    """The contents of all messages, joined by line feeds."""
    return "\n".join(message["content"] for message in conversation)


def is_absent(conversation: Conversation | None) -> bool:
    """Whether there is no conversation: none at all, or one with a message that says nothing of role or content."""
    if conversation is None:
        return True
    return any(message is None or message["role"] is None or message["content"] is None for message in conversation)


def supports_system(tokenizer: Any) -> bool:
    """Whether the tokenizer's chat template shows a system message to the model.

    Decided by rendering one, not by the model's name: some templates refuse a system role, some drop it in silence.
    """
    mark = "a system message that must be seen"
    try:
        text = _apply(tokenizer, [system(mark), user("hello")], generate=True)
    except Exception:  # the template is the user's program: whatever it raises, it did not take the message
        return False
    return mark in text


def render(tokenizer: Any, prompt: Conversation, response: Conversation) -> Rendered:
    """Render a prompt and its answer through the tokenizer's chat template, once each.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        prompt: the conversation up to the answer.
        response: the answer's messages, the first by the assistant.

    Raises:
        InputError: there is no chat template, it refuses the conversation, or the rendered prompt is not a prefix of
            the rendered whole (then no token could be said to belong to the answer).
    """
    head = render_prompt(tokenizer, prompt)
    return Rendered(head, render_completion(tokenizer, prompt, head, response))


def render_completion(tokenizer: Any, prompt: Conversation, head: str, response: Conversation) -> str:
    """What the chat template writes after a prompt that is rendered already; see `render`.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        prompt: the conversation up to the answer.
        head: what `render_prompt` gives for it.
        response: the answer's messages.
    """
    whole = _checked(tokenizer, [*prompt, *response], generate=False)
    if not whole.startswith(head):
        raise InputError(
            f"the chat template of {_name(tokenizer)} does not render the prompt as a prefix of prompt and answer "
            f"(prompt ends {head[-40:]!r}, the whole has {whole[max(0, len(head) - 40) : len(head)]!r} there); "
            "use a template whose generation prompt is what it also writes before an answer"
        )
    return whole[len(head) :]


def render_prompt(tokenizer: Any, prompt: Conversation) -> str:
    """Render a prompt so that the model's next token is the first of an answer."""
    return _checked(tokenizer, list(prompt), generate=True)


def render_whole(tokenizer: Any, conversation: Conversation) -> str:
    """Render a conversation that is over, its last answer with it, as a model reads it that judges the answer.

    Raises:
        InputError: there is no chat template, or it refuses the conversation.
    """
    return _checked(tokenizer, conversation, generate=False)


def _checked(tokenizer: Any, conversation: Sequence[Message], *, generate: bool) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            f"the tokenizer of {_name(tokenizer)} has no chat template; "
            "use an instruct model's tokenizer, or set tokenizer.chat_template and save it"
        )
    try:
        return _apply(tokenizer, conversation, generate=generate)
    except Exception as error:  # jinja2 errors come from the template's own raise_exception
        roles = ", ".join(message["role"] for message in conversation)
        raise InputError(
            f"the chat template of {_name(tokenizer)} refuses a conversation of roles ({roles}): {error}"
        ) from error


def _apply(tokenizer: Any, conversation: Sequence[Message], *, generate: bool) -> str:
    text = tokenizer.apply_chat_template(list(conversation), tokenize=False, add_generation_prompt=generate)
    return str(text)


def _name(tokenizer: Any) -> str:
    return str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
