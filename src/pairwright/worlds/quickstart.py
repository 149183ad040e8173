"""The verb `quickstart`: the whole job offline, from nothing, on a laptop."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from pairwright.errors import need
from pairwright.pipeline import Ran, run
from pairwright.pipeline.progress import Progress

RECIPE = files("pairwright.worlds") / "quickstart.yaml"


@dataclass(frozen=True)
class Shown:
    """What a quickstart ends with; printed, it is the headline."""

    run: Path
    """The run directory."""
    page: Path
    """The report."""
    headline: str
    """Mean gold reward of each model under each goal, and the comparisons, with their intervals."""
    seconds: float
    """From the first step to the last, in this process."""

    def __str__(self) -> str:
        """The headline, and where to look."""
        return f"{self.headline}\n\n{self.seconds:.0f} s. Open {self.page}"


def quickstart(
    *,
    output: str | Path = "demo",
    set: Sequence[str] = (),
    fresh: bool = False,
    progress: Progress | None = None,
) -> Shown:
    """Do the whole job once, offline and from nothing: data, audit, pairs, two trainings, answers, report.

    A world with an exact gold reward takes the place of data and of a judge, and a base model of half a million
    weights is trained on the spot. Killed and started again it continues. About three minutes on two cores.

    Args:
        output: the run directory.
        set: changes to the recipe, `NAME.key=value`, for example `text.rated=0` or `ra.beta=0.3`.
        fresh: start over instead of continuing.
        progress: who is told about the steps; plain lines on stderr when not given.

    Raises:
        MissingExtra: torch is not installed.
    """
    need("torch", extra="train")
    start = time.monotonic()
    with as_file(RECIPE) as recipe:
        ran = run(recipe, output=output, set=set, fresh=fresh, progress=progress)
    return Shown(ran.path, ran.step("report") / "report.html", headline(ran), time.monotonic() - start)


def headline(ran: Ran) -> str:
    """The goal table and the comparisons of a run, as text; every number is from its `result.json` files."""
    results = {
        done.step: json.loads((ran.step(done.step) / "result.json").read_text(encoding="utf-8"))
        for done in ran.steps
        if "result.json" in done.outputs
    }
    lines = _goals({name: result for name, result in results.items() if result["name"] == "control"})
    lines.append("")
    lines += _differences({name: result for name, result in results.items() if result["name"] == "compare"})
    return "\n".join(lines)


def _goals(results: dict[str, dict[str, Any]]) -> list[str]:
    goals = list(dict.fromkeys(row["goal"] for result in results.values() for row in result["table"]))
    goals = [goal for goal in goals if goal is None] + sorted(goal for goal in goals if goal is not None)
    head = "".join(f"{'no goal' if goal is None else f'asked {goal:g}':>10}" for goal in goals)
    lines = ["Gold reward (1 to 10) of answers to held-out instructions, with half the 95% interval", f"{'':<14}{head}"]
    for name, result in results.items():
        cells = {row["goal"]: row for row in result["table"]}
        lines.append(f"{name:<14}" + "".join(f"{_cell(cells.get(goal)):>10}" for goal in goals))
    some = next(iter(results.values()), None)
    if some is not None:
        n = some["metrics"][0]["n"]
        lines.append(f"{n} prompts, intervals over prompts; one training seed for each model")
    return lines


def _cell(row: dict[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return "-"
    half = "" if row["low"] is None else f"±{(row['high'] - row['low']) / 2:.2f}"
    return f"{row['value']:.2f}{half}"


def _differences(results: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for name, result in results.items():
        found = next(metric for metric in result["metrics"] if metric["name"] == "difference")
        around = f"[{found['low']:+.2f}, {found['high']:+.2f}]"
        lines.append(f"{name:<20} {found['value']:+.2f} {around} gold, n = {found['n']} prompts")
    return lines
