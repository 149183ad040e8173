"""The best of the measured models, and whether those further out are worse: no curve is asked.

The highest of several noisy scores is too high, and whatever is compared with it looks lower. So the models are chosen
on one half of the prompts and compared on the other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from pairwright.diagnose.distances import NONE, Point, fall
from pairwright.draws import draw_of_text
from pairwright.stats import Interval

_REPEATS = ("seed", "draw_seed")
"""Settings in which repeats of one training differ: its seed, and that of the drawing of its answers."""


@dataclass(frozen=True)
class Best:
    """The models of one kind of training that score highest.

    Attributes:
        points: the models, repeats of one another but for their seed.
        d: their mean distance from the start, sqrt(nats).
        between: distances of the kinds next to it on either side; NaN where it is the nearest or the farthest.
        lost: score of the models further out minus theirs, on prompts that did not choose them; no cases where none
            lies further out.
        judges: these prompts.
    """

    points: tuple[Point, ...]
    d: float
    between: tuple[float, float]
    lost: Interval
    judges: tuple[str, ...]


def best(points: Sequence[Point], *, draws: int, seed: int) -> Best | None:
    """The kind of training with the highest mean score; None below two kinds or two prompts that all answered.

    Args:
        points: the models of one curve, one at least.
        draws: bootstrap samples of the interval.
        seed: of the bootstrap and of the halves of the prompts.
    """
    kinds = sorted(_kinds(points), key=_far)
    prompts = sorted(set.intersection(*(set(each.scored["prompt_id"]) for each in points)))
    if len(kinds) < 2 or len(prompts) < 2:
        return None
    shuffled = pl.DataFrame({"id": prompts}).sort(draw_of_text(pl.Series(prompts), seed=seed))["id"].to_list()
    choose, judges = shuffled[: len(shuffled) // 2], shuffled[len(shuffled) // 2 :]
    means = [_mean(kind, choose) for kind in kinds]
    at = means.index(max(means))
    further = [point for kind in kinds[at + 1 :] for point in kind]
    lost = against(further, kinds[at], judges, draws=draws, seed=seed) if further else NONE
    between = (_far(kinds[at - 1]) if at else math.nan, _far(kinds[at + 1]) if at + 1 < len(kinds) else math.nan)
    return Best(tuple(kinds[at]), _far(kinds[at]), between, lost, tuple(judges))


def against(one: Sequence[Point], other: Sequence[Point], prompts: Sequence[str], *, draws: int, seed: int) -> Interval:
    """Mean score of some models minus that of others, over some prompts."""
    return fall(_among(one, prompts), _among(other, prompts), draws, seed)


def _kinds(points: Sequence[Point]) -> list[list[Point]]:
    """Models that were trained alike but for their seed, up to the same step."""
    found: dict[str, list[Point]] = {}
    for each in points:
        settings = {key: value for key, value in sorted(each.answers.settings.items()) if key not in _REPEATS}
        found.setdefault(repr((each.answers.step, settings)), []).append(each)
    return list(found.values())


def _far(points: Sequence[Point]) -> float:
    return sum(each.d.value for each in points) / len(points)


def _mean(points: Sequence[Point], prompts: Sequence[str]) -> float:
    """Mean over prompts of the models' mean scores; every model answered each of them."""
    scores = [float(each.scored["score"].mean()) for each in _among(points, prompts)]  # type: ignore[arg-type]
    return sum(scores) / len(scores)


def _among(points: Sequence[Point], prompts: Sequence[str]) -> list[Point]:
    """The models with their scores at these prompts only."""
    return [replace(each, scored=each.scored.filter(pl.col("prompt_id").is_in(list(prompts)))) for each in points]
