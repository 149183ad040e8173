"""The claim on reading: JSON lines of scored pairs become `Preferences` at 100,000 rows/s or more, in bounded memory.

    python benchmarks/read.py                      # a million short rows, fewer long ones: some minutes, 3 GB
    python benchmarks/read.py --rows 20000 --long-rows 4000 --repeats 1

Makes its files in a temporary folder and runs each measurement in a process of its own, whose peak memory (`ru_maxrss`)
is all that it ever held. The files:

- *short*: about 1 KB a row, `prompt`, `chosen`, `rejected` as texts and two scores;
- *long*: about 5 KB a row, as `ultrafeedback_binarized` has it: whole conversations on both sides, ids, two scores.

What takes turns on each file:

- *read*: `pairwright.read`, from the path to the three frames: every line checked and counted, prompts identified by
  SHA-256, equal answers merged, the file's digest in the lineage. *read + audit* goes on with all checks of the data;
- *orjson.loads*: one core, each line parsed and thrown away: less than this no reader on this parser can take;
- *polars.read_ndjson*: the same file as one frame in memory, on all cores, and nothing checked.

Imports are not timed. On a machine with other work the fastest run says most, so it is what is held against the target;
the processor's time for a row (all threads) says what the run would cost alone.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import polars as pl

import pairwright as pw

TARGET = 100_000
BOUND = 1.5 * 2**30
Row = dict[str, float]


def make(kind: str, rows: int, file: str) -> None:
    """Rows with texts of a skewed length; one in ten has letters beyond ASCII, most have line feeds and quotes."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfw"))
    words = np.array(["".join(rng.choice(letters, size=rng.integers(2, 10))) for _ in range(5_000)])
    pool = [" ".join(rng.choice(words, size=1_500)) for _ in range(300)]
    pool = [
        text.replace(" a", '\n\n* "a').replace(" e", ", é" if i % 10 == 0 else ".\ne") for i, text in enumerate(pool)
    ]

    def text(number: int, size: float) -> str:
        start = number % 800
        return f"{number} {pool[number % 300][start : start + int(size)]}"

    sizes, scores = rng.gamma(4, 0.25, (rows, 3)), rng.integers(2, 21, (rows, 2)) / 2
    with open(file, "wb") as out:
        for row in range(rows):
            out.write(orjson.dumps(ROWS[kind](row, text, sizes[row].tolist(), scores[row].tolist())) + b"\n")


def short_row(
    row: int, text: Callable[[int, float], str], sizes: list[float], scores: list[float]
) -> dict[str, object]:
    return {
        "prompt": text(row, 200 * sizes[0]),
        "chosen": text(2 * row, 350 * sizes[1]),
        "rejected": text(2 * row + 1, 320 * sizes[2]),
        "score_chosen": max(scores),
        "score_rejected": min(scores),
    }


def long_row(row: int, text: Callable[[int, float], str], sizes: list[float], scores: list[float]) -> dict[str, object]:
    prompt = text(row, 450 * sizes[0])
    sides = [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": text(2 * row + i, 1450 * sizes[1 + i])}]
        for i in (0, 1)
    ]
    return {
        "prompt": prompt,
        "prompt_id": f"{row:064x}",
        "chosen": sides[0],
        "rejected": sides[1],
        "score_chosen": max(scores),
        "score_rejected": min(scores),
        "source_index": row,
    }


ROWS = {"short": short_row, "long": long_row}


def measured(task: Callable[[], object]) -> Row:
    start, processor = time.perf_counter(), time.process_time()
    found = task()
    seconds, busy = time.perf_counter() - start, time.process_time() - processor
    del found
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": seconds, "busy": busy, "peak": held}


def warm() -> None:
    """Import what reading and the audit import when they are first used."""
    pw.audit(pw.read([{"prompt": "Q?", "chosen": "a", "rejected": "b"}]))


def read(file: str) -> Row:
    warm()
    return measured(lambda: pw.read(file))


def read_audit(file: str) -> Row:
    warm()
    return measured(lambda: pw.audit(pw.read(file)))


def parse_alone(file: str) -> Row:
    def parse() -> None:
        with open(file, "rb") as lines:
            for line in lines:
                orjson.loads(line)

    return measured(parse)


def read_polars(file: str) -> Row:
    return measured(lambda: pl.read_ndjson(file))


MEASURED = {
    "read": read,
    "read + audit": read_audit,
    "orjson.loads": parse_alone,
    "polars.read_ndjson": read_polars,
}
TASKS: dict[str, Callable[..., Row | None]] = {task.__name__: task for task in (make, *MEASURED.values())}


def alone(task: Callable[..., Row | None], *arguments: object) -> Row:
    """What a task measured in a process of its own."""
    call = json.dumps([task.__name__, *(a if isinstance(a, int) else str(a) for a in arguments)])
    found = subprocess.run([sys.executable, __file__, "--task", call], check=True, text=True, stdout=subprocess.PIPE)
    return dict(json.loads(found.stdout.splitlines()[-1]) or {})


def show(folder: Path, kind: str, rows: int, repeats: int) -> None:
    """Make a file, measure on it in turns, print a line for each."""
    file = folder / f"{kind}.jsonl"
    alone(make, kind, rows, file)
    size = file.stat().st_size
    print(f"\n{kind}: {rows:,} rows, {size / 1e6:,.0f} MB, {size / rows:,.0f} bytes a row")
    turns = [{name: alone(task, file) for name, task in MEASURED.items()} for _ in range(repeats)]
    least = {name: min(turn[name]["seconds"] for turn in turns) for name in MEASURED}
    for name in MEASURED:
        seconds = [turn[name]["seconds"] for turn in turns]
        held = max(turn[name]["peak"] for turn in turns)
        spread = f"{min(seconds):.2f} / {statistics.median(seconds):.2f} / {max(seconds):.2f}"
        ratios = [f"{least[other] / least[name]:.2f}" for other in ("orjson.loads", "polars.read_ndjson")]
        rate = rows / least[name]
        busy = min(turn[name]["busy"] for turn in turns) / rows * 1e6
        told = ""
        if name == "read":
            told = f">= {TARGET:,} rows/s " + ("met" if rate >= TARGET else "NOT MET")
        elif name == "read + audit":
            told = f"< {BOUND / 2**30:.1f} GiB " + ("met" if held < BOUND else "NOT MET")
        print(
            f"{name:20s} {spread:>21s} {rate:11,.0f} {rate * size / rows / 1e6:7,.0f} {busy:9.1f} "
            f"{ratios[0]:>9s} {ratios[1]:>9s} {held / 2**30:9.2f}  {told}".rstrip(),
            flush=True,
        )
    file.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="short rows, of about 1 KB")
    parser.add_argument("--long-rows", type=int, default=200_000, help="long rows, of about 5 KB")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.task is not None:
        name, *arguments = given.task
        print(json.dumps(TASKS[name](*arguments)))
        return
    print(f"seconds are least / median / most of {given.repeats}; rates and ratios (of rows/s) are of the least")
    print(
        f"{'what':20s} {'seconds':>21s} {'rows/s':>11s} {'MB/s':>7s} {'us of CPU':>9s} "
        f"{'/ orjson':>9s} {'/ polars':>9s} {'peak GiB':>9s}  target"
    )
    with tempfile.TemporaryDirectory() as folder:
        show(Path(folder), "short", given.rows, given.repeats)
        show(Path(folder), "long", given.long_rows, given.repeats)


if __name__ == "__main__":
    main()
