"""The body of a chat completion: strict in what makes an answer, easy in what stands beside it."""

import json
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationError

from pairwright.served.faults import Fault, Then, Why
from pairwright.served.keys import is_long, scrubbed
from pairwright.served.record import Answer, Token

_MOST = 2**53
"""No call takes so many tokens."""


def _count(value: Any) -> int:
    """A number of tokens; whatever else a server writes there says nothing, and costs no answer."""
    return value if type(value) is int and 0 <= value < _MOST else 0


def _dict(value: Any) -> Any:
    return value if isinstance(value, dict) else {}


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Top(_Strict):
    token: str
    logprob: float | int


class _Token(_Top):
    top_logprobs: list[_Top] | None = None


class _Logprobs(_Strict):
    content: list[_Token] | None = None


class _Part(_Strict):
    """A part of a content; only text is of use."""

    type: str
    text: str = ""


class _Message(_Strict):
    content: str | list[_Part] | None = None
    refusal: str | None = None


class _Choice(_Strict):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(_Strict):
    prompt_tokens: Annotated[int, BeforeValidator(_count)] = 0
    completion_tokens: Annotated[int, BeforeValidator(_count)] = 0


class _Reply(_Strict):
    choices: list[_Choice]
    usage: Annotated[_Usage, BeforeValidator(_dict)] = _Usage()


def read_reply(body: str) -> Answer | Fault:
    """The answer in the body of a reply with status 200, or what is wrong with it; each such fault may pass.

    A content that is not there is empty, one in parts is the text of its parts, and counts of tokens that are none
    are 0. Half a surrogate pair, which no file can hold, becomes U+FFFD.
    """
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):  # brackets without end are no completion either
        return Fault(Why.MALFORMED_JSON, Then.AGAIN, body)
    if isinstance(value, dict) and value.get("choices") in (None, []):
        return Fault(Why.NO_CHOICES, Then.AGAIN, body)
    try:
        reply = _Reply.model_validate(value)
    except (ValidationError, RecursionError):
        return Fault(Why.WRONG_SCHEMA, Then.AGAIN, body)
    choice, usage = reply.choices[0], reply.usage
    content = choice.logprobs.content if choice.logprobs else None
    tokens = None if content is None else tuple(map(_token, content))
    return paired(
        Answer(
            _said(choice.message.content),
            choice.finish_reason,
            choice.message.refusal or None,
            tokens,
            usage.prompt_tokens,
            usage.completion_tokens,
        )
    )


def paired(answer: Answer) -> Answer:
    """The answer with U+FFFD for each half of a surrogate pair that stands alone."""
    return _each_text(answer, _paired)


def without_key(answer: Answer, key: SecretStr | None) -> Answer:
    """The answer without the key, also where its tokens say it piece by piece."""
    clean = _each_text(answer, lambda text: scrubbed(text, key))
    if key is None or clean.tokens is None or not is_long(key):
        return clean
    return clean._replace(tokens=_without(clean.tokens, key.get_secret_value()))


def _without(tokens: tuple[Token, ...], secret: str) -> tuple[Token, ...]:
    whole = "".join(token.text for token in tokens)
    spans = []
    at = whole.find(secret)
    while at >= 0:
        spans.append((at, at + len(secret)))
        at = whole.find(secret, at + len(secret))
    kept, start = [], 0
    for token in tokens:
        end = start + len(token.text)
        inside = any(start < last and first < end for first, last in spans)
        kept.append(token._replace(text="[key]", top=()) if inside else token)
        start = end
    return tuple(kept)


def _said(content: str | list[_Part] | None) -> str:
    if isinstance(content, list):
        return "".join(part.text for part in content if part.type == "text")
    return content or ""


def _token(token: _Token) -> Token:
    top = tuple((each.token, float(each.logprob)) for each in token.top_logprobs or ())
    return Token(token.token, float(token.logprob), top)


def _paired(text: str) -> str:
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _each_text(answer: Answer, change: Callable[[str], str]) -> Answer:
    """The answer with every text in it changed."""
    tokens = answer.tokens and tuple(
        Token(change(text), logp, tuple((change(word), value) for word, value in top))
        for text, logp, top in answer.tokens
    )
    return answer._replace(
        text=change(answer.text),
        stopped=answer.stopped and change(answer.stopped),
        refusal=answer.refusal and change(answer.refusal),
        tokens=tokens,
    )
