"""Which scores are 1 and the top of the scale."""

from collections.abc import Callable

import numpy as np
import pytest

from pairwright.errors import InputError
from pairwright.preferences import Preferences
from pairwright.relabel import relabel

Made = Callable[..., Preferences]


def ranges(prefs: Preferences) -> tuple[tuple[float, float], ...]:
    form = prefs.goal_format
    assert form is not None
    return form.ranges


def test_percentiles_are_global_over_both_sides(made: Made) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(300, 2)) * 7 - 20  # a reward model's logits
    prefs = relabel(made([tuple(row) for row in scores.tolist()]), source_range="percentiles")
    low, high = np.percentile(scores, [1, 99])
    assert ranges(prefs) == (pytest.approx((low, high)),)
    got = prefs.pairs.collect()
    # 12 of 600 answers are outside and are printed as 1 or 10; the goal itself keeps its score units.
    assert got["goal"].min() == pytest.approx(scores.min())
    form = prefs.goal_format
    assert form is not None
    assert form.say(float(scores.max())).endswith("score: 10.")
    assert form.say(float(scores.min())).endswith("score: 1.")


def test_percentiles_see_training_pairs_only_where_there_are_any(made: Made) -> None:
    scores = [(float(i), float(i) / 2) for i in range(1, 51)] + [(1000.0, -1000.0)]
    train_only = relabel(made(scores, pairs={"split": ["train"] * 50 + ["test"]}), source_range="percentiles")
    low, high = np.percentile(np.array(scores[:50]), [1, 99])
    assert ranges(train_only) == (pytest.approx((low, high)),)
    no_train = relabel(made(scores, pairs={"split": ["test"] * 51}), source_range="percentiles")
    low, high = np.percentile(np.array(scores), [1, 99])
    assert ranges(no_train) == (pytest.approx((low, high)),)


def test_an_answer_counts_once_and_an_unused_or_unscored_one_does_not(made: Made) -> None:
    prefs = made([(float(i), None) for i in range(10)])
    pairs = prefs.pairs.filter(prefs.pairs.collect()["chosen_id"] > 6)
    prefs = Preferences.of(prefs.prompts, prefs.responses, pairs)
    with_twice = Preferences.of(prefs.prompts, prefs.responses, pairs.collect().vstack(pairs.collect().head(1)))
    low, high = np.percentile([4, 5, 6, 7, 8, 9], [1, 99])
    assert ranges_of_failed(prefs) == ranges_of_failed(with_twice) == (pytest.approx((low, high)),)


def ranges_of_failed(prefs: Preferences) -> tuple[tuple[float, float], ...]:
    from pairwright.relabel.ranges import source_ranges

    return source_ranges(prefs, prefs.pairs, ("score",), "percentiles")


def test_each_attribute_has_its_own_percentiles(made: Made) -> None:
    a = [float(i) for i in range(20)]
    b = [float(i % 7) * 100 for i in range(20)]
    prefs = made([(1.0, 1.0)] * 10, attributes={"score_a": a, "score_b": b})
    result = relabel(prefs, source_range="percentiles", attributes=("a", "b"))
    expected = tuple(pytest.approx(tuple(np.percentile(column, [1, 99]))) for column in (a, b))
    assert ranges(result) == expected


def test_no_range_is_a_sentence(made: Made) -> None:
    with pytest.raises(InputError, match="1st and the 99th percentile of score are both 3"):
        relabel(made([(3.0, 3.0)] * 4), source_range="percentiles")
    with pytest.raises(InputError, match="no answer of a pair has a finite score"):
        relabel(made([(None, None)] * 4), source_range="percentiles")
    with pytest.raises(InputError, match="must rise from its first number to its second, not 5 to 5"):
        relabel(made([(3.0, 2.0)]), source_range=(5, 5))


def test_a_given_range_holds_for_every_attribute(made: Made) -> None:
    prefs = made([(1.0, 1.0)] * 2, attributes={"score_a": [0.0, 1.0, 2.0, 4.0], "score_b": [4.0, 2.0, 1.0, 0.0]})
    result = relabel(prefs, source_range=(0, 4), attributes=("a", "b"))
    assert ranges(result) == ((0.0, 4.0), (0.0, 4.0))
