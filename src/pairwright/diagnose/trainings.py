"""One training, and one step of a run, as their files tell of them."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from pairwright.errors import PairwrightError
from pairwright.probes.store import Probes, load_probes

STATE = "trainer_state.json"
"""Where transformers keeps the log of a training."""
BROKEN = (PairwrightError, pl.exceptions.PolarsError, OSError, ValueError)
"""What reading damaged data can raise."""
STEP_OF = re.compile(r"step:(\S+)")
"""How a recipe speaks of the output of a step."""

_SETTINGS = ("beta", "learning_rate", "seed")
_OF_LOSS = ("divergence", "weighting", "reference", "reference_model", "reference_mix", "reference_every")
_OF_RUN = ("examples", "split", "score", "threshold", "anchor_goal", "lora")
_OF_TRAINER = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "lr_scheduler_type",
    "warmup_steps",
    "warmup_ratio",
    "weight_decay",
    "max_grad_norm",
    "optim",
)


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        name: of its step or its directory; with the run's name before it where there are several runs.
        directory: of the training.
        probes: what was probed of it; None where nothing was.
        rows: its logged rows, in order.
        settings: `loss`, `beta`, `learning_rate`, `seed` and `trained` (of the function of that name), where known.
        model: how the model that it ends with is known here.
        start: how the model that it started from is known here.
        asks: whether its pairs asked for goals.
        prefers: whether it looked at two sides, so that a margin and its two log-probabilities mean something.
        finished: whether it has ended.
    """

    name: str
    directory: Path
    probes: Probes | None = None
    rows: tuple[Mapping[str, Any], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    start: str = ""
    asks: bool = False
    prefers: bool = True
    finished: bool = True


@dataclass(frozen=True)
class StepFiles:
    """One step of a run.

    Attributes:
        name: in its recipe.
        verb: what it did.
        settings: as it was asked.
        take: the step whose data it took; empty for none.
        folder: where it lies.
        done: whether it is finished.
    """

    name: str
    verb: str
    settings: Mapping[str, Any]
    take: str
    folder: Path
    done: bool


def is_training(directory: Path) -> bool:
    """Whether a directory is that of one training, ours or one of transformers."""
    ours = ("training.json", "metrics.jsonl", "probes/probes.json")
    return any((directory / name).is_file() for name in ours) or _state(directory) is not None


def training_of(
    folder: Path, name: str, step: StepFiles | None, folders: Mapping[str, Path], unread: list[str]
) -> Training:
    """One training, by `training.json` and, while it runs, by what its step was asked.

    Args:
        folder: of the training.
        name: what it is called.
        step: the step that it is; None outside of a run.
        folders: of the steps of its run, by name.
        unread: gets what could not be read, one sentence each.
    """
    record = json_object(folder / "training.json") or {}
    config = mapping(record.get("config"))
    asked = dict(step.settings) if step else {}
    inner = {**mapping(config.get("trainer")), **mapping(config.get("loss_settings"))}
    terms = _terms(config.get("loss", asked.get("loss")))
    betas = [beta for term in terms if (beta := mapping(term.get("settings")).get("beta", term.get("beta")))]
    known = {**asked, **inner, **config, **({"beta": betas[0]} if betas and "beta" not in inner else {})}
    probes = None
    try:
        probes = load_probes(folder)
    except BROKEN as error:
        unread.append(first_line(error))
    losses = [str(term.get("name")) for term in terms]
    settings = {key: known[key] for key in _SETTINGS if known.get(key) is not None}
    if losses:
        settings = {"loss": " + ".join(losses), **settings}
    elif probes is not None and probes.about.loss:
        settings = {"loss": probes.about.loss, **settings}
    if beside := trained(record):
        settings["trained"] = beside
    rows = _rows(folder)
    alone = bool(losses) and set(losses) <= {"sft"}
    step_before = STEP_OF.fullmatch(str(asked.get("model") or ""))
    places = [asked.get("model")] if step_before and step_before[1] in folders else []
    places += [config.get("model"), None if step_before else asked.get("model"), probes.about.start if probes else None]
    said = next((str(place) for place in places if place), "")
    return Training(
        name=name,
        directory=folder,
        probes=probes,
        rows=rows,
        settings=settings,
        model=identity(str(folder / "model"), {}),
        start=identity(said, folders),
        asks=record.get("goal") is not None or bool(probes and probes.about.goal),
        prefers=probes is not None or not alone,
        finished=bool(record) or step is None,
    )


def trained(record: Mapping[str, Any]) -> dict[str, str]:
    """What a training was, but for the name of its loss, `beta`, the learning rate and the seed.

    Trainings with the same of it lie on one curve over beta; with the same beta and learning rate they are repeats.

    Args:
        record: its `training.json`.

    Returns:
        By name, as text, sorted; what is not set is left out. `data` is the digest of the examples that it saw, `goal`
        how scores were asked for, `processes` how many shared a batch; `steps` or `epochs`, whichever decided.
    """
    config = mapping(record.get("config"))
    trainer = mapping(config.get("trainer"))
    found = {name: config.get(name) for name in (*_OF_LOSS, *_OF_RUN)}
    if found["reference_model"] == config.get("model"):
        found["reference_model"] = None
    found |= {name: trainer.get(name) for name in _OF_TRAINER}
    found |= {name: record.get(name) for name in ("data", "goal", "processes")}
    most = trainer.get("max_steps")
    limited = isinstance(most, int) and most > 0
    found |= {"steps": most} if limited else {"epochs": trainer.get("num_train_epochs")}
    loss = config.get("loss")
    of_loss = mapping(config.get("loss_settings")) if isinstance(loss, str) else {"terms": _terms(loss)}
    found["loss settings"] = _without_beta(of_loss) or None
    return (
        {
            name: value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
            for name, value in sorted(found.items())
            if value is not None
        }
        if config
        else {}
    )


def _without_beta(said: Mapping[str, Any]) -> dict[str, Any]:
    """A term of a loss or its settings, without what a sweep varies."""
    inner: dict[str, Any] = {}
    if "settings" in said:
        inner["settings"] = _without_beta(mapping(said["settings"]))
    if "terms" in said:
        inner["terms"] = [_without_beta(term) for term in said["terms"]]
    return {name: value for name, value in said.items() if name != "beta"} | inner


def step_of(folder: Path) -> StepFiles | None:
    """The step that a directory is, by `done.json`, or `settings.json` while it is not done; None where it is none."""
    record = json_object(folder / "done.json") or json_object(folder / "settings.json")
    if not record:
        return None
    settings = mapping(record.get("settings"))
    return StepFiles(
        name=str(record.get("step") or folder.name.split("-", 1)[-1]),
        verb=str(record.get("verb") or ""),
        settings=settings,
        take=str(settings.get("from") or ""),
        folder=folder,
        done=(folder / "done.json").is_file(),
    )


def _terms(loss: Any) -> list[Mapping[str, Any]]:
    """A loss as terms: a name, a term, or a list of these."""
    given = loss if isinstance(loss, list | tuple) else [] if loss is None else [loss]
    return [mapping(each) or {"name": str(each)} for each in given]


def identity(said: str, folders: Mapping[str, Path]) -> str:
    """One text for one model: the directory of its step or training, else as it was said (a name of the hub)."""
    if not said:
        return ""
    step = STEP_OF.fullmatch(said)
    place = folders[step[1]] / "model" if step and step[1] in folders else Path(said)
    if place.name in ("model", "adapter") and place.parent.name:
        place = place.parent
    elif not place.is_dir():
        return said
    return str(place.resolve())


def _rows(folder: Path) -> tuple[Mapping[str, Any], ...]:
    """The logged rows of a training: of `metrics.jsonl`, else of the newest log that transformers kept."""
    log = folder / "metrics.jsonl"
    if log.is_file():
        return tuple(_lines(log))
    state = _state(folder)
    rows = (json_object(state) or {}).get("log_history") if state else None
    return tuple(row for row in rows if isinstance(row, dict)) if isinstance(rows, list) else ()


def _state(folder: Path) -> Path | None:
    """The newest `trainer_state.json` of a training."""
    if (folder / STATE).is_file():
        return folder / STATE
    steps = {int(path.parent.name.rpartition("-")[2]): path for path in folder.glob(f"checkpoint-[0-9]*/{STATE}")
             if path.parent.name.rpartition("-")[2].isdigit()}  # fmt: skip
    return steps[max(steps)] if steps else None


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """The objects of a `.jsonl` file; a line that a killed process left half written is passed over."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def json_object(path: Path) -> dict[str, Any] | None:
    """The object of a JSON file; None where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def mapping(value: Any) -> dict[str, Any]:
    """A JSON object; of anything else, an empty one."""
    return value if isinstance(value, dict) else {}


def first_line(error: BaseException) -> str:
    """What an error says first."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
