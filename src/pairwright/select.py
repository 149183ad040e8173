"""Select pairs: a metric says how soon, a cut says how many."""

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import polars as pl
from pydantic import Field

from pairwright.cuts import CUTS, Mask, Values, count_of
from pairwright.errors import InputError
from pairwright.logprobs.columns import label_of, logprobs
from pairwright.logprobs.digest import same_model
from pairwright.logprobs.models import Dtype, name_of
from pairwright.metrics.overlap import COMPARED, overlap, overlap_note
from pairwright.metrics.table import METRICS
from pairwright.plug import bind, find, nearest, settings_of
from pairwright.preferences import PAIR_COLUMNS, Preferences, Step

_KEPT = "__pairwright_kept"  # stands beside a user's own columns for a while; no one else uses such names
_RANKING = ("top", "bottom", "band")
_READING = ("name", "reference_name", "tokenizer", "batch_tokens", "max_length", "max_prompt_length", "dtype")
"""Settings that only a model uses."""


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
    model: str | Path | None = None,
    name: str | None = None,
    reference: str | Path | None = None,
    reference_name: str = "ref",
    tokenizer: str | Path | None = None,
    batch_tokens: Annotated[int, Field(gt=0)] = 8192,
    max_length: int | None = None,
    max_prompt_length: int | None = None,
    dtype: Dtype = "float32",
    **metric_settings: Any,
) -> Preferences:
    """Keep the pairs that a metric puts first. Their order stays, and the metric stays as a column of its name.

    A pair of which the metric cannot say anything is never kept (`no_metric`); the others that are not kept are
    `not_selected`. For a metric of a model's margin, the lineage also says how far its choice and those of the score
    gap, of the margin, of the alignment potential and of chance are the same (`metrics.overlap`).

    Args:
        prefs: pairs.
        metric: a name of `METRICS`, or `module:function`.
        keep: share of the pairs with a metric, 0 to 1: floor(keep N) pairs. Every cut but `above` needs it.
        cut: `top`, `bottom`, `band`, `above`, `sample`, or `module:function`.
        only: a split; pairs of other splits pass untouched, are not in z-scores, and no model reads them.
        seed: for a metric or cut that draws.
        weight: for the potentials: how much the model's margin counts.
        threshold: for `above`: keep what is larger.
        model: a `save_pretrained` directory or hub name whose margins the metric takes, as `logprobs` computes them;
            without a reference in SimPO's form (log-probabilities per token), with one in DPO's. The columns stay.
        name: of the model's columns; the last part of `model` when not given.
        reference: with `model`, the model that its margin is measured from; without, NAME of the reference's
            `logp_NAME`.
        reference_name: of the reference model's columns.
        tokenizer: of both models; the model's own when not given.
        batch_tokens: tokens of a padded batch of the models, at most.
        max_length: tokens of prompt and answer; as in `logprobs`.
        max_prompt_length: tokens of the prompt; as in `logprobs`.
        dtype: precision of the models' weights.
        metric_settings: further settings of the metric or, for names that the metric does not have, of the cut.

    Raises:
        InputError: there is no such metric, cut or setting; a column is missing; the margin comes from two places; the
            model is its own reference; or the metric has no spread, so that it cannot rank.
    """
    own = _checked_settings(
        keep=keep,
        cut=cut,
        only=only,
        seed=seed,
        weight=weight,
        threshold=threshold,
        model=model,
        name=name,
        reference=reference,
        reference_name=reference_name,
        tokenizer=tokenizer,
        batch_tokens=batch_tokens,
        max_length=max_length,
        max_prompt_length=max_prompt_length,
        dtype=dtype,
    )
    bound_metric, bound_cut = _plugs(metric, metric_settings, own)
    column = metric.rpartition(":")[2]
    if column in PAIR_COLUMNS:
        raise InputError(f"select: the metric would replace the column {column!r} of the pairs; give it another name")
    within = None if only is None else _in_split(prefs, only)
    if model is not None:
        prefs = _with_logps(prefs, own)

    view = numbers(prefs)
    candidates = view if only is None else view.filter(pl.col("split").eq_missing(pl.lit(only)))
    wanted = {column: bound_metric(candidates)}
    others, notes = _others(metric, bound_metric, candidates, own)
    found = candidates.select(**{key: value.cast(pl.Float64) for key, value in (wanted | others).items()})
    numbers_of = _drained(found.collect(engine="streaming").get_columns())
    values = numbers_of[column]
    inside = np.ones(len(values), np.bool_) if within is None else within

    known = np.isfinite(values)
    _check_spread(values[known], column, cut, own["keep"])
    chosen = bound_cut(values[known])
    if chosen.shape != (int(known.sum()),) or chosen.dtype != np.bool_:
        raise InputError(f"cut {cut!r} must give one true or false for each of the {int(known.sum()):,} values")
    kept, shown = ~inside, np.full(len(inside), np.nan)
    kept[np.flatnonzero(inside)[known]] = chosen
    shown[np.flatnonzero(inside)[known]] = values[known]

    beside = pl.DataFrame({column: pl.Series(shown, nan_to_null=True), _KEPT: kept})
    pairs = pl.concat([prefs.pairs.drop(column, strict=False), beside.lazy()], how="horizontal")
    dropped = {"no_metric": int((~known).sum()), "not_selected": int((~chosen).sum())}
    agreed = _agreed(numbers_of, column, own["keep"]) if others else {}
    step = Step(
        name="select",
        settings={
            "metric": metric,
            "cut": cut,
            "only": only,
            "metric_settings": bound_metric.keywords,
            "cut_settings": bound_cut.keywords,
        },
        rows_in=len(inside),
        rows_out=int(kept.sum()),
        dropped={reason: count for reason, count in dropped.items() if count},
        notes=(*filter(None, [overlap_note(agreed, column)]), *notes),
        found={"overlap": agreed} if agreed else {},
    )
    return prefs.then(step, pairs=pairs.filter(_KEPT).drop(_KEPT))


def _checked_settings(**settings: Any) -> dict[str, Any]:
    """The verb's own settings, converted by their declared types."""
    return cast(partial[Any], bind(select, settings, kind="verb")).keywords


def _plugs(metric: str, settings: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[partial[Any], partial[Any]]:
    """The metric and the cut with their settings, each of which goes to the one that has it; to the metric first."""
    metric_plug, cut_plug = find(METRICS, metric, kind="metric"), find(CUTS, own["cut"], kind="cut")
    of_metric, of_cut = settings_of(metric_plug), settings_of(cut_plug)
    to_cut = {key: value for key, value in settings.items() if key in of_cut and key not in of_metric}
    to_metric = {key: value for key, value in settings.items() if key not in to_cut}
    to_cut |= {key: own[key] for key in ("keep", "threshold") if own[key] is not None}
    to_metric |= {} if own["weight"] is None else {"weight": own["weight"]}
    to_metric |= _place_of_margin(metric, of_metric, to_metric, own)
    seed = {"seed": own["seed"]}
    return (
        cast(partial[Any], bind(metric_plug, to_metric | (seed if "seed" in of_metric else {}), kind="metric")),
        cast(partial[Any], bind(cut_plug, to_cut | (seed if "seed" in of_cut else {}), kind="cut")),
    )


def _place_of_margin(
    metric: str, of_metric: Collection[str], settings: Mapping[str, Any], own: Mapping[str, Any]
) -> dict[str, Any]:
    """Which columns the metric takes the margin from, where a model or a reference is given.

    Raises:
        InputError: the metric takes none, they come from somewhere else too, or there is no model for its settings.
    """
    model, reference = own["model"], own["reference"]
    if model is None:
        defaults = settings_of(select)
        unused = [key for key in _READING if own[key] != defaults[key].default]
        if unused:
            raise InputError(f"select: {unused[0]} is about a model, and none is given; add model, or leave it out")
        return {} if reference is None else {"reference": str(reference)}
    if "policy" not in of_metric:
        raise InputError(
            f"select: {metric} does not look at a model's margin, so model {str(model)!r} would not be used; leave it "
            "out, or take alignment_potential, implicit_margin or signed_potential"
        )
    for place in ("policy", "margin"):
        if settings.get(place) is not None:
            raise InputError(
                f"select: model {str(model)!r} and {place} {settings[place]!r} both say where the margin comes from; "
                "leave one out"
            )
    columns = {"policy": label_of(own["name"] or name_of(model))}
    return columns if reference is None else columns | {"reference": label_of(own["reference_name"])}


def _with_logps(prefs: Preferences, own: Mapping[str, Any]) -> Preferences:
    """The log-probabilities of the model, and of its reference, as columns."""
    model, reference = own["model"], own["reference"]
    if reference is not None and same_model(model, reference):
        raise InputError(
            f"select: the model {str(model)!r} is its own reference {str(reference)!r}, so every margin of DPO's form, "
            "beta times a difference of log(pi/ref), is zero and says nothing; leave the reference out (SimPO's form), "
            "or take a model that was trained"
        )
    return logprobs(prefs, model=model, reference=reference, only=own["only"], **{key: own[key] for key in _READING})


def _others(
    metric: str, bound: partial[Any], candidates: pl.LazyFrame, own: Mapping[str, Any]
) -> tuple[dict[str, pl.Expr], list[str]]:
    """The metrics that a choice by a model's margin is compared with, and why one of them cannot be."""
    if metric not in METRICS or "policy" not in bound.keywords or own["cut"] != "top" or not 0 < own["keep"] < 1:
        return {}, []
    found, notes = {}, []
    for name in COMPARED:
        plug = METRICS[name]
        settings = {"seed": own["seed"], **bound.keywords}
        if name != metric:
            try:
                found[name] = plug(candidates, **{key: settings[key] for key in settings_of(plug) if key in settings})
            except InputError as error:
                notes.append(f"{name} is not compared: {error}.")
    return found, notes


def _agreed(numbers_of: Mapping[str, Values], column: str, keep: float) -> dict[str, Any]:
    """The overlap of the metrics, the paper's four first."""
    order = dict.fromkeys([*COMPARED, column])
    return overlap({name: numbers_of[name] for name in order if name in numbers_of}, keep=keep)


def _drained(columns: list[pl.Series]) -> dict[str, Values]:
    """Columns as numpy arrays, null as NaN; each is let go when it is copied, so that none is there twice for long."""
    columns.reverse()
    arrays = {}
    while columns:
        column = columns.pop()
        arrays[column.name] = column.to_numpy()
    return arrays


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
    sides = ("chosen", "rejected")
    if form.asks != "scores":  # an answer has no distance from a class or from weights of its scores
        return view.with_columns(pl.lit(None, dtype=pl.List(pl.Float64)).alias(f"scores_{side}") for side in sides)
    return view.with_columns(
        pl.concat_list([f"score_{name}_{side}" for name in form.attributes]).alias(f"scores_{side}") for side in sides
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
