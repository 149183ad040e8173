"""A stand-in for the model that evolves prompts, for the world of lists: an engine of `generate`."""

import re
from collections.abc import Sequence
from random import Random

from pairwright.chat import user
from pairwright.generate.request import Drawn, Request
from pairwright.worlds.lists import CATEGORIES, PHRASINGS, read_prompt

STAYS = 0.8
"""Probability that the new instruction asks for the same category."""


def rewriter(
    requests: Sequence[Request],
    *,
    model: str = "rewriter",
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_new_tokens: int = 256,
    stop: Sequence[str] = (),
) -> list[Drawn]:
    """Another instruction of the world of lists for the one between `<request>` and `</request>`.

    The small models of this world cannot follow the request to write a prompt, so this draws one: other forbidden words
    and another phrasing, mostly of the same category. It does not tell one operator from another. The instructions
    are of the part for preferences, so none is one that the base model has read.

    Args:
        requests: what `evolve` asks.
        model: plays no part, and neither do the settings below.
        temperature: of no use here.
        top_p: of no use here.
        max_new_tokens: of no use here.
        stop: of no use here.

    Returns:
        An instruction for each request; one that is not of this world becomes an empty text.
    """
    drawn = []
    for request in requests:
        said = "\n".join(message["content"] for message in request.prompt)
        found = re.search(r"<request>(.*)</request>", said, re.DOTALL)
        asked = read_prompt([user(found[1])]) if found else None
        drawn.append(Drawn("" if asked is None else _instruction(asked[0], Random(request.seed)), "eos"))
    return drawn


def _instruction(category: str, rng: Random) -> str:
    """An instruction of the part for preferences: the places of its forbidden words have an even sum."""
    name = category if rng.random() < STAYS else rng.choice([other for other in CATEGORIES if other != category])
    members = CATEGORIES[name]
    first = rng.randrange(len(members))
    second = rng.choice([place for place in range(first % 2, len(members), 2) if place != first])
    return rng.choice(PHRASINGS).format(category=name, first=members[first], second=members[second])
