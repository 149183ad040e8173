"""Verbs that make a set of prompts: evolve, merge."""

from collections.abc import Sequence
from pathlib import Path

from pairwright.cli.data import IN, description, of_plugs, own_flags, plug_flags, settings_given
from pairwright.cli.flags import COLUMNS, DEBUG, FROM, JSON, STRICT, out, parse, words
from pairwright.cli.out import check_output, is_flat, keep_apart, read_in, tell, write_out
from pairwright.pipeline.steps import STEPS, settings_schema


def evolve(verb: str, arguments: Sequence[str]) -> int:
    """`pairwright evolve IN --model MODEL -o OUT`; a killed one goes on where it was."""
    from pairwright.generate import forget

    function, schema = settings_schema(STEPS["evolve"])
    target = out("What to write: a directory (everything), or a .parquet, .jsonl, .json or .csv file (prompts).")
    own = [IN, target, FROM, COLUMNS, *own_flags(verb, schema), STRICT, JSON, DEBUG]
    engine = plug_flags(verb, schema, arguments, beside=own)
    given = parse(verb, description(function), [*own[:-3], *engine, *own[-3:]], arguments)
    settings = settings_given(verb, schema, given, also=of_plugs(engine, given))
    output: Path = given["output"]
    keep_apart(given["source"], output)
    check_output(output)
    asked = read_in(given, output=output)
    keep = output.with_name(f"{output.name}.unfinished")  # as `generate` does
    prefs = function(asked, keep=keep, **settings)
    written = write_out(prefs, output, layout="prompts") if is_flat(output) else write_out(prefs, output)
    forget(keep)
    tell(prefs, written, as_json=given["json"])
    return 0


def merge(verb: str, arguments: Sequence[str]) -> int:
    """`pairwright merge IN OTHER -o OUT`."""
    from pairwright.merge import merge

    other = words("other", "OTHER", "What comes behind it.")
    target = out("What to write: a directory (everything), or a .parquet, .jsonl, .json or .csv file (pairs, flat).")
    given = parse(verb, description(merge), [IN, other, target, FROM, COLUMNS, STRICT, JSON, DEBUG], arguments)
    output: Path = given["output"]
    keep_apart(given["other"], output)
    prefs = merge(read_in(given, output=output), read_in(given, key="other"))
    tell(prefs, write_out(prefs, output), as_json=given["json"])
    return 0
