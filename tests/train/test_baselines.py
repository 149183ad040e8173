"""The rewards from which an answer counts as good: estimated from strangers, or the mean of those seen so far."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

import tiny
from pairwright.errors import PairwrightError
from pairwright.logprobs.models import open_model
from pairwright.losses import GroupLogps, GroupLoss, PairLogps, PairLoss, PointLogps, PointLoss, Term, compose, uses
from pairwright.preferences import Preferences
from pairwright.train import resolve, train
from pairwright.train.baselines import BASELINES, MismatchedKl, Now, RunningMean
from pairwright.train.data import pair_examples
from pairwright.train.job import fit, make_trainer, prepare
from pairwright.train.records import collate
from pairwright.train.reference import Known, frozen, none, with_stored

FAST: dict[str, Any] = {
    "learning_rate": 0.01,
    "per_device_train_batch_size": 4,
    "logging_steps": 1,
    "save_strategy": "no",
}


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def plain(network: Any, prompt: Any, answer: Any) -> float:
    """Log-probability of one answer, from all logits of its text."""
    text = torch.tensor([[*prompt.tolist(), *answer.tolist()]])
    with torch.no_grad():
        values = network(input_ids=text).logits[0].double().log_softmax(-1)[len(prompt) - 1 : -1]
    return float(values.gather(1, torch.tensor(answer.tolist())[:, None]).sum())


@pytest.mark.parametrize("way", ["frozen", "store"])
def test_the_estimate_is_the_mean_over_the_strangers_and_never_below_0(
    way: str, model: Path, other: Path, tmp_path: Path
) -> None:
    data = tiny.preferences(6, weights=[1.0, 2.0, 1.0, 0.0, 1.0, 3.0])
    prepared = prepare(data, resolve(model=model, loss="kto", reference=way, **FAST))
    trainer = make_trainer(prepared, tmp_path)
    ours, theirs = open_model(model), open_model(other)
    rows = prepared.examples.rows
    ratios = [plain(ours, row.prompt, row.stranger) - plain(theirs, row.prompt, row.stranger) for row in rows]
    mean = sum(row.weight * ratio for row, ratio in zip(rows, ratios, strict=True)) / 8.0
    assert abs(mean) > 0.1
    for policy, reference, expected in ((model, other, mean), (other, model, -mean)):
        trainer = make_trainer(
            prepare(data, resolve(model=policy, reference_model=reference, loss="kto", reference=way, **FAST)), tmp_path
        )
        known = with_stored(rows, model=reference, dtype="float32") if way == "store" else rows
        record = trainer.record(trainer.model, collate(known))
        assert isinstance(record, PairLogps)
        assert record.baseline is not None
        assert record.baseline.item() == pytest.approx(max(expected, 0.0), abs=1e-4)
        assert record.baseline.dtype == torch.float32
        assert not record.baseline.requires_grad


def test_the_store_has_the_strangers_number_after_this_prompt(model: Path, other: Path) -> None:
    rows = prepare(tiny.preferences(4), resolve(model=model, loss="kto", **FAST)).examples.rows
    theirs = open_model(other)
    for row in with_stored(rows, model=other, dtype="float32"):
        assert row.stranger_ref == pytest.approx(plain(theirs, row.prompt, row.stranger), abs=1e-4)
        assert row.refs == pytest.approx([plain(theirs, row.prompt, ids) for ids in row.answers], abs=1e-4)
        assert len(row.refs or ()) == 2


def test_the_estimate_is_without_dropout_and_leaves_the_policy_in_training(model: Path, tmp_path: Path) -> None:
    prepared = prepare(tiny.preferences(4), resolve(model=model, loss="kto", reference="frozen", **FAST))
    trainer = make_trainer(prepared, tmp_path)
    policy = trainer.accelerator.unwrap_model(trainer.model).train()
    for layer in policy.model.layers:
        layer.self_attn.attention_dropout = 0.5
    inputs = collate(prepared.examples.rows)
    records = [trainer.record(policy, inputs) for _ in range(2)]
    assert policy.training
    assert isinstance(records[0], PairLogps)
    assert isinstance(records[1], PairLogps)
    assert not torch.equal(records[0].chosen.logp, records[1].chosen.logp)
    assert records[0].baseline is not None
    assert records[1].baseline is not None
    assert torch.equal(records[0].baseline, records[1].baseline)


def now(record: Any, loss: Any, *, weight: Any = None, training: bool = True, inputs: Any = None) -> Now:
    model = torch.nn.Linear(1, 1).train(training)
    given = {"weight": torch.ones(2) if weight is None else torch.tensor(weight)} | (inputs or {})
    return Now(model, given, record, loss, none, lambda values: values, lambda: torch.autocast("cpu", enabled=False))


def told(pair: PairLogps) -> PairLoss:
    """The log-probabilities are the rewards, if the baseline is not yet there."""
    assert pair.baseline is None
    return PairLoss(pair.chosen.logp, pair.chosen.logp, pair.rejected.logp)


def sides(chosen: list[float], rejected: list[float]) -> PairLogps:
    from pairwright.losses import Side

    return PairLogps(Side(torch.tensor(chosen)), Side(torch.tensor(rejected)))


def test_the_mean_is_over_all_rewards_so_far_and_of_this_batch() -> None:
    mean = RunningMean()
    # 1, 2 and 3, 4: 2.5; then also 10, 10 and 20, 20 with the weights 1 and 0: (10 + 10 + 20) / 6
    assert mean(now(sides([1.0, 2.0], [3.0, 4.0]), told)).item() == pytest.approx(2.5)
    second = now(sides([10.0, 7.0], [20.0, 9.0]), told, weight=[1.0, 0.0])
    assert mean(second).item() == pytest.approx((1 + 2 + 3 + 4 + 10 + 20) / 6)
    # outside training it is told and not moved
    assert mean(now(sides([99.0, 99.0], [99.0, 99.0]), told, training=False)).item() == pytest.approx(40 / 6)
    again = RunningMean()
    again.restore(json.loads(json.dumps(mean.state())))
    third = now(sides([1.0, 1.0], [2.0, 2.0]), told)
    assert again(third).item() == mean(third).item() == pytest.approx(46 / 10)
    assert RunningMean()(now(sides([1.0, 1.0], [2.0, 2.0]), told, weight=[0.0, 0.0])).item() == 0.0


def test_the_mean_is_moved_without_a_look_from_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look waits for the device. Only a checkpoint takes the numbers: 1 + 2 + 3 + 4 of four."""
    mean, looks = RunningMean(), []
    for name in ("tolist", "item", "__float__", "__bool__"):
        plain = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda self, plain=plain: (looks.append(1), plain(self))[1])
    mean(now(sides([1.0, 2.0], [3.0, 4.0]), told))
    assert not looks
    assert mean.state() == {"total": 10.0, "count": 4.0}


def test_rewards_of_single_answers_count_once_and_groups_have_no_mean() -> None:
    from pairwright.losses import Side

    def points(record: PointLogps) -> PointLoss:
        return PointLoss(record.answers.logp, record.answers.logp)

    def groups(record: GroupLogps) -> GroupLoss:
        return GroupLoss(record.answers.logp[:, 0], record.answers.logp)

    record = PointLogps(Side(torch.tensor([1.0, 4.0])), torch.tensor([True, False]))
    assert RunningMean()(now(record, points)).item() == pytest.approx(2.5)
    with pytest.raises(PairwrightError, match="pairs and single answers"):
        RunningMean()(now(GroupLogps(Side(torch.zeros(2, 3))), groups))


def test_in_a_sum_the_mean_is_of_the_term_that_asks_for_it() -> None:
    loss = compose([Term("sppo_hard", settings={"beta": 5.0}), Term("bco", settings={"beta": 0.5})])
    pair = sides([1.0, 2.0], [3.0, 4.0])
    zero = torch.zeros(2)
    from dataclasses import replace

    pair = PairLogps(replace(pair.chosen, ref=zero), replace(pair.rejected, ref=zero))
    assert RunningMean()(now(pair, loss)).item() == pytest.approx(0.5 * 2.5)


def test_an_estimate_without_strangers_or_reference_is_refused() -> None:
    with pytest.raises(PairwrightError, match="strangers=True"):
        MismatchedKl()(now(sides([1.0, 1.0], [1.0, 1.0]), told))
    rows = pair_examples(
        tiny.preferences(2), tiny.tokenizer(), split="train", limits=prepare_limits(), strangers=True
    ).rows
    with pytest.raises(PairwrightError, match="there is none"):
        MismatchedKl()(now(sides([1.0, 1.0], [1.0, 1.0]), told, inputs=collate(rows)))
    assert (MismatchedKl().state(), set(BASELINES)) == ({}, {"mismatched_kl", "running_mean"})


def prepare_limits() -> Any:
    from pairwright.logprobs import Limits

    return Limits(200, 100)


def test_two_processes_are_one_when_their_sums_are_added(model: Path, other: Path) -> None:
    """Each process sees its half; what it is given is the sum over both."""
    rows = prepare(tiny.preferences(4), resolve(model=model, loss="kto", **FAST)).examples.rows
    ours = open_model(model)
    reference = frozen(open_model(other))
    seen: list[torch.Tensor] = []

    def asked(part: Any, added: Any) -> torch.Tensor:
        scene = now(sides([0.0], [0.0]), told)._replace(
            model=ours, inputs=collate(part), reference=reference, added=added
        )
        return MismatchedKl()(scene)

    def noted(values: torch.Tensor) -> torch.Tensor:
        seen.append(values)
        return values

    asked(rows[:1], noted)
    asked(rows[1:], noted)
    total = seen[0] + seen[1]
    assert asked(rows[:1], lambda values: total).item() == pytest.approx(asked(rows, lambda values: values).item())


class Stop(TrainerCallback):
    """End a run in the middle, as if it had been killed."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        control.should_training_stop = state.global_step >= self.after
        return control


@pytest.mark.parametrize(
    ("loss", "settings"),
    [("bco", {}), ("bco", {"examples": "responses", "threshold": 5.0}), ("kto", {}), ("kto", {"reference": "frozen"})],
    ids=["bco", "bco-responses", "kto-store", "kto-frozen"],
)
def test_a_resumed_run_ends_in_the_same_bits_as_an_uninterrupted_one(
    loss: str, settings: dict[str, Any], model: Path, prefs: Preferences, tmp_path: Path
) -> None:
    # Steps are logged each third and saved each second, so that a checkpoint falls within a window of metrics.
    every = FAST | {"model": model, "loss": loss, "num_train_epochs": 4.0, "logging_steps": 3, "save_strategy": "steps"}
    every |= {"save_steps": 2, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2} | settings
    train(prefs, output=tmp_path / "whole", **every)
    fit(prefs, prepare(prefs, resolve(**every)), tmp_path / "parts", callbacks=[Stop(5)])
    assert not (tmp_path / "parts/model").exists()
    kept = json.loads((tmp_path / "parts/checkpoints/checkpoint-4/pairwright.json").read_text())["sums"]
    assert ("baseline of the loss: total" in kept) == (loss == "bco")
    train(prefs, output=tmp_path / "parts", **every)
    for name in ("metrics.jsonl", "training.json"):
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "parts" / name).read_text()
    one, two = (load_file(tmp_path / name / "model/model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    measure = {"bco": "pairwright/baseline", "kto": "kl"}[loss]
    assert lines(tmp_path / "whole")[-1][measure] != 0.0
    assert not any("baseline of the loss" in name for row in lines(tmp_path / "parts") for name in row)


@uses("ref", baseline="running_mean")
def watched(pair: PairLogps) -> PairLoss:
    """A loss of which nothing but its baseline is looked at."""
    rewards = pair.chosen.log_ratio, pair.rejected.log_ratio
    return PairLoss(rewards[1] - rewards[0], *rewards)


def test_in_training_the_mean_is_that_of_all_steps(model: Path, prefs: Preferences, tmp_path: Path) -> None:
    prepared = prepare(prefs, resolve(model=model, loss="bco", **FAST))
    trainer = make_trainer(prepared, tmp_path)
    trainer.loss = watched
    rows = prepared.examples.rows
    batches = [collate(rows[:3]), collate(rows[3:])]
    policy = trainer.accelerator.unwrap_model(trainer.model).train()
    rewards: list[float] = []
    trainer.reference = lambda *_: Known(torch.zeros(len(_[1].answer_lengths)))
    for inputs in batches:
        record = trainer.record(policy, inputs)
        assert isinstance(record, PairLogps)
        rewards += [*record.chosen.logp.tolist(), *record.rejected.logp.tolist()]
        assert record.baseline is not None
        assert record.baseline.item() == pytest.approx(sum(rewards) / len(rewards), rel=1e-6)
