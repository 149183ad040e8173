"""A table by round: what each model of an iterated training scores, how far it has moved, how long it writes."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import polars as pl
from pydantic import Field

from pairwright.errors import InputError
from pairwright.evaluate.answers import scored_answers
from pairwright.evaluate.result import Metric, Result, as_json
from pairwright.preferences import Preferences, Step
from pairwright.stats import Interval, mean_interval, paired_difference

_NONE = Interval(math.nan, math.nan, math.nan, 0)
_FINE, _COARSE = 1e-3, 0.05
"""How far two readings of the same tokens may be apart by rounding, in nats a token: float32, and half precision."""
_FEW = 0.01
"""Most answers (a share) that may be further apart: texts that happen to spell as many other tokens."""


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
    from the whole distribution. Where that is not so it is null and a note says why; so it is where an answer ended by
    a stop string, since `logprobs` reads an end there that was not drawn, and leaving such answers out would choose
    among them. Where `generate` kept the log-probabilities of what it drew, they must be those that `logprobs` found:
    the two may have cut a long prompt differently (`max_prompt_length`). Any other end than `eos` is counted in a note,
    and so are empty answers, which have no log-probability under the start and are missing from the divergence.

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
    frame, said = by_answer(answers, score=score, policy=policy, start=start, what=what)
    notes += said
    by_prompt = frame.group_by("prompt_id", maintain_order=True).agg(pl.col("score", "kl", "length").mean())
    mean = by_prompt["kl"].mean()
    if isinstance(mean, float) and mean < 0:
        notes.append("The KL is estimated below 0, which it never is: it is too small for so few answers.")
    models = sorted({str(name) for name in frame["model"].drop_nulls()})
    return _Round(", ".join(models), len(frame), len(scored), by_prompt, [f"Round {number}: {note}" for note in notes])


def by_answer(
    answers: Preferences, *, score: str, policy: str, start: str, what: str
) -> tuple[pl.DataFrame, list[str]]:
    """Each answer's score, log-ratio of policy and start, and length, where these may be used for a divergence.

    Args:
        answers: as `rounds` takes them.
        score: column with the score.
        policy: as in `rounds`.
        start: as in `rounds`.
        what: who asks, for messages.

    Returns:
        A row for each answer in order: `prompt_id` (before a goal was put into the prompt), `model`, `score`, `kl`
        (`logp_policy - logp_start` in nats; all null where the answers allow no divergence), `length` in tokens, and
        what was read for these; and notes, of which one says why there is no divergence.

    Raises:
        InputError: a log-probability or a length is not finite.
    """
    notes: list[str] = []
    schema = answers.responses.collect_schema()
    numbers = [name for name in (f"logp_{policy}", f"logp_{start}", f"len_{policy}") if name in schema]
    drawn = {"drawn_logp": "logp", "drawn_len": "len"} if (label := _label(answers, policy)) else {}
    text = pl.col("response").list.eval(pl.element().struct.field("content")).list.join("")
    frame = answers.responses.select(
        "prompt_id",
        "model",
        pl.col(score).cast(pl.Float64).alias("score"),
        *(pl.col(n).cast(pl.Float64) for n in numbers),
        *(pl.col(f"{kind}_{label}").cast(pl.Float64).alias(name) for name, kind in drawn.items()),
        stopped=pl.col("stopped") if "stopped" in schema else pl.lit("eos"),
        empty=text.fill_null("") == "",
    ).collect()
    frame = _by_source(answers, frame)
    for name in numbers:
        if bad := int((~frame[name].is_finite()).sum()):
            raise InputError(f"{what}: {bad:,} values of {name} are not finite; run logprobs again")
    why = _no_kl(answers, policy, start) or _other_end(frame) or _other_prompts(answers, frame, policy)
    kl = pl.lit(None, dtype=pl.Float64) if why else pl.col(f"logp_{policy}") - pl.col(f"logp_{start}")
    tokens = f"len_{policy}"
    length = pl.col(tokens) if tokens in numbers else pl.lit(None, dtype=pl.Float64)
    if drawn and tokens in numbers:
        length = pl.coalesce(length, "drawn_len")  # of an empty answer its end, which was drawn
    frame = frame.with_columns(kl=kl, length=length)
    notes += [f"There is no KL: {why}."] if why else _on_kl(answers, frame, policy)
    if tokens not in numbers:
        notes.append(f"There is no length: the answers have no {tokens}; run logprobs.")
    return frame, notes


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
    drawn = _drawing(answers)
    if drawn is not None:
        for name in ("temperature", "top_p"):
            if drawn.settings.get(name, 1.0) not in (1, None):
                return f"the answers were drawn with {name} {drawn.settings[name]:g}, not from the policy itself; use 1"
    asked = "goal" in schema and bool(answers.responses.select(pl.col("goal").is_not_null().any()).collect().item())
    if asked and drawn is None and "as_asked" not in steps:
        return "the answers were asked for scores, and nothing says how; give what `generate` wrote as a directory"
    before = answers.lineage[: steps.index("as_asked")] if "as_asked" in steps else answers.lineage
    read = any(step.name == "logprobs" and step.settings.get("name") in (policy, start) for step in before)
    if asked and ("as_asked" not in steps or read):
        return "the answers were asked for scores and read without them; put as_asked before logprobs"
    return ""


def _drawing(answers: Preferences) -> Step | None:
    """The step that drew the answers."""
    return next((step for step in reversed(answers.lineage) if step.name == "generate"), None)


def _label(answers: Preferences, policy: str) -> str:
    """What stands behind `logp_` where `generate` kept what it drew; empty where there is nothing to compare with."""
    drawn = _drawing(answers)
    label = str(drawn.settings.get("name") or "").removeprefix("logp_") if drawn else ""
    there = {f"logp_{label}", f"len_{label}"} <= set(answers.responses.collect_schema())
    return label if there and label != policy else ""


def _other_end(frame: pl.DataFrame) -> str:
    """Why the ends of the answers forbid a divergence."""
    if not (stopped := frame.filter(pl.col("stopped") == "stop").height):
        return ""
    return (
        f"{stopped:,} of {len(frame):,} answers ended by a stop string, or nothing tells whether they did, and "
        "logprobs reads an end there that was not drawn; draw without stop"
    )


def _other_prompts(answers: Preferences, frame: pl.DataFrame, policy: str) -> str:
    """Why the policy's numbers are not those of what was drawn; empty where they are, or where nothing was kept."""
    away, of = _apart(answers, frame, policy)
    if away <= _FEW * of:
        return ""
    return (
        f"{away:,} of {of:,} answers had other log-probabilities when they were drawn than logp_{policy} says, so they "
        "were read after other prompts or by another model; set max_prompt_length of logprobs as generate had it, and "
        "name the model that was asked"
    )


def _apart(answers: Preferences, frame: pl.DataFrame, policy: str) -> tuple[int, int]:
    """How many answers were read with another log-probability than they were drawn with, and of how many."""
    both = _comparable(frame, policy)
    if both.is_empty():
        return 0, 0
    read = (step for step in answers.lineage if step.name == "logprobs" and step.settings.get("name") == policy)
    kinds = {step.settings.get("dtype") for step in (_drawing(answers), *read) if step is not None}
    room = _FINE if kinds == {"float32"} else _COARSE
    apart = (pl.col(f"logp_{policy}") - pl.col("drawn_logp")).abs()
    return both.filter(apart > room * pl.col("drawn_len")).height, len(both)


def _comparable(frame: pl.DataFrame, policy: str, *, alike: bool = True) -> pl.DataFrame:
    """The answers that ended by `eos` and have both readings, of as many tokens or of other numbers of them."""
    if not {"drawn_logp", f"len_{policy}"} <= set(frame.columns):
        return frame.clear()
    found = frame.filter(pl.col("stopped") == "eos").drop_nulls(["drawn_logp", f"logp_{policy}"])
    same = pl.col("drawn_len") == pl.col(f"len_{policy}")
    return found.filter(same if alike else ~same)


def _on_kl(answers: Preferences, frame: pl.DataFrame, policy: str) -> list[str]:
    """What a reader of the divergence should know."""
    notes, of = [], f"of {len(frame):,} answers"
    if _drawing(answers) is None:
        notes.append(
            "Nothing says how the answers were drawn; the KL is right if it was at temperature 1, after these prompts."
        )
    missing = frame.filter(pl.col("kl").is_null())
    if empty := missing.filter("empty").height:
        notes.append(
            f"{empty:,} {of} are empty: logprobs reads nothing of them, so the KL is of the others alone, and biased "
            "by what it costs to say nothing."
        )
    if lost := missing.filter(~pl.col("empty")).height:
        notes.append(f"{lost:,} {of} have no log-probability and are not in the KL.")
    if respelt := _comparable(frame, policy, alike=False).height:
        notes.append(
            f"{respelt:,} {of} were read as another number of tokens than was drawn (their text is spelt otherwise, or "
            "a server does not show the end); they are in the KL as they were read."
        )
    if away := _apart(answers, frame, policy)[0]:
        notes.append(f"{away:,} {of} had another log-probability when they were drawn; they are in the KL as read.")
    ends = frame["stopped"].fill_null("unknown").value_counts(sort=True).rows()
    for end, count in ends:
        if end != "eos":
            how = "were cut at the most tokens allowed" if end == "length" else f"ended by `{end}`"
            notes.append(
                f"{count:,} {of} {how}; the KL counts for them an end that was not drawn, or may not have been."
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
