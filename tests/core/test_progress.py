import io

import pytest

from pairwright import progress
from pairwright.progress import Ticker, clock, pace


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    time = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    return time


def test_short_work_is_silent(now: list[float]) -> None:
    stream = io.StringIO()
    ticker = Ticker("logprobs", 10, "tokens", stream=stream)
    now[0] += 1.0
    ticker.add(10)
    assert stream.getvalue() == ""


def test_a_log_gets_plain_lines_now_and_then_and_at_the_end(now: list[float]) -> None:
    stream = io.StringIO()
    ticker = Ticker("logprobs", 4000, "tokens", stream=stream)
    for _ in range(4):
        now[0] += 5.0
        ticker.add(1000)
    assert stream.getvalue().splitlines() == [
        "logprobs: 1,000/4,000 tokens  200 tokens/s  0:15 left",
        "logprobs: 3,000/4,000 tokens  200 tokens/s  0:05 left",
        "logprobs: 4,000/4,000 tokens  200 tokens/s  0:00 left",
    ]


def test_a_terminal_gets_one_line_that_changes(now: list[float]) -> None:
    stream = Terminal()
    ticker = Ticker("logprobs", 2, "rows", stream=stream)
    for _ in range(2):
        now[0] += 3.0
        ticker.add(1)
    assert stream.getvalue().count("\r") == 2
    assert stream.getvalue().count("\n") == 1


def test_times_are_read_as_on_a_clock() -> None:
    assert [clock(x) for x in (5, 65, 3725, float("inf"))] == ["0:05", "1:05", "1:02:05", "?"]


def test_slow_work_is_counted_by_the_minute() -> None:
    """A rate of 0 a second tells nobody anything: 0.2 a second are 12 a minute."""
    said = [pace(rate, "trainings") for rate in (1200.0, 10.0, 2.5, 1.0, 0.2)]
    assert said == ["1,200 trainings/s", "10 trainings/s", "2.5 trainings/s", "1.0 trainings/s", "12.0 trainings/min"]
