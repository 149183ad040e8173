"""The control claims: their verdicts on planted results, and what they measure by another road. Nothing is trained."""

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import pairwright.worlds.language as world_of
from pairwright.pairing import pair
from pairwright.reproduce.claim import Setup
from pairwright.reproduce.language import bench, conditions, controls, measures_controls, overoptimised, seeds
from pairwright.reproduce.language.arms import PLAIN
from pairwright.reproduce.language.bench import Measured
from pairwright.reproduce.language.claims_controls import CONTROLS
from pairwright.reproduce.language.conditions import Lacking
from pairwright.reproduce.language.data import Given
from pairwright.reproduce.language.job import said
from pairwright.reproduce.language.seeds import TUNING
from pairwright.reproduce.language.setting import TOP, Base, Goal, Job, Tuned, World
from pairwright.reproduce.language.training import opened
from pairwright.stats import Interval
from pairwright.train.scratch import scratch

QUICK = Setup(seeds=2, quick=True)
NAMES = ("gold", "correctness", "courtesy", "brevity", "fillers", "praises", "refuses")

Gold = Callable[[Job, Goal | None], float]
Logps = Callable[[Job, str], dict[str, float]]


def arm_of(job: Job) -> str:
    return "base" if job.arm is None else job.arm.name


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Job]]:
    """Put planted results in the place of trainings; gives the list in which the jobs that are asked for appear."""

    def flat(job: Job, read: str) -> dict[str, float]:
        return {"sum": -30.0, "mean": -3.0, "start_sum": -30.0, "start_mean": -3.0, "margin": 0.0}

    def planted(gold: Gold, logps: Logps = flat) -> list[Job]:
        seen: list[Job] = []

        def run_jobs(jobs: Iterable[Job], *, label: str) -> dict[Job, dict[str, Any]]:
            each = list(dict.fromkeys(jobs))
            seen.extend(each)
            return {job: found(job) for job in each}

        def found(job: Job) -> dict[str, Any]:
            # The same for every arm, and so nothing to a difference of arms.
            own = 0.01 * np.random.default_rng(job.seed).standard_normal(job.prompts)
            golds = {said(goal): (gold(job, goal) + own).tolist() for goal in job.goals}
            reads = {
                read: {name: [value] * 7 for name, value in logps(job, read).items()}
                for read in measures_controls.READS
            }
            return {name: golds for name in NAMES} | {
                "seconds": 1.0,
                "measures": {name: reads for name in job.measures},
            }

        monkeypatch.setattr(bench, "run_jobs", run_jobs)
        monkeypatch.setattr(bench, "DRAWS", 200)
        return seen

    return planted


def by_arm(**gold: float) -> Gold:
    """The gold of an arm, asked for anything."""
    return lambda job, goal: gold[arm_of(job)]


def test_every_claim_has_a_check_that_stands_where_it_says() -> None:
    assert {claim.world for claim in CONTROLS.values()} == {"language"}
    rooms = {"controls": controls, "conditions": conditions}
    for name, claim in CONTROLS.items():
        module, _, function = claim.check.rpartition(".")[2].partition(":")
        assert claim.name == name
        assert callable(getattr(rooms[module], function))


@pytest.mark.parametrize(("ra", "verdict"), [(7.0, "holds"), (5.0, "does not hold")])
def test_ra_beats_dpo_where_its_gold_is_higher(plant: Callable[..., Any], ra: float, verdict: str) -> None:
    plant(by_arm(plain=6.0, ra=ra, base=4.0))
    outcome = controls.ra_beats_dpo(QUICK)
    assert outcome.verdict == verdict
    assert outcome.metric("gain").value == pytest.approx(ra - 6.0)
    assert outcome.metric("over_base").value == pytest.approx(ra - 4.0)
    assert [line["asked"] for line in outcome.table] == ["none", "10", "none", "10", "10"]


def test_a_gain_that_changes_its_sign_from_seed_to_seed_is_not_identified(plant: Callable[..., Any]) -> None:
    plant(lambda job, goal: 6.0 + (arm_of(job) == "ra") * (1 if job.seed % 2 else -1))
    assert controls.ra_beats_dpo(Setup(seeds=4)).verdict == "not identified"


@pytest.mark.parametrize("setup", [QUICK, Setup(seeds=2)], ids=["quick", "full"])
def test_the_longer_plain_training_has_twice_the_steps_and_the_same_numbers(
    plant: Callable[..., Any], setup: Setup
) -> None:
    seen = plant(by_arm(plain=6.0, ra=7.0, half_ra=6.5, base=4.0))
    assert controls.half_ra_beats_dpo(setup).verdict == "holds"
    plain = [job for job in seen if job.arm == PLAIN and job.seed not in TUNING]
    steps = {job.world.steps: job.tuned for job in plain}
    short, long = sorted(steps)
    assert long == 2 * short
    assert steps[short] == steps[long]


@pytest.mark.parametrize(
    ("half", "longer", "verdict"),
    [(6.5, 6.6, "holds"), (5.5, 6.6, "does not hold"), (6.5, 7.5, "does not hold")],
)
def test_half_ra_needs_both_controls(plant: Callable[..., Any], half: float, longer: float, verdict: str) -> None:
    gold = {"ra": 7.0, "half_ra": half, "base": 4.0}
    steps = bench.smaller(World(), QUICK).steps
    plant(lambda job, goal: gold.get(arm_of(job), longer if job.world.steps > steps else 6.0))
    outcome = controls.half_ra_beats_dpo(QUICK)
    assert outcome.verdict == verdict
    assert outcome.metric("half_ra").value == pytest.approx(half - 6.0)
    assert outcome.metric("compute").value == pytest.approx(7.0 - longer)


@pytest.mark.parametrize(
    ("plain", "base", "verdict"), [(6.5, 6.0, "holds"), (7.5, 6.0, "does not hold"), (6.5, 7.5, "does not hold")]
)
def test_a_goal_in_the_prompt_counts_when_it_is_asked_of_the_controls(
    plant: Callable[..., Any], plain: float, base: float, verdict: str
) -> None:
    asked = {"plain": plain, "base": base, "ra": 7.0}
    plant(lambda job, goal: 5.0 if goal is None else asked[arm_of(job)])
    outcome = controls.goal_beyond_prompt(QUICK)
    assert outcome.verdict == verdict
    assert outcome.metric("over_plain").value == pytest.approx(7.0 - plain)
    assert outcome.metric("by_prompt").value == pytest.approx(plain - 5.0)
    assert ("The base knows" in outcome.says) == (verdict != "holds")


def test_gold_that_is_the_goal_steers_and_gold_that_falls_with_it_does_not(plant: Callable[..., Any]) -> None:
    """Ranks 1 to 5 against themselves: 1; against their reverse: -1. Distances of 2..10 from 6: 4, 2, 0, 2, 4."""
    plant(lambda job, goal: 6.0 if job.arm is None or goal is None else float(goal))  # type: ignore[arg-type]
    outcome = controls.model_goals_steer(QUICK)
    assert outcome.verdict == "holds"
    assert outcome.metric("rank").value == pytest.approx(1.0)
    assert outcome.metric("error").value == pytest.approx(0.0, abs=0.02)
    assert outcome.metric("nearer").value == pytest.approx(-12 / 5, abs=0.02)
    assert outcome.metric("beyond").value == pytest.approx(2.5)
    plant(lambda job, goal: 6.0 if job.arm is None or goal is None else 12.0 - float(goal))  # type: ignore[arg-type]
    outcome = controls.model_goals_steer(QUICK)
    assert outcome.verdict == "does not hold"
    assert outcome.metric("rank").value == pytest.approx(-1.0)
    assert outcome.metric("rise/10").value == pytest.approx(-2.0)


def test_steering_of_the_base_is_taken_off(plant: Callable[..., Any]) -> None:
    plant(lambda job, goal: float(goal or 5.0) * (1.0 if job.arm is None else 0.0))  # type: ignore[arg-type]
    assert controls.model_goals_steer(QUICK).metric("taught").value == pytest.approx(-1.0)


def measured(gold: dict[str, list[list[float]]]) -> Measured:
    seeds = range(len(next(iter(gold.values()))))
    found = tuple({"gold": {goal: rows[seed] for goal, rows in gold.items()}, "seconds": 1.0} for seed in seeds)
    return Measured(PLAIN, Tuned(rate=0.0, strength=0.0), found)


def test_rank_correlation_and_distance_are_those_by_hand() -> None:
    """Gold 3, 1, 4 asked for 2, 4, 6 has ranks 2, 1, 3: rho = 1 - 6 * (1 + 1 + 0) / (3 * 8) = 1/2; distances 1, 3, 2.

    The second instruction has the same gold for every goal: no order, 0; distances 0, 2, 4.
    """
    arm = measured({"2": [[3.0, 2.0]], "4": [[1.0, 2.0]], "6": [[4.0, 2.0]]})
    assert controls.ranks(arm, (2.0, 4.0, 6.0))[0] == pytest.approx([0.5, 0.0])
    assert controls.errors(arm, (2.0, 4.0, 6.0))[0] == pytest.approx([2.0, 2.0])


def losing(**lost: float) -> Logps:
    """Nats that an arm takes from good rejected answers, read in any way; a tenth of it for each token."""

    def logps(job: Job, read: str) -> dict[str, float]:
        gone = 0.0 if job.arm is None else lost[arm_of(job)]
        both = {"sum": -30.0 - gone, "mean": -3.0 - gone / 10, "margin": gone}
        return both | {"start_sum": -30.0, "start_mean": -3.0}

    return logps


@pytest.mark.parametrize(
    ("ra", "plain", "verdict"),
    [
        (1.0, 10.0, "holds"),
        (10.0, 1.0, "does not hold"),
        (-1.0, 10.0, "does not hold"),  # RA above the base
        (6.0, 10.0, "does not hold"),  # below plain's loss, but nearer to it than to the base
    ],
)
def test_good_rejected_answers_stay_when_ra_takes_little_and_plain_much(
    plant: Callable[..., Any], ra: float, plain: float, verdict: str
) -> None:
    plant(by_arm(plain=6.0, ra=7.0, base=4.0), losing(ra=ra, plain=plain))
    outcome = controls.model_unlearning(QUICK)
    assert outcome.verdict == verdict
    for numbers in ("tuned", "equal"):
        assert outcome.metric(f"base_over_ra/{numbers}/none/sum").value == pytest.approx(ra)
        assert outcome.metric(f"ra_over_plain/{numbers}/top/mean").value == pytest.approx((plain - ra) / 10)
    assert len(outcome.table) == 12 + len({*controls.rates(QUICK)} - {controls.FIXED})


def interval(value: float) -> Interval:
    return Interval(value, value - 0.2, value + 0.2, 5)


@pytest.mark.parametrize(
    ("gain", "without", "verdict"),
    [
        (1.0, -0.15, "holds"),  # at most 0.05 is left
        (1.0, -1.0, "holds"),
        (1.0, 0.0, "not identified"),  # up to 0.2 may be left
        (1.0, 0.5, "does not hold"),  # less, but there
        (1.0, 1.5, "does not hold"),
        (-1.0, 0.0, "does not hold"),
        (0.1, -1.0, "not identified"),  # there was none to lose
    ],
)
def test_a_condition_is_real_where_the_gain_is_gone_without_it(gain: float, without: float, verdict: str) -> None:
    assert Lacking(interval(gain), interval(without), interval(gain - without)).verdict == verdict


@pytest.mark.parametrize(
    ("check", "lacks"),
    [
        (conditions.ra_needs_poor_winners, {"weak": 0.0}),
        (conditions.ra_needs_sense_of_scores, {"base": Base(rated=0.0)}),
        (conditions.ra_needs_top_scores, {"skill": 4.5}),
    ],
)
def test_an_ablation_changes_one_thing_of_the_world_and_compares_the_gains(
    plant: Callable[..., Any], check: Callable[[Setup], Any], lacks: dict[str, Any]
) -> None:
    usual = bench.smaller(World(), QUICK)
    gold = {"plain": 6.0, "base": 4.0}
    seen = plant(lambda job, goal: gold.get(arm_of(job), 7.5 if job.world == usual else 6.0))
    outcome = check(QUICK)
    assert {job.world for job in seen if job.arm} == {usual, replace(usual, **lacks)}
    assert outcome.verdict == "holds"
    assert outcome.metric("gain").value == pytest.approx(1.5)
    assert outcome.metric("without").value == pytest.approx(0.0)
    assert outcome.metric("drop").value == pytest.approx(1.5)
    plant(lambda job, goal: gold.get(arm_of(job), 6.5 if job.world == usual else 8.0))
    assert check(QUICK).verdict == "does not hold"


@pytest.mark.parametrize(
    ("ra", "verdict"), [(7.5, "holds"), (6.5, "does not hold"), (5.0, "does not hold"), (7.0, "not identified")]
)
def test_training_adds_where_it_beats_plain_and_the_base_that_is_asked(
    plant: Callable[..., Any], ra: float, verdict: str
) -> None:
    seen = plant(lambda job, goal: {"plain": 6.0, "base": 7.0 if goal == TOP else 4.0}.get(arm_of(job), ra))
    outcome = conditions.ra_adds_to_poor_sense(QUICK)
    assert outcome.verdict == verdict
    assert outcome.metric("over_base").value == pytest.approx(ra - 7.0)
    assert {replace(job.world.base, seed=0) for job in seen} == {Base(error=3.0)}


def test_over_large_steps_hurt_where_both_arms_fall_below_the_base(plant: Callable[..., Any]) -> None:
    def gold(job: Job, goal: Goal | None) -> float:
        if job.tuned is None:
            return 7.0 if goal == TOP else 4.0
        return 3.0 if job.tuned.rate > 5e-4 else 7.0

    plant(gold, losing(ra=3.0, plain=2.0))
    outcome = conditions.ra_needs_small_steps(QUICK)
    assert outcome.verdict == "holds"
    assert outcome.metric("fall").value == pytest.approx(-4.0)
    assert outcome.metric("ra_below_start").value == pytest.approx(-4.0)
    assert outcome.metric("plain_below_base").value == pytest.approx(-1.0)
    margins = {(line["arm"], line.get("rate")): line.get("margin") for line in outcome.table}
    assert margins["ra", 3e-3] == 3.0
    assert margins["plain", 1e-4] == 2.0
    plant(lambda job, goal: 14.0 - gold(job, goal), losing(ra=3.0, plain=2.0))
    assert conditions.ra_needs_small_steps(QUICK).verdict == "does not hold"


@pytest.mark.parametrize(
    ("small", "large", "verdict"),
    [(1.0, -1.0, "holds"), (-1.0, -2.0, "does not hold"), (1.0, 1.5, "does not hold"), (0.0, -1.0, "not identified")],
)
def test_the_lead_at_small_steps_must_be_there_and_shrink(
    plant: Callable[..., Any], small: float, large: float, verdict: str
) -> None:
    plant(
        lambda job, goal: 6.0 + (arm_of(job) == "ra") * (small if job.tuned.rate < 1e-3 else large),
        losing(ra=1.0, plain=2.0),
    )
    outcome = conditions.ra_leads_at_small_steps(QUICK)
    assert outcome.verdict == verdict
    assert outcome.metric("gain/0.0001").value == pytest.approx(small)
    assert outcome.metric("lost").value == pytest.approx(small - large)


@pytest.mark.parametrize(("held", "verdict"), [(7.5, "holds"), (6.5, "does not hold"), (2.5, "does not hold")])
def test_a_likelihood_term_must_hold_ra_above_its_base(plant: Callable[..., Any], held: float, verdict: str) -> None:
    """The base asked for 10 has 7, RA without the term 3 at that rate, plain DPO 6."""

    def gold(job: Job, goal: Goal | None) -> float:
        if arm_of(job) == "ra" and job.tuned is not None:
            return held if job.tuned.sft else 3.0
        return {"base": 7.0 if goal == TOP else 4.0}.get(arm_of(job), 6.0)

    plant(gold, losing(ra=1.0, plain=2.0))
    outcome = conditions.ra_with_likelihood(QUICK)
    assert outcome.verdict == verdict
    assert outcome.metric("over_base").value == pytest.approx(held - 7.0)
    assert outcome.metric("over_bare").value == pytest.approx(held - 3.0)
    assert outcome.metric("over_plain").value == pytest.approx(held - 6.0)


def test_worlds_lack_what_they_are_said_to_lack() -> None:
    """A chosen answer is the best of its instruction; those whose answers all score alike have no pair."""
    usual, able, low = (conditions.chosen_in(world) for world in (World(), World(weak=0.0), World(skill=4.5)))
    answers = world_of.make(prompts=720, skill=7.0, weak=0.35, seed=seeds.FIRST).responses.group_by("prompt_id")
    best = answers.agg(best=pl.col("score").max(), least=pl.col("score").min()).collect()
    best = best.filter(pl.col("best") > pl.col("least"))["best"]
    assert usual["poor_winners"] == pytest.approx((best <= 4).mean(), abs=0.02)  # a tie may be drawn for the other side
    assert able["poor_winners"] == 0.0 < 0.2 < usual["poor_winners"]
    assert low["near_top"] < 0.1 < usual["near_top"]


def test_pairs_below_a_score_are_all_of_those_and_no_other() -> None:
    prefs = pair(world_of.make(prompts=120, weak=0.3, seed=3), rule="best_random", seed=3)
    given = Given(world=World(), model=None, tokenizer=None, seed=0)
    before = prefs.view("score").collect()
    low = before.filter((pl.col("score_chosen") < 8) & (pl.col("score_rejected") < 8))
    made = measures_controls.relabelled_below(prefs, given, below=8.0, mode="ra").view("score").collect()
    assert 0 < low.height < before.height
    told = [(row["prompt_id"], row[f"score_{side}"]) for row in low.to_dicts() for side in ("chosen", "rejected")]
    assert sorted(zip(made["prompt_id"], made["goal"], strict=True)) == sorted(told)
    assert (made["goal"] == made["score_chosen"]).all()
    assert prefs.view("score").collect().equals(before)


def test_held_out_pairs_have_good_rejected_answers_to_instructions_of_no_training() -> None:
    pairs = measures_controls.held_out_pairs(7.0, 60)
    trained = {task.text for task in world_of.tasks(700, "preferences", seed=1)}
    assert len(pairs) > 40
    for each in pairs:
        assert each.task.text not in trained
        assert 5.0 <= world_of.mark(each.task, each.rejected).gold == each.score_rejected < each.score_chosen
        assert world_of.mark(each.task, each.chosen).gold == each.score_chosen
    assert pairs == measures_controls.held_out_pairs(7.0, 60)


def test_what_a_model_says_of_good_rejected_answers_is_read_token_by_token(tmp_path: Path) -> None:
    """By a loop over tokens of one text at a time: log softmax of the logits before each, summed."""
    prefs = world_of.text(prompts=300)
    scratch(prefs, output=tmp_path / "model", kind="word", hidden_size=16, layers=1, heads=2, max_length=96, seed=0)
    start, tokenizer = opened(tmp_path / "model")
    policy = deepcopy(start)
    with torch.no_grad():
        policy.lm_head.weight.add_(torch.randn(policy.lm_head.weight.shape, generator=torch.Generator().manual_seed(1)))
    job = Job(world=World(), arm=None, tuned=None, seed=0, prompts=4)
    found = measures_controls.good_rejected(job, policy, start, tokenizer)
    pairs = measures_controls.held_out_pairs(7.0, 4)

    def logp(model: Any, goal: float | None, task: world_of.Task, words: list[str]) -> tuple[float, int]:
        asked = [] if goal is None else [{"role": "system", "content": f"Overall score: {goal:g}."}]
        head = tokenizer.apply_chat_template(
            [*asked, {"role": "user", "content": task.text}], add_generation_prompt=True, return_dict=False
        )
        ids = tokenizer(" ".join(words), add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        with torch.no_grad():
            logits = model(torch.tensor([head + ids])).logits[0].double()
        said_of = torch.log_softmax(logits, -1)
        return sum(float(said_of[len(head) - 1 + at, token]) for at, token in enumerate(ids)), len(ids)

    for at, each in enumerate(pairs):
        for read, goal in {"none": None, "top": 10.0, "rejected": each.score_rejected}.items():
            for prefix, model in (("", policy), ("start_", start)):
                value, length = logp(model, goal, each.task, each.rejected)
                assert found[read][f"{prefix}sum"][at] == pytest.approx(value, abs=1e-3)
                assert found[read][f"{prefix}mean"][at] == pytest.approx(value / length, abs=1e-4)
        own = each.score_chosen
        won, lost = (
            logp(policy, own, each.task, words)[0] - logp(start, own, each.task, words)[0]
            for words in (each.chosen, each.rejected)
        )
        assert found["chosen"]["margin"][at] == pytest.approx(won - lost, abs=1e-3)


def test_the_bases_that_are_made_ahead_are_those_that_the_claims_use() -> None:
    used = {Base(), Base(rated=0.0), Base(error=conditions.CARELESS), *(Base(width=w) for w in overoptimised.WIDTHS)}
    assert set(seeds.BASES) == used
