"""Small preferences with chosen scores."""

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl
import pytest

from pairwright.preferences import Preferences

Made = Callable[..., Preferences]


@pytest.fixture(scope="session")
def made() -> Made:
    """`made([(9, 8), (7, None)])`: one prompt and pair for each, answers numbered in order, each with its own text.

    `texts` replaces answers by number, `attributes` adds score columns (one number for each answer), `pairs` adds
    columns of the pairs.
    """

    def make(
        scores: Sequence[tuple[float | None, float | None]],
        *,
        texts: dict[int, str] | None = None,
        attributes: dict[str, Sequence[float | None]] | None = None,
        pairs: dict[str, Sequence[Any]] | None = None,
    ) -> Preferences:
        count = len(scores)
        said = [(texts or {}).get(i, f"answer {i}") for i in range(2 * count)]
        names = [f"p{i}" for i in range(count)]
        questions = [[{"role": "user", "content": f"question {i}"}] for i in range(count)]
        floats = {
            name: pl.Series(column, dtype=pl.Float64, strict=False) for name, column in (attributes or {}).items()
        }
        answers = pl.DataFrame(
            {
                "prompt_id": [name for name in names for _ in range(2)],
                "response": [[{"role": "assistant", "content": text}] for text in said],
                "score": pl.Series([s for pair in scores for s in pair], dtype=pl.Float64, strict=False),
                **floats,
            }
        )
        rows = pl.DataFrame(
            {
                "prompt_id": names,
                "chosen_id": range(0, 2 * count, 2),
                "rejected_id": range(1, 2 * count, 2),
                **(pairs or {}),
            }
        )
        return Preferences.of(pl.DataFrame({"prompt_id": names, "prompt": questions}), answers, rows)

    return make
