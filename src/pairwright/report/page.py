"""The records and the templates, put together into one HTML file."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from pairwright.charts import Chart
from pairwright.report.charts import (
    goal_chart,
    named,
    pair_charts,
    probe_charts,
    relabelling_charts,
    score_charts,
    selection_charts,
    training_charts,
)
from pairwright.report.compare import apart, checks, compared
from pairwright.report.explorer import explorer_of
from pairwright.report.files import dicts, items
from pairwright.report.flow import flows
from pairwright.report.lacking import WANTED, lacks
from pairwright.report.measures import (
    by_goal,
    checks_of,
    findings_of,
    headline,
    part_measures,
    results,
    with_bars,
    with_pictures,
)
from pairwright.report.overview import by_name, first_chart, own_charts, together
from pairwright.report.shown import (
    HIDDEN,
    clean,
    duration,
    few,
    few_of,
    is_number,
    joined,
    json_island,
    leaves,
    number,
    plain,
    share,
    shown,
    ticked,
    visible,
)
from pairwright.report.sweeps import Sweep, coloured, sweep_of
from pairwright.report.views import RunView, StepView

if TYPE_CHECKING:
    from pairwright.audit import Audit

MADE_BY = "pairwright report"
"""Stands first in the JSON file, so that a report knows one of its own."""
LEVELS = ("error", "warning", "note", "fine")

FINDING = {
    "level": "warning",
    "check": "",
    "count": 0,
    "of": "pairs",
    "share": None,
    "says": "",
    "remedy": "",
    "rows": (),
}
"""What stands for the parts that a finding lacks."""


def run_page(
    runs: Sequence[RunView], *, title: str | None = None, notes: Sequence[str] = ()
) -> tuple[str, dict[str, Any]]:
    """The report of one run, or of several, first beside each other and then one by one.

    Args:
        runs: what `collect` read.
        title: heading of the page; the runs' names when not given.
        notes: sentences that a reader should know before the numbers.

    Returns:
        The HTML document, and the same numbers as JSON values: what the page says of each run, the comparison, every
        chart as it is drawn.
    """
    parts = [_part(run, f"r{i}-") for i, run in enumerate(runs)]
    both = _together(runs) if len(runs) > 1 else None
    charts = [chart for part in (*([both] if both else []), *parts) for chart in part["charts"]]
    heading = title or " · ".join(run.name for run in runs)
    page = render("run.html.j2", charts, title=heading, notes=list(notes), runs=parts, both=both)
    values = {
        "made_by": MADE_BY,
        "headline": [headline(run) for run in runs],
        "comparison": both and both["table"],
        "runs": [
            {**run.model_dump(mode="json"), "explorer": part["explorer"].about() if part["explorer"] else None}
            for run, part in zip(runs, parts, strict=True)
        ],
        "charts": [chart.model_dump(mode="json") for chart in charts],
    }
    return page, clean(values)


def audit_page(audit: "Audit", *, title: str = "Audit") -> str:
    """An audit as one HTML document, with the same look as a run's report.

    Args:
        audit: what `pairwright.audit` found.
        title: heading of the page, for example the name of the data.
    """
    return audits_page({"": audit.to_dict()}, title=title)


def audits_page(audits: Mapping[str, Mapping[str, Any]], *, title: str) -> str:
    """Audits as one HTML document: as `Audit.to_dict` gives them, each under its name."""
    found = [{"name": name, "audit": _audit(clean(dict(audit)))} for name, audit in audits.items()]
    return render("audit.html.j2", [], title=title, audits=found, runs=[])


def _part(run: RunView, prefix: str) -> dict[str, Any]:
    """One run as its template reads it."""
    charts: list[Chart] = []
    sweep = sweep_of([run])

    def drawn(*given: Chart | None) -> list[Chart]:
        """Charts with ids that no other run has; they are noted, to be put into the page."""
        mine = [chart.model_copy(update={"id": prefix + chart.id}) for chart in given if chart]
        charts.extend(mine)
        return mine

    def lines(*given: Chart | None) -> list[Chart]:
        """The same, with colours by the setting of a sweep."""
        return drawn(*(coloured(chart, sweep) for chart in given if chart))

    trainings = named([run], "metrics")
    data = _first_of_each(run.of("pairs"), "pairs")
    explorer = explorer_of(run.steps)
    return {
        "view": run,
        "prefix": prefix,
        "sections": _sections(run, bool(explorer)),
        "lacks": dict.fromkeys(WANTED) | {lack.part: lack for lack in lacks(run)},
        "findings": findings_of(run),
        "checks": [with_pictures(check) for check in checks_of(run, sweep)],
        "first": _first(run, sweep, drawn),
        "results": results(run),
        "by_goal": by_goal(run),
        "flows": flows(run),
        "scores": lines(*score_charts(_scored(run))),
        "pairs": data,
        "pair_charts": drawn(*(chart for step in _taken(run, data) for chart in pair_charts(step))),
        "audits": [{"step": step, "audit": _audit(step.audit or {})} for step in run.of("audit")],
        "selections": [
            {"step": step, "found": step.selection, "charts": drawn(*selection_charts(step, step.selection))}
            for step in run.steps
            if step.selection
        ],
        "relabellings": [
            {"step": step, "found": step.relabelling, "charts": drawn(*relabelling_charts(step, step.relabelling))}
            for step in run.steps
            if step.relabelling
        ],
        "curves": lines(*training_charts(trainings)),
        "probes": lines(*probe_charts(named([run], "probed"))),
        "diagnosed": _diagnosed(run, sweep, drawn),
        "goals": next(iter(lines(goal_chart(named([run], "result")))), None),
        "explorer": explorer,
        "charts": charts,
        "seeds": {s.name: s.settings["seed"] for s in run.of("metrics") if s.settings.get("seed") is not None},
        "seconds": sum(step.seconds or 0.0 for step in run.steps),
        "versions": run.steps[-1].versions or next((s.versions for s in run.steps if s.versions), {}),
        "unfinished": [step.name for step in run.steps if not step.done and step.verb != "report"],
    }


def _sections(run: RunView, is_explored: bool) -> list[str]:
    """The sections of a run's page; of one training by itself only those that it has."""
    always = ["result", "training", "diagnosis", "provenance", *(["explorer"] if is_explored else [])]
    had = {
        "data": bool(run.of("lineage") or run.of("pairs")),
        "selection": bool(run.of("selection")),
        "relabelling": bool(run.of("relabelling")),
        "goals": bool(run.of("result")),
        "samples": bool(run.samples),
    }
    return [*always, *(name for name, has in had.items() if has or not run.is_training)]


def _together(runs: Sequence[RunView]) -> dict[str, Any]:
    """Several runs as the template of the comparison reads them."""
    found = [
        goal_chart(named(runs, "result")),
        *probe_charts(named(runs, "probed")),
        *training_charts(named(runs, "metrics")),
    ]
    sweep = sweep_of(runs)
    charts = [coloured(chart, sweep).model_copy(update={"id": f"all-{chart.id}"}) for chart in found if chart]
    table = compared(runs)
    kept = {part: apart(table[part], table["runs"]) for part in ("measures", "diagnosed", "logged", "findings")}
    return {"table": table, "charts": charts, "kept": kept, "checks": checks(kept["findings"]["shared"])}


def _first(run: RunView, sweep: Sweep, drawn: Any) -> dict[str, Any] | None:
    """The chart that compares many models, for the headline; the section on over-optimisation has it again."""
    found = first_chart(run, sweep)
    if found is None:
        return None
    part, chart = found
    (mine,) = drawn(chart.model_copy(update={"id": f"first-{chart.id}"}))
    return {"title": part.title, "chart": mine}


def _diagnosed(run: RunView, sweep: Sweep, drawn: Any) -> list[dict[str, Any]]:
    """The parts of a diagnosis, those of one name under one heading."""
    groups: list[dict[str, Any]] = []
    for found in by_name(run.diagnosis.parts if run.diagnosis else ()):
        parts = [part for _, part in found]
        every = together(parts, sweep)
        if every:
            charts = [chart.model_copy(update={"id": f"g{len(groups)}-{chart.id}"}) for chart in every["charts"]]
            every = every | {"charts": drawn(*charts)}
        mine = []
        for i, part in found:
            own = [chart.model_copy(update={"id": f"d{i}-{chart.id}"}) for chart in own_charts(part, sweep)]
            (measured,) = with_bars([part_measures(part)])
            mine.append({"part": part, "charts": drawn(*own), "measured": measured})
        groups.append({"name": parts[0].name, "title": parts[0].title, "parts": mine, "together": every})
    return groups


def _audit(audit: Mapping[str, Any]) -> dict[str, Any]:
    findings = [_finding(item) for item in dicts(audit.get("findings"))]
    ranked = [item for level in LEVELS for item in findings if item["level"] == level]
    return {
        "pairs": audit.get("pairs"),
        "prompts": audit.get("prompts"),
        "responses": audit.get("responses"),
        "found": [item for item in ranked if item["count"]],
        "quiet": [item["check"] for item in ranked if not item["count"]],
    }


def _finding(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A finding with everything that its template reads."""
    item = {**FINDING, **raw}
    return {
        **item,
        "level": item["level"] if item["level"] in LEVELS else "warning",
        "count": item["count"] if is_number(item["count"]) else 0,
        "rows": items(item["rows"]),
    }


def _scored(run: RunView) -> list[StepView]:
    """Steps whose answers by score differ from those before: pairing and selecting change no answer."""
    return [step for step in _first_of_each(run.of("scores"), "scores") if set(step.scores) != {"unscored"}]


def _taken(run: RunView, data: Sequence[StepView]) -> list[StepView]:
    """The data that trainings took; before relabelling where there are such, since its copies turn pairs around."""
    plain = [step for step in data if not any(each.name == "relabel" for each in step.lineage)]
    names = [flow["data"] for flow in flows(run)]
    return [step for step in plain or data if step.name in names] or (plain or list(data))[-1:]


def _first_of_each(steps: Sequence[StepView], part: str) -> list[StepView]:
    """Steps whose part differs from that of every step before."""
    kept: list[StepView] = []
    for step in steps:
        if getattr(step, part) not in [getattr(other, part) for other in kept]:
            kept.append(step)
    return kept


def render(template: str, charts: Sequence[Chart], **values: Any) -> str:
    """A template with its values, its charts and all that draws them, as one HTML document."""
    island = json_island([clean(chart.model_dump(mode="json")) for chart in charts])
    # The nonce lets our own scripts run and nothing else: it depends on all of the page's data, so that no text in
    # that data can know it.
    nonce = hashlib.sha256(repr(sorted(map(str, values.items()))).encode("utf-8", "replace")).hexdigest()[:32]
    explored = any(part["explorer"] for part in values["runs"])
    return _environment().get_template(template).render(
        **values, charts=charts, explored=explored, island=island, nonce=nonce, plotly=_plotly() if charts else "",
        hidden=json.dumps(HIDDEN.pattern),
    )  # fmt: skip


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pairwright.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shown": shown,
        "few": few,
        "joined": joined,
        "few_of": few_of,
        "number": number,
        "share": share,
        "duration": duration,
        "leaves": leaves,
        "plain": plain,
        "ticked": ticked,
        "visible": visible,
        "safe_source": _source,
    }
    return environment


def _source(text: str) -> Markup:
    """Our own style sheet or script, put into the page as it is."""
    return Markup(text)


@cache
def _plotly() -> Markup:
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs().replace("</script", "<\\/script"))
