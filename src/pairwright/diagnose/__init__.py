"""What training did, in numbers that the literature defines: computed from probes, answers and logs.

finding.py       findings, parts, the diagnosis
"""

from pairwright.diagnose.finding import Diagnosis, Finding, Missing, Part

__all__ = ["Diagnosis", "Finding", "Missing", "Part"]
