"""Datasets of the `datasets` library and pandas frames, as rows."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pairwright.errors import InputError, need
from pairwright.formats.files import ROWS, SUFFIXES, Batch

PREFERENCE_SUFFIX = "_prefs"
"""ultrafeedback_binarized calls the splits of its pairs train_prefs and test_prefs."""


def is_name(source: str) -> bool:
    """Whether a text that is no path could name a hub dataset: `owner/name`, without a suffix of a file."""
    owner, slash, name = source.partition("/")
    plain = all(part and not part.startswith((".", "~")) for part in (owner, name))
    return (
        bool(slash)
        and plain
        and "/" not in name
        and "\\" not in source
        and not source.endswith((*SUFFIXES, ".gz", ".zst"))
    )


def is_saved(path: Path) -> bool:
    """Whether a directory was written by `save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def of_directory(path: Path, split: str | None) -> Iterator[Batch]:
    """The rows of a directory that `save_to_disk` wrote."""
    datasets = need("datasets", extra="train")
    return of_dataset(datasets.load_from_disk(str(path)), split, str(path))


def of_name(name: str, split: str | None) -> Iterator[Batch]:
    """The rows of a hub dataset.

    Raises:
        InputError: it cannot be had.
    """
    datasets = need("datasets", extra="train")
    try:
        found = datasets.load_dataset(name)
    except Exception as error:  # whatever the library or the network raises, there is no such dataset to be had
        reason = str(error).strip().split("\n")[0][:200]
        raise InputError(
            f"{name} is no file here, and no hub dataset could be loaded by that name: {reason}"
        ) from error
    return of_dataset(found, split, name)


def of_dataset(found: Any, split: str | None, name: str) -> Iterator[Batch]:
    """The rows of a Dataset, or of the splits of a DatasetDict with the split in each row.

    Where a dict has splits that end in `_prefs`, only those hold pairs: they are read, under their names without it.

    Raises:
        InputError: there is no such split.
    """
    if not isinstance(found, Mapping):
        return _batches([(None, found)])
    parts = dict(found)
    if any(key.endswith(PREFERENCE_SUFFIX) for key in parts) and split not in parts:
        parts = {
            key.removesuffix(PREFERENCE_SUFFIX): part for key, part in parts.items() if key.endswith(PREFERENCE_SUFFIX)
        }
    if split is not None and split not in parts:
        raise InputError(f"{name} has no split {split!r}; it has {', '.join(found)}")
    return _batches([(key, part) for key, part in parts.items() if split in (None, key)])


def of_pandas(frame: Any) -> Iterator[Batch]:
    """The rows of a pandas frame; missing cells are null, arrays are lists."""
    for start in range(0, len(frame), ROWS):
        part = frame.iloc[start : start + ROWS]
        there = part.notna().to_numpy()
        names = [str(name) for name in part.columns]
        rows = [
            {name: _python(cell) if known else None for name, cell, known in zip(names, cells, has, strict=True)}
            for cells, has in zip(part.astype(object).to_numpy(), there, strict=True)
        ]
        yield Batch(list(range(start + 1, start + 1 + len(rows))), rows)


def _python(cell: Any) -> Any:
    """A numpy value as a Python one, inside lists and objects too."""
    if isinstance(cell, list | tuple):
        return [_python(item) for item in cell]
    if isinstance(cell, dict):
        return {key: _python(item) for key, item in cell.items()}
    return _python(cell.tolist()) if hasattr(cell, "tolist") and hasattr(cell, "dtype") else cell


def _batches(parts: list[tuple[str | None, Any]]) -> Iterator[Batch]:
    number = 0
    for split, part in parts:
        rows: list[dict[str, Any]] = []
        for row in part:
            rows.append(row if split is None or row.get("split") is not None else {**row, "split": split})
            if len(rows) == ROWS:
                yield Batch(list(range(number + 1, number + 1 + len(rows))), rows)
                number += len(rows)
                rows = []
        if rows:
            yield Batch(list(range(number + 1, number + 1 + len(rows))), rows)
            number += len(rows)
