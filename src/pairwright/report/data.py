"""Counts of a step's data: answers by score, pairs by gap and length, what was selected, which goals are asked for."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pairwright.metrics import explicit_gap
from pairwright.preferences import Preferences, Step
from pairwright.report.files import mapping
from pairwright.report.shown import clean, is_number, plain
from pairwright.report.views import Bins, Example, Pairs, Relabelling, Selection

DISTINCT = 24
"""So many different values have a bar each; more of them are put into ranges."""
BARS = 20
"""About so many ranges."""
_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
_SIDES = ("chosen", "rejected")


def by_score(prefs: Preferences) -> dict[str, int]:
    """How many answers have each score, in the order of the scores; ranges where there are many."""
    scores = prefs.responses.select("score").collect().to_series()
    known = scores.drop_nulls().to_numpy()
    counted = bins({"answers": known})
    without = scores.null_count() + int((~np.isfinite(known)).sum())
    found = dict(zip(counted.labels, counted.counts["answers"], strict=True)) if counted else {}
    return found | ({"unscored": without} if without else {})


def pairs_of(prefs: Preferences) -> Pairs | None:
    """The pairs of some data, counted; None where there are none. Goals that are no number have no gap here."""
    view = prefs.view("score", "response")
    lengths = [_characters(f"response_{side}").alias(side) for side in _SIDES]
    frame = view.select("split", _gap(view).alias("gap"), *lengths).collect(engine="streaming")
    if not len(frame):
        return None
    gaps = frame["gap"].drop_nulls().to_numpy()
    splits = frame.group_by("split", maintain_order=True).len()
    return Pairs(
        pairs=len(frame),
        splits={plain(name): count for name, count in splits.iter_rows()},
        ties=int((gaps == 0).sum()),
        against=int((gaps < 0).sum()),
        unscored=len(frame) - len(gaps),
        gaps=bins({"pairs": gaps}),
        lengths=bins({side: frame[side].drop_nulls().to_numpy() for side in _SIDES}),
    )


def selection_of(kept: Preferences, before: Preferences | None) -> Selection | None:
    """What the last step of some data, a `select`, kept; None where the last step is another.

    Args:
        kept: the data that the step gave.
        before: the data that it took, where they are known.
    """
    step = _last(kept, "select")
    if step is None:
        return None
    column = str(step.settings.get("metric")).rpartition(":")[2]
    only = step.settings.get("only")
    inside = pl.lit(value=True) if only is None else pl.col("split") == pl.lit(only)
    values = np.array([])
    if column in kept.pairs.collect_schema():
        own = kept.pairs.filter(inside).select(pl.col(column).cast(pl.Float64)).collect()
        values = own.to_series().drop_nulls().to_numpy()
    gaps = {"kept": _gaps(kept, inside)}
    if before is not None:
        gaps = {"before": _gaps(before, inside), **gaps}
    of_both = [mapping(step.settings.get(key)) for key in ("metric_settings", "cut_settings")]
    return Selection(
        metric=plain(step.settings.get("metric")),
        cut=plain(step.settings.get("cut")),
        settings=clean({**of_both[0], **of_both[1], **({"only": only} if only else {})}),
        rows_in=step.rows_in,
        rows_out=step.rows_out,
        least=clean(float(values.min())) if len(values) else None,
        largest=clean(float(values.max())) if len(values) else None,
        values=bins({"kept pairs": values}),
        gaps=bins(gaps),
        overlap=_overlap(clean(step.found.get("overlap"))),
    )


def relabelling_of(prefs: Preferences) -> Relabelling | None:
    """What the last step of some data, a `relabel`, made; None where the last step is another."""
    step = _last(prefs, "relabel")
    if step is None:
        return None
    form = prefs.goal_format
    return Relabelling(
        mode=plain(step.settings.get("mode")),
        rows_in=step.rows_in,
        rows_out=step.rows_out,
        dropped={plain(reason): count for reason, count in step.dropped.items() if count},
        goals=_goals(prefs),
        template="" if form is None else plain(form.template),
        examples=_examples(prefs),
    )


def bins(values: Mapping[str, NDArray[Any]]) -> Bins | None:
    """Count numbers: by value where there are few different ones, else by ranges of one nice width.

    Args:
        values: sets of numbers by their names; what is not finite is left out.

    Returns:
        Counts that share their labels; None where no set has a number.
    """
    finite = {name: given[np.isfinite(given)].astype(np.float64) for name, given in values.items()}
    everything = np.concatenate(list(finite.values()))
    if not len(everything):
        return None
    distinct = np.unique(everything)
    if len(distinct) <= DISTINCT:
        counts = {name: [int(n) for n in _counts(given, distinct)] for name, given in finite.items()}
        return Bins(labels=[f"{value:g}" for value in distinct], counts=counts)
    edges = _edges(float(distinct[0]), float(distinct[-1]))
    counts = {name: [int(n) for n in np.histogram(given, edges)[0]] for name, given in finite.items()}
    labels = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    return Bins(labels=labels, counts=counts)


def _overlap(found: Any) -> dict[str, Any]:
    """What `metrics.overlap` gave; nothing where it has another form."""
    known = mapping(found)
    share = mapping(known.get("share"))
    whole = share and all(isinstance(row, dict) for row in share.values())
    return known if whole and all(is_number(known.get(key)) for key in ("pairs", "kept", "chance")) else {}


def _counts(values: NDArray[np.float64], distinct: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.bincount(np.searchsorted(distinct, values), minlength=len(distinct))


def _edges(low: float, high: float) -> list[float]:
    """Ends of ranges of equal, round width that hold everything from `low` to `high`; the width is at least one ulp."""
    rough = (high - low) / BARS
    power = 10.0 ** math.floor(math.log10(rough))
    width = next(nice * power for nice in _NICE if nice * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / width), math.ceil(high / width)
    return [float(f"{i * width:.12g}") for i in range(first, last + 1)]


def _gap(view: pl.LazyFrame) -> pl.Expr:
    """The gap of pairs; null where the goals are vectors, whose scores no column here has."""
    vector = isinstance(view.collect_schema()["goal"], pl.List)
    return pl.lit(None, dtype=pl.Float64) if vector else explicit_gap(view)


def _gaps(prefs: Preferences, inside: pl.Expr) -> NDArray[Any]:
    view = prefs.view("score")
    return view.filter(inside).select(gap=_gap(view)).collect().to_series().drop_nulls().to_numpy()


def _characters(column: str) -> pl.Expr:
    return pl.col(column).list.eval(pl.element().struct.field("content").str.len_chars()).list.sum()


def _last(prefs: Preferences, name: str) -> Step | None:
    last = prefs.lineage[-1] if prefs.lineage else None
    return last if last is not None and last.name == name else None


def _goals(prefs: Preferences) -> Bins | None:
    """Pairs by goal, one count for each kind of copy; vector goals by their text, the most frequent first."""
    pairs = prefs.pairs
    schema = pairs.collect_schema()
    copy = pl.col("copy").cast(pl.String).fill_null("pairs") if "copy" in schema else pl.lit("pairs")
    frame = pairs.select("goal", copy=copy).filter(pl.col("goal").is_not_null()).collect()
    if not len(frame):
        return None
    kinds = frame["copy"].unique(maintain_order=True).to_list()
    if not isinstance(schema["goal"], pl.List):
        return bins({plain(kind): frame.filter(copy=kind)["goal"].to_numpy() for kind in kinds})
    said = frame.with_columns(goal=pl.Series([_vector(goal) for goal in frame["goal"]], dtype=pl.String))
    most = said["goal"].value_counts(sort=True)["goal"].head(DISTINCT).to_list()
    counted = {kind: dict(said.filter(copy=kind)["goal"].value_counts().iter_rows()) for kind in kinds}
    return Bins(
        labels=most, counts={plain(kind): [found.get(goal, 0) for goal in most] for kind, found in counted.items()}
    )


def _vector(goal: Sequence[float]) -> str:
    return ", ".join(f"{part:g}" for part in goal)


def _examples(prefs: Preferences) -> list[Example]:
    """The copies of the first pair as the model reads them."""
    names = prefs.pairs.collect_schema().names()
    head = prefs.pairs.head(4)
    if "source_pair" in names:
        head = head.filter(pl.col("source_pair") == pl.col("source_pair").first())
    found = Preferences.of(prefs.prompts, prefs.responses, head, prefs.lineage).texts().collect()
    return [
        Example(
            goal="none"
            if row["goal"] is None
            else f"{row['goal']:g}"
            if is_number(row["goal"])
            else _vector(row["goal"]),
            prompt=conversation(row["prompt"]),
            chosen=conversation(row["chosen"]),
            rejected=conversation(row["rejected"]),
        )
        for row in found.iter_rows(named=True)
    ]


def conversation(messages: Any) -> str:
    """The texts of some messages; who speaks is said where there are several."""
    said = [(plain(message.get("role")), plain(message.get("content") or "")) for message in messages or ()]
    if len(said) == 1:
        return said[0][1]
    return "\n\n".join(f"{role}: {text}" for role, text in said)
