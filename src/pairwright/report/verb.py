"""The verb `report`."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from pairwright.errors import InputError
from pairwright.report.collect import collect
from pairwright.report.page import report_json, run_page
from pairwright.runs import write_json, write_text

Runs = str | PathLike[str] | Sequence[str | PathLike[str]]


def report(
    run_dirs: Runs,
    *,
    output: str | Path | None = None,
    title: str | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write the report of a run: one HTML file that opens without a network, and `report.json` beside it.

    It computes nothing: every number is taken from the run's own files. A part that the run lacks is named, with the
    step that would make it.

    Args:
        run_dirs: a run directory, or several to be shown below each other.
        output: the HTML file; `report.html` in the (first) run directory when not given. The JSON file has the same
            name with `.json`.
        title: heading of the page; the name of the run when not given.
        notes: sentences that a reader should know before the numbers.

    Raises:
        InputError: there is no run directory, or it holds no step.
    """
    paths = [run_dirs] if isinstance(run_dirs, str | PathLike) else list(run_dirs)
    if not paths:
        raise InputError("report needs the directory of a run; give the one that `pairwright run` wrote")
    runs = [collect(Path(path)) for path in paths]
    target = Path(output) if output is not None else Path(paths[0]) / "report.html"
    if target.is_dir():
        target = target / "report.html"
    write_json(target.with_suffix(".json"), report_json(runs))
    return write_text(target, run_page(runs, title=title, notes=notes))
