"""Draws depend on the id and the seed alone."""

import hashlib

import polars as pl
import pytest

from pairwright.draws import draw_of_ids, draw_of_text


def ids(values: list[int], *, seed: int) -> list[float]:
    return pl.DataFrame({"a": values}).select(draw_of_ids(pl.col("a"), seed=seed)).to_series().to_list()


def test_a_text_draw_is_the_head_of_its_sha256() -> None:
    digest = hashlib.sha256(b"7:p").hexdigest()
    [draw] = draw_of_text(pl.Series(["p"]), seed=7)
    assert draw == (int(digest, 16) >> (256 - 53)) / 2**53


def test_an_id_draw_is_splitmix64() -> None:
    def splitmix(state: int) -> int:
        z = (state + 0x9E3779B97F4A7C15) % 2**64
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        return z ^ (z >> 31)

    # The first output of the published generator for the state 0.
    assert splitmix(0) == 0xE220A8397B1DCDAF
    for seed, value in [(0, 0), (3, 5), (-1, 2**40), (2**63, -1)]:
        expected = splitmix((value % 2**64) ^ splitmix(seed % 2**64))
        assert ids([value], seed=seed) == [(expected >> 11) / 2**53]


@pytest.mark.parametrize("seed", [0, 1])
def test_draws_are_even_and_apart(seed: int) -> None:
    draws = pl.Series(ids(list(range(20_000)), seed=seed))
    assert draws.is_between(0, 1, closed="left").all()
    assert draws.n_unique() == 20_000
    # Standard error of the mean of 20,000 uniform numbers: 0.29 / 141 = 0.002.
    assert draws.mean() == pytest.approx(0.5, abs=0.01)


def test_rows_do_not_disturb_each_other() -> None:
    forward = ids([4, 9, 1], seed=2)
    assert ids([1, 4, 9], seed=2) == [forward[2], forward[0], forward[1]]
    assert ids([9], seed=2) == [forward[1]]
    assert ids([4, 9, 1], seed=3) != forward


def test_the_order_of_the_parts_counts() -> None:
    frame = pl.DataFrame({"a": [1], "b": [2]})
    one = frame.select(draw_of_ids(pl.col("a"), pl.col("b"), seed=0)).item()
    other = frame.select(draw_of_ids(pl.col("b"), pl.col("a"), seed=0)).item()
    assert one != other
