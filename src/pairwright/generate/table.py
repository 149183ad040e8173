"""ENGINES: what computes the answers."""

from collections.abc import Callable
from typing import Any

from pairwright.generate.hf import hf

ENGINES: dict[str, Callable[..., Any]] = {"hf": hf}
"""An engine is a plug: `engine(requests, *, model, temperature, top_p, ...)` gives a `Drawn` for each, in order."""
