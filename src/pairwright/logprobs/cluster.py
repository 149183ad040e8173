"""The same batches on a cluster: each worker opens the model once and computes batch after batch."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairwright.cluster import each_on_cluster, found_elsewhere
from pairwright.logprobs.models import Dtype
from pairwright.logprobs.opened import OpenedModel, Part


def on_cluster(parts: Sequence[Part], *, model: str | Path, dtype: Dtype) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Batches by their number with their values, as they are done.

    Args:
        parts: the batches.
        model: as in `OpenedModel`; the workers must find it under this name.
        dtype: precision of its weights.

    Raises:
        MissingExtra: Ray is not installed.
        PairwrightError: a worker failed.
    """
    rows = [_row(i, part) for i, part in enumerate(parts)]
    for row in each_on_cluster(rows, _Worker, {"model": found_elsewhere(model), "dtype": dtype}):
        yield int(row["number"]), np.asarray(row["logp"], dtype=np.float64)


class _Worker:
    """The batch function in a process of the cluster."""

    def __init__(self, model: str, dtype: Dtype) -> None:
        self._opened = OpenedModel(model, dtype)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        part = Part(
            _cut(row["prompts"], row["prompt_lengths"]),
            _cut(row["answers"], row["answer_lengths"]),
            np.asarray(row["owner"]).tolist(),
        )
        return {"number": row["number"], "logp": self._opened.logps(part).tolist()}


def _row(number: int, part: Part) -> dict[str, Any]:
    """A batch as a row of flat lists."""
    return {
        "number": number,
        "prompts": [int(token) for ids in part.prompts for token in ids],
        "prompt_lengths": [len(ids) for ids in part.prompts],
        "answers": [int(token) for ids in part.answers for token in ids],
        "answer_lengths": [len(ids) for ids in part.answers],
        "owner": [int(prompt) for prompt in part.owner],
    }


def _cut(flat: Any, lengths: Any) -> list[NDArray[np.int64]]:
    return np.split(np.asarray(flat, dtype=np.int64), np.cumsum(np.asarray(lengths))[:-1])
