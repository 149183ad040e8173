import errno
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pairwright import place
from pairwright.logprobs import segments
from pairwright.logprobs.segments import Records, Writer, compact, frame, read


def records(first: int, n: int) -> Records:
    """Keys first..first+n-1 in the first word, and ten times that as values."""
    at = np.arange(first, first + n)
    return Records(np.stack([at, at + 7], axis=1).astype(np.uint64), at * 10.0)


def as_dict(found: Records) -> dict[int, float]:
    return dict(zip(found.keys[:, 0].tolist(), found.values.tolist(), strict=True))


def written(folder: Path, *parts: Records) -> Path:
    with Writer(folder) as writer:
        for part in parts:
            writer.put(*part)
    (segment,) = folder.glob("*.seg")
    return segment


def test_what_is_put_is_read_while_the_segment_grows_and_after(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "logp")
    assert not len(read(tmp_path / "logp").values)
    writer.put(*records(0, 3))
    assert as_dict(read(tmp_path / "logp")) == {0: 0.0, 1: 10.0, 2: 20.0}
    writer.put(*records(3, 1))
    assert len(read(tmp_path / "logp").values) == 4
    writer.close()
    assert as_dict(read(tmp_path / "logp")) == {0: 0.0, 1: 10.0, 2: 20.0, 3: 30.0}
    assert [path.suffix for path in (tmp_path / "logp").iterdir()] == [".seg"]


def test_a_frame_has_the_bytes_that_the_format_says() -> None:
    import hashlib

    keys = np.array([[1, 2]], np.uint64)
    data = frame(keys, np.array([-1.5]))
    payload = b"\1" + bytes(7) + b"\2" + bytes(7) + bytes.fromhex("000000000000f8bf")
    start = b"pwl1" + bytes([1, 0, 0, 0]) + bytes([24, 0, 0, 0, 0, 0, 0, 0])
    assert data == start + hashlib.blake2b(start + payload, digest_size=16).digest() + payload


@pytest.mark.parametrize("cut", [1, 20, 40, 87])
def test_half_a_frame_at_the_end_of_an_open_segment_is_left_alone(
    cut: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = frame(*records(0, 2)) + frame(*records(2, 3))
    (tmp_path / "a.open").write_bytes(data[:-cut])
    assert as_dict(read(tmp_path)) == {0: 0.0, 1: 10.0}
    assert capsys.readouterr().err == ""
    (tmp_path / "a.open").rename(tmp_path / "a.seg")
    assert as_dict(read(tmp_path)) == {0: 0.0, 1: 10.0}
    assert "a.seg is damaged (it ends in half a frame" in capsys.readouterr().err


def test_a_flipped_bit_anywhere_is_said_and_never_trusted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = frame(*records(0, 1)) + frame(*records(1, 1)) + frame(*records(2, 1))
    size = len(whole) // 3
    for at in range(size, 2 * size):
        spoiled = bytearray(whole)
        spoiled[at] ^= 0x10
        (tmp_path / "a.seg").write_bytes(spoiled)
        assert as_dict(read(tmp_path)) == {0: 0.0}
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "is damaged" in said
    (tmp_path / "b.seg").write_bytes(frame(*records(8, 1)))
    assert as_dict(read(tmp_path)) == {0: 0.0, 8: 80.0}


def test_threads_that_write_and_read_at_once_see_whole_records_only(tmp_path: Path) -> None:
    failed: list[str] = []

    def write(first: int) -> None:
        for k in range(20):
            with Writer(tmp_path) as writer:
                writer.put(*records(first + k, 1))
            compact(tmp_path, many=5)

    def look() -> None:
        for _ in range(30):
            found = read(tmp_path)
            if (
                not (found.keys[:, 0] * 10 == found.values).all()
                or not (found.keys[:, 1] == found.keys[:, 0] + 7).all()
            ):
                failed.append("half a record")

    threads = [threading.Thread(target=write, args=(1000 * i,)) for i in range(4)] + [threading.Thread(target=look)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert as_dict(read(tmp_path)) == {1000 * i + k: 10.0 * (1000 * i + k) for i in range(4) for k in range(20)}


def test_many_small_segments_become_one_and_nothing_is_lost(tmp_path: Path) -> None:
    for i in range(6):
        with Writer(tmp_path) as writer:
            writer.put(*records(i, 2))  # each key but the ends is there twice
    growing = Writer(tmp_path)
    growing.put(*records(50, 1))
    assert not compact(tmp_path, many=6)
    assert compact(tmp_path, many=5)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".open", ".seg"]
    assert sorted(read(tmp_path).keys[:, 0].tolist()) == [0, 1, 2, 3, 4, 5, 6, 50]
    growing.put(*records(51, 1))
    growing.close()
    assert len(read(tmp_path).values) == 9


def test_a_segment_that_a_killed_process_left_open_is_merged_a_day_later(tmp_path: Path) -> None:
    (tmp_path / "a.open").write_bytes(frame(*records(0, 2)) + frame(*records(2, 3))[:-5])
    written(tmp_path, records(9, 1))
    assert not compact(tmp_path, many=1)
    yesterday = time.time() - segments._STALE - 60
    os.utime(tmp_path / "a.open", (yesterday, yesterday))
    assert compact(tmp_path, many=1)
    assert [path.suffix for path in tmp_path.iterdir()] == [".seg"]
    assert as_dict(read(tmp_path)) == {0: 0.0, 1: 10.0, 9: 90.0}


def test_a_writer_that_slept_begins_a_new_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_PAUSE", -1.0)
    with Writer(tmp_path) as writer:
        writer.put(*records(0, 1))
        writer.put(*records(1, 1))
    assert len(list(tmp_path.glob("*.seg"))) == 2
    assert as_dict(read(tmp_path)) == {0: 0.0, 1: 10.0}


def test_a_store_that_cannot_be_written_is_said_once_and_does_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    with Writer(tmp_path / "file" / "logp") as writer:
        writer.put(*records(0, 1))
        writer.put(*records(1, 1))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "cannot be written (Not a directory); going on without it" in said


def test_keys_that_share_a_word_or_are_there_twice_are_told_apart() -> None:
    keys = np.array([[5, 9], [5, 1], [2, 9], [5, 9], [7, 0]], np.uint64)
    have = Records(keys, np.array([1.0, 2.0, 3.0, 1.0, 4.0]))
    asked = np.array([[2, 1], [2, 9], [5, 0], [5, 1], [5, 9], [5, 10], [7, 0], [8, 0]], np.uint64)
    found = segments.look_up(have, asked)
    assert [None if np.isnan(each) else each for each in found] == [None, 3.0, None, 2.0, 1.0, None, 4.0, None]
    assert segments.unique(have).keys.tolist() == [[2, 9], [5, 1], [5, 9], [7, 0]]
    assert np.isnan(segments.look_up(Records.joined([]), asked)).all()


def test_a_look_up_agrees_with_a_dictionary() -> None:
    draw = np.random.default_rng(0)
    keys = draw.integers(0, 40, (500, 2)).astype(np.uint64)
    values = keys[:, 0] * 100.0 + keys[:, 1]
    known = {tuple(key): value for key, value in zip(keys.tolist(), values.tolist(), strict=True)}
    asked = np.array([(a, b) for a in range(42) for b in range(42)], np.uint64)
    found = segments.look_up(Records(keys, values), asked)
    for key, value in zip(asked.tolist(), found.tolist(), strict=True):
        assert value == known[tuple(key)] if tuple(key) in known else np.isnan(value)


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from pairwright.logprobs.segments import Writer
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
with Writer(Path(sys.argv[1])) as writer:
    for i in range(5):
        writer.put(np.full((40, 2), i, np.uint64), np.full(40, 10.0 * i))
"""


@pytest.mark.parametrize(("limit", "kept"), [(3000, 3), (2 * 992, 2), (500, 0)])
def test_a_disk_that_is_full_leaves_whole_frames_only(
    limit: int, kept: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A frame of 40 records has 32 + 40 * 24 = 992 bytes.
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path), str(limit)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cannot be written (File too large)") == 1
    assert [path.stat().st_size for path in tmp_path.iterdir()] == ([kept * 992] if kept else [])
    assert len(read(tmp_path).values) == kept * 40
    assert capsys.readouterr().err == ""


def test_a_damaged_segment_keeps_its_sound_frames_and_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.seg").write_bytes(frame(*records(0, 2)) + frame(*records(2, 3))[:-5])
    (tmp_path / "b.seg").write_bytes(b"nothing that is a frame")
    (tmp_path / "c.seg").write_bytes(frame(*records(9, 1)))
    damaged: list[Path] = []
    assert as_dict(read(tmp_path, damaged=damaged)) == {0: 0.0, 1: 10.0, 9: 90.0}
    assert [path.name for path in damaged] == ["a.seg", "b.seg"]
    assert capsys.readouterr().err.count("is damaged") == 2
    assert compact(tmp_path, damaged=damaged)
    assert as_dict(read(tmp_path)) == {0: 0.0, 1: 10.0, 9: 90.0}
    assert capsys.readouterr().err == ""
    assert len(list(tmp_path.iterdir())) == 2
    assert not compact(tmp_path)


def test_a_segment_that_cannot_be_read_is_said_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, first in (("a", 0), ("b", 5)):
        (tmp_path / f"{name}.seg").write_bytes(frame(*records(first, 1)))
    real = Path.read_bytes

    def closed(path: Path) -> bytes:
        if path.name == "a.seg":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", closed)
    assert as_dict(read(tmp_path)) == {5: 50.0}
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "a.seg cannot be read (Permission denied)" in said
    assert compact(tmp_path, many=1)  # and what cannot be read is not removed
    monkeypatch.undo()
    assert as_dict(read(tmp_path)) == {0: 0.0, 5: 50.0}


def test_a_folder_that_cannot_be_read_is_said_and_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def closed(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", closed)
    assert not len(read(tmp_path / "logp").values)
    assert not compact(tmp_path / "logp")
    assert capsys.readouterr().err.count("logp cannot be read (Permission denied)") == 1


def test_a_merge_that_fails_leaves_all_segments_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(3):
        (tmp_path / f"{i}.seg").write_bytes(frame(*records(i, 1)))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert not compact(tmp_path, many=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.seg", "1.seg", "2.seg"]


def test_a_user_without_a_home_has_a_store_of_his_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("PAIRWRIGHT_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    place._without_home.cache_clear()
    found = [place.store_place(), place.store_place()]
    assert found == [tmp_path / f"pairwright-{os.getuid()}"] * 2
    assert found[0].stat().st_mode & 0o777 == 0o700
    assert capsys.readouterr().err.count("there is no home directory") == 1
    # A folder that others may write to could hold anything.
    found[0].chmod(0o777)
    place._without_home.cache_clear()
    nowhere = place.store_place()
    assert "going on without it" in capsys.readouterr().err
    with Writer(nowhere / "logp") as writer:
        writer.put(*records(0, 1))
    assert not len(read(nowhere / "logp").values)
    place.write_small(nowhere / "digests" / "a.json", "{}")
    assert not list(found[0].iterdir())
    place._without_home.cache_clear()
