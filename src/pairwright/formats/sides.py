"""Two sides of a comparison split into one prompt and two answers.

A source says a comparison as a prompt and two answers, or as two whole conversations. In the second case the prompt is
what both share. Where the sides differ before their last answer, the prompt is the longest common beginning of whole
turns after which both sides continue with the assistant; the rest of each conversation, several turns of it, is that
side's response. Such a pair carries `prompt_mismatch`, so that it can be counted and filtered; no turn is moved from
one side to the other and none is lost.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from pairwright.chat import Message, assistant, user
from pairwright.formats.hh import is_dialogue, turns
from pairwright.formats.record import Unreadable, as_text, messages


class Sides(NamedTuple):
    """One prompt and its two answers."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    mismatch: bool
    """Whether the two sides (or the prompt column and the sides) have different prompts."""


def sides(prompt: Any, chosen: Any, rejected: Any, notes: list[str]) -> Sides:
    """Split the cells of a comparison, whatever mixture of text and messages they are.

    Args:
        prompt: text, messages, or None where the two sides are whole conversations.
        chosen: text or messages.
        rejected: text or messages.
        notes: gets a sentence where something was left out.

    Raises:
        Unreadable: a side is no text, or the two have no prompt in common.
    """
    if type(chosen) is str and type(rejected) is str:
        if prompt is not None:
            return Sides(prompt_of(prompt, notes), [assistant(chosen)], [assistant(rejected)], False)
        if is_dialogue(chosen) and is_dialogue(rejected):
            return split(turns(chosen), turns(rejected))
        return _split_text(chosen, rejected)
    left, right = _side(chosen, "chosen", notes), _side(rejected, "rejected", notes)
    if prompt is None:
        return split(left, right)
    if left[0]["role"] == "assistant" and right[0]["role"] == "assistant":
        return Sides(prompt_of(prompt, notes), left, right, False)
    if isinstance(prompt, str):
        found = split(left, right)
        asked = prompt.strip()
        said = any(turn["content"].strip() == asked for turn in found.prompt)
        return found if said else found._replace(mismatch=True)
    head = prompt_of(prompt, notes)
    size = len(head)
    if left[:size] == head == right[:size] and len(left) > size and len(right) > size:
        return Sides(head, left[size:], right[size:], False)
    return split(left, right)._replace(mismatch=True)


def split(chosen: list[Message], rejected: list[Message]) -> Sides:
    """Split two whole conversations; see the module's docstring for those that differ early.

    Raises:
        Unreadable: they share no turn after which both continue with the assistant.
    """
    size = len(chosen) - 1
    if (
        size > 0
        and len(rejected) == size + 1
        and chosen[size]["role"] == "assistant" == rejected[size]["role"]
        and chosen[:size] == rejected[:size]
    ):
        return Sides(chosen[:size], chosen[size:], rejected[size:], False)
    common = 0
    while common < min(len(chosen), len(rejected)) and chosen[common] == rejected[common]:
        common += 1
    for cut in range(min(common, size, len(rejected) - 1), 0, -1):
        asked = chosen[cut - 1]["role"] != "assistant"
        if asked and chosen[cut]["role"] == "assistant" == rejected[cut]["role"]:
            return Sides(chosen[:cut], chosen[cut:], rejected[cut:], True)
    raise Unreadable("no_common_prompt", "the two sides share no turn that an assistant answers in both")


def answered(conversation: list[Message]) -> tuple[list[Message], list[Message]]:
    """A conversation as its prompt and its last answer.

    Raises:
        Unreadable: it does not end with an answer of the assistant.
    """
    if len(conversation) < 2 or conversation[-1]["role"] != "assistant":
        raise Unreadable("no_answer", "the conversation does not end with an answer of the assistant")
    return conversation[:-1], conversation[-1:]


def prompt_of(value: Any, notes: list[str], where: str = "prompt") -> list[Message]:
    """A prompt from text (a user turn, or a dialogue with `Human:` and `Assistant:`) or from messages.

    Raises:
        Unreadable: it is neither, or has no message.
    """
    if type(value) is str:
        if is_dialogue(value) and value.rstrip().endswith("\n\nAssistant:"):
            return turns(value)[:-1]
        return [user(value)]
    if isinstance(value, list | tuple | dict):
        found = messages(value, where, notes)
        if not found:
            raise Unreadable("no_prompt", f"{where!r} has no message")
        return found
    return [user(as_text(value, where))]


def response_of(value: Any, notes: list[str], where: str) -> list[Message]:
    """An answer from text or from messages.

    Raises:
        Unreadable: it is neither, or has no message.
    """
    return _side(value, where, notes)


def _side(value: Any, where: str, notes: list[str]) -> list[Message]:
    if type(value) is str:
        return [assistant(value)]
    found = messages(value, where, notes) if isinstance(value, list | tuple | dict) else [user(as_text(value, where))]
    if not found:
        raise Unreadable("no_answer", f"{where!r} has no message")
    return found


def _split_text(chosen: str, rejected: str) -> Sides:
    """Two texts with one beginning: the prompt is what they share, cut before a blank (TRL's `extract_prompt`)."""
    limit = min(len(chosen), len(rejected))
    size = next((i for i in range(limit) if chosen[i] != rejected[i]), limit)
    while size > 0 and not _blank_at(size, chosen, rejected):
        size -= 1
    if size == 0:
        raise Unreadable("no_common_prompt", "the two texts have no beginning in common that could be the prompt")
    return Sides([user(chosen[:size])], [assistant(chosen[size:])], [assistant(rejected[size:])], False)


def _blank_at(place: int, *texts: Sequence[str]) -> bool:
    return all(place == len(text) or text[place].isspace() for text in texts)
