"""The page in a real browser: opened from disk without a network, used with keyboard and pointer, measured by axe."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from explored import HOSTILE, explored_run, log, made_step, pairs_of
from pairwright.report import report
from pairwright.report.explorer import explorer_of
from pairwright.reproduce import reproduce
from swept import swept_run

pytestmark = pytest.mark.browser

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


@pytest.fixture(scope="module")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium is installed; on Debian: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return explored_run(tmp_path_factory.mktemp("browser") / "run")


@pytest.fixture(scope="module")
def page_file(run) -> Path:
    return report(run, title=HOSTILE[0])


@pytest.fixture(scope="module")
def compared(run) -> Path:
    other = run.with_name("other <run>")
    prefs = pairs_of(["a", "b"], ["c", "d"])
    made_step(other, 1, "data", "read", lambda d: prefs.save(d / "data"))
    made_step(other, 2, "train", "train", log, **{"from": "data"}, beta=0.2)
    return report([run, other], output=run.with_name("compared.html"))


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Path:
    return report(swept_run(tmp_path_factory.mktemp("swept") / "sweep", (1.0, 0.1, 0.01, 0.001)))


@pytest.fixture(scope="module")
def claims(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("claims")
    reproduce(["hump_hijacked_judge"], seeds=2, quick=True, output=out)
    return out / "reproduction.html"


@contextmanager
def opened(
    browser, file: Path, where: str = "", *, script: str = "", ready: str = ".explorer[data-ready]", **settings
) -> Iterator[SimpleNamespace]:
    """A page, and everything that it said, asked for or was refused while it was open."""
    context = browser.new_context(offline=True, **{"viewport": DESKTOP, "color_scheme": "light", **settings})
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.add_init_script(WATCH + script)
    page.goto(file.as_uri() + where)
    if not script:
        page.wait_for_selector(ready, state="attached")
    yield SimpleNamespace(page=page, said=said, asked=asked)
    context.close()


def count(page) -> str:
    return page.locator(".ex-count").first.inner_text()


def numbers(page, label) -> list[str]:
    return page.locator(f'.ex-table td[data-label="{label}"]').all_inner_texts()


def settle(page, wanted) -> None:
    page.wait_for_function("wanted => document.querySelector('.ex-count').textContent === wanted", arg=wanted)


def draw_all(page) -> None:
    for plot in page.locator(".plot").all():
        if plot.is_visible():
            plot.scroll_into_view_if_needed()
            plot.locator(".main-svg").first.wait_for(state="attached")


def test_it_opens_from_disk_without_network_error_or_violation(chromium, page_file):
    with opened(chromium, page_file) as seen:
        draw_all(seen.page)
        seen.page.locator(".ex-open").first.click()
        seen.page.locator(".ex-pair h3").wait_for()
        assert [url for url in seen.asked if not url.startswith(("file:", "data:", "blob:"))] == []
        assert len([url for url in seen.asked if url.startswith("file:")]) == 1
        assert seen.said == []
        assert seen.page.evaluate("window.violations") == []


def test_the_charts_draw_their_lines(chromium, page_file):
    with opened(chromium, page_file) as seen:
        draw_all(seen.page)
        drawn = seen.page.locator(".plot .main-svg").count()
        assert drawn >= seen.page.locator(".plot").count() > 2
        assert seen.page.locator(".plot path.js-line, .plot .bars path, .plot .point").count() > 2


@pytest.mark.parametrize(
    "asked",
    [
        "sort=split",
        "sort=-split",
        "sort=constructor",
        "in.constructor=1:2",
        "in.split=1:2",
        "is.__proto__=1",
        "set=0&page=1e9",
    ],
)
def test_an_address_that_asks_for_nonsense_shows_the_list(chromium, page_file, asked):
    with opened(chromium, page_file, f"#r0-explorer?{asked}") as seen:
        assert count(seen.page).endswith("pairs")
        assert seen.page.locator(".ex-open").count() > 0
        assert seen.said == []


def test_it_filters_by_category_finding_goal_and_number(chromium, page_file):
    """Of 64 rows: every fourth is test (16); goals 2 to 33 once, 1 32 times; gaps i + 1 for i of 0..31, twice."""
    with opened(chromium, page_file) as seen:
        page = seen.page
        assert count(page) == "64 pairs"
        page.select_option('[data-choose="split"]', "test")
        settle(page, "16 of 64 pairs")
        assert set(numbers(page, "split")) == {"test"}
        page.select_option('[data-choose="goal"]', "1")
        settle(page, "8 of 64 pairs")
        page.click(".ex-clear")
        settle(page, "64 pairs")
        page.select_option('[data-choose="finding"]', "score_tie")
        settle(page, "4 of 64 pairs")
        page.click(".ex-clear")
        settle(page, "64 pairs")
        page.locator(".ex-more > summary").click()
        page.fill('[data-range="gap"][data-end="least"]', "30")
        page.press('[data-range="gap"][data-end="least"]', "Enter")
        settle(page, "6 of 64 pairs")
        assert sorted(numbers(page, "gap")) == ["30", "30", "31", "31", "32", "32"]
        page.fill('[data-range="score_chosen"][data-end="most"]', "1")
        page.press('[data-range="score_chosen"][data-end="most"]', "Enter")
        settle(page, "3 of 64 pairs")
        assert seen.said == []


def test_it_sorts_both_ways_and_pages(chromium, page_file):
    with opened(chromium, page_file) as seen:
        page = seen.page
        page.click('[data-sort="gap"]')
        page.wait_for_selector('th[aria-sort="descending"]')
        first = numbers(page, "gap")
        assert first == [str(32 - i // 2) for i in range(20)]
        page.click('[aria-label="Next page"]')
        page.wait_for_function("document.querySelector('.ex-pages span').textContent === 'page 2 of 4'")
        assert numbers(page, "gap") == [str(32 - i // 2) for i in range(20, 40)]
        page.click('[aria-label="Last page"]')
        page.wait_for_function("document.querySelector('.ex-pages span').textContent === 'page 4 of 4'")
        assert numbers(page, "gap") == ["2", "2", "1", "1"]
        page.click('[data-sort="gap"]')
        page.wait_for_selector('th[aria-sort="ascending"]')
        assert numbers(page, "gap") == [str(1 + i // 2) for i in range(20)]


def test_it_searches_prompts_and_answers_for_plain_text(chromium, page_file):
    """Every eighth pair has the text with `(`, `<` or `$`, which mean nothing special in a search; 8 of 64 each."""
    with opened(chromium, page_file) as seen:
        page = seen.page
        for text, wanted in (("HACKED = 1<", 8), ("${7*7}", 8), ("question 31?", 2), ("a-b[", 0), ("[x", 0)):
            page.fill(".ex-search input", text)
            settle(page, f"{wanted} of 64 pairs")
        page.fill(".ex-search input", "plain answer 31")
        settle(page, "2 of 64 pairs")
        page.locator(".ex-open").first.click()
        assert page.locator(".ex-pair mark").all_inner_texts() == ["plain answer 31"]


def test_the_keyboard_is_enough(chromium, page_file):
    with opened(chromium, page_file) as seen:
        page, keys = seen.page, seen.page.keyboard
        page.locator(".ex-open").first.focus()
        keys.press("ArrowDown")
        keys.press("ArrowDown")
        keys.press("Enter")
        page.get_by_role("heading", name="Pair 2", exact=True).wait_for()
        keys.press("ArrowRight")
        page.get_by_role("heading", name="Pair 3", exact=True).wait_for()
        keys.press("ArrowLeft")
        keys.press("ArrowLeft")
        page.get_by_role("heading", name="Pair 1", exact=True).wait_for()
        keys.press("Escape")
        page.wait_for_function("document.activeElement.dataset.row === '1'")
        keys.press("ArrowRight")
        page.wait_for_function("document.querySelector('.ex-pages span').textContent === 'page 2 of 4'")
        page.wait_for_function("document.activeElement.dataset.row === '20'")
        keys.press("/")
        assert page.evaluate("document.activeElement.name") == "q"
        keys.type("question 30?")
        settle(page, "2 of 64 pairs")


def test_the_address_keeps_what_one_sees(chromium, page_file):
    with opened(chromium, page_file) as seen:
        page = seen.page
        page.select_option('[data-choose="split"]', "test")
        settle(page, "16 of 64 pairs")
        page.click('[data-sort="gap"]')
        page.wait_for_selector('th[aria-sort="descending"]')
        page.locator(".ex-open").nth(2).click()
        page.locator(".ex-pair h3").wait_for()
        title, where = page.locator(".ex-pair h3").inner_text(), page.evaluate("location.hash")
        page.go_back()
        page.locator(".ex-table").wait_for(state="visible")
        assert count(page) == "16 of 64 pairs"
    with opened(chromium, page_file, where) as seen:
        assert seen.page.locator(".ex-pair h3").inner_text() == title == "Pair 27"
        seen.page.click(".ex-back")
        settle(seen.page, "16 of 64 pairs")
        assert numbers(seen.page, "gap")[:4] == ["32", "32", "28", "28"]


@pytest.mark.parametrize(
    "where", ["?pair=999999&page=-3&sort=nothing&in.gap=a:b&is.none=1", "?set=%3Cb%3E&q=%5B(", "?%"]
)
def test_an_address_that_is_wrong_breaks_nothing(chromium, page_file, where):
    with opened(chromium, page_file, f"#r0-explorer{where}") as seen:
        assert re.fullmatch(r"(0 of )?64 pairs", count(seen.page))
        assert seen.said == []


@pytest.mark.parametrize("which", range(len(HOSTILE) - 1))
def test_hostile_answers_are_shown_as_text_and_run_nothing(chromium, page_file, which):
    with opened(chromium, page_file, f"#r0-explorer?pair={which}") as seen:
        page = seen.page
        shown = page.locator(".ex-chosen .ex-text").inner_text()
        wanted = re.sub(
            "[\u202e\u2066\u200b\u061c\x00\x07\U000e0041]", lambda one: f"U+{ord(one.group()):04X}", HOSTILE[which]
        )
        assert shown == wanted
        assert page.evaluate("[...document.querySelectorAll('.ex-pair .ex-text *')].map(e => e.tagName)") == (
            ["SPAN"] * shown.count("U+")
        )
        assert page.evaluate("window.hacked") is None
        assert page.evaluate("document.querySelectorAll('a[href^=javascript]').length") == 0
        assert (seen.said, page.evaluate("window.violations")) == ([], [])


def test_a_line_of_a_million_characters_is_cut_until_all_is_asked_for(chromium, page_file):
    with opened(chromium, page_file, "#r0-explorer?pair=7") as seen:
        length = "document.querySelector('.ex-chosen .ex-text').textContent.length"
        assert seen.page.evaluate(length) == 4000
        seen.page.get_by_role("button", name="Show all 1,000,000 characters").click()
        assert seen.page.evaluate(length) == 1_000_000
        assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_credit_shades_tokens_and_says_its_number(chromium, page_file):
    """The chosen answer has credits 0, 0.25, ... 1, the rejected one 0, -0.5, ... -2, of the same tokens reversed."""
    with opened(chromium, page_file, "#r0-explorer?set=held+out%2C+train&pair=0") as seen:
        page = seen.page
        tokens = page.locator(".ex-chosen .ex-token")
        assert tokens.all_inner_texts()[:4] == ["<b>one", " two", "U+202E", " <script>"]
        colour = "getComputedStyle(document.querySelectorAll('.ex-{} .ex-token')[{}]).backgroundColor"
        assert page.evaluate(colour.format("chosen", 3)) != page.evaluate(colour.format("rejected", 3))
        assert page.evaluate(colour.format("chosen", 1)) != page.evaluate(colour.format("chosen", 3))
        page.locator(".ex-chosen .ex-tokens").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert page.locator(".ex-readout").inner_text() == '" two" +0.25 nats'
        page.locator(".ex-rejected .ex-token").nth(4).hover()
        assert page.locator(".ex-readout").inner_text() == '"<b>one" −2 nats'
        assert page.locator(".ex-rejected .ex-token.less.much").count() == 3  # more than half of 1.5
        page.uncheck(".ex-credit input")
        assert page.locator(".ex-chosen .ex-text").inner_text() == HOSTILE[0]
        assert not tokens.first.is_visible()


def test_a_browser_that_cannot_unpack_says_so(chromium, page_file):
    with opened(chromium, page_file, script="delete window.DecompressionStream;") as seen:
        assert "DecompressionStream" in seen.page.locator(".ex-alarm").inner_text()
        assert not seen.page.locator(".ex-table").is_visible()


def test_on_a_phone_the_answers_are_stacked_and_nothing_is_cut_off(chromium, page_file):
    with opened(chromium, page_file, "#r0-explorer?pair=3", viewport=PHONE) as seen:
        # Both in one look: a chart above that is drawn in between would move them.
        box = "document.querySelector('.ex-{}').getBoundingClientRect()"
        assert seen.page.evaluate(f"{box.format('rejected')}.top >= {box.format('chosen')}.bottom")
        assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        seen.page.click(".ex-back")
        assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_on_paper_every_chart_is_drawn(chromium, page_file):
    with opened(chromium, page_file) as seen:
        seen.page.pdf()
        plots = seen.page.locator(".plot")
        assert seen.page.locator(".plot:has(.main-svg)").count() == plots.count() > 2


def test_the_page_says_when_it_holds_a_sample(chromium, run, monkeypatch):
    """Of 64 and 4 pairs 20 fit: all 4 held-out pairs, and 16 others."""
    monkeypatch.setitem(explorer_of.__kwdefaults__, "pairs", 20)
    with opened(chromium, report(run, output=run.with_name("sampled.html"))) as seen:
        assert count(seen.page) == "16 pairs"
        assert "a sample (seed 0) of 64 pairs" in seen.page.locator(".ex-says").inner_text()


def test_runs_side_by_side_open_with_an_explorer_each(chromium, compared):
    with opened(chromium, compared) as seen:
        draw_all(seen.page)
        assert seen.page.locator(".explorer[data-ready]").count() == 2
        assert seen.page.locator(".ex-count").all_inner_texts() == ["64 pairs", "2 pairs"]
        assert (seen.said, seen.page.evaluate("window.violations")) == ([], [])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("where", ["", "#r0-explorer?set=held+out%2C+train&pair=0", "#r0-explorer?q=one&in.gap=2:20"])
def test_axe_finds_no_serious_violation(chromium, page_file, compared, swept, scheme, size, where):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    for file in [page_file] if where else [page_file, compared, swept]:
        with opened(chromium, file, where, viewport=size, color_scheme=scheme, bypass_csp=True) as seen:
            draw_all(seen.page)
            for details in seen.page.locator("details").all():
                details.evaluate("element => { element.open = true; }")
            found = axe.Axe().run(seen.page).response["violations"]
        assert grave(found) == []


def grave(violations) -> list[tuple[str, str, str]]:
    return [
        (one["id"], node["html"][:200], node["failureSummary"][:200])
        for one in violations
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"][:3]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_page_of_claims_draws_its_charts_and_axe_finds_no_serious_violation(chromium, claims, scheme, size):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    with opened(chromium, claims, ready=".plot", viewport=size, color_scheme=scheme) as seen:
        draw_all(seen.page)
        assert seen.page.locator(".plot .main-svg").count() > 0
        assert (seen.said, seen.page.evaluate("window.violations")) == ([], [])
        wide, shown = seen.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert wide <= shown
    with opened(chromium, claims, ready=".plot", viewport=size, color_scheme=scheme, bypass_csp=True) as seen:
        draw_all(seen.page)
        for details in seen.page.locator("details").all():
            details.evaluate("element => { element.open = true; }")
        assert grave(axe.Axe().run(seen.page).response["violations"]) == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_key_of_many_lines_stands_above_the_drawing_and_hides_a_setting(chromium, swept, size):
    with opened(chromium, swept, viewport=size) as seen:
        draw_all(seen.page)
        figure = seen.page.locator('figure[data-chart="r0-g1-all-change"]')
        keys = figure.locator(".key button")
        assert [text.strip() for text in keys.all_inner_texts()] == [
            "beta 0.001",
            "beta 0.01",
            "beta 0.1",
            "beta 1",
            "start",
        ]
        key, plot = figure.locator(".key").bounding_box(), figure.locator(".plot").bounding_box()
        assert key["y"] + key["height"] <= plot["y"]
        assert plot["height"] >= 250
        assert figure.locator(".legend").count() == 0
        colours = {line.evaluate("e => getComputedStyle(e).stroke") for line in figure.locator("path.js-line").all()}
        assert len(colours) == 4 + 1  # a colour for each beta, and the start's
        assert figure.locator("path.js-line").count() == 8 + 1
        keys.first.focus()
        seen.page.keyboard.press("Enter")
        assert figure.locator("path.js-line").count() == 6 + 1
        assert keys.first.get_attribute("aria-pressed") == "false"
        assert keys.first.evaluate("e => e === document.activeElement")
        seen.page.keyboard.press("Enter")
        assert figure.locator("path.js-line").count() == 8 + 1
        assert seen.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert (seen.said, seen.page.evaluate("window.violations")) == ([], [])


def test_charts_of_single_subjects_are_drawn_when_they_are_unfolded_and_not_before(chromium, swept):
    with opened(chromium, swept) as seen:
        seen.page.emulate_media(media="print")
        seen.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        folded = seen.page.locator('[id="r0-d3-change"]')
        assert folded.locator(".main-svg").count() == 0
        assert seen.page.locator('[id="r0-g1-all-change"] .main-svg').count() > 0
        seen.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
        seen.page.emulate_media(media="screen")
        seen.page.locator(".singly > summary").click()
        seen.page.locator(".single > summary").nth(3).click()
        folded.locator(".main-svg").first.wait_for(state="attached")
        assert seen.said == []
