"""Files that are damaged, odd or of one name: each is named, none stops the page."""

import json
import os

import pytest

from pairwright.diagnose.finding import Diagnosis, Finding, Part
from pairwright.evaluate.result import Result
from pairwright.report import report
from pairwright.report.collect import collect
from pairwright.report.shown import clean, is_number, joined, number
from pairwright.runs import write_text

GOOD = '{"step": 1, "loss": 0.5}'
DEEP = '{"a":' * 600 + "1" + "}" * 600


@pytest.fixture
def training(tmp_path):
    directory = tmp_path / "dpo"
    directory.mkdir()
    write_text(directory / "training.json", json.dumps({"config": {"model": "base", "loss": "dpo"}, "steps": 3}))
    return directory


def said(page):
    return page.read_text("utf-8")


@pytest.mark.parametrize("bad", ["{", "[1]", "3", DEEP, f'{{"loss": {10**400}}}', '{"loss": 1} {'])
def test_lines_that_hold_no_object_are_counted_and_named(training, bad):
    write_text(training / "metrics.jsonl", f"{GOOD}\n{bad}\n\n{bad}\n{GOOD}\n")
    step = collect(training).steps[0]
    assert (len(step.metrics), step.unread) == (2, ["2 of 4 lines of metrics.jsonl"])
    assert "2 of 4 lines of metrics.jsonl of step dpo cannot be read" in said(report(training))


def test_a_last_line_without_an_end_is_left_out_without_a_word_and_read_where_it_is_whole(training):
    write_text(training / "metrics.jsonl", f'{GOOD}\n{{"step": 2, "lo')
    step = collect(training).steps[0]
    assert ([row["step"] for row in step.metrics], step.unread) == ([1], [])
    write_text(training / "metrics.jsonl", f"{GOOD}\n{GOOD}")
    assert len(collect(training).steps[0].metrics) == 2


def test_only_a_line_feed_ends_a_line(training):
    (training / "metrics.jsonl").write_bytes('{"step": 1, "note": "a\u2028b\u0085c"}\r\n{"step": 2}\r\n'.encode())
    step = collect(training).steps[0]
    assert ([row["step"] for row in step.metrics], step.unread) == ([1, 2], [])


@pytest.mark.parametrize("name", ["metrics.jsonl", "training.json", "diagnosis.json"])
def test_a_directory_in_place_of_a_file_is_named(training, name):
    (training / name).unlink(missing_ok=True)
    (training / name).mkdir()
    view = collect(training)
    assert name in [*view.unread, *view.steps[0].unread]
    assert f"{name} of" in said(report(training))


@pytest.mark.parametrize("text", [DEEP, f'{{"steps": {10**400}}}', f'{{"config": {{"beta": -{10**400}}}}}'])
def test_numbers_beyond_every_float_and_values_beyond_every_depth_are_named(training, text):
    write_text(training / "training.json", text)
    assert "training.json of step dpo cannot be read" in said(report(training))


def test_a_number_beyond_every_float_is_none():
    assert not is_number(10**400)
    assert is_number(10**300)
    assert clean({"a": [float("inf")]}) == {"a": [None]}


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (999.7, 3, "1,000"),
        (-999.6, 3, "-1,000"),
        (999.4, 3, "999"),
        (9999.7, 4, "10,000"),
        (99.96, 3, "100"),
        (1234.5, 3, "1,234"),
        ("a\u202eb", 3, "aU+202Eb"),
    ],
)
def test_a_number_is_rounded_alike_on_both_sides_of_a_thousand(value, digits, text):
    """999.7 to three figures is 1000; 1234.5 lies between 1234 and 1235, and rounding to even takes 1234."""
    assert number(value, digits) == text


def test_joined_texts_are_escaped_and_show_what_is_hidden():
    text = str(joined(["<b>", "a\u202eb"]))
    assert text.startswith("&lt;b&gt;, a")
    assert "U+202E" in text
    assert "\u202e" not in text


def diagnosis(value):
    fall = Finding(check="fall", subject="dpo", level="note", says="It fell.", value=value, low=value, high=value, n=2,
                   means="It means something.", remedy="", source="arXiv 1234.56789")  # fmt: skip
    result = Result(name="fall", n=2, metrics=(), table=(), notes=())
    part = Part(name="fall", subject="dpo", title="Falls", result=result, findings=(fall,), charts=())
    return Diagnosis(runs=("dpo",), parts=(part,), missing=(), settings={})


def run_with(tmp_path, **files):
    run = tmp_path / "run"
    for name, text in files.items():
        folder = run if name == "own" else run / f"{name[-1]:0>2}-diagnose"
        folder.mkdir(parents=True, exist_ok=True)
        if name != "own":
            write_text(folder / "settings.json", "{}")
        write_text(folder / "diagnosis.json", text)
    return run


def test_a_broken_diagnosis_hides_no_good_one(tmp_path):
    run = run_with(tmp_path, step1=diagnosis(-7.5).to_json(), step2="{", own="[]")
    view = collect(run)
    assert view.diagnosis_file == "01-diagnose/diagnosis.json"
    assert view.unread == ["diagnosis.json", "02-diagnose/diagnosis.json"]
    assert {each.value for each in view.diagnosis.findings} >= {-7.5}
    page = said(report(run))
    assert "As the diagnosis in <code>01-diagnose/diagnosis.json</code> says." in page
    assert "diagnosis.json, 02-diagnose/diagnosis.json of run cannot be read" in page


def test_the_diagnosis_of_a_step_goes_before_an_older_one_of_the_run(tmp_path):
    run = run_with(tmp_path, own=diagnosis(-8.5).to_json(), step1=diagnosis(-7.5).to_json())
    os.utime(run / "diagnosis.json", (1, 1))
    assert collect(run).diagnosis_file == "01-diagnose/diagnosis.json"
    os.utime(run / "01-diagnose" / "diagnosis.json", (0, 0))
    assert collect(run).diagnosis_file == "diagnosis.json"
