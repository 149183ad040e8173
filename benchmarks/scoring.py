"""The claim: scoring 8 answers of 64 tokens to a prompt of 512 is at least 3 times as fast as row by row.

A random tiny Llama, float32 (bfloat16 on a CUDA device), no gradients. *One by one* is each answer with its prompt in a
row of its own, *batched* all 8 in one padded batch; both with the logits of every position, as a loop over
transformers is commonly written. The ways take turns; all three must agree on every sum.

    python benchmarks/scoring.py
    python benchmarks/scoring.py --answers 16 --prompt 1024 --answer 128
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import worked
from torch.nn.utils.rnn import pad_sequence

from pairwright.logprobs.attention import use_forest_attention
from pairwright.logprobs.core import Batch, answer_logps

TARGET = 3.0


def rows_of(batch: Batch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Prompt and answer of each answer."""
    prompts = torch.split(batch.prompt_ids, batch.prompt_lengths.tolist())
    answers = torch.split(batch.answer_ids, batch.answer_lengths.tolist())
    return [(prompts[owner], answer) for owner, answer in zip(batch.answer_prompt.tolist(), answers, strict=True)]


def padded(model: Any, rows: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Sums over the answers of a padded batch, from the logits of every position."""
    ids = pad_sequence([torch.cat(row) for row in rows], batch_first=True)
    at = torch.arange(ids.shape[1], device=ids.device)
    starts = torch.tensor([len(prompt) for prompt, _ in rows], device=ids.device)[:, None]
    ends = torch.tensor([len(prompt) + len(answer) for prompt, answer in rows], device=ids.device)[:, None]
    logits = model(input_ids=ids, attention_mask=(at < ends).long(), use_cache=False).logits[:, :-1].float()
    each = logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    return (each * ((at[1:] >= starts) & (at[1:] < ends))).sum(-1)


def one_by_one(model: Any, batch: Batch) -> torch.Tensor:
    return torch.cat([padded(model, [row]) for row in rows_of(batch)])


def batched(model: Any, batch: Batch) -> torch.Tensor:
    return padded(model, rows_of(batch))


def ours(model: Any, batch: Batch) -> torch.Tensor:
    return answer_logps(model, batch).logp


WAYS: dict[str, Callable[[Any, Batch], torch.Tensor]] = {
    "pairwright": ours,
    "one by one": one_by_one,
    "batched": batched,
}


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = worked.llama(args, vocabulary=args.vocabulary).to(device).eval()
    if device == "cuda":
        model = model.bfloat16()
    use_forest_attention(model)
    draw = torch.Generator().manual_seed(0)

    def ids(count: int) -> list[int]:
        return torch.randint(10, args.vocabulary, (count,), generator=draw).tolist()

    batches = [
        Batch.of([ids(args.prompt)], [ids(args.answer) for _ in range(args.answers)], [0] * args.answers).to(device)
        for _ in range(args.prompts)
    ]
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    apart = 0.0
    with torch.inference_mode():
        for turn in range(args.repeats + 1):
            values = {}
            for name, way in WAYS.items():
                start = time.perf_counter()
                values[name] = torch.cat([way(model, batch) for batch in batches]).cpu()
                if turn:  # the first turn warms up
                    seconds[name].append(time.perf_counter() - start)
            apart = max(apart, *(float((values[name] - values["pairwright"]).abs().max()) for name in WAYS))
    answers = args.prompts * args.answers
    asked = f"{args.prompts} prompts of {args.prompt} tokens"
    print(f"{args.answers} answers of {args.answer} tokens to each of {asked}, on {device}")
    print(f"{'':14s}{'answers/s':>11s}{'ratio':>8s}{'spread':>12s}{'target':>8s}")
    for name, times in seconds.items():
        ratios = sorted(a / b for a, b in zip(times, seconds["pairwright"], strict=True))
        line = f"{name:14s}{answers / statistics.median(times):11.1f}"
        if name != "pairwright":
            line += f"{statistics.median(ratios):8.2f}{f'{ratios[0]:.2f}-{ratios[-1]:.2f}':>12s}"
        print(line + (f"{f'>= {TARGET}':>8s}" if name == "one by one" else ""))
    print(f"ratio: pairwright's answers/s over this way's, median of {args.repeats} turns")
    print(f"the sums of all ways agree to {apart:.1e} nats")


if __name__ == "__main__":
    parser = worked.arguments(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=512, help="tokens of a prompt")
    parser.add_argument("--answers", type=int, default=8, help="answers to a prompt")
    parser.add_argument("--answer", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--repeats", type=int, default=5)
    main(parser.parse_args())
