"""The references: what the policy's log-probabilities are compared with.

A reference is a function of the policy, the batch and the collated inputs; it gives `[N]` log-probabilities in nats,
one for each answer, or None. The trainer knows nothing else about it.

`none`: no reference. `columns`: numbers that stand in the data. `store`: numbers computed before the training begins,
each once for all trainings. `frozen`: a second model. `adapter_off`: the policy with its adapter switched off.
`adapter_before`: the policy with the adapter that it started from.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pairwright.errors import InputError
from pairwright.logprobs.core import Batch, answer_logps
from pairwright.logprobs.models import Dtype
from pairwright.logprobs.stored import stored_logps
from pairwright.train.data import Example
from pairwright.train.policy import BEFORE

Reference = Callable[[torch.nn.Module, Batch, Mapping[str, Tensor]], Tensor | None]


def none(policy: torch.nn.Module, batch: Batch, inputs: Mapping[str, Tensor]) -> None:
    """No reference."""
    return


def columns(policy: torch.nn.Module, batch: Batch, inputs: Mapping[str, Tensor]) -> Tensor:
    """Log-probabilities that came with the examples, from the data or from the store."""
    return inputs["ref"]


def adapter_off(policy: torch.nn.Module, batch: Batch, inputs: Mapping[str, Tensor]) -> Tensor:
    """The policy itself with its LoRA adapter switched off: the model that the adapter was put on, without dropout."""
    inner: Any = getattr(policy, "module", policy)
    with _still(inner), inner.disable_adapter():
        return answer_logps(inner, batch).logp


def adapter_before(policy: torch.nn.Module, batch: Batch, inputs: Mapping[str, Tensor]) -> Tensor:
    """The policy with its adapter as it was at the start, which is kept on the same base under the name `before`."""
    inner: Any = getattr(policy, "module", policy)
    now = inner.active_adapter
    with _still(inner):
        inner.set_adapter(BEFORE, inference_mode=True)
        try:
            return answer_logps(inner, batch).logp
        finally:
            inner.set_adapter(now)


def frozen(model: torch.nn.Module) -> Reference:
    """A second model that never changes."""
    model.requires_grad_(False).eval()

    def reference(policy: torch.nn.Module, batch: Batch, inputs: Mapping[str, Tensor]) -> Tensor:
        device = batch.answer_ids.device
        if next(model.parameters()).device != device:
            model.to(device)
        with torch.no_grad():
            return answer_logps(model, batch).logp

    return reference


def with_stored(rows: Sequence[Example], *, model: str | Path, dtype: Dtype) -> list[Example]:
    """Examples with the reference's log-probability of each answer, in nats, taken from the store.

    What the store does not know is computed and put there. All processes of a training call this together.

    Args:
        rows: the examples.
        model: the reference.
        dtype: precision of its weights.
    """
    ends = list(accumulate(len(row.answers) for row in rows))
    values = stored_logps(
        [row.prompt for row in rows],
        [ids for row in rows for ids in row.answers],
        [i for i, row in enumerate(rows) for _ in row.answers],
        model=model,
        dtype=dtype,
        label="reference",
    ).tolist()
    return [replace(row, refs=tuple(values[end - len(row.answers) : end])) for row, end in zip(rows, ends, strict=True)]


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


@contextmanager
def _still(inner: Any) -> Iterator[None]:
    """Without gradients and without dropout."""
    training = inner.training
    inner.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        inner.train(training)
