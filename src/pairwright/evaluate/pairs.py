"""Held-out pairs: how often a model prefers the answer that the pair says is better."""

from typing import Any

import numpy as np
import polars as pl

from pairwright.errors import InputError
from pairwright.evaluate.result import Metric, Result, as_json
from pairwright.plug import nearest
from pairwright.preferences import Preferences
from pairwright.stats import Interval, grouped_bootstrap, wilson

SAYS = {
    "positive": "asked for the score of the better answer, prefers it",
    "negative": "asked for the score of the worse answer, prefers that",
    "conditioned": "asked for the score of one answer, prefers that",
    "unconditioned": "asked for no score, prefers the better answer",
}
"""The parts of an evaluation by copy: what it is to be right."""


def pairs(
    prefs: Preferences,
    *,
    policy: str,
    reference: str | None = None,
    split: str | None = "test",
    beta: float = 1.0,
    seed: int = 0,
) -> Result:
    """How often a model prefers the chosen side of held-out pairs, for each copy of relabelled pairs.

    The numbers are columns: `logprobs` writes them. With a reference a side's number is its implicit reward
    `beta * (logp_policy - logp_reference)`, without one it is `logp_policy`, which favours short answers. A pair is
    right when the chosen side's number is greater; equal numbers are wrong, as in TRL, and are counted.

    A relabelled pair is judged under its goal by the columns of `pairs`, and without a goal by those of `responses`:
    run `logprobs` once before and once after `relabel` to have both.

    Source: arXiv 2410.08067 (the copies); arXiv 2305.18290, section 4 (implicit reward).

    Args:
        prefs: pairs with log-probabilities.
        policy: name of the model's columns: `logp_<policy>`.
        reference: name of the reference's columns; None compares log-probabilities.
        split: of the pairs; None takes all.
        beta: of the implicit reward; scales the margins, and no accuracy.
        seed: of the bootstrap over prompts behind the margins' intervals.

    Returns:
        `accuracy/<copy>` with Wilson intervals over pairs and `margin/<copy>` (the chosen side's number minus the
        rejected side's), and where both copies of pairs are there `steering`: how far the goal moves the margin.

    Raises:
        InputError: there are no such pairs or columns, a number is NaN, or no pair has all of its numbers.
    """
    names = [f"logp_{name}" for name in (policy, reference) if name is not None]
    mine = Preferences.of(prefs.prompts, prefs.responses, _of_split(prefs, split), prefs.lineage)
    parts, notes = _parts(mine, names)
    numbers = {name: _numbers(frame, names, beta if reference else 1.0) for name, frame in parts.items()}
    if all(frame.is_empty() for frame in numbers.values()):
        raise InputError(f"evaluate pairs: no pair has {' and '.join(names)} on both sides; run logprobs on them first")
    metrics, margins, table = [], [], []
    kind = "implicit reward" if reference else "log-probability"
    for name, frame in numbers.items():
        if left := len(parts[name]) - len(frame):
            notes.append(f"{name}: {left:,} pairs have a side without a log-probability and are left out.")
        if frame.is_empty():
            continue
        margin = frame["margin"].to_numpy()
        right, ties = int((margin > 0).sum()), int((margin == 0).sum())
        share = wilson(right, len(frame))
        mean = _mean(frame, seed)
        metrics.append(Metric.of(f"accuracy/{name}", share, f"share of pairs: {SAYS[name]} (by {kind})"))
        margins.append(Metric.of(f"margin/{name}", mean, f"mean {kind} of chosen minus rejected; n are prompts"))
        table.append(
            {"copy": name, "n": len(frame), "right": right, "ties": ties}
            | {f"accuracy_{end}": number for end, number in as_json(share).items()}
            | {f"margin_{end}": number for end, number in as_json(mean).items()}
        )
    if steering := _steering(numbers, seed):
        margins += steering
    settings = {"policy": policy, "reference": reference, "split": split, "beta": beta, "by": kind, "seed": seed}
    rows = sum(len(frame) for frame in numbers.values())
    return Result(
        name="pairs", n=rows, settings=settings, metrics=(*metrics, *margins), table=tuple(table), notes=tuple(notes)
    )


def _of_split(prefs: Preferences, split: str | None) -> pl.LazyFrame:
    chosen = prefs.pairs if split is None else prefs.pairs.filter(pl.col("split") == split)
    if chosen.select(pl.len()).collect().item() == 0:
        there = prefs.pairs.select(pl.col("split").unique().sort().drop_nulls()).collect()["split"].to_list()
        known = f"they are in {', '.join(there)}" if there else "there are none"
        raise InputError(f"evaluate pairs: no pairs are in split {split!r} ({known}); run split first, or set split")
    return chosen


def _parts(prefs: Preferences, names: list[str]) -> tuple[dict[str, pl.DataFrame], list[str]]:
    """The pairs of each copy with both sides' columns, `<name>_chosen` and `<name>_rejected`."""
    schema = prefs.pairs.collect_schema()
    answers = prefs.responses.collect_schema().names()
    on_pairs = all(f"{name}_{side}" in schema for name in names for side in ("chosen", "rejected"))
    on_answers = all(name in answers for name in names)
    asked = pl.col("goal").is_not_null()
    has_goals = prefs.has_goals
    if not on_pairs and not on_answers:
        _complain(prefs, names)
    copy = pl.col("copy") if "copy" in schema else pl.lit(None, dtype=pl.String)
    part = pl.when(~asked).then(pl.lit("unconditioned")).otherwise(copy.fill_null("conditioned"))
    parts: dict[str, pl.DataFrame] = {}
    notes = []
    if on_pairs or not has_goals:
        frame = prefs.view(*names).with_columns(part=part).collect()
        for name in SAYS:
            of_copy = frame.filter(pl.col("part") == name)
            if len(of_copy):
                parts[name] = of_copy
    if has_goals and "unconditioned" not in parts:
        if on_answers:
            parts["unconditioned"] = _without_goals(prefs, names)
        else:
            notes.append(
                f"There is no accuracy without a goal: responses have no {' and '.join(names)}; run logprobs "
                "before relabel too."
            )
    if has_goals and not on_pairs:
        notes.append(f"There is no accuracy under goals: pairs have no {names[0]}_chosen; run logprobs after relabel.")
    return parts, notes


def _without_goals(prefs: Preferences, names: list[str]) -> pl.DataFrame:
    """Each pair once, as it was before relabelling, with the columns of its answers."""
    schema = prefs.pairs.collect_schema().names()
    rows = prefs.pairs.drop([f"{name}_{side}" for name in names for side in ("chosen", "rejected")], strict=False)
    if "copy" in schema:
        # The negative copy has its sides exchanged; where only that one was kept, it is turned round again.
        turned = pl.col("copy") == "negative"
        chosen, rejected = pl.col("chosen_id"), pl.col("rejected_id")
        rows = rows.with_columns(
            chosen_id=pl.when(turned).then(rejected).otherwise(chosen),
            rejected_id=pl.when(turned).then(chosen).otherwise(rejected),
        )
    key = ["source_pair"] if "source_pair" in schema else ["prompt_id", "chosen_id", "rejected_id"]
    once = rows.unique(key, keep="first", maintain_order=True)
    return Preferences.of(prefs.prompts, prefs.responses, once).view(*names).collect()


def _complain(prefs: Preferences, names: list[str]) -> None:
    there = sorted(
        {name for name in prefs.responses.collect_schema().names() if name.startswith("logp_")}
        | {
            name.removesuffix("_chosen")
            for name in prefs.pairs.collect_schema().names()
            if name.startswith("logp_") and name.endswith("_chosen")
        }
    )
    known = [name.removeprefix("logp_") for name in there]
    missing = [name for name in names if name not in there] or names
    hint = nearest(missing[0].removeprefix("logp_"), known) or (f"; there are {', '.join(known)}" if known else "")
    raise InputError(f"evaluate pairs: there is no column {' and '.join(missing)}{hint}; run logprobs first")


def _numbers(frame: pl.DataFrame, names: list[str], beta: float) -> pl.DataFrame:
    """`prompt_id`, `margin` (and `source_pair`) of the pairs whose four or two numbers are all there."""
    columns = [f"{name}_{side}" for name in names for side in ("chosen", "rejected")]
    frame = frame.with_columns(pl.col(columns).cast(pl.Float64))  # a column of nulls alone has no type
    for column in columns:
        if bad := frame.filter(~pl.col(column).is_finite()).height:
            raise InputError(f"evaluate pairs: {bad:,} values of {column} are not finite; run logprobs again")
    side = {
        side: pl.col(f"{names[0]}_{side}") - (pl.col(f"{names[1]}_{side}") if len(names) > 1 else 0.0)
        for side in ("chosen", "rejected")
    }
    keep = [name for name in ("prompt_id", "source_pair") if name in frame.columns]
    return frame.drop_nulls(columns).select(*keep, margin=beta * (side["chosen"] - side["rejected"]))


def _mean(frame: pl.DataFrame, seed: int) -> Interval:
    margin = frame["margin"].to_numpy()
    return grouped_bootstrap(lambda rows: [_average(margin[rows])], frame["prompt_id"].to_list(), seed=seed)[0]


def _average(values: Any) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _steering(parts: dict[str, pl.DataFrame], seed: int) -> list[Metric]:
    """How far asking for the better answer's score, instead of the worse one's, moves the margin between the two.

    The negative copy has its sides exchanged, so the movement is the sum of the two copies' margins.
    """
    if (
        not {"positive", "negative"} <= {name for name, frame in parts.items() if len(frame)}
        or "source_pair" not in parts["positive"].columns
    ):
        return []
    both = parts["positive"].join(
        parts["negative"], on=["prompt_id", "source_pair"], how="inner", maintain_order="left"
    )
    moved = both.with_columns(margin=pl.col("margin") + pl.col("margin_right"))
    right = both.filter((pl.col("margin") > 0) & (pl.col("margin_right") > 0)).height
    return [
        Metric.of("accuracy/both", wilson(right, len(both)), "share of pairs that are right under both goals"),
        Metric.of("steering", _mean(moved, seed), "mean movement of the margin when the goal changes sides; 0 is none"),
    ]
