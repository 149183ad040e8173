"""Text of strangers made safe to look at.

Escaping makes it harmless to the browser; this makes it harmless to the reader: a control or direction character is
shown by its code, a very long text is cut and says so, and a lone surrogate cannot stop the file from being written.
"""

import json
import re
from typing import Any

from markupsafe import Markup, escape

LONGEST = 4000
"""Characters of one text that are shown."""

# C0 and C1 controls except tab and line feed, zero-width and direction characters, line separators, the BOM.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")


def shown(text: object, longest: int = LONGEST) -> Markup:
    """Escaped text in which hidden characters are visible, cut after `longest` characters."""
    whole = plain(text)
    parts, last = [], 0
    visible = whole[:longest]
    for match in _HIDDEN.finditer(visible):
        parts.append(escape(visible[last : match.start()]))
        parts.append(Markup('<span class="hidden-char">U+{:04X}</span>').format(ord(match.group())))
        last = match.end()
    parts.append(escape(visible[last:]))
    if len(whole) > longest:
        more = f"{len(whole) - longest:,} more characters"
        parts.append(Markup(' <span class="cut">… {}</span>').format(more))
    return Markup("").join(parts)


def plain(text: object) -> str:
    """A string that UTF-8 can hold."""
    return str(text).encode("utf-8", "replace").decode("utf-8")


def json_island(value: Any) -> Markup:
    """JSON that may stand inside `<script type="application/json">`: nothing in it can end the element.

    `<`, `>`, `&` and the line separators are written as escapes, which JSON reads back as the same characters.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def number(value: Any, digits: int = 3) -> str:
    """A number for a table: `6.25`, `1,080`, `-`, for nothing at all."""
    if value is None or isinstance(value, bool):
        return "–" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value == int(value) and abs(value) < 1e15:
            return f"{int(value):,}"
        return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"
    return plain(value)


def share(value: float | None) -> str:
    """A share as per cent."""
    return "–" if value is None else f"{value:.1%}"


def duration(seconds: float | None) -> str:
    """Seconds as `0.4 s`, `95 s` or `12 min`."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
