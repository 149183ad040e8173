"""One answer at a time: a rating, ratings of several attributes, a rating by a reference."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from pairwright.errors import InputError
from pairwright.plug import nearest
from pairwright.scorers.judge.prompt import Prompt
from pairwright.scorers.judge.readings import RATERS, Reading
from pairwright.served import Answer, Call, Failure

Ask = Callable[[Sequence[Call]], Sequence[Answer | Failure]]


class Row(NamedTuple):
    """One answer to be judged, as text; it and its prompt are there."""

    prompt_id: str
    prompt: str
    answer: str
    reference: str | None


@dataclass(frozen=True)
class Brief:
    """What the judge is told beside the answers."""

    prompt: Prompt
    low: int
    high: int
    reading: str
    """`said` or `expected`."""
    attributes: Mapping[str, str]
    """What each asks, by name."""

    def call(self, **values: str) -> Call:
        """The call with the places of the prompt filled in."""
        return Call(self.prompt.filled({"low": str(self.low), "high": str(self.high), **values}))


class Judgement(NamedTuple):
    """What came of all answers."""

    values: list[float | None]
    why: Counter[str]
    columns: dict[str, pl.Series]
    found: dict[str, Any]
    notes: list[str]


def rating(rows: Sequence[Row], brief: Brief, ask: Ask) -> Judgement:
    """One rating of each answer."""
    answers = ask([brief.call(prompt=row.prompt, answer=row.answer) for row in rows])
    return _rated([_read(answer, None, brief) for answer in answers], answers)


def by_reference(rows: Sequence[Row], brief: Brief, ask: Ask) -> Judgement:
    """One rating of each answer by the reference of its prompt; `no_reference` where it has none."""
    there = [at for at, row in enumerate(rows) if row.reference is not None]
    asked = [rows[at] for at in there]
    given = ask([brief.call(prompt=row.prompt, answer=row.answer, reference=row.reference or "") for row in asked])
    answers: list[Answer | Failure] = [Failure("no_reference")] * len(rows)
    for at, answer in zip(there, given, strict=True):
        answers[at] = answer
    return _rated([_read(answer, None, brief) for answer in answers], answers)


def attributes(rows: Sequence[Row], brief: Brief, ask: Ask) -> Judgement:
    """A rating of each attribute in one call, and their mean where all are there."""
    told = "\n".join(f"- {name}: {asks}" for name, asks in brief.attributes.items())
    answers = ask([brief.call(prompt=row.prompt, answer=row.answer, attributes=told) for row in rows])
    heads = {name: [_read(answer, name, brief) for answer in answers] for name in brief.attributes}
    means = [_mean(readings) for readings in zip(*heads.values(), strict=True)]
    whole = _rated(means, answers)
    columns = {name: pl.Series([each.value for each in read], dtype=pl.Float64) for name, read in heads.items()}
    missing = {name: dict(Counter(each.why for each in read if each.value is None)) for name, read in heads.items()}
    found = {"unscored": {name: counts for name, counts in missing.items() if counts}}
    return whole._replace(columns=columns | whole.columns, found=found if found["unscored"] else {})


def choose_attributes(prompt: Prompt, wanted: Sequence[str] | Mapping[str, str] | None) -> Mapping[str, str]:
    """What each attribute asks, by name: given so, or chosen by name from those of the prompt file.

    Raises:
        InputError: there are none, or the prompt file has none of a name.
    """
    if isinstance(wanted, Mapping):
        chosen: Mapping[str, str] = dict(wanted)
    else:
        known = prompt.attributes
        for name in wanted or ():
            if name not in known:
                hint = nearest(name, known) or f"; it has {', '.join(known) or 'none'}"
                raise InputError(
                    f"judge: the prompt file {prompt.name} has no attribute {name!r}{hint} (your own: NAME: WHAT)"
                )
        chosen = dict(known) if wanted is None else {name: known[name] for name in wanted}
    for name in chosen:
        if not name.isidentifier() or name in ("text", "why"):
            raise InputError(f"judge: {name!r} is no name for an attribute; use letters, digits and _, not text or why")
    if not chosen:
        raise InputError("judge: kind 'attributes' has no attributes; name them, or write them into the prompt file")
    return chosen


def texts(answers: Sequence[Answer | Failure]) -> pl.Series:
    """What the judge, or its server, wrote; null where nothing was asked or nothing came."""
    said = [each.text or each.refusal or "" if isinstance(each, Answer) else each.said or None for each in answers]
    return pl.Series(said, dtype=pl.String)


def _read(answer: Answer | Failure, name: str | None, brief: Brief) -> Reading:
    return RATERS[brief.reading](answer, name, brief.low, brief.high)


def _mean(readings: Sequence[Reading]) -> Reading:
    values = [reading.value for reading in readings if reading.value is not None]
    if len(values) == len(readings):
        return Reading(sum(values) / len(values))
    return Reading(None, next(reading.why for reading in readings if reading.value is None))


def _rated(readings: Sequence[Reading], answers: Sequence[Answer | Failure]) -> Judgement:
    why = [None if reading.value is not None else reading.why for reading in readings]
    columns = {"text": texts(answers), "why": pl.Series(why, dtype=pl.String)}
    return Judgement([reading.value for reading in readings], Counter(filter(None, why)), columns, {}, [])
