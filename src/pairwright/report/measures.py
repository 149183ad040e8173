"""What was measured, as the tables of a page read it: measures with their intervals, scores by goal, the headline."""

from collections.abc import Iterator, Sequence
from typing import Any

from pairwright.diagnose.checks import by_check
from pairwright.diagnose.finding import Finding, Part
from pairwright.report.charts import CURVES, goal_rows, number_of, table_of
from pairwright.report.files import dicts, items
from pairwright.report.lacking import lacks
from pairwright.report.shown import is_number
from pairwright.report.sweeps import MANY, Sweep, sweep_of
from pairwright.report.views import RunView, StepView

HEADLINE = {"compare": 1, "pairs": 2, "control": 2, "rewardbench2": 2, "mtbench": 2}
"""So many of an evaluation's measures, which come most important first, stand in the headline; all are below it."""
WORST = ("warning", "note", "fine")
"""Levels of findings, the worst first."""
FIRST = 4
"""So many of a diagnostic's measures stand open."""
METRIC = {"name": "", "value": None, "low": None, "high": None, "n": None, "says": ""}
"""What stands for the parts that a measure lacks."""


def results(run: RunView) -> list[dict[str, Any]]:
    """The evaluations of a run: all measures, the first of them, notes, and the table behind them."""
    return with_bars([_result(step) for step in run.of("result")])


def with_bars(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Evaluations whose measures know where their interval lies among those of the same name, from 0."""
    ends: dict[str, list[float]] = {}
    for metric in (metric for item in found for metric in item["metrics"]):
        known = [metric[key] for key in ("value", "low", "high") if is_number(metric[key])]
        ends.setdefault(str(metric["name"]), [0.0]).extend(known)
    for metric in (metric for item in found for metric in item["metrics"]):
        metric["bar"] = _bar(metric, ends[str(metric["name"])])
    return found


def headline(run: RunView) -> dict[str, Any]:
    """What is said first of a run: findings, warnings first; measures; last logged numbers; what it lacks.

    Where a check is about many subjects, `checks` has the same findings by check.
    """
    measures = [
        {
            "evaluation": item["step"].name,
            "measure": metric["name"],
            **{key: metric[key] for key in METRIC if key != "name"},
        }
        for item in results(run)
        for metric in item["first"]
    ]
    findings = [each.model_dump(mode="json") for each in findings_of(run)]
    return {
        "run": run.name,
        "findings": findings,
        "checks": checks_of(run, sweep_of([run])),
        "measures": measures,
        "logged": [
            {"training": step.name, "measure": title, "value": value}
            for step in run.of("metrics")
            for title, value in last_logged(step)
        ],
        "missing": [lack.model_dump(mode="json") for lack in lacks(run)],
    }


def last_logged(step: StepView) -> Iterator[tuple[str, Any]]:
    """The last logged number of each kind, with its title; it is of one batch, and has no interval."""
    for name, (title, _) in CURVES.items():
        last = next((row[name] for row in reversed(step.metrics) if is_number(row.get(name))), None)
        if last is not None:
            yield title, last


def findings_of(run: RunView) -> tuple[Finding, ...]:
    """Everything that a run's diagnosis found, warnings first."""
    return () if run.diagnosis is None else run.diagnosis.findings


def checks_of(run: RunView, sweep: Sweep) -> list[dict[str, Any]]:
    """Findings by check, where one was looked for in many subjects; nothing where all were in few.

    Returns:
        `Check` as JSON values, and with a sweep `settings`: in how many of a setting's subjects it was seen.
    """
    checks = by_check(findings_of(run))
    if all(len(check.findings) <= MANY for check in checks):
        return []
    return [{**check.model_dump(mode="json"), "settings": _by_setting(check.findings, sweep)} for check in checks]


def _by_setting(findings: Sequence[Finding], sweep: Sweep) -> list[dict[str, Any]]:
    found = {label: [each for each in findings if sweep.find(each.subject) == label] for label in sweep.order}
    return [
        {"setting": label, "seen": sum(each.level != "fine" for each in own), "of": len(own), **_levels(own)}
        for label, own in found.items()
        if own
    ]


def _levels(findings: Sequence[Finding]) -> dict[str, Any]:
    """How many findings have each level, the worst first; and the worst."""
    counted = {level: sum(each.level == level for each in findings) for level in WORST}
    levels = {level: count for level, count in counted.items() if count}
    return {"levels": levels, "level": next(iter(levels))}


def with_pictures(check: dict[str, Any]) -> dict[str, Any]:
    """A check whose findings know where their interval lies among those of all its subjects."""
    (item,) = with_bars([{"metrics": [{**each, "name": check["check"]} for each in check["findings"]]}])
    return {**check, "findings": item["metrics"]}


def part_measures(part: Part) -> dict[str, Any]:
    """A diagnostic as the table of measures reads it."""
    metrics = [metric.model_dump(mode="json") for metric in part.result.metrics]
    rows = list(part.result.table)
    return {
        "metrics": metrics,
        "first": metrics[:FIRST],
        "notes": part.result.notes,
        "rows": rows,
        "columns": columns(rows),
    }


def by_goal(run: RunView) -> dict[str, Any]:
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


def columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The columns of a table of rows: what is an object in itself is left out."""
    return list(dict.fromkeys(key for row in rows for key, value in row.items() if not isinstance(value, dict)))


def _result(step: StepView) -> dict[str, Any]:
    result, rows = step.result or {}, list(table_of(step))
    metrics = [METRIC | metric for metric in dicts(result.get("metrics"))]
    return {
        "step": step,
        "metrics": metrics,
        "first": metrics[: HEADLINE.get(str(result.get("name")), 3)],
        "notes": items(result.get("notes")),
        "rows": rows,
        "columns": columns(rows),
    }


def _by_one_goal(step: StepView) -> list[dict[str, Any]]:
    """The rows of a table about one number as goal, or about none."""
    return [row for row in table_of(step) if row.get("goal") is None or is_number(row["goal"])]


def _bar(metric: dict[str, Any], ends: Sequence[float]) -> dict[str, float] | None:
    """Where value, interval and 0 lie, in hundredths of the way from the least of `ends` to the largest."""
    least, largest = min(ends), max(ends)
    if not is_number(metric["value"]) or largest <= least:
        return None
    places = {key: metric[key] if is_number(metric[key]) else metric["value"] for key in ("value", "low", "high")}
    return {key: 100 * (place - least) / (largest - least) for key, place in (places | {"zero": 0.0}).items()}
