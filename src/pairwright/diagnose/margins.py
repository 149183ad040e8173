"""Margin agreement: does the model's own margin between two answers follow the gap of their scores?"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pairwright.charts import Chart, Series
from pairwright.diagnose.finding import Finding, Level, Part
from pairwright.diagnose.readings import ASKED, ROUNDING, Floats, buckets, ends, means, number, read, within
from pairwright.errors import InputError
from pairwright.evaluate.result import Metric, Result
from pairwright.probes.store import Probes
from pairwright.stats import Interval, grouped_bootstrap, spearman, wilson

SOURCE = "arXiv 2305.18290, section 4 (implicit reward); arXiv 2503.01864 (both margins)"
_LABELS = (
    "Look at the pairs that are turned round, with the largest gap first: labels may be wrong there. Where many are, "
    "train longer or with a smaller beta, or select by `alignment_potential`."
)
_REMEDY: Mapping[Level, str] = {"warning": _LABELS, "note": _LABELS, "fine": ""}


def margins(probes: Probes, *, subject: str, beta: float | None = None, draws: int = 2000, seed: int = 0) -> Part:
    """Implicit margins of held-out pairs against the gaps of their scores, by step and by gap.

    The margin is `beta * (log(pi / start)(chosen) - log(pi / start)(rejected))`: positive when training moved the model
    towards the chosen answer. It is zero for every pair before training, so step 0 is left out. The gap is
    `score(chosen) - score(rejected)`. A flip is a margin below zero; one of no more than rounding (1e-4 nats) is zero:
    no flip, and not right either. Pairs whose two answers stand after different prompts (their own scores asked) are
    left out.

    Source: arXiv 2305.18290, section 4 (implicit reward); arXiv 2503.01864 (explicit and implicit margin).

    Args:
        probes: of one training.
        subject: the training's name.
        beta: of the loss; None gives margins in nats. It scales margins, and neither flips nor correlations.
        draws: bootstrap samples.
        seed: of the draws.

    Returns:
        At the last step, under each way of asking: `spearman` of margin and gap and `margin` (mean), with bootstrap
        intervals over prompts; `accuracy` (share above zero) and `flips`, with Wilson's over pairs. Names end in
        `/<asked>` where it is not `none`. The table has them by step, and at the last step by gap.

    Raises:
        InputError: `beta` is not positive, no pair was probed on both sides after step 0, or the start's numbers are
            not there.
    """
    if beta is not None and not (math.isfinite(beta) and beta > 0):
        raise InputError(f"margins: beta must be a positive number, not {beta}; leave it out for nats")
    alike = probes.rows.filter(pl.col("asked") != "own")
    whole = alike.filter(pl.col("side").n_unique().over("pair") == 2)
    of_pairs = Probes(probes.about, probes.steps, whole, probes.samples, probes.credit)
    chosen, rejected = (read(of_pairs, side, key=["pair"]) for side in ("chosen", "rejected"))
    later = [s for s, step in enumerate(chosen.steps) if step > 0]
    steps, asked, prompts = [chosen.steps[s] for s in later], chosen.asked, chosen.prompts
    apart = (chosen.change - rejected.change)[..., later]
    margin = (1.0 if beta is None else beta) * np.where(np.abs(apart) <= ROUNDING, 0.0, apart)
    gap = (chosen.answers["score"] - rejected.answers["score"]).fill_null(math.nan).to_numpy()
    average = means({"margin": margin}, prompts, draws=draws, seed=seed)["margin"]
    by_step = [
        _row(margin[a, :, s], average[a, s], gap, step=step, asked=name)
        for a, name in enumerate(asked)
        for s, step in enumerate(steps)
        if average[a, s].n
    ]
    by_gap = _by_gap(margin[..., -1], gap, prompts, asked=asked, step=steps[-1], draws=draws, seed=seed)
    rank = [_rank(margin[a, :, -1], gap, prompts, draws=draws, seed=seed) for a in range(len(asked))]
    unit = "nats" if beta is None else "beta times nats"
    metrics = [
        metric
        for a, name in enumerate(asked)
        for metric in _metrics(name, margin[a, :, -1], average[a, -1], rank[a], unit)
    ]
    notes = [] if beta is not None else ["Without a beta the margins are log-ratios in nats."]
    if left := int((~np.isfinite(gap)).sum()):
        notes.append(f"{left:,} pairs have a side without a score: they have a margin and no gap.")
    return Part(
        name="margins",
        subject=subject,
        title="Whether the model's margins follow the scores",
        result=Result(
            name="margins",
            n=len(gap),
            settings={"beta": beta, "draws": draws, "seed": seed},
            metrics=tuple(metrics),
            table=(*by_step, *by_gap),
            notes=tuple(notes),
        ),
        findings=_findings(subject, steps[-1], margin[0, :, -1], rank[0], asked[0]),
        charts=_charts(by_step, by_gap, asked, unit),
    )


def _right(margin: Floats) -> Interval:
    known = margin[np.isfinite(margin)]
    return wilson(int((known > 0).sum()), len(known))


def _flips(margin: Floats) -> Interval:
    known = margin[np.isfinite(margin)]
    return wilson(int((known < 0).sum()), len(known))


def _rank(margin: Floats, gap: Floats, prompts: Sequence[str], *, draws: int, seed: int) -> Interval:
    """Spearman's correlation of margin and gap; its `n` are prompts."""
    known = np.isfinite(margin) & np.isfinite(gap)
    x, y = margin[known], gap[known]
    groups = [prompt for prompt, there in zip(prompts, known, strict=True) if there]

    def correlation(rows: NDArray[np.intp]) -> list[float]:
        return [spearman(x[rows], y[rows]).value]

    return grouped_bootstrap(correlation, groups, draws=draws, seed=seed)[0]


def _row(margin: Floats, average: Interval, gap: Floats, *, step: int, asked: str) -> dict[str, Any]:
    known = np.isfinite(margin) & np.isfinite(gap)
    return {
        "step": step,
        "asked": asked,
        "gap": None,
        "pairs": int(np.isfinite(margin).sum()),
        **ends(average, "margin"),
        **ends(_right(margin), "accuracy"),
        **ends(_flips(margin), "flips"),
        "spearman": number(spearman(margin[known], gap[known]).value),
    }


def _by_gap(
    margin: Floats, gap: Floats, prompts: Sequence[str], *, asked: Sequence[str], step: int, draws: int, seed: int
) -> list[dict[str, Any]]:
    """A row for each group of gaps and way of asking; `margin` is [asked, pairs]."""
    scored = np.isfinite(gap)
    if not scored.any():
        return []
    groups = []
    for label, mask in buckets(gap[scored]):
        whole = np.zeros(len(gap), dtype=np.bool_)
        whole[scored] = mask
        groups.append((label, whole))
    of_groups = np.stack([np.where(mask, margin, np.nan) for _, mask in groups])[..., None]
    average = means({"margin": of_groups}, prompts, draws=draws, seed=seed)["margin"]
    return [
        {
            "step": step,
            "asked": name,
            "gap": label,
            "pairs": int(np.isfinite(of_groups[i, a]).sum()),
            **ends(average[i, a, 0], "margin"),
            **ends(_right(margin[a, mask]), "accuracy"),
            **ends(_flips(margin[a, mask]), "flips"),
            "spearman": None,
        }
        for a, name in enumerate(asked)
        for i, (label, mask) in enumerate(groups)
    ]


def _metrics(asked: str, margin: Floats, average: Interval, rank: Interval, unit: str) -> list[Metric]:
    how, tail = ASKED[asked], "" if asked == "none" else f"/{asked}"
    return [
        Metric.of(
            f"spearman{tail}", rank, f"rank correlation of implicit margin and gap of scores, {how}; n are prompts"
        ),
        Metric.of(f"margin{tail}", average, f"mean implicit margin, {unit}, {how}; n are prompts"),
        Metric.of(f"accuracy{tail}", _right(margin), f"share of pairs with a margin above zero, {how}"),
        Metric.of(f"flips{tail}", _flips(margin), f"share of pairs that the model orders against their label, {how}"),
    ]


def _findings(subject: str, step: int, margin: Floats, rank: Interval, asked: str) -> tuple[Finding, ...]:
    flips = _flips(margin)
    # A pair whose margin is as often wrong as right tells no more than a coin.
    coin: Level = "warning" if flips.low > 0.5 else "note" if flips.high >= 0.5 else "fine"
    found = [
        Finding.of(
            "flips",
            flips,
            subject=subject,
            level=coin,
            says=f"At step {step:,} the implicit reward orders {flips.value:.0%} of {flips.n:,} held-out pairs against "
            f"their label (95% interval {flips.low:.0%} to {flips.high:.0%}), {ASKED[asked]}.",
            means="Half would be chance. A model that orders held-out pairs rightly need not answer well: within one "
            "size of model this share does not predict the win rate (arXiv 2406.02900).",
            remedy=_REMEDY[coin],
            source=SOURCE,
        )
    ]
    if not math.isnan(rank.value):
        level: Level = "warning" if rank.high < 0 else "fine" if rank.low > 0 else "note"
        found.append(
            Finding.of(
                "margin_agreement",
                rank,
                subject=subject,
                level=level,
                says=f"At step {step:,} the rank correlation of the implicit margin with the gap of scores is "
                f"{rank.value:.2f} ({within(rank)}), {ASKED[asked]}.",
                means="Pairs carry no sizes: a loss of pairs does not know how far apart two answers are. Near zero, "
                "the model's margin says nothing about the size of the difference.",
                remedy=_REMEDY[level]
                and "Train on what the scores say: relabel (`ra`), or a loss that takes the gap (`rpo_squared`, "
                "`margin_dpo`, `odpo`).",
                source=SOURCE,
            )
        )
    return tuple(found)


def _charts(
    by_step: Sequence[Mapping[str, Any]], by_gap: Sequence[Mapping[str, Any]], asked: Sequence[str], unit: str
) -> tuple[Chart, ...]:
    charts = []
    if by_gap:
        labels = list(dict.fromkeys(row["gap"] for row in by_gap))
        half = Series(name="chance", x=[labels[0], labels[-1]], y=[0.5, 0.5], reference=True)
        charts += [
            Chart(
                id="by_gap",
                title="Mean implicit margin by gap of scores",
                says="Rising bars: the model sets answers the further apart the further their scores are.",
                x="gap of scores, chosen minus rejected",
                y=f"implicit margin, {unit}",
                kind="bar",
                series=_series(by_gap, asked, "gap", "margin"),
            ),
            Chart(
                id="accuracy_by_gap",
                title="Pairs ordered as labelled, by gap of scores",
                says="The share with a margin above zero, with Wilson's interval; half is chance.",
                x="gap of scores, chosen minus rejected",
                y="share of pairs",
                kind="points",
                series=[*_series(by_gap, asked, "gap", "accuracy"), half],
            ),
        ]
    charts.append(
        Chart(
            id="accuracy",
            title="Held-out pairs ordered as labelled",
            says="The share of held-out pairs whose implicit margin is above zero, with Wilson's interval.",
            x="optimiser step",
            y="share of pairs",
            series=_series(by_step, asked, "step", "accuracy"),
        )
    )
    return tuple(charts)


def _series(rows: Sequence[Mapping[str, Any]], asked: Sequence[str], x: str, y: str) -> list[Series]:
    found = []
    for name in asked:
        mine = [row for row in rows if row["asked"] == name]
        found.append(
            Series(
                name=ASKED[name],
                x=[row[x] for row in mine],
                y=[row[y] for row in mine],
                low=[row[f"{y}_low"] for row in mine],
                high=[row[f"{y}_high"] for row in mine],
            )
        )
    return found
