"""Unlearning against closed forms: DPO's minimiser has `log pi - log start = score / beta - log Z` for every answer."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from diagnose.tabular import Bench, Table, asked_own, bench, dpo_minimiser, probes, tilted
from pairwright.diagnose.unlearning import unlearning
from pairwright.errors import InputError
from pairwright.evaluate.result import Metric
from pairwright.probes.store import Probes

HERE = bench(seed=3, per_prompt=2)
BETA = 2.0


def log_ratio(here: Bench, beta: float) -> Table:
    """score / beta - log sum_y start(y) exp(score(y) / beta), [P, K]; no table of the bench takes part."""
    weight = (np.exp(here.start) * np.exp(here.score / beta)).sum(axis=1, keepdims=True)
    table: Table = here.score / beta - np.log(weight)
    return table


def rejected(here: Bench, low: float, high: float = np.inf) -> list[tuple[int, int]]:
    """Different rejected answers (prompt, answer) with low <= score < high."""
    places = {(int(prompt), int(answer)) for prompt, _, answer in here.pairs}
    return sorted(place for place in places if low <= here.score[place] < high)


def of(table: Table, places: list[tuple[int, int]]) -> Table:
    return np.array([table[place] for place in places])


def value(metric: Metric) -> float:
    assert metric.value is not None
    return metric.value


def trained(here: Bench = HERE, beta: float = BETA) -> Probes:
    last = dpo_minimiser(here, beta=beta)
    halfway = dpo_minimiser(here, beta=2 * beta)
    return probes(
        here,
        {"none": {0: here.start, 10: halfway, 20: last}, "own": {0: here.start, 20: asked_own(here, beta=beta)}},
        beta=beta,
    )


def test_the_change_of_good_rejected_answers_is_that_of_the_closed_form() -> None:
    found = unlearning(trained(), subject="dpo", draws=200).result
    good, bad = rejected(HERE, 5), rejected(HERE, -np.inf, 5)
    ratio = log_ratio(HERE, BETA)
    assert len(good) < len(HERE.pairs)
    assert value(found.metric("change_sum/none")) == pytest.approx(of(ratio, good).mean(), abs=1e-12)
    assert value(found.metric("change_mean/none")) == pytest.approx(
        (of(ratio, good) / of(HERE.length, good)).mean(), abs=1e-12
    )
    assert value(found.metric("change_below/none")) == pytest.approx(of(ratio, bad).mean(), abs=1e-12)
    assert value(found.metric("start_sum/none")) == pytest.approx(of(HERE.start, good).mean(), abs=1e-12)
    assert value(found.metric("logp_sum/none")) == pytest.approx(of(HERE.start + ratio, good).mean(), abs=1e-12)


def test_an_answer_that_is_rejected_in_several_pairs_counts_once() -> None:
    twice = replace(HERE, pairs=np.concatenate([HERE.pairs, HERE.pairs]))
    once, again = (unlearning(trained(each), subject="x", draws=50).result for each in (HERE, twice))
    assert once.n == again.n == len(rejected(HERE, 5))
    assert once.metric("change_sum/none") == again.metric("change_sum/none")


def test_intervals_are_over_prompts() -> None:
    found = unlearning(trained(), subject="x").result.metric("change_sum/none")
    good = rejected(HERE, 5)
    assert found.n == len({prompt for prompt, _ in good}) < len(good)
    # A bootstrap of means by prompt, drawn here by other means: sums and counts of prompts under multinomial weights.
    prompts = sorted({prompt for prompt, _ in good})
    ratio = log_ratio(HERE, BETA)
    sums = np.array([sum(ratio[place] for place in good if place[0] == prompt) for prompt in prompts])
    counts = np.array([sum(1 for place in good if place[0] == prompt) for prompt in prompts])
    weights = np.random.default_rng(99).multinomial(len(prompts), [1 / len(prompts)] * len(prompts), size=20000)
    low, high = np.quantile((weights @ sums) / (weights @ counts), [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.1)
    assert found.high == pytest.approx(high, abs=0.1)


def test_under_its_own_score_a_relabelled_answer_gains() -> None:
    """log pi(y | g = r(y)) - log start(y) = -log sum_y' start(y') exp(-(r(y) - r(y'))^2 / beta), which is above 0."""
    part = unlearning(trained(), subject="ra", draws=200)
    good = rejected(HERE, 5)
    expected = [
        -np.log((np.exp(HERE.start[p]) * np.exp(-((HERE.score[p, k] - HERE.score[p]) ** 2) / BETA)).sum())
        for p, k in good
    ]
    assert value(part.result.metric("change_sum/own")) == pytest.approx(np.mean(expected), abs=1e-12)
    assert {each.check: each.level for each in part.findings}["unlearning_own_goal"] == "fine"


def test_the_table_has_a_row_for_each_step_and_each_score() -> None:
    part = unlearning(trained(), subject="x", draws=50)
    table = part.result.table
    steps = [(row["step"], row["asked"]) for row in table if row["scores"] == "at least 5"]
    assert steps == [(0, "none"), (10, "none"), (20, "none"), (0, "own"), (20, "own")]
    by_score = {row["scores"]: row for row in table if row["asked"] == "none" and row["scores"] != "at least 5"}
    ratio = log_ratio(HERE, BETA)
    for score in range(1, 10):
        places = rejected(HERE, score, score + 1)
        if places:
            assert by_score[str(score)]["answers"] == len(places)
            assert by_score[str(score)]["change_sum"] == pytest.approx(of(ratio, places).mean(), abs=1e-12)
    middle = next(row for row in table if row["step"] == 10)
    assert middle["change_sum"] == pytest.approx(of(log_ratio(HERE, 2 * BETA), rejected(HERE, 5)).mean(), abs=1e-12)


def pushed(here: Bench, push: float) -> Probes:
    """Every rejected answer pushed by as much, however good it is."""
    table = np.zeros_like(here.start)
    table[here.pairs[:, 0], here.pairs[:, 2]] = push
    return probes(here, {"none": {0: here.start, 5: tilted(here.start, table)}})


@pytest.mark.parametrize(("push", "level"), [(-3.0, "warning"), (0.0, "fine"), (3.0, "fine")])
def test_the_finding_fires_where_good_answers_fall_and_is_silent_where_they_do_not(push: float, level: str) -> None:
    (finding,) = unlearning(pushed(HERE, push), subject="x").findings
    assert finding.level == level
    assert bool(finding.remedy) == (level == "warning")
    assert (finding.value or 0.0) * push >= 0


def test_a_fall_within_doubt_is_a_note() -> None:
    """One good answer gains 1 nat, the next loses 1.3, and so on: a fall on average that no one would bet on."""
    good = rejected(HERE, 5)
    table = np.zeros_like(HERE.start)
    for number, place in enumerate(good):
        table[place] = (1.0, -1.3)[number % 2]
    (finding,) = unlearning(probes(HERE, {"none": {0: HERE.start, 5: HERE.start + table}}), subject="x").findings
    rises = (len(good) + 1) // 2
    assert finding.value == pytest.approx((rises - 1.3 * (len(good) - rises)) / len(good))
    assert finding.low is not None
    assert finding.high is not None
    assert finding.low < (finding.value or 0.0) < 0 < finding.high
    assert finding.level == "note"


def test_a_fall_that_a_goal_takes_back_is_a_note() -> None:
    table = np.zeros_like(HERE.start)
    table[HERE.pairs[:, 0], HERE.pairs[:, 2]] = -3.0
    both = {"none": {0: HERE.start, 5: tilted(HERE.start, table)}, "own": {0: HERE.start, 5: HERE.start + 0.5}}
    none, own = unlearning(probes(HERE, both), subject="x").findings
    assert (none.level, own.level) == ("note", "fine")
    lost = both | {"own": {0: HERE.start, 5: HERE.start - 0.5}}
    found = unlearning(probes(HERE, lost), subject="x").findings
    assert [each.level for each in found] == ["warning", "warning"]
    assert "Relabel the pairs" not in found[0].remedy  # they are, or nobody could ask for the answer's own score
    plain = unlearning(probes(HERE, {"none": both["none"]}), subject="x").findings[0]
    assert "Relabel the pairs" in plain.remedy


@pytest.mark.parametrize(
    ("scale", "expected"),
    [(lambda score: score, 5.0), (lambda score: score / 10, None), (lambda score: (score + 1) // 2, None)],
    ids=["1 to 10", "0 to 1", "1 to 5"],
)
def test_the_bar_is_the_papers_on_its_scale_and_else_the_median(scale, expected) -> None:  # type: ignore[no-untyped-def]
    here = replace(HERE, score=scale(HERE.score))
    found = unlearning(trained(here), subject="x", draws=20).result
    scores = of(here.score, rejected(here, -np.inf))
    assert found.settings["at_least"] == pytest.approx(np.median(scores) if expected is None else expected)


def test_a_bar_may_be_given() -> None:
    found = unlearning(trained(), subject="x", at_least=7, draws=20).result
    assert found.n == len(rejected(HERE, 7))


def test_the_parts_charts_show_the_tables_numbers() -> None:
    part = unlearning(trained(), subject="x", draws=50)
    by_step, by_score = part.charts
    none = by_step.series[0]
    rows = [row for row in part.result.table if row["scores"] == "at least 5" and row["asked"] == "none"]
    assert none.y == [row["change_sum"] for row in rows]
    assert none.low == [row["change_sum_low"] for row in rows]
    assert by_score.kind == "bar"
    assert [series.name for series in by_score.series] == ["no goal asked", "the answer's own score asked"]


def test_unscored_answers_are_left_out_and_counted() -> None:
    seen = trained()
    first = pl.col("prompt_id") == "p000"
    blind = replace(seen, rows=seen.rows.with_columns(score=pl.when(~first).then(pl.col("score"))))
    notes = unlearning(blind, subject="x", draws=20).result.notes
    lost = len([place for place in rejected(HERE, -np.inf) if place[0] == 0])
    assert f"{lost} rejected answers have no score and are left out." in notes


def test_it_says_what_is_missing() -> None:
    seen = trained()
    with pytest.raises(InputError, match="lower at_least"):
        unlearning(seen, subject="x", at_least=11)
    with pytest.raises(InputError, match="no rejected answer of the probes has a score"):
        unlearning(replace(seen, rows=seen.rows.with_columns(score=pl.lit(None, pl.Float64))), subject="x")
    with pytest.raises(InputError, match="probe_every"):
        unlearning(replace(seen, rows=seen.rows.filter(pl.col("step") == 0)), subject="x")
    late = seen.rows.filter(pl.col("step") > 0).with_columns(start_logp=pl.lit(None, pl.Float64))
    with pytest.raises(InputError, match="before training"):
        unlearning(replace(seen, rows=late), subject="x")
    last = pl.when(pl.col("step") < 20).then(pl.col("logp")).otherwise(float("nan"))
    with pytest.raises(InputError, match="diverged"):
        unlearning(replace(seen, rows=seen.rows.with_columns(logp=last)), subject="x")


def test_step_0_stands_in_for_a_start_that_no_row_names() -> None:
    seen = trained()
    bare = replace(seen, rows=seen.rows.with_columns(start_logp=pl.lit(None, pl.Float64)))
    one, two = (unlearning(each, subject="x", draws=20).result.metric("change_sum/none") for each in (seen, bare))
    assert one == two


def test_the_same_seed_gives_the_same_part() -> None:
    one, two = (unlearning(trained(), subject="x", draws=50, seed=4) for _ in range(2))
    assert one == two


def test_good_answers_of_which_nothing_is_finite_are_refused_with_the_reason() -> None:
    """Others still are, so the probe as a whole can be read."""
    seen = trained()
    good = (pl.col("score") >= 5) & (pl.col("step") == 20)
    rows = seen.rows.with_columns(logp=pl.when(good).then(float("nan")).otherwise("logp"))
    with pytest.raises(InputError, match="at least 5 is finite: training has diverged"):
        unlearning(Probes(seen.about, seen.steps, rows, seen.samples, seen.credit), subject="dpo")
