"""The audit as a whole: its JSON, its table, its own and other people's checks."""

import json
import math
import sys
from collections.abc import Callable
from types import ModuleType

import polars as pl
import pytest

from pairwright import plug
from pairwright.audit import CHECKS, Audit, Facts, Finding, audit, finding
from pairwright.audit.finding import ROWS
from pairwright.audit.show import table
from pairwright.errors import InputError
from pairwright.preferences import Preferences

Made = Callable[..., Preferences]

# DESIGN's minimum, which acceptance runs look for.
ASKED = [
    "score_tie",
    "equal_text",
    "equal_text_different_score",
    "empty_chosen",
    "empty_rejected",
    "label_against_score",
    "unscored",
    "non_finite_score",
    "out_of_scale",
    "constant_score",
    "length_bias",
    "duplicate_prompt",
    "split_leakage",
    "same_role_turns",
    "prompt_mismatch",
    "control_characters",
    "boundary_mismatch",
    "double_bos",
    "double_eos",
    "equal_after_truncation",
    "lost_to_truncation",
]


def test_every_check_that_was_asked_for_is_there_and_says_what_it_is() -> None:
    assert set(ASKED) <= set(CHECKS)
    for row in plug.listing(CHECKS):
        assert row["says"].endswith("."), row["name"]
        assert "data" not in row["settings"]


def test_json_has_its_keys_and_checks_that_found_nothing(made: Made) -> None:
    result = json.loads(audit(made([("p", "a", "b", 5.0, 5.0)])).to_json())
    assert [result[key] for key in ("pairs", "prompts", "responses")] == [1, 1, 2]
    found = {item["check"]: item for item in result["findings"]}
    assert set(ASKED[:16]) <= set(found)
    assert set(found["score_tie"]) >= {"check", "count", "share", "rows", "says", "remedy"}
    assert (found["score_tie"]["count"], found["score_tie"]["rows"], found["score_tie"]["share"]) == (1, [0], 1.0)
    assert (found["equal_text"]["count"], found["equal_text"]["remedy"], found["equal_text"]["level"]) == (
        0,
        "",
        "fine",
    )


def test_nothing_to_look_at_is_null_and_not_zero(made: Made) -> None:
    data = made([("p", "a", "b", 5.0, 5.0)])
    empty = Preferences.of(data.prompts.head(0), data.responses.head(0))
    result = audit(empty)
    assert (result.pairs, result.prompts, result.responses) == (0, 0, 0)
    assert all(found.count == 0 for found in result.findings)
    shares = {item["check"]: item["share"] for item in json.loads(result.to_json())["findings"]}
    assert shares["score_tie"] is None
    assert shares["length_bias"] is None


def test_an_id_that_points_at_nothing_stops_nothing(made: Made) -> None:
    result = audit(made([("p", "a", "b", 5.0, 5.0), ("q", "a", "b", 2.0, 1.0)], chosen_id=[77, 2]))
    assert result.pairs == 2
    assert result["score_tie"].count == 0


def test_the_data_is_untouched(clean: Preferences) -> None:
    before = clean.digest()
    audit(clean)
    assert clean.digest() == before


def test_clean_data_has_no_failure(clean: Preferences) -> None:
    result = audit(clean)
    assert result.failures == ()
    assert {found.check for found in result.findings if found.level != "fine"} <= {"length_bias"}


def test_failures_are_errors_and_warnings_but_not_notes(made: Made) -> None:
    result = audit(made([("p", "a\u202e", "b", 5.0, 5.0), ("q", "", "b", 5.0, 4.0)]))
    assert {found.check for found in result.failures} == {"score_tie", "empty_chosen"}


def test_table_puts_the_worst_first_and_the_rest_in_one_line(made: Made) -> None:
    text = str(audit(made([("p", "a", "b", 5.0, 5.0), ("q", "", "b", 5.0, 4.0)])))
    lines = text.split("\n")
    assert lines[0].startswith("2 pairs, 2 prompts, 4 responses: 1 error, 1 warning")
    assert text.index("empty_chosen") < text.index("score_tie") < text.index("nothing found by:")
    assert "(pair 1)" in text
    assert text.count("equal_text_different_score") == 1


def test_table_keeps_its_width(made: Made) -> None:
    result = audit(made([("p", "a", "b", 5.0, 5.0), ("q", "", "b", 5.0, 4.0)]))
    for width in (70, 80, 110):
        assert max(map(len, table(result, width=width).split("\n"))) <= width


def test_rows_are_capped_and_the_rest_is_counted() -> None:
    found = finding("x", pl.repeat(True, ROWS + 5, eager=True), says="s", remedy="r")
    assert (found.count, len(found.rows), found.rows_left_out, found.rows[-1]) == (ROWS + 5, ROWS, 5, ROWS - 1)


def test_a_null_is_no_hit_and_an_empty_series_has_no_share() -> None:
    found = finding("x", pl.Series([None, True, False]), says="s", remedy="r")
    assert (found.count, found.rows, found.share) == (1, (1,), pytest.approx(1 / 3))
    assert math.isnan(finding("x", pl.Series([], dtype=pl.Boolean), says="s", remedy="r").share)


def test_unknown_finding() -> None:
    with pytest.raises(KeyError, match="nothing"):
        Audit(0, 0, 0)["nothing"]


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("my_checks")
    monkeypatch.setitem(sys.modules, "my_checks", module)
    return module


class TestYourOwn:
    def test_a_function_of_the_preferences(self, mine: ModuleType, made: Made) -> None:
        def shouting(prefs: Preferences, *, least: int = 3) -> Finding:
            """Answers in capitals."""
            assert isinstance(prefs, Preferences)
            text = pl.col("response").list.first().struct.field("content")
            loud = (text == text.str.to_uppercase()) & (text.str.len_chars() >= least)
            flags = prefs.responses.select(loud.alias("loud")).collect().to_series()
            return finding("shouting", flags, of="responses", says="Loud.", remedy="Whisper.")

        mine.shouting = shouting  # type: ignore[attr-defined]
        result = audit(made([("p", "HELLO", "b")]), also=["my_checks:shouting"])
        assert (result["shouting"].count, result["shouting"].rows) == (1, (0,))

    def test_facts_are_open_to_it(self, made: Made) -> None:
        facts = Facts.of(made([("p", "abc", "de", 2.0, 1.0)]))
        assert facts.side("chosen", "chars").to_list() == [3]
        assert facts.side("rejected", "score").to_list() == [1.0]
        assert Facts.of(facts) is facts

    def test_what_it_gives_must_be_a_finding(self, mine: ModuleType, made: Made) -> None:
        mine.bad = lambda prefs: 3  # type: ignore[attr-defined]
        with pytest.raises(InputError, match="gave int"):
            audit(made([("p", "a", "b")]), also=["my_checks:bad"])

    def test_a_wrong_name_has_the_right_one_in_its_answer(self, made: Made) -> None:
        with pytest.raises(InputError, match="did you mean 'score_tie'"):
            audit(made([("p", "a", "b")]), also=["score_ties"])
