"""The README is true: its Python prints what it says, its commands run, its tree is the tree."""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place that looks like a clone, where commands may write."""
    for folder in ("examples", "recipes"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_twelve_lines_print_what_the_readme_says(clone: Path) -> None:
    (code,) = blocks("python")
    said = blocks("text")[0]
    lines = [line for line in code.splitlines() if line]
    assert len(lines) == 12
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert printed.getvalue() == said


COMMANDS = [line for block in blocks("console") for line in block.splitlines() if line.startswith("pairwright ")]


def test_every_command_of_the_readme_runs(clone: Path) -> None:
    assert len(COMMANDS) >= 5
    environment = os.environ | {"COLUMNS": "100"}
    for command in COMMANDS:
        words = shlex.split(command)
        done = subprocess.run(
            [sys.executable, "-m", *words], capture_output=True, text=True, env=environment, timeout=120
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        if "-o" in words:
            assert (clone / words[words.index("-o") + 1]).exists(), command


def test_make_targets_of_the_readme_are_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"make ([a-z-]+)", "".join(blocks("console")) + "".join(blocks("text"))))
    assert {"quickstart", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_tree_has_a_caption_on_every_line_and_is_the_tree() -> None:
    tree = blocks("text")[-1]
    folders: list[str] = []
    named: set[str] = set()
    for line in tree.splitlines()[1:]:
        match = re.fullmatch(r"((?:│   |    )*)(?:├── |└── )(\S+)\s{2,}(\S.*)", line)
        assert match, f"no caption: {line!r}"
        depth = len(match[1]) // 4
        folders[depth:] = [match[2]]
        path = "".join(folders)
        assert (ROOT / path).exists(), path
        named.add(path.rstrip("/"))
    for path in (ROOT / "src" / "pairwright").iterdir():
        if path.name not in ("__pycache__", "__init__.py", "__main__.py", "py.typed"):
            assert f"src/pairwright/{path.name}" in named, f"{path.name} is not in the README's tree"
