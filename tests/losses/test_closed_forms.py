"""What the losses converge to on a whole population, where that is known in closed form: see tabular.py.

Each expected policy is derived in the docstring of its test. `c` is a constant of the prompt, which a policy that adds
up to 1 fixes. The population weighs an ordered pair (i, j) by `drawn_i * drawn_j * P(i beats j)`, so a loss of a margin
that is strictly convex and can reach `P = sigmoid(margin)` on every pair rests there, whatever was drawn.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import exp, log
from typing import Any

import pytest
import torch
from torch import Tensor, tensor

from losses.tabular import (
    F64,
    best_of_groups,
    best_of_pairs,
    bradley_terry,
    duel,
    flipped,
    kl,
    normalised,
    population,
    search,
    tilted,
    world,
)
from pairwright.losses import DIVERGENCES, LOSSES, WEIGHTINGS, PairLogps, Side, diverged, weighted

HERE = world()


def assert_same_policy(found: Tensor, expected: Tensor) -> None:
    assert (found - expected).abs().max().item() < 1e-3


def bound(name: str, **settings: Any) -> Callable[..., Any]:
    return partial(LOSSES[name], **settings)


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_dpo_finds_the_tilted_reference(beta: float) -> None:
    """sigmoid(beta (u_i - u_j)) = sigmoid(r_i - r_j), so u = r / beta + c: arXiv:2305.18290, eq. 4."""
    assert_same_policy(best_of_pairs(bound("dpo", beta=beta), HERE), tilted(HERE.reference, HERE.reward / beta))


def test_robust_dpo_finds_it_through_flipped_labels_where_smoothing_does_not() -> None:
    """Its expectation over flips is the clean loss. cDPO fits labels that are flipped once more than they were."""
    noisy = flipped(HERE.wins, 0.2)
    optimum = tilted(HERE.reference, HERE.reward / 0.5)
    assert_same_policy(best_of_pairs(bound("robust_dpo", beta=0.5, label_smoothing=0.2), HERE, noisy), optimum)
    for wins in (HERE.wins, noisy):
        smoothed = best_of_pairs(bound("dpo", beta=0.5, label_smoothing=0.2), HERE, wins)
        assert (smoothed - optimum).abs().max().item() > 0.3


def test_with_noisy_labels_robust_dpo_ends_nearer_to_the_optimum_than_dpo() -> None:
    """A fifth of the labels turned; also where the share of flips is believed to be 0.1 and not 0.2."""
    noisy = flipped(HERE.wins, 0.2)
    optimum = tilted(HERE.reference, HERE.reward / 0.5)
    plain = kl(optimum, best_of_pairs(bound("dpo", beta=0.5), HERE, noisy))
    believed = {e: best_of_pairs(bound("robust_dpo", beta=0.5, label_smoothing=e), HERE, noisy) for e in (0.1, 0.2)}
    assert kl(optimum, believed[0.2]) < 1e-6
    assert kl(optimum, believed[0.1]) < plain / 2


@pytest.mark.parametrize("smoothing", [0.1, 0.3])
def test_smoothed_dpo_fits_the_smoothed_labels(smoothing: float) -> None:
    """Two answers that win with p: sigmoid(z) = (1 - e) p + e (1 - p); log((1 - e) / e) at p = 1."""
    for p in (0.9, 1.0):
        here, wins = duel(p)
        ratio = best_of_pairs(bound("dpo", beta=0.5, label_smoothing=smoothing), here, wins) - here.reference
        share = (1 - smoothing) * p + smoothing * (1 - p)
        assert 0.5 * (ratio[0, 0] - ratio[0, 1]).item() == pytest.approx(log(share / (1 - share)), abs=1e-3)


def test_exo_rests_at_the_weighed_log_odds_of_its_target() -> None:
    """p KL(s, 1 - e) + (1 - p) KL(s, e) is least at logit(s) = (2 p - 1) log((1 - e) / e), by its slope in s."""
    for p, e in ((1.0, 0.1), (0.9, 0.1), (0.7, 0.3)):
        here, wins = duel(p)
        ratio = best_of_pairs(bound("exo", beta=0.5, label_smoothing=e), here, wins) - here.reference
        expected = (2 * p - 1) * log((1 - e) / e)
        assert 0.5 * (ratio[0, 0] - ratio[0, 1]).item() == pytest.approx(expected, abs=1e-3)


def squares(wins: Tensor, drawn: Tensor, beta: float) -> Tensor:
    """Potentials h that minimise `sum_ij drawn_i drawn_j (h_i - h_j - T_ij)**2`, `T = (P(i>j) - P(j>i)) / (2 beta)`.

    p (D - t)^2 + (1 - p) (D + t)^2 with t = 1 / (2 beta) is (D - (2 p - 1) t)^2 up to a constant. With weights that are
    products, setting the slope in h_i to zero gives `h_i = sum_j drawn_j T_ij` up to c.
    """
    return torch.einsum("pij,pj->pi", (wins - wins.transpose(1, 2)) / (2 * beta), drawn)


def test_ipo_on_sums_finds_the_projection_of_its_targets() -> None:
    expected = tilted(HERE.reference, squares(HERE.wins, HERE.drawn, 0.2))
    assert_same_policy(best_of_pairs(bound("ipo_sum", beta=0.2), HERE), expected)


def test_ipo_on_means_finds_the_same_potentials_in_nats_a_token() -> None:
    """u_i / length_i = h_i + c."""
    height = squares(HERE.wins, HERE.drawn, 2.0)
    expected = normalised(lambda c: HERE.reference + HERE.length * (height + c), -50.0, 50.0)
    assert_same_policy(best_of_pairs(bound("ipo_mean", beta=2.0), HERE), expected)


def test_ipo_stops_at_a_finite_margin() -> None:
    """Two answers, p = 0.9, beta 0.1: D = (2 p - 1) / (2 beta) = 4."""
    here, wins = duel(0.9)
    ratio = best_of_pairs(bound("ipo_sum", beta=0.1), here, wins) - here.reference
    assert (ratio[0, 0] - ratio[0, 1]).item() == pytest.approx(4.0, abs=1e-3)


def test_dpo_on_means_tilts_each_token() -> None:
    """u_i / length_i = r_i / beta + c."""
    expected = normalised(lambda c: HERE.reference + HERE.length * (HERE.reward / 5.0 + c), -50.0, 50.0)
    assert_same_policy(best_of_pairs(bound("dpo_mean", beta=5.0), HERE), expected)


@pytest.mark.parametrize(("name", "settings"), [("simpo", {"gamma": 0.0}), ("alphapo", {"gamma": 0.0, "alpha": 0.0})])
def test_simpo_without_a_target_margin_forgets_the_reference(name: str, settings: dict[str, float]) -> None:
    """logp_i / length_i = r_i / beta + c."""
    expected = normalised(lambda c: HERE.length * (HERE.reward / 5.0 + c), -50.0, 50.0)
    assert_same_policy(best_of_pairs(bound(name, beta=5.0, **settings), HERE), expected)


def test_alphapo_fits_its_own_reward() -> None:
    """(1 - P_i^-alpha) / alpha = r_i / beta + c with P = exp(logp / length), so logp = -length log(1 - a y) / a."""
    alpha, beta = 0.5, 5.0
    highest = 1 / alpha - HERE.reward.max(dim=1, keepdim=True).values / beta - 1e-12

    def logp(c: Tensor) -> Tensor:
        return -HERE.length * (1 - alpha * (HERE.reward / beta + torch.minimum(c, highest))).log() / alpha

    expected = normalised(logp, -1e6, 10.0)
    assert_same_policy(best_of_pairs(bound("alphapo", beta=beta, gamma=0.0, alpha=alpha), HERE), expected)


def test_a_target_margin_sharpens_simpo() -> None:
    """Two answers, x = beta (a_1 - a_2): p sigmoid(gamma - x) = (1 - p) sigmoid(gamma + x), a root by halving."""
    p, gamma = 0.7, 1.5
    here, wins = duel(p)
    found = best_of_pairs(bound("simpo", beta=2.0, gamma=gamma), here, wins) / here.length
    low, high = 0.0, 50.0
    for _ in range(200):
        x = (low + high) / 2
        short = p / (1 + exp(x - gamma)) > (1 - p) / (1 + exp(-x - gamma))
        low, high = (x, high) if short else (low, x)
    assert low > log(p / (1 - p)) + 0.3  # more than it is without gamma
    assert 2.0 * (found[0, 0] - found[0, 1]).item() == pytest.approx(low, abs=1e-3)


def test_the_length_term_of_r_dpo_takes_its_price_off_the_reward() -> None:
    """beta (u_i - u_j) + alpha (length_i - length_j) = r_i - r_j, so u = (r - alpha length) / beta + c."""
    expected = tilted(HERE.reference, (HERE.reward - 0.1 * HERE.length) / 0.5)
    assert_same_policy(best_of_pairs(bound("r_dpo", beta=0.5, alpha=0.1), HERE), expected)


def test_cpo_without_its_likelihood_term_is_dpo_with_a_uniform_reference() -> None:
    """logp = r / beta + c."""
    expected = tilted(torch.zeros_like(HERE.reference), HERE.reward / 0.5)
    assert_same_policy(best_of_pairs(bound("cpo", beta=0.5, alpha=0.0), HERE), expected)


def chosen_share() -> Tensor:
    """How often each answer is the chosen one, [P, K]."""
    return HERE.drawn * torch.einsum("pij,pj->pi", HERE.wins - 0.5 * torch.eye(8, dtype=F64), HERE.drawn)


def test_likelihood_on_sums_gives_the_distribution_of_chosen_answers() -> None:
    """Cross-entropy is least at the distribution itself; a pair of an answer with itself is never drawn."""
    assert_same_policy(best_of_pairs(bound("sft_sum"), HERE), chosen_share().log().log_softmax(dim=1))


def test_likelihood_on_means_prefers_short_answers() -> None:
    """- sum_i share_i logp_i / length_i is least at share / length, normalised."""
    assert_same_policy(best_of_pairs(bound("sft"), HERE), (chosen_share() / HERE.length).log().log_softmax(dim=1))


def test_likelihood_under_a_goal_gives_the_distribution_of_anchors() -> None:
    """Each comparison's anchor is drawn by itself; the sides of the pair play no part."""
    share = tensor([[0.1, 0.2, 0.7]], dtype=F64)
    zeros = torch.zeros(3, dtype=F64)

    def objective(logp: Tensor) -> Tensor:
        pair = PairLogps(Side(zeros, zeros + 1), Side(zeros, zeros + 1), anchor=Side(logp[0], zeros + 1))
        return (share[0] * LOSSES["goal_sft"](pair).loss).sum()

    assert_same_policy(search(objective, share), share.log())


@pytest.mark.parametrize("name", ["rpo_squared", "rpo_backward_kl", "rpo_forward_kl"])
def test_reward_aware_losses_reach_the_gap_whatever_the_labels_say(name: str) -> None:
    """Each is zero only where beta D = eta gap, on every pair: u = eta score / beta + c. Labels need not agree."""
    judged = replace(HERE, score=world(seed=5).reward)
    for wins in (judged.wins, torch.full_like(judged.wins, 0.5)):
        found = best_of_pairs(bound(name, beta=0.5, eta=0.8), judged, wins)
        assert_same_policy(found, tilted(HERE.reference, 0.8 * judged.score / 0.5))


@pytest.mark.parametrize("name", ["rpo_squared", "rpo_backward_kl", "rpo_forward_kl"])
def test_under_a_goal_they_reach_its_neighbourhood(name: str) -> None:
    """The gap is then |s_j - g| - |s_i - g|: u = -eta |score - g| / beta + c."""
    found = best_of_pairs(bound(name, beta=0.5, eta=0.8), HERE, goal=0.3)
    assert_same_policy(found, tilted(HERE.reference, -0.8 * (HERE.score - 0.3).abs() / 0.5))


def test_a_margin_from_scores_is_added_to_the_reward() -> None:
    """sigmoid(beta D - alpha gap) = sigmoid(r_i - r_j), so u = (r + alpha score) / beta + c."""
    judged = replace(HERE, score=world(seed=5).reward)
    found = best_of_pairs(bound("margin_dpo", beta=0.5, alpha=0.4), judged)
    assert_same_policy(found, tilted(HERE.reference, (HERE.reward + 0.4 * judged.score) / 0.5))


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_infonca_fits_soft_labels(beta: float) -> None:
    """softmax(beta u) = q = softmax(score / alpha), so u = score / (alpha beta) + c."""
    found = best_of_groups(bound("infonca", beta=beta, alpha=1.5), HERE)
    assert_same_policy(found, tilted(HERE.reference, HERE.score / 1.5 / beta))
    ratio = found - HERE.reference
    assert (torch.softmax(beta * ratio, dim=1) - torch.softmax(HERE.score / 1.5, dim=1)).abs().max() < 1e-3


def test_nca_fits_each_answer_by_itself() -> None:
    """The slope of -q lsig(r) - lsig(-r) / K is zero at sigmoid(r) = q / (q + 1 / K), that is r = log(K q).

    A policy can have these rewards on all answers at once if sum ref exp(r / beta) = 1: with beta = 1 a uniform
    reference does it, and the policy is q.
    """
    flat = replace(HERE, reference=torch.full_like(HERE.reference, -log(8)))
    found = best_of_groups(bound("nca", beta=1.0, alpha=1.5), flat)
    q = torch.softmax(HERE.score / 1.5, dim=1)
    assert_same_policy(found, q.log())
    assert (torch.sigmoid(found - flat.reference) - q / (q + 1 / 8)).abs().max() < 1e-3


def test_nca_with_another_reference_and_beta() -> None:
    """Three answers; sum_i pi_i (K q_i)^(-1 / beta) = 1 is linear in pi, so a mixture of two policies solves it."""
    beta, score = 0.5, tensor([[0.9, 0.2, -0.5]], dtype=F64)
    power = (3 * torch.softmax(score, dim=1)) ** (-1 / beta)
    some, other = tensor([[0.8, 0.1, 0.1]], dtype=F64), tensor([[0.1, 0.1, 0.8]], dtype=F64)
    share = (1 - (other * power).sum()) / ((some - other) * power).sum()
    assert 0 < share < 1
    policy = share * some + (1 - share) * other
    here = replace(
        duel(0.5)[0], reference=(policy * power).log(), score=score, length=torch.ones_like(score), drawn=policy
    )
    assert_same_policy(best_of_groups(bound("nca", beta=beta, alpha=1.0), here), policy.log())


def test_nca_of_pairs_fits_the_share_of_wins() -> None:
    """Answer i is chosen with p_i and in every pair: -p_i lsig(r_i) - lsig(-r_i) / 2 is least at r_i = log(2 p_i)."""
    here, wins = duel(0.8, reference=0.5)
    expected = tensor([[0.8, 0.2]], dtype=F64).log()  # ref exp(r) with beta 1 adds up to 1
    assert_same_policy(best_of_pairs(bound("nca_pair", beta=1.0), here, wins), expected)


def mirrored(reward: float, beta: float) -> float:
    """The share of the first of two answers in the reference that lets a policy have rewards `reward` and `-reward`.

    s e^(r / beta) + (1 - s) e^(-r / beta) = 1 at s = 1 / (1 + e^(r / beta)); the policy then has 1 - s.
    """
    return 1 / (1 + exp(reward / beta))


def test_sppo_with_hard_labels_regresses_on_the_share_of_wins() -> None:
    """p (u - t)^2 + (1 - p) (u + t)^2 is least at u = (2 p - 1) t = (p - 1/2) / beta, t = 1 / (2 beta)."""
    share = mirrored(0.3, beta=0.2)
    here, wins = duel(0.8, reference=share)
    expected = tensor([[1 - share, share]], dtype=F64).log()
    assert_same_policy(best_of_pairs(bound("sppo_hard", beta=0.2), here, wins), expected)


def test_sppo_with_win_probabilities_regresses_on_them() -> None:
    """u_i = (P_i - 1/2) / beta on every answer, where a policy can have that: P = 1/2 + beta log(pi / ref)."""
    policy = tilted(HERE.reference, 0.5 * HERE.reward)
    judged = replace(HERE, score=0.5 + 0.2 * (policy - HERE.reference))
    assert_same_policy(best_of_groups(bound("sppo", beta=0.2), judged), policy)
    assert_same_policy(best_of_pairs(bound("sppo", beta=0.2), judged), policy)


def test_bco_fits_the_log_odds_of_being_chosen() -> None:
    """-p lsig(r) - (1 - p) lsig(-r) is least at r = logit(p), for both answers by themselves."""
    share = mirrored(log(0.8 / 0.2), beta=0.5)
    here, wins = duel(0.8, reference=share)
    expected = tensor([[1 - share, share]], dtype=F64).log()
    assert_same_policy(best_of_pairs(bound("bco", beta=0.5), here, wins), expected)


INVERSES: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    # From f'(t) = y the t, and the y that it cannot reach: arXiv:2309.16240, table 2.
    "forward_kl": (lambda y: 1 / (1 - y), 1.0),  # f' = 1 - 1 / t
    "js_divergence": (lambda y: y.exp() / (2 - y.exp()), log(2)),  # f' = log(2 t / (1 + t))
    "alpha_divergence": (lambda y: (1 - 0.5 * y) ** -2, 2.0),  # f' = (1 - t^-a) / a at a = 0.5
}


@pytest.mark.parametrize("divergence", sorted(INVERSES))
def test_another_divergence_has_its_own_optimum(divergence: str) -> None:
    """The best policy under beta D_f has beta f'(pi / ref) = r + c, so pi = ref f'^-1((r + c) / beta)."""
    inverse, top = INVERSES[divergence]
    beta = 0.5
    highest = top - HERE.reward.max(dim=1, keepdim=True).values / beta - 1e-12

    def log_weight(c: Tensor) -> Tensor:
        return HERE.reference + inverse(HERE.reward / beta + torch.minimum(c, highest)).log()

    expected = normalised(log_weight, -1e5, 10.0)
    found = best_of_pairs(diverged(bound("dpo", beta=beta), DIVERGENCES[divergence]), HERE)
    assert_same_policy(found, expected)
    assert_not_the_tilted_reference(found, beta)


def assert_not_the_tilted_reference(found: Tensor, beta: float) -> None:
    assert (found - tilted(HERE.reference, HERE.reward / beta)).abs().max().item() > 0.1


def test_weights_that_both_orders_of_a_pair_share_leave_the_optimum_where_it_is() -> None:
    """WPO weighs (i, j) and (j, i) alike, so at the optimum of DPO its slope is zero too; nowhere near it is not."""
    chosen, rejected, weight = population(HERE, HERE.wins)
    loss = weighted(bound("dpo", beta=0.5), WEIGHTINGS["wpo_plain"])

    def slope(policy: Tensor) -> float:
        logp = policy.clone().requires_grad_()
        record = PairLogps(HERE.side(logp, chosen), HERE.side(logp, rejected))
        (weight * loss(record).loss).sum().backward()
        assert logp.grad is not None
        return logp.grad.abs().max().item()

    assert slope(tilted(HERE.reference, HERE.reward / 0.5)) < 1e-12
    assert slope(HERE.reference) > 1e-5


def test_the_bench_itself() -> None:
    """Wins of both orders add up to 1, and a fit of a known quadratic ends at its minimum."""
    wins = bradley_terry(HERE.reward)
    assert torch.allclose(wins + wins.transpose(1, 2), torch.ones_like(wins))
    assert kl(HERE.reference, HERE.reference) == pytest.approx(0.0, abs=1e-15)
