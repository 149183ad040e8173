"""The progress of a run: a line that moves on a terminal, plain lines in a log."""

from types import TracebackType

from rich.console import Console
from rich.status import Status

from pairwright.pipeline.progress import PlainProgress


class LiveProgress(PlainProgress):
    """`PlainProgress` with, on a terminal, a turning sign while a step works."""

    def __init__(self, is_terminal: bool) -> None:
        self._console = Console(stderr=True, highlight=False) if is_terminal else None
        self._status: Status | None = None

    def __enter__(self) -> "LiveProgress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def begins(self, number: int, total: int, name: str, *, slow: bool) -> None:
        """Start the sign; in a log, a line for a slow step."""
        if self._console is None:
            super().begins(number, total, name, slow=slow)
        elif slow:
            # The verb shows its own progress, and two lines that move would write over each other.
            self.note(f"[{number}/{total}] {name} ...")
        else:
            self._status = self._console.status(f"[{number}/{total}] {name} ...".replace("[", "\\["))
            self._status.start()

    def ends(self, number: int, total: int, name: str, outcome: str) -> None:
        """Stop the sign and leave a line."""
        self._stop()
        super().ends(number, total, name, outcome)

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
