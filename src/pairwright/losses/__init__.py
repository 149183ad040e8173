"""Losses on pairs, groups and single answers: torch and nothing else, so that they can be lifted into any trainer.

A loss takes one record of `[B]` tensors and its settings, and gives one value for each pair. `LOSSES` lists ours;
yours is `module:function`, and `check_loss` tells you whether it keeps the contract.
"""

from pairwright.losses.batch import aot, aot_unpaired
from pairwright.losses.bounded import apo_down, apo_zero, exo
from pairwright.losses.check import check_loss
from pairwright.losses.hinge import hinge
from pairwright.losses.likelihood import goal_sft, sft, sft_sum
from pairwright.losses.logistic import discopop, dpo, dpo_mean, ld_dpo, r_dpo, robust_dpo
from pairwright.losses.reference_free import alphapo, cpo, orpo, simpo, slic
from pairwright.losses.squared import ipo_mean, ipo_sum, sppo_hard
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
    "alphapo",
    "aot",
    "aot_unpaired",
    "apo_down",
    "apo_zero",
    "asks",
    "check_loss",
    "cpo",
    "discopop",
    "dpo",
    "dpo_mean",
    "exo",
    "goal_sft",
    "hinge",
    "ipo_mean",
    "ipo_sum",
    "ld_dpo",
    "needs",
    "orpo",
    "r_dpo",
    "robust_dpo",
    "sft",
    "sft_sum",
    "simpo",
    "slic",
    "sppo_hard",
    "takes",
    "uses",
]
