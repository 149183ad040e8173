"""One model's verdicts as numbers, and its length control: which difficulties, which anchors, which weights."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pairwright.errors import InputError
from pairwright.evaluate import length_controlled as lc
from pairwright.evaluate.alpaca_eval import Verdicts
from pairwright.evaluate.length_files import (
    Anchors,
    Difficulties,
    difficulties_of,
    read_anchors,
    read_difficulty,
    read_weights,
)

Floats = NDArray[np.float64]
Match = Literal["position", "id"]
FEWEST = 50
"""Fewer verdicts are not fitted: at 50 of AlpacaEval's prompts length control was 6 points off (root mean square)."""
FEWEST_MODELS = 3
"""Fewer models are no base for difficulties."""
OFFLINE = "LC-offline"


@dataclass(frozen=True, kw_only=True)
class Control:
    """How to control for length: where difficulties and anchors are from, and C or the weights."""

    difficulties: Difficulties
    anchors: lc.Rows
    match: Match
    strength: float | None
    weights: Callable[[str], lc.Weights] | None
    label: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Side:
    """The verdicts on a model as numbers, `[rows]` each, those without a verdict left out."""

    model: str
    prompt: list[str]
    win: Floats
    delta: Floats
    """Characters of the opponent's answer minus those of the model's; NaN where one is not known."""
    difficulty: Floats
    strength: float = math.nan
    weights: lc.Weights | None = None


def published_weights(
    path: Path | None, w_len: float | None, w_diff: float | None, w_bias: float | None
) -> Callable[[str], lc.Weights] | None:
    """What gives a model's published weights."""
    if path is not None:
        if also := given(w_len=w_len, w_diff=w_diff, w_bias=w_bias):
            raise InputError(f"evaluate winrate: give weights or {', '.join(also)}, not both")
        return lambda model: read_weights(path, model)
    if w_diff is None and w_bias is None and w_len is None:
        return None
    if w_diff is None or w_bias is None:
        raise InputError("evaluate winrate: published weights are w_diff and w_bias together; give both")
    found = lc.Weights(math.nan if w_len is None else w_len, w_diff, w_bias)
    return lambda _: found


def control_of(
    verdicts: Verdicts,
    every: Sequence[Verdicts],
    difficulty: Path | None,
    anchors: Path | None,
    match: Match,
    strength: float | None,
    published: Callable[[str], lc.Weights] | None,
) -> Control:
    """Difficulties from the file, else from the anchors, else from the verdicts on several models."""
    read_in = None if anchors is None else read_anchors(anchors)
    found = read_difficulty(difficulty) if difficulty is not None else None if read_in is None else read_in.difficulties
    notes = []
    if found is None and published is not None:
        raise InputError(
            "evaluate winrate: published weights go with the difficulties they were fitted to; give difficulty"
        )
    if found is None:
        found, said = _fitted(verdicts, every)
        return Control(
            difficulties=found,
            anchors=_rows_of(read_in, found, of_file=False),
            match="id",
            strength=strength,
            weights=None,
            label=OFFLINE,
            notes=(said,),
        )
    if match == "position" and len(found.in_order) != len(verdicts.rows):
        notes.append(
            f"There are {len(verdicts.rows):,} rows and {len(found.in_order):,} difficulties, found by position as "
            "AlpacaEval does: rows after a missing one take another prompt's; `match` by id does not."
        )
    if read_in is None and published is None:
        notes.append("Without anchors the fit is not AlpacaEval's: on 15 published models it was up to 14 points off.")
    label = OFFLINE if read_in is None and published is None else ""
    return Control(
        difficulties=found,
        anchors=_rows_of(read_in, found, of_file=True),
        match=match,
        strength=strength,
        weights=published,
        label=label,
        notes=tuple(notes),
    )


def _rows_of(anchors: Anchors | None, found: Difficulties, *, of_file: bool) -> lc.Rows:
    """The rows of the anchors, under their own difficulties where these are the file's."""
    if anchors is None:
        return lc.NO_ANCHORS
    return anchors.rows(anchors.difficulties if of_file and anchors.difficulties is not None else found)


def _fitted(verdicts: Verdicts, every: Sequence[Verdicts]) -> tuple[Difficulties, str]:
    """Difficulties of the prompts from the verdicts on all models."""
    models = {each.model: each for each in every}
    if len(models) < FEWEST_MODELS:
        raise InputError(
            f"{verdicts.source}: without a file of difficulties length control needs verdicts on at least "
            f"{FEWEST_MODELS} models against one opponent, and there are {len(models)}; give others, or difficulty"
        )
    if len(opponents := {each.opponent for each in models.values()}) > 1:
        raise InputError(f"evaluate winrate: the models meet several opponents ({', '.join(sorted(opponents))})")
    numbers: dict[str, int] = {}
    rows = []
    for each in models.values():
        frame = each.rows.drop_nulls(["win", "length", "other_length"])
        keys = [numbers.setdefault(key, len(numbers)) for key in _keys(frame)]
        delta = (frame["other_length"] - frame["length"]).to_numpy()
        rows.append(lc.Model(lc.standardised(delta), frame["win"].to_numpy(), np.array(keys, dtype=np.intp)))
    values = lc.joint_difficulty(rows, prompts=len(numbers))
    said = (
        f"{OFFLINE}: the difficulty of {len(numbers):,} prompts was fitted from the verdicts on {len(models)} models, "
        "so this is not the length-controlled win rate of a leaderboard; the more models, the nearer."
    )
    return difficulties_of("the fit", list(numbers), list(values)), said


def _keys(frame: pl.DataFrame) -> list[str]:
    """What a prompt is known by: the file's number of it, else its text."""
    return frame.select(pl.coalesce("prompt_number", "prompt"))["prompt_number"].to_list()


def side_of(verdicts: Verdicts, control: Control | None) -> Side:
    """The numbers of one model; with control also its weights."""
    there = verdicts.rows.filter(pl.col("win").is_not_null())
    delta = (there["other_length"] - there["length"]).cast(pl.Float64).fill_null(math.nan).to_numpy()
    win = there["win"].to_numpy()
    if control is None:
        return Side(model=verdicts.model, prompt=_keys(there), win=win, delta=delta, difficulty=np.zeros(len(win)))
    difficulty = (
        control.difficulties.at_positions(there["position"].to_list())
        if control.match == "position"
        else control.difficulties.of_numbers(_keys(there))
    )
    side = Side(model=verdicts.model, prompt=_keys(there), win=win, delta=delta, difficulty=difficulty)
    if verdicts.model == verdicts.opponent:
        return replace(side, weights=lc.Weights(0.0, 0.0, 0.0))
    if control.weights is not None:
        return replace(side, weights=control.weights(verdicts.model))
    if len(win) < FEWEST:
        raise InputError(
            f"{verdicts.source}: {len(win)} verdicts on {verdicts.model} are too few for length control, which needs "
            f"at least {FEWEST}; leave length_controlled out, or judge more prompts"
        )
    if lost := int(np.isnan(delta).sum()):
        raise InputError(f"{verdicts.source}: {lost:,} verdicts on {verdicts.model} lack the length of an answer")
    rows = lc.rows_of(delta, difficulty, win)
    strength = control.strength or lc.choose_strength(rows, control.anchors)
    return replace(side, strength=strength, weights=lc.fit(rows, control.anchors, strength=strength))


def weights_at(side: Side, control: Control, rows: NDArray[np.intp]) -> lc.Weights | None:
    """The weights of some rows of a model; None where their lengths leave nothing to fit."""
    if side.weights is None or math.isnan(side.strength):
        return side.weights
    try:
        part = lc.rows_of(side.delta[rows], side.difficulty[rows], side.win[rows])
    except InputError:
        return None
    return lc.refit(side.weights, part, control.anchors, strength=side.strength)


def controlled(side: Side, control: Control, rows: NDArray[np.intp]) -> float:
    """The length-controlled win rate of some rows of a model, in percent; NaN where nothing can be fitted."""
    weights = weights_at(side, control, rows)
    return math.nan if weights is None else 100.0 * float(lc.predicted(weights, side.difficulty[rows]).mean())


def given(**settings: Any) -> list[str]:
    """The names of the settings that are not None."""
    return [name for name, value in settings.items() if value is not None]
