"""Accuracy on labelled pairs: how often a score puts the chosen answer above the rejected one.

For any pairs with labels; RM-Bench's matrix of styles and JudgeBench's verdict of both orders where the data have them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from pairwright.errors import InputError
from pairwright.evaluate.agreement import OTHER_ORDER, score_columns, verdicts
from pairwright.evaluate.result import Metric, Result, as_json
from pairwright.evaluate.scored_by import Numbers, Reading, ReferenceFree, by_model, by_scorer
from pairwright.logprobs.models import Dtype
from pairwright.plug import nearest
from pairwright.preferences import Preferences
from pairwright.stats import Interval, grouped_bootstrap, wilson

Floats = NDArray[np.float64]
STYLES = ("concise", "detailed", "markdown")
"""The styles of RM-Bench's answers, from plain to fancy."""
_BANDS = {
    "hard": (np.triu(np.ones((3, 3), dtype=np.bool_), 1), "the right answer in a plainer style than the wrong one"),
    "normal": (np.eye(3, dtype=np.bool_), "both in the same style"),
    "easy": (np.tril(np.ones((3, 3), dtype=np.bool_), -1), "the right answer in a fancier style than the wrong one"),
}
_RIGHT = "share of pairs where the chosen answer scores strictly higher; equal scores are wrong"
_ORDERS = {
    "swapped": "the same, by the scores of the other order of the two answers",
    "both": "share of pairs that are right in both orders",
    "net": "share of pairs that are right in more orders than they are wrong in (JudgeBench's accuracy)",
}


def accuracy(
    prefs: Preferences,
    *,
    scores: Sequence[str] | None = None,
    scorer: str | Mapping[str, Any] | None = None,
    model: str | None = None,
    reference: str | None = None,
    reference_free: ReferenceFree = "mean",
    by: str | None = None,
    split: str | None = None,
    tokenizer: str | None = None,
    max_length: int | None = None,
    batch_tokens: Annotated[int, Field(gt=0)] = 8192,
    dtype: Dtype = "float32",
    draws: Annotated[int, Field(gt=0)] = 2000,
    seed: int = 0,
) -> Result:
    """How often scores, a scorer, or the implicit rewards of a model order labelled pairs as their label does.

    A pair is right where the chosen answer scores strictly higher; equal scores are wrong, and counted. A pair with a
    side without a score is wrong in no sense: it is left out, and counted. Pairs that ask for a score (a goal) have no
    label of this kind and are left out.

    RM-Bench: of data in its format there is also the matrix of styles (concise, detailed, markdown), the right answer's
    in rows and the wrong one's in columns, and `easy`, `normal`, `hard`: below, on and above its diagonal.

    JudgeBench: where a column has the scores of the other order too (`score_x_swapped`), `accuracy_both` counts the
    pairs that are right in both, and `accuracy_net` those that are right in more orders than wrong, out of all pairs
    that are known in both.

    Intervals are at 95%: Wilson's where every prompt has one pair, else percentiles of a bootstrap over prompts, since
    the pairs of a prompt share answers.

    Args:
        prefs: labelled pairs.
        scores: score columns; all when none is given and neither `scorer` nor `model`.
        scorer: scores the answers now: a name of `pairwright list scorers`, or a mapping with its name under `with` and
            its settings beside it.
        model: an aligned model, whose implicit rewards are the scores.
        reference: what it was trained from. With it the numbers without a reference are given too.
        reference_free: without a reference, log-probability per token (`mean`) or summed (`sum`).
        by: a column of pairs or prompts, such as `domain` or `source`: the accuracy for each of its values, and their
            unweighted mean (`average`).
        split: of the pairs; None takes all.
        tokenizer: of model and reference; the model's own when not given.
        max_length: tokens of prompt and answer; None is as many as the models can read, at most 8192.
        batch_tokens: tokens of a batch of the models.
        dtype: precision of their weights.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        `accuracy`, or `accuracy/<column>` where there are several columns, and likewise `easy`, `normal`, `hard`,
        `average`, `accuracy_swapped`, `accuracy_both`, `accuracy_net`, and `<by>=<value>`. The table has the counts,
        and the cells of the matrix.

    Raises:
        InputError: there are no labelled pairs, no such column, no scores, or no pair with scores on both sides.

    Source: THU-KEG/RM-Bench, README (the matrix); ScalerLab/JudgeBench, utils/metrics.py (both orders).
    """
    asked = {"scores": scores, "scorer": scorer, "model": model}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) > 1:
        raise InputError(f"evaluate accuracy: give one of scores, scorer and model, not {' and '.join(given)}")
    if reference is not None and model is None:
        raise InputError("evaluate accuracy: reference is what model was trained from; give model too")
    pairs = _labelled(prefs, split)
    mine = Preferences.of(prefs.prompts, prefs.responses, pairs, prefs.lineage)
    reading = Reading(tokenizer, max_length, batch_tokens, dtype)
    numbers = _numbers(mine, scores, scorer, model, reference, reference_free, reading)
    # The numbers of the answers, not of the pairs: those may be of another time.
    bare = Preferences.of(numbers.prefs.prompts, numbers.prefs.responses, _bare(pairs), prefs.lineage)
    known = set(bare.responses.collect_schema().names())
    wanted = [
        name for column in numbers.columns.values() for name in (column, f"{column}{OTHER_ORDER}") if name in known
    ]
    view = bare.view(*wanted).collect()
    parts = _values(numbers.prefs, pairs, by) if by is not None else None
    cells, said = _cells(bare, view)
    metrics: list[Metric] = []
    table: list[dict[str, Any]] = []
    notes = [*numbers.notes, *said]
    for name, column in numbers.columns.items():
        ending = "" if len(numbers.columns) == 1 else f"/{name}"
        right = _Right.of(view, column)
        if not len(right.known):
            notes.append(f"No pair has {name} on both sides.")
            continue
        found = [("accuracy", right.share(draws=draws, seed=seed), _RIGHT)]
        table.append({"scores": name, **right.counts(), **as_json(found[0][1])})
        if (swapped := f"{column}{OTHER_ORDER}") in known:
            back = _Right.of(view, swapped)
            found += _orders(right, back, draws=draws, seed=seed)
            notes += _one_order(right, back, name)
        if cells is not None:
            bands, rows = _matrix(right, cells, draws=draws, seed=seed)
            found += bands
            table += [{"scores": name, **row} for row in rows]
        if parts is not None:
            groups, rows = _groups(right, parts, str(by), draws=draws, seed=seed)
            found += groups
            table += [{"scores": name, **row} for row in rows]
        metrics += [Metric.of(f"{title}{ending}", interval, says) for title, interval, says in found]
        notes += right.notes(name)
    if not metrics:
        raise InputError("evaluate accuracy: no pair has scores on both sides; score the answers first")
    settings = {
        "scores": None if scores is None else list(scores),
        "scorer": dict(scorer) if isinstance(scorer, Mapping) else scorer,
        "model": model,
        "reference": reference,
        "reference_free": reference_free,
        "by": by,
        "split": split,
        "tokenizer": tokenizer,
        "max_length": max_length,
        "batch_tokens": batch_tokens,
        "dtype": dtype,
        "draws": draws,
        "seed": seed,
    }
    return Result(
        name="accuracy",
        n=view.height,
        settings=settings,
        metrics=tuple(metrics),
        table=tuple(table),
        notes=tuple(notes),
    )


class _Right(NamedTuple):
    """What a column says of the pairs.

    Attributes:
        sign: of chosen minus rejected, NaN where a side has no score: `[pairs]`.
        known: the pairs with scores on both sides, by number.
        prompt: of each pair.
    """

    sign: Floats
    known: NDArray[np.intp]
    prompt: list[str]

    @classmethod
    def of(cls, view: pl.DataFrame, column: str) -> "_Right":
        sign = verdicts(view, column)
        return cls(sign, np.flatnonzero(~np.isnan(sign)), view["prompt_id"].to_list())

    def share(self, *, draws: int, seed: int, among: NDArray[np.bool_] | None = None) -> Interval:
        """The share of right ones, of those in `among`; `n` is the number of pairs."""
        rows = self.known if among is None else self.known[among[self.known]]
        return _share(self.sign[rows] > 0, [self.prompt[at] for at in rows], draws=draws, seed=seed)

    def counts(self) -> dict[str, int]:
        right, wrong, ties = (int((self.sign == sign).sum()) for sign in (1, -1, 0))
        unknown = len(self.sign) - len(self.known)
        return {"pairs": len(self.sign), "right": right, "wrong": wrong, "ties": ties, "unknown": unknown}

    def notes(self, name: str) -> list[str]:
        """What is left out, and what counts as wrong."""
        counts = self.counts()
        said = {
            "unknown": "{} of {} pairs have no {} on a side and are left out.",
            "ties": "{} of {} pairs have an equal {} on both sides; they are wrong.",
        }
        return [
            text.format(f"{counts[key]:,}", f"{counts['pairs']:,}", name) for key, text in said.items() if counts[key]
        ]


def _share(right: NDArray[np.bool_], prompts: Sequence[str], *, draws: int, seed: int) -> Interval:
    """The share of right ones with Wilson's interval, or over prompts where they repeat; `n` is the number of pairs."""
    if len(set(prompts)) == len(prompts):
        return wilson(int(right.sum()), len(right))
    (found,) = grouped_bootstrap(lambda drawn: [float(right[drawn].mean())], prompts, draws=draws, seed=seed)
    return Interval(found.value, found.low, found.high, len(right))


Found = list[tuple[str, Interval, str]]


def _labelled(prefs: Preferences, split: str | None) -> pl.LazyFrame:
    """The pairs with a label, of a split."""
    pairs = prefs.pairs.filter(pl.col("goal").is_null())
    chosen = pairs if split is None else pairs.filter(pl.col("split") == split)
    if chosen.select(pl.len()).collect().item() == 0:
        there = pairs.select(pl.col("split").unique().sort().drop_nulls()).collect()["split"].to_list()
        known = f"they are in {', '.join(there)}" if there else "there are none without a goal"
        raise InputError(f"evaluate accuracy: no labelled pairs are in split {split!r} ({known}); change split")
    return chosen


def _bare(pairs: pl.LazyFrame) -> pl.LazyFrame:
    return pairs.select("prompt_id", "chosen_id", "rejected_id")


def _numbers(
    prefs: Preferences,
    scores: Sequence[str] | None,
    scorer: str | Mapping[str, Any] | None,
    model: str | None,
    reference: str | None,
    reference_free: ReferenceFree,
    reading: Reading,
) -> Numbers:
    """The columns to measure, by the name that each has in the result."""
    if scorer is not None:
        return by_scorer(prefs, scorer)
    if model is not None:
        return by_model(prefs, model, reference=reference, reference_free=reference_free, reading=reading)
    columns = score_columns(prefs, scores, what="evaluate accuracy")
    return Numbers(prefs, {name: name for name in columns}, ())


def _orders(ahead: _Right, back: _Right, *, draws: int, seed: int) -> Found:
    """What the two orders of the answers say, each and together, as agreement says it."""
    both = np.intersect1d(ahead.known, back.known)
    prompts = [ahead.prompt[at] for at in both]
    one, two = ahead.sign[both], back.sign[both]
    shares = {
        "swapped": back.share(draws=draws, seed=seed),
        "both": _share((one > 0) & (two > 0), prompts, draws=draws, seed=seed),
        # A sign of 0 is a tie: one right order and a tie are right on balance.
        "net": _share(one + two > 0, prompts, draws=draws, seed=seed),
    }
    return [(f"accuracy_{name}", share, _ORDERS[name]) for name, share in shares.items()]


def _one_order(ahead: _Right, back: _Right, name: str) -> list[str]:
    alone = len(np.setxor1d(ahead.known, back.known))
    return [
        f"{alone:,} of {len(ahead.sign):,} pairs have {name} in one order alone; they are not in accuracy_both and "
        "accuracy_net."
    ] * bool(alone)


def _cells(prefs: Preferences, view: pl.DataFrame) -> tuple[NDArray[np.intp] | None, list[str]]:
    """The cell of RM-Bench's matrix that each pair is, `3 * style of chosen + style of rejected`; None for other data.

    The format writes nine pairs in order for each of its rows. Where pairs were left out or moved since, the pairs do
    not lie in such nines any more, and there is no matrix, which the notes say.
    """
    if not any(step.name == "read" and step.settings.get("format") == "rm_bench" for step in prefs.lineage):
        return None, []
    none = (
        "There is no matrix of styles, no easy, normal and hard: the pairs of RM-Bench do not lie in nines any more, "
        "as some were left out or moved; evaluate them as they were read."
    )
    if not view.height or view.height % 9:
        return None, [none]
    chosen, rejected = (view[f"{side}_id"].to_numpy().reshape(-1, 3, 3) for side in ("chosen", "rejected"))
    # Three right answers against the same three wrong ones are of one prompt, as the sides of every pair are.
    in_nines = (chosen == chosen[:, :, :1]).all() and (rejected == rejected[:, :1, :]).all()
    return (np.tile(np.arange(9), view.height // 9), []) if in_nines else (None, [none])


def _matrix(right: _Right, cells: NDArray[np.intp], *, draws: int, seed: int) -> tuple[Found, list[dict[str, Any]]]:
    """Easy, normal and hard, and the cells."""
    found: Found = []
    for name, (cells_of, says) in _BANDS.items():
        among = cells_of.reshape(-1)[cells]
        found.append((name, right.share(draws=draws, seed=seed, among=among), f"{_RIGHT}: {says}"))
    rows = []
    for cell in range(9):
        signs = right.sign[(cells == cell) & ~np.isnan(right.sign)]
        share = float((signs > 0).mean()) if len(signs) else None
        rows.append({"chosen": STYLES[cell // 3], "rejected": STYLES[cell % 3], "value": share, "n": len(signs)})
    return found, rows


def _values(prefs: Preferences, pairs: pl.LazyFrame, by: str) -> list[str]:
    """The value of a column for each pair, which the pair has or its prompt."""
    of_pairs, of_prompts = pairs.collect_schema().names(), prefs.prompts.collect_schema().names()
    if by in of_pairs:
        column = pairs.select(pl.col(by)).collect().to_series()
    elif by in of_prompts:
        joined = pairs.select("prompt_id").join(
            prefs.prompts.select("prompt_id", value=by), on="prompt_id", how="left", maintain_order="left"
        )
        column = joined.collect()["value"]
    else:
        names = [*of_pairs, *of_prompts]
        hint = nearest(by, names) or f"; there are {', '.join(dict.fromkeys(names))}"
        raise InputError(f"evaluate accuracy: neither pairs nor prompts have a column {by!r}{hint}")
    if column.dtype.is_nested():
        raise InputError(f"evaluate accuracy: {by} holds lists, which are no groups; give a column of words or numbers")
    return ["none" if value is None else str(value) for value in column.to_list()]


def _groups(
    right: _Right, parts: Sequence[str], by: str, *, draws: int, seed: int
) -> tuple[Found, list[dict[str, Any]]]:
    """The accuracy of each group, and their unweighted mean."""
    names = sorted({parts[at] for at in right.known})
    numbers = np.array([names.index(part) if part in names else -1 for part in parts])
    found: Found = []
    rows = []
    for number, name in enumerate(names):
        share = right.share(draws=draws, seed=seed, among=numbers == number)
        found.append((f"{by}={name}", share, f"{_RIGHT}, of these"))
        rows.append({by: name, **as_json(share), "n": share.n})
    of_known, is_right = numbers[right.known], right.sign[right.known] > 0

    def mean(drawn: NDArray[np.intp]) -> list[float]:
        sizes = np.bincount(of_known[drawn], minlength=len(names))
        hits = np.bincount(of_known[drawn], weights=is_right[drawn], minlength=len(names))
        return [float((hits / sizes).mean())] if sizes.all() else [math.nan]

    prompts = [right.prompt[at] for at in right.known]
    (average,) = grouped_bootstrap(mean, prompts, draws=draws, seed=seed)
    fewest = min(len({prompts[at] for at in np.flatnonzero(of_known == number)}) for number in range(len(names)))
    if fewest < 2:  # a group of one prompt is the same in every draw
        average = Interval(average.value, math.nan, math.nan, average.n)
    says = f"unweighted mean of the accuracies by {by}; n are prompts"
    return [("average", average, says), *found], rows
