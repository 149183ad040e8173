"""From examples to what a loss takes: collated tensors, and the record of pairs, single answers or groups."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pairwright.logprobs.core import Batch, TokenLogps
from pairwright.losses import GroupLogps, PairLogps, PointLogps, Side
from pairwright.losses.types import Record
from pairwright.train.examples import Example
from pairwright.train.reference import Known

Kind = Literal["pairs", "responses", "groups"]

NAMED = "score:"
"""Before the name of a score of `Side.scores` among the collated tensors."""


def collate(rows: Sequence[Example]) -> dict[str, Tensor]:
    """Examples as flat tensors, B examples with N answers in all.

    The fields of `Batch`; `weight` and `filler` [B]; `goal` [B] where any example has one. Where the examples have
    unequally many answers: `present` [B, K], which seats are taken in a table of one row for each example, as wide as
    the largest, and `seat` [N], the seat of each answer, counted row by row. Where the examples know them: `score`,
    `ref` and `score:<name>` [N]; `wanted` and `stranger_ref` [B]; the strangers and the anchors as the fields of a
    `Batch` that begin with `stranger_` and `anchor_`.

    Fillers are left out where there is anything else. A process with nothing but fillers computes one, so that it takes
    part in the step, under the weight 0 and with `filler` set.
    """
    rows = [row for row in rows if not row.filler] or [replace(rows[0], weight=0.0)]
    owner = [i for i, row in enumerate(rows) for _ in row.answers]
    prompts = [row.prompt for row in rows]
    inputs = Batch.of(prompts, [ids for row in rows for ids in row.answers], owner)._asdict()
    inputs["weight"] = torch.tensor([row.weight for row in rows], dtype=torch.float32)
    inputs["filler"] = torch.tensor([row.filler for row in rows])
    if not all(math.isnan(row.goal) for row in rows):
        inputs["goal"] = torch.tensor([row.goal for row in rows], dtype=torch.float32)
    if len({len(row.answers) for row in rows}) > 1:
        sizes = torch.tensor([len(row.answers) for row in rows])
        inputs["present"] = torch.arange(int(sizes.max())) < sizes[:, None]
        inputs["seat"] = inputs["present"].flatten().nonzero()[:, 0]
    for name, values in _numbers(rows):
        inputs[name] = torch.tensor(values, dtype=torch.float32)
    if all(row.wanted is not None for row in rows):
        inputs["wanted"] = torch.tensor([bool(row.wanted) for row in rows])
    strangers = [row.stranger for row in rows if row.stranger is not None]
    if len(strangers) == len(rows):
        inputs |= _batch("stranger_", prompts, strangers)
    anchors = [row.anchor for row in rows if row.anchor is not None]
    if len(anchors) == len(rows):
        inputs |= _batch("anchor_", [prompt for prompt, _ in anchors], [answer for _, answer in anchors])
    return inputs


def _numbers(rows: Sequence[Example]) -> Iterator[tuple[str, list[float]]]:
    """Numbers of answers by name, where every example has them."""
    for name, field in (("score", "scores"), ("ref", "refs")):
        if all(getattr(row, field) is not None for row in rows):
            yield name, [value for row in rows for value in getattr(row, field)]
    for name in rows[0].named or {}:
        yield NAMED + name, [value for row in rows for value in (row.named or {})[name]]
    refs = [row.stranger_ref for row in rows if row.stranger_ref is not None]
    if len(refs) == len(rows):
        yield "stranger_ref", refs


def _batch(prefix: str, prompts: Sequence[np.ndarray], answers: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """A batch of one answer to each prompt, its fields by names that begin with `prefix`."""
    fields = Batch.of(prompts, answers, range(len(answers)))._asdict()
    return {prefix + name: value for name, value in fields.items()}


def batch_of(inputs: Mapping[str, Tensor], prefix: str) -> Batch | None:
    """The batch of strangers or anchors among collated tensors; None where there is none."""
    if prefix + Batch._fields[0] not in inputs:
        return None
    return Batch(*(inputs[prefix + name] for name in Batch._fields))


def joined(one: Batch, other: Batch) -> Batch:
    """Two batches as one: the prompts and answers of the first, then those of the second."""
    moved = other._replace(answer_prompt=other.answer_prompt + len(one.prompt_lengths))
    return Batch(*(torch.cat(both) for both in zip(one, moved, strict=True)))


def parted(values: TokenLogps, answers: int, tokens: int) -> tuple[TokenLogps, TokenLogps]:
    """What a model says of two joined batches, apart again.

    Args:
        values: of both.
        answers: how many are of the first batch.
        tokens: how many tokens these have.
    """
    collision = values.collision
    heads = None if collision is None else collision[:tokens]
    tails = None if collision is None else collision[tokens:]
    return (
        TokenLogps(values.logp[:tokens], values.length[:answers], collision=heads),
        TokenLogps(values.logp[tokens:], values.length[answers:], collision=tails),
    )


def answers_of(
    values: TokenLogps, inputs: Mapping[str, Tensor], ref: Known | None, *, needs: frozenset[str] = frozenset()
) -> Side:
    """All that is known of the N answers of a batch, in their order; every field is [N], those of tokens [N, T].

    Args:
        values: what the policy says of each token.
        inputs: collated examples.
        ref: what the reference says.
        needs: fields that the loss needs; those of tokens are made only then.
    """
    sums = values.sums
    tokens = {
        "token_logp": values.logp,
        "token_ref": None if ref is None else ref.tokens,
        "token_collision": values.collision,
    }
    rows = {
        name: in_rows(value, values.length) for name, value in tokens.items() if name in needs and value is not None
    }
    scores = {name.removeprefix(NAMED): value for name, value in inputs.items() if name.startswith(NAMED)}
    return Side(
        logp=sums.logp,
        length=sums.length,
        ref=None if ref is None else ref.logp,
        score=inputs.get("score"),
        scores=scores or None,
        **rows,
    )


def in_rows(values: Tensor, lengths: Tensor) -> Tensor:
    """Numbers of tokens, one answer after the other, as one row for each answer; 0 past its end.

    Args:
        values: [n].
        lengths: [N]; they sum to n.

    Returns:
        [N, T] with T the longest length.
    """
    taken = torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None]
    return values.new_zeros(taken.shape).masked_scatter(taken, values)


def pairs_of(answers: Side, inputs: Mapping[str, Tensor]) -> PairLogps:
    """Pairs, from answers that alternate chosen, rejected."""
    return PairLogps(
        answers.mapped(lambda values: values[0::2]),
        answers.mapped(lambda values: values[1::2]),
        goal=inputs.get("goal"),
    )


def points_of(answers: Side, inputs: Mapping[str, Tensor]) -> PointLogps:
    """Single answers; all are wanted where the examples do not say."""
    wanted = inputs.get("wanted")
    return PointLogps(answers, torch.ones_like(answers.logp, dtype=torch.bool) if wanted is None else wanted)


def groups_of(answers: Side, inputs: Mapping[str, Tensor]) -> GroupLogps:
    """Groups of as many answers as the largest has; an absent one has 0 everywhere, and the length 1."""
    present, rows = inputs.get("present"), len(inputs["weight"])
    if present is None:
        table = answers.mapped(lambda values: values.view(rows, -1, *values.shape[1:]))
        return GroupLogps(table, None, inputs.get("goal"))
    seats, seat = present, inputs["seat"]

    def seated(values: Tensor) -> Tensor:
        empty = values.new_zeros(seats.numel(), *values.shape[1:])
        return empty.index_copy(0, seat, values).view(*seats.shape, *values.shape[1:])

    table = answers.mapped(seated)
    if table.length is not None:
        table = replace(table, length=table.length.masked_fill(~present, 1))
    return GroupLogps(table, present, inputs.get("goal"))


RECORDS: dict[Kind, Callable[[Side, Mapping[str, Tensor]], Record]] = {
    "pairs": pairs_of,
    "responses": points_of,
    "groups": groups_of,
}
"""What a loss is given, by what an example is."""
