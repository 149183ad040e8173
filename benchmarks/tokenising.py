"""The claim: pairs become tokens in batches, each prompt once, at least twice as fast as text by text; same tokens.

    python benchmarks/tokenising.py
    python benchmarks/tokenising.py --pairs 100 --repeats 1

Takes the 1,000 UltraFeedback pairs of the shared folder (PAIRWRIGHT_SHARED names another place; without it, pairs that
are made up), and a byte-level BPE tokenizer of 8,192 tokens trained on them on the spot. *One by one* is the plain way:
the prompt is rendered and encoded, then prompt and answer together for each answer, a text at a time. Both ways give
the same tokens, which is checked each time. They take turns; times are the fastest of each, and the range of ratios is
of each pair of turns. *One core* is ours with the tokenizer's threads switched off. On a machine with other work the
CPU seconds say more: they are the work that is saved, threads apart.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pairwright as pw
from pairwright.chat import render, render_prompt, text_of
from pairwright.logprobs import Limits, Texts, tokenise_many
from pairwright.logprobs.columns import pair_texts
from pairwright.logprobs.models import open_tokenizer
from pairwright.preferences import Preferences
from pairwright.reader import with_template

SAMPLE = "data/extra/ultrafeedback_binarized_sample.jsonl.gz"
WIDE = Limits(2**31, 2**30)  # nothing is cut: cutting is the same work either way
Rows = list[tuple[list[int], list[list[int]]]]


def one_by_one(reader: Any, rows: list[Texts]) -> Rows:
    """A text at a time, the prompt again with every answer."""

    def encode(text: str) -> list[int]:
        ids: list[int] = reader(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    found = []
    for row in rows:
        head = encode(render_prompt(reader, row.prompt or []))
        answers = []
        for answer in row.answers:
            text, completion = render(reader, row.prompt or [], answer or [])
            whole = encode(text + completion)
            answers.append(whole[len(head) :] if whole[: len(head)] == head else encode(completion))
        found.append((head, answers))
    return found


def in_batches(reader: Any, rows: list[Texts]) -> Rows:
    """The package's way."""
    return [
        (head.ids, [each.completion_ids for each in answers])
        for head, answers in tokenise_many(reader, rows, limits=WIDE)
    ]


def preferences(pairs: int) -> Preferences:
    shared = Path(os.environ.get("PAIRWRIGHT_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if (shared / SAMPLE).is_file():
        return pw.read(str(shared / SAMPLE), limit=pairs)
    print(f"there is no {SAMPLE}: the pairs are made up")
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Question {i}: " + "why is the sky blue? " * (5 + i % 40)}],
            "chosen": [{"role": "assistant", "content": f"Answer {i}: " + "light is scattered. " * (10 + i % 60)}],
            "rejected": [{"role": "assistant", "content": f"Answer {i}: " + "nobody knows that. " * (10 + i % 30)}],
            "score_chosen": 8.0,
            "score_rejected": 3.0,
        }
        for i in range(pairs)
    ]
    import polars as pl

    return pw.read(pl.DataFrame(rows))


def texts(prefs: Preferences, reader: Any) -> list[Texts]:
    """Every pair whose answers say something; the others have no tokens to compare."""
    return [row for row in pair_texts(prefs, reader) if all(text_of(answer or []).strip() for answer in row.answers)]


def cases(prefs: Preferences, folder: Path) -> Iterator[tuple[str, Any, list[Texts]]]:
    """What is encoded: each a tokenizer and the texts of pairs."""
    pw.scratch(prefs, output=folder, vocab_size=8192, hidden_size=64)
    reader = open_tokenizer(folder)
    yield "pairs", reader, texts(prefs, reader)
    relabelled = pw.relabel(prefs, "ra", min_gap=0.5)
    yield "pairs relabelled (ra)", reader, texts(relabelled, reader)
    bare = open_tokenizer(folder)
    bare.chat_template = None
    plain = with_template(bare)  # no special token ends the prompt, so it is encoded with each answer
    yield "pairs, plain template", plain, texts(prefs, plain)


def seconds(way: Any, reader: Any, rows: list[Texts]) -> tuple[float, float, Rows]:
    """Seconds on the clock, CPU seconds, and what came out."""
    start, work = time.perf_counter(), time.process_time()
    found = way(reader, rows)
    return time.perf_counter() - start, time.process_time() - work, found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pairs", type=int, default=1000)
    options.add_argument("--repeats", type=int, default=5)
    given = options.parse_args()
    prefs = preferences(given.pairs)
    print(f"{prefs.counts().pairs:,} pairs, {os.cpu_count()} cores, fastest of {given.repeats}")
    with tempfile.TemporaryDirectory() as folder:
        for name, reader, rows in cases(prefs, Path(folder) / "model"):
            plain, ours, alone = [], [], []
            for _ in range(given.repeats):
                *took, expected = seconds(one_by_one, reader, rows)
                plain.append(took)
                *took, found = seconds(in_batches, reader, rows)
                ours.append(took)
                os.environ["TOKENIZERS_PARALLELISM"] = "false"
                alone.append(seconds(in_batches, reader, rows)[:2])
                del os.environ["TOKENIZERS_PARALLELISM"]
                if found != expected:
                    raise SystemExit(f"{name}: the two ways give different tokens")
            tokens = sum(len(head) + sum(map(len, answers)) for head, answers in found)
            for label, times in (("one by one", plain), ("in batches", ours), ("in batches, one core", alone)):
                clock, work = (min(column) for column in zip(*times, strict=True))
                rates = f"{len(rows) / clock:7,.0f} pairs/s  {tokens / clock:9,.0f} tokens/s  {work:6.2f} CPU seconds"
                print(f"{name:22s} {label:20s} {rates}")
            ratios = [a[0] / b[0] for a, b in zip(plain, ours, strict=True)]
            ratio = min(plain)[0] / min(ours)[0]
            held = "met" if ratio >= 2 else "NOT MET"
            print(f"{name:22s} ratio {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}), claim >= 2: {held}")


if __name__ == "__main__":
    main()
