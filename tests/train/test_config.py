import json
import math
import sys
import types
from pathlib import Path

import pytest

from pairwright.errors import InputError
from pairwright.losses import LOSSES, PairLogps, PairLoss
from pairwright.train import LoraSettings, TrainConfig, resolve
from pairwright.train.losses import find_loss, kinds_of


def test_flat_settings_are_sorted_to_run_loss_and_trainer() -> None:
    config = resolve(model="m", loss="dpo", beta="1e-2", max_length=64, learning_rate="1e-6", warmup_steps=0.1, seed=3)
    assert config.loss_settings == {"beta": 0.01, "label_smoothing": 0.0}
    assert (config.max_length, config.seed) == (64, 3)
    assert config.trainer["learning_rate"] == 1e-6
    assert config.trainer["warmup_steps"] == 0.1
    assert config.trainer["num_train_epochs"] == 1.0


def test_grouped_settings_say_the_same() -> None:
    flat = resolve(model=Path("m"), beta=0.3, learning_rate=1e-4)
    grouped = resolve(model="m", loss_settings={"beta": 0.3}, trainer={"learning_rate": 1e-4})
    assert flat == grouped


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"betta": 0.1}, "no setting 'betta'; did you mean 'beta'"),
        ({"learning_rat": 0.1}, "did you mean 'learning_rate'"),
        ({"max_lenght": 10}, "did you mean 'max_length'"),
        ({"loss": "dpoo"}, "did you mean 'dpo'"),
        ({"trainer": {"learning_rat": 0.1}}, "trainer has no setting 'learning_rat'; did you mean 'learning_rate'"),
        ({"loss_settings": {"betta": 0.1}}, "did you mean 'beta'"),
        ({"loss": "simpo", "label_smoothing": 0.1}, "no setting 'label_smoothing'"),
        ({"beta": "hot"}, "beta"),
        ({"learning_rate": "hot"}, "learning_rate"),
        ({"beta": 0.1, "loss_settings": {"beta": 0.2}}, "given twice"),
        ({"output_dir": "x"}, "decided by pairwright; use output"),
        ({"eval_strategy": "steps"}, "decided by pairwright; use evaluate"),
        ({"eval_steps": 5}, "use evaluate"),
        ({"metric_for_best_model": "loss"}, "use evaluate"),
        ({"label_smoothing_factor": 0.1}, "use label_smoothing of the loss"),
        ({"train_sampling_strategy": "group_by_length"}, "use 'random' or 'sequential'"),
        ({"train_sampling_strategy": "batch_rebalance"}, "use 'random' or 'sequential'"),
        ({"loss": "simpo", "reference": "store"}, "uses no reference"),
        ({"save_strategy": "best"}, "use 'steps'"),
        ({"learning_rate": [1]}, "trainer setting 'learning_rate'.*valid number"),
        ({"per_device_train_batch_size": 0}, "'per_device_train_batch_size' is 0; give a number above 0"),
        ({"num_train_epochs": "0"}, "above 0"),
        ({"max_steps": 0}, "above 0"),
        ({"model": 5}, "model: Input should be a valid string"),
        ({"reference": "none"}, "needs a reference"),
        ({"loss": "simpo", "reference": "frozen"}, "uses no reference"),
        ({"loss": "simpo", "reference_model": "x"}, "no model is used as reference"),
        ({"examples": "responses"}, "loss 'dpo' takes no responses; set examples to 'pairs'"),
        (
            {"loss": "simpo", "label_smoothing": 0.1},
            "loss 'simpo' has no setting 'label_smoothing', which .*dpo.* have",
        ),
        ({"loss": "ld_dpo", "reference": "store"}, "each token.*set reference to 'frozen'"),
        ({"loss": "ld_dpo", "reference": "columns"}, "each token.*set reference to 'frozen'"),
        ({"reference_every": 4}, "the reference stays as it is; set reference_mix too"),
        ({"reference_mix": 0.5, "reference": "store"}, "set reference to 'frozen', or leave reference_mix out"),
        ({"reference_mix": 0.5, "reference": "columns"}, "set reference to 'frozen', or leave reference_mix out"),
        ({"reference_mix": 0.5, "lora": True}, "leave lora or reference_mix out"),
        ({"reference_mix": 0.5, "reference_model": "x"}, "leave reference_model out"),
        ({"reference_mix": 0.5, "loss": "simpo"}, "'simpo' uses no reference; leave reference_mix out"),
        ({"reference_mix": 0}, "reference_mix: Input should be greater than 0"),
        ({"reference_mix": 1.5}, "reference_mix: Input should be less than or equal to 1"),
        ({"reference_mix": 0.5, "reference_every": 0}, "reference_every: Input should be greater than 0"),
        ({"threshold": 5}, "'dpo' is trained on pairs here; leave threshold out"),
        ({"loss": "sft", "examples": "responses", "threshold": 5}, "'sft' asks of no answer.*leave threshold out"),
        ({"score": "score_helpfulness"}, "'dpo' looks at no score; leave score out"),
        ({"anchor_goal": 10}, "'dpo' has no use for anchor_goal .goal_sft has.; leave it out"),
        ({"divergence": "js"}, "no divergence 'js'.*js_divergence"),
        ({"divergence": {"name": "js_divergence", "alpha": 0.5}}, "'js_divergence' has no setting 'alpha'"),
        ({"divergence": {"alpha": 0.5}}, "divergence needs a name"),
        ({"loss": "simpo", "divergence": "js_divergence"}, "simpo"),
        ({"weighting": "wqo"}, "no weighting 'wqo'; did you mean 'wpo'"),
        ({"loss": [{"name": "modpo", "weight": 0.5}]}, "'weight' could mean two things"),
        ({"loss": "kto", "examples": "responses"}, "'kto' must know which answers are wanted; set threshold"),
        ({"loss": ["kto", "sft"], "examples": "responses"}, "'kto . sft' must know which answers are wanted"),
        ({"loss": "kto", "examples": "groups"}, "takes no groups; set examples to 'pairs' or 'responses'"),
        ({"loss": "kto", "reference": "columns"}, "answers to other prompts.*set reference to 'store' or 'frozen'"),
        ({"loss": "infonca", "examples": "groups", "threshold": 5}, "is trained on groups here; leave threshold out"),
        ({"loss": "infonca", "score": "helpfulness"}, "no column of scores; say 'score_helpfulness'"),
        ({"loss": ["kto", "bco"]}, "different baselines"),
        ({"loss": []}, "give a name, or a list of terms"),
        ({"loss": 5}, "give a name, or a list of terms"),
        ({"loss": ["dpo", 5]}, "give a name, or a list of terms"),
        ({"loss": [{"weight": 1.0}]}, "a term of the loss has no name"),
        ({"loss": ["dpoo"]}, "did you mean 'dpo'"),
        ({"loss": [{"name": "dpo", "betta": 1.0}]}, "loss 'dpo' has no setting 'betta'; did you mean 'beta'"),
        ({"loss": [{"name": "dpo", "weight": "much"}]}, "weight of the term 'dpo' must be a finite number"),
        ({"loss": [{"name": "dpo", "weight": "inf"}]}, "weight of the term 'dpo' must be a finite number"),
        ({"loss": ["dpo", "sft"], "beta": 0.1}, "'beta' stands beside a list.*{name: dpo, beta: ...}"),
        ({"loss": ["sft", "dpo"], "loss_settings": {"beta": 1}}, "'beta' stands beside a list.*{name: dpo, beta: ...}"),
        ({"loss": ["dpo", "sft"], "divergence": "js_divergence"}, "'divergence' stands beside a list"),
        ({"loss": ["dpo", "sft"], "gamma": 0.1}, "loss 'dpo . sft' has no setting 'gamma', which .*simpo"),
        ({"loss": ["dpo", "sft"], "examples": "responses"}, "'dpo . sft' takes no responses"),
        ({"loss": [{"name": "dpo", "weight": True}]}, "weight of the term 'dpo' must be a finite number"),
        ({"loss": [{"name": "dpo", "weight": 0}]}, "no term of a weight other than 0"),
        ({"loss": [{"name": "dpo", "weight": 0}, {"name": "sft", "weight": 0.0}]}, "no term of a weight other than 0"),
        ({"divergence": 5}, "divergence of the term 'dpo' must be a name or a mapping"),
        ({"divergence": [1]}, "divergence of the term 'dpo' must be a name or a mapping"),
        ({"weighting": 5}, "weighting of the term 'dpo' must be a name or a mapping"),
        ({"loss_settings": [1]}, "loss_settings is .1.; give settings by name, such as {beta: 0.1}"),
        ({"loss_settings": {5: 1}}, "give settings by name"),
        ({"trainer": 5}, "trainer is 5; give settings by name, such as {learning_rate: 1e-6}"),
        ({"loss": [{"name": "dpo", "divergence": 5}]}, "divergence of the term 'dpo' must be a name or a mapping"),
        ({"loss": [{"name": "dpo", "settings": [1]}]}, "settings of the term 'dpo' must be a mapping"),
        ({"loss": [{"name": "dpo", 5: 1}]}, "has the setting 5; a setting is named by text"),
        ({"beta": -1}, "loss 'dpo': beta must be above 0 .got -1."),
        ({"loss": ["sft", {"name": "dpo", "beta": -1}]}, "loss 'dpo': beta must be above 0"),
        ({"divergence": {"name": "alpha_divergence", "alpha": -1}}, "loss 'dpo': alpha must be above 0"),
        ({"weighting": {"name": "wpo", "max_weight": -1}}, "loss 'dpo': max_weight must be above 0"),
        ({"loss": "modpo", "weight": 0.01}, "loss 'modpo': weight must be between 0.05 and 1"),
        ({"loss": "kto", "examples": "responses", "threshold": 5, "beta": 0}, "loss 'kto': beta must be above 0"),
        ({"loss": "infonca", "examples": "groups", "alpha": -1}, "loss 'infonca': alpha must be"),
        ({"loss": [{"name": "bco", "beta": 0.1}, {"name": "bco", "beta": 0.2}]}, "each ask for their running mean"),
        ({"loss": ["bco", {"name": "bco", "divergence": "js_divergence"}]}, "each ask for their running mean"),
        ({"loss": "aot", "per_device_train_batch_size": 1}, "per_device_train_batch_size is 1; set it to 2 or more"),
        ({"loss": ["sft", "aot_unpaired"], "per_device_train_batch_size": 1}, "set it to 2 or more"),
        ({"lora": {"rank": 3}}, "rank"),
        ({"max_length": 0}, "max_length"),
    ],
)
def test_what_is_wrong_is_said_with_the_nearest_right_name(settings: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        resolve(**{"model": "m"} | settings)  # type: ignore[arg-type]


def test_a_list_of_losses_is_kept_as_terms_with_all_their_settings() -> None:
    """Text numbers, as YAML 1.1 reads 1e-2, become numbers; what is not given is filled in."""
    config = resolve(
        model="m",
        loss=[
            {
                "name": "dpo",
                "weight": "8e-1",
                "beta": "1e-2",
                "divergence": {"name": "alpha_divergence", "alpha": "3e-1"},
            },
            {"name": "sft", "weight": 0.2, "weighting": "wpo"},
        ],
    )
    dpo, sft = config.terms
    assert (dpo.name, dpo.weight, dpo.settings) == ("dpo", 0.8, {"beta": 0.01, "label_smoothing": 0.0})
    assert dpo.divergence == {"name": "alpha_divergence", "alpha": 0.3}
    assert (sft.settings, sft.weighting) == ({}, {"name": "wpo", "max_weight": 1.0})
    assert (config.loss_settings, config.loss_name) == ({}, "0.8 dpo + 0.2 sft")
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


def test_a_loss_with_a_weight_of_its_own_says_it_under_settings() -> None:
    (term,) = resolve(model="m", loss=[{"name": "modpo", "settings": {"weight": 0.3}}]).terms
    assert (term.weight, term.settings["weight"]) == (1.0, 0.3)
    (term,) = resolve(model="m", loss=[{"name": "modpo", "weight": 2, "settings": {"weight": 0.3}}]).terms
    assert (term.weight, term.settings["weight"]) == (2.0, 0.3)
    assert resolve(model="m", loss="modpo", weight=0.3).loss_settings["weight"] == 0.3


def test_the_sum_is_the_sum() -> None:
    """0.8 ln 2 + 0.2 * 12 / 8 at policy = reference."""
    import torch

    from pairwright.losses import Side

    config = resolve(model="m", loss=[{"name": "dpo", "weight": 0.8}, {"name": "sft", "weight": 0.2}])
    logp, length = torch.tensor([-12.0]), torch.tensor([8])
    side = Side(logp, length, ref=logp)
    assert config.bound_loss()(PairLogps(side, side)).loss.item() == pytest.approx(0.8 * math.log(2) + 0.2 * 1.5)


def test_one_loss_and_a_list_of_it_are_the_same_loss() -> None:
    for settings in ({"beta": 0.3}, {"beta": 0.3, "divergence": "js_divergence"}, {"weighting": "wpo_plain"}):
        flat = resolve(model="m", loss="dpo", **settings)
        for listed in ([{"name": "dpo", **settings}], {"name": "dpo", **settings}):
            assert resolve(model="m", loss=listed).terms == flat.terms


def test_a_run_may_move_its_reference_and_name_its_goal() -> None:
    config = resolve(model="m", reference_mix=0.6, reference_every=16)
    assert (config.reference, config.reference_mix, config.reference_every) == ("auto", 0.6, 16)
    assert resolve(model="m", loss="infonca", score="score_helpfulness").score == "score_helpfulness"
    assert resolve(model="m", loss="sft", examples="responses").threshold is None
    assert resolve(model="m", loss="goal_sft", anchor_goal=[9, 7.5]).anchor_goal == (9.0, 7.5)


def clashing(pair: PairLogps, *, max_length: int = 3, weight_decay: float = 0.5) -> PairLoss:
    return PairLoss(pair.chosen.logp, pair.chosen.logp, pair.rejected.logp)


def test_a_name_that_belongs_to_two_must_be_said_where_it_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("own_losses")
    module.clashing = clashing  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_losses", module)
    with pytest.raises(InputError, match="of the loss 'own_losses:clashing' and of the run"):
        resolve(model="m", loss="own_losses:clashing", max_length=5)
    with pytest.raises(InputError, match="and of the trainer"):
        resolve(model="m", loss="own_losses:clashing", weight_decay=0.1)
    config = resolve(
        model="m", loss="own_losses:clashing", loss_settings={"max_length": 5}, trainer={"weight_decay": 0.1}
    )
    assert config.loss_settings == {"max_length": 5, "weight_decay": 0.5}


def test_lora_may_be_said_in_three_ways() -> None:
    assert resolve(model="m", lora=True).lora == LoraSettings()
    assert resolve(model="m", lora=False).lora is None
    assert resolve(model="m", lora={"r": 4}).lora == LoraSettings(r=4)


def test_a_resolved_config_goes_through_json_unchanged() -> None:
    config = resolve(model="m", lora={"r": 4, "target_modules": ["q_proj"]}, beta=0.2)
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_loss_is_tried_with_its_own_settings_and_takes_them(name: str) -> None:
    for kind in kinds_of(find_loss(name)):
        threshold = 5 if kind == "responses" and name not in ("sft", "sft_sum") else None
        resolve(model="m", loss=name, examples=kind, threshold=threshold)


def test_a_loss_of_ones_own_is_not_tried_on_made_up_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    def graded(pair: PairLogps) -> PairLoss:
        raise InputError("these scores are no grades from 1 to 10")

    module = types.ModuleType("own_grades")
    module.graded = graded  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_grades", module)
    assert resolve(model="m", loss=["own_grades:graded", "sft"]).terms[0].name == "own_grades:graded"


def test_two_terms_with_one_mean_may_differ_in_what_the_mean_does_not_see() -> None:
    terms = resolve(model="m", loss=[{"name": "bco", "weighting": "wpo_plain"}, {"name": "bco", "weight": 0.5}]).terms
    assert [term.name for term in terms] == ["bco", "bco"]


def test_a_number_that_is_not_finite_is_written_as_text_and_read_again() -> None:
    """JSON has no infinity; null would be the same for infinity and for no number, and so would their digests."""
    config = resolve(model="m", weighting={"name": "wpo", "max_weight": math.inf}, max_grad_norm=math.inf)
    written = json.loads(json.dumps(config.model_dump(mode="json"), allow_nan=False))
    assert (written["weighting"], written["trainer"]["max_grad_norm"]) == ({"name": "wpo", "max_weight": "inf"}, "inf")
    assert json.loads(config.model_dump_json()) == written
    again = TrainConfig.model_validate(written)
    assert resolve(model="m", weighting=again.weighting).weighting == {"name": "wpo", "max_weight": math.inf}
    (term,) = resolve(model="m", loss=[{"name": "dpo", "weighting": {"name": "wpo", "max_weight": "inf"}}]).terms
    assert term.model_dump(mode="json")["weighting"] == {"name": "wpo", "max_weight": "inf"}
    assert term.model_dump()["weighting"] == {"name": "wpo", "max_weight": math.inf}


def test_no_that_yaml_reads_as_a_switch_is_text_where_text_is_wanted() -> None:
    trainer = resolve(
        model="m", save_strategy=False, logging_first_step=False, trainer={"logging_strategy": False}
    ).trainer
    assert (trainer["save_strategy"], trainer["logging_strategy"], trainer["logging_first_step"]) == ("no", "no", False)
