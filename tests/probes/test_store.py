"""The folder of probes: what a kill or damage leaves of it, and what stands there besides."""

from pathlib import Path

import polars as pl
import pytest

import tiny
from pairwright.errors import InputError
from pairwright.preferences import Preferences
from pairwright.probes.store import (
    PROBE,
    About,
    begin,
    check_folder,
    is_whole,
    load_about,
    load_probes,
    step_files,
    write_probe,
)

ABOUT = About(pairs=1, split="test", vocabulary=50, start="start")


def probe(run: Path, step: int) -> None:
    row = {"pair": 0, "prompt_id": "p", "side": "chosen", "asked": "none", "logp": -1.0}
    write_probe(run, step, pl.DataFrame([{name: row.get(name) for name in PROBE}], schema=dict(PROBE)))


def test_files_of_other_names_are_not_taken_for_probes(tmp_path: Path) -> None:
    begin(tmp_path, ABOUT, tiny.preferences(2))
    probe(tmp_path, 20)
    for name in ("foo-samples.parquet", "20.parquet", "000020-more.parquet", "000020-samples-2.parquet", "-1.parquet"):
        (tmp_path / "probes" / name).write_text("mine")
    found = load_probes(tmp_path)
    assert found is not None
    assert found.steps == (20,)
    assert found.samples.is_empty()
    assert list(step_files(tmp_path, samples=False)) == [20]
    assert list(step_files(tmp_path, samples=True)) == []


@pytest.mark.parametrize("name", ["probes.json", "000020.parquet"])
def test_damage_is_told_with_the_command_that_mends_it(name: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    begin(run, ABOUT, tiny.preferences(2))
    probe(run, 20)
    assert is_whole(run / "probes/000020.parquet", PROBE)
    (run / "probes" / name).write_bytes((run / "probes" / name).read_bytes()[:-9])
    with pytest.raises(InputError, match=rf"{name} is damaged; .*`pairwright diagnose {run} --data IN`"):
        load_probes(run)
    assert is_whole(run / "probes/000020.parquet", PROBE) == (name == "probes.json")
    assert not is_whole(run / "probes/000030.parquet", PROBE)


def test_the_folder_is_known_as_ours_wherever_a_kill_falls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the pairs are written, and in the middle of taking an earlier folder away."""

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for what in ("pairwright.preferences.Preferences.save", "shutil.rmtree"):
        with monkeypatch.context() as patch:
            patch.setattr(what, killed)
            with pytest.raises(KeyboardInterrupt):
                begin(tmp_path, ABOUT, tiny.preferences(2))
        check_folder(tmp_path)
        begin(tmp_path, ABOUT, tiny.preferences(2))
        probe(tmp_path, 10)
    begin(tmp_path, ABOUT.model_copy(update={"pairs": 2}), tiny.preferences(3))
    about = load_about(tmp_path)
    assert about is not None
    assert about.pairs == 2
    assert sorted(path.name for path in (tmp_path / "probes").iterdir()) == ["data", "probes.json"]
    assert Preferences.load(tmp_path / "probes/data") == tiny.preferences(3)


def test_a_record_that_was_being_written_is_no_obstacle_and_anything_else_is(tmp_path: Path) -> None:
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes/.probes.json.123.part").write_text("{")
    check_folder(tmp_path)
    (tmp_path / "probes/data").mkdir()
    with pytest.raises(InputError, match="holds no probes; choose another output or move it away"):
        check_folder(tmp_path)
