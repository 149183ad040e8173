"""A run with many trainings: one card for each check, parts of one name together, colours by what differs."""

import json
import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from explored import explored_run, log, made_step, pairs_of
from pairwright.charts import Chart, Series
from pairwright.report import report
from pairwright.report.collect import collect
from pairwright.report.shown import HIDDEN, few
from pairwright.report.sweeps import Sweep, coloured, sweep_of
from swept import BETAS, fall, island_of, swept_run, trainings

TEMPLATES = Path(sys.modules["pairwright.report"].__file__).parent / "templates"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return swept_run(tmp_path_factory.mktemp("sweep") / "sweep")


@pytest.fixture(scope="module")
def written(run):
    path = report(run)
    return path.read_text("utf-8"), json.loads(path.with_suffix(".json").read_text("utf-8"))


def between(page, start, end):
    return page[page.index(start) : page.index(end)]


def test_a_sweep_is_known_by_the_one_setting_that_differs_beside_the_seed(run):
    sweep = sweep_of([collect(run)])
    assert sweep.setting == "beta"
    assert sweep.order == ["beta 0.01", "beta 0.1", "beta 1"]
    assert {name: sweep.of[name] for name, _, _ in trainings()} == {
        name: f"beta {beta:g}" for name, beta, _ in trainings()
    }
    assert sweep.find("dpo-0.1-2 against start") == sweep.find("dpo-0.1-2, seed 2") == "beta 0.1"
    assert sweep.find("start") is sweep.find("dpo-0.1-22") is sweep.find("") is None


def test_what_a_model_of_the_sweep_wrote_has_the_setting_of_its_training(run):
    sweep = sweep_of([collect(run)])
    assert sweep.find("answers") == sweep.find("gold") == "beta 0.01"


def test_two_settings_that_differ_are_no_sweep_and_neither_are_three_trainings(tmp_path):
    for root, rates in ((tmp_path / "two", (1, 2, 3, 4)), (tmp_path / "few", (1, 1, 1))):
        made_step(root, 1, "data", "read", lambda d: pairs_of(["a"], ["b"]).save(d / "data"))
        for i, rate in enumerate(rates, 2):
            made_step(root, i, f"t{i}", "train", log, **{"from": "data"}, loss="dpo", beta=0.1 * i, learning_rate=rate)
        assert sweep_of([collect(root)]) == Sweep("", {}, [])


def test_seeds_alone_are_no_sweep(tmp_path):
    for i in range(1, 6):
        made_step(tmp_path / "run", i, f"t{i}", "train", log, loss="dpo", beta=0.1, seed=i)
    assert sweep_of([collect(tmp_path / "run")]).setting == ""


def test_the_curves_of_a_sweep_are_in_the_order_of_its_setting_and_all_numbers_stay(run, written):
    page, kept = written
    (chart,) = [chart for chart in kept["charts"] if chart["title"] == "Loss: dpo"]
    assert [series["setting"] for series in chart["series"]] == [
        f"beta {beta}" for beta in ("0.01", "0.1", "1") for _ in range(2)
    ]
    assert {series["name"] for series in chart["series"]} == {name for name, _, _ in trainings()}
    assert chart["says"].endswith("Colour: beta, a line for each seed.")
    assert "dpo-1-1, dpo-1-2 and 4 more" in chart["says"]
    (alone,) = [chart for chart in kept["charts"] if chart["title"] == "Loss: sft"]
    assert [series["setting"] for series in alone["series"]] == [None]
    assert island_of(page) == {chart["id"]: chart for chart in kept["charts"]}


def test_few_lines_and_lines_of_one_setting_keep_their_own_colours():
    sweep = Sweep("beta", {f"t{i}": f"beta {i % 2}" for i in range(5)} | dict.fromkeys("abcd", "beta 0"), ["beta 0"])
    for names in (["t0", "t1", "t2"], list("abcd")):
        chart = Chart(id="a", title="", says="", x="", y="", series=[Series(name=name, x=[0], y=[1]) for name in names])
        assert coloured(chart, sweep) is chart


def test_findings_stand_by_check_with_the_worst_first(written):
    """Falls are 1 / beta + seed / 4: with beta 0.01 100.25 and 100.5 (warnings), 0.1 10.25 and 10.5 (notes), 1 fine."""
    page, kept = written
    (check,) = kept["headline"][0]["checks"]
    assert (check["check"], check["level"]) == ("likelihood_displacement", "warning")
    assert check["levels"] == {"warning": 2, "note": 2, "fine": 2}
    assert [each["subject"] for each in check["findings"]] == [
        "dpo-0.01-2", "dpo-0.01-1", "dpo-0.1-2", "dpo-0.1-1", "dpo-1-2", "dpo-1-1"
    ]  # fmt: skip
    assert [each["value"] for each in check["findings"]][:2] == [-100.5, -100.25]
    assert check["settings"] == [
        {"setting": "beta 0.01", "seen": 2, "of": 2, "levels": {"warning": 2}, "level": "warning"},
        {"setting": "beta 0.1", "seen": 2, "of": 2, "levels": {"note": 2}, "level": "note"},
        {"setting": "beta 1", "seen": 0, "of": 2, "levels": {"fine": 2}, "level": "fine"},
    ]
    chips = page.split('<ul class="by-setting">')[1].split("</ul>")[0]
    assert [chips.count(f'class="at-{level}"') for level in ("warning", "note", "fine")] == [1, 1, 1]
    card = between(page, "What training did", 'id="r0-data"')
    assert card.count("It means something.") == card.count("Try <code>beta</code>.") == 1
    assert card.count("arXiv 1234.56789") == 1
    places = [
        card.index(f">{name}<") if f">{name}<" in card else card.index(name) for name in ("dpo-0.01-2", "dpo-1-1")
    ]
    assert places == sorted(places)
    for said in ("-101 to -100", '<b>2</b> <span class="soft">of 2</span>', "&lt;b onclick=alert(1)&gt;x"):
        assert said in card
    assert "<b onclick" not in page


def test_more_subjects_than_six_are_folded(tmp_path):
    betas = (1.0, 0.1, 0.01, 0.001)
    page = report(swept_run(tmp_path / "eight", betas)).read_text("utf-8")
    card = between(page, "What training did", 'id="r0-data"')
    open_rows, folded = card.split("<summary>2 more</summary>")
    assert (open_rows.count('role="rowheader"'), folded.count('role="rowheader"')) == (6, 2)


def test_parts_of_one_name_are_one_table_and_one_chart_with_their_own_charts_folded(written):
    page, kept = written
    charts = {chart["id"]: chart for chart in kept["charts"]}
    every = charts["r0-g1-all-change"]
    lines = {series["name"]: series for series in every["series"] if not series["reference"]}
    assert {name: line["y"][-1] for name, line in lines.items()} == {
        name: fall(beta, seed) for name, beta, seed in trainings()
    }
    assert all(line["low"][-1] == line["y"][-1] - 1 for line in lines.values())
    assert [series["name"] for series in every["series"] if series["reference"]] == ["start"]  # smoothed ones differ
    assert "'chosen' of each of 6" in every["says"]
    assert "rejected" in every["says"]
    assert every["says"].count("Intervals are in the numbers below.") == 1
    assert not [ident for ident in charts if "all-cloud" in ident]  # points that lie anywhere have no common line
    part = page[page.index('id="r0-part2"') : page.index('id="r0-goals"')]
    before, folded = part.split('<details class="singly">')
    assert before.count("said of all") == 1
    assert "said of dpo-1-1" not in before
    for i, (name, beta, seed) in enumerate(trainings()):
        assert f'id="r0-d{i}-change"' in folded
        assert f"{fall(beta, seed) - 0.5:.3g} to {fall(beta, seed) + 0.5:.3g}" in before
        assert name in before


def test_what_compares_the_models_comes_first_and_stands_in_the_headline(written):
    page, kept = written
    charts = {chart["id"]: chart for chart in kept["charts"]}
    headline = between(page, 'id="r0-result"', 'id="r0-data"')
    assert headline.index("Score by distance") < headline.index("What training did")
    assert page.index('id="r0-d6-score"') < page.index('id="r0-g1-all-change"')
    first, again = charts["r0-first-score"], charts["r0-d6-score"]
    assert first["series"] == again["series"]
    points = {series["setting"]: series for series in first["series"] if not series["reference"]}
    assert list(points) == ["beta 0.01", "beta 0.1", "beta 1"]
    assert points["beta 1"]["labels"] == ["dpo-1-1", "dpo-1-2"]
    assert (points["beta 0.01"]["x"], points["beta 0.01"]["y"]) == ([4.0, 5.0], [8.0, 10.0])
    assert "dpo-1-1, dpo-1-2 and 4 more" in page
    assert page.count("<summary>7 more notes</summary>") == 1  # of nine


def test_two_trainings_look_as_they_always_did(tmp_path):
    """One beta: two trainings, so no check and no part is about more than three subjects."""
    page = report(swept_run(tmp_path / "small", BETAS[2:]))
    kept = json.loads(page.with_suffix(".json").read_text("utf-8"))
    assert kept["headline"][0]["checks"] == []
    assert not [chart["id"] for chart in kept["charts"] if "-all-" in chart["id"] or "first" in chart["id"]]
    text = page.read_text("utf-8")
    assert text.count("It means something.") == 2
    assert 'class="singly"' not in text


def test_what_the_explorer_holds_is_in_the_numbers_of_the_page(tmp_path):
    page = report(explored_run(tmp_path / "run"))
    (run,) = json.loads(page.with_suffix(".json").read_text("utf-8"))["runs"]
    assert run["explorer"]
    assert all({"name", "says", "pairs", "of"} == set(one) for one in run["explorer"])
    assert sum(one["pairs"] for one in run["explorer"]) >= 60


def test_script_and_page_know_the_same_hidden_characters(written):
    page, _ = written
    kept = re.search(r'<html lang="en" data-hidden="([^"]*)">', page).group(1)
    assert json.loads(kept.replace("&#34;", '"').replace("&amp;", "&")) == HIDDEN.pattern
    assert "u200b" not in (TEMPLATES / "page.js").read_text("utf-8")


def test_many_names_are_few_words():
    assert few(["a", "b", "c", "d"]) == "a, b, c, d"
    assert few([str(i) for i in range(1234)]) == "0, 1 and 1,232 more"


def luminance(colour):
    """WCAG 2: relative luminance of an sRGB colour."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize(("mode", "ground"), [("light", "#ffffff"), ("dark", "#1a1d23")])
def test_every_colour_of_a_sweep_stands_out_from_its_ground(mode, ground):
    script = (TEMPLATES / "page.js").read_text("utf-8")
    ramps = script[script.index("const ramps") :]
    stops = re.findall("#[0-9a-f]{6}", re.search(mode + r": \[(.*?)\]", ramps).group(1))
    assert f"--card: {ground}" in (TEMPLATES / "style.css").read_text("utf-8")
    for first, second in pairwise(stops):
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            ends = [[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in (first, second)]
            mixed = "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip(*ends, strict=True))
            light, dark = sorted((luminance(mixed), luminance(ground)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3
