"""The body of a chat completion, read strictly."""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pairwright.served.faults import Fault, Then, Why
from pairwright.served.record import Answer, Token


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Top(_Strict):
    token: str
    logprob: float | int


class _Token(_Top):
    top_logprobs: list[_Top] | None = None


class _Logprobs(_Strict):
    content: list[_Token] | None = None


class _Message(_Strict):
    content: str | None
    refusal: str | None = None


class _Choice(_Strict):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(_Strict):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Reply(_Strict):
    choices: list[_Choice]
    usage: _Usage | None = None


def read_reply(body: str) -> Answer | Fault:
    """The answer in the body of a reply with status 200, or what is wrong with it; each such fault may pass."""
    try:
        value: Any = json.loads(body)
    except ValueError:
        return Fault(Why.MALFORMED_JSON, Then.AGAIN, body)
    if isinstance(value, dict) and value.get("choices") in (None, []):
        return Fault(Why.NO_CHOICES, Then.AGAIN, body)
    try:
        reply = _Reply.model_validate(value)
    except ValidationError:
        return Fault(Why.WRONG_SCHEMA, Then.AGAIN, body)
    choice, usage = reply.choices[0], reply.usage or _Usage()
    content = choice.logprobs.content if choice.logprobs else None
    tokens = None if content is None else tuple(map(_token, content))
    message = choice.message
    return Answer(
        message.content or "",
        choice.finish_reason,
        message.refusal or None,
        tokens,
        usage.prompt_tokens,
        usage.completion_tokens,
    )


def _token(token: _Token) -> Token:
    top = tuple((each.token, float(each.logprob)) for each in token.top_logprobs or ())
    return Token(token.token, float(token.logprob), top)
