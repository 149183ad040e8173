"""The recipes of rounds: what their steps take from each other, and a real run of each."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pairwright.pipeline import read_recipe
from pairwright.pipeline.plan import make_plan

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = {"local_on_policy": 3, "local_self_play": 2}
SMALL = ["data.prompts=60", "text.prompts=400", "policy-0.max_steps=30", "policy-0.warmup_steps=3"]


def plan(recipe):
    return {step.name: step for step in make_plan(read_recipe(ROOT / "recipes" / f"{recipe}.yaml"))}


@pytest.mark.parametrize(("recipe", "rounds"), ROUNDS.items())
def test_the_model_of_a_round_is_trained_from_the_one_before_and_answers_in_the_next(recipe, rounds):
    pytest.importorskip("torch")
    steps = plan(recipe)
    models = [f"step:policy-{number}" for number in range(rounds + 1)]
    for number in range(1, rounds + 1):
        assert steps[f"policy-{number}"].settings["model"] == models[number - 1]
        drawn = steps.get(f"draw-{number}") or steps[f"drawn-{number}"]
        assert drawn.settings["model"] == models[number - 1]
    for number, model in enumerate(models):
        assert steps[f"answers-{number}"].settings["model"] == model
        measured = steps[f"measured-{number}"].settings
        assert (measured["model"], measured["reference"]) == (model, "step:policy-0")
    # Every round answers the same prompts under the same settings, but for the model.
    asked = [{**steps[f"answers-{number}"].settings, "model": ""} for number in range(rounds + 1)]
    assert all(each == asked[0] for each in asked)
    assert (asked[0]["temperature"], asked[0]["top_p"], asked[0]["split"]) == (1.0, 1.0, "test")
    # What is measured was read as it was asked: prompts are cut to the same length, 112 of 128 positions.
    limits = {steps[f"measured-{number}"].settings["max_prompt_length"] for number in range(rounds + 1)}
    assert limits == {steps["scratch"].settings["max_length"] - asked[0]["max_new_tokens"]} == {112}
    trainings = [{**steps[f"policy-{number}"].settings, "model": ""} for number in range(1, rounds + 1)]
    assert all(each == trainings[0] for each in trainings)
    assert len({steps[name].settings["seed"] for name in steps if name.startswith("draw")}) == rounds + (
        recipe == "local_self_play"
    )
    assert steps["rounds"].settings["answers"] == [f"step:measured-{number}" for number in range(rounds + 1)]


def test_on_policy_pairs_are_best_and_worst_of_five_and_ask_for_the_better_score():
    pytest.importorskip("torch")
    steps = plan("local_on_policy")
    for number in (1, 2, 3):
        assert steps[f"draw-{number}"].settings["n"] == 5
        assert steps[f"pairs-{number}"].settings["rule"] == "best_worst"
        assert steps[f"asked-{number}"].settings["mode"] == "ra_plus"
        chain = [f"draw-{number}", f"scored-{number}", f"pairs-{number}", f"asked-{number}", f"policy-{number}"]
        assert [steps[name].take for name in chain[1:]] == chain[:-1]
    assert [steps[f"read-{number}"].take for number in range(4)] == [f"gold-{number}" for number in range(4)]


def test_self_play_evolves_selected_prompts_and_joins_selected_pairs_to_the_base():
    pytest.importorskip("torch")
    steps = plan("local_self_play")
    for number, model in ((1, "step:policy-0"), (2, "step:policy-1")):
        chosen, kept = steps[f"chosen-{number}"], steps[f"kept-{number}"]
        assert chosen.take == "pairs"
        assert kept.take == f"pairs-{number}"
        for step, keep, weight in ((chosen, 0.25, 2.5), (kept, 0.5, 1)):
            assert (step.settings["metric"], step.settings["model"]) == ("alignment_potential", model)
            assert (step.settings["keep"], step.settings["weight"]) == (keep, weight)
        assert (steps[f"evolved-{number}"].take, steps[f"evolved-{number}"].settings["over"]) == (chosen.name, "pairs")
        assert steps[f"drawn-{number}"].take == f"evolved-{number}"
        assert steps[f"merged-{number}"].take == "pairs"
        assert steps[f"merged-{number}"].settings["other"] == f"step:{kept.name}"
        assert steps[f"policy-{number}"].take == f"merged-{number}"


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "rounds"), ROUNDS.items())
def test_each_runs_offline_to_its_table_and_again_does_nothing(recipe, rounds, tmp_path):
    changes = [*SMALL, *(f"policy-{number}.max_steps=4" for number in range(1, rounds + 1))]
    words = [word for change in changes for word in ("--set", change)]
    words = [sys.executable, "-m", "pairwright", "run", str(ROOT / "recipes" / f"{recipe}.yaml"), "-o", "run", *words]
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "OMP_NUM_THREADS": "1",
        "PAIRWRIGHT_CACHE": str(tmp_path / "s"),
    }
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(next((tmp_path / "run").glob("*-rounds/result.json")).read_text(encoding="utf-8"))
    assert [row["round"] for row in result["table"]] == list(range(rounds + 1))
    assert result["table"][0]["kl"] == 0
    for row in result["table"]:
        assert 1 <= row["score_low"] <= row["score"] <= row["score_high"] <= 10
        assert row["length"] > 0
        assert row["unscored"] == 0
    assert all(row["kl"] != 0 and row["kl_low"] < row["kl"] < row["kl_high"] for row in result["table"][1:])
    report = json.loads(next((tmp_path / "run").glob("*-report/report.json")).read_text(encoding="utf-8"))
    (shown,) = [step["result"] for step in report["runs"][0]["steps"] if step["name"] == "rounds"]
    assert shown["table"] == result["table"]
    page = next((tmp_path / "run").glob("*-report/report.html")).read_text(encoding="utf-8")
    assert "All rows of rounds" in page
    again = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert again.stderr.count("done before") == len(list((tmp_path / "run").glob("*/done.json")))
