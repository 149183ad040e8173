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
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from pairwright.errors import PairwrightError
from pairwright.logprobs.attention import has_forest_attention
from pairwright.logprobs.batch import Batch, Ids
from pairwright.logprobs.head import Head, Spread, collision, head_replaced, spread, token_logps
from pairwright.logprobs.layout import LAYOUTS, Layout, Rows
from pairwright.logprobs.ranks import together

__all__ = [
    "AnswerLogps",
    "Batch",
    "Ids",
    "States",
    "TokenLogps",
    "answer_logps",
    "answer_states",
    "layout_of",
    "pair_logps",
    "token_values",
]


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
        collision: [n] float32, log of the sum of squared probabilities there, if it was asked for; no gradient.
    """

    logp: Tensor
    length: Tensor
    spread: Spread | None = None
    collision: Tensor | None = None

    @property
    def sums(self) -> AnswerLogps:
        """Summed over each answer's tokens: in float64, since thousands of nats leave float32 no fourth decimal."""
        each = self.logp if self.logp.device.type == "mps" else self.logp.double()  # MPS has no float64
        return AnswerLogps(torch.segment_reduce(each, "sum", lengths=self.length).float(), self.length)


class States(NamedTuple):
    """What a model knew where it predicted each token of N answers, n tokens in all; no gradient.

    Attributes:
        hidden: what goes into its head, [n, H].
        head: what makes logits of it.
        mixed: the precision in which autocast computed; None where it did not.
    """

    hidden: Tensor
    head: Head
    mixed: torch.dtype | None

    def logits(self, hidden: Tensor) -> Tensor:
        """The logits that the softmax gets, [m, V] float32, for some rows of `hidden`, [m, H]."""
        kind = hidden.device.type
        with torch.no_grad(), torch.autocast(kind, dtype=self.mixed, enabled=self.mixed is not None):
            return self.head.shape(self.head.project(hidden))


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
    model: torch.nn.Module,
    batch: Batch,
    *,
    layout: Layout | Literal["auto"] = "auto",
    top: int | None = None,
    collides: bool = False,
) -> TokenLogps:
    """The log-probability of each token of each answer; see `answer_logps`.

    Args:
        model: a causal language model.
        batch: on the model's device.
        layout: how the rows are laid out.
        top: also give entropy, and mass and entropy of so many most likely tokens, at each token (no gradient).
        collides: also give `collision` at each token.
    """
    rows = LAYOUTS[layout_of(model, batch) if layout == "auto" else layout](batch, unwrapped(model))
    heard = _run(model, rows, batch.answer_ids, _Also(top, collides))
    return TokenLogps(heard.logp, batch.answer_lengths, heard.spread, heard.collision)


def answer_states(model: torch.nn.Module, batch: Batch, *, top: int | None = None) -> tuple[TokenLogps, States]:
    """As `token_values`, and what the model knew where it predicted each token: for whole distributions."""
    rows = LAYOUTS[layout_of(model, batch)](batch, unwrapped(model))
    heard = _run(model, rows, batch.answer_ids, _Also(top, keeps=True))
    assert heard.states is not None
    return TokenLogps(heard.logp, batch.answer_lengths, heard.spread), heard.states


def layout_of(model: torch.nn.Module, batch: Batch | None = None) -> Layout:
    """The fastest layout in which a model gives the numbers that it gives on padded rows.

    Each is tried once for a model before it is used, on a few tokens; and once more, before the first tree that is
    longer than the model's window, on trees longer than that. A layer that mixes tokens in a way that the layout does
    not know of (a recurrence, a convolution, another window) shows there. Where the padded layout is what is left of a
    model of transformers, a line on stderr says so and why.

    Args:
        model: a causal language model.
        batch: what is to be computed; None is something shorter than any window.
    """
    inner = unwrapped(model)
    window = _shortest_window(inner)
    beyond = batch is not None and window is not None and _longest(batch) > window
    known = _LAYOUTS.setdefault(inner, {})
    # A forward pass of a model that several processes share is a meeting: all of them try all at their first batch,
    # and not each when its own batch asks for it.
    for far in (False, True) if window is not None and together() else (beyond,):
        if (_attention_of(inner), far) not in known:
            known[_attention_of(inner), far] = _tried(model, inner, window if far else None)
    return known[_attention_of(inner), beyond]


_LAYOUTS: "WeakKeyDictionary[torch.nn.Module, dict[tuple[str | None, bool], Layout]]" = WeakKeyDictionary()
_LOCKS: "WeakKeyDictionary[torch.nn.Module, threading.RLock]" = WeakKeyDictionary()
_BEHIND: "WeakKeyDictionary[torch.nn.Module, bool]" = WeakKeyDictionary()
"""Whether a model does something behind its head that is not known here; its full logits are read then."""

_WINDOWS = ("sliding_window", "window_size", "attention_window_size", "local_attention", "attention_chunk_size")
"""Names under which configurations say how far a layer looks."""
_FINE, _COARSE, _LEAK = 1e-3, 0.3, 0.03
"""Nats over a few tokens: what rounding may do in float32; in half precision between layouts; and within one."""


class _Also(NamedTuple):
    """What is read besides log-probabilities: the spread with so many most likely tokens, the collision, states."""

    top: int | None = None
    collides: bool = False
    keeps: bool = False


class _Heard(NamedTuple):
    """Log-probability of each target [n], spread, collision and states where asked for, the precision of the head."""

    logp: Tensor
    spread: Spread | None
    collision: Tensor | None
    precision: torch.dtype
    states: States | None


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


def _shortest_window(inner: Any) -> int | None:
    config = getattr(inner, "config", None)
    if config is None:
        return None
    found = [getattr(config.get_text_config(), name, None) for name in _WINDOWS]
    return min((each for each in found if isinstance(each, int) and each > 0), default=None)


def _longest(batch: Batch) -> int:
    """Tokens of the largest tree."""
    answers = torch.zeros_like(batch.prompt_lengths).index_add_(0, batch.answer_prompt, batch.answer_lengths)
    return int((batch.prompt_lengths + answers).max())


def _tried(model: torch.nn.Module, inner: Any, window: int | None) -> Layout:
    """The first layout of `packed`, `forest` that agrees with `padded` on trees longer than a window if given."""
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
        why = _disagreement(model, inner, layout, window)
        if not why:
            return layout
    print(f"logprobs: {type(inner).__name__} reads padded rows, one answer each: {why}", file=sys.stderr)
    return "padded"


def _disagreement(model: torch.nn.Module, inner: Any, layout: Layout, window: int | None) -> str:
    """Why a layout is not to be used; empty if its numbers are those of padded rows."""
    batch, other = _sample(inner, window), _sample(inner, window, company=1)
    with torch.no_grad(), _without_dropout(model):
        try:
            expected = answer_logps(model, batch, layout="padded").logp
            rows = LAYOUTS[layout](batch, inner)
            heard = _run(model, rows, batch.answer_ids, _Also())
            apart = _run(model, LAYOUTS[layout](other, inner), other.answer_ids, _Also())
        except (PairwrightError, RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            first = (str(error).splitlines() or [""])[0]
            return f"the {layout} layout fails ({type(error).__name__}: {first})"
    layers = getattr(inner.config.get_text_config(), "num_hidden_layers", None)
    if rows.forest is not None and rows.forest.calls != layers:
        return f"{rows.forest.calls} of its {layers} layers are attention"
    found, again = (TokenLogps(each.logp, batch.answer_lengths).sums.logp for each in (heard, apart))
    leak, away = abs(float(found[-1] - again[-1])), float((found - expected).abs().max())
    half = heard.precision in (torch.bfloat16, torch.float16)
    # The last answer and its prompt are the same in both samples, so what moves it has leaked from the others. Rounding
    # hardly does: the rows have one shape, and only experts of a mixture see other company.
    if leak > (_LEAK if half else _FINE):
        return f"in the {layout} layout answers move each other by {leak:.2g} nats"
    return "" if away <= (_COARSE if half else _FINE) else f"the {layout} layout differs by {away:.2g} nats"


def _sample(inner: Any, window: int | None, *, company: int = 0) -> Batch:
    """Two prompts with two answers each, one of them a single token; with a window, the second is longer than it.

    Args:
        inner: the model.
        window: tokens.
        company: another number is other tokens of the same lengths, but for the last answer and its prompt.
    """
    config = inner.config.get_text_config()
    size = config.vocab_size
    near = 0 if window is None else window // 2 + 5
    room = getattr(config, "max_position_embeddings", None)
    if room and near:
        near = min(near, (room - 8) // 2)

    def some(count: int, first: int) -> list[int]:
        return [(first * 7919 + 31 * i * i + i) % size for i in range(count)]

    prompts = [some(5, 7 + company), some(3 + near, 4)]
    answers = [some(6, 2 + company), some(2 + near, 1 + company), some(1, 13 + company), some(4 + near, 3)]
    return Batch.of(prompts, answers, [0, 1, 0, 1]).to(next(inner.parameters()).device)


@contextmanager
def _without_dropout(model: torch.nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _run(model: torch.nn.Module, rows: Rows, targets: Tensor, also: _Also) -> _Heard:
    """What a model says of each target."""
    inner = unwrapped(model)
    takes = inspect.signature(inner.forward).parameters
    optional: dict[str, Any] = {"use_cache": False}
    if rows.position is not None:
        optional["position_ids"] = rows.position
    given = rows.given | {name: value for name, value in optional.items() if name in takes}
    if hasattr(inner, "get_output_embeddings"):
        # Two threads with one model would take each other's head for the model's own.
        with _LOCKS.setdefault(inner, threading.RLock()):
            heard = None if _BEHIND.get(inner) else _through_head(model, inner, rows, given, targets, also)
        if heard is not None:
            return heard
    head = Head(torch.nn.Identity(), lambda logits: logits)
    return _read(head, model(input_ids=rows.ids, **given).logits, rows, targets, also)


def _through_head(
    model: torch.nn.Module, inner: Any, rows: Rows, given: dict[str, Any], targets: Tensor, also: _Also
) -> _Heard | None:
    """What the model's head says of each target; None where something unknown stands behind the head.

    Every head is looked at once: what its model gives back must be what it gave.
    """
    head = Head.of(inner)
    heard: list[_Heard] = []

    def forward(hidden: Tensor) -> Tensor:
        heard.append(_read(head, hidden, rows, targets, also))
        return heard[-1].logp

    failed = False
    with head_replaced(inner, forward):
        try:
            logp = model(input_ids=rows.ids, **given).logits
        except (RuntimeError, IndexError, TypeError, ValueError):
            if not heard or inner in _BEHIND:  # it is not about the head
                raise
            failed = True
    if inner not in _BEHIND:
        own = heard[-1].logp.detach()
        _BEHIND[inner] = failed or len(heard) != 1 or logp.shape != own.shape or not torch.equal(logp.detach(), own)
        if _BEHIND[inner]:
            print(
                f"logprobs: {type(inner).__name__} does more behind its head than is known here; "
                "its logits of all positions are computed",
                file=sys.stderr,
            )
            return None
    # What came through the model, not what its head gave: the wrappers' hooks hang on that.
    return heard[-1]._replace(logp=logp)


def _read(head: Head, states: Tensor, rows: Rows, targets: Tensor, also: _Also) -> _Heard:
    """From the states of all rows, [R, T, H], to the numbers of the answers' tokens."""
    kind, width = states.device.type, rows.ids.shape[1]
    states = states[:, states.shape[1] - width :]  # tuned prompts put positions of their own in front
    wanted = states.flatten(0, 1).index_select(0, rows.where)
    found = None if also.top is None else spread(head, wanted.detach(), top=also.top)
    agrees = collision(head, wanted.detach()) if also.collides else None
    mixed = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    kept = States(wanted.detach(), head, mixed) if also.keeps else None
    return _Heard(token_logps(head, wanted, targets), found, agrees, mixed or states.dtype, kept)
