"""The engine `hf`: transformers on this machine, left-padded batches with a key-value cache.

Random numbers belong to the answer, not to the batch. Each step of each answer takes one uniform number from the
answer's own stream and inverts the distribution function of the next token. So an answer does not change when other
requests come or go, as long as the logits agree: they differ in their last bits between batch shapes, which moves a
token only where its number falls within rounding of a boundary. The same requests and settings on the same machine
give the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from pairwright.errors import InputError
from pairwright.generate.request import Drawn, Request
from pairwright.logprobs.models import Dtype, device_for_models, open_model, open_tokenizer
from pairwright.logprobs.tokenise import Limits, Texts, tokenise_many

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def hf(
    requests: Sequence[Request],
    *,
    model: str | Path,
    temperature: Annotated[float, Field(ge=0)] = 1.0,
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0,
    max_new_tokens: Annotated[int, Field(gt=0)] = 256,
    max_prompt_length: int | None = None,
    batch_size: Annotated[int, Field(gt=0)] = 32,
    dtype: Dtype = "float32",
) -> list[Drawn]:
    """Answers from a `save_pretrained` directory or a hub name, by transformers on this machine.

    Sampling settings that a model carries in its own `generation_config.json` (top_k, repetition penalty) are not
    used: what is drawn from is the model's distribution, with the temperature and the nucleus given here. Its list of
    end-of-turn tokens is used.

    Args:
        requests: what is wanted.
        model: where the model is.
        temperature: 0 takes the most probable token each time.
        top_p: draw from the fewest tokens that together have this probability; 1 is all.
        max_new_tokens: of an answer.
        max_prompt_length: prompts longer than this are cut in the user's text; None is all the room that the model
            has beside `max_new_tokens`.
        batch_size: answers at a time; prompts of similar length go together.
        dtype: precision of the weights.

    Returns:
        An answer for each request, in their order.

    Raises:
        InputError: there is no such model, or its positions leave no room for a prompt.
    """
    import torch

    tokenizer = open_tokenizer(model)
    network: Any = open_model(model, dtype=dtype).to(device_for_models())
    limits = _limits(network.config, max_prompt_length, max_new_tokens)
    ends = _end_tokens(network, tokenizer)
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    _plain_settings(network, ends=ends, pad=pad, max_new_tokens=max_new_tokens)
    asked = (Texts(each.prompt, each.keep, []) for each in requests)
    heads = [head for head, _ in tokenise_many(tokenizer, asked, limits=limits)]
    drawn = [Drawn(None, "lost_to_truncation")] * len(requests)
    # The longest first, so that a machine that has too little memory says so at once.
    order = sorted((i for i, head in enumerate(heads) if not head.lost), key=lambda i: (-len(heads[i].ids), i))
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            members = order[start : start + batch_size]
            numbers = None
            if temperature > 0:
                numbers = uniforms([requests[i].seed for i in members], max_new_tokens)
            rows = _continue(network, [heads[i].ids for i in members], pad, numbers, temperature, top_p)
            for i, row in zip(members, rows, strict=True):
                drawn[i] = _ended(tokenizer, row, ends)
    return drawn


def uniforms(seeds: Sequence[int], steps: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Numbers in [0, 1) for each step of each answer, [answers, steps], from a Philox stream for each seed.

    Source: Salmon, Moraes, Dror and Shaw (2011), Parallel random numbers: as easy as 1, 2, 3, SC '11.
    """
    return np.stack([np.random.Generator(np.random.Philox(key=seed)).random(steps) for seed in seeds])


def draw(logits: "Tensor", numbers: "Tensor", *, temperature: float, top_p: float) -> "Tensor":
    """One token for each row: the inverse distribution function of softmax(logits / temperature) at `numbers`.

    With `top_p` below 1 the distribution is cut to its nucleus first: tokens in falling order of probability, up to
    and including the one with which their sum reaches `top_p`.

    Source: Holtzman et al., arXiv 1904.09751, section 3.1 (the nucleus).

    Args:
        logits: [B, V].
        numbers: [B] in [0, 1), float64.
        temperature: above 0.
        top_p: in (0, 1].

    Returns:
        [B] token ids.
    """
    probability = (logits.double() / temperature).softmax(-1)
    if top_p < 1.0:
        ranked, token = probability.sort(dim=-1, descending=True, stable=True)
        outside = ranked.cumsum(-1) - ranked >= top_p
        probability = probability.masked_fill(outside.gather(-1, token.argsort(-1)), 0.0)
    below = probability.cumsum(-1)
    # The first token whose share of the line lies beyond the number: never one of probability zero.
    beyond = below > (numbers * below[:, -1])[:, None]
    return beyond.int().argmax(-1)


def _limits(config: Any, max_prompt_length: int | None, max_new_tokens: int) -> Limits:
    positions = getattr(config, "max_position_embeddings", None)
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


def _end_tokens(network: Any, tokenizer: Any) -> list[int]:
    """Every token that ends an answer: the tokenizer's EOS and those that the model lists (Llama 3 has three)."""
    found: list[int] = []
    for each in (tokenizer.eos_token_id, network.generation_config.eos_token_id):
        found += [] if each is None else [each] if isinstance(each, int) else list(each)
    if not found:
        raise InputError("neither the tokenizer nor the model names a token that ends an answer; set eos_token_id")
    return list(dict.fromkeys(found))


def _plain_settings(network: Any, *, ends: list[int], pad: int, max_new_tokens: int) -> None:
    """Replace the model's own generation settings, which `generate` would mix into ours."""
    import transformers

    make: Any = transformers.GenerationConfig
    network.generation_config = make(
        do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=ends, pad_token_id=pad, use_cache=True
    )


def _continue(
    network: Any,
    prompts: Sequence[Sequence[int]],
    pad: int,
    numbers: np.ndarray[Any, np.dtype[np.float64]] | None,
    temperature: float,
    top_p: float,
) -> list[list[int]]:
    """The new tokens of each prompt, padding included."""
    import torch

    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in prompts], device=network.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts], device=network.device)
    extra: dict[str, Any] = {}
    if numbers is not None:
        extra["logits_processor"] = [_choose(torch.from_numpy(numbers).to(network.device), width, temperature, top_p)]
    whole = network.generate(input_ids=ids, attention_mask=mask, **extra)
    rows: list[list[int]] = whole[:, width:].tolist()
    return rows


def _choose(numbers: "Tensor", width: int, temperature: float, top_p: float) -> Any:
    """A logits processor that leaves only the drawn token, so that taking the most probable one takes it."""

    def keep_the_drawn(ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        token = draw(scores, numbers[:, ids.shape[1] - width], temperature=temperature, top_p=top_p)
        return scores.new_full(scores.shape, -float("inf")).scatter(1, token[:, None], 0.0)

    return keep_the_drawn


def _ended(tokenizer: Any, ids: list[int], ends: Sequence[int]) -> Drawn:
    end = next((at for at, token in enumerate(ids) if token in ends), None)
    text = tokenizer.decode(ids[:end], skip_special_tokens=True)
    return Drawn(text, "length" if end is None else "eos")
