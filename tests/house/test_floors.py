"""The floors: who may import whom, read from the source. Imports inside functions count as much as those on top.

A module imports its own floor or a lower one. The losses stand beside floor 2: they see errors and plugs only, and
nothing of floor 2 sees them. Third-party libraries are allowed by floor. An import for annotations only
(`if TYPE_CHECKING:`) may name any library, but no higher floor of ours. An optional library that is asked for through
`errors.need("name", extra=...)` is no import: it is the way to use one, and it says what to install.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "pairwright"

LIGHT = frozenset({"pydantic", "pydantic_core"})
TABLES = LIGHT | {"polars", "numpy", "orjson", "zstandard"}
MODELS = TABLES | {"torch", "transformers", "accelerate", "peft", "tokenizers", "safetensors", "datasets"}
NUMBERS = TABLES | {"scipy", "sklearn"}
PAGES = TABLES | {"jinja2", "markupsafe", "plotly", "yaml", "docstring_parser", "rich"}
COMMANDS = LIGHT | {"tyro", "yaml", "rich", "docstring_parser", "orjson"}


@dataclass(frozen=True)
class Floor:
    level: float
    allowed: frozenset[str]
    only: frozenset[str] | None = None
    """If given, the only modules of ours that may be imported besides its own."""


# The longest matching name counts. A new module has no floor until someone thinks about it: then this test fails.
FLOORS = {
    "errors": Floor(0, LIGHT),
    "plug": Floor(0, LIGHT),
    "chat": Floor(0, LIGHT),
    "reader": Floor(0, LIGHT),
    "place": Floor(0, LIGHT),
    "progress": Floor(0, LIGHT),
    "kept": Floor(0, LIGHT),
    "cluster": Floor(0, LIGHT),  # ray is asked for by `need`
    "goals": Floor(1, TABLES),
    "gather": Floor(1, TABLES),
    "preferences": Floor(1, TABLES),
    "formats": Floor(1, TABLES),
    "runs": Floor(1, TABLES),
    "stats": Floor(1, TABLES),
    "charts": Floor(1, TABLES),
    "draws": Floor(1, TABLES),
    "pairing": Floor(2, TABLES),
    "split": Floor(2, TABLES),
    "metrics": Floor(2, TABLES),
    "cuts": Floor(2, TABLES),
    "relabel": Floor(2, TABLES),
    "audit": Floor(2, TABLES),
    "served": Floor(2, TABLES),  # openai is asked for by `need`
    "scorers.rules": Floor(2, TABLES),
    "scorers.judge": Floor(2, TABLES),
    "scorers.sample": Floor(2, TABLES),
    "losses": Floor(2, frozenset({"torch"}), only=frozenset({"errors", "plug"})),
    "logprobs": Floor(3, MODELS),
    "select": Floor(3, TABLES),  # it asks `logprobs` for a model's margins, but loads no torch itself
    "probes": Floor(3, MODELS),
    "train": Floor(3, MODELS),
    "generate": Floor(3, MODELS),
    "scorers": Floor(3, TABLES),  # its table and verb name scorers of floor 3, but load no torch themselves
    "scorers.classifier": Floor(3, MODELS),
    "scorers.ranker": Floor(3, MODELS),
    "scorers.reward_model": Floor(3, MODELS),
    "scorers.implicit": Floor(3, MODELS),
    "diagnose": Floor(4, NUMBERS),
    "merge": Floor(2, TABLES),
    "evolve": Floor(3, TABLES),  # it asks `generate`, but loads no torch itself
    "evaluate": Floor(4, NUMBERS),
    "evaluate.harness": Floor(4, NUMBERS | {"lm_eval"}),
    "report": Floor(5, PAGES),
    "pipeline": Floor(5, PAGES),
    "worlds": Floor(5, TABLES),
    "reproduce": Floor(5, NUMBERS),
    "reproduce.language": Floor(5, NUMBERS | {"torch", "transformers"}),  # trains language models
    "reproduce.fitted": Floor(5, NUMBERS | {"torch"}),  # trains tables of logits on our losses
    "reproduce.tree_policies": Floor(5, NUMBERS | {"torch"}),
    "cli": Floor(6, COMMANDS),
    "__main__": Floor(6, frozenset()),
    "__init__": Floor(6, frozenset()),
}


@dataclass(frozen=True)
class Import:
    line: int
    module: str
    for_types_only: bool


def name_of(path: Path, root: Path = SRC) -> str:
    """`relabel.modes` for relabel/modes.py, `relabel` for relabel/__init__.py, `__init__` for the package's own."""
    parts = list(path.relative_to(root).with_suffix("").parts)
    if len(parts) > 1 and parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def floor_of(module: str) -> Floor | None:
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        if found := FLOORS.get(".".join(parts[:end])):
            return found
    return None


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports_of(source: str) -> Iterator[Import]:
    tree = ast.parse(source)
    for_types = {
        id(inner) for node in ast.walk(tree) if is_type_checking(node) for part in node.body for inner in ast.walk(part)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            # `from pairwright import losses` is an import of pairwright.losses.
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "pairwright" else [base]
            if node.level:
                names = ["." * node.level + base]
        else:
            continue
        yield from (Import(node.lineno, name, id(node) in for_types) for name in names)


def faults_of(module: str, source: str) -> list[str]:
    floor = floor_of(module)
    if floor is None:
        return [f"{module} stands on no floor; give it one in FLOORS"]
    faults = []
    for each in imports_of(source):
        top, _, rest = each.module.partition(".")
        if top in sys.stdlib_module_names:
            continue
        if top == "":
            faults.append(f"line {each.line}: relative import; write pairwright...")
        elif top == "pairwright":
            faults += own_faults(module, floor, rest, each.line)
        elif top not in floor.allowed and not each.for_types_only:
            faults.append(f"line {each.line}: {module} (floor {floor.level:g}) must not import {top}")
    return faults


def own_faults(module: str, floor: Floor, target: str, line: int) -> list[str]:
    room = module.split(".")[0]
    if target == "" or module == "__init__":
        # The package itself is lazy; its own annotations name everything.
        return [] if module == "__init__" else [f"line {line}: {module} must import from a module, not from pairwright"]
    other = floor_of(target)
    if other is None:
        return [f"line {line}: {target} stands on no floor"]
    same_room = target.split(".")[0] == room
    if floor.only is not None and not same_room and target.split(".")[0] not in floor.only:
        return [f"line {line}: {module} may import only {', '.join(sorted(floor.only))} of ours, not {target}"]
    if floor.level == 2 and room != "losses" and target.split(".")[0] == "losses":
        return [f"line {line}: {module} (floor 2) must not import the losses (floor 2t)"]
    if other.level > floor.level:
        return [f"line {line}: {module} (floor {floor.level:g}) must not import {target} (floor {other.level:g})"]
    return []


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=name_of)
def test_a_module_imports_only_its_own_floor_or_lower(path: Path) -> None:
    assert faults_of(name_of(path), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source", "says"),
    [
        ("cuts", "import torch", "cuts (floor 2) must not import torch"),
        ("select", "def f():\n    import torch", "line 2: select (floor 3) must not import torch"),
        ("formats.read", "from datasets import Dataset", "must not import datasets"),
        ("preferences", "from pairwright.relabel import relabel", "preferences (floor 1) must not import relabel"),
        ("relabel.modes", "from pairwright.losses import dpo", "must not import the losses"),
        ("losses.table", "from pairwright.preferences import Preferences", "may import only errors, plug"),
        ("losses.logistic", "import numpy", "must not import numpy"),
        ("scorers.rules", "from pairwright.scorers.reward_model import score", "(floor 2) must not import"),
        ("report.page", "import torch", "must not import torch"),
        ("stats", "import scipy.stats", "must not import scipy"),
        ("pairing", "from pairwright import train", "must not import train"),
        ("pairing", "from . import select", "relative import"),
        ("helpers", "", "stands on no floor"),
    ],
)
def test_a_climb_is_caught(module: str, source: str, says: str) -> None:
    assert any(says in fault for fault in faults_of(module, source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("losses.logistic", "from torch.nn.functional import logsigmoid\nfrom pairwright.errors import InputError"),
        ("train.trainer", "from pairwright.losses import dpo\nimport torch"),
        ("preferences", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas"),
        ("scorers.implicit", "from pairwright.logprobs import logprobs"),
        ("select", "from pairwright.errors import need\ndef f():\n    need('torch', extra='train')"),
    ],
)
def test_what_a_floor_allows_passes(module: str, source: str) -> None:
    assert faults_of(module, source) == []


def test_no_file_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "helpers", "misc", "common", "base", "util", "helper"}
    assert [path for path in SRC.rglob("*") if path.stem in empty] == []
