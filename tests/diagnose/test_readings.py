"""Groups of values, and what they are called."""

import numpy as np
import pytest

from pairwright.diagnose.readings import buckets


@pytest.mark.parametrize(
    "values",
    [
        1000 + np.random.default_rng(0).random(100),  # fifths that agree in three digits
        0.5 + 0.001 * np.random.default_rng(0).random(100),
        np.array([1_000_000.25, 1_000_000.5, 3.0]),  # single values that agree in six
        np.array([0.1, np.nextafter(0.1, 1)]),
        1e5 + np.linspace(0, 11, 40),  # whole numbers that agree in three
    ],
)
def test_different_groups_have_different_names_and_each_value_is_in_one(values: np.ndarray) -> None:
    found = buckets(values)
    labels = [label for label, _ in found]
    assert len(set(labels)) == len(labels) > 1
    assert (np.sum([mask for _, mask in found], axis=0) == 1).all()
    for label, mask in found:
        ends = [float(end) for end in label.split(" to ")]
        # What is printed is the edge but for its last digit, a small part of the way to the next one.
        step = 0.1 * (values.max() - values.min())
        assert (values[mask] >= ends[0] - step).all()
        assert (values[mask] <= ends[-1] + step).all()


def test_names_have_no_more_digits_than_they_need() -> None:
    assert [label for label, _ in buckets(np.array([1.0, 2.5, 9.0]))] == ["1", "2.5", "9"]
    assert next(label for label, _ in buckets(np.linspace(1, 10, 50))) == "1 to 2"
