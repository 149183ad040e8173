"""The report: one HTML file that opens without a network, and the same numbers as JSON beside it.

collect.py    what a run directory holds, read into one record
views.py      that record
files.py      JSON files, damaged or not
data.py       counts of a step's data: scores, gaps, lengths, what was selected, which goals are asked for
probed.py     means of a training's probes
samples.py    answers side by side
charts.py     which of its numbers are drawn, and how
measures.py   which of them stand in tables
flow.py       the way of the data from the first row to the last, as widths of a drawing
lacking.py    what a run does not have, and what makes it
compare.py    several runs beside each other
explorer.py   the pairs of a run, to be searched and read
packed.py     columns and texts of many rows, packed for the page
shown.py      text of strangers made safe to look at
page.py       the record and the templates, put together
claims.py     claims of papers that were checked, as a page of the same look
verb.py       the verb `report`
templates/    base.html.j2, run.html.j2, compare.html.j2, audit.html.j2, claims.html.j2, parts.html.j2,
              explorer.html.j2, style.css, page.js, explorer.css, explorer.js
"""

from pairwright.report.page import audit_page
from pairwright.report.verb import report

__all__ = ["audit_page", "report"]
