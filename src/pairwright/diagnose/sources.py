"""What directories of runs and of trainings hold, as the diagnostics read it: trainings, answers, selections.

A directory of a run has steps (`01-data/`); a directory of one training has `training.json`, `metrics.jsonl`, `probes/`
or a `trainer_state.json` of transformers, at its top or in its checkpoints. Nothing is computed here and nothing is
written; what cannot be read is left out and named.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from pairwright.diagnose.answers import ANSWERS, Answers
from pairwright.diagnose.drawn import drawing_of, of_generation
from pairwright.diagnose.trainings import (
    BROKEN,
    STATE,
    STEP_OF,
    StepFiles,
    Training,
    first_line,
    identity,
    is_training,
    json_object,
    mapping,
    step_of,
    training_of,
)
from pairwright.errors import InputError
from pairwright.preferences import Preferences
from pairwright.runs import find_steps

_PASS_ON = frozenset({"score", "as_asked", "logprobs"})
"""Verbs that keep the answers of a `generate` step and know more of them."""


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
        outputs = mapping((json_object(Path(place) / "done.json") or {}).get("outputs"))
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
        step = step_of(path)
        unread: list[str] = []
        training = training_of(path, step.name if step and not several else name, step, {}, unread)
        return Sources((name,), (training,), unread=tuple(unread))
    steps = [step for folder in find_steps(path) if (step := step_of(folder))]
    if not steps:
        raise InputError(
            f"diagnose: {path} holds no step (directories such as 01-data) and no training (training.json, "
            f"metrics.jsonl, probes or {STATE}); give the directory of a `pairwright run` or of a training"
        )
    return _run(steps, name, f"{name}/" if several else "")


def _run(steps: Sequence[StepFiles], name: str, prefix: str) -> Sources:
    """What the steps of one run hold."""
    unread: list[str] = []
    folders = {step.name: step.folder for step in steps}
    trainings = [
        training_of(step.folder, prefix + step.name, step, folders, unread)
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
            unread.append(f"{data}: {first_line(error)}")
    return Sources((name,), tuple(trainings), tuple(drawn), tuple(selections), tuple(unread))


def _generation(
    step: StepFiles, steps: Sequence[StepFiles], folders: Mapping[str, Path], prefix: str, unread: list[str]
) -> Drawn:
    """The answers of a `generate` step with all that later steps put on them."""
    by_name = {each.name: each for each in steps}

    def origin(each: StepFiles) -> str:
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
            unread.append(f"{each.folder / 'data'}: {first_line(error)}")
    if not known:
        raise InputError(f"{step.folder / 'data'} is damaged; run the step again")
    model = identity(str(step.settings.get("model") or ""), folders)
    found = of_generation(known, name=prefix + _called(step, steps), model=model)
    return Drawn(found.answers, model, found.start, notes=found.notes)


def _called(step: StepFiles, steps: Sequence[StepFiles]) -> str:
    """What answers are called: as the step that made their model, where no other answers are of it."""
    said = str(step.settings.get("model") or "")
    asked = [each for each in steps if each.verb == "generate" and each.settings.get("model") == said]
    made = STEP_OF.fullmatch(said)
    return made[1] if made and len(asked) == 1 else step.name


def _models_read(step: StepFiles, by_name: Mapping[str, StepFiles], folders: Mapping[str, Path]) -> list[str]:
    """The models that the `logprobs` steps up to one asked, in the order of their columns."""
    chain, at = [step], step
    while at.verb in _PASS_ON and at.take in by_name:
        at = by_name[at.take]
        chain.append(at)
    found = []
    for each in reversed(chain):
        if each.verb == "logprobs":
            said = (each.settings.get(key) for key in ("model", "reference"))
            found += [identity(str(place), folders) for place in said if place]
    return found


def _named(drawn: Drawn, trainings: Sequence[Training], same: Mapping[str, str]) -> Drawn:
    """Answers with the training that their model is of, and whether a training started there."""
    mine = next((each for each in trainings if each.model == drawn.model), None)
    known = same.get(drawn.model, drawn.model)
    at_start = any(each.start == known for each in trainings)
    settings = {**(mine.settings if mine else {}), **drawn.answers.settings}
    return replace(
        drawn,
        answers=replace(drawn.answers, training=mine.name if mine else "", settings=settings),
        model=known if at_start else drawn.model,
        start=same.get(drawn.start, drawn.start),
        at_start=at_start,
    )


def _of_samples(training: Training) -> Iterator[Drawn]:
    """What a training's model wrote at each of its probes: its start at step 0, the model as it ended at the last.

    Without a goal and asked for the best one are answers of two distributions, and stay apart.
    """
    if training.probes is None or training.probes.samples.is_empty():
        return
    settings = {**training.settings, **drawing_of(training.probes.about.samples)}
    last = training.probes.steps[-1] if training.finished and training.probes.steps else None
    for (number, asked), part in training.probes.samples.group_by("step", "asked", maintain_order=True):
        frame = part.select(pl.col(name).cast(kind) for name, kind in ANSWERS.items())
        if number == 0:
            answers = Answers(f"start of {training.name}", frame, "", None, settings, asked)
            yield Drawn(answers, training.start, training.start, at_start=True, probed=True)
        elif number == last:
            answers = Answers(training.name, frame, training.name, None, settings, asked)
            yield Drawn(answers, training.model, training.start, probed=True)
        else:
            answers = Answers(f"{training.name} step {number}", frame, training.name, int(number), settings, asked)
            yield Drawn(answers, f"{training.model}@{number}", training.start, probed=True)
