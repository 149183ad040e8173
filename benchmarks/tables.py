"""The claims on tables at size: relabel + select of native pairs, and flat export beside a Polars copy of the file.

    python benchmarks/tables.py                       # ten million pairs: some minutes, 3 GB of disk
    python benchmarks/tables.py --pairs 100000 --export-pairs 5000 --repeats 1

Makes its data in a temporary folder and runs each measurement in a process of its own, whose peak memory (`ru_maxrss`)
is all that it ever held. What is compared:

- *relabel + select*: opening a native directory, `relabel` in the mode `ra` and `select` of 40 % of the copies, until
  it is known which. Writing them is timed apart (*and saving*). The texts are short here (real ones of ten million
  pairs fill a disk); relabelling reads each of them once, so long ones add the time to read them.
- *export*: relabelled pairs with texts of 1 to 2 KB, goals rendered into the prompts, and the manifest with the file's
  digest. The copy is Polars alone: `scan_* -> sink_*` of the file that was exported, with the same compression and row
  groups. The two take turns, and the range of ratios is of each export to the copy after it.

Imports are not timed. On a machine with other work the fastest run says most, so it is what is held against a target.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import pairwright as pw
from pairwright.preferences import MESSAGES, Preferences

SELECTIONS: dict[str, dict[str, Any]] = {
    "explicit_gap": {},
    "alignment_potential": {"policy": "m"},
    "alignment_potential, with reference": {"policy": "m", "reference": "ref"},
}
Row = dict[str, float]


def messages(role: str, text: pl.Expr) -> pl.Expr:
    return pl.concat_list(pl.struct(role=pl.lit(role), content=text)).cast(MESSAGES)


def hexadecimal(column: str) -> pl.Expr:
    """A number as an id of 32 characters, as long as real ones."""
    return pl.col(column).cast(pl.String).str.zfill(32).alias("prompt_id")


def make_numbers(pairs: int, out: str) -> None:
    """Four answers to each prompt, of which two pairs are made: short texts, scores, log-probabilities."""
    rng = np.random.default_rng(0)
    total = (pairs + 1) // 2
    number, row = np.arange(4 * total), np.arange(pairs)
    prompts = pl.DataFrame({"n": np.arange(total)}).select(hexadecimal("n"), prompt=messages("user", pl.lit("Q")))
    logp = rng.normal(-50, 10, 4 * total)
    answers = pl.DataFrame(
        {
            "n": number // 4,
            "text": number,
            "score": rng.integers(2, 21, 4 * total) / 2,
            "logp_m": logp,
            "logp_ref": logp + rng.normal(0, 2, 4 * total),
            "len_m": rng.integers(10, 60, 4 * total),
        }
    )
    answers = answers.select(
        hexadecimal("n"),
        "score",
        "logp_m",
        "logp_ref",
        "len_m",
        response=messages("assistant", pl.col("text").cast(pl.String)),
    )
    first = 4 * (row // 2) + 2 * (row % 2)
    made = pl.DataFrame({"n": row // 2, "chosen_id": first, "rejected_id": first + 1})
    Preferences.of(prompts, answers, made.select(hexadecimal("n"), "chosen_id", "rejected_id")).save(out)


def make_texts(pairs: int, out: str) -> None:
    """One pair for each prompt, its answers of 1 to 2 KB; words by Zipf's law, so that texts pack as English does."""
    rng = np.random.default_rng(0)
    words = np.array(["".join(rng.choice(list("etaoinshrdlu"), size=rng.integers(2, 10))) for _ in range(5_000)])
    often = 1 / np.arange(1, len(words) + 1)

    def texts(count: int, low: int, high: int) -> list[str]:
        sizes = rng.integers(low // 5, high // 5, size=count)
        drawn = words[rng.choice(len(words), size=int(sizes.sum()), p=often / often.sum())]
        ends = np.cumsum(sizes)
        return [" ".join(drawn[start:end]) for start, end in zip(ends - sizes, ends, strict=True)]

    row = np.arange(pairs)
    prompts = pl.DataFrame({"n": row, "text": texts(pairs, 300, 900)})
    answers = pl.DataFrame({"n": row.repeat(2), "text": texts(2 * pairs, 1000, 2000)})
    answers = answers.select(
        hexadecimal("n"),
        response=messages("assistant", pl.col("text")),
        model=pl.lit("m"),
        score=pl.Series(rng.integers(2, 21, 2 * pairs) / 2),
    )
    made = pl.DataFrame({"n": row, "chosen_id": 2 * row, "rejected_id": 2 * row + 1})
    prompts = prompts.select(hexadecimal("n"), prompt=messages("user", pl.col("text")))
    Preferences.of(prompts, answers, made.select(hexadecimal("n"), "chosen_id", "rejected_id")).save(out)


def peak() -> float:
    """Most bytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def relabel(data: str) -> Row:
    start = time.perf_counter()
    pw.relabel(pw.read(data), "ra", placement="user")
    return {"seconds": time.perf_counter() - start, "peak": peak()}


def relabel_select(data: str, name: str, out: str) -> Row:
    start = time.perf_counter()
    relabelled = pw.relabel(pw.read(data), "ra", placement="user")
    found = pw.select(relabelled, name.split(",")[0], keep=0.4, **SELECTIONS[name])
    done, held = time.perf_counter(), peak()
    found.save(out)
    return {"seconds": done - start, "peak": held, "save": time.perf_counter() - done, "save peak": peak()}


def export_flat(data: str, file: str) -> Row:
    prefs = pw.relabel(pw.read(data), "ra", placement="user")
    start = time.perf_counter()
    prefs.export(file)
    return {"seconds": time.perf_counter() - start, "peak": peak()}


def copy_flat(file: str, out: str) -> Row:
    start = time.perf_counter()
    if file.endswith(".parquet"):
        frame = pl.scan_parquet(file)
        frame.sink_parquet(out, compression="zstd", row_group_size=50_000, statistics=False)
    else:
        pl.scan_ndjson(file).sink_ndjson(out)
    return {"seconds": time.perf_counter() - start, "peak": peak()}


TASKS: dict[str, Callable[..., Row | None]] = {
    task.__name__: task for task in (make_numbers, make_texts, relabel, relabel_select, export_flat, copy_flat)
}


def alone(task: Callable[..., Row | None], *arguments: object) -> Row:
    """What a task measured in a process of its own."""
    call = json.dumps([task.__name__, *(a if isinstance(a, int) else str(a) for a in arguments)])
    found = subprocess.run([sys.executable, __file__, "--task", call], check=True, text=True, stdout=subprocess.PIPE)
    return dict(json.loads(found.stdout.splitlines()[-1]) or {})


def show(
    what: str, seconds: Sequence[float], held: float, *, ratio: str = "", target: str = "", met: bool | None = None
) -> None:
    spread = f"{min(seconds):.2f} / {statistics.median(seconds):.2f} / {max(seconds):.2f}"
    told = {True: "met", False: "NOT MET", None: ""}[met]
    print(f"{what:55s} {spread:>21s}  {ratio:18s} {held / 2**30:5.2f} GiB  {target:16s} {told}".rstrip(), flush=True)


def tables(folder: Path, pairs: int, repeats: int) -> None:
    """Relabel alone, and before each selection, with saving timed apart."""
    data = folder / "numbers"
    alone(make_numbers, pairs, data)
    runs = [alone(relabel, data) for _ in range(repeats)]
    show("relabel", [run["seconds"] for run in runs], max(run["peak"] for run in runs))
    for name in SELECTIONS:
        runs = [alone(relabel_select, data, name, folder / "out") for _ in range(repeats)]
        seconds, held = [run["seconds"] for run in runs], max(run["peak"] for run in runs)
        met = min(seconds) < 15 and held < 2 * 2**30
        show(f"relabel + select {name}", seconds, held, target="< 15 s, < 2 GiB", met=met)
        show("  and saving", [run["save"] for run in runs], max(run["save peak"] for run in runs))


def exports(folder: Path, pairs: int, repeats: int) -> None:
    """Flat export of relabelled pairs, and a copy of the file that it made, in turns."""
    data = folder / "texts"
    alone(make_texts, pairs, data)
    for ending in ("parquet", "jsonl"):
        flat = folder / f"flat.{ending}"
        ours, theirs = [], []
        for _ in range(repeats):
            ours.append(alone(export_flat, data, flat))
            theirs.append(alone(copy_flat, flat, folder / f"copy.{ending}"))
        seconds = [[run["seconds"] for run in runs] for runs in (ours, theirs)]
        ratios = [one / other for one, other in zip(*seconds, strict=True)]
        least = min(seconds[0]) / min(seconds[1])
        what = f"export {2 * pairs:,} relabelled rows, {flat.stat().st_size / 1e6:,.0f} MB {ending}"
        ratio = f"{least:.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        held = [max(run["peak"] for run in runs) for runs in (ours, theirs)]
        show(what, seconds[0], held[0], ratio=ratio, target="<= 2 x the copy", met=least <= 2)
        show("  Polars copy of that file", seconds[1], held[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pairs", type=int, default=10_000_000, help="native pairs to relabel and select")
    parser.add_argument("--export-pairs", type=int, default=100_000, help="pairs of long texts to relabel and export")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.task is not None:
        name, *arguments = given.task
        print(json.dumps(TASKS[name](*arguments)))
        return
    print(
        f"{given.pairs:,} native pairs; seconds are least / median / most of {given.repeats}, the ratio is of the least"
    )
    print(f"{'what':55s} {'seconds':>21s}  {'ratio':18s} {'peak':>9s}  target")
    with tempfile.TemporaryDirectory() as folder:
        tables(Path(folder), given.pairs, given.repeats)
        exports(Path(folder), given.export_pairs, given.repeats)


if __name__ == "__main__":
    main()
