"""What can go wrong with a call, and what is done about it."""

import email.utils
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Why(StrEnum):
    """Why a call has no answer: the name under which it is counted."""

    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    CONNECTION_LOST = "connection_lost"
    """Refused, or cut before the last byte."""
    TIMED_OUT = "timed_out"
    MALFORMED_JSON = "malformed_json"
    NO_CHOICES = "no_choices"
    WRONG_SCHEMA = "wrong_schema"
    BAD_REQUEST = "bad_request"
    """The server takes other calls of the job, but not this one."""
    TOO_LONG = "too_long"
    """The server says that this call is too long for the model."""


class Then(StrEnum):
    """What follows from a fault."""

    AGAIN = "again"
    """It may pass: another attempt."""
    NEVER = "never"
    """It is the fault of this call: no other attempt, the others go on."""
    UNLESS = "unless"
    """Like NEVER, unless the server takes no call of the job at all: then the job ends."""
    STOP = "stop"
    """It is the fault of the job: it ends."""


class Fault(NamedTuple):
    """One failed attempt."""

    why: Why
    then: Then
    said: str = ""
    status: int | None = None
    wait: float | None = None
    """Seconds that the server asks for."""
    is_unreached: bool = False
    """Nobody was there to take the call: the connection was refused, or the name leads nowhere."""


AWAY = frozenset({Why.RATE_LIMITED, Why.SERVER_ERROR, Why.CONNECTION_LOST, Why.TIMED_OUT})
"""The server is not there, or not for us: it says nothing of the call."""
STATUS: dict[int, tuple[Why, Then]] = {
    400: (Why.BAD_REQUEST, Then.UNLESS),
    401: (Why.BAD_REQUEST, Then.STOP),
    402: (Why.BAD_REQUEST, Then.STOP),
    403: (Why.BAD_REQUEST, Then.UNLESS),
    404: (Why.BAD_REQUEST, Then.UNLESS),
    408: (Why.TIMED_OUT, Then.AGAIN),
    409: (Why.SERVER_ERROR, Then.AGAIN),
    413: (Why.TOO_LONG, Then.NEVER),
    422: (Why.BAD_REQUEST, Then.UNLESS),
    425: (Why.SERVER_ERROR, Then.AGAIN),
    429: (Why.RATE_LIMITED, Then.AGAIN),
}
"""What an HTTP status means; 5xx is a server error, and any other is a request that is refused, as 400 is.

Some servers refuse one text with 403, 404 or 451 (moderation, a law), so only a key and an empty account stop the job.
"""
REMEDY: dict[int, str] = {
    400: "check model and the sampling settings",
    401: "put a valid API key into the environment variable that key names",
    402: "the account has no money left",
    403: "the key may not use this model, or the account not this server",
    404: "check url (it most often ends in /v1) and model",
    422: "check model and the sampling settings",
    429: "the account's quota is used up",
}
_LENGTH = ("context_length", "context length", "maximum context", "too long", "too many tokens", "max_model_len")
_QUOTA = ("insufficient_quota", "billing_hard_limit")


def of_status(status: int, headers: Mapping[str, str], said: str, *, now: float | None = None) -> Fault:
    """The fault of an answer with an HTTP status of 300 or more.

    Args:
        status: of HTTP.
        headers: of the answer, for Retry-After.
        said: its body, scrubbed.
        now: seconds since the epoch; the clock when not given.
    """
    lower = said.lower()
    why, then = STATUS.get(status, (Why.SERVER_ERROR, Then.AGAIN) if status >= 500 else (Why.BAD_REQUEST, Then.UNLESS))
    if then is Then.UNLESS and any(word in lower for word in _LENGTH):
        why, then = Why.TOO_LONG, Then.NEVER
    if status == 429 and any(word in lower for word in _QUOTA):
        then = Then.STOP
    return Fault(why, then, said, status, retry_after(headers, now=time.time() if now is None else now))


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds that a server asks to wait: `retry-after-ms`, or Retry-After in seconds or as a date; None: it does not.

    Source: RFC 9110, section 10.2.3.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if 0.0 <= seconds < float("inf"):
            return seconds
    try:
        when = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except (TypeError, ValueError):
        return None
    return max(0.0, when.timestamp() - now)
