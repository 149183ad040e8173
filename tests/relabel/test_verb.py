"""The verb: what is dropped and why, ties as rendered, goals in score units, placement, one relabelling only."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairwright.errors import InputError
from pairwright.formats.read import read
from pairwright.goals import GoalFormat
from pairwright.pairing import pair
from pairwright.preferences import Preferences
from pairwright.relabel import REASONS, relabel

Made = Callable[..., Preferences]
NAN = float("nan")


def test_each_pair_counts_under_its_first_reason(made: Made) -> None:
    scores = [
        (None, 3.0),  # unscored, and its other side is empty
        (NAN, 3.0),
        (9.0, 3.0),  # chosen empty, and equal to the rejected side
        (9.0, 3.0),  # rejected empty (white space)
        (9.0, 3.0),  # equal text, different score
        (5.0, 5.0),
        (5.01, 5.04),  # 5 and 5 as printed
        (5.0, 5.4),
        (8.0, 2.0),
    ]
    texts = {1: "", 4: "", 5: "", 7: " \n", 8: "same", 9: "same"}
    result = relabel(made(scores, texts=texts), min_gap=0.5)
    step = result.lineage[-1]
    assert step.dropped == {
        "unscored": 1,
        "non_finite_score": 1,
        "empty_chosen": 1,
        "empty_rejected": 1,
        "equal_text": 1,
        "score_tie": 2,
        "below_min_gap": 1,
    }
    assert [reason for reason in REASONS if reason in step.dropped] == list(step.dropped)
    assert (step.rows_in, step.rows_out) == (9, 2)
    assert result.pairs.collect()["source_pair"].to_list() == [8, 8]


def test_min_gap_is_in_printed_units_and_exact(made: Made) -> None:
    scores = [(8.1, 7.6), (8.0, 7.6), (0.0, 1.0)]
    assert relabel(made(scores[:2]), min_gap=0.5).lineage[-1].dropped == {"below_min_gap": 1}
    # On a scale of 100, 0.4 of 9 is 4.4.
    assert relabel(made(scores[:2]), min_gap=5, scale=100).lineage[-1].dropped == {"below_min_gap": 1}
    assert relabel(made(scores[:2]), min_gap=4, scale=100).lineage[-1].dropped == {}


def test_ties_are_judged_as_the_model_reads_them(made: Made) -> None:
    prefs = made([(7.04, 7.01), (7.2, 7.1), (9.0, 1.0)])
    assert relabel(prefs).dropped == {"score_tie": 1}
    assert relabel(prefs, decimals=0).dropped == {"score_tie": 2}
    assert relabel(prefs, decimals=2).dropped == {}
    assert relabel(prefs, scale=2).dropped == {"score_tie": 2}  # 1.67 and 1.67; 1.69 and 1.68 print 1.7
    assert relabel(prefs, scale=100).dropped == {}


def test_goals_are_kept_in_score_units_and_printed_on_the_scale(made: Made) -> None:
    result = relabel(made([(-2.0, -6.0)]), source_range=(-10, 0), scale=5)
    assert result.pairs.collect()["goal"].to_list() == [-2.0, -6.0]
    asked = [row[0]["content"] for row in result.texts().collect()["prompt"].to_list()]
    # 1 + (−2 + 10) / 10 * 4 = 4.2; 1 + 0.4 * 4 = 2.6.
    assert "on a scale of 1-5, where 1 is lowest and 5 is highest" in asked[0]
    assert asked[0].endswith("Overall score: 4.2.\n\nquestion 0")
    assert asked[1].endswith("Overall score: 2.6.\n\nquestion 0")


def test_scores_outside_the_range_are_an_error_a_drop_or_a_clip(made: Made) -> None:
    prefs = made([(12.0, 0.5), (11.0, 12.0), (9.0, 2.0)])
    with pytest.raises(InputError, match=r"2 of 3 pairs .*score runs from 0.5 to 12 and the range is 1 to 10.*clip"):
        relabel(prefs)
    dropped = relabel(prefs, outside="drop")
    assert dropped.dropped == {"out_of_scale": 2}
    clipped = relabel(prefs, outside="clip")
    assert clipped.dropped == {"score_tie": 1}  # 11 and 12 both print 10
    assert clipped.pairs.collect()["goal"].to_list() == [12.0, 0.5, 9.0, 2.0]
    assert relabel(prefs, source_range=(0, 20)).dropped == {}


def test_a_lone_outside_score_of_an_unscored_pair_is_no_error(made: Made) -> None:
    assert relabel(made([(99.0, None), (2.0, 1.0)])).dropped == {"unscored": 1}


def test_attributes_make_vector_goals(made: Made) -> None:
    attributes = {
        "score_honesty": [9.0, 7.0, 5.0, 5.0, 3.0, None, 6.0, 6.0],
        "score_depth": [2.0, 4.0, 5.0, 5.04, 1.0, 2.0, 6.0, 7.0],
    }
    prefs = made([(1.0, 1.0)] * 4, attributes=attributes)
    result = relabel(prefs, attributes=("honesty", "score_depth"))
    got = result.pairs.collect()
    assert result.dropped == {"unscored": 1, "score_tie": 1}
    assert got["goal"].to_list() == [[9.0, 2.0], [7.0, 4.0], [6.0, 6.0], [6.0, 7.0]]
    assert got["chosen_id"].to_list() == [0, 1, 6, 7]
    form = result.goal_format
    assert form is not None
    assert form.attributes == ("honesty", "depth")
    asked = result.texts().collect()["prompt"].to_list()[1][0]["content"]
    assert asked.endswith(":\nHonesty score: 7.\nDepth score: 4.\n\nquestion 0")
    # The gap of vectors is Euclidean: (9, 2) and (7, 4) are 2.83 apart, (6, 6) and (6, 7) are 1 apart.
    assert relabel(prefs, attributes=("honesty", "depth"), min_gap=2.8).dropped["below_min_gap"] == 1
    with pytest.raises(InputError, match="no column 'score_dept'; did you mean 'score_depth'"):
        relabel(prefs, attributes=("dept",))


def test_every_two_answers_of_a_prompt(made: Made) -> None:
    prefs = made([(5.0, 9.0), (2.0, 2.0)])
    third = prefs.responses.collect().vstack(
        prefs.responses.head(2)
        .collect()
        .with_columns(
            response_id=pl.Series([4, 5]),
            response=pl.Series(
                [[{"role": "assistant", "content": "more"}], [{"role": "assistant", "content": "last"}]]
            ),
            score=pl.Series([5.0, None], dtype=pl.Float64),
        )
    )
    result = relabel(Preferences.of(prefs.prompts, third, prefs.pairs), over="answers")
    rows = result.pairs.select("chosen_id", "rejected_id", "goal", "copy").collect().rows()
    # p0 has 5 (id 0), 9 (1), 5 (4), none (5): i beats j under r_i wherever r_i differs from r_j.
    assert rows == [
        (1, 0, 9.0, "positive"),
        (0, 1, 5.0, "negative"),
        (1, 4, 9.0, "positive"),
        (4, 1, 5.0, "negative"),
    ]
    assert result.lineage[-1].rows_in == 7  # six of the first prompt, one of the second
    assert result.dropped == {"unscored": 3, "score_tie": 2}


def test_every_two_answers_keep_the_split_of_their_prompt(made: Made) -> None:
    prefs = made([(5.0, 9.0), (2.0, 3.0)], pairs={"split": ["test", "train"]})
    got = relabel(prefs, over="answers").pairs.collect()
    assert got["split"].to_list() == ["test", "test", "train", "train"]
    assert got["weight"].to_list() == [1.0] * 4


def test_relabelling_twice_is_refused(made: Made, tmp_path: Path) -> None:
    once = relabel(made([(9.0, 1.0)]))
    with pytest.raises(InputError, match="ask for scores already, and asking twice would put two goals"):
        relabel(once)
    with pytest.raises(InputError, match="asking twice"):
        relabel(Preferences.load(once.save(tmp_path / "once")), "plain")
    bare = Preferences.of(once.prompts, once.responses, once.pairs)  # the goals came from elsewhere
    with pytest.raises(InputError, match="asking twice"):
        relabel(bare)


def test_plain_can_still_be_relabelled(made: Made) -> None:
    prefs = made([(9.0, 1.0), (2.0, 2.0)])
    assert relabel(relabel(prefs, "plain")).pairs.collect()["goal"].to_list() == [9.0, 1.0]


def test_the_input_is_untouched_and_no_text_is_copied(made: Made) -> None:
    prefs = made([(9.0, 1.0), (4.0, 3.0)])
    before = prefs.digest()
    result = relabel(prefs)
    assert prefs.digest() == before
    assert result.prompts is prefs.prompts or result.prompts.collect().equals(prefs.prompts.collect())
    assert result.responses.collect().equals(prefs.responses.collect())
    assert all(kind != pl.List for kind in result.pairs.collect_schema().values())


def test_the_two_prompts_differ_in_the_goal_alone(made: Made) -> None:
    result = relabel(made([(9.0, 1.5)]), placement="system")
    one, other = result.texts().collect()["prompt"].to_list()
    assert [m["role"] for m in one] == ["system", "user"]
    assert one[1] == other[1] == {"role": "user", "content": "question 0"}
    assert one[0]["content"].replace("score: 9.", "score: 1.5.") == other[0]["content"]


def test_a_label_against_the_score_is_kept_and_said(made: Made) -> None:
    result = relabel(made([(2.0, 8.0), (8.0, 2.0)]))
    got = result.pairs.select("chosen_id", "rejected_id", "goal").collect().rows()
    assert got == [(0, 1, 2.0), (1, 0, 8.0), (2, 3, 8.0), (3, 2, 2.0)]
    assert "In 1 of 2 pairs the chosen side has the lower score." in result.lineage[-1].notes


class Tokenizer:
    """A chat template as a function: with a system role, or refusing one."""

    chat_template = "here"

    def __init__(self, system: bool) -> None:
        self.system = system

    def apply_chat_template(self, conversation: list[dict[str, str]], **_: Any) -> str:
        if conversation[0]["role"] == "system" and not self.system:
            raise ValueError("system role not supported")
        return "".join(m["content"] for m in conversation)


@pytest.mark.parametrize(
    ("tokenizer", "where"), [(None, "user"), (Tokenizer(True), "system"), (Tokenizer(False), "user")]
)
def test_auto_asks_the_chat_template(made: Made, tokenizer: Any, where: str) -> None:
    result = relabel(made([(9.0, 1.0)]), tokenizer=tokenizer)
    form = result.goal_format
    assert form is not None
    assert form.placement == where
    assert result.texts().collect()["prompt"].to_list()[0][0]["role"] == where
    assert any("goal stands in" in note for note in result.lineage[-1].notes)


def test_the_goal_format_is_in_the_manifest(made: Made, tmp_path: Path) -> None:
    result = relabel(made([(4.0, 1.0)]), scale=100, source_range=(0, 5), decimals=0, template="Aim: {scores} /{scale}")
    expected = GoalFormat(template="Aim: {scores} /{scale}", scale=100, ranges=((0.0, 5.0),), decimals=0)
    assert Preferences.load(result.save(tmp_path / "d")).goal_format == result.goal_format == expected
    assert result.texts().collect()["prompt"].to_list()[0][0]["content"] == (
        "Aim: Overall score: 80. /100\n\nquestion 0"  # 1 + 0.8 * 99 = 80.2
    )


@pytest.mark.parametrize(
    ("settings_", "says"),
    [
        ({"template": "no number"}, "must contain"),
        ({"scale": 1}, "scale: .*greater than or equal to 2"),
        ({"mode": "x:y"}, "no module 'x'"),
        ({"min_gap": NAN}, "min_gap"),
        ({"min_gap": -1.0}, "min_gap: .*greater than or equal to 0"),
        ({"outside": "Clip"}, "outside: .*'error', 'drop' or 'clip' .got 'Clip'"),
        ({"over": "pair"}, "over: .*'pairs' or 'answers' .got 'pair'"),
        ({"placement": "assistant"}, "placement: "),
        ({"source_range": "percentile"}, "source_range"),
        ({"source_range": (1, 2, 3)}, "source_range"),
        ({"attributes": "helpfulness"}, "attributes: "),
        ({"mode": "filter_high", "threshold": NAN}, "threshold: .*finite"),
        ({"seed": "first"}, "seed: "),
        ({"tokenizer": "/no/such/directory"}, "no directory /no/such/directory with a tokenizer; give a"),
        ({"tokenizer": "nosuchdirectory"}, "cannot open the tokenizer .nosuchdirectory."),
    ],
)
def test_bad_requests_are_sentences(made: Made, settings_: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        relabel(made([(9.0, 1.0)]), **settings_)


def test_a_mode_of_ones_own(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("mine_modes")
    source = """
import polars as pl
from pairwright.relabel import copies
def lows(pairs: pl.LazyFrame, *, below: float = 5.0) -> pl.LazyFrame:
    return copies(pairs, "negative").filter(pl.col("printed_chosen") < below)
def nothing(pairs):
    return pairs
"""
    exec(source, module.__dict__)
    monkeypatch.setitem(sys.modules, "mine_modes", module)
    result = relabel(made([(9.0, 8.0), (7.0, 4.0), (3.0, 1.0)]), "mine_modes:lows", below="4")
    assert result.pairs.select("chosen_id", "goal", "copy").collect().rows() == [(5, 1.0, "negative")]
    assert result.lineage[-1].dropped == {"not_in_mine_modes:lows": 2}
    assert result.lineage[-1].settings["below"] == 4.0
    with pytest.raises(InputError, match="gave no column goal, copy"):
        relabel(made([(9.0, 8.0)]), "mine_modes:nothing")


def test_other_columns_of_the_pairs_stay(made: Made) -> None:
    extras = {"reason": ["because", "so"], "weight": [0.5, 2.0], "preference": [3.0, 1.0]}
    got = relabel(made([(9.0, 1.0), (3.0, 2.0)], pairs=extras)).pairs.collect()
    assert got["reason"].to_list() == ["because", "because", "so", "so"]
    assert got["weight"].to_list() == [0.5, 0.5, 2.0, 2.0]
    assert got["preference"].to_list() == [3.0, None, 1.0, None]


def test_no_pairs_stay_no_pairs(made: Made) -> None:
    prefs = made([(9.0, 8.0)])
    none = Preferences.of(prefs.prompts, prefs.responses)
    assert relabel(none).counts().pairs == 0


halves = st.one_of(st.none(), st.integers(2, 20).map(lambda n: n / 2))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(halves, halves, st.sampled_from(["", "x", "y"]), st.sampled_from(["", "x", "y"])), max_size=8)
)
def test_ra_agrees_with_a_loop(made: Made, rows: list[tuple[Any, Any, str, str]]) -> None:
    texts = {2 * i + side: row[2 + side] for i, row in enumerate(rows) for side in (0, 1)}
    result = relabel(made([row[:2] for row in rows], texts=texts))
    expected = []
    for i, (high, low, chosen, rejected) in enumerate(rows):
        if None in (high, low) or not chosen or not rejected or chosen == rejected or high == low:
            continue
        expected += [(2 * i, 2 * i + 1, high, "positive", i), (2 * i + 1, 2 * i, low, "negative", i)]
    got = result.pairs.select("chosen_id", "rejected_id", "goal", "copy", "source_pair").collect().rows()
    assert got == expected
    step = result.lineage[-1]
    assert step.rows_in == len(rows)
    assert step.rows_in - sum(step.dropped.values()) == len(expected) // 2


def test_settings_are_converted_as_declared(made: Made) -> None:
    asked: dict[str, Any] = {"min_gap": "5", "source_range": [0, "10"], "decimals": "0"}
    result = relabel(made([(9.0, 1.0), (5.0, 4.0)]), **asked)
    assert result.dropped == {"below_min_gap": 1}
    assert result.goal_format is not None
    assert (result.goal_format.ranges, result.goal_format.decimals) == (((0.0, 10.0),), 0)


def test_pairs_made_again_can_be_relabelled_again(made: Made) -> None:
    once = relabel(made([(9.0, 1.0)]), scale=5)
    twice = relabel(pair(once), scale=100)
    assert twice.pairs.collect()["goal"].to_list() == [9.0, 1.0]
    assert twice.goal_format is not None
    assert twice.goal_format.scale == 100


def test_a_flat_relabelled_file_is_not_relabelled_over_answers_either(made: Made, tmp_path: Path) -> None:
    flat = read(relabel(made([(9.0, 1.0)])).export(tmp_path / "ra.parquet"))
    with pytest.raises(InputError, match="ask for scores already"):
        relabel(flat, over="answers")


@pytest.mark.parametrize("mode", ["plain", "ra_plus"])
def test_a_winner_among_answers_with_attributes_comes_from_the_overall_score(made: Made, mode: str) -> None:
    help_ = {"score_help": [1.0, 4.0, 5.0, 2.0, 3.0, 1.0]}
    asked: dict[str, Any] = {"over": "answers", "attributes": ("help",)}
    with pytest.raises(InputError, match=f"{mode} over answers needs to know which of two is better"):
        relabel(made([(None, None)] * 3, attributes=help_), mode, **asked)
    some = relabel(made([(3.0, 9.0), (None, 2.0), (4.0, 4.0)], attributes=help_), mode, **asked)
    assert some.pairs.select("chosen_id", "rejected_id").collect().rows() == [(1, 0)]
    assert some.lineage[-1].dropped == {"unscored": 1, "score_tie": 1}
    # Both ways round, nobody needs to win.
    assert relabel(made([(None, None)] * 3, attributes=help_), "ra", **asked).counts().pairs == 6


@pytest.mark.parametrize("name", ["goal_chosen", "printed_rejected", "copy", "source_pair"])
def test_a_users_column_of_a_name_that_relabelling_writes_is_refused(made: Made, name: str) -> None:
    with pytest.raises(InputError, match=f"a column '{name}' of their own.*rename it"):
        relabel(made([(9.0, 1.0)], pairs={name: [7]}))


def test_a_users_columns_of_working_names_stay(made: Made) -> None:
    extras = {"_reason": ["because"], "_text_chosen": ["x"], "_empty_rejected": [True], "chars_chosen": [3]}
    got = relabel(made([(9.0, 1.0)], pairs=extras), "plain").pairs.collect()
    assert {name: got[name].to_list() for name in extras} == extras
