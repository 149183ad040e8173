"""How a prompt and an answer become the tokens that a model reads.

The rules, in one place:

- The chat template writes everything, special tokens too, so nothing is added to its text: there is never a second BOS.
- The prompt's tokens depend on the prompt and the limits alone, never on the answer. So all answers to a prompt share
  them, they are what the model is given when it generates, and a log-probability does not change with the company that
  an answer keeps.
- A completion ends in exactly one EOS.
- An over-long prompt is cut in the middle of the user's text: its beginning and its end stay. The goal, the system
  message, earlier answers and all that the template writes stay whole.
- An answer is one message. One of several (assistant, user, assistant) is lost and counted: its probability would be
  one of the user's words and of the template's headers too.
- An over-long answer is not shortened unless that is asked for: the answer is lost, and its loss is counted.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from pairwright.chat import Conversation, Message, render, render_prompt, text_of
from pairwright.errors import InputError

Truncate = Literal["drop", "completion_end"]
Lost = Literal["missing_answer", "missing_prompt", "empty", "several_turns", "lost_to_truncation"]

DEFAULT_MAX_LENGTH = 1024
"""Tokens of prompt and answer where nothing is said and the model has room; TRL's default."""
LEAST_TEXT = 8
"""Tokens of a user's message that a cut leaves at least; a prompt that is still too long is lost."""


class Limits(NamedTuple):
    """How long prompt and answer may be, in tokens."""

    max_length: int
    """Prompt and completion together."""
    max_prompt_length: int
    """The prompt alone."""

    @classmethod
    def of(cls, config: Any, max_length: int | None = None, max_prompt_length: int | None = None) -> "Limits":
        """The limits for a model: what is asked for, checked against the positions that the model has.

        Args:
            config: the model's configuration.
            max_length: None is 1024, or fewer where the model has fewer positions.
            max_prompt_length: None is half of `max_length`.

        Raises:
            InputError: the model has fewer positions than asked for, or the limits leave no room for an answer.
        """
        positions = getattr(config, "max_position_embeddings", None)
        if max_length is None:
            max_length = min(DEFAULT_MAX_LENGTH, positions or DEFAULT_MAX_LENGTH)
        elif positions and max_length > positions:
            raise InputError(f"max_length {max_length} is more than the {positions} positions of this model; lower it")
        if max_prompt_length is None:
            max_prompt_length = max_length // 2
        if not 0 < max_prompt_length < max_length:
            raise InputError(
                f"max_prompt_length {max_prompt_length} leaves no room for an answer within max_length {max_length}; "
                "give a number between the two"
            )
        return cls(max_length, max_prompt_length)


class PromptTokens(NamedTuple):
    """A prompt, cut where it was too long.

    Attributes:
        messages: the conversation as it is rendered.
        ids: its tokens, with the template's generation prompt.
        cut: tokens that the cut took away; 0 where nothing was cut.
        lost: `missing_prompt`, `lost_to_truncation` where no allowed cut makes it fit, else None.
    """

    messages: Sequence[Message]
    ids: list[int]
    cut: int = 0
    lost: Lost | None = None


class Tokens(NamedTuple):
    """A prompt and one answer.

    Attributes:
        prompt_ids: tokens of the prompt, the same for every answer to it.
        completion_ids: tokens of the answer, the last one EOS (unless it was cut on request).
        cut: prompt tokens that were cut away.
        rejoined: whether a token of the whole text crosses the boundary, so that the answer was tokenised by itself.
        lost: why there is no such example, the first of `Lost` that holds; None where there is one.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    cut: int = 0
    rejoined: bool = False
    lost: Lost | None = None


def tokenise(
    tokenizer: Any,
    prompt: Conversation | None,
    response: Conversation | None,
    *,
    limits: Limits,
    keep: str = "",
    truncate: Truncate = "drop",
) -> Tokens:
    """The tokens of a prompt and an answer; see the rules at the head of this module.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template and an EOS token.
        prompt: the conversation up to the answer, its goal in place; None where there is none.
        response: the answer's message in a list; None where there is none.
        limits: lengths in tokens.
        keep: the goal sentence, where a user's message begins with one; never cut.
        truncate: what happens to an answer that is too long: `drop` (lost, counted) or `completion_end` (its end is
            cut off, EOS with it).

    Raises:
        InputError: the template refuses the conversation, or the tokenizer has no EOS token.
    """
    head = tokenise_prompt(tokenizer, prompt, limits=limits, keep=keep)
    return tokenise_answer(tokenizer, head, response, limits=limits, truncate=truncate)


def is_absent(conversation: Conversation | None) -> bool:
    """Whether there is no conversation: none at all, or one with a message that says nothing of role or content."""
    if conversation is None:
        return True
    return any(message is None or message["role"] is None or message["content"] is None for message in conversation)


def tokenise_prompt(tokenizer: Any, prompt: Conversation | None, *, limits: Limits, keep: str = "") -> PromptTokens:
    """The tokens of a prompt alone, cut to `limits.max_prompt_length` in the user's text; see `tokenise`."""
    if prompt is None or is_absent(prompt):
        return PromptTokens([], [], lost="missing_prompt")
    messages: list[Message] = [{"role": m["role"], "content": m["content"]} for m in prompt]
    ids = encode(tokenizer, render_prompt(tokenizer, messages))
    before, excess = len(ids), len(ids) - limits.max_prompt_length
    users = [i for i, message in enumerate(messages) if message["role"] == "user"]
    for at in sorted(users, key=lambda i: -len(messages[i]["content"])):
        if excess <= 0:
            break
        content = messages[at]["content"]
        goal = keep if keep and content.startswith(keep) else ""
        text = content[len(goal) :]
        spans = _spans(tokenizer, text)
        left = len(spans)
        while excess > 0 and left > LEAST_TEXT:
            left = max(LEAST_TEXT, left - excess)
            messages[at] = {"role": "user", "content": goal + _without_middle(text, spans, left)}
            ids = encode(tokenizer, render_prompt(tokenizer, messages))
            excess = len(ids) - limits.max_prompt_length
    return PromptTokens(messages, ids, before - len(ids), "lost_to_truncation" if excess > 0 else None)


def tokenise_answer(
    tokenizer: Any,
    prompt: PromptTokens,
    response: Conversation | None,
    *,
    limits: Limits,
    truncate: Truncate = "drop",
) -> Tokens:
    """The tokens of one answer after a prompt's; see `tokenise`."""
    if response is None or is_absent(response):
        return Tokens(prompt.ids, [], prompt.cut, lost="missing_answer")
    if prompt.lost == "missing_prompt":
        return Tokens([], [], lost=prompt.lost)
    if not text_of(response).strip():
        return Tokens(prompt.ids, [], prompt.cut, lost="empty")
    if len(response) > 1:
        return Tokens(prompt.ids, [], prompt.cut, lost="several_turns")
    if prompt.lost:
        return Tokens(prompt.ids, [], prompt.cut, lost=prompt.lost)
    rendered = render(tokenizer, prompt.messages, response)
    whole = encode(tokenizer, rendered.prompt + rendered.completion)
    start = len(prompt.ids)
    rejoined = whole[:start] != prompt.ids
    completion = _ended(tokenizer, encode(tokenizer, rendered.completion) if rejoined else whole[start:])
    if completion == [tokenizer.eos_token_id]:
        return Tokens(prompt.ids, completion, prompt.cut, rejoined, "empty")
    room = limits.max_length - start
    if len(completion) > room:
        if truncate == "drop":
            return Tokens(prompt.ids, completion, prompt.cut, rejoined, "lost_to_truncation")
        completion = completion[:room]
    return Tokens(prompt.ids, completion, prompt.cut, rejoined)


def encode(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a rendered text: exactly what it says, no special token added."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _ended(tokenizer: Any, ids: list[int]) -> list[int]:
    r"""The completion up to its EOS, and one EOS where the template writes none.

    Many templates write a line feed after it (Qwen's `<|im_end|>\n`); no model is ever asked for that one.
    """
    eos = tokenizer.eos_token_id
    if eos is None:
        raise InputError(
            "the tokenizer has no EOS token, so an answer could not end; set tokenizer.eos_token and save it"
        )
    if eos not in ids:
        return [*ids, eos]
    last = len(ids) - 1 - ids[::-1].index(eos)
    if tokenizer.decode(ids[last + 1 :]).strip():
        return [*ids, eos]
    while last > 0 and ids[last - 1] == eos:
        last -= 1
    return ids[: last + 1]


def _spans(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    """Where the tokens of a text begin and end, in characters; words, for a tokenizer that does not say."""
    if getattr(tokenizer, "is_fast", False):
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [(start, end) for start, end in found["offset_mapping"]]
    return [match.span() for match in re.finditer(r"\S+\s*", text)]


def _without_middle(text: str, spans: list[tuple[int, int]], left: int) -> str:
    """The first and the last of `left` tokens, a line feed between them."""
    head = (left + 1) // 2
    return text[: spans[head - 1][1]].rstrip() + "\n" + text[spans[len(spans) - (left - head)][0] :].lstrip()
