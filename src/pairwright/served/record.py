"""What a served model is asked, how, and what it gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator

from pairwright.chat import Conversation
from pairwright.served.keys import check_name, check_url


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


KeyName = Annotated[str, AfterValidator(check_name)]
"""The name of an environment variable that holds a key; a key itself is refused without being shown."""
BaseUrl = Annotated[str, AfterValidator(check_url)]
"""The base URL of a server; one with a password or a query in it is refused without being shown."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A model behind a URL."""

    url: str
    """Base of an OpenAI-compatible API, such as `http://127.0.0.1:8000/v1`."""
    model: str
    """Its name there."""
    key: str | None = None
    """Name of the environment variable with the API key; None: `OPENAI_API_KEY` where the URL is https or this machine,
    if it is set."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How an answer is drawn; None sends nothing, so that the server decides."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    """So many most probable tokens at each place, with their log-probabilities in nats; 0 gives those of the drawn
    tokens alone; None none at all."""
    extra: Mapping[str, Any] = field(default_factory=_nothing)
    """Further fields of the request, as the server knows them, such as `max_completion_tokens`."""


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How hard a server is pressed."""

    concurrency: int = 8
    """Calls at a time."""
    rate: float | None = None
    """Calls a minute, at most; None: no limit."""
    retries: int = 6
    """Further attempts at a call that failed for a passing reason."""
    timeout: float = 120.0
    """Seconds for one attempt, from first to last byte."""
    first_wait: float = 1.0
    """Seconds before the first further attempt; it doubles each time. Half of it and more, at random."""
    longest_wait: float = 60.0
    """Seconds that it grows to."""
    patience: float = 600.0
    """Seconds that a server may ask to wait (Retry-After); when it asks for more the job ends, to be gone on with."""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Money for a million tokens, in any currency."""

    prompt: float = 0.0
    answer: float = 0.0


class Call(NamedTuple):
    """One answer that is wanted."""

    messages: Conversation
    sample: int = 0
    """Number of the sample: calls that differ in nothing else are one call."""
    seed: int | None = None
    """Sent to the server if given."""


class Token(NamedTuple):
    """One token of an answer."""

    text: str
    logp: float
    """In nats, under the model at the settings of the call."""
    top: tuple[tuple[str, float], ...] = ()
    """The most probable tokens at its place."""


class Answer(NamedTuple):
    """What the model said."""

    text: str
    stopped: str | None
    """The server's word: `stop`, `length`, `content_filter`."""
    refusal: str | None = None
    """The refusal, where the server says that it is one."""
    tokens: tuple[Token, ...] | None = None
    """With log-probabilities, where they were asked for."""
    prompt_tokens: int = 0
    answer_tokens: int = 0


class Failure(NamedTuple):
    """There is no answer. Failures are not kept: another run asks again."""

    why: str
    """A name of `faults.Why`."""
    said: str = ""
    """What the server said last, cut short."""


class Usage(NamedTuple):
    """What the answers took, kept ones and new ones alike, so that a job that was stopped in between says the same."""

    calls: int
    """Different calls that were answered."""
    prompt_tokens: int
    answer_tokens: int
    cost: float
    """By the prices given, for all of them."""


@dataclass(frozen=True)
class Asked:
    """All answers of a job."""

    answers: list[Answer | Failure]
    """One for each call, in order."""
    usage: Usage
    made: int
    """Answers that were paid in this job; the others were kept from earlier ones."""
    retried: Mapping[str, int]
    """Attempts that failed and were made again, by reason."""
