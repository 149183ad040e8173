"""Every loss under its name. A loss of your own needs no place here: name it `module:function`."""

from collections.abc import Callable

from pairwright.losses.likelihood import sft
from pairwright.losses.logistic import dpo, simpo
from pairwright.losses.squared import ipo_mean, ipo_sum
from pairwright.losses.types import PairLoss

LOSSES: dict[str, Callable[..., PairLoss]] = {
    "dpo": dpo,
    "ipo_mean": ipo_mean,
    "ipo_sum": ipo_sum,
    "sft": sft,
    "simpo": simpo,
}
