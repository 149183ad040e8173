"""A second implementation of every loss, to compare ours with: plain floats, one pair at a time, no tensor.

Written from the papers' formulas and from nothing of `src/`. It is plain where ours must be careful (a logistic
function is `1 / (1 + exp(-t))`, its logarithm is taken afterwards), so it holds for ordinary numbers only. Each
function gives the loss first and then the implicit rewards.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any


@dataclass(frozen=True)
class Answer:
    """One answer with all that any loss may ask about it; `token_*` have one entry a token."""

    token_logp: tuple[float, ...]
    token_ref: tuple[float, ...]
    token_collision: tuple[float, ...]
    score: float
    scores: Mapping[str, float]

    @property
    def logp(self) -> float:
        return sum(self.token_logp)

    @property
    def ref(self) -> float:
        return sum(self.token_ref)

    @property
    def length(self) -> int:
        return len(self.token_logp)

    @property
    def u(self) -> float:
        return self.logp - self.ref

    @property
    def mean_u(self) -> float:
        return self.u / self.length

    @property
    def mean(self) -> float:
        return self.logp / self.length

    def worth(self, goal: float | None) -> float:
        return self.score if goal is None else -abs(self.score - goal)


@dataclass(frozen=True)
class Case:
    """One comparison: the answer that should win, and the other."""

    chosen: Answer
    rejected: Answer
    anchor: Answer
    goal: float | None = None
    baseline: float = 0.0

    @property
    def gap(self) -> float:
        return self.chosen.worth(self.goal) - self.rejected.worth(self.goal)


@dataclass(frozen=True)
class Group:
    """The answers to one prompt."""

    answers: tuple[Answer, ...]
    goal: float | None = None


@dataclass(frozen=True)
class Point:
    """One answer, wanted or not."""

    answer: Answer
    wanted: bool
    baseline: float = 0.0


Numbers = tuple[float, ...]


def sig(t: float) -> float:
    return 1 / (1 + exp(-t))


def lsig(t: float) -> float:
    return log(sig(t))


def smoothed(z: float, share: float) -> float:
    """Cross-entropy of a label that is wrong with probability `share`."""
    return -(1 - share) * lsig(z) - share * lsig(-z)


def bernoulli_kl(p: float, q: float) -> float:
    return p * log(p / q) + (1 - p) * log((1 - p) / (1 - q))


def softmax(values: Sequence[float]) -> list[float]:
    top = max(values)
    parts = [exp(value - top) for value in values]
    return [part / sum(parts) for part in parts]


def dpo(case: Case, *, beta: float = 0.1, label_smoothing: float = 0.0) -> Numbers:
    chosen, rejected = beta * case.chosen.u, beta * case.rejected.u
    return smoothed(chosen - rejected, label_smoothing), chosen, rejected


def dpo_mean(case: Case, *, beta: float = 0.1) -> Numbers:
    chosen, rejected = beta * case.chosen.mean_u, beta * case.rejected.mean_u
    return -lsig(chosen - rejected), chosen, rejected


def robust_dpo(case: Case, *, beta: float = 0.1, label_smoothing: float = 0.1) -> Numbers:
    """The estimate without bias: (1 - e) L(z) + e L(-z) must be -log sig(z) again."""
    z = beta * (case.chosen.u - case.rejected.u)
    e = label_smoothing
    return ((1 - e) * -lsig(z) - e * -lsig(-z)) / (1 - 2 * e), beta * case.chosen.u, beta * case.rejected.u


def r_dpo(case: Case, *, beta: float = 0.1, alpha: float = 0.05) -> Numbers:
    z = beta * (case.chosen.u - case.rejected.u)
    return -lsig(z + alpha * (case.chosen.length - case.rejected.length)), beta * case.chosen.u, beta * case.rejected.u


def ld_dpo(case: Case, *, beta: float = 0.1, alpha: float = 0.5) -> Numbers:
    shared = min(case.chosen.length, case.rejected.length)

    def reward(answer: Answer) -> float:
        ratios = [logp - ref for logp, ref in zip(answer.token_logp, answer.token_ref, strict=True)]
        return beta * (sum(ratios[:shared]) + alpha * sum(ratios[shared:]))

    chosen, rejected = reward(case.chosen), reward(case.rejected)
    return -lsig(chosen - rejected), chosen, rejected


def discopop(case: Case, *, beta: float = 0.05, tau: float = 0.05) -> Numbers:
    z = beta * (case.chosen.u - case.rejected.u)
    share = sig(z / tau)
    return (1 - share) * -lsig(z) + share * exp(-z), beta * case.chosen.u, beta * case.rejected.u


def simpo(case: Case, *, beta: float = 2.0, gamma: float = 0.5) -> Numbers:
    chosen, rejected = beta * case.chosen.mean, beta * case.rejected.mean
    return -lsig(chosen - rejected - gamma), chosen, rejected


def cpo(case: Case, *, beta: float = 0.1, alpha: float = 1.0) -> Numbers:
    chosen, rejected = beta * case.chosen.logp, beta * case.rejected.logp
    return -lsig(chosen - rejected) - alpha * case.chosen.mean, chosen, rejected


def orpo(case: Case, *, beta: float = 0.1) -> Numbers:
    """Odds of probabilities by the geometric mean over tokens."""

    def odds(answer: Answer) -> float:
        p = exp(answer.mean)
        return p / (1 - p)

    loss = -case.chosen.mean - beta * lsig(log(odds(case.chosen) / odds(case.rejected)))
    return loss, beta * case.chosen.mean, beta * case.rejected.mean


def slic(case: Case, *, delta: float = 1.0, sft_weight: float = 0.1) -> Numbers:
    rank = max(0.0, delta - case.chosen.logp + case.rejected.logp)
    return rank - sft_weight * case.chosen.logp, case.chosen.logp, case.rejected.logp


def alphapo(case: Case, *, beta: float = 2.0, gamma: float = 0.5, alpha: float = 0.25) -> Numbers:
    """Reward `beta (1 - p^-alpha) / alpha` of the mean-token probability p; beta log p where alpha is 0."""

    def reward(answer: Answer) -> float:
        p = exp(answer.mean)
        return beta * (1 - p**-alpha) / alpha if alpha else beta * answer.mean

    chosen, rejected = reward(case.chosen), reward(case.rejected)
    return -lsig(chosen - rejected - gamma), chosen, rejected


def hinge(case: Case, *, beta: float = 0.1) -> Numbers:
    chosen, rejected = beta * case.chosen.u, beta * case.rejected.u
    return max(0.0, 1 - (chosen - rejected)), chosen, rejected


def ipo_sum(case: Case, *, beta: float = 0.1) -> Numbers:
    return (case.chosen.u - case.rejected.u - 0.5 / beta) ** 2, beta * case.chosen.u, beta * case.rejected.u


def ipo_mean(case: Case, *, beta: float = 0.1) -> Numbers:
    chosen, rejected = case.chosen.mean_u, case.rejected.mean_u
    return (chosen - rejected - 0.5 / beta) ** 2, beta * chosen, beta * rejected


def sppo_hard(case: Case, *, beta: float = 1e-3) -> Numbers:
    chosen, rejected = case.chosen.u, case.rejected.u
    return (chosen - 0.5 / beta) ** 2 + (rejected + 0.5 / beta) ** 2, beta * chosen, beta * rejected


def apo_zero(case: Case, *, beta: float = 0.1) -> Numbers:
    chosen, rejected = beta * case.chosen.u, beta * case.rejected.u
    return (1 - sig(chosen)) + sig(rejected), chosen, rejected


def apo_down(case: Case, *, beta: float = 0.1) -> Numbers:
    chosen, rejected = beta * case.chosen.u, beta * case.rejected.u
    return sig(chosen) + (1 - sig(chosen - rejected)), chosen, rejected


def exo(case: Case, *, beta: float = 0.1, label_smoothing: float = 1e-3) -> Numbers:
    chosen, rejected = beta * case.chosen.u, beta * case.rejected.u
    return bernoulli_kl(sig(chosen - rejected), 1 - label_smoothing), chosen, rejected


def sft(case: Case) -> Numbers:
    return -case.chosen.mean, case.chosen.mean, case.rejected.mean


def sft_sum(case: Case) -> Numbers:
    return -case.chosen.logp, case.chosen.logp, case.rejected.logp


def goal_sft(case: Case) -> Numbers:
    return -case.anchor.logp, case.chosen.logp, case.rejected.logp


def rpo_squared(case: Case, *, beta: float = 0.1, eta: float = 1.0) -> Numbers:
    chosen, rejected = beta * case.chosen.u, beta * case.rejected.u
    return (chosen - rejected - eta * case.gap) ** 2, chosen, rejected


def rpo_backward_kl(case: Case, *, beta: float = 0.1, eta: float = 1.0) -> Numbers:
    chosen, rejected = beta * case.chosen.u, beta * case.rejected.u
    return bernoulli_kl(sig(eta * case.gap), sig(chosen - rejected)), chosen, rejected


def rpo_forward_kl(case: Case, *, beta: float = 0.1, eta: float = 1.0) -> Numbers:
    chosen, rejected = beta * case.chosen.u, beta * case.rejected.u
    return bernoulli_kl(sig(chosen - rejected), sig(eta * case.gap)), chosen, rejected


def odpo(case: Case, *, beta: float = 0.1, alpha: float = 1.0) -> Numbers:
    chosen, rejected = beta * case.chosen.u, beta * case.rejected.u
    return -lsig(chosen - rejected - alpha * log(case.gap)) if case.gap else 0.0, chosen, rejected


def margin_dpo(case: Case, *, beta: float = 0.1, alpha: float = 1.0) -> Numbers:
    chosen, rejected = beta * case.chosen.u, beta * case.rejected.u
    return -lsig(chosen - rejected - alpha * case.gap), chosen, rejected


def modpo(case: Case, *, beta: float = 0.1, weight: float = 0.5, margins: Mapping[str, float] | None = None) -> Numbers:
    """The reward of the labelled objective is what the others leave of the whole: (beta u - sum w_i r_i) / w_k."""
    shares = {"score": 1 - weight} if margins is None else margins

    def reward(answer: Answer) -> float:
        return (beta * answer.u - sum(share * worth(answer, name) for name, share in shares.items())) / weight

    def worth(answer: Answer, name: str) -> float:
        return answer.worth(case.goal) if name == "score" else answer.scores[name]

    return -lsig(reward(case.chosen) - reward(case.rejected)), beta * case.chosen.u, beta * case.rejected.u


def sppo_one(answer: Answer, beta: float) -> float:
    return (answer.u - (answer.score - 0.5) / beta) ** 2


def sppo(case: Case, *, beta: float = 1e-3) -> Numbers:
    return sppo_one(case.chosen, beta) + sppo_one(case.rejected, beta), beta * case.chosen.u, beta * case.rejected.u


def sppo_group(group: Group, *, beta: float = 1e-3) -> Numbers:
    return (
        sum(sppo_one(answer, beta) for answer in group.answers),
        *(beta * answer.u for answer in group.answers),
    )


def infonca_group(group: Group, *, beta: float = 0.01, alpha: float = 1.0) -> Numbers:
    wanted = softmax([answer.worth(group.goal) / alpha for answer in group.answers])
    rewards = [beta * answer.u for answer in group.answers]
    return -sum(q * log(p) for q, p in zip(wanted, softmax(rewards), strict=True)), *rewards


def nca_group(group: Group, *, beta: float = 0.01, alpha: float = 1.0) -> Numbers:
    wanted = softmax([answer.worth(group.goal) / alpha for answer in group.answers])
    rewards = [beta * answer.u for answer in group.answers]
    each = [-q * lsig(r) - lsig(-r) / len(rewards) for q, r in zip(wanted, rewards, strict=True)]
    return sum(each), *rewards


def rrhf_group(group: Group, *, sft_weight: float = 1.0) -> Numbers:
    worth = [answer.worth(group.goal) for answer in group.answers]
    mean = [answer.mean for answer in group.answers]
    total = 0.0
    for i in range(len(worth)):
        for j in range(len(worth)):
            if worth[i] < worth[j]:
                total += max(0.0, mean[i] - mean[j])
    return total - sft_weight * group.answers[worth.index(max(worth))].logp, *mean


def kto_one(u: float, wanted: bool, baseline: float, beta: float, desirable: float, undesirable: float) -> float:
    zero = max(baseline, 0.0)
    return desirable * (1 - sig(beta * (u - zero))) if wanted else undesirable * (1 - sig(beta * (zero - u)))


def kto_point(
    point: Point, *, beta: float = 0.1, desirable_weight: float = 1.0, undesirable_weight: float = 1.0
) -> Numbers:
    u = point.answer.u
    return kto_one(u, point.wanted, point.baseline, beta, desirable_weight, undesirable_weight), beta * u


def bco_point(point: Point, *, beta: float = 0.1) -> Numbers:
    reward = beta * point.answer.u
    above = reward - point.baseline
    return -lsig(above) if point.wanted else -lsig(-above), reward


def apo_zero_point(point: Point, *, beta: float = 0.1) -> Numbers:
    reward = beta * point.answer.u
    return 1 - sig(reward) if point.wanted else sig(reward), reward


def sft_point(point: Point) -> Numbers:
    return -point.answer.mean if point.wanted else 0.0, point.answer.mean


def nca_pair(case: Case, *, beta: float = 0.01) -> Numbers:
    chosen, rejected = beta * case.chosen.u, beta * case.rejected.u
    return -lsig(chosen) - 0.5 * lsig(-chosen) - 0.5 * lsig(-rejected), chosen, rejected


def grouped(loss: Callable[..., Numbers]) -> Callable[..., Numbers]:
    """A group loss of a pair: the group of its two answers."""
    return lambda case, **settings: loss(Group((case.chosen, case.rejected), case.goal), **settings)


def halves(loss: Callable[..., Numbers], weight: float) -> Callable[..., Numbers]:
    """A point loss of a pair: its wanted and its unwanted half, added and weighed."""

    def pair(case: Case, **settings: Any) -> Numbers:
        (good, chosen), (bad, rejected) = (
            loss(Point(answer, wanted, case.baseline), **settings)
            for answer, wanted in ((case.chosen, True), (case.rejected, False))
        )
        return weight * (good + bad), chosen, rejected

    return pair


def each(loss: Callable[..., Numbers]) -> Callable[..., list[Numbers]]:
    """A loss of one pair as one of a batch."""
    return lambda cases, **settings: [loss(case, **settings) for case in cases]


def ranks(values: Sequence[float]) -> list[int]:
    order = sorted(values)
    return [order.index(value) for value in values]


def aot(cases: Sequence[Case], *, beta: float = 0.1, label_smoothing: float = 0.0) -> list[Numbers]:
    """The k-th policy margin against the k-th reference margin; the loss of rank k goes to the pair of that rank."""
    policy = [case.chosen.logp - case.rejected.logp for case in cases]
    reference = sorted(case.chosen.ref - case.rejected.ref for case in cases)
    return [
        (smoothed(beta * (mine - reference[rank]), label_smoothing), beta * case.chosen.u, beta * case.rejected.u)
        for case, mine, rank in zip(cases, policy, ranks(policy), strict=True)
    ]


def aot_unpaired(cases: Sequence[Case], *, beta: float = 0.1, label_smoothing: float = 0.0) -> list[Numbers]:
    """The k-th chosen log-ratio against the k-th rejected one; rank by the chosen side."""
    chosen = [case.chosen.u for case in cases]
    rejected = sorted(case.rejected.u for case in cases)
    return [
        (smoothed(beta * (mine - rejected[rank]), label_smoothing), beta * case.chosen.u, beta * case.rejected.u)
        for case, mine, rank in zip(cases, chosen, ranks(chosen), strict=True)
    ]


PAIRS: dict[str, Callable[..., list[Numbers]]] = {
    **{
        loss.__name__: each(loss)
        for loss in (
            alphapo, apo_down, apo_zero, cpo, discopop, dpo, dpo_mean, exo, goal_sft, hinge, ipo_mean, ipo_sum, ld_dpo,
            margin_dpo, modpo, nca_pair, odpo, orpo, r_dpo, robust_dpo, rpo_backward_kl, rpo_forward_kl, rpo_squared,
            sft, sft_sum, simpo, slic, sppo, sppo_hard,
        )
    },
    "aot": aot,
    "aot_unpaired": aot_unpaired,
    "apo_zero_unpaired": each(halves(apo_zero_point, 0.5)),
    "bco": each(halves(bco_point, 1.0)),
    "infonca": each(grouped(infonca_group)),
    "kto": each(halves(kto_point, 0.5)),
    "nca": each(grouped(nca_group)),
    "rrhf": each(grouped(rrhf_group)),
}  # fmt: skip
GROUPS: dict[str, Callable[..., Numbers]] = {
    "infonca": infonca_group, "nca": nca_group, "rrhf": rrhf_group, "sppo": sppo_group,
}  # fmt: skip
POINTS: dict[str, Callable[..., Numbers]] = {
    "apo_zero_unpaired": apo_zero_point, "bco": bco_point, "kto": kto_point, "sft": sft_point,
}  # fmt: skip

# f'(t) up to constants, of t = pi / ref, from arXiv:2309.16240; the log-ratio takes the place of log t.
DIVERGENCES: dict[str, Callable[..., float]] = {
    "reverse_kl": lambda u: u,
    "forward_kl": lambda u: -exp(-u),
    "js_divergence": lambda u: log(2 * exp(u) / (1 + exp(u))),
    "alpha_divergence": lambda u, alpha=0.5: (1 - exp(u) ** -alpha) / alpha,
}


def diverged_dpo(case: Case, divergence: str, *, beta: float = 0.1, **settings: float) -> Numbers:
    """DPO under another divergence than reverse KL."""
    chosen, rejected = (beta * DIVERGENCES[divergence](answer.u, **settings) for answer in (case.chosen, case.rejected))
    return -lsig(chosen - rejected), chosen, rejected


def wpo(case: Case, *, max_weight: float = 1.0) -> float:
    """The weight of a pair by sampled alignment: product over sides of exp(mean of log p - log sum p^2)."""

    def side(answer: Answer) -> float:
        tokens = zip(answer.token_logp, answer.token_collision, strict=True)
        return exp(sum(logp - collision for logp, collision in tokens) / answer.length)

    return min(side(case.chosen) * side(case.rejected), max_weight)


def wpo_plain(case: Case) -> float:
    return exp(case.chosen.mean) * exp(case.rejected.mean)
