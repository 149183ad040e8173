"""The bench: planted values give planted estimates, every arm is tuned alike, and no finished job is done again."""

import json
import math
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import t as student

from pairwright.errors import PairwrightError
from pairwright.reproduce.claim import Setup
from pairwright.reproduce.language import bench, pool
from pairwright.reproduce.language.arms import PLAIN, RA, relabelled_as
from pairwright.reproduce.language.seeds import FIRST, TUNING, at_seed, bases, seeds_of
from pairwright.reproduce.language.seeds import QUICK as QUICK_BASE
from pairwright.reproduce.language.setting import Arm, Base, Call, Job, Tuned, World
from pairwright.stats import Interval

WORLD = World()
FULL, QUICK = Setup(seeds=3), Setup(seeds=2, quick=True)
GROUPS = Arm(name="groups", loss="infonca", examples="groups", score=True)
SINGLE = Arm(name="single", loss="sft", examples="responses", strength="", strengths=(1.0,))
SMOOTHLESS = Arm(name="smoothless", loss="simpo", strengths=(2.0, 10.0))


class Planted:
    """In place of the pool: gold that a function of the job gives, on every instruction; it keeps what was asked."""

    def __init__(self, gold):
        self.gold, self.rounds = gold, []

    def __call__(self, jobs, *, label):
        jobs = list(jobs)
        self.rounds.append((label, jobs))
        return {
            job: {"gold": {bench.said(goal): self.gold(job, goal) for goal in job.goals}, "seconds": 4.0}
            for job in jobs
        }

    @property
    def jobs(self):
        return [job for _, jobs in self.rounds for job in jobs]


@pytest.fixture
def planted(monkeypatch):
    def plant(gold):
        stub = Planted(gold)
        monkeypatch.setattr(bench, "run_jobs", stub)
        return stub

    return plant


def same(value):
    return lambda job, goal: [value] * job.prompts


def test_a_level_is_the_mean_and_its_interval_lies_around_it():
    table = np.add.outer([0.0, 1.0, 2.0], [10.0, 20.0])
    found = bench.level(table)
    assert found.value == 16.0  # the mean of 0 1 2 and that of 10 20
    assert found.n == 3
    assert 10 <= found.low < 16 < found.high <= 22
    assert bench.level([[7.0, 7.0], [7.0, 7.0]]) == Interval(7.0, 7.0, 7.0, 2)


def test_a_difference_is_paired_and_changes_its_sign_with_its_sides():
    random = np.random.default_rng(3)
    other = random.normal(5, 3, (4, 30))  # far more spread than the gain
    found = bench.difference(other + 0.5, other)
    assert [found.value, found.low, found.high] == pytest.approx([0.5, 0.5, 0.5])
    one = other + 0.5 + random.normal(0, 0.5, other.shape)
    found, turned = bench.difference(one, other), bench.difference(other, one)
    assert found.value == pytest.approx((one - other).mean())
    assert [turned.value, turned.low, turned.high] == pytest.approx([-found.value, -found.high, -found.low])


def test_an_interval_sees_seeds_and_instructions():
    steady = np.tile(np.linspace(0, 1, 40), (5, 1))  # seeds agree; instructions differ
    luck = np.tile(np.linspace(0, 1, 5)[:, None], (1, 40))  # instructions agree; seeds differ
    wide = {name: bench.level(table) for name, table in (("steady", steady), ("luck", luck))}
    # A mean over 40 draws of values of variance v has variance v / 40; of 5 seeds Student's interval is wider.
    half = {
        "steady": 1.96 * np.sqrt(steady[0].var() / 40),
        "luck": student.ppf(0.975, 4) * luck[:, 0].std(ddof=1) / np.sqrt(5),
    }
    for name, found in wide.items():
        assert found.high - found.low == pytest.approx(2 * half[name], rel=0.1)


def held(of_seeds, of_prompts, of_both, *, times=150, seeds=5, prompts=40):
    """Share of crossed designs, of standard deviations that are given, whose interval holds their true mean."""
    random = np.random.default_rng(8)
    found = []
    for _ in range(times):
        table = of_seeds * random.normal(size=(seeds, 1)) + of_prompts * random.normal(size=(1, prompts))
        found.append(bench.level(1 + table + of_both * random.normal(size=(seeds, prompts))))
    return sum(each.low <= 1 <= each.high for each in found) / times


@pytest.mark.parametrize("deviations", [(0.15, 0.8, 1.6), (0.09, 0.07, 1.1), (0.0, 0.0, 1.0)])
def test_intervals_hold_the_truth_about_as_often_as_they_say(monkeypatch, deviations):
    monkeypatch.setattr(bench, "DRAWS", 200)
    assert held(*deviations) >= 0.9


def test_five_seeds_are_few_where_nothing_else_differs(monkeypatch):
    monkeypatch.setattr(bench, "DRAWS", 200)
    # Draws with replacement have 4/5 of the variance that the mean has, and its own estimate has 4 degrees of freedom.
    of_draws_alone = 1 - 2 * student.sf(1.96 * math.sqrt(4 / 5), 4)
    assert of_draws_alone == pytest.approx(0.845, abs=0.001)
    assert held(1.0, 0.0, 0.1) >= 0.92


@pytest.mark.parametrize("arm", [PLAIN, RA, SMOOTHLESS, GROUPS, SINGLE], ids=lambda arm: arm.name)
def test_every_arm_has_nine_tries_with_every_tuning_seed(planted, arm):
    stub = planted(same(5.0))
    bench.tune([arm], WORLD, FULL)
    assert len({job.tuned for job in stub.jobs}) == bench.TRIES == 9
    assert len(set(stub.jobs)) == 2 * bench.TRIES
    assert {(job.part, job.seed, job.prompts) for job in stub.jobs} == {("validation", seed, 72) for seed in TUNING}
    assert {job.goals for job in stub.jobs} == {(arm.goal,)}
    assert all(job.world == at_seed(WORLD, job.seed, quick=False) for job in stub.jobs)


def test_the_further_tries_are_what_the_arm_can_use(planted):
    stub = planted(lambda job, goal: [-abs(np.log(job.tuned.rate / 3e-4))])

    def further(arm):
        bench.tune([arm], WORLD, FULL)
        return {job.tuned for job in stub.rounds[-1][1]}

    start = Tuned(rate=3e-4, strength=0.1)
    assert further(PLAIN) == {start, replace(start, smoothing=0.1)}
    # 3 to the power of 1/6 is 1.2009: rates a sixth of the way to the next, first above.
    assert {tuned.rate for tuned in further(SMOOTHLESS)} == {3e-4, 3.6e-4}
    beside = {3e-4, 3.6e-4, 2.5e-4, 4.3e-4, 2.1e-4, 5.2e-4}
    assert {tuned.rate for tuned in further(GROUPS)} == beside
    assert {tuned.rate for tuned in further(SINGLE)} == beside | {1.7e-4, 6.2e-4}


def test_the_grid_has_a_likelihood_term_where_there_are_pairs():
    each = [(tuned.rate, tuned.strength, tuned.sft) for tuned in bench.grid(PLAIN, quick=False)]
    assert each == [(rate, beta, sft) for rate in (3e-4, 1e-3) for beta in (0.1, 1.0) for sft in (0.0, 10.0)]
    assert {tuned.sft for tuned in bench.grid(GROUPS, quick=False)} == {0.0}
    assert [(tuned.rate, tuned.sft) for tuned in bench.grid(PLAIN, quick=True)] == [(1e-3, 0.0), (1e-3, 10.0)]
    assert [(tuned.rate, tuned.sft) for tuned in bench.grid(GROUPS, quick=True)] == [(3e-4, 0.0), (1e-3, 0.0)]


@pytest.mark.parametrize("sign", [1, -1])
def test_tuning_finds_the_planted_best(planted, sign):
    def gold(job, goal):
        tuned = job.tuned
        value = tuned.strength + 100 * (tuned.sft > 0) + 10 * (tuned.rate == 3e-4)
        return [0.0, 2.0 * sign * value * (1 if job.arm == PLAIN else -1)]

    planted(gold)
    found = bench.tune([PLAIN, RA], WORLD, FULL)
    up, down = ("plain", "ra")[::sign]
    assert found[up] == Tuned(rate=3e-4, strength=1.0, sft=bench.SFT)
    assert found[down].sft == 0
    assert found[down].rate == 1e-3
    assert found[down].strength == 0.1


def test_what_is_best_is_best_in_the_mean_over_the_tuning_seeds(planted):
    """The first seed would have the larger rate by 1; with the second the smaller one is ahead by 3 - 1 = 2."""
    planted(lambda job, goal: [5.0 + (job.tuned.rate == 1e-3) - 3 * (job.tuned.rate == 1e-3) * (job.seed == TUNING[1])])
    assert bench.tune([PLAIN], WORLD, FULL)["plain"].rate == 3e-4
    assert bench.tune([PLAIN], WORLD, QUICK)["plain"].rate == 1e-3


def test_a_quick_look_has_two_tries_in_a_third_of_the_steps(planted):
    stub = planted(same(5.0))
    bench.tune([PLAIN, RA], WORLD, QUICK)
    assert Counter(job.arm.name for job in stub.jobs) == {"plain": 2, "ra": 2}
    assert {job.tuned.strength for job in stub.jobs} == {0.1}
    assert {job.world.steps for job in stub.jobs} == {WORLD.steps // 3}
    assert {job.world.base for job in stub.jobs} == {replace(WORLD.base, seed=QUICK_BASE)}
    assert bench.smaller(WORLD, FULL) == WORLD
    assert bench.smaller(World(steps=8), QUICK).steps == 2


def test_every_arm_is_asked_on_the_same_instructions_and_seeds(planted):
    stub = planted(lambda job, goal: [float(job.seed)] * job.prompts)
    tuned = {PLAIN.name: Tuned(rate=3e-5, strength=0.1)}
    found = bench.measure([PLAIN, RA], WORLD, FULL, tuned=tuned, goals={"plain": [10.0, None]}, measures=["a:b"])
    labels = [label for label, _ in stub.rounds]
    assert labels == ["tuning", "tuning", "seeds"]
    assert {job.arm.name for label, jobs in stub.rounds if label == "tuning" for job in jobs} == {"ra"}
    asked = stub.rounds[-1][1]
    each = {arm.name: [job for job in asked if job.arm == arm] for arm in (PLAIN, RA)}
    for jobs in each.values():
        assert [job.seed for job in jobs] == [FIRST, FIRST + 1, FIRST + 2]
        assert [job.world for job in jobs] == [at_seed(WORLD, job.seed, quick=False) for job in jobs]
        assert {(job.part, job.prompts, job.measures) for job in jobs} == {("test", 120, ("a:b",))}
    assert {job.tuned for job in each["plain"]} == {tuned["plain"]}
    assert {job.goals for job in each["plain"]} == {(None, 10.0)}
    assert {job.goals for job in each["ra"]} == {(10.0,)}
    assert found["plain"].own == [[float(seed)] * 120 for seed in range(FIRST, FIRST + 3)] == found["plain"].gold(10.0)
    assert found["ra"].seconds == 12.0
    assert bench.seconds_of(found["ra"], found["plain"]) == 24.0
    assert not set(TUNING) & set(seeds_of(FULL))


def test_a_seed_has_a_base_of_its_own_and_a_quick_look_has_one_for_all():
    world = World(base=Base(error=3.0), steps=7)
    first, second = (at_seed(world, seed, quick=False) for seed in (FIRST, FIRST + 1))
    assert (first.base.seed, second.base.seed) == (FIRST, FIRST + 1)
    assert replace(first, base=world.base) == world == replace(second, base=world.base)
    assert at_seed(world, FIRST, quick=True) == at_seed(world, TUNING[0], quick=True)


@pytest.mark.parametrize("setup", [FULL, QUICK], ids=["full", "quick"])
def test_the_bases_made_ahead_are_those_of_the_arms(planted, setup):
    stub = planted(same(5.0))
    for base in (Base(), Base(rated=0.0)):
        bench.measure([PLAIN], World(base=base), setup)
    used = {job.world.base for job in stub.jobs}
    assert used == {base for base in bases(setup) if (base.width, base.error) == (64, 1.5)}


def test_the_base_is_asked_as_arms_are(planted):
    stub = planted(same(6.0))
    base = bench.base_found(WORLD, FULL, [None, 10.0])
    assert base.gold(10.0) == base.own == [[6.0] * 120] * 3
    assert {(job.arm, job.tuned, job.part) for job in stub.jobs} == {(None, None, "test")}


def test_a_row_says_the_arm_and_its_numbers(planted):
    planted(same(6.0))
    tuned = Tuned(rate=1e-4, strength=0.1, sft=0.3, smoothing=0.0)
    found = bench.measure([RA], WORLD, QUICK, tuned={"ra": tuned})["ra"]
    assert bench.row_of(found, refuses=0.25) == {
        "arm": "ra",
        "asked": "10",
        "gold": 6.0,
        "low": 6.0,
        "high": 6.0,
        "rate": 1e-4,
        "strength": 0.1,
        "sft": 0.3,
        "smoothing": 0.0,
        "refuses": 0.25,
    }


def test_relabelled_arms_are_told_apart_by_their_settings():
    one, other = relabelled_as("ra_plus", min_gap=1.0), relabelled_as("ra_plus", min_gap=2.0)
    assert one != other
    assert one.name == "ra_plus"
    assert relabelled_as("ra", name="asked_7", goal=7.0).goal == 7.0
    assert relabelled_as("ra") == RA


# The pool. Jobs here are calls of functions that leave a mark in a file.

WORK = """
from pathlib import Path


def mark(place, value):
    with Path(place).open("a") as file:
        file.write(f"{value}\\n")
    return {"value": value, "seconds": 0.0}


def wait(place, value):
    import time

    while not Path(place).with_name("go").exists():
        time.sleep(0.01)
    return mark(place, value)


def fail(place, value):
    raise LookupError(f"no {value}")
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A module that only this test knows."""
    name = f"work_of_{tmp_path.name}".replace("-", "_")
    file = tmp_path / f"{name}.py"
    file.write_text(WORK, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield file
    sys.modules.pop(name, None)


@pytest.fixture
def alone(monkeypatch):
    """One thread in place of the processes."""
    with ThreadPoolExecutor(1) as threads:
        monkeypatch.setattr(pool, "_pool", lambda: threads)
        pool._code.cache_clear()
        yield threads
    pool._code.cache_clear()


def call(work, value=1, function="mark"):
    place = str(work.with_name("marks.txt"))
    return Call(function=f"{work.stem}:{function}", settings=(("place", place), ("value", value)))


def marks_of(work):
    file = work.with_name("marks.txt")
    return file.read_text().split() if file.exists() else []


def test_a_job_is_done_once_and_kept(work, alone):
    job = call(work)
    assert pool.run_jobs([job, call(work)], label="x") == {job: {"value": 1, "seconds": 0.0}}
    assert pool.run_jobs([job], label="x")[job]["value"] == 1
    assert marks_of(work) == ["1"]
    found = pool.run_jobs([call(work, 2), job], label="x")
    assert {found[job]["value"], found[call(work, 2)]["value"]} == {1, 2}
    assert marks_of(work) == ["1", "2"]


@pytest.mark.parametrize("broken", [b"", b'{"value": 1, "sec', b"[1]", b"\xff\xfe"])
def test_a_broken_file_is_no_result(work, alone, broken):
    job = call(work)
    pool.run_jobs([job], label="x")
    pool._file(job).write_bytes(broken)
    assert pool.run_jobs([job], label="x")[job]["value"] == 1
    assert marks_of(work) == ["1", "1"]
    assert json.loads(pool._file(job).read_bytes())["value"] == 1


def test_a_changed_module_is_another_job(work, alone):
    job, before = call(work), pool._file(call(work))
    pool.run_jobs([job], label="x")
    work.write_text(WORK + "\n# changed\n", encoding="utf-8")
    pool._code.cache_clear()  # as in a new process
    assert pool._file(job) != before
    pool.run_jobs([job], label="x")
    assert marks_of(work) == ["1", "1"]
    work.write_text(WORK, encoding="utf-8")
    pool._code.cache_clear()
    assert pool._file(job) == before


def test_a_training_depends_on_the_modules_that_it_names(work):
    pool._code.cache_clear()
    plain = Job(world=WORLD, arm=PLAIN, tuned=Tuned(rate=1e-4, strength=0.1), seed=0)
    own = replace(plain, arm=replace(PLAIN, data=f"{work.stem}:made"))
    measured = replace(plain, measures=(f"{work.stem}:measured",))
    before = [pool._file(job) for job in (plain, own, measured)]
    assert len(set(before)) == 3
    work.write_text(WORK + "\n# changed\n", encoding="utf-8")
    pool._code.cache_clear()
    after = [pool._file(job) for job in (plain, own, measured)]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, False]
    assert pool._file(replace(plain, seed=1)) != before[0]


def test_a_module_that_is_not_there_is_said(work):
    with pytest.raises(PairwrightError, match="no module nowhere_at_all"):
        pool._file(Call(function="nowhere_at_all:f"))


def test_after_a_failure_nothing_more_is_begun(work, alone):
    jobs = [call(work, 1), call(work, 2, "fail"), *(call(work, i, "wait") for i in range(3, 9))]
    with pytest.raises(LookupError, match="no 2"):
        pool.run_jobs(jobs, label="x")
    work.with_name("go").touch()
    alone.submit(int).result()  # comes after what is under way
    assert set(marks_of(work)) <= {"1", "3"}


@pytest.mark.slow
def test_processes_give_back_what_they_find_and_how_they_fail(work, monkeypatch):
    pool._pool.cache_clear()
    monkeypatch.setattr(pool, "cores", lambda: 1)
    processes = pool._pool()
    try:
        assert isinstance(processes, ProcessPoolExecutor)
        job = call(work)
        assert pool.run_jobs([job], label="x")[job]["value"] == 1
        with pytest.raises(LookupError, match="no 7"):
            pool.run_jobs([call(work, 7, "fail")], label="x")
        assert pool.run_jobs([call(work, 3)], label="x")[call(work, 3)]["value"] == 3
        assert processes.submit(torch.get_num_threads).result() == 1
    finally:
        processes.shutdown()
        pool._pool.cache_clear()
        pool._code.cache_clear()


def test_there_is_at_least_one_core():
    assert 1 <= pool.cores() <= 16
