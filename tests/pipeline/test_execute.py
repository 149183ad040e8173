"""A run: what is done is not done again, and a killed run ends as an unkilled one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pairwright.errors import InputError, PairwrightError
from pairwright.pipeline import dry_run, run
from pairwright.pipeline.plan import make_plan, what_is_asked
from pairwright.pipeline.recipe import read_recipe
from pairwright.preferences import Preferences
from pairwright.runs import Done, digest


class Lines:
    """Collects what a run says."""

    def __init__(self):
        self.lines = []

    def begins(self, number, total, name, *, slow):
        self.lines.append(f"begins {name}")

    def ends(self, number, total, name, outcome):
        self.lines.append(f"[{number}/{total}] {name} ... {outcome}")

    def note(self, text):
        self.lines.append(text)


def quiet(recipe, **settings):
    lines = Lines()
    ran = run(recipe, output="out", progress=lines, **settings)
    return ran, lines.lines


def calls():
    path = Path("calls.txt")
    words = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return words


def data_digests(root: Path) -> dict[str, dict[str, str]]:
    """The digests of every step's outputs, from the records."""
    return {path.parent.name: json.loads(path.read_text())["outputs"] for path in sorted(root.glob("*/done.json"))}


def test_every_step_has_a_directory_with_its_settings_outputs_and_record(recipe):
    ran, lines = quiet(recipe)
    assert [path.name for path in sorted(Path("out").iterdir()) if path.is_dir()] == [
        "01-data", "02-more", "03-few", "04-again",
    ]  # fmt: skip
    scores = Preferences.load("out/04-again/data").responses.collect()["score"].to_list()
    assert scores[:3] == [1.001, 8.001, 5.001]
    assert lines[-1].startswith("[4/4] again ... 16 pairs, 0.")
    assert any(line.startswith("[3/4] few ... 16 pairs, 1 dropped, ") for line in lines)
    settings = json.loads(Path("out/02-more/settings.json").read_text())
    assert settings["settings"] == {"from": "data", "amount": 1.0, "note": ""}
    assert list(settings["inputs"]) == ["step:data"]
    assert ran.step("few") == Path("out/03-few")
    assert calls() == ["add", "keep", "add"]


def test_a_second_run_does_nothing(recipe):
    quiet(recipe)
    calls()
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*") if path.parent != Path("out")}
    ran, lines = quiet(recipe)
    assert calls() == []
    assert ran.reused == {"data", "more", "few", "again"}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not any(line.startswith("begins") for line in lines)


def test_a_changed_setting_runs_its_step_and_what_comes_of_it_only(recipe):
    quiet(recipe)
    calls()
    ran, _ = quiet(recipe, set=["few.above=3"])
    assert calls() == ["keep", "add"]
    assert ran.reused == {"data", "more"}


def test_a_change_that_changes_no_data_stops_there(recipe):
    """`note` is a setting that the toy verb ignores; its lineage has no trace of it, so the bytes are the same."""
    quiet(recipe)
    calls()
    ran, _ = quiet(recipe, set=["more.note=hello"])
    assert calls() == ["add"]
    assert ran.reused == {"data", "few", "again"}


def test_a_changed_input_file_runs_what_reads_it(toys):
    recipe = [{"name": "data", "do": "toys:make", "source": "number.txt"}, {"do": "toys:add", "amount": 1}]
    Path("number.txt").write_text("1")
    first, _ = quiet(recipe)
    assert list(first.steps[0].inputs) == ["number.txt"]
    assert quiet(recipe)[0].reused == {"data", "add"}
    Path("number.txt").write_text("2")
    assert quiet(recipe)[0].reused == set()
    scores = Preferences.load("out/02-add/data").responses.collect()["score"].to_list()
    assert scores[:3] == [3.0, 10.0, 7.0]


@pytest.mark.parametrize(
    ("verb", "setting"),
    [("train", "reference_model"), ("train", "model"), ("generate", "goal_format"), ("generate", "model")],
)
def test_every_file_that_a_verb_reads_is_an_input(toys, verb, setting):
    """What is in it decides what the step gives, so a change must run the step again."""
    Path("outside").mkdir()
    Path("outside/config.json").write_text("1")
    step = {"do": verb, "model": "somebody/model"} | {setting: "outside"}
    data, planned = make_plan(read_recipe([{"name": "data", "do": "toys:make"}, step]))
    kinds = {"data": data.verb.gives}
    done = {
        "data": Done(
            step="data", verb="toys:make", settings={}, inputs={}, outputs={"data/x": "0"}, versions={}, seconds=1
        )
    }
    before = what_is_asked(planned, done, kinds)
    assert before.inputs["outside"] == digest("outside")
    Path("outside/config.json").write_text("2")
    assert what_is_asked(planned, done, kinds) != before


def test_changed_or_lost_outputs_are_made_again(recipe):
    first, _ = quiet(recipe)
    (Path("out/02-more/data/pairs.parquet")).write_bytes(b"PAR1")
    Path("out/04-again/data/manifest.json").unlink()
    before = {done.step: done.outputs for done in first.steps}
    second, _ = quiet(recipe)
    assert {done.step: done.outputs for done in second.steps} == before
    assert second.reused == {"data", "few"}


def test_fresh_starts_over_and_leaves_other_files(recipe):
    quiet(recipe)
    calls()
    Path("out/notes.txt").write_text("mine")
    ran, _ = quiet(recipe, fresh=True)
    assert ran.reused == set()
    assert calls() == ["add", "keep", "add"]
    assert Path("out/notes.txt").read_text() == "mine"


def test_directories_of_the_users_own_are_left_alone(recipe):
    own = {Path("out/2024-more/precious.txt"), Path("out/99-holiday/photo.jpg")}
    for path in own:
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    _, lines = quiet(recipe)
    quiet(recipe, fresh=True)
    assert all(path.read_text() == "mine" for path in own)
    assert not any("holiday" in line for line in lines)
    Path("out/05-last").mkdir()
    Path("out/05-last/precious.txt").write_text("mine")
    recipe.write_text(recipe.read_text() + '- {name: last, do: "toys:add", amount: 1}\n')
    calls()
    with pytest.raises(InputError, match="05-last is in the way of a step"):
        quiet(recipe, set=["few.above=3"])
    assert calls() == []  # it is said before anything is done


def test_a_file_beside_the_outputs_stays_and_nothing_is_done_again(recipe):
    quiet(recipe)
    Path("out/03-few/notes.txt").write_text("mine")
    assert quiet(recipe)[0].reused == {"data", "more", "few", "again"}
    assert Path("out/03-few/notes.txt").read_text() == "mine"


def test_the_users_own_recipe_is_never_written_over(recipe):
    mine = "# my notes\n" + recipe.read_text()
    recipe.write_text(mine)
    run("recipe.yaml", output=".", set=["few.above=3"], progress=Lines())
    assert recipe.read_text() == mine
    assert "above: 3" in Path("recipe.resolved.yaml").read_text()
    run("recipe.yaml", output=".", progress=Lines())
    assert "above: 5" in Path("recipe.resolved.yaml").read_text()
    Path("recipe.resolved.yaml").write_text("mine too")
    with pytest.raises(InputError, match=r"files of yours called recipe\.yaml and recipe\.resolved\.yaml"):
        run("recipe.yaml", output=".", progress=Lines())


def test_a_runs_own_recipe_run_again_with_changes_stays_what_it_was(recipe):
    ran, _ = quiet(recipe)
    before = (ran.path / "recipe.yaml").read_text()
    quiet(ran.path / "recipe.yaml", set=["few.above=3"])
    assert (ran.path / "recipe.yaml").read_text() == before
    assert "above: 3" in (ran.path / "recipe.resolved.yaml").read_text()


def test_a_step_put_in_the_middle_does_not_throw_away_what_does_not_depend_on_it(recipe):
    quiet(recipe)
    calls()
    recipe.write_text(
        recipe.read_text().replace(
            "- {name: few", '- {name: side, do: "toys:keep", from: data}\n- {name: few, from: more'
        )
    )
    ran, lines = quiet(recipe)
    assert ran.reused == {"data", "more", "few", "again"}
    assert calls() == ["keep"]
    assert [path.name for path in sorted(Path("out").iterdir()) if path.is_dir()] == [
        "01-data", "02-more", "03-side", "04-few", "05-again",
    ]  # fmt: skip
    recipe.write_text("\n".join(line for line in recipe.read_text().splitlines() if "side" not in line))
    _, lines = quiet(recipe)
    assert "out/03-side is of no step of this recipe any more; it is left as it is" in lines


def test_data_of_another_step_is_handed_over_as_preferences(toys):
    recipe = [
        {"name": "data", "do": "toys:make"},
        {"name": "other", "do": "toys:make", "rows": 3},
        {"name": "few", "do": "toys:keep", "from": "data", "like": "step:other"},
    ]
    ran, _ = quiet(recipe)
    assert sorted(ran.steps[2].inputs) == ["step:data", "step:other"]


def test_a_failing_step_says_which_and_leaves_the_earlier_ones(recipe):
    recipe.write_text(recipe.read_text() + '- {name: bad, do: "toys:fail"}\n')
    with pytest.raises(InputError, match=r"^step 'bad': the data is too blue; paint it$"):
        quiet(recipe)
    assert not Path("out/05-bad/done.json").exists()
    calls()
    with pytest.raises(InputError):
        quiet(recipe)
    assert calls() == []


def test_a_dry_run_writes_nothing_and_says_what_is_reused(recipe):
    rows = dry_run(recipe, output="out")
    assert not Path("out").exists()
    assert [(row.name, row.state, row.inputs) for row in rows] == [
        ("data", "run", "-"), ("more", "run", "data"), ("few", "run", "more"), ("again", "run", "few"),
    ]  # fmt: skip
    quiet(recipe)
    states = [row.state for row in dry_run(recipe, output="out", set=["few.above=3"])]
    assert states == ["reuse", "reuse", "run", "run"]
    assert "above=3.0" in dry_run(recipe, output="out", set=["few.above=3"])[2].settings


def test_the_run_keeps_its_recipe_as_it_was_run(recipe):
    ran, _ = quiet(recipe, set=["few.above=3"])
    again, _ = quiet(ran.path / "recipe.yaml")
    assert again.reused == {"data", "more", "few", "again"}


def test_a_file_in_the_place_of_the_run_is_refused(recipe):
    Path("out").write_text("")
    with pytest.raises(InputError, match="out is a file"):
        quiet(recipe)


KILLER = """
import os, signal, sys
count, limit = 0, int(sys.argv[1])
def counted(function):
    def inner(*args, **kwargs):
        global count
        count += 1
        if count == limit:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return inner
for name in ("fsync", "rename", "replace", "mkdir", "rmdir", "unlink"):
    setattr(os, name, counted(getattr(os, name)))
from pairwright.pipeline import run
run("recipe.yaml", output="out")
"""


@pytest.mark.parametrize("stride", [7, 23, 60])
def test_killed_again_and_again_it_ends_in_the_same_bytes(recipe, stride):
    """SIGKILL at every `stride`-th change of the file system, until it comes through.

    Each start is killed one stride later than the one before, so that starts that only finish a step still get on.
    """
    quiet(recipe)
    expected = data_digests(Path("out"))
    Path("out").rename("unkilled")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(recipe.parent), *sys.path])}
    kills = 0
    for attempt in range(1, 60):
        command = [sys.executable, "-c", KILLER, str(stride * attempt)]
        code = subprocess.run(command, env=env, capture_output=True, check=False).returncode
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
    assert code == 0
    assert kills >= 1
    assert data_digests(Path("out")) == expected
    leftovers = [path for path in Path("out").rglob(".*") if path.name != ".lock"]
    assert not leftovers


def test_a_verb_that_gives_no_preferences_is_told_so(toys):
    (toys / "odd.py").write_text("def odd(*, n: int = 1):\n    return n\n")
    with pytest.raises(PairwrightError, match="gave int, not Preferences"):
        quiet([{"do": "odd:odd"}])


def test_an_export_lies_in_its_step(toys):
    recipe = [{"do": "toys:make"}, {"do": "export", "file": "pairs.jsonl", "layout": "openrlhf"}]
    ran, _ = quiet(recipe)
    assert len(Path("out/02-export/pairs.jsonl").read_text().splitlines()) == 40
    assert sorted(ran.steps[1].outputs) == ["pairs.jsonl", "pairs.jsonl.manifest.json"]
    with pytest.raises(InputError, match="file is a name in the step's directory"):
        quiet([{"do": "toys:make"}, {"do": "export", "file": "../pairs.jsonl"}])


def test_a_setting_called_name_is_said_with_as(toys):
    """`name` is the step's own; the verb's setting of that name is `as` in a recipe, and reads back as it was."""
    (toys / "named.py").write_text(
        "from toys import Preferences, Step\n"
        "def label(prefs: Preferences, *, name: str) -> Preferences:\n"
        "    return prefs.then(Step(name=name))\n"
    )
    recipe = [{"do": "toys:make"}, {"name": "a", "do": "named:label", "as": "b"}]
    ran, _ = quiet(recipe)
    assert Preferences.load("out/02-a/data").lineage[-1].name == "b"
    assert quiet(ran.path / "recipe.yaml")[0].reused == {"make", "a"}


def test_a_step_reads_the_base_of_an_adapter_too(toys):
    """What an adapter stands on decides its numbers as much as its own files."""
    for name in ("base", "below", "top"):
        (toys / name).mkdir()
        (toys / name / "weights").write_text(name)
    for name, base in (("below", "../base"), ("top", "../below")):
        (toys / name / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
        (toys / name / "adapter_model.safetensors").write_text("")
    (toys / "reads.py").write_text(
        "from toys import Preferences, Step\n"
        "def measure(prefs: Preferences, *, model: str) -> Preferences:\n"
        "    return prefs.then(Step(name='measure'))\n"
    )
    recipe = [{"do": "toys:make"}, {"name": "a", "do": "reads:measure", "model": "top"}]
    quiet(recipe)
    assert quiet(recipe)[0].reused == {"make", "a"}
    for name in ("base", "below", "top"):
        (toys / name / "weights").write_text("changed")
        assert quiet(recipe)[0].reused == {"make"}, name
        assert quiet(recipe)[0].reused == {"make", "a"}
