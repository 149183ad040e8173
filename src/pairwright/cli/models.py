"""Verbs with a model: scratch, train, generate, evaluate."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin

from pairwright.cli.data import IN, description, of_plugs, own_flags, plug_flags, settings_given
from pairwright.cli.flags import COLUMNS, DEBUG, FROM, JSON, STRICT, out, parse, words
from pairwright.cli.out import check_output, is_flat, keep_apart, read_in, show_json, table, tell, write_out
from pairwright.errors import InputError
from pairwright.pipeline.recipe import value_of
from pairwright.pipeline.signature import REQUIRED
from pairwright.pipeline.steps import STEPS, WHAT, settings_schema
from pairwright.plug import nearest
from pairwright.runs import digest_file, write_beside, write_json

_LATER = ("winrate", "rewardbench2", "arena", "mtbench", "harness")
_USAGE = """usage: pairwright evaluate WHAT ... [--json]

  pairs      on held-out pairs: how often a model prefers the right answer
  control    on answers asked for scores: does the goal steer
  compare    two sets of answers to the same prompts
  agreement  several scorers of the same answers, with each other and with the pairs
  rounds     answers of one model after another: score, KL from the start and length, by round

pairwright evaluate WHAT --help tells what each takes."""


def scratch(verb: str, arguments: Sequence[str]) -> int:
    """`pairwright scratch IN -o DIR`."""
    function, schema = settings_schema(STEPS["scratch"])
    flags = [IN, out("The model's directory."), FROM, COLUMNS, *own_flags(verb, schema), STRICT, JSON, DEBUG]
    given = parse(verb, description(function), flags, arguments)
    settings = settings_given(verb, schema, given)
    made = function(read_in(given, output=given["output"]), output=given["output"], **settings)
    _made(Path(made), given["json"])
    return 0


def train(verb: str, arguments: Sequence[str]) -> int:
    """`pairwright train IN --model MODEL -o DIR --loss dpo --set beta=0.1`; the loss may be a YAML list of terms."""
    from pairwright.logprobs.ranks import is_first
    from pairwright.train.ranks import part

    function, schema = settings_schema(STEPS["train"])
    target = out("The training's directory: model/, metrics.jsonl, checkpoints/. A stopped training continues there.")
    flags = [IN, target, FROM, COLUMNS, *own_flags(verb, schema), STRICT, JSON, DEBUG]
    given = parse(verb, description(function), flags, arguments)
    if given["loss"].lstrip().startswith(("[", "{")):
        given["loss"] = value_of(given["loss"], where="--loss")
    settings = settings_given(verb, schema, given)
    speaks = is_first()
    function(read_in(given, output=given["output"] if speaks else None), output=given["output"], **settings)
    if speaks:  # of the processes of `accelerate launch`, one
        _made(given["output"] / "model", given["json"])
    part()
    return 0


def generate(verb: str, arguments: Sequence[str]) -> int:
    """`pairwright generate MODEL --prompts IN -o OUT -n 5 --goal 10`; a killed one goes on where it was."""
    from pairwright.generate import forget

    function, schema = settings_schema(STEPS["generate"])
    own = [flag._replace(short="-n") if flag.name == "n" else flag for flag in own_flags(verb, schema)]
    own = [flag._replace(positional=True, metavar="MODEL") if flag.name == "model" else flag for flag in own]
    prompts = IN._replace(name="prompts", positional=False, metavar="IN")
    target = out("What to write: a directory (everything), or a .jsonl, .json or .parquet file (one row an answer).")
    flags = [prompts, target, FROM, COLUMNS, *own, STRICT, JSON, DEBUG]
    engine = plug_flags(verb, schema, arguments, beside=flags)
    given = parse(verb, description(function), [*flags[:-3], *engine, *flags[-3:]], arguments)
    settings = settings_given(verb, schema, given, also=of_plugs(engine, given))
    output: Path = given["output"]
    keep_apart(given["prompts"], output)
    check_output(output, tuple(_WRITERS))
    asked = read_in(given, output=output, key="prompts")
    # Beside the output, so that the same command goes on where it was killed.
    keep = output.with_name(f"{output.name}.unfinished")
    answers = function(prompts=asked, keep=keep, **settings)
    if is_flat(output):
        _write_answers(answers, output)
    else:
        write_out(answers, output)
    forget(keep)
    tell(answers, output, as_json=given["json"])
    return 0


def evaluate(verb: str, arguments: Sequence[str]) -> int:
    """`pairwright evaluate pairs|control|compare|agreement|rounds ...`."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        return 0 if arguments else 2
    what = arguments[0]
    if what not in WHAT["evaluate"]:
        if what in _LATER:
            raise InputError(f"evaluate {what} is not in this version; there are {', '.join(WHAT['evaluate'])}")
        hint = nearest(what, WHAT["evaluate"]) or f"; there are {', '.join(WHAT['evaluate'])}"
        raise InputError(f"there is no evaluation {what!r}{hint}")
    name = f"evaluate {what}"
    step = STEPS[name]
    function, schema = settings_schema(step)
    data = [step.data] if step.data else []
    sides = [key for key, setting in schema.settings.items() if setting.default is REQUIRED and key != "model"]
    positional = [*data, *(() if data else sides)]
    own = [flag for flag in own_flags(name, schema) if flag.name not in positional]
    own = [flag._replace(positional=True, metavar="MODEL") if flag.name == "model" else flag for flag in own]
    several = [key for key in positional if get_origin(schema.settings[key].kind) is Sequence] if not data else []
    places = [
        words(key, _metavar(key), "Files or directories of the data, in order.", kind=tuple[str, ...])
        if key in several
        else words(key, _metavar(key), "File or directory of the data.")
        for key in positional
    ]
    target = out("Also write the result to a JSON file.", required=False)
    flags = [*own, *places, target, FROM, COLUMNS, STRICT, JSON, DEBUG]
    given = parse(name, description(function), flags, arguments[1:])
    if given["output"] is not None:
        for key in positional:
            for place in given[key] if key in several else [given[key]]:
                keep_apart(place, given["output"])
    loaded: dict[str, Any] = {key: read_in(given, key=key) for key in positional if key not in several}
    loaded |= {key: [read_in({**given, key: place}, key=key) for place in given[key]] for key in several}
    settings = _checked_without(name, given, positional)
    result = function(**loaded, **settings)
    if given["output"] is not None:
        write_json(given["output"], result.model_dump(mode="json"))
    if given["json"]:
        show_json(result.model_dump(mode="json"))
    else:
        print(_TEXTS.get(what, _result_text)(result))
    return 0


def _checked_without(name: str, given: Mapping[str, Any], loaded: Sequence[str]) -> dict[str, Any]:
    """The settings of an evaluation but for those that are data, which a command line gives as files."""
    from pairwright.pipeline.signature import check

    _, schema = settings_schema(STEPS[name])
    known = {key: setting for key, setting in schema.settings.items() if key not in loaded}
    asked = {key: given[key] for key, setting in known.items() if key in given and given[key] != setting.default}
    return check(known, asked, title=name)


def _metavar(key: str) -> str:
    return "IN" if key in ("prefs", "answers", "prompts") else key.upper()


def _result_text(result: Any) -> str:
    rows = []
    for metric in result.metrics:
        around = "" if metric.low is None or metric.high is None else f"{metric.low:.4g} to {metric.high:.4g}"
        value = "-" if metric.value is None else f"{metric.value:.4g}"
        rows.append((metric.name, value, around, "-" if metric.n is None else f"{metric.n:,}", metric.says or ""))
    return table(rows, ("measure", "value", "95% interval", "n", "what it is"))


def _rounds_text(result: Any) -> str:
    from pairwright.evaluate.rounds import by_round

    return by_round(result)


def _agreement_text(result: Any) -> str:
    from pairwright.evaluate.agreement import by_columns

    return by_columns(result)


_TEXTS: dict[str, Callable[[Any], str]] = {"agreement": _agreement_text, "rounds": _rounds_text}
"""How the result of an evaluation is told where a list of its measures is not the way to read it."""


_WRITERS: dict[str, Callable[[Any, Path], Any]] = {
    ".parquet": lambda frame, file: frame.sink_parquet(file),
    ".jsonl": lambda frame, file: frame.sink_ndjson(file),
    ".json": lambda frame, file: frame.collect().write_json(file),
}
"""How answers are written into one file, by its ending."""


def _write_answers(answers: Any, output: Path) -> None:
    """One row for each answer: prompt_id, prompt, response, goal, model and the rest; and the manifest beside it."""
    asked = answers.prompts.select("prompt_id", "prompt")
    frame = answers.responses.join(asked, on="prompt_id", how="left", maintain_order="left")
    with write_beside(output) as temporary:
        _WRITERS[output.suffix.lower()](frame, temporary)
        digest = digest_file(temporary)
    said = answers.manifest() | {"rows": answers.counts().responses, "digest": digest}
    write_json(output.with_name(f"{output.name}.manifest.json"), said)


def _made(path: Path, as_json: bool) -> None:
    if as_json:
        show_json({"output": str(path)})
    else:
        print(f"{path}: written")
