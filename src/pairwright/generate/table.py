"""ENGINES: what computes the answers."""

from collections.abc import Callable
from typing import Any

from pairwright.generate.hf import hf
from pairwright.generate.openai import openai
from pairwright.generate.vllm import vllm

ENGINES: dict[str, Callable[..., Any]] = {"hf": hf, "openai": openai, "vllm": vllm}
"""An engine is a plug: `engine(requests, *, model, temperature, top_p, max_new_tokens, ...)`. It gives a list with a
`Drawn` for each request, in order, or such a list in a `Given`; or it yields parts as they are done (`Part`), which are
then kept, so that a killed job does not draw them again."""
LOCAL: frozenset[str] = frozenset({"hf", "vllm"})
"""Engines whose `model` may be a name of the hub. To any other it is whatever the engine makes of it, so nothing is
looked up under it: neither its files nor its tokenizer are at hand, unless it is a directory here."""
