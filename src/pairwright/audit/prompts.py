"""Checks on the prompts of pairs."""

from pairwright.audit.facts import Facts
from pairwright.audit.finding import Finding, finding
from pairwright.preferences import Preferences

Data = Preferences | Facts


def prompt_mismatch(data: Data) -> Finding:
    """The two sides of a pair answer different prompts, so that the reader had to cut them where they part.

    Read from the column `pairs.prompt_mismatch`, which `read` sets.
    """
    hits = Facts.of(data).pairs.get_column("prompt_mismatch")
    return finding(
        "prompt_mismatch",
        hits,
        level="error",
        says=f"{hits.sum():,} of {len(hits):,} pairs have two sides that answer different prompts.",
        remedy="Drop them: their two log-probabilities are not of answers to one question.",
    )
