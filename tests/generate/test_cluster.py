"""Ray runs in processes of their own: it leaves threads, sockets and warnings behind that are no test's business."""

import os
import subprocess
import sys

import pytest

import tiny
from pairwright.errors import MissingExtra
from pairwright.generate import generate

pytest.importorskip("torch")

# A real cluster of two workers.
SCRIPT = """
import sys
import ray
from pairwright.cli import main
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
sys.exit(main(sys.argv[1:]))
"""


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, "generate", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
    )


@pytest.mark.slow
def test_a_cluster_of_two_workers_gives_the_bytes_of_one_process(tmp_path):
    pytest.importorskip("ray", reason="the extra ray is not installed")
    model, data = tiny.model(tmp_path / "small"), tiny.preferences(12).save(tmp_path / "data")
    own = [str(model), "--prompts", str(data), "-n", "3", "--max-new-tokens", "10", "--batch-size", "5", "--stop", "e"]
    ray = run(*own, "-o", str(tmp_path / "ray"), "--ray")
    assert ray.returncode == 0, ray.stderr
    assert "streaming_executor" not in ray.stderr  # the own lines of its data library
    alone = run(*own, "-o", str(tmp_path / "alone"))
    assert alone.returncode == 0, alone.stderr
    for name in ("responses.parquet", "manifest.json"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"small", "data", "ray", "alone"}


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    model = tiny.model(tmp_path / "small")
    with pytest.raises(MissingExtra, match="ray is not installed; run: pip install 'pairwright\\[ray\\]'"):
        generate(model, tiny.preferences(2), ray=True, max_new_tokens=4)
