"""The one trainer, for every loss.

It is `transformers.Trainer` with five things of its own: the loss is a weighted mean over the whole optimisation step
(so a batch of 1 accumulated 8 times is a batch of 8, and one of 4 on each of 2 processes too), the order of examples
does not depend on the number of processes, metrics are means over pairs, a checkpoint holds the metrics that were not
logged yet, and a checkpoint counts only when it is whole.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments

from pairwright.errors import PairwrightError
from pairwright.logprobs.core import AnswerLogps, Batch, answer_logps
from pairwright.losses import PairLogps, PairLoss, Side
from pairwright.train.callbacks import Keeps
from pairwright.train.config import in_one_sentence
from pairwright.train.data import Example
from pairwright.train.order import Order, Rows
from pairwright.train.output import MARK, rotate, seal
from pairwright.train.reference import Reference, none

Loss = Callable[[PairLogps], PairLoss]


def collate(rows: Sequence[Example]) -> dict[str, Tensor]:
    """Examples as flat tensors: the fields of `Batch`, `weight` and `goal` [B], `score` and `ref` [N] where known.

    Fillers are left out where there is anything else. A process with nothing but fillers computes one, so that it takes
    part in the step, under the weight 0 and with `filler` set.
    """
    rows = [row for row in rows if not row.filler] or [replace(rows[0], weight=0.0)]
    owner = [i for i, row in enumerate(rows) for _ in row.answers]
    batch = Batch.of([row.prompt for row in rows], [ids for row in rows for ids in row.answers], owner)
    inputs = batch._asdict()
    inputs["weight"] = torch.tensor([row.weight for row in rows], dtype=torch.float32)
    inputs["filler"] = torch.tensor([row.filler for row in rows])
    inputs["goal"] = torch.tensor([row.goal for row in rows], dtype=torch.float32)
    for name, field in (("score", "scores"), ("ref", "refs")):
        if all(getattr(row, field) is not None for row in rows):
            values = [value for row in rows for value in getattr(row, field)]
            inputs[name] = torch.tensor(values, dtype=torch.float32)
    return inputs


class Meter:
    """Sums over the pairs since the last log, in float64, so that a mean does not depend on the batches.

    Each process has its own; the first one also has what a checkpoint carried over.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add the sums of some `[B]` tensors, by name."""
        names = list(values)
        totals = torch.stack([values[name].detach().double().sum() for name in names]).tolist()
        for name, total in zip(names, totals, strict=True):
            self.sums[name] = self.sums.get(name, 0.0) + total

    def gathered(self, trainer: Trainer) -> dict[str, float]:
        """The sums over all processes."""
        if trainer.args.world_size <= 1 or not self.sums:
            return dict(self.sums)
        names = sorted(self.sums)
        mine = torch.tensor([self.sums[name] for name in names], dtype=torch.float64, device=trainer.args.device)
        total = trainer.accelerator.reduce(mine, "sum").tolist()
        return dict(zip(names, total, strict=True))


class PairTrainer(Trainer):
    """Train on pairs (or single answers) with any loss.

    Args:
        model: the policy.
        args: Hugging Face's settings.
        rows: the examples; all pairs, or all single answers.
        loss: a bound loss, `PairLogps -> PairLoss`.
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
        self.loss, self.reference, self.mark, self.meter = loss, reference, mark, Meter()
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
        """The batches of one optimisation step and, in place of a token count, the weight of all their pairs."""
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
        batch, weight = Batch.from_inputs(inputs), inputs["weight"]
        with self.accelerator.autocast():
            ref = self.reference(model, batch, inputs)
        logps = answer_logps(model, batch)
        pair = pairs_of(logps, inputs, ref)
        out = self.loss(pair)
        if model.training:
            found = measures(pair, out, weight, single=len(logps.logp) == len(weight))
            self.meter.add({name: values[~inputs["filler"]] for name, values in found.items()})
        total = weight.sum() if num_items_in_batch is None else num_items_in_batch
        share = (weight * out.loss).sum() / torch.as_tensor(total).clamp_min(1e-12).to(out.loss.dtype)
        # Gradients are averaged over processes; each has only its own part of the sum.
        share = share * self.args.world_size
        return (share, out) if return_outputs else share

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of this window to a step's line, and stop a run whose loss is no number."""
        if "loss" in logs:
            means = window(self.meter.gathered(self))
            self.meter.sums.clear()
            logs |= means
            if not math.isfinite(logs["loss"]):
                raise _no_number(f"the loss is {logs['loss']}", self.state.global_step)
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: Mapping[str, Tensor]) -> int:
        """Six for each weight and token that is not padding: forward and backward."""
        tokens = inputs["answer_ids"].numel() + int(inputs["prompt_lengths"][inputs["answer_prompt"]].sum())
        model: torch.nn.Module = self.accelerator.unwrap_model(self.model)
        return 6 * tokens * sum(weight.numel() for weight in model.parameters())

    def check_finite(self) -> dict[str, float]:
        """The sums of the window so far, after a look at them and at the weights.

        Raises:
            PairwrightError: one of them is no number.
        """
        sums = self.meter.gathered(self)
        broken = [name for name, total in sums.items() if not math.isfinite(total)]
        if broken:
            raise _no_number(f"{_name(broken[0])} is {sums[broken[0]]}", self.state.global_step)
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

    def go_on_from(self, checkpoint: Path) -> None:
        """Train on from a checkpoint, with the metrics that it had not logged yet.

        After the last step there is nothing to train: weights and log are taken as they are. (The trainer's own
        resuming would look for the end of training after one more step.)
        """
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        # All have the names, so that sums can be added up; one has the numbers.
        sums = json.loads((checkpoint / MARK).read_text(encoding="utf-8"))["sums"]
        self.meter.sums = {name: total if self.args.process_index == 0 else 0.0 for name, total in sums.items()}
        if state.global_step < state.max_steps:
            self.train(resume_from_checkpoint=str(checkpoint))
            return
        self._load_from_checkpoint(str(checkpoint))
        self.state = state
        self.control = self.callback_handler.on_train_begin(self.args, self.state, self.control)
        self.control = self.callback_handler.on_train_end(self.args, self.state, self.control)


def _no_number(what: str, step: int) -> PairwrightError:
    return PairwrightError(f"{what} at step {step}; lower learning_rate, or train in float32")


def _name(measure: str) -> str:
    return "the loss" if measure == "loss" else measure


def pairs_of(logps: AnswerLogps, inputs: Mapping[str, Tensor], ref: Tensor | None) -> PairLogps:
    """What a loss takes, from answers that alternate chosen, rejected; a single answer is both its own sides."""
    single = len(logps.logp) == len(inputs["weight"])
    score = inputs.get("score")

    def side(at: slice) -> Side:
        return Side(
            logp=logps.logp[at],
            length=logps.length[at],
            ref=None if ref is None else ref[at],
            score=None if score is None else score[at],
        )

    every = slice(None)
    chosen, rejected = (every, every) if single else (slice(0, None, 2), slice(1, None, 2))
    goal = inputs["goal"]
    return PairLogps(side(chosen), side(rejected), goal=None if bool(goal.isnan().all()) else goal)


def measures(pair: PairLogps, out: PairLoss, weight: Tensor, *, single: bool) -> dict[str, Tensor]:
    """What is measured of each pair, `[B]` each: TRL's names verbatim, ours under `pairwright/`.

    Rewards are the loss's own implicit rewards; logps are sums in nats; a pair is right where its chosen reward is the
    greater. A single answer has no pair's measures.
    """
    chosen, rejected = pair.chosen, pair.rejected
    found = {
        "loss": weight * out.loss,
        "weight": weight,
        "pairs": torch.ones_like(weight),
        "logps/chosen": chosen.logp,
        "pairwright/length_chosen": _length(chosen),
        "pairwright/mean_logp_chosen": chosen.logp / _length(chosen),
    }
    if chosen.ref is not None:
        found["pairwright/log_ratio_chosen"] = chosen.log_ratio
    if single:
        return found
    margin = out.chosen - out.rejected
    found |= {
        "logps/rejected": rejected.logp,
        "rewards/chosen": out.chosen,
        "rewards/rejected": out.rejected,
        "rewards/margins": margin,
        "rewards/accuracies": margin > 0,
        "pairwright/length_rejected": _length(rejected),
        "pairwright/mean_logp_rejected": rejected.logp / _length(rejected),
    }
    if rejected.ref is not None:
        found["pairwright/log_ratio_rejected"] = rejected.log_ratio
    return found


def window(sums: Mapping[str, float]) -> dict[str, float]:
    """Means over the pairs of a window, from their sums; the loss is weighted."""
    pairs, weight = sums.get("pairs", 0.0), sums.get("weight", 0.0)
    if not pairs:
        return {}
    means = {name: total / pairs for name, total in sums.items() if name not in ("loss", "weight", "pairs")}
    loss = sums["loss"] / weight if weight else 0.0
    return {"loss": loss, **means, "pairwright/pairs": pairs}


def _length(side: Side) -> Tensor:
    return side.known("length").to(side.logp.dtype)
