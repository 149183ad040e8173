"""The log-probability of an answer: the one function that computes it.

Training, reference columns, scoring and evaluation all call `answer_logps`. It takes ragged token lists (each prompt
once, its answers pointing at it) and hides the layout: today padded rows, one for each answer.

Conventions: log-probabilities are natural logarithms, summed over the completion's tokens, the first (predicted from
the prompt's last token) and the EOS included; they are float32 whatever the model's precision.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

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
        """Make a batch from lists: `answers[i]` continues `prompts[owner[i]]`."""
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


class AnswerLogps(NamedTuple):
    """What a model says of N answers.

    Attributes:
        logp: [N] float32, log-probability summed over the completion, in nats.
        length: [N] long, the number of completion tokens that it sums over.
    """

    logp: Tensor
    length: Tensor


def answer_logps(model: torch.nn.Module, batch: Batch) -> AnswerLogps:
    """The log-probability of each answer given its prompt.

        logp_i = sum_t log softmax(logits(prompt_i, y_i[:t]))[y_i[t]]

    Rows are padded on the right and position ids are given, so the value depends neither on padding nor on the other
    answers of the batch. Gradients flow where they are enabled.

    Args:
        model: a causal language model of transformers, wrapped (PEFT, DDP) or not.
        batch: on the model's device.

    Returns:
        `logp` [N] in nats, float32, and `length` [N].
    """
    rows, starts = _rows(batch)
    lengths = batch.answer_lengths
    ids = pad_sequence(rows, batch_first=True)
    width = ids.shape[1]
    position = torch.arange(width, device=ids.device)
    present = position < (starts + lengths)[:, None]
    first = int(starts.min()) - 1
    logits = _logits(model, ids, present.long(), position.expand_as(ids), keep=width - first)
    # The logits at position t speak of token t + 1, so the last position has nothing to say.
    logits, targets, at = logits[:, :-1], ids[:, first + 1 :], position[first + 1 :]
    inside = (at >= starts[:, None]) & present[:, first + 1 :]
    values = logits.float()
    token_logps = values.gather(-1, targets[..., None]).squeeze(-1) - values.logsumexp(-1)
    return AnswerLogps(token_logps.where(inside, 0.0).sum(-1), lengths)


def pair_logps(model: torch.nn.Module, batch: Batch) -> tuple[AnswerLogps, AnswerLogps]:
    """Log-probabilities of B pairs whose answers alternate: chosen, rejected, chosen, rejected, ...

    Returns:
        The chosen and the rejected sides, [B] each.
    """
    both = answer_logps(model, batch)
    return AnswerLogps(both.logp[0::2], both.length[0::2]), AnswerLogps(both.logp[1::2], both.length[1::2])


def _flat(rows: Sequence[Ids]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)
    return torch.cat([torch.as_tensor(row, dtype=torch.long) for row in rows]), lengths


def _rows(batch: Batch) -> tuple[list[Tensor], Tensor]:
    """Prompt and completion of each answer as one row, and the position of each row's first completion token, [N]."""
    prompts = torch.split(batch.prompt_ids, batch.prompt_lengths.tolist())
    answers = torch.split(batch.answer_ids, batch.answer_lengths.tolist())
    owners = batch.answer_prompt.tolist()
    rows = [torch.cat([prompts[owner], answer]) for owner, answer in zip(owners, answers, strict=True)]
    return rows, batch.prompt_lengths[batch.answer_prompt]


def _logits(model: torch.nn.Module, ids: Tensor, mask: Tensor, position: Tensor, *, keep: int) -> Tensor:
    """Logits of the last `keep` positions, [N, keep, V]; the head skips the others where the model can."""
    takes = _parameters(model)
    wanted: dict[str, Any] = {"position_ids": position, "use_cache": False, "logits_to_keep": keep}
    given = {name: value for name, value in wanted.items() if name in takes}
    logits: Tensor = model(input_ids=ids, attention_mask=mask, **given).logits
    return logits[:, -keep:]


def _parameters(model: torch.nn.Module) -> frozenset[str]:
    """Names that the forward pass of the innermost model takes, under the wrappers of DDP and PEFT."""
    inner: Any = model
    while hasattr(inner, "module") or hasattr(inner, "get_base_model"):
        inner = inner.module if hasattr(inner, "module") else inner.get_base_model()
    return frozenset(inspect.signature(inner.forward).parameters)
