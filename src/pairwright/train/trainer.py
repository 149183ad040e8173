"""The one trainer, for every loss.

It is `transformers.Trainer` with five things of its own: the loss is a weighted mean over the whole optimisation step
(so a batch of 1 accumulated 8 times is a batch of 8, and one of 4 on each of 2 processes too), the order of examples
does not depend on the number of processes, metrics are means over examples, a checkpoint holds the metrics that were
not logged yet, and a checkpoint counts only when it is whole.

Three things are of a micro-batch all the same, and depend on how a step is parted: a loss that compares the rows of its
batch sees those of one micro-batch of one process; the estimate of KL is over one micro-batch of all processes; and the
running mean of rewards goes on from micro-batch to micro-batch. A run with such a loss says so in its notes.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments

from pairwright.errors import PairwrightError
from pairwright.logprobs.core import Batch, TokenLogps, token_values
from pairwright.losses import PairLogps, PointLogps, Side, asks
from pairwright.losses.compose import Sum
from pairwright.losses.types import Loss, Record
from pairwright.train.baselines import BASELINES, Now
from pairwright.train.callbacks import Keeps
from pairwright.train.config import in_one_sentence
from pairwright.train.examples import Example
from pairwright.train.measures import Meter, broken, measures, window
from pairwright.train.order import Order, Rows
from pairwright.train.output import MARK, rotate, seal
from pairwright.train.records import RECORDS, Kind, answers_of, batch_of, collate, joined, parted
from pairwright.train.reference import Reference, none

_KEPT = "baseline of the loss: "
"""Before the names under which a checkpoint keeps what a baseline remembers, among the sums of its metrics."""


class PairTrainer(Trainer):
    """Train on pairs, single answers or groups of answers, with any loss.

    Args:
        model: the policy.
        args: Hugging Face's settings.
        rows: the examples, all of one kind.
        loss: a bound loss, or a sum of them; what it says with `@uses(...)` decides what is computed for it.
        kind: what an example is, and so what record the loss is given.
        reference: what the policy is compared with.
        mark: digest of the run, written into its checkpoints.
        callbacks: what else watches the run.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        args: TrainingArguments,
        rows: Sequence[Example],
        loss: Loss,
        *,
        kind: Kind = "pairs",
        reference: Reference = none,
        mark: str = "",
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        with in_one_sentence():
            super().__init__(
                model=model,
                args=args,
                train_dataset=Rows(rows),
                data_collator=collate,
                callbacks=list(callbacks),
            )
        # compute_loss divides by the weight of the whole optimisation step, so the trainer must not divide again.
        self.loss_is_scaled_for_ga = True
        self.loss, self.kind, self.reference, self.mark, self.meter = loss, kind, reference, mark, Meter()
        self.asks = asks(loss)
        self.baseline = None if self.asks.baseline is None else BASELINES[self.asks.baseline]()
        # Old checkpoints go when the new one counts, and not before, as the trainer itself would have it.
        self._kept, args.save_total_limit = args.save_total_limit, None

    def get_train_dataloader(self) -> Any:
        """The loader of the examples, or why there is none, in a sentence."""
        with in_one_sentence():
            return super().get_train_dataloader()

    def _get_train_sampler(self, train_dataset: Any = None) -> Order:
        """The order of the examples; see `Order`."""
        rows, args = self.train_dataset.rows, self.args  # type: ignore[union-attr]
        together = args.train_batch_size * args.world_size
        batches = len(rows) // together if args.dataloader_drop_last else math.ceil(len(rows) / together)
        steps = max(math.ceil(batches / args.gradient_accumulation_steps), 1)
        return Order(
            len(rows),
            seed=args.seed if args.data_seed is None else args.data_seed,
            shuffled=args.train_sampling_strategy == "random",
            multiple=1 if args.dataloader_drop_last or args.world_size == 1 else together,
            epoch=lambda: self.state.global_step // steps,
        )

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer, or why there is none, in a sentence."""
        with in_one_sentence():
            return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """The schedule of the learning rate, or why there is none, in a sentence."""
        with in_one_sentence():
            return super().create_scheduler(num_training_steps, optimizer)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """The batches of one optimisation step and, in place of a token count, the weight of all their examples."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        weight = torch.stack([batch["weight"].double().sum() for batch in batches]).sum().to(device)
        if self.args.world_size > 1:
            weight = self.accelerator.reduce(weight, "sum")
        return batches, weight

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """This batch's share of the step's weighted mean loss: `sum(weight * loss) / (weight of the whole step)`."""
        weight = inputs["weight"]
        record = self.record(model, inputs)
        out, terms = self.loss.told(record) if isinstance(self.loss, Sum) else (self.loss(record), {})
        if model.training:
            name = "" if self.baseline is None else self.baseline.measure
            self.meter.add(measures(record, out, weight, terms=terms, baseline=name), inputs["filler"])
        total = weight.sum() if num_items_in_batch is None else num_items_in_batch
        share = (weight * out.loss).sum() / torch.as_tensor(total).clamp_min(1e-12).to(out.loss.dtype)
        # Gradients are averaged over processes; each has only its own part of the sum.
        share = share * self.args.world_size
        return (share, out) if return_outputs else share

    def record(self, model: torch.nn.Module, inputs: Mapping[str, Tensor]) -> Record:
        """What the loss is given for a batch: the policy's numbers with their gradients, and all else that it needs."""
        batch = Batch.from_inputs(inputs)
        with self.accelerator.autocast():
            ref = self.reference(model, batch, inputs)
        values, anchor = self._policy(model, batch, batch_of(inputs, "anchor_"))
        record = RECORDS[self.kind](answers_of(values, inputs, ref, needs=self.asks.needs), inputs)
        if isinstance(record, PairLogps) and anchor is not None:
            record = record._replace(anchor=anchor)
        if self.baseline is not None and isinstance(record, PairLogps | PointLogps):
            now = Now(model, inputs, record, self.loss, self.reference, self._added, self.accelerator.autocast)
            record = record._replace(baseline=self.baseline(now))
        return record

    def _policy(self, model: torch.nn.Module, batch: Batch, anchors: Batch | None) -> tuple[TokenLogps, Side | None]:
        """What the policy says of the answers, and of the anchors, in one pass."""
        collides = "token_collision" in self.asks.needs
        if anchors is None:
            return token_values(model, batch, collides=collides), None
        both = token_values(model, joined(batch, anchors), collides=collides)
        values, rest = parted(both, len(batch.answer_lengths), len(batch.answer_ids))
        return values, Side(rest.sums.logp, rest.length)

    def _added(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        added: Tensor = self.accelerator.reduce(values, "sum") if self.args.world_size > 1 else values
        return added

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of this window to a step's line, and stop a run whose loss is no number."""
        if "loss" in logs:
            means = window(self.meter.gathered(self), self.kind)
            self.meter.sums.clear()
            logs |= means
            if not math.isfinite(logs["loss"]):
                raise _no_number(f"the loss is {logs['loss']}", self.state.global_step)
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: Mapping[str, Tensor]) -> int:
        """Six for each weight and token that is not padding: forward and backward."""
        batches = [Batch.from_inputs(inputs), batch_of(inputs, "anchor_")]
        tokens = sum(
            each.answer_ids.numel() + int(each.prompt_lengths[each.answer_prompt].sum()) for each in batches if each
        )
        model: torch.nn.Module = self.accelerator.unwrap_model(self.model)
        return 6 * tokens * sum(weight.numel() for weight in model.parameters())

    def check_finite(self) -> dict[str, float]:
        """The sums of the window so far, after a look at them and at the weights.

        Raises:
            PairwrightError: one of them is no number.
        """
        sums = self.meter.gathered(self)
        name = broken(sums)
        if name is not None:
            raise _no_number(f"{'the loss' if name == 'loss' else name} is {sums[name]}", self.state.global_step)
        model: torch.nn.Module = self.accelerator.unwrap_model(self.model)
        mine = (getattr(weight, "_local_tensor", weight) for weight in model.parameters() if weight.requires_grad)
        bad = torch.tensor(sum(not bool(weight.isfinite().all()) for weight in mine), device=self.args.device)
        if self.args.world_size > 1:  # where weights are spread, each process sees its own part
            bad = self.accelerator.reduce(bad, "sum")
        if int(bad):
            raise _no_number("a weight is no finite number", self.state.global_step)
        return sums

    @property
    def is_spread(self) -> bool:
        """Whether no process has all the weights (FSDP, ZeRO-3)."""
        plugin = getattr(self.accelerator.state, "deepspeed_plugin", None) if self.is_deepspeed_enabled else None
        return bool(self.is_fsdp_enabled) or (plugin is not None and plugin.zero_stage == 3)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        sums = self.check_finite()
        if self.baseline is not None:
            sums |= {_KEPT + name: value for name, value in self.baseline.state().items()}
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            folder = Path(self.args.output_dir or ".")
            step = self.state.global_step
            for watcher in self.callback_handler.callbacks:
                if isinstance(watcher, Keeps):
                    watcher.keep(folder / f"checkpoint-{step}")
            seal(folder / f"checkpoint-{step}", mark=self.mark, step=step, sums=sums)
            rotate(folder, self._kept)

    def go_on_from(self, checkpoint: Path, *, ended_at: int | None = None) -> None:
        """Train on from a checkpoint, with the metrics that it had not logged yet.

        After the last step there is nothing to train: weights and log are taken as they are. (The trainer's own
        resuming would look for the end of training after one more step.)

        Args:
            checkpoint: whole, of this run.
            ended_at: the step after which a rule ended the training before its last one; None where none did.
        """
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        # All have the names, so that sums can be added up; one has the numbers.
        sums = json.loads((checkpoint / MARK).read_text(encoding="utf-8"))["sums"]
        if self.baseline is not None:  # the same on all
            self.baseline.restore({name.removeprefix(_KEPT): sums.pop(name) for name in list(sums) if _KEPT in name})
        self.meter.sums = {name: total if self.args.process_index == 0 else 0.0 for name, total in sums.items()}
        if state.global_step not in (state.max_steps, ended_at):
            self.train(resume_from_checkpoint=str(checkpoint))
            return
        self._load_from_checkpoint(str(checkpoint))
        self.state = state
        self.control = self.callback_handler.on_train_begin(self.args, self.state, self.control)
        self.control = self.callback_handler.on_train_end(self.args, self.state, self.control)


def _no_number(what: str, step: int) -> PairwrightError:
    return PairwrightError(f"{what} at step {step}; lower learning_rate, or train in float32")
