"""Select pairs: a metric says how soon, a cut says how many."""

from functools import partial
from typing import Annotated, Any, cast

import numpy as np
import polars as pl
from pydantic import Field

from pairwright.cuts import CUTS, Mask, Values, count_of
from pairwright.errors import InputError
from pairwright.metrics.table import METRICS
from pairwright.plug import bind, find, nearest, settings_of
from pairwright.preferences import PAIR_COLUMNS, Preferences, Step

_KEPT = "__pairwright_kept"  # stands beside a user's own columns for a while; no one else uses such names
_RANKING = ("top", "bottom", "band")


def select(
    prefs: Preferences,
    metric: str,
    *,
    keep: float | None = None,
    cut: str = "top",
    only: str | None = None,
    seed: int = 0,
    weight: float | None = None,
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None,
    **metric_settings: Any,
) -> Preferences:
    """Keep the pairs that a metric puts first. Their order stays, and the metric stays as a column of its name.

    A pair of which the metric cannot say anything is never kept (`no_metric`); the others that are not kept are
    `not_selected`.

    Args:
        prefs: pairs.
        metric: a name of `METRICS`, or `module:function`.
        keep: share of the pairs with a metric, 0 to 1: floor(keep N) pairs. Every cut but `above` needs it.
        cut: `top`, `bottom`, `band`, `above`, `sample`, or `module:function`.
        only: a split; pairs of other splits pass untouched, and are not in z-scores.
        seed: for a metric or cut that draws.
        weight: for the potentials: how much the model's margin counts.
        threshold: for `above`: keep what is larger.
        metric_settings: further settings of the metric or, for names that the metric does not have, of the cut.

    Raises:
        InputError: there is no such metric, cut or setting; a column is missing; or the metric has no spread, so that
            it cannot rank.
    """
    asked = {"keep": keep, "cut": cut, "only": only, "seed": seed, "weight": weight, "threshold": threshold}
    own = cast(partial[Any], bind(select, asked, kind="verb")).keywords
    keep, seed, weight, threshold = own["keep"], own["seed"], own["weight"], own["threshold"]
    metric_plug, cut_plug = find(METRICS, metric, kind="metric"), find(CUTS, cut, kind="cut")
    of_metric, of_cut = settings_of(metric_plug), settings_of(cut_plug)
    to_cut = {k: v for k, v in metric_settings.items() if k in of_cut and k not in of_metric}
    to_metric = {k: v for k, v in metric_settings.items() if k not in to_cut}
    to_cut |= {k: v for k, v in {"keep": keep, "threshold": threshold}.items() if v is not None}
    to_metric |= {} if weight is None else {"weight": weight}
    bound_metric = bind(metric_plug, to_metric | ({"seed": seed} if "seed" in of_metric else {}), kind="metric")
    bound_cut = bind(cut_plug, to_cut | ({"seed": seed} if "seed" in of_cut else {}), kind="cut")
    name = metric.rpartition(":")[2]
    if name in PAIR_COLUMNS:
        raise InputError(f"select: the metric would replace the column {name!r} of the pairs; give it another name")

    view = numbers(prefs)
    in_split = pl.col("split").eq_missing(pl.lit(only))
    candidates = view if only is None else view.filter(in_split)
    found = candidates.select(bound_metric(candidates).cast(pl.Float64).alias(name)).collect(engine="streaming")
    values = found[name].to_numpy()
    inside = np.ones(len(values), np.bool_) if only is None else _in_split(prefs, only)

    known = np.isfinite(values)
    _check_spread(values[known], name, cut, keep)
    chosen = bound_cut(values[known])
    if chosen.shape != (int(known.sum()),) or chosen.dtype != np.bool_:
        raise InputError(f"cut {cut!r} must give one true or false for each of the {int(known.sum()):,} values")
    kept, shown = ~inside, np.full(len(inside), np.nan)
    kept[np.flatnonzero(inside)[known]] = chosen
    shown[np.flatnonzero(inside)[known]] = values[known]

    beside = pl.DataFrame({name: pl.Series(shown, nan_to_null=True), _KEPT: kept})
    pairs = pl.concat([prefs.pairs.drop(name, strict=False), beside.lazy()], how="horizontal")
    dropped = {"no_metric": int((~known).sum()), "not_selected": int((~chosen).sum())}
    step = Step(
        name="select",
        settings={
            "metric": metric,
            "cut": cut,
            "only": only,
            "metric_settings": cast(partial[Any], bound_metric).keywords,
            "cut_settings": cast(partial[Any], bound_cut).keywords,
        },
        rows_in=len(inside),
        rows_out=int(kept.sum()),
        dropped={reason: count for reason, count in dropped.items() if count},
    )
    return prefs.then(step, pairs=pairs.filter(_KEPT).drop(_KEPT))


def numbers(prefs: Preferences) -> pl.LazyFrame:
    """The pairs in order with every number of their two answers beside them, as a metric gets them.

    Nothing is read before a metric asks: Polars leaves out the columns that the metric does not use.
    """
    content = pl.col("response").list.eval(pl.element().struct.field("content").str.len_chars().fill_null(0))
    answers = prefs.responses.with_columns(chars=content.list.sum().cast(pl.Int64))
    schema = answers.collect_schema()
    # A user's own columns of these names would be taken for ours; in a view they are not needed.
    pairs = prefs.pairs.drop("chars_chosen", "chars_rejected", "scores_chosen", "scores_rejected", strict=False)
    columns = [name for name, kind in schema.items() if kind.is_numeric() and name != "response_id"]
    view = Preferences.of(prefs.prompts, answers, pairs).view(*columns)
    form = prefs.goal_format
    if form is None or not form.attributes:
        return view
    return view.with_columns(
        pl.concat_list([f"score_{name}_{side}" for name in form.attributes]).alias(f"scores_{side}")
        for side in ("chosen", "rejected")
    )


def _in_split(prefs: Preferences, only: str) -> Mask:
    """Which pairs lie in a split; a split that no pair has is a slip of the pen."""
    column = prefs.pairs.select("split").collect()["split"]
    inside = (column == only).fill_null(False)
    if len(column) and not inside.any():
        known = column.drop_nulls().unique().sort().to_list()
        raise InputError(
            f"select: no pair is in the split {only!r}{nearest(only, known)} (there are {', '.join(known)})"
        )
    return inside.to_numpy()


def _check_spread(values: Values, name: str, cut: str, keep: float | None) -> None:
    """A constant metric cannot rank; that the first rows are kept should not look like a choice."""
    if cut not in _RANKING or keep is None or not 0 < count_of(keep, len(values)) < len(values):
        return
    if values.min() == values.max():
        raise InputError(
            f"select: {name} is {values[0]:g} for all {len(values):,} pairs, so it has no spread and cannot rank them; "
            "take another metric, or `random`"
        )
