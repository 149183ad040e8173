"""The modes by hand: three pairs with scores 9/8, 7/5, 6/2, and a tie that none of them may use."""

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from pairwright.errors import InputError
from pairwright.plug import listing
from pairwright.preferences import Preferences
from pairwright.relabel import MODES, relabel

Made = Callable[..., Preferences]
Row = tuple[int, int, float | None, str | None]
PAPERS = {"steerlm": "2310.05344", "c_rlft": "2309.11235", "dpa": "2402.18571"}
SCORES = [(9.0, 8.0), (4.0, 4.0), (7.0, 5.0), (6.0, 2.0)]


def rows(prefs: Preferences) -> list[Row]:
    return list(prefs.pairs.select("chosen_id", "rejected_id", "goal", "copy").collect().iter_rows())


POSITIVE: list[Row] = [(0, 1, 9.0, "positive"), (4, 5, 7.0, "positive"), (6, 7, 6.0, "positive")]
NEGATIVE: list[Row] = [(1, 0, 8.0, "negative"), (5, 4, 5.0, "negative"), (7, 6, 2.0, "negative")]
RA = [row for pair in zip(POSITIVE, NEGATIVE, strict=True) for row in pair]


@pytest.mark.parametrize(
    ("mode", "settings", "expected"),
    [
        ("ra", {}, RA),
        ("ra_plus", {}, POSITIVE),
        ("half_ra", {}, RA[:2]),
        ("filter_high", {}, [RA[0], RA[2], RA[4], RA[5]]),  # goals 8 and 5 are high, 5 included
        ("filter_low", {}, [RA[0], RA[1], RA[2], RA[3], RA[4]]),  # goal 2 is low
        ("filter_high", {"threshold": 5.1}, [RA[0], RA[2], RA[3], RA[4], RA[5]]),
        ("filter_low", {"threshold": 5.1}, [RA[0], RA[1], RA[2], RA[4]]),
        ("plain", {}, [(0, 1, None, None), (4, 5, None, None), (6, 7, None, None)]),
    ],
)
def test_modes(made: Made, mode: str, settings: dict[str, Any], expected: list[Row]) -> None:
    result = relabel(made(SCORES), mode, **settings)
    assert rows(result) == expected
    step = result.lineage[-1]
    assert (step.rows_in, step.rows_out) == (4, len(expected))
    left_out = {"not_in_half_ra": 2} if mode == "half_ra" else {}
    assert step.dropped == {"score_tie": 1} | left_out


def test_half_ra_halves_each_split(made: Made) -> None:
    scores = [(9.0, 1.0)] * 10
    splits = ["test", "train"] * 4 + ["train", "train"]
    result = relabel(made(scores, pairs={"split": splits}), "half_ra")
    got = result.pairs.collect()
    assert got["source_pair"].to_list() == [0, 0, 1, 1, 2, 2, 3, 3, 5, 5]
    assert got["split"].to_list() == ["test", "test", "train", "train"] * 2 + ["train", "train"]


def test_half_ra_with_a_seed_draws_whole_pairs(made: Made) -> None:
    prefs = made([(9.0, 1.0)] * 40)
    drawn = [relabel(prefs, "half_ra", seed=seed).pairs.collect() for seed in (0, 0, 1)]
    for got in drawn:
        assert got.height == 40
        assert got["copy"].to_list() == ["positive", "negative"] * 20
        assert got["source_pair"].is_sorted()
    assert drawn[0].equals(drawn[1])
    assert not drawn[0].equals(drawn[2])
    assert drawn[0]["source_pair"].max() > 19  # not the first half


def test_filters_say_how_many_copies_they_delete(made: Made) -> None:
    notes = relabel(made(SCORES), "filter_high").lineage[-1].notes
    assert "2 of 3 negative copies are deleted by filter_high." in notes


@pytest.mark.parametrize("mode", ["filter_high", "filter_low"])
def test_a_threshold_is_as_printed_and_keeps_its_place_on_every_scale(made: Made, mode: str) -> None:
    ten = rows(relabel(made(SCORES), mode))
    for scale in (5, 100):
        assert rows(relabel(made(SCORES), mode, scale=scale)) == ten
    # 1 + 4 * (100 - 1) / 9 = 45 is what 5 of 10 is on a scale of 100; 50 lies above it.
    assert rows(relabel(made(SCORES), mode, scale=100, threshold=45)) == ten
    assert rows(relabel(made(SCORES), mode, scale=100, threshold=50)) != ten


def test_settings_that_a_mode_does_not_have_are_refused(made: Made) -> None:
    with pytest.raises(InputError, match="relabel mode 'ra' has no setting 'threshold'"):
        relabel(made(SCORES), "ra", threshold=5)
    with pytest.raises(InputError, match="did you mean 'ra_plus'"):
        relabel(made(SCORES), "ra_plas")
    with pytest.raises(InputError, match="filter_low compares one score"):
        relabel(made(SCORES, attributes={"score_a": [1.0] * 8}), "filter_low", attributes=("a",))
    assert rows(relabel(made(SCORES), "ra", seed=3)) == RA  # a seed never hurts


def test_plain_has_the_pairs_of_ra_plus_and_no_goal_to_render(made: Made) -> None:
    prefs = made(SCORES)
    plain, plus = relabel(prefs, "plain"), relabel(prefs, "ra_plus")
    assert plain.goal_format is None
    assert not plain.has_goals
    assert plain.lineage[-1].notes == ()  # no word on where a goal stands: there is none
    assert any("user message" in note for note in plus.lineage[-1].notes)
    ids = ["chosen_id", "rejected_id", "source_pair"]
    assert plain.pairs.select(ids).collect().equals(plus.pairs.select(ids).collect())
    asked = plain.texts().collect()["prompt"].to_list()
    assert asked == [[{"role": "user", "content": f"question {i}"}] for i in (0, 2, 3)]


def test_every_mode_keeps_pairs_in_order_and_on_their_side(made: Made) -> None:
    splits = ["train", "test"] * 10
    attributes = {"score_help": list(map(float, range(40))), "score_short": list(map(float, range(40, 0, -1)))}
    prefs = made([(9.0, 1.0 + i / 4) for i in range(20)], pairs={"split": splits}, attributes=attributes)
    given: dict[str, dict[str, Any]] = {
        "c_rlft": {"edges": [5.0]},
        "dpa": {"attributes": ("help", "short"), "source_range": (0, 40)},
    }
    for mode in MODES:
        got = relabel(prefs, mode, **given.get(mode, {})).pairs.collect()
        assert got["source_pair"].is_sorted()
        assert got["split"].to_list() == [splits[i] for i in got["source_pair"]]
        assert got.schema["source_pair"] == pl.Int64


def test_every_mode_says_what_it_is() -> None:
    for row in listing(MODES):
        assert row["says"].endswith(".")
        assert row["source"].startswith(f"arXiv {PAPERS.get(row['name'], '2410.08067')}")
