"""Ours beside the oracle on the same random numbers: losses, implicit rewards and slopes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from losses import oracle, random_cases
from losses.oracle import Answer
from pairwright.losses import GroupLogps, PairLogps, PointLogps, Side, takes

# Two sets of settings for each loss: what it does by itself, and none of its defaults.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "alphapo": [{}, {"beta": 1.5, "gamma": 0.2, "alpha": -0.4}, {"alpha": 0.0}],
    "aot": [{}, {"beta": 0.7, "label_smoothing": 0.2}],
    "aot_unpaired": [{}, {"beta": 0.7, "label_smoothing": 0.2}],
    "apo_down": [{}, {"beta": 0.7}],
    "apo_zero": [{}, {"beta": 0.7}],
    "apo_zero_unpaired": [{}, {"beta": 0.7}],
    "bco": [{}, {"beta": 0.7}],
    "cpo": [{}, {"beta": 0.7, "alpha": 0.3}],
    "discopop": [{}, {"beta": 0.4, "tau": 0.3}],
    "dpo": [{}, {"beta": 0.7, "label_smoothing": 0.2}],
    "dpo_mean": [{}, {"beta": 0.7}],
    "exo": [{}, {"beta": 0.7, "label_smoothing": 0.2}],
    "goal_sft": [{}],
    "hinge": [{}, {"beta": 0.7}],
    "infonca": [{}, {"beta": 0.7, "alpha": 2.5}],
    "ipo_mean": [{}, {"beta": 0.7}],
    "ipo_sum": [{}, {"beta": 0.7}],
    "kto": [{}, {"beta": 0.7, "desirable_weight": 1.3, "undesirable_weight": 0.6}],
    "ld_dpo": [{}, {"beta": 0.7, "alpha": 0.2}, {"alpha": 0.0}],
    "margin_dpo": [{}, {"beta": 0.7, "alpha": 0.3}],
    "modpo": [
        {},
        {"beta": 0.7, "weight": 0.3},
        {"weight": 0.3, "margins": {"safety": 0.5, "brevity": 0.2}},
        {"weight": 0.6, "margins": {"score": 0.1, "brevity": 0.3}},
    ],
    "nca": [{}, {"beta": 0.7, "alpha": 2.5}],
    "nca_pair": [{}, {"beta": 0.7}],
    "odpo": [{}, {"beta": 0.7, "alpha": 0.3}],
    "orpo": [{}, {"beta": 0.7}],
    "r_dpo": [{}, {"beta": 0.7, "alpha": 0.4}],
    "robust_dpo": [{}, {"beta": 0.7, "label_smoothing": 0.3}],
    "rpo_backward_kl": [{}, {"beta": 0.7, "eta": 0.3}],
    "rpo_forward_kl": [{}, {"beta": 0.7, "eta": 0.3}],
    "rpo_squared": [{}, {"beta": 0.7, "eta": 0.3}],
    "rrhf": [{}, {"sft_weight": 0.3}],
    "sft": [{}],
    "sft_sum": [{}],
    "simpo": [{}, {"beta": 3.0, "gamma": 1.2}],
    "slic": [{}, {"delta": 4.0, "sft_weight": 0.3}],
    "sppo": [{}, {"beta": 0.2}],
    "sppo_hard": [{}, {"beta": 0.2}],
}
PROBABILITIES = {"sppo"}  # whose score is a win probability, and which take no goal

Rows = Sequence[Any]


def _asked(name: str) -> dict[str, Any]:
    return {"scale": (0.0, 1.0)} if name in PROBABILITIES else {"goals": (None, 4.0, 9.0)}


def _pairs(name: str, seed: int, count: int, baseline: float) -> list[oracle.Case]:
    return random_cases.cases(seed, count, baseline=baseline, **_asked(name))


def _groups(name: str, seed: int, count: int, baseline: float) -> list[oracle.Group]:
    return random_cases.groups(seed, count, **_asked(name))


def _points(name: str, seed: int, count: int, baseline: float) -> list[oracle.Point]:
    return random_cases.points(seed, count, baseline=baseline)


def _each(table: Mapping[str, Callable[..., oracle.Numbers]]) -> Callable[..., Any]:
    return lambda name: oracle.each(table[name])


# Record -> (draws rows, the oracle for a name, makes the record, the answers of one row by field).
KINDS: dict[type, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]] = {
    PairLogps: (_pairs, lambda name: oracle.PAIRS[name], random_cases.pair_record),
    GroupLogps: (_groups, _each(oracle.GROUPS), random_cases.group_record),
    PointLogps: (_points, _each(oracle.POINTS), random_cases.point_record),
}


@cache
def _expected(name: str, kind: type, which: int, seed: int, count: int, baseline: float) -> tuple[Rows, Tensor]:
    """The rows, and what the oracle gives for each: [B, 1 + answers], the loss first, 0 where there is no answer."""
    draw, second, _ = KINDS[kind]
    rows = draw(name, seed, count, baseline)
    found = second(name)(rows, **SETTINGS[name][which])
    width = max(len(row) for row in found)
    return rows, torch.tensor([[*row, *[0.0] * (width - len(row))] for row in found], dtype=torch.float64)


def _flat(out: Any) -> Tensor:
    """Losses and rewards as the oracle lists them."""
    rewards = out.rewards.reshape(len(out.loss), -1) if hasattr(out, "rewards") else torch.stack(out[1:], dim=1)
    return torch.cat([out.loss[:, None], rewards], dim=1).detach()


def assert_values(loss: Callable[..., Any], name: str, *, count: int = 50) -> None:
    """Losses and implicit rewards agree to 1e-10 on `4 * count` random rows of each record and setting."""
    for kind in takes(loss):
        for which, settings in enumerate(SETTINGS[name]):
            for seed, baseline in enumerate((0.0, 0.8, -0.6, 0.3)):
                rows, expected = _expected(name, kind, which, seed, count, baseline)
                out = loss(KINDS[kind][2](rows), **settings)
                torch.testing.assert_close(_flat(out), expected, rtol=1e-10, atol=1e-10)


def _answers(row: Any) -> list[tuple[Answer, Callable[[Answer], Any]]]:
    """The answers of a row, each with what puts another in its place."""
    if isinstance(row, oracle.Point):
        return [(row.answer, lambda new: replace(row, answer=new))]
    if isinstance(row, oracle.Group):
        return [
            (old, lambda new, at=at: replace(row, answers=(*row.answers[:at], new, *row.answers[at + 1 :])))
            for at, old in enumerate(row.answers)
        ]
    return [
        (getattr(row, name), lambda new, name=name: replace(row, **{name: new}))
        for name in ("chosen", "rejected", "anchor")
    ]


def _moved(answer: Answer, token: int, step: float) -> Answer:
    values = list(answer.token_logp)
    values[token] += step
    return replace(answer, token_logp=tuple(values))


@cache
def _slopes(name: str, kind: type, which: int, seed: int, baseline: float, step: float = 1e-5) -> tuple[Rows, Tensor]:
    """How the oracle's total changes with the first and the last token of each answer, by central differences."""
    draw, second, _ = KINDS[kind]
    rows = draw(name, seed, 8, baseline)

    def total(changed: Rows) -> float:
        return sum(row[0] for row in second(name)(changed, **SETTINGS[name][which]))

    found = []
    for at, row in enumerate(rows):
        for answer, put in _answers(row):
            for token in (0, answer.length - 1):
                up, down = (
                    total([*rows[:at], put(_moved(answer, token, move)), *rows[at + 1 :]]) for move in (step, -step)
                )
                found.append((up - down) / (2 * step))
    return rows, torch.tensor(found, dtype=torch.float64)


def _sides(record: Any) -> list[Side]:
    return [record.chosen, record.rejected, record.anchor] if isinstance(record, PairLogps) else [record.answers]


def slopes_of(total: Tensor, record: Any, rows: Rows) -> Tensor:
    """The gradient at the same tokens as in `_slopes`, in the same order: what reaches a token and what its sum."""
    sides = _sides(record)
    wanted = [value for side in sides for value in (side.logp, side.token_logp)]
    parts = torch.autograd.grad(total, wanted, allow_unused=True)  # type: ignore[arg-type]
    filled = [torch.zeros_like(v) if g is None else g for v, g in zip(wanted, parts, strict=True)]  # type: ignore[arg-type]
    each = [filled[at][..., None] + filled[at + 1] for at in range(0, len(filled), 2)]
    found = []
    for row, numbers in enumerate(rows):
        for at, (answer, _) in enumerate(_answers(numbers)):
            grid = each[at][row] if isinstance(record, PairLogps) else each[0][row]
            line = grid[at] if isinstance(record, GroupLogps) else grid
            found += [line[0], line[answer.length - 1]]
    return torch.stack(found)


def assert_slopes(loss: Callable[..., Any], name: str) -> None:
    """Gradients agree with differences of the oracle to 1e-6, so that nothing is detached and nothing doubled."""
    for kind in takes(loss):
        for which, settings in enumerate(SETTINGS[name]):
            for seed, baseline in ((11, 0.0), (12, 0.6)):
                rows, expected = _slopes(name, kind, which, seed, baseline)
                record = KINDS[kind][2](rows)
                found = slopes_of(loss(record, **settings).loss.sum(), record, rows)
                scale = max(1.0, expected.abs().max().item())
                torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8 * scale)
