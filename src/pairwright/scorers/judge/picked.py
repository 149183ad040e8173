"""All answers to a prompt at once, of which the judge names the best."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from string import ascii_uppercase

import numpy as np
import polars as pl

from pairwright.scorers.judge.rated import Ask, Brief, Judgement, Row, texts
from pairwright.scorers.judge.readings import letter_said


def best(rows: Sequence[Row], brief: Brief, ask: Ask) -> Judgement:
    """1 for the answer that the judge names as the best of those to its prompt, 0 for the others.

    The answers stand in an order drawn from the texts themselves, so that no place is the right one more often and the
    same question is asked, and paid, once. Where the judge cannot be read no answer to the prompt has a score, with the
    reason; nor has one that is alone (`lone_answer`), or one of more than 26 (`too_many_answers`).

    Source: arXiv 2506.01937 and allenai/reward-bench, scripts/run_generative_v2.py (one of four, in a random place).
    """
    groups: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        groups.setdefault(row.prompt_id, []).append(at)
    why: list[str | None] = [None] * len(rows)
    orders = []
    for group in groups.values():
        if 1 < len(group) <= len(ascii_uppercase):
            orders.append(_order(group, rows))
        else:
            for at in group:
                why[at] = "lone_answer" if len(group) == 1 else "too_many_answers"
    answers = ask([brief.call(**_filled(order, rows)) for order in orders])
    values: list[float | None] = [None] * len(rows)
    texts_of: list[str | None] = [None] * len(rows)
    places: Counter[str] = Counter()
    for order, answer, text in zip(orders, answers, texts(answers), strict=True):
        letter, reason = letter_said(answer, ascii_uppercase[: len(order)])
        places[letter or "none"] += 1
        for at, its in zip(order, ascii_uppercase, strict=False):
            texts_of[at] = text
            if letter is None:
                why[at] = reason
            else:
                values[at] = float(its == letter)
    columns = {"text": pl.Series(texts_of, dtype=pl.String), "why": pl.Series(why, dtype=pl.String)}
    found = {"choices": len(orders), "places": dict(sorted(places.items()))}
    said = ", ".join(f"{place} {count:,}" for place, count in sorted(places.items()))
    notes = [f"{len(orders):,} prompts were shown with all their answers in a drawn order; the judge named {said}."]
    return Judgement(values, Counter(filter(None, why)), columns, found, notes if orders else [])


def _order(group: Sequence[int], rows: Sequence[Row]) -> list[int]:
    """The answers to a prompt in an order drawn from their texts."""
    told = "\0".join([rows[group[0]].prompt, *(rows[at].answer for at in group)])
    seed = int.from_bytes(hashlib.sha256(told.encode()).digest()[:8], "big")
    return [group[at] for at in np.random.default_rng(seed).permutation(len(group))]


def _filled(order: Sequence[int], rows: Sequence[Row]) -> dict[str, str]:
    """The places of the prompt file."""
    letters = ascii_uppercase[: len(order)]
    blocks = [
        f"<answer_{letter}>\n{rows[at].answer}\n</answer_{letter}>" for letter, at in zip(letters, order, strict=True)
    ]
    named = f"{', '.join(letters[:-1])} or {letters[-1]}"
    return {"prompt": rows[order[0]].prompt, "answers": "\n\n".join(blocks), "letters": named}
