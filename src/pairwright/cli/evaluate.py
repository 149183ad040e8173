"""`evaluate`: every measure, of data or of files that another harness wrote."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pairwright.cli.data import description, own_flags
from pairwright.cli.flags import COLUMNS, DEBUG, FROM, JSON, STRICT, out, parse, words
from pairwright.cli.out import keep_apart, read_in, show_json, table
from pairwright.errors import InputError
from pairwright.pipeline.signature import REQUIRED, Function, Setting, Signature, signature
from pairwright.pipeline.steps import STEPS, WHAT, Verb, settings_schema
from pairwright.plug import nearest
from pairwright.runs import check_writable, write_json

_SAYS = {
    "pairs": "on held-out pairs: how often a model prefers the right answer",
    "control": "on answers asked for scores: does the goal steer",
    "compare": "two sets of answers to the same prompts",
    "agreement": "several scorers of the same answers, with each other and with the pairs",
    "rounds": "answers of one model after another: score, KL from the start and length, by round",
    "rewardbench2": "scores, a scorer, or an aligned model on RewardBench 2: how often the right answer comes first",
    "accuracy": "scores, a scorer, or an aligned model on labelled pairs: how often the better answer scores higher",
    "winrate": "how often a model's answers beat an opponent's: AlpacaEval 2, raw and length-controlled",
    "arena": "judgments of Arena-Hard-Auto: score against one opponent, with and without control for style",
    "mtbench": "judgments of MT-bench: ratings by turn, or comparisons in both orders, failures counted",
    "humans": "a judge or a scorer against labels of people: accuracy, kappa, bias of position and length",
    "harness": "academic benchmarks by lm-eval, before and after a training: the alignment tax",
}


def evaluate(verb: str, arguments: Sequence[str]) -> int:
    """`pairwright evaluate WHAT ...`."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    what = arguments[0]
    if what not in WHAT["evaluate"]:
        hint = nearest(what, WHAT["evaluate"]) or f"; there are {', '.join(WHAT['evaluate'])}"
        raise InputError(f"there is no evaluation {what!r}{hint}")
    name = f"evaluate {what}"
    step = STEPS[name]
    function, schema = _schema(step)
    files = {key for key, setting in schema.settings.items() if _is_file(setting)}
    sides = [key for key, setting in schema.settings.items() if setting.default is REQUIRED and key != "model"]
    positional = [step.data] if step.data else sides
    own = [flag for flag in own_flags(name, schema) if flag.name not in positional]
    own = [
        flag._replace(positional=True, metavar="MODEL") if flag.name == "model" and flag.default is REQUIRED else flag
        for flag in own
    ]
    several = [key for key in positional if get_origin(schema.settings[key].kind) is Sequence] if not step.data else []
    places = [
        words(key, _metavar(key), "Files or directories of the data, in order.", kind=tuple[str, ...])
        if key in several
        else words(key, _metavar(key), "The file." if key in files else "File or directory of the data.")
        for key in positional
    ]
    target = out("Also write the result to a JSON file.", required=False)
    reading = [] if files.issuperset(positional) else [FROM, COLUMNS, STRICT]
    given = parse(name, description(function), [*own, *places, target, *reading, JSON, DEBUG], arguments[1:])
    if given["output"] is not None:
        _check_output(given["output"], given, [*positional, *step.reads], list(step.paths))
    loaded: dict[str, Any] = {key: _loaded(given, key, files) for key in positional if key not in several}
    loaded |= {key: [_loaded({**given, key: place}, key, files) for place in given[key]] for key in several}
    settings = _checked_without(name, given, positional)
    result = function(**loaded, **settings)
    if given["output"] is not None:
        write_json(given["output"], result.to_dict())
    if given["json"]:
        show_json(result.to_dict())
    else:
        print(_TEXTS.get(what, _result_text)(result))
    return 0


def _schema(step: Verb) -> tuple[Function, Signature]:
    """An evaluation's function and what may be set, also where it writes, which a run fills in."""
    function, _ = settings_schema(step)
    return function, signature(function, without=[step.data] if step.data else [])


def _check_output(output: Path, given: Mapping[str, Any], read: Sequence[str], written: Sequence[str]) -> None:
    """Refuse an output before anything is paid for: one that takes the place of what is read or written, or cannot be.

    Args:
        output: where the result goes.
        given: the arguments.
        read: names of those that are read, a place or several each.
        written: names of those that are written.

    Raises:
        InputError: the output cannot be there.
    """
    for key in dict.fromkeys(read):
        places = given.get(key)
        for place in [places] if isinstance(places, str | Path) else places or ():
            keep_apart(str(place), output)
    for key in written:
        if given.get(key) is not None and Path(given[key]).resolve() == output.resolve():
            raise InputError(f"{output} is given as {key} too; choose another -o")
    if output.is_dir():
        raise InputError(f"{output} is a directory, and the result is a file; choose another -o")
    check_writable(output)


def _usage() -> str:
    width = max(map(len, _SAYS))
    lines = "\n".join(f"  {what:<{width}}  {says}" for what, says in _SAYS.items())
    end = "pairwright evaluate WHAT --help tells what each takes."
    return f"usage: pairwright evaluate WHAT ... [--json]\n\n{lines}\n\n{end}"


def _is_file(setting: Setting) -> bool:
    """Whether a setting is a file, or several, that the evaluation reads itself, whatever else it takes in Python."""
    return Path in (setting.kind, *get_args(setting.kind))


def _loaded(given: Mapping[str, Any], key: str, files: set[str]) -> Any:
    return Path(given[key]) if key in files else read_in(given, key=key)


def _checked_without(name: str, given: Mapping[str, Any], loaded: Sequence[str]) -> dict[str, Any]:
    """The settings of an evaluation but for those that are data, which a command line gives as files."""
    from pairwright.pipeline.signature import check

    _, schema = _schema(STEPS[name])
    known = {key: setting for key, setting in schema.settings.items() if key not in loaded}
    asked = {
        key: _mapping(given[key]) if _takes_mapping(setting) else given[key]
        for key, setting in known.items()
        if key in given and given[key] != setting.default
    }
    return check(known, asked, title=name)


def _takes_mapping(setting: Setting) -> bool:
    """Whether a setting is a word or a mapping, such as a scorer's name, or its name and settings."""
    return any(get_origin(kind) is Mapping for kind in get_args(setting.kind))


def _mapping(word: Any) -> Any:
    """A word, or the mapping that it writes as YAML: `{with: reward_model, model: DIR}`."""
    if not isinstance(word, str) or not word.startswith("{"):
        return word
    import yaml

    try:
        return yaml.safe_load(word)
    except yaml.YAMLError as error:
        raise InputError(f"{word!r:.60} is no mapping; write {{with: NAME, SETTING: VALUE}}") from error


def _metavar(key: str) -> str:
    return "IN" if key in ("prefs", "answers", "prompts") else key.upper()


def _result_text(result: Any) -> str:
    rows = []
    for metric in result.metrics:
        around = "" if metric.low is None or metric.high is None else f"{metric.low:.4g} to {metric.high:.4g}"
        value = "-" if metric.value is None else f"{metric.value:.4g}"
        rows.append((metric.name, value, around, "-" if metric.n is None else f"{metric.n:,}", metric.says or ""))
    return "\n".join([table(rows, ("measure", "value", "95% interval", "n", "what it is")), *result.notes])


def _rounds_text(result: Any) -> str:
    from pairwright.evaluate.rounds import by_round

    return by_round(result)


def _agreement_text(result: Any) -> str:
    from pairwright.evaluate.agreement import by_columns

    return by_columns(result)


_TEXTS: dict[str, Callable[[Any], str]] = {"agreement": _agreement_text, "rounds": _rounds_text}
"""How the result of an evaluation is told where a list of its measures is not the way to read it."""
