"""Anchors: the better answer of each pair after its prompt with the goal of generation."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

import tiny
from pairwright.errors import InputError
from pairwright.goals import GoalFormat, with_goal
from pairwright.logprobs import Limits
from pairwright.logprobs.models import open_model
from pairwright.logprobs.tokenise import tokenise_prompt
from pairwright.losses import PairLogps, PairLoss, uses
from pairwright.preferences import Preferences, Step
from pairwright.train import resolve, train
from pairwright.train.data import pair_examples
from pairwright.train.job import make_trainer, prepare
from pairwright.train.records import collate

WIDE = Limits(250, 150)
FORM = GoalFormat(template="Score of {scale}: {scores}", placement="auto")
FAST: dict[str, Any] = {
    "learning_rate": 0.01,
    "per_device_train_batch_size": 4,
    "logging_steps": 1,
    "save_strategy": "no",
}


@pytest.fixture(scope="module")
def reader() -> Any:
    return tiny.tokenizer()


def relabelled(prefs: Preferences, form: GoalFormat = FORM, goals: Any = (8.0, 3.0)) -> Preferences:
    """Each pair twice, as `ra` does: asked for the first goal as it is, for the second turned round."""
    pairs = prefs.pairs.collect().drop("goal")
    turned = pairs.rename({"chosen_id": "rejected_id", "rejected_id": "chosen_id"}).select(pairs.columns)
    kind = pl.List(pl.Float64) if form.attributes else pl.Float64
    both = [
        each.with_columns(goal=pl.lit(pl.Series([goal], dtype=kind)).first())
        for each, goal in zip((pairs, turned), goals, strict=True)
    ]
    step = Step(name="relabel", settings={"goal": form.model_dump(mode="json")})
    return prefs.then(step, pairs=pl.concat(both))


def anchors(data: Preferences, reader: Any, goal: Any, **settings: Any) -> list[tuple[str, str]]:
    rows = pair_examples(data, reader, split="train", limits=WIDE, anchor=goal, **settings).rows
    assert all(row.anchor is not None for row in rows)
    return [(reader.decode(row.anchor[0]), reader.decode(row.anchor[1])) for row in rows if row.anchor is not None]


@pytest.mark.parametrize("template", [tiny.WITH_SYSTEM, tiny.WITHOUT_SYSTEM], ids=["system", "user"])
def test_the_prompt_is_that_of_generation(template: str) -> None:
    reader = tiny.tokenizer(template)
    prefs = tiny.preferences(4)
    rows = pair_examples(relabelled(prefs), reader, split="train", limits=WIDE, anchor=9.5).rows
    place = "system" if template == tiny.WITH_SYSTEM else "user"
    prompts = prefs.prompts.collect()["prompt"].to_list() * 2
    assert len(rows) == 8
    for row, prompt in zip(rows, prompts, strict=True):
        asked = with_goal(prompt, 9.5, FORM, place)  # what `generate` asks a model
        head = tokenise_prompt(reader, asked, limits=WIDE, keep=FORM.say(9.5))
        assert row.anchor is not None
        assert row.anchor[0].tolist() == head.ids
        assert "Overall score: 9.5." in reader.decode(row.anchor[0])
        assert row.anchor[0].tolist() != row.prompt.tolist()


def test_both_copies_of_a_pair_share_the_better_scored_answer(reader: Any) -> None:
    found = anchors(relabelled(tiny.preferences(3)), reader, 10.0)
    assert found[:3] == found[3:]
    assert all(answer.endswith("good<|end|>") for _, answer in found)
    turned = tiny.preferences(3)
    worse = turned.responses.with_columns(score=10.0 - pl.col("score"), score_help=pl.col("score"))
    data = relabelled(Preferences.of(turned.prompts, worse, turned.pairs))
    assert all(answer.endswith("bad<|end|>") for _, answer in anchors(data, reader, 10.0))
    # another column may be the main score
    assert all(answer.endswith("good<|end|>") for _, answer in anchors(data, reader, 10.0, score="score_help"))
    even = Preferences.of(turned.prompts, turned.responses.with_columns(score=pl.lit(5.0)), turned.pairs)
    found = anchors(relabelled(even), reader, 10.0)
    assert found[:3] == found[3:]


def test_of_several_goals_the_mean_of_the_attributes_decides(reader: Any) -> None:
    prefs = tiny.preferences([("ask", "first", "second"), ("ask b", "third", "fourth")])
    # means 5 and 4, then 5 and 6; the main score says otherwise in both
    answers = prefs.responses.with_columns(
        pl.Series("score", [1.0, 9.0, 9.0, 1.0]),
        pl.Series("score_help", [9.0, 4.0, 5.0, 4.0]),
        pl.Series("score_true", [1.0, 4.0, 5.0, 8.0]),
    )
    form = FORM.model_copy(update={"attributes": ("help", "true"), "ranges": ((1.0, 10.0), (1.0, 10.0))})
    data = relabelled(Preferences.of(prefs.prompts, answers, prefs.pairs), form, ([9.0, 1.0], [4.0, 4.0]))
    found = anchors(data, reader, [10.0, 9.0])
    assert [answer for _, answer in found] == ["first<|end|>", "fourth<|end|>"] * 2
    assert all("Help score: 10.\nTrue score: 9." in prompt for prompt, _ in found)
    with pytest.raises(InputError, match="one number for each of help, true"):
        anchors(data, reader, 10.0)


def test_of_one_attribute_a_number_is_a_goal(model: Path, reader: Any) -> None:
    prefs = tiny.preferences(3)
    answers = prefs.responses.with_columns(score_help=pl.col("score"))
    form = FORM.model_copy(update={"attributes": ("help",)})
    data = relabelled(Preferences.of(prefs.prompts, answers, prefs.pairs), form, ([8.0], [3.0]))
    for goal in (9, [9]):
        assert all("Help score: 9." in prompt for prompt, _ in anchors(data, reader, goal))
        found = prepare(data, resolve(model=model, loss="goal_sft", anchor_goal=goal, **FAST)).examples
        assert all(row.anchor is not None and "Help score: 9." in reader.decode(row.anchor[0]) for row in found.rows)
    overall = relabelled(prefs)
    assert anchors(overall, reader, [9]) == anchors(overall, reader, 9.0)


def test_an_anchor_goal_that_no_pair_could_have_is_noted(model: Path, reader: Any) -> None:
    data = relabelled(tiny.preferences(3))
    says = (
        "The goal 99 lies outside the scores of training (1 to 10); the model reads 'Score of 10: Overall score: 10.'."
    )
    assert says in prepare(data, resolve(model=model, loss="goal_sft", anchor_goal=99, **FAST)).examples.notes
    within = pair_examples(data, reader, split="train", limits=WIDE, anchor=10.0)
    assert not any("outside" in note for note in within.notes)


def test_pairs_that_can_have_no_anchor_are_counted(reader: Any) -> None:
    data = relabelled(tiny.preferences(3))
    pairs = data.pairs.with_columns(goal=pl.when(pl.int_range(pl.len()) != 1).then("goal"))
    found = pair_examples(data.then(Step(name="x"), pairs=pairs), reader, split="train", limits=WIDE, anchor=9.0)
    assert (len(found.rows), found.dropped) == (5, {"no_goal": 1})
    answers = data.responses.with_columns(score=pl.when(pl.col("response_id") != 0).then("score"))
    found = pair_examples(data.then(Step(name="x"), responses=answers), reader, split="train", limits=WIDE, anchor=9.0)
    assert (len(found.rows), found.dropped) == (4, {"unscored": 2})
    assert found.rows[0].scores is None
    with pytest.raises(InputError, match="relabel the data first"):
        pair_examples(tiny.preferences(2), reader, split="train", limits=WIDE, anchor=9.0)
    # as long as the pair's own prompt but for two characters: 9.5 where the pair asks for 8
    whole = max(len(row.prompt) + max(map(len, row.answers)) for row in found.rows)
    short = pair_examples(data, reader, split="train", limits=Limits(whole, whole - 1), anchor=9.0)
    assert short.dropped == {}
    long = pair_examples(data, reader, split="train", limits=Limits(whole, whole - 1), anchor=9.5)
    assert long.dropped["lost_to_truncation"] > 0


@uses("anchor")
def anchored(pair: PairLogps) -> PairLoss:
    """The anchors alone, each weighed by the answer that it is not, so that no two rows are alike."""
    return PairLoss(-pair.known_anchor().logp * pair.rejected.logp, pair.chosen.logp, pair.rejected.logp)


def test_value_and_gradient_are_those_of_the_anchors_text_by_itself(model: Path, tmp_path: Path) -> None:
    data = relabelled(tiny.preferences(3))
    prepared = prepare(data, resolve(model=model, loss="goal_sft", anchor_goal=9.0, **FAST))
    trainer = make_trainer(prepared, tmp_path)
    trainer.loss = anchored
    rows, policy = prepared.examples.rows, trainer.accelerator.unwrap_model(trainer.model).train()
    record = trainer.record(trainer.model, collate(rows))
    assert isinstance(record, PairLogps)
    trainer.compute_loss(policy, collate(rows)).backward()
    ours = [weight.grad.clone() for weight in policy.parameters()]
    plain = open_model(model).train()

    def logp(prompt: Any, answer: Any) -> torch.Tensor:
        text = torch.tensor([[*prompt.tolist(), *answer.tolist()]])
        values = plain(input_ids=text).logits[0].log_softmax(-1)[len(prompt) - 1 : -1]
        return values.gather(1, torch.tensor(answer.tolist())[:, None]).sum()

    total = torch.zeros(())
    for at, row in enumerate(rows):
        assert row.anchor is not None
        value = logp(*row.anchor)
        assert record.known_anchor().logp[at].item() == pytest.approx(value.item(), abs=1e-4)
        assert record.chosen.logp[at].item() == pytest.approx(logp(row.prompt, row.answers[0]).item(), abs=1e-4)
        total = total - value * logp(row.prompt, row.answers[1])
    assert record.known_anchor().known("length").tolist() == [len(row.anchor[1]) for row in rows if row.anchor]
    (total / len(rows)).backward()  # type: ignore[no-untyped-call]
    for mine, weight in zip(ours, plain.parameters(), strict=True):
        assert weight.grad is not None
        torch.testing.assert_close(mine, weight.grad, atol=5e-2, rtol=2e-3)
    assert max(float(mine.abs().max()) for mine in ours) > 100


def test_algorithm_1_is_a_sum_of_two_terms_and_small_batches_add_up(model: Path, tmp_path: Path) -> None:
    data = relabelled(tiny.preferences(8))
    loss = [{"name": "dpo", "beta": 0.1}, {"name": "goal_sft", "weight": 0.01}]
    settings = {"model": model, "loss": loss, "num_train_epochs": 2.0, **FAST}
    for name, batch, steps in (("small", 1, 8), ("large", 8, 1)):
        own = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": steps}
        train(data, output=tmp_path / name, **settings | own)
    read = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("small", "large")
    ]
    for one, many in zip(*read, strict=True):
        assert one == pytest.approx(many, abs=2e-3, rel=2e-4)
        parts = one["pairwright/loss_dpo"] + 0.01 * one["pairwright/loss_goal_sft"]
        assert one["loss"] == pytest.approx(parts, abs=1e-5)
    assert read[0][0]["pairwright/loss_dpo"] == pytest.approx(0.6931472, abs=1e-5)
    assert read[0][-1]["pairwright/loss_goal_sft"] < read[0][0]["pairwright/loss_goal_sft"]
