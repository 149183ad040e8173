"""API keys come from the environment, go into the request, and appear nowhere else."""

import logging
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from faulty import Body, completion, serving
from pairwright.chat import user
from pairwright.errors import InputError
from pairwright.plug import bind
from pairwright.served import Answer, BaseUrl, Call, Failure, KeyName, Manners, Sampling, Server, ask
from pairwright.served.keys import find_key, scrubbed

pytest.importorskip("openai")

# Put together here, so that a search of the repository for keys finds none.
KEY = "-".join(("sk", "t0ps3cr3t", 'with"quote', "9f8e7d"))
QUICK = Manners(timeout=2.0, first_wait=0.001, longest_wait=0.002, retries=2)


def echo(body: Body) -> str:
    return f"echo {body['messages'][-1]['content']}"


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("JUDGE_KEY", KEY)
    return KEY


def call(text: str = "a") -> list[Call]:
    return [Call([user(text)])]


def test_the_key_of_the_variable_named_goes_into_the_request(key: str) -> None:
    with serving(echo, key=key) as server:
        asked = ask(call(), server=Server(url=server.url, model="m", key="JUDGE_KEY"))
        assert isinstance(asked.answers[0], Answer)


def test_a_server_of_ones_own_needs_none(key: str) -> None:
    with serving(echo) as server:
        ask(call(), server=Server(url=server.url, model="m"))
        assert KEY not in str(server.headers)


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://api.example.com/v1", True),
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost:8000/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://judge.example.com/v1", False),
        ("http://127.0.0.1.example.com/v1", False),
    ],
)
def test_the_default_key_is_not_sent_in_the_clear(url: str, sent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert (find_key(url, None) is not None) is sent
    monkeypatch.setenv("JUDGE_KEY", KEY)
    assert find_key(url, "JUDGE_KEY") is not None  # whoever names one means it
    monkeypatch.setenv("OPENAI_API_KEY", "")
    assert find_key(url, None) is None


def test_a_key_in_place_of_a_name_is_refused_and_not_repeated() -> None:
    def plug(data: Any, *, key: KeyName | None = None, url: BaseUrl = "http://127.0.0.1") -> None: ...

    for wrong in (KEY, "abcdef0123456789", "ABCDEF0123456789", "A_" * 40 + "B", ""):
        with pytest.raises(InputError, match="never the key itself") as caught:
            bind(plug, {"key": wrong}, kind="scorer")
        assert not wrong or wrong not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(InputError, match="give the plain base URL") as caught:
        bind(plug, {"url": f"http://me:{KEY}@127.0.0.1/v1"}, kind="scorer")
    assert KEY not in str(caught.value)


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(InputError, match="environment variable NO_SUCH_KEY is not set"):
        ask(call(), server=Server(url="http://127.0.0.1:9/v1", model="m", key="NO_SUCH_KEY"))


@pytest.mark.parametrize("url", ["http://me:pw@x.example/v1", "https://x.example/v1?api_key=hidden-thing"])
def test_a_url_with_a_secret_in_it_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InputError, match="give the plain base URL") as caught:
        ask(call(), server=Server(url=url, model="m"))
    assert "pw" not in str(caught.value)
    assert "hidden" not in str(caught.value)


URLS = ["", "127.0.0.1:8000/v1", "ftp://x/v1", "http:///v1", "http://127.0.0.1:99999/v1", "http://127.0.0.1:0/v1"]
URLS += ["http://127.0.0.1:port/v1", "http://[::1/v1", "http://[::g]/v1", "http://my host/v1", "http://a..b/v1"]
URLS += ["http://host/v 1", "http://host\n/v1", f"http://{'a' * 64}.com/v1", "http://a,b/v1"]


@pytest.mark.parametrize("url", URLS)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="no base URL"):
        ask(call(), server=Server(url=url, model="m"))


def test_a_server_that_says_the_key_back_is_not_believed(key: str, tmp_path: Path) -> None:
    """In a refusal, in a failure, in an answer: the key is cut out before anything is kept or said."""
    place: dict[str, Any] = {"model": "m", "key": "JUDGE_KEY"}
    file = tmp_path / "answers.sqlite"
    with serving(echo, key="another") as server, pytest.raises(InputError, match=r"wrong key Bearer \[key\]") as caught:
        ask(call(), server=Server(url=server.url, **place), cache=file)
    assert key not in "".join(traceback.format_exception(caught.value))
    with serving(lambda _: f"your key is {key}") as server:
        (answer,) = ask(call(), server=Server(url=server.url, **place), cache=file).answers
        assert isinstance(answer, Answer)
        assert answer.text == "your key is [key]"
    with serving(lambda _: {"choices": [], "key": key}) as server:
        (failure,) = ask(call(), server=Server(url=server.url, **place), manners=QUICK, cache=file).answers
        assert isinstance(failure, Failure)
        assert "[key]" in failure.said
        assert key not in failure.said
    for path in tmp_path.iterdir():
        assert KEY.encode() not in path.read_bytes()


def test_the_key_is_in_no_log_and_on_no_screen(
    key: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every fault, with every library at its most talkative."""
    with caplog.at_level(logging.DEBUG), serving(echo, ("500", "cut", "401"), key=key) as server:
        with pytest.raises(InputError) as caught:
            ask(call(), server=Server(url=server.url, model="m", key="JUDGE_KEY"), manners=QUICK)
        assert caplog.records  # the libraries did talk
    out = capfd.readouterr()
    said = (caplog.text, out.out, out.err, "".join(traceback.format_exception(caught.value)), repr(caught.value))
    assert not [text for text in said if "t0ps3cr3t" in text]


CRASH = """
import sys
from pairwright.chat import user
from pairwright.served import Call, Server, ask
def broken(body):
    raise RuntimeError("a fault of ours")
sys.modules["pairwright.served.ask"].read_reply = broken
ask([Call([user("a")])], server=Server(url=sys.argv[1], model="m", key="JUDGE_KEY"))
"""


def test_the_key_is_in_no_traceback_of_a_crash(key: str) -> None:
    with serving(echo, key=key) as server:
        done = subprocess.run([sys.executable, "-c", CRASH, server.url], capture_output=True, text=True)
    assert "a fault of ours" in done.stderr
    assert "Traceback" in done.stderr
    assert "t0ps3cr3t" not in done.stderr + done.stdout


@pytest.mark.parametrize("name", ["JUDGE_KEY", None])
@pytest.mark.parametrize("value", ["sk-\u00e4bcdefgh", "sk-abc\ndefgh", "sk-abc\x1bdefgh", "sk-\u200babcdefgh"])
def test_a_key_that_cannot_be_sent_is_refused_by_the_name_of_its_variable(
    value: str, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name or "OPENAI_API_KEY", value)
    with pytest.raises(InputError, match=f"variable {name or 'OPENAI_API_KEY'} has a character in it") as caught:
        ask(call(), server=Server(url="http://127.0.0.1:9/v1", model="m", key=name))
    said = "".join(traceback.format_exception(caught.value))
    assert "sk-" not in said
    assert "defgh" not in said


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_feed_behind_the_key_is_no_part_of_it(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY + end)
    with serving(echo, key=KEY) as server:
        assert isinstance(ask(call(), server=Server(url=server.url, model="m", key="JUDGE_KEY")).answers[0], Answer)
    monkeypatch.setenv("JUDGE_KEY", end)
    with pytest.raises(InputError, match="JUDGE_KEY is not set"):
        find_key("https://x/v1", "JUDGE_KEY")


@pytest.mark.parametrize("short", ["x", "7", "content", "choices", '"', "stop", "message"])
def test_a_short_key_is_no_piece_of_what_makes_the_answer(short: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dummy keys of servers of one's own; only behind `Bearer ` are they cut out."""
    monkeypatch.setenv("JUDGE_KEY", short)
    place: dict[str, Any] = {"model": "m", "key": "JUDGE_KEY"}
    with serving(lambda _: "x [[7]] choices") as server:
        asked = ask(call(), server=Server(url=server.url, **place), manners=QUICK)
        assert asked.answers == [Answer("x [[7]] choices", "stop", None, None, 7, 5)]
    with serving(echo, key="another") as server, pytest.raises(InputError, match=r"wrong key Bearer \[key\]"):
        ask(call(), server=Server(url=server.url, **place))


def test_a_long_key_that_is_a_word_of_json_breaks_no_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "assistant")
    with serving(lambda _: "my assistant") as server:
        (answer,) = ask(call(), server=Server(url=server.url, model="m", key="JUDGE_KEY")).answers
    assert answer == Answer("my [key]", "stop", None, None, 7, 5)
    monkeypatch.setenv("JUDGE_KEY", "finish_reason")
    with serving(echo) as server:
        (answer,) = ask(call(), server=Server(url=server.url, model="m", key="JUDGE_KEY")).answers
    assert answer == Answer("echo a", "stop", None, None, 7, 5)


def test_a_key_in_pieces_among_the_tokens_is_cut_out_too(key: str, tmp_path: Path) -> None:
    pieces = ["is ", key[:6], key[6:20], key[20:] + ".", " So"]

    def rule(_: Body) -> Body:
        reply = completion("".join(pieces))
        top = [{"token": key[:6], "logprob": -1.0}]
        reply["choices"][0]["logprobs"] = {
            "content": [{"token": each, "logprob": -1.0, "top_logprobs": top if each in key else []} for each in pieces]
        }
        return reply

    with serving(rule) as server:
        sampling = Sampling(top_logprobs=1)
        place = Server(url=server.url, model="m", key="JUDGE_KEY")
        (answer,) = ask(call(), server=place, sampling=sampling, cache=tmp_path / "answers.sqlite").answers
    assert isinstance(answer, Answer)
    assert answer.text == "is [key]. So"
    assert [each.text for each in answer.tokens or ()] == ["is ", "[key]", "[key]", "[key]", " So"]
    assert key[6:20] not in str(answer)


def test_a_key_is_found_in_json_too(key: str) -> None:
    from pydantic import SecretStr

    assert completion(None)
    assert scrubbed(f'{{"said": "{KEY.replace(chr(34), chr(92) + chr(34))}"}}', SecretStr(KEY)) == '{"said": "[key]"}'
    assert scrubbed(KEY, None) == KEY
    assert KEY not in repr(SecretStr(KEY))
