"""What is drawn on the page of each loss: our function and its gradient while one thing moves and the rest stands.

Nothing here knows a formula. A figure says what moves and in which settings the loss is asked; the numbers come from
the loss itself and from autograd. A loss that is not in `FIGURES` gets one curve for each side, moved alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from moves import (
    REF,
    TOKENS,
    Record,
    apart,
    apart_by_token,
    at_ranks,
    chosen_alone,
    chosen_mean,
    group,
    group_mean,
    in_company,
    point,
    rejected_alone,
    rejected_mean,
    with_chance,
)
from panels import Curve
from torch import Tensor

from pairwright.losses import LOSSES, asks
from pairwright.losses.divergences import DIVERGENCES
from pairwright.plug import settings_of

PLACES = 120
"""Of a curve. None of them lies on a kink of a loss, where rounding would decide which slope is drawn."""
JUMP = 0.02
"""Share of the gradient's range; more than that between two places a billionth apart is a jump."""
MINUS = "\N{MINUS SIGN}"

Given = Callable[[Tensor], Record]
Loss = Callable[..., Any]
Ask = Callable[[Tensor], tuple[list[float], list[float]]]
"""From places to values and slopes."""
Row = tuple[float, float, float]
"""A place, the value there and the slope."""


@dataclass(frozen=True)
class Line:
    """One curve: what the legend says, what the loss is given at each place of the axis, and its settings there."""

    says: str
    given: Given
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Move:
    """What moves along the axis, in words.

    Attributes:
        along: what the axis is, with its unit.
        slope_in: what the gradient is taken in.
        how: how the record is moved, and what stands still where.
    """

    along: str
    slope_in: str
    how: str


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        move: what the axis is.
        low: where it begins.
        high: where it ends.
        lines: the curves, at most four.
        start: the place on it where policy and reference are equal, if there is one.
        note: what a reader must know besides.
    """

    move: Move
    low: float
    high: float
    lines: tuple[Line, ...]
    start: float | None = None
    note: str = ""


def curve(loss: Loss, line: Line, figure: Figure) -> Curve:
    """Value and gradient of the loss along the axis; of a loss that looks at its whole batch, those of the batch."""
    return sampled(line.says, lambda places: _of_loss(loss, line, places), low=figure.low, high=figure.high)


def sampled(says: str, at: Ask, *, low: float, high: float) -> Curve:
    """A function and its gradient from `low` to `high`, broken where the gradient jumps."""
    grid = torch.linspace(low, high, PLACES, dtype=torch.float64)
    values, slopes = at(grid)
    rows = list(zip(grid.tolist(), values, slopes, strict=True))
    least = max(JUMP * (max(slopes) - min(slopes)), 1e-9)  # a gradient of 0 has only rounding
    drawn, jumps = rows[:1], []
    for left, right in pairwise(rows):
        edges = _edges(at, left, right, least)
        if edges:
            drawn.append(edges[0])
            jumps.append(len(drawn))
            drawn.append(edges[1])
        drawn.append(right)
    along, value, slope = zip(*drawn, strict=True)
    return Curve(says, along, value, slope, jumps)


def _edges(at: Ask, left: Row, right: Row, least: float) -> tuple[Row, Row] | None:
    """The places close on both sides of a jump of the gradient, which is looked for by halving; None without one."""
    width = right[0] - left[0]
    while abs(right[2] - left[2]) > least and right[0] - left[0] > 1e-9 * width:
        place = (left[0] + right[0]) / 2
        (value,), (slope,) = at(torch.tensor([place], dtype=torch.float64))
        middle = place, value, slope
        nearer_left = abs(slope - left[2]) <= abs(slope - right[2])
        left, right = (middle, right) if nearer_left else (left, middle)
    return (left, right) if abs(right[2] - left[2]) > least else None


def _of_loss(loss: Loss, line: Line, places: Tensor) -> tuple[list[float], list[float]]:
    places = places.clone().requires_grad_()
    if asks(loss).of_batch:
        value = torch.stack([loss(line.given(place.reshape(1)), **line.settings).loss.sum() for place in places])
    else:
        value = loss(line.given(places), **line.settings).loss
    return value.tolist(), _slope(value, places)


def _slope(value: Tensor, places: Tensor) -> list[float]:
    # Where what moves plays no part (the rejected side of `sft`), there is nothing to differentiate.
    slope = torch.autograd.grad(value.sum(), places)[0] if value.requires_grad else torch.zeros_like(places)
    return slope.tolist()


def said(settings: Mapping[str, float]) -> str:
    """Settings as the legend names them."""
    return ", ".join(f"{name} {value:g}".replace("-", MINUS) for name, value in settings.items())


def settings(given: Given, *each: Mapping[str, Any]) -> tuple[Line, ...]:
    """One line for each choice of settings."""
    return tuple(Line(said(one), given, one) for one in each)


def each_side(chosen: Given, rejected: Given, settings: Mapping[str, Any]) -> tuple[Line, ...]:
    """One line for each side, moved alone, in these settings."""
    more = f", {said(settings)}" if settings else ""
    return (
        Line(f"chosen side moves{more}", chosen, settings),
        Line(f"rejected side moves{more}", rejected, settings),
    )


def both(**settings: Any) -> tuple[Line, ...]:
    """One line for each side along log-ratios."""
    return each_side(chosen_alone, rejected_alone, settings)


def means(**settings: Any) -> tuple[Line, ...]:
    """One line for each side along mean log-probabilities."""
    return each_side(chosen_mean, rejected_mean, settings)


def gaps(*sizes: float, says: str = "score gap") -> tuple[Line, ...]:
    """One line for each gap of the scores."""
    return tuple(
        Line(f"{says} {size:g}", partial(apart, chosen={"score": 1.0 + size}, rejected={"score": 1.0}))
        for size in sizes
    )


def lengths(*each: tuple[int, int], **chosen: Any) -> tuple[Line, ...]:
    """One line for each pair of lengths."""
    return tuple(
        Line(
            f"{left} tokens beside {right}", partial(apart, chosen={"length": left}, rejected={"length": right}), chosen
        )
        for left, right in each
    )


def answers(*, given: Callable[..., Record] = group, **chosen: Any) -> tuple[Line, ...]:
    """One line for each answer of a group of three, moved alone."""
    words = ("best answer (9) moves", "middle one (6) moves", "worst one (2) moves")
    return tuple(Line(says, partial(given, moves=place), chosen) for place, says in enumerate(words))


def points(*, baseline: float = 0.0, **chosen: Any) -> tuple[Line, ...]:
    """One line for a wanted answer and one for an unwanted one."""
    more = f", baseline {baseline:g}" if baseline else ""
    return tuple(
        Line(f"{says} answer{more}", partial(point, wanted=wanted, baseline=baseline), chosen)
        for says, wanted in (("wanted", True), ("unwanted", False))
    )


AT_REFERENCE = "where policy and reference are equal"
HALVES = "The chosen side moves up and the rejected one down, by half each"
RATIO, MEAN = "the log-ratio", "mean_logp"

APART = Move(f"log-ratio, chosen {MINUS} rejected, in nats", "the difference", f"{HALVES}.")
APART_BY_TOKEN = Move(f"mean log-ratio, chosen {MINUS} rejected, nats a token", "the difference", f"{HALVES}.")
MEAN_APART = Move(f"mean_logp, chosen {MINUS} rejected, nats a token", "the difference", f"{HALVES}.")
PAIR = Move(
    "log-ratio of the pair that moves, in nats", "the difference of that pair", f"{HALVES}, in one pair of the batch."
)
ALONE = Move(
    "log-ratio of the side that moves, in nats", RATIO, f"One side moves alone; the other one stays {AT_REFERENCE}."
)
CHOSEN_ALONE = Move(
    "log-ratio of the chosen side, in nats", RATIO, f"It moves alone; the rejected one stays {AT_REFERENCE}."
)
LOGP_ALONE = Move(
    f"logp of the side that moves {MINUS} the other's, in nats",
    "logp",
    f"One side moves alone; the other one stays at {MINUS}60 nats in {TOKENS} tokens.",
)
MEAN_ALONE = Move(
    "mean_logp of the side that moves, nats a token",
    MEAN,
    f"One side moves alone; the other one stays at {MINUS}1 nat a token.",
)
SINGLE = Move("log-ratio of the answer, in nats", RATIO, "A single answer, with nothing beside it.")
ONE_OF_GROUP = Move(
    "log-ratio of the answer that moves, in nats",
    RATIO,
    f"One answer of three moves alone; the other two stay {AT_REFERENCE}.",
)

FIGURES: dict[str, Figure] = {
    "alphapo": Figure(
        MEAN_APART,
        -1.5,
        1.5,
        settings(apart_by_token, *({"alpha": alpha} for alpha in (-0.25, 0.0, 0.25))),
    ),
    "aot": Figure(
        PAIR,
        -20,
        20,
        (
            Line("alone: dpo", partial(at_ranks, references=()), {"beta": 0.5}),
            Line(f"beside references at {MINUS}8, 8", partial(at_ranks, references=(-8.0, 8.0)), {"beta": 0.5}),
        ),
        note="The reference of the pair that moves is at 0, the policy of the other pairs stays at theirs. Value and "
        "gradient are those of the whole batch: the gradient jumps where the pair takes another rank.",
    ),
    "aot_unpaired": Figure(
        PAIR,
        -20,
        20,
        (
            Line("alone: dpo", partial(in_company, others=()), {"beta": 0.5}),
            Line(f"beside pairs at {MINUS}8, 8", partial(in_company, others=(-8.0, 8.0)), {"beta": 0.5}),
        ),
        note="Value and gradient are those of the whole batch: the gradient jumps where the pair takes another rank.",
    ),
    "apo_down": Figure(
        ALONE,
        -60,
        60,
        (*both(), Line(f"chosen side moves, rejected at {MINUS}20", partial(chosen_alone, other=-20.0))),
        0,
        note="In the third curve it stays lower.",
    ),
    "apo_zero": Figure(ALONE, -60, 60, both(beta=0.1), 0),
    "apo_zero_unpaired": Figure(SINGLE, -60, 60, points(), 0),
    "bco": Figure(SINGLE, -40, 40, (*points(), *points(baseline=1.0)), 0),
    "cpo": Figure(LOGP_ALONE, -40, 40, (*both(), *both(alpha=0.0)[:1])),
    "discopop": Figure(APART, -12, 24, settings(apart, *({"tau": tau} for tau in (0.05, 0.2, 1.0))), 0),
    "dpo": Figure(
        APART,
        -30,
        30,
        settings(apart, {"beta": 0.1}, {"beta": 0.3}, {"beta": 0.3, "label_smoothing": 0.2}),
        0,
    ),
    "dpo_mean": Figure(APART_BY_TOKEN, -2, 2, settings(apart_by_token, {"beta": 0.1}, {"beta": 1}, {"beta": 5}), 0),
    "exo": Figure(APART, -80, 80, settings(apart, *({"label_smoothing": share} for share in (0.001, 0.05, 0.2))), 0),
    "goal_sft": Figure(
        Move("log-probability of the anchor, in nats", "logp", "The anchor moves; the loss looks at nothing else."),
        -20,
        0,
        (Line("anchor moves", lambda t: chosen_alone(t - REF)),),
    ),
    "hinge": Figure(APART, -30, 30, settings(apart, {"beta": 0.05}, {"beta": 0.1}, {"beta": 0.2}), 0),
    "infonca": Figure(ONE_OF_GROUP, -60, 60, answers(beta=0.1, alpha=3.0), 0),
    "ipo_mean": Figure(APART_BY_TOKEN, -3, 3, settings(apart_by_token, {"beta": 0.1}, {"beta": 0.5}, {"beta": 1}), 0),
    "ipo_sum": Figure(APART, -10, 20, settings(apart, {"beta": 0.05}, {"beta": 0.1}, {"beta": 0.2}), 0),
    "kto": Figure(SINGLE, -60, 60, (*points(), *points(baseline=10.0)), 0),
    "ld_dpo": Figure(
        CHOSEN_ALONE,
        -60,
        60,
        settings(partial(chosen_alone, length=40), {"alpha": 0.0}, {"alpha": 0.5}, {"alpha": 1.0}),
        0,
        note="The chosen side has 40 tokens, the rejected one 20.",
    ),
    "margin_dpo": Figure(APART, -60, 60, gaps(0, 1, 3), 0),
    "modpo": Figure(
        APART,
        -60,
        60,
        settings(
            partial(apart, chosen={"score": 0.2}, rejected={"score": 0.5}),
            {"weight": 0.9},
            {"weight": 0.5},
            {"weight": 0.2},
        ),
        0,
        note="The margin is the score, as it is by default: 0.2 on the chosen side and 0.5 on the rejected one.",
    ),
    "nca": Figure(ONE_OF_GROUP, -60, 60, answers(beta=0.1, alpha=3.0), 0),
    "nca_pair": Figure(ALONE, -60, 60, both(beta=0.1), 0),
    "odpo": Figure(APART, -60, 60, gaps(1, 3, 9), 0),
    "orpo": Figure(MEAN_ALONE, -3, -0.2, (*means(), *means(beta=1.0))),
    "r_dpo": Figure(APART, -60, 60, lengths((10, 40), (20, 20), (40, 10)), 0),
    "robust_dpo": Figure(
        APART, -60, 60, settings(apart, *({"label_smoothing": share} for share in (0.0, 0.1, 0.3))), 0
    ),
    "rpo_backward_kl": Figure(APART, -60, 60, gaps(0, 1, 3), 0),
    "rpo_forward_kl": Figure(APART, -60, 60, gaps(0, 1, 3), 0),
    "rpo_squared": Figure(APART, -60, 60, gaps(0, 1, 3), 0),
    "rrhf": Figure(
        Move(
            "mean_logp of the answer that moves, nats a token",
            MEAN,
            f"One answer of three moves alone; the others stay at {MINUS}1.5 (best), {MINUS}1 and {MINUS}0.5 (worst) "
            f"nats a token. Each has {TOKENS} tokens.",
        ),
        -3,
        0,
        answers(given=group_mean, sft_weight=0.05),
        note="The gradient jumps where the answer passes another one.",
    ),
    "sft": Figure(MEAN_ALONE, -3, 0, means()),
    "sft_sum": Figure(
        Move("log-probability of the side that moves, in nats", "logp", "One side moves alone."),
        -60,
        0,
        (
            Line("chosen side moves", lambda t: chosen_alone(t - REF)),
            Line("rejected side moves", lambda t: rejected_alone(t - REF)),
        ),
    ),
    "simpo": Figure(
        MEAN_APART,
        -2,
        2,
        settings(apart_by_token, {"beta": 2, "gamma": 0}, {"beta": 2, "gamma": 0.5}, {"beta": 10, "gamma": 3}),
    ),
    "slic": Figure(LOGP_ALONE, -10, 10, (*both(), *both(sft_weight=0.0)[:1])),
    "sppo": Figure(
        CHOSEN_ALONE,
        -10,
        10,
        tuple(
            Line(f"win probability {chance:g}", partial(with_chance, chance=chance), {"beta": 0.1})
            for chance in (0.5, 0.7, 0.9)
        ),
        0,
        note="The legend has the chosen side's; the rejected one's is what is left to 1.",
    ),
    "sppo_hard": Figure(ALONE, -12, 12, both(beta=0.1), 0),
}


def fixed(name: str) -> dict[str, Any]:
    """The settings that all lines of a figure share, defaults with them."""
    plain = {key: parameter.default for key, parameter in settings_of(LOSSES[name]).items()}
    each = [plain | dict(line.settings) for line in figure_of(name).lines]
    return {
        key: value for key, value in each[0].items() if value is not None and all(one[key] == value for one in each)
    }


def figure_of(name: str) -> Figure:
    """What is drawn for the loss `name`."""
    return FIGURES.get(name) or Figure(ALONE, -60, 60, both(), 0)


def curves_of(name: str) -> list[Curve]:
    """The curves of the loss `name`."""
    figure = figure_of(name)
    return [curve(LOSSES[name], line, figure) for line in figure.lines]


DIVERGED = Move("log-ratio u of one answer, in nats", RATIO, "")
DIVERGED_FROM, DIVERGED_TO = -2.0, 4.0


def curves_of_divergences() -> list[Curve]:
    """What each divergence makes of a log-ratio, in its default settings."""

    def asked(divergence: Loss) -> Ask:
        def at(places: Tensor) -> tuple[list[float], list[float]]:
            places = places.clone().requires_grad_()
            value = divergence(places)
            return value.tolist(), _slope(value, places)

        return at

    def name_of(name: str, divergence: Loss) -> str:
        known = {key: parameter.default for key, parameter in settings_of(divergence).items()}
        return f"{name}, {said(known)}" if known else name

    return [
        sampled(name_of(name, divergence), asked(divergence), low=DIVERGED_FROM, high=DIVERGED_TO)
        for name, divergence in reversed(DIVERGENCES.items())
    ]
