"""Answers that are trained on without pairs: each by itself, or all answers to a prompt together."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import polars as pl

from pairwright.errors import InputError
from pairwright.logprobs.tokenise import Limits, PromptTokens, Texts, Tokens, Truncate, tokenise_many
from pairwright.preferences import Preferences
from pairwright.train.examples import Dropped, Example, Examples, Seen, ids_of, is_number
from pairwright.train.sides import OfSplit, of_split
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
    """Every answer to the prompts of one split as an example of its own.

    Which answers these are says `of_split`. Of a prompt's equal answers of which one is wanted and one is not, none is
    taken; they are counted as `equal_text`.

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
        InputError: there is no such split or column, the pairs ask for goals or have weights, no answer is left, a
            reference column was made for other tokens, or strangers are wanted beside reference columns, or of one
            prompt alone.
    """
    check_strangers(reference, strangers=strangers)
    judged = (score or "score") if threshold is not None else score
    wants = Wants(reference, judged, (), ())
    limit = columns_limit(prefs, reference)
    rows: list[Example] = []
    prompts: list[str] = []
    texts: list[int] = []
    frame, found = _answers_of(prefs, split, wants)
    dropped, seen = Dropped(found.dropped), Seen(tokenizer)
    for answer in _answers(frame, tokenizer, limits, truncate, wants):
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
        texts.append(answer.text)
    if threshold is not None:
        against = _contradicted(rows, prompts, texts)
        for reason in against.values():
            dropped.add(reason)
        left = [at for at in range(len(rows)) if at not in against]
        rows, prompts = [rows[at] for at in left], [prompts[at] for at in left]
    dropped.check(rows, f"answers of split {split!r}")
    notes = (*found.notes, *seen.notes())
    if threshold is not None:
        notes += (_said_of_wanted(rows, judged or "score", threshold),)
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
    """All answers to each prompt of one split as one example.

    Which answers these are says `of_split`. Each answer that is not trained on counts once. Of equal answers with equal
    scores the first is taken, of equal answers with different scores none (`equal_text`, or `equal_after_truncation`
    where only their tokens are equal). What is left of a prompt must be two answers: one that is left alone is counted
    as `lone_answer`.

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
        InputError: there is no such split or column, the pairs ask for goals or have weights, no group is left, or a
            reference column was made for other tokens.
    """
    wants = Wants(reference, score, tuple(scores), ())
    limit = columns_limit(prefs, reference)
    rows: list[Example] = []
    frame, found = _answers_of(prefs, split, wants)
    dropped, seen = Dropped(found.dropped), Seen(tokenizer)
    # Answers to one prompt need not stand together.
    frame = frame.with_row_index("at").sort(pl.col("at").min().over("prompt_id"), "at")
    answers = _answers(frame, tokenizer, limits, truncate, wants)
    for _, group in groupby(answers, key=lambda answer: answer.row["prompt_id"]):
        together = _without_equals(list(group), wants)
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
    return Examples(rows, dropped.in_order(), (*found.notes, *seen.notes()))


class _Answer(NamedTuple):
    """One answer: its numbers, prompt, tokens, a hash of its text, and why it is dropped; None where it is not."""

    row: Mapping[str, Any]
    head: PromptTokens
    tokens: Tokens
    text: int
    reason: str | None


def _answers_of(prefs: Preferences, split: str, wants: Wants) -> tuple[pl.LazyFrame, OfSplit]:
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
    found = of_split(prefs, split)
    columns = [name for name in wants.columns if name in there]
    frame = prefs.responses.select("response_id", "prompt_id", "response", *columns)
    frame = frame.join(found.others, on="prompt_id", how="anti", maintain_order="left")
    asked = prefs.prompts.select("prompt_id", "prompt")
    return frame.join(asked, on="prompt_id", how="left", maintain_order="left"), found


def _answers(
    frame: pl.LazyFrame, tokenizer: Any, limits: Limits, truncate: Truncate, wants: Wants
) -> Iterator[_Answer]:
    """The answers of a frame, tokenised, in its order."""
    read: deque[tuple[dict[str, Any], int]] = deque()

    def texts() -> Iterator[Texts]:
        for batch in frame.collect_batches(chunk_size=10_000, maintain_order=True):
            for row in batch.iter_rows(named=True):
                prompt, response = row.pop("prompt"), row.pop("response")
                read.append(
                    (row, hash(str(response)))
                )  # first: the reader takes many texts before it gives the first back
                yield Texts(prompt, "", [response])

    for head, (tokens,) in tokenise_many(tokenizer, texts(), limits=limits, truncate=truncate):
        row, text = read.popleft()
        yield _Answer(row, head, tokens, text, _answer_reason(row, tokens, wants))


def _without_equals(answers: Sequence[_Answer], wants: Wants) -> list[_Answer]:
    """The answers to one prompt, with a reason against those that say what another one says."""
    alike: dict[bytes, list[int]] = {}
    for at, answer in enumerate(answers):
        if answer.reason is None:
            alike.setdefault(ids_of(answer.tokens.completion_ids).tobytes(), []).append(at)
    marked = list(answers)
    for places in alike.values():
        several = len({tuple(answers[at].row[name] for name in wants.scores) for at in places}) > 1
        reason = _equal(answers[at].text for at in places)
        for at in places if several else places[1:]:
            marked[at] = answers[at]._replace(reason=reason)
    return marked


def _contradicted(rows: Sequence[Example], prompts: Sequence[str], texts: Sequence[int]) -> dict[int, str]:
    """The places of answers that are wanted here and unwanted there, each with its reason."""
    alike: dict[tuple[str, bytes], list[int]] = {}
    for at, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        alike.setdefault((prompt, row.answers[0].tobytes()), []).append(at)
    return {
        at: _equal(texts[at] for at in places)
        for places in alike.values()
        if len({rows[at].wanted for at in places}) > 1
        for at in places
    }


def _equal(texts: Iterable[int]) -> str:
    """Why answers with the same tokens are dropped."""
    return "equal_text" if len(set(texts)) == 1 else "equal_after_truncation"


def _said_of_wanted(rows: Sequence[Example], score: str, threshold: float) -> str:
    """How many answers are wanted, in a sentence."""
    good = sum(bool(row.wanted) for row in rows)
    said = f"{good:,} answers are wanted ({score} of {threshold:g} or more) and {len(rows) - good:,} are not"
    return said if 0 < good < len(rows) else f"{said}, so nothing is set against them; see the threshold"


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
