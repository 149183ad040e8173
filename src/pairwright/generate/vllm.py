"""The engine `vllm`: the library vLLM on this machine, without a server. It is imported when it is asked for.

vLLM plans its batches itself. Each answer has a seed of its own, but the random numbers are vLLM's: they are other
answers than those of `hf`, and equal seeds give equal answers only as far as vLLM promises it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pairwright.errors import InputError, need
from pairwright.generate.hf import batches_of, lost_of, read_prompts
from pairwright.generate.request import Drawn, Part, Request
from pairwright.logprobs.models import Dtype, parts_of


def vllm(
    requests: Sequence[Request],
    *,
    model: str | Path,
    temperature: Annotated[float, Field(ge=0)] = 1.0,
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0,
    max_new_tokens: Annotated[int, Field(gt=0)] = 256,
    stop: tuple[str, ...] = (),
    max_prompt_length: int | None = None,
    batch_size: Annotated[int, Field(gt=0)] = 1024,
    dtype: Dtype = "bfloat16",
    load: Mapping[str, Any] | None = None,
) -> Iterator[Part]:
    """Answers from a `save_pretrained` directory or a hub name, by vLLM on this machine.

    Prompts become tokens here, as everywhere else, and are cut in the user's text.

    Args:
        requests: what is wanted.
        model: where the model is; an adapter has to be merged into its base first.
        temperature: 0 takes the most probable token each time.
        top_p: draw from the fewest tokens that together have this probability; 1 is all.
        max_new_tokens: of an answer.
        stop: texts that end an answer.
        max_prompt_length: prompts longer than this are cut in the user's text; None is all the room that the model
            has beside `max_new_tokens`.
        batch_size: answers that are handed over at a time; a killed job loses those that were in work.
        dtype: precision of the weights.
        load: further arguments of `vllm.LLM`, such as `tensor_parallel_size` or `gpu_memory_utilization`; `model` and
            `dtype` are settings of their own.

    Yields:
        The answers that were handed over together, each with the number of its request.

    Raises:
        MissingExtra: vLLM is not installed.
        InputError: there is no such model, it is an adapter, its positions leave no room for a prompt, or `load` says
            what another setting says.
    """
    if twice := sorted({"model", "dtype"} & set(load or {})):
        raise InputError(f"engine 'vllm': {twice[0]} is a setting of its own; take it out of load and set {twice[0]}")
    library: Any = need("vllm", extra="vllm")
    if parts_of(model).adapters:
        raise InputError(f"engine 'vllm': {model} is an adapter; merge it into its base, or use the engine hf")
    heads = read_prompts(requests, model, max_prompt_length, max_new_tokens)
    yield lost_of(heads)
    batches = [part for part in batches_of(heads, batch_size) if not all(requests[i].answered for i in part)]
    if not batches:
        return
    # `raw_logprobs` are those before the temperature: vLLM's default, and what `Drawn.logp` says.
    settings = {"enable_prefix_caching": True, "logprobs_mode": "raw_logprobs", **(load or {})}
    engine = library.LLM(model=str(model), dtype=dtype, **settings)
    for part in batches:
        asked = [
            library.SamplingParams(
                temperature=temperature,
                top_p=top_p,
                max_tokens=max_new_tokens,
                stop=list(stop) or None,
                seed=requests[i].seed >> 65,  # of 128 bits the ones that fit a signed number of 64
                logprobs=0,
            )
            for i in part
        ]
        prompts = [{"prompt_token_ids": list(heads[i].ids)} for i in part]
        outputs = engine.generate(prompts, asked, use_tqdm=False)
        yield [(i, _drawn(output.outputs[0])) for i, output in zip(part, outputs, strict=True)]


def _drawn(output: Any) -> Drawn:
    """One answer of vLLM; its `stop_reason` is the stop string or token that ended the answer, and None for EOS."""
    stopped = "stop" if isinstance(output.stop_reason, str) else "eos"
    if output.finish_reason != "stop":
        stopped = str(output.finish_reason)
    logp = output.cumulative_logprob
    return Drawn(str(output.text), stopped, None if logp is None else float(logp), len(output.token_ids))
