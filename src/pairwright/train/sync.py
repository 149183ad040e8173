"""A reference that follows the policy: every so many steps it goes a part of the way (TR-DPO)."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pairwright.errors import need

REFERENCE = "reference.safetensors"
"""In a checkpoint: the weights of the reference as it was."""


class SyncReference(TrainerCallback):
    """Move a reference towards the policy, weight by weight:

        reference <- mix * policy + (1 - mix) * reference

    after each `every`-th step of the optimizer. `mix` below 1 at every step is the soft update of the paper, `mix` 1
    every few hundred steps the hard one. The reference is kept in checkpoints, so that a run that goes on has the one
    that it was stopped with.

    A reference below float32 is also kept in float32, four more bytes for each weight: bfloat16 has three digits, and
    a small part of the way would be rounded to none at each move.

    Args:
        reference: the model that is moved; it starts as the policy.
        mix: how far it goes, above 0 and at most 1, where it is the policy.
        every: steps from one move to the next.

    Source: Gorbatovski et al. 2024, arXiv:2404.09656 (TR-DPO), the soft and the hard update.
    """

    def __init__(self, reference: torch.nn.Module, *, mix: float, every: int) -> None:
        self.reference, self.mix, self.every = reference, mix, every
        self._exact = {
            name: weight.detach().float()
            for name, weight in reference.named_parameters()
            if weight.dtype in (torch.bfloat16, torch.float16)
        }

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the reference out of the checkpoint that the run goes on from."""
        if state.global_step > 0:
            held = load_file(Path(args.output_dir or ".") / f"checkpoint-{state.global_step}" / REFERENCE)
            with torch.no_grad():
                for name, weight in self.reference.named_parameters():
                    weight.copy_(held[name])
                    if name in self._exact:
                        self._exact[name] = held[name].float()

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Move the reference, where it is its turn."""
        if model is not None and state.global_step % self.every == 0:
            accelerate: Any = need("accelerate", extra="train")
            policy = accelerate.utils.extract_model_from_parallel(model)
            move(self.reference, policy, mix=self.mix, exact=self._exact)

    def keep(self, checkpoint: Path) -> None:
        """Write the reference into a checkpoint."""
        weights = dict(self.reference.named_parameters()) | self._exact
        save_file(
            {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}, checkpoint / REFERENCE
        )


@torch.no_grad()
def move(
    reference: torch.nn.Module, policy: torch.nn.Module, *, mix: float, exact: dict[str, torch.Tensor] | None = None
) -> None:
    """Set each weight of `reference` to `mix * policy + (1 - mix) * reference`; `policy` is not changed.

    With `mix` 1 the two are equal to the last bit.

    Args:
        reference: the model that is moved.
        policy: the model that it goes to.
        mix: how far.
        exact: weights of the reference in a higher precision, by name; they are moved, and the reference is them,
            rounded. They come to the device of the reference.
    """
    theirs, exact = dict(policy.named_parameters()), {} if exact is None else exact
    for name, weight in reference.named_parameters():
        held: torch.Tensor = weight
        if name in exact:
            held = exact[name] = exact[name].to(weight.device)
        held.lerp_(theirs[name].detach().to(held.device, held.dtype), mix)
        weight.copy_(held)
