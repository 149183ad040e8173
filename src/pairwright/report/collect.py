"""What a run directory holds, read into one record. Numbers are taken as they stand; rows are counted, no more.

A file that is damaged, or has not the form that it should have, is left out and named; it never stops the page.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pairwright.diagnose.finding import Diagnosis
from pairwright.errors import InputError
from pairwright.preferences import Preferences, Step
from pairwright.probes.store import FOLDER
from pairwright.report.data import by_score, pairs_of, relabelling_of, selection_of
from pairwright.report.files import BROKEN, items, json_lines, json_object, mapping, texts
from pairwright.report.probed import probed_of
from pairwright.report.samples import answers_of, side_by_side
from pairwright.report.shown import clean, is_number, plain
from pairwright.report.views import Pairs, Probed, RunView, StepView

TRAINING = "training.json"
"""What `train` writes last; a directory with it is a training by itself."""
DIAGNOSIS = "diagnosis.json"
MANIFEST = Path("data", "manifest.json")


def collect(run: Path) -> RunView:
    """Read the directory of a run, or of a single training.

    Raises:
        InputError: there is no such directory, or neither a step nor a training in it.
    """
    if not run.is_dir():
        raise InputError(f"there is no run directory {run}")
    folders = _folders(run)
    name = plain(run.resolve().name)
    if not folders and not _is_training(run):
        raise InputError(
            f"{run} holds no step (directories such as 01-data) and no training ({TRAINING}); "
            "give the directory of a `pairwright run` or what `train` wrote"
        )
    steps = _steps(folders) if folders else [_training(run, name)]
    unread: list[str] = []
    tables = answers_of(steps)
    prompts, samples = side_by_side(tables)
    diagnosis, source = _diagnosis(run, folders, unread)
    return RunView(
        name=name,
        folder=run,
        steps=steps,
        is_training=not folders,
        columns=[column for column, _ in tables],
        samples=samples,
        prompts_with_answers=prompts,
        diagnosis=diagnosis,
        diagnosis_file=source,
        recipe=_text(run / "recipe.yaml", unread),
        unread=unread,
    )


def _text(path: Path, unread: list[str]) -> str:
    if not path.exists():
        return ""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        unread.append(path.name)
        return ""


def _is_training(folder: Path) -> bool:
    return (folder / TRAINING).exists() or (folder / FOLDER).is_dir()


def _folders(run: Path) -> list[Path]:
    """The directories of steps, also of those whose record is damaged."""
    found = [
        path
        for path in run.iterdir()
        if re.fullmatch(r"\d+-.+", path.name) and any((path / name).exists() for name in ("settings.json", "done.json"))
    ]
    return sorted(found, key=lambda path: (int(path.name.split("-", 1)[0]), path.name))


def _steps(folders: Sequence[Path]) -> list[StepView]:
    """The steps of a run; what a step did to the data of another is counted with both at hand."""
    steps: list[StepView] = []
    data: dict[str, Path] = {}
    for folder in folders:
        step = _step(folder)
        if (folder / MANIFEST).exists():
            steps.append(_with_data(step, data.get(step.take or "")))
            data[step.name] = folder / "data"
        else:
            steps.append(step)
    return steps


def _step(folder: Path) -> StepView:
    number, name = folder.name.split("-", 1)
    unread: list[str] = []
    record = json_object(folder / "done.json", unread) or json_object(folder / "settings.json", unread) or {}
    settings = dict(mapping(record.get("settings")))
    take = settings.pop("from", None)
    return StepView(
        number=int(number),
        name=plain(record.get("step") or name),
        verb=plain(record.get("verb") or ""),
        done=(folder / "done.json").is_file(),
        folder=folder,
        take=take if isinstance(take, str) else None,
        settings=settings,
        inputs=texts(record.get("inputs")),
        outputs=texts(record.get("outputs")),
        versions=texts(record.get("versions")),
        seconds=record["seconds"] if is_number(record.get("seconds")) else None,
        metrics=json_lines(folder / "metrics.jsonl", unread),
        result=json_object(folder / "result.json", unread),
        audit=json_object(folder / "audit.json", unread),
        probed=_probed(folder, unread),
        unread=unread,
    )


def _training(folder: Path, name: str) -> StepView:
    """A training that is no step of a run, as its `training.json` tells it."""
    unread: list[str] = []
    record = json_object(folder / TRAINING, unread) or {}
    config = mapping(record.get("config"))
    inner = {key: mapping(config.get(key)) for key in ("loss_settings", "trainer")}
    dropped = {key: int(count) for key, count in mapping(record.get("dropped")).items() if is_number(count)}
    examples = int(record["examples"]) if is_number(record.get("examples")) else None
    scores, pairs = _held_out(folder, unread)
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
        folder=folder,
        settings={key: value for key, value in config.items() if key not in inner}
        | inner["loss_settings"]
        | inner["trainer"],
        versions=texts(record.get("versions")),
        metrics=json_lines(folder / "metrics.jsonl", unread),
        lineage=[] if examples is None else [made],
        scores=scores,
        pairs=pairs,
        probed=_probed(folder, unread),
        unread=unread,
    )


def _held_out(folder: Path, unread: list[str]) -> tuple[dict[str, int], Pairs | None]:
    """Answers by score, and the pairs, of the held-out data that a training was probed on."""
    if not (folder / FOLDER / "data").exists():
        return {}, None
    try:
        prefs = Preferences.load(folder / FOLDER / "data")
        return by_score(prefs), pairs_of(prefs)
    except BROKEN:
        unread.append(f"{FOLDER}/data")
        return {}, None


def _with_data(step: StepView, taken: Path | None) -> StepView:
    """A step with what is counted of its data; `taken` is where the data lie that it took."""
    try:
        prefs = Preferences.load(step.folder / "data")
        before = Preferences.load(taken) if taken is not None and step.verb == "select" else None
        found: dict[str, Any] = {
            "lineage": [Step.model_validate(clean(each.model_dump())) for each in prefs.lineage],
            "scores": by_score(prefs),
            "pairs": pairs_of(prefs),
            "selection": selection_of(prefs, before),
            "relabelling": relabelling_of(prefs),
        }
    except BROKEN:
        return step.model_copy(update={"unread": [*step.unread, "data"]})
    return step.model_copy(update=found)


def _probed(folder: Path, unread: list[str]) -> Probed | None:
    try:
        return probed_of(folder)
    except BROKEN:
        unread.append(FOLDER)
        return None


def _diagnosis(run: Path, folders: Sequence[Path], unread: list[str]) -> tuple[Diagnosis | None, str]:
    """The newest diagnosis that can be read, and its file: of the last step that has one, or a later one of the run."""
    steps = [folder / DIAGNOSIS for folder in reversed(folders) if (folder / DIAGNOSIS).exists()]
    own = [run / DIAGNOSIS] if (run / DIAGNOSIS).exists() else []
    is_later = bool(own) and all(own[0].stat().st_mtime_ns >= path.stat().st_mtime_ns for path in steps)
    for path in (*own, *steps) if is_later else (*steps, *own):
        name = plain(path.relative_to(run).as_posix())
        found = json_object(path, [])
        try:
            if found:
                known = {key: value for key, value in found.items() if key in Diagnosis.model_fields}
                return Diagnosis.model_validate(known), name
        except ValidationError:
            pass
        unread.append(name)
    return None, ""
