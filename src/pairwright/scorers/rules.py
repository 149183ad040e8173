"""Scores by rules: verifiers say yes or no about an answer, and how many say yes is its level.

A verifier is a plug: `verifier(sample, *, settings) -> bool | Unsaid`. `Unsaid(why)` is for what it cannot know, such
as a prompt without a reference: the answer then stays unscored. A wrong or missing answer is a no.
"""

import json as standard_json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
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
Verifier = Callable[..., Said]


def exact_match(
    sample: Sample, *, reference: str = "reference", compare: Literal["text", "ends", "words"] = "ends"
) -> Said:
    """The answer is the reference, or one of several.

    Args:
        sample: an answer.
        reference: the column of the prompts that holds it: a text, a number, or a list of them.
        compare: what has to be equal: `text`, every character; `ends`, all but white space at both ends; `words`, the
            words, without case, punctuation and the size of gaps.
    """
    wanted = _references(sample, reference)
    if isinstance(wanted, Unsaid):
        return wanted
    seen = _COMPARE[compare]
    return seen(sample.answer) in {seen(one) for one in wanted}


def _words(text: str) -> str:
    kept = (" " if unicodedata.category(char).startswith("P") else char for char in text.casefold())
    return " ".join("".join(kept).split())


_COMPARE: dict[str, Callable[[str], str]] = {"text": lambda text: text, "ends": str.strip, "words": _words}


def regex(sample: Sample, *, pattern: str) -> Said:
    r"""A pattern occurs in the answer; `\A` and `\Z` tie it to the ends.

    Args:
        sample: an answer.
        pattern: a regular expression of Python; `(?s)` in front lets `.` match line ends, `(?i)` ignores case.

    Raises:
        InputError: it is none.
    """
    return _compiled(pattern).search(sample.answer) is not None


def no_regex(sample: Sample, *, pattern: str) -> Said:
    """A pattern occurs nowhere in the answer.

    Args:
        sample: an answer.
        pattern: as in `regex`.

    Raises:
        InputError: it is none.
    """
    return _compiled(pattern).search(sample.answer) is None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InputError(f"rules: {pattern!r} is no regular expression ({error}); correct the pattern") from error


def json(sample: Sample, *, keys: Sequence[str] = (), within: Literal["answer", "fence"] = "answer") -> Said:
    """The answer is JSON, and nothing else; NaN and Infinity are none.

    Args:
        sample: an answer.
        keys: keys that it must have; it must be an object then.
        within: where the JSON is: the whole `answer`, or the first fenced block of it, between two lines of backquotes.
    """
    text = _WITHIN[within](sample.answer)
    if text is None:
        return False
    try:
        value = standard_json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    return not keys or (isinstance(value, dict) and all(key in value for key in keys))


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


_FENCE = re.compile(r"^```[^\n`]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)


def _fenced(text: str) -> str | None:
    found = _FENCE.search(text)
    return found.group(1) if found else None


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

    Digits with a point, an exponent and commas between thousands are read; fractions and formulas are for `maths`.

    Args:
        sample: an answer.
        reference: the column of the prompts that holds it, such as `72`, or a worked solution that ends in `#### 72`.
        tolerance: the largest difference that counts as equal, as a share of the reference's size.
    """
    wanted = _references(sample, reference)
    if isinstance(wanted, Unsaid):
        return wanted
    right = [value for one in wanted if (value := _last_number(one)) is not None]
    if not right:
        return Unsaid("unreadable_reference")
    got = _last_number(sample.answer)
    return got is not None and any(math.isclose(got, one, rel_tol=0.0, abs_tol=tolerance * abs(one)) for one in right)


_NUMBER = re.compile(r"(?<![\w./])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d))(?:[eE][-+]?\d+)?(?!\d|/\d)")


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text.replace("\N{MINUS SIGN}", "-"))
    value = float(found[-1].replace(",", "")) if found else math.nan
    return value if math.isfinite(value) else None


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
    wanted = _references(sample, reference)
    if isinstance(wanted, Unsaid):
        return wanted
    library = need("math_verify", extra="maths")
    late = need("math_verify.errors", extra="maths").TimeoutException
    try:
        right = [gold for one in wanted if (gold := _read_maths(library, one, seconds))]
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


def _references(sample: Sample, column: str) -> list[str] | Unsaid:
    """The references of a prompt, as text."""
    value = sample.extras.get(column)
    several = value if isinstance(value, list | tuple) else [value]
    found = [one if isinstance(one, str) else repr(one) for one in several if one is not None and one != ""]
    return found or Unsaid("no_reference")
