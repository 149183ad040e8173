"""Relabelled DPO against other methods: that verdicts follow planted marks, and that every rival trains."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest

from pairwright.logprobs.tokenise import Limits
from pairwright.losses import compose
from pairwright.losses.compose import Term
from pairwright.reproduce.claim import Setup
from pairwright.reproduce.language import bench, job, rivals
from pairwright.reproduce.language.arms import PLAIN, RA
from pairwright.reproduce.language.claims_rivals import RIVALS
from pairwright.reproduce.language.data import Given, relabelled
from pairwright.reproduce.language.setting import MAX_LENGTH, MAX_PROMPT, TOP, Arm, Goal, Job, Tuned, World
from pairwright.reproduce.language.training import opened
from pairwright.train.data import group_examples
from pairwright.train.scratch import scratch
from pairwright.worlds import language

QUICK = Setup(seeds=3, quick=True)
WORLD = World(prompts=24)
ARMS = [arm for forms in rivals.FORMS.values() for arm in forms]

Planted = Callable[[dict[str, float]], list[Job]]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Planted:
    """Marks by arm in the place of trainings: each seed and instruction is off by up to 0.1. Gives the jobs asked."""

    def planted(gold: dict[str, float]) -> list[Job]:
        asked: list[Job] = []

        def marks(each: Job, goal: Goal | None) -> list[float]:
            arm = each.arm or Arm(name="base", goal=TOP)
            off = 0.1 * np.random.default_rng(each.seed).uniform(-1, 1, each.prompts)
            return list(gold.get(arm.name if goal == arm.goal else f"{arm.name} asked", 5.0) + off)

        def found(jobs: Iterable[Job], *, label: str) -> dict[Job, dict[str, Any]]:
            asked.extend(given := list(jobs))
            return {
                each: {"gold": {job.said(goal): marks(each, goal) for goal in each.goals}, "seconds": 1.0}
                for each in given
            }

        monkeypatch.setattr(bench, "run_jobs", found)
        monkeypatch.setattr(bench, "DRAWS", 200)
        return asked

    return planted


def test_claims_are_known_by_their_names_and_their_checks_are_there() -> None:
    assert set(RIVALS) == {f"ra_against_{name}" for name in rivals.FORMS} | {"ra_first_of_all"}
    for name, claim in RIVALS.items():
        assert claim.name == name
        assert claim.world == "language"
        module, _, function = claim.check.partition(":")
        assert module == rivals.__name__
        assert function == name.removeprefix("ra_") if name != "ra_first_of_all" else name
        assert callable(getattr(rivals, function))


def test_what_asks_a_rival_is_said_of_those_that_are_asked() -> None:
    asked = {name for name, forms in rivals.FORMS.items() if any(form.goal is not None for form in forms)}
    assert set(rivals.CONDITIONS) == asked


def test_names_of_arms_are_their_own() -> None:
    names = [arm.name for arm in [PLAIN, RA, *ARMS]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("rival", rivals.FORMS)
def test_a_single_claim_trains_its_rival_and_ra_alone(rival: str, plant: Planted) -> None:
    jobs = plant({"ra": 7.0})
    RIVALS[f"ra_against_{rival}"].run(QUICK)
    assert {each.arm for each in jobs} == {None, RA, *rivals.FORMS[rival]}
    assert {each.goals for each in jobs if each.arm == RA} == {(TOP,)}


@pytest.mark.parametrize("rival", rivals.FORMS)
@pytest.mark.parametrize(("other", "verdict", "gain"), [(6.0, "holds", 1.0), (8.0, "does not hold", -1.0)])
def test_the_verdict_follows_the_planted_marks(
    rival: str, other: float, verdict: str, gain: float, plant: Planted
) -> None:
    plant({"ra": 7.0} | {arm.name: other for arm in rivals.FORMS[rival]})
    outcome = RIVALS[f"ra_against_{rival}"].run(QUICK)
    assert outcome.verdict == verdict
    assert outcome.metric("gain").value == pytest.approx(gain)
    assert outcome.seconds == 3.0 * (2 + len(rivals.FORMS[rival]))
    json.dumps(outcome.model_dump(mode="json"), allow_nan=False)


def test_equal_marks_are_not_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise of one point on each mark, whose mean over 3 seeds and 60 instructions is made 0."""

    def found(jobs: Iterable[Job], *, label: str) -> dict[Job, dict[str, Any]]:
        given = {}
        for each in jobs:
            name = "base" if each.arm is None else each.arm.name
            off = np.random.default_rng([each.seed, len(name)]).normal(size=each.prompts)
            given[each] = {
                "gold": {job.said(goal): list(7.0 + off - off.mean()) for goal in each.goals},
                "seconds": 1.0,
            }
        return given

    monkeypatch.setattr(bench, "run_jobs", found)
    outcome = RIVALS["ra_against_ipo"].run(QUICK)
    assert outcome.verdict == "not identified"
    assert outcome.metric("gain").value == pytest.approx(0.0, abs=1e-9)


def test_the_best_form_of_a_rival_counts(plant: Planted) -> None:
    one, other = rivals.FORMS["nca"]
    plant({"ra": 7.0, one.name: 6.0, other.name: 7.5})
    assert RIVALS["ra_against_nca"].run(QUICK).verdict == "does not hold"
    plant({"ra": 7.0, one.name: 6.5, other.name: 6.0})
    outcome = RIVALS["ra_against_nca"].run(QUICK)
    assert outcome.verdict == "holds"
    assert outcome.metric("gain").value == pytest.approx(0.5)


def test_a_rival_that_asks_for_nothing_is_asked_for_10_beside_it(plant: Planted) -> None:
    plant({"ra": 7.0, "kto": 6.0, "kto asked": 7.5, "base": 6.75})
    outcome = RIVALS["ra_against_kto"].run(QUICK)
    assert outcome.verdict == "holds"
    assert outcome.metric("gain_over_asked").value == pytest.approx(-0.5)
    assert outcome.metric("gold/base").value == pytest.approx(6.75, abs=0.05)
    plant({"ra": 7.0, "steerlm": 6.0})
    assert "gain_over_asked" not in {metric.name for metric in RIVALS["ra_against_steerlm"].run(QUICK).metrics}


def test_ra_is_first_only_if_no_method_is_above_it_or_close(plant: Planted) -> None:
    low = {arm.name: 6.0 for arm in [PLAIN, *ARMS]}
    plant(low | {"ra": 7.0})
    first = RIVALS["ra_first_of_all"].run(QUICK)
    assert first.verdict == "holds"
    assert first.table[0]["arm"] == "ra"
    assert first.charts[0].series[0].x[0] == "ra"
    plant(low | {"ra": 7.0, "dpa": 8.0})
    second = RIVALS["ra_first_of_all"].run(QUICK)
    assert second.verdict == "does not hold"
    assert "Above RA: dpa (RA -1.00" in second.says
    assert [row["arm"] for row in second.table[:2]] == ["dpa", "ra"]
    assert second.metric("gain/dpo").value == pytest.approx(1.0)
    json.dumps(second.model_dump(mode="json"), allow_nan=False)


def test_the_ranking_reads_the_trainings_of_the_single_claims(plant: Planted) -> None:
    single: list[Job] = []
    for name in rivals.FORMS:
        jobs = plant({"ra": 7.0})
        RIVALS[f"ra_against_{name}"].run(QUICK)
        single += jobs
    jobs = plant({"ra": 7.0})
    RIVALS["ra_first_of_all"].run(QUICK)
    assert {each for each in jobs if each.arm != PLAIN} == set(single)


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_the_loss_of_every_rival_takes_its_settings(arm: Arm) -> None:
    """A strength that is tuned is a setting of the loss, within its limits, and two values of it are tried."""
    assert len(arm.strengths) == (2 if arm.strength else 1)
    for strength in arm.strengths:
        terms = job.terms(arm, Tuned(rate=1e-4, strength=strength, sft=0.3 if arm.examples == "pairs" else 0.0))
        compose([Term.of(term) for term in terms])


def test_gold_rises_along_the_best_direction() -> None:
    """Of answers that are no refusal, and above the least mark, equal steps along the direction are equal in gold.

    gold = correctness - fillers / 2 and brevity = 10 - 3 fillers / 2, so gold = correctness + brevity / 3 - 10 / 3.
    """
    rng = Random(0)
    task = language.tasks(1, "preferences")[0]
    for _ in range(50):
        marks = language.mark(task, language.answer(task, rng.randint(4, 9), rng))
        along = np.dot(rivals.BEST_DIRECTION, (marks.correctness, marks.brevity))
        assert along * 10**0.5 / 3 - 10 / 3 == pytest.approx(marks.gold)
    assert np.hypot(*rivals.BEST_DIRECTION) == pytest.approx(1.0)


def _given(arm: Arm) -> Any:
    pairs = job.pairs_of(WORLD, 0)
    return relabelled(pairs, Given(world=WORLD, model=None, tokenizer=None, seed=0), **dict(arm.data_settings))


def _scored(prefs: Any, *columns: str) -> pl.DataFrame:
    scores = prefs.responses.select("response_id", "prompt_id", "score", *columns)
    found: pl.DataFrame = (
        prefs.pairs.select("chosen_id", "goal", "weight").join(
            scores, left_on="chosen_id", right_on="response_id", how="left", maintain_order="left"
        )
    ).collect()
    return found


def test_steerlm_learns_every_answer_once_under_its_score() -> None:
    (arm,) = rivals.FORMS["steerlm"]
    prefs = _given(arm)
    rows = _scored(prefs)
    assert rows["chosen_id"].is_unique().all()
    assert len(rows) > 3 * WORLD.prompts
    assert rows["goal"].to_list() == rows["score"].to_list()
    assert prefs.goal_format.say(TOP) == "Overall score: 10."


def test_classes_are_whole_points_and_weigh_by_them() -> None:
    (points,) = rivals.FORMS["c_rlft"]
    prefs = _given(points)
    rows = _scored(prefs)
    assert [goal[0] for goal in rows["goal"].to_list()] == [float(int(score)) for score in rows["score"]]
    assert rows["weight"].to_list() == pytest.approx([int(score) / 10 for score in rows["score"]])
    assert prefs.goal_format.say(list(points.goal or ())) == "Overall score: 10."


def test_dpa_learns_the_answer_that_goes_farthest_its_way() -> None:
    """By numpy: of an instruction's four answers none has more of v1 * correctness + v2 * brevity."""
    (arm,) = rivals.FORMS["dpa"]
    prefs = _given(arm)
    rows = _scored(prefs, "score_correctness", "score_brevity")
    every = prefs.responses.select("prompt_id", "score_correctness", "score_brevity").collect()
    assert rows["prompt_id"].is_unique().all()
    for row in rows.iter_rows(named=True):
        others = every.filter(pl.col("prompt_id") == row["prompt_id"]).drop("prompt_id").to_numpy()
        own = np.dot(row["goal"], (row["score_correctness"], row["score_brevity"]))
        assert own == pytest.approx((others @ np.asarray(row["goal"])).max())
    assert prefs.goal_format.say(list(rivals.BEST_DIRECTION)) == "The target is 95,32."
    assert prefs.goal_format.beyond(list(rivals.BEST_DIRECTION)) is None


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A model of random weights and its tokenizer."""
    place: Path = tmp_path_factory.mktemp("start") / "model"
    scratch(language.text(prompts=300), output=place, kind="word", hidden_size=16, layers=1, heads=2, max_length=96)
    return opened(place)


def test_groups_hold_all_scored_answers(start: tuple[Any, Any]) -> None:
    prefs = job.pairs_of(WORLD, 0)
    rows = group_examples(prefs, start[1], split="train", limits=Limits(MAX_LENGTH, MAX_PROMPT), score="score").rows
    assert max(len(row.answers) for row in rows) == 4
    assert all(len(row.scores or ()) == len(row.answers) for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("arm", [PLAIN, RA, *ARMS], ids=lambda arm: arm.name)
def test_every_rival_trains_and_answers(arm: Arm, start: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps from random weights: the weights move, and answers are marked between 1 and 10."""
    monkeypatch.setattr(job, "base_of", lambda base: start)
    for kept in (job.made, job.rows_of):
        kept.cache_clear()
    tuned = Tuned(rate=1e-3, strength=arm.strengths[0])
    world = replace(WORLD, steps=2)
    moved = job.policy_of(world, arm, tuned, 0)
    before: Sequence[Any] = list(start[0].parameters())
    assert any((old != new).any() for old, new in zip(before, moved.parameters(), strict=True))
    found = job.done(Job(world=world, arm=arm, tuned=tuned, seed=0, goals=(arm.goal,), prompts=6))
    for kept in (job.made, job.rows_of):
        kept.cache_clear()
    (marks,) = found["gold"].values()
    assert len(marks) == 6
    assert all(1 <= mark <= 10 for mark in marks)
