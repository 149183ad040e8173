"""Difficulties fitted from verdicts on several models: which models, which prompts are the same, how many shared."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from pairwright.errors import InputError
from pairwright.evaluate import length_controlled as lc
from pairwright.evaluate.alpaca_eval import UNNAMED_MODEL, UNNAMED_OPPONENT, Verdicts
from pairwright.evaluate.length_controlled import Floats
from pairwright.evaluate.length_files import Anchors

OFFLINE = "LC-offline"
FEWEST_MODELS = 3
"""Fewer models are no base for difficulties."""
_SHARED = 0.5
"""Where fewer prompts have verdicts on several models the fit says nothing of the others."""
_MOST_SHARED = 0.95
Key = Literal["text", "prompt_number", "position"]
_NAMES: tuple[Key, ...] = ("text", "prompt_number")
_KEYS: Mapping[Key, str] = {"text": "texts", "prompt_number": "numbers", "position": "positions"}


class Fitted(NamedTuple):
    """Difficulties of prompts, in log-odds; larger is easier to win."""

    key: Key
    """What the prompts are known by."""
    values: Mapping[str, float]
    keys: Mapping[str, str]
    """By the number of a prompt, where there are numbers."""
    notes: tuple[str, ...]

    def of(self, verdicts: Verdicts) -> tuple[pl.DataFrame, Floats, tuple[str, ...]]:
        """The rows whose prompt has a difficulty, these, and notes."""
        known = [key in self.values for key in keys_of(verdicts.rows, self.key)]
        rows = verdicts.rows.filter(pl.Series(known, dtype=pl.Boolean))
        return rows, np.array([self.values[key] for key in keys_of(rows, self.key)], dtype=np.float64), ()

    def anchor_rows(self, anchors: Anchors) -> tuple[lc.Rows, tuple[str, ...]]:
        """The anchors whose prompt has a difficulty, and notes.

        Raises:
            InputError: no anchor has.
        """
        with_texts = self.key == "text" and all(text is not None for text in anchors.texts)
        names = anchors.texts if with_texts else [self.keys.get(number or "") for number in anchors.numbers]
        at = [place for place, name in enumerate(names) if name in self.values]
        if not at:
            raise InputError(
                f"{anchors.source}: no anchor is of a prompt that has verdicts; these are known by their "
                f"{_KEYS[self.key]}, so give the anchors a column instruction, or the verdicts an instruction_id"
            )
        left = len(names) - len(at)
        notes = (
            (f"{left:,} of {len(names):,} anchors are of prompts without verdicts and are left out.",) if left else ()
        )
        difficulty = np.array([self.values[names[place] or ""] for place in at], dtype=np.float64)
        return lc.anchors_of(anchors.std_delta[at], difficulty, anchors.win[at]), notes


def fitted(verdicts: Verdicts, every: Sequence[Verdicts]) -> Fitted:
    """Difficulties of the prompts from the verdicts on all models.

    Prompts are the same where their texts are, if every file has texts, else where their numbers are.

    Args:
        verdicts: on the model that is asked for.
        every: on this and the others.

    Raises:
        InputError: there are too few models, they met several opponents, two files have verdicts on one model, or they
            share too few prompts.
    """
    models = {(str(Path(each.source).resolve()), each.model): each for each in every}
    if len(models) < FEWEST_MODELS:
        raise InputError(
            f"{verdicts.source}: without a file of difficulties length control needs verdicts on at least "
            f"{FEWEST_MODELS} models against one opponent, and there are {len(models)}; give others, or difficulty"
        )
    _must_differ(list(models.values()))
    notes = one_opponent(list(models.values()))
    key = shared_key(list(models.values()))
    numbers: dict[str, int] = {}
    rows = []
    for each in models.values():
        frame = each.rows.drop_nulls(["win", "length", "other_length"])
        places = [numbers.setdefault(name, len(numbers)) for name in keys_of(frame, key)]
        delta = (frame["other_length"] - frame["length"]).to_numpy()
        rows.append(lc.Model(lc.standardised(delta), frame["win"].to_numpy(), np.array(places, dtype=np.intp)))
    values = lc.joint_difficulty(rows, prompts=len(numbers))
    notes += _shared(verdicts, list(models.values()), key)
    said = (
        f"{OFFLINE}: the difficulty of {len(numbers):,} prompts was fitted from the verdicts on {len(models)} models, "
        "so this is not the length-controlled win rate of a leaderboard; the more models, the nearer. The intervals "
        "hold these difficulties fixed, so that they are too narrow."
    )
    by_number = {
        number: name
        for each in models.values()
        for number, name in zip(each.rows["prompt_number"], keys_of(each.rows, key), strict=True)
        if number is not None
    }
    return Fitted(key, dict(zip(numbers, values.tolist(), strict=True)), by_number, (said, *notes))


def one_opponent(models: Sequence[Verdicts]) -> list[str]:
    """A note where it is not said that all models met the same opponent.

    Raises:
        InputError: they met several.
    """
    met = {each.opponent: each for each in models}
    named = sorted(met.keys() - {UNNAMED_OPPONENT})
    if len(named) > 1:
        told = ", ".join(f"{name} in {met[name].source}" for name in named)
        raise InputError(
            f"evaluate winrate: the models meet several opponents ({told}); compare models that met the same one"
        )
    if named and UNNAMED_OPPONENT in met:
        return [f"{met[UNNAMED_OPPONENT].source} does not name the opponent; it is taken to be {named[0]}."]
    return []


def keys_of(frame: pl.DataFrame, key: Key) -> list[str]:
    """What the prompts of these rows are known by."""
    return frame[key].cast(pl.String).to_list()


def _must_differ(models: Sequence[Verdicts]) -> None:
    first: dict[str, str] = {}
    for each in models:
        if each.model != UNNAMED_MODEL and first.setdefault(each.model, each.source) != each.source:
            raise InputError(
                f"evaluate winrate: {first[each.model]} and {each.source} both have verdicts on {each.model}, which "
                "would count twice; leave one of them out"
            )


def shared_key(models: Sequence[Verdicts]) -> Key:
    """What prompts of all these are known by: texts if all have them, else numbers, else places if none has either.

    Raises:
        InputError: some have texts alone, and others have none.
    """
    with_all = [key for key in _NAMES if not any(each.rows[key].null_count() for each in models)]
    if with_all:
        return with_all[0]
    if any(each.rows[key].count() for each in models for key in _NAMES):
        lost = next(each for each in models if each.rows["text"].null_count())
        raise InputError(
            f"{lost.source}: prompts of {lost.model} have no text (instruction), and not all files have an "
            "instruction_id, so that it cannot be told which prompts are the same; give every file one or the other"
        )
    return "position"


def _shared(verdicts: Verdicts, models: Sequence[Verdicts], key: Key) -> list[str]:
    """A note where many prompts of the model have no verdicts on others.

    Raises:
        InputError: most have none.
    """
    of = Counter(name for each in models for name in set(keys_of(each.rows.drop_nulls("win"), key)))
    mine = keys_of(verdicts.rows.drop_nulls("win"), key)
    found = sum(of[name] >= FEWEST_MODELS for name in mine)
    told = f"{found:,} of the {len(mine):,} prompts with a verdict on {verdicts.model}"
    if found < _SHARED * len(mine):
        raise InputError(
            f"{verdicts.source}: only {told} have one on {FEWEST_MODELS - 1} other models too, by their {_KEYS[key]}; "
            "difficulties need models that answered the same prompts"
        )
    if found < _MOST_SHARED * len(mine):
        return [f"Only {told} have one on {FEWEST_MODELS - 1} other models too; the difficulty of the rest is rough."]
    return []
