"""Answers that are trained on without pairs: each by itself, or all answers to a prompt together."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import polars as pl

from pairwright.errors import InputError
from pairwright.logprobs.tokenise import Limits, PromptTokens, Texts, Tokens, Truncate, tokenise_many
from pairwright.preferences import Preferences
from pairwright.train.examples import Dropped, Example, Examples, Seen, ids_of, is_number
from pairwright.train.strangers import with_strangers
from pairwright.train.wants import Wants, check_cut, check_length, check_strangers, column_of, columns_limit


def point_examples(
    prefs: Preferences,
    tokenizer: Any,
    *,
    split: str,
    limits: Limits,
    truncate: Truncate = "drop",
    reference: str | None = None,
    score: str | None = None,
    threshold: float | None = None,
    strangers: bool = False,
    seed: int = 0,
) -> Examples:
    """Every answer to the prompts of one split as an example of its own; goals play no part.

    An answer whose prompt is not among the prompts is of no split; it is counted as `missing_prompt` in each.

    Args:
        prefs: the data.
        tokenizer: with a chat template.
        split: whose prompts.
        limits: lengths in tokens.
        truncate: what happens to an over-long answer.
        reference: name of the columns of answers with reference log-probabilities; None for none.
        score: column of the score, or None where the loss needs none; an answer without is dropped as `unscored`.
        threshold: answers scored at or above it are wanted (by `score`, or the main score where that is None); None is
            all of them.
        strangers: whether each answer also gets an answer to another prompt.
        seed: of the strangers.

    Raises:
        InputError: there is no such column, no answer is left, a reference column was made for other tokens, or
            strangers are wanted beside reference columns, or of one prompt alone.
    """
    check_strangers(reference, strangers=strangers)
    judged = (score or "score") if threshold is not None else score
    wants = Wants(reference, judged, (), ())
    limit = columns_limit(prefs, reference)
    rows: list[Example] = []
    prompts: list[str] = []
    dropped, seen = Dropped(), Seen(tokenizer)
    for answer in _answers(_answers_of(prefs, split, wants), tokenizer, limits, truncate, wants):
        seen.see(answer.head, [answer.tokens])
        if answer.reason is not None:
            dropped.add(answer.reason)
            continue
        check_length(answer.row["response_id"], answer.row.get(f"len_{reference}"), answer.tokens, reference, truncate)
        check_cut(answer.head, limits, limit, reference=reference)
        rows.append(
            Example(
                ids_of(answer.tokens.prompt_ids),
                (ids_of(answer.tokens.completion_ids),),
                scores=None if score is None else (answer.row[column_of(score)],),
                refs=(answer.row[f"logp_{reference}"],) if reference else None,
                wanted=threshold is None or answer.row[column_of(judged or "score")] >= threshold,
            )
        )
        prompts.append(answer.row["prompt_id"])
    dropped.check(rows, f"answers of split {split!r}")
    notes = seen.notes()
    if strangers:
        rows, cut = with_strangers(rows, prompts, max_length=limits.max_length, seed=seed)
        notes += cut
    return Examples(rows, dropped.in_order(), notes)


def group_examples(
    prefs: Preferences,
    tokenizer: Any,
    *,
    split: str,
    limits: Limits,
    truncate: Truncate = "drop",
    reference: str | None = None,
    score: str | None = None,
    scores: Sequence[str] = (),
) -> Examples:
    """All answers to each prompt of one split as one example; goals play no part.

    Each answer that is not trained on counts once. What is left of a prompt must be two answers: one that is left
    alone is counted as `lone_answer`.

    Args:
        prefs: the data.
        tokenizer: with a chat template.
        split: whose prompts.
        limits: lengths in tokens.
        truncate: what happens to an over-long answer.
        reference: name of the columns of answers with reference log-probabilities; None for none.
        score: column of the main score, or None where the loss needs none; an answer without is dropped as `unscored`.
        scores: names of other score columns that the loss needs, with or without `score_`; likewise.

    Raises:
        InputError: there is no such column, no group is left, or a reference column was made for other tokens.
    """
    wants = Wants(reference, score, tuple(scores), ())
    limit = columns_limit(prefs, reference)
    rows: list[Example] = []
    dropped, seen = Dropped(), Seen(tokenizer)
    # Answers to one prompt need not stand together.
    frame = _answers_of(prefs, split, wants).with_row_index("at").sort(pl.col("at").min().over("prompt_id"), "at")
    answers = _answers(frame, tokenizer, limits, truncate, wants)
    for _, group in groupby(answers, key=lambda answer: answer.row["prompt_id"]):
        together = list(group)
        seen.see(together[0].head, [answer.tokens for answer in together])
        left = [answer for answer in together if answer.reason is None]
        for answer in together:
            if answer.reason is not None or len(left) < 2:
                dropped.add(answer.reason or "lone_answer")
        if len(left) < 2:
            continue
        for answer in left:
            check_length(
                answer.row["response_id"], answer.row.get(f"len_{reference}"), answer.tokens, reference, truncate
            )
        check_cut(left[0].head, limits, limit, reference=reference)
        rows.append(
            Example(
                ids_of(left[0].tokens.prompt_ids),
                tuple(ids_of(answer.tokens.completion_ids) for answer in left),
                scores=None if score is None else tuple(answer.row[column_of(score)] for answer in left),
                refs=tuple(answer.row[f"logp_{reference}"] for answer in left) if reference else None,
                named={name: tuple(answer.row[column_of(name)] for answer in left) for name in scores} or None,
            )
        )
    dropped.check(rows, f"groups of split {split!r}")
    return Examples(rows, dropped.in_order(), seen.notes())


class _Answer(NamedTuple):
    """One answer: its numbers, its prompt, its tokens, and why it is dropped; None where it is not."""

    row: Mapping[str, Any]
    head: PromptTokens
    tokens: Tokens
    reason: str | None


def _answers_of(prefs: Preferences, split: str, wants: Wants) -> pl.LazyFrame:
    """The answers to the prompts of a split with their prompts and numbers, in the order of `responses`."""
    there = prefs.responses.collect_schema().names()
    if wants.reference is not None and f"logp_{wants.reference}" not in there:
        raise InputError(
            f"responses have no column logp_{wants.reference}; run `pairwright logprobs --model REFERENCE "
            f"--name {wants.reference}` on the data before relabelling"
        )
    for name in wants.scores:
        if name not in there:
            raise InputError(f"there is no column {name!r} in responses; it has {', '.join(there)}")
    has_split = "split" in prefs.prompts.collect_schema()
    part = pl.col("split") if has_split else pl.lit(split)
    asked = prefs.prompts.select("prompt_id", "prompt", part.alias("split"), there=pl.lit(True))
    columns = [name for name in wants.columns if name in there]
    frame = prefs.responses.select("response_id", "prompt_id", "response", *columns)
    frame = frame.join(asked, on="prompt_id", how="left", maintain_order="left")
    return frame.filter(pl.col("there").is_null() | (pl.col("split") == split)).drop("there", "split")


def _answers(
    frame: pl.LazyFrame, tokenizer: Any, limits: Limits, truncate: Truncate, wants: Wants
) -> Iterator[_Answer]:
    """The answers of a frame, tokenised, in its order."""
    read: deque[dict[str, Any]] = deque()

    def texts() -> Iterator[Texts]:
        for batch in frame.collect_batches(chunk_size=10_000, maintain_order=True):
            for row in batch.iter_rows(named=True):
                prompt, response = row.pop("prompt"), row.pop("response")
                read.append(row)  # first: the reader takes many texts before it gives the first back
                yield Texts(prompt, "", [response])

    for head, (tokens,) in tokenise_many(tokenizer, texts(), limits=limits, truncate=truncate):
        row = read.popleft()
        yield _Answer(row, head, tokens, _answer_reason(row, tokens, wants))


def _answer_reason(row: Mapping[str, Any], tokens: Tokens, wants: Wants) -> str | None:
    """Why a single answer is dropped."""
    if tokens.lost in ("missing_answer", "missing_prompt"):
        return tokens.lost
    if not all(is_number(row[name]) for name in wants.scores):
        return "unscored"
    if tokens.lost is not None:
        return "empty_response" if tokens.lost == "empty" else tokens.lost
    if wants.reference and not is_number(row[f"logp_{wants.reference}"]):
        return "no_reference"
    return None
