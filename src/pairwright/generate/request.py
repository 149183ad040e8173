"""What an engine is asked, and what it gives."""

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from pairwright.chat import Conversation


class Request(NamedTuple):
    """One answer that is wanted."""

    prompt: Conversation
    """The conversation, its goal in place."""
    keep: str
    """The goal sentence, which no cut may touch; empty for none."""
    seed: int
    """Of this answer's random numbers, 0 to 2**128 - 1. It is all that an engine may draw from."""
    answered: bool = False
    """Whether an earlier attempt at the same job drew this answer. An engine may leave it out; what it gives for it is
    not looked at."""


class Drawn(NamedTuple):
    """One answer."""

    text: str | None
    """Without special tokens; None where there is no answer."""
    stopped: str
    """Why it ends: `eos` (the model ended it), `stop` (a stop string came, which is not in the text), `length` (the
    most tokens allowed); without a text the reason, such as `lost_to_truncation`: the prompt does not fit even cut."""
    logp: float | None = None
    """Log-probability of the tokens drawn under the model at temperature 1 and without a nucleus, summed, in nats; None
    where the engine cannot say it."""
    length: int | None = None
    """Tokens that `logp` sums over: all that were drawn, the one that ended the answer included. With it and without
    `logp` an answer is one whose log-probability the engine could not tell, which is counted."""


Part = Sequence[tuple[int, Drawn]]
"""Some answers that are done, each with the number of its request."""


class Given(NamedTuple):
    """All answers of a job, where an engine has more to say than these."""

    drawn: list[Drawn]
    """One for each request, in their order."""
    found: Mapping[str, Any] = MappingProxyType({})
    """What was counted, for the lineage: tokens, costs."""
    notes: tuple[str, ...] = ()
    """What a reader should know, in sentences."""


def seed_of(seed: int, prompt_id: str, sample: int) -> int:
    """The seed of one answer: the first 128 bits of the SHA-256 of `"<seed>:<prompt_id>:<sample>"`.

    The goal has no part in it, and neither has the model. So the answers to one prompt under two goals, or from two
    models, are drawn with the same random numbers, and their difference has less noise.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}:{prompt_id}:{sample}".encode()).digest()[:16])
