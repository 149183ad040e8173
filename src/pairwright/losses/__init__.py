"""Losses on pairs, groups and single answers: torch and nothing else, so that they can be lifted into any trainer.

A loss takes one record of `[B]` tensors and its settings, and gives one value for each pair. `LOSSES` lists ours;
yours is `module:function`, and `check_loss` tells you whether it keeps the contract.
"""

from pairwright.losses.batch import aot, aot_unpaired
from pairwright.losses.bounded import apo_down, apo_zero, exo
from pairwright.losses.check import check_loss
from pairwright.losses.compose import Sum, Term, compose
from pairwright.losses.divergences import DIVERGENCES, diverged
from pairwright.losses.groups import infonca, nca, rrhf
from pairwright.losses.hinge import hinge
from pairwright.losses.likelihood import goal_sft, sft, sft_sum
from pairwright.losses.logistic import discopop, dpo, dpo_mean, ld_dpo, r_dpo, robust_dpo
from pairwright.losses.reference_free import alphapo, cpo, orpo, simpo, slic
from pairwright.losses.scored import margin_dpo, modpo, odpo, rpo_backward_kl, rpo_forward_kl, rpo_squared, sppo
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
from pairwright.losses.unpaired import apo_zero_unpaired, bco, kto, nca_pair
from pairwright.losses.weightings import WEIGHTINGS, weighted

__all__ = [
    "DIVERGENCES",
    "LOSSES",
    "WEIGHTINGS",
    "Asks",
    "GroupLogps",
    "GroupLoss",
    "PairLogps",
    "PairLoss",
    "PointLogps",
    "PointLoss",
    "Side",
    "Sum",
    "Term",
    "alphapo",
    "aot",
    "aot_unpaired",
    "apo_down",
    "apo_zero",
    "apo_zero_unpaired",
    "asks",
    "bco",
    "check_loss",
    "compose",
    "cpo",
    "discopop",
    "diverged",
    "dpo",
    "dpo_mean",
    "exo",
    "goal_sft",
    "hinge",
    "infonca",
    "ipo_mean",
    "ipo_sum",
    "kto",
    "ld_dpo",
    "margin_dpo",
    "modpo",
    "nca",
    "nca_pair",
    "needs",
    "odpo",
    "orpo",
    "r_dpo",
    "robust_dpo",
    "rpo_backward_kl",
    "rpo_forward_kl",
    "rpo_squared",
    "rrhf",
    "sft",
    "sft_sum",
    "simpo",
    "slic",
    "sppo",
    "sppo_hard",
    "takes",
    "uses",
    "weighted",
]
