"""Ask a served model: many calls at a time, each paid once."""

import asyncio
import os
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pairwright.errors import InputError, PairwrightError, need
from pairwright.progress import Ticker
from pairwright.served.cache import Cache, cache_place, key_of
from pairwright.served.faults import AWAY, REMEDY, Fault, Then, Why, of_status
from pairwright.served.keys import check_url, find_key, scrubbed
from pairwright.served.pace import Pace
from pairwright.served.record import Answer, Asked, Call, Failure, Manners, Prices, Sampling, Server, Usage
from pairwright.served.reply import read_reply, without_key

if TYPE_CHECKING:
    from pydantic import SecretStr

_SAID = 300
"""Characters of what a server said that go into a message."""
_REFUSED = 3
"""Calls that may be refused before one is taken; then the job is at fault, not the call."""
_UNREACHED = 3
"""Attempts at a call that find nobody there, before anyone was; then it is the URL."""
_LOST = 20
"""Calls in a row that got nothing from the server, at least, before the job ends."""
_FIRST_LOOK, _LAST_LOOK = 0.05, 1.0
"""Seconds between looks at a call that another job makes; they double."""
_SPARE = 60.0
"""Seconds that a claim outlives the longest attempt, for a process that is held up."""
_T = TypeVar("_T")


def ask(
    calls: Sequence[Call],
    *,
    server: Server,
    sampling: Sampling | None = None,
    manners: Manners | None = None,
    prices: Prices | None = None,
    cache: str | Path | None = None,
    version: str = "",
    label: str = "calls",
) -> Asked:
    """The answers of a served model: kept ones from the disk, the others by calls, several at a time.

    Calls that differ in nothing are made once. Each answer is kept on disk as it comes, so that a killed job that is
    started again pays only for the calls that were in flight. A call that fails for a reason that may pass (429, 5xx, a
    lost connection, no answer in time, a body that is no chat completion) is made again, after a wait that grows, or
    the one that the server asks for; when it fails each time it gets a `Failure`, and so does a call that is too long,
    or that a server refuses which takes others.

    Another job may ask the same at the same time: one makes the call, the other waits for its answer (`cache.py`).
    Several processes of one job (`accelerate launch`, torchrun) would all wait for one, so there only kept answers are
    given.

    Args:
        calls: what is asked.
        server: which model.
        sampling: how answers are drawn.
        manners: how many calls at a time, how fast, how often again.
        prices: of tokens, for the count of costs.
        cache: the file of kept answers; None is the one that all jobs share.
        version: of whatever made the messages, such as a prompt file; answers of another version are not found.
        label: of the progress line.

    Returns:
        An `Answer` or `Failure` for each call, in order.

    Raises:
        InputError: there is no server at the URL, or it refuses the job (401, 402; other 4xx where it takes no call),
            or `top_logprobs` are asked of a server that gives none, or several processes were started; answers that
            came before are kept.
        PairwrightError: the server went away, or asks for a wait beyond `manners.patience`; likewise.
        MissingExtra: the library `openai` is not installed.
    """
    sampling, manners, prices = sampling or Sampling(), manners or Manners(), prices or Prices()
    check_url(server.url)
    secret = find_key(server.url, server.key)
    need("openai", extra="judge")
    keys = [key_of(call, server, sampling, version) for call in calls]
    return _run(_asked(calls, keys, _Job(server, sampling, manners, secret), prices, cache, label))


async def _asked(
    calls: Sequence[Call],
    keys: Sequence[bytes],
    job: "_Job",
    prices: Prices,
    cache: str | Path | None,
    label: str,
) -> Asked:
    distinct = dict(zip(reversed(keys), reversed(calls), strict=True))
    store = Cache(cache_place() if cache is None else Path(cache))
    try:
        outcomes: dict[bytes, Answer | Failure] = dict(store.known(distinct))
        wanted = [(key, distinct[key]) for key in dict.fromkeys(keys) if key not in outcomes]
        kept = len(outcomes)
        job.taken = kept
        if wanted:
            _check_alone()
            outcomes |= await job.run(wanted, store, _Line(label, len(wanted), prices))
    finally:
        store.close()
    answers = [outcome for outcome in outcomes.values() if isinstance(outcome, Answer)]
    usage = usage_of(answers, prices)
    return Asked([outcomes[key] for key in keys], usage, len(answers) - kept - job.found, dict(job.retried))


class _Job:
    """The calls of one job, and what they have in common."""

    def __init__(self, server: Server, sampling: Sampling, manners: Manners, secret: "SecretStr | None") -> None:
        self._server, self._sampling, self._manners, self._secret = server, sampling, manners, secret
        self._fields = _fields(server, sampling)
        self._ended = asyncio.Event()
        self._pace = Pace(manners, sleep=self._rest)
        self._client: Any = None
        self._stop: PairwrightError | None = None
        self._last: Fault | None = None
        self._lost = self._refused = 0
        self._is_reached = False
        self.taken = 0
        """Calls that the server took, now or in an earlier job."""
        self.found = 0
        """Answers that another job paid while this one ran."""
        self.retried: Counter[str] = Counter()

    async def run(
        self, wanted: Sequence[tuple[bytes, Call]], store: Cache, line: "_Line"
    ) -> dict[bytes, Answer | Failure]:
        """The outcome of each call. When the job ends early, calls in flight may end, and what they give is kept."""
        openai = need("openai", extra="judge")
        secret = self._secret.get_secret_value() if self._secret else "none"
        outcomes: dict[bytes, Answer | Failure] = {}
        left = iter(wanted)
        client = openai.AsyncOpenAI(
            base_url=check_url(self._server.url), api_key=secret, max_retries=0, timeout=self._manners.timeout
        )
        async with client as self._client:
            workers = [
                asyncio.create_task(self._work(left, store, outcomes, line))
                for _ in range(min(self._manners.concurrency, len(wanted)))
            ]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)  # they end their claims
        if self._stop is None and not self.taken:
            self._stop = self._never_taken(outcomes.values())
        if self._stop is not None:
            raise self._stop from None
        return outcomes

    async def _work(
        self, left: Iterator[tuple[bytes, Call]], store: Cache, outcomes: dict[bytes, Answer | Failure], line: "_Line"
    ) -> None:
        for key, call in left:
            if self._stop is not None:
                return
            outcome = await self._call(key, call, store)
            if isinstance(outcome, Answer):
                self._check_logprobs(outcome)
            if outcome is not None:
                outcomes[key] = outcome
                line.show(outcome)

    async def _call(self, key: bytes, call: Call, store: Cache) -> Answer | Failure | None:
        """The answer to one call, kept, after as many attempts as it takes; None where the job ended before it."""
        fault: Fault | None = None
        for attempt in range(self._manners.retries + 1):
            if attempt:
                await self._pace.back_off(attempt)
            await self._pace.turn()
            await self._claim(key, store)
            try:
                if self._stop is not None:
                    return None
                if (paid := store.known([key]).get(key)) is not None:
                    self.taken += 1
                    self.found += 1
                    return paid
                if fault is not None:
                    self.retried[str(fault.why)] += 1
                outcome = await self._attempt(call)
                if isinstance(outcome, Answer):
                    self.taken += 1
                    self._lost = 0
                    return store.put(key, outcome)
            finally:
                store.release(key)
            fault = outcome
            self._heed(fault)
            self._is_reached |= not fault.is_unreached
            if not (self.taken or self._is_reached) and attempt + 1 >= min(_UNREACHED, self._manners.retries + 1):
                self._end(InputError(self._nowhere(fault.said)))
            if fault.then is not Then.AGAIN:
                break
        assert fault is not None  # there is at least one attempt, and it gave no answer
        if fault.why in AWAY:
            self._lost += 1
            if self._lost >= max(_LOST, 4 * self._manners.concurrency):
                self._end(PairwrightError(self._gone(fault.why, self._lost)))
        return Failure(str(fault.why), _short(fault.said))

    async def _claim(self, key: bytes, store: Cache) -> None:
        """Wait until no other job makes this call: it is there then, or this job's to make, or this job has ended."""
        wait = _FIRST_LOOK
        while self._stop is None and not store.claim(key, self._manners.timeout + _SPARE):
            await self._rest(wait)
            wait = min(2 * wait, _LAST_LOOK)

    async def _attempt(self, call: Call) -> Answer | Fault:
        openai = need("openai", extra="judge")
        messages = [{"role": each["role"], "content": each["content"]} for each in call.messages]
        fields = self._fields | ({} if call.seed is None else {"seed": call.seed})
        try:
            # The clock runs until the last byte; the library's own starts anew with each.
            async with asyncio.timeout(self._manners.timeout):
                # The raw body, read strictly here: the library takes whatever comes for a completion.
                raw = await self._client.chat.completions.with_raw_response.create(messages=messages, **fields)
            body = raw.http_response.content.decode("utf-8", "replace")
        except (TimeoutError, openai.APITimeoutError):
            return Fault(Why.TIMED_OUT, Then.AGAIN)
        except openai.APIStatusError as error:
            said = scrubbed(error.response.text, self._secret)
            return of_status(error.status_code, error.response.headers, said)
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            is_unreached = type(cause).__name__ == "ConnectError"  # of httpx or httpx2, as openai's version has it
            said = scrubbed(str(cause), self._secret)
            return Fault(Why.CONNECTION_LOST, Then.AGAIN, said, is_unreached=is_unreached)
        # What is kept or shown is cleaned, and not the body: a key may be a piece of what makes it JSON.
        read = read_reply(body)
        if isinstance(read, Answer):
            return without_key(read, self._secret)
        return read._replace(said=scrubbed(read.said, self._secret))

    def _heed(self, fault: Fault) -> None:
        """What a fault means for the other calls."""
        if fault.wait is not None and fault.then is Then.AGAIN:
            if fault.wait > self._manners.patience:
                wait = f"{self._server.url} asks to wait {fault.wait:,.0f} seconds ({fault.why})"
                self._end(PairwrightError(f"{wait}; run the same again then: answers so far are kept"))
            else:
                self._pace.pause(fault.wait)
        if fault.then is Then.UNLESS and not self.taken:
            self._refused += 1
        if fault.then is Then.STOP or (fault.then is Then.UNLESS and not self.taken and self._refused >= _REFUSED):
            self._end(InputError(self._refusal(fault.status, fault.said)))
        self._last = fault

    def _end(self, error: PairwrightError) -> None:
        self._stop = self._stop or error
        self._ended.set()

    async def _rest(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the job."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), max(0.0, seconds))

    def _check_logprobs(self, answer: Answer) -> None:
        if self._sampling.top_logprobs is not None and answer.tokens is None and answer.text:
            self._end(
                InputError(
                    f"{self._server.url} gives no log-probabilities with its answers; leave out what needs them, or "
                    "use a server that does (vLLM does)"
                )
            )

    def _never_taken(self, outcomes: Iterable[Answer | Failure]) -> PairwrightError | None:
        """The error of a job of few calls, none of which the server took."""
        whys = Counter(outcome.why for outcome in outcomes if isinstance(outcome, Failure))
        if set(whys) == {Why.BAD_REQUEST} and self._last is not None:
            return InputError(self._refusal(self._last.status, self._last.said))
        if set(whys) == {Why.CONNECTION_LOST}:
            return PairwrightError(self._gone(Why.CONNECTION_LOST, whys.total()))
        return None

    def _refusal(self, status: int | None, said: str) -> str:
        remedy = REMEDY.get(status or 0, "read what it says")
        asked = f"{self._server.url} refuses calls to {self._server.model!r} with status {status}"
        return f"{asked}; {remedy} (it says: {_short(said)})"

    def _nowhere(self, said: str) -> str:
        why = f" ({_short(said)})" if said else ""
        return f"there is no server at {self._server.url}{why}; check url and its port, or start the server"

    def _gone(self, why: Why, count: int) -> str:
        return (
            f"{self._server.url} gave nothing to {count} calls in a row ({why}); start the server or wait, and run the "
            "same again: answers so far are kept"
        )


class _Line:
    """The progress of a job, with what it has taken."""

    def __init__(self, label: str, total: int, prices: Prices) -> None:
        self._ticker = Ticker(label, total, "calls")
        self._prices = prices
        self._prompt = self._answer = 0

    def show(self, outcome: Answer | Failure) -> None:
        """One more call is done."""
        if isinstance(outcome, Answer):
            self._prompt += outcome.prompt_tokens
            self._answer += outcome.answer_tokens
        cost = _cost(self._prompt, self._answer, self._prices)
        money = f", cost {cost:,.4g}" if cost else ""
        self._ticker.add(1, f"  {self._prompt + self._answer:,} tokens{money}")


def _check_alone() -> None:
    """Each of several processes would pay for every call."""
    said = os.environ.get("WORLD_SIZE", "1")
    if said.isdecimal() and int(said) > 1:
        raise InputError(
            f"{said} processes would each pay for the same calls to a served model; run this step by itself first, "
            "without accelerate launch or torchrun: its answers are kept, and then all processes find them"
        )


def _fields(server: Server, sampling: Sampling) -> dict[str, Any]:
    """What the calls of a job have in common; what is not set is not sent."""
    fields: dict[str, Any] = {
        "model": server.model,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "stop": list(sampling.stop) or None,
        "logprobs": None if sampling.top_logprobs is None else True,
        "top_logprobs": sampling.top_logprobs or None,
        "extra_body": dict(sampling.extra) or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def usage_of(answers: Sequence[Answer], prices: Prices) -> Usage:
    """What answers took."""
    prompt = sum(answer.prompt_tokens for answer in answers)
    answered = sum(answer.answer_tokens for answer in answers)
    return Usage(len(answers), prompt, answered, _cost(prompt, answered, prices))


def _cost(prompt: int, answer: int, prices: Prices) -> float:
    return (prompt * prices.prompt + answer * prices.answer) / 1e6


def _short(said: str) -> str:
    words = " ".join(said.encode("utf-8", "replace").decode("utf-8").split())
    return words if len(words) <= _SAID else words[: _SAID - 1] + "…"


def _run(job: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end, also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(job)
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, job).result()
