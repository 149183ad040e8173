"""The pages agree with the code: generated pages are fresh, links are alive, and every line that a page shows runs."""

import ast
import contextlib
import io
import re
import subprocess
import sys
from importlib import import_module
from math import exp, log
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
import yaml

from pairwright.losses import LOSSES, asks, takes
from pairwright.train.config import resolve

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("losses/*.md"))


def docs(name: str) -> ModuleType:
    """A module of docs/, which is no package."""
    if str(DOCS) not in sys.path:
        sys.path.append(str(DOCS))
    return import_module(name)


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_generated_pages_are_fresh_and_links_are_alive() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "build.py", "--check"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stderr


def test_the_loss_in_contributing_passes_its_own_check() -> None:
    code = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(code) == 1
    exec(compile(code[0], "CONTRIBUTING.md", "exec"), {"__name__": "contributing"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_training_takes_every_recipe_line_of_a_page(page: Path) -> None:
    steps = [step for block in blocks(page, "yaml") for step in yaml.safe_load(block)]
    for step in steps:
        assert step.pop("do") == "train"
        config = resolve(**step)
        assert config.examples == step.get("examples", "pairs")
    if page.stem in LOSSES:
        said = [step.get("examples", "pairs") for step in steps]
        words = {"PairLogps": "pairs", "GroupLogps": "groups", "PointLogps": "responses"}
        assert said == [words[kind.__name__] for kind in takes(LOSSES[page.stem])]
        assert {step["loss"] for step in steps} == {page.stem}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs_and_prints_what_stands_beside_it(page: Path) -> None:
    trained = printed = 0
    for code in blocks(page, "python"):
        tree = ast.parse(code)
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "pw.train"]
        for call in calls:
            given = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
            assert given.pop("output") == "run"
            assert resolve(**given).loss == page.stem
        trained += len(calls)
        if calls:
            continue
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, page.name, "exec"), {"__name__": "page"})
        said = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
        assert out.getvalue().splitlines() == said
        printed += len(said)
    if page.stem in LOSSES:
        assert (trained, printed) == (1, len(takes(LOSSES[page.stem])))


def test_what_a_page_gives_its_loss_is_what_the_loss_needs() -> None:
    """A field too many would teach a reader to fetch what is not used. `call_lines` reads the needs; so do we, here."""
    for name, loss in LOSSES.items():
        text = (DOCS / "losses" / f"{name}.md").read_text(encoding="utf-8")
        code = blocks(DOCS / "losses" / f"{name}.md", "python")[-1]
        for need in asks(loss).needs:
            assert f"`{need}`:" in text, (name, need)
            assert re.search(rf"\b{need}=", code), (name, need)
        given = set(re.findall(r"\b(length|ref|score|token_logp|token_ref|anchor)=", code))
        assert given == asks(loss).needs, name


def test_every_loss_is_found_from_some_data() -> None:
    text = (DOCS / "losses" / "README.md").read_text(encoding="utf-8")
    table = text.partition("## Your data looks like this")[2].partition("\n## ")[0]
    linked = set(re.findall(r"\]\((\w+)\.md\)", table)) - {"divergences", "weightings"}
    assert linked == set(LOSSES)


def test_the_sum_of_the_readme_is_the_sum_by_hand() -> None:
    """DPO of the worked example is log(1 + exp(-0.15)); the mean NLL of its chosen side is 10 / 8."""
    (code,) = blocks(DOCS / "losses" / "README.md", "python")
    said = float(re.findall(r"# tensor\(\[([\d.]+)\]\)", code)[0])
    assert said == pytest.approx(log(1 + exp(-0.15)) + 10 / 8, abs=5e-5)


def plug_with(docstring: str) -> Any:
    def plug(pair: Any, *, beta: float = 0.1) -> None: ...

    plug.__doc__ = docstring
    return plug


WHOLE = """One sentence.

    loss = x

Limits: none.

Relations: none.

Args:
    pair: a record.
    beta: a scale.

Returns:
    a loss.

Raises:
    InputError: beta is wrong.

Source: nobody, eq. 1.
"""


def test_a_whole_docstring_is_taken_apart() -> None:
    parts = docs("docstrings").anatomy("mine", plug_with(WHOLE))
    assert (parts.summary, parts.body) == ("One sentence.", ("    loss = x",))
    assert (parts.limits, parts.relations, parts.returns) == ("none.", "none.", "a loss.")
    assert parts.args == {"pair": "a record.", "beta": "a scale."}
    assert parts.raises == "beta is wrong."


@pytest.mark.parametrize(
    ("cut", "says"),
    [
        ("    loss = x", "a formula"),
        ("Limits: none.", "'Limits:'"),
        ("Relations: none.", "'Relations:'"),
        ("    beta: a scale.", "setting 'beta'"),
        ("Returns:\n    a loss.", "'Returns:'"),
        ("Raises:\n    InputError: beta is wrong.", "'Raises:'"),
        ("Source: nobody, eq. 1.", "'Source:'"),
    ],
)
def test_a_docstring_that_lacks_a_part_is_a_fault_that_names_it(cut: str, says: str) -> None:
    assert cut in WHOLE
    docstrings = docs("docstrings")
    with pytest.raises(docstrings.Fault, match="no page can be made of 'mine'") as caught:
        docstrings.anatomy("mine", plug_with(WHOLE.replace(cut, "")))
    assert says in str(caught.value)


def test_a_figure_has_the_numbers_of_the_loss_and_its_gradient() -> None:
    """At the left end: DPO of beta 0.1 at -30 nats, its hinge there, and KTO at -60 nats for both kinds of answers."""
    curves = docs("loss_figures").curves_of

    def begins(curve: Any) -> tuple[float, float, float]:
        return curve.along[0], curve.value[0], curve.slope[0]

    assert begins(curves("dpo")[0]) == pytest.approx((-30, log(1 + exp(3)), -0.1 / (1 + exp(-3))))
    assert begins(curves("hinge")[1]) == pytest.approx((-30, 4, -0.1))
    wanted, unwanted = curves("kto")[:2]
    steep = 0.1 * exp(-6) / (1 + exp(-6)) ** 2
    assert begins(wanted) == pytest.approx((-60, 1 / (1 + exp(-6)), -steep))
    assert begins(unwanted) == pytest.approx((-60, 1 / (1 + exp(6)), steep))


def test_a_loss_without_a_figure_of_its_own_gets_one_curve_for_each_side() -> None:
    figure = docs("loss_figures").figure_of("a loss that was added today")
    assert [line.says for line in figure.lines] == ["chosen side moves", "rejected side moves"]


def test_divergences_are_drawn_as_what_they_make_of_a_log_ratio() -> None:
    """At u = -2, where the figure begins: u, log(2 e^u / (1 + e^u)), 1 - e^-u and (1 - e^(-u / 2)) * 2, and slopes."""
    curves = docs("loss_figures").curves_of_divergences()
    known = {
        "reverse_kl": (-2, 1),
        "js_divergence": (log(2 * exp(-2) / (1 + exp(-2))), 1 / (1 + exp(-2))),
        "forward_kl": (1 - exp(2), exp(2)),
        "alpha_divergence, alpha 0.5": (2 * (1 - exp(1)), exp(1)),
    }
    assert {curve.name for curve in curves} == set(known)
    for curve in curves:
        assert curve.along[0] == -2
        assert (curve.value[0], curve.slope[0]) == pytest.approx(known[curve.name]), curve.name


def test_figures_are_small_pictures_with_text_that_a_telephone_can_show() -> None:
    """A page of a code host has margins of 16 pixels on a screen of 360; what is left must make 10 of each letter."""
    figures = sorted(DOCS.glob("losses/*.svg"))
    assert {figure.stem for figure in figures} == {*LOSSES, "divergences"}
    for figure in figures:
        assert figure.stat().st_size < 30_000, figure.name
        root = ElementTree.parse(figure).getroot()
        assert float(root.attrib["font-size"]) * (360 - 2 * 16) / float(root.attrib["width"]) >= 10, figure.name
        nodes = list(root.iter("{http://www.w3.org/2000/svg}text"))
        assert not [node for node in nodes if "font-size" in node.attrib], figure.name
        texts = [node.text or "" for node in nodes]
        assert {"f(u)" if figure.stem == "divergences" else "loss", "gradient"} <= set(texts), figure.name
        assert [text for text in texts if text.startswith("slope in ")], figure.name


def drawn(*heights: float, name: str = "beta 0.1") -> str:
    panels = docs("panels")
    along = [float(place) for place in range(len(heights))]
    curve = panels.Curve(name, along, heights, heights)
    picture: str = panels.draw([curve], title="a figure", along="nats", slope_in="it")
    return picture


def test_a_curve_stands_where_its_axis_says() -> None:
    """The ticks tell pixels from numbers; a line from 0 to 10 must go through the pixels of the ticks 0 and 10."""
    picture = drawn(0.0, 5.0, 10.0)
    height = {
        int(label): float(y) - 4
        for y, label in re.findall(r'y="([\d.]+)" text-anchor="end">(\d+)</text>', picture.partition(">gradient<")[0])
    }
    points = re.findall(r'points="([^"]+)"', picture)[0].split()
    ends = [float(points[place].split(",")[1]) for place in (0, -1)]
    assert ends == [pytest.approx(height[0], abs=0.11), pytest.approx(height[10], abs=0.11)]
    assert height[10] < height[0]


def test_pictures_that_only_round_otherwise_are_the_same() -> None:
    same = docs("panels").same_picture
    assert same(drawn(0.0, 5.0, 10.0), drawn(0.0, 5.001, 10.0))
    assert not same(drawn(0.0, 5.0, 10.0), drawn(0.0, 5.2, 10.0))
    assert not same(drawn(0.0, 5.0, 10.0), drawn(0.0, 5.0, 10.0, name="beta 0.2"))
    assert not same(drawn(0.0, 5.0, 10.0), drawn(0.0, 5.0, 10.0, 15.0))
    assert not same("", drawn(0.0, 5.0, 10.0))


KINKS = {
    "hinge": ((20,), (10,), (5,)),
    "slic": ((1,), (-1,), (1,)),
    "rrhf": ((-1, -0.5), (-1.5, -0.5), (-1.5, -1)),
    "aot": ((), (-8, 8)),
    "aot_unpaired": ((), (-8, 8)),
}
"""Where the gradient of each curve jumps: hinge rests from 1 / beta on, the others where one thing passes another."""


def test_no_curve_is_sampled_on_a_kink() -> None:
    """There rounding would decide which of two slopes is drawn, and two machines would not agree."""
    figures = docs("loss_figures")
    for name, each in KINKS.items():
        figure = figures.figure_of(name)
        places = torch.linspace(figure.low, figure.high, figures.PLACES, dtype=torch.float64).tolist()
        assert min(abs(x - kink) for x in places for kinks in each for kink in kinks) > 1e-3, name


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_gradient_that_jumps_is_broken_there_and_nowhere_else(name: str) -> None:
    curves = docs("loss_figures").curves_of(name)
    for curve, kinks in zip(curves, KINKS.get(name, ((),) * len(curves)), strict=True):
        broken = [(curve.along[place - 1], curve.along[place]) for place in curve.jumps]
        assert len(broken) == len(kinks), (curve.name, broken)
        for (left, right), kink in zip(broken, kinks, strict=True):
            assert left < kink < right or min(abs(left - kink), abs(right - kink)) < 1e-9
            assert right - left < 1e-6


def test_a_jump_has_the_slopes_of_both_sides_and_no_line_between() -> None:
    """The hinge of beta 0.1 falls by 0.1 up to a margin of 10 nats, and rests from there on."""
    curve = docs("loss_figures").curves_of("hinge")[1]
    (place,) = curve.jumps
    assert curve.slope[place - 1 : place + 1] == pytest.approx((-0.1, 0))
    assert curve.value[place - 1 : place + 1] == pytest.approx((0, 0), abs=1e-6)
    panels = docs("panels")
    broken = panels.Curve("a", [0, 1, 1, 2], [0, 1, 1, 1], [1, 1, 0, 0], [2])
    picture = panels.draw([broken], title="a figure", along="nats", slope_in="it")
    lines = [points.split() for points in re.findall(r'points="([^"]+)"', picture)]
    assert [len(points) for points in lines] == [4, 2, 2]
    assert [len({point.split(",")[1] for point in points}) for points in lines[1:]] == [1, 1]
