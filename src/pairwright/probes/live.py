"""Probes while a model trains: at its start, every so many steps, at its end; each written when it is made.

`Prober` is what `train` and the callback for other trainers (`callback.Probe`) have in common. It changes nothing of
the training: not its weights, not its random numbers, not what it logs of a step.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pairwright.errors import InputError, need
from pairwright.preferences import Preferences
from pairwright.probes.reading import (
    Held,
    at_start,
    credit_of,
    read_pairs,
    read_tokens,
    start_of,
    vocabulary_of,
)
from pairwright.probes.store import (
    FOLDER,
    STEP_FILE,
    About,
    begin,
    check_folder,
    load_probes,
    write_credit,
    write_probe,
)
from pairwright.probes.turning import by_step
from pairwright.runs import write_beside
from pairwright.train.callbacks import PROBED
from pairwright.train.ranks import by_first

START = "start.parquet"
"""In the folder of probes: what the start said of each token of the answers that get credits."""
CREDITS = 50
"""Pairs whose tokens get credits."""


class Prober(TrainerCallback):
    """Probe a model before its first step, every so many steps and after its last, and give each token its credit.

    The means of each probe are logged: to `metrics.jsonl` and to whatever the trainer reports to. Where several
    processes train one model, all read it and the first one writes.

    Args:
        trainer: that it is a callback of; the means are given to its other callbacks.
        output: directory of the training.
        pairs: the held-out pairs, as `held_out` gives them.
        held: their tokens.
        about: makes the record of how it is probed, given `vocabulary`.
        every: optimiser steps from one probe to the next.
        batch_tokens: tokens of a batch, at most.
    """

    def __init__(
        self,
        trainer: Trainer,
        output: Path,
        pairs: Preferences,
        held: Held,
        about: Callable[..., About],
        *,
        every: int,
        batch_tokens: int = 8192,
    ) -> None:
        self.trainer = trainer
        self.output, self.pairs, self.held, self.about = output, pairs, held, about
        self.every, self.batch_tokens = every, batch_tokens
        self._said: About | None = None
        self._last = -1

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Probe the start; where a training goes on, remove the probes of steps that come again.

        Raises:
            InputError: the model is spread over processes, or the folder of probes is of something else.
        """
        assert model is not None
        refuse_spread()
        self._said = self.about(vocabulary=vocabulary_of(model))
        step, last = state.global_step, state.max_steps
        self._last = by_first(self._begin if step == 0 else lambda: self._go_on(step, last))
        if step == 0:
            self._look(args, state, control, model)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Probe the model, where it is its turn and nobody did."""
        due = state.global_step % self.every == 0 or state.global_step >= state.max_steps
        if model is not None and due and state.global_step != self._last:
            self._look(args, state, control, model)

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Probe the model as it ended, wherever that is, and write the credits."""
        assert model is not None
        if self._last != state.global_step:
            self._look(args, state, control, model)
        policy = self._tokens(model)
        by_first(lambda: write_credit(self.output, credit_of(policy, pl.read_parquet(self.output / FOLDER / START))))

    def _look(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: torch.nn.Module
    ) -> None:
        step = state.global_step
        rows = read_pairs(model, self.held, start=self._start(step), batch_tokens=self.batch_tokens, top=self._top)
        tokens = self._tokens(model) if step == 0 else None
        means = by_first(lambda: self._keep(step, rows, tokens))
        self._last = step
        self._log(means, args, state, control)

    def _log(
        self, means: dict[str, float], args: TrainingArguments, state: TrainerState, control: TrainerControl
    ) -> None:
        """Give numbers to all callbacks of the trainer, as a line of their own.

        Not by the trainer's `log`: it closes the window over which the numbers of a step are averaged.
        """
        numbers: dict[str, Any] = means if state.epoch is None else {**means, "epoch": state.epoch}
        state.log_history.append({**numbers, "step": state.global_step})
        asked = control.should_log
        self.trainer.callback_handler.on_log(args, state, control, dict(numbers))
        control.should_log = asked  # the handler takes it that the step's line was written

    def _keep(self, step: int, rows: pl.DataFrame, tokens: pl.DataFrame | None) -> dict[str, float]:
        """Write a probe, and give its means; on the first process alone."""
        if tokens is not None:
            rows = at_start(rows)
            with write_beside(self.output / FOLDER / START) as temporary:
                tokens.write_parquet(temporary)
        write_probe(self.output, step, rows)
        return means_of(rows, beta=self._about.beta)

    @property
    def _about(self) -> About:
        assert self._said is not None  # from `on_train_begin` on
        return self._said

    @property
    def _top(self) -> int:
        return self._about.top

    def _tokens(self, model: torch.nn.Module) -> pl.DataFrame:
        return read_tokens(model, self.held, pairs=CREDITS, batch_tokens=self.batch_tokens)

    def _start(self, step: int) -> dict[Any, float] | None:
        """The numbers of the start; on the first process, which alone has need of them."""
        path = _probe(self.output, 0)
        return start_of(pl.read_parquet(path)) if step and path.is_file() else None

    def _begin(self) -> int:
        check_folder(self.output)
        begin(self.output, self._about, self.pairs)
        return -1

    def _go_on(self, step: int, last: int) -> int:
        """Leave the probes that a training has at a step, and say at which step the last of them is."""
        probes = load_probes(self.output)
        folder = self.output / FOLDER
        if probes is None or 0 not in probes.steps or not (folder / START).is_file():
            raise InputError(
                f"{folder} has no probe of the start, which is past; remove the checkpoints to start over, or go on "
                "without probes"
            )
        if _settings(probes.about) != _settings(self._about) or Preferences.load(folder / "data") != self.pairs:
            raise InputError(f"{folder} holds probes with other pairs or settings; go on with the same ones")
        kept = {each for each in probes.steps if each <= step and (each % self.every == 0 or each == last)}
        for path in folder.glob("*.parquet"):
            number = STEP_FILE.fullmatch(path.name)
            if (number and int(number[1]) not in kept) or path.stem == "credit":
                path.unlink()
        return max(kept)


def means_of(rows: pl.DataFrame, *, beta: float | None) -> dict[str, float]:
    """The means of a probe by the names under which they are logged.

    `probe_chosen_logp`, `probe_rejected_logp`: nats, summed over an answer, mean over answers. `probe_margin`: mean
    over pairs of `beta * ((logp - start_logp) of chosen - of rejected)`; where the implicit reward is no such multiple
    (`beta` None) it is called `probe_log_ratio_margin` and is in nats, without a beta. `probe_accuracy`: share of pairs
    in which it is above 0, a tie counted half. All four under no goal, and under the best one with `_asked_top` behind
    the name; the first two also with `_asked_own`. On chosen answers under no goal, as `by_step`: `probe_entropy`
    (nats), `probe_top_entropy`, `probe_raw_top_entropy` (bits), `probe_top_mass`.

    Args:
        rows: columns `PROBE`.
        beta: what the loss multiplies a log-ratio with to get its implicit reward; None where it does not.
    """
    margin = "log_ratio_margin" if beta is None else "margin"
    found: dict[str, float] = {}
    for (asked,), part in rows.group_by(["asked"], maintain_order=True):
        behind = "" if asked == "none" else f"_asked_{asked}"
        for side in ("chosen", "rejected"):
            answers = part.filter(pl.col("side") == side)
            if len(answers):
                found[f"{PROBED}{side}_logp{behind}"] = float(answers.select(pl.col("logp").mean()).item())
        if asked != "own":  # there the two answers of a pair stand after different prompts
            margins = _margins(part) * (1.0 if beta is None else beta)
            found[f"{PROBED}{margin}{behind}"] = float(margins.to_numpy().mean())
            found[f"{PROBED}accuracy{behind}"] = float(((margins.sign() + 1.0) / 2.0).to_numpy().mean())
    spread = by_step(rows.select(pl.lit(0, pl.Int64).alias("step"), pl.all()))
    for name in ("entropy", "top_entropy", "raw_top_entropy", "top_mass"):
        found[PROBED + name] = float(spread[name].item())
    return found


def refuse_spread() -> None:
    """Refuse a training in which no process has all the weights.

    Raises:
        InputError: they are spread by FSDP or ZeRO-3.
    """
    accelerate: Any = need("accelerate", extra="train")
    state = accelerate.state.AcceleratorState()
    plugin = getattr(state, "deepspeed_plugin", None)
    if state.distributed_type == accelerate.DistributedType.FSDP or (plugin is not None and plugin.zero_stage == 3):
        raise InputError(
            "probes need all weights in each process, and here they are spread; leave them out (probe_every) and probe "
            "the checkpoints afterwards, or use the profile ddp"
        )


def _margins(rows: pl.DataFrame) -> pl.Series:
    """Log-ratio of the chosen minus that of the rejected answer, for each pair, in nats."""
    ratio = (pl.col("logp") - pl.col("start_logp")).alias("ratio")
    sides = [rows.filter(pl.col("side") == side).select("pair", ratio) for side in ("chosen", "rejected")]
    both = sides[0].join(sides[1], on="pair", how="inner", maintain_order="left")
    return both.select(pl.col("ratio") - pl.col("ratio_right")).to_series()


def _settings(about: About) -> dict[str, Any]:
    """What must be the same for two probes to be of one training.

    Its start may have been moved meanwhile, and `probe_run` may have added the model's own answers.
    """
    return about.model_dump(include={"pairs", "split", "every", "top", "vocabulary", "beta", "goal"})


def _probe(training: Path, step: int) -> Path:
    return training / FOLDER / f"{step:06d}.parquet"
