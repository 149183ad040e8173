"""The engine `hf`: transformers on this machine or on a cluster, left-padded batches with a key-value cache.

How tokens are drawn is said in `drawing.py`. Here it is said which answers make a batch: that depends on all requests
and on the settings, never on what is known already or on how many machines there are, since another batch would round
otherwise. So a killed job that is gone on with, and one on a cluster, give the bytes that one process gives at once.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from pairwright.cluster import each_on_cluster, found_elsewhere
from pairwright.errors import InputError
from pairwright.generate.drawing import OpenedSampler, Sampling, Wanted
from pairwright.generate.request import Drawn, Part, Request
from pairwright.logprobs.models import Dtype, open_config, open_tokenizer
from pairwright.logprobs.tokenise import Limits, PromptTokens, Texts, tokenise_many


def hf(
    requests: Sequence[Request],
    *,
    model: str | Path,
    temperature: Annotated[float, Field(ge=0)] = 1.0,
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0,
    max_new_tokens: Annotated[int, Field(gt=0)] = 256,
    stop: tuple[str, ...] = (),
    max_prompt_length: int | None = None,
    batch_size: Annotated[int, Field(gt=0)] = 32,
    dtype: Dtype = "float32",
    ray: bool = False,
) -> Iterator[Part]:
    """Answers from a `save_pretrained` directory or a hub name, by transformers on this machine.

    Sampling settings that a model carries in its own `generation_config.json` (top_k, repetition penalty) are not
    used: what is drawn from is the model's distribution, with the temperature and the nucleus given here. Its list of
    end-of-turn tokens is used.

    Several samples for one prompt read it once, where they stand in one batch and the model's memory is a list of keys
    and values; a model with another memory reads it for each (a line says so). A goal stands at the beginning of the
    prompt, so prompts with different goals are read one by one.

    Args:
        requests: what is wanted.
        model: where the model is.
        temperature: 0 takes the most probable token each time.
        top_p: draw from the fewest tokens that together have this probability; 1 is all.
        max_new_tokens: of an answer.
        stop: texts that end an answer; looked for in what the tokens spell, special tokens left out.
        max_prompt_length: prompts longer than this are cut in the user's text; None is all the room that the model
            has beside `max_new_tokens`.
        batch_size: answers at a time; prompts of similar length go together.
        dtype: precision of the weights.
        ray: draw on a Ray cluster: the one of RAY_ADDRESS or `ray start`, else one made of this machine.

    Yields:
        The answers of a batch, each with the number of its request.

    Raises:
        InputError: there is no such model, or its positions leave no room for a prompt.
        PairwrightError: a probability is not finite, or a worker of the cluster failed.
    """
    heads = read_prompts(requests, model, max_prompt_length, max_new_tokens)
    yield lost_of(heads)
    batches = [part for part in batches_of(heads, batch_size) if not all(requests[i].answered for i in part)]
    if not batches:
        return
    sampling = Sampling(temperature, top_p, max_new_tokens, stop)
    works = [_work(part, heads, requests) for part in batches]
    compute = _on_cluster if ray else _here
    for number, drawn in compute(works, model=model, dtype=dtype, sampling=sampling):
        yield list(zip(batches[number], drawn, strict=True))


def read_prompts(
    requests: Sequence[Request], model: str | Path, max_prompt_length: int | None, max_new_tokens: int
) -> list[PromptTokens]:
    """The tokens of each prompt, cut to what the model has room for beside the answer.

    Raises:
        InputError: there is no such model, or its positions leave no room for a prompt.
    """
    limits = _limits(open_config(model), max_prompt_length, max_new_tokens)
    asked = (Texts(each.prompt, each.keep, []) for each in requests)
    return [head for head, _ in tokenise_many(open_tokenizer(model), asked, limits=limits)]


def lost_of(heads: Sequence[PromptTokens]) -> Part:
    """The requests that cannot be asked."""
    return [(i, Drawn(None, head.lost)) for i, head in enumerate(heads) if head.lost]


def batches_of(heads: Sequence[PromptTokens], size: int) -> list[list[int]]:
    """Which answers are drawn together: prompts of similar length, and the samples of one prompt side by side.

    The longest come first, so that a machine that has too little memory says so at once.
    """
    order = sorted((i for i, head in enumerate(heads) if not head.lost), key=lambda i: (-len(heads[i].ids), i))
    return [order[start : start + size] for start in range(0, len(order), size)]


def _work(part: Sequence[int], heads: Sequence[PromptTokens], requests: Sequence[Request]) -> Wanted:
    """A batch with each of its prompts once."""
    place: dict[tuple[int, ...], int] = {}
    owner = [place.setdefault(tuple(heads[i].ids), len(place)) for i in part]
    return Wanted([list(ids) for ids in place], owner, [requests[i].seed for i in part])


def _here(
    works: Sequence[Wanted], *, model: str | Path, dtype: Dtype, sampling: Sampling
) -> Iterator[tuple[int, list[Drawn]]]:
    """Batches by their number with their answers, one after the other, in this process."""
    opened = OpenedSampler(model, dtype, sampling)
    for number, work in enumerate(works):
        yield number, opened.answers(work)


def _on_cluster(
    works: Sequence[Wanted], *, model: str | Path, dtype: Dtype, sampling: Sampling
) -> Iterator[tuple[int, list[Drawn]]]:
    """Batches by their number with their answers, as they are done."""
    rows = [_row(number, work) for number, work in enumerate(works)]
    settings = {"model": found_elsewhere(model), "dtype": dtype, "sampling": sampling}
    for row in each_on_cluster(rows, _Worker, settings):
        columns = zip(row["text"], row["stopped"], row["logp"], row["length"], strict=True)
        yield int(row["number"]), [Drawn(str(a), str(b), float(c), int(d)) for a, b, c, d in columns]


class _Worker:
    """The batch function in a process of the cluster."""

    def __init__(self, model: str, dtype: Dtype, sampling: Sampling) -> None:
        self._opened = OpenedSampler(model, dtype, sampling)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        flat = np.asarray(row["prompts"], dtype=np.int64)
        prompts = np.split(flat, np.cumsum(np.asarray(row["prompt_lengths"]))[:-1])
        seeds = [int(str(seed), 16) for seed in row["seeds"]]
        drawn = self._opened.answers(
            Wanted([each.tolist() for each in prompts], np.asarray(row["owner"]).tolist(), seeds)
        )
        columns = {name: [getattr(each, name) for each in drawn] for name in Drawn._fields}
        return {"number": row["number"], **columns}


def _row(number: int, work: Wanted) -> dict[str, Any]:
    """A batch as a row of flat lists; a seed has more bits than a column's number."""
    return {
        "number": number,
        "prompts": [token for ids in work.prompts for token in ids],
        "prompt_lengths": [len(ids) for ids in work.prompts],
        "owner": list(work.owner),
        "seeds": [f"{seed:x}" for seed in work.seeds],
    }


def _limits(config: Any, max_prompt_length: int | None, max_new_tokens: int) -> Limits:
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    room = positions - max_new_tokens if positions else None
    if room is not None and room <= 0:
        raise InputError(
            f"max_new_tokens {max_new_tokens} leaves no room for a prompt in the {positions} positions of this model; "
            "lower it"
        )
    if max_prompt_length is None:
        max_prompt_length = room or 2**31
    elif room is not None and max_prompt_length > room:
        raise InputError(
            f"max_prompt_length {max_prompt_length} and max_new_tokens {max_new_tokens} are together more than the "
            f"{positions} positions of this model; lower one of them"
        )
    return Limits(max_prompt_length + max_new_tokens, max_prompt_length)
