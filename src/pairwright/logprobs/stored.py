"""Log-probabilities of many answers under a model that is named, each computed once.

What the store knows is not computed again; what is computed is stored batch by batch. Under `accelerate launch` each
process computes every n-th batch, and all get all values.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairwright.errors import InputError, PairwrightError
from pairwright.logprobs.cluster import on_cluster
from pairwright.logprobs.models import Dtype, open_config
from pairwright.logprobs.opened import OpenedModel, Part
from pairwright.logprobs.ranks import Ranks, ranks
from pairwright.logprobs.segments import Keys, firsts, key_order
from pairwright.logprobs.store import Shelf, answer_keys
from pairwright.logprobs.trees import batches
from pairwright.progress import Ticker

if TYPE_CHECKING:
    from pairwright.logprobs.core import Ids


_TEXTS = 10_000
"""Texts that are looked through at a time."""


class Found(NamedTuple):
    """Log-probabilities, and where they came from.

    Attributes:
        logp: [N] nats, none missing.
        computed: how many different answers were computed.
        known: how many different answers the store had.
    """

    logp: NDArray[np.float64]
    computed: int
    known: int


class Work(NamedTuple):
    """Different answers to different prompts, in the order of their keys.

    Attributes:
        prompts: [P] token ids.
        answers: [U] token ids.
        owner: which prompt each answer belongs to, [U].
        keys: of the answers, [U, 2].
    """

    prompts: "list[Ids]"
    answers: "list[Ids]"
    owner: list[int]
    keys: Keys


def stored_logps(
    prompts: "Sequence[Ids]",
    answers: "Sequence[Ids]",
    owner: Sequence[int],
    *,
    model: str | Path,
    dtype: Dtype = "float32",
    batch_tokens: int = 8192,
    label: str = "logprobs",
    store: bool = True,
    ray: bool = False,
) -> NDArray[np.float64]:
    """The log-probability of each answer, summed over its tokens, in nats: what the store knows, else computed.

    Under several processes (`accelerate launch`, torchrun) all must call it, with the same work.

    Args:
        prompts: token ids of the prompts, [P], at least one token each.
        answers: token ids of the completions, [N], at least one token each.
        owner: `answers[i]` continues `prompts[owner[i]]`, [N].
        model: a `save_pretrained` directory, a hub name, or the directory of a PEFT adapter. It is opened only when
            something has to be computed.
        dtype: precision of the model's weights; sums are float32 in any case.
        batch_tokens: tokens of a batch, at most; each prompt counts once.
        label: what the progress line and the errors call it.
        store: whether to use the store; without it everything is computed and nothing kept.
        ray: compute the batches on a Ray cluster; this process stores what comes back.

    Returns:
        [N] nats, none missing.

    Raises:
        InputError: there is no such model, it has no embedding for some token, or a prompt or an answer has no tokens.
        PairwrightError: a log-probability is not finite, or another process of the job stopped.
    """
    return find_logps(
        prompts, answers, owner, model=model, dtype=dtype, batch_tokens=batch_tokens, label=label, store=store, ray=ray
    ).logp


def find_logps(
    prompts: "Sequence[Ids]",
    answers: "Sequence[Ids]",
    owner: Sequence[int],
    *,
    model: str | Path,
    dtype: Dtype = "float32",
    batch_tokens: int = 8192,
    label: str = "logprobs",
    store: bool = True,
    ray: bool = False,
) -> Found:
    """`stored_logps`, and how many of the answers were computed for it."""
    if not len(answers):
        return Found(np.empty(0), 0, 0)
    _check_lengths(prompts, answers, owner, label=label)
    work, inverse = _different(prompts, answers, owner)
    shelf = Shelf(model, dtype) if store else None
    with ranks() as job:
        said = hashlib.sha256(work.keys.tobytes() + f"{batch_tokens} {shelf and shelf.folder.name}".encode()).digest()
        if not job.same(said):
            raise PairwrightError(f"{label}: the processes of this job were not given the same data, settings or model")
        if ray and job.size > 1:
            raise InputError("a cluster of Ray has its own processes: start one process, or leave ray out")
        values, computed = _share(
            work, job, shelf, model=model, dtype=dtype, batch_tokens=batch_tokens, label=label, ray=ray
        )
    broken = computed & ~np.isfinite(values)
    if broken.any():
        first = int(np.flatnonzero(broken[inverse])[0])
        raise PairwrightError(
            f"{label} is not finite for {int(broken[inverse].sum()):,} answers (the first: {first}); try float32"
        )
    if missing := int(np.isnan(values).sum()):
        raise PairwrightError(f"{label}: {missing:,} answers were left without a log-probability; run it again")
    if shelf is not None and job.rank == 0 and computed.any():
        shelf.tidy()
    return Found(values[inverse], int(computed.sum()), int((~computed).sum()))


def _share(
    work: Work,
    job: Ranks,
    shelf: Shelf | None,
    *,
    model: str | Path,
    dtype: Dtype,
    batch_tokens: int,
    label: str,
    ray: bool,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The values of all different answers, [U], and which of them were computed for it; this process does its share."""
    texts = [len(each) for each in work.answers]
    groups = list(
        batches([len(each) for each in work.prompts], texts, work.owner, order=range(len(texts)), budget=batch_tokens)
    )
    mine = groups[job.rank :: job.size]
    values = np.full(len(texts), math.nan) if shelf is None else shelf.known(work.keys)
    unknown = np.isnan(values)
    if unknown.any():
        check_tokens([*(work.prompts[i] for i in set(work.owner)), *work.answers], model)
    computed = np.zeros(len(texts), np.bool_)
    todo = [left for group in mine if (left := [i for i in group if unknown[i]])]
    if todo:
        parts = [_part(work, group) for group in todo]
        ticker = None if job.rank else Ticker(label, sum(part.tokens for part in parts), "tokens")
        compute = on_cluster if ray else _computed
        with nullcontext() if shelf is None else shelf.writer() as out:
            for number, found in compute(parts, model=model, dtype=dtype):
                group, sound = todo[number], np.isfinite(found)
                if out is not None:  # stored before the next batch is begun
                    out.put(work.keys[group][sound], found[sound])
                values[group], computed[group] = found, True
                if ticker is not None:
                    ticker.add(parts[number].tokens)
    if job.size > 1:
        # Each answer's value comes from the one process whose batch it is in, so nothing is ever added to it.
        own = np.zeros(len(texts), np.bool_)
        own[[i for group in mine for i in group]] = True
        values = job.added(np.where(own, values, 0.0))
        computed = job.added(computed.astype(np.int32)).astype(np.bool_)
    return values, computed


def _check_lengths(prompts: "Sequence[Ids]", answers: "Sequence[Ids]", owner: Sequence[int], *, label: str) -> None:
    """Refuse an answer without tokens, and one whose first token follows on nothing."""
    for i, (answer, prompt) in enumerate(zip(answers, owner, strict=True)):
        if not len(answer) or not len(prompts[prompt]):
            what = "its prompt" if len(answer) else "it"
            raise InputError(f"{label}: answer {i} has no log-probability, for {what} has no tokens; leave it out")


def check_tokens(texts: "Sequence[Ids]", model: str | Path) -> None:
    """Refuse tokens for which a model has no embedding, before it is opened.

    Args:
        texts: token ids, at least one each.
        model: as in `stored_logps`.

    Raises:
        InputError: a token's number is as large as the model's vocabulary, or larger.
    """
    rows = getattr(open_config(model).get_text_config(), "vocab_size", None)
    if not isinstance(rows, int):
        return
    largest = max(int(np.concatenate(texts[at : at + _TEXTS]).max()) for at in range(0, len(texts), _TEXTS))
    if largest >= rows:
        raise InputError(
            f"{model} has {rows:,} tokens, and the texts have a token of number {largest:,}, so they were read with "
            "another model's tokenizer; give the model's own as tokenizer (--tokenizer)"
        )


def _computed(parts: Sequence[Part], *, model: str | Path, dtype: Dtype) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Batches by their number with their values, one after the other, in this process."""
    opened = OpenedModel(model, dtype)
    for number, part in enumerate(parts):
        yield number, opened.logps(part)


def _part(work: Work, group: list[int]) -> Part:
    """The answers of a batch, and each of their prompts once."""
    asked = list(dict.fromkeys(work.owner[i] for i in group))
    place = {prompt: at for at, prompt in enumerate(asked)}
    return Part(
        [work.prompts[p] for p in asked], [work.answers[i] for i in group], [place[work.owner[i]] for i in group]
    )


def _different(
    prompts: "Sequence[Ids]", answers: "Sequence[Ids]", owner: Sequence[int]
) -> tuple[Work, NDArray[np.int64]]:
    """Each answer once, in the order of its key, so that the work is the same in whatever order it was given.

    Returns:
        The work, and where each of the N answers is in it, [N].
    """
    keys = answer_keys(prompts, answers, owner)
    order = key_order(keys)
    first = firsts(keys[order])
    inverse = np.empty(len(order), np.int64)
    inverse[order] = np.cumsum(first) - 1
    kept = order[first]
    # Prompts of equal tokens become one, or the answers to it would not share it.
    named: dict[bytes, int] = {}
    one = [named.setdefault(np.asarray(ids, np.int32).tobytes(), i) for i, ids in enumerate(prompts)]
    work = Work(list(prompts), [answers[i] for i in kept], [one[owner[i]] for i in kept], keys[kept])
    return work, inverse
