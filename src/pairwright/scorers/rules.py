"""Scores by rules: verifiers say yes or no about an answer, and how many say yes is its level.

A verifier is a plug: `verifier(sample, *, settings) -> bool | Unsaid`. `Unsaid(why)` is for what it cannot know, such
as a prompt without a reference: the answer then stays unscored. A wrong answer is a no, and so is an empty one where
something is asked of it; an answer that is missing comes to no verifier.
"""

import json as standard_json
import math
import re
import signal
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from pairwright.errors import InputError, need
from pairwright.plug import bind, find
from pairwright.scorers.sample import Sample, Score


class Unsaid(NamedTuple):
    """A verifier cannot say yes or no."""

    why: str
    """In one or two words: it is the name under which it is counted."""


Said = bool | Unsaid
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Verifier = Callable[..., Said]


def exact_match(
    sample: Sample, *, reference: str = "reference", compare: Literal["text", "ends", "words"] = "ends"
) -> Said:
    """The answer is the reference, or one of several.

    A reference that is a number, not text, is compared as a number: 72.0 is what `72`, `72.00` and `7.2e1` say.

    Args:
        sample: an answer.
        reference: the column of the prompts that holds it: a text, a number, or a list of them.
        compare: what has to be equal: `text`, every character; `ends`, all but white space at both ends; `words`, the
            words, without case, punctuation and the size of gaps.
    """
    wanted = _wanted(sample, reference)
    if isinstance(wanted, Unsaid):
        return wanted
    seen, whole = _COMPARE[compare], _WHOLE[compare](sample.answer)
    return any(
        _plain_number(whole) == one if _is_number(one) else seen(sample.answer) == seen(_as_text(one)) for one in wanted
    )


def _words(text: str) -> str:
    kept = (" " if unicodedata.category(char).startswith("P") else char for char in text.casefold())
    return " ".join("".join(kept).split())


_COMPARE: dict[str, Callable[[str], str]] = {"text": lambda text: text, "ends": str.strip, "words": _words}
_WHOLE: dict[str, Callable[[str], str]] = {"text": lambda text: text, "ends": str.strip, "words": str.strip}


def regex(sample: Sample, *, pattern: str, seconds: Seconds = 5.0) -> Said:
    r"""A pattern occurs in the answer; `\A` and `\Z` tie it to the ends.

    A pattern such as `(a+)+$` can take years for an answer. What takes longer than `seconds` is unscored (`timed_out`).
    Time is kept by the alarm of the process: in the main thread, where commands and recipes run, and not on Windows;
    elsewhere there is no limit.

    Args:
        sample: an answer.
        pattern: a regular expression of Python; `(?s)` in front lets `.` match line ends, `(?i)` ignores case.
        seconds: for each answer.

    Raises:
        InputError: it is none.
    """
    return _search(pattern, sample.answer, seconds)


def no_regex(sample: Sample, *, pattern: str, seconds: Seconds = 5.0) -> Said:
    """A pattern occurs nowhere in the answer.

    Args:
        sample: an answer.
        pattern: as in `regex`.
        seconds: as in `regex`; what takes longer is unscored (`timed_out`).

    Raises:
        InputError: it is none.
    """
    found = _search(pattern, sample.answer, seconds)
    return found if isinstance(found, Unsaid) else not found


def _search(pattern: str, text: str, seconds: float) -> Said:
    compiled = _compiled(pattern)
    try:
        with _alarm(seconds):
            return compiled.search(text) is not None
    except _TooLate:
        return Unsaid("timed_out")


class _TooLate(Exception):
    """The alarm rang."""


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise `_TooLate` in what takes longer, where the process has an alarm; one that was set before rings on time."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    is_on = True

    def ring(number: int, frame: Any) -> None:
        if is_on:
            raise _TooLate

    handler = signal.signal(signal.SIGALRM, ring)
    begun = time.monotonic()
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        is_on = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - begun), 1e-6), interval)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InputError(f"rules: {pattern!r} is no regular expression ({error}); correct the pattern") from error


def json(sample: Sample, *, keys: Sequence[str] = (), within: Literal["answer", "fence"] = "answer") -> Said:
    """The answer is JSON, and nothing else; NaN and Infinity are none.

    A key that an object has twice is a no: which of its values counts depends on the reader (RFC 8259, section 4). A
    number may have any size.

    Args:
        sample: an answer.
        keys: keys that it must have; it must be an object then.
        within: where the JSON is: the whole `answer`, or the first fenced block of it, between two lines of backquotes.
    """
    text = _WITHIN[within](sample.answer)
    if text is None:
        return False
    try:
        value = standard_json.loads(
            text, parse_constant=_no_constant, parse_int=str, parse_float=str, object_pairs_hook=_single
        )
    except (ValueError, RecursionError):
        return False
    return not keys or (isinstance(value, dict) and all(key in value for key in keys))


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


_OPENS = re.compile(r"^```[^\n`]*\n", re.MULTILINE)
_CLOSES = re.compile(r"^```[ \t]*$", re.MULTILINE)


def _fenced(text: str) -> str | None:
    opens = _OPENS.search(text)
    closes = _CLOSES.search(text, opens.end()) if opens else None
    return text[opens.end() : closes.start()] if opens and closes else None


_WITHIN: dict[str, Callable[[str], str | None]] = {"answer": lambda text: text, "fence": _fenced}


def length(
    sample: Sample,
    *,
    low: Annotated[int, Field(ge=0)] = 1,
    high: Annotated[int, Field(ge=0)] | None = None,
    unit: Literal["characters", "words"] = "characters",
) -> Said:
    """The answer's length lies in a band, its ends included.

    Args:
        sample: an answer.
        low: the shortest that passes.
        high: the longest that passes; None is no limit.
        unit: what is counted; `words` are what white space parts.

    Raises:
        InputError: `high` lies below `low`.
    """
    if high is not None and high < low:
        raise InputError(f"rules: length from {low} to {high} holds nothing; give high at least low")
    size = len(_UNITS[unit](sample.answer))
    return size >= low and (high is None or size <= high)


_UNITS: dict[str, Callable[[str], Sequence[str]]] = {"characters": lambda text: text, "words": str.split}


def number(
    sample: Sample, *, reference: str = "reference", tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
) -> Said:
    """The last number of the answer is the last number of the reference, or of one of several.

    Digits with a point, an exponent and commas between thousands are read, and so are fractions (`3/4`, `1 1/2`). A
    currency before them and a unit or a percent sign behind them are left out: `50%` is 50. What looks like a number
    and can be read in more than one way (`12,5`, `1 000`, `1.000,00`, `3:45`), or is a part of a formula (`x/3`,
    `x^2`), is not read: where it is the last, the answer is a no, whatever stands before it. Formulas are for `maths`.

    Args:
        sample: an answer.
        reference: the column of the prompts that holds it, such as `72`, or a worked solution that ends in `#### 72`.
        tolerance: the largest difference that counts as equal, as a share of the reference's size.
    """
    wanted = _wanted(sample, reference)
    if isinstance(wanted, Unsaid):
        return wanted
    right = [value for one in wanted if (value := _last_number(_as_text(one))) is not None]
    if not right:
        return Unsaid("unreadable_reference")
    got = _last_number(sample.answer)
    return got is not None and any(math.isclose(got, one, rel_tol=0.0, abs_tol=tolerance * abs(one)) for one in right)


_BLANK = r"[ \u00a0\u202f]"
_FURTHER = (
    r"[.,:'\u2019]\d+",
    r"[eE][-+]?\d+",
    rf"{_BLANK}?/{_BLANK}?\.?\d+",
    rf"(?<!\d\d\d\d){_BLANK}\d\d\d(?!\d)",
    rf"{_BLANK}(?=\d+/\d)\d+",
)
_LIKE = re.compile(rf"(?<!\w)(?P<sign>[-+]?)[$\u20ac\u00a3]?(?P<digits>\.?\d+(?:{'|'.join(_FURTHER)})*)")
"""What looks like one number: digits and what may stand between them."""
_PLAIN = r"(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_SIGNED = re.compile(rf"[-+]?{_PLAIN}")
_READ = re.compile(rf"(?:(?P<whole>\d+) )?(?P<above>{_PLAIN})(?: ?/ ?(?P<below>{_PLAIN}))?")


def _last_number(text: str) -> float | None:
    """The last number of a text; None where there is none, or where it cannot be read for certain."""
    text = text.replace("\N{MINUS SIGN}", "-")
    spans = list(_LIKE.finditer(text))
    if not spans or text[: spans[-1].start()][-1:] in ("/", ".", "^"):
        return None
    last = spans[-1]
    read = _READ.fullmatch(last["digits"])
    if read is None:
        return None
    above, below = (float((read[part] or "1").replace(",", "")) for part in ("above", "below"))
    if read["whole"] and not (read["below"] and above < below):  # `1 234/5` is no number of two parts
        return None
    value = float(read["whole"] or 0) + above / below if below else math.nan
    return (-value if last["sign"] == "-" else value) if math.isfinite(value) else None


def _plain_number(text: str) -> float | None:
    """The number that a text is and nothing else."""
    return float(text.replace(",", "")) if _SIGNED.fullmatch(text) else None


def maths(
    sample: Sample,
    *,
    reference: str = "reference",
    decimals: Annotated[int, Field(ge=0)] = 6,
    seconds: Annotated[int, Field(gt=0)] = 5,
) -> Said:
    r"""The answer's result equals the reference, or one of several, as mathematics: `1/2`, `0.5`, `\frac{1}{2}`.

    The library math-verify finds the result (a box, `$...$`, or the last expression) and compares. An answer in which
    it finds none is a no. What takes longer than `seconds` is unscored (`timed_out`). It keeps time by the alarm of the
    process, so it runs in the main thread only.

    Args:
        sample: an answer.
        reference: the column of the prompts that holds it: a formula, or text with a box or `$...$` in it.
        decimals: to which decimals of numbers are equal.
        seconds: for each reading and each comparison.

    Raises:
        MissingExtra: the library is not installed.

    Source: the library math-verify, https://github.com/huggingface/math-verify.
    """
    wanted = _wanted(sample, reference)
    if isinstance(wanted, Unsaid):
        return wanted
    library = need("math_verify", extra="maths")
    late = need("math_verify.errors", extra="maths").TimeoutException
    try:
        right = [gold for one in wanted if (gold := _read_maths(library, _as_text(one), seconds))]
        if not right:
            return Unsaid("unreadable_reference")
        got = library.parse(sample.answer, parsing_timeout=seconds, raise_on_error=True)
        return any(
            library.verify(gold, got, float_rounding=decimals, timeout_seconds=seconds, raise_on_error=True)
            for gold in right
        )
    except late:
        return Unsaid("timed_out")
    except RecursionError:
        return Unsaid("unreadable_answer")


def _read_maths(library: Any, text: str, seconds: int) -> list[Any]:
    """The result of a reference. One without a mark of mathematics is a formula: of `1 + x^2` the whole, not the 2."""
    marked = "$" in text or "\\boxed" in text or "\\(" in text or "\\[" in text
    found: list[Any] = library.parse(text if marked else f"${text}$", parsing_timeout=seconds, raise_on_error=True)
    return found


VERIFIERS: dict[str, Verifier] = {
    "exact_match": exact_match,
    "regex": regex,
    "no_regex": no_regex,
    "json": json,
    "length": length,
    "number": number,
    "maths": maths,
}

One = str | Mapping[str, Any]


def rules(samples: list[Sample], *, verify: One | Sequence[One], levels: Sequence[float] | None = None) -> list[Score]:
    """How many verifiers an answer passes, in their order, before the first that it fails: its level, as a score.

    One verifier is a yes or no. Several are a ladder, such as "has the right form", "is short enough", "is right": an
    answer that fails the first is on level 0, however right it may be. The column `<into>_level` holds the level where
    there are several, and `<into>_failed` the name of the verifier that failed.

    An answer of which the next verifier cannot say yes or no is null, with the verifier's reason (`no_reference`).

    Args:
        samples: the answers.
        verify: a name of `VERIFIERS` or `module:function`; `{with: NAME, settings}`; or a list of them. They are
            `exact_match`, `regex`, `no_regex`, `json`, `length`, `number`, `maths`.
        levels: the score of each level from 0 up, one more than there are verifiers, each above the one before; None
            spreads them evenly from 0 to 1.

    Raises:
        InputError: a verifier or setting is unknown, or the levels do not fit.

    Source: levels by rules, arXiv 2504.04524 (TRPA; there level 1 is the best).
    """
    ladder = _ladder(verify)
    scores = _scores(levels, len(ladder))
    return [_scored(sample, ladder, scores) for sample in samples]


def _ladder(verify: One | Sequence[One]) -> list[tuple[str, Callable[[Sample], Said]]]:
    """The verifiers by name, with their settings fixed."""
    asked = [verify] if isinstance(verify, str | Mapping) else list(verify)
    if not asked:
        raise InputError(f"rules: verify names no verifier; there are {', '.join(VERIFIERS)}")
    ladder = []
    for one in asked:
        said = {"with": one} if isinstance(one, str) else dict(one)
        name = said.pop("with", None)
        if not isinstance(name, str):
            raise InputError(f"rules: a verifier is a name or {{with: NAME, and its settings}}, not {one!r:.80}")
        ladder.append((name, bind(find(VERIFIERS, name, kind="verifier"), said, kind="verifier")))
    return ladder


def _scores(levels: Sequence[float] | None, verifiers: int) -> list[float]:
    if levels is None:
        return [level / verifiers for level in range(verifiers + 1)]
    if len(levels) != verifiers + 1:
        raise InputError(
            f"rules: {verifiers} verifiers make {verifiers + 1} levels, and levels gives {len(levels)} scores"
        )
    if not all(low < high for low, high in pairwise(levels)) or not all(map(math.isfinite, levels)):
        raise InputError(f"rules: levels must rise, a higher score being better, and {list(levels)} do not")
    return list(levels)


def _scored(sample: Sample, ladder: Sequence[tuple[str, Callable[[Sample], Said]]], scores: Sequence[float]) -> Score:
    level, failed = 0, None
    for name, verifier in ladder:
        said = verifier(sample)
        if isinstance(said, Unsaid):
            return Score(None, said.why)
        if not said:
            failed = name
            break
        level += 1
    also = {"level": level, "failed": failed} if len(ladder) > 1 else {}
    return Score(scores[level], also=also)


def _wanted(sample: Sample, column: str) -> list[Any] | Unsaid:
    """The references of a prompt, numbers as numbers."""
    value = sample.extras.get(column)
    several = value if isinstance(value, list | tuple) else [value]
    return [one for one in several if one is not None and one != "" and one == one] or Unsaid("no_reference")


def _as_text(reference: Any) -> str:
    return reference if isinstance(reference, str) else repr(reference)


def _is_number(reference: Any) -> bool:
    return isinstance(reference, int | float) and not isinstance(reference, bool)
