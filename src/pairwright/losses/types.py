"""The records that a loss takes and gives, and what a loss may ask for.

A loss is a function: one record first, settings keyword-only, one value for each row out, never reduced. Every loss
takes pairs; some also take groups of answers or single ones. Both sides of a pair are the same type, so no loss has to
keep eight tensors of one shape apart. Every tensor of a record has the same shape; a record with two shapes is refused,
because `[B]` minus `[B, 1]` would quietly be `[B, B]`. Scores, lengths and references may be of any type, integers too;
what is derived from them, and so every loss, is of the type of `logp`.

    pair = PairLogps(
        chosen=Side(logp=tensor([-10.0]), length=tensor([8]), ref=tensor([-11.0])),
        rejected=Side(logp=tensor([-12.0]), length=tensor([10]), ref=tensor([-11.5])),
    )
    dpo(pair, beta=0.1).loss     # tensor([0.6210])
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, Literal, NamedTuple, Self, TypeVar, get_args

import torch
from torch import Tensor

from pairwright.errors import InputError
from pairwright.plug import hints_of

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
        for name, value in self.tensors():
            shape, wanted = value.shape, self.logp.shape
            if name.startswith("token_"):
                shape = shape[:-1]
            if shape != wanted or (name.startswith("token_") and value.dim() != self.logp.dim() + 1):
                raise InputError(
                    f"{name} has shape {list(value.shape)} but logp has {list(self.logp.shape)}; "
                    f"give one value of each for each answer"
                )

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor of the side with its name, named scores by theirs."""
        for name in ("logp", "length", "ref", "score", "token_logp", "token_ref", "token_collision"):
            if (value := getattr(self, name)) is not None:
                yield name, value
        yield from (self.scores or {}).items()

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "Side":
        """A side with every tensor changed in the same way: rows taken, moved to a device, put in another shape."""
        fields: dict[str, Any] = {name: change(value) for name, value in self.tensors() if name in self.__slots__}
        if self.scores is not None:
            fields["scores"] = {name: change(value) for name, value in self.scores.items()}
        return Side(**fields)

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
        """The score called `name`, in the type of `logp`; `score` is the main one.

        Raises:
            InputError: there is none of that name.
        """
        if name == "score":
            return self.known("score").to(self.logp.dtype)
        if self.scores is None or name not in self.scores:
            there = ", ".join(self.scores or {}) or "none"
            raise InputError(f"this loss needs the score {name!r} on every answer; there are {there}")
        return self.scores[name].to(self.logp.dtype)

    @property
    def log_ratio(self) -> Tensor:
        """`logp - ref`, in nats: above 0 where the policy likes the answer better than the reference does."""
        return (self.logp - self.known("ref")).to(self.logp.dtype)

    @property
    def mean_logp(self) -> Tensor:
        """`logp / length`, in nats a token."""
        return self.logp / self.tokens

    @property
    def mean_log_ratio(self) -> Tensor:
        """`(logp - ref) / length`, in nats a token."""
        return self.log_ratio / self.tokens

    @property
    def tokens(self) -> Tensor:
        """`length` in the type of `logp`, in which it can be divided by and subtracted."""
        return self.known("length").to(self.logp.dtype)


class _PairFields(NamedTuple):
    chosen: Side
    rejected: Side
    goal: Tensor | None = None
    baseline: Tensor | None = None
    anchor: Side | None = None


class PairLogps(_PairFields):
    """B comparisons. Fields of different shapes are refused, also by `_replace`.

    Attributes:
        chosen: the sides that should win.
        rejected: the sides that should lose.
        goal: the score asked for in each pair, [B], NaN where none was asked for; None when no pair has a goal.
        baseline: [] the reward from which an answer counts as good (an estimate of KL in nats, or a running mean of
            implicit rewards), for losses that ask for one; None counts as 0.
        anchor: the better-scored answer of each pair under the goal that generation will ask for, for `goal_sft`; its
            fields are [B]. None when the pairs ask for no goal.
    """

    __slots__ = ()

    def __new__(
        cls,
        chosen: Side,
        rejected: Side,
        goal: Tensor | None = None,
        baseline: Tensor | None = None,
        anchor: Side | None = None,
    ) -> Self:
        """Refuse fields that do not belong together.

        Raises:
            InputError: a field has another shape than the chosen side, or is of the wrong kind.
        """
        rows = _shape(chosen, "chosen", axes=1)
        _same("rejected", _shape(rejected, "rejected", axes=1), rows)
        if anchor is not None:
            _same("anchor", _shape(anchor, "anchor", axes=1), rows)
        if goal is not None:
            _same("goal", goal.shape, rows)
        _constant(baseline)
        return super().__new__(cls, chosen, rejected, goal, baseline, anchor)

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:  # type: ignore[override]  # mypy has a form of its own
        return cls(*iterable)  # what `_replace` uses: checked like any other

    @property
    def score_gap(self) -> Tensor:
        """How much better the chosen side does what was asked, [B], in score units, in the type of `logp`.

        `r(chosen) - r(rejected)` without a goal, `|r(rejected) - goal| - |r(chosen) - goal|` with one: a pair that was
        turned round because it asks for the lower score still has a gap above 0.
        """
        chosen, rejected = _numbers(self.chosen), _numbers(self.rejected)
        plain = chosen - rejected
        if self.goal is None:
            return plain.to(self.chosen.logp.dtype)
        asked = (rejected - self.goal).abs() - (chosen - self.goal).abs()
        return asked.where(~self.goal.isnan(), plain).to(self.chosen.logp.dtype)

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


class _GroupFields(NamedTuple):
    answers: Side
    present: Tensor | None = None
    goal: Tensor | None = None


class GroupLogps(_GroupFields):
    """K answers to each of B prompts, for losses that look at all of them together. It is checked as `PairLogps` is.

    Attributes:
        answers: a `Side` whose tensors have shape [B, K].
        present: [B, K] bool, False where a prompt has fewer than K answers; None when all are there. What stands in an
            absent place counts nowhere.
        goal: the score asked for in each prompt, [B], NaN where none was; None when none has a goal.
    """

    __slots__ = ()

    def __new__(cls, answers: Side, present: Tensor | None = None, goal: Tensor | None = None) -> Self:
        """Refuse fields that do not belong together.

        Raises:
            InputError: a field has another shape than the answers, or is of the wrong kind.
        """
        table = _shape(answers, "answers", axes=2)
        if present is not None:
            _same("present", _flags("present", present), table)
        if goal is not None:
            _same("goal", goal.shape, table[:1])
        return super().__new__(cls, answers, present, goal)

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:  # type: ignore[override]  # mypy has a form of its own
        return cls(*iterable)

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

        The gap of a pair is a difference of worths. It is of the type of `logp`.
        """
        score = _numbers(self.answers)
        if self.goal is None:
            return score.to(self.answers.logp.dtype)
        goal = self.goal[:, None]
        return (-(score - goal).abs()).where(~goal.isnan(), score).to(self.answers.logp.dtype)

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


class _PointFields(NamedTuple):
    answers: Side
    wanted: Tensor
    baseline: Tensor | None = None


class PointLogps(_PointFields):
    """B single answers, each wanted or unwanted, for losses that need no pairs. It is checked as `PairLogps` is.

    Attributes:
        answers: the `Side` of the B answers.
        wanted: [B] bool, True where the answer is desirable.
        baseline: [] the reward from which an answer counts as good; see `PairLogps`.
    """

    __slots__ = ()

    def __new__(cls, answers: Side, wanted: Tensor, baseline: Tensor | None = None) -> Self:
        """Refuse fields that do not belong together.

        Raises:
            InputError: a field has another shape than the answers, or is of the wrong kind.
        """
        rows = _shape(answers, "answers", axes=1)
        _same("wanted", _flags("wanted", wanted), rows)
        _constant(baseline)
        return super().__new__(cls, answers, wanted, baseline)

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:  # type: ignore[override]  # mypy has a form of its own
        return cls(*iterable)


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
    """What a loss said with `@uses(...)`; nothing when it said nothing. Also reads through bound (partial) losses.

    A loss may also be an object that is called: the mark is on it, on its class, or on `__call__`.

    Raises:
        InputError: the loss says that a setting names its scores which it has not.
    """
    found: Asks = _marked(loss, "asks", Asks())
    setting = _marked(loss, "scores_from", None)
    if setting is None:
        return found
    parameter = signature(loss).parameters.get(setting)  # of a partial: with the value that was bound
    if parameter is None:
        raise InputError(f"@uses says that the setting {setting!r} names the scores, but the loss has no such setting")
    value = () if parameter.default is parameter.empty else parameter.default
    value = ("score",) if value is None else value
    extra = tuple(name for name in value if name != "score")
    needs = found.needs | ({"scores"} if extra else set()) | ({"score"} if "score" in value else set())
    return found._replace(needs=needs, scores=extra)


def needs(loss: Loss) -> frozenset[str]:
    """The fields without which a loss refuses: `asks(loss).needs`."""
    return asks(loss).needs


def takes(loss: Loss) -> tuple[type[Record], ...]:
    """The records that a loss takes, by the annotation of its first parameter; `PairLogps` where it has none."""
    found = _marked(loss, "takes", None)
    if found is not None:
        return tuple(found)
    first = next(iter(signature(loss).parameters.values()), None)
    if first is None:
        return (PairLogps,)
    try:
        hint = hints_of(loss).get(first.name, PairLogps)
        said = {getattr(kind, "__name__", "") for kind in get_args(hint) or (hint,)}
    except NameError:  # an annotation that only a type checker can read, of this parameter or of another one
        said = set(re.findall(r"\w+", str(first.annotation)))
    return tuple(kind for kind in (PairLogps, GroupLogps, PointLogps) if kind.__name__ in said) or (PairLogps,)


def _marked(loss: Loss, name: str, otherwise: Any) -> Any:
    """What stands on a loss under `name`: on itself, on its `__call__`, or on what it binds the settings of."""
    if (found := getattr(loss, name, None)) is not None:
        return found
    if isinstance(loss, partial):
        return _marked(loss.func, name, otherwise)
    return getattr(type(loss).__call__, name, otherwise)


def _numbers(side: Side) -> Tensor:
    """The scores as numbers that can be subtracted: as precise as they are, and no integers, which have no NaN."""
    score = side.known("score")
    return score.to(torch.promote_types(score.dtype, side.logp.dtype))


def _shape(side: Side, name: str, *, axes: int) -> torch.Size:
    """The shape of one side of a record."""
    if not isinstance(side, Side):
        raise InputError(f"{name} must be a Side, not {type(side).__name__}; write Side(logp=...)")
    if side.logp.dim() != axes:
        should = "[B], one value an answer" if axes == 1 else "[B, K], the answers to a prompt in a row"
        raise InputError(f"{name} has logp of shape {list(side.logp.shape)}; it must be {should}")
    return side.logp.shape


def _same(name: str, shape: torch.Size, wanted: torch.Size) -> None:
    if shape != wanted:
        raise InputError(
            f"{name} has shape {list(shape)} where the record has {list(wanted)}; give one value for each row"
            + (" and answer" if len(wanted) > 1 else "")
        )


def _flags(name: str, value: Tensor) -> torch.Size:
    """The shape of a tensor of truth values. Others would index rows where they should choose them."""
    if value.dtype != torch.bool:
        raise InputError(f"{name} must be bool, not {value.dtype}; write {name}.bool()")
    return value.shape


def _constant(baseline: Tensor | None) -> None:
    if baseline is not None and not (isinstance(baseline, Tensor) and baseline.dim() == 0):
        shape = f"of shape {list(baseline.shape)}" if isinstance(baseline, Tensor) else repr(baseline)
        raise InputError(f"baseline must be one number as a tensor, not {shape}; write torch.tensor(0.5)")


def _missing(name: str) -> InputError:
    return InputError(f"this loss needs {name!r}; {_REMEDIES[name]}")
