"""Write the tables of win rates in docs/evaluation.md: published beside what `pairwright evaluate winrate` gives.

python docs/winrate_table.py SHARED    SHARED is the folder whose `data/` holds AlpacaEval's verdicts

The verdicts may not be republished, so that only numbers come into the page. Every computed number is read from the
JSON that the command writes.
"""

import argparse
import contextlib
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pairwright.cli import main as pairwright

PAGE = Path(__file__).resolve().parent / "evaluation.md"
BEGIN, END = "<!-- winrate: written by docs/winrate_table.py -->\n", "<!-- end of winrate -->"
FEW = ("--draws", "1")  # the tables have no intervals


def command(*words: str | Path) -> dict[str, Any]:
    """What `pairwright evaluate winrate` writes as JSON."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        output = Path(folder) / "result.json"
        code = pairwright(["evaluate", "winrate", *map(str, words), *FEW, "-o", str(output)])
        if code:
            raise SystemExit(f"pairwright evaluate winrate {' '.join(map(str, words))} ended with {code}")
        found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return found


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, numbers to the right."""
    line = ["|" + "|".join(["---", *["--:"] * (len(head) - 1)]) + "|"]
    return "\n".join(
        ["| " + " | ".join(row) + " |" for row in [head]] + line + ["| " + " | ".join(r) + " |" for r in rows]
    )


def visible(data: Path) -> str:
    """Raw win rates of the models whose verdicts are there for 725 of the 805 prompts."""
    rows, worst = [], 0.0
    for row in pl.read_csv(data / "alpaca_eval_published_winrates.csv").iter_rows(named=True):
        found = command(data / "alpaca_eval_scored.parquet", "--generator", row["model"])
        worst = max(worst, abs(found["win_rate"] - row["win_rate_visible_subset"]))
        numbers = [
            row["win_rate_published"],
            row["win_rate_visible_subset"],
            found["win_rate"],
            found["standard_error"],
        ]
        rows.append([row["model"], str(int(found["n_total"])), *(f"{each:.4f}" for each in numbers)])
    head = ("model", "n", "published, 805", "published verdicts, these n", "computed", "standard error")
    return f"{table(head, rows)}\n\nLargest difference of the third and fourth columns: {worst:.1e} points.\n"


def complete(data: Path) -> str:
    """Everything of the models whose verdicts and lengths are all there."""
    folder = data / "lc_winrate_check"
    verdicts, control = folder / "lc_annotations.parquet", ("--length-controlled", "--match", "position")
    official = (*control, "--difficulty", folder / "lc_instruction_difficulty.csv")
    raws, controlled = [], []
    worst = dict.fromkeys(("win_rate", "standard_error", "discrete_win_rate", "weights", "refit", "offline"), 0.0)
    for row in pl.read_csv(folder / "lc_published.csv").iter_rows(named=True):
        who = (verdicts, "--generator", row["model"])
        refit = command(*who, *official, "--anchors", folder / "lc_gamed_rows.csv.gz")
        weights = command(*who, *official, "--weights", folder / "lc_published.csv")
        offline = command(*who, "--length-controlled")
        names = ("win_rate", "standard_error", "discrete_win_rate")
        raws.append([row["model"], str(int(refit["n_total"]))])
        for name in names:
            raws[-1] += [f"{row[name]:.4f}", f"{refit[name]:.4f}"]
            worst[name] = max(worst[name], abs(row[name] - refit[name]))
        target, name = row["length_controlled_winrate"], "length_controlled_winrate"
        computed = {"weights": weights[name], "refit": refit[name], "offline": offline[name]}
        worst |= {key: max(worst[key], abs(target - value)) for key, value in computed.items()}
        told = [f"{target:.4f}", f"{computed['weights']:.4f}", f"{computed['refit']:.4f}", f"{computed['offline']:.2f}"]
        controlled.append([row["model"], *told])
    raw = table(("model", "n", "win rate", "computed", "standard error", "computed", "discrete", "computed"), raws)
    lc = table(("model", "published", "from published weights", "fitted again", "LC-offline"), controlled)
    return (
        f"{raw}\n\nLargest differences: win rate {worst['win_rate']:.1e}, standard error "
        f"{worst['standard_error']:.1e}, discrete {worst['discrete_win_rate']:.1e} points; "
        f"wins, losses and draws are the same.\n\n"
        f"### Length-controlled\n\n{lc}\n\nLargest differences: from published weights {worst['weights']:.1e}, fitted "
        f"again {worst['refit']:.3f}, LC-offline {worst['offline']:.1f} points.\n"
    )


def by_length(data: Path) -> str:
    """The samples of one model, from the shortest to the longest."""
    from pairwright.evaluate.alpaca_eval import COLUMNS, Verdicts, write_annotations

    folder, control = data / "extra", data / "lc_winrate_check"
    other = pl.read_parquet(folder / "tulu2_bo16_baseline_gpt35.parquet").rename({"output": "other"})
    answers = pl.read_parquet(folder / "tulu2_best_of_16.parquet")
    rows = []
    for row in pl.read_csv(folder / "tulu2_bo16_published.csv").iter_rows(named=True):
        published = [f"{row['len_published']}", f"{row['wr_published']:.2f}", f"{row['lc_published']:.2f}"]
        mine = answers.filter(pl.col("sample") == row["sample"]).join(other, on="instruction_id", maintain_order="left")
        if mine["preference"].null_count() == len(mine) or mine["preference"].is_nan().all():
            rows.append([str(row["sample"]), *published, "-", "-"])
            continue
        frame = mine.select(
            prompt="instruction",
            prompt_number=pl.col("instruction_id").cast(pl.String),
            text="instruction",
            position=pl.int_range(pl.len()),
            win="preference",
            answer="output",
            other_answer="other",
            length=pl.col("output").str.len_chars(),
            other_length=pl.col("other").str.len_chars(),
            dataset="dataset",
        ).cast(COLUMNS)  # type: ignore[arg-type]
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "annotations.json"
            write_annotations(Verdicts(source="tulu2", model="tulu-2", opponent="gpt-3.5-turbo", rows=frame), file)
            found = command(
                file,
                *("--length-controlled", "--match", "id"),
                *("--difficulty", control / "lc_instruction_difficulty.csv"),
                *("--anchors", control / "lc_gamed_rows.csv.gz"),
            )
        computed = [f"{found['win_rate']:.2f}", f"{found['length_controlled_winrate']:.2f}"]
        rows.append([str(row["sample"]), *published, *computed])
    return (
        table(("sample", "length", "raw, published", "LC, published", "raw, 725 prompts", "LC, 725 prompts"), rows)
        + "\n"
    )


def page(text: str, tables: str) -> str:
    """The page with the tables in their place."""
    before, found, rest = text.partition(BEGIN)
    if not found or END not in rest:
        raise SystemExit(f"{PAGE} has no place for the tables between {BEGIN.strip()} and {END}")
    return before + BEGIN + tables + END + rest.partition(END)[2]


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path, help="the folder with data/")
    data = parser.parse_args().shared / "data"
    parts = (
        f"\n### Raw, 725 of the 805 prompts\n\n{visible(data)}",
        f"\n### Raw, all prompts\n\n{complete(data)}",
        f"\n### One model's samples by length\n\n{by_length(data)}\n",
    )
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), "".join(parts)), encoding="utf-8")


if __name__ == "__main__":
    main()
