"""What directories of runs and of trainings hold, as the diagnostics read it: trainings, answers, selections.

A directory of a run has steps (`01-data/`); a directory of one training has `training.json`, `metrics.jsonl`, `probes/`
or a `trainer_state.json` of transformers, at its top or in its checkpoints. Nothing is computed here and nothing is
written; what cannot be read is left out and named.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from pairwright.diagnose.answers import ANSWERS, Answers
from pairwright.diagnose.drawn import DRAWING, of_generation
from pairwright.errors import InputError, PairwrightError
from pairwright.preferences import Preferences
from pairwright.probes.store import Probes, load_probes
from pairwright.runs import find_steps

STATE = "trainer_state.json"
"""Where transformers keeps the log of a training."""
BROKEN = (PairwrightError, pl.exceptions.PolarsError, OSError, ValueError)
"""What reading damaged data can raise."""

_STEP_OF = re.compile(r"step:(\S+)")
_SETTINGS = ("beta", "learning_rate", "seed", "max_steps")
_PASS_ON = frozenset({"score", "as_asked", "logprobs"})
"""Verbs that keep the answers of a `generate` step and know more of them."""


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        name: of its step or its directory; with the run's name before it where there are several runs.
        directory: of the training.
        probes: what was probed of it; None where nothing was.
        rows: its logged rows, in order.
        settings: `loss`, `beta`, `learning_rate`, `seed`, `max_steps`, where known.
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
class Drawn:
    """Answers of a model and where they are from.

    Attributes:
        answers: the answers.
        model: how the model that gave them is known here.
        start: how the model is known that their `start_logp` and `kl` are of; empty where they have none.
        at_start: whether the model is one that a training of these runs started from, unchanged.
        probed: whether they are samples of a probe, and not of a `generate` step.
        notes: what a reader of their divergence should know; one that begins with `There is no KL` says why.
    """

    answers: Answers
    model: str
    start: str = ""
    at_start: bool = False
    probed: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chosen:
    """What a `select` step found of how far metrics choose the same pairs."""

    name: str
    found: Mapping[str, Any]


@dataclass(frozen=True)
class Sources:
    """Everything that runs hold for a diagnosis.

    Attributes:
        runs: their names.
        trainings: in the order of the runs and their steps.
        drawn: the answers of `generate` steps, then those of probes, in that order.
        selections: of `select` steps that compared metrics.
        unread: what could not be read and why, one sentence each.
    """

    runs: tuple[str, ...]
    trainings: tuple[Training, ...] = ()
    drawn: tuple[Drawn, ...] = ()
    selections: tuple[Chosen, ...] = ()
    unread: tuple[str, ...] = ()

    def of(self, training: Training) -> list[Drawn]:
        """The answers of one training's models, in the order of steps; the model as it ended last."""
        mine = [each for each in self.drawn if each.answers.training == training.name]
        return sorted(mine, key=lambda each: (each.answers.step is None, each.answers.step or 0))

    def starts(self, start: str) -> list[Drawn]:
        """The answers of one model that trainings started from."""
        return [each for each in self.drawn if each.at_start and each.model == start]


@dataclass(frozen=True)
class _Step:
    name: str
    verb: str
    settings: Mapping[str, Any]
    take: str
    folder: Path
    done: bool


def sources(runs: Sequence[str | Path]) -> Sources:
    """Read runs and trainings.

    Args:
        runs: directories of `pairwright run`, or of one training each.

    Raises:
        InputError: there is no such directory, or it holds neither a step nor a training.
    """
    paths = [Path(run) for run in runs]
    names = _names(paths)
    found = [_one(path, name, several=len(paths) > 1) for path, name in zip(paths, names, strict=True)]
    same = _same_weights([each for part in found for each in _places(part)])
    trainings = tuple(
        replace(each, start=same.get(each.start, each.start)) for part in found for each in part.trainings
    )
    generated = [each for part in found for each in part.drawn]
    probed = [each for training in trainings for each in _of_samples(training)]
    return Sources(
        runs=tuple(names),
        trainings=trainings,
        drawn=tuple(_named(each, trainings, same) for each in generated) + tuple(probed),
        selections=tuple(each for part in found for each in part.selections),
        unread=tuple(each for part in found for each in part.unread),
    )


def is_training(directory: Path) -> bool:
    """Whether a directory is that of one training, ours or one of transformers."""
    ours = ("training.json", "metrics.jsonl", "probes/probes.json")
    return any((directory / name).is_file() for name in ours) or _state(directory) is not None


def _places(found: Sources) -> list[str]:
    """Every model that a run speaks of, as it is known there."""
    return [
        place for part in (found.trainings, found.drawn) for each in part for place in (each.start, each.model) if place
    ]


def _same_weights(places: Sequence[str]) -> dict[str, str]:
    """The first of all models with the same weights, for each model whose step recorded their digests.

    Two runs with the same recipe up to their trainings have a start each, and it is one model all the same.
    """
    first: dict[tuple[tuple[str, str], ...], str] = {}
    found = {}
    for place in dict.fromkeys(places):
        outputs = _object((_json(Path(place) / "done.json") or {}).get("outputs"))
        weights = sorted(
            (name, str(value)) for name, value in outputs.items() if re.match(r"model/.*\.(safetensors|bin)$", name)
        )
        if weights:
            found[place] = first.setdefault(tuple(weights), place)
    return found


def _names(paths: Sequence[Path]) -> list[str]:
    """What each run is called: its directory's name, with as much of what stands before it as tells them apart.

    Raises:
        InputError: a directory is given twice.
    """
    whole = [path.resolve() for path in paths]
    if len(set(whole)) < len(whole):
        twice = next(path for path in whole if whole.count(path) > 1)
        raise InputError(f"diagnose: {twice} is given twice; name each run once")
    for depth in range(1, max((len(path.parts) for path in whole), default=1) + 1):
        names = ["/".join(path.parts[-depth:]) for path in whole]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in whole]


def _one(path: Path, name: str, *, several: bool) -> Sources:
    if not path.is_dir():
        raise InputError(f"diagnose: there is no directory {path}; give that of a run or of a training")
    if is_training(path):
        record = _json(path / "done.json") or _json(path / "settings.json") or {}
        step = _step(path, record) if record else None
        unread: list[str] = []
        training = _training(path, step.name if step and not several else name, step, {}, unread)
        return Sources((name,), (training,), unread=tuple(unread))
    steps = [_step(folder, _json(folder / "done.json") or _json(folder / "settings.json") or {}) for folder in
             find_steps(path)]  # fmt: skip
    if not steps:
        raise InputError(
            f"diagnose: {path} holds no step (directories such as 01-data) and no training (training.json, "
            f"metrics.jsonl, probes or {STATE}); give the directory of a `pairwright run` or of a training"
        )
    return _run(steps, name, f"{name}/" if several else "")


def _run(steps: Sequence[_Step], name: str, prefix: str) -> Sources:
    """What the steps of one run hold."""
    unread: list[str] = []
    folders = {step.name: step.folder for step in steps}
    trainings = [
        _training(step.folder, prefix + step.name, step, folders, unread)
        for step in steps
        if step.verb == "train" and is_training(step.folder)
    ]
    drawn, selections = [], []
    for step in steps:
        data = step.folder / "data"
        if not step.done or not (data / "manifest.json").is_file():
            continue
        try:
            if step.verb == "generate":
                drawn.append(_generation(step, steps, folders, prefix, unread))
            if step.verb == "select":
                last = Preferences.load(data).lineage[-1]
                if agreed := last.found.get("overlap"):
                    selections.append(Chosen(prefix + step.name, agreed))
        except BROKEN as error:
            unread.append(f"{data}: {_first_line(error)}")
    return Sources((name,), tuple(trainings), tuple(drawn), tuple(selections), tuple(unread))


def _step(folder: Path, record: Mapping[str, Any]) -> _Step:
    settings = _object(record.get("settings"))
    return _Step(
        name=str(record.get("step") or folder.name.split("-", 1)[-1]),
        verb=str(record.get("verb") or ""),
        settings=settings,
        take=str(settings.get("from") or ""),
        folder=folder,
        done=(folder / "done.json").is_file(),
    )


def _training(folder: Path, name: str, step: _Step | None, folders: Mapping[str, Path], unread: list[str]) -> Training:
    """One training, by `training.json` and, while it runs, by what its step was asked."""
    record = _json(folder / "training.json") or {}
    config = _object(record.get("config"))
    asked = dict(step.settings) if step else {}
    inner = {**_object(config.get("trainer")), **_object(config.get("loss_settings"))}
    terms = _terms(config.get("loss", asked.get("loss")))
    betas = [beta for term in terms if (beta := _object(term.get("settings")).get("beta", term.get("beta")))]
    known = {**asked, **inner, **config, **({"beta": betas[0]} if betas and "beta" not in inner else {})}
    probes = None
    try:
        probes = load_probes(folder)
    except BROKEN as error:
        unread.append(_first_line(error))
    losses = [str(term.get("name")) for term in terms]
    settings = {key: known[key] for key in _SETTINGS if known.get(key) is not None}
    if losses:
        settings = {"loss": " + ".join(losses), **settings}
    elif probes is not None and probes.about.loss:
        settings = {"loss": probes.about.loss, **settings}
    rows = _rows(folder)
    alone = bool(losses) and set(losses) <= {"sft"}
    step_before = _STEP_OF.fullmatch(str(asked.get("model") or ""))
    places = [asked.get("model")] if step_before and step_before[1] in folders else []
    places += [config.get("model"), None if step_before else asked.get("model"), probes.about.start if probes else None]
    said = next((str(place) for place in places if place), "")
    return Training(
        name=name,
        directory=folder,
        probes=probes,
        rows=rows,
        settings=settings,
        model=_identity(str(folder / "model"), {}),
        start=_identity(said, folders),
        asks=record.get("goal") is not None or bool(probes and probes.about.goal),
        prefers=probes is not None or not alone,
        finished=bool(record) or step is None,
    )


def _terms(loss: Any) -> list[Mapping[str, Any]]:
    """A loss as terms: a name, a term, or a list of these."""
    given = loss if isinstance(loss, list | tuple) else [] if loss is None else [loss]
    return [_object(each) or {"name": str(each)} for each in given]


def _generation(
    step: _Step, steps: Sequence[_Step], folders: Mapping[str, Path], prefix: str, unread: list[str]
) -> Drawn:
    """The answers of a `generate` step with all that later steps put on them."""
    by_name = {each.name: each for each in steps}

    def origin(each: _Step) -> str:
        while each.verb in _PASS_ON and each.take in by_name:
            each = by_name[each.take]
        return each.name

    later = [
        each
        for each in steps
        if each.verb in _PASS_ON and each.done and each.folder != step.folder and origin(each) == step.name
    ]
    known = []
    for each in (step, *later):
        try:
            known.append((_models_read(each, by_name, folders), Preferences.load(each.folder / "data")))
        except BROKEN as error:
            unread.append(f"{each.folder / 'data'}: {_first_line(error)}")
    if not known:
        raise InputError(f"{step.folder / 'data'} is damaged; run the step again")
    model = _identity(str(step.settings.get("model") or ""), folders)
    found = of_generation(known, name=prefix + _called(step, steps), model=model)
    return Drawn(found.answers, model, found.start, notes=found.notes)


def _called(step: _Step, steps: Sequence[_Step]) -> str:
    """What answers are called: as the step that made their model, where no other answers are of it."""
    said = str(step.settings.get("model") or "")
    asked = [each for each in steps if each.verb == "generate" and each.settings.get("model") == said]
    made = _STEP_OF.fullmatch(said)
    return made[1] if made and len(asked) == 1 else step.name


def _models_read(step: _Step, by_name: Mapping[str, _Step], folders: Mapping[str, Path]) -> list[str]:
    """The models that the `logprobs` steps up to one asked, in the order of their columns."""
    chain, at = [step], step
    while at.verb in _PASS_ON and at.take in by_name:
        at = by_name[at.take]
        chain.append(at)
    found = []
    for each in reversed(chain):
        if each.verb == "logprobs":
            said = (each.settings.get(key) for key in ("model", "reference"))
            found += [_identity(str(place), folders) for place in said if place]
    return found


def _named(drawn: Drawn, trainings: Sequence[Training], same: Mapping[str, str]) -> Drawn:
    """Answers with the training that their model is of, and whether a training started there."""
    mine = next((each for each in trainings if each.model == drawn.model), None)
    known = same.get(drawn.model, drawn.model)
    at_start = any(each.start == known for each in trainings)
    settings = {**(mine.settings if mine else {}), **drawn.answers.settings}
    answers = Answers(drawn.answers.name, drawn.answers.frame, mine.name if mine else "", None, settings)
    return replace(
        drawn,
        answers=answers,
        model=known if at_start else drawn.model,
        start=same.get(drawn.start, drawn.start),
        at_start=at_start,
    )


def _of_samples(training: Training) -> Iterator[Drawn]:
    """What a training's model wrote at each of its probes: its start at step 0, the model as it ended at the last."""
    if training.probes is None or training.probes.samples.is_empty():
        return
    drawing = {key: value for key, value in training.probes.about.samples.items() if key in DRAWING}
    settings = {**training.settings, **drawing}
    last = training.probes.steps[-1] if training.finished and training.probes.steps else None
    for (number,), part in training.probes.samples.group_by("step", maintain_order=True):
        frame = part.select(pl.col(name).cast(kind) for name, kind in ANSWERS.items())
        if number == 0:
            answers = Answers(f"start of {training.name}", frame, "", None, settings)
            yield Drawn(answers, training.start, training.start, at_start=True, probed=True)
        elif number == last:
            answers = Answers(training.name, frame, training.name, None, settings)
            yield Drawn(answers, training.model, training.start, probed=True)
        else:
            answers = Answers(f"{training.name} step {number}", frame, training.name, int(number), settings)
            yield Drawn(answers, f"{training.model}@{number}", training.start, probed=True)


def _identity(said: str, folders: Mapping[str, Path]) -> str:
    """One text for one model: the directory of its step or training, else as it was said (a name of the hub)."""
    if not said:
        return ""
    step = _STEP_OF.fullmatch(said)
    place = folders[step[1]] / "model" if step and step[1] in folders else Path(said)
    if place.name == "model" and place.parent.name:
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
    rows = (_json(state) or {}).get("log_history") if state else None
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


def _json(path: Path) -> dict[str, Any] | None:
    """The object of a JSON file; None where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
