"""`pairwright logprobs`, and `pairwright logprobs --prune`: what its store holds, and less of it."""

from collections.abc import Sequence

from pairwright.cli.data import change, description
from pairwright.cli.flags import DEBUG, JSON, Flag, of_settings, parse
from pairwright.cli.out import show_json, table
from pairwright.errors import InputError
from pairwright.pipeline.signature import check, signature

_YES = Flag("yes", bool, False, "With --everything: do it.")


def logprobs(verb: str, arguments: Sequence[str]) -> int:
    """The verb as it is; with `--prune` a look at its store instead, which needs no data."""
    if "--prune" in arguments:
        return _prune([each for each in arguments if each != "--prune"])
    return change(verb, arguments)


def _prune(arguments: Sequence[str]) -> int:
    from pairwright.logprobs.store import prune, shelves_place, stored

    known = signature(prune).settings
    given = parse("logprobs --prune", description(prune), [*of_settings(known), _YES, JSON, DEBUG], arguments)
    settings = check(known, {name: given[name] for name in known}, title="logprobs --prune")
    if settings["everything"] and not given["yes"]:
        raise InputError(f"--everything empties the store in {shelves_place()}; add --yes to do it")
    there = stored()
    gone = {entry.folder for entry in prune(**settings)}
    if given["json"]:
        rows = [entry._asdict() | {"folder": str(entry.folder), "removed": entry.folder in gone} for entry in there]
        show_json({"store": str(shelves_place()), "entries": rows})
        return 0
    if not there:
        print(f"the store in {shelves_place()} is empty")
        return 0
    shown = [
        (
            entry.model,
            entry.dtype,
            f"{entry.answers:,}",
            _size(entry.bytes),
            _ago(entry.unused),
            "removed" if entry.folder in gone else "",
            entry.place,
        )
        for entry in there
    ]
    print(table(shown, ("model", "dtype", "answers", "size", "last used", "", "first seen at")))
    kept = [entry for entry in there if entry.folder not in gone]
    total = f"{len(kept)} entries, {_size(sum(entry.bytes for entry in kept))} in {shelves_place()}"
    print(f"\n{total}" + (f"; {len(gone)} removed" if gone else ""))
    return 0


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def _ago(days: float) -> str:
    return "today" if days < 1 else f"{days:,.0f} days ago"
