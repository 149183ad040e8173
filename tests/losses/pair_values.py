"""Known values of the losses on pairs. All in float64; read by test_worked_values.py.

"Specification" is the table of the worked example, computed there in numpy. Every other number says where it is from or
is arithmetic that can be followed by hand.
"""

from dataclasses import replace
from math import exp, log, log1p
from typing import Any

import torch
from torch import Tensor, tensor

from losses.worked_example import F64, Value, record
from pairwright.losses import PairLogps, Side

SPECIFICATION = "specification, table of the worked example"


def pairs(chosen: list[float], rejected: list[float], ref_chosen: list[float], ref_rejected: list[float]) -> PairLogps:
    """Pairs with a reference and nothing else."""
    return PairLogps(
        Side(tensor(chosen, dtype=F64), ref=tensor(ref_chosen, dtype=F64)),
        Side(tensor(rejected, dtype=F64), ref=tensor(ref_rejected, dtype=F64)),
    )


def margins(*values: float) -> PairLogps:
    """Pairs with these differences of log-ratios, all on the chosen side; the rejected one is at its reference."""
    zeros = [0.0] * len(values)
    return pairs(list(values), zeros, zeros, zeros)


def torchtune() -> PairLogps:
    """torchtune tests/torchtune/rlhf/loss/test_dpo_loss.py: margins 0, 1, 2 at beta 0.1."""
    return pairs([-0.5, -10.0, -1.0], [-0.1, -30.0, -21.0], [-0.5, -10.1, -0.1], [-0.1, -20.1, -0.1])


def llama_factory() -> PairLogps:
    """LLaMA-Factory v1 tests_v1/trainers/test_dpo_loss_precision.py: differences 1.6, 0.6, 1.6, 0.6."""
    return pairs([-3.0, -2.5, -4.0, -1.5], [-5.0, -3.5, -6.0, -2.5], [-2.8, -2.3, -3.8, -1.4], [-3.2, -2.7, -4.2, -1.8])


def ms_swift() -> PairLogps:
    """ms-swift issue 10167: a difference of 6 nats."""
    return pairs([-2.0], [-8.0], [0.0], [0.0])


def at_reference() -> PairLogps:
    """The worked example with the reference for its policy."""
    return PairLogps(*(replace(side, logp=side.known("ref")) for side in record()[:2]))


def of_one_mean() -> PairLogps:
    """The worked example with a rejected side of the chosen one's mean log-probability, -1.25, and ten tokens."""
    pair = record()
    return pair._replace(rejected=replace(pair.rejected, logp=tensor([-12.5], dtype=F64)))


def with_tokens(pair: PairLogps) -> PairLogps:
    """Each side with its sums spread over its tokens alike, in a row of twelve places."""

    def spread(side: Side, total: Tensor) -> Tensor:
        length = side.known("length")
        return (total / length)[:, None] * (torch.arange(12) < length[:, None])

    return PairLogps(
        *(replace(s, token_logp=spread(s, s.logp), token_ref=spread(s, s.known("ref"))) for s in (pair[0], pair[1]))
    )


def token_record() -> PairLogps:
    """The worked example with tokens."""
    return with_tokens(record())


def anchored() -> PairLogps:
    """Two pairs of any kind whose anchors have -7.5 and -3 nats."""
    return margins(1.0, 2.0)._replace(anchor=Side(tensor([-7.5, -3.0], dtype=F64)))


def crossing() -> PairLogps:
    """Three pairs whose policy and reference rank them otherwise.

    logp_w - logp_l is 3, 1, 2 and ref_w - ref_l is 0, 5, 1. Log-ratios are 1, 2, 3 chosen and -2, 6, 2 rejected.
    """
    return pairs([-1.0, -1.0, -1.0], [-4.0, -2.0, -3.0], [-2.0, -3.0, -4.0], [-2.0, -8.0, -5.0])


def one(logp: float, length: float = 1.0) -> Side:
    return Side(tensor([logp], dtype=F64), tensor([length], dtype=F64))


def certain_rejected() -> PairLogps:
    """The model is sure of the rejected answer: its odds are infinite."""
    return PairLogps(one(-1.0), one(0.0))


def certain_chosen() -> PairLogps:
    return PairLogps(one(0.0), one(-1.0))


def unheard_of() -> PairLogps:
    """Two answers of one token that the model would never give."""
    return PairLogps(one(-400.0), one(-500.0))


def logistic(*arguments: float) -> tuple[float, ...]:
    """-log(1 / (1 + exp(-t))) of each, in Python floats."""
    return tuple(log1p(exp(-t)) for t in arguments)


def worked(loss: str, expected: float, rewards: tuple[float, float], **settings: Any) -> Value:
    return Value(loss, (expected,), SPECIFICATION, settings, rewards=rewards)


LN2 = log(2)
CERTAIN = 52 * log(2)  # log-odds of 1 - 2^-52, the number nearest to a certain answer in float64
LESS = log(exp(-1) / (1 - exp(-1)))
SUMS = (0.1, -0.05)  # beta 0.1 times the log-ratios 1.0 and -0.5
MEANS = (0.0125, -0.005)  # beta 0.1 times 1 / 8 and -0.5 / 10

WORKED = [
    worked("dpo", 0.620957, SUMS),
    worked("dpo", 0.635957, SUMS, label_smoothing=0.1),
    worked("robust_dpo", 0.602207, SUMS),
    worked("ipo_sum", 12.25, SUMS),  # (1.5 - 5)^2
    worked("ipo_mean", 23.280625, MEANS),  # (0.125 + 0.05 - 5)^2
    worked("hinge", 0.85, SUMS),
    worked("slic", 1.0, (-10.0, -12.0)),  # 2 nats ahead of 1: only 0.1 * 10
    worked("slic", 1.0, (-10.0, -12.0), delta=3.0, sft_weight=0.0),
    worked("slic", 2.0, (-10.0, -12.0), delta=3.0),
    worked("orpo", 1.322918, (-0.125, -0.12)),
    worked("cpo", 0.598139, (-1.0, -1.2), alpha=0.0),
    worked("cpo", 1.848139, (-1.0, -1.2)),
    worked("cpo", 10.598139, (-1.0, -1.2), alpha=8.0),  # 8 tokens: the NLL summed
    worked("simpo", 1.387335, (-2.5, -2.4), beta=2.0, gamma=1.0),  # 2 * -1.25 and 2 * -1.2
    worked("simpo", 1.701413, (-3.125, -3.0), beta=2.5, gamma=1.375),
    worked("simpo", 3.529750, (-12.5, -12.0), beta=10.0, gamma=3.0),
    worked("simpo", 0.977192, (-0.125, -0.12), beta=0.1, gamma=0.5),
    worked("simpo", 0.695650, (-0.125, -0.12), beta=0.1, gamma=0.0),
    worked("r_dpo", 0.668460, SUMS, alpha=0.05),
    worked("r_dpo", 0.718460, SUMS, alpha=0.1),
    worked("sppo_hard", 36.25, SUMS, beta=0.1),  # (1 - 5)^2 + (-0.5 + 5)^2
    worked("exo", 2.505517, SUMS, label_smoothing=1e-3),
    worked("exo", 0.431388, SUMS, label_smoothing=0.1),
    worked("apo_zero", 0.962523, SUMS),
    worked("apo_down", 0.987549, SUMS),
    worked("aot", 0.620957, SUMS),
    worked("aot_unpaired", 0.620957, SUMS),
    worked("discopop", 0.849338, SUMS, beta=0.1, tau=0.05),
    worked("dpo_mean", 0.684435, MEANS, beta=0.1),
    worked("dpo_mean", 0.671511, (0.03125, -0.0125), beta=0.25),  # TRPA's pair of level 1: anisotropy 2.5
    worked("sft", 1.25, (-1.25, -1.2)),  # 10 nats over 8 tokens
    worked("sft_sum", 10.0, (-10.0, -12.0)),
    # The longer, rejected side has ten tokens of which eight count in full: u' is -0.4, -0.45 and -0.5.
    Value("ld_dpo", (0.625595,), SPECIFICATION, {"alpha": 0.0}, token_record, (0.1, -0.04)),
    Value("ld_dpo", (0.623273,), SPECIFICATION, {"alpha": 0.5}, token_record, (0.1, -0.045)),
    Value("ld_dpo", (0.620957,), SPECIFICATION, {"alpha": 1.0}, token_record, SUMS),
]

PEERS = [
    Value("dpo", (0.693147, 0.313262, 0.126928), "torchtune, test_dpo_loss.py", {}, torchtune),
    Value("hinge", (1.0, 0.0, 0.0), "max(0, 1 - z) of torchtune's margins 0, 1, 2", {}, torchtune),
    Value("dpo", (0.616344, 0.663597, 0.616344, 0.663597), "LLaMA-Factory v1", {}, llama_factory),
    Value("dpo", (0.437488,), "ms-swift issue 10167", {}, ms_swift, (-0.2, -0.8)),
    Value("hinge", (0.4,), "ms-swift issue 10167", {}, ms_swift, (-0.2, -0.8)),
    Value("ipo_sum", (1.0,), "ms-swift issue 10167", {}, ms_swift, (-0.2, -0.8)),
]

REFERENCE = [
    Value("dpo", (LN2,), "-log(1/2)", {"beta": 0.7}, at_reference, (0.0, 0.0)),
    Value("dpo", (LN2,), "-log(1/2)", {"label_smoothing": 0.25}, at_reference, (0.0, 0.0)),
    Value("dpo_mean", (LN2,), "-log(1/2)", {}, at_reference, (0.0, 0.0)),
    Value("robust_dpo", (LN2,), "((1 - e) - e) / (1 - 2e) times ln 2", {}, at_reference, (0.0, 0.0)),
    Value("r_dpo", logistic(-0.1), "two tokens shorter at 0.05 each", {}, at_reference, (0.0, 0.0)),
    Value("ld_dpo", (LN2,), "-log(1/2)", {}, lambda: with_tokens(at_reference()), (0.0, 0.0)),
    Value("discopop", ((LN2 + 1) / 2,), "half ln 2 and half exp(0)", {}, at_reference, (0.0, 0.0)),
    Value("hinge", (1.0,), "max(0, 1 - 0)", {}, at_reference, (0.0, 0.0)),
    Value("ipo_sum", (25.0,), "(1 / 0.2)^2", {}, at_reference, (0.0, 0.0)),
    Value("ipo_mean", (25.0,), "(1 / 0.2)^2", {}, at_reference, (0.0, 0.0)),
    Value("sppo_hard", (500_000.0,), "2 * 500^2", {}, at_reference, (0.0, 0.0)),
    Value("apo_zero", (1.0,), "1/2 + 1/2", {}, at_reference, (0.0, 0.0)),
    Value("apo_down", (1.0,), "1/2 + 1/2", {}, at_reference, (0.0, 0.0)),
    # KL of (1/2, 1/2) to (0.9, 0.1).
    Value("exo", (0.5 * log(5 / 9) + 0.5 * log(5),), "KL", {"label_smoothing": 0.1}, at_reference, (0.0, 0.0)),
    Value("aot", (LN2,), "-log(1/2)", {}, at_reference, (0.0, 0.0)),
    Value("aot_unpaired", (LN2,), "-log(1/2)", {}, at_reference, (0.0, 0.0)),
    Value("simpo", logistic(-0.5), "a margin of 0 and the target 0.5", {}, of_one_mean, (-2.5, -2.5)),
    Value("alphapo", logistic(-0.5), "a margin of 0 and the target 0.5", {}, of_one_mean),
    Value("orpo", (1.25 + 0.1 * LN2,), "NLL, and odds of 1", {}, of_one_mean, (-0.125, -0.125)),
]

# AlphaPO's reward is (1 - p^-alpha) / alpha for p = exp(mean): at alpha 1 it is 1 - exp(1.25) and 1 - exp(1.2) in the
# worked example, at alpha -1 it is exp(-1.25) - 1 and exp(-1.2) - 1.
OTHERS = [
    Value(
        "alphapo",
        logistic(exp(1.2) - exp(1.25) - 0.5),
        "1 - 1/p for p = exp(-1.25) and exp(-1.2)",
        {"beta": 1.0, "gamma": 0.5, "alpha": 1.0},
        rewards=(1 - exp(1.25), 1 - exp(1.2)),
    ),
    Value(
        "alphapo",
        logistic(2 * (exp(-1.25) - exp(-1.2)) - 0.25),
        "p - 1 for the same",
        {"beta": 2.0, "gamma": 0.25, "alpha": -1.0},
        rewards=(2 * exp(-1.25) - 2, 2 * exp(-1.2) - 2),
    ),
    Value("alphapo", logistic(-0.5), "both exponents, 100 and 125, are cut at 80: no margin", {}, unheard_of),
    # Ranks of the policy's 3, 1, 2 are 2, 0, 1; the reference's in order are 0, 1, 5: differences -2, 1, 1.
    Value("aot", logistic(-2.0, 1.0, 1.0), "matched by hand", {"beta": 1.0}, crossing, (1, 2, 3, -2, 6, 2)),
    # Chosen log-ratios 1, 2, 3 have ranks 0, 1, 2; the rejected ones in order are -2, 2, 6: differences 3, 0, -3.
    Value("aot_unpaired", logistic(3.0, 0.0, -3.0), "matched by hand", {"beta": 1.0}, crossing, (1, 2, 3, -2, 6, 2)),
    Value(
        "aot",
        tuple(0.8 * log1p(exp(-t)) + 0.2 * log1p(exp(t)) for t in (-2.0, 1.0, 1.0)),
        "the same, with a fifth of the labels turned",
        {"beta": 1.0, "label_smoothing": 0.2},
        crossing,
    ),
    Value(
        "aot_unpaired",
        tuple(0.8 * log1p(exp(-t)) + 0.2 * log1p(exp(t)) for t in (3.0, 0.0, -3.0)),
        "the same, with a fifth of the labels turned",
        {"beta": 1.0, "label_smoothing": 0.2},
        crossing,
    ),
    Value(
        "orpo",
        (1 + 0.1 * log(1 + exp(CERTAIN - LESS)),),
        "NLL 1, and a rejected answer whose probability is kept 2^-52 below 1",
        record=certain_rejected,
    ),
    Value(
        "orpo", (0.1 * log(1 + exp(LESS - CERTAIN)),), "NLL 0, the same odds on the chosen side", record=certain_chosen
    ),
    Value("goal_sft", (7.5, 3.0), "the NLL of the anchors", {}, anchored, (1.0, 2.0, 0.0, 0.0)),
]

VALUES = [*WORKED, *PEERS, *REFERENCE, *OTHERS]
