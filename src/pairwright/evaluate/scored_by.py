"""Scores for an evaluation of scores: by any scorer, or the log-probabilities of a model with and without a reference.

Nothing here is an evaluation. `rewardbench2` and `accuracy` both ask it for columns of numbers on the same answers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl

from pairwright.errors import InputError
from pairwright.logprobs.models import Dtype
from pairwright.preferences import Preferences

ReferenceFree = Literal["mean", "sum"]
SCORED = "score_asked"
"""The column of a scorer that was asked for here."""
LONGEST = 8192
"""Tokens of prompt and answer where the models could read more and nothing is said."""
_WHAT = {
    "with_reference": "log-probability under the model, minus that under the reference",
    "mean": "log-probability per token, without a reference",
    "sum": "summed log-probability, without a reference",
}


class Reading(NamedTuple):
    """How a model reads prompts and answers."""

    tokenizer: str | Path | None = None
    max_length: int | None = None
    batch_tokens: int = 8192
    dtype: Dtype = "float32"


class Numbers(NamedTuple):
    """Data with columns of numbers on its answers.

    Attributes:
        prefs: the data with the columns.
        columns: the columns by what they are called in a result; the first is the one that was asked for.
        notes: what a reader should know.
    """

    prefs: Preferences
    columns: dict[str, str]
    notes: tuple[str, ...]


def by_scorer(prefs: Preferences, scorer: str | Mapping[str, Any]) -> Numbers:
    """What a scorer says of the answers.

    Args:
        prefs: prompts and answers.
        scorer: its name, or a mapping with the name under `with` and its settings beside it.

    Raises:
        InputError: there is no such scorer, or it gives several columns and no overall score.
    """
    from pairwright.scorers import score

    done = score(prefs, {SCORED: scorer})
    name = scorer if isinstance(scorer, str) else str(scorer["with"])
    if SCORED not in done.responses.collect_schema():
        raise InputError(f"scorer {name!r} gives no overall score here, so nothing can be ranked by it; choose another")
    notes = [note for note in done.lineage[-1].notes if "stay unscored" in note]
    return Numbers(done, {name: SCORED}, tuple(notes))


def by_model(
    prefs: Preferences,
    model: str | Path,
    *,
    reference: str | Path | None,
    reference_free: ReferenceFree,
    reading: Reading,
) -> Numbers:
    """What the log-probabilities of a model say of the answers.

    With a reference the number is the implicit reward without its factor, `log pi(y|x) - log ref(y|x)`, summed over the
    completion tokens and the end of the turn; the factor `beta` changes no ranking. Without one it is `log pi(y|x)`,
    for each token (`mean`) or summed (`sum`). With a reference both numbers without it are there too.

    Args:
        prefs: prompts and answers.
        model: the aligned model.
        reference: what it was trained from.
        reference_free: which number comes first without a reference.
        reading: how both read.

    Raises:
        InputError: there is no such model, model and reference are one, or they read other tokens.

    Source: arXiv 2305.18290, equation 5; allenai/reward-bench, rewardbench/dpo.py (the numbers without a reference).
    """
    from pairwright.logprobs.columns import logprobs
    from pairwright.logprobs.digest import same_model

    if reference is not None and same_model(model, reference):
        raise InputError(
            f"model {str(model)!r} and reference {str(reference)!r} are one model, so every implicit reward is zero; "
            "give the model that was trained as model"
        )
    settings = {**reading._asdict(), "max_length": reading.max_length or _longest(model, reference)}
    plain = Preferences.of(prefs.prompts, prefs.responses)  # without pairs there are no goals
    read = logprobs(plain, model=model, name="model", reference=reference, reference_name="reference", **settings)
    numbers = {
        "mean": pl.col("logp_model") / pl.col("len_model"),
        "sum": pl.col("logp_model").cast(pl.Float64),
    }
    order: list[str] = [reference_free, *(name for name in numbers if name != reference_free)]
    if reference is not None:
        numbers["with_reference"] = pl.col("logp_model") - pl.col("logp_reference")
        order = ["with_reference", *order]
    columns = {name: f"score_{name}" for name in order}
    responses = read.responses.with_columns(numbers[name].alias(column) for name, column in columns.items())
    done = Preferences.of(prefs.prompts, responses, prefs.pairs, (*prefs.lineage, *read.lineage))
    lost = responses.select(pl.col(columns[order[0]]).is_null().sum()).collect().item()
    notes = [f"The scores are of the kind: {_WHAT[order[0]]}; read up to {settings['max_length']:,} tokens."]
    if lost:
        notes.append(f"{lost:,} answers have no log-probability (empty, or too long to be read): they have no score.")
    return Numbers(done, columns, tuple(notes))


def _longest(model: str | Path, reference: str | Path | None) -> int:
    """The most tokens that both can read, up to `LONGEST`."""
    from pairwright.logprobs.columns import rotary_border
    from pairwright.logprobs.models import open_config

    configs = [open_config(place) for place in (model, reference) if place is not None]
    found = [getattr(config.get_text_config(), "max_position_embeddings", None) for config in configs]
    return min(LONGEST, *(size for size in (*found, *map(rotary_border, configs)) if size))
