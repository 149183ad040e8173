"""Text of strangers made safe to look at.

Escaping makes it harmless to the browser; this makes it harmless to the reader: a control or direction character is
shown by its code, a very long text is cut and says so, and a lone surrogate or an infinite number cannot stop the file
from being written.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

LONGEST = 4000
"""Characters of one text that are shown."""

HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
"""C0 and C1 controls except tab and line feed, zero-width and direction characters, line separators, the BOM, tags."""


def shown(text: object, longest: int = LONGEST) -> Markup:
    """Escaped text in which hidden characters are visible, cut after `longest` characters."""
    whole = plain(text)
    parts, last = [], 0
    visible = whole[:longest]
    for match in HIDDEN.finditer(visible):
        parts.append(escape(visible[last : match.start()]))
        parts.append(Markup('<span class="hidden-char">U+{:04X}</span>').format(ord(match.group())))
        last = match.end()
    parts.append(escape(visible[last:]))
    if len(whole) > longest:
        more = f"{len(whole) - longest:,} more characters"
        parts.append(Markup(' <span class="cut">… {}</span>').format(more))
    return Markup("").join(parts)


def visible(text: object) -> str:
    """The whole text with hidden characters by their code, not escaped: for attributes, which the template escapes."""
    return HIDDEN.sub(lambda match: f"U+{ord(match.group()):04X}", plain(text))


def ticked(text: object) -> Markup:
    """`shown`, with what stands between backticks as code."""
    parts = str(shown(text)).split("`")
    marked = [f"<code>{part}</code>" if i % 2 and i < len(parts) - 1 else part for i, part in enumerate(parts)]
    if len(parts) % 2 == 0:
        marked[-1] = f"`{marked[-1]}"
    return Markup("".join(marked))


def few(names: Sequence[str], most: int = 4) -> str:
    """`a, b, c`; of more than `most` names the first two and how many more there are."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:2])} and {len(names) - 2:,} more"


def few_of(subject: str) -> str:
    """A subject that is a list of names, such as `a, b, c`, in short."""
    return few(subject.split(", "))


def joined(texts: Iterable[object]) -> Markup:
    """`a, b, c`, each as `shown`."""
    return Markup(", ").join(map(shown, texts))


def plain(text: object) -> str:
    """A string that UTF-8 can hold."""
    return str(text).encode("utf-8", "replace").decode("utf-8")


def clean(value: Any) -> Any:
    """A JSON value that JSON and UTF-8 can hold; what a page shows of a run's files has gone through this.

    JSON has no NaN and no infinity: an unknown number is null, never zero.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {plain(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    return plain(value) if isinstance(value, str) else value


def leaves(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested objects, each with its path: `overlap: share: explicit_gap: random`."""
    for key, item in value.items():
        name = f"{above}{key}"
        if isinstance(item, Mapping):
            yield from leaves(item, f"{name}: ")
        else:
            yield name, item


def is_number(value: object) -> bool:
    """Whether a value is a finite number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def json_island(value: Any) -> Markup:
    """JSON that may stand inside `<script type="application/json">`: nothing in it can end the element.

    `<`, `>`, `&` and the line separators are written as escapes, which JSON reads back as the same characters.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def number(value: Any, digits: int = 3) -> str:
    """A number for a table: `6.25`, `1,080`, and a dash for none, for NaN and for an infinite one."""
    if value is None or isinstance(value, bool):
        return "–" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "–"
        if value == int(value) and abs(value) < 1e15:
            return f"{int(value):,}"
        rounded = f"{value:.{digits}g}"
        return rounded if abs(float(rounded)) < 10**digits else f"{value:,.0f}"
    return visible(value)


def share(value: Any) -> str:
    """A share as per cent."""
    return f"{value:.1%}" if is_number(value) else "–"


def duration(seconds: float | None) -> str:
    """Seconds as `0.4 s`, `95 s` or `12 min`."""
    if seconds is None or not is_number(seconds):
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
