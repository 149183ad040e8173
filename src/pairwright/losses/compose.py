"""Sums of losses: several objectives in one training, each with its weight, its divergence and its weighting.

loss = compose([Term("dpo", weight=0.8, settings={"beta": 0.1}), Term("sft", weight=0.2)])
loss(pair).loss     # 0.8 * dpo + 0.2 * sft, [B]
loss.each(pair)     # {"dpo": ..., "sft": ...}, before their weights; a `Sum` has it, one plain term has not
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any

from torch import Tensor

from pairwright.errors import InputError
from pairwright.losses.divergences import DIVERGENCES, diverged
from pairwright.losses.table import LOSSES
from pairwright.losses.told import Told, name_of
from pairwright.losses.types import Asks, Loss, Record, asks, takes
from pairwright.losses.weightings import WEIGHTINGS, weighted
from pairwright.plug import bind, find, settings_of

Chosen = str | Mapping[str, Any]
"""A plug by its name, or `{name: ..., setting: ...}`."""


@dataclass(frozen=True)
class Term:
    """One loss of a sum.

    Attributes:
        loss: its name in `LOSSES`, or `module:function`.
        weight: what its value is multiplied by; any finite number.
        settings: of the loss.
        divergence: of `DIVERGENCES`, in place of the reverse KL: a name, or `{name: ..., setting: ...}`.
        weighting: of `WEIGHTINGS`, a weight for each pair: a name, or `{name: ..., setting: ...}`.
    """

    loss: str
    weight: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    divergence: Chosen | None = None
    weighting: Chosen | None = None

    @classmethod
    def of(cls, row: Chosen) -> "Term":
        """A term as recipes write it: a name, or `{name: dpo, weight: 0.8, beta: 0.1, divergence: js_divergence}`.

        Settings of the loss stand beside the term's own, or under `settings`. They must stand there for a loss with a
        setting called like one of the term's (`modpo` has a `weight` of its own).

        Raises:
            InputError: the row is no name and no mapping, has no name, a key that could mean two things, or settings, a
                weight, a divergence or a weighting of the wrong kind.
        """
        given = _row(row, "a term of a loss", "{name: dpo, weight: 0.5}")
        name = given.pop("name", None)
        if not isinstance(name, str):
            raise InputError("a term of a loss needs a name; write {name: dpo, weight: 0.5}")
        named = "settings" in given
        settings = given.pop("settings", None)
        if not isinstance(settings, Mapping | None):
            raise InputError(
                f"settings of the term {name!r} must be a mapping (got {settings!r}); write settings: {{beta: 0.1}}"
            )
        settings = dict(settings or {})
        own = {each.name for each in fields(cls)} - {"loss", "settings"}
        for key in own & given.keys() & settings_of(find(LOSSES, name, kind="loss")).keys():
            if not named:
                raise InputError(
                    f"loss {name!r} has a setting {key!r} of its own, so {key!r} could mean two things here; write its "
                    f"settings as 'settings: {{{key}: ...}}', and {key!r} beside them is the term's"
                )
        if twice := sorted(settings.keys() & given.keys() - own):
            raise InputError(f"loss {name!r} has {twice[0]!r} twice, beside 'settings' and in it; keep one")
        settings |= {key: value for key, value in given.items() if key not in own}
        mine: dict[str, Any] = {key: value for key, value in given.items() if key in own}
        if "weight" in mine:
            mine["weight"] = _weight(name, mine["weight"])
        for kind, table in (("divergence", DIVERGENCES), ("weighting", WEIGHTINGS)):
            if mine.get(kind) is not None:
                _row(mine[kind], f"the {kind} of the term {name!r}", _example(table))
        return cls(loss=name, settings=settings, **mine)


@dataclass(frozen=True)
class Sum(Told):
    """A weighted sum of losses on the same record; `each` tells its terms apart.

    Attributes:
        terms: the losses by name, with their settings.
        weights: what each is multiplied by.
    """

    terms: Mapping[str, Loss]
    weights: Mapping[str, float]

    def each(self, record: Record) -> dict[str, Tensor]:
        """The value of each term before its weight, [B]; the second term of a name is called `name_2`."""
        return self.told(record)[1]

    def told(self, record: Any) -> tuple[Any, dict[str, Tensor]]:
        """The result and `each` of one record, every term computed once."""
        return _summed(self.terms, self.weights, record)


def compose(terms: Sequence[Term]) -> Loss:
    """One loss out of weighted terms.

        loss = sum over terms of weight * loss_of_term

    Args:
        terms: at least one. One of weight 1 without divergence and weighting gives the bound loss itself.

    Returns:
        a loss that asks for what all terms ask and takes what every term takes. The implicit rewards are those of the
        first term. Unless it is a bound loss, it is a `Sum`: `loss.each(record)` gives the terms apart.

    Raises:
        InputError: there is no term; a loss, divergence, weighting or setting is unknown or of the wrong kind; a weight
            is no finite number; a loss cannot have the divergence or the weighting; two terms want different baselines,
            or have no record in common.
    """
    if not terms:
        raise InputError("a loss needs at least one term; write {name: dpo, weight: 1.0}")
    first = terms[0]
    parts: dict[str, Loss] = {}
    weights: dict[str, float] = {}
    for term in terms:
        part = _part(term)
        name = _fresh(name_of(part), parts)
        parts[name], weights[name] = part, _weight(term.loss, term.weight)
    if len(terms) == 1 and first.divergence is None and first.weighting is None and weights[name] == 1:
        return parts[name]
    together = _together(parts)

    def call(record: Any) -> Any:
        return _summed(parts, weights, record)[0]

    return Sum(call, together, _common(parts), "+".join(parts), parts, weights)


def _summed(parts: Mapping[str, Loss], weights: Mapping[str, float], record: Any) -> tuple[Any, dict[str, Tensor]]:
    """The result of a sum, and the value of each term before its weight."""
    outs = {name: loss(record) for name, loss in parts.items()}
    total: Tensor = sum(weights[name] * out.loss for name, out in outs.items())
    return next(iter(outs.values()))._replace(loss=total), {name: out.loss for name, out in outs.items()}


def _part(term: Term) -> Loss:
    """The loss of a term, its settings bound, under its divergence and weighting."""
    loss = bind(find(LOSSES, term.loss, kind="loss"), term.settings, kind="loss")
    if term.divergence is not None:
        loss = diverged(loss, _chosen(DIVERGENCES, term.divergence, kind="divergence"))
    if term.weighting is not None:
        loss = weighted(loss, _chosen(WEIGHTINGS, term.weighting, kind="weighting"))
    return loss


def _chosen(table: Mapping[str, Any], what: Chosen, *, kind: str) -> Any:
    """The plug that `what` names, with the settings that stand beside its name."""
    given = _row(what, f"a {kind}", _example(table))
    name = given.pop("name", None)
    if not isinstance(name, str):
        raise InputError(f"a {kind} needs a name; write {kind}: {next(iter(table))}, or {{name: ..., setting: ...}}")
    return bind(find(table, name, kind=kind), given, kind=kind)


def _row(given: Any, what: str, example: str) -> dict[str, Any]:
    """A plug as it is written, as a dict with its name."""
    if not isinstance(given, str | Mapping):
        raise InputError(f"{what} must be a name or a mapping (got {given!r}); write {example}")
    return {"name": given} if isinstance(given, str) else dict(given)


def _example(table: Mapping[str, Any]) -> str:
    return f"{next(iter(table))}, or {{name: {next(iter(table))}, ...}}"


def _weight(name: str, given: Any) -> float:
    """A weight as a number. YAML 1.1 reads `8e-1` as text, as it does for settings."""
    try:
        number = float("nan") if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        number = float("nan")
    if not isfinite(number):
        raise InputError(f"the weight of the term {name!r} must be a finite number (got {given!r})")
    return number


def _fresh(name: str, taken: Mapping[str, Any]) -> str:
    """`name`, or the first of `name_2`, `name_3`, ... that is not taken."""
    number = 2
    fresh = name
    while fresh in taken:
        fresh, number = f"{name}_{number}", number + 1
    return fresh


def _together(parts: Mapping[str, Loss]) -> Asks:
    """What all terms ask for."""
    asked = {name: asks(loss) for name, loss in parts.items()}
    wants = {name: each.baseline for name, each in asked.items() if each.baseline is not None}
    if len(set(wants.values())) > 1:
        said = " and ".join(f"{name} wants {baseline!r}" for name, baseline in wants.items())
        raise InputError(f"these losses want different baselines and cannot be summed: {said}; keep one kind")
    return Asks(
        needs=frozenset().union(*(each.needs for each in asked.values())),
        scores=tuple(dict.fromkeys(name for each in asked.values() for name in each.scores)),
        baseline=next(iter(wants.values()), None),
        of_batch=any(each.of_batch for each in asked.values()),
    )


def _common(parts: Mapping[str, Loss]) -> tuple[type[Record], ...]:
    """The records that every term takes."""
    taken = {name: takes(loss) for name, loss in parts.items()}
    common = tuple(kind for kind in next(iter(taken.values())) if all(kind in each for each in taken.values()))
    if not common:
        said = "; ".join(f"{name} takes {', '.join(k.__name__ for k in kinds)}" for name, kinds in taken.items())
        raise InputError(f"these losses have no record in common and cannot be summed: {said}")
    return common
