"""`run`, `quickstart` and `report`."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pairwright.cli.data import description
from pairwright.cli.diagnose import findings_text, measures_text
from pairwright.cli.flags import DEBUG, JSON, SET, Flag, of_settings, out, parse, words
from pairwright.cli.live import LiveProgress
from pairwright.cli.out import show_json, table
from pairwright.pipeline import Ran, dry_run
from pairwright.pipeline import run as run_recipe
from pairwright.pipeline.progress import in_time, in_words
from pairwright.pipeline.signature import check, load, signature


def run(verb: str, arguments: Sequence[str]) -> int:
    """`pairwright run RECIPE -o RUN --set NAME.key=value`."""
    flags = [
        words("recipe", "RECIPE", "A YAML file: a list of steps. Paths in it are relative to the current directory."),
        out("The run's directory; runs/<name of the recipe> when not given.", required=False),
        SET._replace(
            says="Change a setting of a step, NAME.KEY=VALUE. May be given several times.", metavar="NAME.KEY=VALUE"
        ),
        Flag("dry_run", bool, False, "Check everything and print the plan; write nothing."),
        Flag("fresh", bool, False, "Forget the steps done so far and start over."),
        JSON,
        DEBUG,
    ]
    says = "Run a recipe, or finish one that was stopped: what is done is not done again."
    given = parse(verb, says, flags, arguments)
    if given["dry_run"]:
        rows = dry_run(given["recipe"], output=given["output"], set=given["set"])
        if given["json"]:
            show_json([asdict(row) for row in rows])
        else:
            cells = [(f"{r.number:02d}", r.name, r.verb, r.state, r.inputs, r.settings) for r in rows]
            print(table(cells, ("nn", "name", "verb", "will", "takes", "settings")))
        return 0
    with progress() as told:
        ran = run_recipe(given["recipe"], output=given["output"], set=given["set"], fresh=given["fresh"], progress=told)
    _headline(ran, given["json"])
    return 0


def quickstart(verb: str, arguments: Sequence[str]) -> int:
    """`pairwright quickstart -o demo`."""
    function = load("pairwright.worlds.quickstart:quickstart")
    schema = signature(function, without=("output", "progress"))
    target = out("Where everything goes.", required=False)
    repeated = SET._replace(says="Change a setting of the recipe, NAME.KEY=VALUE. May be given several times.")
    own = [repeated if flag.name == "set" else flag for flag in of_settings(schema.settings)]
    flags = [target._replace(default=Path("demo"), kind=Path), *own, DEBUG]
    given = parse(verb, description(function), flags, arguments)
    settings = {key: given[key] for key in schema.settings if key in given}
    settings = check(schema.settings, settings, title=verb)
    takes_progress = "progress" in signature(function).settings
    with progress() as told:
        made = function(output=given["output"], **settings, **({"progress": told} if takes_progress else {}))
    if isinstance(made, Ran):
        _headline(made, as_json=False)
    elif made is not None:
        print(made)
    return 0


def report(verb: str, arguments: Sequence[str]) -> int:
    """`pairwright report RUN -o report.html`: writes the page, and shows what it says first."""
    function = load("pairwright.report:report")
    schema = signature(function, without=("run_dirs", "output"))
    flags = [
        words("run_dirs", "RUN", "Directories of runs.", kind=tuple[Path, ...]),
        out("The page; report.html in the first run when not given.", required=False),
        *of_settings(schema.settings),
        JSON,
        DEBUG,
    ]
    given = parse(verb, description(function), flags, arguments)
    settings = check(schema.settings, {key: given[key] for key in schema.settings if key in given}, title=verb)
    page = function(list(given["run_dirs"]), output=given["output"], **settings)
    numbers = page.with_suffix(".json")
    said = json.loads(numbers.read_text(encoding="utf-8")).get("headline") or []
    if given["json"]:
        show_json({"page": str(page), "numbers": str(numbers), "headline": said})
        return 0
    for i, each in enumerate(said):
        if len(said) > 1:
            print(f"== {each['run']}")
        seen = [finding for finding in each["findings"] if finding["level"] != "fine"]
        quiet = len(each["findings"]) - len(seen)
        is_diagnosed = "diagnosis" not in [lack["part"] for lack in each["missing"]]
        parts = [
            findings_text(seen) if seen else "",
            "" if is_diagnosed else f"not diagnosed: `pairwright diagnose {given['run_dirs'][i]}`",
            "" if is_diagnosed else _logged_text(each["logged"]),
            f"{quiet} more findings are fine; the page has them" if quiet else "",
            measures_text(each["measures"]) if each["measures"] else "",
        ]
        print("\n\n".join(filter(None, parts)) + "\n")
    print(page)
    return 0


def _logged_text(logged: Sequence[Mapping[str, Any]]) -> str:
    """The last logged numbers of each training; of one batch, so without an interval."""
    rows = [(each["training"], each["measure"], f"{each['value']:.4g}") for each in logged]
    return table(rows, ("training", "last logged", "value")) if rows else ""


def progress() -> LiveProgress:
    """What tells of a run: lively on a terminal, plain lines in a log."""
    return LiveProgress(sys.stderr.isatty())


def _headline(ran: Ran, as_json: bool) -> None:
    if as_json:
        steps = [{"step": done.step, "verb": done.verb, **done.headline, "seconds": done.seconds} for done in ran.steps]
        show_json({"run": str(ran.path), "steps": steps})
        return
    rows = [
        (done.step, done.verb, in_words(done.headline), "before" if done.step in ran.reused else in_time(done.seconds))
        for done in ran.steps
    ]
    print(table(rows, ("step", "verb", "result", "took")))
    print(f"\n{ran.path}")
    for number, done in enumerate(ran.steps, 1):
        pages = [name for name in done.outputs if name.endswith(".html")]
        for page in pages:
            print(ran.path / f"{number:02d}-{done.step}" / page)
