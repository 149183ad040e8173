"""An OpenAI-compatible server on this machine that answers by a rule and fails as it is told to.

It counts what was paid: the well-formed answers that it sent to the last byte.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
Rule = Callable[[Body], Any]
"""What the model says to a request: a text, or a whole reply as a dict."""


def completion(text: str | None, **message: Any) -> Body:
    """A reply as servers write it: 7 tokens in, 5 out."""
    message = {"role": "assistant", "content": text} | message
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
    }


class Faulty:
    """What the server was told and what it saw.

    Args:
        rule: what the model says.
        faults: the faults of the attempts at one call, in order, the same for every call; after them it is well.
        key: the API key that it asks for.
    """

    def __init__(self, rule: Rule, faults: tuple[str, ...] = (), key: str | None = None) -> None:
        self.rule, self.faults, self.key = rule, faults, key
        self.lock = threading.Lock()
        self.attempts: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.bodies: list[Body] = []
        self.times: list[float] = []
        self.now = self.most = 0
        self.delay = 0.0
        self.hang = 30.0
        self.closing = threading.Event()
        self.refused: tuple[str, int] | None = None
        """A text in the last message, and the status with which a call that has it is refused."""
        self.url = ""

    def next_fault(self, name: str) -> str | None:
        with self.lock:
            at = self.attempts[name]
            self.attempts[name] += 1
        return self.faults[at] if at < len(self.faults) else None


def reply_of(server: Faulty, body: Body) -> Body:
    said = server.rule(body)
    return said if isinstance(said, dict) else completion(said)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""

    def do_POST(self) -> None:
        told: Faulty = self.server.told
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = json.dumps(body, sort_keys=True)
        with told.lock:
            told.headers.append(dict(self.headers))
            told.bodies.append(body)
            told.times.append(time.monotonic())
            told.now += 1
            told.most = max(told.most, told.now)
        try:
            if told.key is not None and self.headers.get("Authorization") != f"Bearer {told.key}":
                self._send(401, {"error": {"message": f"wrong key {self.headers.get('Authorization')}"}})
                return
            fault = told.next_fault(name)
            if fault is not None:
                self._fail(fault, told, body)
                return
            if told.refused is not None and told.refused[0] in body["messages"][-1]["content"]:
                self._send(told.refused[1], {"error": {"message": "not this one"}})
                return
            told.closing.wait(told.delay)
            self._send(200, reply_of(told, body))
            with told.lock:
                told.paid[name] += 1
        except (BrokenPipeError, ConnectionResetError):
            pass  # whoever asked is gone
        finally:
            with told.lock:
                told.now -= 1

    def _send(self, status: int, value: Any, **headers: str) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for key, text in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(key.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(data)

    def _fail(self, fault: str, told: Faulty, body: Body) -> None:
        whole = json.dumps(reply_of(told, body)).encode()
        if fault.isdigit():
            self._send(int(fault), {"error": {"message": f"fault {fault}"}})
        elif fault.startswith("wait"):
            self._send(429, {"error": {"message": "slow down"}}, Retry_After=fault.removeprefix("wait"))
        elif fault == "quota":
            self._send(429, {"error": {"message": "no money", "code": "insufficient_quota"}})
        elif fault == "too_long":
            self._send(400, {"error": {"message": "This model's maximum context length is 8 tokens."}})
        elif fault == "hang":
            told.closing.wait(told.hang)
            self.close_connection = True
        elif fault == "drip":
            self.send_response(200)
            self.send_header("Content-Length", str(len(whole)))
            self.end_headers()
            for each in whole:
                self.wfile.write(bytes([each]))
                self.wfile.flush()
                if told.closing.wait(0.05):
                    return
        elif fault == "cut":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(whole)))
            self.end_headers()
            self.wfile.write(whole[: len(whole) // 2])
            self.close_connection = True
        elif fault == "cut_chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"8\r\n" + whole[:8] + b"\r\n")
            self.close_connection = True
        elif fault == "drop":
            self.close_connection = True
        elif fault == "half":
            self._send(200, whole[: len(whole) // 2])
        elif fault == "page":
            self._send(200, b"<html>Bad gateway</html>", Content_Type="text/html")
        else:
            self._send(200, WELL_FORMED_BUT_WRONG[fault])


WELL_FORMED_BUT_WRONG: dict[str, Any] = {
    "empty": {"choices": []},
    "no_choices": {"error": {"message": "upstream is down"}},
    "null": None,
    "list": [],
    "text_choice": {"choices": [{"text": "hello"}]},
    "number": {"choices": [{"message": {"role": "assistant", "content": 7}}]},
    "deep": b"[" * 200_000,
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """A client that goes away in the middle is what some tests are about."""


@contextmanager
def serving(rule: Rule, faults: tuple[str, ...] = (), key: str | None = None) -> Iterator[Faulty]:
    """The server, for as long as the block runs."""
    told = Faulty(rule, faults, key)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.told = told  # type: ignore[attr-defined]
    told.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        told.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
