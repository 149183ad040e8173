"""From marks of two models to metrics, table and notes: marks written by hand, numbers by hand."""

import math
from collections.abc import Mapping

import pytest

from pairwright.errors import InputError
from pairwright.evaluate.benchmarks import Benchmark, Marks, Task, compared

ARC = Benchmark("arc", ("arc",), {})


def part(
    items: Mapping[str, float], *, key: str = "acc,none", number: float | None = None, lower: bool = False
) -> Task:
    mean = sum(items.values()) / len(items) if number is None else number
    prompts = {item: f"words of {item}" for item in items}
    return Task({key: (mean, 0.1)}, {key: items}, prompts, frozenset({"acc"} if lower else ()), 3, "1.0", "here")


def marks(**parts: Task) -> Marks:
    return Marks(
        parts, {name: {key: value for key, (value, _) in each.numbers.items()} for name, each in parts.items()}
    )


BEFORE = marks(arc=part({"a": 1.0, "b": 1.0, "c": 0.0, "d": 1.0}))
AFTER = marks(arc=part({"a": 1.0, "b": 0.0, "c": 1.0, "d": 0.0}))


def test_what_a_training_cost_is_below_zero() -> None:
    """3 of 4 right before, 2 of 4 after: -0.25, one item gained, two lost."""
    found = compared([ARC], [BEFORE, AFTER], {}, draws=200, seed=0)
    by_name = {metric.name: metric for metric in found.metrics}
    assert by_name["difference"].value == by_name["difference/arc"].value == -0.25
    assert by_name["before/arc"].value == by_name["average_before"].value == 0.75
    assert by_name["after/arc"].value == by_name["average"].value == 0.5
    row = found.table[0]
    assert (row["gained"], row["lost"], row["n"], row["few_shot"]) == (1, 2, 4, 3)
    assert (row["before"], row["after"], row["after_standard_error"]) == (0.75, 0.5, 0.1)
    assert found.n == 4
    assert found.notes == ()


def test_without_a_model_before_there_is_no_comparison() -> None:
    found = compared([ARC], [AFTER], {}, draws=200, seed=0)
    assert [metric.name for metric in found.metrics] == ["average", "after/arc"]
    assert "before" not in found.table[0]


def test_the_average_is_over_benchmarks_not_items() -> None:
    """1 of 2 and 4 of 4: 0.75, where the items together would be 5 of 6."""
    few, many = part({"a": 1.0, "b": 0.0}), part(dict.fromkeys("abcd", 1.0))
    found = compared([ARC, Benchmark("bbh", ("bbh",), {})], [marks(arc=few, bbh=many)], {}, draws=50, seed=0)
    assert found.metrics[0].value == 0.75
    assert found.metrics[0].n == found.n == 6


def test_items_that_only_one_model_was_given_are_left_out_and_said() -> None:
    after = marks(arc=part({"a": 1.0, "b": 0.0, "e": 1.0}))
    found = compared([ARC], [BEFORE, after], {}, draws=50, seed=0)
    assert found.notes == ("arc: 3 items were not given to both models alike and are left out.",)  # c, d, e
    assert {m.name: m.value for m in found.metrics}["difference"] == -0.5  # over a and b
    with pytest.raises(InputError, match="share no item of arc"):
        compared([ARC], [BEFORE, marks(arc=part({"x": 1.0}))], {}, draws=50, seed=0)


def test_a_number_that_is_no_mean_over_items_has_no_interval() -> None:
    corpus = marks(arc=part({"a": 1.0, "b": 0.0}, number=0.9))
    found = compared([ARC], [corpus], {}, draws=50, seed=0)
    assert found.notes == ("arc: acc,none is no mean over items, so it has no interval.",)
    for metric in found.metrics:
        assert (metric.value, metric.low, metric.high) == (0.9, None, None)


def test_what_is_better_when_it_is_less_is_left_out_of_the_average() -> None:
    loss = Benchmark("loss", ("loss",), {})
    both = marks(arc=part({"a": 1.0, "b": 0.0}), loss=part({"a": 7.0, "b": 9.0}, lower=True))
    found = compared([ARC, loss], [both], {}, draws=50, seed=0)
    assert {m.name: m.value for m in found.metrics} == {"average": 0.5, "after/arc": 0.5, "after/loss": 8.0}
    assert any("less is better" in note for note in found.notes)


def test_a_group_weighs_its_parts_as_it_says() -> None:
    parts = {"x": part({"a": 1.0, "b": 0.0}), "y": part(dict.fromkeys("abcd", 1.0))}
    for by_size, expected in ((True, 5 / 6), (False, 0.75)):
        group = Benchmark("bbh", ("x", "y"), {"acc": by_size})
        side = Marks(parts, {"bbh": {"acc,none": expected}})
        found = compared([group], [side], {}, draws=50, seed=0)
        assert found.metrics[0].value == pytest.approx(expected)
        assert found.notes == ()  # what lm-eval said is what its items come to
        assert [row["task"] for row in found.table] == ["x", "y"]


def test_a_metric_can_be_chosen_and_one_that_is_not_there_is_refused() -> None:
    two = Task(
        {"acc,none": (0.5, math.nan), "acc_norm,none": (1.0, 0.0)},
        {"acc,none": {"a": 0.0, "b": 1.0}, "acc_norm,none": {"a": 1.0, "b": 1.0}},
        {"a": "", "b": ""},
        frozenset(),
        0,
        "1",
        "here",
    )
    side = marks(arc=two)
    assert compared([ARC], [side], {}, draws=9, seed=0).metrics[0].value == 0.5  # the first that lm-eval gives
    chosen = compared([ARC], [side], {"arc": "acc_norm,none"}, draws=9, seed=0)
    assert chosen.metrics[0].value == 1.0
    assert [row["headline"] for row in chosen.table] == [False, True]
    assert chosen.table[0]["after_standard_error"] is None
    with pytest.raises(InputError, match=r"arc has no metric 'acc_nrm,none'.*acc_norm,none"):
        compared([ARC], [side], {"arc": "acc_nrm,none"}, draws=9, seed=0)
    with pytest.raises(InputError, match="bbh"):
        compared([ARC], [side], {"bbh": "acc,none"}, draws=9, seed=0)


def test_items_asked_in_other_words_are_said() -> None:
    other = AFTER.tasks["arc"]._replace(prompts=dict.fromkeys("abcd", "a template"))
    found = compared([ARC], [BEFORE, Marks({"arc": other}, AFTER.numbers)], {}, draws=9, seed=0)
    assert any("4 items were asked in other words" in note for note in found.notes)
