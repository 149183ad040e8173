"""Verbs with a model: scratch, train, generate."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pairwright.cli.data import IN, description, of_plugs, own_flags, plug_flags, settings_given
from pairwright.cli.flags import COLUMNS, DEBUG, FROM, JSON, STRICT, out, parse
from pairwright.cli.out import check_output, is_flat, keep_apart, read_in, show_json, tell, write_out
from pairwright.pipeline.recipe import value_of
from pairwright.pipeline.steps import STEPS, settings_schema
from pairwright.runs import digest_file, write_beside, write_json


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
