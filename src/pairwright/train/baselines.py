"""Baselines: the reward from which an answer counts as good, for the losses that ask for one.

A baseline is made for one training. It is asked once for each batch, by all processes together; what it remembers is
kept in checkpoints. Weights of examples count, so a filler, whose weight is 0, does not.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from pairwright.errors import PairwrightError
from pairwright.logprobs.core import answer_logps
from pairwright.losses import PairLoss, PointLoss
from pairwright.losses.types import Baseline as Name
from pairwright.losses.types import Loss, Record, asks
from pairwright.train.records import batch_of
from pairwright.train.reference import Reference, still


class Now(NamedTuple):
    """A batch in training.

    Attributes:
        model: the policy, wrapped as it is.
        inputs: the collated examples.
        record: what the loss is given, but for the baseline.
        loss: the loss.
        reference: what the policy is compared with.
        added: gives the sum of a tensor over all processes, to each of them.
        autocast: makes the context that the policy computes in.
    """

    model: torch.nn.Module
    inputs: Mapping[str, Tensor]
    record: Record
    loss: Loss
    reference: Reference
    added: Callable[[Tensor], Tensor]
    autocast: Callable[[], Any]


class Baseline(Protocol):
    """One way to get a baseline."""

    measure: str
    """What it is called in the log."""

    def __call__(self, now: Now) -> Tensor:
        """The baseline of a batch, [] float32, without gradient."""

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps."""

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from what a checkpoint kept."""


class MismatchedKl:
    """How far the policy has gone from its reference, seen on answers to other prompts; never below 0.

        baseline = max(0, mean of (logp - ref) over the batch's strangers)

    The mean is over the examples of one micro-batch of all processes. It is no true divergence, for the answers are not
    the policy's own.

    Source: Ethayarajh et al. 2024, arXiv:2402.01306, section 4.1; TRL's `KTOTrainer` estimates it so.
    """

    measure = "kl"

    def __call__(self, now: Now) -> Tensor:
        """The estimate.

        Raises:
            PairwrightError: the examples have no strangers, or there is no reference.
        """
        batch = batch_of(now.inputs, "stranger_")
        if batch is None:
            raise PairwrightError("this loss needs answers to other prompts; make the examples with strangers=True")
        known = {"ref": now.inputs["stranger_ref"]} if "stranger_ref" in now.inputs else {}
        with torch.no_grad():
            with now.autocast():
                ref = now.reference(now.model, batch, known)
            if ref is None:
                raise PairwrightError("this loss needs a reference for its estimate of KL; there is none")
            with still(now.model):
                logp = answer_logps(now.model, batch).logp
            weight = now.inputs["weight"].double()
            total, count = now.added(torch.stack([(weight * (logp - ref.logp)).sum(), weight.sum()]))
        mean: Tensor = total / count.clamp_min(1e-12)
        return mean.clamp_min(0.0).float()

    def state(self) -> dict[str, float]:
        """Nothing: each batch has its own."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """Nothing is remembered."""


class RunningMean:
    """The mean of all implicit rewards seen in this training, those of the batch itself included.

    It goes on with each micro-batch, so the first micro-batch of a step sees less than the last.

    Source: Jung et al. 2024, arXiv:2404.04656; TRL's `BCOTrainer` takes the mean of all rewards so far, too.
    """

    measure = "pairwright/baseline"

    def __init__(self) -> None:
        self._sums = torch.zeros(2, dtype=torch.float64)

    def __call__(self, now: Now) -> Tensor:
        """The mean, after the batch was added to it; while the policy is not in training nothing is added.

        Raises:
            PairwrightError: the loss gives groups of rewards.
        """
        with torch.no_grad():
            if now.model.training:
                out = _asking(now.loss)(now.record)
                if isinstance(out, PairLoss):
                    rewards = torch.stack([out.chosen, out.rejected])
                elif isinstance(out, PointLoss):
                    rewards = out.rewards[None]
                else:
                    raise PairwrightError("a running mean of rewards is for pairs and single answers")
                weight = now.inputs["weight"].double().expand_as(rewards)
                self._sums = self._on(weight) + now.added(torch.stack([(weight * rewards).sum(), weight.sum()]))
            total, count = self._on(now.inputs["weight"])
            # Where nothing was counted the total is 0, too.
            mean: Tensor = total / count.clamp_min(1e-300)
        return mean.float()

    def _on(self, like: Tensor) -> Tensor:
        """Both sums where `like` is: a look at them from the host would wait for the device."""
        self._sums = self._sums.to(like.device)
        return self._sums

    def state(self) -> dict[str, float]:
        """The sum of all rewards, and of their weights."""
        total, count = self._sums.tolist()
        return {"total": total, "count": count}

    def restore(self, state: Mapping[str, float]) -> None:
        """Take both from a checkpoint."""
        self._sums = torch.tensor([state.get("total", 0.0), state.get("count", 0.0)], dtype=torch.float64)


def _asking(loss: Loss) -> Loss:
    """The term of a sum whose rewards the mean is of: the one that asks for it.

    Several that ask have the same rewards: `check_consistent` refuses others.
    """
    terms: Mapping[str, Loss] = getattr(loss, "terms", {})
    return next((term for term in terms.values() if asks(term).baseline == "running_mean"), loss)


BASELINES: dict[Name, Callable[[], Baseline]] = {"mismatched_kl": MismatchedKl, "running_mean": RunningMean}
"""How each is made, by what a loss calls it."""
