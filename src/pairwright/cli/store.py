"""`pairwright logprobs`, and `pairwright logprobs --prune`: what its store holds, and less of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairwright.cli.data import change, description
from pairwright.cli.flags import DEBUG, JSON, Flag, of_settings, parse
from pairwright.cli.out import show_json, table
from pairwright.errors import InputError, PairwrightError
from pairwright.pipeline.signature import check, signature

if TYPE_CHECKING:
    from pairwright.logprobs.store import Entry

_YES = Flag("yes", bool, False, "With --everything, or --unused 0: do it.")


def logprobs(verb: str, arguments: Sequence[str]) -> int:
    """The verb as it is; with `--prune` a look at its store instead, which needs no data."""
    if "--prune" in arguments:
        return _prune([each for each in arguments if each != "--prune"])
    return change(verb, arguments)


def _prune(arguments: Sequence[str]) -> int:
    from pairwright.logprobs.store import prune, remove, shelves_place, stored, unremoved

    known = signature(prune).settings
    given = parse("logprobs --prune", description(prune), [*of_settings(known), _YES, JSON, DEBUG], arguments)
    settings = check(known, {name: given[name] for name in known}, title="logprobs --prune")
    _is_meant(settings, yes=given["yes"])
    there = stored()
    done = remove(there, **settings)
    gone = {entry.folder for entry in done.gone}
    if given["json"]:
        rows = [entry._asdict() | {"folder": str(entry.folder), "removed": entry.folder in gone} for entry in there]
        show_json({"store": str(shelves_place()), "entries": rows})
    elif there:
        _show(there, gone)
    else:
        print(f"the store in {shelves_place()} is empty")
    if done.left:
        raise PairwrightError(unremoved(done))
    return 0


def _is_meant(settings: Mapping[str, Any], *, yes: bool) -> None:
    """Whether what empties the store was said twice.

    Raises:
        InputError: it was not, or the `--yes` is to nothing.
    """
    from pairwright.logprobs.store import shelves_place

    all_of_it = settings["unused"] == 0 and settings["model"] is None
    if (settings["everything"] or all_of_it) and not yes:
        word = "--everything" if settings["everything"] else "--unused 0"
        raise InputError(f"{word} empties the store in {shelves_place()}; add --yes to do it")
    if yes and not settings["everything"] and settings["unused"] is None and settings["model"] is None:
        raise InputError("--yes alone removes nothing; say what is to go: --everything, --unused DAYS or --model MODEL")


def _show(there: "Sequence[Entry]", gone: set[Path]) -> None:
    from pairwright.logprobs.store import shelves_place

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


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def _ago(days: float) -> str:
    return "today" if days < 1 else f"{days:,.0f} days ago"
