"""The implicit reward of a trained model, as a score."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import Field

from pairwright.errors import InputError
from pairwright.logprobs.columns import label_of, logprobs
from pairwright.logprobs.digest import same_model
from pairwright.logprobs.models import Dtype, name_of
from pairwright.plug import nearest
from pairwright.preferences import Preferences
from pairwright.relabel.ranges import training_answers
from pairwright.scorers.sample import Scores

RAW = "implicit_reward"
"""The column of the answers with the implicit reward itself, in nats times beta."""
_SHARES = {"percentiles": (0.01, 0.99), "extremes": (0.0, 1.0)}
_SAME = 1e-9  # nats: log-probabilities of a model and of itself

Range = tuple[float, float]


def implicit(
    prefs: Preferences,
    *,
    policy: str | Path,
    reference: str | Path,
    beta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0,
    source_range: Range | Literal["percentiles", "extremes"] | None = "percentiles",
    target_range: Range = (1.0, 10.0),
    tokenizer: str | Path | None = None,
    batch_tokens: Annotated[int, Field(gt=0)] = 8192,
    max_length: int | None = None,
    max_prompt_length: int | None = None,
    dtype: Dtype = "float32",
    ray: bool = False,
) -> Scores:
    """The implicit reward beta (log pi(y|x) - log ref(y|x)) of each answer, mapped to 1-10 by one line for all.

    Log-probabilities are sums over the answer's tokens, in nats, under the prompt without any goal. The reward itself
    stays in the column `implicit_reward`. With the range [low, high] and the target [a, b] the score is

        a + (b - a) clip((reward - low) / (high - low), 0, 1).

    The range is one for all prompts: a range for each would make every pair "10 against 1". How often the reward
    orders a pair the other way than its label is said in the lineage; a pair with a goal has no such label and does not
    count.

    Args:
        prefs: prompts and answers, and the pairs that they are for.
        policy: the trained model: a `save_pretrained` directory, a hub name with a slash, or NAME of a column
            `logp_NAME` that is there already.
        reference: what it was trained from; likewise.
        beta: of the training; it cancels when the reward is mapped.
        source_range: the rewards that become the ends of the target: `percentiles` (the 1st and the 99th of all answers
            of training pairs or, without pairs, of training prompts), `extremes` (the least and the largest of them),
            two numbers; None maps nothing.
        target_range: the scores that they become; relabelling takes 1 to 10.
        tokenizer: of both models; the policy's own when not given.
        batch_tokens: tokens of a batch of the models, at most.
        max_length: tokens of prompt and answer; as in `logprobs`.
        max_prompt_length: tokens of the prompt; as in `logprobs`.
        dtype: precision of the models' weights.
        ray: compute the log-probabilities on a Ray cluster; as in `logprobs`.

    Raises:
        InputError: a name is neither a column nor a model, or both; policy and reference are one model; or the rewards
            have no range to map.

    Source: arXiv 2410.08067, section 6.2 ("IRA") and appendix B.1 (a linear map to 1-10; the percentiles are ours); the
    reward, arXiv 2305.18290, equation 5.
    """
    reading = {
        "tokenizer": tokenizer,
        "batch_tokens": batch_tokens,
        "max_length": max_length,
        "max_prompt_length": max_prompt_length,
        "dtype": dtype,
        "ray": ray,
    }
    prefs, columns = _with_logps(prefs, {"policy": policy, "reference": reference}, reading)
    reward = beta * (pl.col(columns["policy"]) - pl.col(columns["reference"]))
    rewards = prefs.responses.select(pl.when(reward.is_finite()).then(reward).cast(pl.Float64).alias(RAW)).collect()
    raw = rewards[RAW]
    if raw.count() and float(raw.abs().max()) <= beta * _SAME:  # type: ignore[arg-type]
        raise InputError(_one_model(policy, reference))
    beside = pl.concat([prefs.responses.drop(RAW, strict=False), rewards.lazy()], how="horizontal")
    # Pairs that were read from a flat file may have an earlier reward, which a view would prefer.
    pairs = prefs.pairs.drop([f"{RAW}_chosen", f"{RAW}_rejected"], strict=False)
    prefs = Preferences.of(prefs.prompts, beside, pairs, prefs.lineage)
    values, notes = raw, list[str]()
    found: dict[str, Any] = {}
    if source_range is not None:
        low, high = _range(prefs, source_range)
        values, found = _mapped(raw, low, high, target_range)
        notes.append(
            f"Implicit rewards of {low:.4g} to {high:.4g} become {target_range[0]:g} to {target_range[1]:g}; "
            f"{found['clipped']['below']:,} answers lie below and {found['clipped']['above']:,} above, and get the end."
        )
    flips = flips_of(prefs)
    if flips:
        found, notes = {"flips": flips, **found}, [_flips_note(flips), *notes]
    missing = raw.null_count()
    return Scores(values, {"no_logp": missing} if missing else {}, prefs, found, tuple(notes))


def flips_of(prefs: Preferences) -> dict[str, Any]:
    """How often the implicit reward orders chosen and rejected the other way than the label.

    Returns:
        JSON values: `pairs`; `same`, `flipped`, `ties` (of the reward) and `unknown` (a side has no reward), which add
        up to it; `flip_rate`, flipped / (same + flipped), null when both are 0; `by_split`, the same for each split
        where there are several. Empty where no pair is without a goal.
    """
    margin = pl.col(f"{RAW}_chosen") - pl.col(f"{RAW}_rejected")
    counts = {
        "pairs": pl.len(),
        "same": (margin > 0).sum(),
        "flipped": (margin < 0).sum(),
        "ties": (margin == 0).sum(),
        "unknown": margin.is_null().sum(),
    }
    view = prefs.view(RAW).filter(pl.col("goal").is_null())
    by_split = view.group_by("split").agg(**counts).sort("split", nulls_last=True).collect()
    rows = {str(row.pop("split") or "no split"): row for row in by_split.iter_rows(named=True)}
    if not rows:
        return {}
    total = {name: sum(row[name] for row in rows.values()) for name in counts}
    parts = {name: {**row, "flip_rate": _rate(row)} for name, row in rows.items()}
    return {**total, "flip_rate": _rate(total), **({"by_split": parts} if len(parts) > 1 else {})}


def _rate(row: Mapping[str, int]) -> float | None:
    decided = row["same"] + row["flipped"]
    return row["flipped"] / decided if decided else None


def _flips_note(row: Mapping[str, Any]) -> str:
    if row["flip_rate"] is None:
        return f"The implicit reward orders none of {row['pairs']:,} pairs."
    apart = [f"{row[name]:,} {word}" for name, word in (("ties", "ties"), ("unknown", "without a reward")) if row[name]]
    return (
        f"The implicit reward orders {row['flipped']:,} of {row['same'] + row['flipped']:,} pairs "
        f"({row['flip_rate']:.1%}) the other way than their label" + (f"; {', '.join(apart)}." if apart else ".")
    )


def _with_logps(
    prefs: Preferences, named: Mapping[str, str | Path], reading: Mapping[str, Any]
) -> tuple[Preferences, dict[str, str]]:
    """The columns of policy and reference; those of a model are computed, under prompts without goals."""
    there = prefs.responses.collect_schema().names()
    columns = {role: _column(role, word, there) for role, word in named.items()}
    models = {role: named[role] for role, column in columns.items() if column is None}
    if len(models) == 2 and same_model(models["policy"], models["reference"]):
        raise InputError(_one_model(named["policy"], named["reference"]))
    names = {role: label_of(name_of(place)) for role, place in models.items()}
    if len(names) == 2 and names["policy"] == names["reference"]:
        names = {role: role for role in names}
    taken = [name for name in names.values() if f"logp_{name}" in columns.values()]
    if taken:
        raise InputError(f"implicit: the model would fill logp_{taken[0]}, which is the other one's column; rename it")
    if models:
        first = next(iter(models))
        more: dict[str, Any] = {}
        if len(models) == 2:
            more = {"reference": models["reference"], "reference_name": names["reference"]}
        # Without its pairs the data have no goals, so that the prompts are plain.
        plain = Preferences.of(prefs.prompts, prefs.responses)
        read = logprobs(plain, model=models[first], name=names[first], **more, **reading)
        for step in read.lineage:
            prefs = prefs.then(step, responses=read.responses)
    return prefs, {role: column or f"logp_{names[role]}" for role, column in columns.items()}


def _column(role: str, word: str | Path, there: Sequence[str]) -> str | None:
    """The column that a word stands for; None where it stands for a model.

    Raises:
        InputError: it could be either, or is neither.
    """
    if isinstance(word, Path):
        return None
    column = f"logp_{word.removeprefix('logp_')}"
    place = Path(word).is_dir()
    if column in there:
        if place and not word.startswith("logp_"):
            raise InputError(
                f"implicit: {role} {word!r} is a column {column} and a directory too; write {column!r} for the column "
                f"or './{word}' for the directory"
            )
        return column
    if place or "/" in word:
        return None
    known = [name for name in there if name.startswith("logp_")]
    hint = nearest(column, known) or (f"; there are {', '.join(known)}" if known else "")
    raise InputError(
        f"implicit: {role} {word!r} is no model's directory, and responses have no column {column!r}{hint} "
        "(`logprobs` writes it)"
    )


def _one_model(policy: str | Path, reference: str | Path) -> str:
    return (
        f"implicit: policy {str(policy)!r} and reference {str(reference)!r} are one model, so every implicit reward, "
        "beta log(pi/ref), is zero and says nothing; give the model that was trained as policy"
    )


def _range(prefs: Preferences, wanted: Range | Literal["percentiles", "extremes"]) -> Range:
    """The rewards that become the ends of the target."""
    if not isinstance(wanted, str):
        low, high = wanted
        if not low < high:
            raise InputError(f"implicit: source_range must rise from its first number to its second, not {wanted}")
        return low, high
    answers = prefs.responses.select(RAW)
    if not prefs.counts().pairs and "split" in prefs.prompts.collect_schema():
        prompts = prefs.prompts.filter(pl.col("split") == "train")
        of_training = prefs.responses.join(prompts, on="prompt_id", how="semi").select(RAW)
        # As with pairs: where nothing is in the split `train`, all count.
        answers = of_training if of_training.select(pl.len()).collect().item() else answers
    elif prefs.counts().pairs:
        answers = training_answers(prefs, prefs.pairs, [RAW]).select(RAW)
    shares = _SHARES[wanted]
    ends = [pl.col(RAW).quantile(share, interpolation="linear").alias(str(share)) for share in shares]
    low, high = answers.select(ends).collect().row(0)
    if low is None:
        raise InputError("implicit: no answer has both log-probabilities, so there is nothing to map")
    if not low < high:
        raise InputError(
            f"implicit: the {wanted} of the implicit rewards are both {low:g}, so there is no range to map to a scale; "
            "give source_range LO HI"
        )
    return low, high


def _mapped(raw: pl.Series, low: float, high: float, target: Range) -> tuple[pl.Series, dict[str, Any]]:
    """The scores, and what was mapped to what."""
    first, last = target
    if not first < last:
        raise InputError(f"implicit: target_range must rise from its first number to its second, not {target}")
    values = first + (last - first) * ((raw - low) / (high - low)).clip(0.0, 1.0)
    clipped = {"below": int((raw < low).sum()), "above": int((raw > high).sum())}
    return values, {"range": {"low": low, "high": high, "to": list(target)}, "clipped": clipped}
