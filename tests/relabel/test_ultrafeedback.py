"""A thousand real pairs with scores of GPT-4; every expectation is computed from the file by plain Python."""

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pairwright.formats.read import read
from pairwright.preferences import Preferences
from pairwright.relabel import relabel

FILE = "extra/ultrafeedback_binarized_sample.jsonl.gz"
Row = dict[str, Any]


@pytest.fixture(scope="module")
def path(shared: Callable[[str], Path]) -> Path:
    return shared(f"data/{FILE}")


@pytest.fixture(scope="module")
def source(path: Path) -> list[Row]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def prefs(path: Path) -> Preferences:
    return read(path)


def reason(row: Row) -> str | None:
    chosen, rejected = row["chosen"][-1]["content"], row["rejected"][-1]["content"]
    tests = {
        "unscored": row["score_chosen"] is None or row["score_rejected"] is None,
        "empty_chosen": not chosen.strip(),
        "empty_rejected": not rejected.strip(),
        "equal_text": chosen == rejected,
        "score_tie": f"{row['score_chosen']:.1f}" == f"{row['score_rejected']:.1f}",
    }
    return next((name for name, found in tests.items() if found), None)


def test_two_rows_for_each_good_pair_and_counts_for_the_others(source: list[Row], prefs: Preferences) -> None:
    before = prefs.digest()
    result = relabel(prefs, placement="user")
    counts = Counter(reason(row) for row in source)
    good = counts.pop(None)
    # 111 ties by the file's description, of which row 306 also has equal texts.
    assert counts == {"empty_chosen": 1, "empty_rejected": 1, "equal_text": 4, "score_tie": 110}
    step = result.lineage[-1]
    assert step.dropped == counts
    assert (step.rows_in, step.rows_out) == (1000, 2 * good)
    assert prefs.digest() == before


@pytest.mark.parametrize("placement", ["user", "system"])
def test_sides_are_exchanged_and_prompts_differ_in_the_goal_alone(
    source: list[Row], prefs: Preferences, placement: Any
) -> None:
    rows = list(relabel(prefs, placement=placement).rows())
    good = [(i, row) for i, row in enumerate(source) if reason(row) is None]
    assert len(rows) == 2 * len(good)
    for (i, row), positive, negative in zip(good, rows[::2], rows[1::2], strict=True):
        chosen, rejected = row["chosen"][-1]["content"], row["rejected"][-1]["content"]
        assert (positive["copy"], negative["copy"]) == ("positive", "negative")
        assert positive["source_pair"] == negative["source_pair"] == i
        assert (positive["chosen"][0]["content"], positive["rejected"][0]["content"]) == (chosen, rejected)
        assert (negative["chosen"][0]["content"], negative["rejected"][0]["content"]) == (rejected, chosen)
        assert (positive["score_chosen"], positive["score_rejected"]) == (row["score_chosen"], row["score_rejected"])
        assert (negative["score_chosen"], negative["score_rejected"]) == (row["score_rejected"], row["score_chosen"])
        for copy in (positive, negative):
            assert copy["goal"] == copy["score_chosen"]
            said = f"\nOverall score: {copy['goal']:g}."
            head = copy["prompt"][0]["content"].split(said)[0]
            assert head.endswith("where 1 is lowest and 10 is highest):")
            tail = "\n\n" + row["prompt"] if placement == "user" else ""
            assert copy["prompt"][0] == {"role": placement, "content": head + said + tail}
            assert copy["prompt"][1:] == ([] if placement == "user" else [{"role": "user", "content": row["prompt"]}])


def test_the_flat_file_and_its_manifest(prefs: Preferences, tmp_path: Path) -> None:
    result = relabel(prefs, placement="system")
    flat = result.export(tmp_path / "ra.parquet")
    table = pl.read_parquet(flat)
    assert table.height == 1768
    assert table.columns[:6] == ["prompt", "chosen", "rejected", "score_chosen", "score_rejected", "goal"]
    assert {"copy", "source_pair", "split"} <= set(table.columns)
    manifest = json.loads((tmp_path / "ra.parquet.manifest.json").read_text(encoding="utf-8"))
    counts = {"empty_chosen": 1, "empty_rejected": 1, "equal_text": 4, "score_tie": 110}
    assert manifest["dropped"] == counts
    [step] = [step for step in manifest["lineage"] if step["name"] == "relabel"]
    assert step["dropped"] == counts
    assert step["settings"]["goal"]["placement"] == "system"
