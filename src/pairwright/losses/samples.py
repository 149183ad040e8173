"""Records that `check_loss` tries a loss on: random, equal and extreme ones, with the fields that it asks for.

Scores are between 0 and 1, so that losses of win probabilities can be tried too; the chosen side has the better one.
Token log-probabilities sum to `logp`. Nothing here is plausible text; it only has the shape of it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pairwright.losses.types import Asks, GroupLogps, PairLogps, PointLogps, Record, Side

ROWS, ANSWERS = 6, 3
_TOKENS = 20
_FIELDS = frozenset({"length", "ref", "score", "token_logp", "token_ref", "token_collision"})
_CALLED = {"logp": "log-probabilities"}
LOW, HIGH = -1000.0, -0.001
"""Log-probabilities of an answer that a model would never give, and of one that it is sure of."""


def random_record(kind: type[Record], asked: Asks, *, seed: int = 0) -> Any:
    """A record of `ROWS` rows in float64 with only what is asked for besides `logp`."""
    return _RANDOM[kind](asked, torch.Generator().manual_seed(seed))


def full_record(kind: type[Record], asked: Asks) -> Any:
    """A random record with every field that there is, whatever is asked for, and one more named score."""
    everything = Asks(_FIELDS | {"anchor", "scores"}, (*asked.scores, "of nobody"), asked.baseline)
    return random_record(kind, everything, seed=3)


def only(record: Any, asked: Asks) -> Any:
    """The record with just what is asked for."""
    bare = with_sides(record, {name: _only(side, asked) for name, side in sides(record).items()})
    return without(bare, "anchor") if "anchor" in record._fields and "anchor" not in asked.needs else bare


def named_tensors(record: Any) -> dict[str, Tensor]:
    """Every tensor of a record, by what to call it in a sentence."""
    found = {name: value for name, value in record._asdict().items() if isinstance(value, Tensor)}
    for name, side in sides(record).items():
        for field, value in side.tensors():
            found[f"{_CALLED.get(field, field)} of {name}"] = value
    return found


def equal_record(kind: type[Record], asked: Asks) -> Any:
    """A random record in which the policy is its reference and all answers of a row are alike but for their scores."""
    record = random_record(kind, asked)
    first = next(iter(sides(record).values()))
    if kind is GroupLogps:
        first = first.mapped(_first_answer)
    return with_sides(record, {name: _alike(side, first) for name, side in sides(record).items()})


def extreme_records(kind: type[Record], asked: Asks) -> Iterator[Any]:
    """Records in float32 in which policy and reference are sure or at a loss about each answer: every combination."""
    for length in (1, 500):
        yield _EXTREME[kind](asked, length)


def sides(record: Any) -> dict[str, Side]:
    """The sides of a record by the name of their field."""
    return {name: value for name, value in record._asdict().items() if isinstance(value, Side)}


def with_sides(record: Any, changed: Mapping[str, Side]) -> Any:
    """The record with other sides."""
    return record._replace(**changed)


def taken(record: Any, rows: Tensor) -> Any:
    """Some rows of a record, in that order. A baseline belongs to all rows and stays."""
    changed: dict[str, Any] = {name: side.mapped(lambda value: value[rows]) for name, side in sides(record).items()}
    for name in ("goal", "present", "wanted"):
        if (value := getattr(record, name, None)) is not None:
            changed[name] = value[rows]
    return record._replace(**changed)


def without(record: Any, name: str) -> Any:
    """The record without one field of its sides, or without its anchor."""
    if name == "anchor":
        return record._replace(anchor=None)
    gone: dict[str, Any] = {name: None}
    return with_sides(record, {where: replace(side, **gone) for where, side in sides(record).items()})


def without_score(record: Any, name: str) -> Any:
    """The record without the score called `name`."""

    def drop(side: Side) -> Side:
        return replace(side, scores={key: value for key, value in (side.scores or {}).items() if key != name})

    return with_sides(record, {where: drop(side) for where, side in sides(record).items()})


def leaf(side: Side) -> Tensor:
    """What the policy of a side is moved by: each token's log-probability where there are tokens, else the sum."""
    return side.logp if side.token_logp is None else side.token_logp


def with_leaf(side: Side, value: Tensor) -> Side:
    """The side under another policy; the sum follows its tokens."""
    if side.token_logp is None:
        return replace(side, logp=value)
    return replace(side, logp=value.sum(dim=-1), token_logp=value)


def by_answer(side: Side, value: Tensor) -> Tensor:
    """A number for each entry of `leaf`, summed over the tokens of an answer."""
    return value if side.token_logp is None else value.sum(dim=-1)


def _only(side: Side, asked: Asks) -> Side:
    """The side with just what is asked for."""
    kept: dict[str, Any] = {name: getattr(side, name) for name in asked.needs & _FIELDS}
    if asked.scores:
        kept["scores"] = {name: (side.scores or {})[name] for name in asked.scores}
    return Side(side.logp, **kept)


def _random_side(asked: Asks, draw: torch.Generator, shape: tuple[int, ...], *, low: float) -> Side:
    def uniform(*size: int) -> Tensor:
        return torch.rand(*size, generator=draw, dtype=torch.float64)

    length = torch.randint(3, _TOKENS, shape, generator=draw)
    inside = torch.arange(_TOKENS) < length[..., None]
    tokens = -(0.2 + 1.6 * uniform(*shape, _TOKENS)) * inside
    refs = (tokens + uniform(*shape, _TOKENS) - 0.5).clamp(max=-0.01) * inside
    collision = -(0.2 + uniform(*shape, _TOKENS)) * inside
    score = low + 0.3 * uniform(*shape)
    scores = {name: uniform(*shape) for name in asked.scores}
    return _only(
        Side(tokens.sum(-1), length.double(), refs.sum(-1), score, scores, tokens, refs, collision),
        asked,
    )


def _random_pair(asked: Asks, draw: torch.Generator) -> PairLogps:
    better, worse = (_random_side(asked, draw, (ROWS,), low=low) for low in (0.6, 0.1))
    anchor = _random_side(asked, draw, (ROWS,), low=0.6) if "anchor" in asked.needs else None
    return PairLogps(better, worse, anchor=anchor)


def _random_group(asked: Asks, draw: torch.Generator) -> GroupLogps:
    return GroupLogps(_random_side(asked, draw, (ROWS, ANSWERS), low=0.35))


def _random_points(asked: Asks, draw: torch.Generator) -> PointLogps:
    return PointLogps(_random_side(asked, draw, (ROWS,), low=0.35), torch.arange(ROWS) % 2 == 0)


def _first_answer(value: Tensor) -> Tensor:
    return value[:, :1].expand_as(value)


def _alike(side: Side, first: Side) -> Side:
    """`first` under a policy that is its reference, with the scores of `side`."""
    return replace(
        first,
        ref=None if first.ref is None else first.logp,
        token_ref=None if first.token_ref is None else first.token_logp,
        score=side.score,
        scores=side.scores,
    )


def _extreme_side(asked: Asks, logp: Tensor, ref: Tensor, score: Tensor, length: int) -> Side:
    """A side of `length` tokens that are all alike."""

    def spread(value: Tensor) -> Tensor:
        return (value / length)[..., None].expand(*value.shape, length)

    scores = {name: score for name in asked.scores}
    collision = torch.full_like(spread(logp), -1.0)
    many = torch.full_like(logp, length)
    return _only(Side(logp, many, ref, score, scores, spread(logp), spread(ref), collision), asked)


def _corners(answers: int) -> list[Tensor]:
    """`logp` and `ref` of each answer, in turn: every combination of low and high."""
    return list(torch.cartesian_prod(*[torch.tensor([LOW, HIGH])] * (2 * answers)).T)


def _extreme_pair(asked: Asks, length: int) -> PairLogps:
    logp, ref, other, other_ref = _corners(2)
    better = _extreme_side(asked, logp, ref, torch.full_like(logp, 0.9), length)
    worse = _extreme_side(asked, other, other_ref, torch.full_like(logp, 0.1), length)
    return PairLogps(better, worse, anchor=better if "anchor" in asked.needs else None)


def _extreme_group(asked: Asks, length: int) -> GroupLogps:
    values = _corners(ANSWERS)
    logp, ref = torch.stack(values[::2], dim=1), torch.stack(values[1::2], dim=1)
    return GroupLogps(_extreme_side(asked, logp, ref, torch.linspace(0.9, 0.1, ANSWERS).expand_as(logp), length))


def _extreme_points(asked: Asks, length: int) -> PointLogps:
    logp, ref = (torch.cat([value, value]) for value in _corners(1))
    wanted = torch.arange(len(logp)) < len(logp) // 2
    return PointLogps(_extreme_side(asked, logp, ref, wanted.to(logp.dtype), length), wanted)


_RANDOM: dict[type[Record], Callable[[Asks, torch.Generator], Record]] = {
    PairLogps: _random_pair,
    GroupLogps: _random_group,
    PointLogps: _random_points,
}
_EXTREME: dict[type[Record], Callable[[Asks, int], Record]] = {
    PairLogps: _extreme_pair,
    GroupLogps: _extreme_group,
    PointLogps: _extreme_points,
}
