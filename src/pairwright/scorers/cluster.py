"""A scorer of samples on a cluster: the same function over the same samples, in parts."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pairwright.cluster import Row, each_by_function
from pairwright.errors import InputError, PairwrightError
from pairwright.plug import bind, find
from pairwright.scorers.sample import Sample, Score
from pairwright.scorers.table import SCORERS

_PART = 250
"""Samples that go to a worker at a time."""


def scores_of(samples: Sequence[Sample], *, scorer: str, settings: Mapping[str, Any]) -> list[Score]:
    """The scores of samples, in order.

    Args:
        samples: any number.
        scorer: a name of `SCORERS` or `module:function`, one that takes samples; the workers must find it too.
        settings: the scorer's.

    Raises:
        MissingExtra: Ray is not installed.
        InputError: the scorer raises one, or gives more or fewer scores than there are samples.
        PairwrightError: a worker failed.
    """
    rows = [{"number": at, "samples": list(samples[at : at + _PART])} for at in range(0, len(samples), _PART)]
    function = partial(_scored, scorer=scorer, settings=dict(settings))
    found = {row["number"]: row["scores"] for row in each_by_function(rows, function)}
    if missing := len(rows) - len(found):
        raise PairwrightError(f"scorer {scorer!r}: {missing} parts did not come back from the cluster; run it again")
    return [Score(value, why, also) for row in rows for value, why, also in found[row["number"]]]


def check_number(scores: Sequence[Score], samples: Sequence[Sample], scorer: str) -> None:
    """Refuse a scorer that gives more or fewer scores than there are samples.

    Raises:
        InputError: it does.
    """
    if len(scores) != len(samples):
        raise InputError(f"scorer {scorer!r} gave {len(scores)} scores for {len(samples)} answers")


def _scored(row: Row, *, scorer: str, settings: Mapping[str, Any]) -> Row:
    """A part, in a process of the cluster."""
    samples: list[Sample] = row["samples"]
    scores = bind(find(SCORERS, scorer, kind="scorer"), settings, kind="scorer")(samples)
    check_number(scores, samples, scorer)
    return {"number": row["number"], "scores": [(each.value, each.why, dict(each.also)) for each in scores]}
