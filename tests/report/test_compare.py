"""Several runs: one comparison first, and what each of them lacks."""

import json
import re

import pytest

from pairwright.errors import InputError
from pairwright.report import report
from pairwright.report.compare import _subject, apart, apart_by_name, checks
from pairwright.report.views import RunView
from pairwright.runs import Asked, begin, finish, step_directory, write_json, write_text


def result(value, name="compare"):
    metric = {"name": "difference", "value": value, "low": value - 0.25, "high": value + 0.25, "n": 8, "says": "a - b"}
    return {"name": name, "n": 8, "metrics": [metric], "table": [], "settings": {}}


def a_step(run, number, name, verb, files, **settings):
    directory = step_directory(run, number, name)
    asked = Asked(step=name, verb=verb, settings=settings, inputs={})
    begin(directory, asked)
    for file, value in files.items():
        write_json(directory / file, value) if isinstance(value, dict) else write_text(directory / file, value)
    finish(directory, asked, seconds=1.0, headline={})


def logged(*losses):
    return "".join(json.dumps({"step": i, "loss": loss}) + "\n" for i, loss in enumerate(losses, 1))


@pytest.fixture
def runs(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    a_step(one, 1, "dpo", "train", {"metrics.jsonl": logged(0.75, 0.5)}, loss="dpo", beta=0.125, seed=1)
    a_step(one, 2, "against", "evaluate compare", {"result.json": result(1.5)})
    a_step(two, 1, "dpo", "train", {"metrics.jsonl": logged(0.75, 0.25)}, loss="dpo", beta=0.5, seed=1)
    a_step(two, 2, "against", "evaluate compare", {"result.json": result(2.5)})
    a_step(two, 3, "further", "evaluate compare", {"result.json": result(-3.5)})
    return [one, two]


def comparison(runs, tmp_path):
    page = report(runs, output=tmp_path / "page.html")
    return page.read_text("utf-8"), json.loads(page.with_suffix(".json").read_text("utf-8"))


def test_measures_of_the_same_name_stand_beside_each_other(runs, tmp_path):
    page, kept = comparison(runs, tmp_path)
    table = kept["comparison"]
    assert table["runs"] == ["one", "two"]
    rows = {(row["evaluation"], row["measure"]): row["cells"] for row in table["measures"]}
    first, second = rows["against", "difference"]
    assert (first["value"], first["low"], second["value"], second["n"]) == (1.5, 1.25, 2.5, 8)
    assert rows["further", "difference"][0] is None
    assert rows["further", "difference"][1]["value"] == -3.5
    compared = page[page.index('id="compared"') : page.index('id="r0-run"')]
    for said in ("1.25 to 1.75", "2.25 to 2.75", "-3.75 to -3.25"):
        assert said in compared


def test_only_settings_that_differ_are_listed(runs, tmp_path):
    _, kept = comparison(runs, tmp_path)
    assert kept["comparison"]["settings"] == [{"step": "dpo", "setting": "beta", "cells": [0.125, 0.5]}]


def test_the_curves_of_all_runs_are_in_one_chart(runs, tmp_path):
    page, kept = comparison(runs, tmp_path)
    charts = {chart["id"]: chart for chart in kept["charts"]}
    lines = {series["name"]: series["y"] for series in charts["all-train-0"]["series"]}
    assert lines == {"one · dpo": [0.75, 0.5], "two · dpo": [0.75, 0.25]}
    assert charts["all-train-0"]["title"] == "Loss: dpo"
    assert page.count('id="all-train-0"') == 1
    last = {row["measure"]: [cell["value"] for cell in row["cells"]] for row in kept["comparison"]["logged"]}
    assert last == {"Loss": [0.5, 0.25]}


def test_what_a_run_lacks_is_said_with_how_to_get_it(runs, tmp_path):
    rows = [json.dumps(row) for row in ({"step": 1, "logps/chosen": -1.0},)]
    write_text(runs[0] / "01-dpo" / "metrics.jsonl", "\n".join(rows))
    (runs[1] / "01-dpo" / "metrics.jsonl").unlink()
    page, kept = comparison(runs, tmp_path)
    parts = {row["part"]: row for row in kept["comparison"]["parts"]}
    assert parts["training"]["cells"] == [True, False]
    assert parts["result"]["cells"] == [True, True]
    assert parts["diagnosis"]["cells"] == [False, False]
    compared = page[page.index("What each run has") : page.index('id="r0-run"')]
    assert "<code>- {do: train, model: …}</code>" in compared
    assert "<code>pairwright diagnose RUN</code>" in compared
    assert "what: pairs" not in compared  # both have measures
    assert [item["part"] for item in kept["headline"][1]["missing"]].count("training") == 1


def test_trainings_by_themselves_are_compared_whatever_their_directories_are_called(tmp_path):
    for name, beta, loss in (("low", 0.125, 0.5), ("high", 0.5, 0.25)):
        config = {"model": "base", "loss": "dpo", "loss_settings": {"beta": beta}}
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "training.json", {"config": config, "steps": 1})
        write_text(tmp_path / name / "metrics.jsonl", logged(loss))
    _, kept = comparison([tmp_path / "low", tmp_path / "high"], tmp_path)
    assert kept["comparison"]["settings"] == [{"step": "training", "setting": "beta", "cells": [0.125, 0.5]}]
    assert [row["training"] for row in kept["comparison"]["logged"]] == ["training"]
    lines = {
        one["name"]: one["y"] for chart in kept["charts"] if chart["id"] == "all-train-0" for one in chart["series"]
    }
    assert lines == {"low": [0.5], "high": [0.25]}


def test_steps_of_only_one_run_are_folded_and_settings_stand_behind_the_charts(runs, tmp_path):
    page, kept = comparison(runs, tmp_path)
    assert kept["comparison"]["only"] == [{"run": "two", "steps": ["further"]}]
    compared = page[page.index('id="compared"') : page.index('id="r0-run"')]
    open_part, folded = compared.split("<summary>Only in two: 1 number</summary>")
    assert "-3.75 to -3.25" not in open_part
    assert "-3.75 to -3.25" in folded
    assert compared.index("All runs in one chart") < compared.index("What was different")


def test_of_many_findings_the_worst_of_each_check_stands_open():
    """22 subjects of one check: 1 warning, 21 notes in the first run; none in the second."""
    cell = {"level": "note", "says": "a little"}
    worst = {"level": "warning", "says": "a lot"}
    rows = [{"check": "fall", "subject": str(i), "cells": [cell if i else worst, None]} for i in range(22)]
    (found,) = checks(rows)
    assert found["cells"] == [{"levels": {"warning": 1, "note": 21}, "worst": worst}, None]
    assert checks(rows[:20]) == []
    assert apart(rows, ["a", "b"])["shared"] == []
    assert [each["run"] for each in apart(rows, ["a", "b"])["only"]] == ["a"]


def test_the_name_of_a_run_is_taken_from_a_subject_only_as_a_word():
    run = RunView(name="up/dpo", steps=[])
    subjects = {"dpo": "training", "dpo · late": "late", "dpo-2": "dpo-2", "dpos": "dpos", "late": "late"}
    assert {subject: _subject(run, subject) for subject in subjects} == subjects


def test_runs_of_one_directory_name_are_told_apart_by_the_path(tmp_path):
    places = [tmp_path / "x" / "low" / "dpo", tmp_path / "x" / "high" / "dpo", tmp_path / "ipo"]
    named = apart_by_name([RunView(name=place.name, steps=[], folder=place) for place in places])
    assert [run.name for run in named] == ["low/dpo", "high/dpo", "ipo"]


def test_one_run_is_compared_with_nothing(runs, tmp_path):
    page, kept = comparison(runs[:1], tmp_path)
    assert kept["comparison"] is None
    assert 'id="compared"' not in page


def an_audit(tmp_path, name="audit.json"):
    finding = {
        "check": "score_tie",
        "count": 3,
        "share": 0.375,
        "rows": [0, 4, 7],
        "says": "Three <ties>.",
        "level": "warning",
    }
    write_json(tmp_path / name, {"pairs": 8, "prompts": 8, "responses": 16, "findings": [finding]})
    return tmp_path / name


def test_the_file_of_an_audit_gives_the_page_of_the_audit(tmp_path):
    path = report(an_audit(tmp_path))
    assert path == tmp_path / "audit-report.html"
    page = path.read_text("utf-8")
    assert "Three &lt;ties&gt;." in page
    assert "37.5%" in page
    kept = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert kept["audits"]["audit"]["findings"][0]["rows"] == [0, 4, 7]
    both = report([an_audit(tmp_path), an_audit(tmp_path, "later.json")], output=tmp_path / "both.html").read_text(
        "utf-8"
    )
    assert len(re.findall(r'<section aria-labelledby="findings-\d"', both)) == 2


def test_what_is_no_audit_is_refused_and_so_is_a_mixture(tmp_path, runs):
    for text in ("{", "[]", '{"findings": 3, "pairs": 1}', '{"findings": []}'):
        write_text(tmp_path / "odd.json", text)
        with pytest.raises(InputError, match=r"odd\.json is no audit; give what"):
            report(tmp_path / "odd.json")
    with pytest.raises(InputError, match=r"audit\.json is a file and .*one is a run"):
        report([an_audit(tmp_path), runs[0]])
