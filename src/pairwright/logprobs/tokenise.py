"""How a prompt and an answer become the tokens that a model reads.

The rules, in one place:

- The chat template writes everything, special tokens too, so nothing is added to its text: there is never a second BOS.
- The prompt's tokens depend on the prompt and the limits alone, never on the answer. So all answers to a prompt share
  them, they are what the model is given when it generates, and a log-probability does not change with the company that
  an answer keeps.
- A completion ends in exactly one EOS (where the tokenizer has none, as some toy models', with its text).
- An over-long prompt is cut in the middle of the user's text: its beginning and its end stay. The goal, the system
  message, earlier answers and all that the template writes stay whole.
- An answer is one message. One of several (assistant, user, assistant) is lost and counted: its probability would be
  one of the user's words and of the template's headers too.
- An over-long answer is not shortened unless that is asked for: the answer is lost, and its loss is counted.
"""

import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple

from pairwright.chat import Conversation, Message, is_absent, render_completion, render_prompt, text_of
from pairwright.errors import InputError
from pairwright.logprobs.encode import Encoder

Truncate = Literal["drop", "completion_end"]
Lost = Literal["missing_answer", "missing_prompt", "empty", "several_turns", "lost_to_truncation"]

DEFAULT_MAX_LENGTH = 1024
"""Tokens of prompt and answer where nothing is said and the model has room; TRL's default."""
LEAST_TEXT = 8
"""Tokens of a user's message that a cut leaves at least; a prompt that is still too long is lost."""
ROWS = 256
"""Rows that are encoded at a time: enough to keep all cores busy, few enough to hold."""


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
        lost: `missing_prompt` (also where it has no tokens at all, so that nothing says its answer's first one),
            `lost_to_truncation` where no allowed cut makes it fit, else None.
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


class Texts(NamedTuple):
    """One prompt (its goal in place) and the answers to it that are wanted.

    Attributes:
        prompt: the conversation; None where the table of prompts has none.
        keep: the goal sentence that a cut must not touch; empty for none.
        answers: the answers' messages; None where the table of answers has none.
    """

    prompt: Conversation | None
    keep: str
    answers: Sequence[Conversation | None]


def tokenise_many(
    tokenizer: Any, rows: Iterable[Texts], *, limits: Limits, truncate: Truncate = "drop"
) -> Iterator[tuple[PromptTokens, list[Tokens]]]:
    """The tokens of prompts and their answers, row by row; see the rules at the head of this module.

    Rows are read and encoded `ROWS` at a time. A prompt that repeats in them is rendered and encoded once, and so is an
    answer that stands after several prompts, wherever a special token ends the prompt; the rows then share the lists.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        rows: prompts with the answers that are wanted.
        limits: lengths in tokens.
        truncate: what happens to an answer that is too long: `drop` (lost, counted) or `completion_end` (its end is
            cut off, EOS with it).

    Yields:
        For each row its prompt and its answers, in their order.

    Raises:
        InputError: the template refuses a conversation.
    """
    encoder = Encoder(tokenizer)
    known: dict[_Key, _Head] = {}
    waiting = iter(rows)
    while chunk := list(islice(waiting, ROWS)):
        known = _heads(tokenizer, encoder, chunk, limits, known)
        heads = [known[_key(row)] for row in chunk]
        answers = iter(_answers(tokenizer, encoder, heads, chunk, limits, truncate))
        for head, row in zip(heads, chunk, strict=True):
            yield head.tokens, list(islice(answers, len(row.answers)))


def tokenise(
    tokenizer: Any,
    prompt: Conversation | None,
    response: Conversation | None,
    *,
    limits: Limits,
    keep: str = "",
    truncate: Truncate = "drop",
) -> Tokens:
    """The tokens of one prompt and one answer; see `tokenise_many`, which is faster for several."""
    row = Texts(prompt, keep, [response])
    return next(tokenise_many(tokenizer, [row], limits=limits, truncate=truncate))[1][0]


def tokenise_prompt(tokenizer: Any, prompt: Conversation | None, *, limits: Limits, keep: str = "") -> PromptTokens:
    """The tokens of a prompt alone, cut to `limits.max_prompt_length` in the user's text; see `tokenise_many`."""
    return next(tokenise_many(tokenizer, [Texts(prompt, keep, [])], limits=limits))[0]


_Key = tuple[str, tuple[tuple[str, str], ...] | None]


class _Head(NamedTuple):
    """A prompt as it is rendered and encoded, and where its last border stands (`Encoder.tail`)."""

    tokens: PromptTokens
    text: str = ""
    at: int = 0
    left: int = 0


def _key(row: Texts) -> _Key:
    """What decides a prompt's tokens."""
    if row.prompt is None or is_absent(row.prompt):
        return "", None
    return row.keep, tuple((message["role"], message["content"]) for message in row.prompt)


def _heads(
    tokenizer: Any, encoder: Encoder, chunk: Sequence[Texts], limits: Limits, known: Mapping[_Key, _Head]
) -> dict[_Key, _Head]:
    """Every prompt of a chunk, taken from those of the chunk before where it stood there already."""
    found: dict[_Key, _Head] = {}
    fresh: dict[_Key, tuple[list[Message], str]] = {}
    for key in map(_key, chunk):
        if key[1] is None:
            found[key] = _Head(PromptTokens([], [], lost="missing_prompt"))
        elif key in known:
            found[key] = known[key]
        elif key not in fresh:
            messages: list[Message] = [{"role": role, "content": content} for role, content in key[1]]
            fresh[key] = messages, render_prompt(tokenizer, messages)
    cuts = [_cutting(tokenizer, *rendered, limits, keep=key[0]) for key, rendered in fresh.items()]
    for key, (tokens, text) in zip(fresh, _together(encoder, cuts), strict=True):
        if tokens.ids:
            found[key] = _Head(tokens, text, *encoder.tail(text, tokens.ids))
        else:
            found[key] = _Head(tokens._replace(lost="missing_prompt"))
    return found


_Cutting = Generator[str, list[int], tuple[PromptTokens, str]]


def _together(encoder: Encoder, cuts: Sequence[_Cutting]) -> list[tuple[PromptTokens, str]]:
    """The results of several cuts, whose texts are encoded in one call as long as there are any."""
    done: dict[int, tuple[PromptTokens, str]] = {}
    asked = {i: next(cut) for i, cut in enumerate(cuts)}
    while asked:
        answers = zip(list(asked), encoder.many(list(asked.values())), strict=True)
        asked = {}
        for i, ids in answers:
            try:
                asked[i] = cuts[i].send(ids)
            except StopIteration as end:
                done[i] = end.value
    return [done[i] for i in range(len(cuts))]


def _cutting(tokenizer: Any, messages: list[Message], text: str, limits: Limits, *, keep: str) -> _Cutting:
    """Cut a prompt until it fits, the longest user's message first.

    Yields:
        A text whose tokens it wants to be sent.

    Returns:
        The prompt, and its text.
    """
    ids = yield text
    before, excess = len(ids), len(ids) - limits.max_prompt_length
    users = [i for i, message in enumerate(messages) if message["role"] == "user"]
    for at in sorted(users, key=lambda i: -len(messages[i]["content"])):
        if excess <= 0:
            break
        content = messages[at]["content"]
        goal = keep if keep and content.startswith(keep) else ""
        own = content[len(goal) :]
        spans = _spans(tokenizer, own)
        left = len(spans)
        while excess > 0 and left > LEAST_TEXT:
            left = max(LEAST_TEXT, left - excess)
            messages[at] = {"role": "user", "content": goal + _without_middle(own, spans, left)}
            text = render_prompt(tokenizer, messages)
            ids = yield text
            excess = len(ids) - limits.max_prompt_length
    return PromptTokens(messages, ids, before - len(ids), "lost_to_truncation" if excess > 0 else None), text


def _answers(
    tokenizer: Any,
    encoder: Encoder,
    heads: Sequence[_Head],
    chunk: Sequence[Texts],
    limits: Limits,
    truncate: Truncate,
) -> list[Tokens]:
    """The answers of all rows of a chunk, one after the other."""
    asked = [(head, answer) for head, row in zip(heads, chunk, strict=True) for answer in row.answers]
    lost = [_lost_before(head.tokens, answer) for head, answer in asked]
    texts = [
        None if why else render_completion(tokenizer, head.tokens.messages, head.text, answer or [])
        for (head, answer), why in zip(asked, lost, strict=True)
    ]
    # What follows the prompt's last border is all that has to be read again to see how the answer joins on.
    tails = iter(
        encoder.many(
            [head.text[head.at :] + text for (head, _), text in zip(asked, texts, strict=True) if text is not None]
        )
    )
    joined: list[list[int] | None] = []
    for (head, _), text in zip(asked, texts, strict=True):
        ids = [] if text is None else next(tails)
        start = len(head.tokens.ids) - head.left
        joined.append(ids[head.left :] if ids[: head.left] == head.tokens.ids[start:] else None)
    apart = [text for text, ids in zip(texts, joined, strict=True) if text is not None and ids is None]
    alone = iter(encoder.many(apart))
    found = []
    for (head, _), why, rest in zip(asked, lost, joined, strict=True):
        if why:
            found.append(Tokens([] if why == "missing_prompt" else head.tokens.ids, [], head.tokens.cut, lost=why))
        else:
            completion = next(alone) if rest is None else rest
            found.append(_finished(tokenizer, head.tokens, completion, rest is None, limits, truncate))
    return found


def _lost_before(prompt: PromptTokens, response: Conversation | None) -> Lost | None:
    """Why an answer is lost, as far as its text and its prompt say."""
    if response is None or is_absent(response):
        return "missing_answer"
    if prompt.lost == "missing_prompt":
        return prompt.lost
    if not text_of(response).strip():
        return "empty"
    return "several_turns" if len(response) > 1 else prompt.lost


def _finished(
    tokenizer: Any, prompt: PromptTokens, ids: list[int], rejoined: bool, limits: Limits, truncate: Truncate
) -> Tokens:
    """An answer with its end, or lost to the limits."""
    completion = _ended(tokenizer, ids)
    if completion in ([], [tokenizer.eos_token_id]):
        return Tokens(prompt.ids, completion, prompt.cut, rejoined, "empty")
    room = limits.max_length - len(prompt.ids)
    if len(completion) > room:
        if truncate == "drop":
            return Tokens(prompt.ids, completion, prompt.cut, rejoined, "lost_to_truncation")
        completion = completion[:room]
    return Tokens(prompt.ids, completion, prompt.cut, rejoined)


def _ended(tokenizer: Any, ids: list[int]) -> list[int]:
    r"""The completion up to its EOS, and one EOS where the template writes none.

    Many templates write a line feed after it (Qwen's `<|im_end|>\n`); no model is ever asked for that one.
    """
    eos = tokenizer.eos_token_id
    if eos is None:
        return ids
    if eos not in ids:
        return [*ids, eos]
    last = len(ids) - 1 - ids[::-1].index(eos)
    rest = ids[last + 1 :]
    if rest and tokenizer.decode(rest).strip():
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
