"""Unlearning: does training take probability from rejected answers that are good?"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pairwright.charts import Chart, Series
from pairwright.diagnose.finding import Finding, Level, Part
from pairwright.diagnose.readings import (
    ASKED,
    Readings,
    buckets,
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
from pairwright.stats import Interval

SOURCE = "arXiv 2410.08067, section 3.1 and figure 3"
HIGH = 5.0
"""The paper's bar for a good answer on a scale of 1 to 10."""

_RELABEL = (
    "Relabel the pairs (`relabel`, mode ra), so that a good rejected answer is the chosen one under its own score; or "
    "select pairs with a larger gap of scores."
)
_RELABELLED = (
    "The pairs ask for scores already, and these answers are not given back to whoever asks for theirs: look at goal "
    "control, or select pairs with a larger gap of scores."
)
_CONTROL = (
    "Look at goal control: whether the goal stands in the prompt in full, and whether answers follow it; then train "
    "longer, or with both copies (`relabel`, mode ra)."
)
_REMEDY_OWN: Mapping[Level, str] = {"warning": _CONTROL, "note": _CONTROL, "fine": ""}


def unlearning(
    probes: Probes, *, subject: str, at_least: float | None = None, draws: int = 2000, seed: int = 0
) -> Part:
    """How the log-probability of high-scoring rejected answers moves, by step and by score.

    The change of an answer is `log pi(y|x) - log start(y|x)`, in nats; negative means that it lost probability. It is
    reported summed over the answer and per token, under no goal, under the best goal and under the answer's own score,
    policy and start being asked alike. The paper does not say which of these it shows; the headline is the sum under
    no goal. An answer that is rejected in several pairs counts once. Intervals are over prompts.

    Source: arXiv 2410.08067, section 3.1 and figure 3.

    Args:
        probes: of one training.
        subject: the training's name.
        at_least: score from which a rejected answer is a good one; when not given, 5 on a scale of 1 to 10 (the
            paper's), else the median of the rejected scores.
        draws: bootstrap samples.
        seed: of the draws.

    Returns:
        `change_sum/<asked>`, `change_mean/<asked>` (per token) and `logp_sum/<asked>`, `start_sum/<asked>` at the last
        step, `change_below/<asked>` (the sum's, of rejected answers under `at_least`); a table by step and, at the
        last step, by score.

    Raises:
        InputError: nothing was probed after step 0, the start's numbers are not there, no rejected answer has a score,
            none has `at_least`, or nothing of those that have is finite at the last step.
    """
    readings = read(probes, "rejected", key=("prompt_id", "response_id"))
    notes = []
    scored = readings.answers["score"].is_finite().fill_null(False).to_numpy()
    if not scored.any():
        raise InputError("no rejected answer of the probes has a score; score the answers before they are paired")
    if left := int((~scored).sum()):
        notes.append(f"{left:,} rejected answers have no score and are left out.")
    readings = readings.only(scored)
    scores = readings.answers["score"].to_numpy()
    threshold, why = (at_least, "as given") if at_least is not None else _threshold(probes, scores)
    high = scores >= threshold
    if not high.any():
        raise InputError(
            f"no rejected answer scores at least {threshold:g} (the best {scores.max():g}); lower at_least"
        )
    if not np.isfinite(readings.change[0, high, -1]).any():
        raise InputError(
            f"at step {readings.steps[-1]:,} no log-ratio of the rejected answers that score at least {threshold:g} is "
            "finite: training has diverged; train with a smaller learning rate"
        )
    notes.append(f"An answer counts as good from a score of {threshold:g}: {why}.")
    notes += unread_note(readings, "rejected answers")
    numbers = _numbers(readings.only(high), draws=draws, seed=seed)
    by_score, below = _by_score(readings, ~high, draws=draws, seed=seed)
    result = Result(
        name="unlearning",
        n=int(high.sum()),
        settings={"at_least": threshold, "draws": draws, "seed": seed},
        metrics=_metrics(readings, numbers, below, threshold),
        table=(*_by_step(readings, numbers, high, threshold), *by_score),
        notes=tuple(notes),
    )
    return Part(
        name="unlearning",
        subject=subject,
        title="Good answers on the rejected side",
        result=result,
        findings=_findings(readings, numbers, below, subject=subject, threshold=threshold, n=int(high.sum())),
        charts=_charts(readings, numbers, by_score, threshold),
    )


def _threshold(probes: Probes, scores: Any) -> tuple[float, str]:
    every = probes.rows["score"].drop_nulls().drop_nans().to_numpy()
    # A scale of 1 to 5 lies inside 1 to 10 too, and its 5 is not a middling answer.
    if every.min() >= 1.0 and HIGH < every.max() <= 10.0:
        return HIGH, "the paper's bar on a scale of 1 to 10"
    return float(np.median(scores)), "the median score of the rejected answers, since the scale is not 1 to 10"


def _numbers(good: Readings, *, draws: int, seed: int) -> dict[str, Any]:
    length = good.length[..., None]
    columns = {
        "logp_sum": good.logp,
        "logp_mean": good.logp / length,
        "start_sum": good.start[..., None],
        "start_mean": good.start[..., None] / length,
        "change_sum": good.change,
        "change_mean": good.change / length,
    }
    return means(columns, good.prompts, draws=draws, seed=seed)


def _by_score(readings: Readings, low: Any, *, draws: int, seed: int) -> tuple[list[dict[str, Any]], list[Interval]]:
    """A row for each group of scores and way of asking at the last step; and the change of what scores low."""
    change = readings.change[..., -1:]
    groups = buckets(readings.answers["score"].to_numpy())
    masks = [low, *(mask for _, mask in groups)]
    of_groups = np.stack(
        [np.where(mask[None, :, None], change, np.nan) for mask in masks]
    )  # [group, asked, answers, 1]
    per_token = of_groups / readings.length[None, ..., None]
    found = means({"sum": of_groups, "mean": per_token}, readings.prompts, draws=draws, seed=seed)
    rows = [
        {
            "step": readings.steps[-1],
            "asked": asked,
            "scores": label,
            "answers": int(np.isfinite(of_groups[i + 1, a, :, 0]).sum()),
            "prompts": found["sum"][i + 1, a, 0].n,
            **_levels(readings.only(mask), a),
            **ends(found["sum"][i + 1, a, 0], "change_sum"),
            **ends(found["mean"][i + 1, a, 0], "change_mean"),
        }
        for a, asked in enumerate(readings.asked)
        for i, (label, mask) in enumerate(groups)
    ]
    return rows, list(found["sum"][0, :, 0])


def _levels(readings: Readings, a: int) -> dict[str, float | None]:
    length = readings.length[a]
    values = {
        "start_sum": readings.start[a],
        "logp_sum": readings.logp[a, :, -1],
        "start_mean": readings.start[a] / length,
        "logp_mean": readings.logp[a, :, -1] / length,
    }
    return {
        name: number(each[np.isfinite(each)].mean()) if np.isfinite(each).any() else None
        for name, each in values.items()
    }


def _by_step(readings: Readings, numbers: dict[str, Any], high: Any, threshold: float) -> list[dict[str, Any]]:
    rows = []
    for a, asked in enumerate(readings.asked):
        for s, step in enumerate(readings.steps):
            sums = numbers["change_sum"][a, s]
            if not sums.n:
                continue
            rows.append(
                {
                    "step": step,
                    "asked": asked,
                    "scores": f"at least {threshold:g}",
                    "answers": int(np.isfinite(readings.change[a, high, s]).sum()),
                    "prompts": sums.n,
                    "start_sum": number(numbers["start_sum"][a, 0].value),
                    "logp_sum": number(numbers["logp_sum"][a, s].value),
                    "start_mean": number(numbers["start_mean"][a, 0].value),
                    "logp_mean": number(numbers["logp_mean"][a, s].value),
                    **ends(sums, "change_sum"),
                    **ends(numbers["change_mean"][a, s], "change_mean"),
                }
            )
    return rows


def _metrics(
    readings: Readings, numbers: dict[str, Any], below: list[Interval], threshold: float
) -> tuple[Metric, ...]:
    what = f"rejected answers with a score of at least {threshold:g}"
    metrics = []
    for a, asked in enumerate(readings.asked):
        how = ASKED[asked]
        metrics += [
            Metric.of(
                f"change_sum/{asked}",
                numbers["change_sum"][a, -1],
                f"mean change from the start of the summed logp of {what}, nats, {how}; n are prompts",
            ),
            Metric.of(f"change_mean/{asked}", numbers["change_mean"][a, -1], f"the same per token, {how}"),
            Metric.of(f"change_below/{asked}", below[a], f"the summed change of rejected answers under it, {how}"),
            Metric.of(f"logp_sum/{asked}", numbers["logp_sum"][a, -1], f"mean summed logp of {what}, nats, {how}"),
            Metric.of(f"start_sum/{asked}", numbers["start_sum"][a, 0], f"the same of the start, {how}"),
        ]
    return tuple(metrics)


def _findings(
    readings: Readings, numbers: dict[str, Any], below: list[Interval], *, subject: str, threshold: float, n: int
) -> tuple[Finding, ...]:
    changes = {asked: numbers["change_sum"][a, -1] for a, asked in enumerate(readings.asked)}
    headline = next(iter(changes))
    change, own = changes[headline], changes.get("own")
    level = fall(change)
    # Relabelled training takes such answers away under no goal, and gives them back to whoever asks for their score.
    kept = own is not None and own.low >= 0
    level = "note" if level == "warning" and kept else level
    token = numbers["change_mean"][0, -1].value
    other = (
        ""
        if math.isnan(below[0].value)
        else f" Rejected answers under that score changed by {below[0].value:+.3g} nats."
    )
    found = [
        Finding.of(
            "unlearning",
            change,
            subject=subject,
            level=level,
            says=f"At step {readings.steps[-1]:,} the summed log-probability of the {n:,} rejected answers that score "
            f"at least {threshold:g} has changed by {change.value:+.3g} nats from the start ({within(change)}; "
            f"{token:+.3g} per token), {ASKED[headline]}.{other}",
            means="A pair takes probability from its rejected answer however good that answer is: what the data scores "
            "well is unlearned."
            + (" Asked for their own score these answers did not lose probability." if kept else ""),
            remedy="" if level == "fine" else _remedy(own, kept=kept),
            source=SOURCE,
        )
    ]
    if own is not None:
        found.append(_of_own(own, subject=subject, step=readings.steps[-1]))
    return tuple(found)


def _remedy(own: Interval | None, *, kept: bool) -> str:
    if own is None:
        return _RELABEL
    return "Ask for a score when generating." if kept else _RELABELLED


def _of_own(own: Interval, *, subject: str, step: int) -> Finding:
    level = fall(own)
    return Finding.of(
        "unlearning_own_goal",
        own,
        subject=subject,
        level=level,
        says=f"At step {step:,} the same answers have changed by {own.value:+.3g} nats ({within(own)}) when their own "
        "score is asked for.",
        means="Relabelled training makes a rejected answer the chosen one under its own score, so there it should gain "
        "probability. Where it does not, the goal does not reach the model.",
        remedy=_REMEDY_OWN[level],
        source=SOURCE,
    )


def _charts(
    readings: Readings, numbers: dict[str, Any], by_score: list[dict[str, Any]], threshold: float
) -> tuple[Chart, ...]:
    steps = list(readings.steps)
    lines = [
        Series(
            name=ASKED[asked],
            x=list(steps),
            y=[number(each.value) for each in numbers["change_sum"][a]],
            low=[number(each.low) for each in numbers["change_sum"][a]],
            high=[number(each.high) for each in numbers["change_sum"][a]],
        )
        for a, asked in enumerate(readings.asked)
    ]
    start = Series(name="start", x=[steps[0], steps[-1]], y=[0.0, 0.0], reference=True)
    bars = []
    for asked in readings.asked:
        rows = [row for row in by_score if row["asked"] == asked]
        bars.append(
            Series(
                name=ASKED[asked],
                x=[row["scores"] for row in rows],
                y=[row["change_sum"] for row in rows],
                low=[row["change_sum_low"] for row in rows],
                high=[row["change_sum_high"] for row in rows],
            )
        )
    return (
        Chart(
            id="by_step",
            title=f"Rejected answers that score at least {threshold:g}",
            says="Below zero: less likely than before training. The bands are 95% intervals over prompts.",
            x="optimiser step",
            y="change of summed logp from the start, nats",
            series=[*lines, start],
        ),
        Chart(
            id="by_score",
            title=f"Rejected answers by score, at step {steps[-1]:,}",
            says="Falls that are as deep for high scores as for low ones: training does not see how good an answer is.",
            x="score of the rejected answer",
            y="change of summed logp from the start, nats",
            kind="bar",
            series=bars,
        ),
    )
