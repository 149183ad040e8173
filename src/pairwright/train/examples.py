"""What is trained on: prompts with their answers as tokens, and what was not taken among them."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pairwright.errors import InputError
from pairwright.logprobs.tokenise import PromptTokens, Tokens
from pairwright.reader import notes_on

REASONS = (
    "several_splits",
    "not_in_a_pair",
    "missing_answer",
    "missing_prompt",
    "no_goal",
    "unscored",
    "empty_chosen",
    "empty_rejected",
    "empty_response",
    "equal_text",
    "several_turns",
    "lost_to_truncation",
    "equal_after_truncation",
    "no_reference",
    "lone_answer",
)
"""Why an example is dropped. Each counts once, under the first of this order that holds."""

SUMS = 16
"""Sums with random signs by which the reference's log-probabilities are known again."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A prompt with its answers: chosen and rejected, or one answer alone, or all that are there.

    Attributes:
        prompt: token ids, int32.
        answers: token ids of each answer, int32; two for a pair (chosen first).
        weight: how much it counts in the loss.
        goal: the score asked for, NaN for none (or where a goal has several parts).
        scores: external score of each answer, or None where the loss needs none.
        refs: reference log-probability of each answer in nats, or None where none is known beforehand.
        filler: whether it stands for no example, and is there only so that processes have equally many.
        named: other external scores of each answer by name, or None where the loss needs none.
        wanted: whether a single answer is desirable; None for pairs and groups.
        stranger: token ids of an answer to another prompt, int32, or None where the loss needs none.
        stranger_ref: its reference log-probability after this prompt in nats, or None where it is not known beforehand.
        anchor: token ids of the prompt with the goal that generation will ask for, and of the better-scored answer to
            it; None where the loss needs none.
    """

    prompt: np.ndarray
    answers: tuple[np.ndarray, ...]
    weight: float = 1.0
    goal: float = math.nan
    scores: tuple[float, ...] | None = None
    refs: tuple[float, ...] | None = None
    filler: bool = False
    named: Mapping[str, tuple[float, ...]] | None = None
    wanted: bool | None = None
    stranger: np.ndarray | None = None
    stranger_ref: float | None = None
    anchor: tuple[np.ndarray, np.ndarray] | None = None


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
            beside = (() if row.stranger is None else (row.stranger,)), row.anchor or ()
            texts = (row.prompt, *row.answers, *beside[0], *beside[1])
            named = None if row.named is None else sorted(row.named.items())
            counts = (len(row.answers), *map(len, beside))
            total.update(repr((counts, row.weight, row.goal, row.scores, named, row.wanted)).encode())
            for ids in texts:
                total.update(len(ids).to_bytes(4, "little"))
                total.update(ids.tobytes())
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


class Seen:
    """What is worth a note. Rows of one prompt that follow each other count it once.

    Raises:
        InputError: the tokenizer has no EOS token.
    """

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
        """A prompt and its answers."""
        if head != self._last:
            self._last = head
            self._prompts += 1
            self._cut += head.cut > 0
        self._answers += len(tokens)
        self._rejoined += sum(each.rejoined for each in tokens)

    def notes(self) -> tuple[str, ...]:
        """One sentence for each fact."""
        found = []
        if self._cut:
            found.append(f"{self._cut} of {self._prompts} prompts were cut in the user's text to fit")
        if self._rejoined:
            found.append(
                f"{self._rejoined} of {self._answers} answers share a token with their prompt when read at once"
            )
        return (*found, *notes_on(self._tokenizer))


class Dropped:
    """Rows that gave no example, by reason.

    Args:
        known: those that are counted already.
    """

    def __init__(self, known: Mapping[str, int] | None = None) -> None:
        self._counts: dict[str, int] = dict(known or {})

    def add(self, reason: str) -> None:
        """One more."""
        self._counts[reason] = self._counts.get(reason, 0) + 1

    def in_order(self) -> dict[str, int]:
        """The counts, in the order of `REASONS`."""
        return {reason: self._counts[reason] for reason in REASONS if reason in self._counts}

    def check(self, rows: Sequence[Example], what: str) -> None:
        """Refuse to go on with nothing.

        Raises:
            InputError: there are no rows; the message says what became of them.
        """
        if not rows:
            why = ", ".join(f"{count} {reason}" for reason, count in self._counts.items()) or "there are none"
            raise InputError(f"nothing is left to train on of the {what} ({why})")


def ids_of(tokens: Sequence[int]) -> np.ndarray:
    """Token ids as four bytes each."""
    return np.asarray(tokens, dtype=np.int32)


def is_number(value: float | None) -> bool:
    """Whether there is a value and it is finite."""
    return value is not None and math.isfinite(value)
