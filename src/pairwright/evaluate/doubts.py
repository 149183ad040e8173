"""Why a win rate may not mean what it seems to: few verdicts, missing ones, constant answers, extreme lengths."""

import math
from collections.abc import Callable

import polars as pl

from pairwright.evaluate.alpaca_eval import Verdicts

FEW = 100
"""Below so many verdicts a win rate has a standard error of up to 5 points."""
_MISSING = 0.01
_CONSTANT = 0.2
_SEVERAL = 10
"""Fewer answers may be alike by chance."""
_ONE_SIDE = 0.95
"""Share of prompts at which one side's answers are all the longer ones."""


def doubts(verdicts: Verdicts) -> list[str]:
    """A sentence for each reason to doubt a raw win rate."""
    return [said for find in _FINDERS if (said := find(verdicts))]


def doubts_of_lengths(verdicts: Verdicts) -> list[str]:
    """A sentence where the lengths leave nothing near equal length to fit, so that length control extrapolates."""
    delta = verdicts.rows.select(delta=pl.col("other_length") - pl.col("length")).drop_nulls()["delta"]
    if delta.is_empty():
        return []
    found = []
    known = verdicts.rows["length"].drop_nulls()
    if len(known) >= _SEVERAL and known.n_unique() == 1:
        found.append(
            f"All answers of {verdicts.model} have {known[0]:.0f} characters, so that the weight of length rests on "
            "the opponent's lengths alone, which may go with the prompt."
        )
    for share, word in ((float((delta > 0).mean() or 0.0), "shorter"), (float((delta < 0).mean() or 0.0), "longer")):  # type: ignore[arg-type]
        if share > _ONE_SIDE:
            found.append(
                f"{verdicts.model}'s answer is the {word} one at {share:.1%} of the prompts: what equal lengths would "
                "do is extrapolated."
            )
    wins = verdicts.rows["win"].drop_nulls()
    for end, word in ((1.0, "won"), (0.0, "lost")):
        if len(wins) and (wins == end).all():
            found.append(
                f"Every verdict is {word}, so that nothing tells what length does: the length-controlled win rate is "
                "that of the penalty and the anchors."
            )
    return found


def _few(verdicts: Verdicts) -> str:
    n = verdicts.rows["win"].count()
    if n >= FEW:
        return ""
    return f"{n} verdicts are few: the standard error can be {50 / math.sqrt(n):.0f} points; AlpacaEval has 805."


def _missing(verdicts: Verdicts) -> str:
    """Bounds that hold whatever the missing verdicts would have been."""
    total, win = len(verdicts.rows), verdicts.rows["win"].drop_nulls()
    missing = total - len(win)
    if not missing:
        return ""
    low = 100.0 * float(win.sum()) / total
    said = f"{missing:,} of {total:,} rows have no verdict and are left out"
    if missing <= _MISSING * total:
        return f"{said}."
    high = low + 100.0 * missing / total
    return f"{said}; with them the win rate would lie between {low:.1f} (all lost) and {high:.1f} (all won)."


def _repeated(verdicts: Verdicts) -> str:
    rows = verdicts.rows
    again = len(rows) - rows["prompt"].n_unique()
    return f"{again:,} rows repeat a prompt; intervals are over prompts." if again else ""


def _constant(verdicts: Verdicts) -> str:
    """Constant answers win verdicts by what they say to the judge, not by what they say to the prompt."""
    texts = verdicts.rows["answer"].drop_nulls()
    if len(texts) < _SEVERAL:
        return ""
    most = int(texts.value_counts()["count"].max() or 0)  # type: ignore[arg-type]
    if most <= _CONSTANT * len(texts):
        return ""
    return (
        f"{most:,} of {len(texts):,} answers are the same text: a judge can be won over by a constant text that "
        "answers nothing, and then its win rate is no measure of quality."
    )


def _empty(verdicts: Verdicts) -> str:
    texts = verdicts.rows["answer"].drop_nulls()
    empty = int((texts.str.strip_chars() == "").sum())
    return f"{empty:,} of {len(texts):,} answers are empty." if empty else ""


_FINDERS: tuple[Callable[[Verdicts], str], ...] = (_few, _missing, _repeated, _constant, _empty)
