"""A loss called once before anything is loaded or computed, so that what it refuses is said then, not in the middle.

A loss refuses settings and data when it is called. Settings are tried on made-up numbers; data with their own scores
and goals, and log-probabilities that stand in for those of a policy which is its reference.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from pairwright.errors import InputError
from pairwright.logprobs.core import TokenLogps
from pairwright.losses import GroupLogps, PairLogps, PointLogps, asks
from pairwright.losses.samples import random_record
from pairwright.losses.types import Loss, Record
from pairwright.train.examples import Example
from pairwright.train.losses import LossTerm, composed, plugs_of
from pairwright.train.records import RECORDS, Kind, answers_of, collate
from pairwright.train.reference import Known

_TYPES: dict[Kind, type[Record]] = {"pairs": PairLogps, "responses": PointLogps, "groups": GroupLogps}

_TOGETHER = 1024
"""Rows of one call for a loss that compares the rows of a batch, which may need memory for each two of them."""


def try_settings(terms: Sequence[LossTerm], kind: Kind) -> None:
    """Call each term once on a few made-up rows.

    A loss of one's own is not tried: it may refuse made-up scores and take those of the data.

    Args:
        terms: of the loss.
        kind: what an example is.

    Raises:
        InputError: a loss, divergence or weighting refuses a setting.
    """
    for term in terms:
        if any(":" in name for name in plugs_of(term)):
            continue
        loss = composed([term])
        _call(loss, random_record(_TYPES[kind], asks(loss)), f"loss {term.name!r}: ")


def try_data(loss: Loss, rows: Sequence[Example], kind: Kind) -> None:
    """Call a loss once on the scores and goals of all rows; a refusal counts among all of them.

    Args:
        loss: the loss of the run.
        rows: the examples.
        kind: what they are.

    Raises:
        InputError: the loss refuses the data.
    """
    asked = asks(loss)
    step = _TOGETHER if asked.of_batch else len(rows)
    for begin in range(0, len(rows), step):
        inputs = collate([_short(row) for row in rows[begin : begin + step]])
        tokens = torch.full(inputs["answer_ids"].shape, -1.0)
        values = TokenLogps(tokens, inputs["answer_lengths"], collision=tokens)
        answers = answers_of(values, inputs, Known(values.sums.logp, tokens), needs=asked.needs)
        record = RECORDS[kind](answers, inputs)
        if "anchor" in asked.needs and isinstance(record, PairLogps):
            record = record._replace(anchor=record.chosen)
        place = f"{kind} {begin + 1:,} to {begin + len(inputs['weight']):,}: " if step < len(rows) else ""
        _call(loss, record, place)


def _call(loss: Callable[..., Any], record: Record, before: str) -> None:
    try:
        with torch.no_grad():
            loss(record)
    except InputError as error:
        raise InputError(f"{before}{error}") from error


def _short(row: Example) -> Example:
    """The example with one token for each text: only its numbers are looked at."""
    return replace(
        row, prompt=row.prompt[:1], answers=tuple(each[:1] for each in row.answers), stranger=None, anchor=None
    )
