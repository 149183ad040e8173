"""The model in training: opened with its adapter, and written when it is done."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairwright.errors import InputError, PairwrightError, need
from pairwright.logprobs.models import ADAPTER, merged, open_model, parts_of, put_on, quiet_peft
from pairwright.runs import write_beside
from pairwright.train.config import TrainConfig

if TYPE_CHECKING:
    from pairwright.train.trainer import PairTrainer

BEFORE = "before"
"""The name, on the policy, of the frozen copy of the adapter that it started from."""
BASE = "base"
"""In a training's directory: the model that its adapter stands on, where that is no model of the user's."""


def open_policy(config: TrainConfig, *, keep_before: bool = False) -> Any:
    """The model that a run starts from, ready to be trained.

    A whole model is trained as it is, or with a new adapter on it (`lora`). An adapter is trained on, or with `lora`
    merged into its base and a new one put on top: then the model with that one switched off is the one to start from.

    Args:
        config: the run.
        keep_before: whether a frozen copy of the adapter stays beside the one that is trained.

    Raises:
        InputError: there is no such model, or its adapter cannot be on it twice.
    """
    base, adapters = parts_of(config.model)
    if config.lora is not None:
        policy: Any = open_model(config.model, dtype=config.dtype)
        if adapters:
            policy = merged(policy)
        return _with_new_adapter(_quiet(policy, config), config)
    if not adapters:
        return _quiet(open_model(base, dtype=config.dtype), config)
    *below, last = adapters
    network = merged(open_model(below[-1], dtype=config.dtype)) if below else open_model(base, dtype=config.dtype)
    policy = put_on(network, last, trainable=True)
    if keep_before:
        try:
            with quiet_peft():
                policy.load_adapter(str(last), adapter_name=BEFORE, is_trainable=False)
        except ValueError as error:  # an adapter that trains the model's own biases, for one
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"the adapter {last} cannot be kept as it was beside the one that is trained; use reference 'store' "
                f"({first})"
            ) from error
    return _quiet(policy, config)


def _quiet(policy: Any, config: TrainConfig) -> Any:
    if config.disable_dropout:
        disable_dropout(policy)
    return policy


def _with_new_adapter(policy: Any, config: TrainConfig) -> Any:
    peft = need("peft", extra="train")
    lora = config.lora
    assert lora is not None
    targets = lora.target_modules
    adapter = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
    )
    with quiet_peft():
        return peft.get_peft_model(policy, adapter)


def disable_dropout(model: Any) -> None:
    """Switch a model's dropout off, in its layers and in the attention that reads a rate from its module."""
    torch: Any = need("torch", extra="train")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0


def has_adapter(config: TrainConfig) -> bool:
    """Whether what is trained is an adapter."""
    return config.lora is not None or bool(parts_of(config.model).adapters)


def whole_policy(trainer: "PairTrainer", config: TrainConfig) -> Any:
    """The trained policy with all its weights on this process; every process of a training calls this together.

    Where the weights are spread over processes (FSDP, ZeRO-3), the first one opens the model again and is given them.
    """
    policy: Any = trainer.accelerator.unwrap_model(trainer.model)
    if not trainer.is_spread:
        return policy
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not trainer.args.should_save:
        return policy
    policy = open_policy(config)
    missing, unexpected = policy.load_state_dict(state, strict=False)
    tied = set(getattr(policy, "all_tied_weights_keys", None) or ())
    if lost := [name for name in (*missing, *unexpected) if name not in tied and f".{BEFORE}." not in name]:
        raise PairwrightError(f"the weights gathered from all processes do not fit the model ({lost[0]})")
    return policy


def write_adapter(policy: Any, config: TrainConfig, directory: Path, *, beside: Callable[[Path], None]) -> Any:
    """Write the adapter that was trained to `directory/adapter`, and give the model with it merged in.

    An adapter that was put on a merged one stands on a model that is nowhere yet: that goes to `directory/base`, and
    the adapter names it by the way from its own directory, so that both can be moved together. Any other directory that
    it stands on is named by that way if it is in the same run, else by its absolute path; a hub name stays.

    Args:
        policy: with its adapter.
        config: the run.
        directory: of the run.
        beside: writes tokenizer and goal format into a directory.
    """
    if BEFORE in policy.peft_config:
        policy.delete_adapter(BEFORE)
    on_merged = config.lora is not None and bool(parts_of(config.model).adapters)
    if not on_merged:  # peft looks there for the size of the vocabulary
        policy.peft_config[policy.active_adapter].base_model_name_or_path = _stands_on(config)
    with write_beside(directory / "adapter") as temporary:
        policy.save_pretrained(temporary)
        beside(temporary)
        stands_on = f"../{BASE}" if on_merged else _named(_stands_on(config), directory)
        said = json.loads((temporary / ADAPTER).read_text(encoding="utf-8"))
        said["base_model_name_or_path"] = stands_on
        (temporary / ADAPTER).write_text(json.dumps(said, indent=2, sort_keys=True), encoding="utf-8")
    if on_merged:
        with write_beside(directory / BASE) as temporary:
            merged(open_model(config.model, dtype=config.dtype)).save_pretrained(temporary)  # type: ignore[operator]
            beside(temporary)
    return merged(policy)


def _stands_on(config: TrainConfig) -> str:
    """The base, or the adapter on it, that the trained adapter was put on."""
    base, adapters = parts_of(config.model)
    below = adapters if config.lora is not None else adapters[:-1]
    return str(below[-1]) if below else base


def _named(model: str, directory: Path) -> str:
    """How the adapter in `directory/adapter` names a model, so that it is found from wherever it is opened."""
    if not Path(model).is_dir():
        return model
    place, home = Path(model).resolve(), directory.resolve()
    # A step of a recipe can be moved with the whole run, a training by itself alone.
    run = home.parent if (home / "settings.json").is_file() else home
    return os.path.relpath(place, home / "adapter") if place.is_relative_to(run) else str(place)
