"""A recipe: a YAML list of named steps, `each:` blocks written out, and `--set` laid over it before it is checked."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pairwright.errors import InputError
from pairwright.pipeline.each import expanded, gathered
from pairwright.pipeline.signature import unfit
from pairwright.plug import nearest, plain

_ENVELOPE = ("name", "do", "from")
_ALIASES = {("read", "path"): "source", ("score", "with"): "scorer", ("*", "as"): "name"}
"""Other words for a verb's settings in a recipe, by verb (`*`: any). `name` is the step's own, so that a verb's setting
of that name (`logprobs`, `generate`) is said with `as`."""


class RecipeStep(BaseModel):
    """One step of a recipe, as written."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """How other steps call it, and what its directory is called."""
    do: str
    """The verb, or your own `module:function`."""
    take: str | None = None
    """`from` in the file: the step whose data it takes; None is the nearest earlier one that has such data."""
    settings: dict[str, Any] = {}
    """Everything else, for the verb."""


class _Loader(yaml.SafeLoader):
    """Safe YAML, with two traps closed: `1e-6` is a number, and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
            if key in seen:
                problem = f"the key {key!r} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def read_recipe(source: str | Path | Sequence[Mapping[str, Any]], *, set: Sequence[str] = ()) -> tuple[RecipeStep, ...]:
    """Read a recipe and lay settings over it.

    Args:
        source: a YAML file, or the list of steps that such a file holds.
        set: changes, `NAME.key=value`; the value is read as YAML, `key` may go deeper (`train.peft.r=8`).

    Raises:
        InputError: the file is not there, is no YAML, is no list of steps; two steps have one name; a setting holds
            NaN, an infinite number or itself; a change names a step that does not exist.
    """
    if isinstance(source, str | Path):
        title, raw = str(source), _load(Path(source))
    else:
        title, raw = "the recipe", [dict(item) for item in source]
    if not isinstance(raw, list) or not raw or not all(isinstance(item, dict) for item in raw):
        raise InputError(f"{title} is no recipe: it must be a list of steps, each `- {{do: VERB, setting: value}}`")
    raw = expanded(raw, title=title)
    steps = [_named(item, f"{title}, step {number}") for number, item in enumerate(raw, 1)]
    for change in set:
        steps = overlay(steps, change)
    parsed = tuple(_step(item, f"{title}, step {number}") for number, item in enumerate(steps, 1))
    names = [step.name for step in parsed]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{title} has two steps called {name!r}; give one another `name:`")
    return tuple(
        step.model_copy(update={"settings": gathered(step.settings, names[:i], title=f"{title}, step {i + 1}")})
        for i, step in enumerate(parsed)
    )


def overlay(steps: Sequence[Mapping[str, Any]], change: str) -> list[dict[str, Any]]:
    """The raw steps with one `NAME.key=value` laid over them; nothing is changed in place.

    Raises:
        InputError: the change is not of that form, its step does not exist, or its key goes through a plain value.
    """
    target, equals, text = change.partition("=")
    names = [str(step["name"]) for step in steps]
    target = target.strip()
    # A step's name may have dots in it: the longest that fits is meant.
    name = max((each for each in names if target.startswith(f"{each}.")), key=len, default=target.partition(".")[0])
    path = target.removeprefix(name).removeprefix(".")
    if not (equals and name and path):
        raise InputError(f"--set {change!r} is not of the form NAME.key=value")
    if name not in names:
        hint = nearest(name, names) or f"; there are {', '.join(names)}"
        raise InputError(f"--set {change!r}: the recipe has no step {name!r}{hint}")
    value = value_of(text, where=f"--set {change!r}")
    return [_with(step, path.split("."), value, change) if step["name"] == name else dict(step) for step in steps]


def value_of(text: str, *, where: str) -> Any:
    """A setting's value from the command line, read as YAML: `0.1`, `true`, `[1, 10]`, `{r: 8}`, `a word`."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{where}: {_problem(error)}; put quotes around the value") from error


def key_values(changes: Sequence[str]) -> dict[str, Any]:
    """Settings from `key=value` flags; the value is read as YAML, `key` may go deeper (`peft.r=8`).

    Raises:
        InputError: a flag has no `=`.
    """
    found: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not (equals and key.strip()):
            raise InputError(f"--set {change!r} is not of the form key=value")
        found = _with(found, key.strip().split("."), value_of(text, where=f"--set {change!r}"), change)
    return found


def dump(steps: Sequence[RecipeStep]) -> str:
    """A recipe as YAML text, with what was laid over it."""
    plain_steps = []
    for step in steps:
        envelope = {"name": step.name, "do": step.do} | ({"from": step.take} if step.take else {})
        said = {"as" if key == "name" else key: value for key, value in step.settings.items()}
        plain_steps.append(envelope | said)
    return yaml.safe_dump(plain_steps, sort_keys=False, allow_unicode=True)


def _load(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no recipe {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the recipe {path} cannot be read: {error}") from error
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{path}{_problem(error)}") from error


def _problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"{place}: {getattr(error, 'problem', None) or 'not YAML'}"


def _named(item: Mapping[str, Any], title: str) -> dict[str, Any]:
    if not item.get("do"):
        hint = next((nearest(str(key), _ENVELOPE) for key in item if nearest(str(key), _ENVELOPE)), "")
        raise InputError(f"{title} does not say what to `do:`{hint}")
    default = str(item["do"]).rpartition(":")[2]
    return {**item, "name": str(item.get("name", default))}


def _step(item: Mapping[str, Any], title: str) -> RecipeStep:
    for key, value in item.items():
        if problem := unfit(value):
            raise InputError(f"{title}: {key}: {problem}")
    settings = {str(key): value for key, value in item.items() if key not in _ENVELOPE}
    for (verb, alias), name in _ALIASES.items():
        if verb in (item["do"], "*") and alias in settings and name not in settings:
            settings[name] = settings.pop(alias)
    try:
        return RecipeStep(name=item["name"], do=item["do"], take=item.get("from"), settings=settings)
    except ValidationError as error:
        raise InputError(f"{title}: {plain(error)}") from error


def _with(item: Mapping[str, Any], path: Sequence[str], value: Any, change: str) -> dict[str, Any]:
    key, deeper = path[0], path[1:]
    if not deeper:
        key = _ALIASES.get((str(item.get("do")), key), key)  # not `*`: raw steps say `as`
        return {**item, key: value}
    below = item.get(key) or {}
    if not isinstance(below, Mapping):
        raise InputError(f"--set {change!r}: {key!r} holds {below!r}, which has no settings inside")
    return {**item, key: _with(below, deeper, value, change)}
