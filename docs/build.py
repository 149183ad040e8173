"""Write the generated pages of docs/reference/ and check the links of every page: `make docs`.

python docs/build.py            write the pages, then check the links
python docs/build.py --check    write nothing; fail when a page is not what its source says, or a link is dead
"""

import argparse
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from pairwright.plug import listing

ROOT = Path(__file__).resolve().parents[1]

# Page -> its title, where the table lives, and what one entry is called.
TABLES = {
    "losses": ("Losses", "pairwright.losses.table:LOSSES", "loss"),
    "metrics": ("Metrics of `select`", "pairwright.metrics.table:METRICS", "metric"),
    "cuts": ("Cuts of `select`", "pairwright.cuts:CUTS", "cut"),
    "rules": ("Rules of `pair`", "pairwright.pairing:PAIRINGS", "rule"),
    "modes": ("Modes of `relabel`", "pairwright.relabel.table:MODES", "mode"),
    "scorers": ("Scorers of `score`", "pairwright.scorers.table:SCORERS", "scorer"),
    "checks": ("Checks of `audit`", "pairwright.audit.table:CHECKS", "check"),
}
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")


def page(name: str) -> str:
    """The reference page of one table: each plug with its first sentence, settings and source."""
    title, place, kind = TABLES[name]
    module, _, table = place.partition(":")
    lines = [
        f"# {title}",
        "",
        f"Written by `make docs` from the docstrings in `{module}`; change those, not this page.",
    ]
    lines += ["", f"A {kind} of your own needs no place here: name it `module:function`.", ""]
    lines += ["| name | what it does | settings | source |", "|---|---|---|---|"]
    for row in listing(getattr(import_module(module), table)):
        settings = ", ".join(f"`{key}={value!r}`" for key, value in row["settings"].items())
        cells = (f"`{row['name']}`", row["says"], settings, row["source"])
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def dead_links() -> Iterator[str]:
    """`file: target` for each relative link to a file that is not there. Nothing is fetched from the network."""
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]):
        for target in LINK.findall(path.read_text(encoding="utf-8")):
            file = target.split("#")[0]
            if file and "://" not in file and not file.startswith("mailto:") and not (path.parent / file).exists():
                yield f"{path.relative_to(ROOT)}: {target}"


def stale_pages() -> Iterator[str]:
    """Pages that differ from what their sources say now."""
    for name in TABLES:
        path = ROOT / "docs" / "reference" / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != page(name):
            yield f"docs/reference/{name}.md is not what its source says; run: make docs"


def main() -> int:
    """Write or check; 1 when something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    if not check:
        (ROOT / "docs" / "reference").mkdir(exist_ok=True)
        for name in TABLES:
            (ROOT / "docs" / "reference" / f"{name}.md").write_text(page(name), encoding="utf-8")
    faults = [*(stale_pages() if check else ()), *(f"dead link in {link}" for link in dead_links())]
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print(f"{len(TABLES)} reference pages and all links are right")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
