"""A client of a server that fails in every way there is: after it recovers all is answered, each answer paid once."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from faulty import Body, completion, serving
from pairwright.chat import user
from pairwright.errors import InputError, PairwrightError
from pairwright.served import Answer, Asked, Call, Failure, Manners, Prices, Sampling, Server, Usage, ask, cache
from pairwright.served.cache import Cache

pytest.importorskip("openai")

PASSING = {
    "429": "rate_limited",
    "wait0.01": "rate_limited",
    "500": "server_error",
    "503": "server_error",
    "409": "server_error",
    "408": "timed_out",
    "hang": "timed_out",
    "drip": "timed_out",
    "drop": "connection_lost",
    "cut": "connection_lost",
    "cut_chunks": "connection_lost",
    "half": "malformed_json",
    "page": "malformed_json",
    "empty": "no_choices",
    "no_choices": "no_choices",
    "null": "wrong_schema",
    "list": "wrong_schema",
    "text_choice": "wrong_schema",
    "number": "wrong_schema",
    "deep": "malformed_json",
}
"""Every fault that may pass, and the name under which it is counted."""
QUICK = Manners(timeout=1.5, first_wait=0.001, longest_wait=0.002)


def echo(body: Body) -> str:
    return f"echo {body['messages'][-1]['content']}"


def calls(*texts: str) -> list[Call]:
    return [Call([user(text)]) for text in texts]


def manners(**changes: Any) -> Manners:
    return Manners(**{**QUICK.__dict__, **changes})


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_after_every_fault_each_call_is_answered_and_paid_once() -> None:
    texts = [f"question {i}" for i in range(7)]
    with serving(echo, tuple(PASSING)) as server:
        asked = ask(
            calls(*texts),
            server=Server(url=server.url, model="m"),
            manners=manners(retries=len(PASSING), concurrency=7),
        )
        assert [each.text for each in asked.answers if isinstance(each, Answer)] == [f"echo {text}" for text in texts]
        assert set(server.paid.values()) == {1}
        assert set(server.attempts.values()) == {len(PASSING) + 1}
    wanted: dict[str, int] = {}
    for why in PASSING.values():
        wanted[why] = wanted.get(why, 0) + len(texts)
    assert asked.retried == wanted


@pytest.mark.parametrize(("fault", "why"), PASSING.items())
def test_a_fault_that_stays_gives_no_answer_and_its_name(fault: str, why: str) -> None:
    """The first call is answered, so the server is there; the second one fails each time."""
    with serving(echo) as server:
        place = Server(url=server.url, model="m")
        ask(calls("good"), server=place, manners=manners())
        server.faults = (fault,) * 3
        asked = ask(calls("good", "bad"), server=place, manners=manners(retries=2))
        assert isinstance(asked.answers[0], Answer)
        failure = asked.answers[1]
        assert isinstance(failure, Failure)
        assert failure.why == why
        assert sum(server.attempts.values()) == 1 + 3
        again = ask(calls("good", "bad"), server=place, manners=manners(retries=2))  # a failure is not kept
        assert [each.text for each in again.answers if isinstance(each, Answer)] == ["echo good", "echo bad"]
        assert again.made == 1
        assert sorted(server.paid.values()) == [1, 1]


def test_calls_that_differ_in_nothing_are_one_call_and_samples_are_not() -> None:
    with serving(echo) as server:
        place = Server(url=server.url, model="m")
        asked = ask(calls("a", "b", "a"), server=place)
        assert (asked.made, len(server.bodies)) == (2, 2)
        assert asked.answers[0] == asked.answers[2]
        more = ask([Call([user("a")], sample=i) for i in range(3)], server=place)
        assert (more.made, len(server.bodies)) == (2, 4)  # sample 0 is kept


@pytest.mark.parametrize(
    "changed",
    [
        {"server": {"model": "other"}},
        {"sampling": {"temperature": 0.5}},
        {"sampling": {"temperature": 0.0}},
        {"sampling": {"top_p": 0.5}},
        {"sampling": {"max_tokens": 3}},
        {"sampling": {"stop": ("x",)}},
        {"sampling": {"extra": {"min_p": 0.1}}},
        {"call": {"seed": 1}},
        {"call": {"sample": 1}},
        {"call": {"messages": [user("a"), user("a")]}},
        {"call": {"messages": [{"role": "system", "content": "a"}]}},
        {"version": "2"},
    ],
)
def test_whatever_decides_an_answer_makes_another_call(changed: dict[str, Any]) -> None:
    with serving(echo) as server:
        plain = {"url": server.url, "model": "m"}
        first = ask(calls("a"), server=Server(**plain), version="1")
        assert first.made == 1
        other = ask(
            [Call(**{"messages": [user("a")], **changed.get("call", {})})],
            server=Server(**plain | changed.get("server", {})),
            sampling=Sampling(**changed.get("sampling", {})),
            version=changed.get("version", "1"),
        )
        assert other.made == 1
        again = ask(calls("a"), server=Server(url=server.url + "/", model="m"), version="1", manners=manners(retries=1))
        assert again.made == 0  # a slash, and how hard the server is pressed, decide nothing


def test_another_url_is_another_server() -> None:
    with serving(echo) as one, serving(lambda _: "other") as two:
        ask(calls("a"), server=Server(url=one.url, model="m"))
        (answer,) = ask(calls("a"), server=Server(url=two.url, model="m")).answers
        assert isinstance(answer, Answer)
        assert answer.text == "other"


def test_what_is_not_set_is_not_sent_and_what_is_set_is() -> None:
    with serving(echo) as server:
        place = Server(url=server.url, model="m")
        ask(calls("a"), server=place)
        assert server.bodies == [{"messages": [{"role": "user", "content": "a"}], "model": "m"}]
        sampling = Sampling(
            temperature=0.0, top_p=0.9, max_tokens=5, stop=("x", "y"), extra={"min_p": 0.1, "user": "u"}
        )
        ask([Call([user("a")], seed=7)], server=place, sampling=sampling)
        assert server.bodies[1] == server.bodies[0] | {
            "temperature": 0.0,
            "top_p": 0.9,
            "max_tokens": 5,
            "stop": ["x", "y"],
            "seed": 7,
            "min_p": 0.1,
            "user": "u",
        }


def test_tokens_and_costs_are_those_of_all_answers_kept_or_new() -> None:
    """The server counts 7 tokens in and 5 out: three answers at 2 and 10 a million are 3 (7 * 2 + 5 * 10) / 1e6."""
    with serving(echo) as server:
        place, prices = Server(url=server.url, model="m"), Prices(prompt=2.0, answer=10.0)
        ask(calls("a"), server=place, prices=prices)
        asked = ask(calls("a", "b", "c", "b"), server=place, prices=prices)
        assert asked.usage == Usage(calls=3, prompt_tokens=21, answer_tokens=15, cost=pytest.approx(192e-6))
        assert asked.made == 2


def test_concurrency_is_a_limit_and_is_used() -> None:
    with serving(echo) as server:
        server.delay = 0.1
        ask(calls(*map(str, range(12))), server=Server(url=server.url, model="m"), manners=Manners(concurrency=3))
        assert server.most == 3


def test_a_rate_spaces_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """One a minute: of three calls at a time the second waits for a minute and the third for two, less what is past."""
    waits: list[float] = []

    async def rest(_: Any, seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(sys.modules["pairwright.served.ask"]._Job, "_rest", rest)
    with serving(echo) as server:
        ask(calls("a", "b", "c"), server=Server(url=server.url, model="m"), manners=Manners(rate=1))
    assert [round(each / 60) for each in sorted(waits)] == [0, 1, 2]


def test_a_pause_that_the_server_asks_for_holds_back_every_call() -> None:
    """The first attempt of each of three calls is told to wait half a second; no other attempt comes before that."""
    with serving(echo, ("wait0.5",)) as server:
        ask(calls("a", "b", "c"), server=Server(url=server.url, model="m"), manners=manners(concurrency=1, timeout=5))
        first, second = sorted(server.times)[:2]
        assert second - first >= 0.5


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("401", "401; put a valid API key into the environment"),
        ("402", "no money"),
        ("quota", "quota is used up"),
    ],
)
def test_a_refusal_ends_the_job_at_once_with_one_sentence(fault: str, says: str) -> None:
    with serving(echo, (fault,) * 9) as server:
        with pytest.raises(InputError, match=says) as caught:
            ask(calls(*map(str, range(50))), server=Server(url=server.url, model="m"), manners=manners(concurrency=2))
        assert "\n" not in str(caught.value)
        assert set(server.attempts.values()) == {1}
        assert len(server.attempts) <= 2


def test_a_job_whose_calls_are_all_bad_ends_and_one_bad_call_does_not() -> None:
    with serving(echo, ("400",) * 9) as server:
        place = Server(url=server.url, model="m")
        for texts in (["a"], list(map(str, range(50)))):
            with pytest.raises(InputError, match=r"400; check model and the sampling settings .it says: .*fault 400"):
                ask(calls(*texts), server=place, manners=manners(concurrency=2))
        assert len(server.attempts) <= 6
        server.faults = ()
        ask(calls("good"), server=place)
        server.faults = ("400",)
        asked = ask(calls("good", "bad"), server=place)
        assert [type(each).__name__ for each in asked.answers] == ["Answer", "Failure"]
        assert asked.answers[1].why == "bad_request"  # type: ignore[union-attr]


@pytest.mark.parametrize("status", ["403", "404", "418", "451"])
def test_a_call_that_is_refused_costs_that_call_alone_once_the_server_takes_calls(status: str) -> None:
    """The server answers all but one text, as one with a filter does; a server that takes none ends the job."""
    with serving(echo) as server:
        place = Server(url=server.url, model="m")
        server.refused = ("secret", int(status))
        asked = ask(calls("a", "secret", "b", "c", "d"), server=place, manners=manners(concurrency=1))
        assert [getattr(each, "why", "") for each in asked.answers] == ["", "bad_request", "", "", ""]
        assert set(server.attempts.values()) == {1}
        server.refused = ("", int(status))
        with pytest.raises(InputError, match=f"refuses calls to 'other' with status {status}"):
            ask(calls(*map(str, range(50))), server=Server(url=server.url, model="other"), manners=manners())
        assert len(server.attempts) <= 5 + 3 + 8


def test_a_key_that_is_refused_ends_the_job_though_others_were_taken() -> None:
    with serving(echo) as server:
        ask(calls("a"), server=Server(url=server.url, model="m"))
        server.refused = ("b", 401)
        with pytest.raises(InputError, match="status 401"):
            ask(calls("a", "b"), server=Server(url=server.url, model="m"))


def test_a_call_that_is_too_long_is_no_fault_of_the_job() -> None:
    with serving(echo, ("too_long",)) as server:
        (failure,) = ask(calls("a"), server=Server(url=server.url, model="m")).answers
        assert isinstance(failure, Failure)
        assert failure.why == "too_long"
        assert server.attempts.total() == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "http://nobody.invalid/v1"])
def test_no_server_is_one_sentence_after_three_attempts(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other calls wait for their own next attempt, and end with the job."""
    waited: list[int] = []
    job = sys.modules["pairwright.served.ask"]._Job
    attempt = job._attempt

    async def counted(self: Any, call: Call) -> Any:
        waited.append(1)
        return await attempt(self, call)

    monkeypatch.setattr(job, "_attempt", counted)
    place = Server(url=url, model="m")
    with pytest.raises(InputError, match=rf"there is no server at {url} .*check url and its port") as caught:
        ask(calls(*map(str, range(99))), server=place, manners=manners(retries=50, concurrency=1))
    assert caught.value.exit_code == 2
    assert len(waited) == 3
    assert "\n" not in str(caught.value)


def test_a_server_that_drops_every_call_is_there_and_failed() -> None:
    with (
        serving(echo, ("drop",) * 9) as server,
        pytest.raises(PairwrightError, match="gave nothing to 2 cal") as caught,
    ):
        ask(calls("a", "b"), server=Server(url=server.url, model="m"), manners=manners(retries=3))
    assert not isinstance(caught.value, InputError)  # the request was right


def test_a_server_that_goes_away_ends_the_job_and_what_it_said_is_kept() -> None:
    with serving(echo) as server:
        place = Server(url=server.url, model="m")
        ask(calls(*map(str, range(5))), server=place)
    with pytest.raises(PairwrightError, match="gave nothing to 20 calls"):
        ask(calls(*map(str, range(99))), server=place, manners=manners(retries=0, concurrency=1))
    assert ask(calls(*map(str, range(5))), server=place).made == 0


def test_a_wait_beyond_patience_ends_the_job() -> None:
    with serving(echo, ("wait86400",)) as server, pytest.raises(PairwrightError, match="asks to wait 86,400 seconds"):
        ask(calls(*map(str, range(9))), server=Server(url=server.url, model="m"), manners=manners(concurrency=4))


def test_log_probabilities_and_refusals_are_read() -> None:
    def rule(_: Body) -> Body:
        reply = completion(None, refusal="I will not.")
        top = [{"token": "7", "logprob": -0.5, "bytes": None}, {"token": "8", "logprob": -1}]
        reply["choices"][0]["logprobs"] = {"content": [{"token": "7", "logprob": -0.5, "top_logprobs": top}]}
        return reply

    with serving(rule) as server:
        place, sampling = Server(url=server.url, model="m"), Sampling(top_logprobs=2)
        (first,) = ask(calls("a"), server=place, sampling=sampling).answers
        (kept,) = ask(calls("a"), server=place, sampling=sampling).answers
        assert first == kept == Answer("", "stop", "I will not.", ((("7"), -0.5, (("7", -0.5), ("8", -1.0))),), 7, 5)
        assert len(server.bodies) == 1
        assert (server.bodies[0]["logprobs"], server.bodies[0]["top_logprobs"]) == (True, 2)


def test_a_server_without_log_probabilities_is_told_from_one_with() -> None:
    with serving(echo) as server, pytest.raises(InputError, match="gives no log-probabilities"):
        ask(calls(*map(str, range(50))), server=Server(url=server.url, model="m"), sampling=Sampling(top_logprobs=5))
    assert len(server.bodies) <= 8 + 1


def test_it_works_where_an_event_loop_runs_already() -> None:
    import asyncio

    async def notebook(url: str) -> Any:
        return ask(calls("a"), server=Server(url=url, model="m")).answers[0]

    with serving(echo) as server:
        assert asyncio.run(notebook(server.url)).text == "echo a"


def test_answers_are_not_paid_where_they_cannot_be_kept(tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    file.write_text("this is no database " * 100)
    with serving(echo) as server:
        with pytest.raises(InputError, match=r"cannot be kept in .* name another file with cache"):
            ask(calls("a"), server=Server(url=server.url, model="m"), cache=file)
        assert server.bodies == []


@pytest.mark.parametrize(
    "row", ["", "no json", "[1]", '{"text": 7}', '{"text": "a", "tokens": 3}', '{"new": 1}', "[" * 200_000, b"\xff"]
)
def test_a_kept_row_that_cannot_be_read_is_asked_for_again(row: str | bytes, tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    with serving(echo) as server:
        place = Server(url=server.url, model="m")
        ask(calls("a"), server=place, cache=file)
        with sqlite3.connect(file) as kept:
            kept.execute("UPDATE answers SET answer = CAST(? AS TEXT)", (row,))
        kept.close()
        for made in (1, 0):
            asked = ask(calls("a"), server=place, cache=file)
            assert asked.made == made
            assert asked.answers == [Answer("echo a", "stop", None, None, 7, 5)]


def test_half_a_surrogate_pair_is_replaced_also_where_it_was_kept(tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    with serving(lambda _: "a\ud800b \U0001f600") as server:
        place = Server(url=server.url, model="m")
        (first,) = ask(calls("a"), server=place, cache=file).answers
        with sqlite3.connect(file) as kept:
            kept.execute("UPDATE answers SET answer = ?", (json.dumps({"text": "a\ud800b \U0001f600"}),))
        kept.close()
        (again,) = ask(calls("a"), server=place, cache=file).answers
    assert isinstance(first, Answer)
    assert isinstance(again, Answer)
    assert first.text == again.text == "a\ufffdb \U0001f600"


def test_what_another_job_paid_meanwhile_is_not_paid_again(tmp_path: Path) -> None:
    """While the first of two calls is answered, another job asks the second: it is found, and not counted as made."""
    file = tmp_path / "answers.sqlite"

    def rule(body: Body) -> str:
        if body["messages"][-1]["content"] == "a":
            ask(calls("b"), server=place, cache=file)
        return echo(body)

    with serving(rule) as server:
        place = Server(url=server.url, model="m")
        asked = ask(calls("a", "b"), server=place, cache=file, manners=Manners(concurrency=1))
        assert set(server.paid.values()) == {1}
    assert [each.text for each in asked.answers if isinstance(each, Answer)] == ["echo a", "echo b"]
    assert asked.made == 1


def test_of_two_jobs_at_one_moment_each_call_is_made_by_one(tmp_path: Path) -> None:
    """In two threads, and slowly, so that all calls of the second job are in flight in the first."""
    file, texts = tmp_path / "answers.sqlite", [f"question {i}" for i in range(12)]
    with serving(echo, faults=("500",)) as server:
        server.delay = 0.1
        place, manners = Server(url=server.url, model="m"), Manners(concurrency=4, first_wait=0.05)

        def job(_: int) -> Asked:
            return ask(calls(*texts), server=place, manners=manners, cache=file)

        with ThreadPoolExecutor(2) as threads:
            one, two = threads.map(job, range(2))
    assert set(server.paid.values()) == {1}
    assert sum(server.attempts.values()) == 2 * len(texts)  # the fault of each is met once too
    assert one.answers == two.answers == [Answer(f"echo {each}", "stop", None, None, 7, 5) for each in texts]
    assert one.made + two.made == len(texts)
    assert one.usage == two.usage


def test_jobs_that_open_a_new_file_at_one_moment_all_open_it(tmp_path: Path) -> None:
    """SQLite refuses some at once, whatever the connection's patience: about one opening of 75 when measured."""
    together = Barrier(6)

    def job(file: Path) -> None:
        together.wait()
        Cache(file).close()

    with ThreadPoolExecutor(6) as threads:
        for new in range(100):
            list(threads.map(job, [tmp_path / f"{new}.sqlite"] * 6))


def claims(file: Path) -> list[Any]:
    with closing(sqlite3.connect(file)) as there:
        return there.execute("SELECT * FROM claims").fetchall()


def test_a_claim_ends_with_its_attempt_its_process_or_its_time(tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    one, two = Cache(file), Cache(file)
    assert one.claim(b"k", 60)
    assert one.claim(b"k", 60)  # its own
    assert not two.claim(b"k", 60)
    two.release(b"k")  # of another job: nothing happens
    assert not two.claim(b"k", 60)
    one.release(b"k")
    assert two.claim(b"k", -1.0)  # its time is over at once
    assert one.claim(b"k", 60)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for host, process, holds in (
        (socket.gethostname(), gone.pid, False),
        (socket.gethostname(), os.getppid(), True),
        ("elsewhere", gone.pid, True),  # nobody here can say whether it is alive
    ):
        with closing(sqlite3.connect(file)) as there, there:
            there.execute("UPDATE claims SET host = ?, process = ?, job = 'x'", (host, process))
        assert two.claim(b"k", 60) != holds, host
    one.close()
    two.close()


def test_of_two_jobs_that_find_one_claim_ended_one_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second job looks and takes between the look and the taking of the first."""
    file = tmp_path / "answers.sqlite"
    dead, one, two = Cache(file), Cache(file), Cache(file)
    assert dead.claim(b"k", -1.0)
    looks, got = cache._holds, []

    def between(*row: object) -> bool:
        monkeypatch.setattr(cache, "_holds", looks)
        held = looks(*row)
        got.append(two.claim(b"k", 60))
        return held

    monkeypatch.setattr(cache, "_holds", between)
    got.append(one.claim(b"k", 60))
    assert got == [True, False]
    assert claims(file)[0][3] == two._owner[2]
    for each in (dead, one, two):
        each.close()


def test_a_job_that_fails_or_ends_early_leaves_no_claim(tmp_path: Path) -> None:
    file, few = tmp_path / "answers.sqlite", Manners(retries=0, concurrency=2)
    with serving(echo, faults=("500",)) as server:
        assert isinstance(
            ask(calls("a"), server=Server(url=server.url, model="m"), manners=few, cache=file).answers[0], Failure
        )
    assert claims(file) == []
    with serving(echo, key="k") as server, pytest.raises(InputError, match="401"):
        ask(calls(*"abcdef"), server=Server(url=server.url, model="m"), manners=few, cache=file)
    assert claims(file) == []


def test_several_processes_of_a_launcher_pay_nothing_and_find_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(echo) as server:
        place = Server(url=server.url, model="m")
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(InputError, match=r"2 processes would each pay .* without accelerate launch"):
            ask(calls("a"), server=place)
        assert server.bodies == []
        monkeypatch.setenv("WORLD_SIZE", "1")
        one = ask(calls("a"), server=place)
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert ask(calls("a"), server=place).answers == one.answers


WORKER = """
import sys
from pairwright.chat import user
from pairwright.served import Call, Manners, Server, ask
ask([Call([user(f"question {i}")]) for i in range(int(sys.argv[3]))], server=Server(url=sys.argv[1], model="m"),
    manners=Manners(concurrency=4), cache=sys.argv[2])
"""


def test_a_killed_job_loses_at_most_the_calls_in_flight(tmp_path: Path) -> None:
    """Killed in the middle, by a signal that nobody can catch; then the same job again."""
    file, total = tmp_path / "answers.sqlite", 400
    with serving(echo) as server:
        server.delay = 0.05
        command = [sys.executable, "-c", WORKER, server.url, str(file), str(total)]
        job = subprocess.Popen(command, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while len(server.paid) < 25 and time.monotonic() < deadline:
            time.sleep(0.01)
        job.send_signal(signal.SIGKILL)
        job.wait()
        assert job.stderr is not None
        job.stderr.close()
        time.sleep(0.3)  # what was in flight is answered to nobody
        paid = len(server.paid)
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as kept:
            (count,) = kept.execute("SELECT count(*) FROM answers").fetchone()
        kept.close()
        assert 25 <= paid < total
        assert paid - 4 <= count <= paid
        assert 1 <= len(claims(file)) <= 4  # of a process that is gone: nobody waits for them
        server.delay = 0.0
        asked = ask(
            [Call([user(f"question {i}")]) for i in range(total)],
            server=Server(url=server.url, model="m"),
            cache=file,
        )
        assert asked.made == total - count
        assert [each.text for each in asked.answers if isinstance(each, Answer)] == [
            f"echo question {i}" for i in range(total)
        ]
        assert sum(server.paid.values()) <= total + 4


def test_the_file_of_answers_has_neither_prompts_nor_settings(tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    with serving(lambda _: "fine") as server:
        ask(calls("a secret question"), server=Server(url=server.url, model="secret-model"), cache=file)
    for path in tmp_path.iterdir():
        assert b"secret" not in path.read_bytes()
    assert json.loads(sqlite3.connect(file).execute("SELECT answer FROM answers").fetchone()[0])["text"] == "fine"
    assert os.listdir(tmp_path)
