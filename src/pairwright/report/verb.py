"""The verb `report`."""

import json
import os
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from pairwright.errors import InputError
from pairwright.report.collect import collect
from pairwright.report.compare import apart_by_name
from pairwright.report.files import json_object
from pairwright.report.page import MADE_BY, audits_page, run_page
from pairwright.runs import write_json, write_text

Runs = str | PathLike[str] | Sequence[str | PathLike[str]]


def report(
    run_dirs: Runs,
    *,
    output: str | Path | None = None,
    title: str | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write the report of a run: one HTML file that opens without a network, and its numbers as JSON beside it.

    It measures nothing: numbers are taken from the run's own files, and rows of its data are counted. A part that the
    run lacks is named, with the step that would make it. Several runs are first compared, then shown one by one.

    Args:
        run_dirs: the directory of a run or of a single training, what `run` or `train` gave, or several of them; or
            JSON files of audits, as `pairwright audit DATA -o audit.json` writes them.
        output: the HTML file, or a directory for `report.html`; the (first) run directory when not given, and for an
            audit `NAME-report.html` beside it. The JSON file has the same name with `.json`.
        title: heading of the page; the name of the run when not given.
        notes: sentences that a reader should know before the numbers.

    Raises:
        InputError: there is no run directory, it holds neither a step nor a training, a file is no audit, runs and
            audits are mixed, `output` ends in `.json`, or a JSON file of somebody else has the name that ours gets.
    """
    given = [run_dirs] if isinstance(run_dirs, str | PathLike) else list(run_dirs)
    if not given:
        raise InputError("report needs the directory of a run; give the one that `pairwright run` wrote")
    paths = [_directory(item) for item in given]
    files = [path for path in paths if path.is_file()]
    if files and len(files) < len(paths):
        raise InputError(
            f"{files[0]} is a file and {_first_other(paths, files)} is a run; report them one after another"
        )
    target = _target(output, paths[0])
    numbers = target.with_suffix(".json")
    if numbers.exists() and not _is_ours(numbers):
        raise InputError(
            f"{numbers} would be written beside {target.name}, and no report wrote it; choose another output"
        )
    page, values = (
        _audits(files, title) if files else run_page(apart_by_name(list(map(collect, paths))), title=title, notes=notes)
    )
    write_json(numbers, values)
    return write_text(target, page)


def _audits(files: Sequence[Path], title: str | None) -> tuple[str, dict[str, Any]]:
    """The page of audits, and their numbers."""
    audits = {str(path) if len(files) > 1 else path.stem: _audit(path) for path in files}
    page = audits_page(audits, title=title or " · ".join(path.stem for path in files))
    return page, {"made_by": MADE_BY, "audits": audits}


def _audit(path: Path) -> dict[str, Any]:
    """The audit that a JSON file holds.

    Raises:
        InputError: it holds none.
    """
    found = json_object(path, [])
    if not found or not isinstance(found.get("findings"), list) or "pairs" not in found:
        raise InputError(
            f"{path} is no audit; give what `pairwright audit DATA -o audit.json` wrote, or the directory of a run"
        )
    return found


def _first_other(paths: Sequence[Path], files: Sequence[Path]) -> Path:
    return next(path for path in paths if path not in files)


def _directory(item: str | PathLike[str]) -> Path:
    """Where a run is. What `train` gave is, as a path, its model; the training lies in the directory above."""
    directory = getattr(item, "directory", None)
    return Path(directory if isinstance(directory, str | PathLike) else item)


def _target(output: str | Path | None, first: Path) -> Path:
    """The HTML file to write; a path that exists as a directory, ends as one or has no ending is a directory."""
    if output is None:
        return first.with_name(f"{first.stem}-report.html") if first.is_file() else first / "report.html"
    path = Path(output)
    if path.suffix.lower() == ".json":
        raise InputError(
            f"{path}: report writes a page and, beside it, its numbers; name the page, {path.with_suffix('.html')}"
        )
    is_directory = path.is_dir() or not path.suffix or str(output).endswith(("/", os.sep))
    return path / "report.html" if is_directory else path


def _is_ours(path: Path) -> bool:
    """Whether a report wrote this JSON file: it says so first."""
    head = "{" + json.dumps({"made_by": MADE_BY}, indent=2)[1:-2]
    try:
        with path.open("rb") as file:
            return file.read(len(head)) == head.encode("utf-8")
    except OSError:
        return False
