"""Do several scorers say the same of the same answers, and do they agree with the labels?"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Annotated, Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from pairwright.errors import InputError
from pairwright.evaluate.concordance import kendall, tau
from pairwright.evaluate.result import Metric, Result, as_json
from pairwright.plug import nearest
from pairwright.preferences import Preferences
from pairwright.stats import Interval, grouped_bootstrap, wilson

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
OTHER_ORDER = "_swapped"
"""`score_x_swapped` is what `score_x` said when the two answers stood in the other order."""
_SAYS = {
    "kendall": "Kendall's tau-b over all answers",
    "kendall_within": "Kendall's tau-b over every two answers to one prompt",
    "spearman": "rank correlation over all answers",
    "pearson": "linear correlation over all answers",
    "flip": "share of two answers to one prompt, told apart by both, that the two order against each other",
}


class _Sorted(NamedTuple):
    """What ranks under weights need of one column: the rows in order, and where each value begins in it."""

    order: Rows
    begins: Rows
    value: Rows


class _Both(NamedTuple):
    """Two columns over the answers that have both."""

    names: tuple[str, str]
    x: Floats
    y: Floats
    prompt: Rows
    """The number of each answer's prompt."""
    ranked: tuple[_Sorted, _Sorted]
    moments: Floats
    """`[prompts, 6]`: answers, and sums of x, y, xx, yy, xy; x and y less their means."""
    pairs: Floats
    """`[prompts, 5]`: two answers ordered alike, against each other, tied by the first alone, the second, both."""


def agreement(
    prefs: Preferences,
    *,
    scores: Sequence[str] | None = None,
    draws: Annotated[int, Field(gt=0)] = 1000,
    seed: int = 0,
) -> Result:
    """How far several score columns agree with each other, and each of them with the pairs.

    An answer counts for two columns where both have a finite score. Correlations over all answers ask for scores that
    mean the same at every prompt; `kendall_within` and `flip` compare answers to one prompt only, as pairs do.

    Against the labels a column is right where the chosen side's score is greater; equal scores are wrong, and counted.
    Pairs that ask for a score have no such label. Where the source scored each pair in both orders
    (`score_x_swapped`), `accuracy_both` is the share of pairs that are right in both.

    Intervals are at 95%: of accuracies Wilson's over pairs, of `kendall` by the jackknife over prompts, of all others
    percentiles of a bootstrap over prompts, since answers to one prompt are alike.

    Args:
        prefs: answers with score columns.
        scores: the columns to compare, in this order; all of them when not given.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        For every two columns `kendall/A ~ B`, `kendall_within/A ~ B`, `spearman/A ~ B`, `pearson/A ~ B` and `flip/A ~
        B`; for each column, where there are pairs, `accuracy/A`. The table has the counts behind them, ties among them.

    Raises:
        InputError: a column is not there, or there is nothing to compare.

    Source: Kendall (1945), Biometrika 33:239-251.
    """
    columns = score_columns(prefs, scores, what="evaluate agreement")
    frame = prefs.responses.select("prompt_id", *(pl.col(name).cast(pl.Float64) for name in columns)).collect()
    notes = [
        f"{missing:,} of {frame.height:,} answers have no finite {name}."
        for name in columns
        if (missing := frame.height - int(frame[name].is_finite().sum()))
    ]
    numbered = frame["prompt_id"].rank("dense").cast(pl.Int64).to_numpy() - 1
    num_prompts = int(numbered.max()) + 1 if frame.height else 0
    both = [_both(frame, numbered, num_prompts, names) for names in combinations(columns, 2)]
    metrics, table = _between(both, num_prompts, draws=draws, seed=seed)
    labelled, rows, more = _against_labels(prefs, columns)
    if not metrics and not labelled:
        raise InputError(
            f"evaluate agreement: {columns[0]} is the only score column and no pair has a label, so there is nothing "
            "to compare; score the answers with another scorer too"
        )
    settings = {"scores": columns, "draws": draws, "seed": seed}
    return Result(
        name="agreement",
        n=frame.height,
        settings=settings,
        metrics=(*labelled, *metrics),
        table=(*rows, *table),
        notes=(*notes, *more),
    )


def by_columns(result: Result) -> str:
    """The tables of a result of `agreement` as text: a line for each column against the labels, and for every two."""
    labels = [row for row in result.table if "column" in row]
    two = [row for row in result.table if "first" in row]
    head = ("column", "accuracy", "right", "wrong", "ties", "unknown", "right in both orders")
    counts = ("right", "wrong", "ties", "unknown")
    parts: list[list[Sequence[str]]] = []
    if labels:
        parts.append([head])
        for row in labels:
            numbers = [f"{row[name]:,}" for name in counts]
            both = f"{row['right_in_both_orders']:,}" if "right_in_both_orders" in row else "-"
            parts[-1].append((row["column"], _cell(row, "accuracy"), *numbers, both))
    if two:
        parts.append([("first", "second", *_SAYS, "same", "flipped", "ties", "answers")])
        for row in two:
            ties = sum(row[f"tied_{side}"] for side in ("first", "second", "both"))
            numbers = [f"{count:,}" for count in (row["same"], row["flipped"], ties, row["answers"])]
            parts[-1].append((row["first"], row["second"], *(_cell(row, name) for name in _SAYS), *numbers))
    said = "intervals are 95%; ties are wrong, and no flips"
    return "\n\n".join([*map(_aligned, parts), "\n".join([said, *result.notes])])


def _cell(row: dict[str, Any], name: str) -> str:
    value, low, high = (row[f"{name}_{end}"] for end in ("value", "low", "high"))
    if value is None:
        return "-"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def score_columns(prefs: Preferences, wanted: Sequence[str] | None, *, what: str) -> list[str]:
    """The score columns to compare: those that are wanted, or all that have a finite score.

    Args:
        prefs: the answers.
        wanted: names of columns; None is all but those of the other order.
        what: who asks, for messages.

    Raises:
        InputError: a column is not there, or there is none.
    """
    schema = prefs.responses.collect_schema()
    known = [name for name, kind in schema.items() if kind.is_float() and name.split("_")[0] == "score"]
    if wanted is not None:
        for name in wanted:
            if name not in schema or not schema[name].is_numeric():
                hint = nearest(name, known) or f"; there are {', '.join(known)}"
                raise InputError(f"{what}: responses have no column of numbers {name!r}{hint}")
        found = list(dict.fromkeys(wanted))
    else:
        counts = prefs.responses.select(pl.col(name).is_finite().sum() for name in known).collect().row(0, named=True)
        found = [name for name in known if counts[name] and not _is_other_order(name, known)]
    if not found:
        raise InputError(f"{what}: no answer has a score; run score first")
    return found


def _is_other_order(name: str, known: Sequence[str]) -> bool:
    return name.endswith(OTHER_ORDER) and name.removesuffix(OTHER_ORDER) in known


def _both(frame: pl.DataFrame, numbered: NDArray[np.int64], num_prompts: int, names: tuple[str, str]) -> _Both:
    finite = frame.select(pl.all_horizontal(pl.col(name).is_finite().fill_null(False) for name in names)).to_series()
    keep = finite.to_numpy()
    x, y = (frame[name].filter(finite).to_numpy() for name in names)
    prompt = numbered[keep]
    dx, dy = (one - one.mean() if len(one) else one for one in (x, y))
    moments = [_by(prompt, num_prompts, part) for part in (np.ones(len(x)), dx, dy, dx * dx, dy * dy, dx * dy)]
    first, second = _two_of_a_prompt(prompt)
    sx, sy = (np.sign(one[first] - one[second]) for one in (x, y))
    kinds = (sx * sy > 0, sx * sy < 0, (sx == 0) & (sy != 0), (sx != 0) & (sy == 0), (sx == 0) & (sy == 0))
    pairs = [_by(prompt[first], num_prompts, kind.astype(np.float64)) for kind in kinds]
    return _Both(names, x, y, prompt, (_sorted(x), _sorted(y)), np.stack(moments, axis=1), np.stack(pairs, axis=1))


def _by(prompt: Rows, num_prompts: int, values: Floats) -> Floats:
    """The sum of values for each prompt."""
    return np.bincount(prompt, weights=values, minlength=num_prompts).astype(np.float64)


def _two_of_a_prompt(prompt: Rows) -> tuple[Rows, Rows]:
    """The rows of every two answers to one prompt."""
    rows = pl.LazyFrame({"prompt": prompt}).with_row_index("row")
    met = rows.join(rows, on="prompt", how="inner").filter(pl.col("row") < pl.col("row_right")).collect()
    return met["row"].to_numpy().astype(np.intp), met["row_right"].to_numpy().astype(np.intp)


def _between(
    both: Sequence[_Both], num_prompts: int, *, draws: int, seed: int
) -> tuple[list[Metric], list[dict[str, Any]]]:
    """The measures of every two columns, and the counts behind them."""
    if not both:
        return [], []
    drawn = grouped_bootstrap(
        lambda rows: [number for one in both for number in _numbers(one, rows, num_prompts)],
        range(num_prompts),
        draws=draws,
        seed=seed,
    )
    metrics: list[Metric] = []
    table: list[dict[str, Any]] = []
    for place, one in enumerate(both):
        num_both = int((one.moments[:, 0] > 0).sum())
        within, ranks, linear, flip = (
            Interval(found.value, found.low, found.high, num_both) for found in drawn[4 * place : 4 * place + 4]
        )
        over_all = kendall(one.x, one.y, np.unique(one.prompt, return_inverse=True)[1].astype(np.int64))
        found = {"kendall": over_all, "kendall_within": within, "spearman": ranks, "pearson": linear, "flip": flip}
        title = " ~ ".join(one.names)
        metrics += [
            Metric.of(f"{name}/{title}", value, f"{_SAYS[name]}; n are prompts") for name, value in found.items()
        ]
        alike, against, first, second, neither = (int(count) for count in one.pairs.sum(axis=0))
        table.append(
            {"first": one.names[0], "second": one.names[1], "answers": len(one.x), "prompts": num_both}
            | {"same": alike, "flipped": against}
            | {"tied_first": first, "tied_second": second, "tied_both": neither}
            | {f"{name}_{end}": number for name, value in found.items() for end, number in as_json(value).items()}
        )
    return metrics, table


def _numbers(one: _Both, rows: Rows, num_prompts: int) -> list[float]:
    """tau-b within prompts, Spearman, Pearson and the flip rate, where prompts count as often as they were drawn."""
    weight = np.bincount(rows, minlength=num_prompts).astype(np.float64)
    alike, against, first, second, _ = weight @ one.pairs
    decided = alike + against
    ranks = _weighted_spearman(one, weight[one.prompt])
    return [
        tau(alike - against, decided + second, decided + first),
        ranks,
        _correlation(*(weight @ one.moments)),
        against / decided if decided else math.nan,
    ]


def _sorted(values: Floats) -> _Sorted:
    order = np.argsort(values, kind="stable")
    _, begins, value = np.unique(values[order], return_index=True, return_inverse=True)
    return _Sorted(order, begins, value)


def _weighted_spearman(one: _Both, weight: Floats) -> float:
    """The rank correlation of a sample that holds each row `weight` times; equal values share their mean rank."""
    if not len(weight):
        return math.nan
    ranks = []
    for column in one.ranked:
        sizes = np.add.reduceat(weight[column.order], column.begins)
        middle = np.cumsum(sizes) - (sizes - 1.0) / 2.0
        of_rows = np.empty(len(weight))
        of_rows[column.order] = middle[column.value]
        ranks.append(of_rows)
    total = weight.sum()
    if not total:
        return math.nan
    a, b = (rank - (weight @ rank) / total for rank in ranks)
    return _correlation(total, 0.0, 0.0, weight @ (a * a), weight @ (b * b), weight @ (a * b))


def _correlation(n: float, x: float, y: float, xx: float, yy: float, xy: float) -> float:
    """Pearson's correlation from sums; NaN where a side does not vary, as far as rounding can tell."""
    if n < 2:
        return math.nan
    of_x, of_y = xx - x * x / n, yy - y * y / n
    if of_x <= 1e-12 * xx or of_y <= 1e-12 * yy:
        return math.nan
    return float(max(-1.0, min(1.0, (xy - x * y / n) / math.sqrt(of_x * of_y))))


def _against_labels(prefs: Preferences, columns: Sequence[str]) -> tuple[list[Metric], list[dict[str, Any]], list[str]]:
    """How often each column puts the chosen side of the pairs first."""
    known = prefs.responses.collect_schema().names()
    orders = {name: f"{name}{OTHER_ORDER}" for name in columns if f"{name}{OTHER_ORDER}" in known}
    named = [*columns, *orders.values()]
    # The numbers of the answers, not of the pairs: those may be of another time.
    bare = prefs.pairs.select("prompt_id", "chosen_id", "rejected_id", "goal").filter(pl.col("goal").is_null())
    view = Preferences.of(prefs.prompts, prefs.responses, bare).view(*named).collect()
    if not view.height:
        return [], [], []
    metrics, table = [], []
    for name in columns:
        verdict = verdicts(view, name)
        row, share = _judged(verdict)
        metrics.append(Metric.of(f"accuracy/{name}", share, _right("score of the chosen side is greater")))
        table.append({"column": name, **row, **{f"accuracy_{end}": one for end, one in as_json(share).items()}})
        if name in orders:
            other = verdicts(view, orders[name])
            known_both = ~(np.isnan(verdict) | np.isnan(other))
            right = int(((verdict > 0) & (other > 0)).sum())
            of_both = wilson(right, int(known_both.sum()))
            metrics.append(
                Metric.of(f"accuracy_swapped/{name}", _judged(other)[1], _right("same, with the answers exchanged"))
            )
            metrics.append(Metric.of(f"accuracy_both/{name}", of_both, _right("score is right in both orders")))
            table[-1] |= {
                "right_in_both_orders": right,
                "turned_by_order": int((verdict * other < 0).sum()),
            }
    made = next((step for step in reversed(prefs.lineage) if step.name == "pair"), None)
    by = str(made.settings.get("by", "score")) if made else ""
    notes = [f"The pairs were made of {by}, so its accuracy is 1 by construction."] if by in columns else []
    return metrics, table, notes


def _right(what: str) -> str:
    return f"share of pairs where the {what}; equal scores are wrong; n are pairs"


def verdicts(view: pl.DataFrame, name: str) -> Floats:
    """The sign of chosen minus rejected for each pair; NaN where a side has no finite score."""
    chosen, rejected = (
        view[f"{name}_{side}"].cast(pl.Float64).fill_null(math.nan).to_numpy() for side in ("chosen", "rejected")
    )
    known = np.isfinite(chosen) & np.isfinite(rejected)
    signs = np.full(len(known), math.nan)
    signs[known] = np.sign(chosen[known] - rejected[known])
    return signs


def _judged(verdict: Floats) -> tuple[dict[str, int], Interval]:
    """The counts of verdicts, and the share of right ones among those that are known."""
    right, wrong, ties = (int((verdict == sign).sum()) for sign in (1, -1, 0))
    row = {"pairs": len(verdict), "right": right, "wrong": wrong, "ties": ties}
    row["unknown"] = len(verdict) - right - wrong - ties
    return row, wilson(right, right + wrong + ties)
