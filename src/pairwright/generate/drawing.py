"""Draw tokens from a model that is opened once, batch after batch, in this process or in a worker of a cluster.

Random numbers belong to the answer, not to the batch. Each step of each answer takes one uniform number from the
answer's own stream and inverts the distribution function of the next token. So an answer does not change when other
requests come or go, as long as the logits agree: they differ in their last bits between batch shapes, which moves a
token only where its number falls within rounding of a boundary. The same batches on the same machine give the same
bytes.

The log-probability of a drawn token is read off the logits that it was drawn from, so it costs nothing. Everywhere else
one core computes log-probabilities (`logprobs/core.py`); a test compares the two.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pairwright.errors import InputError, PairwrightError
from pairwright.generate.request import Drawn
from pairwright.logprobs.models import Dtype, device_for_models, open_model, open_tokenizer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_FINE, _COARSE = 1e-3, 0.3
"""How far logits may be apart when a prompt is read once for several answers: in float32, and in half precision."""
_SPARE = 8
"""Tokens that are looked through for a stop string beyond those that it can have."""


class Sampling(NamedTuple):
    """How tokens are drawn."""

    temperature: float
    """0 takes the most probable token each time."""
    top_p: float
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    """Texts that end an answer."""


class Wanted(NamedTuple):
    """A batch of answers.

    Attributes:
        prompts: token ids of the different prompts, [P], at least one token each.
        owner: which prompt each answer is to, [B].
        seeds: of each answer's random numbers, [B].
    """

    prompts: Sequence[Sequence[int]]
    owner: Sequence[int]
    seeds: Sequence[int]


class OpenedSampler:
    """A model in evaluation mode, on the GPU where there is one.

    Args:
        model: a `save_pretrained` directory, a hub name, or the directory of a PEFT adapter.
        dtype: precision of its weights.
        sampling: how tokens are drawn.

    Raises:
        InputError: there is no such model, or nothing says which token ends an answer.
    """

    def __init__(self, model: str | Path, dtype: Dtype, sampling: Sampling) -> None:
        network: Any = open_model(model, dtype=dtype).requires_grad_(False).to(device_for_models())
        self._take(network, open_tokenizer(model), sampling, coarse=dtype != "float32")

    @classmethod
    def of(cls, network: Any, tokenizer: Any, sampling: Sampling) -> "OpenedSampler":
        """A model that is open already, in evaluation mode; its own generation settings are replaced."""
        made = cls.__new__(cls)
        made._take(network, tokenizer, sampling, coarse=next(network.parameters()).element_size() < 4)
        return made

    def _take(self, network: Any, tokenizer: Any, sampling: Sampling, *, coarse: bool) -> None:
        self._network, self._tokenizer, self._sampling = network, tokenizer, sampling
        self._ends = _end_tokens(network, tokenizer)
        pad = tokenizer.pad_token_id
        self._pad: int = self._ends[0] if pad is None else pad
        self._coarse = coarse
        self._shares: bool | None = None
        _plain_settings(network, ends=self._ends, pad=self._pad, max_new_tokens=sampling.max_new_tokens)

    def answers(self, wanted: Wanted) -> list[Drawn]:
        """An answer for each, in order.

        Raises:
            PairwrightError: the model gives no finite probability.
        """
        import torch

        with torch.inference_mode():
            rows, logps = self._continued(wanted)
        return [self._ended(row, logp) for row, logp in zip(rows, logps, strict=True)]

    def tokens(self, wanted: Wanted) -> list[tuple[list[int], bool]]:
        """The token ids of an answer for each, in order, and whether the last one ended it; without stop strings."""
        import torch

        with torch.no_grad():  # not inference: a model that is trained on may keep what it computes here
            rows = self._continued(wanted)[0]
        ends = [next((at for at, token in enumerate(row) if token in self._ends), None) for row in rows]
        return [(row, False) if end is None else (row[: end + 1], True) for row, end in zip(rows, ends, strict=True)]

    def _continued(self, wanted: Wanted) -> tuple[list[list[int]], list[list[float]]]:
        """The new tokens of each answer and their log-probabilities, padding included."""
        import torch

        network, sampling = self._network, self._sampling
        ids, mask = self._padded(wanted.prompts)
        owner = torch.tensor(wanted.owner, device=ids.device)
        numbers = None
        if sampling.temperature > 0:
            numbers = torch.from_numpy(uniforms(wanted.seeds, sampling.max_new_tokens)).to(ids.device)
        chooser = _Chooser(numbers, ids.shape[1], sampling)
        given: dict[str, Any] = {"logits_processor": [chooser]}
        if sampling.stop:
            given["stopping_criteria"] = [_Ends(self._tokenizer, sampling.stop, ids.shape[1])]
        repeats = len(wanted.prompts) < len(wanted.owner)
        if repeats and min(map(len, wanted.prompts)) > 1 and self._reads_once():
            given["past_key_values"] = self._read(ids, mask, owner)
        whole = network.generate(input_ids=ids[owner], attention_mask=mask[owner], **given)
        rows: list[list[int]] = whole[:, ids.shape[1] :].tolist()
        return rows, torch.stack(chooser.logps, dim=1).tolist()

    def _padded(self, prompts: Sequence[Sequence[int]]) -> "tuple[Tensor, Tensor]":
        """Tokens and mask of prompts that end together, [P, T] each."""
        import torch

        width = max(map(len, prompts))
        ids = [[self._pad] * (width - len(row)) + list(row) for row in prompts]
        mask = [[0] * (width - len(row)) + [1] * len(row) for row in prompts]
        device = self._network.device
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)

    def _read(self, ids: "Tensor", mask: "Tensor", owner: "Tensor") -> Any:
        """What the model keeps of all prompts but their last token, a row for each answer; each is read once."""
        made = self._network.generate(
            input_ids=ids[:, :-1], attention_mask=mask[:, :-1], max_new_tokens=1, return_dict_in_generate=True
        )
        cache = made.past_key_values
        cache.batch_select_indices(owner)
        return cache

    def _reads_once(self) -> bool:
        """Whether a prompt may be read once for all its answers: tried once for a model, on a few tokens.

        A model with a state that is no list of keys and values (a recurrence) reads it for each of them.
        """
        if self._shares is None:
            why = self._disagreement()
            self._shares = not why
            if why:
                name = type(self._network).__name__
                print(f"generate: {name} reads a prompt anew for each of its answers: {why}", file=sys.stderr)
        return self._shares

    def _disagreement(self) -> str:
        """Why a prompt may not be read once; empty if the logits behind it stay what they are."""
        import torch

        size = self._network.config.get_text_config().vocab_size
        prompts = [[(7919 * i + 31 * i * i + k) % size for i in range(count)] for k, count in ((3, 9), (5, 6))]
        ids, mask = self._padded(prompts)
        owner = torch.tensor([0, 0, 1], device=ids.device)
        # Three tokens and never an end, so that what is kept is used and grows.
        asked: dict[str, Any] = {"input_ids": ids[owner], "attention_mask": mask[owner], "max_new_tokens": 3}
        asked |= {"min_new_tokens": 3, "return_dict_in_generate": True, "output_logits": True}
        try:
            apart = self._network.generate(**asked)
            once = self._network.generate(past_key_values=self._read(ids, mask, owner), **asked)
            # Where rounding has chosen another token, what follows it says nothing.
            steps = 3 if torch.equal(apart.sequences, once.sequences) else 1
            both = zip(apart.logits[:steps], once.logits[:steps], strict=True)
            away = max(float((one - other).abs().max()) for one, other in both)
        except (AttributeError, RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
            first = (str(error).splitlines() or [""])[0]
            return f"what it keeps of one cannot be shared ({type(error).__name__}: {first})"
        fine = away <= (_COARSE if self._coarse else _FINE)  # and not where it is NaN
        return "" if fine else f"its logits would differ by {away:.2g}"

    def _ended(self, ids: list[int], logps: list[float]) -> Drawn:
        """An answer up to its end."""
        end = next((at for at, token in enumerate(ids) if token in self._ends), None)
        said = ids[:end]
        text, stopped, length = self._decoded(said), "length", len(ids)
        if end is not None:
            stopped, length = "eos", end + 1
        if _stop_in(text, self._sampling.stop) is not None:
            # The first token with which a stop string is there; what was drawn after it plays no part.
            texts = (self._decoded(said[:n]) for n in range(1, len(said) + 1))
            length, text = next(
                (n, text) for n, text in enumerate(texts, 1) if _stop_in(text, self._sampling.stop) is not None
            )
            stopped, text = "stop", text[: _stop_in(text, self._sampling.stop)]
        logp = float(np.sum(np.asarray(logps[:length], dtype=np.float64)))
        if not np.isfinite(logp):
            raise PairwrightError("generate: the model gives a token that is not finite in probability; try float32")
        return Drawn(text, stopped, logp, length)

    def _decoded(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))


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


class _Chooser:
    """A logits processor that leaves only the chosen token, so that taking the most probable one takes it.

    Attributes:
        logps: log-probability of each step's tokens at temperature 1, [B] each.
    """

    def __init__(self, numbers: "Tensor | None", width: int, sampling: Sampling) -> None:
        self._numbers, self._width, self._sampling = numbers, width, sampling
        self.logps: list[Tensor] = []

    def __call__(self, ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        if self._numbers is None:
            token = scores.argmax(-1)
        else:
            at, asked = ids.shape[1] - self._width, self._sampling
            token = draw(scores, self._numbers[:, at], temperature=asked.temperature, top_p=asked.top_p)
        self.logps.append(scores.float().log_softmax(-1).gather(1, token[:, None])[:, 0])
        return scores.new_full(scores.shape, -float("inf")).scatter(1, token[:, None], 0.0)


class _Ends:
    """A stopping criterion: which rows have a stop string among their last tokens.

    It only saves steps. Where an answer ends is decided afterwards, from all of its text.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str], width: int) -> None:
        self._tokenizer, self._stop, self._width = tokenizer, stop, width
        # A token is a byte at least, and one that spells nothing is no part of an answer.
        self._tail = max(len(word.encode("utf-8")) for word in stop) + _SPARE

    def __call__(self, ids: "torch.Tensor", scores: Any, **_: Any) -> "torch.Tensor":
        import torch

        tails = ids[:, max(self._width, ids.shape[1] - self._tail) :].tolist()
        found = [self._is_in(tail) and self._is_in(ids[i, self._width :].tolist()) for i, tail in enumerate(tails)]
        return torch.tensor(found, device=ids.device)

    def _is_in(self, row: list[int]) -> bool:
        return _stop_in(self._tokenizer.decode(row, skip_special_tokens=True), self._stop) is not None


def _stop_in(text: str, stop: Sequence[str]) -> int | None:
    """Where the first stop string of a text begins; None where there is none."""
    return min((at for word in stop if (at := text.find(word)) >= 0), default=None)


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
