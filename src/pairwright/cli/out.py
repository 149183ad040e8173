"""What a command reads, where it writes, and what it says about it."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pairwright.errors import InputError
from pairwright.preferences import Layout, Preferences, check_ours
from pairwright.runs import check_writable

_FLAT = (".parquet", ".jsonl", ".json", ".csv")
_PACKED = (".gz", ".zst")


def is_flat(path: Path) -> bool:
    """Whether an output's name asks for one flat file; any other name is a native directory."""
    name = path.name.lower()
    for ending in _PACKED:
        name = name.removesuffix(ending)
    return name.endswith(_FLAT)


def read_in(given: Mapping[str, Any], *, output: Path | None = None, key: str = "source") -> Preferences:
    """The data that a command is about; rows that cannot be read go to `OUT.rejected.jsonl` and are counted on stderr.

    Args:
        given: the command's arguments: the data under `key`, and perhaps `format`, `columns`, `strict_reading`.
        output: what the command will write; None writes no rejects.
        key: the name of the argument with the data.

    Raises:
        InputError: the data cannot be read, or writing `output` would harm them.
    """
    from pairwright.formats.read import read

    source = str(given[key])
    rejects = None
    if output is not None:
        rejects = _beside(output, "rejected.jsonl")
        keep_apart(source, output)
    native, place = (os.path.join(source, *inside, "manifest.json") for inside in ((), ("data",)))
    if os.path.isfile(place) and not os.path.isfile(native):
        place = os.path.dirname(place)
        raise InputError(f"{source} is a step of a run, and its data lie in {place}; give {place}")
    try:
        prefs = read(
            source,
            format=given.get("format"),
            columns=given.get("columns"),
            strict=bool(given.get("strict")),
            rejects=rejects,
        )
    except Exception as error:
        if type(error).__module__ != "polars.exceptions":  # a table that Polars opened and finds damaged
            raise
        what = str(error).strip().split("\n", 1)[0]
        raise InputError(f"{source} cannot be read ({what}); write it again or get it again") from error
    if (Path(source) / "manifest.json").is_file():
        return prefs  # what an earlier reading of this data dropped was said then
    dropped = prefs.lineage[0].dropped if prefs.lineage else {}
    if dropped:
        where = f"; see {rejects}" if rejects is not None and rejects.exists() else ""
        complain(f"{sum(dropped.values()):,} rows of {source} were not read: {reasons(dropped)}{where}")
    return prefs


def keep_apart(source: str, output: Path) -> None:
    """Refuse an output that would take the place of the input, or of a part of it.

    Args:
        source: what is read: a file, a directory, or a name of the hub, which nothing here can harm.
        output: what is written; `OUT.rejected.jsonl` and `OUT.manifest.json` may be written beside it.

    Raises:
        InputError: one of them is the input, or lies in it; or the input lies in the directory that is replaced.
    """
    if not os.path.exists(source):  # not Path.exists, which raises for a name that is too long to be one
        return
    place, target = Path(source).resolve(), output.resolve()
    for written in (output, _beside(output, "rejected.jsonl"), _beside(output, "manifest.json")):
        if written.exists() and written.samefile(source):
            what = "the input itself" if written == output else f"written with {written.name}, and that is the input"
            raise InputError(f"{output} is {what}; choose another -o")
    if place.is_dir() and target.is_relative_to(place):
        raise InputError(f"{output} lies in the input {source}, which it would spoil; choose another -o")
    if (output / "manifest.json").is_file() and place.is_relative_to(target):
        raise InputError(
            f"{source} lies in {output}, which would be replaced with all that is in it; choose another -o"
        )


def check_output(output: Path, endings: Sequence[str] = ()) -> None:
    """Refuse an output that cannot be written, before the work that it is of is done and paid for.

    Args:
        output: what will be written.
        endings: of a flat file, where not all that `is_flat` knows are written.

    Raises:
        InputError: the name ends in what is not written, something else stands there, or nothing may be written there.
    """
    name = output.name.lower()
    if endings and is_flat(output) and not name.endswith(tuple(endings)):
        *most, last = endings
        raise InputError(f"-o {output}: this is written as {', '.join(most)} or {last}, or into a directory")
    if name.endswith((".parquet.gz", ".parquet.zst")):
        raise InputError(f"-o {output}: a parquet file is packed by itself; leave out {output.suffix}")
    if is_flat(output) and output.is_dir():
        raise InputError(f"{output} is a directory; choose another -o, or a name without an ending")
    if not is_flat(output) and output.exists():
        check_ours(output)
    check_writable(output)


def _beside(output: Path, ending: str) -> Path:
    if output.name in ("", ".."):
        raise InputError(f"-o {output} is no name for an output; give the path of a file or of a new directory")
    return output.with_name(f"{output.name}.{ending}")


def write_out(prefs: Preferences, output: Path, *, layout: Layout = "trl") -> Path:
    """Write preferences as the name of the output asks: a native directory, or one flat file.

    Raises:
        InputError: a flat file is asked for, and the last step left no row.
    """
    if not is_flat(output):
        return prefs.save(output)
    last = prefs.lineage[-1] if prefs.lineage else None
    if last and last.rows_in and last.rows_out == 0:
        why = f" ({reasons(last.dropped)})" if last.dropped else ""
        raise InputError(
            f"{last.name} kept 0 of {last.rows_in:,} rows{why}, so there is nothing to write to {output}; "
            "change its settings, or write a directory"
        )
    return prefs.export(output, layout)


def tell(prefs: Preferences, output: Path, *, as_json: bool, since: int | None = None) -> None:
    """Say what was written: rows, what the last step dropped, by reason, and what each new step noted.

    Args:
        prefs: what was written.
        output: where it was written.
        as_json: as JSON; where there are several new steps, all of them stand under `steps`.
        since: how many steps there were before; None is all but the last.
    """
    last = prefs.lineage[-1] if prefs.lineage else None
    new = prefs.lineage[-1:] if since is None else prefs.lineage[since:] or prefs.lineage[-1:]
    dropped = dict(last.dropped) if last else {}
    rows, of = _rows(prefs)
    if as_json:
        said: dict[str, Any] = {"notes": list(last.notes) if last else [], "found": last.found if last else {}}
        if len(new) > 1:
            said["steps"] = [
                {
                    "name": step.name,
                    **({"into": step.settings["into"]} if "into" in step.settings else {}),
                    "dropped": step.dropped,
                    "notes": list(step.notes),
                    "found": step.found,
                }
                for step in new
            ]
        show_json({"output": str(output), of: rows, "dropped": dropped, **said})
        return
    text = f"{output}: {rows:,} {of}"
    if last and last.rows_in not in (None, rows) and last.rows_out == rows:
        text += f" from {last.rows_in:,}"
    print(text + (f"; dropped: {reasons(dropped)}" if dropped else ""))
    for step in new:
        if len(new) > 1 and step.notes:
            print(f"  {step.name} {step.settings.get('into', '')}".rstrip() + ":")
        for note in step.notes:
            print(f"  {'  ' if len(new) > 1 else ''}{note}")
        for key, value in step.found.items():
            if key in _TABLES:
                print(f"\n{_TABLES[key](value)}")


def overlap_table(found: Mapping[str, Any]) -> str:
    """How far metrics choose the same pairs, a row and a column for each."""
    common, share = found["common"], found["share"]
    by_chance = f"{found['chance'] * found['kept']:,.0f}, {found['chance']:.0%}"
    rows = [(a, *(f"{count:,} ({share[a][b]:.0%})" for b, count in row.items())) for a, row in common.items()]
    head = f"Pairs that two metrics both choose, of {found['kept']:,} that each does ({by_chance} by chance):"
    return f"{head}\n{table(rows, ('', *common))}"


def flips_table(found: Mapping[str, Any]) -> str:
    """How often implicit rewards order pairs against their labels, in all and by split."""
    columns = ("pairs", "same", "flipped", "ties", "unknown")
    parts = {"all": found, **found.get("by_split", {})}
    rows = []
    for name, row in parts.items():
        rate = "-" if row["flip_rate"] is None else f"{row['flip_rate']:.1%}"
        rows.append((name, *(f"{row[column]:,}" for column in columns), rate))
    return f"Order of the implicit reward against the label:\n{table(rows, ('', *columns, 'flip rate'))}"


_TABLES: dict[str, Callable[[Mapping[str, Any]], str]] = {"overlap": overlap_table, "flips": flips_table}
"""What a step found that is better shown as a table; the notes say the rest."""


def reasons(dropped: Mapping[str, int]) -> str:
    """`score_tie 111, equal_text 3`."""
    return ", ".join(f"{reason} {count:,}" for reason, count in dropped.items())


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Aligned text for a log; on a terminal the last column is cut at its width."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, ["-" * width for width in widths], *rows]
    ]
    if sys.stdout.isatty():
        from shutil import get_terminal_size

        width = max(60, get_terminal_size().columns)
        lines = [line if len(line) <= width else line[: width - 1] + "…" for line in lines]
    return "\n".join(lines)


def show_json(value: Any) -> None:
    """Print JSON on standard output."""
    print(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False, default=str))


def complain(sentence: str) -> None:
    """One line on standard error."""
    print(sentence, file=sys.stderr)


def _rows(prefs: Preferences) -> tuple[int, str]:
    last = prefs.lineage[-1] if prefs.lineage else None
    if last and last.rows_out is not None and last.name in ("relabel", "select"):
        return last.rows_out, "pairs"  # they counted already; counting again would do their work again
    counts = prefs.counts()
    kinds = ((counts.pairs, "pairs"), (counts.responses, "responses"), (counts.prompts, "prompts"))
    return next((found for found in kinds if found[0]), (0, "responses"))
