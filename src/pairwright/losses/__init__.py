"""Losses on pairs, groups and single answers: torch and nothing else, so that they can be lifted into any trainer.

A loss takes one record of `[B]` tensors and its settings, and gives one value for each pair. `LOSSES` lists ours;
yours is `module:function`, and `check_loss` tells you whether it keeps the contract.
"""

from pairwright.losses.check import check_loss
from pairwright.losses.likelihood import sft
from pairwright.losses.logistic import dpo, simpo
from pairwright.losses.squared import ipo_mean, ipo_sum
from pairwright.losses.table import LOSSES
from pairwright.losses.types import (
    Asks,
    GroupLogps,
    GroupLoss,
    PairLogps,
    PairLoss,
    PointLogps,
    PointLoss,
    Side,
    asks,
    needs,
    takes,
    uses,
)

__all__ = [
    "LOSSES",
    "Asks",
    "GroupLogps",
    "GroupLoss",
    "PairLogps",
    "PairLoss",
    "PointLogps",
    "PointLoss",
    "Side",
    "asks",
    "check_loss",
    "dpo",
    "ipo_mean",
    "ipo_sum",
    "needs",
    "sft",
    "simpo",
    "takes",
    "uses",
]
