"""Likelihood displacement: does training take probability from the answers that it should prefer?"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from pairwright.charts import Chart, Series
from pairwright.diagnose.finding import Finding, Level, Part
from pairwright.diagnose.readings import (
    ASKED,
    ROUNDING,
    Floats,
    ends,
    fall,
    means,
    number,
    read,
    unread_note,
    within,
)
from pairwright.errors import InputError
from pairwright.evaluate.result import Metric, Result
from pairwright.probes.store import Probes
from pairwright.stats import Interval, spearman, wilson

SOURCE = "arXiv 2404.12358 (why the chosen reward falls); arXiv 2410.11677"
_SIDES = ("chosen", "rejected")
_MEANS = (
    "A loss of pairs fixes only the difference of the two sides, so both may fall. Where training started from a model "
    "that was fine-tuned on the chosen answers they must fall on average: over the start's own answers the mean of "
    "log(pi / start) is -KL(start || pi), which is never above 0. A fall alone is no harm yet; one with less and less "
    "spread over the next tokens is."
)
_LESS = (
    "Look at over-optimisation (entropy and mass of the next tokens) and at the scores of its answers. To hold the "
    "chosen side up: add the term `sft` to the loss, or take `nca_pair`, `apo_zero` or `bco`; or a larger beta, or "
    "fewer steps."
)
_REMEDY: Mapping[Level, str] = {"warning": _LESS, "note": _LESS, "fine": ""}


def displacement(probes: Probes, *, subject: str, draws: int = 2000, seed: int = 0) -> Part:
    """How the log-probabilities of chosen and rejected answers move, and how much left both.

    The change of an answer is `log pi(y|x) - log start(y|x)`, in nats, summed over the answer or per token; negative
    means that it lost probability. Of a pair, `both` is the change of `log(pi(chosen) + pi(rejected))`: what its two
    answers have gained or lost together, to other answers. Prompts with the answer's own score are left out, since
    the two answers of a pair do not share one. Intervals are over prompts.

    Source: arXiv 2404.12358 (E over the start's answers of log(pi / start) = -KL(start || pi)); arXiv 2410.11677.

    Args:
        probes: of one training.
        subject: the training's name.
        draws: bootstrap samples.
        seed: of the draws.

    Returns:
        At the last step, under each way of asking: `change_sum/<side>`, `change_mean/<side>`, `both`, and `both_fell`,
        the share of pairs of which both sides lost probability (Wilson's interval over pairs). The table has them by
        step. Names end in `/<asked>` where it is not `none`.

    Raises:
        InputError: no pair was probed on both sides after step 0, or the start's numbers are not there.
    """
    # Under their own scores the two answers of a pair stand after two prompts: there is nothing that both share.
    alike = probes.rows.filter(pl.col("asked") != "own")
    whole = alike.filter(pl.col("side").n_unique().over("pair") == 2)
    of_pairs = Probes(probes.about, probes.steps, whole, probes.samples, probes.credit)
    chosen, rejected = (read(of_pairs, side, key=["pair"]) for side in _SIDES)
    asked, steps, prompts = chosen.asked, chosen.steps, chosen.prompts
    with np.errstate(invalid="ignore"):  # NaN is what was not read
        now = np.logaddexp(chosen.logp, rejected.logp)
        then = np.logaddexp(chosen.start, rejected.start)[..., None]
    columns = {"both": now - then}
    for side, readings in zip(_SIDES, (chosen, rejected), strict=True):
        columns[f"logp_sum/{side}"] = readings.logp
        columns[f"logp_mean/{side}"] = readings.logp / readings.length[..., None]
        columns[f"change_sum/{side}"] = readings.change
        columns[f"change_mean/{side}"] = readings.change / readings.length[..., None]
    numbers = means(columns, prompts, draws=draws, seed=seed)
    fell = _both_fell(chosen.change, rejected.change)
    result = Result(
        name="displacement",
        n=len(prompts),
        settings={"draws": draws, "seed": seed},
        metrics=tuple(metric for a in range(len(asked)) for metric in _metrics(asked[a], a, numbers, fell)),
        table=tuple(_table(asked, steps, numbers, fell)),
        notes=tuple(unread_note(chosen, "chosen answers") + unread_note(rejected, "rejected answers")),
    )
    return Part(
        name="displacement",
        subject=subject,
        title="Where the probability of chosen answers goes",
        result=result,
        findings=_findings(subject, steps[-1], asked[0], numbers, fell),
        charts=_charts(asked, steps, numbers, fell),
    )


def _both_fell(chosen: Floats, rejected: Floats) -> Any:
    """Share of pairs of which both sides fell by more than rounding, of those with both numbers, [asked, steps]."""
    known = np.isfinite(chosen) & np.isfinite(rejected)
    fell = known & (chosen < -ROUNDING) & (rejected < -ROUNDING)
    found = np.empty((chosen.shape[0], chosen.shape[2]), dtype=object)
    for at in np.ndindex(found.shape):
        found[at] = wilson(int(fell[at[0], :, at[1]].sum()), int(known[at[0], :, at[1]].sum()))
    return found


def _metrics(asked: str, a: int, numbers: Mapping[str, Any], fell: Any) -> list[Metric]:
    how, tail = ASKED[asked], "" if asked == "none" else f"/{asked}"
    metrics = []
    for side in _SIDES:
        what = f"mean change from the start of the logp of {side} answers"
        metrics += [
            Metric.of(
                f"change_sum/{side}{tail}",
                numbers[f"change_sum/{side}"][a, -1],
                f"{what}, nats, summed, {how}; n are prompts",
            ),
            Metric.of(f"change_mean/{side}{tail}", numbers[f"change_mean/{side}"][a, -1], f"{what}, per token, {how}"),
        ]
    return [
        *metrics,
        Metric.of(f"both{tail}", numbers["both"][a, -1], f"mean change of log(pi(chosen) + pi(rejected)), nats, {how}"),
        Metric.of(f"both_fell{tail}", fell[a, -1], f"share of pairs of which both answers became less likely, {how}"),
    ]


def _table(asked: Sequence[str], steps: Sequence[int], numbers: Mapping[str, Any], fell: Any) -> list[dict[str, Any]]:
    rows = []
    for a, name in enumerate(asked):
        for s, step in enumerate(steps):
            if not fell[a, s].n:
                continue
            row: dict[str, Any] = {"step": step, "asked": name, "pairs": fell[a, s].n}
            for side in _SIDES:
                row[f"logp_sum_{side}"] = number(numbers[f"logp_sum/{side}"][a, s].value)
                row[f"logp_mean_{side}"] = number(numbers[f"logp_mean/{side}"][a, s].value)
                row |= ends(numbers[f"change_sum/{side}"][a, s], f"change_sum_{side}")
                row |= ends(numbers[f"change_mean/{side}"][a, s], f"change_mean_{side}")
            rows.append(row | ends(numbers["both"][a, s], "both") | ends(fell[a, s], "both_fell"))
    return rows


def _findings(subject: str, step: int, asked: str, numbers: Mapping[str, Any], fell: Any) -> tuple[Finding, ...]:
    chosen, rejected = (numbers[f"change_sum/{side}"][0, -1] for side in _SIDES)
    token = numbers["change_mean/chosen"][0, -1].value
    both, share = numbers["both"][0, -1], fell[0, -1]
    level = fall(chosen)
    most = fall(both)
    most = "note" if most == "warning" and not share.low > 0.5 else most
    return (
        Finding.of(
            "likelihood_displacement",
            chosen,
            subject=subject,
            level=level,
            says=f"At step {step:,} the summed log-probability of chosen answers has changed by {chosen.value:+.3g} "
            f"nats from the start ({within(chosen)}; {token:+.3g} per token), that of rejected ones by "
            f"{rejected.value:+.3g}, {ASKED[asked]}.",
            means=_MEANS,
            remedy=_REMEDY[level],
            source=SOURCE,
        ),
        Finding.of(
            "both_fell",
            share,
            subject=subject,
            level=most,
            says=f"Both answers became less likely in {share.value:.0%} of {share.n:,} pairs "
            f"(95% interval {share.low:.0%} to {share.high:.0%}); log(pi(chosen) + pi(rejected)) has changed by "
            f"{both.value:+.3g} nats ({within(both)}).",
            means="What both answers of a pair lose goes to answers that nobody has compared: the loss does not say to "
            "which.",
            remedy=_REMEDY[most],
            source="arXiv 2404.12358; arXiv 2406.02900 (mass on unseen answers)",
        ),
    )


def _charts(asked: Sequence[str], steps: Sequence[int], numbers: Mapping[str, Any], fell: Any) -> tuple[Chart, ...]:
    zero = Series(name="start", x=[steps[0], steps[-1]], y=[0.0, 0.0], reference=True)
    names = {"change_sum/chosen": "chosen", "change_sum/rejected": "rejected", "both": "both together"}
    return (
        Chart(
            id="change",
            title="Change of log-probability since the start",
            says=f"Chosen below zero: the answer that should win became less likely, {ASKED[asked[0]]}. 'Both "
            "together' is log(pi(chosen) + pi(rejected)); below zero, probability went to other answers.",
            x="optimiser step",
            y="change of summed logp from the start, nats",
            series=[*(_line(label, steps, numbers[name][0]) for name, label in names.items()), zero],
        ),
        Chart(
            id="per_token",
            title="Log-probability per token",
            says="Means over held-out answers; a token of probability 1 has 0.",
            x="optimiser step",
            y="logp per token, nats",
            series=[_line(side, steps, numbers[f"logp_mean/{side}"][0]) for side in _SIDES],
        ),
        Chart(
            id="both_fell",
            title="Pairs of which both answers became less likely",
            says="The share of held-out pairs, with Wilson's interval.",
            x="optimiser step",
            y="share of pairs",
            series=[_line(ASKED[name], steps, fell[a]) for a, name in enumerate(asked)],
        ),
    )


def _line(name: str, steps: Sequence[int], intervals: Sequence[Interval]) -> Series:
    return Series(
        name=name,
        x=list(steps),
        y=[number(each.value) for each in intervals],
        low=[number(each.low) for each in intervals],
        high=[number(each.high) for each in intervals],
    )


def displacement_of_logs(rows: Sequence[Mapping[str, Any]], *, subject: str) -> Part:
    """The same question asked of a training's log, where nothing was probed.

    Each line is a mean over another batch, so a single line says little; what is told is whether the log-probabilities
    rise or fall with the steps (Spearman's correlation, whose interval takes the lines as independent), and the mean
    of the last fifth of the lines minus that of the first. The start is not in it.

    Args:
        rows: lines of `metrics.jsonl` or of a trainer's `log_history`, with `step`, `logps/chosen`, `logps/rejected`
            (mean summed log-probability, nats).
        subject: the training's name.

    Returns:
        `difference/<side>` (nats; negative: fell) and `trend/<side>`. No finding is worse than a note.

    Raises:
        InputError: fewer than five lines have both numbers.
    """
    wanted = ("step", *(f"logps/{side}" for side in _SIDES))
    lines = sorted(
        ([float(row[name]) for name in wanted] for row in rows if all(_is_number(row.get(name)) for name in wanted)),
        key=lambda line: line[0],
    )
    if len(lines) < 5:
        raise InputError(
            f"{len(lines)} lines of the log have logps/chosen and logps/rejected, and five are needed; log more often "
            "(logging_steps), or train with probe_every"
        )
    table = np.array(lines)
    steps, tail = table[:, 0], max(1, len(lines) // 5)
    change = {side: float(table[-tail:, i].mean() - table[:tail, i].mean()) for i, side in enumerate(_SIDES, start=1)}
    trend = {side: spearman(steps, table[:, i]) for i, side in enumerate(_SIDES, start=1)}
    metrics = []
    for side in _SIDES:
        metrics += [
            Metric(
                name=f"difference/{side}",
                value=change[side],
                n=len(lines),
                says=f"mean summed logp of {side} answers in the last {tail:,} lines minus the first, nats",
            ),
            Metric.of(
                f"trend/{side}", trend[side], f"rank correlation of step and logp of {side} answers; n are lines"
            ),
        ]
    result = Result(
        name="displacement_of_logs",
        n=len(lines),
        metrics=tuple(metrics),
        table=tuple({"step": int(line[0]), "chosen": line[1], "rejected": line[2]} for line in lines),
        notes=("Every line is a mean over another batch, and no line is the start's: probes tell more.",),
    )
    return Part(
        name="displacement_of_logs",
        subject=subject,
        title="Log-probabilities in the training's log",
        result=result,
        findings=(_of_logs(subject, change, trend["chosen"], lines),),
        charts=(
            Chart(
                id="logged",
                title="Logged log-probability of training batches",
                says="Each point is another batch; look at the trend, not at single points.",
                x="optimiser step",
                y="mean summed logp, nats",
                series=[Series(name=side, x=list(steps), y=list(table[:, i])) for i, side in enumerate(_SIDES, 1)],
            ),
        ),
    )


def _of_logs(subject: str, change: Mapping[str, float], trend: Interval, lines: Sequence[Sequence[float]]) -> Finding:
    level: Level = "note" if trend.high < 0 and change["chosen"] < 0 else "fine"
    return Finding(
        check="likelihood_displacement",
        subject=subject,
        level=level,
        says=f"From step {lines[0][0]:,.0f} to {lines[-1][0]:,.0f} the logged summed log-probability of chosen "
        f"answers changed by {change['chosen']:+.3g} nats, that of rejected ones by {change['rejected']:+.3g}; rank "
        f"correlation of the chosen one with the step {trend.value:.2f} (95% interval {trend.low:.2f} to "
        f"{trend.high:.2f}).",
        value=change["chosen"],
        n=len(lines),
        means=_MEANS,
        remedy="Probe the same held-out pairs as training goes on (probe_every) to see it beside the start."
        if level == "note"
        else "",
        source=SOURCE,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
