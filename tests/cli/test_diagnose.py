"""`pairwright diagnose` and the headline of `pairwright report`, as a user meets them."""

import json

import pytest

from diagnose.made_runs import planted
from pairwright.cli import main
from pairwright.cli.diagnose import findings_text, measures_text, missing_text


def call(*words, capsys):
    code = main([str(word) for word in words])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.fixture
def training(tmp_path):
    """A training whose probes say that it pushed both answers down."""
    return planted(tmp_path / "t")


def test_findings_stand_in_a_table_warnings_first_each_with_its_remedy_below(training, capsys):
    code, printed, _ = call("diagnose", training, "--draws", 100, capsys=capsys)
    assert code == 0
    lines = printed.splitlines()
    assert lines[0].split() == ["level", "subject", "check", "what", "was", "seen"]
    levels = [
        line.split()[0] for line in lines[1:] if line.split()[:1] and line.split()[0] in ("warning", "note", "fine")
    ]
    assert levels == sorted(levels, key=("warning", "note", "fine").index)
    assert "warning" in levels
    warned = printed.split("likelihood_displacement", 1)[1]
    assert "try:" in warned.split("\nfine")[0]
    assert lines[-1] == str(training / "diagnosis.json")
    assert "not computed" in printed  # no answers here: the budget is missing, with what makes it
    assert "budget" in printed.split("not computed")[1]


def test_json_is_the_file_and_nothing_else(training, capsys):
    code, printed, _ = call("diagnose", training, "--json", "--draws", 100, capsys=capsys)
    assert code == 0
    assert printed == (training / "diagnosis.json").read_text(encoding="utf-8")


def test_the_file_goes_where_it_is_asked_to_go(training, tmp_path, capsys):
    code, printed, _ = call("diagnose", training, "-o", tmp_path / "said.json", "--draws", 100, capsys=capsys)
    assert code == 0
    assert printed.splitlines()[-1] == str(tmp_path / "said.json")
    assert not (training / "diagnosis.json").exists()


def test_a_wrong_directory_is_one_sentence_and_exit_code_2(tmp_path, capsys):
    code, printed, complaint = call("diagnose", tmp_path / "nowhere", capsys=capsys)
    assert (code, printed) == (2, "")
    assert complaint.count("\n") == 1
    assert "there is no directory" in complaint


def test_data_without_the_split_is_refused(training, tmp_path, capsys):
    data = tmp_path / "in.jsonl"
    rows = [{"prompt": f"Q{i}", "chosen": "a", "rejected": "b"} for i in range(3)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5, "logps/chosen": -3.0, "logps/rejected": -4.0}\n')
    code, _, complaint = call("diagnose", bare, "--data", data, capsys=capsys)
    assert code == 2
    assert complaint.count("\n") == 1


def test_the_report_shows_its_headline_and_gives_it_as_json(training, capsys):
    call("diagnose", training, "--draws", 100, capsys=capsys)
    code, printed, _ = call("report", training, capsys=capsys)
    assert code == 0
    assert "likelihood_displacement" in printed
    assert printed.splitlines()[-1] == str(training / "report.html")
    code, printed, _ = call("report", training, "--json", capsys=capsys)
    said = json.loads(printed)
    assert said["page"] == str(training / "report.html")
    numbers = json.loads((training / "report.json").read_text(encoding="utf-8"))
    assert said["headline"] == numbers["headline"]
    assert said["numbers"] == str(training / "report.json")


def test_text_of_strangers_is_shown_as_it_is(capsys):
    """Square brackets are no markup, and no number is given a colour in a log."""
    hostile = {
        "level": "note",
        "subject": "[bold]run[/bold]",
        "check": "c",
        "says": "[/] [red]no",
        "remedy": "[link=x]",
    }
    shown = findings_text([hostile])
    for text in ("[bold]run[/bold]", "[/] [red]no", "[link=x]"):
        assert text in shown
    assert "\x1b" not in shown


def test_parts_with_the_same_reason_share_a_line():
    rows = [{"part": part, "says": "nobody asked", "remedy": "ask"} for part in ("margins", "credit", "margins")]
    shown = missing_text([*rows, {"part": "goals", "says": "one goal", "remedy": ""}])
    assert shown.count("nobody asked") == 1
    assert "margins, credit" in shown
    assert "goals" in shown


def test_a_measure_without_an_interval_has_a_dash_for_it():
    shown = measures_text(
        [{"evaluation": "e", "measure": "m", "value": 0.12345, "low": None, "high": None, "n": 1200, "says": "what"}]
    )
    assert shown.splitlines()[1].split() == ["e", "m", "0.123", "-", "1,200", "what"]


def finding_of(subject, level, value):
    said = {"check": "both_fell", "says": f"Fell in {value}.", "means": "m", "source": "s"}
    return {**said, "subject": subject, "level": level, "value": value, "n": 5, "remedy": "Less of it."}


def test_more_than_ten_warnings_are_told_by_check():
    """Eleven subjects that fell by 0 to 10: the worst is the last one."""
    many = [finding_of(f"t{i}", "warning", float(i)) for i in range(11)]
    shown = findings_text([*many, finding_of("quiet", "fine", 0.0)])
    assert "warning 11, not seen 1" in shown
    assert "t10: Fell in 10.0." in shown
    assert shown.count("try: Less of it.") == 1
    assert "t9" not in shown
    assert findings_text(many[:10]).count("try: Less of it.") == 10
