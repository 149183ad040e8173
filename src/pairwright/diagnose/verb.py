"""The verb `diagnose`: everything that the files of runs allow to say of their trainings, and what is missing."""

import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pairwright.diagnose.finding import MADE_BY, Diagnosis, Missing, Part
from pairwright.diagnose.parts import of_answers, of_selections, of_trainings
from pairwright.diagnose.sources import Sources, sources
from pairwright.errors import InputError
from pairwright.preferences import Preferences
from pairwright.runs import versions, write_text

Runs = str | PathLike[str] | Sequence[str | PathLike[str]]
NAME = "diagnosis.json"
_AGAIN = "Mend that and run `pairwright diagnose RUN --data DATA` again; what was probed is not probed twice."


def diagnose(
    runs: Runs,
    *,
    output: str | Path | None = None,
    data: Preferences | None = None,
    split: str = "test",
    pairs: Annotated[int, Field(gt=0)] = 256,
    samples: Annotated[int, Field(ge=0)] = 0,
    max_new_tokens: Annotated[int, Field(gt=0)] = 256,
    scorer: str | None = None,
    start: str | Path | None = None,
    checkpoints: bool = True,
    beta: Annotated[float, Field(gt=0)] | None = None,
    at_least: float | None = None,
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.9,
    drop: Annotated[float, Field(ge=0)] = 0.02,
    fall: Annotated[float, Field(ge=0)] = 0.01,
    checks: Annotated[int, Field(gt=0)] = 2,
    within: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    draws: Annotated[int, Field(gt=0)] = 2000,
    seed: int = 0,
    batch_tokens: Annotated[int, Field(gt=0)] = 8192,
) -> Diagnosis:
    """Say what training did: unlearning, displacement, over-optimisation, KL budget, length, diversity, goals, margins.

    It reads what lies in the runs: probes, logged steps, answers with their scores and log-probabilities, selections.
    With `data` it first probes what was not probed while a training ran: the model it started from, the checkpoints
    that were kept, the model as it ended, and, where asked for, their samples and the scores of these. Whatever cannot
    be computed is named, with the step or command that makes it possible.

    Args:
        runs: directories of `pairwright run`, of a training of ours, or of one by TRL (`trainer_state.json`, or what
            our callback wrote); what `run` or `train` gave; or several of them.
        output: the JSON file, or a directory for `diagnosis.json`; the (first) run directory when not given.
        data: scored preferences with a held-out split, to probe what is not probed yet.
        split: the split of `data` that is held out.
        pairs: most pairs of it that are asked.
        samples: answers that each probed model writes to each of these prompts, for the KL budget, length and
            diversity; 0 writes none.
        max_new_tokens: of such an answer.
        scorer: scores these answers: a name of `pairwright list scorers`, or `module:function`.
        start: the model that training started from, where it is no longer at the place that `training.json` names.
        checkpoints: whether kept checkpoints are probed, or the start and the model as it ended alone.
        beta: scales log-ratios to implicit rewards; the training's own when not given.
        at_least: rejected answers with this score count as good ones that are unlearned; 5 on a scale of 1 to 10 and
            the median of rejected scores elsewhere when not given.
        smoothing: weight of the past in the curves that over-optimisation is read from.
        drop: share of its highest value by which the top-k entropy must have fallen again.
        fall: how far the top-k mass must have fallen below its first value, in units of probability.
        checks: probes in a row beyond such a bound before a signal fires.
        within: share of the longer answer by which lengths may differ and count as the same.
        draws: bootstrap samples of every interval.
        seed: of the bootstrap, and of what is drawn with `data`.
        batch_tokens: tokens of a batch of models that are probed here, at most.

    Returns:
        The diagnosis, which is also written; printed, it is a table, warnings first.

    Raises:
        InputError: there is no run directory, it holds neither a step nor a training, or the file to write is somebody
            else's.
    """
    given = [runs] if isinstance(runs, str | PathLike) else list(runs)
    if not given:
        raise InputError("diagnose needs the directory of a run or of a training; give one")
    paths = [_directory(item) for item in given]
    target = target_of(output, paths[0])
    if target.exists() and not _is_ours(target):
        raise InputError(f"{target} is there, and no diagnosis wrote it; choose another output")
    found, missing = sources(paths), list[Missing]()
    if data is not None:
        asked = {"split": split, "pairs": pairs, "samples": samples, "scorer": scorer, "seed": seed}
        asked |= {"max_new_tokens": max_new_tokens, "batch_tokens": batch_tokens}
        asked |= {"start": start, "checkpoints": checkpoints}
        missing += _probed(found, data, asked)
        found = sources(paths)
    settings: dict[str, Any] = {"beta": beta, "at_least": at_least, "smoothing": smoothing, "drop": drop, "fall": fall}
    settings |= {"checks": checks, "within": within, "draws": draws, "seed": seed}
    told = [*of_trainings(found, settings), *of_answers(found, settings), *of_selections(found)]
    missing += [each for each in told if isinstance(each, Missing)]
    missing += [Missing(part="files", says=each, remedy="Run the step that wrote it again.") for each in found.unread]
    diagnosis = Diagnosis(
        runs=found.runs,
        parts=tuple(each for each in told if isinstance(each, Part)),
        missing=tuple(missing),
        settings=settings,
        versions=versions(),
    )
    write_text(target, diagnosis.to_json())
    return diagnosis


def target_of(output: str | Path | None, first: str | PathLike[str]) -> Path:
    """The file that a diagnosis is written to: `output`, or `diagnosis.json` in a directory.

    Args:
        output: a file that ends in `.json`, or a directory.
        first: the first run, which is the directory when there is no output.

    Raises:
        InputError: `output` is a file of another kind.
    """
    if output is None:
        return _directory(first) / NAME
    path = Path(output)
    if path.suffix.lower() == ".json" and not path.is_dir():
        return path
    if path.suffix and not path.is_dir():
        raise InputError(f"{path}: a diagnosis is written as JSON; name a file that ends in .json, or a directory")
    return path / NAME


def _probed(found: Sources, data: Preferences, asked: Mapping[str, Any]) -> list[Missing]:
    """Probe the trainings, and say which could not be. What was probed already is not probed again.

    Raises:
        InputError: none of them could be, and none has probes.
    """
    from pairwright.probes.after import probe_run

    asking = [each for each in found.trainings if each.prefers]
    failed = []
    for training in asking:
        try:
            probe_run(training.directory, data, **asked)
        except InputError as error:
            failed.append((training, error))
    if failed and len(failed) == len(asking) and not any(each.probes and each.probes.steps for each in asking):
        raise failed[0][1]
    return [Missing(part="probes", says=f"{each.name}: {error}", remedy=_AGAIN) for each, error in failed]


def _directory(item: str | PathLike[str]) -> Path:
    """Where a run is. What `train` gave is, as a path, its model; the training lies in the directory above."""
    directory = getattr(item, "directory", None)
    return Path(directory if isinstance(directory, str | PathLike) else item)


def _is_ours(path: Path) -> bool:
    """Whether a diagnosis is what stands there: it says so first."""
    head = "{" + json.dumps({"made_by": MADE_BY}, indent=2)[1:-2]
    try:
        with path.open("rb") as file:
            return file.read(len(head)) == head.encode("utf-8")
    except OSError:
        return False
