"""A training that ends when its probes say that it turned: a callback for any `transformers.Trainer`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pairwright.errors import InputError
from pairwright.plug import nearest
from pairwright.probes.store import FOLDER, load_probes
from pairwright.probes.turning import SIGNALS, by_step
from pairwright.runs import write_json
from pairwright.train.ranks import by_first

STOPPED = "stopped.json"
"""In the folder of probes: at which step, by which signal and why a training was ended."""


class StopRule(TrainerCallback):
    """End a training at the first probe at which a signal of over-optimisation is seen, and say why.

    The training then ends as it would have after its last step: the model is saved, and what was seen is written to
    `probes/stopped.json` (`step`, `signal`, `says`, `parameters`). Nothing is undone: the model is that of the step at
    which the signal fired, some checks after the turn. Needs a `Probe` of the same directory, added before it.

    A training that was killed after its stop and goes on from a checkpoint of that step ends there again. A trainer has
    no way to take no step at all, so the one that it takes changes no weight and is not counted.

    Args:
        output: the directory that the `Probe` writes to.
        signals: names of `pairwright.probes.turning.SIGNALS`.
        smoothing: weight of the past in the moving average over probes, in [0, 1).
        drop: of `entropy_reversal`: share of its highest value by which the entropy must have fallen.
        fall: of `mass_leak`: probability by which the mass must have fallen.
        checks: probes in a row at which it must be so.

    Raises:
        InputError: there is no such signal.

    Source: arXiv 2410.11677 for the signals; thresholds and rule are ours (see `turning`).
    """

    def __init__(
        self,
        output: str | Path,
        *,
        signals: Sequence[str] = tuple(SIGNALS),
        smoothing: float = 0.9,
        drop: float = 0.02,
        fall: float = 0.01,
        checks: int = 2,
    ) -> None:
        for name in signals:
            if name not in SIGNALS:
                raise InputError(f"there is no signal {name!r}{nearest(name, SIGNALS)}")
        self.output, self.signals = Path(output), tuple(signals)
        every = {"smoothing": smoothing, "checks": checks}
        self.parameters: dict[str, dict[str, Any]] = {
            "entropy_reversal": every | {"drop": drop},
            "mass_leak": every | {"fall": fall},
        }
        self._every = 1
        self._ended = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """See how often there is a probe, and forget a stop after the step from which the training goes on.

        Raises:
            InputError: nobody probes into this directory.
        """
        step = state.global_step
        self._every, self._ended = by_first(lambda: _begin(self.output, step))
        if self._ended:
            control.should_training_stop = True

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Make the step that a trainer takes after the end one that is none: no gradient, and not counted."""
        if self._ended and model is not None:
            for weight in model.parameters():
                weight.grad = None
            state.global_step -= 1  # the trainer is about to add it

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Look at the probes so far, where there is a new one."""
        step, last = state.global_step, state.max_steps
        if self._ended:
            control.should_training_stop = True
            control.should_log = control.should_save = control.should_evaluate = False
        elif step % self._every == 0 and step < last and by_first(lambda: self._stops(step, last)):
            control.should_training_stop = control.should_log = True
        return control

    def _stops(self, step: int, last: int) -> bool:
        """Whether the training is to end; on the first process alone."""
        probes = load_probes(self.output)
        if probes is None:
            raise InputError(f"{self.output / FOLDER} was removed while its training goes on; start the training again")
        curves = by_step(probes.rows)
        for name in self.signals:
            detector = SIGNALS[name]
            found = detector.read(curves["step"].to_list(), curves[detector.column].to_list(), **self.parameters[name])
            if found.fired_at is not None:
                why = {"step": step, "signal": name, "says": found.says, "parameters": self.parameters[name]}
                write_json(self.output / FOLDER / STOPPED, why)
                print(f"train: stopped at step {step} of {last} by {name}: {found.says}", file=sys.stderr)
                return True
        return False


def stopped(training: Path) -> dict[str, Any] | None:
    """What ended a training before its last step (`step`, `signal`, `says`, `parameters`); None where nothing did.

    Raises:
        InputError: the file that says it is damaged.
    """
    path = training / FOLDER / STOPPED
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        int(found["step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged; remove it") from error
    return dict(found)


def _begin(training: Path, step: int) -> tuple[int, bool]:
    """Steps from one probe to the next, and whether a rule has ended the training before."""
    probes = load_probes(training)
    if probes is None or probes.about.every is None:
        raise InputError(f"nothing is probed into {training}; add a Probe that writes there before the StopRule")
    why = stopped(training)
    if why is None:
        return probes.about.every, False
    if 0 < int(why["step"]) <= step:
        print(
            f"train: {why.get('signal')} ended this training at step {why['step']}; so it ends there", file=sys.stderr
        )
        return probes.about.every, True
    (training / FOLDER / STOPPED).unlink()
    return probes.about.every, False
