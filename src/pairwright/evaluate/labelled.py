"""Comparisons of two answers that people labelled, in the order in which their source has the two.

`Preferences` has no pair of a tie and no order of the sides, so files are read row by row here, through the same
formats.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pairwright.chat import Message, text_of
from pairwright.errors import InputError
from pairwright.formats import files
from pairwright.formats.compared import TIE
from pairwright.formats.read import read
from pairwright.formats.record import Answer, Record, Unreadable
from pairwright.formats.table import detected
from pairwright.preferences import MESSAGES, Preferences

Floats = NDArray[np.float64]
_WHAT = "evaluate humans"
_VOTES: Mapping[str, tuple[str, Mapping[Any, float]]] = {"pandalm": ("annotator", {1: 1.0, 2: -1.0, 0: 0.0})}
"""Formats with the votes of several people: what their columns begin with, and what a vote means."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Comparisons with what people said of them. In every number 1 is the first answer, -1 the second, 0 a tie."""

    label: Floats
    """What people say; of several what more than half of them say, NaN where nothing is. `[comparisons]`"""
    votes: Mapping[str, Floats]
    """What each of several people says, NaN for nothing, `[comparisons]`; empty where the source has one label."""
    prompt: list[str]
    """The prompt of each comparison, as a key: equal ones are one prompt."""
    length: Floats
    """Characters of both answers, `[comparisons, 2]`."""
    ordered: bool
    """Whether the order of the two is the source's own, as its format says, and not the better one first."""
    by_rows: bool
    """Whether the two answers stand as in the rows of a file; else the chosen side is the first."""
    beside: pl.DataFrame
    """Further columns of the source, `[comparisons]`."""
    row: NDArray[np.int64]
    """The row of the source of each comparison, from 0."""
    num_rows: int
    """Rows of the source, those that could not be read among them."""
    alone: Preferences
    """The comparisons, each a prompt of its own with answers `2 i` and `2 i + 1`, so that a scorer sees it alone."""
    notes: tuple[str, ...]


class _One(NamedTuple):
    """A comparison as it was read."""

    prompt: Sequence[Message]
    answers: tuple[Answer, Answer]
    label: float
    row: int
    extras: Mapping[str, Any]


def labelled(source: Path | Preferences, *, split: str | None) -> Labelled:
    """The labelled comparisons of a file, or of data.

    Args:
        source: a file of a known format, a directory of preference data, or preferences.
        split: the pairs to take from data; None takes all. A file has its split in its rows.

    Raises:
        InputError: the source cannot be read, or compares nothing.
    """
    if isinstance(source, Preferences):
        return _of_data(source, split)
    if Path(source).is_dir():
        return _of_data(read(source), split)
    return _of_file(Path(source), split)


def _of_file(path: Path, split: str | None) -> Labelled:
    batches = list(files.of_path(path).batches)
    rows = list(chain.from_iterable(batch.rows for batch in batches))
    lost = Counter(reject.reason for batch in batches for reject in batch.rejects)
    if not rows:
        raise InputError(f"{_WHAT}: {path} has no row that can be read; give the file of the labels")
    form = detected(rows[:200], path.name)
    found: list[_One] = []
    splits: set[str] = set()
    places = sorted(
        [(line, index) for index, line in enumerate(chain.from_iterable(batch.lines for batch in batches))]
        + [(reject.line, -1) for batch in batches for reject in batch.rejects]
    )
    for place, (_, index) in enumerate(places):
        if index < 0:
            continue
        try:
            record = form.rows(rows[index])
        except Unreadable as refused:
            lost[refused.reason] += 1
            continue
        splits.add(told := _split(record, rows[index]))
        if split is not None and told != split:
            continue
        made = _comparisons(record, place)
        found += made
        if not made:
            lost["no comparison"] += 1
    if split is not None and splits and split not in splits:
        raise InputError(f"{_WHAT}: {path} has no row of split {split!r}; it has {', '.join(sorted(splits))}")
    if not found:
        why = ", ".join(f"{count:,} {reason}" for reason, count in sorted(lost.items()))
        raise InputError(f"{_WHAT}: {path} ({form.name}) has no labelled comparison ({why}); give a file with labels")
    notes = [f"{count:,} of {len(places):,} rows are left out: {reason}." for reason, count in sorted(lost.items())]
    votes, label = _votes(found, form.name)
    beside = _columns([one.extras for one in found])
    return Labelled(
        label=label,
        votes=votes,
        prompt=[repr([(each["role"], each["content"]) for each in one.prompt]) for one in found],
        length=_lengths([(text_of(a.response), text_of(b.response)) for a, b in (one.answers for one in found)]),
        ordered=form.ordered,
        by_rows=True,
        beside=beside,
        row=np.array([one.row for one in found], dtype=np.int64),
        num_rows=len(places),
        alone=_alone(found),
        notes=(*notes, *_said_of_order(form.ordered)),
    )


def _split(record: Record, row: Mapping[str, Any]) -> str:
    """The split of a row, as `read` has it."""
    given = record.split or row.get("split")
    return given if isinstance(given, str) else "train"


def _comparisons(record: Record, row: int) -> list[_One]:
    """What a record compares: its pairs with the sides in the order of the answers, or its tie."""
    if record.goal is not None:
        return []
    extras = {**record.prompt_extras, **record.pair_extras}
    made = []
    for pair in record.pairs:
        first, second = sorted((pair.chosen, pair.rejected))
        sides = (record.answers[first], record.answers[second])
        made.append(_One(record.prompt, sides, 1.0 if pair.chosen == first else -1.0, row, extras))
    if not made and len(record.answers) == 2 and TIE in record.notes:
        made.append(_One(record.prompt, (record.answers[0], record.answers[1]), 0.0, row, extras))
    return made


def _votes(found: Sequence[_One], form: str) -> tuple[dict[str, Floats], Floats]:
    """The votes of each person, and the label: their majority where there are several, else the source's own."""
    label = np.array([one.label for one in found])
    if form not in _VOTES:
        return {}, label
    begins, meaning = _VOTES[form]
    names = sorted({name for one in found for name in one.extras if name.startswith(begins)})
    votes = {name: np.array([meaning.get(one.extras.get(name), np.nan) for one in found]) for name in names}
    if len(names) < 2:
        return {}, label
    every = np.stack(list(votes.values()), axis=1)
    major = np.full(len(found), np.nan)
    for said in (-1.0, 0.0, 1.0):
        major[(every == said).sum(axis=1) * 2 > every.shape[1]] = said
    return votes, major


def _said_of_order(ordered: bool) -> tuple[str, ...]:
    says = "The source lists the better answer first and not the one shown first, so nothing is said of position alone."
    return () if ordered else (says,)


def _columns(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Columns of the source as text, which is all that groups and keys need."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pl.DataFrame(
        {
            name: pl.Series([None if row.get(name) is None else str(row[name]) for row in rows], dtype=pl.String)
            for name in names
        }
        | {"": pl.Series([None] * len(rows), dtype=pl.String)}
    ).drop("")


def _lengths(texts: Sequence[tuple[str, str]]) -> Floats:
    return np.array([(len(first), len(second)) for first, second in texts], dtype=np.float64).reshape(-1, 2)


def _alone(found: Sequence[_One]) -> Preferences:
    ids = _ids(len(found))
    answers = [answer for one in found for answer in one.answers]
    names = list(dict.fromkeys(name for answer in answers for name in answer.scores))
    prompts = pl.DataFrame({"prompt_id": ids, "prompt": pl.Series([list(one.prompt) for one in found], dtype=MESSAGES)})
    scores = {f"score_{name}": [answer.scores.get(name) for answer in answers] for name in names}
    responses = pl.DataFrame(
        {
            "response_id": range(len(answers)),
            "prompt_id": [each for each in ids for _ in range(2)],
            "response": pl.Series([list(answer.response) for answer in answers], dtype=MESSAGES),
            "model": pl.Series([answer.model for answer in answers], dtype=pl.String),
            "score": pl.Series([answer.score for answer in answers], dtype=pl.Float64),
            **{name: pl.Series(values, dtype=pl.Float64) for name, values in scores.items()},
        }
    )
    return Preferences.of(prompts, responses)


def _ids(count: int) -> list[str]:
    return [f"{place:032x}" for place in range(count)]


def _of_data(prefs: Preferences, split: str | None) -> Labelled:
    """Pairs without a goal, their chosen side as the first."""
    chosen = prefs.pairs if split is None else prefs.pairs.filter(pl.col("split") == split)
    pairs = chosen.filter(pl.col("goal").is_null()).collect()
    if not pairs.height:
        where = "" if split is None else f" in split {split!r}"
        raise InputError(f"{_WHAT}: the data has no pair without a goal{where}; give data with the labels as pairs")
    ids = _ids(pairs.height)
    sides = pl.DataFrame(
        {
            "response_id": pl.concat([pairs["chosen_id"], pairs["rejected_id"]]),
            "place": [*range(0, 2 * pairs.height, 2), *range(1, 2 * pairs.height, 2)],
            "_prompt": [*ids, *ids],
        },
        schema_overrides={"response_id": pairs["chosen_id"].dtype},
    )
    responses = (
        sides.lazy()
        .join(prefs.responses, on="response_id", how="inner", validate="m:1")
        .sort("place")
        .drop("response_id", "prompt_id")
        .rename({"place": "response_id", "_prompt": "prompt_id"})
        .collect()
    )
    prompts = (
        pairs.lazy()
        .select("prompt_id")
        .with_columns(pl.Series("_prompt", ids))
        .join(prefs.prompts, on="prompt_id", how="left", maintain_order="left")
        .drop("prompt_id")
        .rename({"_prompt": "prompt_id"})
    )
    texts = [text_of(each) for each in responses["response"].to_list()]
    ties = [f"When it was read: {note}; give the file itself to count ties." for note in _ties(prefs)]
    return Labelled(
        label=np.ones(pairs.height),
        votes={},
        prompt=pairs["prompt_id"].to_list(),
        length=_lengths(list(zip(texts[::2], texts[1::2], strict=True))),
        ordered=False,
        by_rows=False,
        beside=pairs.select(pl.exclude("prompt_id", "chosen_id", "rejected_id", "goal", "weight")).select(
            pl.col(pl.String, pl.Boolean).cast(pl.String), pl.selectors.numeric().cast(pl.String)
        ),
        row=np.arange(pairs.height),
        num_rows=pairs.height,
        alone=Preferences.of(prompts, responses),
        notes=(*ties, *_said_of_order(False)),
    )


def _ties(prefs: Preferences) -> list[str]:
    return [note for step in prefs.lineage for note in step.notes if note.endswith(TIE)]
