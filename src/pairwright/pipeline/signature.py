"""A verb's signature, read as the schema of its settings.

The settings of a recipe's step and the flags of a command are both read from here, so that neither is written twice.
Nothing is called, and a type whose library is not loaded (`torch.dtype` under `TYPE_CHECKING`) reads as `Any`.
"""

import builtins
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import import_module
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from docstring_parser import parse_from_object
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import to_jsonable_python

from pairwright.errors import InputError
from pairwright.plug import nearest, plain

Function = Callable[..., Any]
REQUIRED = inspect.Parameter.empty
REFERENCE = re.compile(r"step:\S+")


class Setting(NamedTuple):
    """One parameter of a verb."""

    name: str
    kind: Any
    default: Any
    says: str


class Signature(NamedTuple):
    """What a verb takes: its settings by name, and whether it takes settings of others (`**settings`) too."""

    settings: dict[str, Setting]
    rest: bool


def load(spec: str) -> Function:
    """The function `module:function`.

    Raises:
        InputError: there is no such module or function.
    """
    module, _, name = spec.partition(":")
    try:
        found = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise InputError(f"there is no module {module!r} on the Python path") from error
    except AttributeError as error:
        raise InputError(f"module {module!r} has no function {name!r}") from error
    if not callable(found):
        raise InputError(f"{spec} is not a function")
    return found  # type: ignore[no-any-return]


def signature(function: Function, *, without: Iterable[str] = ()) -> Signature:
    """The settings of a function: name, type, default, and the sentence of its docstring.

    Args:
        function: any function with a Google-style docstring.
        without: parameters that are no settings, such as the data.
    """
    left_out = frozenset(without)
    texts = {item.arg_name: _one_line(item.description) for item in parse_from_object(function).params}
    parameters = inspect.signature(function).parameters
    settings = {
        name: Setting(name, _kind(function, p.annotation), p.default, texts.get(name, ""))
        for name, p in parameters.items()
        if name not in left_out and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    return Signature(settings, any(p.kind is p.VAR_KEYWORD for p in parameters.values()))


def first_sentence(function: Function) -> str:
    """The first line of a function's docstring."""
    return (inspect.getdoc(function) or "").split("\n", 1)[0].strip()


def check(
    known: Mapping[str, Setting], settings: Mapping[str, Any], *, title: str, also: Iterable[str] = ()
) -> dict[str, Any]:
    """The settings as a function wants them: known, complete, converted by the declared types, defaults filled in.

    A value `step:NAME` stands for another step's output and is left as it is.

    Args:
        known: the settings that there are.
        settings: what was asked.
        title: how to call the thing in a message, for example `step 'train'`.
        also: more names, for the nearest right one in a message.

    Raises:
        InputError: a setting is unknown, missing or of the wrong kind.
    """
    for name in settings:
        if name not in known:
            raise InputError(unknown(name, [*known, *also], title=title))
    checked = {}
    for name, setting in known.items():
        if name in settings:
            if problem := unfit(settings[name]):
                raise InputError(f"{title}: {name}: {problem}")
            checked[name] = _convert(setting, settings[name], title)
        elif setting.default is REQUIRED:
            raise InputError(f"{title} needs the setting {name!r}{_why(setting)}")
        else:
            checked[name] = setting.default
    return checked


def unknown(name: str, known: Iterable[str], *, title: str) -> str:
    """The sentence about a setting that does not exist."""
    names = list(dict.fromkeys(known))
    hint = nearest(name, names) or (f"; it has {', '.join(names)}" if names else "; it has none")
    return f"{title} has no setting {name!r}{hint}"


def as_json(value: Any) -> Any:
    """A setting as a JSON value; what JSON cannot say (a function, a model) becomes its name."""
    return to_jsonable_python(value, fallback=lambda other: getattr(other, "__name__", str(other)))


def unfit(value: Any, inside: tuple[int, ...] = ()) -> str:
    """What no setting may hold, in a few words, or nothing: a number that is not finite, a list that contains itself.

    Neither can be written into a record, so that nobody could tell later what was asked.
    """
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{value} is not a finite number"
    if not isinstance(value, Mapping | list | tuple):
        return ""
    if id(value) in inside:
        return "the value contains itself"
    below = value.values() if isinstance(value, Mapping) else value
    return next(filter(None, (unfit(item, (*inside, id(value))) for item in below)), "")


def references(value: Any) -> list[str]:
    """Names of the steps that a setting speaks of: `step:NAME`, alone, in a list or in a mapping."""
    if isinstance(value, str):
        return [value.removeprefix("step:")] if REFERENCE.fullmatch(value) else []
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [name for item in value for name in references(item)]
    return []


def _why(setting: Setting) -> str:
    return f" ({setting.says.rstrip('.')})" if setting.says else ""


def _one_line(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").strip()


def _convert(setting: Setting, value: Any, title: str) -> Any:
    if setting.kind is Any or references(value):
        return value
    try:
        return _adapter(setting.kind).validate_python(value)
    except ValidationError as error:
        problem = plain(error).split("; ")[0].removeprefix("value: ")
        raise InputError(f"{title}: {setting.name}: {problem}") from error


def _adapter(kind: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # a pydantic model or a TypedDict has a configuration of its own
        return TypeAdapter(kind)


class _Names(dict[str, Any]):
    """The names that an annotation may use; one that is not loaded is `Any`."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, Any)


def _kind(function: Function, annotation: Any) -> Any:
    """The type that an annotation means; `Any` for none, and for what cannot be read without its library."""
    if annotation is REQUIRED:
        return Any
    if not isinstance(annotation, str):
        return annotation
    inner = inspect.unwrap(function)
    while isinstance(inner, partial):
        inner = inner.func
    names = _Names(getattr(inner, "__globals__", {}))
    try:
        return eval(annotation, {"__builtins__": {}}, names)
    except (AttributeError, TypeError, NameError):
        return Any


def bare(kind: Any) -> Any:
    """A type without its `Annotated` extras."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind
