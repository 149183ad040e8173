"""Scores that the answers have already."""

from collections.abc import Sequence

import polars as pl

from pairwright.errors import InputError
from pairwright.plug import nearest
from pairwright.preferences import Preferences
from pairwright.scorers.sample import Scores


def column(prefs: Preferences, *, by: str | Sequence[str] = "score") -> Scores:
    """The numbers of a column that is there, so that they can be normalised (`scale`) or put under another name.

    One column gives the score; several give one column each, `score_helpfulness` being `<into>_helpfulness`. An answer
    without a number stays without one (`unscored`).

    Args:
        prefs: answers with columns of numbers.
        by: the column, or several.

    Raises:
        InputError: there is no such column of numbers, or a list is empty.
    """
    names = [by] if isinstance(by, str) else list(dict.fromkeys(by))
    schema = prefs.responses.collect_schema()
    known = [name for name, kind in schema.items() if kind.is_numeric() and name != "response_id"]
    if not names:
        raise InputError(f"column: by names no column; there are {', '.join(known)}")
    for name in names:
        if name not in known:
            hint = nearest(name, known) or f"; there are {', '.join(known)}"
            raise InputError(f"column: responses have no column of numbers {name!r}{hint}")
    frame = prefs.responses.select(pl.col(name).cast(pl.Float64) for name in names).collect()
    if isinstance(by, str):
        missing = frame[by].null_count()
        return Scores(frame[by], {"unscored": missing} if missing else {}, prefs)
    why = {f"unscored_{name}": frame[name].null_count() for name in names if frame[name].null_count()}
    return Scores(None, why, prefs, columns={name.removeprefix("score_"): frame[name] for name in names})
