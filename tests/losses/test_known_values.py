"""Numbers that others published or that follow by hand, against our losses. All in float64."""

import math

import pytest
import torch
from torch import Tensor, tensor

from pairwright.losses import LOSSES, PairLogps, Side, dpo, ipo_mean, ipo_sum, sft, simpo

F64 = torch.float64


def record() -> PairLogps:
    """The worked example of the specification: u_w = 1.0, u_l = -0.5, D = 1.5, z = 0.15.

    Summed log-probabilities prefer the chosen side by 2.0; averaged over tokens they prefer the rejected one by 0.05.
    """
    chosen, rejected = (
        Side(*(tensor([value], dtype=F64) for value in side))  # logp, length, ref, score
        for side in ((-10.0, 8.0, -11.0, 9.0), (-12.0, 10.0, -11.5, 6.0))
    )
    return PairLogps(chosen, rejected)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        # Specification table, computed there in numpy float64.
        ("dpo", {"beta": 0.1}, 0.620957),
        ("dpo", {"beta": 0.1, "label_smoothing": 0.1}, 0.635957),
        ("ipo_sum", {"beta": 0.1}, 12.25),  # (1.5 - 5)^2
        ("ipo_mean", {"beta": 0.1}, 23.280625),  # (0.125 + 0.05 - 5)^2
        ("simpo", {"beta": 2.0, "gamma": 1.0}, 1.387335),
        ("simpo", {"beta": 2.5, "gamma": 1.375}, 1.701413),
        ("simpo", {"beta": 10.0, "gamma": 3.0}, 3.529750),
        ("simpo", {"beta": 0.1, "gamma": 0.5}, 0.977192),
        ("simpo", {"beta": 0.1, "gamma": 0.0}, 0.695650),
        ("sft", {}, 1.25),  # 10 nats over 8 tokens
    ],
)
def test_the_worked_example(name: str, settings: dict[str, float], expected: float) -> None:
    out = LOSSES[name](record(), **settings)
    assert out.loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "settings", "chosen", "rejected"),
    [
        ("dpo", {"beta": 0.1}, 0.1, -0.05),  # beta times the log-ratios 1.0 and -0.5
        ("ipo_sum", {"beta": 0.1}, 0.1, -0.05),
        ("ipo_mean", {"beta": 0.1}, 0.0125, -0.005),  # 1/8 and -0.5/10 of that
        ("simpo", {"beta": 2.0, "gamma": 1.0}, -2.5, -2.4),  # 2 * -1.25 and 2 * -1.2
        ("sft", {}, -1.25, -1.2),
    ],
)
def test_implicit_rewards_of_the_worked_example(
    name: str, settings: dict[str, float], chosen: float, rejected: float
) -> None:
    out = LOSSES[name](record(), **settings)
    assert out.chosen.item() == pytest.approx(chosen, abs=1e-12)
    assert out.rejected.item() == pytest.approx(rejected, abs=1e-12)


def test_the_slope_of_the_worked_example() -> None:
    """Specification: d(dpo)/d logp_w = -beta * sigmoid(-z) = -0.046257, and the opposite for the rejected side."""
    chosen, rejected = (tensor([value], dtype=F64, requires_grad=True) for value in (-10.0, -12.0))
    pair = PairLogps(Side(chosen, ref=tensor([-11.0], dtype=F64)), Side(rejected, ref=tensor([-11.5], dtype=F64)))
    dpo(pair, beta=0.1).loss.sum().backward()
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert chosen.grad.item() == pytest.approx(-0.046257, abs=1e-6)
    assert rejected.grad.item() == pytest.approx(0.046257, abs=1e-6)


def pairs(chosen: list[float], rejected: list[float], ref_chosen: list[float], ref_rejected: list[float]) -> PairLogps:
    return PairLogps(
        Side(tensor(chosen, dtype=F64), ref=tensor(ref_chosen, dtype=F64)),
        Side(tensor(rejected, dtype=F64), ref=tensor(ref_rejected, dtype=F64)),
    )


def test_the_vector_of_torchtune() -> None:
    """torchtune tests/torchtune/rlhf/loss/test_dpo_loss.py, beta 0.1: scaled margins 0, 1, 2."""
    pair = pairs([-0.5, -10.0, -1.0], [-0.1, -30.0, -21.0], [-0.5, -10.1, -0.1], [-0.1, -20.1, -0.1])
    out = dpo(pair, beta=0.1)
    assert (out.chosen - out.rejected).tolist() == pytest.approx([0.0, 1.0, 2.0], abs=1e-9)
    assert out.loss.tolist() == pytest.approx([0.693147, 0.313262, 0.126928], abs=1e-6)


def llama_factory_vector() -> PairLogps:
    return pairs([-3.0, -2.5, -4.0, -1.5], [-5.0, -3.5, -6.0, -2.5], [-2.8, -2.3, -3.8, -1.4], [-3.2, -2.7, -4.2, -1.8])


def test_the_vector_of_llama_factory() -> None:
    """LLaMA-Factory v1 tests_v1/trainers/test_dpo_loss_precision.py, beta 0.1: deltas 1.6, 0.6, 1.6, 0.6."""
    out = dpo(llama_factory_vector(), beta=0.1)
    assert ((out.chosen - out.rejected) / 0.1).tolist() == pytest.approx([1.6, 0.6, 1.6, 0.6], abs=1e-9)
    assert out.loss.tolist() == pytest.approx([0.616344, 0.663597, 0.616344, 0.663597], abs=1e-6)


@pytest.mark.parametrize("beta", [0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_a_second_formula_on_the_vector_of_llama_factory(beta: float, smoothing: float) -> None:
    """With p = 1 / (1 + e^-z): the cross-entropy of the label (1 - e, e) against (p, 1 - p), in Python floats."""
    out = dpo(llama_factory_vector(), beta=beta, label_smoothing=smoothing)
    for delta, loss in zip([1.6, 0.6, 1.6, 0.6], out.loss.tolist(), strict=True):
        p = 1 / (1 + math.exp(-beta * delta))
        assert loss == pytest.approx(-(1 - smoothing) * math.log(p) - smoothing * math.log(1 - p), abs=1e-12)


def test_half_smoothing_cannot_tell_the_sides_apart() -> None:
    pair = llama_factory_vector()
    turned = PairLogps(pair.rejected, pair.chosen)
    left, right = (dpo(each, label_smoothing=0.5).loss for each in (pair, turned))
    assert left.tolist() == pytest.approx(right.tolist(), abs=1e-12)
    assert dpo(pair, label_smoothing=0.2).loss[0] != dpo(turned, label_smoothing=0.2).loss[0]


def test_the_vector_of_ms_swift() -> None:
    """ms-swift issue 10167, beta 0.1, delta 6: sigmoid 0.437488 with slope -0.035434; ipo 1.0 with slope +2.0."""
    for loss, value, slope in ((dpo, 0.437488, -0.035434), (ipo_sum, 1.0, 2.0)):
        chosen = tensor([-2.0], dtype=F64, requires_grad=True)
        zero = tensor([0.0], dtype=F64)
        pair = PairLogps(Side(chosen, ref=zero), Side(tensor([-8.0], dtype=F64), ref=zero))
        out = loss(pair, beta=0.1).loss
        out.sum().backward()
        assert chosen.grad is not None
        assert out.item() == pytest.approx(value, abs=1e-6)
        assert chosen.grad.item() == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("beta", [0.01, 0.1, 0.7])
def test_a_policy_that_is_its_reference(beta: float) -> None:
    """ln 2 for DPO, smoothed or not; (1 / (2 beta))^2 for both readings of IPO: 25 at beta 0.1."""
    logp = tensor([-3.0, -40.0, -7.5], dtype=F64)
    other = tensor([-9.0, -2.0, -7.5], dtype=F64)
    length = tensor([3.0, 20.0, 5.0], dtype=F64)
    pair = PairLogps(Side(logp, length, logp), Side(other, length, other))
    for smoothing in (0.0, 0.25):
        assert dpo(pair, beta=beta, label_smoothing=smoothing).loss.tolist() == pytest.approx([math.log(2)] * 3)
    for ipo in (ipo_sum, ipo_mean):
        assert ipo(pair, beta=beta).loss.tolist() == pytest.approx([1 / (4 * beta**2)] * 3)


def test_step_one_in_float32_is_ln_2_to_seven_digits() -> None:
    logp = tensor([-123.456, -987.654])
    pair = PairLogps(Side(logp, ref=logp), Side(2 * logp, ref=2 * logp))
    assert dpo(pair, beta=0.1).loss.tolist() == pytest.approx([0.6931472] * 2, abs=1e-7)


def test_turning_a_pair_round_shifts_dpo_by_its_margin() -> None:
    """L(D) - L(-D) = -beta * D, from log_sigmoid(z) - log_sigmoid(-z) = z."""
    pair = record()
    turned = PairLogps(pair.rejected, pair.chosen)
    assert (dpo(pair, beta=0.1).loss - dpo(turned, beta=0.1).loss).item() == pytest.approx(-0.15, abs=1e-12)


def test_dpo_sees_only_the_difference_and_never_the_length() -> None:
    pair = record()

    def moved(side: Side, by: float, factor: float) -> Side:
        assert side.length is not None
        return Side(side.logp + by, side.length * factor, side.ref)

    shifted = PairLogps(moved(pair.chosen, -5.0, 3.0), moved(pair.rejected, -5.0, 3.0))
    assert dpo(shifted).loss.item() == pytest.approx(dpo(pair).loss.item(), abs=1e-12)
    for by_length in (ipo_mean, simpo, sft):
        assert by_length(shifted).loss.item() != pytest.approx(by_length(pair).loss.item(), abs=1e-3)


def test_smoothed_dpo_rests_where_the_margin_is_the_log_odds_of_the_labels() -> None:
    """Stationary at sigmoid(z) = 1 - e, so at D = log((1 - e) / e) / beta: 21.972246 for e = beta = 0.1."""
    chosen = tensor([math.log(9) / 0.1 - 30], dtype=F64, requires_grad=True)
    zero = tensor([0.0], dtype=F64)
    pair = PairLogps(Side(chosen, ref=zero), Side(tensor([-30.0], dtype=F64), ref=zero))
    dpo(pair, beta=0.1, label_smoothing=0.1).loss.sum().backward()
    assert chosen.grad is not None
    assert chosen.grad.item() == pytest.approx(0.0, abs=1e-12)


def test_simpo_takes_the_absolute_margin() -> None:
    """The authors compute beta * (margin - ratio) with gamma = beta * ratio: 2.5 * (-0.05 - 0.55) = -1.5."""
    expected = math.log1p(math.exp(1.5))
    assert simpo(record(), beta=2.5, gamma=2.5 * 0.55).loss.item() == pytest.approx(expected, abs=1e-12)


def slopes(name: str, settings: dict[str, float], pair: PairLogps) -> tuple[Tensor, Tensor]:
    """Gradients by autograd in both policy log-probabilities."""
    logps = [side.logp.clone().requires_grad_() for side in (pair.chosen, pair.rejected)]
    sides = [Side(logp, side.length, side.ref) for logp, side in zip(logps, pair[:2], strict=True)]
    LOSSES[name](PairLogps(*sides), **settings).loss.sum().backward()
    grads = [torch.zeros_like(logp) if logp.grad is None else logp.grad for logp in logps]
    return grads[0], grads[1]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("dpo", {"beta": 0.3}),
        ("dpo", {"beta": 0.3, "label_smoothing": 0.2}),
        ("ipo_sum", {"beta": 0.2}),
        ("ipo_mean", {"beta": 0.2}),
        ("simpo", {"beta": 2.5, "gamma": 1.0}),
        ("sft", {}),
    ],
)
def test_gradients_are_those_of_central_differences(name: str, settings: dict[str, float]) -> None:
    draw = torch.Generator().manual_seed(3)

    def noise(scale: float) -> Tensor:
        return scale * torch.rand(16, generator=draw, dtype=F64)

    def side() -> Side:
        return Side(-1 - noise(30.0), 1 + noise(20.0), -1 - noise(30.0))

    pair, step = PairLogps(side(), side()), 1e-5
    exact = slopes(name, settings, pair)
    for which, slope in enumerate(exact):
        ends = []
        for sign in (step, -step):
            sides = [Side(s.logp + sign * (k == which), s.length, s.ref) for k, s in enumerate(pair[:2])]
            ends.append(LOSSES[name](PairLogps(*sides), **settings).loss)
        assert ((ends[0] - ends[1]) / (2 * step)).tolist() == pytest.approx(slope.tolist(), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_extreme_log_probabilities_stay_finite(name: str, dtype: torch.dtype) -> None:
    corners = torch.cartesian_prod(*[tensor([-1000.0, -1e-4], dtype=dtype)] * 4)
    length = torch.ones(len(corners), dtype=dtype)
    pair = PairLogps(Side(corners[:, 0], length, corners[:, 1]), Side(corners[:, 2], length, corners[:, 3]))
    assert LOSSES[name](pair).loss.isfinite().all()
    assert all(slope.isfinite().all() for slope in slopes(name, {}, pair))


def test_dpo_at_the_extremes_is_the_margin_or_nothing() -> None:
    """Far on the wrong side the loss is -z (here 200 and 2000 times 0.1), far on the right side it is 0."""
    zero = tensor([0.0, 0.0])
    wrong = PairLogps(Side(tensor([-2000.0, -20000.0]), ref=zero), Side(zero, ref=zero))
    right = PairLogps(wrong.rejected, wrong.chosen)
    assert dpo(wrong, beta=0.1).loss.tolist() == pytest.approx([200.0, 2000.0])
    assert dpo(right, beta=0.1).loss.tolist() == [0.0, 0.0]
