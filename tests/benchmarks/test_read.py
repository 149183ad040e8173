"""The benchmark of reading runs; its figures are for reading, so nothing here depends on time."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "read.py"


def test_it_prints_every_figure_and_holds_two_against_a_target_for_each_size() -> None:
    sizes = ["--rows", "300", "--long-rows", "50", "--repeats", "1"]
    done = subprocess.run([sys.executable, str(SCRIPT), *sizes], check=True, text=True, capture_output=True)
    assert "short: 300 rows" in done.stdout
    assert "long: 50 rows" in done.stdout
    lines = done.stdout.splitlines()
    for name in ("read  ", "read + audit", "orjson.loads", "polars.read_ndjson"):
        assert sum(line.startswith(name) for line in lines) == 2
    held = [line for line in lines if ">= 100,000 rows/s" in line or "< 1.5 GiB" in line]
    assert len(held) == 4
    assert all(line.endswith(("met", "NOT MET")) for line in held)
