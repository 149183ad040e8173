"""Where the store is, and how small files get into it."""

import os
import uuid
from contextlib import suppress
from pathlib import Path


def store_place() -> Path:
    """`$PAIRWRIGHT_CACHE`, else `$XDG_CACHE_HOME/pairwright`, else `~/.cache/pairwright`; it may not exist yet."""
    if own := os.environ.get("PAIRWRIGHT_CACHE"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared).expanduser() if shared else Path.home() / ".cache") / "pairwright"


def write_small(file: Path, text: str) -> None:
    """Write a file whole, beside and then renamed; where nothing can be written, nothing is.

    Any number of processes and threads may write the same file at once: the last one stays.
    """
    beside = file.with_name(f".{file.name}.{uuid.uuid4().hex}.part")
    with suppress(OSError):  # the store is an aid; whoever cannot write to it computes
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(file)
        finally:
            beside.unlink(missing_ok=True)
