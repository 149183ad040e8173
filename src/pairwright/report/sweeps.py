"""Several trainings that differ in one setting and the seed: what their lines in a chart have in common."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pairwright.charts import Chart, Series
from pairwright.report.charts import named
from pairwright.report.shown import is_number, plain
from pairwright.report.views import RunView, StepView

MANY = 3
"""More trainings than these are a sweep, and more subjects of one part are shown together."""
SEEDS = ("seed", "data_seed")
"""Settings that a repetition changes."""


UNDRAWN = "Intervals are in the numbers below."
"""Said of a chart with so many lines that their intervals would hide them."""


class Sweep(NamedTuple):
    """What is known of the trainings of a sweep; empty where there is none."""

    setting: str = ""
    """The setting that differs, such as `beta`."""
    of: Mapping[str, str] = {}
    """By the name of a training, or of a step with what its model wrote: the setting with its value, `beta 0.1`."""
    order: Sequence[str] = ()
    """The settings with their values, the smallest first."""

    def find(self, subject: str) -> str | None:
        """The setting of a subject such as `dpo-1`, `dpo-1 against start` or `dpo-1, seed 2`; None where unknown."""
        heads = (subject[:end] for end in range(len(subject), 0, -1) if subject[end : end + 1] in ("", " ", ","))
        return next((self.of[head] for head in heads if head in self.of), None)


def sweep_of(runs: Sequence[RunView]) -> Sweep:
    """The sweep among the trainings of runs: more than `MANY` with one loss, of which one setting differs."""
    losses: dict[str, dict[str, StepView]] = {}
    for name, step in named(runs, "metrics"):
        losses.setdefault(str(step.settings.get("loss")), {})[name] = step
    labels: dict[str, str] = {}
    values: dict[str, Any] = {}
    settings: list[str] = []
    for loss, steps in losses.items():
        setting, own = _differing(steps)
        before = f"{plain(loss)}, " if settings else ""
        settings += [setting] if setting else []
        for name, value in own.items():
            labels[name] = f"{before}{setting} {_said(value)}" if value is not None else f"{before}no {setting}"
            values[labels[name]] = value
    order = sorted(values, key=lambda label: _rank(values[label]))
    return Sweep(", ".join(dict.fromkeys(settings)), labels | _written(runs, labels), order)


def coloured(chart: Chart, sweep: Sweep) -> Chart:
    """A chart whose lines know their setting, in its order; the chart itself where they are few, or of no sweep."""
    lines = [series for series in chart.series if not series.reference]
    known = {label for series in lines if (label := sweep.find(series.name))}
    if len(lines) <= MANY or len(known) < 2:
        return chart
    marked = [series.model_copy(update={"setting": sweep.find(series.name)}) for series in lines]
    of_sweep = sorted(
        (series for series in marked if series.setting), key=lambda series: sweep.order.index(series.setting or "")
    )
    others = [series for series in marked if not series.setting]
    references = [series for series in chart.series if series.reference]
    says = f"{chart.says} Colour: {sweep.setting}{', a line for each seed' if len(of_sweep) > len(known) else ''}."
    if any(series.low for series in lines) and UNDRAWN not in says:
        says += f" {UNDRAWN}"
    return chart.model_copy(update={"says": says, "series": [*of_sweep, *others, *references]})


def pointed(chart: Chart, sweep: Sweep) -> Chart:
    """A chart of points whose labels are trainings, the points of one setting in a colour of their own."""
    series: list[Series] = []
    for one in chart.series:
        labels = [sweep.find(label) for label in one.labels or []]
        whole = len(labels) == len(one.x) > MANY and all(labels) and len(set(labels)) > 1
        series += _split(one, labels, sweep) if whole and not one.reference else [one]
    if len(series) == len(chart.series):
        return chart
    return chart.model_copy(update={"says": f"{chart.says} Colour: {sweep.setting}.", "series": series})


def _split(series: Series, labels: Sequence[str | None], sweep: Sweep) -> list[Series]:
    parts = []
    for label in sweep.order:
        at = [i for i, own in enumerate(labels) if own == label]
        lists = {key: value for key, value in series if isinstance(value, list)}
        changed: dict[str, Any] = {key: [value[i] for i in at] for key, value in lists.items()}
        if at:
            parts.append(series.model_copy(update=changed | {"name": f"{series.name}, {label}", "setting": label}))
    return parts


def _differing(steps: Mapping[str, StepView]) -> tuple[str, dict[str, Any]]:
    """The only setting that is not the same in all trainings, and its values; no name where it is none or several."""
    if len(steps) <= MANY:
        return "", {}
    settings = {name: {**step.settings, "from": step.take} for name, step in steps.items()}
    keys = [key for key in dict.fromkeys(key for own in settings.values() for key in own) if key not in SEEDS]
    differing = [key for key in keys if len({_said(own.get(key)) for own in settings.values()}) > 1]
    if len(differing) != 1:
        return "", {}
    return differing[0], {name: own.get(differing[0]) for name, own in settings.items()}


def _said(value: Any) -> str:
    """`1` and `0.03` for numbers, whether they were written as 1 or 1.0."""
    return f"{value:.8g}" if is_number(value) else plain(value)


def _rank(value: Any) -> tuple[bool, float, str]:
    return (False, float(value), "") if is_number(value) else (True, 0.0, str(value))


def _written(runs: Sequence[RunView], labels: Mapping[str, str]) -> dict[str, str]:
    """The settings of steps with answers of a sweep's models: what was generated, scored, evaluated."""
    names = {id(step): name for name, step in named(runs, "name")}
    found = {}
    for run in runs:
        steps = {step.name: step for step in run.steps}
        for step in run.steps:
            training = _training(step, steps)
            label = None if training is None else labels.get(names[id(training)])
            if label:
                found[names[id(step)]] = label
    return found


def _training(step: StepView, steps: Mapping[str, StepView]) -> StepView | None:
    """The training whose model wrote what a step holds."""
    seen: set[str] = set()
    origin: StepView | None = step
    while origin is not None and origin.verb != "generate" and origin.name not in seen:
        seen.add(origin.name)
        origin = steps.get(origin.take or "")
    model = "" if origin is None else str(origin.settings.get("model") or "")
    return steps.get(model.removeprefix("step:")) if model.startswith("step:") else None
