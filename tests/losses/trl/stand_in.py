"""TRL's own loss code, run on given log-probabilities, and the same numbers as a record of ours.

A trainer of TRL is made without its `__init__` and given only what its loss reads. Its "model" is a table: it answers
with the log-probability of each token (or with logits that have it). So TRL's masking, summing, averaging and formula
run, on numbers that we choose, without a network. Gradients are taken in every single token.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from pairwright.losses import PairLogps, PairLoss, PointLogps, Side

LENGTHS = ((8, 10), (5, 2), (1, 12), (6, 6))  # tokens of the chosen and the rejected completion of four pairs
Log = dict[str, list[float]]


@dataclass(frozen=True)
class Batch:
    """Pairs, each side given by its tokens, all of `[tokens]`.

    Attributes:
        policy: log-probabilities of the tokens of (chosen, rejected), leaves that a gradient can be taken in.
        reference: the same under the reference.
        collision: log of the sum of squared probabilities where each token was predicted.
        prompts: log-probabilities of the tokens of the prompts, the first of which nothing predicts.
    """

    policy: list[tuple[Tensor, Tensor]]
    reference: list[tuple[Tensor, Tensor]]
    collision: list[tuple[Tensor, Tensor]]
    prompts: list[Tensor]

    def leaves(self) -> list[Tensor]:
        """Every tensor that may have a gradient: the policy's tokens, chosen sides first, then the prompts'."""
        return [pair[0] for pair in self.policy] + [pair[1] for pair in self.policy] + self.prompts

    def alone(self, index: int) -> "Batch":
        """The batch of one pair."""
        only = slice(index, index + 1)
        return Batch(self.policy[only], self.reference[only], self.collision[only], self.prompts[only])


def draw(
    *,
    seed: int = 0,
    lengths: Sequence[tuple[int, int]] = LENGTHS,
    depth: float = 3.0,
    prompt: int = 3,
    dtype: torch.dtype = torch.float64,
) -> Batch:
    """Random pairs: every token has a log-probability between `-depth` and 0, under the policy and the reference."""
    source = torch.Generator().manual_seed(seed)

    def tokens(num: int) -> Tensor:
        return -depth * (0.01 + 0.99 * torch.rand(num, generator=source, dtype=dtype))

    def sides() -> list[tuple[Tensor, Tensor]]:
        return [(tokens(chosen), tokens(rejected)) for chosen, rejected in lengths]

    made = Batch(sides(), sides(), sides(), [tokens(prompt) for _ in lengths])
    for leaf in made.leaves():
        leaf.requires_grad_()
    return made


def at_reference(batch: Batch) -> Batch:
    """The batch with the policy for its reference."""
    reference = [(chosen.detach(), rejected.detach()) for chosen, rejected in batch.policy]
    return Batch(batch.policy, reference, batch.collision, batch.prompts)


def shifted(batch: Batch, *, chosen: float = 0.0, rejected: float = 0.0) -> Batch:
    """The batch with the log-ratio of every chosen and every rejected side moved by so many nats."""

    def moved(side: Tensor, by: float) -> Tensor:
        return side - by / side.numel()

    reference = [(moved(pair[0], chosen), moved(pair[1], rejected)) for pair in batch.reference]
    return Batch(batch.policy, reference, batch.collision, batch.prompts)


# --- ours ------------------------------------------------------------------------------------------------------------


def record(batch: Batch, **more: Any) -> PairLogps:
    """The batch as a record of ours, with every field of tokens and lengths."""
    return PairLogps(_side(batch, 0), _side(batch, 1), **more)


def points(batch: Batch, wanted: Sequence[bool], baseline: Tensor | None = None) -> PointLogps:
    """Of each pair one side: the chosen one where it is wanted, else the rejected one."""
    both = _side(batch, 0), _side(batch, 1)
    pick = torch.tensor(wanted)

    def mixed(name: str) -> Tensor:
        return getattr(both[0], name).where(pick, getattr(both[1], name))

    return PointLogps(Side(mixed("logp"), mixed("length"), mixed("ref")), pick, baseline)


def _side(batch: Batch, index: int) -> Side:
    policy, reference, collision = (
        [pair[index] for pair in each] for each in (batch.policy, batch.reference, batch.collision)
    )
    wide = torch.nn.utils.rnn.pad_sequence
    return Side(
        logp=torch.stack([side.sum() for side in policy]),
        length=torch.tensor([side.numel() for side in policy]),
        ref=torch.stack([side.sum() for side in reference]),
        token_logp=wide(policy, batch_first=True),
        token_ref=wide(reference, batch_first=True),
        token_collision=wide(collision, batch_first=True),
    )


# --- theirs ----------------------------------------------------------------------------------------------------------


def dpo_trainer(batch: Batch, loss_types: str | Sequence[str], **settings: Any) -> tuple[Tensor, Log]:
    """`DPOTrainer._compute_loss` of the batch, with what it logs. `settings` are attributes of the trainer."""
    from trl import DPOTrainer

    types = [loss_types] if isinstance(loss_types, str) else list(loss_types)
    sides = [pair[0] for pair in batch.policy] + [pair[1] for pair in batch.policy]
    policy, mask = _wide(sides, batch)
    reference, _ = _wide([pair[0] for pair in batch.reference] + [pair[1] for pair in batch.reference], batch)
    collision, _ = _wide([pair[0] for pair in batch.collision] + [pair[1] for pair in batch.collision], batch)
    trainer = _bare(
        DPOTrainer,
        ref_model=lambda **_: SimpleNamespace(log_probs=reference),
        precompute_ref_logps=False,
        ld_alpha=None,
        f_divergence_type="reverse_kl",
        f_alpha_divergence_coef=0.5,
        loss_types=types,
        loss_weights=[1.0] * len(types),
        beta=0.1,
        label_smoothing=0.0,
        use_weighting=False,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=settings.pop("discopop_tau", 0.05)),
    )
    vars(trainer).update(settings)
    inputs = {"input_ids": torch.zeros_like(mask), "attention_mask": torch.ones_like(mask), "completion_mask": mask}
    loss = trainer._compute_loss(lambda **_: _outputs(policy, collision), inputs, return_outputs=False)
    return loss, trainer._metrics["train"]


def kto_trainer(
    batch: Batch,
    wanted: Sequence[bool],
    *,
    mismatched: tuple[Sequence[Tensor], Sequence[Tensor]] | None = None,
    loss_type: str = "kto",
    **settings: Any,
) -> tuple[Tensor, Log]:
    """`KTOTrainer._compute_loss` of one side of each pair, as `points` takes them, with what it logs.

    Args:
        batch: pairs.
        wanted: whether the chosen side of each is looked at, as a desirable answer, or the rejected one as an
            undesirable answer.
        mismatched: tokens of the completions of other prompts, under the policy and the reference, for the KL.
        loss_type: as TRL names it.
        settings: attributes of the trainer.
    """
    from trl import KTOTrainer

    def picked(pairs: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
        return [pair[0] if want else pair[1] for pair, want in zip(pairs, wanted, strict=True)]

    policy, mask = _wide(picked(batch.policy), batch)
    reference, _ = _wide(picked(batch.reference), batch)
    inputs = {
        "input_ids": torch.zeros_like(mask),
        "attention_mask": torch.ones_like(mask),
        "completion_mask": mask,
        "label": torch.tensor(wanted),
    }
    says = {0: (policy, reference)}
    if mismatched is not None:
        (strange, strange_mask), (strange_ref, _) = (_wide(list(each), batch) for each in mismatched)
        says[1] = (strange, strange_ref)
        inputs |= {
            "KL_input_ids": torch.ones_like(strange_mask),
            "KL_attention_mask": torch.ones_like(strange_mask),
            "KL_completion_mask": strange_mask,
        }

    def model(index: int) -> Callable[..., Any]:
        return lambda input_ids, **_: _outputs(says[int(input_ids[0, 0])][index], torch.zeros(()))

    trainer = _bare(
        KTOTrainer,
        ref_model=model(1),
        precompute_ref_logps=False,
        loss_type=loss_type,
        calculate_KL=mismatched is not None,
        beta=0.1,
        desirable_weight=1.0,
        undesirable_weight=1.0,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
    )
    vars(trainer).update(settings)
    return trainer._compute_loss(model(0), inputs, return_outputs=False), trainer._metrics["train"]


def cpo_trainer(batch: Batch, **settings: Any) -> tuple[Tensor, dict[str, float]]:
    """`CPOTrainer.get_batch_loss_metrics` of the batch, with what it logs; `settings` are those of `CPOConfig`."""
    with _experimental():
        from trl.experimental.cpo import CPOConfig, CPOTrainer

        # The configuration runs, because "alphapo" is only a name there for other settings.
        config = CPOConfig(output_dir="unused", report_to="none", bf16=False, **settings)
    names = ("beta", "label_smoothing", "loss_type", "cpo_alpha", "simpo_gamma", "alpha")
    trainer = _bare(CPOTrainer, pad_token_id=0, **{name: getattr(config, name) for name in names})
    return _paired_batch(trainer, batch)


def orpo_trainer(batch: Batch, *, beta: float = 0.1) -> tuple[Tensor, dict[str, float]]:
    """`ORPOTrainer.get_batch_loss_metrics` of the batch, with what it logs."""
    with _experimental():
        from trl.experimental.orpo import ORPOTrainer
    return _paired_batch(_bare(ORPOTrainer, padding_value=0, beta=beta), batch)


class _Metrics(dict[str, list[float]]):
    def __missing__(self, key: str) -> list[float]:
        self[key] = []
        return self[key]


@contextmanager
def _experimental() -> Iterator[None]:
    """TRL keeps these trainers among its unstable parts and says so at import; constraints.txt pins the version.

    It also asks transformers 5 for a name that is called deprecated there.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You are importing from 'trl.experimental'")
        warnings.filterwarnings("ignore", message=".gradient_checkpointing. is deprecated", category=FutureWarning)
        yield


def _bare(kind: type, **attributes: Any) -> Any:
    trainer, network = object.__new__(kind), torch.nn.Identity()
    network.is_gradient_checkpointing = False
    vars(trainer).update(
        aux_loss_enabled=False,
        is_encoder_decoder=False,
        model=network,
        accelerator=SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x),
        _metrics={"train": _Metrics(), "eval": _Metrics()},
        _total_train_tokens=0,
        _tp_size=1,
        **attributes,
    )
    return trainer


def _outputs(log_probs: Tensor, collision: Tensor) -> Any:
    zeros = torch.zeros_like(log_probs)
    return SimpleNamespace(
        log_probs=log_probs, log_sum_sq_probs=collision, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool()
    )


def _wide(sides: Sequence[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
    """[rows, width - 1] values at the place that predicts each token, 0 elsewhere, and [rows, width] the mask."""
    prompt = batch.prompts[0].numel()
    width = prompt + max(side.numel() for side in sides)
    values = [torch.nn.functional.pad(side, (prompt - 1, width - prompt - side.numel())) for side in sides]
    mask = torch.zeros(len(sides), width, dtype=torch.long)
    for row, side in enumerate(sides):
        mask[row, prompt : prompt + side.numel()] = 1
    return torch.stack(values), mask


def _paired_batch(trainer: Any, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """The older trainers of TRL take logits. Of two tokens, the one that comes (1) has the given log-probability."""
    inputs: dict[str, Tensor] = {}
    logits = []
    width = batch.prompts[0].numel() + max(side.numel() for pair in batch.policy for side in pair)
    for name, index in (("chosen", 0), ("rejected", 1)):
        sides = [torch.cat([prompt, pair[index]]) for prompt, pair in zip(batch.prompts, batch.policy, strict=True)]
        _, mask = _wide([pair[index] for pair in batch.policy], batch)
        there = torch.arange(mask.shape[1]) < torch.tensor([[side.numel()] for side in sides])
        inputs[f"{name}_input_ids"] = torch.ones_like(mask)
        inputs[f"{name}_attention_mask"] = there.long()
        inputs[f"{name}_labels"] = torch.where(mask == 1, 1, -100)
        for side in sides:
            # The place before a token predicts it, so that nothing predicts the first; what is absent is said anyhow.
            said = torch.nn.functional.pad(side[1:], (0, width - side.numel() + 1), value=-0.5)
            logits.append(torch.stack([torch.log(-torch.expm1(said)), said], dim=-1))
    table = torch.stack(logits)
    return trainer.get_batch_loss_metrics(lambda *_, **__: SimpleNamespace(logits=table), inputs)


# --- beside each other -----------------------------------------------------------------------------------------------


def gradients(loss: Tensor, batch: Batch) -> list[Tensor]:
    """The gradient of a scalar in every token."""
    leaves = batch.leaves()
    found = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(leaf) if each is None else each for leaf, each in zip(leaves, found, strict=True)]


def assert_same(ours: Tensor, theirs: Tensor, batch: Batch, *, within: float = 1e-6) -> None:
    """Both scalars, and their gradients in every token, agree; `within` is relative, and absolute below 1."""
    assert ours.item() == pytest.approx(theirs.item(), rel=within, abs=within)
    mine, other = gradients(ours, batch), gradients(theirs, batch)
    largest = max(grad.abs().max().item() for grad in other)
    for left, right in zip(mine, other, strict=True):
        torch.testing.assert_close(left, right, rtol=within, atol=within * max(largest, 1e-3))


def assert_rewards(out: PairLoss, logged: Mapping[str, Any], *, within: float = 1e-6) -> None:
    """The means of our implicit rewards are what TRL logs."""
    for side in ("chosen", "rejected"):
        said = logged[f"rewards/{side}"]
        said = said[0] if isinstance(said, list) else said
        assert getattr(out, side).mean().item() == pytest.approx(said, rel=within), side
