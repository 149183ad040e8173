"""The verb, the command, the list and the page."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from pairwright.cli import main
from pairwright.errors import InputError
from pairwright.evaluate.result import Metric
from pairwright.reproduce import CLAIMS, Outcome, reproduce
from pairwright.reproduce.page import page, shown

ONE = "robust_unbiased"


@pytest.fixture(autouse=True)
def _same_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sources as they are now, whoever writes in them while the test runs."""
    monkeypatch.setattr(import_module("pairwright.reproduce.verb"), "digests", lambda *_, **__: {"a.py": "0"})


def test_claims_are_known_by_their_names_and_say_what_and_whose_they_are() -> None:
    for name, claim in CLAIMS.items():
        assert claim.name == name
        assert claim.says.endswith(".")
        assert claim.paper.endswith(".")
        assert claim.source
        module, _, function = claim.check.partition(":")
        assert module.startswith("pairwright.reproduce.")
        assert function


def test_a_finished_claim_is_not_run_again(tmp_path: Path) -> None:
    first = reproduce([ONE], output=tmp_path / "out")
    again = reproduce([ONE], output=tmp_path / "out")
    other = reproduce([ONE], seeds=6, output=tmp_path / "out")
    assert first.again == ()
    assert again.again == (ONE,)
    assert again.outcomes == first.outcomes
    assert other.again == ()


def test_a_name_may_have_hyphens(tmp_path: Path) -> None:
    assert list(reproduce([ONE.replace("_", "-"), ONE], output=tmp_path).outcomes) == [ONE]


def test_half_an_outcome_is_none(tmp_path: Path) -> None:
    reproduce([ONE], output=tmp_path)
    file = tmp_path / ONE / "outcome.json"
    file.write_bytes(file.read_bytes()[:100])
    assert reproduce([ONE], output=tmp_path).again == ()


def test_an_outcome_of_other_code_is_none(tmp_path: Path) -> None:
    reproduce([ONE], output=tmp_path)
    file = tmp_path / ONE / "outcome.json"
    kept = json.loads(file.read_bytes())
    file.write_text(json.dumps(kept | {"code": "0" * 64}), encoding="utf-8")
    assert reproduce([ONE], output=tmp_path).again == ()


def test_an_unknown_claim_is_one_sentence_with_the_nearest() -> None:
    with pytest.raises(InputError, match="there is no claim 'robust_unbiassed'; did you mean 'robust_unbiased'"):
        reproduce(["robust_unbiassed"])
    with pytest.raises(InputError, match="intervals need at least two seeds, not 1"):
        reproduce([ONE], seeds=1)


def test_a_first_look_takes_three_seeds_and_a_whole_one_what_the_claim_says(monkeypatch: pytest.MonkeyPatch) -> None:
    verb = import_module("pairwright.reproduce.verb")
    often = {ONE: CLAIMS[ONE], "often": replace(CLAIMS[ONE], name="often", seeds=9)}
    monkeypatch.setattr(verb, "CLAIMS", often)
    assert reproduce(list(often)).seeds == {ONE: 5, "often": 9}
    assert reproduce(list(often), quick=True).seeds == {ONE: 3, "often": 3}
    assert reproduce(list(often), quick=True, seeds=4).seeds == {ONE: 4, "often": 4}


def test_what_is_measured_in_language_models_has_five_seeds_and_more() -> None:
    assert min(claim.seeds for claim in CLAIMS.values() if claim.world == "language") >= 5


def test_the_pages_of_a_first_look_say_that_it_is_one(tmp_path: Path) -> None:
    pages = ("reproduction.md", "reproduction.html")
    for quick, seen in ((False, False), (True, True)):
        reproduce([ONE], quick=quick, output=tmp_path)
        assert [("a first look" in " ".join((tmp_path / name).read_text().split())) for name in pages] == [seen, seen]


def test_the_command_says_verdict_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", ONE, "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert f"{ONE}  holds" in said
    assert f"Open {tmp_path / 'out' / 'reproduction.html'}" in said
    assert main(["reproduce", ONE, "--out", str(tmp_path / "again")]) == 0
    pages = {"reproduction.md", "reproduction.html", "reproduction.json"}
    assert pages < {path.name for path in (tmp_path / "again").iterdir()}
    capsys.readouterr()
    assert main(["reproduce", ONE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["claims"][ONE]["verdict"] == "holds"
    assert main(["list", "claims", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(CLAIMS)


def test_the_page_keeps_failures_and_names_what_was_not_checked() -> None:
    number = Metric(name="gain", value=-0.25, low=-0.5, high=-0.125, n=5, says="Gold of a | b.")
    failed = Outcome(verdict="does not hold", says="It fell.", metrics=(number,), seconds=1.5)
    text = page({ONE: (failed, "pairwright reproduce it")}, CLAIMS)
    assert f"| [{ONE}](#{ONE}) | does not hold | gain -0.25 [-0.5, -0.125] | 1.5 |" in text
    assert f"\n{len(CLAIMS)} claims: 1 do not hold, {len(CLAIMS) - 1} are not checked.\n" in text
    assert "**does not hold**. It fell." in text
    assert "| gain | -0.25 [-0.5, -0.125] | 5 | Gold of a \\| b. |" in text
    assert text.count("not checked") == 2 * (len(CLAIMS) - 1) + 1
    assert shown(Metric(name="x", value=None, n=0, says="")) == "-"


def test_the_page_shows_the_arms_behind_a_claim_about_language_models() -> None:
    name = next(name for name, claim in CLAIMS.items() if claim.world == "language")
    rows = tuple({"arm": f"arm {i} | x", "gold": i / 3, "low": None} for i in range(30))
    text = page({name: (Outcome(verdict="holds", says="So.", metrics=(), table=rows), "it")}, CLAIMS)
    assert "| arm | gold | low |" in text
    assert "| arm 1 \\| x | 0.3333 | - |" in text
    assert "arm 24" not in text
    assert "6 more rows are in the outcome's file." in text


def test_the_committed_page_names_every_claim_with_a_verdict(root: Path) -> None:
    text = (root / "docs" / "reproduction.md").read_text(encoding="utf-8")
    missing = [name for name in CLAIMS if f"\n## {name}\n" not in text]
    assert missing == [], "pairwright reproduce -o runs/reproduction writes reproduction.md; copy it to docs/"
    assert "Ours: not checked." not in text
