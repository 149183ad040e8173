"""Drawing a token from its distribution, against distributions written down by hand."""

import math

import pytest

torch = pytest.importorskip("torch")

from pairwright.generate.drawing import draw, uniforms  # noqa: E402

SHARES = [0.15, 0.5, 0.05, 0.3]


def drawn(numbers, shares=SHARES, **settings):
    logits = torch.tensor([shares]).log().expand(len(numbers), -1)
    settings = {"temperature": 1.0, "top_p": 1.0} | settings
    return draw(logits, torch.tensor(numbers, dtype=torch.float64), **settings).tolist()


def frequencies(**settings):
    """Shares of the tokens over an even grid of numbers: the distribution itself, to one part in 10,000."""
    numbers = [(i + 0.5) / 10_000 for i in range(10_000)]
    tokens = drawn(numbers, **settings)
    return [tokens.count(token) / 10_000 for token in range(4)]


def test_tokens_come_with_their_probability():
    assert frequencies() == pytest.approx(SHARES, abs=2e-4)


def test_a_temperature_of_one_half_squares_the_probabilities():
    squares = [share**2 for share in SHARES]
    assert frequencies(temperature=0.5) == pytest.approx([each / sum(squares) for each in squares], abs=2e-4)


@pytest.mark.parametrize(
    ("top_p", "wanted"),
    [
        (0.49, [0, 1, 0, 0]),
        (0.79, [0, 0.5 / 0.8, 0, 0.3 / 0.8]),
        (0.81, [0.15 / 0.95, 0.5 / 0.95, 0, 0.3 / 0.95]),
        (0.96, SHARES),
    ],
)
def test_the_nucleus_is_the_fewest_tokens_that_reach_top_p(top_p, wanted):
    assert frequencies(top_p=top_p) == pytest.approx(wanted, abs=2e-4)


def test_the_ends_of_the_line_never_give_a_token_of_probability_zero():
    ends = [0.0, math.nextafter(1.0, 0.0)]
    assert drawn(ends, shares=[0.0, 0.4, 0.6, 0.0]) == [1, 2]
    assert drawn(ends) == [0, 3]


def test_numbers_belong_to_their_seed_and_a_longer_answer_continues_a_shorter_one():
    short, long = uniforms([7, 2**128 - 1], 3), uniforms([2**128 - 1], 5)
    assert short.shape == (2, 3)
    assert (short[1] == long[0, :3]).all()
    assert (short[0] != short[1]).all()
    assert uniforms([1], 20_000).mean() == pytest.approx(0.5, abs=0.01)
