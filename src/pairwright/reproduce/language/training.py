"""The project's own trainer, for many short trainings of a small model on one core."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from pairwright.logprobs.core import Batch, answer_logps
from pairwright.logprobs.models import no_bars
from pairwright.losses.compose import Term, compose
from pairwright.train.examples import Example
from pairwright.train.records import Kind, collate
from pairwright.train.reference import columns, none
from pairwright.train.trainer import PairTrainer

_AT_ONCE = 256


def opened(place: Path) -> tuple[Any, Any]:
    """A model, ready to answer, and its tokenizer."""
    with no_bars():
        model: Any = AutoModelForCausalLM.from_pretrained(place)
    return model.eval(), AutoTokenizer.from_pretrained(place, padding_side="left")


def trained(
    model: Any,
    rows: Sequence[Example],
    loss: Sequence[str | Mapping[str, Any]],
    *,
    kind: Kind,
    steps: int,
    batch: int,
    rate: float,
    seed: int,
    schedule: Literal["cosine", "constant_with_warmup"] = "cosine",
    warmup: int = 10,
    callbacks: Sequence[TrainerCallback] = (),
) -> Any:
    """Train a model in place and give it back, ready to answer.

    Args:
        model: whose weights move.
        rows: the examples; with references where the loss compares with one.
        loss: the terms.
        kind: what an example is.
        steps: of AdamW without weight decay, gradients of length 1 at most.
        batch: examples of a step.
        rate: the largest learning rate.
        seed: of the order.
        schedule: of the rate. With a constant one the model after some steps is what a shorter training would give.
        warmup: one step in so many is warm-up, at least one.
        callbacks: what else is called as it goes.
    """
    with tempfile.TemporaryDirectory() as place:
        args = TrainingArguments(
            output_dir=place,
            max_steps=steps,
            per_device_train_batch_size=batch,
            learning_rate=rate,
            lr_scheduler_type=schedule,
            warmup_steps=max(1, steps // warmup),
            weight_decay=0.0,
            adam_beta2=0.99,
            max_grad_norm=1.0,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            seed=seed,
            data_seed=seed,
        )
        reference = none if rows[0].refs is None else columns
        bound = compose([Term.of(row) for row in loss])
        trainer = PairTrainer(model, args, rows, bound, kind=kind, reference=reference, callbacks=list(callbacks))
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return model.eval()


def with_references(model: Any, rows: Sequence[Example]) -> list[Example]:
    """The same examples, each with the log-probabilities of its answers, and of its stranger, by a model."""
    found: list[Example] = []
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        said = _logps(model, part)
        for row in part:
            found.append(replace(row, refs=tuple(said[: len(row.answers)])))
            del said[: len(row.answers)]
    strangers = [row.stranger for row in rows if row.stranger is not None]
    if rows and len(strangers) == len(rows):
        alone = zip(rows, strangers, strict=True)
        values = _logps(
            model, [replace(row, answers=(other,), scores=None, refs=None, named=None) for row, other in alone]
        )
        found = [replace(row, stranger_ref=value) for row, value in zip(found, values, strict=True)]
    return found


@torch.no_grad()
def _logps(model: Any, rows: Sequence[Example]) -> list[float]:
    plain = [replace(row, stranger=None, stranger_ref=None, anchor=None) for row in rows]
    said: list[float] = answer_logps(model, Batch.from_inputs(collate(plain))).logp.tolist()
    return said
