"""How far two models are apart, token by token: the exact divergence of their next-token distributions.

Where an answer was drawn from the policy, the sum over its positions estimates the divergence of whole answers without
bias, and with less noise than the log-ratio of the answer itself: of each position only the expectation is taken, given
what stands before it.

    KL(policy || start) = E_{y ~ policy} [ sum_t KL(policy(. | x, y_<t) || start(. | x, y_<t)) ]
"""

import torch
from torch import Tensor

from pairwright.errors import InputError
from pairwright.logprobs.core import Batch, States, answer_states
from pairwright.logprobs.head import CHUNK


def token_kl(policy: torch.nn.Module, start: torch.nn.Module, batch: Batch) -> Tensor:
    """KL(policy || start) of the next-token distributions where each token of the answers is predicted.

        KL_t = sum_v pi_t(v) (log pi_t(v) - log start_t(v))

    The sum is over the whole vocabulary. Two models with equal logits give exactly 0.

    Args:
        policy: a causal language model.
        start: another with the same vocabulary, on the same device or another.
        batch: prompts and answers, on any device.

    Returns:
        [n] float64 on the policy's device (float32 where the device has no float64), nats, at least 0: one answer's
        positions after the other's, the end that it has included. No gradient.

    Raises:
        InputError: the models choose among different numbers of tokens.
    """
    with torch.no_grad():
        return states_kl(*(answer_states(model, batch.to(_device(model)))[1] for model in (policy, start)))


def states_kl(policy: States, start: States) -> Tensor:
    """`token_kl` of states that were read of the same batch."""
    wide = policy.head.vocabulary or policy.hidden.shape[-1]
    size = max(16, CHUNK.get(policy.hidden.device.type, CHUNK["cuda"]) // (2 * wide))
    parts = zip(torch.split(policy.hidden, size), torch.split(start.hidden, size), strict=True)
    return torch.cat([_kl(policy.logits(ours), start.logits(theirs)) for ours, theirs in parts])


def _kl(policy: Tensor, start: Tensor) -> Tensor:
    """KL of softmax(policy) from softmax(start), rows by rows, [m, V] to [m]."""
    if policy.shape[-1] != start.shape[-1]:
        raise InputError(
            f"the policy chooses among {policy.shape[-1]} tokens and the start among {start.shape[-1]}, so there is no "
            "divergence between them; compare models with one vocabulary"
        )
    # In float32 the two normalisers alone would leave some 1e-7 nats at each of a thousand positions.
    exact = torch.float32 if policy.device.type == "mps" else torch.float64
    ours, theirs = (logits.to(policy.device, exact).log_softmax(-1) for logits in (policy, start))
    share = ours.exp()
    # A token that the policy never takes counts nothing, whatever the start thinks of it.
    terms = torch.where(share > 0, share * (ours - theirs), torch.zeros_like(share))
    return terms.sum(-1).clamp(min=0.0)


def _device(model: torch.nn.Module) -> torch.device:
    return next(model.parameters()).device
