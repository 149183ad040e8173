"""From scored answers to pairs: which two answers to a prompt are compared.

A rule is a plug: `rule(answers, *, settings) -> LazyFrame` of `prompt_id, chosen_id, rejected_id`. It is given the
scored answers only, in row order, with the columns `prompt_id, response_id, score`. Two answers with equal scores are
never a pair, whatever the rule.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, cast

import polars as pl
from pydantic import Field

from pairwright.draws import draw_of_text
from pairwright.errors import InputError
from pairwright.plug import bind, find, nearest, settings_of
from pairwright.preferences import Preferences, Step

EMPTY = "__pairwright_empty"
TEXT = "__pairwright_text"
"""Columns that stand beside a user's own for a while; no one else uses such names."""

_BEST = pl.col("score") == pl.col("score").max()
_WORST = pl.col("score") == pl.col("score").min()


def best_worst(answers: pl.LazyFrame) -> pl.LazyFrame:
    """The highest score against the lowest; of equal ones the first in row order.

    Source: SimPO's on-policy data, arXiv 2405.14734; arXiv 2410.08067, section 5.
    """
    answer = pl.col("response_id")
    grouped = answers.group_by("prompt_id", maintain_order=True).agg(
        chosen_id=answer.filter(_BEST).first(),
        rejected_id=answer.filter(_WORST).first(),
        apart=pl.col("score").max() > pl.col("score").min(),
    )
    return grouped.filter("apart").drop("apart")


def best_random(answers: pl.LazyFrame, *, seed: int = 0) -> pl.LazyFrame:
    """The highest score against one drawn evenly from the answers with lower scores.

    The draw is a hash of the prompt's id and the seed: neither row order nor other prompts change it.

    Source: ultrafeedback_binarized, arXiv 2310.16944, section 4.2.
    """
    answer = pl.col("response_id")
    grouped = (
        answers.group_by("prompt_id", maintain_order=True)
        .agg(chosen_id=answer.filter(_BEST).first(), rest=answer.filter(~_BEST))
        .filter(pl.col("rest").list.len() > 0)
        .collect()
    )
    draw = draw_of_text(grouped["prompt_id"], seed=seed)
    at = (draw * grouped["rest"].list.len()).cast(pl.Int64)
    return grouped.lazy().with_columns(rejected_id=pl.col("rest").list.get(pl.lit(at))).drop("rest")


def adjacent(answers: pl.LazyFrame) -> pl.LazyFrame:
    """Each answer against the next lower one, by score; neighbours with equal scores give no pair."""
    ordered = (
        answers.with_row_index("_row")
        .with_columns(_prompt=pl.col("_row").min().over("prompt_id"))
        .sort("_prompt", "score", descending=[False, True], maintain_order=True)
    )
    following = ordered.with_columns(
        rejected_id=pl.col("response_id").shift(-1),
        _same=pl.col("_prompt") == pl.col("_prompt").shift(-1),
        _below=pl.col("score").shift(-1),
    )
    kept = following.filter(pl.col("_same") & (pl.col("score") > pl.col("_below")))
    return kept.select("prompt_id", pl.col("response_id").alias("chosen_id"), "rejected_id")


def every(answers: pl.LazyFrame) -> pl.LazyFrame:
    """Every two answers with different scores: K answers give up to K(K - 1)/2 pairs."""
    other = answers.rename({"response_id": "rejected_id", "score": "_below"})
    joined = answers.join(other, on="prompt_id", how="inner", maintain_order="left_right")
    kept = joined.filter(pl.col("score") > pl.col("_below"))
    return kept.select("prompt_id", pl.col("response_id").alias("chosen_id"), "rejected_id")


PAIRINGS: dict[str, Callable[..., pl.LazyFrame]] = {
    "best_worst": best_worst,
    "best_random": best_random,
    "adjacent": adjacent,
    "every": every,
}


def pair(
    prefs: Preferences,
    rule: str = "best_worst",
    *,
    by: str = "score",
    min_gap: Annotated[float, Field(ge=0)] = 0.0,
    seed: int = 0,
    **rule_settings: Any,
) -> Preferences:
    """Make pairs of the scored answers to each prompt. Pairs that were there are replaced.

    Prompts that give none are counted as `fewer_than_two_scored` or `all_tied`; pairs that the rule makes but that
    are dropped are counted as `equal_text` or `below_min_gap`. A prompt keeps its split.

    Args:
        prefs: prompts with scored answers.
        rule: `best_worst`, `best_random`, `adjacent`, `every`, or `module:function`.
        by: the score column that decides, for example `score_helpfulness`.
        min_gap: smallest difference of scores, in score units; equal scores never make a pair.
        seed: for a rule that draws.
        rule_settings: further settings of the rule.

    Raises:
        InputError: there is no such rule, setting or score column, or the goals of earlier pairs are in the prompts.
    """
    own = cast(partial[Any], bind(pair, {"by": by, "min_gap": min_gap, "seed": seed}, kind="verb")).keywords
    by, min_gap, seed = own["by"], own["min_gap"], own["seed"]
    plug = find(PAIRINGS, rule, kind="pairing rule")
    given = {"seed": seed} if "seed" in settings_of(plug) else {}
    bound = bind(plug, given | rule_settings, kind="pairing rule")
    if goals_inside(prefs):
        raise InputError(
            "pair: the prompts of these pairs already say which score to ask for, and new pairs would contradict them; "
            "pair the data from before relabelling, and relabel then"
        )
    _check_score(prefs, by)
    score = pl.col(by).cast(pl.Float64)
    answers = prefs.responses.select("prompt_id", "response_id", score=pl.when(score.is_finite()).then(score))
    scored = answers.filter(pl.col("score").is_not_null())
    found = bound(scored).select("prompt_id", "chosen_id", "rejected_id")
    made = _judged(found, scored, prefs, min_gap).collect()
    pairs = made.lazy().filter(pl.col("reason").is_null()).drop("reason")
    had = int(prefs.pairs.select(pl.len()).collect().item())
    prompts, dropped, notes = _account(prefs, answers, by)
    dropped |= dict(made.drop_nulls("reason").group_by("reason", maintain_order=True).len().iter_rows())
    if had:
        notes = (*notes, f"The {had:,} pairs that were there are replaced.")
    step = Step(
        name="pair",
        settings={"rule": rule, **own, **rule_settings},
        rows_in=prompts,
        rows_out=made["reason"].null_count(),
        dropped=dropped,
        notes=notes,
    )
    return prefs.then(step, pairs=pairs)


def goals_inside(prefs: Preferences) -> bool:
    """Whether the pairs ask for scores that their prompts already say, as in a flat file of relabelled pairs.

    Nothing is left there that tells the goal from the prompt, so it can be neither taken out nor put in again.
    """
    return prefs.goal_format is None and prefs.has_goals


def unrelabelled(prefs: Preferences) -> pl.LazyFrame | None:
    """Where goals are inside the prompts: `prompt_id` to `source_prompt_id`, the prompt as it was before relabelling.

    None where no goal is in a prompt, or nothing says what it was; a `source_prompt_id` of other data means nothing.
    """
    source = prefs.pairs.collect_schema().get("source_prompt_id")
    if source is None or source.is_nested() or not goals_inside(prefs):
        return None
    pairs = prefs.pairs.select("prompt_id", pl.col("source_prompt_id").cast(pl.String)).drop_nulls()
    return pairs.unique("prompt_id", keep="first", maintain_order=True)


def text_marks(responses: pl.LazyFrame) -> pl.LazyFrame:
    """The answers with `EMPTY` (no visible character) and `TEXT` (equal for equal messages).

    `TEXT` is a 64-bit hash. It is only ever compared between the two answers of one pair, so even ten million pairs
    meet a false equality with a probability below 1e-12. It lives no longer than the process.
    """
    content = pl.element().struct.field("content")
    visible = pl.col("response").list.eval(content.str.contains(r"\S").fill_null(False)).list.any().fill_null(False)
    # Hashing the messages and then their hashes takes half the time of hashing lists of messages.
    text = pl.col("response").list.eval(pl.element().hash()).hash()
    return responses.with_columns((~visible).alias(EMPTY), text.alias(TEXT))


def splits(prefs: Preferences) -> pl.LazyFrame:
    """The split of each prompt: what `prompts` says, else what the pairs say, else `train`."""
    if "split" in prefs.prompts.collect_schema():
        return prefs.prompts.select("prompt_id", pl.col("split").cast(pl.String).fill_null("train")).unique(
            "prompt_id", keep="first", maintain_order=True
        )
    return prefs.pairs.group_by("prompt_id", maintain_order=True).agg(pl.col("split").first())


def is_split(prefs: Preferences) -> bool:
    """Whether anything says on which side the prompts are, beyond the `train` that pairs begin with."""
    if "split" in prefs.prompts.collect_schema():
        return True
    return bool(prefs.pairs.select((pl.col("split") != "train").any()).collect().item())


def with_split(pairs: pl.LazyFrame, prefs: Preferences) -> pl.LazyFrame:
    """New pairs, in order, with the split of their prompts."""
    joined = pairs.join(splits(prefs), on="prompt_id", how="left", maintain_order="left")
    return joined.with_columns(pl.col("split").fill_null("train"))


def _judged(found: pl.LazyFrame, scored: pl.LazyFrame, prefs: Preferences, min_gap: float) -> pl.LazyFrame:
    """The pairs of a rule, with their split and the reason against them (null: none)."""
    marks = text_marks(prefs.responses).select("response_id", TEXT)
    facts = scored.select("response_id", "score").join(marks, on="response_id", how="left")
    for side in ("chosen", "rejected"):
        named = facts.select(pl.all().name.prefix(f"{side}_"))
        found = found.join(
            named, left_on=f"{side}_id", right_on=f"{side}_response_id", how="left", maintain_order="left"
        )
    gap = pl.col("chosen_score") - pl.col("rejected_score")
    reason = (
        pl.when(pl.col(f"chosen_{TEXT}") == pl.col(f"rejected_{TEXT}"))
        .then(pl.lit("equal_text"))
        .when(gap == 0)
        .then(pl.lit("score_tie"))
        .when(gap.abs() < min_gap)
        .then(pl.lit("below_min_gap"))
    )
    return with_split(found.select("prompt_id", "chosen_id", "rejected_id", reason=reason), prefs)


def _account(prefs: Preferences, answers: pl.LazyFrame, by: str) -> tuple[int, dict[str, int], tuple[str, ...]]:
    """Number of prompts, those that can give no pair by reason, and a note on unscored answers."""
    score = pl.col("score")
    by_prompt = answers.group_by("prompt_id").agg(
        scored=score.count(), tied=(score.count() >= 2) & (score.max() == score.min()), missing=score.null_count()
    )
    table = prefs.prompts.select("prompt_id").join(by_prompt, on="prompt_id", how="left")
    few, tied, missing, prompts = (
        table.select(
            (pl.col("scored").fill_null(0) < 2).sum(), pl.col("tied").sum(), pl.col("missing").sum(), prompts=pl.len()
        )
        .collect()
        .row(0)
    )
    counts: Mapping[str, int] = {"fewer_than_two_scored": few, "all_tied": tied}
    dropped = {reason: count for reason, count in counts.items() if count}
    notes = (f"{missing:,} answers have no finite {by} and are in no pair.",) if missing else ()
    return prompts, dropped, notes


def _check_score(prefs: Preferences, by: str) -> None:
    schema = prefs.responses.collect_schema()
    numbers = [name for name, kind in schema.items() if kind.is_numeric() and name != "response_id"]
    if by not in schema:
        raise InputError(
            f"pair: responses have no column {by!r}{nearest(by, numbers)} (they have {', '.join(numbers)})"
        )
    if by not in numbers:
        raise InputError(f"pair: the column {by!r} holds {schema[by]}; name a column of numbers: {', '.join(numbers)}")
