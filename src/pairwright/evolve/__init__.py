"""New prompts out of old ones, written by a model. Importing this package loads no torch.

operators.py   the ways of evolving a prompt: one file each in prompts/, or your own file
verb.py        `evolve`
"""

from pairwright.evolve.operators import OPERATORS, Operator, read_operator
from pairwright.evolve.verb import evolve

__all__ = ["OPERATORS", "Operator", "evolve", "read_operator"]
