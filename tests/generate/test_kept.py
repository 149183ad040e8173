"""A job that is killed goes on where it was and ends with the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time

import polars as pl
import pytest

import tiny
from pairwright.chat import prompt_id, user
from pairwright.cli import main
from pairwright.errors import InputError
from pairwright.generate import ENGINES, generate
from pairwright.generate.kept import Kept, key_of, what_it_is
from pairwright.generate.request import Drawn, Request
from pairwright.preferences import Preferences

torch = pytest.importorskip("torch")

A, B = Drawn("a é", "eos", -1.25, 3), Drawn("", "length")


def questions(count):
    prompts = [[user(f"{tiny.WORDS[i % 20]} {i}")] for i in range(count)]
    frame = pl.DataFrame({"prompt_id": [prompt_id(each) for each in prompts], "prompt": prompts})
    return Preferences.of(frame, tiny.preferences(1).responses.head(0), None)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.model(tmp_path_factory.mktemp("models") / "small")


def test_what_is_put_is_found_by_the_same_job_and_by_no_other(tmp_path):
    with Kept(tmp_path / "k", "one") as kept:
        assert kept.drawn == {}
        kept.put([(4, A), (0, B)])
        kept.put([])
        assert Kept(tmp_path / "k", "one").drawn == {4: A, 0: B}
        kept.put([(1, A)])
    assert Kept(tmp_path / "k", "one").drawn == {4: A, 0: B, 1: A}
    with Kept(tmp_path / "k", "two") as other:
        assert other.drawn == {}
        other.put([(0, A)])
    assert Kept(tmp_path / "k", "two").drawn == {0: A}
    assert Kept(tmp_path / "k", "one").drawn == {}  # what another job left is not kept for ever


def test_nothing_is_written_before_something_is_done(tmp_path):
    with Kept(tmp_path / "k", "one"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", range(2, 40, 3))
def test_half_a_line_is_passed_over_and_does_not_spoil_the_next(tmp_path, left):
    with Kept(tmp_path, "one") as kept:
        kept.put([(0, A)])
        kept.put([(1, A)])
    file = tmp_path / "answers.jsonl"
    file.write_bytes(file.read_bytes()[:-left])
    with Kept(tmp_path, "one") as kept:
        assert kept.drawn == {0: A}
        kept.put([(1, B)])
    assert Kept(tmp_path, "one").drawn == {0: A, 1: B}


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "k").write_text("a file")
    with pytest.raises(InputError, match=r"answers cannot be kept in .*choose another place"):
        Kept(tmp_path / "k", "one")


def test_everything_that_decides_an_answer_is_in_the_key():
    request = Request([user("x")], "", 5)
    settings = {"model": "there", "temperature": 1.0}
    key = key_of([request], "hf", settings, "digest")
    assert key == key_of([request._replace(answered=True)], "hf", settings | {"model": "elsewhere"}, "digest")
    others = [
        key_of([request, request], "hf", settings, "digest"),
        key_of([request._replace(seed=6)], "hf", settings, "digest"),
        key_of([request._replace(keep="y")], "hf", settings, "digest"),
        key_of([request._replace(prompt=[user("y")])], "hf", settings, "digest"),
        key_of([request], "vllm", settings, "digest"),
        key_of([request], "hf", settings | {"temperature": 0.5}, "digest"),
        key_of([request], "hf", settings, "another"),
    ]
    assert len({key, *others}) == 8


def test_a_model_is_its_weights_and_its_tokenizer_wherever_it_lies(model, tmp_path):
    for path in model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert what_it_is(tmp_path) == what_it_is(model)
    template = (tmp_path / "chat_template.jinja").read_text()
    (tmp_path / "chat_template.jinja").write_text(template + " ")
    assert what_it_is(tmp_path) != what_it_is(model)
    assert what_it_is("owner/name") == "owner/name"


def test_only_what_is_missing_is_drawn(monkeypatch, tmp_path, model):
    asked = []

    def slow(requests, *, model, temperature, top_p, max_new_tokens, stop_after=99):
        for i, request in enumerate(requests):
            if not request.answered:
                asked.append(i)
                if len(asked) == stop_after:
                    raise KeyboardInterrupt
                yield [(i, Drawn(f"answer {i}", "eos") if i != 2 else Drawn(None, "too_dark"))]

    monkeypatch.setitem(ENGINES, "slow", slow)
    prefs = questions(3)
    whole = generate(model, prefs, n=2, engine="slow")
    asked.clear()
    with pytest.raises(KeyboardInterrupt):
        generate(model, prefs, n=2, engine="slow", keep=tmp_path, stop_after=5)
    asked.clear()
    # `stop_after` decides nothing here, but a setting of an engine is one of the job's.
    assert generate(model, prefs, n=2, engine="slow", keep=tmp_path).responses.collect().height == 5
    assert asked == [0, 1, 2, 3, 4, 5]
    asked.clear()
    made = generate(model, prefs, n=2, engine="slow", keep=tmp_path)
    assert made == whole
    assert asked == [2]  # without an answer, so asked for again
    assert made.dropped == {"too_dark": 1}


def test_an_engine_that_loses_answers_is_found_out(monkeypatch, model):
    def short(requests, *, model, temperature, top_p, max_new_tokens):
        return [Drawn("x", "eos")]

    def shorter(requests, *, model, temperature, top_p, max_new_tokens):
        yield [(0, Drawn("x", "eos"))]

    for engine in (short, shorter):
        monkeypatch.setitem(ENGINES, "short", engine)
        with pytest.raises(Exception, match="the engine gave 1 answers to 2 requests"):
            generate(model, questions(2), engine="short")


@pytest.mark.parametrize("stops", [(2,), (1, 3)])
def test_an_interrupted_job_ends_with_the_bytes_of_one_at_once(model, tmp_path, monkeypatch, stops):
    """Batches are what they are in the whole job, so even the last bits of the log-probabilities are the same."""
    from pairwright.generate.drawing import OpenedSampler

    settings = {"n": 3, "max_new_tokens": 8, "batch_size": 4, "name": "m"}
    whole = generate(model, questions(6), **settings)
    drawn, original = [], OpenedSampler.answers

    def answers(self, wanted):
        if len(drawn) in stops and drawn[-1] != "stopped":
            drawn.append("stopped")
            raise KeyboardInterrupt
        drawn.append(wanted)
        return original(self, wanted)

    monkeypatch.setattr(OpenedSampler, "answers", answers)
    for _ in stops:
        with pytest.raises(KeyboardInterrupt):
            generate(model, questions(6), keep=tmp_path / "keep", **settings)
    made = generate(model, questions(6), keep=tmp_path / "keep", **settings)
    assert made.responses.collect().equals(whole.responses.collect())
    assert made == whole
    batches = [each for each in drawn if each != "stopped"]
    assert len(batches) == 5  # 18 answers, four at a time, none twice
    again = generate(model, questions(6), keep=tmp_path / "keep", **settings)
    assert again == whole
    assert len(drawn) == 5 + len(stops)


COMMAND = """
import os, signal, sys
from pairwright.cli import main
from pairwright.generate.drawing import OpenedSampler

original, left = OpenedSampler.answers, [int(sys.argv[1])]

def answers(self, wanted):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return original(self, wanted)

OpenedSampler.answers = answers
sys.exit(main(sys.argv[2:]))
"""


def run(after, *arguments):
    return subprocess.run(
        [sys.executable, "-c", COMMAND, str(after), "generate", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_a_killed_command_goes_on_and_leaves_only_its_output(model, tmp_path):
    data = questions(6).save(tmp_path / "data")
    own = ["--prompts", str(data), "-n", "3", "--max-new-tokens", "8", "--batch-size", "4"]
    assert run(99, str(model), *own, "-o", str(tmp_path / "whole")).returncode == 0
    killed = run(3, str(model), *own, "-o", str(tmp_path / "out"))
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    lines = (tmp_path / "out.unfinished" / "answers.jsonl").read_text().splitlines()
    assert [len(json.loads(line)["answers"]) for line in lines] == [4, 4, 4]
    done = run(2, str(model), *own, "-o", str(tmp_path / "out"))  # two batches are left, and no more
    assert done.returncode == 0, done.stderr
    assert "12 of 18 answers are there from an earlier attempt" in done.stderr
    for name in ("prompts.parquet", "responses.parquet", "manifest.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"data", "whole", "out"}


def test_a_step_of_a_recipe_goes_on_too(model, tmp_path, monkeypatch):
    from pairwright.generate.drawing import OpenedSampler
    from pairwright.pipeline import run as run_recipe

    data = questions(4).save(tmp_path / "data")
    recipe = [
        {"name": "data", "do": "read", "source": str(data)},
        {"name": "answers", "do": "generate", "model": str(model), "n": 2, "max_new_tokens": 6, "batch_size": 2},
    ]
    whole = run_recipe(recipe, output=tmp_path / "whole")
    drawn, original = [], OpenedSampler.answers

    def answers(self, wanted):
        drawn.append(wanted)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return original(self, wanted)

    monkeypatch.setattr(OpenedSampler, "answers", answers)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, output=tmp_path / "run")
    done = run_recipe(recipe, output=tmp_path / "run")
    assert len(drawn) == 5
    assert done.steps[1].outputs == whole.steps[1].outputs
    assert {path.name for path in (tmp_path / "run" / "02-answers").iterdir()} == {"data", "done.json", "settings.json"}


def test_progress_says_rate_and_time_left(monkeypatch, model, capsys):
    def slow(requests, *, model, temperature, top_p, max_new_tokens):
        for i in range(len(requests)):
            time.sleep(0.01)
            yield [(i, Drawn("x", "eos"))]

    monkeypatch.setitem(ENGINES, "slow", slow)
    monkeypatch.setattr("pairwright.progress.PATIENCE", 0.0)
    monkeypatch.setattr("pairwright.progress.EVERY", {True: 0.0, False: 0.0})
    generate(model, questions(3), engine="slow")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("generate: 1/3 answers")
    assert lines[-1].startswith("generate: 3/3 answers")
    assert "answers/s" in lines[-1]
    assert lines[-1].endswith("0:00 left")


def test_the_command_writes_over_what_is_there_and_forgets_what_it_kept(model, tmp_path):
    data = questions(2).save(tmp_path / "data")
    command = ["generate", str(model), "--prompts", str(data), "--max-new-tokens", "4", "-o", str(tmp_path / "o.jsonl")]
    assert main(command) == 0
    first = (tmp_path / "o.jsonl").read_bytes()
    assert main([*command, "--stop", "zzz"]) == 0
    assert (tmp_path / "o.jsonl").read_bytes() == first
    assert {path.name for path in tmp_path.iterdir()} == {"data", "o.jsonl", "o.jsonl.manifest.json"}
