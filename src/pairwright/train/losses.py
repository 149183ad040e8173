"""What the setting `loss` of a training says: one loss with its settings, or a sum of terms, checked and filled in."""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from pairwright.errors import InputError, need
from pairwright.plug import bind, find, nearest, plain, settings_of
from pairwright.runs import digest_file, digest_of

Said = str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]
"""A loss as it may be written: a name, one term, or a list of them."""

Chosen = str | dict[str, Any]
"""A plug by its name, or `{name: ..., setting: ...}`."""


class Written(BaseModel):
    """Settings that are written as JSON, which has no infinity: a number that is not finite is its name as text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, ser_json_inf_nan="constants")

    @model_serializer(mode="wrap", when_used="json")
    def _write(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = _nameable(handler(self))
        return written


def _nameable(value: Any) -> Any:
    """`value` with `inf`, `-inf` and `nan` in the place of such numbers; plugs read them as numbers again."""
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _nameable(each) for name, each in value.items()}
    return [_nameable(each) for each in value] if isinstance(value, list | tuple) else value


class LossTerm(Written, BaseModel):
    """One loss of a training, resolved: all its settings are there."""

    name: str
    """A loss of `pairwright list losses`, or `module:function`."""
    weight: FiniteFloat = 1.0
    """What its value is multiplied by in the sum."""
    settings: dict[str, Any] = {}
    """The loss's own settings, by name."""
    divergence: Chosen | None = None
    """What stands in place of the reverse KL; see `pairwright.losses.DIVERGENCES`."""
    weighting: Chosen | None = None
    """A weight for each pair; see `pairwright.losses.WEIGHTINGS`."""

    def __str__(self) -> str:
        """`0.8 dpo`; a weight of 1 is not said."""
        return self.name if self.weight == 1 else f"{self.weight:g} {self.name}"


def find_loss(name: str) -> Callable[..., Any]:
    """The loss of that name.

    Raises:
        InputError: there is none.
    """
    need("torch", extra="train")
    from pairwright.losses import LOSSES

    return find(LOSSES, name, kind="loss")


def rows_of(loss: Said) -> list[str | Mapping[str, Any]]:
    """The terms as they are written.

    Raises:
        InputError: there is none, or something else than names and terms.
    """
    rows = [loss] if isinstance(loss, str | Mapping) else list(loss) if isinstance(loss, Sequence) else []
    if not rows or not all(isinstance(row, str | Mapping) for row in rows):
        raise InputError(f"loss is {loss!r}; give a name, or a list of terms such as [{{name: dpo, weight: 0.5}}]")
    return rows


def name_of(row: str | Mapping[str, Any]) -> str:
    """The name of the loss in a term as it is written.

    Raises:
        InputError: it has none.
    """
    name = row if isinstance(row, str) else row.get("name")
    if not isinstance(name, str):
        raise InputError(f"a term of the loss has no name; write {{name: dpo, ...}} (got {dict(row)!r})")  # type: ignore[arg-type]
    return name


def resolved(row: str | Mapping[str, Any]) -> LossTerm:
    """A term with every setting checked, converted and filled in.

    Args:
        row: a name, or `{name: dpo, weight: 0.8, beta: 0.1, divergence: ..., weighting: ...}`.

    Raises:
        InputError: the loss or a setting is unknown, or a value is of the wrong kind.
    """
    need("torch", extra="train")
    from pairwright.losses.compose import Term
    from pairwright.losses.divergences import DIVERGENCES
    from pairwright.losses.weightings import WEIGHTINGS

    if strange := [key for key in row if not isinstance(key, str)]:
        raise InputError(f"a term of the loss has the setting {strange[0]!r}; a setting is named by text")
    term = Term.of(row)
    plug = find_loss(term.loss)
    try:
        return LossTerm(
            name=term.loss,
            weight=term.weight,
            settings=_filled(plug, term.settings, kind="loss"),
            divergence=_chosen(DIVERGENCES, term.divergence, kind="divergence"),
            weighting=_chosen(WEIGHTINGS, term.weighting, kind="weighting"),
        )
    except ValidationError as error:
        raise InputError(f"loss {term.loss!r}: {plain(error)}") from error


def plugs_of(term: LossTerm) -> list[str]:
    """The names of the loss of a term, of its divergence and of its weighting."""
    beside = (each for each in (term.divergence, term.weighting) if each is not None)
    return [term.name, *(each if isinstance(each, str) else each["name"] for each in beside)]


def sources_of(terms: Sequence[LossTerm]) -> dict[str, str]:
    """SHA-256 of the file of each plug of one's own, by its `module:function`; what it imports is not in it.

    A plug whose module has no file (one typed into a session) has none.
    """
    found = {}
    for name in sorted({name for term in terms for name in plugs_of(term) if ":" in name}):
        plug = find({}, name, kind="plug")
        while isinstance(plug, partial):
            plug = plug.func
        files = {getattr(sys.modules.get(module), "__file__", None) for module in (plug.__module__, name.split(":")[0])}
        digests = {Path(file).name: digest_file(Path(file)) for file in files if file and Path(file).is_file()}
        if digests:
            found[name] = digest_of(digests)
    return found


def composed(terms: Sequence[LossTerm]) -> Callable[..., Any]:
    """One loss out of the terms; see `pairwright.losses.compose`.

    Raises:
        InputError: they cannot be summed.
    """
    need("torch", extra="train")
    from pairwright.losses.compose import Term, compose

    return compose([Term(each.name, each.weight, each.settings, each.divergence, each.weighting) for each in terms])


def kinds_of(loss: Callable[..., Any]) -> list[str]:
    """What one example may be for this loss, in the words of the setting `examples`."""
    from pairwright.losses import GroupLogps, PairLogps, PointLogps, takes

    words: dict[type[Any], str] = {PairLogps: "pairs", PointLogps: "responses", GroupLogps: "groups"}
    return [word for kind, word in words.items() if kind in takes(loss)]


def labelled(terms: Sequence[LossTerm]) -> bool:
    """Whether a loss of single answers asks which of them are wanted; the likelihood of an answer does not."""
    from pairwright.losses import sft, sft_sum

    return any(find_loss(term.name) not in (sft, sft_sum) for term in terms)


def no_setting(name: str, terms: Sequence[str], known: set[str]) -> InputError:
    """The error about a setting that neither run, losses nor trainer have.

    One that belongs to other losses is said to be of no use here; a misspelt one gets the nearest right name.

    Args:
        name: the setting.
        terms: names of the losses.
        known: all settings that there are.
    """
    from pairwright.losses import LOSSES

    elsewhere = [other for other, plug in LOSSES.items() if name in settings_of(plug)]
    if not elsewhere:
        return InputError(f"train has no setting {name!r}{nearest(name, known)}")
    own = list(dict.fromkeys(key for term in terms for key in settings_of(find_loss(term))))
    which, has = repr(" + ".join(terms)), ", ".join(own) or "none"
    return InputError(f"loss {which} has no setting {name!r}, which {', '.join(elsewhere)} have; it has {has}")


def _chosen(table: Mapping[str, Any], what: str | Mapping[str, Any] | None, *, kind: str) -> Chosen | None:
    """A plug as it is written, checked: its name alone where it has no settings."""
    if what is None:
        return None
    given = {"name": what} if isinstance(what, str) else dict(what)
    name = given.pop("name", None)
    if not isinstance(name, str):
        raise InputError(f"a {kind} needs a name; write {kind}: {next(iter(table))}, or {{name: ..., setting: ...}}")
    settings = _filled(find(table, name, kind=kind), given, kind=kind)
    return {"name": name, **settings} if settings else name


def _filled(plug: Callable[..., Any], given: Mapping[str, Any], *, kind: str) -> dict[str, Any]:
    """All settings of a plug by name, those that were given converted by their types."""
    bound = bind(plug, given, kind=kind)
    return {name: bound.keywords[name] for name in settings_of(plug)}  # type: ignore[attr-defined]
