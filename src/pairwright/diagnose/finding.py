"""What a diagnosis says: findings with how sure they are, the numbers behind them, and what is missing."""

import json
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from pairwright.charts import Chart
from pairwright.evaluate.result import Number, Result
from pairwright.stats import Interval

Level = Literal["warning", "note", "fine"]
"""`warning`: something that the literature knows to go wrong, seen beyond doubt. `note`: worth knowing, or seen within
doubt. `fine`: looked for and not seen."""

MADE_BY = "pairwright diagnose"
"""Stands first in the file, so that a diagnosis knows one of its own."""


class Finding(BaseModel):
    """One thing that was looked for in one model, and what was seen."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    check: str
    """Name of what was looked for, such as `likelihood_displacement`."""
    subject: str
    """Which training, checkpoint or set of answers."""
    level: Level
    says: str
    """What was seen: one or two sentences with the numbers and their units."""
    value: Number = None
    """The number that decides; null where the finding is no single number."""
    low: Number = None
    """Lower end of its 95% interval."""
    high: Number = None
    n: int
    """Independent cases that it rests on (prompts, steps)."""
    means: str
    """What it usually means."""
    remedy: str
    """What to try; empty when there is nothing to remedy."""
    source: str
    """Paper and section, or `pairwright` where the rule is ours."""

    @classmethod
    def of(
        cls,
        check: str,
        interval: Interval,
        *,
        subject: str,
        level: Level,
        says: str,
        means: str,
        source: str,
        remedy: str = "",
    ) -> "Finding":
        """A finding that rests on an estimate."""
        return cls(
            check=check,
            subject=subject,
            level=level,
            says=says,
            value=interval.value,
            low=interval.low,
            high=interval.high,
            n=interval.n,
            means=means,
            remedy=remedy,
            source=source,
        )


class Missing(BaseModel):
    """A part that could not be computed."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    part: str
    says: str
    """What is not there."""
    remedy: str
    """The step or command that makes it."""


class Part(BaseModel):
    """One diagnostic: its numbers, what they say, and what there is to see."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """Of the diagnostic, such as `unlearning`."""
    subject: str
    """Which training, or which models against each other."""
    title: str
    """Heading on a page: a plain phrase."""
    result: Result
    """Headline numbers, and the table behind the charts."""
    findings: tuple[Finding, ...] = ()
    charts: tuple[Chart, ...] = ()


class Diagnosis(BaseModel):
    """Everything that `diagnose` says of one or several runs; print it for a table, `to_json` for the machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    runs: tuple[str, ...]
    """Names of the runs."""
    parts: tuple[Part, ...] = ()
    missing: tuple[Missing, ...] = ()
    settings: dict[str, Any] = {}
    versions: dict[str, str] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Of all parts, warnings first."""
        return ranked(finding for part in self.parts for finding in part.findings)

    def to_json(self) -> str:
        """JSON with `made_by` first; what is not defined is null."""
        return json.dumps({"made_by": MADE_BY, **self.model_dump(mode="json")}, indent=2, allow_nan=False) + "\n"

    def __str__(self) -> str:
        """A table for a terminal."""
        rows = [("level", "subject", "what was seen")]
        rows += [(each.level, each.subject, each.says) for each in self.findings]
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        lines = [
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[2]]) for row in rows
        ]
        lines += [f"missing: {each.part}: {each.says} {each.remedy}" for each in self.missing]
        return "\n".join(lines)


_RANK = {"warning": 0, "note": 1, "fine": 2}


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Warnings first, then notes; the order within a level stays."""
    return tuple(sorted(findings, key=lambda each: _RANK[each.level]))
