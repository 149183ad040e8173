import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from pairwright.errors import InputError, PairwrightError
from pairwright.logprobs import opened, stored
from pairwright.logprobs.segments import read
from pairwright.logprobs.store import Shelf, answer_keys
from pairwright.logprobs.stored import stored_logps


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.model(tmp_path_factory.mktemp("models") / "small")


def job(n: int = 12, *, seed: int = 0) -> dict[str, Any]:
    """Prompts with three answers each, token ids by chance."""
    draw = np.random.default_rng(seed)
    prompts = [draw.integers(7, 300, size).tolist() for size in draw.integers(3, 30, n)]
    answers = [draw.integers(7, 300, size).tolist() for size in draw.integers(1, 20, 3 * n)]
    return {"prompts": prompts, "answers": answers, "owner": [i // 3 for i in range(3 * n)]}


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many answers each call of the core was asked for, but for its own trial of layouts."""
    from pairwright.logprobs import core

    seen: list[int] = []
    real = core.answer_logps

    def count(model: Any, batch: Any, **own: Any) -> Any:
        if not own:
            seen.append(len(batch.answer_lengths))
        return real(model, batch, **own)

    monkeypatch.setattr(core, "answer_logps", count)
    return seen


def test_what_is_stored_is_not_computed_again_and_the_model_not_opened(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, work = counted(monkeypatch), job()
    first = stored_logps(**work, model=model, batch_tokens=200)
    assert sum(seen) == 36
    monkeypatch.setattr(opened, "open_model", lambda *_, **__: pytest.fail("the model was opened"))
    again = stored_logps(**work, model=model, batch_tokens=90)
    assert again.tobytes() == first.tobytes()
    turned = list(reversed(range(36)))
    mixed = {"answers": [work["answers"][i] for i in turned], "owner": [work["owner"][i] for i in turned]}
    assert stored_logps(work["prompts"], **mixed, model=model).tobytes() == first[turned].tobytes()


def test_the_values_are_those_of_a_plain_forward_pass(model: Path) -> None:
    import torch

    work = job(4)
    network = tiny.network("llama", 326).eval()
    for i, value in enumerate(stored_logps(**work, model=model, batch_tokens=150)):
        prompt, answer = work["prompts"][work["owner"][i]], work["answers"][i]
        with torch.no_grad():
            spread = torch.log_softmax(network(torch.tensor([prompt + answer])).logits[0].double(), -1)
        expected = sum(float(spread[len(prompt) + k - 1, token]) for k, token in enumerate(answer))
        assert value == pytest.approx(expected, abs=1e-4)


def test_only_what_is_new_is_computed_and_each_answer_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, work = counted(monkeypatch), job(4)
    some = {"answers": work["answers"][:5], "owner": work["owner"][:5]}
    stored_logps(work["prompts"], **some, model=model)
    assert sum(seen) == 5
    twice = {"answers": work["answers"] * 2, "owner": work["owner"] * 2}
    found = stored.find_logps(work["prompts"], **twice, model=model)
    assert sum(seen) == 12
    assert (found.known, found.computed) == (5, 7)
    assert found.logp[:12].tobytes() == found.logp[12:].tobytes()


def test_a_prompt_that_is_given_twice_is_one_tree(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pairwright.logprobs.core import Batch

    made: list[int] = []
    real = Batch.of
    monkeypatch.setattr(
        Batch, "of", lambda prompts, answers, owner: made.append(len(prompts)) or real(prompts, answers, owner)
    )
    stored_logps([[9, 8, 7], [9, 8, 7]], [[5, 2], [6, 2]], [0, 1], model=model)
    assert made[0] == 1  # the core's own trial of layouts comes after


def test_the_order_of_the_work_changes_no_bit(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    work = job()
    first = stored_logps(**work, model=model, batch_tokens=120)
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path / "other"))
    turned = np.random.default_rng(1).permutation(36).tolist()
    second = stored_logps(
        work["prompts"],
        [work["answers"][i] for i in turned],
        [work["owner"][i] for i in turned],
        model=model,
        batch_tokens=120,
    )
    assert second.tobytes() == first[turned].tobytes()


def test_where_the_answer_begins_belongs_to_the_key() -> None:
    keys = answer_keys([[1, 2], [1, 2, 3], [1, 2]], [[3, 4], [4], [3, 4]], [0, 1, 2])
    assert keys[0].tolist() == keys[2].tolist() != keys[1].tolist()
    whole = [np.array([1, 2], np.int64)], [np.array([3, 4], np.int32)], [0]
    assert answer_keys(*whole).tolist() == keys[:1].tolist()


def test_without_the_store_nothing_is_kept(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, work = counted(monkeypatch), job(2)
    one = stored_logps(**work, model=model, store=False)
    two = stored_logps(**work, model=model, store=False)
    assert sum(seen) == 12
    assert one.tobytes() == two.tobytes()
    assert not Path(os.environ["PAIRWRIGHT_CACHE"]).joinpath("logprobs").exists()


def test_a_number_that_is_not_finite_is_an_error_and_the_others_are_kept(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pairwright.logprobs import core

    work, real = job(4), core.answer_logps

    def spoiled(network: Any, batch: Any, **own: Any) -> Any:
        found = real(network, batch, **own)
        if own:
            return found
        return found._replace(logp=found.logp.where(batch.answer_lengths != min(batch.answer_lengths), float("nan")))

    monkeypatch.setattr(core, "answer_logps", spoiled)
    shortest = min(map(len, work["answers"]))
    bad = [i for i, answer in enumerate(work["answers"]) if len(answer) == shortest]
    with pytest.raises(PairwrightError, match=f"not finite for {len(bad)} answers \\(the first: {bad[0]}\\)"):
        stored_logps(**work, model=model)
    monkeypatch.setattr(core, "answer_logps", real)
    found = stored.find_logps(**work, model=model)
    assert (found.computed, found.known) == (len(bad), 12 - len(bad))


def test_a_cell_that_nobody_filled_is_an_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "batches", lambda *_, **__: [[0, 1], [3]])
    with pytest.raises(PairwrightError, match="3 answers were left without a log-probability"):
        stored_logps(**job(2), model=model)


def test_a_damaged_segment_is_said_and_computed_again(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = job(6)
    first = stored_logps(**work, model=model, batch_tokens=100)
    (segment,) = (Shelf(model, "float32").folder / "logp").glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    seen = counted(monkeypatch)
    assert stored_logps(**work, model=model, batch_tokens=100).tobytes() == first.tobytes()
    assert 0 < sum(seen) < 18
    assert "is damaged" in capsys.readouterr().err
    monkeypatch.setattr(opened, "open_model", lambda *_, **__: pytest.fail("the model was opened"))
    assert stored_logps(**work, model=model).tobytes() == first.tobytes()
    assert capsys.readouterr().err == ""  # the run before kept what was sound of it


def test_a_store_that_is_closed_to_the_user_costs_time_only(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = job(4)
    first = stored_logps(**work, model=model)
    folder, real, closed = Shelf(model, "float32").folder, os.open, PermissionError(errno.EACCES, "Permission denied")
    listed, seen = Path.iterdir, Path.is_file

    def within(path: Any) -> Any:
        if folder in (Path(path), *Path(path).parents):
            raise closed
        return path

    monkeypatch.setattr(Path, "iterdir", lambda path: listed(within(path)))
    monkeypatch.setattr(Path, "is_file", lambda path: seen(within(path)))
    monkeypatch.setattr(os, "open", lambda path, *own, **more: real(within(path), *own, **more))
    found = stored.find_logps(**work, model=model)
    assert (found.computed, found.known) == (12, 0)
    assert found.logp.tobytes() == first.tobytes()
    said = [line for line in capsys.readouterr().err.splitlines() if "Permission denied" in line]
    assert ["cannot be read" in line for line in said] == [True, False]
    assert "cannot be written (Permission denied); going on without it" in said[1]


SCRIPT = """
import json, os, sys, time
sys.path.insert(0, os.environ["TESTS"])
from pairwright.logprobs import core
from pairwright.logprobs.stored import find_logps
real = core.answer_logps
def slow(*given, **own):
    time.sleep(float(os.environ.get("PAUSE", "0")))
    return real(*given, **own)
core.answer_logps = slow
found = find_logps(**json.load(open(sys.argv[1])), model=sys.argv[2], batch_tokens=100)
open(sys.argv[3] + os.environ.get("RANK", ""), "wb").write(found.logp.tobytes())
print(json.dumps([found.computed, found.known]))
"""


def start(work: Path, model: Path, out: Path, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(work), str(model), str(out)],
        env={**os.environ, "TESTS": str(Path(__file__).parents[1]), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: "subprocess.Popen[str]") -> list[int]:
    out, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    found: list[int] = json.loads(out.splitlines()[-1])
    return found


def wait_for(at_least: int, model: Path, process: "subprocess.Popen[str]") -> None:
    """Until the store has so many records."""
    folder = Shelf(model, "float32").folder / "logp"
    until = time.monotonic() + 100
    while len(read(folder).values) < at_least:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def environment(rank: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def free_port() -> int:
    with socket.socket() as open_one:
        open_one.bind(("127.0.0.1", 0))
        return int(open_one.getsockname()[1])


@pytest.fixture
def written(tmp_path: Path) -> Path:
    file = tmp_path / "work.json"
    file.write_text(json.dumps(job(20)))
    return file


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one(
    written: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path / "one"))
    assert ended(start(written, model, tmp_path / "one.bin")) == [60, 0]
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path / "two"))
    port = free_port()
    both = [start(written, model, tmp_path / "two.bin", **environment(rank, port)) for rank in (0, 1)]
    assert [ended(process) for process in both] == [[60, 0], [60, 0]]
    alone = (tmp_path / "one.bin").read_bytes()
    assert len(alone) == 60 * 8
    assert (tmp_path / "two.bin0").read_bytes() == (tmp_path / "two.bin1").read_bytes() == alone


@pytest.mark.slow
def test_a_rank_that_is_killed_loses_nothing_that_was_stored(
    written: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    both = [start(written, model, tmp_path / "two.bin", PAUSE="0.3", **environment(rank, port)) for rank in (0, 1)]
    wait_for(10, model, both[1])
    both[1].send_signal(signal.SIGKILL)
    _, said = both[0].communicate(timeout=120)
    both[1].communicate()
    assert both[0].returncode != 0
    assert "another process of this job stopped" in said
    kept = len(read(Shelf(model, "float32").folder / "logp").values)
    assert 10 <= kept < 60
    port = free_port()
    both = [start(written, model, tmp_path / "two.bin", **environment(rank, port)) for rank in (0, 1)]
    assert [ended(process) for process in both] == [[60 - kept, kept]] * 2
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path / "fresh"))
    assert ended(start(written, model, tmp_path / "one.bin")) == [60, 0]
    assert (tmp_path / "two.bin0").read_bytes() == (tmp_path / "one.bin").read_bytes()


@pytest.mark.slow
def test_processes_that_were_given_different_work_are_told_so(model: Path, tmp_path: Path) -> None:
    port, both = free_port(), []
    for rank in (0, 1):
        file = tmp_path / f"{rank}.json"
        file.write_text(json.dumps(job(3, seed=rank)))
        both.append(start(file, model, tmp_path / "out", **environment(rank, port)))
    for process in both:
        _, said = process.communicate(timeout=120)
        assert process.returncode != 0
        assert "were not given the same data" in said


def test_a_killed_process_resumes_and_ends_in_the_same_bytes(
    written: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(written, model, tmp_path / "a.bin", PAUSE="0.2")
    wait_for(10, model, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = len(read(Shelf(model, "float32").folder / "logp").values)
    found = stored.find_logps(**json.loads(written.read_text()), model=model, batch_tokens=100)
    assert (found.computed, found.known) == (60 - kept, kept)
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path / "fresh"))
    whole = stored_logps(**json.loads(written.read_text()), model=model, batch_tokens=100)
    assert found.logp.tobytes() == whole.tobytes()


@pytest.mark.parametrize("place", ["prompts", "answers"])
def test_what_has_no_tokens_is_refused_and_not_scored_against_its_neighbour(place: str, model: Path) -> None:
    work = job(2)
    work[place][1] = []
    with pytest.raises(InputError, match=r"has no tokens; leave it out"):
        stored_logps(**work, model=model)


@pytest.mark.parametrize("place", ["prompts", "answers"])
def test_a_token_that_the_model_does_not_have_is_a_sentence_before_it_is_opened(
    place: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = json.loads((model / "config.json").read_text())["vocab_size"]
    work = job(2)
    work[place][0] = [5, rows - 1]
    stored_logps(**work, model=model)
    work[place][0] = [5, rows]
    monkeypatch.setattr(stored, "OpenedModel", None)
    with pytest.raises(InputError, match=rf"has {rows} tokens, .* a token of number {rows}, .*--tokenizer"):
        stored_logps(**work, model=model)


def test_a_model_that_is_opened_to_score_keeps_nothing_for_a_backward_pass(model: Path) -> None:
    network = opened.OpenedModel(model, "float32")._network
    assert not any(weight.requires_grad for weight in network.parameters())
