"""The records that a loss takes and gives, and what a loss may ask for.

A loss is a function: one record first, settings keyword-only, one value for each row out, never reduced. Every loss
takes pairs; some also take groups of answers or single ones. Both sides of a pair are the same type, so no loss has to
keep eight tensors of one shape apart. Every tensor of a record has the same shape; a record with two shapes is refused,
because `[B]` minus `[B, 1]` would quietly be `[B, B]`.

    pair = PairLogps(
        chosen=Side(logp=tensor([-10.0]), length=tensor([8]), ref=tensor([-11.0])),
        rejected=Side(logp=tensor([-12.0]), length=tensor([10]), ref=tensor([-11.5])),
    )
    dpo(pair, beta=0.1).loss     # tensor([0.6210])
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_type_hints

import torch
from torch import Tensor

from pairwright.errors import InputError

Plug = TypeVar("Plug", bound=Callable[..., Any])
Baseline = Literal["mismatched_kl", "running_mean"]

_REMEDIES = {
    "ref": "give a reference model or columns of its log-probabilities",
    "length": "give the number of completion tokens",
    "score": "give data in which every answer has a score",
    "scores": "give data in which every answer has the named scores",
    "token_logp": "give the log-probability of each token",
    "token_ref": "give a reference model that is run at each step, which knows each token",
    "token_collision": "give the log of the sum of squared probabilities at each token",
    "anchor": "give pairs that ask for a goal (relabel them)",
}
NEEDS = frozenset(_REMEDIES)
"""Fields that a loss may need: those of `Side` besides `logp`, and `anchor` of `PairLogps`."""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One side of B pairs. Every tensor has shape [B] ([B, K] inside `GroupLogps`); those of tokens have one axis more.

    Attributes:
        logp: log-probability of the completion under the policy, summed over its tokens, in nats (never positive).
        length: number of completion tokens that `logp` sums over, or None.
        ref: the same sum under the frozen reference, or None.
        score: external score of the answer in the units of the data (larger is better), or None.
        scores: other external scores of the answer by name, or None.
        token_logp: [B, T] log-probability of each token under the policy, 0 past the answer's end, or None.
        token_ref: [B, T] the same under the reference, or None.
        token_collision: [B, T] log of the sum over the vocabulary of the policy's squared probabilities where each
            token was predicted, 0 past the answer's end; it has no gradient; or None.
    """

    logp: Tensor
    length: Tensor | None = None
    ref: Tensor | None = None
    score: Tensor | None = None
    scores: Mapping[str, Tensor] | None = None
    token_logp: Tensor | None = None
    token_ref: Tensor | None = None
    token_collision: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse fields of different shapes.

        Raises:
            InputError: a field has not the shape of `logp`, or one of tokens not one axis more.
        """
        for name, value in self._tensors():
            shape, wanted = value.shape, self.logp.shape
            if name.startswith("token_"):
                shape = shape[:-1]
            if shape != wanted or (name.startswith("token_") and value.dim() != self.logp.dim() + 1):
                raise InputError(
                    f"{name} has shape {list(value.shape)} but logp has {list(self.logp.shape)}; "
                    f"give one value of each for each answer"
                )

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name in ("length", "ref", "score", "token_logp", "token_ref", "token_collision"):
            if (value := getattr(self, name)) is not None:
                yield name, value
        yield from (self.scores or {}).items()

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "Side":
        """A side with every tensor changed in the same way: rows taken, moved to a device, put in another shape."""
        fields: dict[str, Any] = {name: change(value) for name, value in self._tensors() if name in self.__slots__}
        if self.scores is not None:
            fields["scores"] = {name: change(value) for name, value in self.scores.items()}
        return Side(change(self.logp), **fields)

    def known(self, name: str) -> Tensor:
        """The field `name`, which this loss cannot do without.

        Raises:
            InputError: the field is missing; the message has the remedy.
        """
        value: Tensor | None = getattr(self, name)
        if value is None:
            raise _missing(name)
        return value

    def named(self, name: str) -> Tensor:
        """The score called `name`; `score` is the main one.

        Raises:
            InputError: there is none of that name.
        """
        if name == "score":
            return self.known("score")
        if self.scores is None or name not in self.scores:
            there = ", ".join(self.scores or {}) or "none"
            raise InputError(f"this loss needs the score {name!r} on every answer; there are {there}")
        return self.scores[name]

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
        baseline: [] the reward from which an answer counts as good (an estimate of KL in nats, or a running mean of
            implicit rewards), for losses that ask for one; None counts as 0.
        anchor: the better-scored answer of each pair under the goal that generation will ask for, for `goal_sft`; its
            fields are [B]. None when the pairs ask for no goal.
    """

    chosen: Side
    rejected: Side
    goal: Tensor | None = None
    baseline: Tensor | None = None
    anchor: Side | None = None

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

    def known_anchor(self) -> Side:
        """The anchor, which this loss cannot do without.

        Raises:
            InputError: there is none.
        """
        if self.anchor is None:
            raise _missing("anchor")
        return self.anchor


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
        present: [B, K] bool, False where a prompt has fewer than K answers; None when all are there. What stands in an
            absent place counts nowhere.
        goal: the score asked for in each prompt, [B], NaN where none was; None when none has a goal.
    """

    answers: Side
    present: Tensor | None = None
    goal: Tensor | None = None

    @classmethod
    def of(cls, pair: PairLogps) -> "GroupLogps":
        """Pairs as groups of two, the chosen side first."""
        left, right = pair.chosen, pair.rejected

        def both(name: str) -> Any:
            values = getattr(left, name), getattr(right, name)
            return None if any(value is None for value in values) else torch.stack(values, dim=1)

        scores = None
        if left.scores is not None and right.scores is not None:
            scores = {name: torch.stack((left.scores[name], right.scores[name]), dim=1) for name in left.scores}
        answers = Side(both("logp"), both("length"), both("ref"), both("score"), scores)
        return cls(answers, goal=pair.goal)

    @property
    def worth(self) -> Tensor:
        """What each answer is worth under what was asked, [B, K]: its score, or `-|score - goal|` under a goal.

        The gap of a pair is a difference of worths.
        """
        score = self.answers.known("score")
        if self.goal is None:
            return score
        goal = self.goal[:, None]
        return (-(score - goal).abs()).where(~goal.isnan(), score)

    @property
    def there(self) -> Tensor:
        """`present`, all true where it is None."""
        return torch.ones_like(self.answers.logp, dtype=torch.bool) if self.present is None else self.present


class GroupLoss(NamedTuple):
    """What a loss gives for B groups.

    Attributes:
        loss: [B], smaller is better, not reduced.
        rewards: [B, K], the implicit reward of each answer, 0 where there is none.
    """

    loss: Tensor
    rewards: Tensor


class PointLogps(NamedTuple):
    """B single answers, each wanted or unwanted, for losses that need no pairs.

    Attributes:
        answers: the `Side` of the B answers.
        wanted: [B] bool, True where the answer is desirable.
        baseline: [] the reward from which an answer counts as good; see `PairLogps`.
    """

    answers: Side
    wanted: Tensor
    baseline: Tensor | None = None


class PointLoss(NamedTuple):
    """What a loss gives for B single answers.

    Attributes:
        loss: [B], smaller is better, not reduced.
        rewards: [B], the implicit reward of each answer.
    """

    loss: Tensor
    rewards: Tensor


Record = PairLogps | GroupLogps | PointLogps
Result = PairLoss | GroupLoss | PointLoss
Loss = Callable[..., Any]


class Asks(NamedTuple):
    """What a loss asks of whoever calls it.

    Attributes:
        needs: fields without which it refuses; see `NEEDS`.
        scores: names of the scores that must be in `Side.scores`.
        baseline: what it would have as `baseline`, or None if it looks at none.
        of_batch: whether a row's value depends on the other rows of its batch.
    """

    needs: frozenset[str] = frozenset()
    scores: tuple[str, ...] = ()
    baseline: Baseline | None = None
    of_batch: bool = False


def uses(
    *names: str, scores: str | None = None, baseline: Baseline | None = None, of_batch: bool = False
) -> Callable[[Plug], Plug]:
    """Say what a loss needs besides `logp`.

    It only sets attributes; it registers nothing and wraps nothing. The trainer reads them with `asks` to learn, for
    one, whether a reference is wanted at all. `check_loss` proves that they are true.

    Args:
        names: of `NEEDS`.
        scores: name of the loss's setting whose keys are the names of the scores that it reads (`Side.named`); None
            there means the main score, `score`.
        baseline: what the trainer puts into `baseline`: an estimate of KL from answers to other prompts, or the running
            mean of implicit rewards.
        of_batch: that a row's value depends on the other rows of its batch.

    Raises:
        InputError: a name is none of `NEEDS`.
    """
    for name in names:
        if name not in NEEDS:
            raise InputError(f"a loss cannot need {name!r}; it may need {', '.join(sorted(NEEDS))}")

    def mark(loss: Plug) -> Plug:
        loss.needs = frozenset(names)  # type: ignore[attr-defined]
        loss.asks = Asks(frozenset(names), (), baseline, of_batch)  # type: ignore[attr-defined]
        loss.scores_from = scores  # type: ignore[attr-defined]
        return loss

    return mark


def asks(loss: Loss) -> Asks:
    """What a loss said with `@uses(...)`; nothing when it said nothing. Also reads through a bound (partial) loss."""
    plain = getattr(loss, "func", loss)
    found: Asks = getattr(plain, "asks", Asks())
    setting = getattr(plain, "scores_from", None)
    if setting is None:
        return found
    default = signature(plain).parameters[setting].default
    value = getattr(loss, "keywords", {}).get(setting, default)
    value = ("score",) if value is None else value
    extra = tuple(name for name in value if name != "score")
    needs = found.needs | ({"scores"} if extra else set()) | ({"score"} if "score" in value else set())
    return found._replace(needs=needs, scores=extra)


def needs(loss: Loss) -> frozenset[str]:
    """The fields without which a loss refuses: `asks(loss).needs`."""
    return asks(loss).needs


def takes(loss: Loss) -> tuple[type[Record], ...]:
    """The records that a loss takes, by the annotation of its first parameter; `PairLogps` where it has none."""
    plain = getattr(loss, "func", loss)
    found = getattr(plain, "takes", None)
    if found is not None:
        return tuple(found)
    first = next(iter(signature(plain).parameters), None)
    hint = get_type_hints(plain).get(first or "", PairLogps)
    kinds = get_args(hint) or (hint,)
    return tuple(kind for kind in (PairLogps, GroupLogps, PointLogps) if kind in kinds) or (PairLogps,)


def _missing(name: str) -> InputError:
    return InputError(f"this loss needs {name!r}; {_REMEDIES[name]}, and mark the loss with @uses({name!r})")
