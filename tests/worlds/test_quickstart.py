"""The recipe of the quickstart is right, treats both trainings alike, and its headline is the run's own numbers."""

import json

import pytest

from pairwright.pipeline import read_recipe
from pairwright.pipeline.plan import make_plan
from pairwright.worlds.quickstart import RECIPE, Shown, quickstart

PREFERENCE = ("plain", "ra")


def test_the_recipe_plans():
    plan = make_plan(read_recipe(str(RECIPE)))
    assert plan[-1].name == "report"


def test_both_trainings_start_from_the_same_base_and_differ_in_their_loss_alone():
    steps = {step.name: step for step in read_recipe(str(RECIPE))}
    one, two = (steps[name] for name in PREFERENCE)
    assert {key for key, value in one.settings.items() if two.settings.get(key) != value} == {"loss", "beta"}
    assert set(two.settings) - set(one.settings) == set()
    assert steps["pairs-ra"].settings["beta"] == two.settings["loss"][0]["beta"]
    assert steps["relabel"].take == one.take == "select"
    assert two.take == "relabel"


@pytest.mark.slow
def test_a_very_short_quickstart_runs_and_prints_its_own_numbers(tmp_path):
    short = ["data.prompts=60", "text.prompts=64", "base.max_steps=2", "plain.max_steps=2", "ra.max_steps=2"]
    shown = quickstart(
        output=tmp_path / "demo", set=[*short, *(f"answers-{m}.limit=4" for m in ("base", "plain", "ra"))]
    )
    assert isinstance(shown, Shown)
    assert shown.page.is_file()
    result = json.loads(next(shown.run.glob("*-goals-ra/result.json")).read_text(encoding="utf-8"))
    row = next(line for line in str(shown).splitlines() if line.startswith("goals-ra"))
    assert [f"{cell['value']:.2f}" for cell in result["table"]][-1] in {c.split("±")[0] for c in row.split()}
