"""Where verdicts come from: AlpacaEval's file or a table like it, or scored answers; and on which of its models."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pairwright.errors import InputError
from pairwright.evaluate.alpaca_eval import (
    UNNAMED_OPPONENT,
    Scale,
    Verdicts,
    columns_of,
    has_verdicts,
    read_annotations,
)
from pairwright.evaluate.wins import Reading, models_of, verdicts_of
from pairwright.formats.read import read
from pairwright.plug import nearest
from pairwright.preferences import Preferences


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How a source of either kind is read."""

    score: str
    """Of scored answers, the column to compare."""
    reading: Reading
    """Of these scores."""
    scale: Scale | None
    """Of verdicts."""
    annotator: str | None
    """Of verdicts."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Verdicts on one model, and those on the others beside it."""

    model: Verdicts
    others: tuple[Verdicts, ...]
    scored: bool
    """Whether they were made of scored answers."""

    @property
    def every(self) -> tuple[Verdicts, ...]:
        """On all models."""
        return (self.model, *self.others)


def source_of(
    place: Path | Preferences,
    asked: Asked,
    *,
    generator: str | None,
    opponent: str | None,
    setting: str = "generator",
    several: bool = False,
) -> Source:
    """The verdicts of a source on one of its models.

    Args:
        place: the file, directory or answers.
        asked: how it is read.
        generator: the model; None where there is one.
        opponent: the one that it has to have met.
        setting: what names the model, for messages.
        several: of scored answers, compare the other models with the opponent too.

    Raises:
        InputError: it cannot be read, or it cannot be told which model is meant.
    """
    place = place if isinstance(place, Preferences) else Path(place)  # a recipe gives the path of a step as text
    if isinstance(place, Path) and has_verdicts(place):
        every = read_annotations(place, scale=asked.scale, annotator=asked.annotator)
        return _chosen([_met(each, opponent) for each in every], generator, setting)
    answers, name = _answers(place)
    settings = {"score": asked.score, "reading": asked.reading}
    model = verdicts_of(answers, generator=generator, opponent=opponent, asked=setting, **settings)  # type: ignore[arg-type]
    rest = [each for each in models_of(answers) if several and each not in (model.model, model.opponent)]
    others = [verdicts_of(answers, generator=each, opponent=model.opponent, **settings) for each in rest]  # type: ignore[arg-type]
    found = tuple(replace(each, source=name) for each in (model, *others))
    return Source(model=_judged(found[0]), others=found[1:], scored=True)


def all_of(place: Path, asked: Asked, *, opponent: str) -> tuple[tuple[Verdicts, ...], bool]:
    """The verdicts of a source on all its models, scored answers compared with the opponent, and whether it has these.

    Raises:
        InputError: it cannot be read, or scored answers have none of the opponent.
    """
    place = Path(place)
    if has_verdicts(place):
        return read_annotations(place, scale=asked.scale, annotator=asked.annotator), False
    answers, name = _answers(place)
    models = [each for each in models_of(answers) if each != opponent]
    if not models:
        raise InputError(f"{name}: no answer is of another model than {opponent}, so there is nothing to compare")
    found = [
        verdicts_of(answers, generator=each, opponent=opponent, score=asked.score, reading=asked.reading)
        for each in models
    ]
    return tuple(replace(each, source=name) for each in found), True


def _answers(place: Path | Preferences) -> tuple[Preferences, str]:
    if isinstance(place, Preferences):
        return place, "the answers"
    if place.is_file():
        columns = columns_of(place)
        if {"instruction", "output_1", "output_2"} & columns and "chosen" not in columns:
            raise InputError(
                f"{place} has no verdicts (preference, preference_raw or win); it has {', '.join(sorted(columns))}"
            )
    return read(str(place)), str(place)


def _met(verdicts: Verdicts, opponent: str | None) -> Verdicts:
    """The verdicts against an opponent that is asked for, who is named so where the file names none."""
    if opponent is None or verdicts.opponent == opponent:
        return verdicts
    if verdicts.opponent != UNNAMED_OPPONENT:
        raise InputError(
            f"{verdicts.source}: {verdicts.model} meets {verdicts.opponent}, not {opponent}; leave opponent out, or "
            "give verdicts against it"
        )
    said = f"{verdicts.source} does not name the opponent; it is taken to be {opponent}."
    return replace(verdicts, opponent=opponent, notes=(*verdicts.notes, said))


def _chosen(every: Sequence[Verdicts], generator: str | None, setting: str) -> Source:
    names = [each.model for each in every]
    told = ", ".join(names)
    source = every[0].source
    if generator is None and len(every) > 1:
        raise InputError(f"{source} has verdicts on several models ({told}); name one as {setting}")
    if generator is not None and generator not in names and len(every) > 1:
        raise InputError(f"{source} has no verdicts on {generator!r}{nearest(generator, names)}; it has {told}")
    at = names.index(generator) if generator in names else 0
    found = every[at]
    if generator is not None and generator != found.model:
        said = f"{source} has verdicts on {found.model} alone; they are taken as those on {generator}."
        found = replace(found, model=generator, notes=(*found.notes, said))
    return Source(model=_judged(found), others=(*every[:at], *every[at + 1 :]), scored=False)


def _judged(verdicts: Verdicts) -> Verdicts:
    if not verdicts.rows["win"].count():
        raise InputError(f"{verdicts.source}: there is no verdict on {verdicts.model}; judge the answers first")
    return verdicts
