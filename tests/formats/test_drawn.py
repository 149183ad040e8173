"""Goals of several attributes in a file of answers, as `generate` writes it."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pairwright.formats.read import read

GOALS: list[Any] = [[1.0, 2.5], None, [3.0, 4e-3]]


def written(folder: Path, ending: str, goals: list[Any], **without: None) -> Path:
    columns = {
        "prompt": [[{"role": "user", "content": f"q{i}"}] for i in range(3)],
        "response": [[{"role": "assistant", "content": f"a{i}"}] for i in range(3)],
        "goal": goals,
        "sample": [0, 0, 0],
        "stopped": ["eos"] * 3,
    }
    frame = pl.DataFrame({name: cells for name, cells in columns.items() if name not in without})
    path = folder / f"answers.{ending}"
    {"jsonl": frame.write_ndjson, "json": frame.write_json, "parquet": frame.write_parquet}[ending](path)
    return path


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
def test_a_goal_of_several_attributes_comes_back_as_numbers(tmp_path: Path, ending: str) -> None:
    goals = read(written(tmp_path, ending, GOALS)).responses.collect()["goal"]
    assert goals.dtype == pl.List(pl.Float64)
    assert goals.to_list() == GOALS


def test_other_goals_and_other_files_stay_as_they_are(tmp_path: Path) -> None:
    words = read(written(tmp_path, "jsonl", ["[short]", None, "[1, 2]"])).responses.collect()["goal"]
    assert words.to_list() == ["[short]", None, "[1, 2]"]
    numbers = read(written(tmp_path, "jsonl", [8.0, None, 4.5])).responses.collect()["goal"]
    assert numbers.to_list() == [8.0, None, 4.5]
