"""Preferences to training examples: token arrays, weights, scores, reference columns; what is dropped is counted."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from pairwright.chat import text_of
from pairwright.errors import InputError
from pairwright.logprobs.columns import pair_texts
from pairwright.logprobs.progress import Ticker
from pairwright.logprobs.tokenise import (
    Limits,
    PromptTokens,
    Texts,
    Tokens,
    Truncate,
    is_absent,
    tokenise_many,
)
from pairwright.preferences import Preferences
from pairwright.reader import notes_on

REASONS = (
    "missing_answer",
    "missing_prompt",
    "unscored",
    "empty_chosen",
    "empty_rejected",
    "empty_response",
    "equal_text",
    "several_turns",
    "lost_to_truncation",
    "equal_after_truncation",
    "no_reference",
)
"""Why an example is dropped. Each counts once, under the first of this order that holds."""

SUMS = 16
"""Sums with random signs by which the reference's log-probabilities are known again."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A prompt with its answers: chosen and rejected, or one answer alone.

    Attributes:
        prompt: token ids, int32.
        answers: token ids of each answer, int32; two for a pair (chosen first).
        weight: how much it counts in the loss.
        goal: the score asked for, NaN for none (or where a goal has several parts).
        scores: external score of each answer, or None where the loss needs none.
        refs: reference log-probability of each answer in nats, or None where none is known beforehand.
        filler: whether it stands for no example, and is there only so that processes have equally many.
    """

    prompt: np.ndarray
    answers: tuple[np.ndarray, ...]
    weight: float = 1.0
    goal: float = math.nan
    scores: tuple[float, ...] | None = None
    refs: tuple[float, ...] | None = None
    filler: bool = False


class Examples(NamedTuple):
    """Training examples in the order of the data, and what is not among them.

    Attributes:
        rows: the examples.
        dropped: rows that gave none, by reason.
        notes: what a reader should know, one sentence each.
    """

    rows: list[Example]
    dropped: dict[str, int]
    notes: tuple[str, ...]

    def digest(self) -> str:
        """SHA-256 of all that training sees but for the reference's numbers, whose last bits are chance; in hex."""
        total = hashlib.sha256()
        for row in self.rows:
            for ids in (row.prompt, *row.answers):
                total.update(len(ids).to_bytes(4, "little"))
                total.update(ids.tobytes())
            total.update(repr((row.weight, row.goal, row.scores)).encode())
        return total.hexdigest()

    def reference_sums(self) -> list[float]:
        """`SUMS` sums of the reference's numbers, each number with a random sign, over the root of how many there are.

        In nats; empty without columns. The signs go with the place and side of an answer and are the same each time.
        Numbers that each move by chance by `e` move such a sum by about `e`, however many there are; so it tells what
        a digest must not: whether the numbers are the same but for their last bits. Exchanged or shuffled numbers move
        it by about what they differ by, and one of `n` that moves by `d` moves it by `d / sqrt(n)`.
        """
        known = np.asarray([value for row in self.rows for value in row.refs or ()], dtype=np.float64)
        if not len(known):
            return []
        signs = np.random.default_rng(0)
        root = math.sqrt(len(known))
        return [
            float(known @ (2.0 * signs.integers(0, 2, len(known), dtype=np.int8) - 1.0)) / root for _ in range(SUMS)
        ]


def has_reference_columns(prefs: Preferences, name: str) -> bool:
    """Whether the data hold log-probabilities `logp_<name>` that are of these prompts, goals in place."""
    column = f"logp_{name}"
    if f"{column}_chosen" in prefs.pairs.collect_schema():
        return True
    return not prefs.has_goals and column in prefs.responses.collect_schema()


def pair_examples(
    prefs: Preferences,
    tokenizer: Any,
    *,
    split: str,
    limits: Limits,
    truncate: Truncate = "drop",
    reference: str | None = None,
    scores: bool = False,
) -> Examples:
    """The pairs of one split as examples.

    Args:
        prefs: the data.
        tokenizer: with a chat template.
        split: which pairs.
        limits: lengths in tokens.
        truncate: what happens to an over-long answer.
        reference: name of the columns with reference log-probabilities; None for none.
        scores: whether the loss needs the scores of both sides; a pair without is dropped, counted as `unscored`.

    Raises:
        InputError: there is no such split or column, no pair is left, or a reference column was made for other tokens.
    """
    part = _split_of(prefs, split)
    numbers = _numbers(part, reference)
    columns_limit = _columns_limit(part, reference)
    rows: list[Example] = []
    dropped: dict[str, int] = {}
    early: list[str | None] = []
    facts = _Facts(tokenizer)
    ticker = Ticker("tokenise", numbers.height, "pairs")

    def wanted() -> Iterator[Texts]:
        """The texts of each pair, none of one that is dropped without a look at its tokens."""
        for row, texts in zip(numbers.iter_rows(named=True), pair_texts(part, tokenizer), strict=True):
            early.append(_early_reason(row, texts, scores=scores))
            yield Texts(None, "", []) if early[-1] else texts

    tokens = tokenise_many(tokenizer, wanted(), limits=limits, truncate=truncate)
    for at, (row, (head, pair)) in enumerate(zip(numbers.iter_rows(named=True), tokens, strict=True)):
        ticker.add(1)
        reason = early[at]
        if reason is None:
            facts.see(head, pair)
            reason = _late_reason(row, pair, reference=reference)
        if reason is not None:
            dropped[reason] = dropped.get(reason, 0) + 1
            continue
        _check_lengths(row, pair, reference=reference, truncate=truncate)
        _check_cut(head, limits, columns_limit, reference=reference)
        rows.append(_example(row, pair, scores=scores, reference=reference))
    _some(rows, dropped, f"pairs of split {split!r}")
    return Examples(rows, _in_order(dropped), facts.notes())


def answer_examples(
    prefs: Preferences, tokenizer: Any, *, split: str, limits: Limits, truncate: Truncate = "drop"
) -> Examples:
    """Every answer to the prompts of one split as an example of its own, for supervised fine-tuning.

    An answer whose prompt is not among the prompts is of no split; it is counted as `missing_prompt` in each.

    Raises:
        InputError: no answer is left.
    """
    has_split = "split" in prefs.prompts.collect_schema()
    part = pl.col("split") if has_split else pl.lit(split)
    asked = prefs.prompts.select("prompt_id", "prompt", part.alias("split"), there=pl.lit(True))
    frame = prefs.responses.select("prompt_id", "response").join(
        asked, on="prompt_id", how="left", maintain_order="left"
    )
    frame = frame.filter(pl.col("there").is_null() | (pl.col("split") == split))
    rows: list[Example] = []
    dropped: dict[str, int] = {}
    facts = _Facts(tokenizer)
    texts = (
        Texts(prompt, "", [response])
        for batch in frame.collect_batches(chunk_size=10_000, maintain_order=True)
        for prompt, response in batch.select("prompt", "response").iter_rows()
    )
    for head, (tokens,) in tokenise_many(tokenizer, texts, limits=limits, truncate=truncate):
        facts.see(head, [tokens])
        if tokens.lost:
            reason = "empty_response" if tokens.lost == "empty" else tokens.lost
            dropped[reason] = dropped.get(reason, 0) + 1
            continue
        rows.append(Example(_ids(tokens.prompt_ids), (_ids(tokens.completion_ids),)))
    _some(rows, dropped, f"answers of split {split!r}")
    return Examples(rows, _in_order(dropped), facts.notes())


class _Facts:
    """What is worth a note. Rows of one prompt that follow each other count it once."""

    def __init__(self, tokenizer: Any) -> None:
        if tokenizer.eos_token_id is None:
            raise InputError(
                "the tokenizer has no EOS token, so a model could not learn to end an answer; "
                "set tokenizer.eos_token and save it"
            )
        self._tokenizer = tokenizer
        self._last: PromptTokens | None = None
        self._cut = self._rejoined = self._prompts = self._answers = 0

    def see(self, head: PromptTokens, tokens: Sequence[Tokens]) -> None:
        if head != self._last:
            self._last = head
            self._prompts += 1
            self._cut += head.cut > 0
        self._answers += len(tokens)
        self._rejoined += sum(each.rejoined for each in tokens)

    def notes(self) -> tuple[str, ...]:
        found = []
        if self._cut:
            found.append(f"{self._cut} of {self._prompts} prompts were cut in the user's text to fit")
        if self._rejoined:
            found.append(
                f"{self._rejoined} of {self._answers} answers share a token with their prompt when read at once"
            )
        return (*found, *notes_on(self._tokenizer))


def _split_of(prefs: Preferences, split: str) -> Preferences:
    there = prefs.pairs.select(pl.col("split").unique().sort()).collect()["split"].to_list()
    if split not in there:
        what = f"its pairs are of {', '.join(map(repr, there))}" if there else "it has no pairs at all; pair it first"
        raise InputError(f"the data have no pairs of split {split!r}: {what}")
    pairs = prefs.pairs.filter(pl.col("split") == split)
    return Preferences.of(prefs.prompts, prefs.responses, pairs, prefs.lineage)


def _numbers(prefs: Preferences, reference: str | None) -> pl.DataFrame:
    """Weight, goal, scores and reference columns of the pairs, in their order."""
    wanted = ["score"]
    if reference is not None:
        if not has_reference_columns(prefs, reference):
            raise InputError(
                f"there are no columns logp_{reference} for these prompts; run `pairwright logprobs --model REFERENCE "
                f"--name {reference}` on the data after relabelling"
            )
        wanted += [f"logp_{reference}", f"len_{reference}"]
    view = prefs.view(*wanted)
    names = [f"{name}_{side}" for name in wanted for side in ("chosen", "rejected")]
    return view.select("chosen_id", "rejected_id", "weight", "goal", *names).collect()


def _early_reason(row: Mapping[str, Any], texts: Texts, *, scores: bool) -> str | None:
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
    if scores and not all(_finite(row[f"score_{side}"]) for side in ("chosen", "rejected")):
        return "unscored"
    for side, answer in zip(("chosen", "rejected"), texts.answers, strict=True):
        if not text_of(answer or []).strip():
            return f"empty_{side}"
    if texts.answers[0] == texts.answers[1]:
        return "equal_text"
    return "several_turns" if any(len(answer or []) > 1 for answer in texts.answers) else None


def _late_reason(row: Mapping[str, Any], pair: Sequence[Tokens], *, reference: str | None) -> str | None:
    """Why a pair is dropped, as far as its tokens say."""
    chosen, rejected = pair
    if chosen.lost == "missing_prompt":  # there is one, and it has no tokens
        return chosen.lost
    for side, tokens in (("chosen", chosen), ("rejected", rejected)):
        if tokens.lost == "empty":
            return f"empty_{side}"
    if chosen.lost or rejected.lost:
        return "lost_to_truncation"
    if chosen.completion_ids == rejected.completion_ids:
        return "equal_after_truncation"
    if reference and not all(_finite(row[f"logp_{reference}_{side}"]) for side in ("chosen", "rejected")):
        return "no_reference"
    return None


def _check_lengths(
    row: Mapping[str, Any], pair: Sequence[Tokens], *, reference: str | None, truncate: Truncate
) -> None:
    """Refuse reference columns that were made with another tokenizer or other limits."""
    if reference is None:
        return
    for side, tokens in zip(("chosen", "rejected"), pair, strict=True):
        had, has = row[f"len_{reference}_{side}"], len(tokens.completion_ids)
        if had is not None and had != has:
            raise InputError(
                f"logp_{reference} was made for {had} tokens of answer {row[f'{side}_id']}, which has {has} here "
                f"(truncate={truncate!r}); run logprobs again with this tokenizer, max_length and max_prompt_length"
            )


def _columns_limit(prefs: Preferences, reference: str | None) -> int | None:
    """The `max_prompt_length` that the reference columns were made with; None where the lineage does not say."""
    for step in reversed(prefs.lineage):
        if step.name == "logprobs" and step.settings.get("name") == reference:
            found = step.settings.get("max_prompt_length")
            return found if isinstance(found, int) else None
    return None


def _check_cut(head: PromptTokens, limits: Limits, columns_limit: int | None, *, reference: str | None) -> None:
    """Refuse reference columns whose prompt was cut otherwise than here; the answers' lengths do not show it."""
    if columns_limit is None or columns_limit == limits.max_prompt_length:
        return
    whole = len(head.ids) + head.cut
    if whole > min(columns_limit, limits.max_prompt_length):
        raise InputError(
            f"logp_{reference} was made with max_prompt_length {columns_limit}, which here is "
            f"{limits.max_prompt_length}, and a prompt of {whole} tokens is cut by one of the two; give both the same "
            "max_length and max_prompt_length, or run logprobs again"
        )


def _example(row: Mapping[str, Any], pair: Sequence[Tokens], *, scores: bool, reference: str | None) -> Example:
    goal = row["goal"]
    return Example(
        _ids(pair[0].prompt_ids),
        tuple(_ids(tokens.completion_ids) for tokens in pair),
        weight=1.0 if row["weight"] is None else row["weight"],
        goal=goal if isinstance(goal, float) else math.nan,
        scores=(row["score_chosen"], row["score_rejected"]) if scores else None,
        refs=(row[f"logp_{reference}_chosen"], row[f"logp_{reference}_rejected"]) if reference else None,
    )


def _ids(tokens: Sequence[int]) -> np.ndarray:
    return np.asarray(tokens, dtype=np.int32)


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _in_order(dropped: Mapping[str, int]) -> dict[str, int]:
    return {reason: dropped[reason] for reason in REASONS if reason in dropped}


def _some(rows: Sequence[Example], dropped: Mapping[str, int], what: str) -> None:
    if not rows:
        why = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "there are none"
        raise InputError(f"nothing is left to train on of the {what} ({why})")
