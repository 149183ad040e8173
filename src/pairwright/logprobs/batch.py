"""A batch of prompts and answers as flat tensors: what the core takes, whatever rows it makes of it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pairwright.errors import PairwrightError

Ids = Sequence[int] | np.ndarray


class Batch(NamedTuple):
    """P prompts and N answers to them as flat tensors of integers; nothing here is padded.

    Attributes:
        prompt_ids: tokens of all prompts, one after the other, [sum of prompt_lengths].
        prompt_lengths: [P], at least 1 each.
        answer_ids: tokens of all completions, one after the other, [sum of answer_lengths].
        answer_lengths: [N], at least 1 each.
        answer_prompt: [N], which prompt each answer belongs to, 0..P-1.
    """

    prompt_ids: Tensor
    prompt_lengths: Tensor
    answer_ids: Tensor
    answer_lengths: Tensor
    answer_prompt: Tensor

    @classmethod
    def of(cls, prompts: Sequence[Ids], answers: Sequence[Ids], owner: Sequence[int]) -> "Batch":
        """Make a batch from lists: `answers[i]` continues `prompts[owner[i]]`.

        Raises:
            PairwrightError: there is no prompt or no answer, or one has no tokens: nothing would predict its first.
        """
        for name, rows in (("prompt", prompts), ("answer", answers)):
            empty = next((i for i, row in enumerate(rows) if not len(row)), None)
            if empty is not None or not len(rows):
                raise PairwrightError(f"a batch needs a token of each {name}, and {_named(name, empty)}")
        return cls(*(_flat(prompts)), *(_flat(answers)), torch.tensor(owner, dtype=torch.long))

    @classmethod
    def from_inputs(cls, inputs: Mapping[str, Tensor]) -> "Batch":
        """Take a batch out of a dictionary of tensors, such as a collator gives."""
        return cls(*(inputs[name] for name in cls._fields))

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on a device."""
        return Batch(*(tensor.to(device) for tensor in self))

    @property
    def tokens(self) -> int:
        """Tokens of all prompts and answers, each once."""
        return self.prompt_ids.numel() + self.answer_ids.numel()


def _named(name: str, empty: int | None) -> str:
    return f"there is no {name}" if empty is None else f"{name} {empty} has none"


def _flat(rows: Sequence[Ids]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)
    return torch.cat([torch.as_tensor(row, dtype=torch.long) for row in rows]), lengths
