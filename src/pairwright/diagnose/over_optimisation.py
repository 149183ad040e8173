"""Likelihood over-optimisation: how spread the next token is as training goes on, and where that turns."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from pairwright.charts import Chart, Series
from pairwright.diagnose.answers import Answers
from pairwright.diagnose.by_prompt import mean_over, told
from pairwright.diagnose.finding import Finding, Level, Part
from pairwright.errors import InputError
from pairwright.evaluate.result import Metric, Result
from pairwright.probes.store import Probes
from pairwright.probes.turning import SIGNALS, Signal, by_step, entropy_reversal, mass_leak, smoothed
from pairwright.stats import Interval

SOURCE = "arXiv 2410.11677; smoothing, bounds and number of checks are pairwright's"
_SPREAD = ("top_entropy", "raw_top_entropy", "top_mass")


def over_optimisation(
    probes: Probes,
    answers: tuple[Answers, Answers] | None = None,
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
    point and at the last step, with a bootstrap interval over prompts. The first signal is also read from the plain
    entropy. An entropy that fell from the first probe to the last by more than `drop` of its first value, beyond doubt
    and without having turned, is a collapse: a note, and a warning where the model's own answers score less than the
    start's or are more often empty.

    Source: arXiv 2410.11677 (k = 10, both indicators). The paper leaves open whether the entropy is renormalised and
    where it is read; the rules of the signals are ours (`probes.turning`).

    Args:
        probes: of one training.
        answers: of its model and of the start to the same prompts, where there are some.
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
    turned = partial(entropy_reversal, smoothing=smoothing, drop=drop, checks=checks)
    signals = (
        turned(steps, table["top_entropy"].to_numpy()),
        mass_leak(steps, table["top_mass"].to_numpy(), smoothing=smoothing, fall=fall, checks=checks),
    )
    plain = turned(steps, table["raw_top_entropy"].to_numpy())
    plain = replace(plain, name="raw_entropy_reversal", says=plain.says.replace("entropy", "plain entropy", 1))
    k = min(probes.about.top, probes.about.vocabulary)
    whole = probes.about.vocabulary <= probes.about.top
    notes = (
        [f"The vocabulary has {k} tokens, so the mass of the {k} most likely ones is 1 at any step."] if whole else []
    )
    findings = []

    def changed(column: str, first: int) -> Interval:
        return _change(probes.rows, column, first, steps[-1], draws, seed)

    for signal, column in ((signals[0], "top_entropy"), (plain, "raw_top_entropy")):
        if whole and signal is plain:
            continue
        # To rise, to turn and to stay below takes two checks and those below.
        if len(steps) < 2 + checks:
            notes.append(_too_few(signal, len(steps), 2 + checks))
            continue
        first = signal.turned_at if signal.fired_at is not None and signal.turned_at is not None else steps[0]
        findings.append(_on_entropy(signal, changed(column, first), subject, first, steps[-1]))
    if len(steps) > 1 and signals[0].fired_at is None:
        level = float(table["top_entropy"][0])
        worse = _worse(answers, draws, seed)
        findings.append(_on_collapse(changed("top_entropy", steps[0]), drop * level, worse, subject, steps))
    if not whole and len(steps) < 1 + checks:
        notes.append(_too_few(signals[1], len(steps), 1 + checks))
    elif not whole:
        findings.append(_on_mass(signals[1], changed("top_mass", steps[0]), subject, steps))
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
                "signals": {
                    each.name: {"fired_at": each.fired_at, "turned_at": each.turned_at} for each in (*signals, plain)
                },
            },
            metrics=tuple(_metrics(probes.rows, steps, k, draws, seed)),
            table=tuple(_rows(table, probes.samples, smoothing)),
            notes=tuple([*notes, *(each.says for each in (*signals, plain))]),
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
        signal.name,
        bits,
        subject=subject,
        level=level,
        says=f"{signal.says} {changed}",
        means=(
            "The model first spread its answers and now narrows them: in the paper the best win rate of DPO and IPO "
            "lies at that turn, though the loss goes on falling."
            if fired
            else "The spread of the next token has not turned. A spread that only falls is another check (collapse)."
        ),
        remedy=(
            f"Take a checkpoint near step {first} and compare its answers with those of the end"
            + ("; stop_rule: entropy_reversal ends a training there." if signal.name in SIGNALS else ".")
            if fired
            else ""
        ),
        source=SOURCE,
    )


def _on_collapse(bits: Interval, much: float, worse: list[str], subject: str, steps: list[int]) -> Finding:
    """A fall of the entropy that no rise went before."""
    fell = bits.high < 0 and bits.value < -much
    level: Level = ("warning" if worse else "note") if fell else "fine"
    beside = f" Its own answers {' and '.join(worse)}." if fell and worse else ""
    return Finding.of(
        "entropy_collapse",
        bits,
        subject=subject,
        level=level,
        says=f"From step {steps[0]} to {steps[-1]} the entropy of the most likely next tokens changed by {told(bits)} "
        f"bits on the same answers, and it had not turned before.{beside}",
        means=(
            "The model narrowed its answers from the first probe on: no turn marks a best step. That alone is what "
            "training for likely answers does; with lower scores or empty answers it has collapsed."
            if fell
            else "The model did not narrow its answers from the start on."
        ),
        remedy=(
            "Compare answers of the end with those of an early checkpoint; take a larger beta, a smaller learning rate "
            "or fewer steps, and probe more often (probe_every) to see whether a rise went before."
            if fell
            else ""
        ),
        source="pairwright (rule); arXiv 2410.11677 (entropy of the most likely tokens)",
    )


def _worse(answers: tuple[Answers, Answers] | None, draws: int, seed: int) -> list[str]:
    """What is worse beyond doubt in a model's answers than in its start's, by prompts that both answered."""
    if answers is None:
        return []
    sides = [
        each.frame.select(
            "prompt_id",
            score=pl.when(pl.col("score").is_finite()).then("score"),
            empty=(pl.col("text").fill_null("").str.strip_chars() == "").cast(pl.Float64),
        )
        .group_by("prompt_id", maintain_order=True)
        .agg(pl.col("score", "empty").mean())
        for each in answers
    ]
    both = sides[0].join(sides[1], on="prompt_id", how="inner", maintain_order="left", suffix="_start")
    gaps = {
        name: mean_over(
            both.select("prompt_id", gap=pl.col(name) - pl.col(f"{name}_start")).drop_nulls(),
            "gap",
            draws=draws,
            seed=seed,
        )
        for name in ("score", "empty")
    }
    said = []
    if gaps["score"].high < 0:
        said.append(f"score {told(gaps['score'])} against the start's")
    if gaps["empty"].low > 0:
        said.append(f"are empty more often than the start's, by {told(gaps['empty'], '+.1%')}")
    return said


def _too_few(signal: Signal, probes: int, needed: int) -> str:
    return f"There are {probes} probes, and {signal.name} needs {needed}: probe more often (probe_every)."


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
