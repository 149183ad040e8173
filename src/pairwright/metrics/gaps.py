"""Differences of scores."""

import polars as pl

from pairwright.errors import InputError


def explicit_gap(view: pl.LazyFrame) -> pl.Expr:
    """How much better the chosen side is by its score; under a goal, how much nearer to the goal.

    gap = r(chosen) - r(rejected) without a goal, and |r(rejected) - goal| - |r(chosen) - goal| with one. For a vector
    goal |.| is the Euclidean norm over the attributes, which is the same for one attribute. Score units; negative when
    the label is against the score; null when a side is unscored.

    Raises:
        InputError: the goals are vectors, and nothing says of which scores.

    Source: arXiv 2503.01864, explicit margin M_r; under a goal, arXiv 2410.08067, equation 4.1 (its root).
    """
    plain = _finite("score_chosen") - _finite("score_rejected")
    schema = view.collect_schema()
    if isinstance(schema["goal"], pl.List):
        if "scores_chosen" not in schema:
            raise InputError(
                "explicit_gap: these pairs ask for several scores at once, and a flat file does not say which; "
                "select from the directory that relabel wrote (-o DIR)"
            )
        nearer = _distance("scores_rejected") - _distance("scores_chosen")
    else:
        goal = pl.col("goal")
        nearer = (_finite("score_rejected") - goal).abs() - (_finite("score_chosen") - goal).abs()
    return pl.when(pl.col("goal").is_null()).then(plain).otherwise(nearer)


def _finite(name: str) -> pl.Expr:
    return pl.when(pl.col(name).is_finite()).then(pl.col(name))


def _distance(scores: str) -> pl.Expr:
    """Euclidean distance of a list of scores from the goal; null when any score is unknown."""
    apart = pl.col(scores) - pl.col("goal")
    known = apart.list.eval(pl.element().is_finite().fill_null(False)).list.all()
    return pl.when(known).then(apart.list.eval(pl.element() ** 2).list.sum().sqrt())
