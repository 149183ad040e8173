"""Length: do answers get longer, does the implicit reward pay for it, and do wins come from it?"""

import math
from typing import Annotated, Any

import numpy as np
import polars as pl
from pydantic import Field

from pairwright.charts import Chart, Series
from pairwright.diagnose.answers import Answers
from pairwright.diagnose.by_prompt import (
    Floats,
    asked_for_most,
    asked_for_none,
    drawn_sums,
    interval,
    mean_over,
    means,
    shared,
    told,
    wins,
)
from pairwright.diagnose.finding import Finding, Level, Part
from pairwright.errors import InputError
from pairwright.evaluate.result import Metric, Result, as_json
from pairwright.probes.store import Probes
from pairwright.stats import Interval

RATIOS = (0.5, 0.8, 1.25, 2.0)
"""Edges of the bins of length of policy over length of start."""
_PAPER = "arXiv 2406.02900 (implicit reward regressed on length)"


def length_drift(
    policy: Answers,
    start: Answers,
    *,
    much: Annotated[float, Field(gt=0)] = 0.1,
    draws: int = 2000,
    seed: int = 0,
) -> Part:
    """How much longer a model answers than the start, prompt by prompt.

    Lengths are means over the answers to a prompt, in tokens. Of a model that was asked for goals the answers to the
    highest are read, of the start those without a goal.

    Args:
        policy: answers with `length`.
        start: answers of the start to the same prompts.
        much: a longer mean by more than this share of the start's is a warning, and so is one below half of the
            start's beyond doubt; any other change beyond doubt is a note.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        `difference` (tokens, policy minus start), `ratio` (of the means), `longer` (share of prompts with a longer
        answer, equal ones half), `mean/policy`, `mean/start`.

    Raises:
        InputError: lengths are not known, or no prompt is in both.
    """
    both = _lengths(policy, start)
    both = both.with_columns(gap=pl.col("length") - pl.col("length_start"), longer=wins(*_columns("length")))
    columns = both.select("length", "length_start").to_numpy().astype(np.float64)
    total, drawn, n = drawn_sums(columns, both["prompt_id"].to_list(), draws=draws, seed=seed)
    gap = mean_over(both, "gap", draws=draws, seed=seed)
    ratio = interval(total[0] / total[1], drawn[:, 0] / drawn[:, 1], n)
    way = "longer" if gap.low > 0 else "shorter" if gap.high < 0 else "same"
    bad = {"longer": ratio.value > 1 + much, "shorter": ratio.high < _HALF, "same": False}[way]
    level: Level = "warning" if bad else "fine" if way == "same" else "note"
    finding = Finding.of(
        "length_drift",
        gap,
        subject=f"{policy.name} against {start.name}",
        level=level,
        says=(f"Answers have {told(gap)} tokens against the start, {told(ratio, '.3g')} times as many."),
        means=_MEANS[way],
        remedy=_REMEDIES[way] if level == "warning" else "",
        source="pairwright (rule); arXiv 2406.02900 (length under preference training)",
    )
    levels = {f"mean/{name}": mean_over(both, column, draws=draws, seed=seed) for name, column in _SIDES.items()}
    result = Result(
        name="length_drift",
        n=len(both),
        settings={"much": much, "draws": draws, "seed": seed},
        metrics=(
            Metric.of("difference", gap, "tokens of an answer, policy minus start; n are prompts"),
            Metric.of("ratio", ratio, "mean tokens of the policy over those of the start"),
            Metric.of("longer", mean_over(both, "longer", draws=draws, seed=seed), "share of prompts answered longer"),
            *(Metric.of(name, each, "mean tokens of an answer") for name, each in levels.items()),
        ),
        table=tuple({"side": name, **as_json(each), "prompts": each.n} for name, each in levels.items()),
    )
    lengths = Chart(
        id="lengths",
        title="Length of the answer to each prompt",
        says="Each point is a prompt; above the dotted line the policy answers it longer than the start.",
        x="tokens of the start's answer",
        y="tokens of the policy's answer",
        kind="points",
        series=[
            Series(name="prompts", x=both["length_start"].to_list(), y=both["length"].to_list()),
            Series(name="as long", x=[*_span(both)], y=[*_span(both)], reference=True),
        ],
    )
    return Part(
        name="length_drift",
        subject=f"{policy.name} against {start.name}",
        title="Length of answers",
        result=result,
        findings=(finding,),
        charts=(lengths,),
    )


_SIDES = {"policy": "length", "start": "length_start"}
_HALF = 0.5
"""Of the start's mean length: answers below it have lost most of what they said."""
_MEANS = {
    "longer": "Preference training often lengthens answers, whether that helps or not.",
    "shorter": "Answers became shorter. A little of that is what a charge for length does; far below the start's they "
    "end before they have said what was asked.",
    "same": "Lengths stayed as they were, as far as these prompts can tell.",
}
_REMEDIES = {
    "longer": "Look at the win rate at matched lengths; train with a loss that charges for length (a penalty, averages "
    "over tokens), or select pairs whose sides are alike in length.",
    "shorter": "Read some of the answers, and look at their scores; take a larger beta, fewer steps or an earlier "
    "checkpoint, charge less for length, or select pairs whose sides are alike in length.",
    "same": "",
}


def length_reward(probes: Probes, *, subject: str, draws: int = 2000, seed: int = 0) -> Part:
    """How much of the implicit reward is length: `rho = gamma |y|` through the origin, by step.

    `rho` is the log-ratio of an answer, in nats (beta would only change the unit of gamma), `|y|` its tokens; chosen
    and rejected held-out answers without a goal in the prompt. `gamma = sum(rho |y|) / sum(|y|^2)`, and R^2 is not
    centred: `1 - sum (rho - gamma |y|)^2 / sum rho^2`. So an R^2 near 1 also comes of log-ratios that are the same for
    each token, whatever the answer says. Where the model was asked to write, R^2 stands beside the distance from the
    start, `sqrt(KL)` of its own answers.

    Source: arXiv 2406.02900 (regression of the implicit reward on length, R^2 against the KL budget).

    Args:
        probes: of one training.
        subject: its name.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        `gamma` (nats for each token) and `r2` of the last step; the table has a row for each step.

    Raises:
        InputError: no log-ratio is known.
    """
    read = probes.rows.filter(pl.col("asked") == "none").drop_nulls(["logp", "start_logp"])
    read = read.with_columns(rho=pl.col("logp") - pl.col("start_logp")).filter(pl.col("length") > 0)
    finite = read.filter(pl.col("rho").is_finite())
    if finite.is_empty() and len(read):
        raise InputError(
            f"{subject}: no log-ratio of a probe is finite: training has diverged; train with a smaller learning rate"
        )
    left, read = len(read) - len(finite), finite
    if read.is_empty():
        raise InputError(f"{subject}: no probe knows what the start says of the pairs; probe step 0 of the training")
    distance = _distances(probes.samples)
    rows: list[dict[str, Any]] = []
    found: tuple[Interval, Interval] | None = None
    for step in sorted(read["step"].unique()):
        part = read.filter(pl.col("step") == step)
        gamma, r2 = _through_origin(part, draws, seed)
        d = distance.get(int(step))
        rows.append({"step": int(step), **_named("gamma", gamma), **_named("r2", r2), "d": d, "answers": len(part)})
        found = gamma, r2
    assert found is not None
    gamma, r2 = found
    half = r2.low > 0.5
    finding = Finding.of(
        "length_reward",
        r2,
        subject=subject,
        level="note" if half else "fine",
        says=(
            f"Length alone explains {told(r2, '.0%')} of the squared log-ratios at step "
            f"{rows[-1]['step']}: {gamma.value:+.3g} nats for each token."
            if not math.isnan(r2.value)
            else f"The log-ratios at step {rows[-1]['step']} are all 0."
        ),
        means=(
            "The log-ratio of an answer is mostly its number of tokens: "
            + (
                "longer answers are rewarded."
                if gamma.value > 0
                else "all tokens lose alike, so longer answers lose more."
            )
            if half
            else "What the model thinks of an answer is not mostly its length."
        ),
        remedy="Compare with a loss that averages over tokens, or that charges for length." if half else "",
        source=f"{_PAPER}; the bound of one half is pairwright's",
    )
    result = Result(
        name="length_reward",
        n=r2.n,
        settings={"draws": draws, "seed": seed},
        metrics=(
            Metric.of("gamma", gamma, "log-ratio for each token at the last step, nats; n are prompts"),
            Metric.of("r2", r2, "share of the squared log-ratios that length explains, at the last step"),
        ),
        table=tuple(rows),
        notes=(f"{left:,} log-ratios are not finite and are left out.",) if left else (),
    )
    return Part(
        name="length_reward",
        subject=subject,
        title="Length in the implicit reward",
        result=result,
        findings=(finding,),
        charts=tuple(_reward_charts(rows)),
    )


def length_matched(
    policy: Answers,
    start: Answers,
    *,
    within: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    draws: int = 2000,
    seed: int = 0,
) -> Part:
    """Win rate against the start at all lengths, between answers of about the same length, and by ratio of lengths.

    Every answer of the policy meets every answer of the start to the same prompt; a prompt counts once. Where both are
    the same text they do not meet: that tie would be counted at equal lengths only. Any other tie is half a win.
    Lengths match where they differ by at most `within` of the longer one. Intervals are over prompts.

    Args:
        policy: scored answers with `length`.
        start: scored answers of the start to the same prompts.
        within: share of the longer length.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        `win` (all lengths), `win/matched`, `by_length` (win minus win/matched: what lengths brought); a row for each
        bin of the ratio of lengths.

    Raises:
        InputError: scores or lengths are not known, no prompt is in both, or all answers are the same.
    """
    needed = ["score", "length"]
    one, two = asked_for_most(policy).drop_nulls(needed), asked_for_none(start).drop_nulls(needed)
    _needed(policy, one, "scored answers of known length")
    _needed(start, two, "scored answers of known length")
    means(one, "score")
    means(two, "score")
    meet = shared(
        one.select("prompt_id", "text", *needed),
        two.select("prompt_id", "text", *needed),
        what="win rate at matched lengths",
    )
    alike = (pl.col("text") == pl.col("text_start")).fill_null(False)
    notes = []
    if count := meet.filter(alike).height:
        notes.append(
            f"{count:,} of {len(meet):,} meetings are of the same text and left out: they are ties of equal length, "
            "whatever length brings to the others."
        )
        meet = meet.filter(~alike)
    if meet.is_empty():
        raise InputError(f"{policy.name} answers every prompt as {start.name} does; there is nothing to compare")
    longer = pl.max_horizontal(*_columns("length"))
    meet = meet.with_columns(
        win=wins(*_columns("score")),
        weight=1 / pl.len().over("prompt_id"),
        matched=(pl.col("length") - pl.col("length_start")).abs() <= within * longer,
        ratio=pl.when(longer == 0).then(1.0).otherwise(pl.col("length") / pl.col("length_start")),
    )
    every = pl.lit(True)
    bins = [(each, _between(*each)) for each in zip((0.0, *RATIOS), (*RATIOS, math.inf), strict=True)]
    rates = _rates(meet, [every, pl.col("matched"), *(where for _, where in bins)], draws, seed)
    overall, matched, *by_bin = (rate for rate, _ in rates)
    gap = _gap(meet, draws, seed)
    counts = [int(meet.select(where.sum()).item()) for _, where in bins]
    table = [
        {"length of policy / start": _bin(*edges), **as_json(rate), "prompts": rate.n, "meetings": count}
        for (edges, _), rate, count in zip(bins, by_bin, counts, strict=True)
    ]
    findings = []
    if matched.n:
        findings.append(_on_matched(policy, start, overall, matched, gap, within))
    else:
        notes.append(f"No two answers to one prompt have lengths within {within:.0%}, so nothing is matched.")
    drawn = [(row, rate) for row, rate in zip(table, by_bin, strict=True) if rate.n]
    chart = Chart(
        id="win-by-length",
        title="Win rate by ratio of lengths",
        says="If wins come from length, bars rise from left to right; at equal lengths the middle bar counts.",
        x="tokens of the policy's answer over tokens of the start's",
        y="share of meetings won (a tie is half)",
        kind="bar",
        series=[
            Series(
                name="win rate",
                x=[row["length of policy / start"] for row, _ in drawn],
                y=[rate.value for _, rate in drawn],
                low=[_end(rate.low) for _, rate in drawn],
                high=[_end(rate.high) for _, rate in drawn],
            )
        ],
    )
    return Part(
        name="length_matched",
        subject=f"{policy.name} against {start.name}",
        title="Wins at matched lengths",
        result=Result(
            name="length_matched",
            n=len(meet),
            settings={"within": within, "draws": draws, "seed": seed},
            metrics=(
                Metric.of("win", overall, "share of meetings won at any length; n are prompts"),
                Metric.of("win/matched", matched, f"share won where lengths differ by at most {within:.0%}"),
                Metric.of("by_length", gap, "win minus win/matched: what lengths brought; n are prompts"),
            ),
            table=tuple(table),
            notes=tuple(notes),
        ),
        findings=tuple(findings),
        charts=(chart,),
    )


def _needed(answers: Answers, frame: pl.DataFrame, what: str) -> None:
    if frame.is_empty():
        raise InputError(f"{answers.name} has no {what}; score its answers and read them with logprobs")


def _lengths(policy: Answers, start: Answers) -> pl.DataFrame:
    one, two = asked_for_most(policy).drop_nulls("length"), asked_for_none(start).drop_nulls("length")
    _needed(policy, one, "answers of known length")
    _needed(start, two, "answers of known length")
    return shared(means(one, "length"), means(two, "length"), what="length")


def _columns(name: str) -> tuple[pl.Expr, pl.Expr]:
    return pl.col(name), pl.col(f"{name}_start")


def _span(both: pl.DataFrame) -> list[float]:
    ends = [*both["length"], *both["length_start"]]
    return [float(min(ends)), float(max(ends))]


def _through_origin(part: pl.DataFrame, draws: int, seed: int) -> tuple[Interval, Interval]:
    """Slope and R^2 (not centred), with intervals over prompts: both are functions of three sums."""
    rho, length = part["rho"].to_numpy(), part["length"].to_numpy().astype(np.float64)
    columns = np.stack([rho * length, length**2, rho**2], axis=1)
    total, drawn, n = drawn_sums(columns, part["prompt_id"].to_list(), draws=draws, seed=seed)
    return (
        interval(total[0] / total[1], drawn[:, 0] / drawn[:, 1], n),
        interval(float(_r2(total[None])[0]), _r2(drawn), n),
    )


def _r2(sums: Floats) -> Floats:
    """`sum(rho |y|)^2 / (sum |y|^2 sum rho^2)`, which is 1 minus what the best slope leaves; NaN where rho is 0."""
    cross, lengths, squares = sums.T
    share: Floats = cross**2 / (lengths * np.where(squares > 0, squares, np.nan))
    return share


def _distances(samples: pl.DataFrame) -> dict[int, float]:
    """Sqrt of the mean KL of the model's own answers without a goal, by step."""
    own = samples.filter(pl.col("asked") == "none").drop_nulls("kl")
    by_prompt = own.group_by("step", "prompt_id").agg(pl.col("kl").mean())
    by_step = by_prompt.group_by("step").agg(pl.col("kl").mean()).sort("step")
    return {int(step): math.sqrt(max(0.0, kl)) for step, kl in by_step.iter_rows()}


def _named(name: str, each: Interval) -> dict[str, float | None]:
    return {name if end == "value" else f"{name}_{end}": value for end, value in as_json(each).items()}


def _reward_charts(rows: list[dict[str, Any]]) -> list[Chart]:
    def chart(name: str, title: str, x: str, of: str, mine: list[dict[str, Any]], kind: Any) -> Chart:
        return Chart(
            id=name,
            title=title,
            says="1: the log-ratio of an answer is its length times one number; 0: length says nothing.",
            x=x,
            y="R^2 of the log-ratio on length, through the origin",
            kind=kind,
            series=[
                Series(
                    name="R^2",
                    x=[row[of] for row in mine],
                    y=[row["r2"] for row in mine],
                    low=[row["r2_low"] for row in mine],
                    high=[row["r2_high"] for row in mine],
                    labels=[f"step {row['step']}" for row in mine],
                )
            ],
        )

    charts = [chart("r2", "Length in the implicit reward, by step", "optimiser step", "step", rows, "line")]
    if far := [row for row in rows if row["d"] is not None]:
        x = "d = sqrt(KL from the start), sqrt(nats) for an answer"
        charts.append(
            chart("r2-by-d", "Length in the implicit reward, by distance from the start", x, "d", far, "points")
        )
    return charts


def _between(low: float, high: float) -> pl.Expr:
    return (pl.col("ratio") >= low) & (pl.col("ratio") < high)


def _bin(low: float, high: float) -> str:
    if low == 0.0:
        return f"below {high:g}"
    return f"{low:g} to {high:g}" if math.isfinite(high) else f"{low:g} and more"


def _sums(meet: pl.DataFrame, where: pl.Expr) -> Floats:
    """Weighted wins and weights where something holds: a prompt counts by the share of its meetings that are there."""
    columns = meet.select(
        pl.when(where).then(pl.col("win") * pl.col("weight")).otherwise(0.0).alias("won"),
        pl.when(where).then(pl.col("weight")).otherwise(0.0).alias("of"),
    )
    return columns.to_numpy()


def _rates(meet: pl.DataFrame, wheres: list[pl.Expr], draws: int, seed: int) -> list[tuple[Interval, Floats]]:
    found = []
    prompts = meet["prompt_id"].to_list()
    for where in wheres:
        total, drawn, _ = drawn_sums(_sums(meet, where), prompts, draws=draws, seed=seed)
        n = meet.filter(where)["prompt_id"].n_unique()
        rate = _share(drawn)
        value = float(_share(total[None])[0])
        found.append((interval(value, rate, n), rate))
    return found


def _share(sums: Floats) -> Floats:
    won, of = sums.T
    share: Floats = won / np.where(of > 0, of, np.nan)
    return share


def _gap(meet: pl.DataFrame, draws: int, seed: int) -> Interval:
    """Win rate at any length minus that at matched lengths, both of the same drawn prompts."""
    columns = np.concatenate([_sums(meet, pl.lit(True)), _sums(meet, pl.col("matched"))], axis=1)
    total, drawn, n = drawn_sums(columns, meet["prompt_id"].to_list(), draws=draws, seed=seed)
    value = float((_share(total[None, :2]) - _share(total[None, 2:]))[0])
    return interval(value, _share(drawn[:, :2]) - _share(drawn[:, 2:]), n)


def _on_matched(
    policy: Answers, start: Answers, overall: Interval, matched: Interval, gap: Interval, within: float
) -> Finding:
    bought = gap.low > 0
    level: Level = "warning" if bought and overall.low > 0.5 >= matched.low else "note" if bought else "fine"
    return Finding.of(
        "length_matched",
        matched,
        subject=f"{policy.name} against {start.name}",
        level=level,
        says=(
            f"The win rate is {told(overall, '.0%')} at any length and "
            f"{told(matched, '.0%')} where lengths differ by at most {within:.0%} "
            f"({matched.n:,} prompts)."
        ),
        means=(
            "Part of the wins goes with the length of the answers, not with what they say at a given length."
            if bought
            else "Wins do not depend on length beyond doubt."
        ),
        remedy=(
            "Report the matched win rate beside the other, and train with a loss that charges for length."
            if bought
            else ""
        ),
        source="pairwright",
    )


def _end(number: float) -> float | None:
    return None if math.isnan(number) else number
