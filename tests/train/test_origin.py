"""Which reference a run gets where it does not say one."""

from pathlib import Path
from typing import Any

import peft
import polars as pl
import pytest

import tiny
from pairwright.errors import InputError
from pairwright.logprobs.models import open_model, quiet_peft
from pairwright.preferences import Preferences, Step
from pairwright.relabel import relabel
from pairwright.train.config import resolve
from pairwright.train.job import prepare
from pairwright.train.origin import reference_of


@pytest.fixture(scope="module")
def with_columns(prefs: Preferences) -> Preferences:
    """The reference's numbers beside each answer, of nobody knows which model."""
    numbers = prefs.responses.with_columns(logp_ref=pl.lit(-9.0), len_ref=pl.lit(5))
    return prefs.then(Step(name="made"), responses=numbers)


@pytest.fixture(scope="module")
def adapter(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    with quiet_peft():
        peft.get_peft_model(
            open_model(model), peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear")
        ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"loss": "dpo"}, "columns"),
        ({"loss": "simpo"}, "none"),
        ({"loss": ["simpo", "dpo"]}, "columns"),
        ({"loss": "sft", "examples": "responses"}, "none"),
        # Answers to other prompts have no column.
        ({"loss": "kto"}, "store"),
        ({"loss": "kto", "examples": "responses", "threshold": 5}, "store"),
        ({"loss": "infonca"}, "columns"),
        ({"loss": "infonca", "examples": "groups"}, "columns"),
        # A number for each token is nowhere beforehand.
        ({"loss": "ld_dpo"}, "frozen"),
        ({"loss": ["sft", "ld_dpo"]}, "frozen"),
        ({"loss": "ld_dpo", "lora": True}, "adapter_off"),
        # Nor are the numbers of a reference that moves.
        ({"loss": "dpo", "reference_mix": 0.5}, "frozen"),
        ({"loss": "dpo", "reference_model": "OTHER"}, "store"),
        ({"loss": "ld_dpo", "reference_model": "OTHER"}, "frozen"),
        ({"loss": "ld_dpo", "reference_model": "OTHER", "lora": True}, "frozen"),
    ],
)
def test_auto_takes_what_the_loss_can_be_served_from(
    settings: dict[str, Any], kind: str, model: Path, other: Path, with_columns: Preferences
) -> None:
    settings = {key: str(other) if value == "OTHER" else value for key, value in settings.items()}
    assert reference_of(with_columns, resolve(model=model, **settings))[0] == kind


def test_without_columns_it_is_the_store(model: Path, prefs: Preferences) -> None:
    assert reference_of(prefs, resolve(model=model))[0] == "store"
    assert reference_of(prefs, resolve(model=model, loss="infonca", examples="groups"))[0] == "store"


def test_an_adapter_that_is_trained_on_is_the_reference_as_it_was(
    adapter: Path, model: Path, prefs: Preferences
) -> None:
    config = resolve(model=adapter, tokenizer=str(model), loss="ld_dpo")
    assert reference_of(prefs, config)[0] == "adapter_before"


def test_the_reader_is_told_why_columns_were_passed_by(model: Path, with_columns: Preferences) -> None:
    origin = reference_of(with_columns, resolve(model=model, loss="kto"))[1]
    assert origin == (
        f"{model}, computed beforehand (the columns logp_ref, which came with the data, know no answers to other "
        "prompts)"
    )


def test_the_anchor_asks_for_the_top_or_for_what_is_said(tmp_path: Path, prefs: Preferences) -> None:
    """The prompt of each anchor says the goal, in bytes: the top of 3 to 8 is printed as 10, and 5.5 as 5.5."""
    roomy = tiny.model(tmp_path / "roomy", positions=1024)
    goals = relabel(prefs, "ra", placement="system", source_range=(3.0, 8.0))
    for asked, printed in ((None, "Overall score: 10."), (5.5, "Overall score: 5.5.")):
        prepared = prepare(goals, resolve(model=roomy, loss="goal_sft", anchor_goal=asked))
        for row in prepared.examples.rows:
            assert row.anchor is not None
            assert printed in prepared.tokenizer.decode(row.anchor[0])
    with pytest.raises(InputError, match=r"anchor_goal: the goal .* one number"):
        prepare(goals, resolve(model=roomy, loss="goal_sft", anchor_goal=[9, 8]))
    with pytest.raises(InputError, match="needs pairs that ask for a goal; relabel the data first"):
        prepare(prefs, resolve(model=roomy, loss="goal_sft"))
