"""The benchmark of tokenising runs, and both its ways give the same tokens; nothing here depends on time."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "tokenising.py"


def test_it_compares_both_ways_on_every_kind_of_data(tmp_path: Path) -> None:
    sizes = ["--pairs", "20", "--repeats", "1"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *sizes],
        check=True,
        text=True,
        capture_output=True,
        env={**os.environ, "PAIRWRIGHT_SHARED": str(tmp_path)},
    )
    assert done.stdout.startswith("there is no data/extra/")
    assert "20 pairs" in done.stdout
    for name in ("pairs  ", "pairs relabelled (ra)  ", "pairs, plain template  "):
        lines = [line for line in done.stdout.splitlines() if line.startswith(name)]
        assert [line.count("tokens/s") for line in lines] == [1, 1, 1, 0]
        assert "claim >= 2" in lines[-1]
