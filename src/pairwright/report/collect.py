"""What a run directory holds, read into one record. Numbers are taken as they stand; rows are counted, no more."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from pairwright.errors import InputError
from pairwright.preferences import Preferences, Step
from pairwright.runs import find_steps

SAMPLE_PROMPTS = 12
"""So many held-out prompts are shown side by side."""


class StepView(BaseModel):
    """One step of a run, as its `settings.json` and `done.json` tell it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    number: int
    name: str
    verb: str = ""
    done: bool = False
    settings: dict[str, Any] = {}
    take: str | None = None
    """The step whose data it took."""
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}
    versions: dict[str, str] = {}
    seconds: float | None = None
    metrics: list[dict[str, Any]] = []
    """Logged rows of a training, from its `metrics.jsonl`."""
    result: dict[str, Any] | None = None
    """An evaluation's `result.json`."""
    audit: dict[str, Any] | None = None
    lineage: list[Step] = []
    """Of its data, from the first file on."""
    scores: dict[str, int] = {}
    """Answers by score, of its data; `unscored` for those without."""


class Answer(BaseModel):
    """One generated answer."""

    column: str
    goal: float | None
    text: str
    score: float | None


class SamplePrompt(BaseModel):
    """A held-out prompt and what the models answered."""

    prompt: str
    answers: list[Answer]


class RunView(BaseModel):
    """Everything that a page shows of a run."""

    name: str
    steps: list[StepView]
    columns: list[str] = []
    """Steps that generated answers, in order."""
    samples: list[SamplePrompt] = []
    prompts_with_answers: int = 0

    def of(self, part: str) -> list[StepView]:
        """The steps that have a part: `metrics`, `result`, `audit`, `lineage`, `scores`."""
        return [step for step in self.steps if getattr(step, part)]


def collect(run: Path) -> RunView:
    """Read a run directory.

    Raises:
        InputError: there is no such directory, or no step in it.
    """
    if not run.is_dir():
        raise InputError(f"there is no run directory {run}")
    folders = find_steps(run)
    if not folders:
        raise InputError(f"{run} holds no step (directories such as 01-data); give the directory of a `pairwright run`")
    steps = [_step(folder) for folder in folders]
    generated = _generated(folders, steps)
    prompts, samples = _samples(generated)
    return RunView(
        name=run.resolve().name,
        steps=steps,
        columns=[name for name, _ in generated],
        samples=samples,
        prompts_with_answers=prompts,
    )


def _step(folder: Path) -> StepView:
    number, name = folder.name.split("-", 1)
    record = _json(folder / "done.json") or _json(folder / "settings.json") or {}
    settings = dict(record.get("settings", {}))
    prefs = _data(folder)
    return StepView(
        number=int(number),
        name=record.get("step", name),
        verb=record.get("verb", ""),
        done=(folder / "done.json").is_file(),
        take=settings.pop("from", None),
        settings=settings,
        inputs=record.get("inputs", {}),
        outputs=record.get("outputs", {}),
        versions=record.get("versions", {}),
        seconds=record.get("seconds"),
        metrics=_lines(folder / "metrics.jsonl"),
        result=_json(folder / "result.json"),
        audit=_json(folder / "audit.json"),
        lineage=list(prefs.lineage) if prefs else [],
        scores=_by_score(prefs) if prefs else {},
    )


def _data(folder: Path) -> Preferences | None:
    if not (folder / "data" / "manifest.json").is_file():
        return None
    try:
        return Preferences.load(folder / "data")
    except InputError:
        return None


def _by_score(prefs: Preferences) -> dict[str, int]:
    """How many answers have each score, in the order of the scores."""
    counts = prefs.responses.group_by("score").len().sort("score", nulls_last=True).collect()
    return {"unscored" if score is None else f"{score:g}": n for score, n in counts.iter_rows()}


def _generated(folders: Sequence[Path], steps: Sequence[StepView]) -> list[tuple[str, pl.DataFrame]]:
    """The answers of each `generate` step, with the scores that a later step put on them."""
    verbs = {step.name: step.verb for step in steps}
    takes = {step.name: step.take for step in steps}
    found: dict[str, Path] = {}
    for folder, step in zip(folders, steps, strict=True):
        origin: str | None = step.name
        while origin and verbs.get(origin) in {"score", "read"}:
            origin = takes.get(origin)
        if origin and verbs.get(origin) == "generate" and (folder / "data" / "manifest.json").is_file():
            found[origin] = folder  # a later step (a scorer) has the same answers and knows more
    tables = []
    for name, folder in found.items():
        prefs = _data(folder)
        if prefs is None:
            continue
        answers = prefs.responses
        if "goal" not in answers.collect_schema():
            answers = answers.with_columns(goal=pl.lit(None, dtype=pl.Float64))
        joined = answers.join(prefs.prompts.select("prompt_id", "prompt"), on="prompt_id", how="left")
        columns = ["prompt_id", "prompt", "goal", "response", "score"]
        tables.append((name, joined.select(columns).collect()))
    return tables


def _samples(generated: Sequence[tuple[str, pl.DataFrame]]) -> tuple[int, list[SamplePrompt]]:
    """The first answer of each model under each goal to the first prompts that all of them answered."""
    if not generated:
        return 0, []
    orders = [table["prompt_id"].unique(maintain_order=True).to_list() for _, table in generated]
    common = [prompt for prompt in orders[0] if all(prompt in set(other) for other in orders[1:])] or orders[0]
    shown = []
    for prompt_id in common[:SAMPLE_PROMPTS]:
        answers, text = [], ""
        for name, table in generated:
            mine = table.filter(pl.col("prompt_id") == prompt_id).unique("goal", keep="first", maintain_order=True)
            for row in mine.iter_rows(named=True):
                text = text or _text(row["prompt"])
                goal = row["goal"] if isinstance(row["goal"], float) else None
                answers.append(Answer(column=name, goal=goal, text=_text(row["response"]), score=row["score"]))
        shown.append(SamplePrompt(prompt=text, answers=answers))
    return len(common), shown


def _text(messages: Sequence[dict[str, str]] | None) -> str:
    return "\n".join(str(message.get("content") or "") for message in messages or ())


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _lines(path: Path) -> list[dict[str, Any]]:
    """JSON objects of a `.jsonl` file; a last line that a killed process left half written is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
