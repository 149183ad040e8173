"""Losses that look at single tokens."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pairwright.logprobs.models import open_model
from pairwright.losses import PairLogps, PairLoss, ld_dpo, uses
from pairwright.preferences import Preferences
from pairwright.train import resolve, train
from pairwright.train.job import make_trainer, prepare
from pairwright.train.records import collate

FAST: dict[str, Any] = {
    "learning_rate": 0.01,
    "per_device_train_batch_size": 4,
    "logging_steps": 1,
    "save_strategy": "no",
}


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@uses("ref", "length", "token_logp", "token_ref", "token_collision")
def all_tokens(pair: PairLogps) -> PairLoss:
    """A loss that reads everything and weighs early tokens more."""
    total = torch.zeros_like(pair.chosen.logp)
    for sign, side in ((-1.0, pair.chosen), (1.0, pair.rejected)):
        fading = 0.5 ** torch.arange(side.known("token_logp").shape[1])
        ratio = side.known("token_logp") - side.known("token_ref")
        total = total + sign * ((ratio - side.known("token_collision")) * fading).sum(1)
    return PairLoss(total, pair.chosen.logp, pair.rejected.logp)


def plain(network: Any, prompt: list[int], answer: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability and collision of each token, from all logits of one text."""
    values = network(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)[len(prompt) - 1 : -1]
    picked = values.gather(1, torch.tensor(answer)[:, None])[:, 0]
    return picked, (values.detach().double().exp() ** 2).sum(-1).log().float()


@pytest.fixture(scope="module")
def trained(model: Path, other: Path, prefs: Preferences, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A trainer with a loss of tokens and another model as its reference, its inputs, and both models."""
    from pairwright.train import reference as references

    prepared = prepare(prefs, resolve(model=model, **FAST))
    trainer = make_trainer(prepared, tmp_path_factory.mktemp("run"))
    trainer.loss, trainer.asks = all_tokens, all_tokens.asks  # type: ignore[attr-defined]
    trainer.reference = references.frozen(open_model(other))
    return trainer, prepared.examples.rows, open_model(other)


def test_tokens_of_a_record_are_those_of_each_text_by_itself(trained: Any) -> None:
    trainer, rows, theirs = trained
    ours = trainer.accelerator.unwrap_model(trainer.model)
    pair = trainer.record(trainer.model, collate(rows))
    for at, row in enumerate(rows):
        for side, answer in zip((pair.chosen, pair.rejected), row.answers, strict=True):
            size = len(answer)
            with torch.no_grad():
                logp, collision = plain(ours, row.prompt.tolist(), answer.tolist())
                ref, _ = plain(theirs, row.prompt.tolist(), answer.tolist())
            for values, expected in (
                (side.token_logp, logp),
                (side.token_ref, ref),
                (side.token_collision, collision),
            ):
                torch.testing.assert_close(values[at, :size].detach(), expected, atol=2e-5, rtol=0)
                assert not values[at, size:].any()
    for side in (pair.chosen, pair.rejected):
        torch.testing.assert_close(side.token_logp.sum(1), side.logp, atol=1e-4, rtol=1e-6)
        torch.testing.assert_close(side.token_ref.sum(1), side.ref, atol=1e-4, rtol=1e-6)
        assert not side.token_ref.requires_grad
        assert not side.token_collision.requires_grad


def test_the_gradient_of_a_loss_of_tokens_is_that_of_plain_logits(trained: Any) -> None:
    trainer, rows, theirs = trained
    model = trainer.accelerator.unwrap_model(trainer.model).train()
    model.zero_grad()
    trainer.compute_loss(model, collate(rows)).backward()
    ours = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    total = torch.zeros(())
    for row in rows:
        for sign, answer in zip((-1.0, 1.0), row.answers, strict=True):
            logp, collision = plain(model, row.prompt.tolist(), answer.tolist())
            with torch.no_grad():
                ref, _ = plain(theirs, row.prompt.tolist(), answer.tolist())
            total = total + sign * ((logp - ref - collision) * 0.5 ** torch.arange(len(answer))).sum()
    (total / len(rows)).backward()  # type: ignore[no-untyped-call]
    for mine, weight in zip(ours, model.parameters(), strict=True):
        torch.testing.assert_close(mine, weight.grad, atol=1e-4, rtol=1e-3)
    assert max(float(mine.abs().max()) for mine in ours) > 0.01


def test_tokens_are_made_only_for_a_loss_that_needs_them(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    prepared = prepare(prefs, resolve(model=model, reference="frozen", **FAST))
    trainer = make_trainer(prepared, tmp_path)
    side = trainer.record(trainer.model, collate(prepared.examples.rows)).chosen  # type: ignore[union-attr]
    assert (side.token_logp, side.token_ref, side.token_collision) == (None, None, None)


@pytest.mark.parametrize("lora", [None, {"r": 4}], ids=["frozen", "adapter_off"])
def test_ld_dpo_with_alpha_1_is_dpo(lora: Any, model: Path, prefs: Preferences, tmp_path: Path) -> None:
    settings = {"model": model, "reference": "frozen", "lora": lora, "num_train_epochs": 2.0, **FAST}
    whole = train(prefs, loss="dpo", output=tmp_path / "dpo", **settings)
    every = train(prefs, loss="ld_dpo", alpha=1.0, output=tmp_path / "ld", **settings)
    for one, two in zip(lines(whole.directory), lines(every.directory), strict=True):
        assert one == pytest.approx(two, abs=1e-4, rel=1e-4)
    short = train(prefs, loss="ld_dpo", alpha=0.0, output=tmp_path / "short", **settings)
    assert abs(lines(short.directory)[-1]["loss"] - lines(every.directory)[-1]["loss"]) > 1e-3
    assert "token_ref" in ld_dpo.needs  # type: ignore[attr-defined]


@pytest.mark.parametrize("loss", ["ld_dpo", [{"name": "dpo", "weighting": "wpo"}]], ids=["ld_dpo", "wpo"])
def test_a_batch_of_1_accumulated_is_a_batch_of_many(
    loss: Any, model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    settings = {"model": model, "loss": loss, "reference": "frozen", "num_train_epochs": 2.0, **FAST}
    for name, batch, steps in (("small", 1, 8), ("large", 8, 1)):
        own = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": steps}
        train(prefs, output=tmp_path / name, **settings | own)
    for one, many in zip(lines(tmp_path / "small"), lines(tmp_path / "large"), strict=True):
        assert one == pytest.approx(many, abs=2e-3, rel=2e-4)
