"""Probes in a training by TRL: one callback, and `pairwright report` has the page of it.

Everything is made here: a small world of scored answers, and a tiny model of random weights. Nothing is downloaded, and
it takes seconds.

Run: python examples/trl_callback.py [OUTPUT]
"""

import sys
from pathlib import Path

import polars as pl
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from pairwright import Preferences, pair, scratch, split
from pairwright.probes import Probe
from pairwright.worlds import lists


def main(output: Path) -> None:
    """Train with TRL's `DPOTrainer` on the pairs of `train`, and probe it with those of `test`."""
    prefs = pair(split(lists.make(prompts=150, answers=4, seed=1), test=0.2), "best_worst")
    model = scratch(prefs, output=output / "start", kind="word", hidden_size=32, layers=1, heads=2, max_length=128)
    taken = prefs.pairs.filter(pl.col("split") == "train")
    rows = Preferences.of(prefs.prompts, prefs.responses, taken).to_dataset()
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=DPOConfig(
            output_dir=str(output),
            beta=0.1,
            learning_rate=2e-3,
            per_device_train_batch_size=8,
            max_steps=30,
            logging_steps=5,
            max_length=128,
            save_strategy="no",
            report_to="none",
            bf16=False,
            use_cpu=True,
            seed=0,
        ),
        train_dataset=rows.select_columns(["prompt", "chosen", "rejected"]),
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    trainer.add_callback(Probe(trainer, prefs, output=output, every=10, pairs=30))
    trainer.train()
    print(f"probes are in {output}; look at them with: pairwright report {output}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/trl"))
