"""`generate`, `evolve` and `as_asked` on the command line, with an engine whose calls are counted."""

import json
import warnings

import pytest

from pairwright.cli import main
from pairwright.formats.read import read
from pairwright.generate.request import Drawn
from pairwright.goals import GoalFormat
from pairwright.worlds.lists import make

CALLS: list[int] = []
SET: list[object] = []


def engine(requests, *, model, temperature=1.0, top_p=1.0, max_new_tokens=9, stop=(), size=3):
    CALLS.append(len(requests))
    SET.append((stop, size))
    return [Drawn("the same words of them all", "eos", -2.5, 7) for _ in requests]


OWN = ["--engine", f"{__name__}:engine"]


@pytest.fixture
def data(tmp_path):
    CALLS.clear()
    SET.clear()
    make(prompts=4, answers=2, seed=1).save(tmp_path / "in")
    return tmp_path / "in"


@pytest.fixture
def form(tmp_path):
    (tmp_path / "form.json").write_text(GoalFormat(placement="user").model_dump_json(), encoding="utf-8")
    return str(tmp_path / "form.json")


def generate(data, output, *more):
    return main(["generate", "org/m", "--prompts", str(data), *OWN, "-o", str(output), *more])


def test_null_is_typed_as_it_is_documented(data, form, tmp_path):
    assert generate(data, tmp_path / "out", "--goal", "8", "null", "--goal-format", form) == 0
    assert read(tmp_path / "out").responses.collect()["goal"].to_list() == [8.0, None] * 4
    assert generate(data, tmp_path / "other", "--goal", "null", "8", "--goal-format", form, "--limit", "1") == 0
    assert read(tmp_path / "other").responses.collect()["goal"].to_list() == [None, 8.0]
    assert generate(data, tmp_path / "none", "--goal=null", "--split", "null") == 2  # a split may be called so


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
def test_a_file_of_answers_reads_back_with_goals_and_every_sample(ending, data, form, tmp_path, capsys):
    """The engine says the same each time: two samples under two goals to four prompts are 16 answers all the same."""
    file = tmp_path / f"out.{ending}"
    assert generate(data, file, "--goal", "8", "null", "-n", "2", "--goal-format", form) == 0
    back = read(file).responses.collect()
    assert back["goal"].to_list() == [8.0, 8.0, None, None] * 4
    assert back["sample"].to_list() == [0, 1] * 8
    assert back["stopped"].to_list() == ["eos"] * 16
    manifest = json.loads((tmp_path / f"out.{ending}.manifest.json").read_text(encoding="utf-8"))
    assert manifest["lineage"][-1]["name"] == "generate"
    assert manifest["lineage"][-1]["settings"]["goals"] == [8.0, None]
    assert manifest["rows"] == 16
    capsys.readouterr()
    assert main(["as_asked", str(file), "-o", str(tmp_path / "read")]) == 2
    assert "nothing says in which words" in capsys.readouterr().err


def test_as_asked_puts_the_goal_into_the_prompt(data, form, tmp_path):
    assert generate(data, tmp_path / "out", "--goal", "8", "--goal-format", form) == 0
    assert main(["as_asked", str(tmp_path / "out"), "-o", str(tmp_path / "read")]) == 0
    said = GoalFormat(placement="user").say(8)
    before, after = read(tmp_path / "out").prompts.collect(), read(tmp_path / "read").prompts.collect()
    assert [prompt[0]["content"] for prompt in after["prompt"]] == [
        f"{said}\n\n{prompt[0]['content']}" for prompt in before["prompt"]
    ]
    assert after["source_prompt_id"].to_list() == before["prompt_id"].to_list()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("out.csv", "written as .parquet, .jsonl or .json, or into a directory"),
        ("out.jsonl.gz", "written as .parquet, .jsonl or .json, or into a directory"),
        ("there", "is not a pairwright directory"),
        ("there.jsonl", "is a directory"),
        ("file/out", "file"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_anything_is_asked(name, says, data, tmp_path, capsys):
    for folder in ("there", "there.jsonl"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine").write_text("x")
    (tmp_path / "file").write_text("x")
    assert generate(data, tmp_path / name) == 2
    assert says in capsys.readouterr().err
    if name != "out.csv" and not name.endswith(".gz"):  # prompts are also written so
        assert main(["evolve", str(data), "--model", "m", *OWN, "-o", str(tmp_path / name)]) == 2
        assert says in capsys.readouterr().err
    assert CALLS == []


def test_evolve_refuses_a_packed_parquet_file_before_anything_is_asked(data, tmp_path, capsys):
    assert main(["evolve", str(data), "--model", "m", *OWN, "-o", str(tmp_path / "new.parquet.gz")]) == 2
    assert "packed by itself" in capsys.readouterr().err
    assert CALLS == []


def test_settings_without_a_type_are_typed_by_their_default(data, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        words = ["evolve", str(data), "--model", "m", *OWN, "--operators", "deepen", "-o", str(tmp_path / "new")]
        assert main(words) == 0
        assert main([*words, "--stop", "a", "b", "--size", "5"]) == 0
    assert SET == [((), 3), (("a", "b"), 5)]


def test_a_step_of_a_run_is_given_by_the_directory_of_its_data(data, tmp_path, capsys):
    step = tmp_path / "run" / "02-held_out"
    step.mkdir(parents=True)
    data.rename(step / "data")
    assert generate(step, tmp_path / "out") == 2
    assert f"give {step / 'data'}" in capsys.readouterr().err
