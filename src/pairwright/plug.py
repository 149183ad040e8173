"""The whole extension mechanism.

A plug is a function: data first, settings keyword-only. Its signature is its schema. Losses, metrics, cuts, relabel
modes, checks and scorers are all plugs. Ours stand in dict literals (`LOSSES = {"dpo": dpo, ...}`); a user's own is
named `"module:function"`. Nothing registers itself, and nothing happens at import.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from pairwright.errors import InputError

Plug = Callable[..., Any]


def nearest(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'beta'?"`, or an empty string when nothing is near."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def find(table: Mapping[str, Plug], spec: str, *, kind: str) -> Plug:
    """The plug called `spec`: a name of `table`, or `"module:function"` from anyone's file.

    Args:
        table: our own plugs by name.
        spec: what the user wrote.
        kind: the word for such a plug in messages, for example `"loss"`.

    Raises:
        InputError: there is no such name, module or function; the message has the nearest right one.
    """
    module, colon, name = spec.partition(":")
    if not colon:
        if spec in table:
            return table[spec]
        hint = nearest(spec, table) or f"; there are {', '.join(sorted(table))}"
        raise InputError(f"there is no {kind} {spec!r}{hint} (your own is 'module:function')")
    try:
        found = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise InputError(f"{kind} {spec!r}: there is no module {module!r} on the Python path") from error
    except AttributeError as error:
        raise InputError(f"{kind} {spec!r}: module {module!r} has no function {name!r}") from error
    if not callable(found):
        raise InputError(f"{kind} {spec!r} is not a function")
    return found  # type: ignore[no-any-return]


def settings_of(plug: Plug) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a plug, by name: all that may be set from a recipe or a command line."""
    parameters = inspect.signature(plug).parameters
    return {name: p for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def hints_of(plug: Plug) -> dict[str, Any]:
    """The declared types of a plug's parameters, also of an object that is called and of a plug with bound settings."""
    while isinstance(plug, partial):
        plug = plug.func
    plain = inspect.isroutine(plug) or inspect.isclass(plug)
    return get_type_hints(plug if plain else type(plug).__call__, include_extras=True)


def schema(plug: Plug) -> type[BaseModel]:
    """A pydantic model of a plug's settings; unknown names are refused, values are converted by declared type."""
    kinds = hints_of(plug)
    fields: dict[str, Any] = {
        name: (kinds.get(name, Any), ... if p.default is p.empty else p.default)
        for name, p in settings_of(plug).items()
    }
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return create_model(getattr(plug, "__name__", "plug"), __config__=config, **fields)


def bind(plug: Plug, settings: Mapping[str, Any], *, kind: str) -> Callable[..., Any]:
    """The plug with its settings fixed, checked and converted by the types that it declares.

    The conversion matters: YAML 1.1 reads `1e-6` as a string.

    Raises:
        InputError: a setting is unknown (with the nearest right name), missing, or of the wrong kind.
    """
    known = settings_of(plug)
    title = f"{kind} {getattr(plug, '__name__', 'plug')!r}"
    for name in settings:
        if name not in known:
            hint = nearest(name, known) or (f"; it has {', '.join(known)}" if known else "; it has none")
            raise InputError(f"{title} has no setting {name!r}{hint}")
    try:
        checked = schema(plug)(**settings)
    except ValidationError as error:
        raise InputError(f"{title}: {plain(error)}") from error
    return partial(plug, **{name: getattr(checked, name) for name in known})


def plain(error: ValidationError) -> str:
    """A pydantic error as one sentence: `beta: Input should be a valid number (got 'hot')`."""
    parts = []
    for item in error.errors(include_url=False):
        place = ".".join(str(step) for step in item["loc"]) or "value"
        got = "" if item["type"] == "missing" else f" (got {item['input']!r:.80})"
        parts.append(f"{place}: {item['msg']}{got}")
    return "; ".join(parts)


def says(plug: Plug) -> str:
    """The first line of a plug's docstring."""
    return (inspect.getdoc(plug) or "").split("\n", 1)[0].strip()


def source(plug: Plug) -> str:
    """What a plug's docstring gives after `Source:` (paper and equation), or an empty string."""
    match = re.search(r"^Source:\s*(.+(?:\n[ \t]+\S.*)*)", inspect.getdoc(plug) or "", re.MULTILINE)
    return re.sub(r"\s+", " ", match.group(1)).strip() if match else ""


def listing(table: Mapping[str, Plug]) -> list[dict[str, Any]]:
    """One row for each plug of a table: name, one line, source, settings with their defaults."""
    rows = []
    for name, plug in table.items():
        settings = {key: "required" if p.default is p.empty else p.default for key, p in settings_of(plug).items()}
        rows.append({"name": name, "says": says(plug), "source": source(plug), "settings": settings})
    return rows
