"""Every loss trains through the one trainer, from its name, with nothing else said than what its data need."""

import math
import sys
import types
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from safetensors.numpy import load_file

import tiny
from pairwright.losses import LOSSES
from pairwright.pipeline import run
from pairwright.preferences import Preferences
from pairwright.relabel import relabel
from pairwright.train import train
from pairwright.train.config import resolve
from pairwright.train.losses import kinds_of, labelled

ULTRAFEEDBACK = "data/extra/ultrafeedback_binarized_sample.jsonl.gz"
EVERY = [pytest.param(name, kind, id=f"{name}-{kind}") for name, loss in LOSSES.items() for kind in kinds_of(loss)]
# `score` of these is the probability that an answer wins, not a grade.
OF_CHANCES = ("sppo",)
# These need pairs that ask for a goal.
OF_GOALS = ("goal_sft",)


def with_chances(prefs: Preferences) -> Preferences:
    """The grades, and beside them `score_chance`: how likely an answer of this grade wins against one of 5.

    Args:
        prefs: with scores of 1 to 10.
    """
    chance = 1 / (1 + (-(pl.col("score") - 5.0)).exp())
    return prefs.then(prefs.lineage[-1], responses=prefs.responses.with_columns(score_chance=chance))


def asked(name: str, kind: str) -> dict[str, Any]:
    """What a recipe line says besides the name of the loss and the length of the training."""
    said: dict[str, Any] = {"loss": name, "examples": kind}
    if name in OF_CHANCES:
        said["score"] = "score_chance"
    if kind == "responses" and labelled(resolve(model="m", loss=name).terms):
        said["threshold"] = 6
    return said


def finite(folder: Path, steps: int) -> None:
    """The loss of each logged step is a number, and so is every weight."""
    import json

    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == steps
    assert all(value is not None and math.isfinite(value) for line in lines for value in line.values())


def moved(start: Path, end: Path) -> bool:
    before, after = load_file(start / "model.safetensors"), load_file(end / "model.safetensors")
    assert set(before) == set(after)
    return any((before[name] != after[name]).any() for name in before)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With room for the sentence of a goal, a token for each byte."""
    return tiny.model(tmp_path_factory.mktemp("tiny") / "llama", positions=1024)


@pytest.fixture(scope="module")
def plain() -> Preferences:
    return with_chances(relabel(tiny.preferences(8), "plain"))


@pytest.fixture(scope="module")
def with_goals(plain: Preferences) -> Preferences:
    return relabel(plain, "ra", placement="system")


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_it_trains_two_steps_and_moves_the_weights(
    name: str, kind: str, model: Path, plain: Preferences, with_goals: Preferences, tmp_path: Path
) -> None:
    data = with_goals if name in OF_GOALS else plain
    small = {"max_steps": 2, "per_device_train_batch_size": 4, "logging_steps": 1, "save_strategy": "no"}
    done = train(data, model=model, output=tmp_path, learning_rate=1e-3, **small, **asked(name, kind))
    finite(done.directory, 2)
    assert moved(model, done.model)


WPO = {"name": "wpo", "max_weight": 2.0}
TOGETHER: dict[str, dict[str, Any]] = {
    # Algorithm 1 of arXiv 2410.08067: eta * beta times the likelihood of the better answer under g*.
    "goals": {"loss": [{"name": "dpo", "beta": 0.1}, {"name": "goal_sft", "weight": 0.005 * 0.1}]},
    "goals_at": {"loss": ["simpo", {"name": "goal_sft", "weight": 0.1}], "anchor_goal": 7.5},
    "responses": {"loss": ["kto", {"name": "sft", "weight": 0.1}], "examples": "responses", "threshold": 6},
    "groups": {"loss": ["infonca", {"name": "rrhf", "weight": 0.1}], "examples": "groups"},
    "twice": {"loss": [{"name": "dpo", "beta": 0.1}, {"name": "dpo", "beta": 0.5, "divergence": "forward_kl"}]},
    "three": {"loss": ["bco", {"name": "dpo", "weighting": "wpo_plain"}, {"name": "sft", "weight": 0.1}]},
    "divergence": {"loss": "bco", "divergence": {"name": "alpha_divergence", "alpha": 0.3}},
    "weighting": {"loss": "dpo", "weighting": WPO},
    "tokens_of_an_adapter": {"loss": "ld_dpo", "lora": {"r": 2}},
    "named": {"loss": "modpo", "margins": {"chance": 0.5}},
    "moving": {"loss": ["kto", "ld_dpo"], "reference_mix": 0.5},
}


@pytest.mark.parametrize("name", TOGETHER)
def test_what_is_said_of_losses_works_together(
    name: str, model: Path, plain: Preferences, with_goals: Preferences, tmp_path: Path
) -> None:
    data = with_goals if name.startswith("goals") else plain
    small = {"max_steps": 2, "per_device_train_batch_size": 4, "logging_steps": 1, "save_strategy": "no"}
    done = train(data, model=model, output=tmp_path, learning_rate=1e-3, **small, **TOGETHER[name])
    finite(done.directory, 2)
    assert moved(model, done.model)


@pytest.fixture(scope="module")
def real(shared: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with 32 real pairs, plain and with goals, and a model made of them."""
    output = tmp_path_factory.mktemp("real") / "run"
    module = types.ModuleType("own_chances")
    module.with_chances = with_chances  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "own_chances", module)
        run(
            [
                {"name": "data", "do": "read", "source": str(shared(ULTRAFEEDBACK)), "limit": 32},
                {"name": "plain", "do": "own_chances:with_chances"},
                {"do": "scratch", "from": "plain", "vocab_size": 512, "hidden_size": 32, "heads": 2, "layers": 1},
                {"name": "goals", "do": "relabel", "from": "plain", "mode": "ra"},
            ],
            output=output,
        )
    return output


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_it_trains_twenty_steps_on_real_pairs_from_a_recipe_line(
    name: str, kind: str, real: Path, tmp_path: Path
) -> None:
    source = real / ("04-goals/data" if name in OF_GOALS else "02-plain/data")
    line = {"do": "train", "model": str(real / "03-scratch/model"), **asked(name, kind)}
    line |= {"max_steps": 20, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "logging_steps": 1}
    line |= {"max_length": 96, "max_prompt_length": 64, "truncate": "completion_end", "save_strategy": "no"}
    run([{"do": "read", "source": str(source)}, line], output=tmp_path / "run")
    finite(tmp_path / "run/02-train", 20)
    assert moved(real / "03-scratch/model", tmp_path / "run/02-train/model")
