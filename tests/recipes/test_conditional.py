"""The recipes of conditional baselines, of sums of losses and of SPPO: what they plan, and a tiny run of each."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from pairwright.pipeline import read_recipe, run
from pairwright.pipeline.plan import make_plan
from pairwright.preferences import Preferences
from recipes.test_local import RUNS
from recipes.test_rounds import ROUNDS
from recipes.test_sweep import SWEEP

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
NAMES = ("steerlm", "c_rlft", "dpa", "mpo", "sppo", "algorithm1")


def plan(name: str) -> dict[str, Any]:
    return {step.name: step for step in make_plan(read_recipe(RECIPES / f"local_{name}.yaml"))}


@pytest.mark.parametrize("name", NAMES)
def test_each_trains_from_the_base_and_says_where_it_is_from(name: str) -> None:
    steps = plan(name)
    assert steps[name].settings["model"] == "step:base"
    assert steps["answers"].settings["model"] == f"step:{name}"
    head = (RECIPES / f"local_{name}.yaml").read_text(encoding="utf-8").split("\n- ")[0]
    assert "# Source: arXiv " in head


def test_every_recipe_for_ones_own_data_is_run_by_a_test() -> None:
    """Here, in test_local.py, test_rounds.py or test_sweep.py; the dry run of each is in test_recipes.py."""
    run_here = {f"local_{name}" for name in NAMES}
    assert {path.stem for path in RECIPES.glob("local_*.yaml")} == run_here | set(RUNS) | set(ROUNDS) | {SWEEP.stem}


def test_the_base_is_the_same_everywhere() -> None:
    """So that the baselines and the relabelled runs of local_ultrafeedback.yaml can be compared."""
    base = plan("ultrafeedback")["base"].settings
    assert all(plan(name)["base"].settings == base for name in NAMES)


@pytest.mark.parametrize("name", ["steerlm", "c_rlft", "dpa"])
def test_the_conditional_baselines_differ_from_the_base_in_their_data_alone(name: str) -> None:
    steps = plan(name)
    changed = {"model": "step:base", "examples": "pairs"}
    assert steps[name].settings == steps["base"].settings | changed


def test_the_published_numbers() -> None:
    terms = plan("mpo")["mpo"].settings["loss"]
    # dpo_config.py of TRL names [0.8, 0.2, 1.0] as the weights of MPO.
    assert [(term["name"], term["weight"]) for term in terms] == [("dpo", 0.8), ("bco", 0.2), ("sft", 1.0)]
    sppo = plan("sppo")["sppo"].settings
    assert (sppo["loss"], sppo["score"], 1 / sppo["beta"]) == ("sppo", "score_win_probability", 1000)
    assert plan("c_rlft")["classes"].settings["weights"] == [0.1, 1.0]
    assert plan("dpa")["directions"].settings["angles"] == (-45, 45)


def test_algorithm_1_is_relabelled_dpo_and_eta_beta_of_its_regulariser() -> None:
    steps = plan("algorithm1")
    one, other = steps["algorithm1"].settings["loss"]
    assert (one["name"], one.get("weight", 1), other["name"]) == ("dpo", 1, "goal_sft")
    assert other["weight"] == pytest.approx(0.1 * one["beta"])
    assert steps["ra_pairs"].settings["mode"] == "ra"


def source(path: Path) -> Path:
    """24 prompts with three answers each: two of them tied in every other prompt."""
    rows = []
    for i in range(24):
        for k, (score, helpfulness, verbosity) in enumerate(((9, 4, i % 3), (5, 2, 4), (5 if i % 2 else 3, 1, 1))):
            answer = " ".join([*("word", str(i), "and")[: 1 + k], str(7 * i + k)])
            rows.append(
                {
                    "prompt": f"Say the number {i} and what follows.",
                    "response": answer,
                    "score": score,
                    "score_helpfulness": helpfulness,
                    "score_verbosity": verbosity,
                }
            )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pairs(path: Path) -> Path:
    """24 scored pairs in TRL's shape."""
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Say the number {i}."}],
            "chosen": [{"role": "assistant", "content": f"It is {i}."}],
            "rejected": [{"role": "assistant", "content": f"No {i + 1}"}],
            "score_chosen": 6 + i % 4,
            "score_rejected": 1 + i % 4,
        }
        for i in range(24)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def ran(name: str, file: Path, output: Path) -> dict[str, Path]:
    """The recipe on a tiny file, and the directory of each of its steps."""
    changes = [f"data.path={file}", "held_out.test=0.25", "scratch.vocab_size=320", "scratch.hidden_size=16"]
    changes += ["scratch.heads=2", "scratch.layers=1", "answers.limit=2", "answers.max_new_tokens=4"]
    for training in ("base", name):
        changes += [f"{training}.per_device_train_batch_size=4", f"{training}.max_length=192"]
        changes += [f"{training}.logging_steps=1", f"{training}.save_strategy='no'"]
    run(RECIPES / f"local_{name}.yaml", output=output, set=changes)
    return {path.name.partition("-")[2]: path for path in output.iterdir() if path.is_dir()}


def logged(step: Path) -> list[dict[str, float]]:
    """What each step of a training logged."""
    rows = [json.loads(line) for line in (step / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if "loss" in row]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each_runs_on_a_few_rows_of_ones_own(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    of_pairs = name in ("mpo", "algorithm1")
    file = pairs(tmp_path / "pairs.jsonl") if of_pairs else source(tmp_path / "scored.jsonl")
    steps = ran(name, file, tmp_path / "run")
    losses = [row["loss"] for row in logged(steps[name])]
    assert len(losses) > 2
    assert all(map(math.isfinite, losses))
    assert (steps["report"] / "report.html").is_file()
    made = Preferences.load(steps["answers"] / "data").responses.collect()
    assert len(made) > 0
    CHECKS[name](steps)


def steerlm(steps: dict[str, Path]) -> None:
    """Every answer of every prompt once; ties stay."""
    data = Preferences.load(steps["relabelled"] / "data")
    assert data.lineage[-1].dropped == {}
    assert sorted(data.pairs.collect()["chosen_id"]) == list(range(72))


def c_rlft(steps: dict[str, Path]) -> None:
    """Only the answers with 9 reach the class from 8 up."""
    data = Preferences.load(steps["classes"] / "data").pairs.collect()
    assert sorted(set(zip(data["goal"].list.first(), data["weight"], strict=True))) == [(1.0, 0.1), (2.0, 1.0)]
    assert (data["weight"] == 1.0).sum() == 24
    said = json.loads((steps["c_rlft"] / "model" / "generation_goal.json").read_text())
    assert (said["asks"], said["ranges"]) == ("class", [[1.0, 2.0]])
    asked = Preferences.load(steps["answers"] / "data").responses.collect()["goal"].to_list()
    assert asked[:2] == [[2.0], [1.0]]


def dpa(steps: dict[str, Path]) -> None:
    """One row for each prompt, and generation that says a direction."""
    data = Preferences.load(steps["directions"] / "data").pairs.collect()
    assert data["prompt_id"].n_unique() == len(data) == 24
    goals = Preferences.load(steps["answers"] / "data").responses.collect()["goal"].to_list()
    assert sorted(map(tuple, goals[:3])) == [(0.8, -0.6), (0.8, 0.6), (1.0, 0.0)]


def sppo(steps: dict[str, Path]) -> None:
    """The best of 9, 5 and 5 or 3 has P = (1/2 + sigmoid(4) + sigmoid(4 or 6)) / 3, the worst one minus sums like it.

    Where policy and reference are one, the loss is 1000^2 ((P_w - 1/2)^2 + (P_l - 1/2)^2).
    """
    view = Preferences.load(steps["ends"] / "data").view("score_win_probability").collect()
    two, four, six = (1 / (1 + math.exp(-gap)) for gap in (2, 4, 6))
    best = [(0.5 + four + four) / 3, (0.5 + four + six) / 3]
    worst = [(0.5 + 0.5 + 1 - four) / 3, (0.5 + 1 - two + 1 - six) / 3]
    found = {(round(win, 9), round(lose, 9)) for win, lose in view.select("^score_win_probability_.*$").iter_rows()}
    assert found == {(round(win, 9), round(lose, 9)) for win, lose in zip(best, worst, strict=True)}
    least, most = (1e6 * ((win - 0.5) ** 2 + (lose - 0.5) ** 2) for win, lose in zip(best, worst, strict=True))
    assert least <= logged(steps["sppo"])[0]["loss"] <= most


def mpo(steps: dict[str, Path]) -> None:
    """The sum of the terms; where policy and reference are one, DPO is ln 2 and BCO twice that."""
    first = logged(steps["mpo"])[0]
    dpo, bco, sft = (first[f"pairwright/loss_{term}"] for term in ("dpo", "bco", "sft"))
    assert (dpo, bco) == (pytest.approx(math.log(2)), pytest.approx(2 * math.log(2)))
    assert first["loss"] == pytest.approx(0.8 * dpo + 0.2 * bco + sft)


def algorithm1(steps: dict[str, Path]) -> None:
    """DPO, and a hundredth of the summed likelihood."""
    for row in logged(steps["algorithm1"]):
        assert row["loss"] == pytest.approx(row["pairwright/loss_dpo"] + 0.01 * row["pairwright/loss_goal_sft"])


CHECKS = {"steerlm": steerlm, "c_rlft": c_rlft, "dpa": dpa, "sppo": sppo, "mpo": mpo, "algorithm1": algorithm1}
