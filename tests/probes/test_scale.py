"""Which losses have implicit rewards that are a multiple of the log-ratio: by their formulas, loss by loss."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pairwright.losses import LOSSES, PairLogps, PairLoss
from pairwright.losses.compose import Term, compose
from pairwright.losses.types import uses
from pairwright.plug import settings_of
from pairwright.probes.scale import scale_in_record, scale_in_trl, scale_of

OTHERWISE = {
    "alphapo": "no reference",
    "cpo": "no reference",
    "dpo_mean": "mean over tokens",
    "goal_sft": "no reference",
    "ipo_mean": "mean over tokens",
    "ld_dpo": "the tail of the longer answer counts less",
    "orpo": "no reference, and beta is the weight of the odds",
    "rrhf": "no reference",
    "sft": "no reference",
    "sft_sum": "no reference",
    "simpo": "no reference",
    "slic": "no reference",
}
"""Losses whose reward is not `beta * (logp - ref)`, by their own pages."""


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_scale_of_a_loss_is_its_beta_where_its_reward_is_beta_times_the_log_ratio(name: str) -> None:
    settings = {"beta": 0.37} if "beta" in settings_of(LOSSES[name]) else {}
    assert scale_of(compose([Term(name, settings=settings)])) == (None if name in OTHERWISE else 0.37)


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ([Term("dpo", weight=0.8, settings={"beta": 0.3}), Term("sft", weight=0.2)], 0.3),
        ([Term("dpo", settings={"beta": 0.3}), Term("simpo", settings={"beta": 2.0})], 0.3),
        ([Term("simpo", settings={"beta": 2.0}), Term("dpo", settings={"beta": 0.3})], None),
        ([Term("dpo", settings={"beta": 0.3}, divergence="reverse_kl")], 0.3),
        ([Term("dpo", settings={"beta": 0.3}, divergence="forward_kl")], None),
        ([Term("dpo", settings={"beta": 0.3}, weighting="wpo")], 0.3),
    ],
)
def test_a_sum_has_the_scale_of_its_first_term_and_another_divergence_has_none(
    terms: list[Term], expected: float | None
) -> None:
    assert scale_of(compose(terms)) == expected


def test_a_loss_of_ones_own_is_asked_and_not_believed() -> None:
    @uses("ref")
    def squared(pair: PairLogps, *, beta: float = 3.0) -> PairLoss:
        torch.rand(3)  # must not move the random numbers of a training
        rewards = [side.log_ratio * 0.25 for side in (pair.chosen, pair.rejected)]
        return PairLoss((rewards[0] - rewards[1] - beta) ** 2, rewards[0], rewards[1])

    @uses("ref")
    def turned(pair: PairLogps) -> PairLoss:
        return PairLoss(pair.chosen.logp, -pair.chosen.log_ratio, -pair.rejected.log_ratio)

    @uses("ref")
    def broken(pair: PairLogps) -> PairLoss:
        raise RuntimeError("not on a record made at random")

    before = torch.get_rng_state()
    assert scale_of(squared) == 0.25
    assert torch.equal(torch.get_rng_state(), before)
    assert scale_of(turned) is None
    assert scale_of(broken) is None


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning")  # TRL's own default
def test_of_trl_only_a_beta_of_log_ratios_is_a_scale() -> None:
    import trl
    from transformers import TrainingArguments

    def said(kind: Any, **settings: Any) -> float | None:
        return scale_in_trl(kind(output_dir="unused", bf16=False, report_to="none", use_cpu=True, **settings))

    class Mine(trl.DPOConfig):  # type: ignore[misc]
        pass

    assert said(trl.DPOConfig, beta=0.3) == said(Mine, beta=0.3) == 0.3
    assert said(trl.KTOConfig, beta=0.2) == 0.2
    assert said(trl.DPOConfig, beta=0.3, loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.5]) == 0.3
    assert said(trl.DPOConfig, loss_type=["ipo"]) is None
    assert said(trl.DPOConfig, f_divergence_type="js_divergence") is None
    assert said(trl.GRPOConfig, beta=0.04) is None
    assert said(TrainingArguments) is None


@pytest.mark.parametrize("name", ["CPOConfig", "ORPOConfig"])
def test_a_beta_of_a_trainer_without_a_reference_is_no_scale(name: str) -> None:
    made = type(name, (SimpleNamespace,), {})(beta=0.1, loss_type="sigmoid")
    assert scale_in_trl(made) is None


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"beta": 0.3, "config": {"loss": "sigmoid"}}, 0.3),
        ({"beta": None, "config": {"loss": "dpo", "loss_settings": {"beta": 0.1}}}, None),
        ({"config": {"loss": "dpo", "loss_settings": {"beta": 0.2}}}, 0.2),
        ({"config": {"loss": "dpo", "loss_settings": {"beta": 0.2}, "divergence": "forward_kl"}}, None),
        ({"config": {"loss": "simpo", "loss_settings": {"beta": 2.0}}}, None),
        ({"config": {"loss": [{"name": "dpo", "settings": {"beta": 0.2}}, {"name": "sft", "weight": 0.5}]}}, 0.2),
        ({"config": {"loss": "gone:away"}}, None),
        ({"config": {}}, None),
        ({}, None),
    ],
)
def test_the_scale_of_a_training_is_read_from_its_record(record: dict[str, Any], expected: float | None) -> None:
    assert scale_in_record(record) == expected
