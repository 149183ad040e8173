"""Whether a loss has implicit rewards that are a multiple of the log-ratio of an answer, and which multiple.

DPO's reward is `beta * (logp - ref)`. SimPO, ORPO and CPO have a `beta` too, and theirs scales log-probabilities or a
term of the loss; that of `dpo_mean` and `ipo_mean` scales means over tokens. Where the reward is no multiple of the
log-ratio, a margin of log-ratios stays in nats.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pairwright.errors import InputError
from pairwright.losses.samples import random_record
from pairwright.losses.types import Loss, PairLogps, asks, takes
from pairwright.train.losses import composed, resolved, rows_of

_TRL = frozenset({"DPOConfig", "KTOConfig"})
"""Arguments of TRL's trainers whose `beta` scales log-ratios."""
_NOT = frozenset({"ipo", "sft", "sigmoid_norm"})
"""Losses of these trainers that are of means over tokens, or have no reference."""


def scale_of(loss: Loss) -> float | None:
    """What a loss multiplies an answer's summed log-ratio with to get its implicit reward; None where it does not.

    Nothing is declared: the loss is asked for the rewards of a record made at random. So it holds for a loss of one's
    own, under any divergence, and for a sum of losses, whose rewards are those of its first term. One that cannot be
    asked has none.

    Args:
        loss: its settings bound.
    """
    asked, kind = asks(loss), takes(loss)[0]
    if "ref" not in asked.needs:
        return None
    record = random_record(kind, asked)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            out = loss(record)
    except Exception:  # a loss of one's own may raise anything; its training says so better
        return None
    sides = (record.chosen, record.rejected) if isinstance(record, PairLogps) else (record.answers,)
    given = (out.chosen, out.rejected) if isinstance(record, PairLogps) else (out.rewards,)
    rewards = torch.cat([each.flatten().double() for each in given])
    ratios = torch.cat([side.log_ratio.flatten() for side in sides])
    scale = float(rewards @ ratios / (ratios @ ratios))
    if not (math.isfinite(scale) and scale > 0 and torch.allclose(rewards, scale * ratios, rtol=1e-9, atol=1e-12)):
        return None
    return float(f"{scale:.10g}")  # as it was written: 0.1, not 0.10000000000000002


def scale_in_trl(arguments: Any) -> float | None:
    """The same of the arguments of a trainer of TRL: its `beta`, where that is one of log-ratios.

    Of several losses that are summed the first one counts, as in a sum of ours. A class that is made of one of theirs
    is taken for it.

    Args:
        arguments: `DPOConfig`, `KTOConfig`, ...; any other `TrainingArguments` have no scale.
    """
    if not any(each.__name__ in _TRL for each in type(arguments).__mro__):
        return None
    said, beta = getattr(arguments, "loss_type", None), getattr(arguments, "beta", None)
    first = said[0] if isinstance(said, Sequence) and not isinstance(said, str) and said else said
    plain = getattr(arguments, "f_divergence_type", "reverse_kl")
    if first in _NOT or str(getattr(plain, "value", plain)) != "reverse_kl" or not isinstance(beta, int | float):
        return None
    return float(beta) if math.isfinite(beta) and beta > 0 else None


def scale_in_record(training: Mapping[str, Any]) -> float | None:
    """The same of a training, by its `training.json`; None where its loss cannot be found any more.

    The callback for other trainers writes it down, as `beta`. That of ours follows from the loss and its settings.
    """
    if "beta" in training:
        return None if training["beta"] is None else float(training["beta"])
    config = training.get("config") or {}
    said = config.get("loss")
    beside = {name: config.get(name) for name in ("divergence", "weighting")}
    try:
        rows = rows_of(
            said if isinstance(said, list) else {"name": said, "settings": config.get("loss_settings"), **beside}
        )
        return scale_of(composed([resolved(row) for row in rows]))
    except InputError:
        return None
