"""Answers to other prompts: what an estimate of the policy's distance from its reference is drawn from."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pairwright.errors import InputError
from pairwright.train.examples import Example


def with_strangers(
    rows: Sequence[Example], prompts: Sequence[str], *, max_length: int, seed: int
) -> tuple[list[Example], tuple[str, ...]]:
    """Examples with an answer to another prompt beside each.

    The examples are put in a circle, in an order drawn from the seed, and each takes an answer of the next one that has
    another prompt. So nearly every example lends one answer, and which is decided before any batch is made. An answer
    that is too long after its new prompt is cut at its end.

    Args:
        rows: the examples.
        prompts: id of each one's prompt; copies of a prompt that ask for different goals have one id.
        max_length: tokens of prompt and answer.
        seed: of order and choice.

    Returns:
        The examples in their order, and what a reader should know.

    Raises:
        InputError: all examples have one prompt.

    Source: Ethayarajh et al. 2024, arXiv:2402.01306, section 4.1 (the mismatched estimate; TRL shifts a batch by one).
    """
    if len(set(prompts)) < 2:
        raise InputError("this loss needs answers to another prompt, and all examples have the same; give more prompts")
    draws = np.random.default_rng(seed)
    order = draws.permutation(len(rows))
    which = draws.random(len(rows))
    found: dict[int, np.ndarray] = {}
    cut = 0
    for place, number in enumerate(order):
        after = (order[(place + step) % len(rows)] for step in range(1, len(rows)))
        lender = rows[next(other for other in after if prompts[other] != prompts[number])]
        answer = lender.answers[int(which[number] * len(lender.answers))]
        room = max_length - len(rows[number].prompt)
        cut += len(answer) > room
        found[int(number)] = answer[:room]
    notes = (f"{cut} of {len(rows)} answers to other prompts were cut at their end to fit",) if cut else ()
    return [replace(row, stranger=found[number]) for number, row in enumerate(rows)], notes
