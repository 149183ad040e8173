"""Every loss under its name. A loss of your own needs no place here: name it `module:function`."""

from pairwright.losses.batch import aot, aot_unpaired
from pairwright.losses.bounded import apo_down, apo_zero, exo
from pairwright.losses.groups import infonca, nca, rrhf
from pairwright.losses.hinge import hinge
from pairwright.losses.likelihood import goal_sft, sft, sft_sum
from pairwright.losses.logistic import discopop, dpo, dpo_mean, ld_dpo, r_dpo, robust_dpo
from pairwright.losses.reference_free import alphapo, cpo, orpo, simpo, slic
from pairwright.losses.scored import margin_dpo, modpo, odpo, rpo_backward_kl, rpo_forward_kl, rpo_squared, sppo
from pairwright.losses.squared import ipo_mean, ipo_sum, sppo_hard
from pairwright.losses.types import Loss
from pairwright.losses.unpaired import apo_zero_unpaired, bco, kto, nca_pair

LOSSES: dict[str, Loss] = {
    "alphapo": alphapo,
    "aot": aot,
    "aot_unpaired": aot_unpaired,
    "apo_down": apo_down,
    "apo_zero": apo_zero,
    "apo_zero_unpaired": apo_zero_unpaired,
    "bco": bco,
    "cpo": cpo,
    "discopop": discopop,
    "dpo": dpo,
    "dpo_mean": dpo_mean,
    "exo": exo,
    "goal_sft": goal_sft,
    "hinge": hinge,
    "infonca": infonca,
    "ipo_mean": ipo_mean,
    "ipo_sum": ipo_sum,
    "kto": kto,
    "ld_dpo": ld_dpo,
    "margin_dpo": margin_dpo,
    "modpo": modpo,
    "nca": nca,
    "nca_pair": nca_pair,
    "odpo": odpo,
    "orpo": orpo,
    "r_dpo": r_dpo,
    "robust_dpo": robust_dpo,
    "rpo_backward_kl": rpo_backward_kl,
    "rpo_forward_kl": rpo_forward_kl,
    "rpo_squared": rpo_squared,
    "rrhf": rrhf,
    "sft": sft,
    "sft_sum": sft_sum,
    "simpo": simpo,
    "slic": slic,
    "sppo": sppo,
    "sppo_hard": sppo_hard,
}
