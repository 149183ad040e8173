"""The report: one HTML file that opens without a network, and the same numbers as JSON beside it.

collect.py    what a run directory holds, read into one record; nothing is computed
charts.py     which of its numbers are drawn, and how
shown.py      text of strangers made safe to look at
page.py       the record and the templates, put together
verb.py       the verb `report`
templates/    base.html.j2, run.html.j2, audit.html.j2, parts.html.j2, style.css, page.js
"""

from pairwright.report.page import audit_page
from pairwright.report.verb import report

__all__ = ["audit_page", "report"]
