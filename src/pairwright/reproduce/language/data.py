"""What the arms train on: plugs that make one training set of another.

Each takes preferences with pairs and what is `Given` of the training, and gives preferences: pairs, or scored answers
for a loss that takes those.
"""

from dataclasses import dataclass
from typing import Any

from pairwright.preferences import Preferences
from pairwright.relabel import relabel
from pairwright.reproduce.language.setting import TEMPLATE, World


@dataclass(frozen=True, kw_only=True)
class Given:
    """What there is beside the pairs.

    Attributes:
        world: whose pairs they are.
        model: the base, ready to answer; it is nobody's to change.
        tokenizer: the base's.
        seed: of this training.
    """

    world: World
    model: Any
    tokenizer: Any
    seed: int


def as_paired(prefs: Preferences, given: Given) -> Preferences:
    """The pairs as they are."""
    return prefs


def relabelled(prefs: Preferences, given: Given, **settings: Any) -> Preferences:
    """The pairs with goals: `mode` and other settings of `relabel`."""
    told = {"template": TEMPLATE} | settings
    if told.get("attributes"):
        told["attributes"] = list(told["attributes"])
    return relabel(prefs, placement="system", seed=given.seed, **told)
