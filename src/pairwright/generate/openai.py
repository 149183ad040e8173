"""The engine `openai`: any server that speaks the OpenAI chat API, such as vLLM, llama.cpp or `transformers serve`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pairwright.errors import InputError
from pairwright.generate.request import Drawn, Given, Request
from pairwright.served import Answer, Call, Failure, KeyName, Manners, Prices, Sampling, Server, ask

_SEED_BITS = 31
"""Of an answer's 128 the ones that are sent: some servers take no larger number."""
_CLAMPED = -9000.0
"""From here down a token's log-probability is no measurement: servers write -9999 where they do not know one, and one
such number would be most of any sum."""
_ROUNDING = 0.01
"""How far above 0 a log-probability may come by rounding."""


def openai(
    requests: Sequence[Request],
    *,
    url: str,
    model: str,
    temperature: Annotated[float, Field(ge=0)] = 1.0,
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0,
    max_new_tokens: Annotated[int, Field(gt=0)] = 256,
    stop: tuple[str, ...] = (),
    logps: bool = False,
    key: KeyName | None = None,
    send_seed: bool = True,
    length_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
    extra: Mapping[str, Any] | None = None,
    concurrency: Annotated[int, Field(gt=0)] = 8,
    rate: Annotated[float, Field(gt=0)] | None = None,
    retries: Annotated[int, Field(ge=0)] = 6,
    timeout: Annotated[float, Field(gt=0)] = 120.0,
    prompt_price: Annotated[float, Field(ge=0)] = 0.0,
    answer_price: Annotated[float, Field(ge=0)] = 0.0,
    cache: str | Path | None = None,
) -> Given:
    """Answers from a model behind a URL, many calls at a time, each paid once.

    Answers are kept on disk as they come, so a job that was killed pays only for the calls that were in flight, and the
    same job again pays nothing. An answer that the server refuses, or does not give after all attempts, is dropped and
    counted by its reason, and asked for anew by the next job.

    A server does not say whether the model or a stop string ended an answer: where stop strings are set, `stop` stands
    for both. Prompts are sent whole: a server has a limit of its own, and what it refuses is counted as `too_long`.

    Args:
        requests: what is wanted.
        url: base of the API, such as `http://127.0.0.1:8000/v1`.
        model: its name at the server.
        temperature: as the server understands it.
        top_p: as the server understands it.
        max_new_tokens: of an answer.
        stop: texts that end an answer.
        logps: also keep the log-probability of each answer, summed over the tokens that the server shows, which may be
            without the one that ends it. Only at temperature 1 and top_p 1: servers differ in what they show at others.
            Null where one of these is not a number, above 0, or at -9000 or below (-9999 stands for "very unlikely").
        key: name of the environment variable with the API key; None is `OPENAI_API_KEY`, if it is set.
        send_seed: send each answer's seed; off for a server that refuses the field.
        length_field: what the server calls `max_new_tokens`.
        extra: further fields of the request, as the server knows them.
        concurrency: calls at a time.
        rate: calls a minute, at most.
        retries: further attempts at a call that failed for a passing reason.
        timeout: seconds for one attempt.
        prompt_price: of a million tokens of prompts, in any currency.
        answer_price: of a million tokens of answers.
        cache: the file of kept answers; None is the one that all jobs share.

    Returns:
        An answer for each request, in their order, with the tokens that they took.

    Raises:
        InputError: the server refuses the job, or shows no log-probabilities where they are asked for.
        PairwrightError: the server is not there.
        MissingExtra: the library `openai` is not installed.
    """
    if logps and (temperature != 1.0 or top_p != 1.0):
        raise InputError(
            "engine 'openai': logps are the model's own only at temperature 1 and top_p 1, and servers differ in what "
            "they show at others; leave logps out, or set both to 1"
        )
    # Numbers of calls, so that a seed which is not sent still tells one sample from another.
    seeds = [request.seed >> (128 - _SEED_BITS) for request in requests]
    calls = [
        Call(request.prompt, sample=seed, seed=seed if send_seed else None)
        for request, seed in zip(requests, seeds, strict=True)
    ]
    own: dict[str, Any] = {} if length_field == "max_tokens" else {length_field: max_new_tokens}
    asked = ask(
        calls,
        server=Server(url=url, model=model, key=key),
        sampling=Sampling(
            temperature=temperature,
            top_p=top_p,
            max_tokens=None if own else max_new_tokens,
            stop=stop,
            top_logprobs=0 if logps else None,
            extra={**own, **(extra or {})},
        ),
        manners=Manners(concurrency=concurrency, rate=rate, retries=retries, timeout=timeout),
        prices=Prices(prompt=prompt_price, answer=answer_price),
        cache=cache,
        label="generate",
    )
    return Given([_drawn(each, bool(stop)) for each in asked.answers], found={"usage": asked.usage._asdict()})


def _drawn(answer: Answer | Failure, stops: bool) -> Drawn:
    if isinstance(answer, Failure):
        return Drawn(None, answer.why)
    if answer.refusal is not None:
        return Drawn(None, "refused")
    words = {"stop": "stop" if stops else "eos", None: "unsaid"}
    stopped = words.get(answer.stopped, answer.stopped or "")
    if answer.tokens is None:
        return Drawn(answer.text, stopped)
    logps = [token.logp for token in answer.tokens]
    known = all(_CLAMPED < logp <= _ROUNDING for logp in logps)
    return Drawn(answer.text, stopped, sum(logps) if known else None, len(logps))
