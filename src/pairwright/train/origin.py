"""Which of the references a run has, and where its numbers come from."""

from typing import TYPE_CHECKING

from pairwright.errors import InputError
from pairwright.logprobs.digest import same_model
from pairwright.preferences import Preferences
from pairwright.train.config import TrainConfig
from pairwright.train.policy import has_adapter
from pairwright.train.wants import has_reference_columns

if TYPE_CHECKING:
    from pairwright.losses import Asks


def reference_of(prefs: Preferences, config: TrainConfig) -> tuple[str, str]:
    """The reference of a run; `auto` is decided here (decision 0012).

    Returns:
        `none`, `columns`, `store`, `frozen`, `adapter_off` or `adapter_before`; and where its numbers come from, in
        words, empty where there are none.

    Raises:
        InputError: the reference shall move, and what is trained is an adapter.
    """
    from pairwright.losses import asks

    asked = asks(config.bound_loss())
    wanted, start = config.reference, config.reference_model or config.model
    if wanted == "none" or "ref" not in asked.needs:
        return "none", ""
    columns, maker = _columns(prefs, config)
    if wanted == "columns":
        return wanted, columns
    if wanted == "frozen" or (wanted == "auto" and _at_each_step(config, asked)):
        return _frozen(config), f"{start}, at each step{_moving(config)}"
    passed = ""
    there = has_reference_columns(prefs, config.reference_name, examples=config.examples)
    if wanted == "auto" and config.reference_model is None and there:
        if asked.baseline == "mismatched_kl":
            passed = f" (the {columns}, know no answers to other prompts)"
        elif maker is None or _is_model(maker, config.model):
            return "columns", columns
        else:
            passed = f" (not the {columns}; reference='columns' takes them)"
    return "store", f"{start}, computed beforehand{passed}"


def _at_each_step(config: TrainConfig, asked: "Asks") -> bool:
    """Whether only a reference that is run at each step will do: it moves, or each token's number is asked for."""
    return config.reference_mix is not None or "token_ref" in asked.needs


def _frozen(config: TrainConfig) -> str:
    """How a reference is computed at each step: by a second model, or by the policy without its adapter."""
    if config.reference_model is not None:
        return "frozen"
    if config.reference_mix is not None and has_adapter(config):
        raise InputError(
            f"reference_mix moves all weights of a model, and {config.model} is an adapter; leave reference_mix out"
        )
    if config.lora is not None:
        return "adapter_off"
    return "adapter_before" if has_adapter(config) else "frozen"


def _moving(config: TrainConfig) -> str:
    if config.reference_mix is None:
        return ""
    steps = "step" if config.reference_every == 1 else f"{config.reference_every} steps"
    return f", which goes to the policy by {config.reference_mix:g} each {steps}"


def _columns(prefs: Preferences, config: TrainConfig) -> tuple[str, str | None]:
    """Reference columns in words, and the model that they are of."""
    name, maker = f"columns logp_{config.reference_name}", _maker(prefs, config.reference_name)
    return (f"{name} of {maker}" if maker else f"{name}, which came with the data"), maker


def _maker(prefs: Preferences, name: str) -> str | None:
    """The model whose log-probabilities `logprobs` wrote as `logp_<name>`; None where the lineage does not say."""
    steps = (step for step in reversed(prefs.lineage) if step.name == "logprobs" and step.settings.get("name") == name)
    step = next(steps, None)
    return None if step is None or step.settings.get("model") is None else str(step.settings["model"])


def _is_model(maker: str, model: str) -> bool:
    """Whether columns are of the model to start from; of a model that is no longer there nobody can tell."""
    try:
        return same_model(maker, model)
    except InputError:
        return False
