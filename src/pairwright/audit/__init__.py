"""Looking for what is wrong with preference data before a model learns it: checks, each of which gives a `Finding`."""

from pairwright.audit.facts import Facts
from pairwright.audit.finding import Audit, Finding, finding
from pairwright.audit.table import CHECKS
from pairwright.audit.verb import audit

__all__ = ["CHECKS", "Audit", "Facts", "Finding", "audit", "finding"]
