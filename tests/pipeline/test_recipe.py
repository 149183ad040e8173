"""Recipes and what is laid over them."""

import pytest

from pairwright.errors import InputError
from pairwright.pipeline.recipe import dump, key_values, read_recipe

STEPS = [
    {"name": "data", "do": "read", "source": "a.jsonl"},
    {"do": "relabel", "mode": "ra"},
    {"name": "plain", "do": "train", "beta": 0.1, "peft": {"r": 8}},
]


def test_a_step_is_called_by_its_verb_unless_it_has_a_name():
    assert [step.name for step in read_recipe(STEPS)] == ["data", "relabel", "plain"]
    assert read_recipe([{"do": "mine:clean"}])[0].name == "clean"


def test_yaml_is_read_with_two_traps_closed(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("- do: train\n  learning_rate: 5e-7\n  beta: 1E3\n  name: 3e\n")
    step = read_recipe(path)[0]
    assert step.settings == {"learning_rate": 5e-7, "beta": 1000.0}
    assert step.name == "3e"
    path.write_text("- do: train\n  beta: 1\n  beta: 2\n")
    with pytest.raises(InputError, match=r"r.yaml, line 3, column 3: the key 'beta' is given twice"):
        read_recipe(path)


@pytest.mark.parametrize("text", ["", "do: read", "- read", "[]", "3"])
def test_what_is_no_list_of_steps_is_refused(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match="is no recipe: it must be a list of steps"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- [", "r.yaml, line 1"),
        ("- !!python/object/apply:os.system [ls]", "r.yaml, line 1"),
        ("- {source: x}", r"step 1 does not say what to `do:`$"),
        ("- {doo: read}", r"step 1 does not say what to `do:`; did you mean 'do'"),
        ("- {do: read, name: a/b}", "step 1: name: "),
        ("- &a {do: read, source: *a}", "step 1: source: the value contains itself$"),
        ("- {do: read, columns: &a [x, *a]}", "step 1: columns: the value contains itself$"),
        ("- {do: relabel, min_gap: .nan}", "step 1: min_gap: nan is not a finite number$"),
        ("- {do: x, deep: {list: [1, -.inf]}}", "step 1: deep: -inf is not a finite number$"),
        ("- {do: pair}\n- {do: pair}", "two steps called 'pair'; give one another `name:`"),
    ],
)
def test_a_wrong_recipe_is_refused_in_a_sentence(tmp_path, text, says):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        read_recipe(path)


def test_a_recipe_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="there is no recipe"):
        read_recipe(tmp_path / "none.yaml")


def test_set_lays_values_over_the_raw_steps_and_changes_nothing_in_place():
    before = [dict(step) for step in STEPS]
    steps = read_recipe(STEPS, set=["plain.beta=1e-2", "relabel.scale=[1, 5]", "plain.peft.r=16", "plain.new.deep=x"])
    assert steps[1].settings == {"mode": "ra", "scale": [1, 5]}
    assert steps[2].settings == {"beta": 0.01, "peft": {"r": 16}, "new": {"deep": "x"}}
    assert before == STEPS


def test_the_value_may_hold_anything():
    steps = read_recipe(STEPS, set=["data.source=/a=b/c.jsonl", "data.columns={prompt: q}", "data.limit=null"])
    assert steps[0].settings == {"source": "/a=b/c.jsonl", "columns": {"prompt": "q"}, "limit": None}


def test_path_is_another_word_for_the_source_of_a_read_step():
    assert read_recipe(STEPS, set=["data.path=b.jsonl"])[0].settings == {"source": "b.jsonl"}
    assert read_recipe([{"do": "read", "path": "c"}])[0].settings == {"source": "c"}
    assert read_recipe(STEPS, set=["relabel.path=x"])[1].settings == {"mode": "ra", "path": "x"}


def test_set_finds_the_longest_name_that_fits():
    steps = [{"name": name, "do": "read"} for name in ("d", "d.v1", "d.v1.b")]
    changed = read_recipe(steps, set=["d.v1.limit=3", "d.limit=4", "d.v1.b.limit=5", "d.v2.x=6"])
    assert [step.settings for step in changed] == [{"limit": 4, "v2": {"x": 6}}, {"limit": 3}, {"limit": 5}]


def test_a_value_may_stand_in_two_places(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("- {do: x, a: &a [1, 2], b: [*a, *a]}")
    assert read_recipe(path)[0].settings == {"a": [1, 2], "b": [[1, 2], [1, 2]]}


def test_set_can_change_the_envelope():
    assert read_recipe(STEPS, set=["plain.from=data"])[2].take == "data"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("plian.beta=1", "no step 'plian'; did you mean 'plain'?"),
        ("zzz.beta=1", "no step 'zzz'; there are data, relabel, plain"),
        ("beta=1", "not of the form NAME.key=value"),
        ("plain.beta", "not of the form NAME.key=value"),
        ("plain.beta.deeper=1", "'beta' holds 0.1, which has no settings inside"),
        ("plain.beta=.inf", "beta: inf is not a finite number"),
        ("plain.beta=[1", "put quotes around the value"),
    ],
)
def test_a_wrong_set_is_refused_in_a_sentence(change, says):
    with pytest.raises(InputError, match=says.replace("[", r"\[").replace("?", r"\?")):
        read_recipe(STEPS, set=[change])


def test_what_is_dumped_reads_back(tmp_path):
    steps = read_recipe(STEPS, set=["plain.from=data"])
    path = tmp_path / "r.yaml"
    path.write_text(dump(steps))
    assert read_recipe(path) == steps


def test_settings_from_flags():
    assert key_values(["beta=1e-3", "peft.r=8", "peft.alpha=16"]) == {"beta": 1e-3, "peft": {"r": 8, "alpha": 16}}
    with pytest.raises(InputError, match="not of the form key=value"):
        key_values(["beta"])
