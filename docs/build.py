"""Write the generated pages and figures of docs/ and check the links of every page: `make docs`.

python docs/build.py            write the pages and figures, then check the links
python docs/build.py --check    write nothing; fail when a page is not what its source says, or a link is dead

Pages must agree to the letter, figures to a fraction of a pixel: another version of torch may round a curve otherwise.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from docstrings import Fault
from loss_figures import DIVERGED, curves_of, curves_of_divergences, figure_of
from loss_pages import loss_page, plugs_page, table_of_losses
from panels import draw, same_picture

from pairwright.losses import LOSSES
from pairwright.losses.divergences import DIVERGENCES
from pairwright.losses.weightings import WEIGHTINGS
from pairwright.plug import listing

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

# Page -> its title, where the table lives, and what one entry of one's own is called, where there can be one. Losses
# have pages of their own.
TABLES = {
    "metrics": ("Metrics of `select`", "pairwright.metrics.table:METRICS", "metric"),
    "cuts": ("Cuts of `select`", "pairwright.cuts:CUTS", "cut"),
    "rules": ("Rules of `pair`", "pairwright.pairing:PAIRINGS", "rule"),
    "modes": ("Modes of `relabel`", "pairwright.relabel.table:MODES", "mode"),
    "scorers": ("Scorers of `score`", "pairwright.scorers.table:SCORERS", "scorer"),
    "verifiers": ("Verifiers of the scorer `rules`", "pairwright.scorers.rules:VERIFIERS", "verifier"),
    "engines": ("Engines of `generate`", "pairwright.generate.table:ENGINES", "engine"),
    "checks": ("Checks of `audit`", "pairwright.audit.table:CHECKS", "check"),
    "diagnostics": ("Diagnostics of `diagnose`", "pairwright.diagnose.table:DIAGNOSTICS", ""),
}
LINK = re.compile(r"!?\[[^\]]+\]\(([^)\s]+)\)")
BETWEEN = re.compile(r"(<!-- losses: written by make docs -->\n).*(\n<!-- end of losses -->)", re.DOTALL)

OF_DIVERGENCES = """
A loss with a reference looks at the log-ratio `u = logp - ref`, which belongs to the penalty KL(policy || reference).
Another penalty puts `f(u)` in its place. It is a setting of the training, or of one term of a sum:

```yaml
- {do: train, model: MODEL, loss: dpo, beta: 0.1, divergence: js_divergence}
- {do: train, model: MODEL, loss: nca_pair, divergence: {name: alpha_divergence, alpha: 0.3}}
```

It works with every loss that sees policy and reference by their log-ratio alone; the others refuse it by name.
"""
OF_WEIGHTINGS = """
A weight for each pair by how likely the policy is to say its answers itself. It has no gradient. It is a setting of the
training, or of one term of a sum, and works with every loss of pairs:

```yaml
- {do: train, model: MODEL, loss: dpo, beta: 0.1, weighting: wpo}
- {do: train, model: MODEL, loss: simpo, weighting: {name: wpo, max_weight: 2.0}}
```
"""


def page(name: str) -> str:
    """The reference page of one table: each plug with its first sentence, settings and source."""
    title, place, kind = TABLES[name]
    module, _, table = place.partition(":")
    lines = [
        f"# {title}",
        "",
        f"Written by `make docs` from the docstrings in `{module}`; change those, not this page.",
    ]
    if kind:
        article = "An" if kind[0] in "aeiou" else "A"
        lines += ["", f"{article} {kind} of your own needs no place here: name it `module:function`."]
    lines += ["", "| name | what it does | settings | source |", "|---|---|---|---|"]
    for row in listing(getattr(import_module(module), table)):
        settings = ", ".join(f"`{key}={value!r}`" for key, value in row["settings"].items())
        cells = (f"`{row['name']}`", row["says"], settings, row["source"])
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def pages() -> Iterator[tuple[Path, str]]:
    """Every generated page, and the losses' README with its table put in.

    Raises:
        Fault: a docstring lacks a part that its page needs.
    """
    for name in TABLES:
        yield DOCS / "reference" / f"{name}.md", page(name)
    losses = DOCS / "losses"
    for name in LOSSES:
        yield losses / f"{name}.md", loss_page(name)
    figure = (
        "![f(u) of each divergence and its slope, along the log-ratio u of one answer](divergences.svg)\n\n"
        "What each makes of the log-ratio of one answer. Where its slope fades, a loss has little hold of that answer; "
        "where it is steep, the loss pulls hard."
    )
    yield losses / "divergences.md", plugs_page("Divergences", OF_DIVERGENCES, DIVERGENCES, figure=figure)
    yield losses / "weightings.md", plugs_page("Weightings", OF_WEIGHTINGS, WEIGHTINGS)
    readme = losses / "README.md"
    table = table_of_losses()
    text, found = BETWEEN.subn(lambda match: match[1] + table + match[2], readme.read_text(encoding="utf-8"))
    if found != 1:
        raise Fault("docs/losses/README.md has no place for the table of losses; see BETWEEN in docs/build.py")
    yield readme, text


def pictures() -> Iterator[tuple[Path, str]]:
    """Every generated figure."""
    for name in LOSSES:
        figure = figure_of(name)
        title = f"Loss and gradient of {name}"
        along, slope_in = figure.move.along, figure.move.slope_in
        drawn = draw(curves_of(name), title=title, along=along, slope_in=slope_in, start=figure.start)
        yield DOCS / "losses" / f"{name}.svg", drawn
    title, along, slope_in = "f(u) of each divergence and its slope", DIVERGED.along, DIVERGED.slope_in
    drawn = draw(curves_of_divergences(), title=title, along=along, slope_in=slope_in, value="f(u)", start=0)
    yield DOCS / "losses" / "divergences.svg", drawn


def left_over(made: set[Path]) -> Iterator[Path]:
    """Files of docs/losses/ that nothing makes any more."""
    yield from sorted({*DOCS.glob("losses/*.md"), *DOCS.glob("losses/*.svg")} - made)


def dead_links() -> Iterator[str]:
    """`file: target` for each relative link or figure that is not there. Nothing is fetched from the network."""
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]):
        for target in LINK.findall(path.read_text(encoding="utf-8")):
            file = target.split("#")[0]
            if file and "://" not in file and not file.startswith("mailto:") and not (path.parent / file).exists():
                yield f"{path.relative_to(ROOT)}: {target}"


def faults(*, write: bool) -> Iterator[str]:
    """What is wrong; with `write`, pages and figures are put right first."""
    text, drawn = dict(pages()), dict(pictures())
    for path, content in (text | drawn).items():
        there = path.read_text(encoding="utf-8") if path.exists() else ""
        # A figure that only rounds otherwise is left as it is, so that two machines do not take turns in changing it.
        if there == content or (path in drawn and same_picture(there, content)):
            continue
        if write:
            path.parent.mkdir(exist_ok=True)
            path.write_text(content, encoding="utf-8")
        else:
            yield f"{path.relative_to(ROOT)} is not what its source says; run: make docs"
    for path in left_over(set(text) | set(drawn)):
        yield f"{path.relative_to(ROOT)} belongs to no loss; delete it"
    yield from (f"dead link in {link}" for link in dead_links())


def main() -> int:
    """Write or check; 1 when something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    try:
        found = list(faults(write=not check))
    except Fault as fault:
        found = [str(fault)]
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        print(f"{len(TABLES)} reference pages, {len(LOSSES)} losses with their figures, and all links are right")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
