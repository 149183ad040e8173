"""pairwright: better preference data out of scored preference data, and language models aligned on it.

    import pairwright as pw

    prefs = pw.read("ultrafeedback.jsonl")
    print(pw.audit(prefs))
    prefs = pw.relabel(prefs, "ra")
    prefs.export("ra.parquet")

Importing this package loads nothing heavy: each name below is imported when it is first used.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pairwright import evaluate as evaluate
    from pairwright import losses as losses
    from pairwright.audit import audit as audit
    from pairwright.diagnose.verb import diagnose as diagnose
    from pairwright.errors import InputError as InputError
    from pairwright.errors import PairwrightError as PairwrightError
    from pairwright.evolve import evolve as evolve
    from pairwright.formats.read import read as read
    from pairwright.generate import generate as generate
    from pairwright.goals import GoalFormat as GoalFormat
    from pairwright.logprobs import logprobs as logprobs
    from pairwright.merge import merge as merge
    from pairwright.pairing import pair as pair
    from pairwright.pipeline import run as run
    from pairwright.preferences import Preferences as Preferences
    from pairwright.relabel import relabel as relabel
    from pairwright.report import report as report
    from pairwright.reproduce import reproduce as reproduce
    from pairwright.scorers import score as score
    from pairwright.select import select as select
    from pairwright.split import split as split
    from pairwright.train import scratch as scratch
    from pairwright.train import train as train
    from pairwright.worlds.quickstart import quickstart as quickstart

_HOMES = {
    "GoalFormat": "pairwright.goals",
    "InputError": "pairwright.errors",
    "PairwrightError": "pairwright.errors",
    "Preferences": "pairwright.preferences",
    "audit": "pairwright.audit",
    "diagnose": "pairwright.diagnose.verb",
    "evolve": "pairwright.evolve",
    "generate": "pairwright.generate",
    "logprobs": "pairwright.logprobs",
    "merge": "pairwright.merge",
    "pair": "pairwright.pairing",
    "quickstart": "pairwright.worlds.quickstart",
    "read": "pairwright.formats.read",
    "relabel": "pairwright.relabel",
    "report": "pairwright.report",
    "reproduce": "pairwright.reproduce",
    "run": "pairwright.pipeline",
    "scratch": "pairwright.train",
    "score": "pairwright.scorers",
    "select": "pairwright.select",
    "split": "pairwright.split",
    "train": "pairwright.train",
}
_ROOMS = ("evaluate", "losses")

__all__ = [*_HOMES, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        found = getattr(import_module(_HOMES[name]), name)
    elif name in _ROOMS:
        found = import_module(f"pairwright.{name}")
    else:
        raise AttributeError(f"module 'pairwright' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """A verb and its module share a name (`pairwright.select`); as an attribute, the verb is what the user means.

    The import system sets every imported submodule as an attribute of its package, so without this
    `pairwright.select` would be the verb or the module, depending on who imported what before.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
