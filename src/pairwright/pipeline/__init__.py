"""Recipes: the verbs of pairwright, one after the other, in a directory that can be killed and continued.

signature.py   a verb's signature as the schema of its settings
recipe.py      YAML to steps, and `--set`
each.py        the same steps for every value of something
plugs.py       the settings that a verb hands on to a plug
steps.py       STEPS: which function each verb is
plan.py        a recipe checked and tied together; `--dry-run`
execute.py     `run`
progress.py    what a run says while it works
"""

from pairwright.pipeline.execute import Ran, dry_run, run
from pairwright.pipeline.plan import Row
from pairwright.pipeline.recipe import RecipeStep, read_recipe
from pairwright.pipeline.steps import STEPS

__all__ = ["STEPS", "Ran", "RecipeStep", "Row", "dry_run", "read_recipe", "run"]
