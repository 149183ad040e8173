"""The records and the templates, put together into one HTML file."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from pairwright.charts import Chart
from pairwright.report.charts import goal_chart, goal_rows, number_of, score_chart, table_of, training_charts
from pairwright.report.collect import RunView, StepView, dicts, items
from pairwright.report.shown import clean, duration, is_number, json_island, leaves, number, plain, share, shown

if TYPE_CHECKING:
    from pairwright.audit import Audit

HEADLINE = {"compare": 1, "pairs": 2, "control": 2}
"""So many of an evaluation's measures, which come most important first, stand in the headline; all are below it."""
MADE_BY = "pairwright report"
"""Stands first in the JSON file, so that a report knows one of its own."""
LEVELS = ("error", "warning", "note", "fine")

METRIC = {"name": "", "value": None, "low": None, "high": None, "n": None, "says": ""}
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
"""What stands for the parts that a measure or a finding lacks."""


def run_page(runs: Sequence[RunView], *, title: str | None = None, notes: Sequence[str] = ()) -> str:
    """The report of one run, or of several below each other, as one HTML document.

    Args:
        runs: what `collect` read.
        title: heading of the page; the runs' names when not given.
        notes: sentences that a reader should know before the numbers.
    """
    parts = [_part(run, f"r{i}-") for i, run in enumerate(runs)]
    heading = title or " · ".join(run.name for run in runs)
    return _render("run.html.j2", title=heading, notes=list(notes), runs=parts)


def audit_page(audit: "Audit", *, title: str = "Audit") -> str:
    """An audit as one HTML document, with the same look as a run's report.

    Args:
        audit: what `pairwright.audit` found.
        title: heading of the page, for example the name of the data.
    """
    return _render("audit.html.j2", title=title, audit=_audit(clean(audit.to_dict())), runs=[])


def report_json(runs: Sequence[RunView]) -> dict[str, Any]:
    """All numbers of the page, as JSON values; the first says who wrote the file."""
    return {"made_by": MADE_BY, "runs": [clean(run.model_dump(mode="json")) for run in runs]}


def _part(run: RunView, prefix: str) -> dict[str, Any]:
    """One run as its template reads it."""
    goals, curves = goal_chart(run), training_charts(run)
    scores = [score_chart(step) for step in _first_of_each(run.of("scores"))]
    drawn = [chart for chart in (goals, *curves, *scores) if chart]
    named = {chart.id: chart.model_copy(update={"id": prefix + chart.id}) for chart in drawn}
    return {
        "view": run,
        "prefix": prefix,
        "results": [_result(step) for step in run.of("result")],
        "by_goal": _by_goal(run),
        "goals": named[goals.id] if goals else None,
        "curves": [named[chart.id] for chart in curves],
        "scores": [named[chart.id] for chart in scores],
        "charts": list(named.values()),
        "audits": [{"step": step, "audit": _audit(step.audit or {})} for step in run.of("audit")],
        "flows": _flows(run),
        "seeds": {s.name: s.settings["seed"] for s in run.of("metrics") if s.settings.get("seed") is not None},
        "seconds": sum(step.seconds or 0.0 for step in run.steps),
        "versions": run.steps[-1].versions or next((s.versions for s in run.steps if s.versions), {}),
        "unfinished": [step.name for step in run.steps if not step.done and step.verb != "report"],
    }


def _result(step: StepView) -> dict[str, Any]:
    """An evaluation as its template reads it."""
    result, rows = step.result or {}, table_of(step)
    metrics = [METRIC | metric for metric in dicts(result.get("metrics"))]
    return {
        "step": step,
        "metrics": metrics,
        "first": metrics[: HEADLINE.get(str(result.get("name")), 3)],
        "notes": items(result.get("notes")),
        "rows": rows,
        "columns": list(dict.fromkeys(k for row in rows for k, value in row.items() if not isinstance(value, dict))),
    }


def _by_goal(run: RunView) -> dict[str, Any]:
    """The goal tables of all models as one: a row for each model, a column for each goal."""
    models = [step for step in run.of("result") if goal_rows(step)]
    tables = {step.name: {row.get("goal"): row for row in _by_one_goal(step)} for step in models}
    goals = sorted({goal for cells in tables.values() for goal in cells if goal is not None})
    without = [None] if any(None in cells for cells in tables.values()) else []
    rows = []
    for name, cells in tables.items():
        found = [cells.get(goal) for goal in (*without, *goals)]
        rows.append(
            {
                "name": name,
                "cells": [cell and {"low": None, "high": None, **cell, "value": number_of(cell)} for cell in found],
            }
        )
    sizes = [row["n"] for step in models for row in goal_rows(step) if is_number(row.get("n"))]
    return {"goals": [*without, *goals], "rows": rows, "n": sizes}


def _by_one_goal(step: StepView) -> list[dict[str, Any]]:
    """The rows of a table about one number as goal, or about none."""
    return [row for row in table_of(step) if row.get("goal") is None or is_number(row["goal"])]


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


def _flows(run: RunView) -> list[dict[str, Any]]:
    """From the first row to the last, for the data of each training and, without one, of the last data step."""
    by_name = {step.name: step for step in run.steps}
    trained = [(step, by_name.get(step.take or "")) for step in run.of("metrics")]
    chains = [(step.name, data) for step, data in trained if data and data.lineage]
    if not chains:
        chains = [(step.name, step) for step in run.of("lineage")[-1:]]
    flows = []
    for name, data in chains:
        most = max((max(step.rows_in or 0, step.rows_out or 0) for step in data.lineage), default=0)
        flows.append({"name": name, "data": data.name, "steps": data.lineage, "most": most or 1})
    return flows


def _first_of_each(steps: Sequence[StepView]) -> list[StepView]:
    """Steps whose answers by score differ from those before: pairing and selecting change no answer."""
    kept: list[StepView] = []
    for step in steps:
        if set(step.scores) != {"unscored"} and step.scores not in [other.scores for other in kept]:
            kept.append(step)
    return kept


def _render(template: str, **values: Any) -> str:
    charts: list[Chart] = [chart for part in values["runs"] for chart in part["charts"]]
    island = json_island([clean(chart.model_dump(mode="json")) for chart in charts])
    # The nonce lets our own scripts run and nothing else: it depends on all of the page's data, so that no text in
    # that data can know it.
    nonce = hashlib.sha256(repr(sorted(map(str, values.items()))).encode("utf-8", "replace")).hexdigest()[:32]
    return _environment().get_template(template).render(
        **values, charts=charts, island=island, nonce=nonce, plotly=_plotly() if charts else ""
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
        "number": number,
        "share": share,
        "duration": duration,
        "leaves": leaves,
        "plain": plain,
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
