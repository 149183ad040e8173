"""A flat relabelled file trains in TRL's own DPOTrainer, as it is, with and without a system role.

TRL renders `prompt`, `chosen`, `rejected` itself, so this also checks that its reading of our rows is ours.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pairwright.formats.read import read
from pairwright.preferences import Preferences
from pairwright.relabel import relabel

datasets = pytest.importorskip("datasets")
trl = pytest.importorskip("trl")

# TRL 1.16 uses names that transformers 5.23 has deprecated, on every run; nothing here chooses them.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(scope="module")
def prefs(shared: Callable[[str], Path]) -> Preferences:
    whole = read(shared("data/extra/ultrafeedback_binarized_sample.jsonl.gz"))
    return Preferences.of(whole.prompts, whole.responses, whole.pairs.head(12), whole.lineage)


@pytest.mark.parametrize("system_role", [True, False])
def test_the_flat_file_trains_two_steps(prefs: Preferences, tmp_path: Path, system_role: bool) -> None:
    import transformers

    from pairwright.train.scratch import scratch

    model = scratch(prefs, output=tmp_path / "model", vocab_size=512, hidden_size=16, heads=2, system_role=system_role)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    made = relabel(prefs, tokenizer=str(model))
    form = made.goal_format
    assert form is not None
    assert form.placement == ("system" if system_role else "user")
    flat = made.export(tmp_path / "ra.parquet")

    data = datasets.Dataset.from_parquet(str(flat), cache_dir=str(tmp_path / "cache"))
    assert [message["role"] for message in data[0]["prompt"]] == (["system", "user"] if system_role else ["user"])
    config = trl.DPOConfig(
        output_dir=str(tmp_path / "out"),
        per_device_train_batch_size=2,
        max_steps=2,
        logging_steps=1,
        max_length=256,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
    )
    network: Any = transformers.AutoModelForCausalLM.from_pretrained(model)
    trainer = trl.DPOTrainer(model=network, args=config, train_dataset=data, processing_class=tokenizer)
    row = trainer.train_dataset[1]
    assert "Overall score:" in tokenizer.decode(row["prompt_ids"])
    trainer.train()
    assert trainer.state.global_step == 2
    # At the first step the policy is the reference: -log sigma(0).
    assert trainer.state.log_history[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
