"""The recipe for one's own data, run for real: killed twice, it ends as the run that nobody killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "local_ultrafeedback.yaml"
SMALL = ["data.limit=80", "held_out.test=0.2", "scratch.vocab_size=512", "scratch.hidden_size=32", "scratch.heads=2"]
SMALL += [f"{name}.{key}" for name in ("base", "plain", "ra") for key in ("max_length=96", "max_prompt_length=64")]
SMALL += [f"{name}.save_steps=2" for name in ("base", "plain", "ra")]
SMALL += ["answers.limit=3", "answers.max_new_tokens=8"]


def command(source: Path, run: str) -> list[str]:
    changes = [word for change in (f"data.path={source}", *SMALL) for word in ("--set", change)]
    return [sys.executable, "-m", "pairwright", "run", str(RECIPE), "-o", run, *changes]


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
def test_killed_twice_it_ends_in_the_same_data_and_the_same_weights(shared, tmp_path):
    source = shared("data/extra/ultrafeedback_binarized_sample.jsonl.gz")
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command(source, "whole"), cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    whole = outputs(tmp_path / "whole")
    assert len(whole) == 18
    (tmp_path / "whole").rename(tmp_path / "first")

    # In the middle of a training, after a checkpoint; then in the next one, while it opens its data.
    for place in (
        tmp_path / "whole" / "05-base" / "checkpoints" / "checkpoint-2",
        tmp_path / "whole" / "09-plain" / "*",
    ):
        process = subprocess.Popen(command(source, "whole"), cwd=tmp_path, env=env, stderr=subprocess.DEVNULL)
        kill_when(process, tmp_path / "whole" / place)
    done = subprocess.run(command(source, "whole"), cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert outputs(tmp_path / "whole") == whole
    again = subprocess.run(command(source, "whole"), cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert again.stderr.count("done before") == 18
