"""The engine openai against a loopback server that answers by a rule and fails as it is told."""

import json
from functools import partial
from importlib import import_module

import polars as pl
import pytest

from faulty import completion, serving
from pairwright.chat import prompt_id, user
from pairwright.cli import main
from pairwright.errors import InputError
from pairwright.generate import generate
from pairwright.generate.request import seed_of
from pairwright.goals import GoalFormat
from pairwright.preferences import Preferences
from pairwright.served import Manners

pytest.importorskip("openai")

QUESTIONS = ("Red?", "Sort: b a", "How many?")


def questions(*texts):
    prompts = [[user(text)] for text in texts or QUESTIONS]
    frame = pl.DataFrame({"prompt_id": [prompt_id(each) for each in prompts], "prompt": prompts})
    answers = pl.DataFrame(
        schema={
            "response_id": pl.Int64,
            "prompt_id": pl.String,
            "response": pl.List(pl.Struct({"role": pl.String, "content": pl.String})),
        }
    )
    return Preferences.of(frame, answers, None)


def says(body):
    return f"{body['messages'][-1]['content']} {body.get('seed')}"


def texts_of(prefs):
    return [row[0]["content"] for row in prefs.responses.collect()["response"].to_list()]


def test_each_answer_is_asked_for_once_with_its_own_seed(tmp_path):
    prefs = questions()
    ids = prefs.prompts.collect()["prompt_id"].to_list()
    with serving(says) as server:
        made = generate("org/m", prefs, engine="openai", url=server.url, n=2, seed=3, max_new_tokens=7, top_p=0.9)
        # the first 31 of a seed's 128 bits
        wanted = [f"{q} {seed_of(3, at, k) // 2**97}" for q, at in zip(QUESTIONS, ids, strict=True) for k in (0, 1)]
        assert texts_of(made) == wanted
        assert len(set(wanted)) == 6
        assert len(server.bodies) == 6
        body = server.bodies[0]
        assert {key: body[key] for key in ("model", "temperature", "top_p", "max_tokens")} == {
            "model": "org/m",
            "temperature": 1.0,
            "top_p": 0.9,
            "max_tokens": 7,
        }
        assert "logprobs" not in body
        rows = made.responses.collect()
        assert rows["stopped"].to_list() == ["eos"] * 6
        assert rows["model"].unique().to_list() == ["m"]
        assert made.lineage[-1].found["usage"] == {
            "calls": 6,
            "prompt_tokens": 42,
            "answer_tokens": 30,
            "cost": 0.0,
        }
        again = generate("org/m", prefs, engine="openai", url=server.url, n=3, seed=3, max_new_tokens=7, top_p=0.9)
        assert len(server.bodies) == 9  # the two that were there are not paid again
        assert texts_of(again)[:2] == wanted[:2]


def test_faults_that_pass_are_waited_for_and_each_call_is_paid_once(monkeypatch):
    engine = import_module("pairwright.generate.openai")
    monkeypatch.setattr(engine, "Manners", partial(Manners, first_wait=0.01))
    with serving(says, faults=("500", "wait0", "cut", "half", "empty")) as server:
        made = generate("m", questions(), engine="openai", url=server.url, retries=6, concurrency=3)
        assert made.counts().responses == 3
        assert set(server.paid.values()) == {1}


def test_what_gets_no_answer_is_dropped_and_counted_by_its_reason():
    def rule(body):
        return completion(None, refusal="I will not.") if "Red" in body["messages"][-1]["content"] else says(body)

    with serving(rule) as server:
        made = generate("m", questions(), engine="openai", url=server.url, retries=0)
        assert made.dropped == {"refused": 1}
        assert made.counts().responses == 2
    with serving(says, faults=("too_long",)) as server:
        made = generate("m", questions(), engine="openai", url=server.url, retries=0)
        assert made.dropped == {"too_long": 3}
        again = generate("m", questions(), engine="openai", url=server.url, retries=0)
        assert again.counts().responses == 3


def test_log_probabilities_are_summed_over_what_the_server_shows():
    """Three tokens of -0.5, -0.25 and -2 nats: -2.75 in all."""

    def rule(body):
        assert body["logprobs"] is True
        reply = completion("a b c")
        content = [{"token": t, "logprob": v, "top_logprobs": []} for t, v in (("a", -0.5), (" b", -0.25), (" c", -2))]
        reply["choices"][0] |= {"logprobs": {"content": content}, "finish_reason": "length"}
        return reply

    with serving(rule) as server:
        rows = generate("m", questions(), engine="openai", url=server.url, logps=True).responses.collect()
    assert rows["logp_m"].to_list() == [-2.75] * 3
    assert rows["len_m"].to_list() == [3] * 3
    assert rows["stopped"].to_list() == ["length"] * 3
    with pytest.raises(InputError, match="only at temperature 1 and top_p 1"):
        generate("m", questions(), engine="openai", url="http://127.0.0.1:1/v1", logps=True, temperature=0.7)


def test_stop_strings_and_fields_of_the_server_are_sent():
    with serving(says) as server:
        settings = {"stop": ["\n", "END"], "length_field": "max_completion_tokens", "extra": {"top_k": 5}}
        made = generate("m", questions("one"), engine="openai", url=server.url, send_seed=False, **settings)
        (body,) = server.bodies
    assert body["stop"] == ["\n", "END"]
    assert body["max_completion_tokens"] == 256
    assert body["top_k"] == 5
    assert {"seed", "max_tokens"}.isdisjoint(body)
    assert made.responses.collect()["stopped"].to_list() == ["stop"]  # which the server says of its own ends too


def test_samples_without_a_seed_are_still_calls_of_their_own():
    with serving(says) as server:
        generate("m", questions("one"), engine="openai", url=server.url, n=4, send_seed=False)
        assert len(server.bodies) == 4


def test_a_goal_is_in_the_prompt_and_its_place_must_be_said():
    form = GoalFormat(placement="user")
    with serving(says) as server:
        settings = {"engine": "openai", "url": server.url, "goal": [3, 8]}
        made = generate("m", questions("one"), goal_format=form, **settings)
        assert {body["messages"][0]["content"] for body in server.bodies} == {
            f"{form.say(3)}\n\none",
            f"{form.say(8)}\n\none",
        }
        assert made.responses.collect()["goal"].to_list() == [3.0, 8.0]
        generate("m", questions("two"), goal_format=GoalFormat(placement="system"), **settings)
        assert server.bodies[-1]["messages"][0]["role"] == "system"
        with pytest.raises(
            InputError, match="nothing shows here whether the model 'm' of this engine takes a system message"
        ):
            generate("m", questions("one"), goal_format=GoalFormat(placement="auto"), **settings)
        with pytest.raises(InputError, match=r"m has no generation_goal\.json"):
            generate("m", questions("one"), **settings)


def test_a_url_is_needed():
    with pytest.raises(InputError, match="engine 'openai': url"):
        generate("m", questions(), engine="openai")


def test_the_command_writes_answers_and_no_key(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-1")
    data = questions().save(tmp_path / "data")
    with serving(says, key="sk-very-secret-1") as server:
        command = ["generate", "m", "--prompts", str(data), "--engine", "openai", "--url", server.url, "-n", "2"]
        assert main([*command, "--concurrency", "2", "-o", str(tmp_path / "out")]) == 0
        assert main([*command, "-o", str(tmp_path / "out.jsonl")]) == 0
        assert len(server.bodies) == 6
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(rows) == 6
    said = capsys.readouterr()
    assert "very-secret" not in said.out + said.err
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"very-secret" not in path.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"data", "out", "out.jsonl", "out.jsonl.manifest.json"}


def test_the_command_without_a_url_is_bad_usage(tmp_path, capsys):
    data = questions().save(tmp_path / "data")
    assert main(["generate", "m", "--prompts", str(data), "--engine", "openai", "-o", str(tmp_path / "out")]) == 2
    assert "needs the setting 'url'" in capsys.readouterr().err


@pytest.mark.parametrize("bad", [-9999.0, -9000.0, 0.5, float("nan")])
def test_a_clamped_log_probability_is_unknown_and_counted(bad):
    """One answer has a token of -9999 (what servers write for "very unlikely"), the other -0.5 - 8999 nats."""

    def rule(body):
        reply = completion("a b")
        last = bad if "one" in body["messages"][-1]["content"] else -8999.0
        content = [{"token": t, "logprob": v, "top_logprobs": []} for t, v in (("a", -0.5), (" b", last))]
        reply["choices"][0] |= {"logprobs": {"content": content}}
        return reply

    with serving(rule) as server:
        made = generate("m", questions("one", "two"), engine="openai", url=server.url, logps=True)
    assert made.responses.collect()["logp_m"].to_list() == [None, -8999.5]
    assert made.responses.collect()["len_m"].to_list() == [2, 2]
    assert made.lineage[-1].found["no_logp"] == 1
