"""The scorer `judge`."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import Field

from pairwright.chat import Conversation, is_absent, text_of
from pairwright.errors import InputError
from pairwright.preferences import Preferences
from pairwright.scorers.judge.compared import pairwise
from pairwright.scorers.judge.picked import best
from pairwright.scorers.judge.prompt import open_prompt
from pairwright.scorers.judge.rated import (
    Ask,
    Brief,
    Judgement,
    Row,
    attributes,
    by_reference,
    choose_attributes,
    rating,
)
from pairwright.scorers.sample import Scores, lost_before
from pairwright.served import (
    Answer,
    Asked,
    BaseUrl,
    Call,
    Failure,
    KeyName,
    Manners,
    Prices,
    Sampling,
    Server,
    ask,
    ask_on_cluster,
)

Kind = Literal["rating", "attributes", "pairwise", "best", "reference"]
KINDS: dict[str, Callable[[Sequence[Row], Brief, Ask], Judgement]] = {
    "rating": rating,
    "attributes": attributes,
    "pairwise": pairwise,
    "best": best,
    "reference": by_reference,
}
_SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant"}


def judge(
    prefs: Preferences,
    *,
    url: BaseUrl,
    model: str,
    kind: Kind = "rating",
    prompt: str | None = None,
    attributes: dict[str, str] | list[str] | None = None,
    low: int = 1,
    high: int = 10,
    reading: Literal["said", "expected"] = "said",
    temperature: Annotated[float, Field(ge=0)] | None = 0.0,
    max_tokens: Annotated[int, Field(gt=0)] | None = 1024,
    extra: dict[str, Any] | None = None,
    top_logprobs: Annotated[int, Field(gt=0)] = 20,
    concurrency: Annotated[int, Field(gt=0)] = 8,
    rate: Annotated[float, Field(gt=0)] | None = None,
    retries: Annotated[int, Field(ge=0)] = 6,
    timeout: Annotated[float, Field(gt=0)] = 120.0,
    prompt_price: Annotated[float, Field(ge=0)] = 0.0,
    answer_price: Annotated[float, Field(ge=0)] = 0.0,
    key: KeyName | None = None,
    cache: str | None = None,
    ray: bool = False,
) -> Scores:
    """What a language model behind a URL says of each answer: a rating, ratings of attributes, or wins over the others.

    Kinds: `rating` is one number for each answer. `reference` is one by the column `reference` of the prompts.
    `attributes` is a number for each of several attributes, in one call, in the columns `score_<name>`; the score is
    their mean where all are there. `pairwise` shows every two answers to a prompt in both orders, K (K - 1) calls for K
    answers; a win counts where both orders agree, else it is a tie, and the score is the mean win over the others, 0
    to 1. `best` shows all answers to a prompt at once, in a drawn order, one call for each prompt: the one that the
    judge names has 1, the others 0, and where it names none none has a score. Nothing here is judged under a goal.

    An answer that is not there or says nothing is not asked about: `missing_answer`, `empty`, `missing_prompt`. A text
    of the judge that cannot be read gives no score: `no_verdict`, `unreadable`, `several_verdicts`, `out_of_range`,
    `refused`, `abstained`, `cut_off` (at max_tokens), and so do calls that fail each time (`rate_limited`,
    `server_error`, `connection_lost`, `timed_out`, `malformed_json`, `no_choices`, `wrong_schema`, `too_long`,
    `bad_request`); under `expected` also `no_logprobs`, `bad_logprobs`, `little_mass` and `not_whole`. What the judge
    wrote is kept in the column `score_text`, the reason in `score_why`.

    Every answer of the judge is kept on disk under everything that decides it, so the same question is paid once,
    whatever is killed in between. What the tokens came to is in the lineage (`found`).

    Args:
        prefs: prompts and answers.
        url: base of an OpenAI-compatible API: `https://api.openai.com/v1`, `http://127.0.0.1:8000/v1`.
        model: its name there.
        kind: what is asked, see above.
        prompt: a prompt file; None is ours for the kind (scorers/judge/prompts). It begins with `version: X`.
        attributes: names of attributes of the prompt file, or what each asks by name; None is all of the file. Ours has
            `instruction_following`, `honesty`, `truthfulness`, `helpfulness`.
        low: the lowest rating.
        high: the highest rating.
        reading: `said` takes what the judge wrote; `expected` the mean under its probabilities at that place, and
            of both orders, for a server that gives log-probabilities.
        temperature: of the judge; None leaves it to the server.
        max_tokens: of its answer; None leaves it to the server.
        extra: further fields of each request, such as `{max_completion_tokens: 2000}`.
        top_logprobs: tokens of which `expected` sees the probability; a server may allow fewer.
        concurrency: calls at a time.
        rate: calls a minute, at most.
        retries: further attempts at a call that failed for a passing reason.
        timeout: seconds for one attempt.
        prompt_price: of a million tokens of the prompts.
        answer_price: of a million tokens of the judge's answers.
        key: name of the environment variable with the API key; None is `OPENAI_API_KEY`, if it is set, for https and
            this machine.
        cache: the file in which answers are kept; None is one for all jobs, under `$PAIRWRIGHT_CACHE`.
        ray: make the calls from the workers of a Ray cluster, which share `concurrency` and `rate`; the key must be in
            the environment of each.

    Raises:
        InputError: the prompt file or an attribute is not there, the server refuses the job, or no prompt has a
            reference to judge by.
        PairwrightError: the server went away; what it answered is kept.

    Source: arXiv 2306.05685 (pairwise in both orders, a win where both agree); arXiv 2303.16634 (`expected`).
    """
    if not low < high:
        raise InputError(f"judge: low {low} must be below high {high}")
    if kind == "best" and reading != "said":
        raise InputError("judge: kind 'best' reads what the judge said; leave out reading, or choose another kind")
    asked = open_prompt(prompt, kind)
    if attributes is not None and kind != "attributes":
        raise InputError(f"judge: attributes are rated by kind 'attributes', not {kind!r}; leave one of them out")
    chosen = choose_attributes(asked, attributes) if kind == "attributes" else {}
    rows = _rows(prefs, with_reference=kind == "reference")
    there = [row for row in rows if isinstance(row, Row)]
    jobs: list[Asked] = []

    def answers_to(calls: Sequence[Call]) -> Sequence[Answer | Failure]:
        job = (ask_on_cluster if ray else ask)(
            calls,
            server=Server(url=url, model=model, key=key),
            sampling=Sampling(
                temperature=temperature,
                max_tokens=max_tokens,
                top_logprobs=top_logprobs if reading == "expected" else None,
                extra=extra or {},
            ),
            manners=Manners(concurrency=concurrency, rate=rate, retries=retries, timeout=timeout),
            prices=Prices(prompt=prompt_price, answer=answer_price),
            cache=cache,
            version=asked.version,
            label=f"judge {model}",
        )
        jobs.append(job)
        return job.answers

    made = _spread(KINDS[kind](there, Brief(asked, low, high, reading, chosen), answers_to), rows)
    found = {**made.found, **_taken(jobs), "prompt": {"version": asked.version, "sha256": asked.digest}}
    return Scores(
        pl.Series(made.values, dtype=pl.Float64),
        dict(sorted(made.why.items())),
        prefs,
        found,
        tuple(made.notes),
        columns=made.columns,
    )


def _taken(jobs: Sequence[Asked]) -> dict[str, Any]:
    """Calls, tokens and cost of all answers, kept and new alike."""
    usage = [job.usage for job in jobs]
    tokens = {"prompt": sum(each.prompt_tokens for each in usage), "answer": sum(each.answer_tokens for each in usage)}
    cost = sum(each.cost for each in usage)
    return {"calls": sum(each.calls for each in usage), "tokens": tokens, **({"cost": cost} if cost else {})}


def _spread(made: Judgement, rows: Sequence[Row | str]) -> Judgement:
    """What came of the answers that were judged, in their places among all; the others have their reason."""
    numbers = iter(range(len(rows)))
    places = [next(numbers) if isinstance(row, Row) else None for row in rows]
    lost = pl.Series([None if isinstance(row, Row) else row for row in rows], dtype=pl.String)
    columns = {name: each.gather(pl.Series(places, dtype=pl.UInt32)) for name, each in made.columns.items()}
    columns["why"] = columns["why"].zip_with(lost.is_null(), lost)
    values = [None if place is None else made.values[place] for place in places]
    return made._replace(values=values, why=made.why + Counter(lost.drop_nulls().to_list()), columns=columns)


def _rows(prefs: Preferences, *, with_reference: bool) -> list[Row | str]:
    """The answers in order, as text, and why there is nothing to judge in the place of those without one."""
    there = "reference" in prefs.prompts.collect_schema()
    if with_reference and not there:
        raise InputError(
            "judge: kind 'reference' needs a column 'reference' of the prompts; add it, or choose another kind"
        )
    reference = [pl.col("reference")] if with_reference else [pl.lit(None).alias("reference")]
    prompts = prefs.prompts.select("prompt_id", "prompt", *reference)
    joined = prefs.responses.select("prompt_id", "response").join(
        prompts, on="prompt_id", how="left", maintain_order="left"
    )
    return [
        lost_before(prompt, response) or Row(prompt_id, _dialogue(prompt), text_of(response), _reference(given))
        for prompt_id, response, prompt, given in joined.collect().iter_rows()
    ]


def _dialogue(prompt: Conversation) -> str:
    """A conversation as a judge reads it: the user's text where it is all there is, else turns with their speakers."""
    if len(prompt) == 1 and prompt[0]["role"] == "user":
        return prompt[0]["content"]
    return "\n\n".join(f"{_SPEAKERS.get(each['role'], each['role'])}: {each['content']}" for each in prompt)


def _reference(given: Any) -> str | None:
    """A reference answer as text: a text, or a conversation; null and empty are none."""
    text = given if isinstance(given, str) else None
    if isinstance(given, list) and not is_absent(given):
        text = text_of(given)
    return text if text and text.strip() else None
