"""Claims that were checked, as one page: what decides, with intervals, the numbers behind it, and the drawings."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pairwright.report.measures import columns, with_bars
from pairwright.report.page import render

if TYPE_CHECKING:
    from pairwright.reproduce.claim import Claim, Outcome

LEVEL = {"holds": "fine", "does not hold": "error", "not identified": "note"}
"""How the badge of a verdict looks."""


def claims_page(
    found: Mapping[str, tuple["Outcome", str]],
    claims: Mapping[str, "Claim"],
    *,
    worlds: Mapping[str, str],
    says: Sequence[str] = (),
    title: str = "Reproduction",
) -> str:
    """Outcomes of claims as one HTML document, with the same look as a run's report.

    Args:
        found: outcomes with the commands that give them, by claim.
        claims: every claim, in the order of the page; one without an outcome is named as not checked.
        worlds: headings, by world.
        says: paragraphs that a reader should know before the verdicts.
        title: heading of the page.
    """
    shown = {name: _claim(claim, found.get(name)) for name, claim in claims.items()}
    by_world = {world: [shown[name] for name, claim in claims.items() if claim.world == world] for world in worlds}
    groups = [{"id": world, "title": worlds[world], "claims": each} for world, each in by_world.items() if each]
    charts = [chart for each in shown.values() for chart in each["charts"]]
    return render(
        "claims.html.j2",
        charts,
        title=title,
        says=list(says),
        groups=groups,
        runs=[],
    )


def _claim(claim: "Claim", found: tuple["Outcome", str] | None) -> dict[str, Any]:
    """A claim as the template reads it."""
    about = {"name": claim.name, "says": claim.says, "paper": claim.paper, "source": claim.source}
    if found is None:
        nothing: dict[str, Any] = {"found": "", "command": "", "seconds": None, "charts": [], "metrics": [], "rows": []}
        return about | nothing | {"verdict": "not checked", "level": "note", "columns": []}
    outcome, command = found
    (measured,) = with_bars([{"metrics": [metric.model_dump(mode="json") for metric in outcome.metrics]}])
    rows = list(outcome.table)
    return about | {
        "verdict": outcome.verdict,
        "level": LEVEL[outcome.verdict],
        "found": outcome.says,
        "command": command,
        "seconds": outcome.seconds,
        "charts": [chart.model_copy(update={"id": f"{claim.name}-{chart.id}"}) for chart in outcome.charts],
        "metrics": measured["metrics"],
        "rows": rows,
        "columns": columns(rows),
    }
