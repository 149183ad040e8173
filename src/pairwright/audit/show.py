"""An audit as text for a terminal: the findings, worst first; one line for all checks that found nothing."""

import math
import shutil
import textwrap

from pairwright.audit.finding import Audit, Finding, Level

ORDER: tuple[Level, ...] = ("error", "warning", "note")
SHOWN_ROWS = 6


def table(audit: Audit, *, width: int | None = None) -> str:
    """The findings as aligned text, wrapped to `width` columns (that of the terminal when not given).

    Errors come first, then warnings and notes; within a level the order of the checks stays.
    """
    width = width or min(110, shutil.get_terminal_size((100, 24)).columns)
    found = [item for level in ORDER for item in audit.findings if item.level == level]
    quiet = [item.check for item in audit.findings if item.level == "fine"]
    lines = [_headline(audit, found)]
    for item in found:
        lines += ["", *_entry(item, width)]
    if quiet:
        lines += ["", *textwrap.wrap(f"nothing found by: {', '.join(quiet)}", width, subsequent_indent="  ")]
    return "\n".join(lines)


def rows_of(item: Finding, limit: int = SHOWN_ROWS) -> str:
    """`pairs 306, 655, 910 and 108 more`; empty when there are no rows."""
    if not item.rows:
        return ""
    shown = ", ".join(str(row) for row in item.rows[:limit])
    more = len(item.rows) - min(limit, len(item.rows)) + item.rows_left_out
    kind = item.of if item.count != 1 else item.of[:-1]
    return f"{kind} {shown}" + (f" and {more:,} more" if more else "")


def _headline(audit: Audit, found: list[Finding]) -> str:
    size = f"{audit.pairs:,} pairs, {audit.prompts:,} prompts, {audit.responses:,} responses"
    counts = {level: sum(item.level == level for item in found) for level in ORDER}
    words = [f"{n} {level}{'s' if n != 1 else ''}" for level, n in counts.items() if n]
    return f"{size}: {', '.join(words) or 'nothing found'}"


def _entry(item: Finding, width: int) -> list[str]:
    share = "" if math.isnan(item.share) else f"{item.share:.1%}"
    kind = item.of if item.count != 1 else item.of[:-1]
    head = f"{item.level:<8} {item.check:<28} {item.count:>10,} {kind:<9} {share:>6}"
    indent = " " * 9
    parts = [item.says, f"→ {item.remedy}" if item.remedy else "", f"({rows_of(item)})" if item.rows else ""]
    body = [
        line
        for part in parts
        if part
        for line in textwrap.wrap(part, width, initial_indent=indent, subsequent_indent=indent)
    ]
    return [head.rstrip(), *body]
