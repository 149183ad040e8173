"""The settings that a verb hands on to a plug (`**settings`), checked against that plug when a recipe is read."""

from collections.abc import Mapping
from typing import Any

from pairwright.errors import InputError
from pairwright.pipeline.signature import Setting, check, signature, unknown
from pairwright.plug import Plug, find, settings_of


def metric_settings(
    own: Mapping[str, Any], others: Mapping[str, Any], known: Mapping[str, Setting], title: str
) -> dict[str, Any]:
    """The settings of `select`'s metric."""
    from pairwright.metrics import METRICS

    return _of_plug(METRICS, str(own["metric"]), "metric", others, known, title)


def scorer_settings(
    own: Mapping[str, Any], others: Mapping[str, Any], known: Mapping[str, Setting], title: str
) -> dict[str, Any]:
    """The settings of `score`'s scorer."""
    from pairwright.scorers import SCORERS

    return _of_plug(SCORERS, str(own["scorer"]), "scorer", others, known, title)


def training_settings(
    own: Mapping[str, Any], others: Mapping[str, Any], known: Mapping[str, Setting], title: str
) -> dict[str, Any]:
    """The settings of `train`: ours, the loss's own, and Hugging Face's TrainingArguments."""
    return dict(others)


def _of_plug(
    table: Mapping[str, Plug],
    name: str,
    kind: str,
    others: Mapping[str, Any],
    known: Mapping[str, Setting],
    title: str,
) -> dict[str, Any]:
    plug = find(table, name, kind=kind)
    settings = {key: value for key, value in signature(plug).settings.items() if key in settings_of(plug)}
    for key in others:
        if key not in settings:
            raise InputError(unknown(key, [*known, *settings], title=f"{title} ({kind} {name!r})"))
    return check(settings, others, title=f"{title} ({kind} {name!r})")
