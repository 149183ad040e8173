"""Asked for more than the best score of the data: does the score rise any further?"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairwright.errors import InputError
from pairwright.evaluate.result import Metric
from pairwright.goals import GoalFormat
from pairwright.preferences import Preferences
from pairwright.stats import Interval

Floats = NDArray[np.float64]


class Beyond(NamedTuple):
    """Which goals lie above the data.

    Attributes:
        best: the best score of the data.
        inside: the highest goal that does not exceed it; None where all do.
        above: the goals that exceed it, rising.
    """

    best: float
    inside: float | None
    above: tuple[float, ...]


def beyond(answers: Preferences, goals: Sequence[float], best: float | None) -> tuple[Beyond | None, list[str]]:
    """Which goals are above the best score of the data, and what a reader should know of them; None where none is.

    Args:
        answers: whose lineage has the goal format of the generation.
        goals: that were asked for, rising.
        best: the best score of the data; None takes the top of the range of the goal format.

    Raises:
        InputError: `best` is not given and the answers were made with several ranges.
    """
    forms = _forms(answers)
    if best is None:
        tops = {form.ranges[0][1] for form in forms}
        if len(tops) > 1:
            told = ", ".join(f"{top:g}" for top in sorted(tops))
            raise InputError(
                f"evaluate control: the answers come from goal formats whose ranges end at {told}; set best to the "
                "best score of the training data"
            )
        best = next(iter(tops), None)
        if best is None:
            return None, []
        given = False
    else:
        given = True
    above = tuple(goal for goal in goals if goal > best)
    if not above:
        return None, [f"No goal above {best:g} was asked for, so nothing is said of extrapolation."] if given else []
    inside = max((goal for goal in goals if goal <= best), default=None)
    notes = []
    if inside is None:
        notes.append(f"No goal up to {best:g} was asked for, so goals above it have nothing to be compared with.")
    for form in forms:
        if same := [goal for goal in above if _read_alike(form, goal)]:
            told = ", ".join(f"{goal:g}" for goal in same)
            notes.append(
                f"Asked for {told} the model reads the same sentence as for {form.ranges[0][1]:g}, where the range of "
                "the goal format ends, so that it cannot tell them apart."
            )
    return Beyond(best, inside, above), notes


def numbers(found: Beyond, asked: Floats, given: Floats) -> list[float]:
    """Of some answers: mean score above, mean at the best goal inside, their difference, share above the best score.

    Args:
        found: which goals.
        asked: the goal of each answer, NaN for none, `[answers]`.
        given: its score, `[answers]`.
    """
    high = given[asked > found.best]
    inside = given[asked == found.inside] if found.inside is not None else given[:0]
    above, below = (float(each.mean()) if len(each) else float("nan") for each in (high, inside))
    return [above, below, above - below, float((high > found.best).mean()) if len(high) else float("nan")]


def metrics(found: Beyond, values: Sequence[Interval]) -> list[Metric]:
    """The metrics of what `numbers` gave, with their intervals."""
    told = ", ".join(f"{goal:g}" for goal in found.above)
    inside = "none" if found.inside is None else f"{found.inside:g}"
    says = {
        "extrapolation/above": f"mean score when asked for more than the data's best, {found.best:g} (goals {told})",
        "extrapolation/best": f"mean score at the highest goal within the data ({inside})",
        "extrapolation/rise": "the first minus the second: above 0 the goal still steers where no data was",
        "extrapolation/reached": f"share of answers asked for more than {found.best:g} that score more than it",
    }
    return [Metric.of(name, value, text) for (name, text), value in zip(says.items(), values, strict=True)]


def rows(found: Beyond | None, goal: float) -> dict[str, Any]:
    """What the row of a goal in the table says of it: nothing where no goal lies above the data."""
    return {} if found is None else {"above_data": goal > found.best}


def _forms(answers: Preferences) -> list[GoalFormat]:
    """The formats of goals that were scores, of one number each."""
    given = [step.settings.get("goal_format") for step in answers.lineage if step.name == "generate"]
    forms = [GoalFormat.model_validate(form) for form in given if form is not None]
    return [form for form in dict.fromkeys(forms) if form.asks == "scores" and len(form.ranges) == 1]


def _read_alike(form: GoalFormat, goal: float) -> bool:
    parts = [goal] if form.attributes else goal
    top = form.ranges[0][1]
    return form.say(parts) == form.say([top] if form.attributes else top)
