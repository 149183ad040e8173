"""Run directories: nothing half written is ever taken for finished."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pairwright import runs
from pairwright.errors import InputError, PairwrightError


def asked(**changes):
    return runs.Asked(**({"step": "a", "verb": "pair", "settings": {"x": 1}, "inputs": {"step:data": "00"}} | changes))


def made(directory: Path, question: runs.Asked, text: str = "result") -> runs.Done:
    runs.begin(directory, question)
    (directory / "data").mkdir()
    (directory / "data" / "rows.txt").write_text(text)
    return runs.finish(directory, question, seconds=0.5, headline={"pairs": 2})


def write_and_fail(target: Path) -> None:
    with runs.write_beside(target) as temporary:
        temporary.write_text("half")
        assert target.read_text() == "old"
        raise ValueError("the rest cannot be said")


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(ValueError, match="cannot be said"):
        write_and_fail(target)
    assert target.read_text() == "old"
    with runs.write_beside(target) as temporary:
        temporary.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert target.read_text() == "new"


def test_a_directory_takes_the_place_of_an_old_one_whole(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with runs.write_beside(target) as temporary:
        temporary.mkdir()
        (temporary / "new.txt").write_text("new")
    assert [path.name for path in target.iterdir()] == ["new.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_never_takes_the_place_of_a_directory_nor_a_directory_that_of_a_file(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "part-0").write_text("precious")
    with pytest.raises(InputError, match="out is a directory, and a file is to be written"):
        runs.write_text(tmp_path / "out", "new")
    assert (tmp_path / "out" / "part-0").read_text() == "precious"
    (tmp_path / "file").write_text("old")
    with (
        pytest.raises(InputError, match="file is a file, and a directory is to be written"),
        runs.write_beside(tmp_path / "file") as temporary,
    ):
        temporary.mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "out"]


@pytest.mark.parametrize(
    ("name", "says"),
    [("", "no name for an output"), (".", "no name"), ("..", "no name"), ("file/below.txt", "cannot be made a dir")],
)
def test_a_path_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch, name, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("old")
    with pytest.raises(InputError, match=says):
        runs.write_text(name, "new")
    monkeypatch.setattr("pairwright.runs.os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(InputError, match="nothing may be written into"):
        runs.write_text("other.txt", "new")


def test_a_directory_that_another_process_put_there_meanwhile_is_exchanged(tmp_path, monkeypatch):
    target = tmp_path / "out"
    replace = Path.replace

    def late(self, other):
        monkeypatch.undo()
        (target / "theirs").mkdir(parents=True)
        return replace(self, other)

    with runs.write_beside(target) as temporary:
        temporary.mkdir()
        (temporary / "ours.txt").write_text("ours")
        monkeypatch.setattr(Path, "replace", late)
    assert [path.name for path in target.iterdir()] == ["ours.txt"]


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_what_a_killed_writer_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path):
    dead, alive = tmp_path / f".a.txt.{dead_pid()}.part", tmp_path / f".a.txt.{os.getppid()}.part"
    dead.write_text("half")
    alive.write_text("half")
    runs.write_text(tmp_path / "a.txt", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name, "a.txt"]


def test_the_old_directory_survives_a_kill_between_the_two_renames(tmp_path):
    old = tmp_path / f".out.{dead_pid()}.old"
    old.mkdir()
    (old / "kept.txt").write_text("kept")
    with pytest.raises(RuntimeError), runs.write_beside(tmp_path / "out"):
        raise RuntimeError
    assert (tmp_path / "out" / "kept.txt").read_text() == "kept"


def test_digests_are_sha256_of_the_bytes_by_path(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.txt").write_bytes(b"2")
    (tmp_path / "a.txt").write_bytes(b"1" * (runs.CHUNK + 1))
    (tmp_path / ".hidden").write_bytes(b"3")
    one, two = hashlib.sha256(b"1" * (runs.CHUNK + 1)).hexdigest(), hashlib.sha256(b"2").hexdigest()
    assert runs.digests(tmp_path) == {"a.txt": one, "b/two.txt": two}
    assert list(runs.digests(tmp_path)) == ["a.txt", "b/two.txt"]
    lines = f"a.txt\0{one}\nb/two.txt\0{two}\n".encode()
    assert runs.digest(tmp_path) == hashlib.sha256(lines).hexdigest()
    assert runs.digest(tmp_path / "a.txt") == one


def test_digests_leave_out_what_python_keeps_of_sources(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.py").write_text("x = 1\n")
    (tmp_path / "__pycache__notes").write_text("a name that only begins alike")
    before = runs.digests(tmp_path), runs.digest(tmp_path)
    assert list(before[0]) == ["__pycache__notes", "deep/a.py"]
    for folder in (tmp_path, tmp_path / "deep"):
        (folder / "__pycache__").mkdir()
        (folder / "__pycache__" / "a.cpython-311.pyc").write_bytes(b"1")
    assert (runs.digests(tmp_path), runs.digest(tmp_path)) == before


def test_a_number_that_json_cannot_say_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        runs.write_json(tmp_path / "x.json", {"value": float("nan")})
    assert not list(tmp_path.iterdir())


def test_versions_are_read_without_an_import():
    code = "from pairwright.runs import versions; import sys; v = versions(); assert 'python' in v, v; "
    code += "assert 'torch' not in sys.modules and 'transformers' not in sys.modules; print(v['pydantic'])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.count(".") >= 1


def test_a_step_is_done_when_it_did_this_and_its_outputs_are_as_it_left_them(tmp_path):
    directory = tmp_path / "01-a"
    done = made(directory, asked())
    record = json.loads((directory / "done.json").read_text())
    assert set(record) >= {"step", "verb", "settings", "inputs", "outputs", "versions", "seconds"}
    assert record["outputs"] == {"data/rows.txt": hashlib.sha256(b"result").hexdigest()}
    assert runs.finished(directory, asked()) == done
    assert runs.finished(directory, asked(settings={"x": 2})) is None
    assert runs.finished(directory, asked(inputs={"step:data": "01"})) is None
    (directory / "data" / "rows.txt").write_text("resul")
    assert runs.finished(directory, asked()) is None


def test_an_output_too_few_is_not_done_and_a_file_too_many_is_somebodys_own(tmp_path):
    directory = tmp_path / "01-a"
    done = made(directory, asked())
    (directory / "more.txt").write_text("my notes")
    assert runs.finished(directory, asked()) == done
    (directory / "data" / "rows.txt").unlink()
    assert runs.finished(directory) is None


def test_a_finished_training_may_be_asked_more_questions_and_is_not_trained_again_for_it(tmp_path):
    directory = tmp_path / "01-a"
    runs.begin(directory, asked())
    (directory / "model.txt").write_text("weights")
    (directory / "probes").mkdir()
    (directory / "probes" / "probes.json").write_text("{}")
    done = runs.finish(directory, asked(), seconds=1, headline={})
    (directory / "probes" / "probes.json").write_text('{"samples": 1}')
    assert runs.finished(directory, asked()) == done
    (directory / "probes" / "probes.json").unlink()
    assert runs.finished(directory, asked()) is None


def test_what_no_step_wrote_is_neither_found_nor_removed(tmp_path):
    """A name like that of a step is not enough, and neither is a `settings.json` of another program or step."""
    made(tmp_path / "02-a", asked())
    holiday, other = tmp_path / "99-holiday", tmp_path / "2024-a"
    for directory in (holiday, other, tmp_path / "03-empty"):
        directory.mkdir()
    (holiday / "settings.json").write_text('{"camera": "old"}')
    (other / "settings.json").write_text((tmp_path / "02-a" / "settings.json").read_text().replace('"a"', '"b"'))
    assert runs.find_step(tmp_path, 1, "a") == tmp_path / "02-a"
    assert runs.find_step(tmp_path, 1, "holiday") == tmp_path / "01-holiday"
    assert runs.clear(tmp_path) == [tmp_path / "02-a"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["03-empty", "2024-a", "99-holiday"]


@pytest.mark.parametrize("resumable", [False, True])
def test_a_step_does_not_begin_where_somebody_elses_files_are(tmp_path, resumable):
    directory = tmp_path / "01-a"
    directory.mkdir()
    (directory / "precious.txt").write_text("mine")
    with pytest.raises(InputError, match=r"01-a is in the way of a step .* move it away"):
        runs.begin(directory, asked(), resumable=resumable)
    assert [path.name for path in directory.iterdir()] == ["precious.txt"]
    (tmp_path / "02-a").write_text("a file")
    with pytest.raises(InputError, match="02-a is in the way"):
        runs.begin(tmp_path / "02-a", asked())


def test_a_step_that_was_killed_before_its_first_record_begins_again(tmp_path):
    directory = tmp_path / "01-a"
    directory.mkdir()
    (directory / f".settings.json.{dead_pid()}.part").write_text("{")
    runs.begin(directory, asked())
    assert [path.name for path in directory.iterdir()] == ["settings.json"]


def test_a_step_that_is_being_removed_says_whose_it_is_until_the_end(tmp_path, monkeypatch):
    directory = tmp_path / "01-a"
    made(directory, asked())
    seen = []
    remove = runs._remove

    def watched(path):
        seen.append((path.name, runs.find_steps(tmp_path) == [directory]))
        remove(path)

    monkeypatch.setattr(runs, "_remove", watched)
    runs.clear(tmp_path)
    assert seen == [("data", True), ("done.json", True), ("settings.json", True), ("01-a", False)]


def test_a_broken_record_is_no_record(tmp_path):
    directory = tmp_path / "01-a"
    made(directory, asked())
    (directory / "done.json").write_text('{"step": "a"')
    assert runs.finished(directory) is None
    assert runs.finished(tmp_path / "02-b") is None


def test_a_half_done_step_starts_from_an_empty_directory(tmp_path):
    directory = tmp_path / "01-a"
    runs.begin(directory, asked())
    (directory / "half").write_text("")
    runs.begin(directory, asked())
    assert [path.name for path in directory.iterdir()] == ["settings.json"]


def test_a_half_done_training_keeps_its_checkpoints_only_for_the_same_training(tmp_path):
    directory = tmp_path / "01-a"
    runs.begin(directory, asked(), resumable=True)
    (directory / "checkpoints").mkdir()
    runs.begin(directory, asked(), resumable=True)
    assert (directory / "checkpoints").is_dir()
    runs.begin(directory, asked(settings={"x": 2}), resumable=True)
    assert not (directory / "checkpoints").exists()


def test_a_finished_training_that_must_run_again_starts_over(tmp_path):
    directory = tmp_path / "01-a"
    made(directory, asked())
    (directory / "checkpoints").mkdir()
    runs.begin(directory, asked(), resumable=True)
    assert [path.name for path in directory.iterdir()] == ["settings.json"]


def test_the_digest_of_a_part_does_not_see_the_rest(tmp_path):
    done = made(tmp_path / "01-a", asked())
    other = done.model_copy(update={"outputs": {**done.outputs, "metrics.jsonl": "77"}})
    assert done.digest("data") == other.digest("data")
    assert done.digest() != other.digest()


def test_a_step_keeps_its_work_under_another_number(tmp_path):
    made(tmp_path / "02-a", asked())
    assert runs.find_step(tmp_path, 3, "a") == tmp_path / "02-a"
    assert runs.find_step(tmp_path, 2, "a") == tmp_path / "02-a"
    assert runs.find_step(tmp_path, 3, "b") == tmp_path / "03-b"
    assert [path.name for path in runs.find_steps(tmp_path)] == ["02-a"]


def test_clearing_a_run_removes_its_steps_and_nothing_else(tmp_path):
    made(tmp_path / "02-a", asked())
    (tmp_path / "notes.txt").write_text("mine")
    runs.clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(InputError, match="is a file"):
        runs.clear(tmp_path / "notes.txt")


HOLD = """
import sys, time
from pairwright.runs import lock
with lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_processes_do_not_work_in_one_run_and_a_killed_one_leaves_no_lock(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    with pytest.raises(PairwrightError, match=f"process {child.pid} on .*choose another -o"), runs.lock(tmp_path):
        pass
    child.kill()
    child.wait()
    child.stdout.close()
    with runs.lock(tmp_path):
        pass
    with runs.lock(tmp_path):
        pass
