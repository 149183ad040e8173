"""Credit: on how few tokens does what training changed rest?"""

from typing import Any

import numpy as np
import polars as pl

from pairwright.charts import Chart, Series
from pairwright.diagnose.finding import Finding, Level, Part
from pairwright.diagnose.readings import ASKED, REMEDY, Floats, ends, means, number, within
from pairwright.errors import InputError
from pairwright.evaluate.result import Metric, Result
from pairwright.probes.store import Probes

SHARES = tuple(i / 10 for i in range(11))
"""Shares of an answer's tokens at which the curve is drawn."""
SOURCE = "arXiv 2404.12358 (a token's log-ratio as its implicit reward); the bound is pairwright's"


def credit(probes: Probes, *, subject: str, draws: int = 2000, seed: int = 0) -> Part:
    """What share of an answer's credit lies on its heaviest tokens.

    The credit of a token is `log pi(token) - log start(token)` in nats; only its size counts here, not its sign. The
    tokens of an answer are ordered by size, heaviest first, and the share of the sum that the first 10% hold is taken,
    a part of a token counting in part: credit that is spread evenly has 0.1 at any length, all on one token of n has
    `min(1, n / 10)`. Means over answers; intervals over pairs.

    Source: arXiv 2404.12358, which shows credit of tokens in pictures; this number is ours.

    Args:
        probes: of one training, with credit.
        subject: the training's name.
        draws: bootstrap samples.
        seed: of the draws.

    Returns:
        `top_tenth/<side>`, under the first way of asking that is there; the table has all of them.

    Raises:
        InputError: there is no credit, or no answer of two tokens or more whose credit is finite and not all zero.
    """
    if probes.credit.is_empty():
        raise InputError(f"the probes hold no credit of tokens; {REMEDY}")
    rows = probes.credit.sort("pair", "side", maintain_order=True)
    curves = [_curve(np.abs(np.array(values, dtype=np.float64))) for values in rows["credit"].to_list()]
    there = [curve is not None for curve in curves]
    if not any(there):
        raise InputError("no answer has credit on two tokens or more: the model says the same as its start")
    rows = rows.filter(there)
    curve = np.stack([each for each in curves if each is not None])
    asked = [name for name in ASKED if name in rows["asked"].unique()]
    keys = [(name, side) for name in asked for side in ("chosen", "rejected")]
    masks = [((rows["asked"] == name) & (rows["side"] == side)).to_numpy() for name, side in keys]
    split = np.stack([np.where(mask[:, None], curve, np.nan) for mask in masks])
    found = means({"curve": split}, [str(pair) for pair in rows["pair"]], draws=draws, seed=seed)["curve"]
    table: list[dict[str, Any]] = [
        {"asked": name, "side": side, "answers": int(mask.sum()), **ends(found[i, 1], "top_tenth")}
        for i, ((name, side), mask) in enumerate(zip(keys, masks, strict=True))
        if mask.any()
    ]
    return Part(
        name="credit",
        subject=subject,
        title="How many tokens carry what changed",
        result=Result(
            name="credit",
            n=len(rows),
            settings={"draws": draws, "seed": seed},
            metrics=tuple(
                Metric.of(
                    f"top_tenth/{side}",
                    found[i, 1],
                    f"share of the size of credit on the heaviest tenth of the tokens of {side} answers; 0.1 is even; "
                    "n are pairs",
                )
                for i, (name, side) in enumerate(keys)
                if name == asked[0] and masks[i].any()
            ),
            table=tuple(table),
            notes=tuple(_notes(rows, len(there) - len(rows))),
        ),
        findings=_findings(subject, split[:2, :, 1:2], rows["pair"].to_list(), draws=draws, seed=seed),
        charts=(_chart([(side, found[i]) for i, (name, side) in enumerate(keys) if name == asked[0]]),),
    )


def _curve(size: Floats) -> Floats | None:
    """Share of the sum on the heaviest tokens, at each of `SHARES` of the tokens; None where it is not defined."""
    if len(size) < 2 or not np.isfinite(size).all() or size.sum() == 0:
        return None
    held = np.concatenate([[0.0], np.cumsum(np.sort(size)[::-1])])
    shares: Floats = np.interp(np.array(SHARES) * len(size), np.arange(len(held)), held / held[-1])
    return shares


def _notes(rows: pl.DataFrame, left: int) -> list[str]:
    notes = []
    if left:
        notes.append(f"{left:,} answers have one token, no credit at all or one that is not finite, and are left out.")
    if short := rows.filter(pl.col("credit").list.len() < 10).height:
        notes.append(
            f"{short:,} answers have under ten tokens: their heaviest tenth is a part of one token and cannot hold all."
        )
    return notes


def _findings(subject: str, tenth: Floats, pairs: list[int], *, draws: int, seed: int) -> tuple[Finding, ...]:
    """Of both sides under one way of asking; `tenth` is [side, answers, 1]."""
    both = np.where(np.isfinite(tenth[0]), tenth[0], tenth[1])
    share = means({"tenth": both}, [str(pair) for pair in pairs], draws=draws, seed=seed)["tenth"][0]
    level: Level = "note" if share.low > 0.5 else "fine"
    return (
        Finding.of(
            "credit_concentration",
            share,
            subject=subject,
            level=level,
            says=f"The heaviest tenth of an answer's tokens holds {share.value:.0%} of what training changed "
            f"({within(share)}); spread evenly it would hold 10%.",
            means="Training moves few tokens much: often those at which two answers part, sometimes a mere habit such "
            "as an opening phrase.",
            remedy="Read the shaded tokens of some pairs in the explorer." if level == "note" else "",
            source=SOURCE,
        ),
    )


def _chart(curves: list[tuple[str, Any]]) -> Chart:
    percent = [100.0 * share for share in SHARES]
    lines = [
        Series(
            name=side,
            x=list(percent),
            y=[number(each.value) for each in curve],
            low=[number(each.low) for each in curve],
            high=[number(each.high) for each in curve],
        )
        for side, curve in curves
        if curve[0].n
    ]
    even = Series(name="spread evenly", x=[0.0, 100.0], y=[0.0, 1.0], reference=True)
    return Chart(
        id="concentration",
        title="Credit on the heaviest tokens",
        says="The further above the dotted line, the fewer tokens carry what changed.",
        x="heaviest tokens of an answer, %",
        y="share of the size of credit",
        series=[*lines, even],
    )
