"""Toy verbs that need no model: a run of them takes milliseconds."""

from pathlib import Path

import pytest

TOYS = '''
"""Toy verbs."""
import json
from pathlib import Path
import polars as pl
from pairwright.preferences import Preferences, Step

def make(*, rows: int = 40, seed: int = 0, source: str | None = None) -> Preferences:
    """Make toy preferences.

    Args:
        rows: how many pairs.
        seed: of the scores.
        source: a file whose number is added to every score.
    """
    more = float(Path(source).read_text()) if source else 0.0
    prompts = pl.DataFrame({"prompt_id": [str(i) for i in range(rows)],
                            "prompt": [[{"role": "user", "content": f"Q{i}"}] for i in range(rows)]})
    responses = pl.DataFrame({"prompt_id": [str(i // 2) for i in range(2 * rows)],
                              "response": [[{"role": "assistant", "content": f"A{i}"}] for i in range(2 * rows)],
                              "score": [float((i * 7 + seed) % 10) + more for i in range(2 * rows)]})
    pairs = pl.DataFrame({"prompt_id": [str(i) for i in range(rows)], "chosen_id": [2 * i for i in range(rows)],
                          "rejected_id": [2 * i + 1 for i in range(rows)]})
    return Preferences.of(prompts, responses, pairs, [Step(name="make", rows_out=rows)])

def add(prefs: Preferences, *, amount: float, note: str = "") -> Preferences:
    """Add to every score."""
    log("add")
    return prefs.then(Step(name="add"), responses=prefs.responses.with_columns(pl.col("score") + amount))

def keep(prefs: Preferences, *, above: float = 3.0, like: Preferences | None = None) -> Preferences:
    """Keep pairs whose chosen answer scores above something."""
    log("keep")
    view = prefs.view("score").filter(pl.col("score_chosen") > above).drop("score_chosen", "score_rejected")
    return prefs.then(Step(name="keep", dropped={"low": 1}), pairs=view)

def fail(prefs: Preferences) -> Preferences:
    """Fail."""
    from pairwright.errors import InputError
    raise InputError("the data is too blue; paint it")

def log(word):
    with open("calls.txt", "a") as file:
        file.write(word + "\\n")
'''


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with `toys.py`, from which the test works."""
    (tmp_path / "toys.py").write_text(TOYS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


RECIPE = """
- {name: data, do: "toys:make", rows: 40}
- {name: more, do: "toys:add", amount: 1.0}
- {name: few, do: "toys:keep", above: 5}
- {name: again, do: "toys:add", amount: 1e-3}
"""


@pytest.fixture
def recipe(toys: Path) -> Path:
    """Four toy steps."""
    path = toys / "recipe.yaml"
    path.write_text(RECIPE)
    return path
