"""Known values at places that random records do not reach, for the faults that only show there."""

from math import exp, log

from torch import tensor

from losses.worked_example import F64, Value
from pairwright.losses import PairLogps, Side


def one(logp: float, length: float = 1.0) -> Side:
    return Side(tensor([logp], dtype=F64), tensor([length], dtype=F64))


def certain_rejected() -> PairLogps:
    """The model is sure of the rejected answer: its odds are infinite."""
    return PairLogps(one(-1.0), one(0.0))


def certain_chosen() -> PairLogps:
    return PairLogps(one(0.0), one(-1.0))


def one_tied() -> PairLogps:
    """The worked example twice; in the first pair both answers have the same score."""
    chosen, rejected = ((-10.0, 8.0, (6.0, 9.0)), (-12.0, 10.0, (6.0, 6.0)))
    return PairLogps(*(
        Side(tensor([logp] * 2, dtype=F64), tensor([length] * 2, dtype=F64), score=tensor(score, dtype=F64))
        for logp, length, score in (chosen, rejected)
    ))  # fmt: skip


CERTAIN = 52 * log(2)  # log-odds of 1 - 2^-52, the number nearest to a certain answer in float64
LESS = log(exp(-1) / (1 - exp(-1)))

VALUES: list[Value] = [
    Value(
        "orpo",
        (1 + 0.1 * log(1 + exp(CERTAIN - LESS)),),
        "NLL 1, and a rejected answer whose probability is kept 2^-52 below 1",
        record=certain_rejected,
    ),
    Value(
        "orpo", (0.1 * log(1 + exp(LESS - CERTAIN)),), "NLL 0, the same odds on the chosen side", record=certain_chosen
    ),
    Value("rrhf", (11.0, 10.05), "a tie in one row leaves the other alone: (10 + 12) / 2, 0.05 + 10", record=one_tied),
]
