"""Which trainings lie on one curve: those that differ in beta, learning rate and seed alone."""

from collections.abc import Mapping, Sequence

from pairwright.diagnose.distances import Point

_LONGEST = 20
"""Characters of a setting that a name can hold; of a longer one the first training that has it is told."""


def families(points: Sequence[Point]) -> dict[str, tuple[Point, ...]]:
    """Models as they ended, by what their trainings were but for beta, learning rate and seed.

    Args:
        points: of any models; checkpoints, and models that no training is known of, belong to no family.

    Returns:
        By name, in the order of the points. The name is that of the loss (empty where it is not known) and, where
        trainings with one loss differ in more, what they differ in.
    """
    ended = [each for each in points if each.answers.step is None and each.answers.training]
    found: dict[tuple[str, tuple[tuple[str, str], ...]], list[Point]] = {}
    for each in ended:
        found.setdefault((_loss(each), tuple(sorted(_trained(each).items()))), []).append(each)
    named = {}
    for (loss, _), mine in found.items():
        beside = _beside(mine[0], [each for each in ended if _loss(each) == loss])
        named[" ".join(part for part in (loss, f"({beside})" if beside else "") if part)] = tuple(mine)
    return named


def _loss(point: Point) -> str:
    return str(point.answers.settings.get("loss") or "")


def _trained(point: Point) -> Mapping[str, str]:
    found: Mapping[str, str] = point.answers.settings.get("trained") or {}
    return found


def _beside(one: Point, others: Sequence[Point]) -> str:
    """What tells a training from the others with its loss; empty where nothing does."""
    short, owners = [], dict[str, list[str]]()
    for name in sorted({name for each in others for name in _trained(each)}):
        value = _trained(one).get(name)
        if all(_trained(each).get(name) == value for each in others):
            continue
        if value is None or len(value) <= _LONGEST:
            short.append(f"no {name}" if value is None else f"{name} {value}")
        else:
            first = next(each.answers.training for each in others if _trained(each).get(name) == value)
            owners.setdefault(first, []).append(name)
    return ", ".join([*(f"{' and '.join(names)} of {first}" for first, names in owners.items()), *short])
