"""Known values of the losses that look at scores, groups and single answers; read by test_worked_values.py.

"Specification" is the table of the worked example, computed there in numpy. Every other number is arithmetic on the
worked example (u = 1.0 and -0.5, lengths 8 and 10, scores 9 and 6) that can be followed by hand.
"""

from dataclasses import replace
from math import exp, log, log1p

import torch
from torch import tensor

from losses.worked_example import F64, Value, group, points, record
from pairwright.losses import GroupLogps, PairLogps, PointLogps, Side

SPECIFICATION = "specification, table of the worked example"
REWARDS = (0.1, -0.05)
"""0.1 times the log-ratios of the worked example."""


def softplus(value: float) -> float:
    """`-log_sigmoid(-value)`."""
    return log1p(exp(value))


def odds(value: float) -> float:
    return 1 / (1 + exp(-value))


def bernoulli_kl(p: float, q: float) -> float:
    """KL(Bernoulli(p) || Bernoulli(q)), from the definition."""
    return p * log(p / q) + (1 - p) * log((1 - p) / (1 - q))


def asked_for(goal: float) -> PairLogps:
    """The worked example under a goal: at 6 its gap is |6 - 6| - |9 - 6| = -3."""
    return record()._replace(goal=tensor([goal], dtype=F64))


def turned() -> PairLogps:
    """The worked example as relabelling turns it for the goal 6: the answer scored 6 is chosen, and the gap is 3."""
    pair = record()
    return PairLogps(pair.rejected, pair.chosen, goal=tensor([6.0], dtype=F64))


def scored(chosen: float, rejected: float) -> PairLogps:
    """The worked example with other scores."""
    pair = record()
    sides = (
        replace(side, score=tensor([value], dtype=F64))
        for side, value in zip(pair[:2], (chosen, rejected), strict=True)
    )
    return PairLogps(*sides)  # type: ignore[arg-type]


def named() -> PairLogps:
    """The worked example of the margins: another score of 0.2 and 0.5."""
    pair = record()
    sides = (
        replace(side, scores={"safety": tensor([value], dtype=F64)})
        for side, value in zip(pair[:2], (0.2, 0.5), strict=True)
    )
    return PairLogps(*sides)  # type: ignore[arg-type]


def three(*, present: bool = True, goal: float | None = None) -> GroupLogps:
    """The worked example and a third answer: logp -20, ref -17 (u = -3), 4 tokens, score 7."""
    pair = group().answers
    more = {"logp": -20.0, "length": 4.0, "ref": -17.0, "score": 7.0}
    fields = {
        name: torch.cat([getattr(pair, name), tensor([[value]], dtype=F64)], dim=1) for name, value in more.items()
    }
    there = None if present else tensor([[True, True, False]])
    return GroupLogps(Side(**fields), there, None if goal is None else tensor([goal], dtype=F64))


def above(baseline: float, *, paired: bool = False) -> PairLogps | PointLogps:
    """The worked example with a baseline."""
    if paired:
        return record()._replace(baseline=tensor(baseline, dtype=F64))
    return points()._replace(baseline=tensor(baseline, dtype=F64))


def one_tied() -> PairLogps:
    """The worked example twice; in the first pair both answers have the same score."""
    chosen, rejected = ((-10.0, 8.0, (6.0, 9.0)), (-12.0, 10.0, (6.0, 6.0)))
    return PairLogps(*(
        Side(tensor([logp] * 2, dtype=F64), tensor([length] * 2, dtype=F64), score=tensor(score, dtype=F64))
        for logp, length, score in (chosen, rejected)
    ))  # fmt: skip


def of_two_one_and_none() -> GroupLogps:
    """The worked example, its first answer alone, and nothing; absent places hold NaN."""
    there = tensor([[True, True], [True, False], [False, False]])
    answers = group().answers.mapped(lambda value: value.expand(3, 2).masked_fill(~there, torch.nan))
    return GroupLogps(answers, there)


def two_scales() -> PairLogps:
    """The worked example twice, by its own scores and by a hundredth of them."""
    pair = record()
    factor = tensor([1.0, 0.01], dtype=F64)
    sides = (side.mapped(lambda value: value.expand(2)) for side in pair[:2])
    return PairLogps(*(replace(side, score=side.known("score") * factor) for side in sides))


def infonca_of_three(worths: list[float], rewards: list[float], alpha: float) -> float:
    """Cross-entropy of two softmaxes, in Python floats."""
    total = sum(exp(worth / alpha) for worth in worths)
    shares = sum(exp(reward) for reward in rewards)
    return -sum(exp(w / alpha) / total * log(exp(r) / shares) for w, r in zip(worths, rewards, strict=True))


def nca_of_three(worths: list[float], rewards: list[float], alpha: float) -> float:
    total = sum(exp(worth / alpha) for worth in worths)
    terms = zip(worths, rewards, strict=True)
    return -sum(exp(w / alpha) / total * log(odds(r)) + log(odds(-r)) / len(worths) for w, r in terms)


VALUES: list[Value] = [
    # Reward-aware preference optimisation: a = 0.15, b = 3 eta.
    Value("rpo_squared", (8.1225,), "(0.15 - 3)**2", rewards=REWARDS),
    Value("rpo_squared", (0.0225,), "(0.3 - 0.15)**2", {"beta": 0.2, "eta": 0.05}, rewards=(0.2, -0.1)),
    Value("rpo_squared", (9.9225,), "(0.15 + 3)**2: under the goal 6 the gap is -3", record=lambda: asked_for(6.0)),
    Value("rpo_squared", (9.9225,), "turned round, a = -0.15 and b = 3: (-0.15 - 3)**2", record=turned),
    Value("rpo_backward_kl", (bernoulli_kl(odds(3.0), odds(0.15)),), "the definition", rewards=REWARDS),
    Value("rpo_backward_kl", (0.0,), "a = b at eta 0.05", {"eta": 0.05}),
    Value("rpo_backward_kl", (bernoulli_kl(odds(1.5), odds(0.3)),), "the definition", {"beta": 0.2, "eta": 0.5}),
    Value("rpo_forward_kl", (bernoulli_kl(odds(0.15), odds(3.0)),), "the definition", rewards=REWARDS),
    Value("rpo_forward_kl", (0.0,), "a = b at eta 0.05", {"eta": 0.05}),
    Value("rpo_forward_kl", (bernoulli_kl(odds(0.3), odds(1.5)),), "the definition", {"beta": 0.2, "eta": 0.5}),
    # Offsets and margins.
    Value("odpo", (1.275956,), SPECIFICATION, rewards=REWARDS),
    Value("odpo", (softplus(-0.15 + 0.5 * log(3)),), "alpha 1/2 of log 3", {"alpha": 0.5}),
    Value("odpo", (0.620957,), "a gap of 1 has no offset: the value of dpo", record=lambda: scored(7.0, 6.0)),
    Value("odpo", (0.0,), "a tie costs nothing", record=lambda: scored(6.0, 6.0)),
    Value("margin_dpo", (2.906233,), SPECIFICATION, rewards=REWARDS),
    Value("margin_dpo", (softplus(-0.15 + 0.75),), "alpha 1/4 of 3", {"alpha": 0.25}),
    Value("margin_dpo", (softplus(-0.15 - 3),), "under the goal 6 the gap is -3", record=lambda: asked_for(6.0)),
    *(
        Value("modpo", (value,), SPECIFICATION, {"weight": w, "margins": {"safety": 1 - w}}, named, REWARDS)
        for w, value in ((0.9, 0.598139), (0.5, 0.437488), (0.1, 0.014884))
    ),
    Value("modpo", (softplus(-(0.15 - 1.5) / 0.5),), "half of the gap 3 of the main score, over 1/2"),
    Value(
        "modpo",
        (softplus(-(0.15 - 0.1 * 3 + 2 * 0.3) / 0.8),),
        "two margins: 0.1 of the gap 3 and 2 of the gap -0.3",
        {"weight": 0.8, "margins": {"score": 0.1, "safety": 2.0}},
        named,
    ),
    # Win probabilities: at beta 0.1 the targets are 10 * (P - 1/2).
    Value(
        "sppo",
        (9.25,),
        "targets 4 and -1: (1 - 4)**2 + (-0.5 + 1)**2",
        {"beta": 0.1},
        lambda: scored(0.9, 0.4),
        REWARDS,
    ),
    Value("sppo", (36.25,), SPECIFICATION + ", sppo_hard", {"beta": 0.1}, lambda: scored(1.0, 0.0)),
    Value(
        "sppo",
        (10.25,),
        "a third answer that wins half of the time, at u = 1: 9.25 + 1",
        {"beta": 0.1},
        lambda: GroupLogps(
            Side(
                logp=tensor([[-10.0, -12.0, -4.0]], dtype=F64),
                ref=tensor([[-11.0, -11.5, -5.0]], dtype=F64),
                score=tensor([[0.9, 0.4, 0.5]], dtype=F64),
            )
        ),
        (0.1, -0.05, 0.1),
    ),
    # Groups: the rewards of the third answer are 0.1 * -3.
    Value("infonca", (0.628071,), SPECIFICATION, {"beta": 0.1}, rewards=REWARDS),
    Value("infonca", (0.628071,), SPECIFICATION + ", as a group", {"beta": 0.1}, group, REWARDS),
    Value(
        "infonca",
        (infonca_of_three([9.0, 6.0, 7.0], [0.1, -0.05, -0.3], 2.0),),
        "cross-entropy of two softmaxes",
        {"beta": 0.1, "alpha": 2.0},
        three,
        (0.1, -0.05, -0.3),
    ),
    Value(
        "infonca",
        (infonca_of_three([-2.0, -1.0, 0.0], [0.1, -0.05, -0.3], 2.0),),
        "under the goal 7 the worths are -2, -1 and 0",
        {"beta": 0.1, "alpha": 2.0},
        lambda: three(goal=7.0),
    ),
    Value("infonca", (0.628071,), "without the third", {"beta": 0.1}, lambda: three(present=False), (0.1, -0.05, 0.0)),
    Value("nca", (1.354337,), SPECIFICATION, {"beta": 0.1}, rewards=REWARDS),
    Value(
        "nca",
        (nca_of_three([9.0, 6.0, 7.0], [0.1, -0.05, -0.3], 2.0),),
        "the formula, in Python floats",
        {"beta": 0.1, "alpha": 2.0},
        three,
        (0.1, -0.05, -0.3),
    ),
    Value("nca", (1.354337,), "without the third", {"beta": 0.1}, lambda: three(present=False), (0.1, -0.05, 0.0)),
    Value("infonca", (0.628071, 0.0, 0.0), "one answer has all", {"beta": 0.1}, of_two_one_and_none),
    Value("nca", (1.354337, softplus(0.1) + softplus(-0.1), 0.0), "q = 1/K = 1", {"beta": 0.1}, of_two_one_and_none),
    Value("rrhf", (10.05, 10.0, 0.0), "no ranking of one; 10 nats", record=of_two_one_and_none),
    # One-hot targets, though 9 / alpha overflows: dpo and nca_pair.
    Value("infonca", (0.620957, 0.620957), SPECIFICATION + ", dpo", {"beta": 0.1, "alpha": 1e-308}, two_scales),
    Value("nca", (1.350825, 1.350825), SPECIFICATION + ", nca_pair", {"beta": 0.1, "alpha": 1e-308}, two_scales),
    Value("rrhf", (10.05,), SPECIFICATION, rewards=(-1.25, -1.2)),
    Value("rrhf", (0.05,), SPECIFICATION + ", its ranking part", {"sft_weight": 0.0}),
    Value("rrhf", (12.0,), "under the goal 6 the other is best, and the order is right", record=lambda: asked_for(6.0)),
    Value("rrhf", (11.0,), "tied: no ranking, and both are best: (10 + 12) / 2", record=lambda: scored(6.0, 6.0)),
    Value("rrhf", (11.0, 10.05), "a tie in one row leaves the other alone: (10 + 12) / 2, 0.05 + 10", record=one_tied),
    Value(
        "rrhf",
        (10.05,),
        "means -1.25, -1.2 and -5 by scores 9, 6 and 7: (6, 9) wrong by 0.05, (6, 7) by 3.8, (7, 9) right",
        {"sft_weight": 1.0},
        lambda: three(present=False),
        (-1.25, -1.2, 0.0),
    ),
    Value("rrhf", (13.85,), "0.05 + 3.8 + 10", record=three, rewards=(-1.25, -1.2, -5.0)),
    # Single answers: the chosen one wanted, the rejected one not.
    Value("kto", (0.481262,), SPECIFICATION, rewards=REWARDS),
    Value("kto", (0.475021, 0.487503), SPECIFICATION, record=points, rewards=REWARDS),
    Value("kto", (0.487503, 0.475021), SPECIFICATION + ", z0 = 0.5", record=lambda: above(0.5)),
    Value("kto", (0.481262,), "mean of the two", record=lambda: above(0.5, paired=True)),
    Value("kto", (0.475021, 0.487503), "a baseline below 0 is 0", record=lambda: above(-3.0)),
    Value(
        "kto",
        (2 * 0.475021, 0.5 * 0.487503),
        "twice and half",
        {"desirable_weight": 2.0, "undesirable_weight": 0.5},
        points,
    ),
    Value("apo_zero_unpaired", (0.481262,), SPECIFICATION + ", kto with z0 = 0", rewards=REWARDS),
    Value("apo_zero_unpaired", (0.475021, 0.487503), SPECIFICATION + ", kto with z0 = 0", record=points),
    Value("apo_zero_unpaired", (0.962523 / 2,), SPECIFICATION + ", half of apo_zero"),
    Value("bco", (1.312856,), SPECIFICATION + ", d = 0", rewards=REWARDS),
    Value("bco", (1.312700,), SPECIFICATION + ", d = 0.025", record=lambda: above(0.025, paired=True)),
    Value("bco", (0.656350, 0.656350), SPECIFICATION + ", both 0.075 from d", record=lambda: above(0.025)),
    Value("bco", (softplus(-0.1), softplus(-0.05)), "0.1 and -0.05 from 0", record=points, rewards=REWARDS),
    Value("nca_pair", (1.350825,), SPECIFICATION, {"beta": 0.1}, rewards=REWARDS),
]
