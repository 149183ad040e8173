"""Cuts and the verb."""

import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairwright.cuts import CUTS
from pairwright.errors import InputError
from pairwright.formats.read import read
from pairwright.preferences import Preferences
from pairwright.relabel import relabel
from pairwright.select import select


def made(gaps: list[float | None], split: list[str] | None = None) -> Preferences:
    """One pair for each gap: the chosen answer has that score, the rejected one 0."""
    count = len(gaps)
    prompts = {"prompt_id": [f"p{i}" for i in range(count)], "prompt": [[{"role": "user", "content": "Q"}]] * count}
    answers = {
        "prompt_id": [f"p{i // 2}" for i in range(2 * count)],
        "response": [[{"role": "assistant", "content": f"A{i}"}] for i in range(2 * count)],
        "score": [gaps[i // 2] if i % 2 == 0 else 0.0 for i in range(2 * count)],
    }
    pairs = {
        "prompt_id": prompts["prompt_id"],
        "chosen_id": [2 * i for i in range(count)],
        "rejected_id": [2 * i + 1 for i in range(count)],
        "split": split or ["train"] * count,
    }
    floats = {"score": pl.Float64}
    return Preferences.of(pl.DataFrame(prompts), pl.DataFrame(answers, schema_overrides=floats), pl.DataFrame(pairs))


def kept(prefs: Preferences) -> list[int]:
    return (prefs.pairs.collect()["chosen_id"] // 2).to_list()


GAPS: list[float | None] = [3.0, 9.0, None, 9.0, 1.0, 3.0, 7.0, 3.0, -2.0]  # eight with a gap


@pytest.mark.parametrize(
    ("cut", "keep", "rows"),
    [
        ("top", 0.25, [1, 3]),
        ("top", 0.5, [0, 1, 3, 6]),  # the first of the three gaps of 3
        ("top", 0.49, [1, 3, 6]),  # floor(3.92) = 3
        ("bottom", 0.25, [4, 8]),
        ("bottom", 0.5, [0, 4, 5, 8]),
        ("band", 0.25, [5, 7]),  # order: 8, 4, 0, 5, 7, 6, 1, 3; the middle two
        ("band", 0.5, [0, 5, 6, 7]),
        ("top", 0.0, []),
        ("bottom", 0.0, []),
        ("band", 0.0, []),
        ("sample", 0.0, []),
        ("top", 1.0, [0, 1, 3, 4, 5, 6, 7, 8]),
        ("bottom", 1.0, [0, 1, 3, 4, 5, 6, 7, 8]),
        ("band", 1.0, [0, 1, 3, 4, 5, 6, 7, 8]),
        ("sample", 1.0, [0, 1, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_cuts_by_hand(cut: str, keep: float, rows: list[int]) -> None:
    result = select(made(GAPS), "explicit_gap", keep=keep, cut=cut)
    assert kept(result) == rows
    step = result.lineage[-1]
    assert (step.rows_in, step.rows_out) == (9, len(rows))
    assert step.dropped["no_metric"] == 1
    assert step.dropped.get("not_selected", 0) == 8 - len(rows)


def test_above_is_strict() -> None:
    assert kept(select(made(GAPS), "explicit_gap", cut="above", threshold=3)) == [1, 3, 6]


def test_a_band_can_lie_anywhere() -> None:
    values = np.arange(10.0)
    assert np.flatnonzero(CUTS["band"](values, keep=0.3, centre=0.0)).tolist() == [0, 1, 2]
    assert np.flatnonzero(CUTS["band"](values, keep=0.3, centre=1.0)).tolist() == [7, 8, 9]
    assert kept(select(made([5.0, 4.0, 3.0, 2.0]), "explicit_gap", cut="band", keep=0.5, centre=1.0)) == [0, 1]


def test_the_metric_becomes_a_column() -> None:
    result = select(made([3.0, 9.0, None]), "explicit_gap", keep=1)
    assert result.pairs.collect()["explicit_gap"].to_list() == [3.0, 9.0]


def test_keep_all_is_the_identity() -> None:
    prefs = made([3.0, 9.0, 1.0])
    result = select(prefs, "explicit_gap", keep=1)
    assert result.pairs.drop("explicit_gap").collect().equals(prefs.pairs.collect())
    assert result.lineage[-1].dropped == {}


def test_shares_that_floats_cannot_hold_are_exact() -> None:
    for total in (1, 7, 10, 50, 100, 1000):
        values = np.arange(float(total))
        for hundredth in range(101):  # 0.29 * 100 is 28.999999999999996
            assert int(CUTS["top"](values, keep=hundredth / 100).sum()) == total * hundredth // 100


def test_only_touches_one_split() -> None:
    prefs = made([1.0, None, 5.0, 3.0, None], ["train", "train", "train", "test", "test"])
    result = select(prefs, "explicit_gap", keep=0.5, only="train")
    assert kept(result) == [2, 3, 4]
    assert result.pairs.collect()["explicit_gap"].to_list() == [5.0, None, None]
    step = result.lineage[-1]
    assert (step.rows_in, step.rows_out, step.dropped) == (5, 3, {"no_metric": 1, "not_selected": 1})


def test_z_scores_come_from_the_split_that_is_selected() -> None:
    prefs = made([1.0, 2.0, 3.0, 100.0], ["train", "train", "train", "test"])
    pairs = prefs.pairs.with_columns(own=pl.Series([1.0, 0.0, 0.0, 50.0]))
    prefs = Preferences.of(prefs.prompts, prefs.responses, pairs)
    result = select(prefs, "alignment_potential", keep=1, only="train", margin="own")
    # u = 1, 2, 3: mean 2, std sqrt(2/3). |M| = 1, 0, 0: mean 1/3, std sqrt(2)/3.
    spread, width = math.sqrt(2 / 3), math.sqrt(2) / 3
    expected = [-1 / spread - (2 / 3) / width, (1 / 3) / width, 1 / spread + (1 / 3) / width]
    assert result.pairs.collect()["alignment_potential"].to_list()[:3] == pytest.approx(expected)


def test_weight_reaches_the_metric() -> None:
    prefs = made([1.0, 2.0, 3.0, 4.0])
    pairs = prefs.pairs.with_columns(own=pl.Series([0.0, 0.0, 0.0, 9.0]))
    prefs = Preferences.of(prefs.prompts, prefs.responses, pairs)
    assert kept(select(prefs, "alignment_potential", keep=0.25, margin="own", weight=0.1)) == [3]
    assert kept(select(prefs, "alignment_potential", keep=0.25, margin="own", weight=2.5)) == [2]
    with pytest.raises(InputError, match="metric 'explicit_gap' has no setting 'weight'"):
        select(prefs, "explicit_gap", keep=0.5, weight=1)


def test_a_constant_metric_cannot_rank() -> None:
    prefs = made([2.0] * 4)
    with pytest.raises(InputError, match="explicit_gap is 2 for all 4 pairs, so it has no spread"):
        select(prefs, "explicit_gap", keep=0.5)
    assert kept(select(prefs, "explicit_gap", keep=1)) == [0, 1, 2, 3]
    assert kept(select(prefs, "explicit_gap", keep=0)) == []
    assert len(kept(select(prefs, "explicit_gap", keep=0.5, cut="sample"))) == 2
    assert len(kept(select(prefs, "random", keep=0.5))) == 2


def test_a_sample_is_seeded_and_follows_the_weights() -> None:
    prefs = made([0.0, math.log(4.0)])
    picks = [kept(select(prefs, "explicit_gap", keep=0.5, cut="sample", seed=seed)) for seed in range(300)]
    assert picks[7] == kept(select(prefs, "explicit_gap", keep=0.5, cut="sample", seed=7))
    # Weights 1 and 4: the second with probability 0.8; 300 draws have a standard deviation of 6.9.
    assert 205 <= sum(rows == [1] for rows in picks) <= 275
    cold = [kept(select(prefs, "explicit_gap", keep=0.5, cut="sample", seed=s, temperature=1e-3)) for s in range(20)]
    assert cold == [[1]] * 20


def test_the_metrics_seed_is_the_verbs() -> None:
    prefs = made([float(i) for i in range(40)])
    one, two = (kept(select(prefs, "random", keep=0.5, seed=seed)) for seed in (0, 1))
    assert len(one) == len(two) == 20
    assert one != two


def test_relabelled_pairs_can_be_selected_and_stored(tmp_path: Path) -> None:
    prefs = relabel(made([2.0, 8.0, 5.0]), source_range=(0, 10))
    result = select(prefs, "explicit_gap", keep=0.5)
    rows = result.pairs.collect()
    # Gaps under the goals: 2, 2, 8, 8, 5, 5. Both copies of the second and the first copy of the third.
    assert rows["explicit_gap"].to_list() == [8.0, 8.0, 5.0]
    assert rows["copy"].to_list() == ["positive", "negative", "positive"]
    assert result.goal_format == prefs.goal_format
    back = Preferences.load(result.save(tmp_path / "kept"))
    assert back == result
    manifest = json.loads((tmp_path / "kept" / "manifest.json").read_text())
    assert manifest["lineage"][-1]["dropped"] == {"not_selected": 3}


def test_the_input_is_as_it_was() -> None:
    prefs = made(GAPS)
    before = prefs.digest()
    select(prefs, "explicit_gap", keep=0.5)
    assert prefs.digest() == before


def test_bad_requests_are_sentences() -> None:
    prefs = made(GAPS)
    for settings_, says in [
        ({"metric": "explicit_gapp", "keep": 1}, "did you mean 'explicit_gap'"),
        ({"metric": "explicit_gap", "keep": 1, "cut": "tip"}, "did you mean 'top'"),
        ({"metric": "explicit_gap"}, "keep: Field required"),
        ({"metric": "explicit_gap", "keep": 40}, "less than or equal to 1"),
        ({"metric": "explicit_gap", "keep": 1, "cut": "above"}, "cut 'above' has no setting 'keep'"),
        ({"metric": "explicit_gap", "keep": 1, "lenght": 1}, "metric 'explicit_gap' has no setting 'lenght'"),
        ({"metric": "length_gap", "keep": 1, "lenght": "x"}, "did you mean 'length'"),
        (
            {"metric": "explicit_gap", "keep": 1, "only": "trian"},
            "no pair is in the split 'trian'; did you mean 'train'",
        ),
    ]:
        with pytest.raises(InputError, match=says):
            select(prefs, **settings_)  # type: ignore[arg-type]


def test_a_metric_and_a_cut_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("mine_metrics")
    source = """
import numpy as np
import polars as pl
def minus(view: pl.LazyFrame, *, factor: float = 1.0) -> pl.Expr:
    return -factor * pl.col("score_chosen")
def first(values, *, keep: float):
    return np.arange(len(values)) < keep * len(values)
def broken(values):
    return values
def weight(view):
    return pl.col("weight")
"""
    exec(source, module.__dict__)
    monkeypatch.setitem(sys.modules, "mine_metrics", module)
    prefs = made([3.0, 9.0, 1.0])
    result = select(prefs, "mine_metrics:minus", keep=1 / 3, factor="2")
    assert kept(result) == [2]
    assert result.pairs.collect()["minus"].to_list() == [-2.0]
    assert kept(select(prefs, "explicit_gap", cut="mine_metrics:first", keep=0.5)) == [0, 1]
    with pytest.raises(InputError, match="one true or false for each"):
        select(prefs, "explicit_gap", cut="mine_metrics:broken")
    with pytest.raises(InputError, match="would replace the column 'weight'"):
        select(prefs, "mine_metrics:weight", keep=0.5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=30), st.floats(0, 1))
def test_top_is_a_stable_sort(values: list[float], keep: float) -> None:
    count = math.floor(keep * len(values) + 1e-6)
    order = sorted(range(len(values)), key=lambda i: -values[i])
    mask = CUTS["top"](np.array(values), keep=keep)
    assert np.flatnonzero(mask).tolist() == sorted(order[:count])
    mask = CUTS["bottom"](np.array(values), keep=keep)
    order = sorted(range(len(values)), key=lambda i: values[i])
    assert np.flatnonzero(mask).tolist() == sorted(order[:count])


def test_no_pairs_stay_no_pairs() -> None:
    empty: dict[str, Any] = {"prompt_id": [], "chosen_id": [], "rejected_id": []}
    prefs = made([1.0])
    none = Preferences.of(
        prefs.prompts, prefs.responses, pl.DataFrame(empty, schema_overrides={"prompt_id": pl.String})
    )
    assert kept(select(none, "explicit_gap", keep=0.5)) == []


def test_settings_are_converted_and_checked() -> None:
    assert kept(select(made(GAPS), "explicit_gap", keep="0.25")) == [1, 3]  # type: ignore[arg-type]
    for asked in (
        {"keep": "most"},
        {"keep": math.nan},
        {"cut": "above", "threshold": math.nan},
        {"keep": 0.5, "seed": "x"},
    ):
        with pytest.raises(InputError):
            select(made(GAPS), "explicit_gap", **asked)  # type: ignore[arg-type]


def test_a_users_columns_of_working_names_stay() -> None:
    prefs = made(GAPS)
    count = len(GAPS)
    extras: dict[str, Any] = {"_kept": [7] * count, "chars_chosen": list(range(count)), "scores_chosen": ["x"] * count}
    prefs = Preferences.of(prefs.prompts, prefs.responses, prefs.pairs.with_columns(**{
        name: pl.Series(values) for name, values in extras.items()
    }))  # fmt: skip
    for metric in ("explicit_gap", "random"):
        got = select(prefs, metric, keep=1.0).pairs.collect()
        rows = (got["chosen_id"] // 2).to_list()
        assert {name: got[name].to_list() for name in extras} == {k: [v[i] for i in rows] for k, v in extras.items()}
    # Lengths are those of the texts ("A0" to "A17"): two numbers of one digit and of two, or one of each.
    lengths = select(prefs, "length_gap", keep=1.0).pairs.collect()["length_gap"].to_list()
    assert lengths == [float(len(f"A{2 * i}") - len(f"A{2 * i + 1}")) for i in range(count)]


def test_several_goals_from_a_flat_file_are_refused_with_the_remedy(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Q{i}", "chosen": f"a{i}", "rejected": f"b{i}", "score_chosen": 4.0, "score_rejected": 1.0}
        for i in range(4)
    ]
    prefs = read(rows)
    help_ = pl.col("score").alias("score_help")
    prefs = Preferences.of(prefs.prompts, prefs.responses.with_columns(help_), prefs.pairs)
    native = relabel(prefs, attributes=("help",))
    assert select(native, "explicit_gap", keep=1.0).counts().pairs == 8
    flat = read(native.export(tmp_path / "ra.parquet"))
    with pytest.raises(InputError, match="select from the directory that relabel wrote"):
        select(flat, "explicit_gap", keep=0.5)
