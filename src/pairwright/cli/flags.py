"""A function's signature as command-line flags, so that no setting is written twice."""

import dataclasses
import keyword
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Mapping as AnyMapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin
from typing import cast as said

import tyro

from pairwright.pipeline.signature import REQUIRED, Setting, bare

_PLAIN = (str, int, float, bool, Path, NoneType)


class Flag(NamedTuple):
    """One argument of a command."""

    name: str
    """Its key in what `parse` gives, and its name behind `--` with dashes, unless `word` says another."""
    kind: Any
    default: Any
    says: str
    word: str | None = None
    short: str | None = None
    also: tuple[str, ...] = ()
    """Other names that it is called by, such as `--out`."""
    positional: bool = False
    metavar: str | None = None
    append: bool = False
    """May be given several times, one value each; the kind is `tuple[str, ...]`."""


STRICT = Flag("strict", bool, False, "Make a row that cannot be read an error.")
JSON = Flag("json", bool, False, "Print JSON on standard output.")
DEBUG = Flag("debug", bool, False, "Show the traceback of an error.")
FROM = Flag(
    "format", str | None, None, "Format of IN (`pairwright list formats`); found by looking when not given.", "from"
)
COLUMNS = Flag(
    "columns", dict[str, str] | None, None, "Which column says what, for a file of no known format: `prompt question`."
)
SET = Flag(
    "set",
    tuple[str, ...],
    (),
    "A further setting, KEY=VALUE; the value is read as YAML. May be given several times.",
    metavar="KEY=VALUE",
    append=True,
)


def out(says: str, *, required: bool = True) -> Flag:
    """The flag `-o`."""
    kind, default = (Path, REQUIRED) if required else (Path | None, None)
    return Flag("output", kind, default, says, short="-o", metavar="OUT")


def words(name: str, metavar: str, says: str, *, default: Any = REQUIRED, kind: Any = str) -> Flag:
    """An argument without a flag, known by its place."""
    return Flag(name, kind, default, says, positional=True, metavar=metavar)


def of_settings(settings: Mapping[str, Setting], **renamed: Mapping[str, Any]) -> list[Flag]:
    """The flags of a verb's settings; one whose type no command line can say is left out.

    Args:
        settings: from `signature`.
        renamed: by setting, fields of `Flag` to replace, for example `scorer={"word": "with"}`.
    """
    flags = []
    for setting in settings.values():
        kind = _unsaid(setting.default) if bare(setting.kind) is Any else sayable(setting.kind)
        if kind is None:
            continue
        if setting.default is REQUIRED and kind == str | None:
            kind = str
        default = tuple(setting.default) if isinstance(setting.default, list) else setting.default
        flag = Flag(setting.name, kind, default, setting.says)
        flags.append(flag._replace(**renamed.get(setting.name, {})))
    return flags


def parse(verb: str, description: str, flags: Iterable[Flag], arguments: Sequence[str]) -> dict[str, Any]:
    """Read a command's arguments.

    Prints the help, or what is wrong with the arguments, and raises `SystemExit` (0 or 2) as parsers do.

    Args:
        verb: for the usage line.
        description: what the verb does.
        flags: what it takes, arguments without a flag first.
        arguments: the words behind the verb.

    Returns:
        A value for each flag, by its name.
    """
    ordered = sorted(flags, key=lambda flag: (not flag.positional, flag.default is not REQUIRED))
    fields = [_field(flag) for flag in ordered]
    # Every field is keyword-only, so that one with a default may stand before one without.
    kind = dataclasses.make_dataclass("Arguments", fields, kw_only=True)
    found: Any = tyro.cli(kind, prog=f"pairwright {verb}", description=description, args=_with_none(arguments, ordered))
    return {flag.name: getattr(found, _attribute(flag.name)) for flag in ordered}


def _unsaid(default: Any) -> Any:
    """The kind of a setting without a declared type, by its default: `()` is several words, and 3 is a number."""
    if default is None or default is REQUIRED:
        return str | None
    return sayable(said(Any, tuple)[str, ...] if isinstance(default, list | tuple) else type(default))


def _with_none(arguments: Sequence[str], flags: Iterable[Flag]) -> list[str]:
    """The words of a command, with `null` as the parser says it where a flag may have it: `--goal 8 null`."""
    may = {f"--{(flag.word or flag.name).replace('_', '-')}" for flag in flags if _is_nullable(flag.kind)}
    found, current = [], ""
    for argument in arguments:
        word, equals, value = argument.partition("=")
        current = word.replace("_", "-") if word.startswith("--") else current
        if current in may and argument == "null":
            argument = "None"
        elif current in may and equals and value == "null":
            argument = f"{word}=None"
        found.append(argument)
    return found


def _is_nullable(kind: Any) -> bool:
    """Whether `null` can only mean that there is none: the kind has None somewhere, and no words."""
    parts = _leaves(kind)
    return NoneType in parts and not parts & {str, Path}


def _leaves(kind: Any) -> set[Any]:
    inside = [part for part in get_args(bare(kind)) if part is not Ellipsis]
    if get_origin(bare(kind)) is Literal or not inside:
        return {bare(kind)}
    return {leaf for part in inside for leaf in _leaves(part)}


def sayable(kind: Any) -> Any:
    """The part of a type that a command line can say; None if there is none.

    `float | Sequence[float] | None` stays, with a tuple for the sequence; of `str | Model` the word stays; `Any` (a
    path or an object) becomes a word.
    """
    kind = bare(kind)
    if kind is Any:
        return str | None
    if kind in _PLAIN:
        return kind
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        return kind
    if origin in (Union, UnionType):
        parts = [part for part in map(sayable, inside) if part is not None]
        return Union[tuple(parts)] if any(part is not NoneType for part in parts) else None  # noqa: UP007
    if origin is tuple and Ellipsis not in inside:
        parts = [sayable(part) for part in inside]
        return None if None in parts else said(Any, tuple)[tuple(parts)]
    if origin in (list, tuple, Sequence):
        part = sayable(inside[0]) if inside else str
        return None if part is None else said(Any, tuple)[part, ...]
    if origin in (dict, AnyMapping) and inside in ((str, str), (str, int)):
        return said(Any, dict)[inside]
    return None


def _metavar(kind: Any) -> str | None:
    """`FLOAT|WORD` without the `{None}` that every optional flag would show; None leaves it to tyro."""
    parts = [part for part in get_args(kind) if part is not NoneType]
    if get_origin(kind) not in (Union, UnionType) or len(parts) == len(get_args(kind)):
        return None
    return "|".join(_one_metavar(part) for part in parts)


def _one_metavar(kind: Any) -> str:
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "|".join(map(str, inside))
    if origin is tuple:
        each = [_one_metavar(part) for part in inside if part is not Ellipsis]
        return " ".join(each) + (" ..." if Ellipsis in inside else "")
    if origin is dict:
        return f"{' '.join(map(_one_metavar, inside))} ..."
    if origin in (Union, UnionType):
        return "|".join(_one_metavar(part) for part in inside if part is not NoneType)
    return {str: "WORD", Path: "PATH"}.get(kind) or str(getattr(kind, "__name__", kind)).upper()


def _attribute(name: str) -> str:
    return f"{name}_" if keyword.iskeyword(name) else name


def _field(flag: Flag) -> tuple[str, Any, Any]:
    markers: list[Any] = []
    if flag.positional:
        markers.append(tyro.conf.Positional)
    if flag.append:
        markers.append(tyro.conf.UseAppendAction)
    if flag.kind is bool and flag.default is False:
        markers.append(tyro.conf.FlagCreatePairsOff)
    described: dict[str, Any] = {"help": flag.says or None, "metavar": flag.metavar or _metavar(flag.kind)}
    if not flag.positional:
        described["name"] = (flag.word or flag.name).replace("_", "-")
        described["aliases"] = [*([flag.short] if flag.short else []), *flag.also] or None
    kind = flag.kind
    for marker in [tyro.conf.arg(**described), *markers]:
        kind = Annotated[kind, marker]
    required = flag.default is REQUIRED
    default = dataclasses.field() if required else dataclasses.field(default_factory=lambda: flag.default)
    return _attribute(flag.name), kind, default
