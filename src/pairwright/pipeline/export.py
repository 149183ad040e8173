"""The step `export`: a flat file for other trainers, in the step's directory."""

from pathlib import Path

from pairwright.errors import InputError
from pairwright.formats.write import Names
from pairwright.formats.write import export as write
from pairwright.preferences import Layout, Preferences


def export(
    prefs: Preferences, *, output: Path, file: str = "data.parquet", layout: Layout = "trl", names: Names = "trl"
) -> Path:
    """Write a flat file for other trainers, with its manifest beside it.

    Args:
        prefs: what to write.
        output: the directory that it goes into.
        file: its name, which ends in .parquet, .jsonl, .json or .csv; the last three also with .gz or .zst.
        layout: who reads it: `trl`, `llama_factory`, `openrlhf`, `unpaired`, `prompts`.
        names: in the `trl` layout, whose names the scores and models have.

    Raises:
        InputError: the name is a path, its ending is none of these, or there are no pairs.
    """
    if Path(file).name != file:
        raise InputError(f"export: file is a name in the step's directory, not a path: {file!r}")
    return write(prefs, output / file, layout, names=names)
