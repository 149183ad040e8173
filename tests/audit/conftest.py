"""Small preference data, made by hand: what every check of the audit is tried on."""

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl
import pytest

from pairwright.chat import assistant, prompt_id, user
from pairwright.preferences import Preferences, Step

Made = Callable[..., Preferences]


def _messages(value: Any, role: Callable[[str], Any]) -> list[Any]:
    return [role(value)] if isinstance(value, str) else list(value)


@pytest.fixture
def made() -> Made:
    """`made([(prompt, chosen, rejected, score_chosen, score_rejected), ...], goal=[...], split=[...])`.

    A text stands for one message; further keywords are columns of pairs. Equal answers are not merged.
    """

    def make(rows: Sequence[tuple[Any, ...]], *, lineage: Sequence[Step] = (), **columns: Sequence[Any]) -> Preferences:
        prompts: dict[str, list[Any]] = {}
        answers: list[dict[str, Any]] = []
        pairs: list[dict[str, Any]] = []
        for prompt, *sides in rows:
            asked = _messages(prompt, user)
            key = prompt_id(asked)
            prompts.setdefault(key, asked)
            scores = sides[2:] or [None, None]
            for text, score in zip(sides[:2], scores, strict=True):
                answers.append({"prompt_id": key, "response": _messages(text, assistant), "score": score})
            pairs.append({"prompt_id": key, "chosen_id": len(answers) - 2, "rejected_id": len(answers) - 1})
        kind = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
        table = pl.DataFrame(
            {"prompt_id": list(prompts), "prompt": list(prompts.values())}, schema_overrides={"prompt": kind}
        )
        given = pl.DataFrame(answers, schema={"prompt_id": pl.String, "response": kind, "score": pl.Float64})
        compared = pl.DataFrame(pairs).with_columns(**{name: pl.Series(values) for name, values in columns.items()})
        return Preferences.of(table, given, compared, lineage)

    return make


@pytest.fixture
def clean(made: Made) -> Preferences:
    """Forty pairs with nothing wrong: no check of the data may find anything in them."""
    words = ["river", "stone", "maple", "cloud", "amber", "north", "velvet", "copper"]
    rows = [
        (
            f"Question {i} about {words[i % 8]} and {words[(i * 3 + 1) % 8]}, number {i * i}?",
            "good " * (3 + i % 5) + f"answer {i}",
            "bad " * (3 + (i + 2) % 5) + f"reply {i}",
            6.0 + i % 5,
            1.5 + i % 4,
        )
        for i in range(40)
    ]
    return made(rows)
