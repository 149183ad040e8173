"""The references: what the policy's log-probabilities are compared with.

A reference is a function of the policy, the batch and the collated inputs; it gives the log-probability of each answer
in nats, and of each token where it is run at each step, or None. The trainer knows nothing else about it.

`none`: no reference. `columns`: numbers that stand in the data. `store`: numbers computed before the training begins,
each once for all trainings. `frozen`: a second model. `adapter_off`: the policy with its adapter switched off.
`adapter_before`: the policy with the adapter that it started from.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pairwright.errors import InputError
from pairwright.logprobs.core import Batch, token_values
from pairwright.logprobs.models import Dtype
from pairwright.logprobs.stored import stored_logps
from pairwright.train.examples import Example
from pairwright.train.policy import BEFORE


class Known(NamedTuple):
    """What a reference says of N answers.

    Attributes:
        logp: [N] float32, summed over each answer, in nats.
        tokens: [n] float32, of each token of the answers, one answer after the other; None where only sums are known.
    """

    logp: Tensor
    tokens: Tensor | None = None


Reference = Callable[[torch.nn.Module, Batch, Mapping[str, Tensor]], Known | None]


def none(policy: torch.nn.Module, batch: Batch, inputs: Mapping[str, Tensor]) -> None:
    """No reference."""
    return


def columns(policy: torch.nn.Module, batch: Batch, inputs: Mapping[str, Tensor]) -> Known:
    """Log-probabilities that came with the examples, from the data or from the store."""
    return Known(inputs["ref"])


def adapter_off(policy: torch.nn.Module, batch: Batch, inputs: Mapping[str, Tensor]) -> Known:
    """The policy itself with its LoRA adapter switched off: the model that the adapter was put on, without dropout."""
    inner: Any = getattr(policy, "module", policy)
    with still(inner), inner.disable_adapter():
        return _known(inner, batch)


def adapter_before(policy: torch.nn.Module, batch: Batch, inputs: Mapping[str, Tensor]) -> Known:
    """The policy with its adapter as it was at the start, which is kept on the same base under the name `before`."""
    inner: Any = getattr(policy, "module", policy)
    now = inner.active_adapter
    with still(inner):
        inner.set_adapter(BEFORE, inference_mode=True)
        try:
            return _known(inner, batch)
        finally:
            inner.set_adapter(now)


def frozen(model: torch.nn.Module) -> Reference:
    """A second model that never changes."""
    model.requires_grad_(False).eval()

    def reference(policy: torch.nn.Module, batch: Batch, inputs: Mapping[str, Tensor]) -> Known:
        device = batch.answer_ids.device
        if next(model.parameters()).device != device:
            model.to(device)
        with torch.no_grad():
            return _known(model, batch)

    return reference


def with_stored(rows: Sequence[Example], *, model: str | Path, dtype: Dtype) -> list[Example]:
    """Examples with the reference's log-probability of each answer and each stranger, in nats, taken from the store.

    What the store does not know is computed and put there. All processes of a training call this together.

    Args:
        rows: the examples.
        model: the reference.
        dtype: precision of its weights.
    """
    texts = [(*row.answers, *(() if row.stranger is None else (row.stranger,))) for row in rows]
    ends = list(accumulate(map(len, texts)))
    values = stored_logps(
        [row.prompt for row in rows],
        [ids for each in texts for ids in each],
        [i for i, each in enumerate(texts) for _ in each],
        model=model,
        dtype=dtype,
        label="reference",
    ).tolist()
    found = []
    for row, each, end in zip(rows, texts, ends, strict=True):
        own = values[end - len(each) : end]
        refs, rest = tuple(own[: len(row.answers)]), own[len(row.answers) :]
        found.append(replace(row, refs=refs, stranger_ref=rest[0] if rest else None))
    return found


def check_vocabulary(policy: Any, reference: Any, *, longest: int) -> None:
    """Refuse a reference that reads other tokens than the policy, or cannot read the longest example.

    Args:
        policy: configuration of the policy.
        reference: configuration of the reference.
        longest: tokens of prompt and answer, at most.

    Raises:
        InputError: the vocabularies differ in size, or the reference has fewer positions.
    """
    ours, theirs = (getattr(config.get_text_config(), "vocab_size", None) for config in (policy, reference))
    if ours != theirs:
        raise InputError(f"the model has {ours} tokens and reference_model {theirs}; they must share a tokenizer")
    positions = getattr(reference.get_text_config(), "max_position_embeddings", None)
    if positions is not None and longest > positions:
        raise InputError(
            f"max_length is {longest} and reference_model has {positions} positions; set max_length to {positions}"
        )


def _known(model: torch.nn.Module, batch: Batch) -> Known:
    values = token_values(model, batch)
    return Known(values.sums.logp, values.logp)


@contextmanager
def still(inner: Any) -> Iterator[None]:
    """While it lasts, a model is without gradients and without dropout; each part of it is then as it was."""
    was = [(module, module.training) for module in inner.modules()]
    inner.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        inner.train(was[0][1])
        for module, training in was:
            module.training = training
