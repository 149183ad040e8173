"""The log-probability of an answer: the one function that computes it.

Training, reference columns, scoring, selection and evaluation all come here. It takes ragged token lists (each prompt
once, its answers pointing at it) and chooses the rows that the model reads: packed trees where the model's attention
allows, trees under a mask where it takes one, and one padded row for each answer where neither can be. The numbers are
the same in all of them.

Conventions: log-probabilities are natural logarithms, summed over the completion's tokens, the first (predicted from
the prompt's last token) and the EOS included; they are float32 whatever the model's precision.
"""

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from pairwright.errors import PairwrightError
from pairwright.logprobs.attention import has_forest_attention
from pairwright.logprobs.batch import Batch, Ids
from pairwright.logprobs.head import Head, Spread, head_replaced, spread, token_logps
from pairwright.logprobs.layout import LAYOUTS, Layout, Rows

__all__ = ["AnswerLogps", "Batch", "Ids", "TokenLogps", "answer_logps", "layout_of", "pair_logps", "token_values"]


class AnswerLogps(NamedTuple):
    """What a model says of N answers.

    Attributes:
        logp: [N] float32, log-probability summed over the completion, in nats.
        length: [N] long, the number of completion tokens that it sums over.
    """

    logp: Tensor
    length: Tensor


class TokenLogps(NamedTuple):
    """What a model says of each token of N answers, one answer after the other, n tokens in all.

    Attributes:
        logp: [n] float32, log-probability of each token given what stands before it, in nats.
        length: [N] long, tokens of each answer; they sum to n.
        spread: how the probability was spread where each token was predicted, if it was asked for.
    """

    logp: Tensor
    length: Tensor
    spread: Spread | None = None

    @property
    def sums(self) -> AnswerLogps:
        """Summed over each answer's tokens: in float64, since thousands of nats leave float32 no fourth decimal."""
        each = self.logp if self.logp.device.type == "mps" else self.logp.double()  # MPS has no float64
        return AnswerLogps(torch.segment_reduce(each, "sum", lengths=self.length).float(), self.length)


def answer_logps(model: torch.nn.Module, batch: Batch, *, layout: Layout | Literal["auto"] = "auto") -> AnswerLogps:
    """The log-probability of each answer given its prompt.

        logp_i = sum_t log softmax(logits(prompt_i, y_i[:t]))[y_i[t]]

    The value depends neither on the layout nor on the other answers of the batch. Gradients flow where they are
    enabled.

    Args:
        model: a causal language model of transformers, wrapped (PEFT, DDP, FSDP) or not.
        batch: on the model's device.
        layout: how the rows are laid out; `auto` is the fastest that the model was seen to agree in (`layout_of`).

    Returns:
        `logp` [N] in nats, float32, and `length` [N].
    """
    return token_values(model, batch, layout=layout).sums


def pair_logps(model: torch.nn.Module, batch: Batch) -> tuple[AnswerLogps, AnswerLogps]:
    """Log-probabilities of B pairs whose answers alternate: chosen, rejected, chosen, rejected, ...

    Returns:
        The chosen and the rejected sides, [B] each.
    """
    both = answer_logps(model, batch)
    return AnswerLogps(both.logp[0::2], both.length[0::2]), AnswerLogps(both.logp[1::2], both.length[1::2])


def token_values(
    model: torch.nn.Module, batch: Batch, *, layout: Layout | Literal["auto"] = "auto", top: int | None = None
) -> TokenLogps:
    """The log-probability of each token of each answer; see `answer_logps`.

    Args:
        model: a causal language model.
        batch: on the model's device.
        layout: how the rows are laid out.
        top: also give entropy, and mass and entropy of so many most likely tokens, at each token (no gradient).
    """
    rows = LAYOUTS[layout_of(model) if layout == "auto" else layout](batch, unwrapped(model))
    heard = _run(model, rows, batch.answer_ids, top)
    return TokenLogps(heard.logp, batch.answer_lengths, heard.spread)


def layout_of(model: torch.nn.Module) -> Layout:
    """The fastest layout in which a model gives the numbers that it gives on padded rows.

    Each is tried once for a model, on a batch of a few tokens, before it is used: a layer that mixes tokens in a way
    that the layout does not know of (a recurrence, a convolution) shows there. Where the padded layout is what is left
    of a model of transformers, a line on stderr says so and why.
    """
    inner = unwrapped(model)
    known = _LAYOUTS.get(inner)
    if known is None or known[0] != _attention_of(inner):
        known = _attention_of(inner), _tried(model, inner)
        _LAYOUTS[inner] = known
    return known[1]


_LAYOUTS: "WeakKeyDictionary[torch.nn.Module, tuple[str | None, Layout]]" = WeakKeyDictionary()

_FINE, _COARSE = 1e-3, 0.3
"""Nats that two layouts may differ by over a few tokens: rounding, in float32 and in half precision."""


class _Heard(NamedTuple):
    """Log-probability of each target [n], the spread where it was asked for, and the precision of the head."""

    logp: Tensor
    spread: Spread | None
    precision: torch.dtype


def unwrapped(model: Any) -> Any:
    """The causal language model under the wrappers of DDP, torch.compile and PEFT."""
    while True:
        if hasattr(model, "module"):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod
        elif hasattr(model, "get_base_model"):
            model = model.get_base_model()
        else:
            return model


def _attention_of(inner: Any) -> str | None:
    return getattr(getattr(inner, "config", None), "_attn_implementation", None)


def _tried(model: torch.nn.Module, inner: Any) -> Layout:
    """The first layout of `packed`, `forest` that agrees with `padded`."""
    if not hasattr(inner, "config") or not hasattr(inner, "get_output_embeddings"):
        return "padded"
    takes = inspect.signature(inner.forward).parameters
    hands_on = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in takes.values())
    wanted: list[Layout] = []
    if "position_ids" in takes and has_forest_attention(inner) and hands_on:
        wanted.append("packed")
    if "position_ids" in takes and (has_forest_attention(inner) or _attention_of(inner) in ("sdpa", "eager")):
        wanted.append("forest")
    why = f"its attention is {_attention_of(inner)!r}" if not wanted else ""
    for layout in wanted:
        why = _disagreement(model, inner, layout)
        if not why:
            return layout
    print(f"logprobs: {type(inner).__name__} reads padded rows, one answer each: {why}", file=sys.stderr)
    return "padded"


def _disagreement(model: torch.nn.Module, inner: Any, layout: Layout) -> str:
    """Why a layout is not to be used; empty if its numbers are those of padded rows."""
    batch = _sample(inner)
    with torch.no_grad(), _without_dropout(model):
        expected = answer_logps(model, batch, layout="padded").logp
        try:
            rows = LAYOUTS[layout](batch, inner)
            heard = _run(model, rows, batch.answer_ids, None)
        except (PairwrightError, RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            first = (str(error).splitlines() or [""])[0]
            return f"the {layout} layout fails ({type(error).__name__}: {first})"
    layers = getattr(inner.config.get_text_config(), "num_hidden_layers", None)
    if rows.forest is not None and rows.forest.calls != layers:
        return f"{rows.forest.calls} of its {layers} layers are attention"
    apart = (TokenLogps(heard.logp, batch.answer_lengths).sums.logp - expected).abs().max().item()
    allowed = _COARSE if heard.precision in (torch.bfloat16, torch.float16) else _FINE
    return "" if apart <= allowed else f"the {layout} layout differs by {apart:.2g} nats"


def _sample(inner: Any) -> Batch:
    """A few tokens: two prompts with two answers each, one of them a single token."""
    size = inner.get_input_embeddings().weight.shape[0]
    lengths = iter([(5, 7), (3, 4), (6, 2), (2, 1), (9, 11), (4, 3)])

    def some(count: int, first: int) -> list[int]:
        return [(first * 7919 + 31 * i * i + i) % size for i in range(count)]

    prompts, answers = [next(lengths), next(lengths)], list(lengths)
    batch = Batch.of([some(*each) for each in prompts], [some(*each) for each in answers], [0, 1, 0, 1])
    return batch.to(next(inner.parameters()).device)


@contextmanager
def _without_dropout(model: torch.nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _run(model: torch.nn.Module, rows: Rows, targets: Tensor, top: int | None) -> _Heard:
    """What a model says of each target."""
    inner = unwrapped(model)
    takes = inspect.signature(inner.forward).parameters
    optional: Mapping[str, Any] = {"position_ids": rows.position, "use_cache": False}
    given = rows.given | {name: value for name, value in optional.items() if name in takes}
    if not hasattr(inner, "get_output_embeddings"):
        head = Head(torch.nn.Identity(), lambda logits: logits)
        return _read(head, model(input_ids=rows.ids, **given).logits, rows, targets, top)
    head = Head.of(inner)
    heard: list[_Heard] = []

    def forward(hidden: Tensor) -> Tensor:
        heard.append(_read(head, hidden, rows, targets, top))
        return heard[-1].logp

    with head_replaced(inner, forward):
        logp = model(input_ids=rows.ids, **given).logits
    # What came through the model, not what its head gave: the wrappers' hooks hang on that.
    return heard[-1]._replace(logp=logp)


def _read(head: Head, states: Tensor, rows: Rows, targets: Tensor, top: int | None) -> _Heard:
    """From the states of all rows, [R, T, H], to the numbers of the answers' tokens."""
    kind, width = states.device.type, rows.ids.shape[1]
    states = states[:, states.shape[1] - width :]  # tuned prompts put positions of their own in front
    wanted = states.flatten(0, 1).index_select(0, rows.where)
    found = None if top is None else spread(head, wanted.detach(), top=top)
    precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
    return _Heard(token_logps(head, wanted, targets), found, precision)
