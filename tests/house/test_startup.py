"""What starting up loads. Modules are counted, not seconds: a slow machine must not fail a test."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"

HEAVY = {
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "datasets",
    "trl",
    "pandas",
    "scipy",
    "sklearn",
    "pyarrow",
    "plotly",
}
LIBRARIES = HEAVY | {"polars", "numpy", "pydantic", "tyro", "jinja2", "yaml", "rich"}
TORCH_FREE = ("errors", "plug", "chat", "goals", "preferences", "formats", "runs", "stats", "draws", "pairing", "split")
TORCH_FREE += ("metrics", "select", "relabel", "audit", "scorers", "pipeline", "report", "cli")


def loaded_by(code: str) -> set[str]:
    """Top-level modules in memory after a new Python has run `code`."""
    code += "\nimport sys\nprint('\\n'.join({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(SRC)})
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_package_loads_no_library() -> None:
    assert loaded_by("import pairwright") & LIBRARIES == set()


@pytest.mark.parametrize("room", TORCH_FREE)
def test_a_torch_free_room_loads_nothing_heavier_than_polars(room: str) -> None:
    assert loaded_by(f"import pairwright.{room}") & HEAVY == set()


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["audit", "--help"]])
def test_help_loads_no_torch(arguments: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["pairwright", *{arguments!r}]
from pairwright.cli import main
sys.stdout, kept = open({str(Path("/dev/null"))!r}, "w"), sys.stdout
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
sys.stdout = kept
"""
    assert loaded_by(code) & HEAVY == set()


def test_the_losses_load_torch_and_no_tables() -> None:
    """They can be lifted into anyone's trainer."""
    assert loaded_by("import pairwright.losses") & {"polars", "transformers", "datasets", "peft"} == set()
