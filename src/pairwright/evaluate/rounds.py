"""A table by round: what each model of an iterated training scores, how far it has moved, how long it writes."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import polars as pl
from pydantic import Field

from pairwright.errors import InputError
from pairwright.evaluate.answers import scored_answers
from pairwright.evaluate.result import Metric, Result, as_json
from pairwright.preferences import Preferences
from pairwright.stats import Interval, mean_interval, paired_difference

_NONE = Interval(math.nan, math.nan, math.nan, 0)


class _Round(NamedTuple):
    """The answers of one model, by prompt."""

    model: str
    answers: int
    scored: int
    by_prompt: pl.DataFrame
    """`prompt_id`, `score`, `kl`, `length`: means over the answers to a prompt, null where there is none."""
    notes: list[str]


def rounds(
    answers: Sequence[Preferences],
    *,
    score: str = "score",
    policy: str = "policy",
    start: str = "start",
    draws: Annotated[int, Field(gt=0)] = 2000,
    seed: int = 0,
) -> Result:
    """Score, KL divergence from the start, and length of the answers of one model after another, by round.

    Each round brings its answers to the same held-out prompts; the first is the start, before any training. A prompt
    counts once, by the mean over its answers. Intervals are 95% and over prompts: Student's for levels, percentile
    bootstrap of the differences at common prompts for changes. They know nothing of the seeds of training.

    The divergence is a Monte Carlo estimate on the policy's own samples, `KL(policy || start) = E[logp_policy(y) -
    logp_start(y)]` with `y` drawn from the policy, in nats for a whole answer. It needs both log-probabilities of each
    answer under the prompt as it was asked (`as_asked`, then `logprobs`), and answers that were drawn at temperature 1
    from the whole distribution; where that is not so it is null and a note says why.

    Source: arXiv 2406.02900 (score against the divergence from the start, by Monte Carlo on the answers evaluated).

    Args:
        answers: scored answers of each round, in order.
        score: column with the score.
        policy: name of the columns of the model that gave the answers: `logp_<policy>`, `len_<policy>` (tokens).
        start: name of the column of the model at the start: `logp_<start>`.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        `gain` (score of the last round minus that of the first), and for each round `score/<round>`, `kl/<round>`,
        `length/<round>`; the table has a row for each round, with the change from the round before.

    Raises:
        InputError: there are fewer than two rounds, two neighbours share no prompt, or a number is not finite.
    """
    if len(answers) < 2:
        raise InputError(f"evaluate rounds: give the answers of the start and of each round, not of {len(answers)}")
    found = [_one(each, number, score, policy, start) for number, each in enumerate(answers)]
    levels = [{name: _level(each.by_prompt[name]) for name in ("score", "kl", "length")} for each in found]
    changes = [_NONE, *(_change(a, b, draws, seed) for a, b in zip(found[1:], found[:-1], strict=True))]
    gain = _change(found[-1], found[0], draws, seed)
    metrics = [Metric.of("gain", gain, f"mean score after round {len(found) - 1} minus at the start; n are prompts")]
    for number, level in enumerate(levels):
        when = f"after round {number}" if number else "at the start"
        metrics += [
            Metric.of(f"score/{number}", level["score"], f"mean score {when}"),
            Metric.of(f"kl/{number}", level["kl"], f"KL divergence from the start {when}, nats for an answer"),
            Metric.of(f"length/{number}", level["length"], f"mean length of an answer {when}, tokens"),
        ]
    table = [_row(i, found[i], levels[i], changes[i]) for i in range(len(found))]
    settings = {"score": score, "policy": policy, "start": start, "draws": draws, "seed": seed}
    return Result(
        name="rounds",
        n=sum(each.answers for each in found),
        settings=settings,
        metrics=tuple(metrics),
        table=tuple(table),
        notes=tuple(note for each in found for note in each.notes),
    )


def by_round(result: Result) -> str:
    """The table of a result of `rounds` as text: a line for each round, intervals in brackets."""
    head = ("round", "model", "score", "change", "KL from the start", "length", "prompts", "answers", "unscored")
    rows = [head]
    for row in result.table:
        cells = [_cell(row, name) for name in ("score", "change", "kl", "length")]
        counts = [f"{row[name]:,}" for name in ("prompts", "answers", "unscored")]
        rows.append((str(row["round"]), str(row["model"]), *cells, *counts))  # type: ignore[arg-type]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    gain = result.metric("gain")
    total = f"gain over all rounds {_cell({'gain': gain.value, 'gain_low': gain.low, 'gain_high': gain.high}, 'gain')}"
    return "\n".join([*lines, f"{total}, n = {gain.n:,} prompts; intervals are 95% over prompts", *result.notes])


def _one(answers: Preferences, number: int, score: str, policy: str, start: str) -> _Round:
    what = f"evaluate rounds: round {number}"
    scored, notes = scored_answers(answers, score, what=what)
    schema = answers.responses.collect_schema()
    numbers = {name: name for name in (f"logp_{policy}", f"logp_{start}", f"len_{policy}") if name in schema}
    frame = answers.responses.select(
        "prompt_id",
        "model",
        pl.col(score).cast(pl.Float64).alias("score"),
        *(pl.col(n).cast(pl.Float64) for n in numbers),
    ).collect()
    frame = _by_source(answers, frame)
    for name in numbers:
        if bad := int((~frame[name].is_finite()).sum()):
            raise InputError(f"{what}: {bad:,} values of {name} are not finite; run logprobs again")
    why = _no_kl(answers, policy, start)
    kl = pl.lit(None, dtype=pl.Float64) if why else pl.col(f"logp_{policy}") - pl.col(f"logp_{start}")
    tokens = f"len_{policy}"
    length = pl.col(tokens) if tokens in numbers else pl.lit(None, dtype=pl.Float64)
    frame = frame.with_columns(kl=kl, length=length)
    notes += [f"There is no KL: {why}."] if why else _on_kl(answers, frame)
    if tokens not in numbers:
        notes.append(f"There is no length: the answers have no {tokens}; run logprobs.")
    by_prompt = frame.group_by("prompt_id", maintain_order=True).agg(pl.col("score", "kl", "length").mean())
    mean = by_prompt["kl"].mean()
    if isinstance(mean, float) and mean < 0:
        notes.append("The KL is estimated below 0, which it never is: it is too small for so few answers.")
    models = sorted({str(name) for name in frame["model"].drop_nulls()})
    return _Round(", ".join(models), len(frame), len(scored), by_prompt, [f"Round {number}: {note}" for note in notes])


def _by_source(answers: Preferences, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows under their prompt before a goal was put into it, so that rounds meet whatever they were asked."""
    if "source_prompt_id" not in answers.prompts.collect_schema():
        return frame
    sources = answers.prompts.select("prompt_id", "source_prompt_id").collect()
    joined = frame.join(sources, on="prompt_id", how="left", maintain_order="left")
    return joined.with_columns(prompt_id=pl.coalesce("source_prompt_id", "prompt_id")).drop("source_prompt_id")


def _no_kl(answers: Preferences, policy: str, start: str) -> str:
    """Why no divergence can be estimated from these answers; empty where it can."""
    schema = answers.responses.collect_schema()
    if missing := [name for name in (f"logp_{policy}", f"logp_{start}") if name not in schema]:
        return f"the answers have no {' and no '.join(missing)}; run logprobs with a reference"
    steps = [step.name for step in answers.lineage]
    drawn = next((step for step in reversed(answers.lineage) if step.name == "generate"), None)
    if drawn is not None:
        for name in ("temperature", "top_p"):
            if drawn.settings.get(name, 1.0) not in (1, None):
                return f"the answers were drawn with {name} {drawn.settings[name]:g}, not from the policy itself; use 1"
    asked = "goal" in schema and bool(answers.responses.select(pl.col("goal").is_not_null().any()).collect().item())
    if asked and "as_asked" not in steps:
        return "the answers were asked for scores and read without them; put as_asked before logprobs"
    return ""


def _on_kl(answers: Preferences, frame: pl.DataFrame) -> list[str]:
    """What a reader of the divergence should know."""
    notes = []
    if not any(step.name == "generate" for step in answers.lineage):
        notes.append("Nothing says how the answers were drawn; the KL is right if it was at temperature 1.")
    if lost := frame["kl"].null_count():
        notes.append(f"{lost:,} of {len(frame):,} answers have no log-probability and are not in the KL.")
    if "stopped" in answers.responses.collect_schema():
        cut = int(answers.responses.select((pl.col("stopped") == "length").sum()).collect().item())
        if cut:
            notes.append(
                f"{cut:,} of {len(frame):,} answers were cut at the most tokens allowed; the KL counts for them an end "
                "that was not drawn."
            )
    return notes


def _level(values: pl.Series) -> Interval:
    return mean_interval(values.drop_nulls().to_numpy())


def _change(later: _Round, earlier: _Round, draws: int, seed: int) -> Interval:
    """Mean score of one round minus that of another, over the prompts that both answer."""
    both = later.by_prompt.select("prompt_id", "score").join(
        earlier.by_prompt.select("prompt_id", "score"), on="prompt_id", how="inner", maintain_order="left"
    )
    both = both.drop_nulls()
    if both.is_empty():
        raise InputError("evaluate rounds: two rounds have no scored prompt in common; ask all for the same prompts")
    return paired_difference(both["score"].to_numpy(), both["score_right"].to_numpy(), draws=draws, seed=seed)


def _row(number: int, each: _Round, level: dict[str, Interval], change: Interval) -> dict[str, Any]:
    row: dict[str, Any] = {"round": number, "model": each.model}
    for name, interval in {**level, "change": change}.items():
        for end, value in as_json(interval).items():
            row[name if end == "value" else f"{name}_{end}"] = value
    return row | {"prompts": len(each.by_prompt), "answers": each.answers, "unscored": each.answers - each.scored}


def _cell(row: dict[str, Any], name: str) -> str:
    value, low, high = (row[key] for key in (name, f"{name}_low", f"{name}_high"))
    if value is None:
        return "-"
    return f"{value:.3g}" if low is None or high is None else f"{value:.3g} [{low:.3g}, {high:.3g}]"
