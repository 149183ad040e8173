"""Spread of tables whose entropy and mass are known, and planted turns."""

import math

import numpy as np
import pytest

from diagnose import tabular
from pairwright.diagnose.over_optimisation import over_optimisation
from pairwright.errors import InputError

DRAW = np.random.default_rng(3)
HERE = tabular.Bench(
    start=tabular.normalised(DRAW.standard_normal((40, 16))),
    score=DRAW.uniform(1, 10, (40, 16)),
    length=DRAW.integers(4, 21, (40, 16)),
    pairs=np.stack([np.arange(40), np.zeros(40, int), np.ones(40, int)], axis=1),
)
"""Sixteen answers to each prompt, so that ten of them are not all."""


def heated(*temperatures: float) -> dict[int, tabular.Table]:
    """Policies at steps 0, 10, 20, ...: the start's logits divided by a temperature; hotter is flatter."""
    return {10 * i: tabular.normalised(HERE.start / each) for i, each in enumerate(temperatures)}


def probed(*temperatures: float, **settings: object):
    return tabular.probes(HERE, {"none": heated(*temperatures)}, **settings)


def bits(table: np.ndarray, prompt: int) -> float:
    """Renormalised entropy of the ten largest probabilities of a row, by a plain loop."""
    top = sorted((math.exp(x) for x in table[prompt]), reverse=True)[:10]
    return -sum(p / sum(top) * math.log2(p / sum(top)) for p in top)


def test_entropy_and_mass_are_those_of_the_tables() -> None:
    tables = heated(1.0, 2.0, 0.5)
    part = over_optimisation(probed(1.0, 2.0, 0.5), subject="dpo")
    prompts = HERE.pairs[:, 0]
    for row in part.result.table:
        table = tables[row["step"]]
        assert row["top_entropy"] == pytest.approx(np.mean([bits(table, p) for p in prompts]))
        mass = np.mean([sum(sorted(np.exp(table[p]))[-10:]) for p in prompts])
        assert row["top_mass"] == pytest.approx(mass)
        assert row["raw_top_entropy"] > row["top_entropy"] * row["top_mass"]  # H_raw = M H_norm - M log2 M
        raw = [
            -sum(q * math.log2(q) for q in sorted(np.exp(table[p]))[-10:]) for p in prompts
        ]  # fmt: skip
        assert row["raw_top_entropy"] == pytest.approx(np.mean(raw))
    assert part.result.settings["k"] == 10


def test_entropy_that_rises_and_falls_is_a_warning_with_the_change_since_the_turn() -> None:
    path = [1.0, 1.3, 1.6, 2.0, 1.2, 1.0, 0.8, 0.5]
    part = over_optimisation(probed(*path), subject="dpo", smoothing=0.0)
    reversal, leak = part.findings
    assert (reversal.check, reversal.level) == ("entropy_reversal", "warning")
    assert leak.level == "note"  # heat leaked mass on the way, but at the end there is more than at the start
    assert leak.value > 0
    assert part.result.settings["signals"]["entropy_reversal"] == {"fired_at": 50, "turned_at": 30}
    tables = heated(*path)
    gaps = [bits(tables[70], p) - bits(tables[30], p) for p in HERE.pairs[:, 0]]
    assert reversal.value == pytest.approx(np.mean(gaps))
    assert reversal.low < reversal.value < reversal.high < 0
    assert reversal.n == 40
    assert "step 30" in reversal.remedy
    upright = part.charts[0].series[-1]
    assert upright.reference
    assert upright.x == [30, 30]


def test_mass_that_leaks_is_a_warning() -> None:
    path = [0.5, 0.6, 0.8, 1.0, 1.5, 2.0]
    part = over_optimisation(probed(*path), subject="slic", smoothing=0.5)
    reversal, leak = part.findings
    assert (reversal.level, leak.level) == ("fine", "warning")
    tables = heated(*path)
    gaps = [
        sum(sorted(np.exp(tables[50][p]))[-10:]) - sum(sorted(np.exp(tables[0][p]))[-10:]) for p in HERE.pairs[:, 0]
    ]
    assert leak.value == pytest.approx(np.mean(gaps))
    assert leak.high < 0


def test_a_model_that_does_not_move_and_one_that_only_sharpens_are_fine() -> None:
    for path in ([1.0] * 6, [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]):
        part = over_optimisation(probed(*path), subject="dpo", smoothing=0.5)
        assert [each.level for each in part.findings] == ["fine", "fine"]
        assert all(each.remedy == "" for each in part.findings)


def test_a_vocabulary_of_ten_tokens_or_fewer_has_no_mass_to_lose() -> None:
    small = tabular.bench(seed=1, prompts=10, answers=6)
    tables = {10 * i: tabular.normalised(small.start / t) for i, t in enumerate([0.5, 1.0, 2.0, 4.0])}
    part = over_optimisation(tabular.probes(small, {"none": tables}), subject="dpo", smoothing=0.0)
    assert [each.check for each in part.findings] == ["entropy_reversal"]
    assert part.result.settings["k"] == 6
    assert any("is 1 at any step" in note for note in part.result.notes)
    assert all(row["top_mass"] == pytest.approx(1.0) for row in part.result.table)


def test_the_models_own_answers_are_a_second_reading() -> None:
    tables = heated(1.0, 2.0, 0.5)
    part = over_optimisation(tabular.probes(HERE, {"none": tables}, samples={20: tables[20]}), subject="dpo")
    rows = {row["step"]: row for row in part.result.table}
    assert rows[20]["top_entropy_own"] == pytest.approx(np.mean([bits(tables[20], p) for p in range(40)]))
    assert rows[0]["top_entropy_own"] is None
    assert [one.name for one in part.charts[1].series] == ["chosen answers", "own answers", "smoothed"]


def test_two_probes_are_too_few_and_none_are_refused() -> None:
    part = over_optimisation(probed(1.0, 2.0), subject="dpo")
    assert part.findings == ()
    assert any("a signal needs 3" in note for note in part.result.notes)
    empty = probed(1.0)
    with pytest.raises(InputError, match="no probe has the spread"):
        over_optimisation(type(empty)(empty.about, (), empty.rows.clear(), empty.samples, empty.credit), subject="dpo")
