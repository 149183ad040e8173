"""The benchmark of tables runs; its figures are for reading, so nothing here depends on time."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "tables.py"


def test_it_prints_every_figure_beside_its_target() -> None:
    sizes = ["--pairs", "400", "--export-pairs", "50", "--repeats", "1"]
    done = subprocess.run([sys.executable, str(SCRIPT), *sizes], check=True, text=True, capture_output=True)
    _, *lines = done.stdout.splitlines()
    held = [line for line in lines if "< 15 s, < 2 GiB" in line or "<= 2 x the copy" in line]
    assert len(held) == 5
    assert all(line.endswith(("met", "NOT MET")) for line in held)
    assert sum("GiB" in line for line in lines) == 5 + 3 + 2 + 1  # and saving, the copies, relabel alone
    assert "export 100 relabelled rows" in done.stdout
