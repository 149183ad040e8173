"""What a judge's text says: strict, so that a text which cannot be read gives no score, never a low one."""

import math
import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import cache
from typing import NamedTuple

from pairwright.served import Answer, Failure, Token


class Reading(NamedTuple):
    """A number, or None and the reason."""

    value: float | None
    why: str = ""


class Verdict(StrEnum):
    """What a judge says of two answers, in the order in which it saw them."""

    FIRST = "first"
    SECOND = "second"
    TIE = "tie"
    ABSTAINED = "abstained"


class Judged(NamedTuple):
    """One comparison in one order: a verdict and how much of it the first answer has, or neither and the reason."""

    verdict: Verdict | None
    share: float | None = None
    """1 where the first answer wins, 0 where the second does, 1/2 for a tie; None where the judge abstained."""
    why: str = ""


LETTERS: dict[str, Verdict] = {"A": Verdict.FIRST, "B": Verdict.SECOND, "C": Verdict.TIE, "D": Verdict.ABSTAINED}
"""The letters of a verdict, as the prompt file has them."""
SHARES: dict[Verdict, float] = {Verdict.FIRST: 1.0, Verdict.SECOND: 0.0, Verdict.TIE: 0.5}
_ABSTAINED = "none"
_ANY = re.compile(r"\[\[[^\[\]]*\]\]")
_NUMBER = r"-?\d+(?:\.\d+)?|none"
_BARE = re.compile(r"\[\[(\s*(?:[A-Za-z]|none)\s*)\]\]")
_LETTER = re.compile(r"\[\[\s*([A-D])\s*\]\]")
_LIKE_NUMBER = re.compile(r"\[\[[^\[\]]*\d[^\[\]]*\]\]")
_LIKE_LETTER = re.compile(r"\[\[(?:\s*[a-d]\s*|(?:[^\[\]]*[^\[\]A-Za-z])?[A-D](?:[^\[\]A-Za-z][^\[\]]*)?)\]\]")
"""Brackets that would say a verdict but cannot be read, such as `[[8/10]]` and `[[A>B]]`; `[[Paris]]` is none."""
_ROUNDING = 0.01
"""How far above 0 a log-probability may come by rounding, and above 1 those of one place together."""
_LITTLE = 0.5
"""Probability on ratings, or verdicts, below which their mean says nothing."""


def said(answer: Answer | Failure, label: str | None, low: float, high: float) -> Reading:
    """The rating that a judge wrote in double brackets, `[[7]]`, or `[[label: 7]]`.

    What a model thinks aloud up to `</think>` does not count. A rating may be written several times, but only one: 7
    and 7.0 are one, and brackets that hold a number but no rating, `[[8/10]]`, are another.

    Args:
        answer: the judge's.
        label: of the attribute; None for a rating without one.
        low: the lowest rating that counts.
        high: the highest.
    """
    text, why = _text(answer)
    if text is None:
        return Reading(None, why)
    pattern = _rating(label)
    found = {None if word.lower() == _ABSTAINED else float(word) for word in pattern.findall(text)}
    if len(found) != 1 or _has_other(text, pattern, _like_rating(label)):
        return Reading(None, "several_verdicts" if found else _nothing(answer, text))
    value = found.pop()
    if value is None:
        return Reading(None, "abstained")
    return Reading(value) if low <= value <= high else Reading(None, "out_of_range")


def expected(answer: Answer | Failure, label: str | None, low: float, high: float) -> Reading:
    """The mean rating under the judge's own probabilities at the place where it wrote one.

        sum of v p(v) / sum of p(v), over the whole numbers v from low to high among the most probable tokens

    A rating of several tokens ("1", "0") is one where the judge wrote its first token: then p(10) = p(1) p(0 | 1) is
    taken from that token. Where the judge wrote another token, nobody knows whether a "1" among the probable ones would
    have become 1 or 10, so it is left out; it counts where a longer token that begins with it stands beside it ("10"),
    since such a tokenizer writes 10 at once. What `said` gives no rating gets none here, with its reason; `not_whole`
    where the judge wrote 7.5, which is on no step of the scale and none of the numbers that are averaged; `no_logprobs`
    where the server gives none, `bad_logprobs` where they are none of probabilities (not a number, above 0, or more
    than 1 together), `little_mass` where less than half of the probability is on ratings.

    Source: arXiv 2303.16634 (ratings weighted by their probabilities).
    """
    first = said(answer, label, low, high)
    if first.value is None or isinstance(answer, Failure):
        return first
    if not first.value.is_integer():
        return Reading(None, "not_whole")
    place = _place(answer.tokens or (), _rating(label))
    if place is None:
        return Reading(None, "no_logprobs")
    tokens = (answer.tokens or ())[place:]
    if not all(map(_is_sound, tokens[: 1 + len(str(int(high)))])):
        return Reading(None, "bad_logprobs")
    mass = _mass(tokens, low, high)
    inside = {value: part for value, part in mass.items() if low <= value <= high}
    total = math.fsum(inside.values())
    if total < _LITTLE:
        return Reading(None, "little_mass")
    return Reading(math.fsum(value * part for value, part in inside.items()) / total)


def verdict_said(answer: Answer | Failure) -> Judged:
    """The verdict that a judge wrote in double brackets, `[[A]]` to `[[D]]`."""
    text, why = _text(answer)
    if text is None:
        return Judged(None, None, why)
    found = set(_LETTER.findall(text))
    if len(found) != 1 or _has_other(text, _LETTER, _LIKE_LETTER):
        return Judged(None, None, "several_verdicts" if found else _nothing(answer, text))
    verdict = LETTERS[found.pop()]
    return Judged(verdict, SHARES.get(verdict))


def letter_said(answer: Answer | Failure, letters: str) -> tuple[str | None, str]:
    """The one letter of `letters` that a judge wrote in double brackets, or None and the reason.

    Args:
        answer: the judge's.
        letters: those that there are, such as `ABCD`; `[[none]]` is an abstention.
    """
    text, why = _text(answer)
    if text is None:
        return None, why
    found = {word.strip() for word in _BARE.findall(text)}
    named = found & set(letters)
    if len(named) == 1 and found <= named:
        return named.pop(), ""
    if not named and found == {_ABSTAINED}:
        return None, "abstained"
    return None, "several_verdicts" if named else _nothing(answer, text)


def verdict_expected(answer: Answer | Failure) -> Judged:
    """How probable the judge finds each verdict where it wrote one: the share of the first answer, p(A) + p(C) / 2.

    The probabilities of A, B and C are made to add up to 1. Abstentions and reasons are those of `verdict_said`.
    """
    first = verdict_said(answer)
    if first.share is None or isinstance(answer, Failure):
        return first
    tokens = answer.tokens or ()
    at = _place(tokens, _LETTER)
    if at is None:
        return Judged(None, None, "no_logprobs")
    if not _is_sound(tokens[at]):
        return Judged(None, None, "bad_logprobs")
    mass = {verdict: 0.0 for verdict in SHARES}
    for text, logp in _tops(tokens[at]):
        verdict = LETTERS.get(_bare(text))
        if verdict in mass:
            mass[verdict] += math.exp(logp)
    total = math.fsum(mass.values())
    if total < _LITTLE:
        return Judged(None, None, "little_mass")
    share = math.fsum(SHARES[verdict] * part for verdict, part in mass.items()) / total
    return Judged(_leaning(share), share)


Rater = Callable[[Answer | Failure, str | None, float, float], Reading]
RATERS: dict[str, Rater] = {"said": said, "expected": expected}
"""How a rating is read."""
COMPARERS: dict[str, Callable[[Answer | Failure], Judged]] = {"said": verdict_said, "expected": verdict_expected}
"""How a comparison is read."""


def _text(answer: Answer | Failure) -> tuple[str | None, str]:
    """What the judge says after thinking, or None and why there is nothing."""
    if isinstance(answer, Failure):
        return None, answer.why
    if answer.refusal is not None or answer.stopped == "content_filter":
        return None, "refused"
    _, mark, text = answer.text.rpartition("</think>")
    if not mark and text.lstrip().startswith("<think>"):
        return None, "cut_off"  # the thought has no end
    return text, ""


def _nothing(answer: Answer | Failure, text: str) -> str:
    if isinstance(answer, Answer) and answer.stopped == "length":
        return "cut_off"
    return "unreadable" if _ANY.search(text) else "no_verdict"


def _has_other(text: str, verdict: re.Pattern[str], like: re.Pattern[str]) -> bool:
    """Whether some brackets look like a verdict and are none."""
    return any(not verdict.fullmatch(brackets) for brackets in like.findall(text))


@cache
def _like_rating(label: str | None) -> re.Pattern[str]:
    if label is None:
        return _LIKE_NUMBER
    return re.compile(rf"\[\[\s*{re.escape(label)}\s*:[^\[\]]*\]\]", re.IGNORECASE)


@cache
def _rating(label: str | None) -> re.Pattern[str]:
    name = "" if label is None else rf"{re.escape(label)}\s*:\s*"
    return re.compile(rf"\[\[\s*{name}({_NUMBER})\s*\]\]", re.IGNORECASE)


def _place(tokens: Sequence[Token], pattern: re.Pattern[str]) -> int | None:
    """The token with which what the last match captured begins."""
    matches = list(pattern.finditer("".join(token.text for token in tokens)))
    if not matches:
        return None
    start, end = matches[-1].start(1), 0
    for at, token in enumerate(tokens):
        end += len(token.text)
        if start < end:
            return at
    return None


def _tops(token: Token) -> Sequence[tuple[str, float]]:
    """The alternatives at a place, the drawn one among them."""
    drawn = (token.text, token.logp)
    return token.top if any(text == token.text for text, _ in token.top) else (drawn, *token.top)


def _is_sound(token: Token) -> bool:
    """Whether the log-probabilities at a place can be those of one distribution, but for rounding."""
    logps = [logp for _, logp in _tops(token)]
    return all(logp <= _ROUNDING for logp in (token.logp, *logps)) and math.fsum(map(math.exp, logps)) <= 1 + _ROUNDING


def _bare(text: str) -> str:
    return text.strip(" \t\n[]:")


def _mass(tokens: Sequence[Token], low: float, high: float) -> dict[int, float]:
    """Probability of each whole number that begins with the first token, as far as the drawn tokens show it."""
    mass: dict[int, float] = {}
    head, logp = "", 0.0
    for token in tokens:
        tops = [(text, part, _digits(text, head)) for text, part in _tops(token)]
        drawn = None
        spent = 0.0
        for text, part, (digits, is_closed) in tops:
            probability = math.exp(logp + part)
            if not digits:
                continue
            spent += probability
            if text == token.text and not is_closed:
                drawn = digits, logp + part
            elif is_closed or not _goes_on(head + digits, low, high) or _is_whole(digits, tops):
                mass[int(head + digits)] = mass.get(int(head + digits), 0.0) + probability
        if head:  # what does not go on with a digit ends here
            mass[int(head)] = mass.get(int(head), 0.0) + max(0.0, math.exp(logp) - spent)
        if drawn is None:
            return mass
        head, logp = head + drawn[0], drawn[1]
    mass[int(head)] = mass.get(int(head), 0.0) + math.exp(logp)
    return mass


def _digits(text: str, head: str) -> tuple[str, bool]:
    """The digits that a token gives a number, and whether the number ends with it."""
    if head:
        match = re.match(r"\d+", text)
        return (match[0], match.end() < len(text)) if match else ("", False)
    bare = _bare(text)
    return (bare if bare.isdecimal() else "", text.rstrip().endswith("]"))


def _goes_on(digits: str, low: float, high: float) -> bool:
    """Whether a longer whole number from low to high begins with these digits."""
    start = int(digits)
    widths = range(1, len(str(int(high))) - len(digits) + 1)
    return start > 0 and any(start * 10**k <= high and (start + 1) * 10**k > low for k in widths)


def _is_whole(digits: str, tops: Sequence[tuple[str, float, tuple[str, bool]]]) -> bool:
    """Whether the tokenizer writes longer numbers with these first digits at once: one of them is there."""
    return any(other.startswith(digits) and other != digits for _, _, (other, _) in tops)


def _leaning(share: float) -> Verdict:
    if share == 0.5:
        return Verdict.TIE
    return Verdict.FIRST if share > 0.5 else Verdict.SECOND
