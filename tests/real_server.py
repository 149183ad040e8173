"""`transformers serve` on this machine, for tests marked `server`."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

START = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"


class Place(NamedTuple):
    url: str
    model: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def real_server(folder: Path, log: Path) -> Iterator[Place]:
    """The server, for as long as the block runs.

    Args:
        folder: a `save_pretrained` directory.
        log: the file for what the server says.
    """
    port = free_port()
    command = [sys.executable, "-c", START, "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with log.open("w") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=subprocess.STDOUT, env=os.environ | {"HF_HUB_OFFLINE": "1"}
        )
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, log)
            yield Place(f"http://127.0.0.1:{port}/v1", str(folder))
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(600):
        if process.poll() is not None:
            pytest.fail(f"the server ended: {log.read_text()[-2000:]}")
        try:
            with opener.open(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the server does not answer: {log.read_text()[-2000:]}")
