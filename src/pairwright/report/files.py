"""The files of a run, read so that a damaged one stops nothing: what they hold has gone through `clean`."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from pairwright.errors import PairwrightError
from pairwright.report.shown import clean, is_number, plain

UNREADABLE = (OSError, ValueError, OverflowError, RecursionError)
"""What reading a damaged JSON file can raise."""
BROKEN = (PairwrightError, pl.exceptions.PolarsError, *UNREADABLE)
"""What reading damaged data can raise."""
DEEPEST = 64
"""Values inside each other more often than this are of no file of ours, and could end the program."""


def json_object(path: Path, unread: list[str]) -> dict[str, Any] | None:
    """The object that a JSON file holds; None without the file. A file that holds none is added to `unread`."""
    try:
        if not path.exists():
            return None
        return _object(path.read_text(encoding="utf-8"))
    except UNREADABLE:
        unread.append(path.name)
        return None


def json_lines(path: Path, unread: list[str]) -> list[dict[str, Any]]:
    """JSON objects of a `.jsonl` file; how many lines hold none is added to `unread`.

    A last line without an end is what a process wrote when it was killed: it is left out without a word.
    """
    try:
        if not path.exists():
            return []
        *lines, last = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        unread.append(path.name)
        return []
    found = [_object_or_none(line) for line in lines if line.strip()]
    bad = sum(row is None for row in found)
    if bad:
        unread.append(f"{bad:,} of {len(found):,} lines of {path.name}")
    return [row for row in (*found, _object_or_none(last)) if row is not None]


def _object(text: str) -> dict[str, Any]:
    """The object that a text holds.

    Raises:
        ValueError: it holds none, a whole number beyond every float, or values deeper than `DEEPEST`.
    """
    found = json.loads(text, parse_int=_whole)
    if not isinstance(found, dict) or _is_deep(found):
        raise ValueError("no JSON object that a page can show")
    return mapping(clean(found))


def _object_or_none(text: str) -> dict[str, Any] | None:
    try:
        return _object(text)
    except UNREADABLE:
        return None


def _whole(digits: str) -> int:
    value = int(digits)
    if not is_number(value):
        raise ValueError("a whole number that no float can hold")
    return value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def mapping(value: Any) -> dict[str, Any]:
    """A JSON object; of anything else, an empty one."""
    return value if isinstance(value, dict) else {}


def texts(value: Any) -> dict[str, str]:
    """A JSON object with its values as text; of anything else, an empty one."""
    return {key: plain(text) for key, text in mapping(value).items()}


def dicts(value: Any) -> list[dict[str, Any]]:
    """The objects of a JSON list; of anything else, none."""
    return [item for item in items(value) if isinstance(item, dict)]


def items(value: Any) -> list[Any]:
    """The items of a JSON list; of anything else, none."""
    return list(value) if isinstance(value, list | tuple) else []
