"""What a run says while it works: plain lines, for a log. The command line has a livelier one for terminals."""

import sys
from collections.abc import Mapping
from typing import Any, Protocol


class Progress(Protocol):
    """Who is told about the steps of a run."""

    def begins(self, number: int, total: int, name: str, *, slow: bool) -> None:
        """A step starts; `slow` means that it may take minutes."""

    def ends(self, number: int, total: int, name: str, outcome: str) -> None:
        """A step is done, or was done before; `outcome` says it in a few words."""

    def note(self, text: str) -> None:
        """One sentence that a reader should know."""


class PlainProgress:
    """One line on stderr for each step: `[3/9] relabel ... 1,776 pairs, 0.4 s`."""

    def begins(self, number: int, total: int, name: str, *, slow: bool) -> None:
        """Say that a slow step starts; a quick one says only that it ended."""
        if slow:
            self.note(f"[{number}/{total}] {name} ... started")

    def ends(self, number: int, total: int, name: str, outcome: str) -> None:
        """Say that a step is done."""
        self.note(f"[{number}/{total}] {name} ... {outcome}")

    def note(self, text: str) -> None:
        """Print a line."""
        print(text, file=sys.stderr, flush=True)


def in_words(headline: Mapping[str, Any]) -> str:
    """A headline as a few words: numbers before their unit (`1,776 pairs`), others as `name value`."""
    parts = []
    for name, value in headline.items():
        if isinstance(value, bool) or value is None:
            continue
        if isinstance(value, int):
            parts.append(f"{value:,} {name}")
        elif isinstance(value, float):
            parts.append(f"{name} {value:.4g}")
        else:
            parts.append(f"{name} {value}")
    return ", ".join(parts)


def in_time(seconds: float) -> str:
    """A duration for people: `0.4 s`, `95 s`, `12 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
