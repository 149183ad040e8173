"""Our losses beside Liger-Kernel's fused ones, from hidden states to loss, where that package is installed.

It is no dependency: `pip install --no-deps liger-kernel` is enough, and its losses are plain torch. Written for 0.8.5.
"""

from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from pairwright.losses import LOSSES, PairLogps, PointLogps, Side

LENGTHS = ((7, 4), (2, 9), (5, 5))
WIDTH, HIDDEN, VOCABULARY = 9, 16, 31


class Case(NamedTuple):
    """Hidden states of the chosen sides, then of the rejected ones, with the head's weights and the tokens."""

    hidden: Tensor
    weight: Tensor
    ref_hidden: Tensor
    ref_weight: Tensor
    target: Tensor

    def side(self, rows: slice) -> Side:
        mask = self.target[rows] != -100

        def logp(hidden: Tensor, weight: Tensor) -> Tensor:
            tokens = torch.log_softmax(hidden[rows] @ weight.t(), dim=-1)
            return (tokens.gather(-1, self.target[rows].clamp(min=0)[..., None])[..., 0] * mask).sum(dim=-1)

        return Side(logp(self.hidden, self.weight), mask.sum(dim=-1), logp(self.ref_hidden, self.ref_weight).detach())


@pytest.fixture
def chunked() -> Any:
    """Liger's module of losses, or a skip."""
    return pytest.importorskip("liger_kernel.chunked_loss", reason="liger-kernel is not installed")


@pytest.fixture
def case() -> Case:
    source = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source)

    sides = [pair[0] for pair in LENGTHS] + [pair[1] for pair in LENGTHS]
    target = torch.randint(VOCABULARY, (len(sides), WIDTH), generator=source)
    for row, length in zip(target, sides, strict=True):
        row[length:] = -100
    states = (len(sides), WIDTH, HIDDEN)
    head = (VOCABULARY, HIDDEN)
    return Case(normal(*states).requires_grad_(), normal(*head), normal(*states), normal(*head), target)


def assert_same(ours: Tensor, theirs: Tensor, case: Case) -> None:
    """Value and gradient in the hidden states, both in float32."""
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5, abs=1e-5)
    mine, other = (torch.autograd.grad(loss, case.hidden)[0] for loss in (ours, theirs))
    torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5 * other.abs().max().item())


def pairs(case: Case) -> PairLogps:
    return PairLogps(case.side(slice(0, 3)), case.side(slice(3, 6)))


@pytest.mark.parametrize(
    ("name", "loss_type", "settings"),
    [
        ("dpo", "sigmoid", {}),
        ("hinge", "hinge", {"beta": 0.01}),
        ("exo", "exo_pair", {"label_smoothing": 1e-3}),
        ("nca_pair", "nca_pair", {}),
        ("robust_dpo", "robust", {"label_smoothing": 0.1}),
        ("bco", "bco_pair", {}),
        ("sppo_hard", "sppo_hard", {}),
        ("apo_zero", "apo_zero", {}),
        ("apo_down", "apo_down", {}),
        ("discopop", "discopop", {}),
    ],
)
def test_losses_with_a_reference(name: str, loss_type: str, settings: dict[str, Any], chunked: Any, case: Case) -> None:
    shared = {"beta": 0.1} | settings
    fused = chunked.LigerFusedLinearDPOLoss(loss_type=loss_type, compiled=False, **shared)
    theirs = fused(case.weight, case.hidden, case.target, None, case.ref_hidden, case.ref_weight)[0]
    assert_same(LOSSES[name](pairs(case), **shared).loss.mean(), theirs, case)


@pytest.mark.parametrize(
    ("name", "kind", "settings", "theirs"),
    [
        ("cpo", "CPO", {"beta": 0.1, "alpha": 0.0}, {"beta": 0.1, "compute_nll_loss": False}),
        ("simpo", "SimPO", {"beta": 2.0, "gamma": 0.5}, {"beta": 2.0, "gamma": 0.5, "compute_nll_loss": False}),
        ("orpo", "ORPO", {"beta": 0.1}, {"beta": 0.1}),
    ],
)
def test_losses_without_a_reference(
    name: str, kind: str, settings: dict[str, Any], theirs: dict[str, Any], chunked: Any, case: Case
) -> None:
    """Liger's NLL in ORPO is of the completion, as ours, but averaged over the batch's tokens: one pair at a time."""
    fused = partial(getattr(chunked, f"LigerFusedLinear{kind}Loss")(compiled=False, **theirs), case.weight)
    for pair in range(3):
        rows = [pair, pair + 3]
        ours = LOSSES[name](PairLogps(*(case.side(slice(row, row + 1)) for row in rows)), **settings).loss.mean()
        assert_same(ours, fused(case.hidden[rows], case.target[rows])[0], case)


@pytest.mark.parametrize("kl", [0.0, 2.0])
def test_kto(kl: float, chunked: Any, case: Case) -> None:
    """In Liger a desirable and an undesirable answer weigh alike."""
    wanted = torch.tensor([True] * 3 + [False] * 3)
    fused = chunked.LigerFusedLinearKTOLoss(beta=0.1, compiled=False, use_ref_model=True)
    theirs = fused(
        case.hidden, case.weight, case.target, None, wanted, case.ref_hidden, case.ref_weight, kl=torch.tensor(kl)
    )[0]
    ours = LOSSES["kto"](PointLogps(case.side(slice(0, 6)), wanted, torch.tensor(kl)), beta=0.1).loss.mean()
    assert_same(ours, theirs, case)
