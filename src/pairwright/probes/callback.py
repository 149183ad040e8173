"""Probes in anyone's trainer: a callback for `transformers.Trainer` and what is made of it, such as TRL's.

    from pairwright.probes import Probe

    trainer = DPOTrainer(...)
    trainer.add_callback(Probe(trainer, read("pairs.jsonl"), output="runs/mine"))
    trainer.train()

Then `pairwright report runs/mine` and `pairwright diagnose runs/mine` have the same pages as for `pairwright train`.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pairwright.errors import InputError
from pairwright.goals import GoalFormat
from pairwright.logprobs.tokenise import DEFAULT_MAX_LENGTH, Limits
from pairwright.preferences import Preferences
from pairwright.probes.held import held_out
from pairwright.probes.live import Prober
from pairwright.probes.reading import encode
from pairwright.probes.scale import scale_in_trl
from pairwright.probes.stop import stopped
from pairwright.probes.store import About, check_folder
from pairwright.runs import versions, write_json
from pairwright.train.callbacks import MetricsFile
from pairwright.train.ranks import by_first

MADE_BY = "pairwright probe"
"""Stands in a `training.json` that a callback wrote, not `train`."""
TRAINING, METRICS = "training.json", "metrics.jsonl"

_TRAINER = (
    "learning_rate",
    "lr_scheduler_type",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "weight_decay",
    "max_grad_norm",
    "warmup_steps",
    "optim",
    "bf16",
    "fp16",
)
"""Settings of the trainer that are recorded."""
_LOSS = ("beta", "label_smoothing", "loss_weights", "simpo_gamma", "desirable_weight", "undesirable_weight")
"""Settings of TRL's losses that are recorded, where there are such."""


class Probe(TrainerCallback):
    """Probe a model with held-out pairs while any trainer of transformers or TRL trains it.

    At the start, every `every` steps and at the end it writes what the model says of the pairs to `OUTPUT/probes`, and
    logs the means as `pairwright/probe_chosen_logp` and so on (`live.means_of`), to whatever the trainer reports to. At
    the end also the log-ratio of each token for some pairs. `OUTPUT/metrics.jsonl` gets the trainer's own lines and
    `OUTPUT/training.json` what was trained. The training itself is not changed by any of it. A training that goes on
    from a checkpoint goes on with its probes.

    Args:
        trainer: that it is added to; the means go to what this one reports to.
        prefs: the data, with a held-out split.
        output: directory to write to; it may be the trainer's own.
        tokenizer: of the model; the trainer's when not given.
        split: the split to take pairs from.
        pairs: how many, at most.
        every: optimiser steps from one probe to the next.
        goal: how the model is asked for scores, where it is trained to be; that of `prefs` when not given.
        beta: what the loss multiplies an answer's log-ratio with to get its implicit reward; that of the trainer's
            arguments when not given, where the loss is one of those that do so (TRL's `DPOConfig` and `KTOConfig`, but
            for losses of means over tokens). Otherwise margins are of log-ratios, in nats.
        max_length: tokens of prompt and answer; the trainer's when not given, or 1024.
        max_prompt_length: tokens of the prompt; half of `max_length` when not given.
        batch_tokens: tokens that the model reads at once, at most.
        seed: of the draw of the pairs.

    Raises:
        InputError: the data have no such split, or none of its pairs can be read; once it trains: the weights are
            spread over processes, or `output` holds another training.
    """

    def __init__(
        self,
        trainer: Trainer,
        prefs: Preferences,
        *,
        output: str | Path,
        tokenizer: Any = None,
        split: str = "test",
        pairs: Annotated[int, Field(gt=0)] = 256,
        every: Annotated[int, Field(gt=0)] = 50,
        goal: GoalFormat | None = None,
        beta: float | None = None,
        max_length: int | None = None,
        max_prompt_length: int | None = None,
        batch_tokens: int = 8192,
        seed: int = 0,
    ) -> None:
        if every < 1:
            raise InputError(f"every is {every}; give the optimiser steps from one probe to the next, 1 or more")
        self.trainer = trainer
        self.output, self.every, self.split, self.batch_tokens = Path(output), every, split, batch_tokens
        self.tokenizer, self.goal, self.beta = tokenizer, goal or prefs.goal_format, beta
        self.max_length, self.max_prompt_length = max_length, max_prompt_length
        self.pairs, self.dropped = held_out(prefs, split=split, pairs=pairs, seed=seed)
        self._metrics = MetricsFile(self.output / METRICS)
        self._prober: Prober | None = None
        self._start, self._dtype, self._lengths = "", "", Limits(0, 0)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Encode the pairs with the trainer's tokenizer, and probe the start."""
        by_first(lambda: _check_ours(self.output))
        self._prober = self._made(args, kwargs["model"], kwargs.get("processing_class"))
        self._metrics.on_train_begin(args, state, control)
        self._prober.on_train_begin(args, state, control, **kwargs)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Probe the model, where it is its turn."""
        self._ready.on_step_end(args, state, control, **kwargs)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep the line."""
        self._metrics.on_log(args, state, control, logs)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Probe the model as it ended, and say what was trained."""
        self._ready.on_train_end(args, state, control, **kwargs)
        by_first(lambda: write_json(self.output / TRAINING, self._record(args, state)))

    @property
    def _ready(self) -> Prober:
        assert self._prober is not None  # a trainer begins before it does anything else
        return self._prober

    def _made(self, args: TrainingArguments, model: Any, processing_class: Any) -> Prober:
        given = self.tokenizer if self.tokenizer is not None else processing_class
        tokenizer = getattr(given, "tokenizer", given)  # of a processor for several kinds of input
        if tokenizer is None:
            raise InputError("the trainer has no processing_class; give Probe the model's tokenizer")
        limits = self._limits(args, model)
        held = encode(self.pairs, tokenizer, goal=self.goal, limits=limits)
        dropped = {
            reason: self.dropped.get(reason, 0) + held.dropped.get(reason, 0)
            for reason in (*self.dropped, *held.dropped)
        }
        self._start, self._dtype = str(model.config.name_or_path), str(model.dtype).removeprefix("torch.")
        self._lengths = limits
        about = partial(
            About,
            pairs=held.pairs,
            split=self.split,
            every=self.every,
            beta=self._scale(args),
            loss=_loss(args),
            goal=held.goal,
            start=self._start,
            dropped=dropped,
            notes=(*self.pairs.lineage[-1].notes, *held.notes),
        )
        return Prober(
            self.trainer, self.output, self.pairs, held, about, every=self.every, batch_tokens=self.batch_tokens
        )

    def _scale(self, args: TrainingArguments) -> float | None:
        return scale_in_trl(args) if self.beta is None else self.beta

    def _limits(self, args: TrainingArguments, model: Any) -> Limits:
        """The lengths of the training; a trainer that cuts nothing has none, and the model's positions are left."""
        config = model.config.get_text_config()
        asked = getattr(args, "max_length", None) if self.max_length is None else self.max_length
        positions = getattr(config, "max_position_embeddings", None) or asked or DEFAULT_MAX_LENGTH
        return Limits.of(config, None if asked is None else min(asked, positions), self.max_prompt_length)

    def _record(self, args: TrainingArguments, state: TrainerState) -> Mapping[str, Any]:
        """What `train` writes of a training, as far as a callback knows it."""
        said = {name: _plain(getattr(args, name)) for name in (*_TRAINER, *_LOSS) if hasattr(args, name)}
        return {
            "made_by": MADE_BY,
            "arguments": type(args).__name__,
            "beta": self._scale(args),
            "config": {
                "model": self._start,
                "loss": _loss(args),
                "loss_settings": {name: said[name] for name in _LOSS if said.get(name) is not None},
                "seed": args.seed,
                "dtype": self._dtype,
                "probe_every": self.every,
                "probe_pairs": self._ready.held.pairs,
                "probe_split": self.split,
                "trainer": {name: said[name] for name in _TRAINER if name in said},
            },
            "limits": self._lengths._asdict(),
            "goal": None if self._ready.held.goal is None else self._ready.held.goal.model_dump(mode="json"),
            "steps": state.global_step,
            "stopped": stopped(self.output),
            "versions": versions() | _version("trl"),
        }


def _check_ours(output: Path) -> None:
    """Refuse a directory with a training that no callback wrote, or with other files where probes go."""
    check_folder(output)
    path = output / TRAINING
    if not path.is_file():
        return
    try:
        made_by = json.loads(path.read_text(encoding="utf-8")).get("made_by")
    except (OSError, ValueError, AttributeError):
        made_by = None
    if made_by != MADE_BY:
        raise InputError(f"{output} holds another training; choose another output for its probes")


def _loss(args: TrainingArguments) -> str | None:
    """TRL's name of the loss; several are summed."""
    said = getattr(args, "loss_type", None)
    return " + ".join(map(str, said)) if isinstance(said, Sequence) and not isinstance(said, str) else said


def _plain(value: Any) -> Any:
    """A setting as JSON has it: the value of an enumeration."""
    return getattr(value, "value", value)


def _version(name: str) -> dict[str, str]:
    with suppress(PackageNotFoundError):
        return {name: version(name)}
    return {}
