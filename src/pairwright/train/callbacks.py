"""What watches a run: the metrics file, and lines for whoever waits."""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any, Protocol, TextIO, runtime_checkable

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pairwright.progress import clock
from pairwright.runs import write_text

PROBED = "pairwright/probe_"
"""Before the names of the means of a probe, which have a line of their own."""


@runtime_checkable
class Keeps(Protocol):
    """A callback with something that a checkpoint must hold for the run to go on as if it had not stopped."""

    def keep(self, checkpoint: Path) -> None:
        """Write it into the checkpoint's directory, before the checkpoint counts."""


class MetricsFile(TrainerCallback):
    """`metrics.jsonl`: one JSON object for each logged step, `step` first, then TRL's names and ours in order.

    A probe has a line of its own, without `loss`, before that of its step.

    It holds nothing that depends on the clock. On the first step of a run, new or resumed, it is written again from
    the log that the checkpoint keeps, so that lines of steps that were lost with a killed process are lost with them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the file with what the resumed state knows."""
        if state.is_world_process_zero:
            lines = (_line(entry, int(entry["step"])) for entry in state.log_history if _is_line(entry))
            write_text(self.path, "".join(lines))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Append a line."""
        if state.is_world_process_zero and logs and _is_line(logs):
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(logs, state.global_step))


class LastStep(TrainerCallback):
    """Have the last step logged, wherever it falls: the last line tells how the training ended."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Ask for a line."""
        if state.global_step >= state.max_steps and args.logging_strategy != "no":
            control.should_log = True
        return control


class Progress(TrainerCallback):
    """Step, rate and time left on stderr: one line that changes on a terminal, one line for each log elsewhere."""

    def __init__(self, before: str = "", stream: TextIO | None = None) -> None:
        self._before = before
        self._stream = stream
        self._began = 0.0
        self._from = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say what is trained on, and remember when and from which step."""
        if state.is_world_process_zero and self._before:
            print(self._before, file=self._stream or sys.stderr)
        self._began, self._from = time.monotonic(), state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Say where the run is."""
        if not (state.is_world_process_zero and logs and _is_step(logs)):
            return
        stream = self._stream or sys.stderr
        seconds = max(time.monotonic() - self._began, 1e-9)
        rate = (state.global_step - self._from) / seconds
        left = (state.max_steps - state.global_step) / rate if rate else math.inf
        text = f"train: step {state.global_step}/{state.max_steps}  loss {logs['loss']:.4f}"
        if "rewards/accuracies" in logs:
            text += f"  accuracy {logs['rewards/accuracies']:.2f}"
        text += f"  {rate:.2f} steps/s  {clock(left)} left"
        last = state.global_step >= state.max_steps
        if stream.isatty():
            stream.write(f"\r\x1b[K{text}" + ("\n" if last else ""))
        else:
            stream.write(text + "\n")
        stream.flush()


def _is_step(logs: dict[str, Any]) -> bool:
    """Whether these are the metrics of a step, not the summary at the end (which tells times)."""
    return "loss" in logs


def _is_line(logs: dict[str, Any]) -> bool:
    """Whether these are the metrics of a step or the means of a probe."""
    return _is_step(logs) or any(name.startswith(PROBED) for name in logs)


def _line(logs: dict[str, Any], step: int) -> str:
    numbers = {name: value for name, value in logs.items() if name != "step"}
    clean = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in numbers.items()}
    # Sorted, because the log that a checkpoint keeps is.
    return json.dumps({"step": step, **dict(sorted(clean.items()))}, allow_nan=False) + "\n"
