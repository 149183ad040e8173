"""The page of checked claims: what stands on it, and that nothing in it is believed."""

import json
import re
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

from pairwright.charts import Chart, Series
from pairwright.evaluate.result import Metric
from pairwright.report.claims import claims_page
from pairwright.reproduce import CLAIMS, Claim, Outcome, reproduce

HOSTILE = "<script>alert(1)</script>"
WORLDS = {"tabular": "In a table", "language": "In language models"}


def claim(name: str, world: str) -> Claim:
    return Claim(name=name, says=f"{name} wins.", paper="9 of 10.", source="Nobody", world=world, check="m:f")  # type: ignore[arg-type]


def outcome(**more: object) -> Outcome:
    drawing = Chart(id="drawn", title="T", says="S", x="x", y="y", series=[Series(name="s", x=[1, 2], y=[0.5, 0.75])])
    number = Metric(name="gain", value=-0.25, low=-0.5, high=-0.125, n=5, says="Points.")
    told: dict[str, object] = {"verdict": "holds", "says": "So.", "metrics": (number,), "charts": (drawing,)}
    return Outcome.model_validate(told | more)


class Read(HTMLParser):
    """The cells of tables and the headings as text, the links and anchors, the records of the drawings."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: dict[str, list[str]] = {"th": [], "td": [], "h2": [], "h3": [], "p": [], "json": []}
        self.links: set[str | None] = set()
        self.ids: list[str | None] = []
        self.figures: list[str | None] = []
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if "href" in told:
            self.links.add(told["href"])
        if "id" in told:
            self.ids.append(told["id"])
        if tag == "figure":
            self.figures.append(told["data-chart"])
        kind = "json" if told.get("type") == "application/json" else tag
        if kind in self.texts:
            self.texts[kind].append("")
            self._open.append(kind)

    def handle_endtag(self, tag: str) -> None:
        if self._open and tag in (self._open[-1], "script"):
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open[-1]][-1] += data


def test_a_claim_has_its_verdict_its_number_and_its_drawing() -> None:
    claims = {name: claim(name, "language") for name in ("first_one", "second")}
    found = {name: (outcome(verdict="does not hold"), f"do {name}") for name in claims}
    page = Read(claims_page(found, claims, worlds=WORLDS, says=["Read `this`."]))
    assert [" ".join(text.split()) for text in page.texts["td"][:5]] == [
        "✕ does not hold",
        "gain",
        "-0.25",
        "-0.5 to -0.125",
        "–",
    ]
    assert "#claim-first_one" in page.links
    assert "claim-first_one" in page.ids
    # Two claims may call their drawings alike.
    assert [chart["id"] for chart in json.loads(page.texts["json"][0])] == ["first_one-drawn", "second-drawn"]
    assert page.figures == ["first_one-drawn", "second-drawn"]
    assert len(set(page.ids)) == len(page.ids)
    # A world without claims has no heading.
    assert page.texts["h2"] == ["In language models"]


def test_what_was_not_checked_is_named() -> None:
    page = Read(claims_page({}, {"alone": claim("alone", "tabular")}, worlds=WORLDS))
    assert page.texts["td"][0].split() == ["●", "not", "checked"]
    assert any("pairwright reproduce alone" in text for text in page.texts["p"])


def test_text_of_an_outcome_is_only_text() -> None:
    rows = ({"arm": HOSTILE, "gold": 1.0},)
    hostile = outcome(says=HOSTILE, table=rows, metrics=(Metric(name=HOSTILE, value=1.0, n=1, says=HOSTILE),))
    text = claims_page({"one": (hostile, HOSTILE)}, {"one": claim("one", "tabular")}, worlds=WORLDS, title=HOSTILE)
    assert HOSTILE not in text
    page = Read(text)
    assert sum(HOSTILE in each for each in page.texts["td"]) == 4  # the first number, then name, meaning, arm
    assert sum(HOSTILE in each for each in page.texts["p"]) == 2


def test_the_numbers_beside_the_page_are_those_of_the_outcomes(tmp_path: Path) -> None:
    found = reproduce(["robust_unbiased", "toy_tables"], output=tmp_path)
    beside = json.loads((tmp_path / "reproduction.json").read_bytes())
    assert {name: Outcome.model_validate(each["outcome"]) for name, each in beside.items()} == found.outcomes
    page = (tmp_path / "reproduction.html").read_text(encoding="utf-8")
    verb = import_module("pairwright.reproduce.verb")
    shown = set(re.findall(r'id="claim-(\w+)"', page))
    assert shown == set(CLAIMS)
    assert f"2 hold, {len(CLAIMS) - 2} are not checked" in page
    assert all(heading in page for heading in verb.WORLDS.values())
