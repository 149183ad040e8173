"""Answers that were paid, kept on disk: one SQLite file that any number of jobs share.

An answer is on the disk before the next call is made in its place, so a killed job loses the calls in flight and no
other. The key is a digest of everything that matters; neither prompts nor API keys are in the file.

Of several jobs at one moment, one claims a call and makes it, and the others wait for its answer. A claim ends with the
attempt, with the process, or after the time that the attempt may take, whichever is first, so that a killed job leaves
none behind.
"""

import hashlib
import json
import os
import random
import socket
import sqlite3
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pairwright.errors import InputError
from pairwright.place import store_place
from pairwright.served.record import Answer, Call, Sampling, Server
from pairwright.served.reply import paired

FORM = 1
"""Of keys and values; another one finds nothing of this one's."""
_BATCH = 500
_PATIENCE = 60.0
"""Seconds to wait for another job that is writing."""
_PAUSE = 0.01
"""Seconds between two tries to open; up to twice it, so that jobs refused together do not come together."""
_ANSWER = TypeAdapter(Answer)


def cache_place() -> Path:
    """The file that all jobs share, unless another one is named."""
    return store_place() / "served" / "answers.sqlite"


def key_of(call: Call, server: Server, sampling: Sampling, version: str) -> bytes:
    """SHA-256 of everything that decides an answer: URL, model, messages, sampling, sample, seed, and `version`."""
    scope = {
        "form": FORM,
        "url": server.url.rstrip("/"),
        "model": server.model,
        "messages": [[message["role"], message["content"]] for message in call.messages],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "stop": list(sampling.stop),
        "top_logprobs": sampling.top_logprobs,
        "extra": dict(sampling.extra),
        "sample": call.sample,
        "seed": call.seed,
        "version": version,
    }
    return hashlib.sha256(json.dumps(scope, sort_keys=True).encode()).digest()


class Cache:
    """An open file of answers.

    Args:
        place: the file; its folder is made.

    Raises:
        InputError: it cannot be written, or it is something else. A job goes on with no call rather than pay twice.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._owner = (socket.gethostname(), os.getpid(), uuid.uuid4().hex)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            self._file = _opened(place)
        except (OSError, sqlite3.Error) as error:
            raise InputError(
                f"answers cannot be kept in {place} ({error}) and would be paid twice; name another file with cache"
            ) from error

    def known(self, keys: Iterable[bytes]) -> dict[bytes, Answer]:
        """The answers that are there; a row that cannot be read is not there."""
        wanted, found = list(keys), dict[bytes, Answer]()
        try:
            for start in range(0, len(wanted), _BATCH):
                part = wanted[start : start + _BATCH]
                marks = ",".join("?" * len(part))
                for key, text in self._file.execute(f"SELECT key, answer FROM answers WHERE key IN ({marks})", part):
                    answer = _answer(text)
                    if answer is not None:
                        found[key] = answer
        except sqlite3.Error as error:
            raise InputError(self._unread(error)) from error
        return found

    def put(self, key: bytes, answer: Answer) -> Answer:
        """Keep an answer, and give the one that is in the file: where another job was first, its own."""
        text = json.dumps(_plain(answer), ensure_ascii=True, separators=(",", ":"))
        if (earlier := self.known([key]).get(key)) is not None:
            return earlier
        self._write("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, text))
        return answer

    def claim(self, key: bytes, seconds: float) -> bool:
        """Whether this job may make a call now; False where another one that is alive is at it.

        Args:
            key: of the call.
            seconds: after which the claim ends by itself.
        """
        until = time.time() + seconds
        fresh = "INSERT OR IGNORE INTO claims VALUES (?, ?, ?, ?, ?)"
        if self._write(fresh, (key, *self._owner, until)):
            return True
        try:
            row = self._file.execute("SELECT host, process, job, until FROM claims WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise InputError(self._unread(error)) from error
        if row is not None and _holds(*row) and row[2] != self._owner[2]:
            return False
        # Only over the row that was looked at: of two jobs that both find it ended, one gets it.
        over = "UPDATE claims SET host = ?, process = ?, job = ?, until = ? WHERE key = ? AND job = ? AND until = ?"
        if row is None:
            return self._write(fresh, (key, *self._owner, until))
        return self._write(over, (*self._owner, until, key, row[2], row[3]))

    def release(self, key: bytes) -> None:
        """End this job's claim on a call."""
        self._write("DELETE FROM claims WHERE key = ? AND job = ?", (key, self._owner[2]))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, statement: str, values: tuple[Any, ...]) -> bool:
        """Whether a row was written."""
        try:
            return self._file.execute(statement, values).rowcount == 1
        except sqlite3.Error as error:
            raise InputError(
                f"an answer cannot be kept in {self._place} ({error}); make room, or name another file with cache"
            ) from error

    def _unread(self, error: sqlite3.Error) -> str:
        return (
            f"answers cannot be read from {self._place} ({error}); wait for who writes it, or name another file with "
            "cache"
        )


def _opened(place: Path) -> sqlite3.Connection:
    """The file, with its tables.

    The connection's own patience does not hold for the change to a write-ahead log: of several jobs that open a new
    file at one moment, some are refused at once, and may come again when the first is done.
    """
    until = time.monotonic() + _PATIENCE
    while True:
        # Autocommit: each answer is a transaction of its own. Another job may be writing: wait for it.
        file = sqlite3.connect(place, timeout=_PATIENCE, isolation_level=None)
        try:
            file.text_factory = lambda raw: raw.decode("utf-8", "replace")
            file.execute("PRAGMA journal_mode=WAL")
            file.execute("PRAGMA synchronous=NORMAL")
            file.execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer TEXT) WITHOUT ROWID")
            file.execute(
                "CREATE TABLE IF NOT EXISTS claims "
                "(key BLOB PRIMARY KEY, host TEXT, process INTEGER, job TEXT, until REAL) WITHOUT ROWID"
            )
        except sqlite3.Error as error:
            file.close()
            # The low byte is the kind; the others say where it was met.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_PAUSE * (1 + random.random()))
        else:
            return file


def _holds(host: object, process: object, job: object, until: object) -> bool:
    """Whether a claim still stands: its time is not over, and its process, where it can be looked for, is there."""
    if not isinstance(until, float) or not isinstance(process, int) or until <= time.time():
        return False
    if host != socket.gethostname() or os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def _plain(answer: Answer) -> Mapping[str, Any]:
    return {name: value for name, value in answer._asdict().items() if value not in (None, 0)}


def _answer(text: object) -> Answer | None:
    """What a row says; None where it is no answer, as after a fault of the disk or of another program."""
    try:
        plain = json.loads(text) if isinstance(text, str) else None
        answer = _ANSWER.validate_python({"stopped": None, **plain}) if isinstance(plain, dict) else None
    except (ValueError, RecursionError, ValidationError):
        return None
    return answer if answer is None else paired(answer)
