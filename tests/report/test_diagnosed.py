"""A diagnosis on the page: its findings first, its parts with their charts, what is missing with its remedy."""

import json
import re

import pytest

from pairwright.charts import Chart, Series
from pairwright.diagnose.finding import Diagnosis, Finding, Missing, Part
from pairwright.evaluate.result import Metric, Result
from pairwright.report import report
from pairwright.runs import write_text

HOSTILE = "</script><b onclick=alert(1)>x\u202e"


def found(check, level, subject="dpo", value=-3.25):
    return Finding(
        check=check,
        subject=subject,
        level=level,
        says=f"{check} was seen {HOSTILE}",
        value=value,
        low=-4.125,
        high=-2.375,
        n=112,
        means="It means something.",
        remedy="Try `loss: dpo+sft`.",
        source="arXiv 1234.56789 §3",
    )


def diagnosis(value=-3.25):
    points = Series(
        name="betas",
        x=[0.5, 1.5],
        y=[4.0, 5.0],
        low=[3.5, None],
        high=[4.5, None],
        x_low=[0.25, 1.0],
        x_high=[0.75, 2.0],
        labels=["beta 1", HOSTILE],
    )
    chart = Chart(
        id="hump", title=f"Quality {HOSTILE}", says="says", x="sqrt KL", y="score", kind="points", series=[points]
    )
    metric = Metric(name="peak", value=value, low=-4.125, high=-2.375, n=5, says="where it is highest")
    result = Result(name="budget", n=5, metrics=(metric,), table=({"d": 0.5, "score": 4.0},), notes=("a note",))
    part = Part(
        name="budget",
        subject="dpo",
        title="Quality by distance",
        result=result,
        findings=(
            found("hump", "fine"),
            found("mass_leak", "note"),
            found("likelihood_displacement", "warning", value=value),
        ),
        charts=(chart,),
    )
    other = part.model_copy(update={"subject": "ipo", "findings": ()})
    lacking = (Missing(part="diversity", says="No answers are there.", remedy="Add `- {do: generate}`."),)
    return Diagnosis(runs=("dpo",), parts=(part, other), missing=lacking, settings={"pairs": 112})


@pytest.fixture
def trained(tmp_path):
    directory = tmp_path / "dpo"
    directory.mkdir()
    write_text(directory / "training.json", json.dumps({"config": {"model": "base", "loss": "dpo"}, "steps": 3}))
    write_text(directory / "metrics.jsonl", '{"step": 1, "loss": 0.5}\n')
    write_text(directory / "diagnosis.json", diagnosis().to_json())
    return directory


def charts_in(page):
    island = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page, re.DOTALL)
    return json.loads(island.group(1))


def test_findings_stand_in_the_headline_warnings_first(trained):
    page = report(trained).read_text("utf-8")
    headline = page[page.index('id="r0-result"') : page.index('id="r0-training"')]
    order = [headline.index(name) for name in ("likelihood displacement", "mass leak", "hump was seen")]
    assert order == sorted(order)
    for said in ("112", "-4.12 to -2.38", "It means something.", "<code>loss: dpo+sft</code>", "arXiv 1234.56789 §3"):
        assert said in headline
    assert "1 thing looked for and not seen" in headline


def test_texts_of_a_diagnosis_run_nothing(trained):
    page = report(trained).read_text("utf-8")
    assert "<b onclick" not in page
    assert "\u202e" not in page.split("<script", 1)[0]
    assert "&lt;b onclick=alert(1)&gt;x" in page


def test_every_chart_of_every_part_is_on_the_page_with_its_numbers(trained):
    path = report(trained)
    page = path.read_text("utf-8")
    charts = {chart["id"]: chart for chart in charts_in(page)}
    assert {"r0-d0-hump", "r0-d1-hump"} <= set(charts)
    (series,) = charts["r0-d0-hump"]["series"]
    assert (series["x"], series["y"], series["low"]) == ([0.5, 1.5], [4.0, 5.0], [3.5, None])
    assert (series["x_low"], series["x_high"]) == ([0.25, 1.0], [0.75, 2.0])
    for ident in charts:
        assert page.count(f'id="{ident}"') == 1


def test_what_the_diagnosis_lacks_is_said_with_its_remedy(trained):
    page = report(trained).read_text("utf-8")
    assert "diversity: No answers are there." in page
    assert "<code>- {do: generate}</code>" in page


def test_the_json_beside_the_page_has_the_same_numbers(trained):
    path = report(trained)
    kept = json.loads(path.with_suffix(".json").read_text("utf-8"))
    (headline,) = kept["headline"]
    assert [item["level"] for item in headline["findings"]] == ["warning", "note", "fine"]
    assert headline["findings"][0]["value"] == -3.25
    assert kept["charts"] == charts_in(path.read_text("utf-8"))
    assert kept["runs"][0]["diagnosis"]["parts"][0]["result"]["metrics"][0]["low"] == -4.125
    assert str(trained.parent) not in path.with_suffix(".json").read_text("utf-8")


@pytest.mark.parametrize("text", ["{", "[1]", '{"runs": 3}', '{"parts": [{}], "runs": ["x"]}'])
def test_a_damaged_diagnosis_is_named_and_stops_nothing(trained, text):
    write_text(trained / "diagnosis.json", text)
    page = report(trained).read_text("utf-8")
    assert "diagnosis.json of dpo cannot be read" in page
    assert "Nobody asked what training did to the model." in page


def test_a_diagnosis_of_a_step_is_found_and_one_of_the_run_goes_before_it(tmp_path):
    step = tmp_path / "run" / "01-diagnose"
    step.mkdir(parents=True)
    write_text(step / "settings.json", "{}")
    write_text(step / "diagnosis.json", diagnosis(-7.5).to_json())
    page = report(tmp_path / "run")
    assert json.loads(page.with_suffix(".json").read_text("utf-8"))["headline"][0]["findings"][0]["value"] == -7.5
    write_text(tmp_path / "run" / "diagnosis.json", diagnosis(-8.5).to_json())
    report(tmp_path / "run")
    assert json.loads(page.with_suffix(".json").read_text("utf-8"))["headline"][0]["findings"][0]["value"] == -8.5
