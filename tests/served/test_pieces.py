"""Waits, faults and bodies, by hand."""

import asyncio
from typing import Any

import pytest

from pairwright.served.faults import Then, Why, of_status, retry_after
from pairwright.served.pace import Pace, back_off
from pairwright.served.record import Answer, Manners
from pairwright.served.reply import read_reply


@pytest.mark.parametrize(
    ("attempt", "drawn", "seconds"),
    [(1, 0.0, 0.5), (1, 1.0, 1.0), (2, 0.0, 1.0), (3, 0.5, 3.0), (6, 1.0, 32.0), (7, 1.0, 60.0), (5000, 0.0, 30.0)],
)
def test_the_wait_doubles_from_half_to_whole_up_to_the_longest(attempt: int, drawn: float, seconds: float) -> None:
    assert back_off(attempt, Manners(first_wait=1.0, longest_wait=60.0), drawn) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:02:00 GMT"}, 20.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:10 GMT"}, 0.0),
    ],
)
def test_how_long_a_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    """The clock stands at 100 seconds after the epoch, so 00:02:00 is 20 seconds away."""
    assert retry_after(headers, now=100.0) == seconds


@pytest.mark.parametrize(
    ("status", "said", "why", "then"),
    [
        (400, "no such field", Why.BAD_REQUEST, Then.UNLESS),
        (400, '{"code": "context_length_exceeded"}', Why.TOO_LONG, Then.NEVER),
        (401, "", Why.BAD_REQUEST, Then.STOP),
        (402, "", Why.BAD_REQUEST, Then.STOP),
        (403, "", Why.BAD_REQUEST, Then.UNLESS),
        (404, "", Why.BAD_REQUEST, Then.UNLESS),
        (413, "", Why.TOO_LONG, Then.NEVER),
        (418, "", Why.BAD_REQUEST, Then.UNLESS),
        (451, "", Why.BAD_REQUEST, Then.UNLESS),
        (422, "", Why.BAD_REQUEST, Then.UNLESS),
        (429, "slow down", Why.RATE_LIMITED, Then.AGAIN),
        (429, '{"code": "insufficient_quota"}', Why.RATE_LIMITED, Then.STOP),
        (500, "", Why.SERVER_ERROR, Then.AGAIN),
        (529, "", Why.SERVER_ERROR, Then.AGAIN),
    ],
)
def test_what_follows_from_a_status(status: int, said: str, why: Why, then: Then) -> None:
    fault = of_status(status, {}, said, now=0.0)
    assert (fault.why, fault.then) == (why, then)


def clocked(manners: Manners) -> tuple[Pace, list[float]]:
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += max(0.0, seconds)
        await asyncio.sleep(0)

    return Pace(manners, clock=lambda: now[0], sleep=sleep), now


def test_thirty_a_minute_is_one_in_two_seconds() -> None:
    async def turns() -> list[float]:
        pace, now = clocked(Manners(rate=30))
        times = []
        for _ in range(4):
            await pace.turn()
            times.append(now[0])
        return times

    assert asyncio.run(turns()) == [0.0, 2.0, 4.0, 6.0]


def test_a_pause_moves_all_turns_and_a_shorter_one_does_not_end_it() -> None:
    async def turns() -> list[float]:
        pace, now = clocked(Manners(rate=60))
        await pace.turn()
        pace.pause(10.0)
        pace.pause(1.0)
        times = []
        for _ in range(2):
            await pace.turn()
            times.append(now[0])
        return times

    assert asyncio.run(turns()) == [10.0, 11.0]


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ('{"choices": [{"message": {"content": "hi"}}]}', Answer("hi", None)),
        ('{"choices": [{"message": {"content": null}, "finish_reason": "length"}]}', Answer("", "length")),
        (
            '{"choices": [{"message": {"content": "hi", "role": "x"}, "new": 1}], "usage": {"prompt_tokens": 3, '
            '"completion_tokens": 4}}',
            Answer("hi", None, None, None, 3, 4),
        ),
        ('{"choices": [{"message": {"role": "assistant"}}]}', Answer("", None)),
        (
            '{"choices": [{"message": {"content": [{"type": "text", "text": "h"}, {"type": "image", "url": "x"}, '
            '{"type": "text", "text": "i"}]}}]}',
            Answer("hi", None),
        ),
        ('{"choices": [{"message": {"content": "\\ud83d\\ude00 \\udc00"}}]}', Answer("\U0001f600 \ufffd", None)),
    ],
)
def test_a_body_is_read_with_what_it_needs_alone(body: str, answer: Any) -> None:
    assert read_reply(body) == answer


@pytest.mark.parametrize("count", ["null", "3.5", '"three"', "true", "-1", "1e400", "[]", "99999999999999999999"])
def test_an_odd_count_of_tokens_is_none_and_costs_no_answer(count: str) -> None:
    body = f'{{"choices": [{{"message": {{"content": "hi"}}}}], "usage": {{"prompt_tokens": {count}}}}}'
    assert read_reply(body) == Answer("hi", None)
    assert read_reply(f'{{"choices": [{{"message": {{"content": "hi"}}}}], "usage": {count}}}') == Answer("hi", None)
