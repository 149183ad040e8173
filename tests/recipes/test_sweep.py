"""The sweep over beta: what its block becomes, and a real, small run to its curve."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pairwright.pipeline import read_recipe
from pairwright.pipeline.plan import make_plan

ROOT = Path(__file__).resolve().parents[2]
SWEEP = ROOT / "recipes" / "local_beta_sweep.yaml"
BETAS, SEEDS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0), (1, 2, 3)
SMALL = ["data.prompts=60", "text.prompts=400", "start.max_steps=30", "start.warmup_steps=3"]


def test_every_beta_is_trained_with_every_seed_from_one_start_on_the_same_pairs():
    pytest.importorskip("torch")
    steps = {step.name: step for step in make_plan(read_recipe(SWEEP))}
    trained = {name: step for name, step in steps.items() if name.startswith("dpo-")}
    assert sorted((step.settings["beta"], step.settings["seed"]) for step in trained.values()) == [
        (beta, seed) for beta in BETAS for seed in SEEDS
    ]
    assert all((step.take, step.settings["model"]) == ("pairs", "step:start") for step in trained.values())
    for name in trained:
        rest = name.removeprefix("dpo")
        assert steps[f"measured{rest}"].settings["reference"] == "step:start"
        assert steps[f"answers{rest}"].settings["temperature"] == 1.0  # a KL by samples needs the policy itself


@pytest.mark.slow
def test_a_small_sweep_ends_in_a_curve_of_score_over_distance_and_one_number_in_page_and_json(tmp_path):
    """Eighteen trainings of two steps: too few to move far, enough that each has its place."""
    changes = [*SMALL, *(f"dpo-{beta:g}-{seed}.max_steps=2" for beta in BETAS for seed in SEEDS)]
    changes += [f"dpo-{beta:g}-{seed}.probe_every=2" for beta in BETAS for seed in SEEDS]
    words = [word for change in changes for word in ("--set", change)]
    words = [sys.executable, "-m", "pairwright", "run", str(SWEEP), "-o", "run", *words]
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "OMP_NUM_THREADS": "1",
        "PAIRWRIGHT_CACHE": str(tmp_path / "s"),
    }
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    diagnosis = json.loads(next((tmp_path / "run").glob("*-diagnose/diagnosis.json")).read_text(encoding="utf-8"))
    (budget,) = [part for part in diagnosis["parts"] if part["name"] == "budget"]
    assert [(row["beta"], row["seed"]) for row in budget["result"]["table"]] == [(b, s) for b in BETAS for s in SEEDS]
    (hump,) = [each for each in budget["findings"] if each["check"] == "hump"]
    report = next((tmp_path / "run").glob("*-report/report.json")).read_text(encoding="utf-8")
    assert json.dumps(hump["says"])[1:-1] in report
    page = next((tmp_path / "run").glob("*-report/report.html")).read_text(encoding="utf-8")
    assert "Score by distance from the start" in page
