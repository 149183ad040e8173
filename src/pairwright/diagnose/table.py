"""DIAGNOSTICS: what is looked for."""

from collections.abc import Callable

from pairwright.diagnose.budget import budget
from pairwright.diagnose.credit import credit
from pairwright.diagnose.displacement import displacement, displacement_of_logs
from pairwright.diagnose.diversity import diversity
from pairwright.diagnose.finding import Part
from pairwright.diagnose.goals import goals
from pairwright.diagnose.length import length_drift, length_matched, length_reward
from pairwright.diagnose.margins import margins
from pairwright.diagnose.over_optimisation import over_optimisation
from pairwright.diagnose.overlap import overlap
from pairwright.diagnose.unlearning import unlearning

DIAGNOSTICS: dict[str, Callable[..., Part]] = {
    "displacement": displacement,
    "displacement_of_logs": displacement_of_logs,
    "unlearning": unlearning,
    "over_optimisation": over_optimisation,
    "margins": margins,
    "length_reward": length_reward,
    "credit": credit,
    "length_drift": length_drift,
    "length_matched": length_matched,
    "diversity": diversity,
    "budget": budget,
    "goals": goals,
    "overlap": overlap,
}

ON_PROBES = ("displacement", "unlearning", "over_optimisation", "margins", "length_reward", "credit")
"""Those that read the probes of one training, in the order in which they are asked."""
