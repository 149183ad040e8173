"""Selection overlap: would other metrics have chosen the same pairs?"""

from collections.abc import Mapping
from typing import Any

from pairwright.charts import Chart, Series
from pairwright.diagnose.finding import Finding, Level, Part
from pairwright.errors import InputError
from pairwright.evaluate.result import Metric, Result

ALIKE = 0.9
"""From this share of pairs in common two metrics choose alike; the bound is ours."""


def overlap(found: Mapping[str, Any], *, subject: str) -> Part:
    """How many pairs any two metrics both choose, from what a selection wrote into its lineage.

    All metrics choose the same number k of N pairs; an independent one shares k / N of them on average. Nothing is
    estimated: the shares are counts over all pairs, without intervals.

    Source: arXiv 2503.01864 (the margins and the potential that are compared).

    Args:
        found: `found` of a step `select` in the lineage: its `overlap` holds `pairs`, `kept`, `chance`, `common` and
            `share` (`pairwright.metrics.overlap.overlap`).
        subject: the step's name.

    Returns:
        `share/<a>, <b>` for each two metrics and `chance`; the table has a row and a column for each metric.

    Raises:
        InputError: the step compared nothing.
    """
    compared = found.get("overlap") or {}
    shares: Mapping[str, Mapping[str, float]] = compared.get("share") or {}
    if len(shares) < 2:
        raise InputError(
            "the selection compared no metrics; select by a model's margin (alignment_potential, implicit_margin, "
            "signed_potential) with cut `top` and keep between 0 and 1"
        )
    names, chance, kept = list(shares), float(compared["chance"]), int(compared["kept"])
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    metrics = [
        Metric(
            name=f"share/{a}, {b}",
            value=shares[a][b],
            n=kept,
            says=f"share of the {kept:,} pairs that {a} chooses which {b} chooses too",
        )
        for a, b in pairs
    ]
    metrics.append(
        Metric(name="chance", value=chance, n=kept, says="what an independent metric has in common, on average")
    )
    return Part(
        name="overlap",
        subject=subject,
        title="What other metrics would have chosen",
        result=Result(
            name="overlap",
            n=int(compared["pairs"]),
            metrics=tuple(metrics),
            table=tuple({"metric": a, **{b: shares[a][b] for b in names}} for a in names),
        ),
        findings=_findings(subject, [pair for pair in pairs if "random" not in pair], shares, chance, kept),
        charts=(_chart(names, shares, chance, kept),),
    )


def _findings(
    subject: str, pairs: list[tuple[str, str]], shares: Mapping[str, Mapping[str, float]], chance: float, kept: int
) -> tuple[Finding, ...]:
    if not pairs:
        return ()
    a, b = max(pairs, key=lambda pair: shares[pair[0]][pair[1]])
    share = shares[a][b]
    level: Level = "note" if share >= ALIKE else "fine"
    return (
        Finding(
            check="selection_overlap",
            subject=subject,
            level=level,
            says=f"Of the {kept:,} pairs that each metric would choose, {a} and {b} have most in common: {share:.1%}; "
            f"by chance {chance:.1%}.",
            value=share,
            n=kept,
            means="Two metrics that choose the same pairs make the same training set: comparing them tells nothing, "
            "and the one that needs no model is enough.",
            remedy="Take the cheaper of the two, or keep a smaller share." if level == "note" else "",
            source="pairwright",
        ),
    )


def _chart(names: list[str], shares: Mapping[str, Mapping[str, float]], chance: float, kept: int) -> Chart:
    bars = [Series(name=a, x=list(names), y=[None if a == b else shares[a][b] for b in names]) for a in names]
    line = Series(name="chance", x=[names[0], names[-1]], y=[chance, chance], reference=True)
    return Chart(
        id="overlap",
        title=f"Pairs in common, of {kept:,} that each metric would choose",
        says="Bars at the dotted line: the two metrics have nothing to do with each other.",
        x="and this metric",
        y="share of pairs in common",
        kind="bar",
        series=[*bars, line],
    )
