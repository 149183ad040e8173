"""The settings that a verb hands on to a plug (`**settings`), checked against that plug when a recipe is read."""

from collections.abc import Mapping, Sequence
from typing import Any

from pairwright.errors import InputError, MissingExtra
from pairwright.pipeline.signature import REQUIRED, Setting, check, signature, unknown
from pairwright.plug import Plug, find, settings_of

Named = tuple[Mapping[str, Plug], str, str]
"""A table, a name in it, and the word for such a plug."""


def metric_settings(
    own: Mapping[str, Any], others: Mapping[str, Any], known: Mapping[str, Setting], title: str
) -> dict[str, Any]:
    """The settings of `select`'s metric and of its cut."""
    from pairwright.cuts import CUTS
    from pairwright.metrics.table import METRICS

    named: list[Named] = [(METRICS, str(own["metric"]), "metric"), (CUTS, str(own["cut"]), "cut")]
    return _of_plugs(named, others, known, title)


def scorer_settings(
    own: Mapping[str, Any], others: Mapping[str, Any], known: Mapping[str, Setting], title: str
) -> dict[str, Any]:
    """The settings of `score`'s scorer."""
    from pairwright.scorers.table import SCORERS

    return _of_plugs([(SCORERS, str(own["scorer"]), "scorer")], others, known, title)


def rule_settings(
    own: Mapping[str, Any], others: Mapping[str, Any], known: Mapping[str, Setting], title: str
) -> dict[str, Any]:
    """The settings of `pair`'s rule."""
    from pairwright.pairing import PAIRINGS

    return _of_plugs([(PAIRINGS, str(own["rule"]), "pairing rule")], others, known, title)


def mode_settings(
    own: Mapping[str, Any], others: Mapping[str, Any], known: Mapping[str, Setting], title: str
) -> dict[str, Any]:
    """The settings of `relabel`'s mode."""
    from pairwright.relabel.table import MODES

    return _of_plugs([(MODES, str(own["mode"]), "relabel mode")], others, known, title)


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


def _of_plugs(
    named: Sequence[Named], others: Mapping[str, Any], known: Mapping[str, Setting], title: str
) -> dict[str, Any]:
    """What was given beyond the verb's own settings, converted by the plugs' types; what they need must be there."""
    theirs: dict[str, Setting] = {}
    for table, name, kind in named:
        plug = find(table, name, kind=kind)
        settable = settings_of(plug)
        theirs |= {key: value for key, value in signature(plug).settings.items() if key in settable}
    free = {key: value for key, value in theirs.items() if key not in known}
    where = f"{title} with {' and '.join(name for _, name, _ in named)}"
    for key in others:
        if key not in free:
            raise InputError(unknown(key, [*known, *free], title=where))
    asked = {key: value for key, value in free.items() if key in others or value.default is REQUIRED}
    return check(asked, others, title=where)
