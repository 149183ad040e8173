"""What a training is probed with while it goes on, decided before it starts."""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pairwright.goals import GoalFormat
from pairwright.logprobs.stored import check_tokens
from pairwright.logprobs.tokenise import Limits
from pairwright.preferences import Preferences
from pairwright.train.config import TrainConfig

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback

    from pairwright.probes.reading import Held


class Probing(NamedTuple):
    """The probes of a run.

    Attributes:
        pairs: held-out pairs.
        held: their tokens.
        dropped: pairs that cannot be probed, by reason.
        digest: SHA-256 of all that decides what a probe reads of a model.
    """

    pairs: Preferences
    held: "Held"
    dropped: dict[str, int]
    digest: str


def probing_of(
    prefs: Preferences, config: TrainConfig, tokenizer: Any, limits: Limits, goal: GoalFormat | None
) -> Probing | None:
    """The held-out pairs of a run as tokens; None where it is not probed.

    The draw does not depend on the seed of the run, so that runs of different seeds are probed with the same pairs.

    Raises:
        InputError: the data have no such split, or none of its pairs can be read.
    """
    if config.probe_every is None:
        return None
    from pairwright.probes.held import held_out
    from pairwright.probes.reading import encode

    pairs, dropped = held_out(prefs, split=config.probe_split, pairs=config.probe_pairs)
    held = encode(pairs, tokenizer, goal=goal, limits=limits)
    check_tokens([*held.prompts, *held.answers], config.model)
    facts = {
        "every": config.probe_every,
        "pairs": pairs.digest(),
        "goal": None if held.goal is None else held.goal.model_dump(mode="json"),
        "limits": limits,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return Probing(pairs, held, _added(dropped, held.dropped), digest)


def watchers(probing: Probing | None, config: TrainConfig, output: Path, trainer: "Trainer") -> "list[TrainerCallback]":
    """The callbacks of a trainer that probe its run, and end it where it was asked for."""
    if probing is None or config.probe_every is None:
        return []
    from pairwright.probes.live import Prober
    from pairwright.probes.scale import scale_of
    from pairwright.probes.stop import StopRule
    from pairwright.probes.store import About

    about = partial(
        About,
        pairs=probing.held.pairs,
        split=config.probe_split,
        every=config.probe_every,
        beta=scale_of(config.bound_loss()),
        loss=config.loss_name,
        goal=probing.held.goal,
        start=config.model,
        dropped=probing.dropped,
        notes=(*probing.pairs.lineage[-1].notes, *probing.held.notes),
    )
    prober = Prober(trainer, output, probing.pairs, probing.held, about, every=config.probe_every)
    return [prober, StopRule(output, signals=config.stop_rule)] if config.stop_rule else [prober]


def stopped_at(output: Path, config: TrainConfig) -> dict[str, Any] | None:
    """What the stop rule of a run said (`step`, `signal`, `says`, `parameters`); None where it did not end it."""
    if not config.stop_rule:
        return None
    from pairwright.probes.stop import stopped

    return stopped(output)


def _added(one: dict[str, int], other: Any) -> dict[str, int]:
    return one | {reason: one.get(reason, 0) + count for reason, count in other.items()}
