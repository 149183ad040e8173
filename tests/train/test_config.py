from pathlib import Path

import pytest

from pairwright.errors import InputError
from pairwright.losses import PairLogps, PairLoss
from pairwright.train import LoraSettings, TrainConfig, resolve


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
        ({"examples": "responses"}, "'sft' alone"),
        ({"lora": {"rank": 3}}, "rank"),
        ({"max_length": 0}, "max_length"),
    ],
)
def test_what_is_wrong_is_said_with_the_nearest_right_name(settings: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        resolve(**{"model": "m"} | settings)  # type: ignore[arg-type]


def clashing(pair: PairLogps, *, max_length: int = 3, weight_decay: float = 0.5) -> PairLoss:
    return PairLoss(pair.chosen.logp, pair.chosen.logp, pair.rejected.logp)


def test_a_name_that_belongs_to_two_must_be_said_where_it_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

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
