"""Preferences to training examples: token arrays, weights, scores, reference columns; what is dropped is counted."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from pairwright.chat import is_absent, text_of
from pairwright.errors import InputError
from pairwright.goals import Goal
from pairwright.logprobs.columns import pair_texts
from pairwright.logprobs.tokenise import (
    Limits,
    Texts,
    Tokens,
    Truncate,
    tokenise_many,
)
from pairwright.preferences import Preferences
from pairwright.progress import Ticker
from pairwright.train.anchors import anchor_scores, anchor_texts
from pairwright.train.answers import group_examples, point_examples
from pairwright.train.examples import Dropped, Example, Examples, Seen, ids_of, is_number
from pairwright.train.strangers import with_strangers
from pairwright.train.wants import (
    SIDES,
    Wants,
    check_cut,
    check_length,
    check_strangers,
    column_of,
    columns_limit,
    has_reference_columns,
)

__all__ = ["Example", "Examples", "group_examples", "has_reference_columns", "pair_examples", "point_examples"]


def pair_examples(
    prefs: Preferences,
    tokenizer: Any,
    *,
    split: str,
    limits: Limits,
    truncate: Truncate = "drop",
    reference: str | None = None,
    score: str | None = None,
    scores: Sequence[str] = (),
    anchor: Goal | None = None,
    strangers: bool = False,
    seed: int = 0,
) -> Examples:
    """The pairs of one split as examples.

    Args:
        prefs: the data.
        tokenizer: with a chat template.
        split: which pairs.
        limits: lengths in tokens.
        truncate: what happens to an over-long answer.
        reference: name of the columns with reference log-probabilities; None for none.
        score: column of the main score (`score`, `score_<name>`), or None where the loss needs none; a pair without is
            dropped, counted as `unscored`.
        scores: names of other score columns that the loss needs, with or without `score_`; likewise.
        anchor: the goal that generation will ask for, in score units: each pair also gets its better-scored answer
            under that goal; a pair that asks for no goal is dropped, counted as `no_goal`. None for no anchors.
        strangers: whether each pair also gets an answer to another prompt.
        seed: of the strangers.

    Raises:
        InputError: there is no such split or column, no pair is left, a reference column was made for other tokens,
            strangers are wanted beside reference columns, or of one prompt alone, or scores where the goals are lists.
    """
    check_strangers(reference, strangers=strangers)
    part = _split_of(prefs, split)
    by_anchor = () if anchor is None else anchor_scores(part, score=score)
    wants = Wants(reference, score, tuple(scores), by_anchor)
    numbers = _numbers(part, wants)
    _check_gaps(numbers, wants)
    limit = columns_limit(part, reference)
    form = part.goal_format
    asks_scores = form is None or form.asks == "scores"
    rows: list[Example] = []
    prompts: list[str] = []
    dropped, seen = Dropped(), Seen(tokenizer)
    early: list[str | None] = []
    ticker = Ticker("tokenise", numbers.height, "pairs")

    def wanted() -> Iterator[Texts]:
        """The texts of each pair, none of one that is dropped without a look at its tokens."""
        for row, texts in zip(numbers.iter_rows(named=True), pair_texts(part, tokenizer), strict=True):
            early.append(_early_reason(row, texts, wants))
            yield Texts(None, "", []) if early[-1] else texts

    def anchored() -> Iterator[Texts]:
        """The same for the anchors."""
        if anchor is None:
            yield from (Texts(None, "", []) for _ in range(numbers.height))
            return
        for at, texts in enumerate(anchor_texts(part, tokenizer, anchor, numbers, by_anchor)):
            yield Texts(None, "", []) if early[at] else texts

    tokens = tokenise_many(tokenizer, wanted(), limits=limits, truncate=truncate)
    anchors = tokenise_many(tokenizer, anchored(), limits=limits, truncate=truncate)
    for at, (row, (head, pair), (_, better)) in enumerate(
        zip(numbers.iter_rows(named=True), tokens, anchors, strict=True)
    ):
        ticker.add(1)
        reason = early[at]
        if reason is None:
            seen.see(head, pair)
            reason = _late_reason(row, pair, better, reference=reference)
        if reason is not None:
            dropped.add(reason)
            continue
        for side, each in zip(SIDES, pair, strict=True):
            check_length(row[f"{side}_id"], row.get(f"len_{reference}_{side}"), each, reference, truncate)
        check_cut(head, limits, limit, reference=reference)
        rows.append(_pair(row, pair, better, wants, asks_scores=asks_scores))
        prompts.append(row["prompt_id"])
    dropped.check(rows, f"pairs of split {split!r}")
    notes = seen.notes()
    if anchor is not None and form is not None and (beyond := form.beyond(anchor)) is not None:
        notes += (beyond,)
    if strangers:
        rows, cut = with_strangers(rows, prompts, max_length=limits.max_length, seed=seed)
        notes += cut
    return Examples(rows, dropped.in_order(), notes)


def _split_of(prefs: Preferences, split: str) -> Preferences:
    there = prefs.pairs.select(pl.col("split").unique().sort()).collect()["split"].to_list()
    if split not in there:
        what = f"its pairs are of {', '.join(map(repr, there))}" if there else "it has no pairs at all; pair it first"
        raise InputError(f"the data have no pairs of split {split!r}: {what}")
    pairs = prefs.pairs.filter(pl.col("split") == split)
    return Preferences.of(prefs.prompts, prefs.responses, pairs, prefs.lineage)


def _numbers(prefs: Preferences, wants: Wants) -> pl.DataFrame:
    """Weight, goal, scores and reference columns of the pairs, in their order."""
    reference = wants.reference
    if reference is not None and not has_reference_columns(prefs, reference):
        raise InputError(
            f"there are no columns logp_{reference} for these prompts; run `pairwright logprobs --model REFERENCE "
            f"--name {reference}` on the data after relabelling"
        )
    view = prefs.view(*wants.columns)
    names = [f"{name}_{side}" for name in wants.columns for side in SIDES]
    return view.select("prompt_id", "chosen_id", "rejected_id", "weight", "goal", *names).collect()


def _check_gaps(numbers: pl.DataFrame, wants: Wants) -> None:
    """Refuse goals from which one score has no distance: several scores, a class, a direction."""
    goal = numbers["goal"]
    if (wants.score is not None or wants.named) and isinstance(goal.dtype, pl.List) and goal.count():
        raise InputError(
            f"{goal.count():,} pairs ask for a class, a direction or several scores at once, so that a loss that looks "
            "at the gap of one score cannot be used; relabel for one score, or take a loss without scores"
        )


def _early_reason(row: Mapping[str, Any], texts: Texts, wants: Wants) -> str | None:
    """Why a pair is dropped, as far as its texts and numbers say."""
    weight = row["weight"]
    if weight is not None and not (math.isfinite(weight) and weight >= 0):
        raise InputError(
            f"the pair of answers {row['chosen_id']} and {row['rejected_id']} has weight {weight}; "
            "a weight is a number from 0 up"
        )
    if any(is_absent(answer) for answer in texts.answers):
        return "missing_answer"
    if is_absent(texts.prompt):
        return "missing_prompt"
    if wants.anchor and row["goal"] is None:
        return "no_goal"
    if not all(is_number(row[f"{name}_{side}"]) for name in wants.scores for side in SIDES):
        return "unscored"
    for side, answer in zip(SIDES, texts.answers, strict=True):
        if not text_of(answer or []).strip():
            return f"empty_{side}"
    if texts.answers[0] == texts.answers[1]:
        return "equal_text"
    return "several_turns" if any(len(answer or []) > 1 for answer in texts.answers) else None


def _late_reason(
    row: Mapping[str, Any], pair: Sequence[Tokens], anchor: Sequence[Tokens], *, reference: str | None
) -> str | None:
    """Why a pair is dropped, as far as its tokens say."""
    chosen, rejected = pair
    if chosen.lost == "missing_prompt":  # there is one, and it has no tokens
        return chosen.lost
    for side, tokens in zip(SIDES, pair, strict=True):
        if tokens.lost == "empty":
            return f"empty_{side}"
    if any(tokens.lost for tokens in (*pair, *anchor)):
        return "lost_to_truncation"
    if chosen.completion_ids == rejected.completion_ids:
        return "equal_after_truncation"
    if reference and not all(is_number(row[f"logp_{reference}_{side}"]) for side in SIDES):
        return "no_reference"
    return None


def _pair(
    row: Mapping[str, Any], pair: Sequence[Tokens], anchor: Sequence[Tokens], wants: Wants, *, asks_scores: bool
) -> Example:
    """An example; a goal that is no score (a class, a direction) is for the prompt alone."""
    goal = row["goal"]

    def both(name: str) -> tuple[float, float]:
        return row[f"{name}_chosen"], row[f"{name}_rejected"]

    return Example(
        ids_of(pair[0].prompt_ids),
        tuple(ids_of(tokens.completion_ids) for tokens in pair),
        weight=1.0 if row["weight"] is None else row["weight"],
        goal=goal if asks_scores and isinstance(goal, float) else math.nan,
        scores=None if wants.score is None else both(column_of(wants.score)),
        refs=both(f"logp_{wants.reference}") if wants.reference else None,
        named={name: both(column_of(name)) for name in wants.named} or None,
        anchor=(ids_of(anchor[0].prompt_ids), ids_of(anchor[0].completion_ids)) if anchor else None,
    )
