"""The recipes for one's own data, run for real: killed twice, each ends as the run that nobody killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["data.limit=80", "held_out.test=0.2", "scratch.vocab_size=512", "scratch.hidden_size=32", "scratch.heads=2"]
SMALL += ["answers.limit=3", "answers.max_new_tokens=8"]
# Its trainings, the places where it is killed (in the middle of a training, after a checkpoint; then in a later step,
# while it opens its data), and the number of its steps.
RUNS = {
    "local_ultrafeedback": (("base", "plain", "ra"), ("05-base/checkpoints/checkpoint-2", "09-plain/*"), 16),
    "local_ira": (("base", "plain", "ira"), ("05-plain/checkpoints/checkpoint-2", "06-rewards/*"), 12),
}


def command(recipe: str, source: Path, run: str) -> list[str]:
    changes = [f"data.path={source}", *SMALL]
    for name in RUNS[recipe][0]:
        changes += [f"{name}.max_length=96", f"{name}.max_prompt_length=64", f"{name}.save_steps=2"]
    words = [word for change in changes for word in ("--set", change)]
    return [sys.executable, "-m", "pairwright", "run", str(ROOT / "recipes" / f"{recipe}.yaml"), "-o", run, *words]


def outputs(run: Path) -> dict[str, dict[str, str]]:
    """Digests of the data and the weights of every step. Text that names its run's directory is left out."""
    found = {}
    for path in sorted(run.glob("*/done.json")):
        files = json.loads(path.read_text())["outputs"]
        found[path.parent.name] = {
            name: value for name, value in files.items() if name.endswith((".parquet", ".safetensors"))
        }
    return found


def kill_when(process: subprocess.Popen[bytes], path: Path) -> None:
    """SIGKILL as soon as something appears that matches `path` (its name may have a star)."""
    for _ in range(3000):
        if any(path.parent.parent.glob(f"{path.parent.name}/{path.name}")):
            break
        if process.poll() is not None:
            pytest.fail(f"ended with {process.returncode} before {path} was there")
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RUNS)
def test_killed_twice_it_ends_in_the_same_data_and_the_same_weights(recipe, shared, tmp_path):
    source = shared("data/extra/ultrafeedback_binarized_sample.jsonl.gz")
    _, kills, steps = RUNS[recipe]
    words = command(recipe, source, "whole")
    # Each run has a store of its own, so that the second computes everything anew.
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    first = {**env, "PAIRWRIGHT_CACHE": str(tmp_path / "store")}
    done = subprocess.run(words, cwd=tmp_path, env=first, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    whole = outputs(tmp_path / "whole")
    assert len(whole) == steps
    (tmp_path / "whole").rename(tmp_path / "first")

    second = {**env, "PAIRWRIGHT_CACHE": str(tmp_path / "another store")}
    for place in kills:
        process = subprocess.Popen(words, cwd=tmp_path, env=second, stderr=subprocess.DEVNULL)
        kill_when(process, tmp_path / "whole" / place)
    done = subprocess.run(words, cwd=tmp_path, env=second, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert outputs(tmp_path / "whole") == whole
    again = subprocess.run(words, cwd=tmp_path, env=second, capture_output=True, text=True, check=False)
    assert again.stderr.count("done before") == steps
