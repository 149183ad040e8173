"""The example that the benchmarks of the model's side work on: pairs, a tokenizer and a random Llama.

It holds no benchmark: run as a script it says so and ends.
"""

import argparse
import gzip
import json
import random
from pathlib import Path
from typing import Any, NamedTuple

REAL = Path(__file__).resolve().parents[2] / "shared/data/extra/ultrafeedback_binarized_sample.jsonl.gz"
"""UltraFeedback pairs beside a working copy of the project; where they are not, texts are made up."""
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


class Facts(NamedTuple):
    """What a benchmark ran on."""

    source: str
    pairs: int
    prompt_tokens: float
    answer_tokens: float
    tokens_per_pair: float
    parameters: int

    def __str__(self) -> str:
        return (
            f"{self.pairs} pairs of {self.source}; mean tokens: prompt {self.prompt_tokens:.0f}, "
            f"answer {self.answer_tokens:.0f}; model of {self.parameters / 1e6:.1f} M parameters"
        )


def arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The flags of data and model."""
    parser.add_argument("--data", type=Path, help="JSONL (.gz) with prompt, chosen, rejected messages")
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--length", type=int, default=1024, help="longer pairs are left out")
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    return parser


def prepare(folder: Path, args: Any) -> Facts:
    """Write `pairs.jsonl` and `model/` into a folder."""
    source = args.data or (REAL if REAL.is_file() else None)
    rows = made_up(4 * args.pairs) if source is None else read(source)
    reader = tokenizer([m["content"] for r in rows for m in (*r["chosen"], *r["rejected"])], args.vocabulary)
    reader.save_pretrained(folder / "model")
    kept = []
    for row in rows:
        prompt, chosen, rejected = row["chosen"][:-1], row["chosen"][-1:], row["rejected"][-1:]
        if not all(m[0]["content"].strip() for m in (chosen, rejected)) or chosen == rejected:
            continue
        sizes = [
            len(reader.apply_chat_template(prompt + side, tokenize=True)["input_ids"]) for side in (chosen, rejected)
        ]
        asked = len(reader.apply_chat_template(prompt, tokenize=True, add_generation_prompt=True)["input_ids"])
        if max(sizes) <= args.length and asked <= args.length // 2:
            kept.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
        if len(kept) == args.pairs:
            break
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    (folder / "pairs.jsonl").write_text(lines, encoding="utf-8")
    model = llama(args, vocabulary=len(reader), reader=reader)
    model.save_pretrained(folder / "model")
    found = tokens(folder, args.length)
    prompts = sum(len(p) for p, _, _ in found) / len(found)
    answers = sum(len(c) + len(r) for _, c, r in found) / len(found) / 2
    title = source.name if source else "made-up texts"
    weights = sum(weight.numel() for weight in model.parameters())
    return Facts(title, len(found), prompts, answers, 2 * (prompts + answers), weights)


def llama(args: Any, *, vocabulary: int, reader: Any = None) -> Any:
    """A random Llama of the size that the flags ask for."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    specials = {name: getattr(reader, name, None) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=args.hidden,
            intermediate_size=args.hidden * 11 // 4,
            num_hidden_layers=args.layers,
            num_attention_heads=args.hidden // 64,
            num_key_value_heads=args.hidden // 64,
            max_position_embeddings=max(2048, args.length),
            **specials,
        )
    )


def tokens(folder: Path, length: int) -> list[tuple[list[int], list[int], list[int]]]:
    """Prompt, chosen and rejected tokens of each pair."""
    from transformers import AutoTokenizer

    from pairwright.logprobs import Limits, tokenise

    reader = AutoTokenizer.from_pretrained(folder / "model")
    rows = []
    for line in (folder / "pairs.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        sides = [
            tokenise(reader, row["prompt"], row[side], limits=Limits(length, length // 2))
            for side in ("chosen", "rejected")
        ]
        rows.append((sides[0].prompt_ids, sides[0].completion_ids, sides[1].completion_ids))
    return rows


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file, compressed or not."""
    whole = path.read_bytes()
    return [json.loads(line) for line in (gzip.decompress(whole) if path.suffix == ".gz" else whole).splitlines()]


def made_up(count: int) -> list[dict[str, Any]]:
    """Pairs of random words with UltraFeedback's lengths: log-normal, median 80 words a prompt and 180 an answer."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(5000)]

    def text(median: float, spread: float) -> str:
        return " ".join(draw.choices(words, k=max(4, min(700, round(draw.lognormvariate(0, spread) * median)))))

    rows = []
    for _ in range(count):
        prompt = {"role": "user", "content": text(80, 0.9)}
        chosen, rejected = ({"role": "assistant", "content": text(180, 0.7)} for _ in range(2))
        rows.append({"chosen": [prompt, chosen], "rejected": [prompt, rejected]})
    return rows


def tokenizer(texts: list[str], vocabulary: int) -> Any:
    """A byte-level BPE tokenizer trained on the texts, with a chat template."""
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = ["<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    core = tokenizers.Tokenizer(tokenizers.models.BPE())
    core.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = tokenizers.decoders.ByteLevel()
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(texts, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|pad|>",
        bos_token="<|begin|>",
        eos_token="<|end|>",
        extra_special_tokens=specials[3:],
    )
    made.chat_template = TEMPLATE
    return made


if __name__ == "__main__":
    print("no benchmark of its own: what training_step.py and scoring.py work on")
