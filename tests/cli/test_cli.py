"""The command line as a user meets it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from pairwright.cli import main
from pairwright.cli.menu import COMMANDS

ROWS = [
    {"prompt": f"Question {i}?", "chosen": f"good answer {i}", "rejected": f"bad answer {i}",
     "score_chosen": 5.0 + i % 5, "score_rejected": 5.0 - i % 3}
    for i in range(30)
]  # fmt: skip


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Thirty scored pairs; two (0 and 15) are ties."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def call(*words, capsys):
    code = main([str(word) for word in words])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_the_menu_names_every_verb(capsys):
    code, printed, _ = call("--help", capsys=capsys)
    assert code == 0
    assert all(f"\n  {verb} " in printed for verb in COMMANDS)
    assert call(capsys=capsys)[0] == 0
    assert call("--version", capsys=capsys)[1].startswith("pairwright ")


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_help_of_every_verb(verb, capsys):
    code, printed, error = call(verb, "--help", capsys=capsys)
    assert code == 0, error
    assert f"usage: pairwright {verb}" in printed


HELP = """
import sys
from pairwright.cli import main
from pairwright.cli.menu import COMMANDS
heavy = {"torch", "transformers", "datasets", "accelerate", "peft", "scipy", "plotly", "pandas"}
codes = {verb: main([verb, "--help"]) for verb in COMMANDS}
assert set(codes.values()) == {0}, codes
loaded = heavy & {name.split(".")[0] for name in sys.modules}
assert not loaded, loaded
"""


def test_no_help_loads_torch_or_its_like():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_verb_that_does_not_exist(capsys):
    code, printed, error = call("relable", "x", capsys=capsys)
    assert (code, printed) == (2, "")
    assert error == "pairwright: there is no verb 'relable'; did you mean 'relabel'?\n"


def test_relabel_to_a_flat_file_and_to_a_directory(data, capsys):
    code, printed, error = call("relabel", data, "-o", "ra.parquet", "--mode", "ra", capsys=capsys)
    assert code == 0, error
    frame = pl.read_parquet("ra.parquet")
    assert frame.height == 56
    assert printed.startswith("ra.parquet: 56 pairs from 30; dropped: score_tie 2\n")
    manifest = json.loads(Path("ra.parquet.manifest.json").read_text())
    assert manifest["dropped"] == {"score_tie": 2}
    assert call("relabel", data, "-o", "ra", "--mode", "ra_plus", "--scale", "5", capsys=capsys)[0] == 0
    assert Path("ra/manifest.json").is_file()
    code, printed, _ = call("convert", "ra", "-o", "flat.jsonl", "--json", capsys=capsys)
    assert json.loads(printed)["pairs"] == 28
    assert not list(Path().glob("*.rejected.jsonl"))


def test_flags_are_checked_as_the_settings_of_a_recipe_are(data, capsys):
    code, _, error = call("select", data, "-o", "x", "--metric", "explicit_gp", "--keep", "0.4", capsys=capsys)
    assert code == 2
    assert error == (
        "pairwright: there is no metric 'explicit_gp'; did you mean 'explicit_gap'? (your own is 'module:function')\n"
    )
    code, _, error = call("select", data, "-o", "x", "--metric", "random", "--set", "kep=0.4", capsys=capsys)
    assert code == 2
    assert "has no setting 'kep'; did you mean 'keep'?" in error
    code, _, error = call("split", data, "-o", "x", "--test", "2", capsys=capsys)
    assert code == 2
    assert error == "pairwright: split: test: Input should be less than or equal to 1 (got 2.0)\n"


def test_select_and_chain(data, capsys):
    assert call("select", data, "-o", "kept", "--metric", "explicit_gap", "--keep", "0.4", capsys=capsys)[0] == 0
    code, printed, _ = call("relabel", "kept", "-o", "ra.jsonl", "--json", capsys=capsys)
    assert code == 0
    assert json.loads(printed)["pairs"] == 24


def test_the_flags_of_a_plug_are_those_of_its_settings(data, capsys):
    frame = pl.DataFrame([{**row, "own": float(i)} for i, row in enumerate(ROWS)])
    frame.write_ndjson(data)
    words = ("select", data, "-o", "kept.jsonl", "--metric", "implicit_margin", "--keep", "0.2", "--json")
    code, printed, error = call(*words, "--margin", "own", "--cut=band", "--centre", "0", capsys=capsys)
    assert code == 0, error
    # -|M| is -0 to -29; the six smallest of the band are the six largest margins.
    assert [row["own"] for row in map(json.loads, Path("kept.jsonl").read_text().splitlines())] == [
        24.0, 25.0, 26.0, 27.0, 28.0, 29.0,
    ]  # fmt: skip
    assert json.loads(printed)["found"] == {}
    code, _, error = call(*words, "--set", "margin=owm", capsys=capsys)
    assert code == 2
    assert "did you mean 'own'" in error
    code, _, error = call(*words, "--beta", "hot", capsys=capsys)
    assert code == 2
    assert "--beta" in error


SCORER = '''
from pairwright.scorers.sample import Score


def one(samples, *, strict: bool = False, json: str = "x", format: str = "y", set: int = 3, source: str = "s",
        output: str = "o", columns: int = 1, debug: bool = False, help: str = "h", own: float = 2.0):
    """A scorer whose settings are called as flags of the command are."""
    return [Score(7.0 if strict else own) for _ in samples]
'''


@pytest.mark.filterwarnings('ignore:Field name "json" in:UserWarning')
def test_a_plug_may_call_its_settings_as_the_command_calls_its_flags(data, capsys, monkeypatch):
    Path("called_alike.py").write_text(SCORER)
    monkeypatch.syspath_prepend(Path.cwd())
    words = ("score", data, "-o", "kept", "--with", "called_alike:one")
    for more, expected in (((), 2.0), (("--own", "4"), 4.0), (("--set", "strict=true", "--strict"), 7.0)):
        code, _, error = call(*words, *more, capsys=capsys)
        assert code == 0, error
        assert set(pl.read_parquet("kept/responses.parquet")["score"]) == {expected}


def test_the_overlap_is_a_table(data, capsys):
    pl.DataFrame([{**row, "own": float(i % 7)} for i, row in enumerate(ROWS)]).write_ndjson(data)
    words = ("select", data, "-o", "kept", "--metric", "alignment_potential", "--keep", "0.4", "--margin", "own")
    code, printed, error = call(*words, capsys=capsys)
    assert code == 0, error
    assert "Pairs that two metrics both choose, of 12 that each does (5, 40% by chance):" in printed
    rows = {line.split()[0]: line for line in printed.splitlines() if line.startswith(("explicit", "random"))}
    assert "12 (100%)" in rows["random"]
    found = json.loads(call(*words, "--json", capsys=capsys)[1])["found"]["overlap"]
    assert f"{found['common']['explicit_gap']['implicit_margin']} (" in rows["explicit_gap"]
    manifest = json.loads(Path("kept/manifest.json").read_text())
    assert manifest["lineage"][-1]["found"] == {"overlap": found}


def test_bad_rows_are_counted_and_kept_aside_and_strict_refuses_them(data, capsys):
    data.write_text(data.read_text() + "{not json\n")
    code, _, error = call("convert", data, "-o", "out", capsys=capsys)
    assert code == 0
    assert error.startswith(f"1 rows of {data} were not read: ")
    assert error.endswith("see out.rejected.jsonl\n")
    assert len(Path("out.rejected.jsonl").read_text().splitlines()) == 1
    code, _, error = call("convert", data, "-o", "out2", "--strict", capsys=capsys)
    assert code == 2
    assert "line 31" in error


def test_audit(data, capsys):
    code, printed, _ = call("audit", data, "--json", capsys=capsys)
    found = json.loads(printed)
    assert code == 0
    assert found["pairs"] == 30
    assert {item["check"]: item["count"] for item in found["findings"]}["score_tie"] == 2
    code, printed, _ = call("audit", data, "--strict", "-o", "audit.html", capsys=capsys)
    assert code == 1
    assert "score_tie" in printed
    page = Path("audit.html").read_text()
    assert "score_tie" in page
    assert '<h2 id="findings-1">Findings' in page  # the report's own page, not another one
    assert f"<title>Audit of {Path(data).name}" in page
    assert call("audit", data, "-o", "audit.docx", capsys=capsys)[0] == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["audit", "in.json", "-o", "in.json"], "in.json is the input itself"),
        (["audit", "nat", "-o", "nat/manifest.json"], "nat/manifest.json lies in the input nat"),
        (["relabel", "nat", "-o", "nat/prompts.parquet"], "nat/prompts.parquet lies in the input nat"),
        (["relabel", "nat", "-o", "nat/more"], "nat/more lies in the input nat"),
        (["relabel", "nat/pairs.parquet", "-o", "nat"], "nat/pairs.parquet lies in nat, which would be replaced"),
        (["convert", "o.parquet.rejected.jsonl", "-o", "o.parquet"], "written with o.parquet.rejected.jsonl"),
        (["convert", "o.parquet.manifest.json", "-o", "o.parquet"], "written with o.parquet.manifest.json"),
        (["evaluate", "control", "in.json", "-o", "in.json"], "in.json is the input itself"),
        (["evaluate", "compare", "nat", "in.json", "-o", "in.json"], "in.json is the input itself"),
    ],
)
def test_no_command_harms_its_input(data, words, says, capsys):
    for name in ("in.json", "o.parquet.rejected.jsonl", "o.parquet.manifest.json"):
        Path(name).write_text(data.read_text())
    assert call("convert", data, "-o", "nat", capsys=capsys)[0] == 0
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    code, _, error = call(*words, capsys=capsys)
    assert code == 2
    assert says in error
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_a_damaged_table_is_bad_input_and_named(data, capsys, monkeypatch):
    def damaged(*_, **__):
        raise pl.exceptions.ComputeError("parquet: not so\nmore")

    monkeypatch.setattr("pairwright.formats.read.read", damaged)
    code, _, error = call("convert", data, "-o", "x", capsys=capsys)
    assert code == 2
    assert error == f"pairwright: {data} cannot be read (parquet: not so); write it again or get it again\n"


@pytest.mark.parametrize("output", [".", "", ".."])
def test_an_output_without_a_name_is_one_sentence(data, output, capsys):
    code, _, error = call("convert", data, "-o", output, capsys=capsys)
    assert code == 2
    assert "is no name for an output" in error


def test_nothing_kept_is_said_and_a_directory_holds_it(data, capsys):
    words = ["select", data, "--metric", "explicit_gap", "--keep", "0", "-o"]
    code, _, error = call(*words, "none.jsonl", capsys=capsys)
    assert code == 2
    assert "select kept 0 of 30 rows (not_selected 30), so there is nothing to write to none.jsonl" in error
    assert not Path("none.jsonl").exists()
    code, printed, _ = call(*words, "none", capsys=capsys)
    assert code == 0
    assert printed.startswith("none: 0 pairs from 30")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["relabel", "none.jsonl", "-o", "x"], "none.jsonl"),
        (["relabel", "in.jsonl", "-o", "in.jsonl"], "is the input itself"),
        (["convert", "in.jsonl", "-o", "x", "--to", "tlr"], "no layout 'tlr'; did you mean 'trl'?"),
        (["convert", "in.jsonl", "-o", "x", "--to", "trl"], "--to trl writes a file"),
        (["evaluate", "elo", "x"], "there is no evaluation 'elo'"),
        (["evaluate", "pears"], "no evaluation 'pears'; did you mean 'pairs'?"),
        (["list", "loses"], "no list of 'loses'; did you mean 'losses'?"),
        (["run", "none.yaml"], "there is no recipe none.yaml"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(data, words, says, capsys):
    code, printed, error = call(*words, capsys=capsys)
    assert code == 2
    assert printed == ""
    assert says in error
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_bad_usage_is_exit_code_2(data, capsys):
    for words in (
        ["relabel", data],
        ["relabel", data, "-o", "x", "--mood", "ra"],
        ["split", data, "-o", "x", "--seed", "a"],
    ):
        code, _, error = call(*words, capsys=capsys)
        assert code == 2
        assert error
        assert "Traceback" not in error


def test_a_failure_nobody_foresaw_is_one_sentence_and_debug_shows_the_traceback(data, capsys, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("a number was zero")

    monkeypatch.setattr("pairwright.cli.data.read_in", broken)
    code, _, error = call("relabel", data, "-o", "x", capsys=capsys)
    assert code == 1
    assert error == (
        "pairwright: relabel failed with ZeroDivisionError: a number was zero; "
        "run again with --debug for the traceback\n"
    )
    code, _, error = call("relabel", data, "-o", "x", "--debug", capsys=capsys)
    assert code == 1
    assert "Traceback" in error
    assert "in broken" in error


def test_debug_shows_the_traceback_and_changes_no_exit_code(data, capsys):
    for flags, is_shown in (((), False), (("--debug",), True)):
        code, _, error = call("relabel", data, "-o", "x", "--mode", "rat", *flags, capsys=capsys)
        assert code == 2
        assert ("Traceback" in error) is is_shown
        assert "InputError" in error or not is_shown
        assert [line for line in error.splitlines() if line.startswith("pairwright: ")]


def test_a_user_who_stops_gets_130(data, capsys, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pairwright.cli.data.read_in", stopped)
    assert call("relabel", data, "-o", "x", capsys=capsys)[0] == 130


def test_a_closed_pipe_is_no_failure(data):
    command = f"{sys.executable} -m pairwright audit {data} --json | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, env=os.environ)
    assert done.stdout == "{\n"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "topic",
    [
        "metrics",
        "modes",
        "scorers",
        "verifiers",
        "formats",
        "checks",
        "rules",
        "cuts",
        "losses",
        "engines",
        "evaluations",
        "steps",
    ],
)
def test_lists_in_json_have_a_name_a_line_and_a_source(topic, capsys):
    code, printed, _ = call("list", topic, "--json", capsys=capsys)
    rows = json.loads(printed)
    assert code == 0
    assert rows
    assert all((row["name"] and row["says"].endswith((".", ")"))) or topic == "formats" for row in rows)
    assert all({"name", "says", "source"} <= set(row) for row in rows)


def test_the_lists_that_acceptance_needs(capsys):
    names = {}
    for topic in ("metrics", "modes", "losses"):
        names[topic] = {row["name"] for row in json.loads(call("list", topic, "--json", capsys=capsys)[1])}
    assert names["metrics"] >= {
        "explicit_gap", "implicit_margin", "alignment_potential", "signed_potential", "length_gap", "random",
    }  # fmt: skip
    assert names["modes"] >= {"ra", "ra_plus", "half_ra", "filter_high", "filter_low", "plain"}
    assert names["losses"] >= {"dpo", "ipo_mean", "ipo_sum", "simpo", "sft"}


RECIPE = """
- {name: data, do: read, source: in.jsonl}
- {name: held, do: split, test: 0.2}
- {do: relabel, mode: ra}
"""


def test_run_prints_a_plan_runs_and_does_nothing_the_second_time(data, capsys):
    Path("small.yaml").write_text(RECIPE)
    code, printed, _ = call("run", "small.yaml", "--dry-run", capsys=capsys)
    assert code == 0
    assert not Path("runs").exists()
    assert [line.split()[:4] for line in printed.splitlines()[2:]] == [
        ["01", "data", "read", "run"],
        ["02", "held", "split", "run"],
        ["03", "relabel", "relabel", "run"],
    ]
    code, printed, error = call("run", "small.yaml", "--set", "relabel.mode=ra_plus", capsys=capsys)
    assert code == 0, error
    assert error.splitlines()[-1].startswith("[3/3] relabel ... 28 pairs, 2 dropped, ")
    assert "runs/small" in printed
    assert Path("runs/small/03-relabel/done.json").is_file()
    code, printed, error = call("run", "small.yaml", "--set", "relabel.mode=ra_plus", "--json", capsys=capsys)
    assert code == 0
    assert all(line.endswith("done before") for line in error.splitlines())
    assert json.loads(printed)["steps"][2]["pairs"] == 28


def test_a_wrong_setting_of_a_recipe_is_found_before_anything_runs(data, capsys):
    Path("small.yaml").write_text(RECIPE)
    for change, says in [
        ("relabel.mod=ra", "step 'relabel' (relabel) with ra has no setting 'mod'; did you mean 'mode'?"),
        ("relable.mode=ra", "the recipe has no step 'relable'; did you mean 'relabel'?"),
        ("held.test=lots", "step 'held' (split): test: Input should be a valid number"),
        ("relabel.do=relable", "there is no verb 'relable'; did you mean 'relabel'?"),
        ("relabel.from=hold", "there is no step 'hold'; did you mean 'held'?"),
    ]:
        code, _, error = call("run", "small.yaml", "--set", change, capsys=capsys)
        assert code == 2
        assert says in error
    assert not Path("runs").exists()
