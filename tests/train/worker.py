"""What each of several processes does in a test: the trainings that a JSON file lists, one after the other.

python tests/train/worker.py JOBS.json OUTPUT, where JOBS.json is `{"name": {"pairs": 13, "settings": {...}}, ...}` and
each training goes to OUTPUT/name.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

sys.path.insert(0, str(Path(__file__).parents[1]))


class Die(TrainerCallback):
    """Kill one process by SIGKILL after a step."""

    def __init__(self, rank: int, step: int) -> None:
        self.rank, self.step = rank, step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.process_index == self.rank and state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def one(asked: dict[str, Any], output: Path) -> None:
    """Train on made-up pairs of different weights; answers without pairs have none."""
    import tiny
    from pairwright.train import resolve
    from pairwright.train.job import fit, prepare

    paired = asked["settings"].get("examples", "pairs") == "pairs"
    prefs = tiny.preferences(asked["pairs"], weights=[1.0 + i % 3 for i in range(asked["pairs"])] if paired else None)
    callbacks = [Die(**asked["die"])] if "die" in asked else []
    done = fit(prefs, prepare(prefs, resolve(**asked["settings"])), output, callbacks=callbacks)
    # Whoever comes back finds the model, whichever process wrote it.
    assert (done.model / "config.json").is_file()


def main() -> None:
    """Train all that is asked for, and end as the command does."""
    from pairwright.train.ranks import part

    for name, asked in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")).items():
        one(asked, Path(sys.argv[2]) / name)
    part()


if __name__ == "__main__":
    main()
