"""One model's verdicts as numbers, and its length control: which difficulties, which anchors, which weights."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pairwright.errors import InputError
from pairwright.evaluate import length_controlled as lc
from pairwright.evaluate.alpaca_eval import Verdicts
from pairwright.evaluate.length_files import Difficulties, read_anchors, read_difficulty, read_weights
from pairwright.evaluate.length_offline import OFFLINE, fitted

Floats = NDArray[np.float64]
Match = Literal["position", "id"]
FEWEST = 50
"""Fewer verdicts are not fitted: at 50 of AlpacaEval's prompts length control was 6 points off (root mean square)."""


@dataclass(frozen=True, kw_only=True)
class Control:
    """How to control for length: where difficulties and anchors are from, and C or the weights."""

    look_up: Callable[[Verdicts], tuple[pl.DataFrame, Floats, tuple[str, ...]]]
    """The rows of a model that have a difficulty, these, `[rows]`, and notes."""
    anchors: lc.Rows
    strength: float | None
    weights: Callable[[str], lc.Weights] | None
    label: str
    fits: bool
    """Whether the difficulties are fitted from the data."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Side:
    """The verdicts on a model as numbers, `[rows]` each; under length control also the rows without a verdict."""

    model: str
    prompt: list[str]
    win: Floats
    """NaN where there is no verdict."""
    delta: Floats
    """Characters of the opponent's answer minus those of the model's; NaN where one is not known."""
    difficulty: Floats
    strength: float = math.nan
    weights: lc.Weights | None = None
    notes: tuple[str, ...] = ()

    @property
    def judged(self) -> NDArray[np.intp]:
        """The rows with a verdict."""
        return np.flatnonzero(~np.isnan(self.win))


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
    every: Callable[[], Sequence[Verdicts]],
    *,
    difficulty: Path | None,
    anchors: Path | None,
    match: Match | None,
    strength: float | None,
    published: Callable[[str], lc.Weights] | None,
) -> Control:
    """Difficulties from the file, else from the anchors, else from the verdicts on several models.

    Args:
        verdicts: on the model.
        every: gives the verdicts on all models, for difficulties that are fitted.
        difficulty: their file.
        anchors: file of anchors.
        match: how verdicts find their difficulty.
        strength: C, if it is not chosen.
        published: gives a model's published weights.

    Raises:
        InputError: a file is wrong, difficulties cannot be fitted, or a setting would change nothing.
    """
    read_in = None if anchors is None else read_anchors(anchors)
    found = read_difficulty(difficulty) if difficulty is not None else None if read_in is None else read_in.difficulties
    if published is not None and found is None:
        raise InputError(
            "evaluate winrate: published weights go with the difficulties they were fitted to; give difficulty"
        )
    unused = {"strength": strength, "anchors": None if difficulty is None else anchors}
    if published is not None and (ignored := given(**unused)):
        raise InputError(
            f"evaluate winrate: {', '.join(ignored)} would change nothing, as the published weights are not fitted; "
            "leave out one or the other"
        )
    if found is None:
        if match is not None:
            raise InputError(
                "evaluate winrate: match is for difficulties from a file, and there is none; leave match out"
            )
        own = fitted(verdicts, every())
        rows, said = (lc.NO_ANCHORS, ()) if read_in is None else own.anchor_rows(read_in)
        return Control(
            look_up=own.of,
            anchors=rows,
            strength=strength,
            weights=None,
            label=OFFLINE,
            fits=True,
            notes=(*own.notes, *said),
        )
    official = found
    alone = read_in is None and published is None
    said_alone = "Without anchors the fit is not AlpacaEval's: on 15 published models it was up to 14 points off."
    of_anchors = lc.NO_ANCHORS
    if read_in is not None:  # their own difficulties are those that AlpacaEval gives them
        of_anchors = read_in.rows(read_in.difficulties or official)
    return Control(
        look_up=lambda each: _of_file(official, match, each),
        anchors=of_anchors,
        strength=strength,
        weights=published,
        label=OFFLINE if alone else "",
        fits=False,
        notes=(said_alone,) if alone else (),
    )


def _of_file(
    found: Difficulties, match: Match | None, verdicts: Verdicts
) -> tuple[pl.DataFrame, Floats, tuple[str, ...]]:
    """A model's rows, their difficulties from a file, and notes."""
    rows = verdicts.rows
    with_ids = rows["prompt_number"].count() > 0
    apart = _apart(found, rows)
    if match is None and apart and verdicts.has_positions:
        raise InputError(
            f"{verdicts.source}: {apart:,} of {len(rows):,} rows on {verdicts.model} have a position and an "
            f"instruction_id that are of different prompts in {found.source}; ask for match position, which "
            "AlpacaEval's published numbers need, or match id"
        )
    by: Match = match or ("id" if with_ids else "position")
    return rows, _LOOK_UPS[by](found, rows), _NOTES[by](found, rows, apart)


def _apart(found: Difficulties, rows: pl.DataFrame) -> int:
    """Rows whose number and position are of different prompts."""
    there = rows.filter(pl.col("prompt_number").is_in(list(found.by_number)))
    return sum(
        position >= len(found.in_order) or found.in_order[position] != found.by_number[number]
        for number, position in there.select("prompt_number", "position").iter_rows()
    )


def _said_by_position(found: Difficulties, rows: pl.DataFrame, apart: int) -> tuple[str, ...]:
    notes = []
    if len(found.in_order) != len(rows):
        notes.append(
            f"There are {len(rows):,} rows and {len(found.in_order):,} difficulties, found by position as "
            "AlpacaEval does: rows after a missing one take another prompt's; `match` by id does not."
        )
    if apart:
        notes.append(
            f"By position {apart:,} rows take the difficulty of another prompt than their instruction_id says."
        )
    return tuple(notes)


def _said_by_id(found: Difficulties, rows: pl.DataFrame, apart: int) -> tuple[str, ...]:
    if not apart:
        return ()
    return (
        f"Difficulties were found by instruction_id; by position, as AlpacaEval does, {apart:,} rows would take that "
        "of another prompt, so its number is another.",
    )


_LOOK_UPS: Mapping[Match, Callable[[Difficulties, pl.DataFrame], Floats]] = {
    "position": lambda found, rows: found.at_positions(rows["position"].to_list()),
    "id": lambda found, rows: found.of_numbers(rows["prompt_number"].to_list()),
}
_NOTES: Mapping[Match, Callable[[Difficulties, pl.DataFrame, int], tuple[str, ...]]] = {
    "position": _said_by_position,
    "id": _said_by_id,
}


def side_of(verdicts: Verdicts, control: Control | None, key: str = "prompt") -> Side:
    """The numbers of one model, its prompts known by a column; with control also its weights.

    Under length control rows without a verdict stay, as in AlpacaEval: the standard deviation of the lengths and the
    mean of the predictions are over all answers, the fit is over those with a verdict.
    """
    if control is None:
        there = verdicts.rows.filter(pl.col("win").is_not_null())
        return _numbers_of(verdicts, there, np.zeros(len(there)), key)
    rows, difficulty, notes = control.look_up(verdicts)
    kept = rows.select(
        kept=pl.col("win").is_not_null() | (pl.col("length").is_not_null() & pl.col("other_length").is_not_null())
    )["kept"].to_numpy()
    side = _numbers_of(verdicts, rows.filter(kept), difficulty[kept], key)
    judged = len(side.judged)
    if unjudged := len(side.win) - judged:
        notes = (
            *notes,
            f"{unjudged:,} answers of {verdicts.model} without a verdict count in the length-controlled win rate, as "
            "in AlpacaEval: in the spread of the lengths and in the prediction.",
        )
    side = replace(side, notes=notes)
    if verdicts.model == verdicts.opponent:
        return replace(side, weights=lc.Weights(0.0, 0.0, 0.0))
    if control.weights is not None:
        return replace(side, weights=control.weights(verdicts.model))
    if judged < FEWEST:
        raise InputError(
            f"{verdicts.source}: {judged} verdicts on {verdicts.model} are too few for length control, which needs "
            f"at least {FEWEST}; leave length_controlled out, or judge more prompts"
        )
    if lost := int(np.isnan(side.delta).sum()):
        raise InputError(f"{verdicts.source}: {lost:,} verdicts on {verdicts.model} lack the length of an answer")
    fit_rows = lc.rows_of(side.delta, side.difficulty, side.win)
    strength = control.strength or lc.choose_strength(fit_rows, control.anchors)
    return replace(side, strength=strength, weights=lc.fit(fit_rows, control.anchors, strength=strength))


def _numbers_of(verdicts: Verdicts, rows: pl.DataFrame, difficulty: Floats, key: str) -> Side:
    delta = (rows["other_length"] - rows["length"]).cast(pl.Float64).fill_null(math.nan).to_numpy()
    return Side(
        model=verdicts.model,
        prompt=rows[key].cast(pl.String).to_list(),
        win=rows["win"].cast(pl.Float64).fill_null(math.nan).to_numpy(),
        delta=delta,
        difficulty=difficulty,
    )


def weights_at(side: Side, control: Control, rows: NDArray[np.intp]) -> lc.Weights | None:
    """The weights of some rows of a model; None where their lengths leave nothing to fit."""
    if side.weights is None or math.isnan(side.strength):
        return side.weights
    if np.isnan(side.win[rows]).all():
        return None
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
