import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tiny
from pairwright.cli import main
from pairwright.errors import InputError
from pairwright.logprobs.store import prune, stored


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.model(tmp_path_factory.mktemp("models") / "small")


def filled(model: Path, tmp_path: Path) -> Path:
    """Two entries: four answers in float32, and the same in bfloat16, unused for 40 days."""
    data = tiny.preferences(2).save(tmp_path / "data")
    for dtype in ("float32", "bfloat16"):
        call = ["logprobs", str(data), "-o", str(tmp_path / dtype), "--model", str(model), "--dtype", dtype]
        assert main(call) == 0
    (old,) = [entry for entry in stored() if entry.dtype == "bfloat16"]
    before = time.time() - 40 * 86_400
    os.utime(old.folder / "entry.json", (before, before))
    return data


def test_prune_shows_what_there_is_and_removes_nothing_by_itself(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(model, tmp_path)
    capsys.readouterr()
    assert main(["logprobs", "--prune", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)["entries"]
    assert [(e["model"], e["dtype"], e["answers"], e["removed"]) for e in entries] == [
        ("small", "bfloat16", 4, False),
        ("small", "float32", 4, False),
    ]
    # A frame of one batch of four records: 32 bytes before, 24 for each.
    assert entries[0]["bytes"] == 32 + 4 * 24 + (Path(entries[0]["folder"]) / "entry.json").stat().st_size
    assert entries[0]["unused"] == pytest.approx(40, abs=0.01)
    assert main(["logprobs", "--prune"]) == 0
    shown = capsys.readouterr().out
    assert "40 days ago" in shown
    assert "2 entries" in shown


def test_prune_removes_what_was_not_used_and_the_rest_stays(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = filled(model, tmp_path)
    assert main(["logprobs", "--prune", "--unused", "30"]) == 0
    assert "1 entries" in capsys.readouterr().out
    assert [entry.dtype for entry in stored()] == ["float32"]
    assert main(["logprobs", str(data), "-o", str(tmp_path / "again"), "--model", str(model)]) == 0
    assert "logp_small: 4 answers from the store, 0 computed" in capsys.readouterr().err


def test_everything_goes_only_with_a_yes(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(model, tmp_path)
    assert main(["logprobs", "--prune", "--everything"]) == 2
    assert "add --yes to do it" in capsys.readouterr().err
    assert len(stored()) == 2
    assert main(["logprobs", "--prune", "--everything", "--yes"]) == 0
    assert stored() == []
    assert main(["logprobs", "--prune"]) == 0
    assert "is empty" in capsys.readouterr().out


def test_a_model_goes_by_its_name_or_its_place(model: Path, tmp_path: Path) -> None:
    filled(model, tmp_path)
    with pytest.raises(InputError, match="the store has no model 'smal'; it has small"):
        prune(model="smal")
    with pytest.raises(InputError, match="leave one out"):
        prune(model="small", everything=True)
    assert [entry.dtype for entry in prune(model="small", unused=30)] == ["bfloat16"]
    assert [entry.dtype for entry in prune(model=str(model))] == ["float32"]


def test_without_the_store_nothing_is_kept(model: Path, tmp_path: Path) -> None:
    data = tiny.preferences(2).save(tmp_path / "data")
    call = ["logprobs", str(data), "-o", str(tmp_path / "out"), "--model", str(model), "--no-store"]
    assert main(call) == 0
    assert stored() == []


def test_of_several_processes_the_first_writes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tiny.preferences(2).save(tmp_path / "data")
    for rank, wrote in (("1", False), ("0", True)):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", rank)
        assert main(["pair", str(data), "-o", str(tmp_path / "out")]) == 0
        assert (tmp_path / "out").exists() is wrote
        assert bool(capsys.readouterr().out) is wrote


@pytest.mark.slow
def test_two_processes_of_accelerate_write_the_bytes_of_one(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny.preferences(40).save(tmp_path / "data")
    words = ["pairwright", "logprobs", str(data), "--model", str(model), "--batch-tokens", "300"]
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    launch = [
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        "2",
        "--main_process_port",
        "0",
        "--module",
    ]
    for name, command in (("one", words), ("two", [*launch, *words])):
        monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path / f"store-{name}"))
        done = subprocess.run(
            [sys.executable, "-m", *command, "-o", str(tmp_path / name)], capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("40 pairs") == 1
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["manifest.json", "pairs.parquet", "prompts.parquet", "responses.parquet"]
    for name in files:
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    # Each process had a segment of its own, and its share in it.
    segments = list((tmp_path / "store-two").glob("logprobs/*/logp/*.seg"))
    assert len(segments) == 2
    assert min(path.stat().st_size for path in segments) > 24 * 20
