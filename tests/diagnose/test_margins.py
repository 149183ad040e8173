"""Margins against closed forms: of DPO's minimiser, `beta * margin` is the gap of scores itself."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import scipy.stats

from diagnose.tabular import Bench, Table, bench, dpo_minimiser, normalised, probes, tilted
from pairwright.diagnose.finding import Part
from pairwright.diagnose.margins import margins
from pairwright.errors import InputError

HERE = bench(seed=7, prompts=60)
GAP = HERE.side(HERE.score, "chosen") - HERE.side(HERE.score, "rejected")


def of(policy: Table, here: Bench = HERE, beta: float | None = None) -> Part:
    return margins(probes(here, {"none": {0: here.start, 30: policy}}), subject="x", beta=beta, draws=200)


def metric(part: Part, name: str) -> float:
    found = part.result.metric(name).value
    assert found is not None
    return found


def levels(part: Part) -> dict[str, str]:
    return {each.check: each.level for each in part.findings}


def test_the_minimiser_of_dpo_has_the_gap_as_its_margin() -> None:
    part = of(dpo_minimiser(HERE, beta=0.5), beta=0.5)
    assert metric(part, "margin") == pytest.approx(GAP.mean(), abs=1e-12)
    by_gap = {row["gap"]: row for row in part.result.table if row["gap"] is not None}
    assert set(by_gap) == {f"{gap:g}" for gap in GAP}
    for gap, row in by_gap.items():
        assert row["margin"] == pytest.approx(float(gap), abs=1e-12)
        assert row["pairs"] == int((float(gap) == GAP).sum())
        assert row["accuracy"] == 1.0
    assert metric(part, "spearman") > 0.95  # equal gaps differ in their last bit here, which undoes ties
    assert levels(part) == {"flips": "fine", "margin_agreement": "fine"}


def test_without_a_beta_margins_are_in_nats() -> None:
    part = of(dpo_minimiser(HERE, beta=0.5))
    assert metric(part, "margin") == pytest.approx(GAP.mean() / 0.5, abs=1e-12)
    assert part.result.settings["beta"] is None
    assert "nats" in part.charts[0].y


def test_against_numpy_and_scipy_on_a_policy_that_is_half_right() -> None:
    noise = np.random.default_rng(1).standard_normal(HERE.start.shape)
    policy = tilted(HERE.start, 0.2 * HERE.score + noise)
    part = of(policy, beta=0.1)
    ratio = policy - HERE.start
    margin = 0.1 * (HERE.side(ratio, "chosen") - HERE.side(ratio, "rejected"))
    assert metric(part, "spearman") == pytest.approx(scipy.stats.spearmanr(margin, GAP).statistic, abs=1e-12)
    assert metric(part, "margin") == pytest.approx(margin.mean())
    wrong = int((margin < 0).sum())
    assert 0 < wrong < len(margin) / 2
    flips = part.result.metric("flips")
    ends = scipy.stats.binomtest(wrong, len(margin)).proportion_ci(method="wilson")
    assert flips.value == pytest.approx(wrong / len(margin))
    assert (flips.low, flips.high) == pytest.approx((ends.low, ends.high))
    assert metric(part, "accuracy") == pytest.approx(1 - wrong / len(margin))


def test_a_model_that_learned_the_labels_turned_round_is_warned_of() -> None:
    part = of(tilted(HERE.start, -HERE.score))
    assert metric(part, "flips") == 1.0
    assert metric(part, "spearman") < -0.95
    assert levels(part) == {"flips": "warning", "margin_agreement": "warning"}
    assert all(each.remedy for each in part.findings)


def test_margins_of_chance_are_a_note() -> None:
    policy = normalised(HERE.start + np.random.default_rng(8).standard_normal(HERE.start.shape))
    assert levels(of(policy)) == {"flips": "note", "margin_agreement": "note"}


def test_a_margin_of_zero_is_no_flip_and_not_right_either() -> None:
    part = of(HERE.start)
    assert metric(part, "flips") == 0.0
    assert metric(part, "accuracy") == 0.0
    assert part.result.metric("spearman").value is None
    assert list(levels(part)) == ["flips"]


def test_step_0_is_left_out() -> None:
    part = of(dpo_minimiser(HERE, beta=2.0))
    assert [row["step"] for row in part.result.table if row["gap"] is None] == [30]


def test_many_gaps_go_into_fifths_and_spans_of_a_scale_into_whole_numbers() -> None:
    fine = replace(HERE, score=HERE.score / 10 + np.linspace(0, 0.01, 6))
    rows = [row for row in of(tilted(HERE.start, fine.score), fine).result.table if row["gap"] is not None]
    assert len(rows) == 5
    assert sum(row["pairs"] for row in rows) == len(GAP)
    wide = replace(HERE, score=HERE.score + np.random.default_rng(0).uniform(0, 0.4, HERE.score.shape))
    labels = [row["gap"] for row in of(tilted(HERE.start, wide.score), wide).result.table if row["gap"] is not None]
    assert "3 to 4" in labels


def test_pairs_without_a_score_have_a_margin_and_no_gap() -> None:
    seen = probes(HERE, {"none": {0: HERE.start, 30: dpo_minimiser(HERE, beta=1.0)}})
    blind = seen.rows.with_columns(score=pl.when(pl.col("pair") > 9).then(pl.col("score")))
    part = margins(replace(seen, rows=blind), subject="x", beta=1.0, draws=50)
    assert part.result.n == len(GAP)
    assert metric(part, "margin") == pytest.approx(GAP.mean())
    assert sum(row["pairs"] for row in part.result.table if row["gap"] is not None) == len(GAP) - 10
    assert any(note.startswith("10 pairs") for note in part.result.notes)
    none = margins(replace(seen, rows=blind.with_columns(score=pl.lit(None, pl.Float64))), subject="x", draws=50)
    assert [chart.id for chart in none.charts] == ["accuracy"]
    assert list(levels(none)) == ["flips"]


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan")])
def test_a_beta_that_is_none_is_refused(beta: float) -> None:
    with pytest.raises(InputError, match="beta must be a positive number"):
        of(HERE.start, beta=beta)


def test_a_margin_of_rounding_is_no_flip() -> None:
    """Chosen answers 3e-6 nats down: no flip in any unit; 1e-3 nats down: all are, with a small beta, too."""
    for change, share in ((3e-6, 0.0), (1e-3, 1.0)):
        last = HERE.start.copy()
        last[HERE.pairs[:, 0], HERE.pairs[:, 1]] -= change
        for beta in (None, 0.01):
            part = of(last, beta=beta)
            assert metric(part, "flips") == share
            assert metric(part, "accuracy") == 0.0
