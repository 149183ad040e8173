"""What an engine is asked, and what it gives."""

import hashlib
from typing import Literal, NamedTuple

from pairwright.chat import Conversation


class Request(NamedTuple):
    """One answer that is wanted."""

    prompt: Conversation
    """The conversation, its goal in place."""
    keep: str
    """The goal sentence, which no cut may touch; empty for none."""
    seed: int
    """Of this answer's random numbers, 0 to 2**128 - 1. It is all that an engine may draw from."""


class Drawn(NamedTuple):
    """One answer."""

    text: str | None
    """Without special tokens; None where the prompt does not fit the model even when cut."""
    stopped: Literal["eos", "length", "lost_to_truncation"]
    """Why it ends: the model ended it, it reached the most tokens allowed, or it was never begun."""


def seed_of(seed: int, prompt_id: str, sample: int) -> int:
    """The seed of one answer: the first 128 bits of the SHA-256 of `"<seed>:<prompt_id>:<sample>"`.

    The goal has no part in it, and neither has the model. So the answers to one prompt under two goals, or from two
    models, are drawn with the same random numbers, and their difference has less noise.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}:{prompt_id}:{sample}".encode()).digest()[:16])
