"""What training did, in numbers that the literature defines: computed from probes, answers and logs.

finding.py            findings, parts, the diagnosis
verb.py               the verb `diagnose`: what the files of runs allow to say, and what is missing
sources.py            a run's files as probes and answers; trainings.py and drawn.py are its parts
parts.py, table.py    which diagnostic is computed of what
readings.py           probes as arrays of answers and steps; means with intervals over prompts
unlearning.py         what happens to good answers on the rejected side
displacement.py       what happens to both sides' probability, from probes or from a log
over_optimisation.py  the next tokens' entropy and mass, their turning points, the two signals
margins.py            implicit margins against gaps of scores
overlap.py            which pairs other metrics would have chosen
credit.py             on how few tokens rests what changed
answers.py            a model's answers to held-out prompts; by_prompt.py has their means with intervals
distances.py          one model: how far from the start, how good
budget.py             quality against distance; fits.py has its law and the rival, best.py asks the models alone
length.py             drift, what a token earns, win rates at matched lengths
diversity.py          distinct n-grams, empty and identical answers
goals.py              scores given against scores asked for
"""

from pairwright.diagnose.finding import Diagnosis, Finding, Missing, Part

__all__ = ["Diagnosis", "Finding", "Missing", "Part"]
