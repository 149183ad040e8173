"""Answers from a model, with the score that is asked for. Importing this package loads no torch."""

from pairwright.generate.kept import forget
from pairwright.generate.table import ENGINES
from pairwright.generate.verb import generate

__all__ = ["ENGINES", "forget", "generate"]
