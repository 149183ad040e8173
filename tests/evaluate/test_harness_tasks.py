"""Tasks that harness is asked for: with examples and items of one's own, or refused where a definition takes none."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from pairwright.errors import InputError
from pairwright.evaluate import harness

pytestmark = pytest.mark.slow
COLOURS = ["red", "green", "blue"]
NOWHERE = "no model is there, as none is opened"


def write_items(path: Path, word: str, count: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"question": f"{word} {i}", "choices": COLOURS, "answer": i % 3} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def task(folder: Path, name: str, **more: Any) -> dict[str, Any]:
    """The definition of a task of 6 items."""
    write_items(folder / f"{name}.jsonl", f"{name} ball", 6)
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}, "cache_dir": str(folder / "cache")},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "{{question}}:",
        "doc_to_target": "answer",
        "doc_to_choice": "choices",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1},
    } | more


def group(name: str, *members: Any) -> dict[str, Any]:
    mean = {"metric": "acc", "aggregation": "mean", "weight_by_size": False}
    return {"group": name, "task": list(members), "aggregate_metric_list": [mean], "metadata": {"version": 1}}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tasks one, two; groups `both` of them, `anew` that defines one anew, `inner` with a task of its own inside."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed; run: pip install 'pairwright[eval]'")
    folder = tmp_path_factory.mktemp("own")
    inside = task(folder, "hidden")
    defined = [
        task(folder, "one", tag=["numbers"]),
        task(folder, "two", tag=["numbers"]),
        group("both", "one", "two"),
        group("anew", {"task": "one", "num_fewshot": 3}),
        group("others", {"task": "one", "dataset_kwargs": inside["dataset_kwargs"]}),
        group("inner", inside, "two"),
        group("nested", {"group": "part", "task": ["one"]}, "two"),
    ]
    for each in defined:
        (folder / f"{each.get('group') or each['task']}.yaml").write_text(yaml.safe_dump(each))
    return folder


@pytest.fixture(autouse=True)
def _only_own_definitions(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval's own thousands of definitions play no part here, and take long to read."""
    import lm_eval.tasks

    manager = partial(lm_eval.tasks.TaskManager, include_defaults=False)
    monkeypatch.setattr(lm_eval.tasks, "TaskManager", manager)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.model(tmp_path_factory.mktemp("model") / "m", seed=0, positions=1024)


@pytest.mark.parametrize("name", ["both", "numbers", "nested"])
def test_examples_of_a_group_or_tag_stand_before_the_items_of_all_its_tasks(own: Path, model: Path, name: str) -> None:
    found = harness(model, tasks=(name,), include_path=own, few_shot={name: 2}, draws=10)
    assert {row["task"]: row["few_shot"] for row in found.table} == {"one": 2, "two": 2}


def test_of_a_group_and_a_task_in_it_the_task_keeps_its_own_examples(own: Path, model: Path) -> None:
    found = harness(model, tasks=("both",), include_path=own, few_shot={"both": 2, "one": 1}, draws=10)
    assert {row["task"]: row["few_shot"] for row in found.table} == {"one": 1, "two": 2}


@pytest.mark.parametrize(
    ("name", "few_shot", "says"),
    [
        ("anew", {"anew": 1}, "one keeps its own examples"),
        ("anew", {"one": 1}, "one keeps its own examples"),
        ("inner", {"inner": 1}, "inner::hidden keeps its own examples"),
    ],
)
def test_examples_that_a_group_does_not_take_are_refused(
    own: Path, name: str, few_shot: dict[str, int], says: str
) -> None:
    with pytest.raises(InputError, match=f"{says}.*leave it out of few_shot"):
        harness(NOWHERE, tasks=(name,), include_path=own, few_shot=few_shot)


def test_examples_that_a_group_sets_alike_are_as_they_were_asked_for(own: Path, model: Path) -> None:
    found = harness(model, tasks=("anew",), include_path=own, few_shot={"one": 3}, draws=10)
    assert [row["few_shot"] for row in found.table] == [3]


@pytest.mark.parametrize(("tasks", "name"), [(("one",), "onne"), (("inner",), "hidden"), (("both",), "both")])
def test_items_that_no_task_reads_are_refused(own: Path, tmp_path: Path, tasks: tuple[str, ...], name: str) -> None:
    write_items(tmp_path / name / "test.jsonl", "bell", 3)
    with pytest.raises(InputError, match=f"no task reads .*{name}: a directory has the name of one of the tasks"):
        harness(NOWHERE, tasks=tasks, include_path=own, data=tmp_path)


def test_items_of_a_task_that_a_group_gives_others_are_refused(own: Path, tmp_path: Path) -> None:
    write_items(tmp_path / "one" / "test.jsonl", "bell", 3)
    with pytest.raises(InputError, match=r"one keeps its own items.*leave it out of data"):
        harness(NOWHERE, tasks=("others",), include_path=own, data=tmp_path)


def test_paths_may_be_relative(own: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four items in the place of the task's own six, with an example before each."""
    write_items(tmp_path / "items" / "one" / "test.jsonl", "bell", 4)
    (tmp_path / "definitions").symlink_to(own)
    monkeypatch.chdir(tmp_path)
    settings: dict[str, Any] = {"include_path": Path("definitions"), "data": Path("items"), "few_shot": {"one": 1}}
    found = harness(model, tasks=("one",), draws=10, **settings)
    (row,) = found.table
    assert (row["n"], row["few_shot"]) == (4, 1)
    assert row["source"] == str((tmp_path / "items" / "one" / "test.jsonl").resolve())


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        (("one", "one"), r"one is asked for twice \(it is named twice\)"),
        (("both", "both"), "both is asked for twice"),
        (("both", "one"), r"one is asked for twice \(both and one both hold it\)"),
        (("inner", "two"), r"two is asked for twice \(inner and two both hold it\)"),
        (("nested", "anew"), r"one is asked for twice \(nested and anew both hold it\)"),
    ],
)
def test_a_task_that_would_count_twice_is_refused_before_anything_is_loaded(
    own: Path, tasks: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.tasks.manager import TaskManager

    monkeypatch.setattr(TaskManager, "load", lambda *_: pytest.fail("a task was loaded"))
    with pytest.raises(InputError, match=says):
        harness(NOWHERE, tasks=tasks, include_path=own)
