"""What training did, in numbers that the literature defines: computed from probes, answers and logs.

finding.py       findings, parts, the diagnosis
readings.py      probes as arrays of answers and steps; means with intervals over prompts
unlearning.py    what happens to good answers on the rejected side
displacement.py  what happens to both sides' probability, from probes or from a log
margins.py       implicit margins against gaps of scores
overlap.py       which pairs other metrics would have chosen
credit.py        on how few tokens rests what changed
"""

from pairwright.diagnose.finding import Diagnosis, Finding, Missing, Part

__all__ = ["Diagnosis", "Finding", "Missing", "Part"]
