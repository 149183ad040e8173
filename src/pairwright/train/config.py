"""What a training run is asked to do, and where each flat setting belongs.

A recipe and a command line give flat settings (`beta`, `learning_rate`, `max_length`). Each belongs to one of three:
the run (`TrainConfig`), its loss, or Hugging Face's `TrainingArguments`. `resolve` sorts them; what belongs to none is
refused with the nearest right name, and what belongs to two must be said where it is meant. Where the loss is a list of
terms, each term holds its own settings.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError, field_validator

from pairwright.errors import InputError, need
from pairwright.logprobs.models import Dtype
from pairwright.logprobs.tokenise import Truncate
from pairwright.plug import nearest, plain, settings_of
from pairwright.train.consistent import check_consistent
from pairwright.train.losses import (
    Chosen,
    LossTerm,
    Said,
    Written,
    composed,
    find_loss,
    name_of,
    no_setting,
    resolved,
    rows_of,
)

Reference = Literal["auto", "none", "columns", "store", "frozen"]
Kind = Literal["pairs", "responses", "groups"]
StopSignal = Literal["entropy_reversal", "mass_leak"]
"""Names of `pairwright.probes.turning.SIGNALS`."""

DEFAULTS: dict[str, Any] = {
    "ddp_find_unused_parameters": False,
    "learning_rate": 1e-6,
    "logging_steps": 10,
    "logging_first_step": True,
    "num_train_epochs": 1.0,
    "report_to": "none",
    "save_steps": 0.1,
    "save_total_limit": 2,
}
"""Where our defaults are not Hugging Face's. The learning rate is TRL's for preference losses; a checkpoint is written
each tenth of the run, and the last two are kept. The first step is logged: with policy = reference it shows ln 2. Every
weight has a gradient in every step, so several processes need not look for those without (in a mixture of experts there
are some: set it to true)."""

OWNED = {
    "output_dir": "output",
    "seed": "seed",
    "data_seed": "seed",
    "resume_from_checkpoint": "output (a run goes on from its own checkpoints)",
    "do_train": "train",
    "do_eval": "evaluate",
    "do_predict": "generate",
    "remove_unused_columns": "nothing: the trainer needs every column",
    "label_names": "nothing: there are no labels",
    "save_only_model": "nothing: a checkpoint must be able to go on",
    "auto_find_batch_size": "per_device_train_batch_size",
    "load_best_model_at_end": "evaluate",
    "eval_strategy": "evaluate",
    "eval_steps": "evaluate",
    "eval_on_start": "evaluate",
    "metric_for_best_model": "evaluate",
    "greater_is_better": "evaluate",
    "label_smoothing_factor": "label_smoothing of the loss",
}
"""Names of `TrainingArguments` that are decided here, and what to use in their place."""

_BESIDE = ("divergence", "weighting")
"""What a loss has beside its own settings; a term of a list has it in it."""

POSITIVE = ("per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs")
"""Settings of the trainer for which 0 means no training, or a division by it."""


class LoraSettings(BaseModel):
    """A low-rank adapter in place of full fine-tuning."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    r: Annotated[int, Field(gt=0)] = 16
    """Rank of the adapter."""
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """Scale: the adapter counts alpha / r times."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the adapter; the model's own dropout is off in any case."""
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of the layers that get one; all linear layers but the head when not given."""


class TrainConfig(Written, BaseModel):
    """One training run, resolved."""

    model: str
    """The model to start from: a `save_pretrained` directory, a hub name, or the directory of a PEFT adapter, which is
    trained on."""
    tokenizer: str | None = None
    """Its tokenizer; the model's own when not given."""
    loss: str | tuple[LossTerm, ...] = "dpo"
    """A loss of `pairwright list losses`, or `module:function`; or a list of terms that are summed, each
    `{name: dpo, weight: 0.8, beta: 0.1}`."""
    loss_settings: dict[str, Any] = {}
    """The loss's own settings, by name; a term of a list has its own in it."""
    divergence: Chosen | None = None
    """What a loss with a reference has in place of the reverse KL: `forward_kl`, `js_divergence`, or
    `{name: alpha_divergence, alpha: 0.3}`."""
    weighting: Chosen | None = None
    """A weight for each pair by what the policy thinks of it: `wpo`, `wpo_plain`, or `{name: wpo, max_weight: 2}`."""
    reference: Reference = "auto"
    """What the policy is compared with. `columns`: log-probabilities already in the data; `store`: computed before the
    training begins, each once for all trainings; `frozen`: computed at each step by the model as it was (with LoRA: the
    adapter switched off; with an adapter that is trained on: the adapter as it was); `none`; `auto`: none where the
    loss needs none, else columns where they are there and of the model to start from (or of nobody knows which), else
    the store."""
    reference_model: str | None = None
    """A reference that is another model than the one to start from; an adapter's directory, too."""
    reference_mix: Annotated[float, Field(gt=0, le=1)] | None = None
    """How far the reference goes to the policy each `reference_every` steps (TR-DPO): `mix * policy + (1 - mix) *
    reference`, weight by weight; 1 puts the policy in its place. None leaves it where it is. Below float32 it is also
    kept in float32, so that small moves add up."""
    reference_every: Annotated[int, Field(gt=0)] = 1
    """Steps from one such move to the next."""
    reference_name: str = "ref"
    """The columns are `logp_<reference_name>`, as `pairwright logprobs` wrote them."""
    lora: LoraSettings | None = None
    """A low-rank adapter; `true` is the default one. The model that is saved has it merged in. Where the model to start
    from is an adapter, that one is merged into its base first."""
    examples: Kind = "pairs"
    """What one example is: a pair; an answer by itself (`responses`); all answers to a prompt (`groups`). `pairwright
    list losses` tells what a loss takes."""
    score: str = "score"
    """The column whose numbers a loss with scores looks at: `score`, or `score_<name>`."""
    threshold: FiniteFloat | None = None
    """With `examples: responses`: answers with at least this score are wanted, the others are not."""
    anchor_goal: FiniteFloat | tuple[FiniteFloat, ...] | None = None
    """The goal that `goal_sft` trains for; None is the top of the data's goal format."""
    split: str = "train"
    """The split to train on."""
    max_length: Annotated[int, Field(gt=1)] | None = None
    """Tokens of prompt and answer; None is 1024, or the positions that the model has."""
    max_prompt_length: Annotated[int, Field(gt=0)] | None = None
    """Tokens of the prompt; None is half of `max_length`. Longer prompts are cut in the middle of the user's text."""
    truncate: Truncate = "drop"
    """What happens to an over-long answer: its pair is dropped and counted, or its end is cut off (and its EOS)."""
    dtype: Dtype = "float32"
    """Precision of the weights. (`bf16` of the trainer computes in bfloat16 on float32 weights.)"""
    disable_dropout: bool = True
    """Whether the model's own dropout, and that of an adapter it came with, is switched off, as in TRL: policy and
    reference then agree at step 1."""
    keep_checkpoints: bool = False
    """Whether checkpoints stay after the model is saved."""
    seed: int = 0
    """Of the order of the data, and of the adapter's first weights."""
    probe_every: Annotated[int, Field(gt=0)] | None = None
    """Optimiser steps from one probe of held-out pairs to the next; also before the first step and after the last one.
    None: the model is not probed while it trains."""
    probe_pairs: Annotated[int, Field(gt=0)] = 256
    """Held-out pairs that are probed, at most."""
    probe_split: str = "test"
    """The split that they are taken from; it must be in the data."""
    stop_rule: tuple[StopSignal, ...] = ()
    """Signals that end the training when one of them is seen in the probes; none unless said."""
    trainer: dict[str, Any] = {}
    """Any other setting of Hugging Face's `TrainingArguments`, by its name there."""

    @field_validator("lora", mode="before")
    @classmethod
    def _lora(cls, value: Any) -> Any:
        return LoraSettings() if value is True else None if value is False else value

    @field_validator("stop_rule", mode="before")
    @classmethod
    def _stop_rule(cls, value: Any) -> Any:
        return () if value is None else (value,) if isinstance(value, str) else value

    @field_validator("model", "tokenizer", "reference_model", mode="before")
    @classmethod
    def _path(cls, value: Any) -> Any:
        return os.fspath(value) if isinstance(value, os.PathLike) else value

    @property
    def terms(self) -> tuple[LossTerm, ...]:
        """The loss as terms; one of weight 1 where it is no list."""
        if not isinstance(self.loss, str):
            return self.loss
        own = {"settings": self.loss_settings, "divergence": self.divergence, "weighting": self.weighting}
        return (LossTerm(name=self.loss, **own),)

    @property
    def loss_name(self) -> str:
        """The loss in a word or two, for titles and messages: `dpo`, or `0.8 dpo + 0.2 sft`."""
        return " + ".join(map(str, self.terms))

    def bound_loss(self) -> Callable[..., Any]:
        """The loss with its settings fixed; the sum of its terms.

        Raises:
            InputError: there is no such loss or setting, or the terms cannot be summed.
        """
        return composed(self.terms)


def resolve(*, model: Any, loss: Said = "dpo", **settings: Any) -> TrainConfig:
    """Sort flat settings into run, loss and trainer, and check them all.

    Args:
        model: the model to start from.
        loss: a name, or terms to sum.
        settings: of the run, of the loss where it is one name, and of the trainer.

    Raises:
        InputError: a setting is unknown (with the nearest right name), belongs to two, is of no use to this loss, or
            has a wrong value.
    """
    rows = rows_of(loss)
    names = [name_of(row) for row in rows]
    of_loss = {key for name in names for key in settings_of(find_loss(name))}
    of_run, of_trainer = set(TrainConfig.model_fields), training_arguments()
    run: dict[str, Any] = {"model": model}
    for_loss = _mapping("loss_settings", settings.pop("loss_settings", None), "{beta: 0.1}")
    for_trainer = _mapping("trainer", settings.pop("trainer", None), "{learning_rate: 1e-6}")
    for name, value in settings.items():
        if isinstance(loss, str) and name in of_loss and name in of_run | of_trainer:
            other = "the run" if name in of_run else "the trainer"
            raise InputError(
                f"{name!r} is a setting of the loss {loss!r} and of {other}; "
                f"say loss_settings={{{name!r}: ...}}" + ("" if name in of_run else f" or trainer={{{name!r}: ...}}")
            )
        if name in of_run:
            run[name] = value
        elif name in of_loss:
            _once(name, for_loss, "loss_settings")[name] = value
        elif name in of_trainer or name in OWNED:
            _once(name, for_trainer, "trainer")[name] = value
        else:
            raise no_setting(name, names, of_run | of_loss | of_trainer)
    _check_names(for_trainer, of_trainer)
    for_trainer = {name: _of_its_kind(name, value) for name, value in for_trainer.items()}
    _check_values(for_trainer)
    run |= _one(loss, for_loss, run) if isinstance(loss, str) else _several(rows, names, for_loss, run)
    try:
        config = TrainConfig(**run, trainer=DEFAULTS | for_trainer)
    except ValidationError as error:
        raise InputError(f"train: {plain(error)}") from error
    check_consistent(config)
    return config


def _one(loss: str, for_loss: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the run that one loss fills."""
    beside = {key: run.get(key) for key in _BESIDE}
    term = resolved({"name": loss, "settings": for_loss, **beside})
    return {"loss": loss, "loss_settings": term.settings, **{key: getattr(term, key) for key in _BESIDE}}


def _several(
    rows: Sequence[str | Mapping[str, Any]], names: Sequence[str], for_loss: Mapping[str, Any], run: Mapping[str, Any]
) -> dict[str, Any]:
    """The field of the run that terms fill; settings beside them would be of nobody knows which.

    Raises:
        InputError: there are settings beside them.
    """
    beside = [*for_loss, *(key for key in _BESIDE if run.get(key) is not None)]
    if beside:
        owner = next((name for name in names if beside[0] in settings_of(find_loss(name))), names[0])
        raise InputError(
            f"{beside[0]!r} stands beside a list of losses; put it into the term that it is for: "
            f"{{name: {owner}, {beside[0]}: ...}}"
        )
    return {"loss": tuple(resolved(row) for row in rows)}


def training_arguments() -> set[str]:
    """Names of `TrainingArguments` that may be set here."""
    transformers = need("transformers", extra="train")
    return {field.name for field in fields(transformers.TrainingArguments) if field.init} - set(OWNED)


def _mapping(name: str, given: Any, example: str) -> dict[str, Any]:
    """Settings by name; none where nothing is said."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise InputError(f"{name} is {given!r}; give settings by name, such as {example}")
    return dict(given)


def _once(name: str, inside: dict[str, Any], where: str) -> dict[str, Any]:
    if name in inside:
        raise InputError(f"{name!r} is given twice, by itself and in {where}; leave one out")
    return inside


def _check_names(given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse names that `TrainingArguments` does not have, or that are decided here."""
    for name in given:
        if name in OWNED:
            raise InputError(f"trainer setting {name!r} is decided by pairwright; use {OWNED[name]}")
        if name not in known:
            raise InputError(f"trainer has no setting {name!r}{nearest(name, known)}")


def _check_values(given: Mapping[str, Any]) -> None:
    """Refuse values that transformers takes and that cannot work here."""
    for name in POSITIVE:
        if isinstance(given.get(name), int | float) and given[name] <= 0:
            raise InputError(f"trainer setting {name!r} is {given[name]}; give a number above 0")
    if (strategy := given.get("train_sampling_strategy", "random")) not in ("random", "sequential"):
        raise InputError(f"train_sampling_strategy {strategy!r} knows no pairs; use 'random' or 'sequential'")
    if given.get("max_steps") == 0:
        raise InputError("trainer setting 'max_steps' is 0, which is no training; give a number above 0")
    if given.get("save_strategy") == "best":
        raise InputError("save_strategy 'best' needs an evaluation while training, which there is none; use 'steps'")


@contextmanager
def in_one_sentence() -> Iterator[None]:
    """What transformers says of its settings, as a sentence.

    Raises:
        InputError: a setting cannot be, or needs a library that is not installed.
    """
    try:
        yield
    except (TypeError, ValueError, ImportError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and type(error) is not RuntimeError:
            raise  # a device that is full is no matter of settings; a missing tracker is said as RuntimeError itself
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"trainer settings: {first}") from error


def _of_its_kind(name: str, value: Any) -> Any:
    """A trainer setting of the kind that it should be: YAML 1.1 reads `1e-6` as text, and the text `no` as a switch."""
    if value is None or (value is not False and isinstance(value, int | float)):
        return value
    kind = get_type_hints(need("transformers", extra="train").TrainingArguments)[name]
    kinds = set(get_args(kind) or (kind,))
    if value is False:
        return "no" if str in kinds and not kinds & {bool, int, float} else value
    if not kinds <= {int, float, bool, type(None)}:
        return value
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise InputError(f"trainer setting {name!r}: {plain(error)}") from error
