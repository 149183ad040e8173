"""Keys met batch by batch are numbered as a dictionary numbers them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairwright.formats.merge import Seen

half = st.one_of(st.integers(0, 3), st.sampled_from([2**64 - 1, 2**63]))
batches = st.lists(st.lists(st.tuples(half, half), max_size=8), max_size=12)


def checked(found):
    """Add batches of keys to a `Seen`, and say what a dictionary says of each."""
    seen, known = Seen(), {}
    for batch in found:
        one, two = (np.array([key[i] for key in batch], dtype=np.uint64) for i in (0, 1))
        number, new = seen.add(one, two)
        expected = [(key not in known, known.setdefault(key, len(known))) for key in batch]
        assert list(zip(new.tolist(), number.tolist(), strict=True)) == expected
    assert seen.size == len(known)


@settings(max_examples=300, deadline=None)
@given(batches)
def test_keys_are_numbered_as_they_first_come_also_where_first_halves_are_equal(found):
    checked(found)


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_many_batches(size):
    chance = np.random.default_rng(0)
    checked([[tuple(key) for key in chance.integers(0, size, (size, 2)).tolist()] for _ in range(20)])
