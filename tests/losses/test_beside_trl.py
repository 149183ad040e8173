"""Our losses beside TRL's own loss code, run on the same numbers.

`DPOTrainer._compute_loss` is called unbound on a stand-in for the trainer: the "model" gives fixed log-probabilities
for each token, the reference comes as columns. So TRL's own masking, summing and formula run, without a network.
"""

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor

from pairwright.losses import LOSSES, PairLogps, Side, simpo

PROMPT, LENGTHS = 3, ((8, 10), (5, 2), (1, 12))  # tokens of the chosen and the rejected completion of three pairs


def tokens(seed: int) -> list[tuple[Tensor, Tensor]]:
    """Log-probabilities of each completion token, for each pair and side."""
    draw = torch.Generator().manual_seed(seed)
    return [tuple(-3 * torch.rand(n, generator=draw) for n in pair) for pair in LENGTHS]  # type: ignore[misc]


def ours(policy: list[tuple[Tensor, Tensor]], reference: list[tuple[Tensor, Tensor]]) -> PairLogps:
    def side(index: int) -> Side:
        return Side(
            logp=torch.stack([pair[index].sum() for pair in policy]),
            length=torch.tensor([pair[index].numel() for pair in policy]),
            ref=torch.stack([pair[index].sum() for pair in reference]),
        )

    return PairLogps(side(0), side(1))


def theirs(
    loss_type: str, beta: float, policy: list[tuple[Tensor, Tensor]], reference: list[tuple[Tensor, Tensor]]
) -> tuple[Tensor, dict[str, list[float]]]:
    """TRL's loss of the batch, with what it logs."""
    from trl import DPOTrainer

    sides = [pair[0] for pair in policy] + [pair[1] for pair in policy]
    width = PROMPT + max(side.numel() for side in sides)
    logps, mask = torch.zeros(len(sides), width - 1), torch.zeros(len(sides), width, dtype=torch.long)
    for row, side in enumerate(sides):
        mask[row, PROMPT : PROMPT + side.numel()] = 1
        logps[row, PROMPT - 1 : PROMPT - 1 + side.numel()] = side  # token t is predicted at t - 1
    zeros = torch.zeros_like(logps)
    outputs = SimpleNamespace(log_probs=logps, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())
    trainer: Any = MagicMock()
    trainer.configure_mock(
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[loss_type],
        loss_weights=[1.0],
        beta=beta,
        label_smoothing=0.0,
        use_weighting=False,
        _metrics={"train": {}, "eval": {}},
        _total_train_tokens=0,
        _tp_size=1,
    )
    trainer.accelerator = SimpleNamespace(
        device="cpu", gather=lambda value: value, gather_for_metrics=lambda value: value
    )
    logged: dict[str, list[float]] = _Log()
    trainer._metrics = {"train": logged, "eval": logged}
    inputs = {
        "input_ids": torch.zeros_like(mask),
        "attention_mask": torch.ones_like(mask),
        "completion_mask": mask,
        "ref_chosen_logps": torch.stack([pair[0].sum() for pair in reference]),
        "ref_rejected_logps": torch.stack([pair[1].sum() for pair in reference]),
    }
    loss = DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, return_outputs=False)
    return loss, logged


class _Log(dict[str, list[float]]):
    def __missing__(self, key: str) -> list[float]:
        self[key] = []
        return self[key]


@pytest.mark.parametrize(("name", "loss_type"), [("dpo", "sigmoid"), ("ipo_mean", "ipo")])
@pytest.mark.parametrize("beta", [0.05, 0.5])
def test_losses_with_a_reference(name: str, loss_type: str, beta: float) -> None:
    policy, reference = tokens(0), tokens(1)
    expected, logged = theirs(loss_type, beta, policy, reference)
    out = LOSSES[name](ours(policy, reference), beta=beta)
    assert out.loss.mean().item() == pytest.approx(expected.item(), rel=1e-6)
    if name == "dpo":
        assert out.chosen.mean().item() == pytest.approx(logged["rewards/chosen"][0], rel=1e-6)
        assert out.rejected.mean().item() == pytest.approx(logged["rewards/rejected"][0], rel=1e-6)


def test_sft_agrees_on_one_pair_and_weighs_pairs_alike_on_several() -> None:
    policy, reference = tokens(0), tokens(1)
    for pair, ref in zip(policy, reference, strict=True):
        expected, _ = theirs("sft", 0.1, [pair], [ref])
        assert LOSSES["sft"](ours([pair], [ref])).loss.item() == pytest.approx(expected.item(), rel=1e-6)
    by_token, _ = theirs("sft", 0.1, policy, reference)
    assert by_token.item() == pytest.approx(-torch.cat([pair[0] for pair in policy]).mean().item(), rel=1e-6)
    assert LOSSES["sft"](ours(policy, reference)).loss.mean().item() != pytest.approx(by_token.item(), rel=1e-3)


# TRL keeps its CPO trainer among its unstable parts and says so at import; constraints.txt pins the version.
@pytest.mark.filterwarnings("ignore:You are importing from 'trl.experimental'")
def test_simpo() -> None:
    """TRL's CPO trainer averages before the loss; its `simpo_gamma` is absolute, as ours."""
    from trl.experimental.cpo import CPOTrainer

    pair = ours(tokens(0), tokens(1))
    trainer = SimpleNamespace(
        alpha=0.0,
        beta=2.5,
        simpo_gamma=1.375,
        label_smoothing=0.0,
        loss_type="simpo",
        accelerator=SimpleNamespace(device="cpu"),
    )
    loss, chosen, rejected = CPOTrainer.cpo_loss(trainer, pair.chosen.mean_logp, pair.rejected.mean_logp)
    out = simpo(pair, beta=2.5, gamma=1.375)
    for left, right in zip(out, (loss, chosen, rejected), strict=True):
        assert left.tolist() == pytest.approx(right.tolist(), rel=1e-6)
