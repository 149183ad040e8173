"""Models behind a URL: one client for every OpenAI-compatible server, for the judge and for generation.

    asked = ask(
        [Call([user("How many legs has an ant?")])],
        server=Server(url="http://127.0.0.1:8000/v1", model="qwen"),
        sampling=Sampling(temperature=0.0, max_tokens=64),
    )
    asked.answers  # an `Answer` or a `Failure` for each call, in order

Answers are kept on disk under everything that decides them (`cache.py`), so none is paid twice. API keys come from the
environment and go nowhere but into the request (`keys.py`).
"""

from pairwright.served.ask import ask
from pairwright.served.cache import cache_place
from pairwright.served.cluster import ask_on_cluster
from pairwright.served.faults import Why
from pairwright.served.record import (
    Answer,
    Asked,
    BaseUrl,
    Call,
    Failure,
    KeyName,
    Manners,
    Prices,
    Sampling,
    Server,
    Token,
    Usage,
)

__all__ = [
    "Answer",
    "Asked",
    "BaseUrl",
    "Call",
    "Failure",
    "KeyName",
    "Manners",
    "Prices",
    "Sampling",
    "Server",
    "Token",
    "Usage",
    "Why",
    "ask",
    "ask_on_cluster",
    "cache_place",
]
