"""Every loss under its name. A loss of your own needs no place here: name it `module:function`."""

from pairwright.losses.batch import aot, aot_unpaired
from pairwright.losses.bounded import apo_down, apo_zero, exo
from pairwright.losses.hinge import hinge
from pairwright.losses.likelihood import goal_sft, sft, sft_sum
from pairwright.losses.logistic import discopop, dpo, dpo_mean, ld_dpo, r_dpo, robust_dpo
from pairwright.losses.reference_free import alphapo, cpo, orpo, simpo, slic
from pairwright.losses.squared import ipo_mean, ipo_sum, sppo_hard
from pairwright.losses.types import Loss

LOSSES: dict[str, Loss] = {
    "alphapo": alphapo,
    "aot": aot,
    "aot_unpaired": aot_unpaired,
    "apo_down": apo_down,
    "apo_zero": apo_zero,
    "cpo": cpo,
    "discopop": discopop,
    "dpo": dpo,
    "dpo_mean": dpo_mean,
    "exo": exo,
    "goal_sft": goal_sft,
    "hinge": hinge,
    "ipo_mean": ipo_mean,
    "ipo_sum": ipo_sum,
    "ld_dpo": ld_dpo,
    "orpo": orpo,
    "r_dpo": r_dpo,
    "robust_dpo": robust_dpo,
    "sft": sft,
    "sft_sum": sft_sum,
    "simpo": simpo,
    "slic": slic,
    "sppo_hard": sppo_hard,
}
