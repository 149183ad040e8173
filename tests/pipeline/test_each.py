"""The same steps for every value of something."""

import pytest

from pairwright.errors import InputError
from pairwright.pipeline.recipe import read_recipe

SWEEP = """
- {name: data, do: read, source: a.jsonl}
- each: {beta: [0.01, 1e-1, 1.0], seed: [1, 2]}
  do:
    - {name: "dpo-{beta}-{seed}", do: train, from: data, model: m, beta: "{beta}", seed: "{seed}"}
    - {name: "say-{beta}-{seed}", do: evaluate, what: pairs, policy: "of {seed}", deep: {list: ["{beta}", "x{seed}"]}}
- {name: all, do: evaluate, what: rounds, answers: ["step:dpo-0.1-*", "step:data"]}
"""


def read(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    return read_recipe(path)


def test_every_combination_is_written_out_the_last_value_fastest(tmp_path):
    steps = {step.name: step for step in read(tmp_path, SWEEP)}
    assert [name for name in steps if name.startswith("dpo")] == [
        "dpo-0.01-1", "dpo-0.01-2", "dpo-0.1-1", "dpo-0.1-2", "dpo-1-1", "dpo-1-2",
    ]  # fmt: skip
    assert list(steps)[1:3] == ["dpo-0.01-1", "say-0.01-1"]


def test_a_setting_that_is_nothing_but_a_place_gets_the_value_itself(tmp_path):
    steps = {step.name: step for step in read(tmp_path, SWEEP)}
    settings = steps["dpo-0.1-2"].settings
    assert (settings["beta"], settings["seed"]) == (0.1, 2)
    assert type(settings["seed"]) is int
    assert steps["say-1-2"].settings["deep"] == {"list": [1.0, "x2"]}
    assert steps["say-1-2"].settings["policy"] == "of 2"


def test_a_star_in_a_list_is_every_earlier_step_of_such_a_name(tmp_path):
    assert read(tmp_path, SWEEP)[-1].settings["answers"] == ["step:dpo-0.1-1", "step:dpo-0.1-2", "step:data"]


def test_a_round_can_name_the_one_before_and_have_a_number_of_its_own(tmp_path):
    text = """
- each: {round: [1, 2]}
  do:
    - name: "policy-{round}"
      do: train
      model: "step:policy-{round-1}"
      seed: "2{round}"
      template: "{{goal}} of {round}"
"""
    first, second = read(tmp_path, text)
    assert (first.settings["model"], second.settings["model"]) == ("step:policy-0", "step:policy-1")
    assert second.settings["seed"] == 22
    assert second.settings["template"] == "{goal} of 2"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- {each: {}, do: [{do: read}]}", "names what changes and its values"),
        ("- {each: {seed: 3}, do: [{do: read}]}", "names what changes and its values"),
        ("- {each: {seed: []}, do: [{do: read}]}", "names what changes and its values"),
        ("- {each: {seed: [1]}}", "needs `do:` with a list of steps"),
        ("- {each: {seed: [1]}, do: read}", "needs `do:` with a list of steps"),
        ("- {each: {seed: [1]}, do: [{do: read}], from: x}", "has no 'from'"),
        ('- {each: {seed: [1]}, do: [{do: read, source: "{sed}"}]}', r"no value 'sed' for \{sed\}; there are seed"),
        (
            '- {each: {beta: [0.5]}, do: [{do: read, source: "{beta-1}"}]}',
            "one less than a whole number, and beta is 0.5",
        ),
        ("- {each: {seed: [1, 2]}, do: [{do: read}]}", "two steps called 'read'"),
        ("- {each: {seed: &a [1, *a]}, do: [{do: read}]}", "step 1: each: the value contains itself"),
        ('- {do: read}\n- {do: evaluate, answers: ["step:gold-*"]}', "no earlier step has a name like 'gold-\\*'"),
    ],
)
def test_a_wrong_block_is_refused_in_a_sentence(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        read(tmp_path, text)


def test_a_block_that_would_become_too_many_steps_is_refused(tmp_path):
    values = list(range(34))
    with pytest.raises(InputError, match="becomes 1,156 steps, and 1,000 are the most"):
        read(tmp_path, f'- {{each: {{a: {values}, b: {values}}}, do: [{{name: "x{{a}}-{{b}}", do: read}}]}}')


def test_braces_outside_a_block_are_left_alone(tmp_path):
    assert read(tmp_path, '- {do: relabel, template: "{goal}"}')[0].settings["template"] == "{goal}"
