"""`reproduce`."""

from collections.abc import Sequence
from pathlib import Path

from pairwright.cli.data import description
from pairwright.cli.flags import DEBUG, JSON, of_settings, out, parse, words
from pairwright.cli.out import show_json, table
from pairwright.pipeline.signature import check, load, signature


def reproduce(verb: str, arguments: Sequence[str]) -> int:
    """`pairwright reproduce CLAIM... --out DIR`."""
    function = load("pairwright.reproduce:reproduce")
    schema = signature(function, without=("claims", "output"))
    flags = [
        words("claims", "CLAIM", "Names from `pairwright list claims`; all when none is given.", kind=tuple[str, ...]),
        out("Where the outcomes and reproduction.html go; nothing is kept when not given.", required=False),
        *of_settings(schema.settings),
        JSON,
        DEBUG,
    ]
    flags[0] = flags[0]._replace(default=())
    flags[1] = flags[1]._replace(also=("--out",))
    given = parse(verb, description(function), flags, arguments)
    settings = check(schema.settings, {key: given[key] for key in schema.settings if key in given}, title=verb)
    output: Path | None = given["output"]
    found = function(given["claims"], output=output, **settings)
    if given["json"]:
        show_json(found.to_dict())
        return 0
    rows = [(name, outcome.verdict, f"{outcome.seconds:.1f}", outcome.says) for name, outcome in found.outcomes.items()]
    print(table(rows, ("claim", "verdict", "seconds", "what was found")))
    if output is not None:
        print(f"\nOpen {output / 'reproduction.html'}")
    return 0
