"""What a recipe is going to do: every step with its verb, its checked settings and where its inputs come from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairwright.errors import InputError
from pairwright.pipeline.recipe import RecipeStep
from pairwright.pipeline.signature import as_json, references
from pairwright.pipeline.steps import Kind, Verb, check_step, find_verb
from pairwright.plug import nearest
from pairwright.runs import Asked, Done, digest, find_step, finished

_DATA = ("data", "answers")
_MODELS = ("model", "reference", "tokenizer", "reference_model", "policy", "before", "start")
"""Settings that are models; other paths may be the output of any step."""
_PARTS: dict[Kind, str] = {"data": "data", "answers": "data", "model": "model"}


@dataclass(frozen=True)
class Planned:
    """One step, ready to be run."""

    number: int
    name: str
    verb_name: str
    verb: Verb
    settings: dict[str, Any]
    """Checked and converted; `step:NAME` still stands for the output of another step."""
    take: str | None
    """The step whose data it takes."""
    needs: tuple[str, ...]
    """The steps that it depends on, in the order of the recipe."""


@dataclass(frozen=True)
class Row:
    """One line of a plan as people read it."""

    number: int
    name: str
    verb: str
    inputs: str
    settings: str
    state: str
    """`reuse`, `continue` or `run`."""


def make_plan(recipe: Sequence[RecipeStep]) -> tuple[Planned, ...]:
    """Check every step of a recipe against the signature of its verb, and tie the steps together.

    Raises:
        InputError: a verb, a setting or a step is unknown (with the nearest right name), a setting is missing or of
            the wrong kind, or a step has nothing to take its data from.
    """
    planned: list[Planned] = []
    for number, step in enumerate(recipe, 1):
        planned.append(_plan_one(number, step, planned, [other.name for other in recipe]))
    return tuple(planned)


def what_is_asked(step: Planned, earlier: Mapping[str, Done], kinds: Mapping[str, Kind]) -> Asked:
    """What a step is going to do, with the digests of all that it reads."""
    inputs = {}
    for name in step.needs:
        part = "" if step.verb.whole_run else _PARTS.get(kinds[name], "")
        inputs[f"step:{name}"] = earlier[name].digest(part)
    for path in _outside(step):
        inputs[str(path)] = digest(path)
    settings = {**({"from": step.take} if step.take else {}), **as_json(step.settings)}
    return Asked(step=step.name, verb=step.verb_name, settings=settings, inputs=inputs)


def preview(plan: Sequence[Planned], run: Path) -> list[Row]:
    """The plan with what would be reused; nothing is written."""
    kinds = {step.name: step.verb.gives for step in plan}
    done: dict[str, Done] = {}
    rows = []
    for step in plan:
        state = "run"
        if all(name in done for name in step.needs):
            asked = what_is_asked(step, done, kinds)
            directory = find_step(run, step.number, step.name)
            record = finished(directory, asked)
            if record:
                done[step.name] = record
                state = "reuse"
            elif step.verb.resumable and (directory / "checkpoints").is_dir():
                state = "continue"
        shown = {key: value for key, value in as_json(step.settings).items() if value is not None}
        rows.append(
            Row(
                step.number,
                step.name,
                step.verb_name,
                ", ".join(step.needs) or "-",
                ", ".join(f"{key}={value}" for key, value in shown.items()) or "-",
                state,
            )
        )
    return rows


def _plan_one(number: int, step: RecipeStep, before: Sequence[Planned], all_names: Sequence[str]) -> Planned:
    title = f"step {step.name!r}"
    verb_name, verb, raw = find_verb(step.do, step.settings, title=title)
    settings = check_step(verb, raw, title=f"{title} ({verb_name})")
    kinds = {other.name: other.verb.gives for other in before}
    take = _source_of_data(step, verb, kinds, all_names, title)
    needs = {take} if take else set()
    for key, value in settings.items():
        for name in references(value):
            _must_be_earlier(name, kinds, all_names, f"{title}: {key}")
            if key in verb.reads and key in _MODELS and kinds[name] != "model":
                raise InputError(f"{title}: {key} must be a model, and step {name!r} gives {kinds[name]}")
            needs.add(name)
    if verb.whole_run:
        needs = set(kinds)
    return Planned(number, step.name, verb_name, verb, settings, take, tuple(n for n in kinds if n in needs))


def _source_of_data(
    step: RecipeStep, verb: Verb, kinds: Mapping[str, Kind], all_names: Sequence[str], title: str
) -> str | None:
    if verb.data is None:
        if step.take:
            raise InputError(f"{title}: this verb takes no data, so `from: {step.take}` has no meaning; remove it")
        return None
    if step.take:
        _must_be_earlier(step.take, kinds, all_names, f"{title}: from")
        if kinds[step.take] not in verb.takes:
            raise InputError(f"{title}: `from: {step.take}` gives {kinds[step.take]}, not {' or '.join(verb.takes)}")
        return step.take
    for name in reversed(list(kinds)):
        if kinds[name] in verb.takes:
            return name
    raise InputError(f"{title}: no earlier step gives it any {' or '.join(verb.takes)}; begin with a `read` step")


def _must_be_earlier(name: str, kinds: Mapping[str, Kind], all_names: Sequence[str], where: str) -> None:
    if name in kinds:
        return
    if name in all_names:
        raise InputError(f"{where}: step {name!r} comes later or is this step itself; move it before")
    hint = nearest(name, kinds) or f"; there are {', '.join(kinds) or 'none before it'}"
    raise InputError(f"{where}: there is no step {name!r}{hint}")


def _outside(step: Planned) -> list[Path]:
    """Files and directories outside of the run that a step reads."""
    found = []
    for item in _said(step.settings, step.verb.reads):
        if isinstance(item, str | Path) and not references(item) and str(item) and Path(item).exists():
            found += _with_base(Path(item))
    return found


def _said(settings: Mapping[str, Any], names: Sequence[str]) -> Iterator[Any]:
    """What settings of these names hold, those inside of other settings among them."""
    for key, value in settings.items():
        if key in names:
            yield from value if isinstance(value, list | tuple) else [value]
        elif isinstance(value, Mapping):
            yield from _said(value, names)


def _with_base(place: Path) -> list[Path]:
    """A path, and where it is an adapter's directory, those of the model and the adapters that it stands on."""
    if not (place / "adapter_config.json").is_file():
        return [place]
    from pairwright.logprobs.models import parts_of

    base, adapters = parts_of(place)
    return [place, *(each for each in (Path(base), *adapters[:-1]) if each.is_dir())]
