"""A score that is killed goes on where it was, and ends with the same bytes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import classifiers
import tiny
from pairwright.cli import main
from pairwright.errors import InputError
from pairwright.pipeline import run as run_recipe
from pairwright.scorers import forget, score
from pairwright.scorers.classifier import OpenedClassifier

pytest.importorskip("torch")

RANKED = "{prompt} A: {first} B: {second}"


class Stopped(Exception):
    """As if the process ended."""


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Counts the texts of each batch that a model reads, and stops a job before the batch of a number."""
    original = OpenedClassifier.outputs

    def until(stop: int) -> list[int]:
        batches: list[int] = []

        def outputs(self: OpenedClassifier, texts: Any) -> Any:
            if len(batches) == stop:
                raise Stopped
            batches.append(len(texts))
            return original(self, texts)

        monkeypatch.setattr(OpenedClassifier, "outputs", outputs)
        return batches

    return until


@pytest.mark.parametrize(
    ("scorer", "settings"),
    [("reward_model", {"heads": list("abc")}), ("ranker", {"template": RANKED})],
)
def test_only_the_batches_that_are_missing_are_read(
    scorer: str, settings: dict[str, Any], tmp_path: Path, read: Callable[[int], list[int]]
) -> None:
    place = classifiers.model(tmp_path / "rm", heads=len(settings.get("heads", "a")))
    own = {"model": place, "batch_tokens": 150, **settings}
    batches = read(99)
    whole = score(tiny.preferences(12), scorer, **own)
    assert len(batches) > 3
    first = read(2)
    with pytest.raises(Stopped):
        score(tiny.preferences(12), scorer, keep=tmp_path / "keep", **own)
    rest = read(99)
    again = score(tiny.preferences(12), scorer, keep=tmp_path / "keep", **own)
    assert first + rest == batches
    assert again == whole
    assert again.responses.collect().equals(whole.responses.collect())
    none = read(0)  # nothing is left, so no model is asked
    assert score(tiny.preferences(12), scorer, keep=tmp_path / "keep", **own) == whole
    assert none == []
    forget(tmp_path / "keep")
    assert not (tmp_path / "keep").exists()


def test_what_decides_a_number_makes_another_job(tmp_path: Path, read: Callable[[int], list[int]]) -> None:
    place, other = classifiers.model(tmp_path / "rm"), classifiers.model(tmp_path / "other", seed=1)
    own: dict[str, Any] = {"keep": tmp_path / "keep", "batch_tokens": 150}
    batches = read(99)
    score(tiny.preferences(6), "reward_model", model=place, **own)
    (tmp_path / "rm").rename(tmp_path / "moved")
    done = len(batches)
    score(tiny.preferences(6), "reward_model", model=tmp_path / "moved", **own)
    assert len(batches) == done  # the same model in another place
    for changed in ({"dtype": "bfloat16"}, {"batch_tokens": 200}, {"model": other}):
        before = len(batches)
        score(tiny.preferences(6), "reward_model", **{"model": tmp_path / "moved", **own, **changed})
        assert len(batches) > before, changed
    before = len(batches)
    score(tiny.preferences(7), "reward_model", model=other, **own)
    assert len(batches) > before


def test_half_a_line_and_a_file_of_something_else_are_passed_over(
    tmp_path: Path, read: Callable[[int], list[int]]
) -> None:
    place = classifiers.model(tmp_path / "rm")
    own: dict[str, Any] = {"model": place, "keep": tmp_path / "keep", "batch_tokens": 150}
    batches = read(99)
    whole = score(tiny.preferences(6), "reward_model", **own)
    number = len(batches)
    file = tmp_path / "keep" / "scores-0.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    (tmp_path / "keep" / "scores-1.jsonl").write_text('{"job": 1}\nnot JSON\n')
    assert score(tiny.preferences(6), "reward_model", **own) == whole
    assert len(batches) == number + 1
    assert score(tiny.preferences(6), "reward_model", **own) == whole
    assert len(batches) == number + 1


def test_each_of_several_scorers_keeps_its_own(tmp_path: Path, read: Callable[[int], list[int]]) -> None:
    one, two = classifiers.model(tmp_path / "one"), classifiers.model(tmp_path / "two", seed=1)
    asked: Any = {
        "score_one": {"with": "reward_model", "model": str(one), "batch_tokens": 150},
        "score_two": {"with": "reward_model", "model": str(two), "batch_tokens": 150},
        "score_short": {"with": "rules", "verify": "length"},
    }
    batches = read(99)
    whole = score(tiny.preferences(6), asked)
    half = len(batches) // 2
    read(half + 1)
    with pytest.raises(Stopped):
        score(tiny.preferences(6), asked, keep=tmp_path / "keep")
    rest = read(99)
    assert score(tiny.preferences(6), asked, keep=tmp_path / "keep") == whole
    assert len(rest) == half - 1
    forget(tmp_path / "keep")
    assert not (tmp_path / "keep").exists()
    with pytest.raises(InputError, match="keep is said once for all scorers"):
        score(tiny.preferences(6), {"score_one": {**asked["score_one"], "keep": "x"}})


COMMAND = """
import os, signal, sys
from pairwright.cli import main
from pairwright.scorers.classifier import OpenedClassifier

original, left = OpenedClassifier.outputs, [int(sys.argv[1])]

def outputs(self, texts):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return original(self, texts)

OpenedClassifier.outputs = outputs
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
def test_a_killed_command_goes_on_and_leaves_only_its_output(tmp_path: Path) -> None:
    def run(after: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", COMMAND, str(after), "score", str(data), *arguments],
            capture_output=True,
            text=True,
            timeout=240,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    place, data = classifiers.model(tmp_path / "rm"), tiny.preferences(12).save(tmp_path / "data")
    own = ["--with", "reward_model", "--model", str(place), "--batch-tokens", "150"]
    assert run(99, *own, "-o", str(tmp_path / "whole")).returncode == 0
    killed = run(3, *own, "-o", str(tmp_path / "out"))
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    lines = (tmp_path / "out.unfinished" / "scores-0.jsonl").read_text().splitlines()
    assert [list(json.loads(line)) for line in lines] == [["job", "scores"]] * 3
    done = run(99, *own, "-o", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "reward_model: 3 of " in done.stderr
    for name in ("prompts.parquet", "responses.parquet", "pairs.parquet", "manifest.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"rm", "data", "whole", "out"}


def test_a_step_of_a_recipe_goes_on_too(tmp_path: Path, read: Callable[[int], list[int]]) -> None:
    """A plan with a classifier: checked before it runs, scored, paired by the scores, and gone on with."""
    place, data = classifiers.model(tmp_path / "rm"), tiny.preferences(8).save(tmp_path / "data")
    recipe: list[dict[str, Any]] = [
        {"name": "data", "do": "read", "source": str(data)},
        {"name": "scored", "do": "score", "scorer": "reward_model", "model": str(place), "batch_tokens": 150},
        {"name": "paired", "do": "pair", "rule": "best_worst"},
    ]
    for wrong in ({"modle": "x"}, {"keep": "x"}):
        with pytest.raises(InputError, match=f"no setting {next(iter(wrong))!r}"):
            run_recipe([recipe[0], {**recipe[1], **wrong}], output=tmp_path / "wrong")
    read(99)
    whole = run_recipe(recipe, output=tmp_path / "whole")
    first = read(2)
    with pytest.raises(Stopped):
        run_recipe(recipe, output=tmp_path / "run")
    rest = read(99)
    done = run_recipe(recipe, output=tmp_path / "run")
    assert [step.outputs for step in done.steps] == [step.outputs for step in whole.steps]
    assert {path.name for path in (tmp_path / "run" / "02-scored").iterdir()} == {"data", "done.json", "settings.json"}
    assert len(first) == 2
    assert len(rest) > 0
    again = read(0)
    assert run_recipe(recipe, output=tmp_path / "run").reused == {"data", "scored", "paired"}
    assert again == []


def test_the_command_has_no_flag_for_where_it_keeps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "--with", "reward_model", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--ray" in said
    assert "--keep" not in said
