"""What must not get into the repository."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Put together here so that this file does not find itself.
FOLDERS = ("home", "root", "work", "Users", "opt", "mnt")
MACHINE_PATHS = re.compile("|".join(rf"(?<![\w.~-])/{folder}/" for folder in FOLDERS))
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".j2", ".html", ".css", ".json", ".cfg", ""}


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_place_on_someones_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in tracked()
        if path.suffix in TEXT
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if MACHINE_PATHS.search(line)
    ]
    assert found == []


def test_no_large_or_pickled_file() -> None:
    assert [path.name for path in tracked() if path.stat().st_size > 1_000_000] == []
    assert [path.name for path in tracked() if path.suffix in {".pkl", ".pickle", ".pt", ".pth", ".bin"}] == []


def test_constraints_are_exact_and_portable() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", line)] == []
    assert "torch==2.13.0" in pins
