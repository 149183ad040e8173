"""From hidden states to token log-probabilities, without the logits of a whole batch.

The language-model head runs only where an answer's token is predicted, in chunks: at any time there are the logits of
one chunk, in float32. The backward pass computes each chunk again (one more matrix product in place of
tokens x vocabulary numbers in memory), unless the whole batch's are few.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = {"cpu": 2**21, "cuda": 2**26}
"""Logits of a chunk: on a CPU what its caches hold, on a GPU what keeps it busy."""

KEEP = 2**25
"""Numbers (128 MiB) that a batch may keep for its backward pass; a larger one computes each chunk again."""


class Shape(NamedTuple):
    """What a model does to its head's output before the softmax: `cap * tanh(scale * logits / cap)`.

    Attributes:
        scale: Cohere multiplies its logits, Granite divides them; 1 for most.
        cap: Gemma-2 caps its logits softly; None for most.
    """

    scale: float = 1.0
    cap: float | None = None

    @classmethod
    def of(cls, config: Any) -> "Shape":
        """What a configuration says."""
        text = config.get_text_config()
        scale = 1.0
        for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
            scale *= getattr(text, name, None) or 1.0
        divisor = getattr(text, "logits_scaling", None)
        if divisor:
            scale *= divisor if text.model_type == "hyperclovax" else 1.0 / divisor
        return cls(scale, getattr(text, "final_logit_softcapping", None))

    def __call__(self, logits: Tensor) -> Tensor:
        """The logits that the softmax gets, float32."""
        logits = logits.float()
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


PLAIN = Shape()


class Spread(NamedTuple):
    """How a model spreads its probability at the positions that predict an answer; all [n] float32, no gradient.

    Attributes:
        entropy: of the whole vocabulary, nats.
        top_mass: probability of the `top` most likely tokens together; 1 where the vocabulary has no more.
        top_entropy: entropy of these tokens among themselves (their probabilities divided by `top_mass`), nats.
    """

    entropy: Tensor
    top_mass: Tensor
    top_entropy: Tensor


class Head(NamedTuple):
    """A model's head as a function of hidden states.

    Attributes:
        module: the output embeddings.
        project: what calling them does, [n, H] to [n, V].
        shape: what the model does to the result.
    """

    module: torch.nn.Module
    project: Callable[[Tensor], Tensor]
    shape: Shape = PLAIN

    @classmethod
    def of(cls, model: Any) -> "Head":
        """The head of a causal language model, unwrapped."""
        module = model.get_output_embeddings()
        return cls(module, module.forward, Shape.of(model.config))

    @property
    def vocabulary(self) -> int:
        """V."""
        weight = getattr(self.module, "weight", None)
        return int(getattr(self.module, "out_features", 0) or (0 if weight is None else len(weight)))

    @property
    def is_plain(self) -> bool:
        """Whether it is a product with one whole matrix: no bias, adapter, shards, scale or cap."""
        linear = type(self.module) is torch.nn.Linear and self.module.bias is None
        return linear and self.shape == PLAIN and type(self.module.weight) in (torch.nn.Parameter, Tensor)


def token_logps(head: Head, hidden: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of each target token, [n] float32, nats.

    Args:
        head: of the model.
        hidden: hidden states that predict the targets, [n, H].
        targets: token ids, [n].
    """
    if head.is_plain:
        return _Plain.apply(hidden, head.module.weight, targets, torch.is_grad_enabled())  # type: ignore[no-any-return, no-untyped-call]
    parts = []
    for part, target in _chunks(hidden, targets, head.vocabulary or hidden.shape[-1]):
        if torch.is_grad_enabled():
            parts.append(checkpoint(_chunk_logps, head, part, target, use_reentrant=False))
        else:
            parts.append(_chunk_logps(head, part, target))
    return torch.cat(parts)


def spread(head: Head, hidden: Tensor, *, top: int = 10) -> Spread:
    """Entropy, top-k mass and top-k entropy at each position; see `Spread`.

    Args:
        head: of the model.
        hidden: [n, H].
        top: k; the whole vocabulary where that is smaller.

    Source: arXiv 2410.11677, section 4 (entropy and mass of the ten most likely tokens).
    """
    parts = []
    with torch.no_grad():
        for part, _ in _chunks(hidden, hidden[:, 0], head.vocabulary or hidden.shape[-1]):
            logp = head.shape(head.project(part)).log_softmax(-1)
            likely = logp.topk(min(top, logp.shape[-1]), dim=-1).values
            mass = likely.exp().sum(-1)
            among = likely - mass.log()[:, None]
            parts.append((_entropy(logp), mass.clamp(max=1.0), _entropy(among)))
    return Spread(*(torch.cat(column) for column in zip(*parts, strict=True)))


def collision(head: Head, hidden: Tensor) -> Tensor:
    """The log of the sum of squared probabilities at each position, [n] float32, nats, without gradient.

        collision = log sum_v p_v^2

    It is the log of the chance that two draws agree: 0 where the model is sure, `-log V` where it is uniform.

    Args:
        head: of the model.
        hidden: [n, H].

    Source: Zhou et al. 2024, arXiv:2406.11827 (WPO), the sampled alignment's normaliser.
    """
    parts = []
    with torch.no_grad():
        for part, _ in _chunks(hidden, hidden[:, 0], head.vocabulary or hidden.shape[-1]):
            logp = head.shape(head.project(part)).log_softmax(-1)
            parts.append(logp.mul_(2.0).logsumexp(-1))
    return torch.cat(parts)


@contextmanager
def head_replaced(model: Any, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """While it lasts, the model's head gives what `forward(hidden states)` gives, untouched by what follows the head.

    The model is called as a whole, so that the hooks of DDP, FSDP, DeepSpeed and PEFT run; only what the head returns
    is another thing. Nothing of it is left afterwards. (A checkpointed layer that is computed again in the backward
    pass does not contain the head.)
    """
    head, config = model.get_output_embeddings(), model.config.get_text_config()
    had = head.__dict__.get("forward")
    # What stands after the head is said by the configuration, and done in `Shape`; here it is switched off.
    neutral = {name: value for name, value in NEUTRAL.items() if getattr(config, name, None) is not None}
    before = {name: getattr(config, name) for name in neutral}
    attributes = {name: getattr(model, name) for name in NEUTRAL if isinstance(getattr(model, name, None), float)}
    try:
        head.forward = forward
        for name, value in neutral.items():
            setattr(config, name, value)
        for name in attributes:
            setattr(model, name, NEUTRAL[name])
        yield
    finally:
        if had is None:
            del head.forward
        else:
            head.forward = had
        for name, value in before.items():
            setattr(config, name, value)
        for name, value in attributes.items():
            setattr(model, name, value)


NEUTRAL: dict[str, float | None] = {
    "final_logit_softcapping": None,
    "logit_scale": 1.0,
    "output_multiplier": 1.0,
    "lm_head_multiplier": 1.0,
    "logits_scaling": 1.0,
}
"""Settings of a configuration that act on logits, and the value that does nothing."""


class _Plain(torch.autograd.Function):
    """A head without bias, adapter, scale or cap: `log_softmax(hidden @ weight.T)[target]`, in chunks."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, trains: bool) -> Tensor:
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        keeps = trains and any(ctx.needs_input_grad) and len(hidden) * len(weight) <= KEEP
        cast, parts, kept = weight.to(dtype), [], []
        for part, target in _chunks(hidden, targets, len(weight)):
            logp = (part.to(dtype) @ cast.t()).float().log_softmax(-1)
            parts.append(logp.gather(-1, target[:, None]).squeeze(-1))
            if keeps:
                kept.append(logp)
        ctx.save_for_backward(hidden, weight, targets, *kept)
        ctx.compute = dtype
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden, weight, targets, *kept = ctx.saved_tensors
        to_hidden, to_weight = ctx.needs_input_grad[:2]
        dtype = ctx.compute
        cast = weight.to(dtype)
        # Sums over chunks are float32 whatever the weights are: rounding each partial sum would add up.
        d_hidden = torch.empty_like(hidden) if to_hidden else None
        d_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if to_weight else None
        at = 0
        for number, (part, target) in enumerate(_chunks(hidden, targets, len(weight))):
            rows = slice(at, at + len(part))
            at = rows.stop
            grad = grads[0][rows, None].float()
            # d logp / d logits = onehot - softmax
            p = kept[number].exp() if kept else (part.to(dtype) @ cast.t()).float().softmax(-1)
            change = p.mul_(-grad).scatter_add_(1, target[:, None], grad).to(dtype)
            if d_hidden is not None:
                d_hidden[rows] = change @ cast
            if d_weight is not None:
                if dtype == torch.float32:
                    d_weight.addmm_(change.t(), part.float())
                else:
                    d_weight += change.t() @ part.to(dtype)
        return d_hidden, None if d_weight is None else d_weight.to(weight.dtype), None, None


def _chunk_logps(head: Head, hidden: Tensor, targets: Tensor) -> Tensor:
    logits = head.shape(head.project(hidden))
    return logits.gather(-1, targets[:, None]).squeeze(-1) - logits.logsumexp(-1)


def _chunks(hidden: Tensor, targets: Tensor, vocabulary: int) -> Iterator[tuple[Tensor, Tensor]]:
    size = max(32, CHUNK.get(hidden.device.type, CHUNK["cuda"]) // max(1, vocabulary))
    return zip(torch.split(hidden, size), torch.split(targets, size), strict=True)


def _entropy(logp: Tensor) -> Tensor:
    return -(logp.exp() * logp).sum(-1)
