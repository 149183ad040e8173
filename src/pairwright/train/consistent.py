"""Settings of a training that contradict each other or are of no use to its loss, refused by name."""

from typing import TYPE_CHECKING

from pairwright.errors import InputError
from pairwright.train.losses import composed, kinds_of, labelled

if TYPE_CHECKING:
    from pairwright.losses import Asks
    from pairwright.train.config import TrainConfig


def check_consistent(config: "TrainConfig") -> None:
    """Refuse settings that cannot be together.

    Raises:
        InputError: they contradict each other, or the loss has no use for one.
    """
    from pairwright.losses import asks
    from pairwright.train.trial import try_settings

    loss = config.bound_loss()
    kinds = kinds_of(loss)
    if config.examples not in kinds:
        raise InputError(
            f"loss {config.loss_name!r} takes no {config.examples}; set examples to {' or '.join(map(repr, kinds))}"
        )
    asked = asks(loss)
    for check in (_weights, _reference, _moving, _threshold, _score, _anchor, _mean, _batch, _probes):
        check(config, asked)
    try_settings(config.terms, config.examples)


def _weights(config: "TrainConfig", asked: "Asks") -> None:
    if not any(term.weight for term in config.terms):
        raise InputError(f"loss {config.loss_name!r} has no term of a weight other than 0, so that nothing would train")


def _reference(config: "TrainConfig", asked: "Asks") -> None:
    wants, name = "ref" in asked.needs, config.loss_name
    if wants and config.reference == "none":
        raise InputError(f"loss {name!r} needs a reference; set reference to 'store', 'frozen' or 'columns'")
    if not wants and config.reference in ("frozen", "columns", "store"):
        raise InputError(f"loss {name!r} uses no reference; leave reference out")
    if config.reference_model is not None and (not wants or config.reference == "columns"):
        raise InputError("reference_model is given but no model is used as reference; leave it out")
    if "token_ref" in asked.needs and config.reference in ("columns", "store"):
        raise InputError(
            f"loss {name!r} needs the reference's number for each token, and reference {config.reference!r} has one "
            "for each answer; set reference to 'frozen'"
        )
    if asked.baseline == "mismatched_kl" and config.reference == "columns":
        raise InputError(
            f"loss {name!r} also looks at answers to other prompts, of which columns know nothing; "
            "set reference to 'store' or 'frozen'"
        )


def _moving(config: "TrainConfig", asked: "Asks") -> None:
    if config.reference_mix is None:
        if config.reference_every != 1:
            raise InputError("reference_every is given, and the reference stays as it is; set reference_mix too")
        return
    if "ref" not in asked.needs:
        raise InputError(f"loss {config.loss_name!r} uses no reference; leave reference_mix out")
    if config.reference not in ("auto", "frozen"):
        raise InputError(
            f"reference_mix moves a reference that is computed at each step, and reference {config.reference!r} is "
            "not; set reference to 'frozen', or leave reference_mix out"
        )
    if config.reference_model is not None:
        raise InputError("reference_mix moves the model to start from, not another one; leave reference_model out")
    if config.lora is not None:
        raise InputError("reference_mix moves all weights of a model, not an adapter; leave lora or reference_mix out")


def _threshold(config: "TrainConfig", asked: "Asks") -> None:
    if config.examples == "responses" and labelled(config.terms):
        if config.threshold is None:
            raise InputError(
                f"loss {config.loss_name!r} must know which answers are wanted; set threshold to the score from which "
                "one is"
            )
    elif config.threshold is not None:
        single = config.examples == "responses"
        why = "asks of no answer whether it is wanted" if single else f"is trained on {config.examples} here"
        raise InputError(f"loss {config.loss_name!r} {why}; leave threshold out")


def _score(config: "TrainConfig", asked: "Asks") -> None:
    if config.score == "score":
        return
    if "score" not in asked.needs and config.threshold is None:
        raise InputError(f"loss {config.loss_name!r} looks at no score; leave score out")
    if not config.score.startswith("score_"):
        raise InputError(f"score is {config.score!r}, which is no column of scores; say 'score_{config.score}'")


def _anchor(config: "TrainConfig", asked: "Asks") -> None:
    if config.anchor_goal is not None and "anchor" not in asked.needs:
        raise InputError(f"loss {config.loss_name!r} has no use for anchor_goal (goal_sft has); leave it out")


def _mean(config: "TrainConfig", asked: "Asks") -> None:
    """One mean is kept, and implicit rewards under other settings are numbers on another scale."""
    from pairwright.losses import asks

    if asked.baseline != "running_mean":
        return
    terms = [term for term in config.terms if asks(composed([term])).baseline == "running_mean"]
    first = terms[0]
    for term in terms[1:]:
        if (term.name, term.settings, term.divergence) != (first.name, first.settings, first.divergence):
            raise InputError(
                f"loss {config.loss_name!r} has terms of different implicit rewards that each ask for their running "
                f"mean, and there is one; keep one of them, or give both the same settings and divergence"
            )


def _batch(config: "TrainConfig", asked: "Asks") -> None:
    if asked.of_batch and int(config.trainer.get("per_device_train_batch_size", 8)) == 1:
        raise InputError(
            f"loss {config.loss_name!r} compares the rows of a micro-batch with each other, and "
            "per_device_train_batch_size is 1; set it to 2 or more (gradient_accumulation_steps brings none together)"
        )


def _probes(config: "TrainConfig", asked: "Asks") -> None:
    if config.probe_every is not None:
        if config.probe_split == config.split:
            raise InputError(
                f"probe_split is {config.probe_split!r}, which is trained on; name the split that is held out"
            )
        return
    fields = type(config).model_fields
    for name in ("probe_pairs", "probe_split", "stop_rule"):
        if getattr(config, name) != fields[name].default:
            raise InputError(f"{name} is given, and nothing is probed; set probe_every too")
