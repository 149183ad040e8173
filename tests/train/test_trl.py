"""Our trainer beside TRL's on the same pairs, in the same order."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tiny
from pairwright.train import resolve, train
from pairwright.train.job import make_trainer, prepare

STEPS = 6


def theirs(
    model: Path, rows: list[dict[str, Any]], output: Path, *, kind: str = "DPO", **settings: Any
) -> list[dict[str, float]]:
    """What TRL logs at each step."""
    import datasets
    import trl
    from transformers import AutoModelForCausalLM, AutoTokenizer

    args = getattr(trl, f"{kind}Config")(
        output_dir=str(output),
        per_device_train_batch_size=4,
        learning_rate=1e-3,
        max_steps=STEPS,
        logging_steps=1,
        seed=0,
        data_seed=0,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        dataloader_pin_memory=False,
        disable_tqdm=True,
        max_length=128,
        train_sampling_strategy="sequential",
        **settings,
    )
    trainer = getattr(trl, f"{kind}Trainer")(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=args,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    trainer.train()
    return [row for row in trainer.state.log_history if "loss" in row]


@pytest.mark.parametrize(
    ("loss", "ours", "trl"),
    [
        ("dpo", {"beta": 0.2}, {"beta": 0.2}),
        ("ipo_mean", {"beta": 0.2}, {"beta": 0.2, "loss_type": ["ipo"]}),
    ],
)
# TRL 1.16 asks transformers 5 for two names that it calls deprecated.
@pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_losses_and_metrics_are_those_of_trl(loss: str, ours: Any, trl: Any, tmp_path: Path) -> None:
    model = tiny.model(tmp_path / "model", template=tiny.WITH_SYSTEM)
    prefs = tiny.preferences(4 * STEPS)
    rows = [{k: row[k] for k in ("prompt", "chosen", "rejected")} for row in prefs.rows()]
    expected = theirs(model, rows, tmp_path / "trl", **trl)
    run = train(
        prefs,
        model=model,
        loss=loss,
        output=tmp_path / "ours",
        per_device_train_batch_size=4,
        learning_rate=1e-3,
        max_steps=STEPS,
        logging_steps=1,
        max_length=128,
        train_sampling_strategy="sequential",
        **ours,
    )
    found = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert len(found) == len(expected) == STEPS
    for mine, other in zip(found, expected, strict=True):
        for name in ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"):
            if loss == "dpo" or name == "loss":
                assert mine[name] == pytest.approx(other[name], abs=1e-4, rel=1e-4), (mine["step"], name)
        assert mine["logps/chosen"] == pytest.approx(other["logps/chosen"], rel=1e-4)
        assert mine["logps/rejected"] == pytest.approx(other["logps/rejected"], rel=1e-4)
        assert mine["grad_norm"] == pytest.approx(other["grad_norm"], rel=2e-3)
    assert found[-1]["loss"] < found[0]["loss"]


@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired"])
@pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_single_answers_train_as_in_trl(loss: str, tmp_path: Path) -> None:
    model = tiny.model(tmp_path / "model", template=tiny.WITH_SYSTEM)
    prefs = tiny.preferences(2 * STEPS)
    rows = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in prefs.rows()
        for side in ("chosen", "rejected")
    ]
    weights = {"beta": 0.2, "desirable_weight": 1.5, "undesirable_weight": 0.5} if loss == "kto" else {"beta": 0.2}
    expected = theirs(model, rows, tmp_path / "trl", kind="KTO", loss_type=loss, **weights)
    settings = {"per_device_train_batch_size": 4, "learning_rate": 1e-3, "max_steps": STEPS, "logging_steps": 1}
    settings |= {"examples": "responses", "threshold": 5.0, "max_length": 128, "save_strategy": "no"}
    settings |= {"train_sampling_strategy": "sequential", "reference": "frozen"}
    prepared = prepare(prefs, resolve(model=model, loss=loss, **settings, **weights))
    examples = prepared.examples.rows
    assert [row.wanted for row in examples] == [row["label"] for row in rows]
    if loss == "kto":
        # TRL hands each answer of a batch to the next one, the last to the first; ours are drawn, so take TRL's here.
        given = [examples[i - 1 if i % 4 else i + 3].answers[0] for i in range(len(examples))]
        examples = [replace(row, stranger=ids) for row, ids in zip(examples, given, strict=True)]
        prepared = replace(prepared, examples=prepared.examples._replace(rows=examples))
    trainer = make_trainer(prepared, tmp_path / "ours")
    trainer.train()
    found = [row for row in trainer.state.log_history if "loss" in row]
    assert len(found) == len(expected) == STEPS
    names = ["loss", "logps/chosen", "logps/rejected", "rewards/chosen", "rewards/rejected", "rewards/margins"]
    for mine, other in zip(found, expected, strict=True):
        for name in names + (["kl"] if loss == "kto" else []):
            assert mine[name] == pytest.approx(other[name], abs=1e-4, rel=1e-4), (mine["step"], name)
        assert mine["grad_norm"] == pytest.approx(other["grad_norm"], rel=2e-3)
    assert (max(row.get("kl", 0.0) for row in found) > 0.01) == (loss == "kto")
    assert found[-1]["rewards/margins"] > 0.01
