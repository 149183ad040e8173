"""What an audit says: a `Finding` for each check, and the `Audit` that holds them."""

import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from pairwright.stats import Interval

Level = Literal["error", "warning", "note", "fine"]
"""`error`: training on these rows teaches something wrong. `warning`: they teach nothing, or spoil a measurement.
`note`: worth knowing. `fine`: the check found nothing."""
Kind = Literal["pairs", "prompts", "responses"]

ROWS = 1000
"""At most so many row numbers are kept in a finding; `rows_left_out` says how many more there are."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    """Name of the check, as in `pairwright list checks`."""
    count: int
    """Rows found."""
    share: float
    """Part of all rows of that kind that could have been found; NaN where there were none to look at."""
    rows: tuple[int, ...]
    """Their row numbers, from 0, in file order; at most `ROWS` of them."""
    says: str
    """One or two plain sentences: what was found, with numbers."""
    remedy: str
    """What to do about it; empty when nothing was found."""
    of: Kind = "pairs"
    """What is counted, and which frame `rows` numbers."""
    level: Level = "warning"
    """How bad it is."""
    interval: Interval | None = None
    """An estimate with its interval, for checks that estimate."""
    rows_left_out: int = 0
    """Rows that were found and are not in `rows`."""

    def to_dict(self) -> dict[str, Any]:
        """JSON values; NaN becomes null."""
        shown: dict[str, Any] = {
            "check": self.check,
            "count": self.count,
            "share": _number(self.share),
            "rows": list(self.rows),
            "says": self.says,
            "remedy": self.remedy,
            "of": self.of,
            "level": self.level,
            "rows_left_out": self.rows_left_out,
        }
        if self.interval is not None:
            shown["interval"] = {
                "value": _number(self.interval.value),
                "low": _number(self.interval.low),
                "high": _number(self.interval.high),
                "n": self.interval.n,
            }
        return shown


def finding(
    check: str,
    hits: pl.Series,
    *,
    says: str,
    remedy: str,
    of: Kind = "pairs",
    level: Level = "warning",
    total: int | None = None,
    interval: Interval | None = None,
) -> Finding:
    """A finding from a Boolean series over all rows of a frame, in order; null counts as not found.

    Args:
        check: name of the check.
        hits: True where a row is found; its index is the row number.
        says: the sentence.
        remedy: what to do; left out of the finding when there is nothing to remedy.
        of: which frame `hits` runs over.
        level: how bad a hit is; without hits the finding is `fine`.
        total: rows that could have been found, for the share; all rows unless given.
        interval: an estimate to carry along.
    """
    rows = hits.fill_null(False).arg_true()
    count, among = len(rows), len(hits) if total is None else total
    return Finding(
        check=check,
        count=count,
        share=count / among if among else math.nan,
        rows=tuple(rows.head(ROWS).to_list()),
        says=says,
        remedy=remedy if count else "",
        of=of,
        level=level if count else "fine",
        interval=interval,
        rows_left_out=max(0, count - ROWS),
    )


@dataclass(frozen=True, slots=True)
class Audit:
    """All findings on one data set; print it for a table, `to_json` for the machine."""

    pairs: int
    prompts: int
    responses: int
    findings: tuple[Finding, ...] = field(default=())

    def __getitem__(self, check: str) -> Finding:
        """The finding of one check, by its name."""
        for found in self.findings:
            if found.check == check:
                return found
        raise KeyError(check)

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that `--strict` turns into exit code 1: errors and warnings, not notes."""
        return tuple(found for found in self.findings if found.level in ("error", "warning"))

    def to_dict(self) -> dict[str, Any]:
        """`{"pairs", "prompts", "responses", "findings": [...]}`, checks that found nothing among them."""
        return {
            "pairs": self.pairs,
            "prompts": self.prompts,
            "responses": self.responses,
            "findings": [found.to_dict() for found in self.findings],
        }

    def to_json(self) -> str:
        """`to_dict` as a JSON document, one line for each finding."""
        sizes = "".join(f'  "{name}": {getattr(self, name)},\n' for name in ("pairs", "prompts", "responses"))
        lines = [json.dumps(found.to_dict(), ensure_ascii=False, allow_nan=False) for found in self.findings]
        return "{\n" + sizes + '  "findings": [' + ",".join(f"\n    {line}" for line in lines) + "\n  ]\n}"

    def __str__(self) -> str:
        """The table for a terminal; see `pairwright.audit.show`."""
        from pairwright.audit.show import table

        return table(self)


def _number(value: float) -> float | None:
    """JSON has no NaN; an unknown number is null there, never zero."""
    return value if math.isfinite(value) else None
