"""`run`: do what a recipe says, step after step, and never twice.

A step is skipped when its `done.json` says that it did exactly this (verb, settings, digests of inputs) and its outputs
are still what it wrote. So a changed setting runs its step and what depends on it, a killed run continues where it was,
and a second run of the same recipe does nothing.
"""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairwright.errors import InputError, PairwrightError
from pairwright.pipeline.plan import Planned, Row, make_plan, preview, what_is_asked
from pairwright.pipeline.progress import PlainProgress, Progress, in_time, in_words
from pairwright.pipeline.recipe import dump, read_recipe
from pairwright.pipeline.signature import references
from pairwright.pipeline.steps import Kind, settings_schema
from pairwright.preferences import Preferences
from pairwright.runs import (
    Done,
    begin,
    check_free,
    clear,
    find_step,
    find_steps,
    finish,
    finished,
    lock,
    step_directory,
    write_json,
    write_text,
)

WRITTEN = "# The recipe of this run, with what --set laid over it. Written by pairwright, and written again by it.\n"
"""The first line of such a file; a recipe without it is somebody's own."""
RECIPE_NAMES = ("recipe.yaml", "recipe.resolved.yaml")
"""What a run calls it; the second where the first is somebody's own."""


@dataclass(frozen=True)
class Ran:
    """A finished run."""

    path: Path
    """Its directory."""
    steps: tuple[Done, ...]
    """The records of its steps, in the order of the recipe."""
    reused: frozenset[str]
    """Names of the steps that were done before."""

    def __fspath__(self) -> str:
        """The run's directory, so that a `Ran` can be passed wherever a path is."""
        return str(self.path)

    def step(self, name: str) -> Path:
        """The directory of a step.

        Raises:
            InputError: the run has no such step.
        """
        for number, done in enumerate(self.steps, 1):
            if done.step == name:
                return step_directory(self.path, number, name)
        raise InputError(f"the run {self.path} has no step {name!r}; it has {', '.join(d.step for d in self.steps)}")


def run(
    recipe: str | Path | Sequence[Mapping[str, Any]],
    *,
    output: str | Path | None = None,
    set: Sequence[str] = (),
    fresh: bool = False,
    progress: Progress | None = None,
) -> Ran:
    """Run a recipe, or finish what an earlier run of it left unfinished.

    Paths in a recipe are relative to the current directory, as on a command line.

    Args:
        recipe: a YAML file, or the list of steps that such a file holds.
        output: the run directory; `runs/<name of the recipe>` when not given.
        set: changes to settings, `NAME.key=value`, for example `train.beta=0.1`.
        fresh: forget the steps done so far and start over; other files in the directory stay.
        progress: who is told about the steps; plain lines on stderr when not given.

    Raises:
        InputError: the recipe is wrong; nothing was run then.
        PairwrightError: a step failed, or another process runs this directory.
    """
    _check_alone()
    steps = read_recipe(recipe, set=set)
    plan = make_plan(steps)
    root = run_directory(recipe, output)
    if root.is_file():
        raise InputError(f"{root} is a file; a run needs a directory: choose another -o")
    with lock(root):
        _keep_recipe(recipe, root, dump(steps))
        if fresh:
            clear(root)
        return _run_all(plan, root, progress or PlainProgress())


def _check_alone() -> None:
    """Refuse to run a recipe several times at once, which is what `accelerate launch` would do.

    Raises:
        InputError: a launcher started several processes.
    """
    from pairwright.train.ranks import launched

    if launched() > 1:
        raise InputError(
            f"a recipe runs in one process, and the launcher started {launched()}; run the recipe without it, and for "
            "its training `accelerate launch -m pairwright train RUN/NN-NAME/data ...` on the data that it made"
        )


def dry_run(
    recipe: str | Path | Sequence[Mapping[str, Any]], *, output: str | Path | None = None, set: Sequence[str] = ()
) -> list[Row]:
    """The plan of a recipe, fully checked, with what a run would reuse. Nothing is written.

    Raises:
        InputError: the recipe is wrong.
    """
    return preview(make_plan(read_recipe(recipe, set=set)), run_directory(recipe, output))


def run_directory(recipe: object, output: str | Path | None) -> Path:
    """Where a recipe's run goes: `output`, else `runs/<name of the recipe>` under the current directory."""
    if output is not None:
        return Path(output)
    return Path("runs") / (Path(recipe).stem if isinstance(recipe, str | Path) else "recipe")


def _keep_recipe(recipe: object, root: Path, text: str) -> None:
    """Write the recipe as it is run into the run's directory, never over a file of somebody else.

    A recipe of the user's may lie there under the same name, above all the one that is being run.

    Raises:
        InputError: files that no run wrote have both names.
    """
    text = WRITTEN + text
    running = Path(recipe).resolve() if isinstance(recipe, str | Path) else None
    for name in RECIPE_NAMES:
        path = root / name
        if path.is_file() and path.read_bytes() == text.encode("utf-8"):
            return
        if not path.exists() or (path.resolve() != running and _is_written(path)):
            write_text(path, text)
            return
    raise InputError(f"{root} has files of yours called {' and '.join(RECIPE_NAMES)}; choose another -o")


def _is_written(path: Path) -> bool:
    """Whether a run wrote this recipe."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.readline() == WRITTEN.encode("utf-8")


def _run_all(plan: Sequence[Planned], root: Path, progress: Progress) -> Ran:
    kinds = {step.name: step.verb.gives for step in plan}
    directories = _numbered(plan, root, progress)
    done: dict[str, Done] = {}
    reused = set()
    for step in plan:
        directory = directories[step.name]
        asked = what_is_asked(step, done, kinds)
        record = finished(directory, asked)
        if record is not None:
            reused.add(step.name)
            progress.ends(step.number, len(plan), step.name, _outcome(record, "done before"))
        else:
            progress.begins(step.number, len(plan), step.name, slow=step.verb.slow)
            begin(directory, asked, resumable=step.verb.resumable)
            start = time.monotonic()
            result = _call(step, directory, root, directories, kinds)
            headline = _keep(step.verb.gives, result, directory)
            record = finish(directory, asked, seconds=time.monotonic() - start, headline=headline)
            if "keep" in step.verb.paths:  # what was kept for a second attempt is in the output now
                shutil.rmtree(directory / step.verb.paths["keep"], ignore_errors=True)
            progress.ends(step.number, len(plan), step.name, _outcome(record, in_time(record.seconds)))
        done[step.name] = record
    return Ran(root, tuple(done.values()), frozenset(reused))


def _numbered(plan: Sequence[Planned], root: Path, progress: Progress) -> dict[str, Path]:
    """The directory of each step; work under an older number is moved to the new one.

    Raises:
        InputError: what stands in the place of a step is no step's; nothing was moved or run then.
    """
    directories = {step.name: step_directory(root, step.number, step.name) for step in plan}
    for directory in directories.values():
        check_free(directory)
    for step in plan:
        where = find_step(root, step.number, step.name)
        if where.exists() and where != directories[step.name]:
            where.rename(directories[step.name])
    for path in find_steps(root):
        if path not in directories.values():
            progress.note(f"{path} is of no step of this recipe any more; it is left as it is")
    return directories


def _outcome(done: Done, end: str) -> str:
    words = in_words(done.headline)
    return f"{words}, {end}" if words else end


def _call(
    step: Planned, directory: Path, root: Path, directories: Mapping[str, Path], kinds: Mapping[str, Kind]
) -> Any:
    function, schema = settings_schema(step.verb)
    values = {
        key: _resolve(value, directories, kinds, as_path=key in step.verb.reads) for key, value in step.settings.items()
    }
    if not schema.rest:
        values = {key: value for key, value in values.items() if key in schema.settings}
    if step.take and step.verb.data:
        values[step.verb.data] = Preferences.load(directories[step.take] / "data")
    for parameter, inside in step.verb.paths.items():
        values[parameter] = directory / inside
    if step.verb.whole_run:
        values[step.verb.whole_run] = root
    try:
        return function(**values)
    except PairwrightError as error:
        raise type(error)(f"step {step.name!r}: {error}") from error


def _resolve(value: Any, directories: Mapping[str, Path], kinds: Mapping[str, Kind], *, as_path: bool) -> Any:
    """A setting with every `step:NAME` in it replaced by that step's output: a path, or the data itself."""
    names = references(value)
    if not names:
        return value
    if isinstance(value, list | tuple):
        return [_resolve(item, directories, kinds, as_path=as_path) for item in value]
    if isinstance(value, Mapping):
        return {key: _resolve(item, directories, kinds, as_path=as_path) for key, item in value.items()}
    name, kind = names[0], kinds[names[0]]
    if kind == "model":
        return str(directories[name] / "model")
    if kind in ("data", "answers"):
        path = directories[name] / "data"
        return str(path) if as_path else Preferences.load(path)
    return str(directories[name])


def _keep(gives: Kind, result: Any, directory: Path) -> dict[str, Any]:
    """Write what a verb returned into its step's directory, and give a few numbers about it."""
    if gives in ("data", "answers"):
        if not isinstance(result, Preferences):
            raise PairwrightError(f"the step's function gave {type(result).__name__}, not Preferences")
        result.save(directory / "data")
        return _counts(result)
    if gives == "audit":
        write_json(directory / "audit.json", result.to_dict())
        return {"findings": sum(item.level != "fine" for item in result.findings)}
    if gives == "result":
        write_json(directory / "result.json", result.to_dict())
        return {metric.name: metric.value for metric in result.metrics[:3]}
    if gives == "diagnosis":
        return {"warnings": sum(item.level == "warning" for item in result.findings), "missing": len(result.missing)}
    if gives == "model":
        return _last_numbers(directory / "metrics.jsonl")
    return {}


def _counts(prefs: Preferences) -> dict[str, Any]:
    counts = prefs.counts()
    kinds = {"pairs": counts.pairs, "responses": counts.responses, "prompts": counts.prompts}
    shown: dict[str, Any] = next(({name: count} for name, count in kinds.items() if count), {"responses": 0})
    dropped = sum(prefs.lineage[-1].dropped.values()) if prefs.lineage else 0
    return shown | ({"dropped": dropped} if dropped else {})


def _last_numbers(metrics: Path) -> dict[str, Any]:
    """The loss and accuracy that a training logged last."""
    if not metrics.is_file():
        return {}
    found: dict[str, Any] = {}
    for line in metrics.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found |= {name: row[name] for name in ("loss", "rewards/accuracies") if name in row}
    return found
