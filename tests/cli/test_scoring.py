"""`pairwright score` as a user meets it."""

import json
from pathlib import Path

import pytest

from pairwright.cli import main
from pairwright.preferences import Preferences

PAIRS = [
    {"prompt": f"Q{i}", "chosen": "good" * (i + 1), "rejected": "bad", "score_chosen": 8.0, "score_rejected": i + 0.0}
    for i in range(4)
]
SEVERAL = "{score_long: {with: rules, verify: {with: length, low: 5}}, score_ten: {with: column, by: score, SCALE}}"
SEVERAL = SEVERAL.replace("SCALE", "scale: {range: [0, 8]}")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    return path


@pytest.fixture
def answers(tmp_path: Path, data: Path) -> Path:
    whole = main(["convert", str(data), "-o", str(tmp_path / "whole")])
    assert whole == 0
    prefs = Preferences.load(tmp_path / "whole")
    return Preferences.of(prefs.prompts, prefs.responses).save(tmp_path / "answers")


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(word) for word in words])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_each_of_several_scorers_says_its_own(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, _ = call(capsys, "score", data, "-o", "out", "--with", SEVERAL)
    assert code == 0
    assert "  score score_ten:\n    In score_ten 0 to 8 become 1 to 10;" in printed
    code, printed, _ = call(capsys, "score", data, "-o", "out", "--with", SEVERAL.replace("score_ten", "score"))
    assert "    The 8 numbers that were in score are replaced." in printed
    code, printed, _ = call(capsys, "score", data, "-o", "out", "--with", SEVERAL, "--json")
    steps = json.loads(printed)["steps"]
    assert [(step["name"], step["into"]) for step in steps] == [("score", "score_long"), ("score", "score_ten")]
    assert steps[0]["notes"] == []
    assert steps[1]["found"]["scale"]["score_ten"]["high"] == 8.0
    one = ["--with", "rules", "--verify", "length", "--json"]
    assert "steps" not in json.loads(call(capsys, "score", data, "-o", "out", *one)[1])


def test_a_note_of_an_earlier_scorer_is_said(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = SEVERAL.replace("{with: length, low: 5}", "number")
    code, printed, _ = call(capsys, "score", data, "-o", "out", "--with", both)
    assert code == 0
    assert "  score score_long:\n    8 answers stay unscored: no_reference.\n  score score_ten:\n" in printed


def test_answers_without_pairs_go_to_no_file_and_nothing_is_computed(
    answers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scorers_of_mine.py").write_text("def never(samples):\n    raise ZeroDivisionError('it was asked')\n")
    monkeypatch.syspath_prepend(tmp_path)
    code, _, error = call(capsys, "score", answers, "-o", "out.jsonl.gz", "--with", "scorers_of_mine:never")
    assert code == 2
    assert "has 8 answers and no pairs, and out.jsonl.gz would be a file of pairs; name a directory (-o out)" in error
    for verb in ("split", "relabel"):
        assert "name a directory (-o out)" in call(capsys, verb, answers, "-o", "out.jsonl")[2]
    assert call(capsys, "score", answers, "-o", "out", "--with", "rules", "--verify", "length")[0] == 0
    assert call(capsys, "pair", answers, "-o", "pairs.jsonl")[0] == 0


def test_a_scale_is_a_flag(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--scale YAML" in call(capsys, "score", "--help")[1]
    own = ["--with", "column", "--by", "score", "--into", "score_ten"]
    assert call(capsys, "score", data, "-o", "out", *own, "--scale", "{range: [0, 8]}")[0] == 0
    assert Preferences.load("out").lineage[-1].found["scale"]["score_ten"]["to"] == [1.0, 10.0]
    assert call(capsys, "score", data, "-o", "again", *own, "--scale", "{like: out}")[0] == 0
    assert call(capsys, "score", data, "-o", "again", *own, "--set", "scale={like: out}")[0] == 0
    code, _, error = call(capsys, "score", data, "-o", "no", *own, "--scale", "{range: [0, x]}")
    assert (code, error) == (
        2,
        "pairwright: score: scale: range is two finite numbers, [lo, hi], or such two for each column by its name, not "
        "[0, 'x']\n",
    )


def test_no_scorers_at_all_are_a_sentence(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = call(capsys, "score", data, "-o", "out", "--with", "{}")
    assert code == 2
    assert "so there is nothing to score with; give one" in error
