"""Claims about variants of relabelling: planted gold must give the planted verdict, and the opposite the opposite."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from pairwright.errors import PairwrightError
from pairwright.reproduce.claim import Outcome, Setup
from pairwright.reproduce.language import bench, data_variants, job, variants
from pairwright.reproduce.language.arms import PLAIN, RA
from pairwright.reproduce.language.claims_variants import VARIANTS
from pairwright.reproduce.language.data import Given
from pairwright.reproduce.language.setting import TOP, Arm, Base, Call, Job, Tuned, World
from pairwright.reproduce.language.training import opened, with_references
from pairwright.stats import Interval
from pairwright.train.scratch import scratch
from pairwright.worlds import language

SETUP = Setup(seeds=3)
QUICK = Setup(seeds=2, quick=True)
Worth = Callable[[Any], float]
Planted = Callable[..., list[Any]]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Planted:
    """Put numbers in place of trainings: what each is worth, and what instructions and seeds add; the base has 5."""

    def plant(worth: Worth, marks: Callable[[Any, str], float] | None = None) -> list[Any]:
        asked: list[Any] = []

        def found(work: Job | Call) -> dict[str, Any]:
            task = work if isinstance(work, Job) else SimpleNamespace(**dict(work.settings), measures=())
            value = 5.0 if task.arm is None else marks(task, "gold") if marks else worth(task)
            chance = np.random.default_rng(0).normal(0, 0.5, task.prompts)
            shift = np.random.default_rng(task.seed).normal(0, 0.05)
            told: dict[str, Any] = {
                of: {
                    job.said(goal): (chance + shift + (marks(task, of) if marks and task.arm else value)).tolist()
                    for goal in task.goals
                }
                for of in ("gold", *variants.ATTRIBUTES)
            }
            told["measures"] = {name: {"flip_rate": 0.25, "spearman": 0.5} for name in task.measures}
            return told | {"seconds": 2.0}

        def run_jobs(works: Iterable[Any], *, label: str) -> dict[Any, Any]:
            every = list(works)
            asked.extend(each for each in every if isinstance(each, Call) or each.arm is not None)
            return {work: found(work) for work in every}

        monkeypatch.setattr(bench, "run_jobs", run_jobs)
        monkeypatch.setattr(variants, "run_jobs", run_jobs)
        monkeypatch.setattr(bench, "DRAWS", 200)
        return asked

    return plant


def by_arm(worth: dict[str, float]) -> Worth:
    """The worth of an arm by its name; 5 for others."""
    return lambda task: worth.get(task.arm.name, 5.0)


def check(outcome: Outcome, verdict: str) -> None:
    assert outcome.verdict == verdict
    assert outcome.seconds
    json.dumps(outcome.model_dump(mode="json"), allow_nan=False)


def test_claims_are_known_by_their_names_and_their_checks_are_there() -> None:
    for name, claim in VARIANTS.items():
        assert claim.name == name
        assert claim.world == "language"
        module, _, function = claim.check.partition(":")
        assert module == variants.__name__
        assert callable(getattr(variants, function))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_quick_look_gives_an_outcome_of_json_values(planted: Planted, name: str) -> None:
    planted(lambda task: 5.0)
    outcome = VARIANTS[name].run(QUICK)
    json.dumps(outcome.model_dump(mode="json"), allow_nan=False)
    assert len({metric.name for metric in outcome.metrics}) == len(outcome.metrics) > 0


@pytest.mark.parametrize(("a_point", "verdict"), [(0.2, "holds"), (-0.2, "does not hold"), (0.0, "not identified")])
def test_the_worth_of_negative_copies_is_compared_between_judges(
    planted: Planted, a_point: float, verdict: str
) -> None:
    """With `5 + 0.2 noise` for RA and 5 for RA+ the difference rises from 0 to 0.8 over four points of noise."""
    asked = planted(lambda task: 5.0 + (a_point * task.world.noise if task.arm.name == "ra" else 0.0))
    outcome = variants.ra_plus_and_noise(SETUP)
    check(outcome, verdict)
    assert outcome.metric("rise").value == pytest.approx(4 * a_point, abs=1e-9)
    assert outcome.metric("gain/2").value == pytest.approx(2 * a_point, abs=1e-9)
    tuning = [(each.world.noise, each.arm.name) for each in asked if each.part == "validation"]
    assert len({tuning.count(key) for key in tuning}) == 1, "every arm is tried equally often in every world"
    assert set(tuning) == {(noise, name) for noise in (0.0, 2.0, 4.0) for name in ("ra", "ra_plus")}


@pytest.mark.parametrize(
    ("high", "low", "verdict"), [(5, 6, "holds"), (6, 5, "does not hold"), (5, 5, "not identified")]
)
def test_high_negative_copies_are_worth_more_where_their_loss_costs_more(
    planted: Planted, high: float, low: float, verdict: str
) -> None:
    planted(by_arm({"filter_high": high, "filter_low": low}))
    outcome = variants.filter_high_low(SETUP)
    check(outcome, verdict)
    assert outcome.metric("without_high").value == pytest.approx(high - 5, abs=1e-9)
    assert outcome.metric("without_low").value == pytest.approx(low - 5, abs=1e-9)
    rows = {row["arm"]: row["rows"] for row in outcome.table if "rows" in row}
    pairs = job.pairs_of(World(), 0).view("score").select("score_rejected").collect().to_series()
    negative = {"ra": len(pairs), "filter_high": (pairs < 5).sum(), "filter_low": (pairs >= 5).sum()}
    assert rows == {name: len(pairs) + count for name, count in negative.items()}


@pytest.mark.parametrize(
    ("five", "verdict"), [(5.2, "holds"), (4.8, "holds"), (5.9, "does not hold"), (4.1, "does not hold")]
)
def test_scales_count_as_equal_within_half_a_point(planted: Planted, five: float, verdict: str) -> None:
    asked = planted(by_arm({"scale 5": five}))
    outcome = variants.score_scales(SETUP)
    check(outcome, verdict)
    assert outcome.metric("5_less_10").value == pytest.approx(five - 5, abs=1e-9)
    scales = {dict(each.arm.data_settings).get("scale", 10) for each in asked}
    assert scales == {5, 10, 100}
    assert all(each.goals == (TOP,) for each in asked), "a goal is in units of the scores"


def test_equivalence_needs_every_interval_within_the_margin() -> None:
    inside, wide, beyond = Interval(0.1, -0.3, 0.5, 5), Interval(0.1, -0.4, 0.6, 5), Interval(-0.8, -1.0, -0.6, 5)
    assert variants.equal_within(0.5, [inside, inside]) == "holds"
    assert variants.equal_within(0.5, [inside, wide]) == "not identified"
    assert variants.equal_within(0.5, [inside, wide, beyond]) == "does not hold"


@pytest.mark.parametrize(("own", "verdict"), [(6.0, "holds"), (4.0, "does not hold"), (5.0, "not identified")])
def test_the_model_s_own_scores_are_compared_with_none(planted: Planted, own: float, verdict: str) -> None:
    asked = planted(by_arm({"ira": own, "ra": 7.0}))
    outcome = variants.ira(SETUP)
    check(outcome, verdict)
    assert outcome.metric("against_ra").value == pytest.approx(own - 7, abs=1e-9)
    assert outcome.metric("flip_rate").value == pytest.approx(0.25)
    plain = {each.tuned for each in asked if each.arm.name == "plain" and each.part == "test"}
    assert {dict(each.arm.data_settings)["first"] for each in asked if each.arm.name == "ira"} == plain


@pytest.mark.parametrize(("gain", "verdict"), [(1.0, "holds"), (-1.0, "does not hold"), (0.0, "not identified")])
def test_a_second_round_is_compared_with_its_start(planted: Planted, gain: float, verdict: str) -> None:
    def worth(task: Any) -> float:
        """Later rounds and the largest rate are better, so that tuning must find that rate for the first round."""
        second = hasattr(task, "first")
        return 5.0 + task.tuned.rate + (gain if second and task.arm == RA else 0.25 if second else 0.0)

    asked = planted(worth)
    outcome = variants.second_round(SETUP)
    check(outcome, verdict)
    assert outcome.metric("gain").value == pytest.approx(gain, abs=1e-9)
    assert outcome.metric("against_plain_again").value == pytest.approx(gain - 0.25, abs=1e-9)
    calls = [dict(each.settings) for each in asked if isinstance(each, Call)]
    assert {each["first"].rate for each in calls} == {max(bench.RATES)}
    of = {arm.name: [each for each in calls if each["arm"] == arm] for arm in (RA, PLAIN)}
    assert len(of["ra"]) == len(of["plain"]), "both second rounds have the same budget"
    tuned_alone = [each for each in asked if isinstance(each, Job) and each.arm == RA and each.part == "validation"]
    again = [each for each in of["ra"] if each["part"] == "validation"]
    assert len(set(map(repr, again))) == len(set(tuned_alone)), "and that of a first one"


@pytest.mark.parametrize(("courtesy", "verdict"), [(9.0, "holds"), (1.0, "does not hold"), (5.0, "not identified")])
def test_attributes_are_compared_by_their_mean_mark(planted: Planted, courtesy: float, verdict: str) -> None:
    """Courtesy alone differs, by 4, so the mean of three by 4/3."""

    def marks(task: Any, of: str) -> float:
        return courtesy if of == "courtesy" and isinstance(task.arm.goal, tuple) else 5.0

    asked = planted(lambda task: 5.0, marks)
    outcome = variants.multi_attribute(SETUP)
    check(outcome, verdict)
    assert outcome.metric("gain").value == pytest.approx((courtesy - 5) / 3, abs=1e-9)
    assert outcome.metric("apart/courtesy").value == pytest.approx(courtesy - 5, abs=1e-9)
    assert outcome.metric("apart/brevity").value == pytest.approx(0, abs=1e-9)
    assert {each.arm.goal for each in asked} == {None, TOP, (TOP, TOP, TOP)}


@pytest.mark.parametrize(("gain", "verdict"), [(1.0, "holds"), (-1.0, "does not hold"), (0.0, "not identified")])
def test_algorithm_1_is_compared_with_the_bare_loss(planted: Planted, gain: float, verdict: str) -> None:
    """Of two weights the second is better for each arm; tuning RA alone would choose a likelihood term."""

    def worth(task: Any) -> float:
        tuned, arm = task.tuned, task.arm
        if arm.anchor:
            return 5.0 + gain + (0.5 if tuned.sft == variants.SUMMED_WEIGHTS[1] else 0.0) - 0.5
        return 5.0 + (tuned.sft == bench.SFT) * 0.125 + (tuned.sft == variants.WEIGHTS[1]) * 0.25

    asked = planted(worth)
    outcome = variants.algorithm_1(SETUP)
    check(outcome, verdict)
    assert outcome.metric("algorithm_1").value == pytest.approx(gain, abs=1e-9)
    assert outcome.metric("likelihood").value == pytest.approx(0.25, abs=1e-9)
    last = {each.arm.name: each for each in asked if each.part == "test"}
    assert last["ra"].tuned.sft == last["ra"].tuned.smoothing == 0.0
    assert last["ra + algorithm 1"].tuned.sft == variants.SUMMED_WEIGHTS[1]
    assert last["ra + smoothing"].tuned.smoothing in variants.SMOOTHINGS
    assert len({(each.tuned.rate, each.tuned.strength) for each in last.values()}) == 1
    assert [job.terms(each.arm, each.tuned)[1:] for each in last.values()] == [
        [],
        [{"name": "sft", "weight": variants.WEIGHTS[1]}],
        [{"name": "goal_sft", "weight": variants.SUMMED_WEIGHTS[1]}],
        [],
    ]


@pytest.mark.parametrize(("power", "verdict"), [(-0.5, "holds"), (0.5, "does not hold")])
def test_the_gap_falls_where_it_was_planted_to_fall(planted: Planted, power: float, verdict: str) -> None:
    asked = planted(lambda task: TOP - 4 * (task.world.prompts / 180) ** power)
    outcome = variants.gap_falls_with_pairs(SETUP)
    check(outcome, verdict)
    assert outcome.metric("slope").value == pytest.approx(power, abs=0.1)  # the planted chance shifts the gaps
    assert {each.world.prompts for each in asked if each.part == "validation"} == {720}, "tuned with the most alone"
    assert len({each.tuned for each in asked if each.part == "test"}) == 1


def test_the_power_of_a_gap_is_the_slope_of_logarithms() -> None:
    """Gaps `3 / sqrt(N)` and `2 N`: powers -1/2 and 1."""
    sizes = (10, 40, 90)
    gaps = [[3 / size**0.5, 2.0 * size] for size in sizes]
    assert variants.slopes(sizes, gaps) == pytest.approx([-0.5, 1.0])


PLANTED = World(prompts=24, steps=2, base=Base(seed=987_654))


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, dict[int, float]]:
    """Pairs of the world, their relabelling by planted implicit rewards, and these rewards by answer."""
    prefs = job.pairs_of(PLANTED, 0)
    ids = prefs.pairs.select("chosen_id", "rejected_id").collect().rows()
    draw = np.random.default_rng(5)
    old, new = draw.normal(-20, 3, (2, len(ids), 2))
    rows = [SimpleNamespace(refs=tuple(each)) for each in old.tolist()]
    after = [SimpleNamespace(refs=tuple(each)) for each in new.tolist()]
    monkeypatch.setattr(data_variants.work, "rows_of", lambda world, arm, seed: rows)
    monkeypatch.setattr(data_variants.work, "policy_of", lambda world, arm, tuned, seed: "trained")
    monkeypatch.setattr(data_variants, "with_references", lambda model, given: after if model == "trained" else given)
    reward = dict(zip(np.ravel(ids).tolist(), (0.1 * (new - old)).ravel().tolist(), strict=True))
    given = Given(world=PLANTED, model=None, tokenizer=None, seed=0)
    made = data_variants.own_scores(prefs, given, first=Tuned(rate=1e-4, strength=0.1))
    return prefs, made, reward


def test_own_scores_are_implicit_rewards_on_one_line_for_all_answers(own: tuple[Any, Any, dict[int, float]]) -> None:
    """Every goal is `1 + 9 clip((reward - p1) / (p99 - p1), 0, 1)` of its own chosen side, by numpy's percentiles."""
    prefs, made, reward = own
    low, high = np.percentile(list(reward.values()), [1, 99])
    pairs = made.pairs.collect()
    assert len(pairs) > 1.8 * len(prefs.pairs.collect()), "both copies of nearly all"
    for row in pairs.iter_rows(named=True):
        wanted = 1 + 9 * np.clip((reward[row["chosen_id"]] - low) / (high - low), 0, 1)
        assert row["goal"] == pytest.approx(wanted, abs=1e-9)
    assert pairs.filter(pl.col("copy") == "positive")["goal"].max() <= 10
    assert prefs.responses.collect().columns == job.pairs_of(PLANTED, 0).responses.collect().columns, (
        "nobody's data change"
    )


def test_flips_are_pairs_whose_own_scores_disagree_with_the_label(
    own: tuple[Any, Any, dict[int, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    prefs, made, reward = own
    arm = Arm(name="ira", data="planted:planted")
    monkeypatch.setattr(data_variants.work, "made", lambda world, arm, seed: made)
    work = Job(world=PLANTED, arm=arm, tuned=Tuned(rate=1e-4, strength=0.1), seed=0)
    found = data_variants.agreement(work, None, None, None)
    used = set(made.pairs.collect()["source_pair"].to_list())
    pairs = [row for at, row in enumerate(prefs.pairs.collect().iter_rows(named=True)) if at in used]
    flips = [reward[row["chosen_id"]] < reward[row["rejected_id"]] for row in pairs]
    assert found["pairs"] == len(pairs)
    assert found["flip_rate"] == pytest.approx(np.mean(flips), abs=1e-6)
    assert 0 < found["flip_rate"] < 1
    assert -1 <= found["spearman"] <= 1
    with pytest.raises(PairwrightError, match="the base was relabelled by nothing"):
        data_variants.agreement(replace(work, arm=None), None, None, None)


def test_own_scores_refuse_examples_that_are_not_one_for_each_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_variants.work, "rows_of", lambda world, arm, seed: [])
    given = Given(world=PLANTED, model=None, tokenizer=None, seed=0)
    with pytest.raises(PairwrightError, match="have no owners"):
        data_variants.own_scores(job.pairs_of(PLANTED, 0), given, first=Tuned(rate=1e-4, strength=0.1))


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A model of random weights in place of the base."""
    place = tmp_path / "tiny"
    scratch(language.text(prompts=300), output=place, kind="word", hidden_size=16, layers=1, heads=2, max_length=96)
    model, tokenizer = opened(place)
    monkeypatch.setattr(job, "base_of", lambda base: (model, tokenizer))
    caches = (job.rows_of, job.made, data_variants._start)
    yield model
    for each in caches:
        each.cache_clear()


def test_a_second_round_starts_from_the_first_and_is_compared_with_it(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its references are the first model's log-probabilities, not the base's, and its start is left as it was."""
    seen: dict[str, Any] = {}
    first = Tuned(rate=1e-2, strength=0.1)
    start = data_variants._start(PLANTED, first, 0)
    before = [weights.clone() for weights in start.parameters()]

    def trained(model: Any, rows: Any, loss: Any, **told: Any) -> Any:
        seen.update(model=model, rows=rows, loss=loss, **told)
        return work_trained(model, rows, loss, **told)

    work_trained = data_variants.trained
    monkeypatch.setattr(data_variants, "trained", trained)
    told = {"world": PLANTED, "first": first, "arm": RA, "seed": 0, "part": "test", "goals": (TOP, None), "prompts": 3}
    found = data_variants.second_round(**told, tuned=Tuned(rate=1e-2, strength=1.0, sft=0.3))  # type: ignore[arg-type]
    assert [len(found["gold"][key]) for key in ("10", "none")] == [3, 3]
    assert all(1 <= each <= 10 for each in found["gold"]["10"])
    assert seen["loss"] == [{"name": "dpo", "beta": 1.0}, {"name": "sft", "weight": 0.3}]
    assert (seen["steps"], seen["rate"], seen["kind"]) == (2, 1e-2, "pairs")
    base = job.rows_of(PLANTED, RA, 0)
    ours = np.array([row.refs for row in seen["rows"]])
    assert ours == pytest.approx(np.array([row.refs for row in with_references(start, base)]))
    assert np.abs(ours - np.array([row.refs for row in base])).max() > 1e-3
    assert all((one == two).all() for one, two in zip(before, start.parameters(), strict=True))
