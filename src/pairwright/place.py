"""Where the store is, how small files get into it, and how it says what it cannot do.

The store is an aid: whatever of it cannot be read or written is said in one sentence, and computed.
"""

import os
import stat
import sys
import tempfile
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path


def store_place() -> Path:
    """`$PAIRWRIGHT_CACHE`, else `$XDG_CACHE_HOME/pairwright`, else `~/.cache/pairwright`; it may not exist yet.

    A user without a home has a store of his own in the system's temporary folder.
    """
    try:
        if own := os.environ.get("PAIRWRIGHT_CACHE"):
            return Path(own).expanduser()
        shared = os.environ.get("XDG_CACHE_HOME")
        return (Path(shared).expanduser() if shared else Path.home() / ".cache") / "pairwright"
    except RuntimeError:  # what pathlib raises for a user id that no home belongs to, as in many containers
        return _without_home()


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


def say(sentence: str) -> None:
    """A sentence about the store, on standard error; the job goes on."""
    print(f"pairwright: {sentence}", file=sys.stderr)


@cache
def _without_home() -> Path:
    """A folder that nobody else can write to; where there is none, a place under which nothing can be stored."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    try:
        folder = Path(tempfile.gettempdir()) / f"pairwright-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        seen = folder.lstat()  # somebody else may have made it, or a link in its place, since its name is no secret
        if not stat.S_ISDIR(seen.st_mode) or seen.st_mode & 0o077 or (seen.st_uid != user and hasattr(os, "getuid")):
            raise PermissionError
    except OSError:
        say("there is no home directory for the store; going on without it (PAIRWRIGHT_CACHE can name a place)")
        return Path(os.devnull) / "pairwright"
    say(f"there is no home directory for the store, so it is in {folder} (PAIRWRIGHT_CACHE can name another place)")
    return folder
