"""A line for whoever waits: how much is done, how fast, how long it still takes."""

import math
import sys
import time
from typing import TextIO

PATIENCE = 2.0
"""Seconds before anything is said; short work is silent."""
EVERY = {True: 0.2, False: 10.0}
"""Seconds between two lines, on a terminal and in a log."""


class Ticker:
    """Counts units of work and says on stderr where it is: one changing line on a terminal, plain lines in a log.

    Args:
        label: what is done, for example `logprobs`.
        total: units in all.
        unit: their name, for example `tokens`.
        stream: stderr when not given.
    """

    def __init__(self, label: str, total: int, unit: str, *, stream: TextIO | None = None) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._stream = stream or sys.stderr
        self._done = 0
        self._began = time.monotonic()
        self._next = self._began + PATIENCE
        self._spoke = False

    def add(self, units: int, more: str = "") -> None:
        """So much more is done, and what else to say behind it; the last one ends the line."""
        self._done += units
        now, last = time.monotonic(), self._done >= self._total
        if now < self._next and not (last and self._spoke):
            return
        shown = self._stream.isatty()
        self._next = now + EVERY[shown]
        self._spoke = True
        rate = self._done / max(now - self._began, 1e-9)
        left = clock((self._total - self._done) / rate if rate else math.inf)
        text = f"{self._label}: {self._done:,}/{self._total:,} {self._unit}  {pace(rate, self._unit)}  {left} left"
        text += more
        self._stream.write(f"\r\x1b[K{text}" + ("\n" if last else "") if shown else text + "\n")
        self._stream.flush()


def pace(rate: float, unit: str) -> str:
    """`1,200 tokens/s`; what takes more than a second each is counted by the minute."""
    if rate < 1:
        return f"{60 * rate:.1f} {unit}/min"
    return f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.1f} {unit}/s"


def clock(seconds: float) -> str:
    """`m:ss` or `h:mm:ss`; a question mark where nobody knows."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
