"""`evolve`, `merge` and `evaluate rounds` on the command line."""

import json

from pairwright.cli import main
from pairwright.formats.read import read
from pairwright.worlds.lists import make

ENGINE = ["--model", "rewriter", "--engine", "pairwright.worlds.rewriting:rewriter"]


def test_evolve_writes_prompts_into_a_directory_or_a_file(tmp_path, capsys):
    make(prompts=6, answers=2, seed=1).save(tmp_path / "in")
    words = ["evolve", str(tmp_path / "in"), *ENGINE, "--operators", "deepen", "breadth"]
    assert main([*words, "-o", str(tmp_path / "out")]) == 0
    assert "12 prompts" in capsys.readouterr().out
    made = read(str(tmp_path / "out"))
    assert made.prompts.collect()["operator"].to_list() == ["deepen", "breadth"] * 6
    assert main([*words, "-o", str(tmp_path / "new.jsonl"), "--json"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "new.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["prompt"] for row in rows] == made.prompts.collect()["prompt"].to_list()
    assert {row["operator"] for row in rows} == {"deepen", "breadth"}
    assert not list(tmp_path.glob("*.unfinished"))


def test_evolve_names_the_nearest_operator(tmp_path, capsys):
    make(prompts=2, answers=2, seed=1).save(tmp_path / "in")
    code = main(["evolve", str(tmp_path / "in"), *ENGINE, "--operators", "deepn", "-o", str(tmp_path / "out")])
    assert code == 2
    assert "did you mean 'deepen'" in capsys.readouterr().err


def test_merge_writes_both(tmp_path, capsys):
    one, two = make(prompts=3, answers=2, seed=1), make(prompts=4, answers=2, seed=2)
    one.save(tmp_path / "one")
    two.save(tmp_path / "two")
    assert main(["merge", str(tmp_path / "one"), str(tmp_path / "two"), "-o", str(tmp_path / "both")]) == 0
    assert capsys.readouterr().err == ""
    assert read(str(tmp_path / "both")).counts()[:2] == (7, 14)
    assert main(["merge", str(tmp_path / "one"), str(tmp_path / "two"), "-o", str(tmp_path / "two")]) == 2
    assert "two" in capsys.readouterr().err


def test_evaluate_rounds_prints_a_line_for_each_round(tmp_path, capsys):
    for seed in (1, 2, 3):
        make(prompts=5, answers=2, seed=7, skill=seed * 2).save(tmp_path / str(seed))
    paths = [str(tmp_path / str(seed)) for seed in (1, 2, 3)]
    words = ["evaluate", "rounds", *paths, "--score", "score", "-o", str(tmp_path / "r.json")]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["round", "0", "1", "2"]
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["name"] == "rounds"
    assert main(words[:3]) == 2
    assert "not of 1" in capsys.readouterr().err


def test_the_operators_are_listed(capsys):
    assert main(["list", "operators"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("breadth", "deepen", "constrain", "concretise", "reasoning"))
    assert "one constraint more" in said
