"""What is true of each loss on pairs whatever the numbers are: what it sees, where it rests, what it becomes."""

from collections.abc import Callable
from dataclasses import replace
from math import exp, log

import pytest
import torch
from torch import Tensor, tensor

from losses.pair_values import VALUES, at_reference, crossing, llama_factory, margins, token_record
from losses.test_slopes import noisy, slopes
from losses.worked_example import F64, points, record
from pairwright.errors import InputError
from pairwright.losses import (
    LOSSES,
    PairLogps,
    PointLogps,
    Side,
    alphapo,
    aot,
    aot_unpaired,
    apo_down,
    apo_zero,
    cpo,
    discopop,
    dpo,
    dpo_mean,
    exo,
    goal_sft,
    hinge,
    ipo_mean,
    ipo_sum,
    ld_dpo,
    needs,
    orpo,
    r_dpo,
    robust_dpo,
    sft,
    sft_sum,
    simpo,
    slic,
    sppo_hard,
    takes,
)

NAMES = sorted({value.loss for value in VALUES})
ALL = frozenset({"ref", "length", "token_logp", "token_ref", "anchor"})
OF_THE_DIFFERENCE = ["aot", "aot_unpaired", "discopop", "dpo", "exo", "hinge", "ipo_sum", "r_dpo", "robust_dpo"]
OF_EACH_SIDE = ["apo_down", "apo_zero", "cpo", "orpo", "sft", "sft_sum", "slic", "sppo_hard"]


def close(left: Tensor, right: Tensor, tolerance: float = 1e-12) -> bool:
    return torch.allclose(left, right, rtol=tolerance, atol=tolerance)


def both(pair: PairLogps, change: Callable[[Side], Side]) -> PairLogps:
    anchor = None if pair.anchor is None else change(pair.anchor)
    return pair._replace(chosen=change(pair.chosen), rejected=change(pair.rejected), anchor=anchor)


def turned(pair: PairLogps) -> PairLogps:
    return pair._replace(chosen=pair.rejected, rejected=pair.chosen)


# What each loss sees.


@pytest.mark.parametrize("name", NAMES)
def test_lengths_count_where_a_loss_says_so_and_nowhere_else(name: str) -> None:
    pair = noisy(ALL)
    longer = both(pair, lambda side: replace(side, length=side.known("length") + 1 + torch.arange(6)))
    changed = LOSSES[name](longer).loss - LOSSES[name](pair).loss
    if name == "ld_dpo":  # only by where the tail begins
        assert (changed != 0).any()
    elif "length" in needs(LOSSES[name]) and name != "r_dpo":
        assert (changed.abs() > 1e-9).all()
    else:
        assert (changed == 0).all()


def test_r_dpo_counts_lengths_by_their_difference() -> None:
    """8 tokens against 10: the shorter winner has more to learn, and less if it is the longer one by as much."""
    pair = record()
    shorter, longer = r_dpo(pair).loss, r_dpo(both(pair, lambda s: replace(s, length=18 - s.known("length")))).loss
    assert shorter > dpo(pair).loss > longer
    assert close(r_dpo(pair, alpha=0.0).loss, dpo(pair).loss)
    one_length = both(pair, lambda side: replace(side, length=tensor([9.0], dtype=F64)))
    assert close(r_dpo(one_length, alpha=0.7).loss, dpo(pair).loss)


@pytest.mark.parametrize("name", OF_THE_DIFFERENCE)
def test_a_constant_of_the_prompt_changes_nothing(name: str) -> None:
    """Both sides 5 nats less likely: these losses see the difference alone, so both sides may fall together."""
    pair = noisy(ALL)
    lower = both(pair, lambda side: replace(side, logp=side.logp - 5))
    assert close(LOSSES[name](lower).loss, LOSSES[name](pair).loss)


@pytest.mark.parametrize("name", OF_EACH_SIDE)
def test_a_constant_of_the_prompt_is_seen_by_losses_that_hold_a_side(name: str) -> None:
    pair = noisy(ALL)
    lower = both(pair, lambda side: replace(side, logp=side.logp - 5))
    assert ((LOSSES[name](lower).loss - LOSSES[name](pair).loss).abs() > 1e-6).all()


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"apo_down", "discopop", "goal_sft"}))
def test_the_chosen_side_is_pulled_up_and_the_rejected_one_never(name: str) -> None:
    """On random pairs, right and wrong, below every target; `apo_down` and `discopop` have tests of their own."""
    chosen, rejected = slopes(name, {}, noisy(needs(LOSSES[name])))[:2]
    assert (chosen <= 0).all()
    assert (chosen < 0).any()
    assert (rejected >= 0).all()


# The logistic ones.


@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_turning_a_pair_round_shifts_dpo_by_its_margin(beta: float) -> None:
    """L(D) - L(-D) = -beta * D, from log_sigmoid(z) - log_sigmoid(-z) = z."""
    pair = margins(1.5, -3.0, 20.0)
    shift = dpo(pair, beta=beta).loss - dpo(turned(pair), beta=beta).loss
    assert shift.tolist() == pytest.approx([-1.5 * beta, 3.0 * beta, -20.0 * beta], abs=1e-12)


@pytest.mark.parametrize("beta", [0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_a_second_formula_on_the_vector_of_llama_factory(beta: float, smoothing: float) -> None:
    """With p = 1 / (1 + e^-z): the cross-entropy of the label (1 - e, e) against (p, 1 - p), in Python floats."""
    out = dpo(llama_factory(), beta=beta, label_smoothing=smoothing)
    for delta, loss in zip([1.6, 0.6, 1.6, 0.6], out.loss.tolist(), strict=True):
        p = 1 / (1 + exp(-beta * delta))
        assert loss == pytest.approx(-(1 - smoothing) * log(p) - smoothing * log(1 - p), abs=1e-12)


def test_half_smoothing_cannot_tell_the_sides_apart() -> None:
    pair = llama_factory()
    assert close(dpo(pair, label_smoothing=0.5).loss, dpo(turned(pair), label_smoothing=0.5).loss)
    assert dpo(pair, label_smoothing=0.2).loss[0] != dpo(turned(pair), label_smoothing=0.2).loss[0]


@pytest.mark.parametrize("name", ["dpo", "exo"])
def test_smoothed_losses_rest_where_the_margin_is_the_log_odds_of_the_labels(name: str) -> None:
    """At sigmoid(z) = 1 - e, so at D = log((1 - e) / e) / beta: 21.972246 for e = beta = 0.1. Both sides pull back."""
    settings, rest = {"beta": 0.1, "label_smoothing": 0.1}, log(9) / 0.1
    chosen, _ = slopes(name, settings, margins(rest - 1, rest, rest + 1))
    assert chosen[0] < -1e-4
    assert chosen[1].item() == pytest.approx(0.0, abs=1e-12)
    assert chosen[2] > 1e-4


@pytest.mark.parametrize("flips", [0.0, 0.1, 0.3, 0.49])
def test_robust_dpo_is_dpo_on_average_over_labels_turned_at_random(flips: float) -> None:
    """(1 - e) L(z) + e L(-z) = -log_sigmoid(z), exactly."""
    pair = margins(-30.0, -1.0, 0.0, 2.5, 40.0)
    right, wrong = (robust_dpo(each, label_smoothing=flips).loss for each in (pair, turned(pair)))
    assert close((1 - flips) * right + flips * wrong, dpo(pair).loss)


def test_robust_dpo_has_no_floor_and_smoothed_dpo_has_one() -> None:
    """Far beyond z = 0 robust DPO falls by e / (1 - 2e) = 0.25 for each unit of z at e = 1/6; cDPO rises by e."""
    far = margins(1000.0, 2000.0)  # z = 100 and 200
    robust = robust_dpo(far, label_smoothing=1 / 6).loss
    assert robust.tolist() == pytest.approx([-25.0, -50.0], abs=1e-9)
    smoothed = dpo(far, label_smoothing=1 / 6).loss
    assert smoothed.tolist() == pytest.approx([100 / 6, 200 / 6], abs=1e-9)


def test_dpo_mean_is_dpo_at_beta_over_length_where_lengths_agree() -> None:
    pair = both(record(), lambda side: replace(side, length=tensor([8.0], dtype=F64)))
    assert close(dpo_mean(pair, beta=0.8).loss, dpo(pair, beta=0.1).loss)


def test_ipo_mean_is_ipo_sum_on_answers_of_one_token() -> None:
    pair = both(record(), lambda side: replace(side, length=tensor([1.0], dtype=F64)))
    assert close(ipo_mean(pair, beta=0.2).loss, ipo_sum(pair, beta=0.2).loss)


def test_ld_dpo_with_a_whole_tail_is_dpo_and_without_one_is_dpo_on_answers_cut_to_one_length() -> None:
    pair = noisy(ALL)
    assert close(ld_dpo(pair, alpha=1.0).loss, dpo(pair).loss)

    def cut(side: Side) -> Side:
        kept = torch.arange(5) < torch.minimum(pair.chosen.known("length"), pair.rejected.known("length"))[:, None]
        return Side((side.known("token_logp") * kept).sum(1), ref=(side.known("token_ref") * kept).sum(1))

    without, short = ld_dpo(pair, alpha=0.0), dpo(both(pair, cut))
    for left, right in zip(without, short, strict=True):
        assert close(left, right)
    same = pair.chosen.known("length") == pair.rejected.known("length")
    assert same.tolist().count(True) == 1
    assert close(without.loss[same], dpo(pair).loss[same])


def test_ld_dpo_weighs_policy_and_reference_alike() -> None:
    """A policy that is its reference is at ln 2 whatever the tail weighs; with the policy alone it would not be."""
    pair = both(token_record(), lambda side: replace(side, logp=side.known("ref"), token_logp=side.known("token_ref")))
    assert ld_dpo(pair, alpha=0.2).loss.item() == pytest.approx(log(2), abs=1e-12)


def test_discopop_draws_below_the_reference_at_its_default_and_not_with_a_wider_blend() -> None:
    """Its slope at z = 0 is (1 - ln 2) / (4 tau) - 3/4, which changes sign at tau = (1 - ln 2) / 3 = 0.1023."""
    for tau in (0.05, 0.1, 0.11, 0.2):
        chosen, _ = slopes("discopop", {"beta": 0.05, "tau": tau}, margins(0.0))
        assert chosen.item() == pytest.approx(0.05 * ((1 - log(2)) / (4 * tau) - 0.75), abs=1e-12)
    at = [z / 0.05 for z in (-0.13, -0.11, 0.06, 0.08)]  # beside the rest at -0.119 and the top of the hump at 0.072
    chosen, _ = slopes("discopop", {}, margins(*at))
    assert [slope > 0 for slope in chosen.tolist()] == [False, True, True, False]


def test_discopop_is_dpo_far_below_the_margin_and_exponential_far_above_it() -> None:
    pair = margins(-60.0, 60.0)  # z = -3 and 3 at beta 0.05
    below, above = discopop(pair).loss.tolist()
    assert below == pytest.approx(dpo(pair, beta=0.05).loss[0].item(), abs=1e-12)
    assert above == pytest.approx(exp(-3), abs=1e-12)


# Squares, hinges and bounds.


def test_sppo_hard_rests_where_each_side_is_at_a_target_of_its_own() -> None:
    zero = tensor([0.0, 0.0], dtype=F64)
    pair = PairLogps(Side(zero + 5, ref=zero), Side(tensor([-5.0, 5.0], dtype=F64), ref=zero))
    assert sppo_hard(pair, beta=0.1).loss.tolist() == pytest.approx([0.0, 100.0], abs=1e-12)


def test_hinge_is_slic_at_one_over_beta_where_the_reference_is_uniform() -> None:
    pair = noisy(frozenset())
    uniform = both(pair, lambda side: replace(side, ref=torch.full_like(side.logp, -20.0)))
    expected = 0.1 * slic(pair, delta=10.0, sft_weight=0.0).loss
    assert (expected > 0).any()
    assert close(hinge(uniform, beta=0.1).loss, expected)


def test_apo_zero_holds_each_side_by_itself() -> None:
    """Slopes at the reference are -beta / 4 and beta / 4; between 0 and 2 for whatever margin."""
    chosen, rejected = slopes("apo_zero", {"beta": 0.4}, at_reference())
    assert (chosen.item(), rejected.item()) == pytest.approx((-0.1, 0.1), abs=1e-12)
    ends = apo_zero(PairLogps(margins(-9e3, 9e3).chosen, margins(9e3, -9e3).chosen)).loss
    assert ends.tolist() == pytest.approx([2.0, 0.0], abs=1e-12)


def test_apo_down_pushes_both_sides_down_and_the_rejected_one_more() -> None:
    """At the reference the chosen side has no slope; with a margin it is pushed down too, less than the other is."""
    chosen, rejected = slopes("apo_down", {"beta": 0.4}, at_reference())
    assert (chosen.item(), rejected.item()) == pytest.approx((0.0, 0.1), abs=1e-12)
    zero = tensor([0.0], dtype=F64)
    ahead = PairLogps(Side(zero, ref=zero), Side(zero - 10, ref=zero))
    chosen, rejected = slopes("apo_down", {"beta": 0.1}, ahead)
    p = 1 / (1 + exp(-1))
    assert (chosen.item(), rejected.item()) == pytest.approx((0.1 * (0.25 - p * (1 - p)), 0.1 * p * (1 - p)), abs=1e-12)
    assert chosen.item() > 0
    assert apo_down(margins(9e3, -9e3)).loss.tolist() == pytest.approx([1.0, 1.0], abs=1e-12)


@pytest.mark.parametrize("smoothing", [1e-3, 0.1, 0.5])
def test_exo_is_a_divergence_that_gives_up_hopeless_pairs(smoothing: float) -> None:
    """0 where the policy chooses as the label does, -log(1 - e) beyond, -log(e) with no slope far below."""
    rest = log((1 - smoothing) / smoothing) / 0.1
    pair = margins(-9e3, rest, 9e3)
    expected = [-log(smoothing), 0.0, -log(1 - smoothing)]
    assert exo(pair, label_smoothing=smoothing).loss.tolist() == pytest.approx(expected, abs=1e-9)
    assert slopes("exo", {"label_smoothing": smoothing}, pair)[0].tolist() == pytest.approx([0.0] * 3, abs=1e-12)
    assert (exo(margins(*range(-50, 51)), label_smoothing=smoothing).loss >= -1e-12).all()


# Over a batch.


@pytest.mark.parametrize("loss", [aot, aot_unpaired])
def test_a_batch_of_one_is_dpo(loss: Callable[..., tuple[Tensor, ...]]) -> None:
    pair = noisy(ALL)
    for row in range(6):
        alone = both(pair, lambda side, row=row: side.mapped(lambda value: value[row : row + 1]))  # type: ignore[misc]
        for left, right in zip(loss(alone, label_smoothing=0.2), dpo(alone, label_smoothing=0.2), strict=True):
            assert close(left, right)
    assert not close(loss(crossing())[0], dpo(crossing()).loss, 1e-3)


@pytest.mark.parametrize("loss", [aot, aot_unpaired])
def test_permuted_pairs_give_permuted_losses_and_slopes(loss: Callable[..., tuple[Tensor, ...]]) -> None:
    pair, order = noisy(ALL), torch.tensor([4, 0, 5, 2, 1, 3])
    mixed = both(pair, lambda side: side.mapped(lambda value: value[order]))
    for left, right in zip(loss(mixed), loss(pair), strict=True):
        assert close(left, right[order])
    name = loss.__name__
    for left, right in zip(slopes(name, {}, mixed), slopes(name, {}, pair), strict=True):
        assert close(left, right[order])


def test_the_mean_is_that_of_both_sides_in_order() -> None:
    """As TRL computes it: sort, subtract, take the logistic loss, and leave the values in the order of the ranks."""
    pair = noisy(ALL)
    chosen, rejected = pair.chosen, pair.rejected
    policy, reference = chosen.logp - rejected.logp, chosen.known("ref") - rejected.known("ref")
    paired = policy.sort().values - reference.sort().values
    unpaired = chosen.log_ratio.sort().values - rejected.log_ratio.sort().values
    for loss, delta in ((aot, paired), (aot_unpaired, unpaired)):
        expected = torch.log1p(torch.exp(-0.5 * delta)).mean()
        assert close(loss(pair, beta=0.5).loss.mean(), expected)


def test_unpaired_does_not_care_which_answers_stand_beside_each_other() -> None:
    pair, order = noisy(ALL), torch.tensor([4, 0, 5, 2, 1, 3])
    mixed = pair._replace(rejected=pair.rejected.mapped(lambda value: value[order]))
    assert close(aot_unpaired(mixed).loss, aot_unpaired(pair).loss)
    assert not close(aot(mixed).loss, aot(pair).loss, 1e-3)


# Without a reference.


def test_simpo_takes_the_absolute_margin() -> None:
    """The authors compute beta * (margin - ratio) with gamma = beta * ratio: 2.5 * (-0.05 - 0.55) = -1.5."""
    expected = log(1 + exp(1.5))
    assert simpo(record(), beta=2.5, gamma=2.5 * 0.55).loss.item() == pytest.approx(expected, abs=1e-12)


def test_alphapo_tends_to_simpo_from_both_sides() -> None:
    """The rewards differ from the means by alpha * mean^2 / 2, so by less and less."""
    pair = noisy(ALL)
    exact = simpo(pair, beta=2.0, gamma=0.5)
    for left, right in zip(alphapo(pair, alpha=0.0), exact, strict=True):
        assert close(left, right)
    for alpha in (1e-6, -1e-6):
        near = alphapo(pair, alpha=alpha)
        assert close(near.loss, exact.loss, 1e-4)
        change = (near.chosen - exact.chosen) / (-alpha * pair.chosen.mean_logp**2)
        assert change.tolist() == pytest.approx([1.0] * 6, abs=1e-3)


def test_alphapo_counts_unlikely_answers_more_above_alpha_0_and_less_below() -> None:
    """Beside simpo, a nat a token of the rejected side weighs exp(-alpha * mean): e^(1.2 alpha) in the example."""
    pair = record()
    for alpha in (0.5, -0.5):
        moved = pair._replace(rejected=replace(pair.rejected, logp=pair.rejected.logp + 1e-5))
        shaped, plain = (
            loss(moved, **settings).rejected - loss(pair, **settings).rejected
            for loss, settings in ((alphapo, {"alpha": alpha}), (simpo, {}))
        )
        assert (shaped / plain).item() == pytest.approx(exp(1.2 * alpha), rel=1e-4)


def test_cpo_is_dpo_with_a_uniform_reference_and_an_nll() -> None:
    pair = noisy(ALL)
    uniform = both(pair, lambda side: replace(side, ref=torch.full_like(side.logp, -20.0)))
    expected = dpo(uniform, beta=0.3).loss + 0.7 * sft(pair).loss
    assert close(cpo(pair, beta=0.3, alpha=0.7).loss, expected)


def test_orpo_uses_means_because_odds_of_sums_are_plain_ratios() -> None:
    """As answers of one token the odds of e^-40 and e^-43 are their ratio: log_sigmoid(3), which means are far from."""
    logps = [tensor([value], dtype=F64) for value in (-40.0, -43.0)]
    sums, means = (PairLogps(*(Side(logp, torch.full_like(logp, length)) for logp in logps)) for length in (1.0, 100.0))
    assert (orpo(sums).loss - 40.0).item() == pytest.approx(0.1 * log(1 + exp(-3)), abs=1e-12)
    # Means -0.40 and -0.43: odds by hand, p / (1 - p).
    odds = [exp(-m) / (1 - exp(-m)) for m in (0.40, 0.43)]
    expected = 0.40 - 0.1 * log(odds[0] / (odds[0] + odds[1]))
    assert orpo(means).loss.item() == pytest.approx(expected, abs=1e-12)
    assert abs(expected - 0.40 - 0.1 * log(1 + exp(-0.03))) > 1e-4


@pytest.mark.parametrize("distance", [1e-3, 1e-6, 1e-9, 1e-12])
def test_orpo_keeps_the_odds_of_an_answer_that_is_nearly_sure(distance: float) -> None:
    """p = 1 - d has odds 1 / d, to first order, and log(1 - exp(mean)) would have lost d long before."""
    sure, even = Side(tensor([-distance], dtype=F64), tensor([1.0])), Side(tensor([-log(2)], dtype=F64), tensor([1.0]))
    odds_term = (orpo(PairLogps(even, sure), beta=1.0).loss - log(2)).item()
    assert odds_term == pytest.approx(-log(distance), abs=2 * distance + 1e-12)


# Likelihood.


def test_sft_of_single_answers_learns_from_each_wanted_one() -> None:
    """Means of the worked example: -10/8 and -12/10."""
    assert takes(sft) == (PairLogps, PointLogps)
    given = points()
    out = sft(given)
    assert out.loss.tolist() == pytest.approx([1.25, 0.0], abs=1e-12)
    assert out.rewards.tolist() == pytest.approx([-1.25, -1.2], abs=1e-12)
    assert sft(given._replace(wanted=~given.wanted)).loss.tolist() == pytest.approx([0.0, 1.2], abs=1e-12)


def test_sft_sum_is_sft_times_the_length() -> None:
    pair = noisy(ALL)
    assert close(sft_sum(pair).loss, sft(pair).loss * pair.chosen.known("length"))


def test_goal_sft_moves_the_anchor_and_nothing_else() -> None:
    chosen, rejected, anchor = slopes("goal_sft", {}, noisy(frozenset({"anchor"})))
    assert chosen.tolist() == rejected.tolist() == [0.0] * 6
    assert anchor.tolist() == [-1.0] * 6


def test_goal_sft_without_an_anchor_says_what_to_do() -> None:
    with pytest.raises(InputError, match=r"needs 'anchor'; give pairs that ask for a goal \(relabel them\)"):
        goal_sft(record())
