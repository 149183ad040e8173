"""Length: by hand, by a plain regression, and on planted wins."""

import math

import numpy as np
import polars as pl
import pytest

from diagnose import tabular
from pairwright.diagnose.answers import ANSWERS, Answers
from pairwright.diagnose.length import length_drift, length_matched, length_reward
from pairwright.errors import InputError
from pairwright.probes.store import Probes


def said(name: str, rows: list[tuple[str, float, int | None]], goal: list[float | None] | None = None) -> Answers:
    """Answers as prompt, score, length."""
    frame = pl.DataFrame(
        {
            "prompt_id": [row[0] for row in rows],
            "goal": goal or [None] * len(rows),
            "text": [f"{name} {i}" for i in range(len(rows))],
            "score": [row[1] for row in rows],
            "length": [row[2] for row in rows],
            "logp": [None] * len(rows),
            "start_logp": [None] * len(rows),
            "kl": [None] * len(rows),
        }
    ).select(pl.col(column).cast(kind) for column, kind in ANSWERS.items())
    return Answers(name, frame)


def test_drift_is_the_mean_difference_over_prompts() -> None:
    """Policy: p0 (10 + 20) / 2 = 15, p1 30; start: 10 and 20. Difference (5 + 10) / 2 = 7.5, ratio 45 / 30 = 1.5."""
    policy = said("dpo", [("p0", 1.0, 10), ("p0", 1.0, 20), ("p1", 1.0, 30), ("p2", 1.0, 99)])
    start = said("start", [("p0", 1.0, 10), ("p1", 1.0, 20)])
    part = length_drift(policy, start)
    assert part.result.metric("difference").value == pytest.approx(7.5)
    assert part.result.metric("ratio").value == pytest.approx(1.5)
    assert part.result.metric("longer").value == 1.0
    assert part.findings[0].n == 2


@pytest.mark.parametrize(
    ("factor", "level"), [(1.5, "warning"), (1.03, "note"), (1.0, "fine"), (0.7, "note"), (0.4, "warning")]
)
def test_drift_is_as_loud_as_it_is_large(factor: float, level: str) -> None:
    draw = np.random.default_rng(0)
    base = draw.integers(50, 150, 60)
    start = said("start", [(f"p{i}", 1.0, int(each)) for i, each in enumerate(base)])
    jitter = draw.integers(-1, 2, 60)
    policy = said("dpo", [(f"p{i}", 1.0, round(each * factor) + int(jitter[i])) for i, each in enumerate(base)])
    part = length_drift(policy, start)
    (finding,) = part.findings
    assert finding.level == level
    assert (finding.value > 0) == (factor >= 1.03) or factor == 1.0
    assert bool(finding.remedy) == (level == "warning")


def test_the_share_that_length_explains_is_that_of_a_regression_through_the_origin() -> None:
    here = tabular.bench(seed=4, prompts=50)
    policy = tabular.dpo_minimiser(here, beta=3.0)
    part = length_reward(tabular.probes(here, {"none": {0: here.start, 100: policy}}), subject="dpo")
    rho = np.concatenate([here.side(policy - here.start, side) for side in ("chosen", "rejected")])
    length = np.concatenate([here.side(here.length, side) for side in ("chosen", "rejected")]).astype(float)
    (gamma,), squares, *_ = np.linalg.lstsq(length[:, None], rho, rcond=None)
    assert part.result.metric("gamma").value == pytest.approx(gamma)
    assert part.result.metric("r2").value == pytest.approx(1 - squares[0] / (rho**2).sum())
    assert part.result.table[0]["r2"] is None  # at step 0 every log-ratio is 0
    assert part.result.table[0]["gamma"] == 0.0


def test_a_planted_length_reward_is_noted_with_its_sign_and_another_is_not() -> None:
    here = tabular.bench(seed=5, prompts=60)
    draw = np.random.default_rng(0)
    for slope in (0.3, -0.3):
        policy = here.start + slope * here.length + 0.05 * draw.standard_normal(here.start.shape)
        part = length_reward(tabular.probes(here, {"none": {0: here.start, 10: policy}}), subject="dpo")
        (finding,) = part.findings
        assert finding.level == "note"
        assert part.result.metric("gamma").value == pytest.approx(slope, abs=0.01)
        assert ("longer answers are rewarded" in finding.means) == (slope > 0)
    policy = here.start + draw.standard_normal(here.start.shape)
    part = length_reward(tabular.probes(here, {"none": {0: here.start, 10: policy}}), subject="dpo")
    assert part.findings[0].level == "fine"


def test_the_share_stands_beside_the_distance_where_the_model_wrote() -> None:
    here = tabular.bench(seed=6, prompts=40)
    tables = {0: here.start, 10: tabular.dpo_minimiser(here, beta=5.0), 20: tabular.dpo_minimiser(here, beta=2.0)}
    seen = tabular.probes(here, {"none": tables}, samples={10: tables[10], 20: tables[20]})
    part = length_reward(seen, subject="dpo")
    weight = [np.exp(here.start + here.score / beta) for beta in (5.0, 2.0)]
    share = [each / each.sum(axis=1, keepdims=True) for each in weight]
    kl = [float((p * (np.log(p) - here.start)).sum(axis=1).mean()) for p in share]
    assert [row["d"] for row in part.result.table] == [None, *(pytest.approx(math.sqrt(each)) for each in kl)]
    assert [chart.id for chart in part.charts] == ["r2", "r2-by-d"]
    assert part.charts[1].series[0].labels == ["step 10", "step 20"]


def test_the_matched_win_rate_is_over_answers_of_about_the_same_length() -> None:
    """p0: 100 against 95, lost; p1: 100 against 90, a tie, just within 10% of 100; p2: 200 against 100, won."""
    policy = said("dpo", [("p0", 1.0, 100), ("p1", 2.0, 100), ("p2", 5.0, 200)])
    start = said("start", [("p0", 2.0, 95), ("p1", 2.0, 90), ("p2", 1.0, 100)])
    part = length_matched(policy, start)
    assert part.result.metric("win").value == pytest.approx(1.5 / 3)
    matched = part.result.metric("win/matched")
    assert (matched.value, matched.n) == (pytest.approx(0.25), 2)
    assert part.result.metric("by_length").value == pytest.approx(0.25)
    by_bin = {row["length of policy / start"]: (row["value"], row["meetings"]) for row in part.result.table}
    assert by_bin == {
        "below 0.5": (None, 0),
        "0.5 to 0.8": (None, 0),
        "0.8 to 1.25": (pytest.approx(0.25), 2),
        "1.25 to 2": (None, 0),
        "2 and more": (1.0, 1),
    }


def test_a_prompt_counts_once_however_many_answers_it_has() -> None:
    """p0 meets 2 x 1 times, both won; p1 once, lost: one half, not two thirds."""
    policy = said("dpo", [("p0", 9.0, 10), ("p0", 9.0, 10), ("p1", 1.0, 10)])
    start = said("start", [("p0", 5.0, 10), ("p1", 5.0, 10)])
    assert length_matched(policy, start).result.metric("win").value == pytest.approx(0.5)


def test_the_same_text_on_both_sides_is_no_meeting() -> None:
    """p0 has the same text, which would be a tie at equal length; p1 and p2 of about the same length are both won."""
    policy = said("dpo", [("p0", 1.0, 10), ("p1", 2.0, 10), ("p2", 2.0, 10)])
    start = said("start", [("p0", 1.0, 10), ("p1", 1.0, 10), ("p2", 1.0, 10)])
    same = Answers("start", start.frame.with_columns(text=pl.Series(["dpo 0", "start 1", "start 2"])))
    part = length_matched(policy, same)
    assert (part.result.metric("win").value, part.result.metric("win/matched").value) == (1.0, 1.0)
    assert any(note.startswith("1 of 3 meetings") for note in part.result.notes)
    with pytest.raises(InputError, match="nothing to compare"):
        length_matched(policy, Answers("start", start.frame.with_columns(text=policy.frame["text"])))


def wins_by(score, seed: int = 0) -> tuple[Answers, Answers]:
    """150 prompts; a third of the policy's answers as long as the start's, the others 1.5 or 3 times as long."""
    draw = np.random.default_rng(seed)
    base = draw.integers(50, 100, 150)
    factor = np.array([1.0, 1.5, 3.0])[np.arange(150) % 3]
    start = said("start", [(f"p{i}", draw.normal(), int(each)) for i, each in enumerate(base)])
    rows = [(f"p{i}", score(factor[i], draw.normal()), int(each * factor[i])) for i, each in enumerate(base)]
    return said("dpo", rows), start


def test_wins_that_come_from_length_are_a_warning() -> None:
    part = length_matched(*wins_by(lambda factor, noise: noise + 3 * (factor > 1)))
    (finding,) = part.findings
    assert finding.level == "warning"
    assert part.result.metric("by_length").low > 0
    assert finding.low < 0.5 < part.result.metric("win").low


def test_wins_at_every_length_are_fine() -> None:
    (finding,) = length_matched(*wins_by(lambda factor, noise: noise + 2)).findings
    assert finding.level == "fine"
    assert finding.low > 0.5


def test_where_no_lengths_match_there_is_no_finding() -> None:
    part = length_matched(said("dpo", [("p0", 1.0, 100)]), said("start", [("p0", 1.0, 10)]))
    assert part.findings == ()
    assert any("nothing is matched" in note for note in part.result.notes)


def test_of_a_model_asked_for_goals_the_answers_to_the_highest_are_compared() -> None:
    policy = said("ra", [("p0", 1.0, 10), ("p0", 9.0, 40)], goal=[2.0, 10.0])
    start = said("start", [("p0", 5.0, 20), ("p0", 5.0, 77)], goal=[None, 10.0])
    assert length_drift(policy, start).result.metric("difference").value == 20.0
    assert length_matched(policy, start).result.metric("win").value == 1.0


def test_what_is_not_known_is_refused_with_the_remedy() -> None:
    known, unknown = said("a", [("p0", 1.0, 10)]), said("b", [("p0", 1.0, None)])
    with pytest.raises(InputError, match="b has no answers of known length"):
        length_drift(known, unknown)
    with pytest.raises(InputError, match="b has no scored answers"):
        length_matched(known, unknown)
    with pytest.raises(InputError, match="no prompt in common"):
        length_drift(known, said("c", [("other", 1.0, 10)]))
    here = tabular.bench(prompts=5)
    with pytest.raises(InputError, match="probe step 0"):
        length_reward(tabular.probes(here, {"none": {10: here.start}}), subject="dpo")


def test_answers_that_got_shorter_are_told_so_and_not_of_answers_that_get_longer() -> None:
    start = said("start", [(f"p{i}", 1.0, 100 + i % 3) for i in range(30)])
    for factor, level in ((0.8, "note"), (0.3, "warning")):
        policy = said("dpo", [(f"p{i}", 1.0, round(factor * (100 + i % 3))) for i in range(30)])
        (finding,) = length_drift(policy, start).findings
        assert finding.level == level
        assert "shorter" in finding.means
        assert "lengthens" not in finding.means
        assert "charges for length (a penalty" not in finding.remedy  # that would shorten them further
    same = length_drift(start, start).findings[0]
    assert (same.level, same.remedy) == ("fine", "")


def test_log_ratios_that_are_not_finite_are_counted_out() -> None:
    """Of the planted slope 0.5 nothing is lost when two answers have none; without any there is one sentence."""
    here = tabular.bench(seed=5, prompts=30)
    seen = tabular.probes(here, {"none": {0: here.start, 10: here.start + 0.5 * here.length}})
    late = pl.col("step") == 10

    def broken(where: pl.Expr) -> Probes:
        rows = seen.rows.with_columns(logp=pl.when(where).then(math.nan).otherwise("logp"))
        return Probes(seen.about, seen.steps, rows, seen.samples, seen.credit)

    part = length_reward(broken(late & (pl.col("pair") == 3)), subject="dpo")
    assert part.result.metric("gamma").value == pytest.approx(0.5)
    assert part.result.metric("r2").value == pytest.approx(1.0)
    assert part.result.notes == ("2 log-ratios are not finite and are left out.",)
    assert part.result.table[-1]["answers"] == 58
    with pytest.raises(InputError, match="training has diverged"):
        length_reward(broken(pl.lit(True)), subject="dpo")
