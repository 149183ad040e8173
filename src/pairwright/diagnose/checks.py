"""Findings of many models as one record for each check: what it means and what to try are said once."""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from pairwright.diagnose.finding import Finding, Level, ranked

_LOW_IS_WORSE = frozenset({"margin_agreement", "length_matched", "diversity", "goal_control", "credit_concentration"})
"""Checks whose number is the worse the lower it is. Of the others it is the worse the further it is from 0."""


class Check(BaseModel):
    """One thing that was looked for, in every subject in which it was."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    check: str
    level: Level
    """The worst that was seen."""
    levels: dict[Level, int]
    """Subjects by level, the worst first; levels that nobody has are left out."""
    findings: tuple[Finding, ...]
    """By level, and within a level by their number, the worst first."""
    means: tuple[str, ...]
    """What it means: each text once, that of the worst first."""
    remedies: tuple[str, ...]
    sources: tuple[str, ...]


def by_check(findings: Iterable[Finding]) -> tuple[Check, ...]:
    """Findings by what was looked for; checks with warnings first, then notes, each in the order in which they come."""
    found: dict[str, list[Finding]] = {}
    for each in ranked(findings):
        found.setdefault(each.check, []).append(each)
    return tuple(_check(name, mine) for name, mine in found.items())


def _check(name: str, findings: list[Finding]) -> Check:
    worst = ranked(sorted(findings, key=_good))
    levels: dict[Level, int] = {}
    for each in worst:
        levels[each.level] = levels.get(each.level, 0) + 1
    return Check(
        check=name,
        level=worst[0].level,
        levels=levels,
        findings=worst,
        means=_once(each.means for each in worst),
        remedies=_once(each.remedy for each in worst),
        sources=_once(each.source for each in worst),
    )


def _good(finding: Finding) -> float:
    """Smaller is worse; a finding without a number is the last of its level."""
    if finding.value is None:
        return float("inf")
    return float(finding.value) if finding.check in _LOW_IS_WORSE else -abs(float(finding.value))


def _once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text))
