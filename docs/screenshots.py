"""Render the pictures of docs/report.md from a run of the quickstart: `python docs/screenshots.py [RUN]`.

Without RUN the quickstart is run first, which takes some minutes. Chromium must be installed (on Debian
`apt-get install chromium`), and playwright, which drives it, is one of the `dev` dependencies; Pillow comes with them.
"""

import argparse
import io
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

import pairwright as pw
from pairwright.worlds.quickstart import quickstart

PICTURES = Path(__file__).resolve().parent / "report"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DESKTOP, PHONE = (1120, 640), (375, 700)
# Grey edges of letters instead of coloured ones, and few colours: a third of the bytes.
COLOURS = 128
FLAGS = ("--no-sandbox", "--disable-lcd-text")


@dataclass(frozen=True)
class Shot:
    """One picture: which address is opened, which chart is scrolled to, how large the window is, in which colours."""

    name: str
    where: str = ""
    chart: str = ""
    size: tuple[int, int] = DESKTOP
    dark: bool = False


SHOTS = (
    Shot("headline", "#r0-result"),
    Shot("charts", chart="Change of log-probability since the start", dark=True),
    Shot("explorer", "#r0-explorer?sort=-gap&is.split=test&q=colours"),
    Shot("credit", "#r0-explorer?set=held+out%2C+ra&pair=0"),
    Shot("phone", "#r0-result", size=PHONE),
    Shot("phone-pair", "#r0-explorer?set=held+out%2C+ra&pair=1", size=PHONE, dark=True),
)


def take(browser: Browser, page_file: Path, shot: Shot, target: Path) -> None:
    """Open the page from disk without a network, wait until what is in view is drawn, and write the picture."""
    width, height = shot.size
    context = browser.new_context(
        offline=True,
        viewport={"width": width, "height": height},
        color_scheme="dark" if shot.dark else "light",
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(page_file.as_uri() + shot.where)
    page.wait_for_selector(".explorer[data-ready]", state="attached")
    if shot.chart:
        page.locator("figure", has_text=shot.chart).first.evaluate("figure => figure.scrollIntoView()")
    page.wait_for_timeout(1500)  # charts are drawn as they come into view
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(target / f"{shot.name}.png", optimize=True)
    context.close()


def main() -> None:
    """Render every picture."""
    parser = argparse.ArgumentParser(description="Render the pictures of docs/report.md.")
    parser.add_argument("run", nargs="?", type=Path, help="a run of the quickstart; made when not given")
    parser.add_argument("-o", "--output", type=Path, default=PICTURES)
    given = parser.parse_args()
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        sys.exit("no Chromium is installed; on Debian: apt-get install chromium")
    given.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        run = given.run
        if run is None:
            run = Path(folder) / "quickstart"
            quickstart(output=run)
        page_file = pw.report(run, output=Path(folder) / "page" / "report.html", title="pairwright quickstart")
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        for shot in SHOTS:
            take(browser, page_file, shot, given.output)
            print(given.output / f"{shot.name}.png")
        browser.close()


if __name__ == "__main__":
    main()
