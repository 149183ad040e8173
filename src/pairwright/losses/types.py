"""The records that a loss takes and gives, and what a loss may ask for.

A loss is a function: one record first, settings keyword-only, one value for each pair out, never reduced. Both sides of
a pair are the same type, so no loss has to keep eight tensors of one shape apart. Every tensor of a record has the same
shape; a record with two shapes is refused, because `[B]` minus `[B, 1]` would quietly be `[B, B]`.

    pair = PairLogps(
        chosen=Side(logp=tensor([-10.0]), length=tensor([8]), ref=tensor([-11.0])),
        rejected=Side(logp=tensor([-12.0]), length=tensor([10]), ref=tensor([-11.5])),
    )
    dpo(pair, beta=0.1).loss     # tensor([0.6210])
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from pairwright.errors import InputError

Plug = TypeVar("Plug", bound=Callable[..., Any])

NEEDS = frozenset({"ref", "length", "score"})
_REMEDIES = {
    "ref": "give a reference model or columns of its log-probabilities, and mark the loss with @uses('ref')",
    "length": "give the number of completion tokens, and mark the loss with @uses('length')",
    "score": "give data in which every answer has a score, and mark the loss with @uses('score')",
}


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One side of B pairs. Every tensor has shape [B] ([B, K] inside `GroupLogps`).

    Attributes:
        logp: log-probability of the completion under the policy, summed over its tokens, in nats (never positive).
        length: number of completion tokens that `logp` sums over, or None.
        ref: the same sum under the frozen reference, or None.
        score: external score of the answer in the units of the data (larger is better), or None.
    """

    logp: Tensor
    length: Tensor | None = None
    ref: Tensor | None = None
    score: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse fields of different shapes.

        Raises:
            InputError: a field has not the shape of `logp`.
        """
        for name in ("length", "ref", "score"):
            value = getattr(self, name)
            if value is not None and value.shape != self.logp.shape:
                raise InputError(
                    f"{name} has shape {list(value.shape)} but logp has {list(self.logp.shape)}; "
                    f"give one value of each for each answer"
                )

    def known(self, name: str) -> Tensor:
        """The field `name`, which this loss cannot do without.

        Raises:
            InputError: the field is missing; the message has the remedy.
        """
        value: Tensor | None = getattr(self, name)
        if value is None:
            raise InputError(f"this loss needs {name!r} on both sides; {_REMEDIES[name]}")
        return value

    @property
    def log_ratio(self) -> Tensor:
        """`logp - ref`, in nats: above 0 where the policy likes the answer better than the reference does."""
        return self.logp - self.known("ref")

    @property
    def mean_logp(self) -> Tensor:
        """`logp / length`, in nats a token."""
        return self.logp / self.known("length")

    @property
    def mean_log_ratio(self) -> Tensor:
        """`(logp - ref) / length`, in nats a token."""
        return self.log_ratio / self.known("length")


class PairLogps(NamedTuple):
    """B comparisons.

    Attributes:
        chosen: the sides that should win.
        rejected: the sides that should lose.
        goal: the score asked for in each pair, [B], NaN where none was asked for; None when no pair has a goal.
    """

    chosen: Side
    rejected: Side
    goal: Tensor | None = None

    @property
    def score_gap(self) -> Tensor:
        """How much better the chosen side does what was asked, [B], in score units.

        `r(chosen) - r(rejected)` without a goal, `|r(rejected) - goal| - |r(chosen) - goal|` with one: a pair that was
        turned round because it asks for the lower score still has a gap above 0.
        """
        chosen, rejected = self.chosen.known("score"), self.rejected.known("score")
        plain = chosen - rejected
        if self.goal is None:
            return plain
        asked = (rejected - self.goal).abs() - (chosen - self.goal).abs()
        return asked.where(~self.goal.isnan(), plain)


class PairLoss(NamedTuple):
    """What a loss gives for B comparisons.

    Attributes:
        loss: [B], smaller is better, not reduced.
        chosen: [B], the implicit reward that the method gives to the chosen side; the trainer detaches and logs it.
        rejected: [B], the same for the rejected side.
    """

    loss: Tensor
    chosen: Tensor
    rejected: Tensor


class GroupLogps(NamedTuple):
    """K answers to each of B prompts, for losses that look at all of them together.

    Attributes:
        answers: a `Side` whose tensors have shape [B, K].
        present: [B, K] bool, False where a prompt has fewer than K answers; None when all are there.
    """

    answers: Side
    present: Tensor | None = None


class PointLogps(NamedTuple):
    """B single answers, each wanted or unwanted, for losses that need no pairs.

    Attributes:
        answers: the `Side` of the B answers.
        wanted: [B] bool, True where the answer is desirable.
        baseline: [] the point from which a reward counts as good (an estimate of KL, or a running mean), or None.
    """

    answers: Side
    wanted: Tensor
    baseline: Tensor | None = None


def uses(*names: str) -> Callable[[Plug], Plug]:
    """Say what a loss needs besides `logp`: any of "ref", "length", "score".

    It only sets the attribute `needs`; it registers nothing and wraps nothing. The trainer reads it to learn whether a
    reference is wanted at all. `check_loss` proves that it is true.

    Raises:
        InputError: a name is none of the three.
    """
    for name in names:
        if name not in NEEDS:
            raise InputError(f"a loss cannot need {name!r}; it may need {', '.join(sorted(NEEDS))}")

    def mark(loss: Plug) -> Plug:
        loss.needs = frozenset(names)  # type: ignore[attr-defined]
        return loss

    return mark


def needs(loss: Callable[..., Any]) -> frozenset[str]:
    """What a loss said with `@uses(...)`; empty when it said nothing. Also reads through a bound (partial) loss."""
    found: frozenset[str] = getattr(getattr(loss, "func", loss), "needs", frozenset())
    return found
