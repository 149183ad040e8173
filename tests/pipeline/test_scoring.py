"""Several scorers, their scales and their agreement, as steps of a recipe and on the command line."""

import json
from pathlib import Path

import polars as pl
import pytest

from pairwright.cli import main
from pairwright.errors import InputError
from pairwright.pipeline import dry_run, run
from pairwright.preferences import Preferences


class Silent:
    """Nobody is told about the steps."""

    def begins(self, number, total, name, *, slow): ...

    def ends(self, number, total, name, outcome): ...

    def note(self, text): ...


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Old data whose score_rm runs from 0 to 9 in tens of a letter, and new data from 9 to 18."""
    monkeypatch.chdir(tmp_path)
    for name, start in (("old", 0), ("new", 9)):
        rows = [
            {"prompt": f"Q{i // 2}?", "response": "a" * (i + 1), "score": 0.5, "score_rm": float(start + i)}
            for i in range(10)
        ]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


SCORERS = {
    "score_short": {"with": "rules", "verify": {"with": "length", "high": 5}, "levels": [1, 10]},
    "score_rm10": {"with": "column", "by": "score_rm", "scale": {"percentiles": [0, 100]}},
}
RECIPE = [
    {"name": "old", "do": "read", "source": "old.jsonl"},
    {"name": "old_scores", "do": "score", "with": SCORERS},
    {"name": "new", "do": "read", "source": "new.jsonl"},
    {
        "name": "new_scores",
        "do": "score",
        "with": "column",
        "by": "score_rm",
        "into": "score_rm10",
        "scale": {"like": "step:old_scores"},
    },
    {"name": "agree", "do": "evaluate", "what": "agreement", "from": "old_scores", "draws": 20},
]


def column(path, name):
    return Preferences.load(path).responses.collect()[name].to_list()


def test_a_line_found_in_one_step_is_used_in_another(here):
    """Of 0 to 9 each number is one more on 1 to 10; all new ones lie at the end of that line or above it."""
    ran = run(RECIPE, output="out", progress=Silent())
    old, new = (Preferences.load(ran.step(name) / "data") for name in ("old_scores", "new_scores"))
    assert old.responses.collect()["score_rm10"].to_list() == pytest.approx([i + 1 for i in range(10)])
    assert old.responses.collect()["score_short"].to_list() == [10.0] * 5 + [1.0] * 5
    assert new.responses.collect()["score_rm10"].to_list() == [10.0] * 10
    assert new.lineage[-1].found["scale"]["score_rm10"]["high"] == 9.0
    result = json.loads((ran.step("agree") / "result.json").read_text())
    values = {metric["name"]: metric["value"] for metric in result["metrics"]}
    # Four of the five prompts have answers of one kind; one has the 5th and the 6th, and the longer has the higher rm.
    assert values["pearson/score_rm ~ score_rm10"] == pytest.approx(1.0)
    assert values["flip/score_rm ~ score_short"] == 1.0
    rows = {(row["first"], row["second"]): row for row in result["table"]}
    assert rows["score_rm", "score_short"]["tied_second"] == 4
    assert rows["score", "score_short"]["tied_both"] == 4
    again = run(RECIPE, output="out", progress=Silent())
    assert len(again.reused) == len(RECIPE)


def test_a_changed_line_runs_the_steps_that_use_it(here):
    run(RECIPE, output="out", progress=Silent())
    changed = run(
        RECIPE, output="out", set=["old_scores.with.score_rm10.scale.percentiles=[50, 100]"], progress=Silent()
    )
    assert changed.reused == {"old", "new"}


def test_scored_data_outside_of_the_run_are_watched(here):
    """Their line is what the step depends on, however deep in its settings they are named."""
    assert main(["score", "old.jsonl", "-o", "old", "--with", json.dumps(SCORERS)]) == 0
    steps = [RECIPE[2], {**RECIPE[3], "scale": {"like": "old"}}]
    several = [
        RECIPE[2],
        {"do": "score", "with": {"score_rm10": {"with": "column", "by": "score_rm", "scale": {"like": "old"}}}},
    ]
    for recipe, output in ((steps, "one"), (several, "many")):
        run(recipe, output=output, progress=Silent())
        assert [row.state for row in dry_run(recipe, output=output)] == ["reuse", "reuse"]
    other = json.dumps({**SCORERS, "score_rm10": {**SCORERS["score_rm10"], "scale": {"range": [0, 90]}}})
    assert main(["score", "old.jsonl", "-o", "old", "--with", other]) == 0
    for recipe, output in ((steps, "one"), (several, "many")):
        assert [row.state for row in dry_run(recipe, output=output)] == ["reuse", "run"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"with": {"score_a": {"with": "rulez"}}}, "did you mean 'rules'"),
        ({"with": {"score_a": {"with": "rules"}}}, "score_a with rules needs the setting 'verify'"),
        ({"with": {"score_a": {"with": "rules", "verfy": 1}}}, "score_a with rules has no setting 'verfy'"),
        ({"with": {"score_a": {"verify": "length"}}}, "{with: NAME, and its settings}"),
        ({"with": {"score_a": {"with": "column", "scale": {"rnge": [0, 1]}}}}, "scale: .*rnge"),
        ({"with": "column", "scale": {"range": [0, 1], "percentiles": [1, 99]}}, "give one of range"),
        ({"with": "column", "scale": {"like": "step:nowhere"}}, "there is no step 'nowhere'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(here, settings, says):
    with pytest.raises(InputError, match=says):
        run([RECIPE[0], {"do": "score", **settings}], output="out", progress=Silent())
    assert not Path("out").exists()


def test_on_the_command_line(here, capsys):
    assert (
        main(
            [
                "score",
                "old.jsonl",
                "-o",
                "old",
                "--with",
                "{score_n: {with: column, by: score_rm, scale: {range: [0, 18]}}}",
            ]
        )
        == 0
    )
    assert "In score_n 0 to 18 become 1 to 10" in capsys.readouterr().out
    assert main(["score", "new.jsonl", "-o", "new", "--with", "column", "--by", "score_rm", "--into", "score_n",
                 "--set", "scale={like: old}"]) == 0  # fmt: skip
    assert column("new", "score_n") == pytest.approx([5.5 + i / 2 for i in range(10)])
    assert (
        main(["score", "new.jsonl", "-o", "levels", "--with", "rules", "--verify", "length", "--levels", "1", "10"])
        == 0
    )
    assert column("levels", "score") == [10.0] * 10
    capsys.readouterr()
    assert main(["evaluate", "agreement", "new", "--scores", "score_n", "score_rm", "--draws", "10", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["name"] == "agreement"
    assert {metric["name"]: metric["value"] for metric in shown["metrics"]}["flip/score_n ~ score_rm"] == 0.0
    assert main(["evaluate", "agreement", "new", "-o", "result.json"]) == 0
    assert json.loads(Path("result.json").read_text())["n"] == 10
    assert pl.read_json("result.json").height == 1
