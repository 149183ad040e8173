"""What scores, a scorer, or a file of verdicts say of labelled comparisons, in one order of the answers or in both."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, field_validator

from pairwright.errors import InputError
from pairwright.evaluate.agreement import OTHER_ORDER, score_columns
from pairwright.evaluate.judgments import listed, rows_of
from pairwright.evaluate.labelled import Labelled
from pairwright.evaluate.scored_by import SCORED, by_scorer
from pairwright.plug import nearest
from pairwright.preferences import Preferences

Floats = NDArray[np.float64]
_WHAT = "evaluate humans"
_SAYS: dict[str, float | None] = {
    "first": 1.0,
    "second": -1.0,
    "tie": 0.0,
    "a": 1.0,
    "b": -1.0,
    "c": 0.0,
    "abstained": None,
}
"""A verdict as it is written, in lower case: our words, and the letters of MT-bench."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """The verdicts on comparisons: 1 is the first answer, -1 the second, 0 a tie, NaN none. `[comparisons]` each."""

    name: str
    """Who says so."""
    verdict: Floats
    """Of both orders together where there are two: a tie unless they agree."""
    ahead: Floats | None = None
    """With the first answer in the first place; None where nobody saw two answers at a time."""
    back: Floats | None = None
    """With the second answer in the first place, still 1 for the first answer."""
    placed: bool = True
    """Whether it is known which of the two answers stood first; else only whether the orders agree."""
    notes: tuple[str, ...] = ()


class _Row(BaseModel):
    """A row of a file of verdicts."""

    model_config = ConfigDict(extra="allow", coerce_numbers_to_str=False)

    verdict: str | None
    verdict_swapped: str | None = None

    @field_validator("verdict", "verdict_swapped")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value.strip().lower() not in _SAYS:
            raise ValueError(f"{value!r:.30} is no verdict (those are first, second, tie, abstained, A, B, C, null)")
        return value


def by_columns(labels: Labelled, scores: Sequence[str] | None) -> list[Said]:
    """The verdicts of score columns: the answer with the higher score; equal scores are a tie.

    Where there are scores of the other order too (`score_x_swapped`), both orders count.

    Args:
        labels: the comparisons.
        scores: the columns; None takes all.

    Raises:
        InputError: there is no such column, or none.
    """
    known = set(labels.alone.responses.collect_schema().names())
    found = []
    for name in score_columns(labels.alone, scores, what=_WHAT):
        ahead = _signs(labels.alone, name)
        if (other := f"{name}{OTHER_ORDER}") in known:
            back = _signs(labels.alone, other)
            both = settled(ahead, back)
            found.append(Said(name=name, verdict=both, ahead=ahead, back=back, placed=labels.by_rows))
        else:
            found.append(Said(name=name, verdict=ahead))
    return found


def by_scorer_now(labels: Labelled, scorer: str | Mapping[str, Any]) -> Said:
    """The verdicts of a scorer, which sees each comparison alone; of a judge of pairs also what each order said.

    Args:
        labels: the comparisons.
        scorer: its name, or a mapping with the name under `with` and its settings beside it.

    Raises:
        InputError: as `by_scorer`.
    """
    numbers = by_scorer(labels.alone, scorer)
    ((name, column),) = numbers.columns.items()
    verdict = _signs(numbers.prefs, column)
    schema = numbers.prefs.responses.collect_schema()
    if schema.get(f"{SCORED}_text") != pl.List(pl.String):
        return Said(name=name, verdict=verdict, notes=numbers.notes)
    ahead, back = _of_texts(numbers.prefs, f"{SCORED}_text")
    ahead[np.isnan(verdict)] = back[np.isnan(verdict)] = np.nan  # read, but cut off: no verdict to the judge
    return Said(name=name, verdict=verdict, ahead=ahead, back=back, notes=numbers.notes)


def by_file(labels: Labelled, path: Path, key: str | None) -> Said:
    """The verdicts in a file: `verdict`, and `verdict_swapped` for what was said of the answers exchanged.

    Both are as they were given, in the order in which the answers were shown: who always says `first` has a bias.

    Args:
        labels: the comparisons.
        path: JSON lines, a JSON list or parquet.
        key: a column of both that tells which comparison a row is of; None takes them in the order of the labels, a row
            for each of theirs.

    Raises:
        InputError: a row is no verdict, or rows and labels do not belong together.
    """
    rows = list(rows_of([Path(path)], _Row, what=_WHAT))
    place = _by_order(labels, rows, path) if key is None else _by_key(labels, rows, path, key)
    count = len(labels.label)
    ahead, back = np.full(count, np.nan), np.full(count, np.nan)
    for number, at in enumerate(place):
        if at is None:
            continue
        row = rows[at][1]
        ahead[number] = _number(row.verdict)
        back[number] = -_number(row.verdict_swapped)
    name = Path(path).name
    if not any("verdict_swapped" in row.model_fields_set for _, row in rows):
        return Said(name=name, verdict=ahead, ahead=ahead)
    return Said(name=name, verdict=settled(ahead, back), ahead=ahead, back=back)


def settled(ahead: Floats, back: Floats) -> Floats:
    """Both orders together: what they agree on, else a tie; NaN where one has no verdict.

    Source: arXiv 2306.05685, section 3.4 (a win where both orders agree).
    """
    found = np.where(ahead == back, ahead, 0.0)
    found[np.isnan(ahead) | np.isnan(back)] = np.nan
    return found


def _by_order(labels: Labelled, rows: Sequence[tuple[str, _Row]], path: Path) -> list[int | None]:
    if len(set(labels.row.tolist())) < len(labels.row):
        raise InputError(f"{_WHAT}: a row of the labels holds several comparisons; name a column of both files as key")
    if len(rows) != labels.num_rows:
        raise InputError(
            f"{_WHAT}: {path} has {len(rows):,} verdicts and the labels have {labels.num_rows:,} rows; give a verdict "
            "(or null) for each in the same order, or name a column of both as key"
        )
    return [int(row) for row in labels.row]


def _by_key(labels: Labelled, rows: Sequence[tuple[str, _Row]], path: Path, key: str) -> list[int | None]:
    if key not in labels.beside.columns:
        hint = nearest(key, labels.beside.columns) or f"; there are {', '.join(labels.beside.columns) or 'none'}"
        raise InputError(f"{_WHAT}: the labels have no column {key!r}{hint}")
    mine: list[str | None] = labels.beside[key].to_list()
    if None in mine or len(set(mine)) < len(mine):
        several = [value for value, count in Counter(mine).items() if value is None or count > 1]
        raise InputError(f"{_WHAT}: key {key!r} does not tell the labels apart ({listed(several)}); choose another")
    theirs: dict[str, int] = {}
    for at, (where, row) in enumerate(rows):
        extra = row.model_extra or {}
        if extra.get(key) is None:
            raise InputError(f"{_WHAT}: {where}: there is no {key!r}; add it, or correct key")
        value = str(extra[key])
        if value in theirs:
            raise InputError(
                f"{_WHAT}: {where}: {key} {value!r} was there before; keep one verdict for each comparison"
            )
        theirs[value] = at
    if theirs.keys().isdisjoint(mine):
        raise InputError(f"{_WHAT}: no {key!r} of {path} is one of the labels; give the verdicts on these labels")
    return [theirs.get(str(value)) for value in mine]


def _number(verdict: str | None) -> float:
    value = None if verdict is None else _SAYS[verdict.strip().lower()]
    return np.nan if value is None else value


def _signs(alone: Preferences, column: str) -> Floats:
    """The sign of the first answer's score minus the second's; NaN where one has no finite score."""
    frame = alone.responses.select("response_id", pl.col(column).cast(pl.Float64)).sort("response_id").collect()
    both = frame[column].fill_null(np.nan).to_numpy().reshape(-1, 2)
    known = np.isfinite(both).all(axis=1)
    signs = np.full(len(both), np.nan)
    signs[known] = np.sign(both[known, 0] - both[known, 1])
    return signs


def _of_texts(alone: Preferences, column: str) -> tuple[Floats, Floats]:
    """What a judge of pairs said in each order, from its texts: the first text of an answer is where it stood first."""
    from pairwright.scorers.judge.readings import verdict_said
    from pairwright.served import Answer

    texts = alone.responses.select("response_id", column).sort("response_id").collect()[column].to_list()
    read = [_number(verdict_said(Answer(each[0], None)).verdict) if each else np.nan for each in texts]
    both = np.array(read, dtype=np.float64).reshape(-1, 2)
    return both[:, 0].copy(), -both[:, 1]
