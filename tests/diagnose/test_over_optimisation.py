"""Spread of tables whose entropy and mass are known, and planted turns."""

import math

import numpy as np
import polars as pl
import pytest

from diagnose import tabular
from pairwright.diagnose.answers import ANSWERS, Answers
from pairwright.diagnose.finding import Finding, Part
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


def by_check(part: Part) -> dict[str, Finding]:
    return {each.check: each for each in part.findings}


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
    found = by_check(part)
    assert set(found) == {"entropy_reversal", "raw_entropy_reversal", "mass_leak"}  # what turned is no collapse
    reversal, leak = found["entropy_reversal"], found["mass_leak"]
    assert reversal.level == "warning"
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
    found = by_check(part)
    leak = found["mass_leak"]
    assert (found["entropy_reversal"].level, found["entropy_collapse"].level, leak.level) == ("fine", "fine", "warning")
    tables = heated(*path)
    gaps = [
        sum(sorted(np.exp(tables[50][p]))[-10:]) - sum(sorted(np.exp(tables[0][p]))[-10:]) for p in HERE.pairs[:, 0]
    ]
    assert leak.value == pytest.approx(np.mean(gaps))
    assert leak.high < 0


def test_a_model_that_does_not_move_is_fine() -> None:
    part = over_optimisation(probed(*[1.0] * 6), subject="dpo", smoothing=0.5)
    assert [each.level for each in part.findings] == ["fine"] * 4
    assert all(each.remedy == "" for each in part.findings)


SHARPER = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)


def own_answers(score: float, *, empty: int = 0) -> Answers:
    """One answer to each of 40 prompts, of a score around the given one; so many say nothing."""
    wiggle = np.linspace(-0.2, 0.2, 40)
    frame = pl.DataFrame(
        {
            "prompt_id": [f"p{i}" for i in range(40)],
            "text": [" "] * empty + ["x"] * (40 - empty),
            "score": score + wiggle,
        }
    )
    frame = frame.with_columns(
        pl.lit(None, dtype=kind).alias(name) for name, kind in ANSWERS.items() if name not in frame
    )
    return Answers("m", frame.select(list(ANSWERS)))


def test_an_entropy_that_only_falls_is_a_note_of_its_own_and_not_all_clear() -> None:
    """No rise, so signal 1 is silent; the same answers lost entropy beyond doubt, which is said with its number."""
    found = by_check(over_optimisation(probed(*SHARPER), subject="dpo", smoothing=0.5))
    assert found["entropy_reversal"].level == "fine"
    collapse = found["entropy_collapse"]
    assert collapse.level == "note"
    tables = heated(*SHARPER)
    gaps = [bits(tables[50], p) - bits(tables[0], p) for p in HERE.pairs[:, 0]]
    assert collapse.value == pytest.approx(np.mean(gaps))
    assert collapse.low < collapse.value < collapse.high < 0
    assert "narrowed" in collapse.means
    assert collapse.remedy


def test_a_fall_below_the_share_that_counts_is_no_collapse() -> None:
    path = (1.0, 0.999, 0.998, 0.997)
    tables = heated(*path)
    lost = [1 - bits(tables[30], p) / bits(tables[0], p) for p in HERE.pairs[:, 0]]
    assert 0 < np.mean(lost) < 0.02
    collapse = by_check(over_optimisation(probed(*path), subject="dpo"))["entropy_collapse"]
    assert (collapse.level, collapse.remedy) == ("fine", "")
    assert collapse.high < 0  # though it is beyond doubt


def test_a_collapse_with_lower_scores_or_empty_answers_is_a_warning() -> None:
    """Scores 5 against 7: 2 less at every prompt. 10 of 40 answers are empty, and none of the start's."""
    start = own_answers(7.0)
    for policy, says in (
        (own_answers(5.0), "score -2 [-2, -2] against the start's"),
        (own_answers(7.0, empty=10), "empty more often than the start's, by +25.0%"),
    ):
        part = over_optimisation(probed(*SHARPER), (policy, start), subject="dpo", smoothing=0.5)
        collapse = by_check(part)["entropy_collapse"]
        assert (collapse.level, says in collapse.says) == ("warning", True)
    for policy in (own_answers(7.0), own_answers(8.0)):
        part = over_optimisation(probed(*SHARPER), (policy, start), subject="dpo", smoothing=0.5)
        assert by_check(part)["entropy_collapse"].level == "note"
    still = over_optimisation(probed(*[1.0] * 6), (own_answers(5.0), start), subject="dpo")
    assert by_check(still)["entropy_collapse"].level == "fine"


def test_the_plain_entropy_is_watched_too() -> None:
    """Only raw_top_entropy rises and falls (planted); the renormalised one stays."""
    still = probed(*[1.0] * 6)
    factor = pl.col("step").replace_strict({0: 1.0, 10: 1.2, 20: 1.4, 30: 1.1, 40: 1.0, 50: 0.9})
    rows = still.rows.with_columns(raw_top_entropy=pl.col("raw_top_entropy") * factor)
    planted = type(still)(still.about, still.steps, rows, still.samples, still.credit)
    part = over_optimisation(planted, subject="dpo", smoothing=0.0)
    found = by_check(part)
    assert found["entropy_reversal"].level == "fine"
    assert found["raw_entropy_reversal"].level == "warning"
    assert "plain entropy" in found["raw_entropy_reversal"].says
    assert "stop_rule" not in found["raw_entropy_reversal"].remedy  # no stop rule reads it
    assert part.result.settings["signals"]["raw_entropy_reversal"] == {"fired_at": 40, "turned_at": 20}


def test_a_vocabulary_of_ten_tokens_or_fewer_has_no_mass_to_lose() -> None:
    small = tabular.bench(seed=1, prompts=10, answers=6)
    tables = {10 * i: tabular.normalised(small.start / t) for i, t in enumerate([0.5, 1.0, 2.0, 4.0])}
    part = over_optimisation(tabular.probes(small, {"none": tables}), subject="dpo", smoothing=0.0)
    assert [each.check for each in part.findings] == ["entropy_reversal", "entropy_collapse"]
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
    assert [each.check for each in part.findings] == ["entropy_collapse"]  # first and last are all that it compares
    assert over_optimisation(probed(1.0), subject="dpo").findings == ()
    assert any("mass_leak needs 3" in note for note in part.result.notes)
    empty = probed(1.0)
    with pytest.raises(InputError, match="no probe has the spread"):
        over_optimisation(type(empty)(empty.about, (), empty.rows.clear(), empty.samples, empty.credit), subject="dpo")


def test_a_turn_takes_two_checks_and_those_below_so_fewer_are_not_called_fine() -> None:
    """First, highest, and 2 in a row below: 4. With 3 probes signal 1 cannot fire, whatever they show."""
    part = over_optimisation(probed(1.0, 2.0, 0.5), subject="dpo", smoothing=0.0)
    assert "entropy_reversal" not in by_check(part)
    assert "mass_leak" in by_check(part)  # 3 are enough for it
    assert any("There are 3 probes, and entropy_reversal needs 4" in note for note in part.result.notes)
    four = by_check(over_optimisation(probed(1.0, 2.0, 1.0, 0.5), subject="dpo", smoothing=0.0))
    assert four["entropy_reversal"].level == "warning"
