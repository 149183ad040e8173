"""Verbs from preferences to preferences, `convert` and `audit`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast, get_args

from docstring_parser import parse_from_object

from pairwright.cli.flags import (
    COLUMNS,
    DEBUG,
    FROM,
    JSON,
    SET,
    STRICT,
    Flag,
    of_settings,
    out,
    parse,
    words,
)
from pairwright.cli.out import is_flat, keep_apart, read_in, tell, write_out
from pairwright.errors import InputError
from pairwright.pipeline.plugs import SLOTS, settings_of_plugs
from pairwright.pipeline.recipe import key_values, value_of
from pairwright.pipeline.signature import REQUIRED, Function, Setting, Signature, load
from pairwright.pipeline.steps import STEPS, check_step, settings_schema
from pairwright.plug import nearest
from pairwright.preferences import Layout
from pairwright.runs import write_text

if TYPE_CHECKING:
    from pairwright.audit import Audit

IN = words("source", "IN", "File, directory or hub name of the data.")
_RENAMED: dict[str, dict[str, Mapping[str, Any]]] = {
    "score": {"scorer": {"word": "with", "kind": str, "metavar": "NAME|{COLUMN: SCORER}"}},
    "train": {"loss": {"kind": str, "metavar": "NAME|[TERMS]"}},
}
_SCALE = Flag(
    "scale",
    str | None,
    None,
    "Normalise the scores to 1-10, as YAML: {range: [LO, HI]}, {percentiles: [1, 99]} of the training answers, or "
    "{like: DATA}, the lines of data that were scored before.",
    metavar="YAML",
)
_FURTHER: dict[str, tuple[Flag, ...]] = {"score": (_SCALE,)}
"""Flags for settings whose types no flag can say: mappings, as YAML."""
_KEEPS = {"score": "pairwright.scorers:forget"}
"""Verbs that keep what is done while they work, and what forgets it."""
_NEED_PAIRS = ("score", "split", "logprobs", "select", "relabel")
"""Verbs that make no pairs."""


def change(verb: str, arguments: Sequence[str]) -> int:
    """`pairwright VERB IN -o OUT`, for every verb that takes preferences and gives preferences."""
    from pairwright.logprobs.ranks import is_first

    function, schema = settings_schema(STEPS[verb])
    target = out("What to write: a directory (everything), or a .parquet, .jsonl, .json or .csv file (pairs, flat).")
    own = [IN, target, FROM, COLUMNS, *own_flags(verb, schema), STRICT, JSON, DEBUG]
    plugs = plug_flags(verb, schema, arguments, beside=own)
    flags = [*own[:-3], *plugs, *own[-3:]]
    given = parse(verb, description(function), flags, arguments)
    if str(given.get("scorer", "")).lstrip().startswith("{"):
        given["scorer"] = value_of(given["scorer"], where="--with")
    for flag in _FURTHER.get(verb, ()):
        if given[flag.name] is not None:
            given[flag.name] = value_of(given[flag.name], where=f"--{flag.name}")
    settings = settings_given(verb, schema, given, also=of_plugs(plugs, given))
    output: Path = given["output"]
    writes = is_first()
    source = read_in(given, output=output if writes else None)
    if verb in _NEED_PAIRS and is_flat(output) and not source.counts().pairs:
        raise InputError(
            f"{given['source']} has {source.counts().responses:,} answers and no pairs, and {output} would be a file "
            f"of pairs; name a directory (-o {_bare_name(output)}), which holds answers, and make pairs later "
            "(pairwright pair)"
        )
    # Beside the output, so that the same command goes on where it was killed.
    forget, beside = _KEEPS.get(verb), output.with_name(f"{output.name}.unfinished")
    prefs = function(source, **settings, **({"keep": beside} if forget else {}))
    if writes:  # of the processes of `accelerate launch`, which all have the whole result, one
        written = write_out(prefs, output)
        if forget:
            load(forget)(beside)
        tell(prefs, written, as_json=given["json"], since=len(source.lineage))
    return 0


def audit(verb: str, arguments: Sequence[str]) -> int:
    """`pairwright audit IN`: findings as a table, as JSON, as a page."""
    function, schema = settings_schema(STEPS["audit"])
    page = out("Also write the findings to a file: .html, .json or .txt.", required=False)
    strict = STRICT._replace(says="Exit with 1 when there are errors or warnings.")
    flags = [IN, page, FROM, COLUMNS, *own_flags("audit", schema), strict, JSON, DEBUG]
    given = parse(verb, description(function), flags, arguments)
    settings = settings_given("audit", schema, given)
    output: Path | None = given["output"]
    writer = None
    if output is not None:
        writer = _writer(output, f"Audit of {Path(given['source']).name}")
        keep_apart(given["source"], output)
    found = function(read_in({**given, "strict": False}), **settings)
    if output is not None and writer is not None:
        write_text(output, writer(found))
    print(found.to_json() if given["json"] else found)
    return 1 if given["strict"] and found.failures else 0


def convert(verb: str, arguments: Sequence[str]) -> int:
    """`pairwright convert IN -o OUT --to LAYOUT`."""
    kinds = ("native", *get_args(Layout))
    to = Flag("to", str | None, None, f"{', '.join(kinds)}; by the name of OUT when not given: native or trl.")
    target = out("A directory (native), or a .parquet, .jsonl, .json or .csv file, these also with .gz or .zst.")
    flags = [IN, target, to, FROM, COLUMNS, STRICT, JSON, DEBUG]
    given = parse(verb, "Read preference data of any known format and write it in another.", flags, arguments)
    output: Path = given["output"]
    asked = given["to"] or ("trl" if is_flat(output) else "native")
    if asked not in kinds:
        hint = nearest(asked, kinds) or f"; there are {', '.join(kinds)}"
        raise InputError(f"there is no layout {asked!r}{hint}")
    if (asked == "native") == is_flat(output):
        needs = "a directory" if asked == "native" else "a file that ends in .parquet, .jsonl, .json or .csv"
        raise InputError(f"--to {asked} writes {needs}; {output} is none")
    prefs = read_in(given, output=output)
    written = prefs.save(output) if asked == "native" else prefs.export(output, cast(Layout, asked))
    tell(prefs, written, as_json=given["json"])
    return 0


def description(function: Function) -> str:
    """What a function does, for a command's help: its docstring up to the arguments."""
    said = parse_from_object(function)
    return "\n\n".join(part for part in (said.short_description, said.long_description) if part)


def _bare_name(output: Path) -> Path:
    """`scored` for `scored.jsonl.gz`."""
    return output.with_name(output.name.split(".")[0] or "out")


def own_flags(verb: str, schema: Signature) -> list[Flag]:
    """The flags of a verb's own settings, and `--set` where it hands settings on to a plug."""
    return [
        *of_settings(schema.settings, **_RENAMED.get(verb, {})),
        *_FURTHER.get(verb, ()),
        *([SET] if schema.rest else []),
    ]


def settings_given(
    verb: str, schema: Signature, given: Mapping[str, Any], *, also: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """The settings of a verb from its flags and from `--set`, checked as those of a recipe are.

    Args:
        verb: a name of `STEPS`.
        schema: its signature.
        given: the values of its flags.
        also: settings of its plugs from flags of their own; `--set` goes before them.

    Raises:
        InputError: a setting is unknown, missing or of the wrong kind.
    """
    asked = {
        name: given[name]
        for name, setting in schema.settings.items()
        if name in given and given[name] != setting.default
    }
    return check_step(STEPS[verb], {**asked, **also, **key_values(given.get("set", ()))}, title=verb)


def of_plugs(plugs: Sequence[Flag], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that came by the flags of plugs."""
    return {flag.name: given[flag.name] for flag in plugs if given[flag.name] != flag.default}


def plug_flags(verb: str, schema: Signature, arguments: Sequence[str], *, beside: Sequence[Flag]) -> list[Flag]:
    """Flags for the settings of the plugs that the command line names, such as `--policy` of `--with implicit`.

    Which plugs those are is looked up before the arguments are parsed; a name that nobody has is left to the check.

    Args:
        verb: a name of `STEPS`.
        schema: its signature.
        arguments: the words behind the verb.
        beside: the command's own flags; a setting that is called as one of them has none, and `--set` reaches it.
    """
    words_of = {name: str(change["word"]) for name, change in _RENAMED.get(verb, {}).items() if "word" in change}
    own = {name: setting.default for name, setting in schema.settings.items()}
    for slot in SLOTS.get(verb, ()):
        word = f"--{words_of.get(slot.setting, slot.setting)}"
        for i, argument in enumerate(arguments):
            if argument == word and i + 1 < len(arguments):
                own[slot.setting] = arguments[i + 1]
            elif argument.startswith(f"{word}="):
                own[slot.setting] = argument.partition("=")[2]
    try:
        theirs = settings_of_plugs(verb, own)
    except InputError:
        return []
    free = {name: setting for name, setting in theirs.items() if name not in schema.settings}
    flags = of_settings({name: setting._replace(default=_or_none(setting)) for name, setting in free.items()})
    flags = [flag for flag in flags if not _clashes(flag, beside)]
    return [flag._replace(kind=flag.kind | None) if flag.default is None else flag for flag in flags]


def _clashes(flag: Flag, own: Sequence[Flag]) -> bool:
    """Whether a plug's setting is called as a flag of the command itself; `--set` reaches it all the same."""
    return flag.name in {"help", *(other.name for other in own)}


def _or_none(setting: Setting) -> Any:
    """The default of a flag: a setting that a plug needs may also come by `--set`."""
    return None if setting.default is REQUIRED else setting.default


def _writer(output: Path, title: str) -> Callable[["Audit"], str]:
    """How a file of findings is written; `title` heads a page.

    Raises:
        InputError: the file's ending says no such form.
    """
    ending = output.suffix.lower()
    if ending == ".json":
        return lambda found: found.to_json() + "\n"
    if ending == ".txt":
        return lambda found: f"{found}\n"
    if ending in (".html", ".htm"):
        from pairwright.report import audit_page

        return partial(audit_page, title=title)
    raise InputError(f"-o {output}: an audit is written as .html, .json or .txt")
