"""Verifiers, by cases whose answer anyone can see, and the ladder that makes levels of them."""

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import polars as pl
import pytest

from pairwright.errors import InputError
from pairwright.preferences import Preferences
from pairwright.scorers import Sample, Score, Unsaid, rules, score
from pairwright.scorers.rules import VERIFIERS


def said(name: str, answer: str, *, reference: Any = None, **settings: Any) -> Any:
    sample = Sample([], [{"role": "assistant", "content": answer}], {"reference": reference})
    return VERIFIERS[name](sample, **settings)


@pytest.mark.parametrize(
    ("answer", "reference", "compare", "right"),
    [
        ("Paris", "Paris", "text", True),
        ("Paris\n", "Paris", "text", False),
        ("Paris\n", "Paris", "ends", True),
        ("paris", "Paris", "ends", False),
        ("  paris,  FRANCE! ", "Paris France", "words", True),
        ("Paris, Texas", "Paris France", "words", False),
        ("Lyon", ["Paris", "Lyon"], "ends", True),
        ("72", 72, "ends", True),
        ("72", 72.0, "ends", True),
        (" 72.00\n", 72, "words", True),
        ("72\n", 72.0, "text", False),
        ("1,234.5", 1234.5, "text", True),
        ("72 apples", 72.0, "words", False),
        ("seventy", 72.0, "ends", False),
        ("72", "72.0", "ends", False),  # text is compared as text
        ("1", True, "ends", False),
        ("72", [71.0, 72.0], "ends", True),
        ("72", float("nan"), "ends", Unsaid("no_reference")),
        ("", "Paris", "words", False),
    ],
)
def test_exact_match(answer: str, reference: Any, compare: str, right: Any) -> None:
    assert said("exact_match", answer, reference=reference, compare=compare) == right


@pytest.mark.parametrize(
    ("answer", "right"),
    [("a <answer>4</answer>", True), ("<answer></answer>", False), ("", False), ("<answer>4\n</answer>", False)],
)
def test_a_pattern_is_there_or_it_is_not(answer: str, right: bool) -> None:
    pattern = r"<answer>.+</answer>"
    assert said("regex", answer, pattern=pattern) is right
    assert said("no_regex", answer, pattern=pattern) is not right


@pytest.mark.parametrize(
    ("answer", "settings", "right"),
    [
        ('{"a": 1}', {}, True),
        (" [1, 2]\n", {}, True),
        ('{"a": 1,}', {}, False),
        ('{"a": NaN}', {}, False),
        ("", {}, False),
        ("[" * 100_000, {}, False),
        ('Here: {"a": 1}', {}, False),
        ('{"a": 1}', {"keys": ["a"]}, True),
        ('{"a": 1}', {"keys": ["a", "b"]}, False),
        ('["a"]', {"keys": ["a"]}, False),
        ('{"a": 1, "a": 2}', {}, False),
        ('[{"b": {"a": 1, "a": 1}}]', {}, False),
        ('[{"a": 1}, {"a": 1}]', {}, True),
        ("7" * 5000, {}, True),
        ('{"a": -' + "7" * 5000 + ', "b": 1e999}', {"keys": ["a"]}, True),
        ("```json\n" * 20_000 + "{}", {"within": "fence"}, False),
        ('Here:\n```json\n{"a": 1}\n```\nDone.', {"within": "fence"}, True),
        ('{"a": 1}', {"within": "fence"}, False),
    ],
)
def test_json(answer: str, settings: dict[str, Any], right: bool) -> None:
    assert said("json", answer, **settings) is right


@pytest.mark.parametrize(
    ("answer", "settings", "right"),
    [
        ("", {}, False),
        ("a", {}, True),
        ("abc", {"low": 3, "high": 3}, True),
        ("abcd", {"low": 3, "high": 3}, False),
        ("ab", {"low": 3}, False),
        ("two words", {"low": 2, "high": 2, "unit": "words"}, True),
        ("", {"low": 0}, True),
    ],
)
def test_a_band_of_lengths_includes_its_ends(answer: str, settings: dict[str, Any], right: bool) -> None:
    assert said("length", answer, **settings) is right


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("so 3 + 4 = 7.", "7", True),
        ("$1,234.50", "work\n#### 1234.5", True),
        ("x=-3", "3", False),
        ("5-3", "3", True),
        ("1e3", 1000, True),
        ("none", "3", False),
        ("1/2", "2", False),
        ("1/2", 0.5, True),
        ("0.75", "3/4", True),
        ("it is 4, so 3 / 4", "4", False),
        ("of 4 there are 3/4.", "4", False),
        ("7, that is 1 1/2", "1.5", True),
        ("1 1/2", "0.5", False),
        ("-1 1/2", "-1.5", True),
        ("1 234/5", "47.8", False),
        ("5 or 1/0", "5", False),
        ("12 or 12,5", "12", False),
        ("5 and 12,5", "5", False),
        ("3 bags of 1 000", "3", False),
        ("1 000", "0", False),
        ("1 000", "1", False),
        ("1,00", "1", False),
        ("2 and 1.000,00", "2", False),
        ("45 at 3:45", "45", False),
        ("7 and 1.2.3", "7", False),
        ("3 and x/3", "3", False),
        ("2 and x^2", "2", False),
        ("-$5", "5", False),
        ("-$5", "-5", True),
        ("50%", "50", True),
        ("\N{EURO SIGN}1,234,567.", "1234567", True),
        ("1, 2, 3", "3", True),
        ("in 2020 100 people", "100", True),
        ("10-20 km", "20", True),
        ("9", "1 000", Unsaid("unreadable_reference")),
        ("9", "9 or 12,5", Unsaid("unreadable_reference")),
        ("\N{MINUS SIGN}7", "-7", True),
        ("9", ["8", "9"], True),
        ("9", "nine", Unsaid("unreadable_reference")),
        ("9", None, Unsaid("no_reference")),
        ("9", "", Unsaid("no_reference")),
    ],
)
def test_the_last_number(answer: str, reference: Any, right: Any) -> None:
    assert said("number", answer, reference=reference) == right


EVIL = {"pattern": r"(a+)+\Z", "seconds": 0.05}


def test_a_pattern_that_takes_years_is_unscored() -> None:
    """Doubling with each letter: 2^40 steps. The clock is a limit, not a measure."""
    assert said("regex", "a" * 40 + "b", **EVIL) == Unsaid("timed_out")
    assert said("no_regex", "a" * 40 + "b", **EVIL) == Unsaid("timed_out")
    assert said("regex", "a" * 40, **EVIL) is True
    prefs = table(["a" * 40 + "b", "a"], [None, None])
    result = score(prefs, "rules", verify={"with": "regex", **EVIL})
    assert result.responses.collect()["score"].to_list() == [None, 1.0]
    assert result.lineage[-1].settings["unscored"] == {"timed_out": 1}


def test_an_alarm_that_was_set_before_is_set_again() -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 600.0)
        said("regex", "a", pattern="a")
        said("regex", "a" * 40 + "b", **EVIL)
        assert 0.0 < signal.setitimer(signal.ITIMER_REAL, 0)[0] <= 600.0
        signal.raise_signal(signal.SIGALRM)
        assert rung == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_beside_the_main_thread_patterns_work_without_a_limit() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(said, "regex", "aaa", **EVIL).result() is True


def test_a_tolerance_is_a_share_of_the_reference() -> None:
    assert said("number", "99", reference="100", tolerance=0.01) is True
    assert said("number", "98.9", reference="100", tolerance=0.01) is False
    assert said("number", "-99", reference="-100", tolerance=0.01) is True


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        (r"It is $\frac{1}{2}$.", "0.5", True),
        (r"\boxed{x^2 + 1}", "1 + x^2", True),
        (r"\boxed{x^2 - 1}", "(x-1)(x+1)", True),
        (r"\boxed{x^2 - 1}", "x^2 + 1", False),
        (r"\boxed{0.333}", r"\frac{1}{3}", False),
        ("I do not know.", "7", False),
        ("", "7", False),
        ("7", ["6", "7"], True),  # every reference is compared, not the first alone
        ("7", None, Unsaid("no_reference")),
    ],
)
def test_maths(answer: str, reference: Any, right: Any) -> None:
    pytest.importorskip("math_verify", reason="needs the extra 'maths'")
    assert said("maths", answer, reference=reference) == right


def scored(answers: list[str], **settings: Any) -> list[Score]:
    samples = [Sample([], [{"role": "assistant", "content": text}], {"reference": "4"}) for text in answers]
    return rules(samples, **settings)


LADDER = [{"with": "regex", "pattern": "<answer>"}, {"with": "length", "high": 12}, "number"]


def test_a_level_is_what_an_answer_passes_before_it_fails() -> None:
    """Right form, short, right; no form though right; form, but too long though right; form, short, wrong."""
    answers = ["<answer>4", "4", "<answer>it must be 4", "<answer>5"]
    got = scored(answers, verify=LADDER, levels=[1, 2.5, 4, 10])
    assert [one.value for one in got] == [10, 1, 2.5, 4]
    assert [one.also["level"] for one in got] == [3, 0, 1, 2]
    assert [one.also["failed"] for one in got] == [None, "regex", "length", "number"]
    assert [one.value for one in scored(answers, verify=LADDER)] == pytest.approx([1, 0, 1 / 3, 2 / 3])


def test_one_verifier_is_a_yes_or_no() -> None:
    assert scored(["4", "5"], verify="number") == [Score(1.0), Score(0.0)]
    assert [one.value for one in scored(["4", "5"], verify={"with": "number"}, levels=(1, 10))] == [10, 1]


def table(answers: list[str], reference: list[str | None]) -> Preferences:
    ids = [str(i) for i in range(len(answers))]
    prompts = pl.DataFrame(
        {"prompt_id": ids, "prompt": [[{"role": "user", "content": "q"}]] * len(ids), "reference": reference}
    )
    texts = [[{"role": "assistant", "content": text}] for text in answers]
    return Preferences.of(prompts, pl.DataFrame({"prompt_id": ids, "response": texts}))


def test_what_a_verifier_cannot_know_is_null_and_counted() -> None:
    """The first fails before the reference is asked for; the second has none."""
    prefs = table(["4", "<answer>4", "<answer>4"], [None, None, "4"])
    result = score(prefs, "rules", verify=[LADDER[0], "number"])
    got = result.responses.collect()
    assert got["score"].to_list() == [0.0, None, 1.0]
    assert got["score_level"].to_list() == [0, None, 2]
    assert got["score_failed"].to_list() == ["regex", None, None]
    assert result.lineage[-1].settings["unscored"] == {"no_reference": 1}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"verify": "exact"}, "there is no verifier 'exact'.*exact_match"),
        ({"verify": []}, "names no verifier; there are exact_match"),
        ({"verify": {"pattern": "a"}}, "a name or {with: NAME"),
        ({"verify": "regex"}, "pattern"),
        ({"verify": {"with": "regex", "pattern": "("}}, "is no regular expression"),
        ({"verify": {"with": "length", "hihg": 3}}, "did you mean 'high'"),
        ({"verify": {"with": "length", "low": 9, "high": 3}}, "length from 9 to 3 holds nothing"),
        ({"verify": "number", "levels": [1, 5, 10]}, "1 verifiers make 2 levels, and levels gives 3"),
        ({"verify": "number", "levels": [10, 1]}, "levels must rise"),
    ],
)
def test_bad_settings_are_sentences(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        score(table(["4"], ["4"]), "rules", **settings)
