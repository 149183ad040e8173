"""docs/scoring.md is true: its commands run, and it names every scorer and setting as they are."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import classifiers
from faulty import Body, serving
from pairwright.scorers import SCORERS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "scoring.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
RATINGS = "".join(f"[[{name}: 7]]" for name in ("instruction_following", "honesty", "truthfulness", "helpfulness"))


def says(body: Body) -> str:
    asked = body["messages"][-1]["content"]
    return "[[A]]" if "[[A]]" in asked else RATINGS if "honesty" in asked else "[[7]]"


def run(command: str, url: str) -> None:
    words = shlex.split(command.replace("http://127.0.0.1:8000/v1", url))
    assert words[0] == "pairwright"
    environment = {**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    if "-o" in words:
        assert Path(words[words.index("-o") + 1]).is_dir(), command


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place that looks like a clone, with models that the page names."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for at, name in enumerate(("reward-model", "ranker-model")):
        classifiers.model(tmp_path / name, seed=at, positions=512)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return tmp_path


@pytest.mark.slow
def test_every_command_of_the_page_runs(clone: Path) -> None:
    pytest.importorskip("openai")
    with serving(says) as server:
        for command in COMMANDS:
            if "--ray" not in command:
                run(command, server.url)
    assert len(COMMANDS) >= 10


@pytest.mark.slow
def test_the_command_for_a_cluster_runs(clone: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    (command,) = [each for each in COMMANDS if "--ray" in each]
    run(command, "")


def test_the_page_has_every_scorer_and_no_other() -> None:
    table = PAGE.partition("## Which scorer")[2].partition("A function of your own")[0]
    assert set(re.findall(r"\| `(\w+)` \|", table)) == set(SCORERS)


def test_the_readme_leads_to_the_page() -> None:
    assert "(docs/scoring.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
