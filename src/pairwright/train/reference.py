"""Four references: what the policy's log-probabilities are compared with.

A reference is a function of the policy, the batch and the collated inputs; it gives `[N]` log-probabilities in nats,
one for each answer, or None. The trainer knows nothing else about it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pairwright.errors import InputError
from pairwright.logprobs.core import Batch, answer_logps

Reference = Callable[[torch.nn.Module, Batch, Mapping[str, Tensor]], Tensor | None]


def none(policy: torch.nn.Module, batch: Batch, inputs: Mapping[str, Tensor]) -> None:
    """No reference."""
    return


def columns(policy: torch.nn.Module, batch: Batch, inputs: Mapping[str, Tensor]) -> Tensor:
    """Log-probabilities that stand in the data."""
    return inputs["ref"]


def adapter_off(policy: torch.nn.Module, batch: Batch, inputs: Mapping[str, Tensor]) -> Tensor:
    """The policy itself with its LoRA adapter switched off: the model that the adapter was put on, without dropout."""
    inner: Any = getattr(policy, "module", policy)
    training = inner.training
    inner.eval()
    try:
        with torch.no_grad(), inner.disable_adapter():
            return answer_logps(inner, batch).logp
    finally:
        inner.train(training)


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


def check_vocabulary(policy: torch.nn.Module, reference: torch.nn.Module) -> None:
    """Refuse a reference that reads other tokens than the policy.

    Raises:
        InputError: the vocabularies differ in size.
    """
    sizes = [model.get_input_embeddings().weight.shape[0] for model in (policy, reference)]  # type: ignore[operator]
    if sizes[0] != sizes[1]:
        raise InputError(f"the model has {sizes[0]} tokens and reference_model {sizes[1]}; they must share a tokenizer")
