"""A real cluster of two workers gives what one process gives, for the scorers that open no model."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import tiny
from faulty import Body, completion, serving
from pairwright.chat import assistant, prompt_id, user
from pairwright.errors import InputError, MissingExtra
from pairwright.preferences import Preferences
from pairwright.scorers import score

SCRIPT = """
import json, sys
import ray
from pairwright.preferences import Preferences
from pairwright.scorers import score
scorer, source, out, settings = sys.argv[1:]
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
try:
    score(Preferences.load(source), scorer, ray=True, **json.loads(settings)).save(out)
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def on_two_workers(scorer: str, data: Path, out: Path, **settings: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, scorer, str(data), str(out), json.dumps(settings)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
    )


def sums(count: int) -> Preferences:
    """Sums and an answer to each, right for every third; one answer is missing, one makes a pattern take years."""
    prompts = [[user(f"{i} + {i}?")] for i in range(count)]
    said = [f"It is $\\frac{{{4 * i}}}{{2}}$" if i % 3 == 0 else f"It is ${i}$" for i in range(count)]
    answers: list[Any] = [[assistant(text)] for text in said]
    answers[4], answers[5] = None, [assistant("a" * 40 + "b")]
    ids = [prompt_id(each) for each in prompts]
    frame = pl.DataFrame({"prompt_id": ids, "prompt": prompts, "reference": [str(2 * i) for i in range(count)]})
    empty = tiny.preferences(1).responses.collect()
    responses = pl.DataFrame({"response_id": range(count), "prompt_id": ids, "response": answers})
    return Preferences.of(frame, responses.cast({"response_id": pl.Int64, "response": empty["response"].dtype}), None)


@pytest.mark.slow
def test_rules_keep_their_time_and_their_levels_on_a_cluster(tmp_path: Path) -> None:
    """600 answers are three parts; of them 200 are right, but that of 0 is 0 for every answer, and 5 is timed out."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    pytest.importorskip("math_verify", reason="the extra maths is not installed")
    rules: Any = {"verify": [{"with": "no_regex", "pattern": "^(a+)+$", "seconds": 0.2}, "maths"]}
    data = sums(600).save(tmp_path / "data")
    done = on_two_workers("rules", data, tmp_path / "ray", **rules)
    assert done.returncode == 0, done.stderr
    found, alone = Preferences.load(tmp_path / "ray"), score(Preferences.load(data), "rules", **rules)
    assert found.responses.collect().equals(alone.responses.collect())
    assert found.lineage[-1] == alone.lineage[-1]
    assert found.lineage[-1].settings["unscored"] == {"missing_answer": 1, "timed_out": 1}
    levels = found.responses.collect()["score_level"].to_list()
    assert [i for i, level in enumerate(levels) if level == 2] == list(range(0, 600, 3))


OPENS, CLOSES = "<answer>\n", "\n</answer>"


def stars(answer: str) -> int:
    """A rating that follows from the answer, so that a mix-up shows."""
    return 1 + sum(map(ord, answer)) % 10


def rating(body: Body) -> Body:
    text = body["messages"][-1]["content"]
    return completion(f"[[{stars(text.partition(OPENS)[2].partition(CLOSES)[0])}]]")


@pytest.mark.slow
def test_workers_ask_a_judge_together_and_pay_for_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    monkeypatch.setenv("THE_JUDGES_KEY", "sk-of-nobody-4711")
    data = tiny.preferences(15).save(tmp_path / "data")
    with serving(rating, faults=("500",), key="sk-of-nobody-4711") as server:
        server.delay = 0.02
        own: Any = {"url": server.url, "model": "m", "concurrency": 4, "key": "THE_JUDGES_KEY"}
        done = on_two_workers("judge", data, tmp_path / "ray", cache=str(tmp_path / "a.sqlite"), **own)
        assert done.returncode == 0, done.stderr
        asked = len(server.paid)
        assert set(server.paid.values()) == {1}
        assert set(server.attempts.values()) == {2}
        assert 2 <= server.most <= 4
        alone = score(Preferences.load(data), "judge", cache=str(tmp_path / "a.sqlite"), **own)
        again = on_two_workers("judge", data, tmp_path / "again", cache=str(tmp_path / "a.sqlite"), **own)
        assert again.returncode == 0, again.stderr
        assert sum(server.paid.values()) == asked  # all of it was kept
    tables = [Preferences.load(tmp_path / name) for name in ("ray", "again")]
    for each in tables:
        assert each.responses.collect().equals(alone.responses.collect())
        assert each.lineage[-1].found == alone.lineage[-1].found
    found = tables[0].responses.select("response", "score").collect().rows()
    assert [value for _, value in found] == [stars(response[0]["content"]) for response, _ in found]
    assert len({value for _, value in found}) > 3
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or b"sk-of-nobody" not in file.read_bytes()


@pytest.mark.slow
def test_what_a_server_refuses_is_said_by_a_cluster_as_by_one_process(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    data = tiny.preferences(6).save(tmp_path / "data")
    with serving(rating, key="another") as server:
        own: Any = {"url": server.url, "model": "m", "cache": str(tmp_path / "a.sqlite")}
        done = on_two_workers("judge", data, tmp_path / "ray", **own)
        with pytest.raises(InputError, match="refuses calls to 'm' with status 401") as alone:
            score(Preferences.load(data), "judge", **own)
    assert done.stderr.strip().splitlines()[-1] == f"InputError: {alone.value}"


def test_a_scorer_that_needs_all_answers_is_not_shared_out() -> None:
    with pytest.raises(InputError, match=r"'win_probability' needs all answers at once.*leave out ray"):
        score(tiny.preferences(2), "win_probability", ray=True)


@pytest.mark.parametrize(("scorer", "settings"), [("rules", {"verify": "length"}), ("judge", {"model": "m"})])
def test_without_the_extra_it_says_what_to_install(
    scorer: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    if scorer == "judge":
        settings = settings | {"url": "http://127.0.0.1:9/v1", "cache": str(tmp_path / "a.sqlite")}
    with pytest.raises(MissingExtra, match="ray is not installed; run: pip install 'pairwright\\[ray\\]'"):
        score(tiny.preferences(2), scorer, ray=True, **settings)


def test_ray_is_said_inside_of_one_of_several() -> None:
    with pytest.raises(InputError, match="score_a: ray is true or false, not 'yes'"):
        score(tiny.preferences(2), {"score_a": {"with": "rules", "verify": "length", "ray": "yes"}})
    with pytest.raises(InputError, match="ray belongs to one scorer"):
        score(tiny.preferences(2), {"score_a": {"with": "rules", "verify": "length"}}, ray=True)
