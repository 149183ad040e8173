"""Displacement against hand arithmetic and the identity of arXiv 2404.12358 on exact tables."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from diagnose.tabular import Bench, Table, bench, dpo_minimiser, kl, normalised, probes, tilted
from pairwright.diagnose.displacement import displacement, displacement_of_logs
from pairwright.diagnose.finding import Part
from pairwright.errors import InputError

HERE = bench(seed=5)


def levels(part: Part) -> dict[str, str]:
    return {each.check: each.level for each in part.findings}


def metric(part: Part, name: str) -> float:
    found = part.result.metric(name).value
    assert found is not None
    return found


def three(prompts: int = 20) -> Bench:
    """Three answers of probability 0.5, 0.3, 0.2; the first chosen, the second rejected."""
    return Bench(
        start=np.log(np.tile([0.5, 0.3, 0.2], (prompts, 1))),
        score=np.tile([9.0, 4.0, 1.0], (prompts, 1)),
        length=np.tile([5, 10, 4], (prompts, 1)),
        pairs=np.array([[prompt, 0, 1] for prompt in range(prompts)]),
    )


def to(here: Bench, shares: list[float]) -> Part:
    last: Table = np.log(np.tile(shares, (len(here.start), 1)))
    return displacement(probes(here, {"none": {0: here.start, 50: last}}), subject="x", draws=100)


def test_by_hand() -> None:
    """From (0.5, 0.3) to (0.4, 0.1): log 0.8, log 1/3, and together log(0.5 / 0.8)."""
    part = to(three(), [0.4, 0.1, 0.5])
    assert metric(part, "change_sum/chosen") == pytest.approx(math.log(0.8))
    assert metric(part, "change_sum/rejected") == pytest.approx(math.log(1 / 3))
    assert metric(part, "change_mean/chosen") == pytest.approx(math.log(0.8) / 5)
    assert metric(part, "change_mean/rejected") == pytest.approx(math.log(1 / 3) / 10)
    assert metric(part, "both") == pytest.approx(math.log(5 / 8))
    assert metric(part, "both_fell") == 1.0
    last = part.result.table[-1]
    assert last["logp_sum_chosen"] == pytest.approx(math.log(0.4))
    assert last["logp_mean_rejected"] == pytest.approx(math.log(0.1) / 10)


@pytest.mark.parametrize(
    ("shares", "displaced", "both"),
    [
        ([0.4, 0.1, 0.5], "warning", "warning"),  # both to the third
        ([0.7, 0.1, 0.2], "fine", "fine"),  # what the pair asks for
        ([0.5, 0.3, 0.2], "fine", "fine"),  # nothing moved
        ([0.45, 0.35, 0.2], "warning", "fine"),  # the chosen one falls, to the rejected one
        ([0.6, 0.1, 0.3], "fine", "note"),  # the chosen one rises, and the pair as a whole falls
    ],
)
def test_the_findings_fire_on_planted_cases_alone(shares: list[float], displaced: str, both: str) -> None:
    assert levels(to(three(), shares)) == {"likelihood_displacement": displaced, "both_fell": both}


def test_where_the_start_wrote_the_chosen_answers_their_change_is_minus_the_divergence() -> None:
    """Mean over y ~ start of log(pi(y) / start(y)) = -KL(start || pi) <= 0, arXiv 2404.12358; exact, as the chosen
    answers are those of the start in their proportions: 4, 2 and 1 of 7, the last rejected answer another one.
    """
    prompts = 12
    start = np.log(np.tile([4 / 7, 2 / 7, 1 / 7], (prompts, 1)))
    rows = [(p, c, (c + 1) % 3) for p in range(prompts) for c in (0, 0, 0, 0, 1, 1, 2)]
    here = Bench(start, np.tile([9.0, 5.0, 1.0], (prompts, 1)), np.full((prompts, 3), 6), np.array(rows))
    policy = normalised(start + np.random.default_rng(0).standard_normal(start.shape))
    part = displacement(probes(here, {"none": {0: start, 9: policy}}), subject="x", draws=50)
    backward = float(kl(start, policy).mean())
    assert backward > 0
    assert metric(part, "change_sum/chosen") == pytest.approx(-backward, abs=1e-12)
    assert levels(part)["likelihood_displacement"] == "warning"
    assert "-KL(start || pi)" in part.findings[0].means


def test_the_numbers_of_a_trained_table_are_those_of_its_closed_form() -> None:
    beta = 3.0
    last = dpo_minimiser(HERE, beta=beta)
    part = displacement(probes(HERE, {"none": {0: HERE.start, 7: last}}), subject="x", draws=50)
    log_z = np.log((np.exp(HERE.start) * np.exp(HERE.score / beta)).sum(axis=1))
    p, c, r = HERE.pairs.T
    chosen, rejected = HERE.score[p, c] / beta - log_z[p], HERE.score[p, r] / beta - log_z[p]
    then = np.log(np.exp(HERE.start[p, c]) + np.exp(HERE.start[p, r]))
    now = np.log(np.exp(HERE.start[p, c] + chosen) + np.exp(HERE.start[p, r] + rejected))
    assert metric(part, "change_sum/chosen") == pytest.approx(chosen.mean(), abs=1e-12)
    assert metric(part, "change_sum/rejected") == pytest.approx(rejected.mean(), abs=1e-12)
    assert metric(part, "both") == pytest.approx((now - then).mean(), abs=1e-12)
    assert metric(part, "both_fell") == pytest.approx(((chosen < 0) & (rejected < 0)).mean())


def test_other_ways_of_asking_get_names_of_their_own_and_own_scores_are_left_out() -> None:
    last = tilted(HERE.start, HERE.score)
    tables = {0: HERE.start, 3: last}
    part = displacement(probes(HERE, {"none": tables, "top": tables, "own": tables}), subject="x", draws=20)
    names = [each.name for each in part.result.metrics]
    assert "both/top" in names
    assert not [name for name in names if name.endswith("/own")]
    assert metric(part, "change_sum/chosen") == metric(part, "change_sum/chosen/top")


def test_a_step_that_one_way_of_asking_lacks_is_no_row() -> None:
    tables = {"none": {0: HERE.start, 3: HERE.start, 6: HERE.start}, "top": {0: HERE.start, 6: HERE.start}}
    part = displacement(probes(HERE, tables), subject="x", draws=20)
    rows = [(row["step"], row["asked"]) for row in part.result.table]
    assert rows == [(0, "none"), (3, "none"), (6, "none"), (0, "top"), (6, "top")]


def test_a_pair_without_its_other_side_is_left_out() -> None:
    seen = probes(HERE, {"none": {0: HERE.start, 3: tilted(HERE.start, HERE.score)}})
    lonely = seen.rows.filter(~((pl.col("pair") == 0) & (pl.col("side") == "rejected")))
    assert displacement(replace(seen, rows=lonely), subject="x", draws=20).result.n == len(HERE.pairs) - 1


def test_charts_carry_the_tables_numbers() -> None:
    part = to(three(), [0.4, 0.1, 0.5])
    change = part.charts[0]
    assert [series.name for series in change.series] == ["chosen", "rejected", "both together", "start"]
    assert change.series[2].y == pytest.approx([0.0, math.log(5 / 8)])
    assert change.series[-1].reference


def logged(slope: float, lines: int = 40, seed: int = 0) -> list[Mapping[str, Any]]:
    noise = np.random.default_rng(seed).standard_normal((lines, 2))
    return [
        {
            "step": 5 * (i + 1),
            "loss": 0.6,
            "logps/chosen": -80 + slope * i + float(noise[i, 0]),
            "logps/rejected": -90 + 2 * slope * i + float(noise[i, 1]),
        }
        for i in range(lines)
    ]


def test_a_falling_log_is_a_note_and_no_more() -> None:
    """Lines 33 to 40 against 1 to 8: 32 lines apart, so -0.5 a line is -16 and twice that for the rejected ones."""
    part = displacement_of_logs(logged(-0.5), subject="x")
    assert levels(part) == {"likelihood_displacement": "note"}
    assert metric(part, "difference/chosen") == pytest.approx(-16, abs=1.5)
    assert metric(part, "difference/rejected") == pytest.approx(-32, abs=1.5)
    assert metric(part, "trend/chosen") < -0.9


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_a_level_or_rising_log_is_fine(slope: float) -> None:
    assert levels(displacement_of_logs(logged(slope), subject="x")) == {"likelihood_displacement": "fine"}


def test_lines_of_another_kind_and_their_order_do_not_matter() -> None:
    rows = logged(-0.5)
    others: list[Mapping[str, Any]] = [
        {"step": 1, "eval_loss": 0.6},
        {"step": 200, "train_runtime": 3.0},
        {"step": 2, "logps/chosen": None, "logps/rejected": -3.0},
        {"step": 3, "logps/chosen": math.nan, "logps/rejected": -3.0},
    ]
    assert displacement_of_logs([*others, *reversed(rows)], subject="x") == displacement_of_logs(rows, subject="x")


def test_too_short_a_log_says_what_to_do() -> None:
    with pytest.raises(InputError, match=r"^4 lines of the log .* probe_every$"):
        displacement_of_logs(logged(-1.0, lines=4), subject="x")


def test_what_rounding_moves_is_no_fall() -> None:
    """Both sides of each pair 3e-6 nats below the start, as float32 leaves them; 1e-3 nats is a fall."""
    here = three()
    for change, share in ((-3e-6, 0.0), (-1e-3, 1.0)):
        part = displacement(probes(here, {"none": {0: here.start, 50: here.start + change}}), subject="x", draws=50)
        assert metric(part, "both_fell") == share
