"""One training of the language world, on a base so small that it is made in seconds."""

import math
import sys
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from pairwright.goals import GoalFormat
from pairwright.logprobs.core import Batch, answer_logps
from pairwright.reproduce.language import bases, bench, job
from pairwright.reproduce.language.arms import PLAIN, RA, relabelled_as
from pairwright.reproduce.language.setting import TEMPLATE, Arm, Base, Job, Tuned, World
from pairwright.worlds.language import Marks, mark

BASE = Base(width=32, layers=1, seed=11)
WORLD = World(base=BASE, prompts=24, steps=2)
TUNED = Tuned(rate=1e-3, strength=0.1)


@pytest.fixture(scope="module", autouse=True)
def _base(tmp_path_factory):
    """The base, made once for all of these tests and held by `base_of`; nothing of it is left afterwards."""
    held = (job.base_of, job.pairs_of, job.made, job.rows_of)
    for each in held:
        each.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAIRWRIGHT_CACHE", str(tmp_path_factory.mktemp("bases")))
        patch.setattr(bases, "STEPS", 100)
        patch.setattr(bases, "TEXTS", 1500)
        job.base_of(BASE)
    yield
    for each in held:
        each.cache_clear()


def asked(arm=RA, **changes):
    return Job(
        **({"world": WORLD, "arm": arm, "tuned": TUNED, "seed": 1, "goals": (10.0, None), "prompts": 7} | changes)
    )


def numbers(found):
    return {name: value for name, value in found.items() if name != "seconds"}


def test_what_is_found_is_a_function_of_the_job():
    found = job.done(asked())
    for each in (job.pairs_of, job.made, job.rows_of):
        each.cache_clear()
    torch.manual_seed(99)  # whatever else went on in the process
    again = job.done(asked())
    assert numbers(found) == numbers(again)
    assert found["seconds"] > 0
    assert numbers(job.done(asked(seed=2))) != numbers(found)


def test_every_instruction_has_one_value_for_each_goal():
    found = job.done(asked(goals=(10.0, 5.5, None)))
    assert set(found) == {*Marks._fields, "measures", "seconds"}
    for name in Marks._fields:
        assert list(found[name]) == ["10", "5.5", "none"]
        assert all(len(values) == 7 for values in found[name].values())
    gold = [value for values in found["gold"].values() for value in values]
    # Two samples of whole and half points each.
    assert all(1 <= value <= 10 and (4 * value).is_integer() for value in gold)
    assert len(set(gold)) > 1


def test_a_model_is_asked_for_the_goal_and_its_answers_end_where_it_ends_them():
    model, tokenizer = job.base_of(BASE)
    tasks = job.held_out("test", 3)
    by_goal = {goal: job.drawn(model, tokenizer, tasks, goal, job.FORM, 0) for goal in (None, 10.0, 2.5)}
    for goal, found in by_goal.items():
        assert [task for task, *_ in found] == [task for task in tasks for _ in range(job.SAMPLES)]
        for task, prompt, ids, words in found:
            told = tokenizer.decode(prompt)
            assert task.text in told
            assert ("Overall score" in told) == (goal is not None)
            assert goal is None or f"Overall score: {goal:g}." in told
            end = tokenizer.eos_token_id
            assert ids.count(end) == (ids[-1] == end)
            assert ids[-1] == end or len(ids) == job.NEW_TOKENS
            assert words == tokenizer.decode(ids, skip_special_tokens=True).lower().split()
    drawn = {goal: [ids for _, _, ids, _ in found] for goal, found in by_goal.items()}
    assert drawn[None] != drawn[10.0]
    # Two samples of one instruction are two draws.
    assert any(one != other for one, other in zip(drawn[None][::2], drawn[None][1::2], strict=True))


def test_the_value_of_an_instruction_is_the_mean_of_its_samples():
    model, tokenizer = job.base_of(BASE)
    found = job.done(asked(arm=None, tuned=None, goals=(10.0,), prompts=5))
    said = job.drawn(model, tokenizer, job.held_out("test", 5), 10.0, job.FORM, 1)
    each = iter([mark(task, words) for task, _, _, words in said])
    for i, (one, other) in enumerate(zip(each, each, strict=True)):
        assert found["gold"]["10"][i] == (one.gold + other.gold) / 2
        assert found["brevity"]["10"][i] == (one.brevity + other.brevity) / 2


def test_a_goal_has_one_name():
    assert [job.said(goal) for goal in (None, 10.0, 5.5, (10.0, 1.0), (2.5,))] == ["none", "10", "5.5", "10,1", "2.5"]


def test_validation_and_test_have_no_instruction_in_common():
    validation, test = job.held_out("validation", bench.VALIDATION), job.held_out("test", bench.TEST)
    assert len({task.text for task in validation}) == bench.VALIDATION
    assert len({task.text for task in test}) == bench.TEST
    assert not {task.text for task in validation} & {task.text for task in test}
    for part in (validation, test):
        skills = [task.skill for task in part]
        assert {skills.count(skill) for skill in skills} == {len(part) / 3}


def test_training_sees_no_held_out_instruction():
    held = {task.text for part in ("validation", "test") for task in job.held_out(part, 72)}
    prompts = job.pairs_of(WORLD, 0).prompts.collect()["prompt"].to_list()
    assert len(prompts) == WORLD.prompts
    assert not {prompt[-1]["content"] for prompt in prompts} & held


@pytest.mark.parametrize("arm", [PLAIN, RA], ids=lambda arm: arm.name)
def test_references_are_what_the_base_says_on_padded_rows(arm):
    model, _ = job.base_of(BASE)
    rows = job.rows_of(WORLD, arm, 0)
    assert len(rows) >= 2 * (len(job.rows_of(WORLD, PLAIN, 0)) if arm == RA else 5)
    for row in rows[:12]:
        batch = Batch.of([row.prompt], row.answers, [0, 0])
        with torch.no_grad():
            said = answer_logps(model, batch, layout="padded").logp.tolist()
        assert list(row.refs) == pytest.approx(said, abs=1e-4)


def test_references_by_the_chain_rule():
    model, _ = job.base_of(BASE)
    row = job.rows_of(WORLD, PLAIN, 0)[0]
    for answer, ref in zip(row.answers, row.refs, strict=True):
        ids = torch.tensor([[*row.prompt, *answer]])
        with torch.no_grad():
            each = model(ids).logits[0].log_softmax(-1)
        start = len(row.prompt)
        total = math.fsum(float(each[place - 1, ids[0, place]]) for place in range(start, ids.shape[1]))
        assert ref == pytest.approx(total, abs=1e-4)


def test_a_loss_without_reference_has_none():
    rows = job.rows_of(WORLD, Arm(name="simpo", loss="simpo"), 0)
    assert all(row.refs is None for row in rows)


def test_an_anchor_asks_for_the_goal_of_generation():
    _, tokenizer = job.base_of(BASE)
    form = GoalFormat(template=TEMPLATE, placement="system")
    rows = job.rows_of(WORLD, replace(RA, name="anchored", anchor=True), 0)
    assert len({row.goal for row in rows}) > 3
    for row in rows:
        own, anchor = tokenizer.decode(row.prompt), tokenizer.decode(row.anchor[0])
        assert form.say(row.goal) in own
        assert anchor == own.replace(form.say(row.goal), form.say(10))
    # Two rows of a pair ask for its two scores, and have the better answer as their anchor: the same one.
    for one, other in pairwise(rows):
        if tokenizer.decode(one.anchor[0]) == tokenizer.decode(other.anchor[0]):
            better = max((one, other), key=lambda row: row.goal)
            assert one.anchor[1].tolist() == other.anchor[1].tolist() == better.answers[0].tolist()
    assert all(row.anchor is None for row in job.rows_of(WORLD, RA, 0))


def test_a_step_of_no_length_leaves_the_base_as_it_is():
    model, _ = job.base_of(BASE)
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    still = replace(TUNED, rate=1e-12)
    base = job.done(asked(arm=None, tuned=None))
    assert job.done(asked(arm=PLAIN, tuned=still))["gold"] == base["gold"]
    moved = job.policy_of(WORLD, PLAIN, TUNED, 1)
    assert any(not torch.equal(weights, before[name]) for name, weights in moved.state_dict().items())
    assert all(torch.equal(weights, before[name]) for name, weights in model.state_dict().items())


def test_a_training_prefers_what_is_chosen():
    model, _ = job.base_of(BASE)
    rows = job.rows_of(WORLD, PLAIN, 3)
    moved = job.policy_of(replace(WORLD, steps=30), PLAIN, replace(TUNED, rate=3e-3), 3)

    def margins(policy):
        batch = Batch.of([row.prompt for row in rows], [ids for row in rows for ids in row.answers], owners(rows))
        with torch.no_grad():
            logps = answer_logps(policy, batch).logp
        refs = torch.tensor([ref for row in rows for ref in row.refs])
        reward = (logps - refs).view(-1, 2)
        return reward[:, 0] - reward[:, 1]

    def owners(rows):
        return [i for i, row in enumerate(rows) for _ in row.answers]

    assert margins(model).abs().max() < 1e-3
    assert margins(moved).mean() > 0.05


def test_the_terms_of_a_loss_say_its_numbers():
    tuned = Tuned(rate=1e-4, strength=0.5)
    dpo = {"name": "dpo", "beta": 0.5}
    assert job.terms(PLAIN, tuned) == [dpo]
    assert job.terms(PLAIN, replace(tuned, sft=0.3)) == [dpo, {"name": "sft", "weight": 0.3}]
    assert job.terms(PLAIN, replace(tuned, smoothing=0.1)) == [dpo | {"label_smoothing": 0.1}]
    anchored = replace(RA, anchor=True)
    assert job.terms(anchored, replace(tuned, sft=0.3)) == [dpo, {"name": "goal_sft", "weight": 0.3}]
    assert job.terms(anchored, tuned) == [dpo]
    simpo = Arm(name="simpo", loss="simpo", settings=(("gamma", 1.0),), strength="beta")
    assert job.terms(simpo, tuned) == [{"name": "simpo", "gamma": 1.0, "beta": 0.5}]
    assert job.terms(Arm(name="sft", loss="sft", strength=""), tuned) == [{"name": "sft"}]


def test_measures_are_asked_of_policy_and_base(monkeypatch):
    def moved(told, policy, model, tokenizer):
        pairs = zip(policy.parameters(), model.parameters(), strict=True)
        return {"seed": told.seed, "moved": any(not torch.equal(*both) for both in pairs), "end": tokenizer.eos_token}

    monkeypatch.setitem(sys.modules, "planted", SimpleNamespace(moved=moved))
    end = job.base_of(BASE)[1].eos_token
    found = job.done(asked(measures=("planted:moved",), goals=(None,)))
    assert found["measures"] == {"planted:moved": {"seed": 1, "moved": True, "end": end}}
    found = job.done(asked(arm=None, tuned=None, measures=("planted:moved",), goals=(None,)))
    assert found["measures"]["planted:moved"]["moved"] is False


def test_an_arm_in_another_mode_asks_for_what_it_is_told():
    low = relabelled_as("filter_high", goal=4.0)
    assert list(job.done(asked(arm=low, goals=(low.goal,)))["gold"]) == ["4"]


def test_base_models_are_told_apart_and_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr(bases, "STEPS", 2)
    monkeypatch.setattr(bases, "TEXTS", 200)
    made = []
    build = bases._make
    monkeypatch.setattr(bases, "_make", lambda base, place: (made.append(base), build(base, place)))
    one = bases.base_place(BASE)
    assert bases.base_place(BASE) == one
    assert made == [BASE]
    other = bases.base_place(replace(BASE, rated=0.0))
    assert other != one
    assert (one / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()
