"""A model's own answers to the held-out prompts, and how far it has gone from the start where it wrote them.

The tokens that were drawn are read, not what their text would be tokenised to. Drawn at temperature 1 from the whole
distribution they are the policy's, so sums over their positions estimate divergences of whole answers (up to
`max_new_tokens`) without bias.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, NamedTuple

import numpy as np
import polars as pl
import torch
from pydantic import Field

from pairwright.errors import InputError, PairwrightError
from pairwright.generate.drawing import OpenedSampler, Sampling, Wanted
from pairwright.generate.request import seed_of
from pairwright.logprobs.core import Batch, TokenLogps, answer_states, token_values, unwrapped
from pairwright.logprobs.divergence import states_kl
from pairwright.logprobs.trees import batches
from pairwright.probes.reading import SPREADS, Asked, Held, only_read, spreads
from pairwright.probes.store import SAMPLE

_NUMBERS = ("logp", "start_logp", "kl", *SPREADS)


def read_samples(
    policy: torch.nn.Module,
    start: torch.nn.Module | None,
    held: Held,
    *,
    n: Annotated[int, Field(gt=0)] = 1,
    max_new_tokens: Annotated[int, Field(gt=0)] = 256,
    seed: int = 0,
    asked: Sequence[Asked] = ("none", "top"),
    batch_size: int = 32,
    batch_tokens: int = 8192,
    top: int = 10,
) -> pl.DataFrame:
    """Let a model answer the held-out prompts at temperature 1, and read what it drew under it and under the start.

    The random numbers of an answer depend on the seed, the prompt and the number of the sample, as those of `generate`
    do: not on the goal or the model, so that two models are drawn with the same ones.

    Args:
        policy: in training or not; left as it was.
        start: the model that training started from; None where the policy is it (no divergence, equal logps).
        held: pairs, encoded; their prompts are answered, each once.
        n: answers for each prompt.
        max_new_tokens: of an answer.
        seed: another seed gives independent answers.
        asked: under which prompts: without a goal, and with the best goal where the model is asked for goals.
        batch_size: answers drawn at a time.
        batch_tokens: tokens of a batch that is read, at most.
        top: how many most likely tokens `top_entropy`, `raw_top_entropy` and `top_mass` are of.

    Returns:
        Columns `SAMPLE`, by prompt (in the order of the pairs), asked and sample; `score` is null. `logp`,
        `start_logp` and `kl` are sums over the drawn tokens, the end included, in nats; `kl` is that of
        `logprobs.divergence.token_kl`, policy from start.

    Raises:
        InputError: prompt and answer do not fit into the model's positions, or the two have no common vocabulary.
        PairwrightError: a log-probability is not finite.
    """
    if n < 1 or max_new_tokens < 1:
        raise InputError(f"probes: samples ({n}) and max_new_tokens ({max_new_tokens}) must be at least 1")
    drawn = _drawn(policy, held, n, max_new_tokens, seed, tuple(asked), batch_size)
    rows = [(each.prompt_id, each.sample, each.asked, each.goal, each.text, each.stopped) for each in drawn]
    schema = {name: SAMPLE[name] for name in ("prompt_id", "sample", "asked", "goal", "text", "stopped")}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    numbers = _numbers(policy, start, held, drawn, batch_tokens, top)
    lengths = pl.Series([len(each.ids) for each in drawn], dtype=pl.UInt32)
    frame = frame.with_columns(length=lengths, score=None, **{name: pl.Series(part) for name, part in numbers.items()})
    return frame.select(pl.col(name).cast(dtype) for name, dtype in SAMPLE.items())


class _Sample(NamedTuple):
    """An answer that was drawn: to which prompt of `held`, and its token ids, the end included."""

    prompt: int
    prompt_id: str
    asked: str
    goal: float | None
    sample: int
    ids: Sequence[int] = ()
    text: str = ""
    stopped: str = ""


def _drawn(
    policy: torch.nn.Module, held: Held, n: int, most: int, seed: int, asked: tuple[Asked, ...], size: int
) -> list[_Sample]:
    rows = held.rows.with_columns(owner=pl.Series(list(held.owner), dtype=pl.Int64))
    prompts = rows.filter(pl.col("asked").is_in(asked)).unique(
        ["prompt_id", "asked"], keep="first", maintain_order=True
    )
    wanted = [
        _Sample(owner, prompt_id, kind, goal, sample)
        for owner, prompt_id, kind, goal in prompts.select("owner", "prompt_id", "asked", "goal").iter_rows()
        for sample in range(n)
    ]
    if not wanted:
        raise InputError(
            f"probes: there are no prompts asked as {', '.join(asked)}; ask none, or top with a goal format"
        )
    _check_room(policy, max(len(held.prompts[each.prompt]) for each in wanted), most)
    # Prompts of similar length go together, the longest first; the order is no matter of the model.
    order = sorted(range(len(wanted)), key=lambda i: (-len(held.prompts[wanted[i].prompt]), i))
    found: dict[int, _Sample] = {}
    with only_read(policy) as ready, _own_settings(ready):
        sampler = OpenedSampler.of(ready, held.tokenizer, Sampling(1.0, 1.0, most))
        for at in range(0, len(order), size):
            part = order[at : at + size]
            place: dict[int, int] = {}
            owner = [place.setdefault(wanted[i].prompt, len(place)) for i in part]
            seeds = [seed_of(seed, wanted[i].prompt_id, wanted[i].sample) for i in part]
            rows_of = sampler.tokens(Wanted([held.prompts[p] for p in place], owner, seeds))
            for i, (ids, ended) in zip(part, rows_of, strict=True):
                text = str(held.tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True))
                found[i] = wanted[i]._replace(ids=ids, text=text, stopped="eos" if ended else "length")
    return [found[i] for i in range(len(wanted))]


def _check_room(policy: torch.nn.Module, longest: int, most: int) -> None:
    config = unwrapped(policy).config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None)
    if positions and longest + most > positions:
        raise InputError(
            f"probes: the longest held-out prompt ({longest:,} tokens) and max_new_tokens {most:,} are together more "
            f"than the {positions:,} positions of the model; lower max_new_tokens"
        )


@contextmanager
def _own_settings(network: Any) -> Iterator[None]:
    """Drawing replaces a model's generation settings; afterwards it has its own again."""
    owners = {id(each): each for each in (network, unwrapped(network)) if hasattr(each, "generation_config")}
    before = {key: each.generation_config for key, each in owners.items()}
    try:
        yield
    finally:
        for key, each in owners.items():
            each.generation_config = before[key]


def _numbers(
    policy: torch.nn.Module,
    start: torch.nn.Module | None,
    held: Held,
    drawn: Sequence[_Sample],
    budget: int,
    top: int,
) -> dict[str, np.ndarray]:
    """What both models say of the drawn tokens, a number for each answer."""
    columns = {name: np.zeros(len(drawn)) for name in _NUMBERS}
    lengths = [len(each.ids) for each in drawn]
    work = batches(
        list(map(len, held.prompts)), lengths, [each.prompt for each in drawn], order=range(len(drawn)), budget=budget
    )
    for part in work:
        place: dict[int, int] = {}
        owner = [place.setdefault(drawn[i].prompt, len(place)) for i in part]
        batch = Batch.of([held.prompts[p] for p in place], [drawn[i].ids for i in part], owner)
        for name, numbers in _of_batch(policy, start, batch, top).items():
            columns[name][part] = numbers
    if not all(np.isfinite(columns[name]).all() for name in ("logp", "start_logp")):
        raise PairwrightError("probes: a log-probability of what the model wrote is not finite; its weights are not")
    return columns


def _of_batch(policy: torch.nn.Module, start: torch.nn.Module | None, batch: Batch, top: int) -> dict[str, np.ndarray]:
    if start is None:
        with only_read(policy) as ready:
            ours = token_values(ready, batch.to(_device(ready)), top=top)
        logp = _sums(ours)
        return {"logp": logp, "start_logp": logp, "kl": np.zeros(len(logp)), **spreads(ours)}
    with only_read(policy) as ready, only_read(start) as before:
        ours, our_states = answer_states(ready, batch.to(_device(ready)), top=top)
        theirs, their_states = answer_states(before, batch.to(_device(before)))
        away = states_kl(our_states, their_states)
        lengths = ours.length
        kl = torch.segment_reduce(away, "sum", lengths=lengths).double().cpu().numpy()
    return {"logp": _sums(ours), "start_logp": _sums(theirs), "kl": kl, **spreads(ours)}


def _sums(values: TokenLogps) -> np.ndarray:
    return np.asarray(values.sums.logp.double().cpu().numpy())


def _device(model: torch.nn.Module) -> torch.device:
    return next(model.parameters()).device
