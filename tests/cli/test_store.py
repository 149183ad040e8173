import inspect
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from pairwright.cli import main
from pairwright.errors import InputError, PairwrightError
from pairwright.logprobs import segments, store
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


def test_no_days_unused_is_everything_and_a_yes_alone_is_nothing(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(model, tmp_path)
    assert main(["logprobs", "--prune", "--unused", "0"]) == 2
    assert "--unused 0 empties the store" in capsys.readouterr().err
    assert main(["logprobs", "--prune", "--yes"]) == 2
    assert "--yes alone removes nothing" in capsys.readouterr().err
    assert len(stored()) == 2
    assert main(["logprobs", "--prune", "--unused", "0", "--yes"]) == 0
    assert stored() == []
    filled(model, tmp_path / "again")
    assert main(["logprobs", "--prune", "--unused", "0", "--model", "small"]) == 0
    assert stored() == []


def test_what_could_not_be_removed_is_named_and_not_called_removed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(model, tmp_path)
    (kept,) = [entry.folder for entry in stored() if entry.dtype == "float32"]
    real = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", lambda path, **own: None if path == kept else real(path, **own))
    capsys.readouterr()
    assert main(["logprobs", "--prune", "--everything", "--yes", "--json"]) == 1
    shown = capsys.readouterr()
    assert [(e["dtype"], e["removed"]) for e in json.loads(shown.out)["entries"]] == [
        ("bfloat16", True),
        ("float32", False),
    ]
    assert f"could not remove {kept};" in shown.err
    assert main(["logprobs", "--prune", "--everything", "--yes"]) == 1
    shown = capsys.readouterr()
    assert "1 entries" in shown.out
    assert "removed" not in shown.out
    with pytest.raises(PairwrightError, match=f"could not remove {kept}"):
        prune(everything=True)


def test_the_store_is_read_once_to_prune_it(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(model, tmp_path)
    looked: list[Path] = []
    real = store.read
    monkeypatch.setattr(store, "read", lambda folder: looked.append(folder) or real(folder))
    assert main(["logprobs", "--prune", "--model", "small"]) == 0
    assert len(looked) == len(set(looked)) == 2


@pytest.mark.parametrize("text", ["[]", "3", "{", '{"name": null}'])
def test_an_entry_that_says_nothing_sound_is_shown_all_the_same(text: str, model: Path, tmp_path: Path) -> None:
    filled(model, tmp_path)
    for entry in stored():
        (entry.folder / "entry.json").write_text(text)
    assert [entry.answers for entry in stored()] == [4, 4]
    assert len(prune(everything=True)) == 2


def test_the_store_is_looked_at_and_pruned_while_others_write_to_it() -> None:
    failed: list[Exception] = []

    def guarded(act: Callable[[], object], times: int) -> None:
        try:
            for _ in range(times):
                act()
        except Exception as error:
            failed.append(error)

    def write() -> None:
        for name in ("one", "two", "three"):
            folder = store.shelves_place() / name / "logp"
            with segments.Writer(folder) as writer:
                writer.put(np.ones((1, 2), np.uint64), np.ones(1))
            segments.compact(folder, many=3)

    def clear() -> None:
        with suppress(PairwrightError):  # whose folder a writer made again at once
            prune(everything=True)

    acts = [(write, 60), (stored, 60), (clear, 30), (clear, 30)]
    threads = [threading.Thread(target=guarded, args=each) for each in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_an_entry_that_goes_away_meanwhile_is_none(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(model, tmp_path)
    (old,) = [entry.folder for entry in stored() if entry.dtype == "bfloat16"]
    real = Path.stat

    def gone(path: Path, **own: Any) -> os.stat_result:
        seen = real(path, **own)
        if path == old and inspect.stack()[1].function == "_entry":
            raise FileNotFoundError(str(path))
        return seen

    monkeypatch.setattr(Path, "stat", gone)
    assert [entry.dtype for entry in stored()] == ["float32"]


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
