"""Ray runs in processes of their own: it leaves threads, sockets and warnings behind that are no test's business."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tiny
from pairwright.errors import MissingExtra
from pairwright.logprobs.cluster import on_cluster
from pairwright.logprobs.opened import Part
from pairwright.scorers.verb import score

# A cluster of our own is gone afterwards; one that was joined stays.
SCRIPT = """
import sys
import ray
from pairwright.cli import main
if sys.argv[1] == "joined":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
code = main(sys.argv[2:])
assert ray.is_initialized() == (sys.argv[1] == "joined")
sys.exit(code)
"""


def run(cluster: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, cluster, "logprobs", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
    )


def table(folder: Path) -> bytes:
    return (folder / "responses.parquet").read_bytes()


@pytest.mark.slow
def test_a_cluster_gives_the_same_numbers_and_fills_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    model, data = tiny.model(tmp_path / "small"), tiny.preferences(20).save(tmp_path / "data")
    own = ["--model", str(model), "--batch-tokens", "300"]
    found = run("own", str(data), "-o", str(tmp_path / "ray"), *own, "--ray")
    assert found.returncode == 0, found.stderr
    again = run("own", str(data), "-o", str(tmp_path / "again"), *own)
    assert "logp_small: 40 answers from the store, 0 computed" in again.stderr
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path / "fresh"))
    alone = run("own", str(data), "-o", str(tmp_path / "alone"), *own)
    assert alone.returncode == 0, alone.stderr
    assert table(tmp_path / "ray") == table(tmp_path / "again") == table(tmp_path / "alone")


@pytest.mark.slow
def test_a_worker_that_fails_is_a_sentence(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    model, data = tiny.model(tmp_path / "small"), tiny.preferences(2).save(tmp_path / "data")
    (model / "model.safetensors").write_bytes(b"damaged")
    found = run("joined", str(data), "-o", str(tmp_path / "out"), "--model", str(model), "--ray")
    assert found.returncode == 1
    (sentence,) = [line for line in found.stderr.splitlines() if line.startswith("pairwright:")]
    assert "a worker of the cluster failed: SafetensorError" in sentence
    assert not (tmp_path / "out").exists()


def test_scoring_takes_the_same_road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    model, other = tiny.model(tmp_path / "small"), tiny.model(tmp_path / "other", seed=1)
    with pytest.raises(MissingExtra, match="ray is not installed"):
        score(tiny.preferences(2), "implicit", policy=model, reference=other, ray=True)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match="ray is not installed; run: pip install 'pairwright\\[ray\\]'"):
        next(on_cluster([Part([[1]], [[2]], [0])], model="m", dtype="float32"))
