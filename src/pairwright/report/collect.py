"""What a run directory holds, read into one record. Numbers are taken as they stand; rows are counted, no more.

A file that is damaged, or has not the form that it should have, is left out and named; it never stops the page.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from pairwright.errors import InputError, PairwrightError
from pairwright.preferences import Preferences, Step
from pairwright.report.shown import clean, is_number, plain

TRAINING = "training.json"
"""What `train` writes last; a directory with it is a training by itself."""
SAMPLE_PROMPTS = 12
"""So many held-out prompts are shown side by side."""
BROKEN = (PairwrightError, pl.exceptions.PolarsError, OSError, ValueError)
"""What reading damaged data can raise."""


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
    unread: list[str] = []
    """Its files that could not be read."""


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
    """Read the directory of a run, or of a single training.

    Raises:
        InputError: there is no such directory, or neither a step nor a training in it.
    """
    if not run.is_dir():
        raise InputError(f"there is no run directory {run}")
    folders = _folders(run)
    name = plain(run.resolve().name)
    if not folders and (run / TRAINING).is_file():
        return RunView(name=name, steps=[_training(run, name)])
    if not folders:
        raise InputError(
            f"{run} holds no step (directories such as 01-data) and no training ({TRAINING}); "
            "give the directory of a `pairwright run` or what `train` wrote"
        )
    steps = [_step(folder) for folder in folders]
    generated = _generated(folders, steps)
    prompts, samples = _samples(generated)
    return RunView(
        name=name,
        steps=steps,
        columns=[name for name, _ in generated],
        samples=samples,
        prompts_with_answers=prompts,
    )


def _folders(run: Path) -> list[Path]:
    """The directories of steps, also of those whose record is damaged."""
    found = [
        path
        for path in run.iterdir()
        if re.fullmatch(r"\d+-.+", path.name)
        and any((path / name).is_file() for name in ("settings.json", "done.json"))
    ]
    return sorted(found, key=lambda path: (int(path.name.split("-", 1)[0]), path.name))


def dicts(value: Any) -> list[dict[str, Any]]:
    """The objects of a JSON list; of anything else, none."""
    return [item for item in items(value) if isinstance(item, dict)]


def items(value: Any) -> list[Any]:
    """The items of a JSON list; of anything else, none."""
    return list(value) if isinstance(value, list | tuple) else []


def _step(folder: Path) -> StepView:
    number, name = folder.name.split("-", 1)
    unread: list[str] = []
    record = _json(folder / "done.json", unread) or _json(folder / "settings.json", unread) or {}
    settings = dict(_object(record.get("settings")))
    take = settings.pop("from", None)
    lineage, scores = _of_data(folder, unread)
    return StepView(
        number=int(number),
        name=plain(record.get("step") or name),
        verb=plain(record.get("verb") or ""),
        done=(folder / "done.json").is_file(),
        take=take if isinstance(take, str) else None,
        settings=settings,
        inputs=_texts(record.get("inputs")),
        outputs=_texts(record.get("outputs")),
        versions=_texts(record.get("versions")),
        seconds=record["seconds"] if is_number(record.get("seconds")) else None,
        metrics=_lines(folder / "metrics.jsonl"),
        result=_json(folder / "result.json", unread),
        audit=_json(folder / "audit.json", unread),
        lineage=lineage,
        scores=scores,
        unread=unread,
    )


def _training(folder: Path, name: str) -> StepView:
    """A training that is no step of a run, as its `training.json` tells it."""
    unread: list[str] = []
    record = _json(folder / TRAINING, unread) or {}
    config = _object(record.get("config"))
    inner = {key: _object(config.get(key)) for key in ("loss_settings", "trainer")}
    dropped = {key: int(count) for key, count in _object(record.get("dropped")).items() if is_number(count)}
    examples = int(record["examples"]) if is_number(record.get("examples")) else None
    made = Step(
        name=name,
        settings={},
        rows_in=None if examples is None else examples + sum(dropped.values()),
        rows_out=examples,
        dropped=dropped,
        notes=tuple(map(plain, items(record.get("notes")))),
    )
    return StepView(
        number=1,
        name=name,
        verb="train",
        done=bool(record),
        settings={key: value for key, value in config.items() if key not in inner}
        | inner["loss_settings"]
        | inner["trainer"],
        versions=_texts(record.get("versions")),
        metrics=_lines(folder / "metrics.jsonl"),
        lineage=[made] if record else [],
        unread=unread,
    )


def _of_data(folder: Path, unread: list[str]) -> tuple[list[Step], dict[str, int]]:
    """The lineage of a step's data, and its answers by score."""
    if not (folder / "data" / "manifest.json").is_file():
        return [], {}
    try:
        prefs = Preferences.load(folder / "data")
        scores = _by_score(prefs)
        return [Step.model_validate(clean(step.model_dump())) for step in prefs.lineage], scores
    except BROKEN:
        unread.append("data")
        return [], {}


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
        try:
            tables.append((name, _answers(Preferences.load(folder / "data"))))
        except BROKEN:
            continue  # its step says so
    return tables


def _answers(prefs: Preferences) -> pl.DataFrame:
    """Generated answers with their prompts."""
    answers = prefs.responses
    if "goal" not in answers.collect_schema():
        answers = answers.with_columns(goal=pl.lit(None, dtype=pl.Float64))
    joined = answers.join(
        prefs.prompts.select("prompt_id", "prompt"), on="prompt_id", how="left", maintain_order="left"
    )
    return joined.select("prompt_id", "prompt", "goal", "response", "score").collect()


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
                goal = row["goal"] if is_number(row["goal"]) else None
                score = clean(row["score"])
                answers.append(Answer(column=name, goal=goal, text=_text(row["response"]), score=score))
        shown.append(SamplePrompt(prompt=text, answers=answers))
    return len(common), shown


def _text(messages: Sequence[dict[str, str]] | None) -> str:
    return "\n".join(str(message.get("content") or "") for message in messages or ())


def _json(path: Path, unread: list[str]) -> dict[str, Any] | None:
    """The object that a JSON file holds; a file that holds none is added to `unread`."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        unread.append(path.name)
        return None
    return _object(clean(found))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> dict[str, str]:
    return {key: plain(text) for key, text in _object(value).items()}


def _lines(path: Path) -> list[dict[str, Any]]:
    """JSON objects of a `.jsonl` file; a last line that a killed process left half written is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(_object(clean(row)))
    return rows
