"""The claim: on a CPU a DPO step is at least 5 times as fast as TRL's, and 1.5 times a plain padded loop; equal loss.

The same pairs (in the same order and batches), tokenizer, tiny random Llama, learning rate and cached reference
log-probabilities on all sides, float32. Each run is a process of its own; the sides take turns, so that a slower minute
slows all of them. TRL is at its best setting for a CPU: reference precomputed, no gradient checkpointing.

    python benchmarks/training_step.py                          # real pairs where there are some, else made-up texts
    python benchmarks/training_step.py --data pairs.jsonl --vocabulary 32000

On a CUDA device all sides run there, in bfloat16 autocast (`--dtype bf16`).
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import worked  # benchmarks/worked.py: pairs, tokenizer and model that several scripts need

SIDES = {"pairwright": "pairwright", "trl": "TRL", "padded": "plain padded loop"}
RATE = 1e-5
"""Of Adam: large enough to move the loss, small enough that rounding does not grow into another training."""
TARGETS = {"trl": 5.0, "padded": 1.5}


class Clock:
    """When each optimisation step ended."""

    def __init__(self) -> None:
        from transformers import TrainerCallback

        ends = self.ends = []

        class Watch(TrainerCallback):
            def on_step_end(self, *args: Any, **kwargs: Any) -> None:
                ends.append(time.perf_counter())

        self.watch = Watch()


def settings(args: argparse.Namespace, output: Path) -> dict[str, Any]:
    return {
        "output_dir": str(output),
        "per_device_train_batch_size": args.batch,
        "learning_rate": RATE,
        "max_steps": args.steps,
        "logging_steps": 1,
        "seed": 0,
        "bf16": args.dtype == "bf16",
        "report_to": "none",
        "save_strategy": "no",
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "train_sampling_strategy": "sequential",
    }


def pairwright(args: argparse.Namespace, folder: Path) -> tuple[list[float], list[float]]:
    import pairwright as pw
    from pairwright.train.config import resolve
    from pairwright.train.job import make_trainer, prepare

    prefs = pw.logprobs(pw.read(folder / "pairs.jsonl"), model=folder / "model", name="ref", max_length=args.length)
    own = {k: v for k, v in settings(args, folder).items() if k not in ("output_dir", "seed", "disable_tqdm")}
    config = resolve(model=folder / "model", loss="dpo", beta=0.1, reference="columns", max_length=args.length, **own)
    clock = Clock()
    trainer = make_trainer(prepare(prefs, config), folder / "ours", callbacks=[clock.watch])
    trainer.train()
    return clock.ends, [row["loss"] for row in trainer.state.log_history if "loss" in row]


def trl(args: argparse.Namespace, folder: Path) -> tuple[list[float], list[float]]:
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    clock = Clock()
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "model"),
        args=DPOConfig(
            **settings(args, folder / "trl"),
            beta=0.1,
            max_length=args.length,
            precompute_ref_log_probs=True,
            gradient_checkpointing=False,
        ),
        train_dataset=datasets.Dataset.from_list([{k: r[k] for k in ("prompt", "chosen", "rejected")} for r in rows]),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        callbacks=[clock.watch],
    )
    trainer.train()
    return clock.ends, [row["loss"] for row in trainer.state.log_history if "loss" in row]


def padded(args: argparse.Namespace, folder: Path) -> tuple[list[float], list[float]]:
    """What one writes by hand: chosen and rejected padded to the longest, logits of every position, one loss."""
    import torch
    import torch.nn.functional as F
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(folder / "model").to(device).train()
    rows = worked.tokens(folder, args.length)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / args.steps))

    def logps(batch: list[tuple[list[int], list[int]]]) -> torch.Tensor:
        width = max(len(prompt) + len(answer) for prompt, answer in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        mask, inside = torch.zeros_like(ids), torch.zeros_like(ids)
        for i, (prompt, answer) in enumerate(batch):
            size = len(prompt) + len(answer)
            ids[i, :size], mask[i, :size] = torch.tensor([*prompt, *answer]), 1
            inside[i, len(prompt) : size] = 1
        ids, mask, inside = ids.to(device), mask.to(device), inside.to(device)
        with torch.autocast(device, torch.bfloat16, enabled=args.dtype == "bf16"):
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
        each = logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
        return (each * inside[:, 1:]).sum(-1)

    flat = [[(p, c), (p, r)] for p, c, r in rows]
    with torch.no_grad():
        cached = [logps(pair) for pair in flat]
    ends, losses = [], []
    for step in range(args.steps):
        part = [(step * args.batch + i) % len(flat) for i in range(args.batch)]
        ratio = logps([flat[i][0] for i in part] + [flat[i][1] for i in part])
        ratio = ratio - torch.cat([torch.stack([cached[i][side] for i in part]) for side in (0, 1)])
        chosen, rejected = ratio.chunk(2)
        loss = -F.logsigmoid(0.1 * (chosen - rejected)).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        ends.append(time.perf_counter())
    return ends, losses


def one(args: argparse.Namespace) -> None:
    """One side, in this process: a line of JSON."""
    import torch

    torch.set_num_threads(args.threads)
    ends, losses = {"pairwright": pairwright, "trl": trl, "padded": padded}[args.side](args, args.folder)
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 2**30
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": ends[-1] - ends[0], "losses": losses, "gib": peak}))


def main(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        facts = worked.prepare(folder, args)
        print(facts)
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for _ in range(args.repeats):
            for side in SIDES:
                command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--folder", name]
                found = subprocess.run(command, check=True, capture_output=True, text=True)
                runs[side].append(json.loads(found.stdout.splitlines()[-1]))
    tokens = facts.tokens_per_pair * args.batch * (args.steps - 1)
    titles = {"pairs/s": 9, "tokens/s": 10, "peak GiB": 10, "ratio": 8, "spread": 14, "target": 8, "loss": 9}
    print("\n" + " " * 20 + "".join(f"{title:>{width}s}" for title, width in titles.items()))
    mine = runs["pairwright"]
    for side, title in SIDES.items():
        best = statistics.median(run["seconds"] for run in runs[side])
        row = (
            f"{title:20s}{args.batch * (args.steps - 1) / best:9.2f}{tokens / best:10,.0f}{runs[side][0]['gib']:10.2f}"
        )
        if side != "pairwright":
            ratios = sorted(a["seconds"] / b["seconds"] for a, b in zip(runs[side], mine, strict=True))
            apart = max(abs(a - b) for a, b in zip(runs[side][0]["losses"], mine[0]["losses"], strict=True))
            spread = f"{ratios[0]:.2f}-{ratios[-1]:.2f}"
            row += f"{statistics.median(ratios):8.2f}{spread:>14s}{'>= ' + str(TARGETS[side]):>8s}{apart:9.1e}"
        print(row)
    print("ratio: pairwright's pairs/s over this side's, median of paired runs; loss: greatest difference in a step")


if __name__ == "__main__":
    parser = worked.arguments(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    parser.add_argument("--batch", type=int, default=4, help="pairs of a step")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--side", choices=tuple(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    one(given) if given.side else main(given)
