"""The settings that a verb hands on to a plug (`**settings`), checked against that plug when a recipe is read."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

from pairwright.errors import InputError, MissingExtra
from pairwright.pipeline.signature import REQUIRED, Setting, check, references, signature, unknown
from pairwright.plug import find, settings_of


class Slot(NamedTuple):
    """A setting of a verb that names a plug."""

    setting: str
    table: str
    """Where our own are, `module:TABLE`."""
    kind: str
    """The word for such a plug in messages."""


SLOTS: dict[str, tuple[Slot, ...]] = {
    "select": (
        Slot("metric", "pairwright.metrics.table:METRICS", "metric"),
        Slot("cut", "pairwright.cuts:CUTS", "cut"),
    ),
    "score": (Slot("scorer", "pairwright.scorers.table:SCORERS", "scorer"),),
    "pair": (Slot("rule", "pairwright.pairing:PAIRINGS", "pairing rule"),),
    "relabel": (Slot("mode", "pairwright.relabel.table:MODES", "relabel mode"),),
    "generate": (Slot("engine", "pairwright.generate.table:ENGINES", "engine"),),
    "evolve": (Slot("engine", "pairwright.generate.table:ENGINES", "engine"),),
}
"""Which plugs a verb hands settings on to."""
_FILLED: dict[str, frozenset[str]] = {"score": frozenset({"keep"})}
"""Settings of plugs that a verb fills in, from what a run or a command says."""


def metric_settings(
    own: Mapping[str, Any], others: Mapping[str, Any], known: Mapping[str, Setting], title: str
) -> dict[str, Any]:
    """The settings of `select`'s metric and of its cut."""
    return _of_plugs("select", own, others, known, title)


def scorer_settings(
    own: Mapping[str, Any], others: Mapping[str, Any], known: Mapping[str, Setting], title: str
) -> dict[str, Any]:
    """The settings of `score`'s scorer, or of each of several."""
    from pairwright.scorers.scale import parsed
    from pairwright.scorers.verb import named

    try:
        several = {} if isinstance(own["scorer"], str) else named(own["scorer"])
        for scale in (own.get("scale"), *(asked.get("scale") for asked in several.values())):
            if scale is not None and not references(scale):
                parsed(scale)
    except InputError as error:
        raise InputError(f"{title}: {str(error).removeprefix('score: ')}") from error
    for column, asked in several.items():
        inside = {key: value for key, value in asked.items() if key not in ("with", "scale", "ray")}
        _of_plugs("score", {"scorer": asked["with"]}, inside, known, f"{title}: {column}")
    return dict(others) if several else _of_plugs("score", own, others, known, title)


def rule_settings(
    own: Mapping[str, Any], others: Mapping[str, Any], known: Mapping[str, Setting], title: str
) -> dict[str, Any]:
    """The settings of `pair`'s rule."""
    return _of_plugs("pair", own, others, known, title)


def mode_settings(
    own: Mapping[str, Any], others: Mapping[str, Any], known: Mapping[str, Setting], title: str
) -> dict[str, Any]:
    """The settings of `relabel`'s mode."""
    return _of_plugs("relabel", own, others, known, title)


def engine_settings(
    own: Mapping[str, Any], others: Mapping[str, Any], known: Mapping[str, Setting], title: str
) -> dict[str, Any]:
    """The settings of the engine of `generate` and of `evolve`."""
    return _of_plugs("generate", own, others, known, title)


def training_settings(
    own: Mapping[str, Any], others: Mapping[str, Any], known: Mapping[str, Setting], title: str
) -> dict[str, Any]:
    """The settings of `train`: the run's, the loss's own, and Hugging Face's TrainingArguments.

    Without torch only a plan can be made; then names that are not the run's are taken on trust.
    """
    from pairwright.train.config import resolve

    try:
        resolve(**{name: value for name, value in own.items() if name in ("model", "loss")}, **others)
    except MissingExtra:
        return dict(others)
    except InputError as error:
        raise InputError(f"{title}: {error}") from error
    return dict(others)


def settings_of_plugs(verb: str, own: Mapping[str, Any]) -> dict[str, Setting]:
    """The settings of the plugs that a verb's own settings name.

    Args:
        verb: a key of `SLOTS`; any other hands nothing on.
        own: the verb's settings, those that name plugs among them.

    Raises:
        InputError: there is no such plug.
    """
    theirs: dict[str, Setting] = {}
    for slot in SLOTS.get(verb, ()):
        plug = find(_table(slot), str(own[slot.setting]), kind=slot.kind)
        settable = settings_of(plug).keys()
        filled = _FILLED.get(verb, frozenset())
        theirs |= {key: value for key, value in signature(plug).settings.items() if key in settable - filled}
    return theirs


def _table(slot: Slot) -> Mapping[str, Any]:
    """The table of our own plugs for a slot."""
    module, _, name = slot.table.partition(":")
    table: Mapping[str, Any] = getattr(import_module(module), name)
    return table


def _of_plugs(
    verb: str, own: Mapping[str, Any], others: Mapping[str, Any], known: Mapping[str, Setting], title: str
) -> dict[str, Any]:
    """What was given beyond the verb's own settings, converted by the plugs' types; what they need must be there."""
    free = {key: value for key, value in settings_of_plugs(verb, own).items() if key not in known}
    where = f"{title} with {' and '.join(str(own[slot.setting]) for slot in SLOTS[verb])}"
    for key in others:
        if key not in free:
            raise InputError(unknown(key, [*known, *free], title=where))
    asked = {key: value for key, value in free.items() if key in others or value.default is REQUIRED}
    return check(asked, others, title=where)
