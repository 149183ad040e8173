"""Normalisation: the scores of a scorer on one scale, by a line that is written down and used again for new data."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from pairwright.errors import InputError
from pairwright.plug import nearest, plain
from pairwright.preferences import Preferences, Step
from pairwright.relabel.ranges import training_answers

Range = tuple[
    Annotated[float, Field(allow_inf_nan=False)],
    Annotated[float, Field(allow_inf_nan=False)],
]
Percentile = Annotated[float, Field(ge=0, le=100)]
KINDS = ("range", "percentiles", "like")
_WORK = frozenset(
    [
        *("into", "unscored", "scale"),  # the verb's own
        *("dtype", "batch_tokens", "ray", "keep"),
        *("concurrency", "rate", "retries", "timeout", "prompt_price", "answer_price", "key", "cache"),
    ]
)
"""Settings that say how the work is done; every other one of a scorer decides its numbers."""
_SHAPES = {
    "range": "range is two finite numbers, [lo, hi], or such two for each column by its name",
    "percentiles": "percentiles are two numbers from 0 to 100, such as [1, 99]",
    "like": "like is a directory or file of scored data, or a Preferences",
    "to": "to is two finite numbers, such as [1, 10]",
}


class Scale(BaseModel):
    """What `scale` may say; exactly one of range, percentiles and like."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    range: Range | dict[str, Range] | None = None
    """The scores that become the ends; one range for all columns, or one for each by its name."""
    percentiles: tuple[Percentile, Percentile] | None = None
    """The same, found in each column: these percentiles over all answers of training pairs; without pairs, of training
    prompts; and of everything where nothing is in the split `train`."""
    like: Preferences | str | Path | None = None
    """The ranges of data that was scored before: a directory or flat file that pairwright wrote, or a `Preferences`."""
    to: Range | None = None
    """What the ends become; 1 and 10 when not given."""

    @model_validator(mode="after")
    def _one(self) -> "Scale":
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(KINDS)}, not {' and '.join(given) or 'none'}")
        if self.like is not None and self.to is not None:
            raise ValueError("like brings its own ends; leave out to")
        return self


class Line(NamedTuple):
    """The map of one column: `low` becomes `to[0]`, `high` becomes `to[1]`, what lies outside gets the end."""

    low: float
    high: float
    to: tuple[float, float]


class Scaled(NamedTuple):
    """Columns after normalisation, and the account of it."""

    columns: dict[str, pl.Series]
    found: dict[str, dict[str, Any]]
    """By column: `low`, `high`, `to`, and how many scores lay `below` and `above`; JSON values."""
    notes: tuple[str, ...]


def parsed(scale: Any) -> Scale:
    """The setting `scale`, checked.

    Raises:
        InputError: it is none.
    """
    if isinstance(scale, Scale):
        return scale
    if not isinstance(scale, Mapping):
        raise InputError(
            f"score: scale is {{range: [lo, hi]}}, {{percentiles: [1, 99]}} or {{like: DATA}}, not {scale!r}"
        )
    try:
        return Scale.model_validate(dict(scale))
    except ValidationError as error:
        raise InputError(f"score: scale: {_wrong(scale, error)}") from error


def _wrong(scale: Mapping[Any, Any], error: ValidationError) -> str:
    """What is wrong, without the names of types."""
    unknown = [name for name in scale if name not in Scale.model_fields]
    if unknown:
        hint = nearest(str(unknown[0]), _SHAPES) or f"; there are {', '.join(_SHAPES)}"
        return f"there is no {unknown[0]!r}{hint}"
    place = next((str(item["loc"][0]) for item in error.errors() if item["loc"]), "")
    if place:
        return f"{_SHAPES[place]}, not {scale[place]!r:.80}"
    return plain(error).removeprefix("value: Value error, ").partition(" (got ")[0]


def as_setting(scale: Scale) -> dict[str, Any]:
    """The setting as it goes into the lineage, JSON values only."""
    said = scale.model_dump(exclude_none=True)
    if "like" in said:
        said["like"] = "Preferences" if isinstance(scale.like, Preferences) else str(scale.like)
    return TypeAdapter(dict[str, Any]).dump_python(said, mode="json")  # type: ignore[no-any-return]


def scaled(columns: Mapping[str, pl.Series], scale: Scale, prefs: Preferences, *, scorer: Mapping[str, Any]) -> Scaled:
    """Scores on one scale, each column by a line of its own:

        s' = a + (b - a) clip((s - low) / (high - low), 0, 1)

    with the ends [a, b] of `to`. The lines are one for all prompts: within a prompt of two answers every pair would
    become "10 against 1". Columns that are not floats are no scores and stay as they are, and so do nulls.

    Args:
        columns: the scorer's columns of the answers, in the order of `responses`; finite or null.
        scale: how the ranges are found.
        prefs: the data, for its training answers.
        scorer: its name under `scorer`, and its settings, as they stand in the lineage; `like` must speak of a scorer
            with the same.

    Raises:
        InputError: a range does not rise or is wider than numbers go, a column has none, or has no scores to find one
            from; or `like` holds the line of other numbers.

    Source: arXiv 2410.08067, appendix B.1 ("linear transformations to the same 1-10 range"); the percentiles are ours.
    """
    scores = {name: column for name, column in columns.items() if column.dtype.is_float()}
    if not scores:
        raise InputError(
            f"score: {scorer['scorer']} gave no column of scores, so there is nothing to scale; leave out scale"
        )
    lines = _lines(scores, scale, prefs, scorer)
    mapped, found, notes = dict(columns), dict[str, dict[str, Any]](), list[str]()
    for name, (low, high, (first, last)) in lines.items():
        column = scores[name]
        mapped[name] = (first + (last - first) * ((column - low) / (high - low)).clip(0.0, 1.0)).alias(name)
        below, above = int((column < low).sum()), int((column > high).sum())
        found[name] = {"low": low, "high": high, "to": [first, last], "below": below, "above": above}
        notes.append(
            f"In {name} {low:.4g} to {high:.4g} become {first:g} to {last:g}; {below:,} scores lie below and "
            f"{above:,} above, and get the end."
        )
    return Scaled(mapped, found, tuple(notes))


def _lines(
    scores: Mapping[str, pl.Series], scale: Scale, prefs: Preferences, scorer: Mapping[str, Any]
) -> dict[str, Line]:
    if scale.like is not None:
        return _like(list(scores), scale.like, scorer)
    to = (1.0, 10.0) if scale.to is None else scale.to
    if not to[0] < to[1]:
        raise InputError(f"score: scale: to must rise from its first number to its second, not {to[0]:g} to {to[1]:g}")
    _check_width("to", *to)
    ranges = _given(list(scores), scale.range) if scale.range is not None else _percentiles(scores, scale, prefs)
    for name, (low, high) in ranges.items():
        _check_width(f"the range of {name}", low, high)
    return {name: Line(low, high, to) for name, (low, high) in ranges.items()}


def _check_width(what: str, low: float, high: float) -> None:
    if not math.isfinite(high - low):
        raise InputError(f"score: scale: {what} is wider than numbers go, {low:g} to {high:g}; give a narrower one")


def _given(names: list[str], wanted: Range | Mapping[str, Range]) -> dict[str, Range]:
    ranges = dict(wanted) if isinstance(wanted, Mapping) else dict.fromkeys(names, wanted)
    for name in ranges:
        if name not in names:
            hint = nearest(name, names) or f"; there are {', '.join(names)}"
            raise InputError(f"score: scale: the scorer gave no column {name!r}{hint}")
    for name in names:
        if name not in ranges:
            raise InputError(f"score: scale: there is no range for {name}; give one for each column, or percentiles")
        low, high = ranges[name]
        if not low < high:
            raise InputError(f"score: scale: the range of {name} must rise, and {low:g} to {high:g} does not")
    return ranges


def _percentiles(scores: Mapping[str, pl.Series], scale: Scale, prefs: Preferences) -> dict[str, Range]:
    shares = scale.percentiles or (1.0, 99.0)
    if not shares[0] < shares[1]:
        raise InputError(f"score: scale: percentiles must rise, and {shares[0]:g} to {shares[1]:g} do not")
    training = _training(scores, prefs)
    ranges = {}
    for name in scores:
        low, high = (training[name].quantile(share / 100, interpolation="linear") for share in shares)
        if low is None or high is None:
            raise InputError(
                f"score: scale: no training answer has a {name}, so there are no percentiles; give a range"
            )
        if not low < high:
            raise InputError(
                f"score: scale: percentiles {shares[0]:g} and {shares[1]:g} of {name} are both {low:g}, so there is no "
                "range to map; give a range"
            )
        ranges[name] = (low, high)
    return ranges


def _training(scores: Mapping[str, pl.Series], prefs: Preferences) -> pl.DataFrame:
    """The scores of the answers that a model is trained on."""
    fresh = pl.DataFrame(dict(scores))
    answers = pl.concat(
        [prefs.responses.select("response_id", "prompt_id", "response"), fresh.lazy()], how="horizontal"
    )
    if prefs.counts().pairs:
        scored = Preferences.of(prefs.prompts, answers, prefs.pairs)
        return training_answers(scored, scored.pairs, list(scores)).collect()
    if "split" in prefs.prompts.collect_schema():
        train = prefs.prompts.filter(pl.col("split") == "train").select("prompt_id")
        found = answers.join(train, on="prompt_id", how="semi").select(*scores).collect()
        if found.height:
            return found
    return fresh


def _like(names: list[str], source: Preferences | str | Path, scorer: Mapping[str, Any]) -> dict[str, Line]:
    """The lines that the lineage of other data holds."""
    lineage = source.lineage if isinstance(source, Preferences) else _lineage(Path(source))
    where = "the data" if isinstance(source, Preferences) else str(source)
    held: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    for step in lineage:
        if step.name == "score":
            for name in step.found.get("columns", [step.settings.get("into")]):
                held.pop(name, None)  # scores without a line have taken the place of those with one
            held |= {name: (step.settings, line) for name, line in step.found.get("scale", {}).items()}
    lines = {}
    for name in names:
        if name not in held:
            there = f"it has those of {', '.join(held)}" if held else "it has none"
            raise InputError(
                f"score: scale: {where} holds no scale of {name} ({there}); score that data with scale first"
            )
        own, line = held[name]
        if differs := _differs(own, scorer):
            raise InputError(
                f"score: scale: the scale of {name} in {where} is of the scorer {differs}, whose scores are other "
                "numbers; take the scale of data that the same scorer scored with the same settings, or, if the "
                f"numbers are the same all the same, give range: [{line['low']!r}, {line['high']!r}]"
            )
        lines[name] = Line(line["low"], line["high"], (line["to"][0], line["to"][1]))
    return lines


def _differs(own: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Where two scorers' settings decide for other numbers: `column with by 'a', not 'b'`; empty where they do not."""
    if own.get("scorer") != other["scorer"]:
        return f"{own.get('scorer')}, not of {other['scorer']}"
    for name in sorted(set(own) & set(other) - _WORK):
        here, there = (_bare(settings.get(name)) for settings in (own, other))
        if here != there:
            return f"{own['scorer']} with {name} {here!r:.80}, not {there!r:.80}"
    return ""


def _bare(value: Any) -> Any:
    """A setting as a manifest holds it, where paths are words and tuples are lists; a path that is there in full."""
    said = json.loads(json.dumps(value, default=str))
    return os.path.realpath(said) if isinstance(said, str) and os.path.exists(said) else said


def _lineage(path: Path) -> tuple[Step, ...]:
    """The lineage of data on disk: a native directory, the step of a run that holds one, or a flat file."""
    places = (path / "manifest.json", path / "data" / "manifest.json", path.with_name(f"{path.name}.manifest.json"))
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise InputError(f"score: scale: {path} is no data that pairwright wrote (there is no {places[0]})")
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        return tuple(Step.model_validate(step) for step in raw["lineage"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValidationError) as error:
        raise InputError(f"{file} holds no lineage; write the data again") from error
