"""Likelihood over-optimisation: how spread the next token is as training goes on, and where that turns."""

from typing import Any

import numpy as np
import polars as pl

from pairwright.charts import Chart, Series
from pairwright.diagnose.by_prompt import mean_over, told
from pairwright.diagnose.finding import Finding, Level, Part
from pairwright.errors import InputError
from pairwright.evaluate.result import Metric, Result
from pairwright.probes.store import Probes
from pairwright.probes.turning import Signal, by_step, entropy_reversal, mass_leak, smoothed
from pairwright.stats import Interval

SOURCE = "arXiv 2410.11677; smoothing, bounds and number of checks are pairwright's"
_SPREAD = ("top_entropy", "raw_top_entropy", "top_mass")


def over_optimisation(
    probes: Probes,
    *,
    subject: str,
    smoothing: float = 0.9,
    drop: float = 0.02,
    checks: int = 2,
    fall: float = 0.01,
    draws: int = 2000,
    seed: int = 0,
) -> Part:
    """Entropy and mass of the k most likely next tokens by step, their turning points, and two signals.

    `top_entropy` is the entropy of the k most likely tokens with their probabilities brought to the sum 1, in bits
    (at most log2 k); `raw_top_entropy` that of their plain probabilities; `top_mass` is the sum of these. They are read
    at each position of the chosen held-out answers without a goal in the prompt, averaged over an answer and then over
    answers; where the model was asked to write, on its own answers, too. k is that of the probes, or the size of the
    vocabulary where that is smaller: then the mass is 1.

    A signal that fired is a warning if the change that it saw is there beyond doubt: the same answers at the turning
    point and at the last step, with a bootstrap interval over prompts.

    Source: arXiv 2410.11677 (k = 10, both indicators). The paper leaves open whether the entropy is renormalised and
    where it is read; the rules of the signals are ours (`probes.turning`).

    Args:
        probes: of one training.
        subject: its name.
        smoothing: of both signals, weight of the past.
        drop: of signal 1, a share of the highest entropy.
        checks: of both signals, so many in a row.
        fall: of signal 2, in units of probability.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        `top_entropy/start`, `/end`, `top_mass/start`, `/end`, and what they changed by; a row for each step.

    Raises:
        InputError: no step has spreads, or a setting is out of range.
    """
    table = by_step(probes.rows)
    if table.is_empty():
        raise InputError(f"{subject}: no probe has the spread of the next token; probe the training again")
    steps = [int(step) for step in table["step"]]
    signals = (
        entropy_reversal(steps, table["top_entropy"].to_numpy(), smoothing=smoothing, drop=drop, checks=checks),
        mass_leak(steps, table["top_mass"].to_numpy(), smoothing=smoothing, fall=fall, checks=checks),
    )
    k = min(probes.about.top, probes.about.vocabulary)
    whole = probes.about.vocabulary <= probes.about.top
    notes = (
        [f"The vocabulary has {k} tokens, so the mass of the {k} most likely ones is 1 at any step."] if whole else []
    )
    findings = []
    if len(steps) < 1 + checks:
        notes.append(f"There are {len(steps)} probes, and a signal needs {1 + checks}: probe more often (probe_every).")
    else:
        turn = signals[0].turned_at if signals[0].fired_at is not None else None
        first = steps[0] if turn is None else turn
        bits = _change(probes.rows, "top_entropy", first, steps[-1], draws, seed)
        findings.append(_on_entropy(signals[0], bits, subject, first, steps[-1]))
        if not whole:
            lost = _change(probes.rows, "top_mass", steps[0], steps[-1], draws, seed)
            findings.append(_on_mass(signals[1], lost, subject, steps))
    return Part(
        name="over_optimisation",
        subject=subject,
        title="Likelihood over-optimisation",
        result=Result(
            name="over_optimisation",
            n=int(table["n"].max()),  # type: ignore[arg-type]
            settings={
                "k": k,
                "smoothing": smoothing,
                "drop": drop,
                "checks": checks,
                "fall": fall,
                "draws": draws,
                "seed": seed,
                "signals": {each.name: {"fired_at": each.fired_at, "turned_at": each.turned_at} for each in signals},
            },
            metrics=tuple(_metrics(probes.rows, steps, k, draws, seed)),
            table=tuple(_rows(table, probes.samples, smoothing)),
            notes=tuple([*notes, *(each.says for each in signals)]),
        ),
        findings=tuple(findings),
        charts=tuple(_charts(table, probes.samples, signals, smoothing, k)),
    )


def _read(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter((pl.col("side") == "chosen") & (pl.col("asked") == "none")).drop_nulls(_SPREAD)


def _change(rows: pl.DataFrame, column: str, first: int, last: int, draws: int, seed: int) -> Interval:
    """What a number changed by from one step to another, the same answers at both."""
    read = _read(rows).select("step", "pair", "prompt_id", column)
    both = read.filter(pl.col("step") == last).join(
        read.filter(pl.col("step") == first), on="pair", how="inner", maintain_order="left", suffix="_first"
    )
    gap = both.with_columns(gap=pl.col(column) - pl.col(f"{column}_first"))
    return mean_over(gap, "gap", draws=draws, seed=seed)


def _on_entropy(signal: Signal, bits: Interval, subject: str, first: int, last: int) -> Finding:
    fired = signal.fired_at is not None
    sure = fired and bits.high < 0
    level: Level = "warning" if sure else "note" if fired else "fine"
    changed = f"From step {first} to {last} it changed by {told(bits)} bits on the same answers."
    return Finding.of(
        "entropy_reversal",
        bits,
        subject=subject,
        level=level,
        says=f"{signal.says} {changed}",
        means=(
            "The model first spread its answers and now narrows them: in the paper the best win rate of DPO and IPO "
            "lies at that turn, though the loss goes on falling."
            if fired
            else "The spread of the next token shows no sign of over-optimisation."
        ),
        remedy=(
            f"Take a checkpoint near step {first} and compare its answers with those of the end; "
            "stop_rule: entropy_reversal ends a training there."
            if fired
            else ""
        ),
        source=SOURCE,
    )


def _on_mass(signal: Signal, lost: Interval, subject: str, steps: list[int]) -> Finding:
    fired = signal.fired_at is not None
    sure = fired and lost.high < 0
    level: Level = "warning" if sure else "note" if fired else "fine"
    changed = f"From step {steps[0]} to {steps[-1]} it changed by {told(lost)} on the same answers."
    return Finding.of(
        "mass_leak",
        lost,
        subject=subject,
        level=level,
        says=f"{signal.says} {changed}",
        means=(
            "Probability flows to tokens that were unlikely: the distribution flattens, and answers begin to wander. "
            "The paper saw it with hinge losses, while the entropy of the most likely tokens still rose."
            if fired
            else "The most likely next tokens keep their probability."
        ),
        remedy=(
            "Stop earlier, lower the learning rate, or add the likelihood of the chosen answer to the loss (sft as a "
            "second term); stop_rule: mass_leak ends a training there."
            if fired
            else ""
        ),
        source=SOURCE,
    )


def _metrics(rows: pl.DataFrame, steps: list[int], k: int, draws: int, seed: int) -> list[Metric]:
    read, metrics = _read(rows), []
    for column, what in (("top_entropy", f"entropy of the {k} most likely tokens, bits"), ("top_mass", "their mass")):
        for name, step in (("start", steps[0]), ("end", steps[-1])):
            level = mean_over(read.filter(pl.col("step") == step), column, draws=draws, seed=seed)
            metrics.append(Metric.of(f"{column}/{name}", level, f"{what}, at step {step}; n are prompts"))
        changed = _change(rows, column, steps[0], steps[-1], draws, seed)
        metrics.append(Metric.of(f"{column}/change", changed, f"{what}, end minus start on the same answers"))
    return metrics


def _own(samples: pl.DataFrame) -> pl.DataFrame:
    """The same means on the model's own answers without a goal."""
    read = samples.filter(pl.col("asked") == "none").drop_nulls(_SPREAD)
    return read.group_by("step").agg(pl.col(_SPREAD).mean()).sort("step")


def _rows(table: pl.DataFrame, samples: pl.DataFrame, smoothing: float) -> list[dict[str, Any]]:
    own = _own(samples).rename({name: f"{name}_own" for name in _SPREAD})
    calm = {f"{name}_smoothed": _calm(table, name, smoothing) for name in ("top_entropy", "top_mass")}
    return table.with_columns(**calm).join(own, on="step", how="left", maintain_order="left").to_dicts()


def _calm(table: pl.DataFrame, column: str, smoothing: float) -> pl.Series:
    return pl.Series(column, smoothed(table[column].to_numpy(), smoothing=smoothing))


def _charts(
    table: pl.DataFrame, samples: pl.DataFrame, signals: tuple[Signal, Signal], smoothing: float, k: int
) -> list[Chart]:
    names = {"top_entropy": "renormalised", "raw_top_entropy": "plain probabilities"}
    entropies = [_series(title, table, name) for name, title in names.items()]
    masses = [_series("chosen answers", table, "top_mass")]
    own = _own(samples)
    if not own.is_empty():
        entropies.append(_series("renormalised, own answers", own, "top_entropy"))
        masses.append(_series("own answers", own, "top_mass"))
    return [
        Chart(
            id="entropy",
            title=f"Entropy of the {k} most likely next tokens",
            says=(
                "A curve that rises and then falls has turned: the dotted upright line is where its smoothed form was "
                f"highest. {signals[0].says}"
            ),
            x="optimiser step",
            y="bits, mean over answers",
            series=[*entropies, *_marks(table, "top_entropy", signals[0], smoothing)],
        ),
        Chart(
            id="mass",
            title=f"Probability of the {k} most likely next tokens",
            says=f"A curve that falls leaks probability to unlikely tokens. {signals[1].says}",
            x="optimiser step",
            y="sum of probabilities, mean over answers",
            series=[*masses, *_marks(table, "top_mass", signals[1], smoothing)],
        ),
    ]


def _series(name: str, table: pl.DataFrame, column: str) -> Series:
    return Series(name=name, x=table["step"].to_list(), y=table[column].to_list())


def _marks(table: pl.DataFrame, column: str, signal: Signal, smoothing: float) -> list[Series]:
    """The smoothed curve, and an upright line where it turned before the signal fired."""
    calm = _calm(table, column, smoothing)
    marks = [Series(name="smoothed", x=table["step"].to_list(), y=calm.to_list(), reference=True)]
    if signal.fired_at is not None and signal.turned_at is not None:
        ends = [float(np.min(table[column].to_numpy())), float(np.max(table[column].to_numpy()))]
        marks.append(Series(name="turned", x=[signal.turned_at] * 2, y=[*ends], reference=True))
    return marks
