"""Every recipe of the repository is read, checked and planned; the published ones say what was published."""

import re
from pathlib import Path

import pytest

from pairwright.pipeline import dry_run, read_recipe
from pairwright.pipeline.plan import make_plan

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
PUBLISHED = [path for path in RECIPES if path.name.startswith("ultrafeedback_")]
RA = [path for path in PUBLISHED if "alignment_potential" not in path.name]

# arXiv 2410.08067, appendix B.1, and the authors' training files, read one by one.
LABEL_SMOOTHING = {"qwen2_7b_instruct": 0.3, "gemma_2_9b_it": 0.3}
PLACEMENT = {"qwen2_7b_instruct": "system", "llama_3.1_8b_instruct": "system"}
PER_DEVICE = {"mistral_7b_instruct_v0.3": 8, "gemma_2_9b_it": 2, "sppo_gemma_2_9b": 2}
# SimPO's training_configs: beta, gamma / beta, learning rate.
SIMPO = {"llama_3_8b_instruct": (10, 0.3, 1e-6), "gemma_2_9b_it": (10, 0.5, 8e-7)}


def model_of(path: Path) -> str:
    kinds = "multi_attribute|half_ra|ra_plus|ira|ra|alignment_potential_40"
    return re.fullmatch(rf"ultrafeedback_(.+?)_({kinds})", path.stem).group(1)


def settings_of(path: Path, verb: str) -> list[dict]:
    return [step.settings for step in read_recipe(path) if step.do == verb]


def test_the_published_settings_are_all_there():
    kinds = ("ra_plus", "half_ra", "ira", "multi_attribute", "alignment_potential_40")
    assert all(any(kind in path.name for path in PUBLISHED) for kind in kinds)
    assert {model_of(path) for path in PUBLISHED if path.stem.endswith("_ra") and "half" not in path.stem} == {
        "mistral_7b_instruct_v0.3", "qwen2_7b_instruct", "llama_3.1_8b_instruct", "gemma_2_9b_it", "sppo_gemma_2_9b",
    }  # fmt: skip


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_dry_run_of_each(path, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    rows = dry_run(path)
    assert all(row.state == "run" for row in rows)
    assert rows[0].verb in ("read", "world lists")
    assert rows[-1].verb == "report"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_each_opens_with_its_source_and_its_command(path):
    head = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert f"pairwright run recipes/{path.name}" in head
    if path in PUBLISHED:
        assert "Source: arXiv" in head
        assert "Hardware:" in head


@pytest.mark.parametrize("path", RA, ids=lambda path: path.stem)
def test_reward_augmented_training_has_the_published_hyperparameters(path):
    model = model_of(path)
    for train in settings_of(path, "train"):
        assert train["loss"] == "dpo"
        assert train["beta"] == 0.01
        assert train["learning_rate"] == 5e-7
        assert train["lr_scheduler_type"] == "cosine"
        assert train["warmup_steps"] == 0.1
        assert train["num_train_epochs"] == 1
        assert (train["max_length"], train["max_prompt_length"]) == (1024, 512)
        assert train["seed"] == 42
        assert train.get("label_smoothing", 0) == LABEL_SMOOTHING.get(model, 0)
        assert train["per_device_train_batch_size"] == PER_DEVICE.get(model, 4)
        assert train["per_device_train_batch_size"] * train["gradient_accumulation_steps"] == 128
    assert all(step["placement"] == PLACEMENT.get(model, "user") for step in settings_of(path, "relabel"))


@pytest.mark.parametrize("path", [path for path in PUBLISHED if path not in RA], ids=lambda path: path.stem)
def test_alignment_potential_has_the_published_hyperparameters(path):
    beta, ratio, rate = SIMPO[model_of(path)]
    train = settings_of(path, "train")[0]
    assert (train["loss"], train["beta"], train["learning_rate"]) == ("simpo", beta, rate)
    assert train["gamma"] == pytest.approx(ratio * beta)
    assert (train["max_length"], train["max_prompt_length"]) == (2048, 1800)
    assert train["per_device_train_batch_size"] * train["gradient_accumulation_steps"] == 128
    select = settings_of(path, "select")[0]
    assert (select["metric"], select["keep"], select["weight"]) == ("alignment_potential", 0.4, 1.0)


def test_the_variants_differ_from_plain_ra_in_their_relabelling_only():
    """RA+ and half-RA are the Qwen2 recipe with another mode, and nothing else."""
    base = read_recipe(ROOT / "recipes" / "ultrafeedback_qwen2_7b_instruct_ra.yaml")
    for kind in ("ra_plus", "half_ra"):
        other = read_recipe(ROOT / "recipes" / f"ultrafeedback_qwen2_7b_instruct_{kind}.yaml")
        differing = [(a, b) for a, b in zip(base, other, strict=True) if a != b]
        assert len(differing) == 1
        assert differing[0][1].settings == {**differing[0][0].settings, "mode": kind}


@pytest.mark.parametrize("path", [path for path in PUBLISHED if path not in RA], ids=lambda path: path.stem)
def test_the_metrics_that_alignment_potential_is_compared_with_are_a_few_settings_away(path):
    without = [f"select.{name}=null" for name in ("weight", "model", "as", "max_length", "max_prompt_length")]
    for metric, changes in (("implicit_margin", without[:1]), ("explicit_gap", without), ("random", without)):
        rows = dry_run(path, set=[f"select.metric={metric}", *changes])
        assert f"metric={metric}" in next(row.settings for row in rows if row.name == "select")


def test_ira_trains_twice_from_the_model_itself_with_the_same_settings():
    steps = {step.name: step for step in read_recipe(ROOT / "recipes" / "ultrafeedback_qwen2_7b_instruct_ira.yaml")}
    assert steps["plain"].settings == steps["train"].settings
    plan = {step.name: step for step in make_plan(tuple(steps.values()))}
    assert plan["plain"].take == "pair"
    assert plan["train"].take == "relabel"
    assert plan["rewards"].needs == ("pair", "plain")
    assert plan["rewards"].settings["policy"] == "step:plain"
    # The same model is what both trainings begin with, and what the rewards are measured from.
    assert plan["rewards"].settings["reference"] == plan["plain"].settings["model"] == plan["train"].settings["model"]
    assert plan["rewards"].settings["beta"] == plan["plain"].settings["beta"]


def test_the_local_ira_begins_again_from_the_base():
    plan = {step.name: step for step in make_plan(read_recipe(ROOT / "recipes" / "local_ira.yaml"))}
    assert plan["plain"].settings == plan["ira"].settings
    assert plan["ira"].settings["model"] == plan["rewards"].settings["reference"] == "step:base"
    assert plan["rewards"].needs == ("held_out", "base", "plain")
    assert plan["ira_pairs"].take == "rewards"


def test_a_wrong_training_setting_is_found_in_a_dry_run(tmp_path, monkeypatch):
    from pairwright.errors import InputError

    monkeypatch.chdir(tmp_path)
    recipe = ROOT / "recipes" / "ultrafeedback_qwen2_7b_instruct_ra.yaml"
    with pytest.raises(InputError, match="has no setting 'learning_rat'; did you mean 'learning_rate'"):
        dry_run(recipe, set=["train.learning_rat=1"])
    with pytest.raises(InputError, match="did you mean 'label_smoothing'"):
        dry_run(recipe, set=["train.label_smothing=0.1"])
    with pytest.raises(InputError, match="beta: Input should be a valid number"):
        dry_run(recipe, set=["train.beta=hot"])
    assert dry_run(recipe, set=["train.lora=true"])
