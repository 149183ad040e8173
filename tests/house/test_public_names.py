"""The public API is a test: what `import pairwright` offers, and that each name is really there."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import pairwright

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"

VERBS = {
    "read",
    "audit",
    "score",
    "pair",
    "select",
    "relabel",
    "logprobs",
    "train",
    "generate",
    "evolve",
    "diagnose",
    "merge",
    "report",
    "reproduce",
    "run",
    "split",
}
ROOMS = {"losses", "evaluate"}
TYPES = {"Preferences", "GoalFormat", "InputError", "PairwrightError"}
MODELS = {"scratch", "quickstart"}


def test_the_public_names_are_these() -> None:
    assert set(pairwright.__all__) == VERBS | ROOMS | TYPES | MODELS
    assert dir(pairwright) == sorted(pairwright.__all__)


@pytest.mark.parametrize("name", sorted(VERBS | ROOMS | TYPES | MODELS))
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    found = getattr(pairwright, name)
    assert (found.__doc__ or "").strip()
    assert callable(found) or name in ROOMS


def test_a_verb_is_the_verb_even_after_its_module_was_imported() -> None:
    """Python binds a submodule to its package when it is imported; `pw.relabel` must stay the function all the same."""
    code = """
import pairwright.losses, pairwright.pairing, pairwright.relabel, pairwright.relabel.modes, pairwright.split
import pairwright as pw
assert callable(pw.relabel), pw.relabel
assert callable(pw.split), pw.split
assert pw.losses.__name__ == "pairwright.losses"
from pairwright.relabel import relabel
from pairwright import relabel as again
assert relabel is again is pw.relabel
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(SRC)})
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_ordinary_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'pairwright' has no attribute 'relable'"):
        _ = pairwright.relable


def test_annotations_name_the_same_things_as_the_lazy_table() -> None:
    """Editors and type checkers read the TYPE_CHECKING block; Python reads the table. They must agree."""
    tree = ast.parse((SRC / "pairwright" / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    for_types = {
        alias.asname or alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(for_types) == set(pairwright.__all__)
    for name, home in for_types.items():
        assert home is not None
        assert getattr(import_module(home), name) is getattr(pairwright, name)


def modules_with_all() -> list[str]:
    files = [
        path for path in (SRC / "pairwright").rglob("__init__.py") if "__all__" in path.read_text(encoding="utf-8")
    ]
    return sorted(".".join(file.relative_to(SRC).parent.parts) for file in files)


@pytest.mark.parametrize("module", modules_with_all())
def test_every_name_of_an_all_exists(module: str) -> None:
    found = import_module(module)
    assert len(found.__all__) == len(set(found.__all__))
    assert [name for name in found.__all__ if not hasattr(found, name)] == []
