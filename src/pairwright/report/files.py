"""The files of a run, read so that a damaged one stops nothing: what they hold has gone through `clean`."""

import json
from pathlib import Path
from typing import Any

import polars as pl

from pairwright.errors import PairwrightError
from pairwright.report.shown import clean, plain

BROKEN = (PairwrightError, pl.exceptions.PolarsError, OSError, ValueError)
"""What reading damaged data can raise."""


def json_object(path: Path, unread: list[str]) -> dict[str, Any] | None:
    """The object that a JSON file holds; None without the file. A file that holds none is added to `unread`."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        unread.append(path.name)
        return None
    return mapping(clean(found))


def json_lines(path: Path) -> list[dict[str, Any]]:
    """JSON objects of a `.jsonl` file; a last line that a killed process left half written is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(mapping(clean(row)))
    return rows


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
